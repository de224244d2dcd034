//! `sluice mllp` as a process of its own, and its peers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::person::Person;

pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// A gateway that runs, and what it says.
pub(crate) struct Gateway {
    process: Child,
    /// The lines of its stderr, read as they come: a full pipe would stop it.
    lines: Receiver<String>,
    pub(crate) address: String,
}

impl Gateway {
    pub(crate) fn start(person: &Person, arguments: &[&str]) -> Self {
        let all = [&["--json", "mllp", "--listen", "127.0.0.1:0", "--report-seconds", "1"], arguments].concat();
        let mut process = person.command(&all).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut said = String::new();
        let address = loop {
            let line = lines.recv().unwrap_or_else(|_| panic!("it ended: {said}"));
            if let Some(rest) = line.strip_prefix("Listening on ") {
                break rest.split(' ').next().unwrap().to_owned();
            }
            said.push_str(&line);
        };
        Self { process, lines, address }
    }

    pub(crate) fn exchange(&self, message: &str) -> String {
        let mut peer = TcpStream::connect(&self.address).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        peer.write_all(format!("\u{b}{message}\u{1c}\r").as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\x1c\r") {
            let mut byte = [0];
            assert_eq!(peer.read(&mut byte).unwrap(), 1, "the connection has ended");
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }

    /// Reads its reports until one has this.
    pub(crate) fn until(&mut self, member: &str, value: u64) {
        let begun = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(begun.elapsed());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no {member} {value}"));
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            if said["event"] == "report" && said[member] == value {
                return;
            }
        }
    }

    /// Stops it as systemd does, and gives its last report.
    pub(crate) fn stop(self) -> Value {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        let output = self.process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
