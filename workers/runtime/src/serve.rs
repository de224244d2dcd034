//! The loop around a handler: read the input, run, catch panics, log one line.

use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Instant;

use domain::Timestamp;
use futures_util::FutureExt as _;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{StepError, log};

/// Serves invocations of `worker` until Lambda ends the process.
///
/// The input is taken as JSON and read by the handler (with [`input`]), because the runtime's own error for an
/// unreadable input quotes it.
///
/// # Errors
/// When the Runtime API is not there.
pub async fn serve<R, F>(worker: &'static str, handler: impl Fn(Value) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<R, StepError>>,
    R: Serialize,
{
    silence_panics();
    let handler = &handler;
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let started = Instant::now();
        let invocation = AssertUnwindSafe(handler(event.payload).boxed_local()).catch_unwind();
        let (result, mut line) = log::collecting(invocation).await;
        let result = result.unwrap_or_else(|_| Err(StepError::Panicked { location: last_panic() }));

        if let Err(error) = &result {
            line.insert("outcome".to_owned(), "error".into());
            line.insert("error".to_owned(), error.name().into());
            line.insert("detail".to_owned(), error.to_string().into());
        }
        let level = if log::tells_of_error(&line) { "ERROR" } else { "INFO" };
        write_line(worker, level, &event.context.request_id, started, line);
        result
    }))
    .await
}

/// Reads a step's input.
///
/// # Errors
/// [`StepError::InvalidInput`], which does not quote it.
pub fn input<T: DeserializeOwned>(what: &'static str, event: Value) -> Result<T, StepError> {
    serde_json::from_value(event).map_err(|_| StepError::InvalidInput { what })
}

#[expect(clippy::print_stdout, reason = "standard output is where Lambda takes the log from")]
fn write_line(worker: &str, level: &str, request_id: &str, started: Instant, mut line: Map<String, Value>) {
    let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    line.insert("time".to_owned(), Timestamp::now().to_string().into());
    line.insert("level".to_owned(), level.into());
    line.insert("worker".to_owned(), worker.into());
    line.insert("requestId".to_owned(), request_id.into());
    line.insert("durationMs".to_owned(), ((duration_ms * 1000.0).round() / 1000.0).into());
    println!("{}", Value::Object(line));
}

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// A panic's message can quote what it panicked over. Only its place is kept.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let location = panic.location().map(|it| format!("{}:{}", it.file(), it.line())).unwrap_or_default();
            *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = location;
        }));
    });
}

fn last_panic() -> String {
    LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
