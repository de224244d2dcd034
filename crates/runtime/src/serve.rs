//! The loop around a handler: read the input, run, catch panics, log one line.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Instant;

use futures_util::FutureExt as _;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::metrics::Metering;
use crate::{StepError, log, trace};

/// Serves invocations of `worker` until Lambda ends the process.
///
/// The handler gets JSON and reads it with [`input`], because the Lambda runtime's own error for an unreadable input quotes the input.
///
/// # Errors
/// If the Runtime API cannot be reached.
pub async fn serve<R, F>(worker: &'static str, handler: impl Fn(Value) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<R, StepError>>,
    R: Serialize,
{
    silence_panics();
    let handler = &handler;
    let metering = Metering::of(worker);
    let is_cold = AtomicBool::new(true);
    let (metering, is_cold) = (&metering, &is_cold);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
        let started = Instant::now();
        let (payload, context) = event.into_parts();
        let trace = trace::of(&payload, context.xray_trace_id.as_deref());
        let handled = async {
            log::log_api_request(&payload);
            handler(payload).await
        };
        let invocation = AssertUnwindSafe(handled.boxed_local()).catch_unwind();
        let (result, mut line) = log::collecting(trace, invocation).await;
        let result = result.unwrap_or_else(|_| Err(StepError::Panicked { location: last_panic() }));

        if let Err(error) = &result {
            line.insert("outcome".to_owned(), "error".into());
            line.insert("error".to_owned(), error.name().into());
            line.insert("detail".to_owned(), error.to_string().into());
        }
        if let Some(metering) = metering {
            metering.add(worker, &mut line, is_cold.swap(false, Ordering::Relaxed), crate::now().as_millis());
        }
        let level = if log::has_error(&line) { "ERROR" } else { "INFO" };
        write_line(worker, level, &context.request_id, started, line);
        result
    }))
    .await
}

/// Reads a step's input.
///
/// # Errors
/// [`StepError::InvalidInput`], which does not quote the input.
pub fn input<T: DeserializeOwned>(what: &'static str, event: Value) -> Result<T, StepError> {
    serde_json::from_value(event).map_err(|_| StepError::InvalidInput { what })
}

#[expect(clippy::print_stdout, reason = "standard output is where Lambda takes the log from")]
fn write_line(worker: &str, level: &str, request_id: &str, started: Instant, mut line: Map<String, Value>) {
    let duration_ms = started.elapsed().as_secs_f64() * 1000.0;
    line.insert("time".to_owned(), crate::now().to_string().into());
    line.insert("level".to_owned(), level.into());
    line.insert("worker".to_owned(), worker.into());
    line.insert("requestId".to_owned(), request_id.into());
    line.insert("durationMs".to_owned(), ((duration_ms * 1000.0).round() / 1000.0).into());
    println!("{}", Value::Object(line));
}

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Replaces the panic hook: a panic's message can quote data, so only its location is kept.
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
