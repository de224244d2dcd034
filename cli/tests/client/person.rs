//! A person at a machine of their own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use client::aws::Aws;
use secrecy::ExposeSecret;
use serde_json::Value;
use sluice::Outputs;
use sluice::local::{UpOptions, up};
use tempfile::TempDir;

/// A person at a machine of their own, with an account of their own.
pub(crate) struct Person {
    pub(crate) home: TempDir,
    pub(crate) outputs: Outputs,
    pub(crate) email: String,
    pub(crate) password: String,
    pub(crate) institute: String,
}

/// What a command ended with.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Person {
    /// With an account that reads and writes for an institute that nobody else is of; not signed in.
    pub(crate) async fn new(name: &str) -> Self {
        Self::at(up(UpOptions::default()).await.unwrap(), name).await
    }

    /// The same at a deployment that is there.
    pub(crate) async fn at(outputs: Outputs, name: &str) -> Self {
        let aws = root(&outputs);
        let home = tempfile::tempdir().unwrap();
        let institute = format!("{name}-{}", unique(&home));
        let email = format!("{institute}@test.example");
        let user = sluice::local::users::create_user(&aws, &outputs.user_pool_id, &email, &institute, &institute).await.unwrap();
        std::fs::write(home.path().join("deployment.json"), serde_json::to_string(&outputs).unwrap()).unwrap();
        Self { home, outputs, email, password: user.password.expose_secret().to_owned(), institute }
    }

    /// One of the lake's own staff, who has no institute; not signed in.
    pub(crate) async fn of_staff(name: &str) -> Self {
        let mut person = Self::new(name).await;
        let pool = person.outputs.staff_user_pool_id.clone().unwrap();
        person.email = format!("staff-{}", person.email);
        let user = sluice::local::users::create_user(&root(&person.outputs), &pool, &person.email, "", "").await.unwrap();
        person.password = user.password.expose_secret().to_owned();
        person
    }

    pub(crate) async fn signed_in(name: &str) -> Self {
        let person = Self::new(name).await;
        person.login(&[], &person.password).expect(0, "");
        person
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn session_file(&self) -> PathBuf {
        self.path("config/sluice/session.json")
    }

    pub(crate) fn session(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.session_file()).unwrap()).unwrap()
    }

    pub(crate) fn change_session(&self, change: impl FnOnce(&mut Value)) {
        let mut session = self.session();
        change(&mut session);
        std::fs::write(self.session_file(), session.to_string()).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(arguments).env_clear().current_dir(self.home.path()).env("HOME", self.home.path());
        command.env("XDG_CONFIG_HOME", self.path("config")).env("XDG_STATE_HOME", self.path("state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end. Whatever it says, it says no secret.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.ended(self.command(arguments).output().unwrap())
    }

    /// The same as [`Person::run`] where this test answers as the API meanwhile.
    pub(crate) async fn run_async(&self, arguments: &[&str]) -> Ended {
        self.ended(tokio::process::Command::from(self.command(arguments)).output().await.unwrap())
    }

    pub(crate) fn ended(&self, output: Output) -> Ended {
        let stderr = String::from_utf8(output.stderr).unwrap();
        let mut secrets = vec![self.password.clone()];
        if let Ok(text) = std::fs::read(self.session_file()) {
            let session: Value = serde_json::from_slice(&text).unwrap();
            let tokens = ["idToken", "accessToken", "refreshToken"].map(|name| session[name].as_str().unwrap().to_owned());
            secrets.extend(tokens);
        }
        for secret in secrets {
            assert!(!stderr.contains(&secret) && !String::from_utf8_lossy(&output.stdout).contains(&secret));
        }
        Ended { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// Signs in at the deployment, and answers with these lines.
    pub(crate) fn login(&self, flags: &[&str], lines: &str) -> Ended {
        let mut arguments = vec!["login", self.email.as_str(), "--password-stdin", "--deployment", "deployment.json"];
        arguments.extend(flags);
        let mut child = self.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{lines}").unwrap();
        self.ended(child.wait_with_output().unwrap())
    }

    /// Signs in without naming a deployment, beside the local system.
    pub(crate) fn sign_in_again(&self, arguments: &[&str], password: &str) -> Ended {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut command = self.command(&[&["login", "--password-stdin"], arguments].concat());
        let mut child = command.env("CARGO_TARGET_DIR", target).stdin(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        self.ended(child.wait_with_output().unwrap())
    }

    /// From now on the API is there.
    pub(crate) fn asks_at(&self, url: &str) {
        self.change_session(|session| session["deployment"]["apiUrl"] = url.into());
    }

    pub(crate) fn message(&self, file: &str, family_name: &str) -> String {
        let control_id = format!("{}-{file}", self.institute);
        let message = format!(
            "MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|{control_id}|P|2.5.1\r\
             PID|1||4711^^^HIS^MR||{family_name}^JANE||19800101|F\r"
        );
        std::fs::write(self.path(file), &message).unwrap();
        message
    }

    /// The lines of the journal.
    pub(crate) fn journal(&self) -> Vec<Value> {
        let Ok(folder) = std::fs::read_dir(self.path("state/sluice/sent")) else { return Vec::new() };
        let files = folder.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        files.flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()).collect()
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn expect(self, code: i32, stderr: &str) -> Self {
        let stdout = String::from_utf8_lossy(&self.stdout);
        assert_eq!(self.code, Some(code), "{}{stdout}", self.stderr);
        assert!(self.stderr.contains(stderr), "{}", self.stderr);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }
}

pub(crate) fn root(outputs: &Outputs) -> Aws {
    outputs.local_aws().unwrap()
}

pub(crate) fn unique(folder: &TempDir) -> String {
    let name = folder.path().file_name().unwrap().to_string_lossy().trim_start_matches(".tmp").to_ascii_lowercase();
    format!("{name}{}", std::process::id())
}
