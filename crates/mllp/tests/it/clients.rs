//! Clients that other people have written: python-hl7 (blocking, asyncio, and its command `mllp_send`), node-hl7-client and @medplum/hl7.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::support::{Gateway, adt};

/// Python and Node with their clients, each from its registry by a lock file with hashes.
struct Tools {
    sources: PathBuf,
    bin: PathBuf,
    javascript: PathBuf,
}

impl Tools {
    fn install() -> Self {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mllp-clients");
        let tools = Self { bin: place.join("venv/bin"), javascript: place.join("javascript"), sources };
        let mut wanted = Sha256::new();
        for lock in ["requirements.txt", "package-lock.json"] {
            wanted.update(std::fs::read(tools.sources.join(lock)).unwrap());
        }
        let wanted = wanted.finalize().to_vec();
        // Written last, so that half an installation is none.
        let stamp = place.join("installed.sha256");
        if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
            return tools;
        }
        if place.exists() {
            std::fs::remove_dir_all(&place).unwrap();
        }
        std::fs::create_dir_all(&tools.javascript).unwrap();
        done(Command::new("python3").args(["-m", "venv"]).arg(place.join("venv")));
        let requirements = tools.sources.join("requirements.txt");
        done(Command::new(tools.bin.join("pip")).args(["install", "--quiet", "--require-hashes", "-r"]).arg(requirements));
        for manifest in ["package.json", "package-lock.json"] {
            std::fs::copy(tools.sources.join(manifest), tools.javascript.join(manifest)).unwrap();
        }
        let mut npm = Command::new(tools.bin.join("npm"));
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&tools.javascript);
        // npm is a script that calls `node`.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(tools.bin.clone()).chain(std::env::split_paths(&path));
        done(npm.env("PATH", std::env::join_paths(path).unwrap()));
        std::fs::write(stamp, wanted).unwrap();
        tools
    }
}

impl Tools {
    /// Runs a program of Node, and gives its lines.
    async fn node(&self, program: &str, host: &str, port: &str) -> Vec<String> {
        // Node looks for packages beside the program.
        let copy = self.javascript.join(program);
        std::fs::copy(self.sources.join(program), &copy).unwrap();
        let mut node = Command::new(self.bin.join("node"));
        node.arg(copy).args([host, port]);
        let lines = tokio::task::spawn_blocking(move || done(&mut node));
        tokio::time::timeout(Duration::from_secs(120), lines).await.unwrap().unwrap()
    }
}

/// Runs a program to its end, and gives its lines.
fn done(command: &mut Command) -> Vec<String> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_other_vendors_get_their_answers() {
    let gateway = Gateway::start().await;
    let tools = tokio::task::spawn_blocking(Tools::install).await.unwrap();
    let (host, port) = (gateway.address.ip().to_string(), gateway.address.port().to_string());
    let accepted = |prefix: &str, count: usize| (0..count).map(|nth| format!("AA {prefix}{nth}")).collect::<Vec<_>>();

    let mut python = Command::new(tools.bin.join("python"));
    python.arg(tools.sources.join("python_client.py")).args([&host, &port]);
    let lines = tokio::task::spawn_blocking(move || done(&mut python)).await.unwrap();
    assert_eq!(lines, [accepted("SYNC", 3), accepted("ASYNC", 20)].concat());
    gateway.stub.until("python's are delivered", |state| state.delivered.len() == 23).await;

    let file = gateway.folder.path().join("messages.hl7");
    std::fs::write(&file, [adt("FILE0"), adt("FILE1")].map(|message| message.replace('\r', "\r\n")).concat()).unwrap();
    let mut send = Command::new(tools.bin.join("mllp_send"));
    send.args(["--loose", "--port", &port, "--file"]).arg(&file).arg(&host);
    let lines = tokio::task::spawn_blocking(move || done(&mut send)).await.unwrap().join("\n");
    assert!(lines.contains("MSA|AA|FILE0") && lines.contains("MSA|AA|FILE1"), "{lines}");
    gateway.stub.until("the file is delivered", |state| state.delivered.len() == 25).await;

    let lines = tools.node("node_client.mjs", &host, &port).await;
    assert_eq!(lines, accepted("NODE", 3));
    gateway.stub.until("node's are delivered", |state| state.delivered.len() == 28).await;

    // Of original mode, and of three kinds of enhanced mode.
    let lines = tools.node("medplum_client.mjs", &host, &port).await;
    assert_eq!(lines, accepted("MEDPLUM", 4));
    gateway.stub.until("medplum's are delivered", |state| state.delivered.len() == 32).await;
    let report = gateway.stop().await;
    assert_eq!((report.received, report.acknowledged, report.cut), (32, 32, 0));
}
