//! What an operator does with users: the real binary against the local system, and what the users can do afterwards.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_sdk_cognitoidentityprovider::types::{AttributeType, AuthFlowType, ChallengeNameType};
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use client::aws::Aws;
use client::deployment::Deployment;
use client::outputs::User;
use client::sign_in::{exchange, sign_in};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sluice::Outputs;
use sluice::local::{UpOptions, up};

const PASSWORD: &str = "Correct-horse-7-battery";

/// What the binary said.
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

/// The local system, and an institute and a mail domain that no other test uses.
struct Setting {
    outputs: Outputs,
    aws: Aws,
    pool: aws_sdk_cognitoidentityprovider::Client,
    institute: String,
    domain: String,
    folder: PathBuf,
}

impl Setting {
    async fn new() -> Self {
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

    fn deployment(&self) -> Deployment {
        Deployment::try_from(&self.outputs).unwrap()
    }

    fn address(&self, local: &str) -> String {
        format!("{local}@{}", self.domain)
    }

    fn run_with(&self, arguments: &[&str], stdin: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let said = self.run_with(arguments, "");
        assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
        said.stdout
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat())).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], code: i32, reason: &str) {
        let said = self.run_with(arguments, "");
        assert_eq!(said.code, code, "{}{}", said.stdout, said.stderr);
        assert!(said.stderr.contains(reason), "{}", said.stderr);
    }

    /// This test's users by address.
    fn users(&self) -> BTreeMap<String, Value> {
        let users = self.json(&["users", "list"]);
        let users = users.as_array().unwrap().iter().map(|user| (user["email"].as_str().unwrap().to_owned(), user.clone()));
        users.filter(|(email, _)| email.ends_with(&self.domain)).collect()
    }

    /// The bodies of the mails to an address.
    async fn mails(&self, address: &str) -> Vec<String> {
        let url = format!("{}/_ministack/ses/messages", self.outputs.endpoint_url.as_deref().unwrap());
        let key = self.outputs.root_key.as_ref().unwrap().secret_access_key.expose_secret();
        let messages = reqwest::Client::new().get(url).bearer_auth(key).send().await.unwrap();
        let messages: Value = messages.json().await.unwrap();
        let messages = messages["messages"].as_object().unwrap().values().flat_map(|of| of.as_array().unwrap().clone());
        messages.filter(|mail| mail["To"] == json!([address])).map(|mail| mail["BodyText"].as_str().unwrap().to_owned()).collect()
    }

    async fn set_password(&self, address: &str) {
        let request = self.pool.admin_set_user_password().user_pool_id(&self.outputs.user_pool_id).username(address);
        request.password(PASSWORD).permanent(true).send().await.unwrap();
    }

    async fn token(&self, address: &str) -> anyhow::Result<SecretString> {
        let password = SecretString::from(PASSWORD);
        let user = User { email: address.to_owned(), password, read: String::new(), write: String::new(), pool: None };
        sign_in(&self.aws, &self.outputs.client_id, &user).await
    }

    /// What a fresh ID token says: institute to read, institute to write, groups.
    async fn claims(&self, address: &str) -> (String, String, Value) {
        let token = self.token(address).await.unwrap();
        let payload = token.expose_secret().split('.').nth(1).unwrap().to_owned();
        let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        (claim("custom:read"), claim("custom:write"), claims["cognito:groups"].clone())
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A user without rights, and the entry that the worker `enroll` makes for one.
    async fn pending(&self, local: &str) -> String {
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
    async fn signed_up(&self, local: &str) -> String {
        let address = self.address(local);
        let email = AttributeType::builder().name("email").value(&address).build().unwrap();
        let request = self.pool.sign_up().client_id(&self.outputs.client_id).username(&address).password(PASSWORD);
        request.user_attributes(email).send().await.unwrap();
        address
    }

    fn waits(&self, address: &str) -> bool {
        self.json(&["users", "pending"]).as_array().unwrap().iter().any(|pending| pending["email"] == address)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_users_token_has_the_rights_that_the_operator_set() {
    let setting = Setting::new().await;
    let (institute, jane) = (setting.institute.as_str(), setting.address("jane"));
    let add = ["users", "add", &jane, "--name", "Jane Doe", "--read", institute, "--write", institute, "--group", "lake-staff"];
    assert!(setting.run(&add).contains("Cognito sends them a temporary password"));
    let mails = setting.mails(&jane).await;
    assert!(mails.len() == 1 && mails[0].contains(&jane), "{}", mails.len());
    setting.refused(&add, 1, "change them with `sluice users set`");
    setting.refused(&["users", "add", &jane.to_uppercase()], 1, "is a user already");
    let user = &setting.users()[&jane];
    assert_eq!(
        (&user["name"], &user["read"], &user["write"], &user["groups"], &user["enabled"], &user["status"]),
        (
            &json!("Jane Doe"),
            &json!(institute),
            &json!(institute),
            &json!(["lake-staff"]),
            &json!(true),
            &json!("FORCE_CHANGE_PASSWORD")
        )
    );

    setting.set_password(&jane).await;
    let both = (institute.to_owned(), institute.to_owned());
    assert_eq!(setting.claims(&jane).await, (both.0.clone(), both.1.clone(), json!(["lake-staff"])));
    setting.refused(&["users", "invite", &jane], 1, "has a password already");

    let said = setting.run(&[
        "users",
        "set",
        &jane,
        "--no-write",
        "--add-group",
        "integration-engineers",
        "--remove-group",
        "lake-staff",
    ]);
    assert!(said.contains(&format!("write {institute} → none, joins integration-engineers, leaves lake-staff")), "{said}");
    assert!(said.contains("keeps the old rights until it expires"), "{said}");
    assert_eq!(setting.claims(&jane).await, (both.0, String::new(), json!(["integration-engineers"])));
    assert_eq!(setting.users()[&jane]["write"], "");
    let again = setting.json(&["users", "set", &jane, "--no-write"]);
    assert_eq!((&again["changes"], &again["signedOut"]), (&json!([]), &json!(false)));

    // A token from before ends with the sessions.
    let token = setting.token(&jane).await.unwrap();
    exchange(&setting.deployment(), &token).await.unwrap();
    let said = setting.run(&["users", "set", &jane, "--no-read", "--sign-out"]);
    assert!(said.contains("Signed out everywhere"), "{said}");
    let error = exchange(&setting.deployment(), &token).await.unwrap_err().to_string();
    assert!(error.contains("NotAuthorizedException"), "{error}");
    assert_eq!(setting.claims(&jane).await, (String::new(), String::new(), json!(["integration-engineers"])));
}

#[tokio::test]
async fn a_closed_account_gets_no_token_and_its_tokens_no_credentials() {
    let setting = Setting::new().await;
    let jane = setting.address("jane");
    setting.run(&["users", "add", &jane, "--read", &setting.institute, "--no-invitation"]);
    setting.set_password(&jane).await;
    let token = setting.token(&jane).await.unwrap();
    exchange(&setting.deployment(), &token).await.unwrap();

    setting.run(&["users", "disable", &jane]);
    assert!(setting.token(&jane).await.unwrap_err().to_string().contains("disabled"));
    exchange(&setting.deployment(), &token).await.unwrap_err();
    assert_eq!(setting.users()[&jane]["enabled"], false);

    setting.run(&["users", "enable", &jane]);
    setting.token(&jane).await.unwrap();
    // What was issued before stays dead.
    exchange(&setting.deployment(), &token).await.unwrap_err();
}

#[tokio::test]
async fn nobody_gets_an_email_unless_invited() {
    let setting = Setting::new().await;
    let (jane, joe) = (setting.address("jane"), setting.address("joe"));
    let said = setting.run(&["users", "add", &jane, "--no-invitation"]);
    assert!(said.contains(&format!("`sluice users invite {jane}` does")), "{said}");
    assert!(setting.mails(&jane).await.is_empty());
    setting.run(&["users", "invite", &jane.to_uppercase()]);
    assert_eq!(setting.mails(&jane).await.len(), 1);

    let add = ["users", "add", &joe, "--no-invitation", "--temporary-password-stdin"];
    let said = setting.run_with(&add, &format!("{PASSWORD}\n"));
    assert!(said.code == 0 && !said.stdout.contains(PASSWORD) && !said.stderr.contains(PASSWORD), "{}", said.code);
    let answer = setting
        .pool
        .initiate_auth()
        .client_id(&setting.outputs.client_id)
        .auth_flow(AuthFlowType::UserPasswordAuth)
        .auth_parameters("USERNAME", &joe)
        .auth_parameters("PASSWORD", PASSWORD)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.challenge_name(), Some(&ChallengeNameType::NewPasswordRequired));
    assert!(setting.mails(&joe).await.is_empty());
}

#[tokio::test]
async fn a_senseless_change_of_users_is_refused_before_anything_is_done() {
    let setting = Setting::new().await;
    let jane = setting.address("jane");
    setting.refused(&["users", "add", &jane, "--read", "a/b"], 2, "not an institute");
    setting.refused(&["users", "add", &jane, "--write", "${aws:PrincipalTag/read}"], 2, "not an institute");
    setting.refused(&["users", "add", "jane@@a.example"], 2, "is not an e-mail address");
    setting.refused(&["users", "add", &jane, "--group", "nobody"], 1, "there is no group `nobody`");
    setting.refused(&["users", "add", &jane, "--temporary-password-stdin"], 1, "no temporary password on standard input");
    setting.refused(&["users", "set", &jane], 2, "--sign-out");
    setting.refused(&["users", "set", &jane, "--read", "a", "--no-read"], 2, "cannot be used with");
    setting.refused(&["users", "set", &jane, "--no-read"], 1, "there is no user");
    setting.refused(&["users", "disable", &jane], 1, "there is no user");
    setting.refused(&["users", "approve", &jane, "--read", "a"], 1, "there is no user");
    setting.refused(&["users", "reject", &jane], 1, "does not wait for approval");
    setting.refused(&["users", "import", "/nonexistent.csv"], 1, "reading /nonexistent.csv");
    let no_csv = setting.file("no.csv", b"jane@a.example,a,a\n");
    setting.refused(&["users", "import", &no_csv], 1, "there is no column `jane@a.example`");
    assert!(setting.users().is_empty());
}

#[tokio::test]
async fn an_import_shows_what_it_would_do_does_the_good_rows_and_can_be_repeated() {
    let setting = Setting::new().await;
    let (institute, domain) = (setting.institute.as_str(), setting.domain.as_str());
    setting.run(&["users", "add", &setting.address("old"), "--read", institute, "--no-invitation"]);
    let mut content = format!(
        "\u{feff}email,name,read,write,groups\r\n\
         old@{domain},Old,{institute},{institute},lake-staff\r\n\
         new@{domain},\"Doe, Jane\",{institute},,\r\n\
         twice@{domain},One,{institute},,\r\n\
         TWICE@{domain},Two,{institute},{institute},\r\n\
         bad@{domain},Bad,../x,,\r\n\
         short@{domain},Short\r\n\
         \r\n"
    )
    .into_bytes();
    content.extend_from_slice(b"latin@");
    content.extend_from_slice(
        format!("{domain},M\u{fc}ller,{institute},,\r\n").chars().map(|c| c as u8).collect::<Vec<_>>().as_slice(),
    );
    let file = setting.file("users.csv", &content);

    // Nobody is at the terminal, so it only shows.
    let shown = setting.run_with(&["users", "import", &file], "");
    assert_eq!(shown.code, 1, "{}", shown.stderr);
    for text in [
        "1 to create, 1 to change, 0 unchanged, 5 refused.",
        "Nothing was changed",
        &format!("name none → Old, write none → {institute}, joins lake-staff"),
        "the address is in several lines: 4 and 5",
        "read: `../x`: not an institute",
        "the number of fields is 2, and the header has 5",
        "is not UTF-8",
    ] {
        assert!(shown.stdout.contains(text), "{text} in {}", shown.stdout);
    }
    assert_eq!(setting.users().len(), 1);

    let done = setting.run_with(&["users", "import", &file, "--yes"], "");
    assert!(done.code == 1 && done.stdout.contains("Done 2, not done 5."), "{}{}", done.stdout, done.stderr);
    let users = setting.users();
    assert_eq!(users.len(), 2);
    let (old, new) = (&users[&setting.address("old")], &users[&setting.address("new")]);
    assert_eq!((&old["name"], &old["write"], &old["groups"]), (&json!("Old"), &json!(institute), &json!(["lake-staff"])));
    assert_eq!((&new["name"], &new["read"], &new["write"]), (&json!("Doe, Jane"), &json!(institute), &json!("")));
    assert_eq!(setting.mails(&setting.address("new")).await.len(), 1);

    let again = setting.run_with(&["users", "import", &file, "--yes", "--json"], "");
    assert_eq!(again.code, 1);
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    let rows: Vec<_> = again["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["line"].as_i64().unwrap(), row["action"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [(2, "nothing"), (3, "nothing"), (4, "refuse"), (5, "refuse"), (6, "refuse"), (7, "refuse"), (9, "refuse")]);

    let good = setting.file("good.csv", format!("email,read\nold@{domain},\n").as_bytes());
    assert!(setting.run(&["users", "import", &good]).contains(&format!("read {institute} → none")));
    assert_eq!(setting.users()[&setting.address("old")]["read"], institute);
    assert!(setting.run(&["users", "import", &good, "--yes"]).contains("Done 1, not done 0."));
    assert_eq!(setting.users()[&setting.address("old")]["read"], "");
}

#[tokio::test]
async fn more_users_than_cognito_lists_at_once_are_imported_and_found_again() {
    let setting = Setting::new().await;
    let domain = setting.domain.as_str();
    let rows: Vec<_> = (0..70).map(|number| format!("user{number}@{domain},lake-staff\n")).collect();
    let file = setting.file("users.csv", format!("email,groups\n{}", rows.concat()).as_bytes());
    let done = setting.run(&["users", "import", &file, "--yes", "--no-invitation"]);
    assert!(done.contains("Done 70, not done 0."), "{done}");
    let users = setting.users();
    assert!(users.len() == 70 && users.values().all(|user| user["groups"] == json!(["lake-staff"])), "{}", users.len());
    assert!(setting.mails(&setting.address("user1")).await.is_empty());
    assert!(setting.run(&["users", "import", &file]).contains("0 to create, 0 to change, 70 unchanged, 0 refused."));
}

#[tokio::test]
async fn an_export_is_private_and_its_import_finds_nothing_to_do() {
    let setting = Setting::new().await;
    let institute = setting.institute.as_str();
    let (jane, joe) = (setting.address("jane"), setting.address("joe"));
    let evil = "=HYPERLINK(\"http://evil.example\")";
    setting.run(&["users", "add", &jane, "--name", evil, "--read", institute, "--group", "lake-staff", "--no-invitation"]);
    setting.run(&["users", "add", &joe, "--write", institute, "--no-invitation"]);
    setting.run(&["users", "disable", &joe]);
    // Users choose their names, and this one would like to be two users.
    let name = format!("Joe\"\nevil@{},Evil,{institute},{institute},,\n\"", setting.domain);
    let name = AttributeType::builder().name("name").value(name).build().unwrap();
    let request = setting.pool.admin_update_user_attributes().user_pool_id(&setting.outputs.user_pool_id);
    request.username(&joe).user_attributes(name).send().await.unwrap();

    let path = setting.file("out.csv", b"older\n");
    let said = setting.run_with(&["users", "export", &path], "");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&setting.folder).unwrap().count(), 1);
    let exported = fs::read_to_string(&path).unwrap();
    let mut lines = exported.lines().filter(|line| line.starts_with("email,") || line.contains(&setting.domain));
    assert_eq!(lines.next(), Some("email,name,read,write,groups,enabled"));
    let own: Vec<_> = lines.collect();
    assert_eq!(own.len(), 2, "{own:?}");
    assert_eq!(own[0], format!("{jane},\"'=HYPERLINK(\"\"http://evil.example\"\")\",{institute},,lake-staff,true"));
    assert!(own[1].starts_with(&joe) && own[1].ends_with(&format!(",,{institute},,false")), "{}", own[1]);

    // Other tests make and change users meanwhile.
    let own = setting.file("own.csv", format!("email,name,read,write,groups,enabled\n{}\n", own.join("\n")).as_bytes());
    assert!(setting.run(&["users", "import", &own, "--yes"]).contains("2 unchanged, 0 refused."));
    assert!(setting.run(&["users", "export", "-"]).contains(&jane));
    setting.refused(&["users", "export", "-", "--json"], 1, "cannot both go to the standard output");
    setting.refused(&["users", "export", "/nonexistent/users.csv"], 1, "writing /nonexistent/users.csv");
}

#[tokio::test]
async fn a_backup_is_private_and_a_restore_says_what_it_does_and_does_it_once() {
    let setting = Setting::new().await;
    let institute = setting.institute.as_str();
    let (jane, joe, ann) = (setting.address("jane"), setting.address("joe"), setting.signed_up("ann").await);
    setting.run(&["users", "add", &jane, "--name", "Jane", "--read", institute, "--group", "lake-staff", "--no-invitation"]);
    setting.run(&["users", "add", &joe, "--write", institute, "--no-invitation"]);
    setting.run(&["users", "disable", &joe]);
    setting.run(&["domains", "set", &setting.domain, "--institute", institute, "--read", "--yes"]);
    let before = setting.users();

    let folder = setting.folder.join("backup");
    let path = folder.to_str().unwrap();
    setting.run(&["backup", path]);
    setting.refused(&["backup", path], 1, "making the folder");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        names.insert(entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap());
    }
    assert_eq!(names.keys().collect::<Vec<_>>(), ["backup.json", "rules.json", "staff.csv", "subjects.csv", "users.csv"]);
    let about: Value = serde_json::from_str(&names["backup.json"]).unwrap();
    assert_eq!((&about["version"], &about["settings"]["SignUp"]), (&json!(1), &json!("domains")));
    for of_a_stack in ["LakeBucketArn", "SubmitCodeKey", "DefinitionKey", "ApiId"] {
        assert!(about["settings"].get(of_a_stack).is_none(), "{of_a_stack}");
    }
    let sub = before[&jane]["username"].as_str().unwrap();
    assert!(names["subjects.csv"].lines().any(|line| line == format!("{sub},{jane}")), "{}", names["subjects.csv"]);
    // Whoever has not shown that the address is theirs would be vouched for by a restore.
    assert!(!names["users.csv"].contains(&ann));

    // Other tests make and change users meanwhile.
    let mine = |text: &str| -> String {
        let mut lines = text.lines();
        let header = lines.next().unwrap();
        [header].into_iter().chain(lines.filter(|line| line.contains(&setting.domain))).map(|line| format!("{line}\n")).collect()
    };
    fs::write(folder.join("users.csv"), mine(&names["users.csv"])).unwrap();
    fs::write(folder.join("staff.csv"), mine(&names["staff.csv"])).unwrap();
    let rules: Vec<Value> = serde_json::from_str(&names["rules.json"]).unwrap();
    let rules: Vec<_> = rules.into_iter().filter(|rule| rule["name"] == json!(setting.domain)).collect();
    assert_eq!(rules.len(), 1);
    fs::write(folder.join("rules.json"), json!(rules).to_string()).unwrap();

    let none = setting.json(&["restore", path, "--yes"]);
    assert!(none["users"].as_array().unwrap().iter().all(|row| row["action"] == json!("nothing")), "{none}");
    assert_eq!((&none["rules"], &none["settings"]), (&json!([]), &json!({})));

    // One is lost, one is changed since, and so is the rule.
    let delete = setting.pool.admin_delete_user().user_pool_id(&setting.outputs.user_pool_id).username(&jane);
    delete.send().await.unwrap();
    setting.run(&["users", "enable", &joe]);
    setting.run(&["domains", "set", &setting.domain, "--institute", institute, "--write", "--yes"]);
    let said = setting.run(&["restore", path]);
    assert!(
        said.contains("1 users to create, 1 to change, 0 unchanged, 0 refused; 1 rules to make, 1 of them in place"),
        "{said}"
    );
    assert!(said.contains("Nothing was changed: use --yes to apply."), "{said}");
    assert!(!setting.users().contains_key(&jane));

    let said = setting.run(&["restore", path, "--yes"]);
    assert!(said.ends_with("Done.\n"), "{said}");
    let after = setting.users();
    for user in [&jane, &joe] {
        for what in ["name", "read", "write", "groups", "enabled", "emailVerified"] {
            assert_eq!(after[user][what], before[user][what], "{user} {what}");
        }
    }
    // The password is not in the backup: the user gets a temporary one.
    assert_eq!(setting.mails(&jane).await.len(), 1);
    let rules = setting.json(&["domains", "list"]);
    let rule = rules.as_array().unwrap().iter().find(|rule| rule["name"] == json!(setting.domain)).unwrap();
    assert_eq!((&rule["read"], &rule["write"]), (&json!(true), &json!(false)));
    let again = setting.json(&["restore", path, "--yes"]);
    assert!(again["users"].as_array().unwrap().iter().all(|row| row["action"] == json!("nothing")), "{again}");
    assert_eq!(again["rules"], json!([]));
    setting.run(&["domains", "remove", &setting.domain]);
}

#[tokio::test]
async fn a_pending_user_is_approved_once_or_rejected() {
    let setting = Setting::new().await;
    let institute = setting.institute.as_str();
    let (jane, joe) = (setting.pending("jane").await, setting.pending("joe").await);
    assert!(setting.waits(&jane) && setting.waits(&joe));

    let said = setting.run(&["users", "approve", &jane, "--read", institute]);
    assert!(said.contains(&format!("read none → {institute}")), "{said}");
    assert!(!setting.waits(&jane) && setting.waits(&joe));
    assert_eq!((&setting.users()[&jane]["read"], &setting.users()[&jane]["write"]), (&json!(institute), &json!("")));
    setting.refused(&["users", "approve", &jane, "--write", institute], 1, "has rights already");
    assert!(setting.run(&["users", "approve", &jane, "--read", institute]).contains("has the rights"));

    // Who has got rights meanwhile does not lose them.
    setting.run(&["users", "set", &joe, "--read", institute]);
    setting.refused(&["users", "approve", &joe, "--read", "elsewhere"], 1, "has rights already");
    assert_eq!(setting.users()[&joe]["read"], institute);
    setting.run(&["users", "reject", &joe]);
    assert!(!setting.waits(&joe));
    assert_eq!(setting.users()[&joe]["read"], institute);
}

#[tokio::test]
async fn an_account_that_may_be_a_strangers_gets_no_rights() {
    let setting = Setting::new().await;
    let institute = setting.institute.as_str();
    let jane = setting.signed_up("jane").await;
    let unconfirmed = "the sign-up is not confirmed, so somebody else may have made this account";
    setting.refused(&["users", "add", &jane, "--read", institute], 1, unconfirmed);
    setting.refused(&["users", "set", &jane, "--write", institute], 1, unconfirmed);
    setting.refused(&["users", "set", &jane, "--no-read", "--add-group", "lake-staff"], 1, unconfirmed);
    setting.refused(&["users", "approve", &jane, "--read", institute], 1, unconfirmed);
    let file = setting.file("users.csv", format!("email,read\n{jane},{institute}\n").as_bytes());
    let said = setting.run_with(&["users", "import", &file, "--yes"], "");
    assert!(said.code == 1 && said.stdout.contains("Done 0, not done 1."), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("not confirmed"), "{}", said.stdout);
    let user = &setting.users()[&jane];
    assert_eq!(
        (&user["read"], &user["write"], &user["groups"], &user["status"], &user["emailVerified"]),
        (&json!(""), &json!(""), &json!([]), &json!("UNCONFIRMED"), &json!(false))
    );

    // What gives nothing stays possible.
    setting.run(&["users", "set", &jane, "--no-read", "--no-write", "--name", "Jane"]);
    setting.run(&["users", "disable", &jane]);
    setting.run(&["users", "enable", &jane]);

    // Confirmed by an operator, the address is still nobody's.
    let joe = setting.signed_up("joe").await;
    let confirm = setting.pool.admin_confirm_sign_up().user_pool_id(&setting.outputs.user_pool_id).username(&joe);
    confirm.send().await.unwrap();
    let unverified = "the address is not verified, so somebody else may have made this account";
    setting.refused(&["users", "approve", &joe, "--read", institute], 1, unverified);
    setting.refused(&["users", "add", &joe], 1, unverified);

    // The code from the mail, as the local Cognito has it.
    let confirm = setting.pool.confirm_sign_up().client_id(&setting.outputs.client_id).username(&jane);
    confirm.confirmation_code("123456").send().await.unwrap();
    setting.run(&["users", "approve", &jane, "--read", institute]);
    setting.refused(&["users", "set", &jane, "--remove-group", "lake-staf"], 1, "lake-staf");
    setting.run(&["users", "set", &jane, "--add-group", "lake-staff"]);
    let user = &setting.users()[&jane];
    assert_eq!((&user["read"], &user["groups"]), (&json!(institute), &json!(["lake-staff"])));
}

#[tokio::test]
async fn a_domain_has_one_rule() {
    let setting = Setting::new().await;
    let (institute, domain) = (setting.institute.as_str(), setting.domain.as_str());
    let rule = || {
        let rules = setting.json(&["domains", "list"]);
        rules.as_array().unwrap().iter().find(|rule| rule["name"] == domain).cloned()
    };
    let set = ["domains", "set", domain, "--institute", institute, "--read"];
    setting.refused(&set, 1, "there is no terminal to ask for confirmation: use --yes");
    assert_eq!(rule(), None);
    let said = setting.run(&[&set[..], &["--yes"]].concat());
    assert!(said.contains(&format!("an address @{domain} reads all messages of `{institute}`")), "{said}");
    let made = rule().unwrap();
    assert_eq!((&made["institute"], &made["read"], &made["write"]), (&json!(institute), &json!(true), &json!(false)));
    assert_eq!(made.get("provider"), None);

    let upper = domain.to_uppercase();
    let said = setting.run(&["domains", "set", &upper, "--institute", institute, "--write", "--provider", "Okta", "--yes"]);
    assert!(said.contains("Before: Everybody who signs up"), "{said}");
    let made = rule().unwrap();
    assert_eq!((&made["read"], &made["write"], &made["provider"]), (&json!(false), &json!(true), &json!("Okta")));

    // A name that programs take for a number is one institute's own here, and is warned of.
    let said = setting.run_with(&["domains", "set", domain, "--institute", "1e5", "--read", "--yes"], "");
    assert!(said.code == 0 && said.stderr.contains("The institute `1e5` looks like a number"), "{}", said.stderr);
    setting.run(&["domains", "remove", domain]);
    assert_eq!(rule(), None);
    setting.refused(&["domains", "remove", domain], 1, "there is no rule");
    setting.refused(&["domains", "set", domain, "--institute", institute, "--yes"], 2, "--read");
    setting.refused(&["domains", "set", "jane@a.example", "--institute", institute, "--read"], 2, "an e-mail domain is");
    setting.refused(&["domains", "set", domain, "--institute", "a b", "--read"], 2, "not an institute");
}

#[tokio::test]
async fn the_lakes_staff_are_users_of_a_pool_of_their_own() {
    let setting = Setting::new().await;
    let eve = setting.address("eve");
    assert!(
        setting.run(&["users", "add", "--staff", &eve, "--name", "Eve"]).contains("is one of the lake's staff: name none → Eve.")
    );
    assert_eq!(setting.mails(&eve).await.len(), 1);
    setting.run(&["users", "invite", "--staff", &eve]);
    assert_eq!(setting.mails(&eve).await.len(), 2);
    // Two pools: neither knows the other's users.
    assert!(!setting.users().contains_key(&eve));
    setting.refused(&["users", "set", &eve, "--sign-out"], 1, "there is no user");
    setting.run(&["users", "add", &setting.address("jane"), "--no-invitation"]);
    let staff = || {
        let listed = setting.json(&["users", "--staff", "list"]);
        let of_test: Vec<_> = listed
            .as_array()
            .unwrap()
            .iter()
            .filter(|it| it["email"].as_str().unwrap().ends_with(&setting.domain))
            .cloned()
            .collect();
        assert_eq!(of_test.len(), 1, "{of_test:?}");
        of_test[0].clone()
    };
    assert_eq!((&staff()["email"], &staff()["name"], &staff()["enabled"]), (&json!(eve), &json!("Eve"), &json!(true)));
    let table = setting.run(&["users", "list", "--staff"]);
    assert!(table.contains("lake staff") && table.contains(&eve) && !table.contains("write"), "{table}");

    setting.run(&["users", "--staff", "disable", &eve]);
    assert_eq!(staff()["enabled"], false);
    setting.run(&["users", "enable", "--staff", &eve]);
    let set = setting.json(&["users", "set", "--staff", &eve, "--name", "Eva", "--sign-out"]);
    assert_eq!((&set["user"]["name"], &set["signedOut"], &set["user"]["enabled"]), (&json!("Eva"), &json!(true), &json!(true)));
    // No attribute of that pool is an institute.
    let pool = setting.outputs.staff_user_pool_id.as_deref().unwrap();
    let described = setting.pool.describe_user_pool().user_pool_id(pool).send().await.unwrap();
    let attributes = described.user_pool().unwrap().schema_attributes().iter().filter_map(|attribute| attribute.name());
    assert_eq!(attributes.filter(|name| name.contains("read") || name.contains("write")).count(), 0);
    setting.pool.admin_delete_user().user_pool_id(pool).username(&eve).send().await.unwrap();
}

#[tokio::test]
async fn changes_of_rights_and_rules_are_in_the_account_without_names() {
    let setting = Setting::new().await;
    let (email, institute) = (setting.address("ann"), setting.institute.clone());
    setting.run(&["users", "add", &email, "--name", "Ann Elk", "--read", &institute, "--no-invitation"]);
    setting.run(&["users", "set", &email, "--write", &institute]);
    setting.run(&["users", "disable", &email]);
    setting.run(&["domains", "set", &setting.domain, "--institute", &institute, "--read", "--yes"]);
    setting.run(&["domains", "remove", &setting.domain]);
    let found = setting.json(&["accounting", "--institute", &institute, "--from", "1h"]);
    let found = found.as_array().unwrap();
    let of = |action: &str| -> Vec<String> {
        let entries = found.iter().filter(|it| it["action"] == action);
        entries.map(|it| format!("{} {}", it["outcome"].as_str().unwrap(), it["changes"].as_str().unwrap_or_default())).collect()
    };
    assert_eq!(of("user"), [format!("created read none → {institute}"), format!("changed write none → {institute}")]);
    assert_eq!(of("rule"), ["rule-made read"]);
    let user = found.iter().find(|it| it["action"] == "user").unwrap();
    assert!(user["operator"].as_str().unwrap().starts_with("arn:aws"), "{user}");

    // By the person: what an institute's account does not name as well.
    let sub = user["changed"].as_str().unwrap();
    let csv = setting.run(&["accounting", "--person", sub, "--from", "1h", "--csv"]);
    assert!(csv.starts_with("at,action,outcome,subject,") && csv.contains(",user,signed-out,"), "{csv}");
    assert!(!csv.contains("Ann") && !csv.contains(&setting.domain), "{csv}");
    let table = setting.run(&["accounting", "--person", sub, "--from", "1h"]);
    assert!(table.contains("signed-out"), "{table}");
    assert_eq!(setting.run_with(&["accounting"], "").code, 2);
}
