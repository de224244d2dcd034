//! Lambda entry of the user pool's post-confirmation trigger.

use std::time::Duration;

use enroll::Enrollment;
use lambda_runtime::Error;

/// Cognito waits five seconds in all, and then calls again.
const ATTEMPT: Duration = Duration::from_millis(1500);
const OPERATION: Duration = Duration::from_secs(4);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let sdk = runtime::sdk_config(ATTEMPT, OPERATION).await;
    let enrollment = Enrollment::new(
        runtime::client!(aws_sdk_cognitoidentityprovider, &sdk),
        runtime::client!(aws_sdk_dynamodb, &sdk),
        runtime::required_var("ENROLLMENT_TABLE")?,
        runtime::var_parsed("ENROLLMENT")?,
    );

    runtime::serve("enroll", |event| enrollment.confirmed(event)).await
}
