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

pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// A gateway that runs, and what it says.
pub(crate) struct Gateway {
    pub(crate) process: Child,
    /// The lines of its stderr, read as they come: a full pipe would stop it.
    pub(crate) lines: Receiver<String>,
    pub(crate) address: String,
}

impl Gateway {
    /// With one feed, on a port of its own.
    pub(crate) fn start(person: &Person, arguments: &[&str]) -> Self {
        Self::with_feeds(person, &[&["--listen", "127.0.0.1:0"], arguments].concat())
    }

    /// With the feeds that the arguments name. `address` is that of the first one that listens, [`Gateway::next_address`] that of the
    /// next one.
    pub(crate) fn with_feeds(person: &Person, arguments: &[&str]) -> Self {
        let all = [&["--json", "mllp", "--report-seconds", "1"], arguments].concat();
        let mut process = person.command(&all).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut gateway = Self { process, lines, address: String::new() };
        gateway.address = gateway.next_address();
        gateway
    }

    pub(crate) fn next_address(&self) -> String {
        self.find("address", |line| line.strip_prefix("Listening on ")?.split(' ').next().map(str::to_owned))
    }

    pub(crate) fn exchange(&self, message: &str) -> String {
        Peer::connect(&self.address).exchange(message.as_bytes())
    }

    /// Reads its reports until one has this.
    pub(crate) fn until(&mut self, member: &str, value: u64) {
        self.find(&format!("{member} {value}"), |line| {
            let said: Value = serde_json::from_str(line).unwrap_or_default();
            (said["event"] == "report" && said[member] == value).then_some(())
        });
    }

    /// The next line of its log about something.
    pub(crate) fn until_said(&self, event: &str) -> Value {
        self.find(event, |line| serde_json::from_str::<Value>(line).ok().filter(|said| said["event"] == event))
    }

    /// Reads its lines until something is found in one.
    fn find<T>(&self, what: &str, in_line: impl Fn(&str) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut said = String::new();
        loop {
            let left = DEADLINE.saturating_sub(begun.elapsed());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("no {what}, {error}: {said}"));
            if let Some(found) = in_line(&line) {
                return found;
            }
            said.push_str(&line);
            said.push('\n');
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

/// A connection to a gateway, or from one.
pub(crate) struct Peer(TcpStream);

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    pub(crate) fn connect(address: &str) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    /// Sends a message, and gives the answer with its frame.
    pub(crate) fn exchange(&mut self, message: &[u8]) -> String {
        self.0.write_all(&[b"\x0b", message, b"\x1c\r"].concat()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\x1c\r") {
            let mut byte = [0];
            assert_eq!(self.0.read(&mut byte).unwrap(), 1, "the connection has ended");
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    }
}
