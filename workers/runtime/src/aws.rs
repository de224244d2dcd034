//! SDK set-up: region, credentials and endpoint from the environment that Lambda gives, nothing else.
//!
//! The default chain of `aws-config` would bring SSO, profiles and instance metadata into every worker; a Lambda function
//! has its credentials in its environment.

use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::ProvideRegion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextMut, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use aws_types::sdk_config::SharedCredentialsProvider;

use crate::env::required_var;
use crate::log;

/// The set-up of all clients: three attempts, at most `attempt` each and `operation` together. `AWS_ENDPOINT_URL` points
/// all of them elsewhere.
pub async fn sdk_config(attempt: Duration, operation: Duration) -> SdkConfig {
    let mut builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(EnvironmentVariableRegionProvider::new().region().await)
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .retry_config(RetryConfig::standard())
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(2))
                .operation_attempt_timeout(attempt)
                .operation_timeout(operation)
                .build(),
        );
    builder.set_endpoint_url(endpoint_url());
    builder.build()
}

/// Where AWS is, if not at its own addresses (`AWS_ENDPOINT_URL`).
pub fn endpoint_url() -> Option<String> {
    required_var("AWS_ENDPOINT_URL").ok()
}

/// Notes the AWS request id of every attempt for the invocation's log line.
#[derive(Debug)]
pub struct RequestLog;

#[dyn_dispatch_hint]
impl Intercept for RequestLog {
    fn name(&self) -> &'static str {
        "RequestLog"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("unknown", Metadata::name);
        let headers = context.response().map(|response| response.headers());
        let id = headers.and_then(|it| it.get("x-amzn-requestid").or_else(|| it.get("x-amz-request-id")));
        log::note_request(operation, id.unwrap_or("none"));
        Ok(())
    }
}

/// Takes `sync-` off the host of `StartSyncExecution` where the endpoint is an address of ours: the SDK puts the prefix
/// before custom endpoints too, and `sync-127.0.0.1` does not resolve.
#[derive(Debug)]
pub struct StripHostPrefix;

#[dyn_dispatch_hint]
impl Intercept for StripHostPrefix {
    fn name(&self) -> &'static str {
        "StripHostPrefix"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let uri = request.uri().replacen("://sync-", "://", 1);
        request.set_uri(uri)?;
        Ok(())
    }
}
