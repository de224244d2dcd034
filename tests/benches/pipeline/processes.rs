//! What the worker processes use, from `/proc`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::Pid;
use sluice::Outputs;
use sluice_tests::{Harness, WorkerProcess, worker_processes};

/// A kernel tick of `/proc/<pid>/stat`, `USER_HZ`: 100 a second on every Linux that Rust runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// What all processes of one worker used while they were watched.
pub(crate) struct Used {
    pub(crate) worker: String,
    pub(crate) cpu_seconds: f64,
    /// The largest of them, ever.
    pub(crate) peak_resident_mib: f64,
}

/// Looks at the processes twice a second: one that the local AWS ends in between counts with what it had used last.
pub(crate) struct Processes {
    ended: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Used>>,
}

struct Seen {
    worker: String,
    first_ticks: u64,
    last_ticks: u64,
    peak_kib: u64,
}

impl Processes {
    pub(crate) fn watch(it: &Harness) -> Result<Self> {
        let outputs = it.outputs;
        worker_processes(outputs).context("the processes of the workers")?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut seen: HashMap<Pid, Seen> = HashMap::new();
            let mut first_look = true;
            loop {
                let last_look = end.load(Ordering::Relaxed);
                look(outputs, &mut seen, first_look);
                if last_look {
                    return sum(&seen);
                }
                first_look = false;
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        Ok(Self { ended, thread })
    }

    pub(crate) fn stop(self) -> Result<Vec<Used>> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("watching the processes panicked"))
    }
}

fn look(outputs: &Outputs, seen: &mut HashMap<Pid, Seen>, first_look: bool) {
    for WorkerProcess { pid, worker } in worker_processes(outputs).into_iter().flatten() {
        let worker = worker.to_lowercase();
        let Ok((ticks, peak_kib)) = usage(pid) else { continue };
        // A process that starts while we watch counts from its start.
        let first_ticks = if first_look { ticks } else { 0 };
        let process = seen.entry(pid).or_insert(Seen { worker, first_ticks, last_ticks: ticks, peak_kib });
        process.last_ticks = ticks;
        process.peak_kib = process.peak_kib.max(peak_kib);
    }
}

fn usage(pid: Pid) -> Result<(u64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // utime and stime are the 14th and 15th field; the 2nd, in brackets, may hold blanks.
    let fields: Vec<&str> = stat.rsplit(") ").next().context("stat")?.split(' ').collect();
    let field = |n: usize| fields.get(n - 3).and_then(|it| it.parse::<u64>().ok()).context("stat");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok((field(14)? + field(15)?, peak.trim().trim_end_matches(" kB").parse()?))
}

fn sum(seen: &HashMap<Pid, Seen>) -> Vec<Used> {
    let of = |worker: &str| {
        let processes = || seen.values().filter(move |it| it.worker == worker);
        let ticks: u64 = processes().map(|it| it.last_ticks - it.first_ticks).sum();
        let peak_kib = processes().map(|it| it.peak_kib).max().unwrap_or(0);
        Used {
            worker: worker.to_owned(),
            cpu_seconds: ticks as f64 / TICKS_A_SECOND,
            peak_resident_mib: peak_kib as f64 / 1024.0,
        }
    };
    let workers: BTreeSet<_> = seen.values().map(|it| it.worker.as_str()).collect();
    workers.into_iter().map(of).collect()
}
