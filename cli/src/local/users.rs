//! Users of the local system.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_sdk_cognitoidentityprovider::Client;
use aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentityprovider::types::{AttributeType, MessageActionType};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

use client::aws::Aws;
use client::error::explain;
use client::outputs::{LAKE_STAFF, Outputs, User};
use client::wait::within;

/// Who the demo and the tests act as: name, institute to read, institute to write.
const LOCAL_USERS: [(&str, &str, &str); 4] = [
    ("admin@general-hospital.example", "general-hospital", "general-hospital"),
    ("reader@general-hospital.example", "general-hospital", ""),
    ("writer@general-hospital.example", "", "general-hospital"),
    ("admin@st-elsewhere.example", "st-elsewhere", "st-elsewhere"),
];

/// One of the lake's own staff, who are of no institute.
pub(crate) const LOCAL_STAFF: &str = "staff@lake.example";

/// Makes the users of the local system, with passwords of their own.
pub(crate) async fn create_local_users(aws: &Aws, outputs: &Outputs) -> Result<Vec<User>> {
    let mut users = Vec::new();
    for (email, read, write) in LOCAL_USERS {
        users.push(create_user(aws, &outputs.user_pool_id, email, read, write).await?);
    }
    let (pool, _) = outputs.staff_pool()?;
    let staff = create_user(aws, pool, LOCAL_STAFF, "", "").await?;
    users.push(User { pool: Some(LAKE_STAFF.to_owned()), ..staff });
    Ok(users)
}

/// Makes a user who can sign in at once; for one that is there already, sets institutes and password anew.
///
/// `read` and `write` become `custom:read` and `custom:write`, whatever they hold: an empty one is left out, and a
/// malformed one is a test's business.
///
/// # Errors
/// When Cognito refuses.
pub async fn create_user(aws: &Aws, user_pool_id: &str, email: &str, read: &str, write: &str) -> Result<User> {
    let client = Client::new(aws.config());
    let password = random_password()?;
    within(Duration::from_secs(30), "creating a user", async {
        let mut attributes = Vec::new();
        for (name, value) in [("email", email), ("email_verified", "true"), ("custom:read", read), ("custom:write", write)] {
            if !value.is_empty() {
                attributes.push(AttributeType::builder().name(name).value(value).build()?);
            }
        }
        let created = client
            .admin_create_user()
            .user_pool_id(user_pool_id)
            .username(email)
            .set_user_attributes(Some(attributes.clone()))
            .message_action(MessageActionType::Suppress)
            .send()
            .await;
        match created {
            Ok(_) => {}
            Err(error) if error.code() == Some("UsernameExistsException") => {
                client
                    .admin_update_user_attributes()
                    .user_pool_id(user_pool_id)
                    .username(email)
                    .set_user_attributes(Some(attributes))
                    .send()
                    .await
                    .map_err(explain(format!("changing the user `{email}`")))?;
            }
            Err(error) => return Err(explain(format!("creating the user `{email}`"))(error)),
        }
        client
            .admin_set_user_password()
            .user_pool_id(user_pool_id)
            .username(email)
            .password(password.expose_secret())
            .permanent(true)
            .send()
            .await
            .map_err(explain(format!("setting the password of `{email}`")))?;
        Ok(())
    })
    .await?;
    Ok(User { email: email.to_owned(), password, read: read.to_owned(), write: write.to_owned(), pool: None })
}

/// 144 random bits, with a letter of each kind that password policies ask for.
fn random_password() -> Result<SecretString> {
    Ok(SecretString::from(format!("Aa1!{}", BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<18>()?))))
}

pub(super) fn random_bytes<const COUNT: usize>() -> Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    std::fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).context("reading random bytes")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_passwords_are_alike() {
        let (one, other) = (random_password().unwrap(), random_password().unwrap());
        assert_ne!(one.expose_secret(), other.expose_secret());
        assert!(one.expose_secret().len() >= 28);
    }
}
