//! The process of the local AWS: starts it so that it outlives this command, finds it again, and stops it reliably.
//!
//! It leads a process group of its own, which the workers it starts are in too. A process id alone does not identify it,
//! because the system reuses ids; the id together with the start time does. MiniStack does not end on SIGTERM while
//! workers live, so stopping means the whole group, first politely and then not.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use serde::{Deserialize, Serialize};

use super::{ALLOWED_ORIGIN, HEALTH_DEADLINE, REGION, root_key};
use crate::operator::workspace::Workspace;
use client::wait::within;

/// Python starts in a second or two; a machine that compiles at the same time takes its time.
const START_DEADLINE: Duration = Duration::from_secs(90);
/// How long the group may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// How long it may take to be gone once it was killed.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A local AWS, running or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Emulator {
    pub(super) pid: u32,
    pub(super) started: String,
    pub(super) port: u16,
    pub(super) version: String,
}

/// Starts MiniStack with our extension on a free port and waits until it answers.
pub(super) async fn start(workspace: &Workspace, python: &Path, log: &Path, version: String) -> Result<Emulator> {
    if log.exists() {
        let _ = std::fs::rename(log, log.with_extension("log.1"));
    }
    let mut last = anyhow!("not tried");
    // Between finding a port free and binding it, somebody else may take it.
    for _ in 0..3 {
        match start_once(workspace, python, log, &version).await {
            Ok(emulator) => return Ok(emulator),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn start_once(workspace: &Workspace, python: &Path, log: &Path, version: &str) -> Result<Emulator> {
    let port = free_port()?;
    root_key::create(&workspace.local().join("credentials"))?;
    // It holds the unpacked workers of the previous system, tens of megabytes each.
    let temporary = workspace.local().join("tmp");
    let _ = std::fs::remove_dir_all(&temporary);
    std::fs::create_dir_all(&temporary).with_context(|| format!("creating {}", temporary.display()))?;
    let output = File::options().create(true).append(true).open(log).context("opening the log of the local AWS")?;
    let mut command = Command::new(python);
    // MiniStack must see neither this person's AWS configuration nor Docker: it would remove containers that it finds.
    command.env_clear();
    for name in ["PATH", "HOME", "LANG", "LC_ALL", "TZ"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
        .args(["-P", "-m", "extension"])
        .env("PYTHONPATH", workspace.root().join("cli/local"))
        .current_dir(workspace.local())
        .env("AUTH", "true")
        .env("BIND_HOST", "127.0.0.1")
        .env("MINISTACK_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        // Pass the file's path and not the secret: other programs can read arguments, and children inherit the environment.
        .env("LOCAL_CREDENTIALS", workspace.local().join("credentials"))
        .env("LOCAL_ORIGINS", ALLOWED_ORIGIN)
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_DEFAULT_REGION", REGION)
        .env("MINISTACK_REGION", REGION)
        .env("IOT_MTLS_ENABLED", "0")
        .env("SFTP_ENABLED", "0")
        .env("DOCKER_HOST", "unix:///nonexistent/no-docker-for-sluice.sock")
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    let mut child = command.spawn().with_context(|| format!("starting {}", python.display()))?;
    let pid = child.id();
    let started = process_entry(pid).map(|entry| entry.started).context("the local AWS ended at once")?;
    let emulator = Emulator { pid, started, port, version: version.to_owned() };
    match within(START_DEADLINE, "the local AWS to answer", answers(&emulator, &mut child)).await {
        Ok(()) => Ok(emulator),
        Err(error) => {
            emulator.stop().await?;
            Err(error.context(format!("starting the local AWS; the end of {}:\n{}", log.display(), tail(log))))
        }
    }
}

async fn answers(emulator: &Emulator, child: &mut Child) -> Result<()> {
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}");
        }
        if emulator.is_healthy().await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(12)).copied().collect::<Vec<_>>().join("\n")
}

impl Emulator {
    pub(super) fn endpoint_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Whether the process is there, and is the one that was started.
    pub(super) fn is_alive(&self) -> bool {
        process_entry(self.pid).is_some_and(|entry| !entry.dead && entry.started == self.started)
    }

    /// Whether any process of the group is alive. Once the leader is gone, its id could be another group's. But the system
    /// gives the id to nobody else as long as the group lives, so a leader that began at another time means that the group is
    /// gone.
    pub(super) fn has_members(&self) -> bool {
        let replaced = process_entry(self.pid).is_some_and(|entry| entry.started != self.started);
        !replaced && processes().iter().any(|entry| entry.group == self.pid && !entry.dead)
    }

    /// Whether it is ours, and answers.
    pub(super) async fn is_healthy(&self) -> bool {
        #[derive(Deserialize)]
        struct Health {
            auth: String,
        }
        if !self.is_alive() {
            return false;
        }
        let ask = async {
            let client = reqwest::Client::builder().no_proxy().timeout(HEALTH_DEADLINE).build()?;
            let url = format!("{}/_ministack/health", self.endpoint_url());
            let body = client.get(url).send().await?.bytes().await?;
            anyhow::Ok(serde_json::from_slice::<Health>(&body)?)
        };
        ask.await.is_ok_and(|health| health.auth == "enabled")
    }

    /// Ends the whole group and makes sure of it.
    pub(super) async fn stop(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        if self.gone_within(GRACE).await {
            return Ok(());
        }
        self.signal(Signal::KILL)?;
        if self.gone_within(KILL_DEADLINE).await {
            return Ok(());
        }
        bail!("the local AWS could not be stopped; processes of the group {} are left", self.pid)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        if !self.has_members() {
            return Ok(());
        }
        let group = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process id")?;
        match kill_process_group(group, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).context("stopping the local AWS"),
        }
    }

    async fn gone_within(&self, limit: Duration) -> bool {
        let began = tokio::time::Instant::now();
        loop {
            // If this very process started it, it is our child, and nobody else would collect it.
            if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
            if !self.has_members() {
                return true;
            }
            if began.elapsed() >= limit {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A line of the process table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    pid: u32,
    group: u32,
    /// Ended, but not yet collected by its parent.
    dead: bool,
    /// When it began, in whatever form this system says it.
    started: String,
}

fn process_entry(pid: u32) -> Option<Entry> {
    if has_proc() {
        return parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    }
    processes().into_iter().find(|entry| entry.pid == pid)
}

fn processes() -> Vec<Entry> {
    if has_proc() {
        let Ok(folders) = std::fs::read_dir("/proc") else { return Vec::new() };
        return folders
            .flatten()
            .filter(|folder| folder.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
            .filter_map(|folder| parse_stat(&std::fs::read_to_string(folder.path().join("stat")).ok()?))
            .collect();
    }
    let output = Command::new("ps").args(["-axo", "pid=,pgid=,stat=,lstart="]).stdin(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(parse_ps).collect()
}

fn has_proc() -> bool {
    PathBuf::from("/proc/self/stat").exists()
}

/// `/proc/PID/stat`: the name, in brackets, may hold anything; after it come state, parent, group, ... and start time.
fn parse_stat(text: &str) -> Option<Entry> {
    let (pid, _) = text.split_once(' ')?;
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    Some(Entry {
        pid: pid.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        dead: matches!(*fields.first()?, "Z" | "X"),
        started: (*fields.get(19)?).to_owned(),
    })
}

fn parse_ps(line: &str) -> Option<Entry> {
    let mut fields = line.split_whitespace();
    Some(Entry {
        pid: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
        dead: fields.next()?.starts_with('Z'),
        started: fields.collect::<Vec<_>>().join(" "),
    })
}

/// A process that lives and answers nothing, as if it were a local AWS at this port.
#[cfg(test)]
pub(super) fn stand_in(port: u16) -> (Child, Emulator) {
    let child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
    let pid = child.id();
    let started = process_entry(pid).map(|entry| entry.started).unwrap_or_default();
    (child, Emulator { pid, started, port, version: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_brackets_is_parsed() {
        let text = "4711 (a) b) S 1 4700 4700 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 12 0 987654 1000 20";
        let expected = Entry { pid: 4711, group: 4700, dead: false, started: "987654".to_owned() };
        assert_eq!(parse_stat(text), Some(expected));
    }

    #[test]
    fn ps_lines_are_read_where_there_is_no_proc() {
        let expected = Entry { pid: 9, group: 8, dead: true, started: "Thu Nov 21 07:24:00 2026".to_owned() };
        assert_eq!(parse_ps("    9     8 Z+   Thu Nov 21 07:24:00 2026"), Some(expected));
    }

    #[tokio::test]
    async fn the_whole_process_group_is_stopped_even_if_it_ignores_signals() {
        // As MiniStack with workers: the leader ignores SIGTERM and has children of its own.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; sleep 300 & sleep 300 & while :; do sleep 1; done"])
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = child.id();
        let started = process_entry(pid).unwrap().started;
        let emulator = Emulator { pid, started, port: 1, version: String::new() };
        let began = tokio::time::Instant::now();
        while processes().iter().filter(|entry| entry.group == pid).count() < 3 {
            assert!(began.elapsed() < Duration::from_secs(60), "it has no children");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(emulator.is_alive());

        emulator.stop().await.unwrap();
        assert!(!emulator.is_alive());
        assert!(processes().iter().all(|entry| entry.group != pid || entry.dead));
        let _ = child.wait();
    }

    #[tokio::test]
    async fn another_process_with_the_same_id_is_left_alone() {
        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let emulator = Emulator { pid: child.id(), started: "long ago".to_owned(), port: 1, version: String::new() };
        assert!(!emulator.is_alive());
        emulator.stop().await.unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it was stopped");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
