//! The clients of the AWS SDK: region, credentials and endpoint come from Lambda's environment variables alone.
//!
//! The default chain of `aws-config` would bring SSO, profiles and instance metadata into every worker; a Lambda function
//! has its credentials in its environment.

use std::time::Duration;

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::ProvideRegion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
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

/// A connection that was idle for longer is not used again. Lambda freezes a worker between two invocations, and the worker does
/// not notice what happens to its connections meanwhile: the service may close one, and a NAT gateway forgets one after 350 s.
/// The SDK's own limit is 90 s.
pub const MAX_IDLE: Duration = Duration::from_secs(20);

/// The configuration of all clients: three attempts, each at most `attempt` long and all together at most `operation`, over one
/// pool of connections. `AWS_ENDPOINT_URL` sends all requests to another address.
pub async fn sdk_config(attempt: Duration, operation: Duration) -> SdkConfig {
    let mut builder = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(EnvironmentVariableRegionProvider::new().region().await)
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .http_client(http_client(MAX_IDLE))
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

/// The SDK's own HTTP client, with a pool whose connections are not used again after `max_idle`.
pub fn http_client(max_idle: Duration) -> SharedHttpClient {
    Builder::new().pool_idle_timeout(max_idle).tls_provider(TLS).build_https()
}

/// The same configuration with a new connection for every request, for the second try of a call whose connection was dead. The
/// pool may hold more dead connections.
pub fn without_pool(config: &SdkConfig) -> SdkConfig {
    config.to_builder().http_client(Builder::new().pool_max_idle_per_host(0).tls_provider(TLS).build_https()).build()
}

/// The default of the SDK.
const TLS: tls::Provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);

/// The address that replaces AWS's own (`AWS_ENDPOINT_URL`).
pub fn endpoint_url() -> Option<String> {
    required_var("AWS_ENDPOINT_URL").ok()
}

/// A client of one SDK crate that logs the id of each AWS request: `client!(aws_sdk_sqs, &sdk)`. A closure may change its
/// configuration: `client!(aws_sdk_s3, &sdk, |s3| s3.identity_cache(IdentityCache::no_cache()))`.
///
/// A macro, because the SDK crates share no trait, and a function for each would link all of them into every worker.
#[macro_export]
macro_rules! client {
    ($sdk:ident, $config:expr) => {
        $crate::client!($sdk, $config, |builder| builder)
    };
    ($sdk:ident, $config:expr, |$builder:ident| $changed:expr) => {{
        let $builder = $sdk::config::Builder::from($config).interceptor($crate::RequestLog);
        $sdk::Client::from_conf($changed.build())
    }};
}

/// Logs the AWS request id of every attempt.
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
        log::log_request(operation, id.unwrap_or("none"));
        Ok(())
    }
}

/// Removes `sync-` from the host of `StartSyncExecution` when the endpoint is set by `AWS_ENDPOINT_URL`: the SDK puts the prefix
/// before such endpoints too, and `sync-127.0.0.1` does not resolve.
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
