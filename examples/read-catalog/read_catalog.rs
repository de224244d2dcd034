//! The newest messages of one's own institute, read from the catalog without the API.
//!
//! Arguments: identity pool id, user pool provider, table, institute. The ID token comes on standard input.

use std::io::{Read as _, Write as _};

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::types::AttributeValue;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [identity_pool, provider, table, institute] = arguments.as_slice() else { return Err("four arguments".into()) };
    let mut token = String::new();
    std::io::stdin().read_to_string(&mut token)?;
    let token = token.trim();

    // The ID token becomes AWS credentials of this very user, for an hour.
    let nobody = aws_config::defaults(BehaviorVersion::latest()).no_credentials().load().await;
    let cognito = aws_sdk_cognitoidentity::Client::new(&nobody);
    let identity = cognito.get_id().identity_pool_id(identity_pool).logins(provider, token).send().await?;
    let identity = identity.identity_id().unwrap_or_default();
    let answer = cognito.get_credentials_for_identity().identity_id(identity).logins(provider, token).send().await?;
    let given = answer.credentials.ok_or("no credentials")?;
    let (key, secret) = given.access_key_id.zip(given.secret_key).ok_or("no key")?;
    let credentials = Credentials::new(key, secret, given.session_token, None, "cognito-identity");
    let user = nobody.to_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build();

    // IAM lets the user read the four partitions of their own institute. Another one is AccessDeniedException.
    let catalog = aws_sdk_dynamodb::Client::new(&user);
    let mut found = Vec::new();
    for n in 0..4 {
        let page = catalog
            .query()
            .table_name(table)
            .index_name("by-arrival")
            .key_condition_expression("arrival_shard = :partition")
            .expression_attribute_values(":partition", AttributeValue::S(format!("{institute}#{n}")))
            .scan_index_forward(false)
            .limit(25)
            .send()
            .await?;
        found.extend(page.items.unwrap_or_default());
    }
    let text = |value: Option<&AttributeValue>| value.and_then(|it| it.as_s().ok()).map_or("-", String::as_str).to_owned();
    found.sort_by_key(|item| std::cmp::Reverse(text(item.get("received_at"))));
    for item in found.iter().take(25) {
        let summary = item.get("summary").and_then(|it| it.as_m().ok());
        let message_type = text(summary.and_then(|it| it.get("messageType")));
        let [received_at, message_id, status] = ["received_at", "message_id", "listed"].map(|name| text(item.get(name)));
        writeln!(std::io::stdout(), "{received_at} {message_id} {message_type} {status}")?;
    }
    Ok(())
}
