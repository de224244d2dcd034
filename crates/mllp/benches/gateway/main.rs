//! How many messages the gateway acknowledges in a second: `cargo bench -p sluice-mllp --bench gateway`.
//!
//! 50 connections send an ADT of about 600 bytes each, wait for the AA and send the next. The gateway is a process of its own with its
//! spool on this disk, and delivers over HTTP on loopback to a stub of the API that is in this process, as the peers are.
//!
//! `-- --seconds 20` for another time. `-- --steady 1000` opens so many connections that send one message a second each. `-- --python
//! venv/bin/python` measures the server of python-hl7 in place of the gateway (`python_hl7_server.py`). `-- --kills 100` kills the gateway at random moments under that load, at its start as well, and
//! checks that every acknowledged message is delivered in the end.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark that cannot go on ends")]

#[path = "../../tests/it/http.rs"]
mod http;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::{Api, HttpDestination};
use sluice_mllp::{Endpoint, Feed, Feeds, Log, Options, Signals, Spool, framed, run};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const CONNECTIONS: u64 = 50;
const BUILT_AS_DEPLOYED: &str = "--built-as-deployed";
/// The first argument of the gateway's process.
const GATEWAY: &str = "gateway";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let value = |name: &str| {
        let value = arguments.iter().position(|it| it == name).and_then(|at| arguments.get(at + 1));
        value.map(|value| value.parse::<u64>().expect("a number"))
    };
    if !arguments.iter().any(|it| it == BUILT_AS_DEPLOYED || it == GATEWAY) {
        return again_as_deployed(&arguments);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    match arguments.first().map(String::as_str) {
        Some(GATEWAY) => runtime.block_on(gateway(Path::new(&arguments[1]), arguments[2].parse().unwrap())),
        _ => match value("--kills") {
            Some(kills) => runtime.block_on(survive(kills)),
            None => {
                let time = Duration::from_secs(value("--seconds").unwrap_or(20));
                let python = arguments.iter().position(|it| it == "--python").and_then(|at| arguments.get(at + 1));
                match (value("--steady"), python) {
                    (Some(connections), _) => runtime.block_on(steady(connections, time)),
                    (None, Some(python)) => runtime.block_on(measure_python(python, time)),
                    (None, None) => runtime.block_on(measure(time)),
                }
            }
        },
    }
}

/// The profile of benchmarks is for drivers. The gateway is this program, so it has to be built as what is deployed is.
fn again_as_deployed(arguments: &[String]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["bench", "--profile", "release", "--bench", "gateway", "--"]);
    let status = command.arg(BUILT_AS_DEPLOYED).args(arguments).status().unwrap();
    assert!(status.success(), "the benchmark in release ended with {status}");
}

async fn gateway(spool: &Path, api: SocketAddr) {
    let (spool, _) = Spool::open(spool, "west", 4 << 30).unwrap();
    let feeds = Feeds::open(vec![Feed::new(Endpoint::Listen("127.0.0.1:0".parse().unwrap()))]).await.unwrap();
    println!("{}", feeds.addresses().next().unwrap().1);
    let mut options = Options::default();
    (options.limits.connections, options.limits.connections_per_address) = (2_048, 2_048);
    run(options, feeds, spool, HttpDestination::new(api), Log::new(|_| ()), Signals::stop(std::future::pending())).await;
}

/// Starts a gateway; it ends with this process.
fn start(spool: &Path, api: SocketAddr) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(GATEWAY).arg(spool).arg(api.to_string()).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().unwrap()
}

async fn address(gateway: &mut Child) -> SocketAddr {
    let stdout = gateway.stdout.take().expect("once");
    BufReader::new(stdout).lines().next_line().await.unwrap().expect("an address").parse().unwrap()
}

/// A spool in the target folder: /tmp may be memory.
fn spool() -> PathBuf {
    let spool = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-spool");
    let _ = std::fs::remove_dir_all(&spool);
    spool
}

fn adt(control_id: &str) -> Vec<u8> {
    let mut message = format!(
        "MSH|^~\\&|HIS|WEST^2.16.840.1.113883.19.4^ISO|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|{control_id}|P|2.5.1||||||UNICODE UTF-8\r\
         EVN|A01|20260102030405|||4711^NIGHT^NURSE\r\
         PID|1||100200300^^^WEST^MR||DOE^JANE^MARY^^MRS||19700101|F|||1 MAIN STREET^^SPRINGFIELD^IL^62701^USA||(217)555-0100|||M||400500600\r\
         NK1|1|DOE^JOHN|SPO|1 MAIN STREET^^SPRINGFIELD^IL^62701^USA|(217)555-0101\r\
         PV1|1|I|2000^2012^01^WEST||||004777^ATTEND^AARON^A|||SUR||||ADM|A0|||||||||||||||||||||||||||20260102030000\r"
    );
    message.push_str("NTE|1||");
    message.extend(std::iter::repeat_n('x', 599_usize.saturating_sub(message.len())));
    message.push('\r');
    message.into_bytes()
}

/// Sends messages, each when the one before is answered and `every` has passed, until told to stop or the gateway is gone, and gives each one acknowledged to `acknowledged`.
async fn peer(
    gateway: SocketAddr,
    name: &str,
    every: Duration,
    stop: &AtomicBool,
    mut acknowledged: impl FnMut(String, Duration),
) {
    let Ok(mut stream) = TcpStream::connect(gateway).await else { return };
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 2048];
    for nth in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{name}-{nth}");
        let begun = Instant::now();
        if stream.write_all(&framed(&adt(&id))).await.is_err() {
            return;
        }
        let mut read = 0;
        while !buffer[..read].ends_with(b"\x1c\r") {
            match stream.read(&mut buffer[read..]).await {
                Ok(more) if more > 0 => read += more,
                _ => return,
            }
        }
        let answer = String::from_utf8_lossy(&buffer[..read]);
        let is_accepted = ["CA", "AA"].iter().any(|code| answer.contains(&format!("MSA|{code}|{id}")));
        assert!(is_accepted, "{answer}");
        acknowledged(id, begun.elapsed());
        if let Some(rest) = every.checked_sub(begun.elapsed()) {
            tokio::time::sleep(rest).await;
        }
    }
}

/// Opens connections, has each send messages, and gives the time from each message to its answer.
async fn load(gateway: SocketAddr, connections: u64, every: Duration, time: Duration) -> (Vec<Duration>, Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let peers: Vec<_> = (0..connections)
        .map(|nth| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                // Not all in the same moment.
                tokio::time::sleep(every.mul_f64(nth as f64 / connections as f64)).await;
                let mut times = Vec::new();
                peer(gateway, &format!("B{nth}"), every, &stop, |_, time| times.push(time)).await;
                times
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for peer in peers {
        times.extend(peer.await.unwrap());
    }
    let elapsed = begun.elapsed();
    times.sort_unstable();
    (times, elapsed)
}

fn print_times(times: &[Duration], elapsed: Duration) {
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    println!("| received and acknowledged | {} in {:.1} s: {rate:.0}/s |", times.len(), elapsed.as_secs_f64());
    let percentile = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    println!(
        "| from message to ACK | p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms |",
        percentile(50),
        percentile(99),
        percentile(100)
    );
}

/// The most memory that a process has had, in MiB (`VmHWM`).
fn peak_memory(process: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Many connections that send seldom.
async fn steady(connections: u64, time: Duration) {
    let (spool, api) = (spool(), Api::default());
    let mut process = start(&spool, api.start().await);
    let gateway = address(&mut process).await;
    let (times, elapsed) = load(gateway, connections, Duration::from_secs(1), time).await;
    println!("| what | measured |\n|---|---|");
    println!("| connections, one message a second each | {connections} |");
    print_times(&times, elapsed);
    println!("| memory of the gateway, most | {} MiB |", peak_memory(&process));
    process.kill().await.unwrap();
}

/// The same load as the gateway's, for the server of python-hl7.
async fn measure_python(python: &str, time: Duration) {
    let folder = spool();
    std::fs::create_dir_all(&folder).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gateway/python_hl7_server.py");
    let mut command = Command::new(python);
    command.arg(program).arg(folder.join("messages")).stdout(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn().unwrap();
    let server = address(&mut process).await;
    let (times, elapsed) = load(server, CONNECTIONS, Duration::ZERO, time).await;
    println!("| what | measured |\n|---|---|");
    print_times(&times, elapsed);
    process.kill().await.unwrap();
}

async fn measure(time: Duration) {
    let (spool, api) = (spool(), Api::default());
    let mut process = start(&spool, api.start().await);
    let gateway = address(&mut process).await;
    let (times, elapsed) = load(gateway, CONNECTIONS, Duration::ZERO, time).await;
    let delivered = api.count();
    let drain = Instant::now();
    while api.count() < times.len() {
        assert!(drain.elapsed() < Duration::from_secs(60), "{} of {} delivered", api.count(), times.len());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let drained = drain.elapsed();
    let rate = delivered as f64 / elapsed.as_secs_f64();
    println!("| what | measured |\n|---|---|");
    println!("| message | {} bytes |", adt("B49-100").len());
    print_times(&times, elapsed);
    println!("| delivered meanwhile | {delivered}: {rate:.0}/s; the rest {:.2} s later |", drained.as_secs_f64());
    println!("| memory of the gateway, most | {} MiB |", peak_memory(&process));
    process.kill().await.unwrap();
}

async fn survive(kills: u64) {
    let (spool, api) = (spool(), Api::losing_one_in(10));
    let api_address = api.start().await;
    let acknowledged: Arc<Mutex<HashSet<String>>> = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut before_it_listened = 0;
    for kill in 0..kills {
        let mut process = start(&spool, api_address);
        let load = async {
            let gateway = address(&mut process).await;
            (0..CONNECTIONS)
                .map(|nth| {
                    let (acknowledged, stop) = (Arc::clone(&acknowledged), Arc::clone(&stop));
                    tokio::spawn(async move {
                        peer(gateway, &format!("K{kill}-{nth}"), Duration::ZERO, &stop, |id, _| {
                            acknowledged.lock().unwrap().insert(id);
                        })
                        .await;
                    })
                })
                .collect::<Vec<_>>()
        };
        let mut peers = None;
        let moment = Duration::from_micros(fastrand::u64(..400_000));
        let _ = tokio::time::timeout(moment, async {
            peers = Some(load.await);
            std::future::pending::<()>().await;
        })
        .await;
        process.kill().await.unwrap();
        match peers {
            // Each ends with the gateway.
            Some(peers) => {
                for peer in peers {
                    peer.await.unwrap();
                }
            }
            None => before_it_listened += 1,
        }
    }
    let spooled = acknowledged.lock().unwrap().len().saturating_sub(api.count());
    let mut process = start(&spool, api_address);
    address(&mut process).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    let lost = || {
        let delivered = api.delivered();
        acknowledged.iter().filter(|id| !delivered.contains_key(*id)).count()
    };
    let drain = Instant::now();
    while lost() > 0 && drain.elapsed() < Duration::from_secs(120) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let twice = api.delivered().values().filter(|times| **times > 1).count();
    println!("| what | measured |\n|---|---|");
    println!(
        "| kills (SIGKILL), at random within 0.4 s of the start | {kills}, of these {before_it_listened} before it listened |"
    );
    println!("| acknowledged | {} |", acknowledged.len());
    println!("| left in the spool by the last kill, at least | {spooled} |");
    println!("| delivered | {}, of these {twice} more than once |", api.count());
    println!("| acknowledged and lost | {} |", lost());
    process.kill().await.unwrap();
    assert_eq!(lost(), 0, "acknowledged messages were lost");
}
