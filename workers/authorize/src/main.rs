//! Lambda entry of the API's authorizer.

use std::time::Duration;

use authorize::Authorizer;
use lambda_runtime::Error;
use policies::token::Options;
use policies::{Engine, Issuers, Policies};

/// The function has nine seconds in all, and may have to fetch the issuer's keys first.
const ATTEMPT: Duration = Duration::from_secs(2);
const OPERATION: Duration = Duration::from_secs(4);
/// How long fetching the keys may take if Verified Permissions has to be asked afterwards.
const KEYS_BEFORE_OPERATION: Duration = Duration::from_millis(4500);

/// How long after the check of the time an answer may still be used. API Gateway's cache counts from the arrival of the answer,
/// for which it waits up to ten seconds.
fn remembered_for(result_ttl: Duration) -> Duration {
    if result_ttl.is_zero() { result_ttl } else { result_ttl + Duration::from_secs(10) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let executable = std::env::current_exe()?;
    let policies = Policies::load(&executable.with_file_name("policies"))?;
    let issuers: Issuers = runtime::required_var("ISSUERS")?.parse()?;
    let engine = match runtime::required_var("POLICY_STORE_ID")? {
        none if none.is_empty() => Engine::InProcess,
        policy_store_id => {
            let sdk = runtime::sdk_config(ATTEMPT, OPERATION).await;
            let client: aws_sdk_verifiedpermissions::Client = runtime::client!(aws_sdk_verifiedpermissions, &sdk);
            Engine::VerifiedPermissions { client, policy_store_id }
        }
    };
    let request_timeout = match engine {
        Engine::InProcess => Options::default().request_timeout,
        Engine::VerifiedPermissions { .. } => KEYS_BEFORE_OPERATION,
    };
    let options = Options {
        request_timeout,
        cognito_endpoint: runtime::endpoint_url(),
        result_ttl: remembered_for(Duration::from_secs(runtime::var_parsed("RESULT_TTL_SECONDS")?)),
        ..Options::default()
    };
    let authorizer = Authorizer::new(&issuers, policies, engine, &options)?;

    runtime::serve("authorize", |event| authorizer.answer(event)).await
}
