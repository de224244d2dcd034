//! Starts executions of the EXPRESS state machine, and waits for their ends.

use aws_sdk_sfn::Client;
use aws_sdk_sfn::error::SdkError;
use aws_sdk_sfn::operation::start_sync_execution::StartSyncExecutionOutput;
use domain::TraceParent;
use runtime::StepError;

/// Two clients of Step Functions. Neither retries; the queue does that, because a retry by the SDK would run a second execution
/// after the first one, or beside it.
#[derive(Debug)]
pub struct Executions {
    /// For the first try.
    pub client: Client,
    /// Without a pool of connections, for the second.
    pub unpooled: Client,
    /// The EXPRESS state machine.
    pub state_machine_arn: String,
}

impl Executions {
    /// Runs one execution to its end.
    ///
    /// If a connection died while the worker was frozen, that uses up no try: the call is repeated over a new connection. If an
    /// execution runs already, the second one has the same submission and so the same claim: each step takes effect once.
    ///
    /// # Errors
    /// [`StepError`] of the call. A failed execution is no error here.
    pub async fn start(
        &self,
        name: &str,
        input: String,
        trace: Option<TraceParent>,
    ) -> Result<StartSyncExecutionOutput, StepError> {
        let request = |client: &Client| {
            let start = client.start_sync_execution().state_machine_arn(&self.state_machine_arn).name(name).input(&input);
            start.set_trace_header(trace.map(TraceParent::xray))
        };
        let started = match request(&self.client).send().await {
            Err(SdkError::DispatchFailure(failure)) if !failure.is_timeout() => request(&self.unpooled).send().await,
            other => other,
        };
        started.map_err(|error| StepError::from_sdk("states:StartSyncExecution", &error))
    }
}
