//! The place of a test: an operator's `sluice`, and users that no other test has.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_cognitoidentityprovider::types::AttributeType;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use client::aws::Aws;
use client::deployment::Deployment;
use client::outputs::User;
use client::sign_in::sign_in;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sluice::Outputs;
use sluice::local::{UpOptions, up};

pub(crate) const PASSWORD: &str = "Correct-horse-7-battery";

/// What the binary said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The local system, and an institute and a mail domain that no other test uses.
pub(crate) struct Setting {
    pub(crate) outputs: Outputs,
    pub(crate) aws: Aws,
    pub(crate) pool: aws_sdk_cognitoidentityprovider::Client,
    pub(crate) institute: String,
    pub(crate) domain: String,
    pub(crate) folder: PathBuf,
}

impl Setting {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let outputs = up(UpOptions::default()).await.unwrap();
        let aws = outputs.local_aws().unwrap();
        let millis = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let name = format!("users-{millis}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
        fs::create_dir_all(&folder).unwrap();
        let pool = aws_sdk_cognitoidentityprovider::Client::new(aws.config());
        Self { outputs, aws, pool, domain: format!("{name}.example"), institute: name, folder }
    }

    pub(crate) fn deployment(&self) -> Deployment {
        Deployment::try_from(&self.outputs).unwrap()
    }

    pub(crate) fn address(&self, local: &str) -> String {
        format!("{local}@{}", self.domain)
    }

    pub(crate) fn run_with(&self, arguments: &[&str], stdin: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let said = self.run_with(arguments, "");
        assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
        said.stdout
    }

    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat())).unwrap()
    }

    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], code: i32, reason: &str) {
        let said = self.run_with(arguments, "");
        assert_eq!(said.code, code, "{}{}", said.stdout, said.stderr);
        assert!(said.stderr.contains(reason), "{}", said.stderr);
    }

    /// This test's users by address.
    pub(crate) fn users(&self) -> BTreeMap<String, Value> {
        let users = self.json(&["users", "list"]);
        let users = users.as_array().unwrap().iter().map(|user| (user["email"].as_str().unwrap().to_owned(), user.clone()));
        users.filter(|(email, _)| email.ends_with(&self.domain)).collect()
    }

    /// The bodies of the mails to an address.
    pub(crate) async fn mails(&self, address: &str) -> Vec<String> {
        let url = format!("{}/_ministack/ses/messages", self.outputs.endpoint_url.as_deref().unwrap());
        let key = self.outputs.root_key.as_ref().unwrap().secret_access_key.expose_secret();
        let messages = reqwest::Client::new().get(url).bearer_auth(key).send().await.unwrap();
        let messages: Value = messages.json().await.unwrap();
        let messages = messages["messages"].as_object().unwrap().values().flat_map(|of| of.as_array().unwrap().clone());
        messages.filter(|mail| mail["To"] == json!([address])).map(|mail| mail["BodyText"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn set_password(&self, address: &str) {
        let request = self.pool.admin_set_user_password().user_pool_id(&self.outputs.user_pool_id).username(address);
        request.password(PASSWORD).permanent(true).send().await.unwrap();
    }

    pub(crate) async fn token(&self, address: &str) -> anyhow::Result<SecretString> {
        let password = SecretString::from(PASSWORD);
        let user = User { email: address.to_owned(), password, read: String::new(), write: String::new(), pool: None };
        sign_in(&self.aws, &self.outputs.client_id, &user).await
    }

    /// What a fresh ID token says: institute to read, institute to write, groups.
    pub(crate) async fn claims(&self, address: &str) -> (String, String, Value) {
        let token = self.token(address).await.unwrap();
        let payload = token.expose_secret().split('.').nth(1).unwrap().to_owned();
        let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        (claim("custom:read"), claim("custom:write"), claims["cognito:groups"].clone())
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A user without rights, and the entry that the worker `enroll` makes for one.
    pub(crate) async fn pending(&self, local: &str) -> String {
        let address = self.address(local);
        self.run(&["users", "add", &address, "--no-invitation"]);
        let username = self.users()[&address]["username"].as_str().unwrap().to_owned();
        let dynamodb = aws_sdk_dynamodb::Client::new(self.aws.config());
        let mut request = dynamodb.put_item().table_name(self.outputs.stack_output("EnrollmentTableName").unwrap());
        for (name, value) in [
            ("kind", "pending"),
            ("name", &username),
            ("username", &username),
            ("email", &address),
            ("since", "2026-01-02T03:04:05.000Z"),
        ] {
            request = request.item(name, AttributeValue::S(value.to_owned()));
        }
        request.send().await.unwrap();
        address
    }

    /// An account that a stranger makes with somebody's address, and a password that the stranger knows.
    pub(crate) async fn signed_up(&self, local: &str) -> String {
        let address = self.address(local);
        let email = AttributeType::builder().name("email").value(&address).build().unwrap();
        let request = self.pool.sign_up().client_id(&self.outputs.client_id).username(&address).password(PASSWORD);
        request.user_attributes(email).send().await.unwrap();
        address
    }

    pub(crate) fn waits(&self, address: &str) -> bool {
        self.json(&["users", "pending"]).as_array().unwrap().iter().any(|pending| pending["email"] == address)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
