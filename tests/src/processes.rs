//! The processes in which the local AWS runs the workers.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rustix::process::Pid;
use sluice::Outputs;

/// A process of a worker.
#[derive(Debug)]
pub struct WorkerProcess {
    /// Its id.
    pub pid: Pid,
    /// Its worker, `Submit` for example: the prefix of the worker's outputs.
    pub worker: String,
}

/// The processes of a deployment's workers, of which the local AWS starts one or more as they are needed, and ends idle ones.
///
/// # Errors
/// If the deployment is not local, or `/proc` cannot be read.
pub fn worker_processes(outputs: &Outputs) -> Result<Vec<WorkerProcess>> {
    let endpoint = outputs.endpoint_url.as_deref().context("an endpoint")?;
    let port = endpoint.trim_end_matches('/').rsplit(':').next().context("a port")?;
    // The path of each bootstrap contains this folder, which tells two local systems apart.
    let folder = format!("ministack-provided-code-{port}/");
    let workers: BTreeMap<&str, &str> = outputs
        .stack_outputs
        .iter()
        .filter_map(|(output, function)| Some((function.as_str(), output.strip_suffix("FunctionName")?)))
        .collect();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc")?.flatten() {
        // A process that has ended meanwhile has nothing to read.
        let read = |file| {
            let bytes = std::fs::read(process.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let Some(pid) = process.file_name().to_str().and_then(|it| it.parse().ok()).and_then(Pid::from_raw) else { continue };
        let environment = read("environ");
        let function = environment.split('\0').find_map(|it| it.strip_prefix("AWS_LAMBDA_FUNCTION_NAME="));
        if let Some(worker) = function.and_then(|it| workers.get(it))
            && read("cmdline").contains(&folder)
        {
            found.push(WorkerProcess { pid, worker: (*worker).to_owned() });
        }
    }
    Ok(found)
}
