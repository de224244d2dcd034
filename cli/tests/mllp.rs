//! `sluice mllp`: the real binary between a peer on loopback and the local system.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

#[path = "client/person.rs"]
#[expect(dead_code, reason = "of a module that other tests use more of")]
mod person;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStderr};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use person::Person;

const DEADLINE: Duration = Duration::from_secs(90);

/// A gateway that runs, and what it says.
struct Gateway {
    process: Child,
    stderr: BufReader<ChildStderr>,
    address: String,
}

impl Gateway {
    fn start(person: &Person, arguments: &[&str]) -> Self {
        let all = [&["--json", "mllp", "--listen", "127.0.0.1:0", "--report-seconds", "1"], arguments].concat();
        let mut process = person.command(&all).spawn().unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended: {said}");
            if let Some(rest) = line.strip_prefix("Listening on ") {
                break rest.split(' ').next().unwrap().to_owned();
            }
            said.push_str(&line);
        };
        Self { process, stderr, address }
    }

    fn exchange(&self, message: &str) -> String {
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
    fn until(&mut self, member: &str, value: u64) {
        let begun = Instant::now();
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0 && begun.elapsed() < DEADLINE, "no {member} {value}");
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            if said["event"] == "report" && said[member] == value {
                return;
            }
        }
    }

    /// Stops it as systemd does, and gives its last report.
    fn stop(self) -> Value {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        drop(self.stderr);
        let output = self.process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test]
async fn a_message_over_mllp_is_stored() {
    let person = Person::signed_in("mllp").await;
    let mut gateway = Gateway::start(&person, &[]);
    let message = person.message("a.hl7", "DOE");
    assert!(gateway.exchange(&message).contains("MSA|CA|"));
    gateway.until("delivered", 1);
    let report = gateway.stop();
    assert_eq!((&report["received"], &report["spooled"]), (&1.into(), &0.into()));

    // With its own sign-in, and with the outcome.
    std::fs::write(person.path("password"), &person.password).unwrap();
    std::fs::set_permissions(person.path("password"), PermissionsExt::from_mode(0o600)).unwrap();
    person.run(&["logout"]).expect(0, "");
    let account = ["--email", &person.email, "--password-file", "password", "--deployment", "deployment.json"];
    let gateway =
        Gateway::start(&person, &[&account[..], &["--ack", "outcome", "--outcome-timeout", "60", "--spool", "spool"]].concat());
    let second = person.message("b.hl7", "ROE");
    let answer = gateway.exchange(&second);
    assert!(answer.contains("MSA|AA|"), "{answer}");
    // The same once more is the same.
    assert!(gateway.exchange(&second).contains("MSA|AA|"));
    let answer = gateway.exchange("I'm just a random number: 4711");
    assert!(answer.contains("MSA|AA|") && answer.contains("ERR"), "{answer}");
    let report = gateway.stop();
    assert_eq!((&report["duplicates"], &report["acknowledged"]), (&1.into(), &3.into()));

    person.login(&[], &person.password).expect(0, "");
    let listed = person.run(&["list", "--json"]).expect(0, "").text();
    assert_eq!(listed.lines().filter(|line| line.contains("\"stored\"")).count(), 3, "{listed}");
}

#[tokio::test]
async fn what_it_cannot_start_with_is_said() {
    let person = Person::new("nomllp").await;
    let listen = ["mllp", "--listen", "127.0.0.1:0"];
    person.run(&listen).expect(1, "nobody is signed in");
    person.run(&["mllp", "--listen", "nowhere"]).expect(2, "--listen");
    person.run(&[&listen[..], &["--tls-cert", "a.pem"]].concat()).expect(2, "--tls-key");
    person.run(&[&listen[..], &["--tls-cert", "a.pem", "--tls-key", "b.pem"]].concat()).expect(1, "a.pem");
    let account = ["--email", &person.email, "--password-file", "password", "--deployment", "deployment.json"];
    std::fs::write(person.path("password"), "Wrong-password-1").unwrap();
    std::fs::set_permissions(person.path("password"), PermissionsExt::from_mode(0o644)).unwrap();
    person.run(&[&listen[..], &account].concat()).expect(1, "can be read by others");
    std::fs::set_permissions(person.path("password"), PermissionsExt::from_mode(0o600)).unwrap();
    person.run(&[&listen[..], &account].concat()).expect(1, "the sign-in was refused");

    std::fs::write(person.path("password"), &person.password).unwrap();
    let gateway = Gateway::start(&person, &[&account[..], &["--spool", "spool"]].concat());
    person.run(&[&listen[..], &account, &["--spool", "spool"]].concat()).expect(1, "in use by another gateway");
    let taken = ["mllp", "--listen", &gateway.address];
    person.run(&[&taken[..], &account].concat()).expect(1, "listening on");
    gateway.stop();
}
