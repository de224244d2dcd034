//! The names and addresses of a deployment: the content of `target/local/outputs.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::aws::{Aws, RootKey};
use crate::secret;

/// The names, addresses and identifiers of a deployment. The keys are part of the contract; tests and people use them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outputs {
    /// The name the stacks were deployed under.
    pub stack: String,
    /// The API; `/er7` is appended to it.
    pub api_url: String,
    /// The local AWS; absent where AWS itself is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// The AWS region.
    pub region: String,
    /// The Cognito user pool.
    pub user_pool_id: String,
    /// The app client people sign in through.
    pub client_id: String,
    /// The user pool of the lake's own staff; absent where a deployment is older than it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staff_user_pool_id: Option<String>,
    /// The app client that the lake's staff sign in through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staff_client_id: Option<String>,
    /// The Cognito identity pool that exchanges ID tokens for AWS credentials.
    pub identity_pool_id: String,
    /// The lake bucket.
    pub bucket: String,
    /// The bucket that holds large messages on their way.
    pub overflow_bucket: String,
    /// The bucket of accepted messages that could not be stored; absent where a deployment is older than it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_bucket: Option<String>,
    /// The bucket with the code of the workers.
    pub artifact_bucket: String,
    /// The catalog table.
    pub table: String,
    /// The SNS topic of the events.
    pub topic_arn: String,
    /// The queue between submit and dispatch.
    pub queue_url: String,
    /// The dead-letter queue, where an envelope goes after its last try.
    pub dead_letter_queue_url: String,
    /// The pipeline.
    pub state_machine_arn: String,
    /// Every output of the stacks, by the name it has there.
    pub stack_outputs: BTreeMap<String, String>,
    /// The users that `sluice local up` made; a deployment to AWS has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
    /// The key of the local AWS's account root; absent where AWS itself is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<RootKey>,
}

/// A user of the local system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    /// The name to sign in with.
    pub email: String,
    /// Random, and only in the outputs file.
    #[serde(with = "secret")]
    pub password: SecretString,
    /// The institute whose messages the user may read; empty for none (`custom:read`).
    pub read: String,
    /// The institute the user may submit for; empty for none (`custom:write`).
    pub write: String,
    /// [`LAKE_STAFF`] where that is the user's pool; absent where it is the institutes'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// The user pool of the lake's own staff, by its provider name in policies.
pub const LAKE_STAFF: &str = "lake-staff";

/// The user pool of the institutes' users, by its provider name in policies.
pub const INSTITUTES: &str = "institutes";

impl Outputs {
    /// Gathers the outputs of the four stacks. `users` and `root_key` are left empty.
    ///
    /// # Errors
    /// When a template lacks an output that the contract has.
    pub fn gather(
        stack: &str,
        region: &str,
        endpoint_url: Option<&str>,
        stack_outputs: BTreeMap<String, String>,
    ) -> Result<Self> {
        let output = |name: &str| {
            let value = stack_outputs.get(name).cloned();
            value.with_context(|| format!("no stack of `{stack}` has the output `{name}`"))
        };
        let api_url = match endpoint_url {
            // The URL does not need the stage `$default`, and a `$` would have to be quoted in a shell.
            Some(endpoint) => format!("{}/_aws/execute-api/{}", endpoint.trim_end_matches('/'), output("ApiId")?),
            None => output("ApiUrl")?.trim_end_matches('/').to_owned(),
        };
        Ok(Self {
            stack: stack.to_owned(),
            api_url,
            endpoint_url: endpoint_url.map(str::to_owned),
            region: region.to_owned(),
            user_pool_id: output("UserPoolId")?,
            client_id: output("UserPoolClientId")?,
            staff_user_pool_id: stack_outputs.get("StaffUserPoolId").cloned(),
            staff_client_id: stack_outputs.get("StaffUserPoolClientId").cloned(),
            identity_pool_id: output("IdentityPoolId")?,
            bucket: output("LakeBucketName")?,
            overflow_bucket: output("OverflowBucketName")?,
            held_bucket: stack_outputs.get("HeldBucketName").cloned(),
            artifact_bucket: output("ArtifactBucketName")?,
            table: output("CatalogTableName")?,
            topic_arn: output("TopicArn")?,
            queue_url: output("QueueUrl")?,
            dead_letter_queue_url: output("DeadLetterQueueUrl")?,
            state_machine_arn: output("StateMachineArn")?,
            stack_outputs,
            users: Vec::new(),
            root_key: None,
        })
    }

    /// Reads an outputs file.
    ///
    /// # Errors
    /// When it is not there or not one.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not an outputs file", path.display()))
    }

    /// An output of the stacks by the name it has there.
    ///
    /// # Errors
    /// When no stack has it.
    pub fn stack_output(&self, name: &str) -> Result<&str> {
        let value = self.stack_outputs.get(name);
        Ok(value.with_context(|| format!("no stack of `{}` has the output `{name}`", self.stack))?)
    }

    /// The id of the pool of the lake's own staff, and of the app client they sign in through.
    ///
    /// # Errors
    /// When the deployment is older than that pool.
    pub fn staff_pool(&self) -> Result<(&str, &str)> {
        let names = self.staff_user_pool_id.as_deref().zip(self.staff_client_id.as_deref());
        names.with_context(|| format!("`{}` has no user pool for the lake's staff: `sluice deploy` makes it", self.stack))
    }

    /// The user with this e-mail address.
    #[must_use]
    pub fn user(&self, email: &str) -> Option<&User> {
        self.users.iter().find(|user| user.email == email)
    }

    /// The local AWS, as its account root.
    ///
    /// # Errors
    /// When these are the outputs of a deployment to AWS.
    pub fn local_aws(&self) -> Result<Aws> {
        let root = self.endpoint_url.as_deref().zip(self.root_key.as_ref());
        let (endpoint_url, key) = root.context("these are not the outputs of a local system")?;
        Ok(Aws::local(endpoint_url, &self.region, key))
    }

    /// The same without users and key, for printing.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        Self { users: Vec::new(), root_key: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_back_from_json_and_never_shows_the_password() {
        let text = r#"{"email":"a@b.example","password":"hunter2","read":"b","write":""}"#;
        let user: User = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&user).unwrap(), text);
        assert!(!format!("{user:?}").contains("hunter2"));
    }
}
