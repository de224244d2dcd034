//! Which AWS a command talks to: an account, or the local one.

use std::time::Duration;

use anyhow::Result;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::{Environment, explain};
use crate::secret;

/// An access key of the local AWS's account root. Each start makes a new one, and only files that nobody but their owner can read
/// hold it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootKey {
    /// 20 characters that begin with `AKIA`.
    pub access_key_id: String,
    /// 40 characters.
    #[serde(with = "secret")]
    pub secret_access_key: SecretString,
}

impl RootKey {
    /// The key in the form of the AWS SDK.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials::new(self.access_key_id.clone(), self.secret_access_key.expose_secret(), None, None, "local")
    }
}

/// The SDK configuration of one AWS and what differs between a real and a local one.
#[derive(Debug, Clone)]
pub struct Aws {
    config: SdkConfig,
}

impl Aws {
    /// The AWS that the environment, the profile and `AWS_ENDPOINT_URL` describe, as for every AWS tool.
    pub async fn from_environment() -> Self {
        let config = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts()).load().await;
        Self { config }
    }

    /// The local AWS at `endpoint_url`, as its account root. Nothing of the person's own AWS configuration is read.
    #[must_use]
    pub fn local(endpoint_url: &str, region: &str, root: &RootKey) -> Self {
        Self::with_credentials(endpoint_url, region, root.credentials())
    }

    /// The local AWS at `endpoint_url` under other credentials, such as those a user has exchanged a token for.
    #[must_use]
    pub fn with_credentials(endpoint_url: &str, region: &str, credentials: Credentials) -> Self {
        Self::of_user(Some(endpoint_url), region, credentials)
    }

    /// AWS, or the local one at `endpoint_url`, under the credentials that a user has exchanged a token for.
    #[must_use]
    pub fn of_user(endpoint_url: Option<&str>, region: &str, credentials: Credentials) -> Self {
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .timeout_config(timeouts());
        config.set_endpoint_url(endpoint_url.map(str::to_owned));
        Self { config: config.build() }
    }

    /// An unauthenticated AWS client configuration, for sign-in and token exchange.
    #[must_use]
    pub fn anonymous(endpoint_url: Option<&str>, region: &str) -> Self {
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .timeout_config(timeouts());
        config.set_endpoint_url(endpoint_url.map(str::to_owned));
        Self { config: config.build() }
    }

    /// The configuration to build any service client from.
    #[must_use]
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The endpoint that stands in for AWS, if one does.
    #[must_use]
    pub fn endpoint_url(&self) -> Option<&str> {
        self.config.endpoint_url()
    }

    /// An S3 client. A stand-in has no host name for each bucket, so there the bucket is in the path.
    #[must_use]
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(self.endpoint_url().is_some()).build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// The region, or what to do about its absence.
    ///
    /// # Errors
    /// When no region is configured.
    pub fn region(&self) -> Result<&str> {
        self.config
            .region()
            .map(AsRef::as_ref)
            .ok_or_else(|| Environment::lacks("no AWS region is configured: set AWS_REGION or a region in your AWS profile"))
    }

    /// How long to wait between two looks at something slow.
    #[must_use]
    pub fn poll_interval(&self) -> Duration {
        if self.endpoint_url().is_some() { Duration::from_millis(100) } else { Duration::from_secs(3) }
    }

    /// The ARN of the owner of these credentials.
    ///
    /// # Errors
    /// When there are no credentials, or AWS does not accept them.
    pub async fn caller_arn(&self) -> Result<String> {
        let identity = aws_sdk_sts::Client::new(&self.config).get_caller_identity().send().await;
        Ok(identity.map_err(explain("sts GetCallerIdentity"))?.arn.unwrap_or_default())
    }

    /// The account of these credentials. Every command that changes something calls it first, so that missing credentials end the
    /// command before anything has happened.
    ///
    /// # Errors
    /// When there are no credentials, or AWS does not accept them.
    pub async fn account(&self) -> Result<String> {
        self.region()?;
        let identity = aws_sdk_sts::Client::new(&self.config).get_caller_identity().send().await.map_err(|error| {
            let cause = explain("sts GetCallerIdentity")(error);
            Environment::lacks(format!(
                "there are no valid AWS credentials; configure them (`aws sso login`, AWS_PROFILE, ...). {cause:#}"
            ))
        })?;
        Ok(identity.account().unwrap_or("unknown").to_owned())
    }
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(Duration::from_secs(60))
        .operation_timeout(Duration::from_secs(300))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_key_comes_back_from_json_and_never_shows_its_secret() {
        let text = r#"{"accessKeyId":"AKIA1","secretAccessKey":"hunter2"}"#;
        let key: RootKey = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&key).unwrap(), text);
        assert!(!format!("{key:?} {:?}", key.credentials()).contains("hunter2"));
    }
}
