//! What an operator asks of policies: the real binary, with tokens of the local system's users and folders of one's own.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use client::sign_in::sign_in;
use secrecy::ExposeSecret;
use serde_json::Value;
use sluice::Outputs;
use sluice::local::{UpOptions, up};
use tempfile::TempDir;

/// What the binary said.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    #[track_caller]
    fn expect(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "{}{}", self.stdout, self.stderr);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

fn run(folder: &Path, arguments: &[&str], stdin: &str) -> Said {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .env("SLUICE_SESSION", folder.join("session.json"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The command reads no more of it than the longest token has.
    let written = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    assert!(written.is_ok() || written.is_err_and(|it| it.kind() == std::io::ErrorKind::BrokenPipe));
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn own_policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workers/authorize/policies")
}

/// A copy of Sluice's own policies, to be changed.
fn copy_of_policies(folder: &TempDir) -> PathBuf {
    let copy = folder.path().join("policies");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(own_policies()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// A token in a file, and whoever asks with it.
struct Asking {
    folder: TempDir,
    token: String,
}

impl Asking {
    async fn of(pool: &str, client: &str, outputs: &Outputs, institute: &str) -> Self {
        let aws = outputs.local_aws().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_ascii_lowercase();
        let email = format!("{name}-{}@test.example", std::process::id());
        let user = sluice::local::users::create_user(&aws, pool, &email, institute, institute).await.unwrap();
        let token = sign_in(&aws, client, &user).await.unwrap().expose_secret().to_owned();
        fs::write(folder.path().join("token"), format!("{token}\n")).unwrap();
        Self { folder, token }
    }

    async fn user_of(institute: &str) -> Self {
        let outputs = up(UpOptions::default()).await.unwrap();
        Self::of(&outputs.user_pool_id, &outputs.client_id, &outputs, institute).await
    }

    async fn staff() -> Self {
        let outputs = up(UpOptions::default()).await.unwrap();
        let (pool, client) = outputs.staff_pool().unwrap();
        Self::of(pool, client, &outputs, "").await
    }

    /// Whatever is said, the token is not, nor its payload or signature.
    fn ask(&self, arguments: &[&str], stdin: &str) -> Said {
        let said = run(self.folder.path(), &[&["authorize"], arguments].concat(), stdin);
        for part in self.token.split('.') {
            assert!(!said.stdout.contains(part) && !said.stderr.contains(part));
        }
        said
    }

    fn about(&self, route: &str) -> Said {
        self.ask(&["--token-file", "token", "--explain", "--route", route], "")
    }
}

#[tokio::test]
async fn a_decision_is_explained_by_the_policies() {
    let user = Asking::user_of("policies-west").await;
    let explained = user.ask(&["--token-file", "token", "--route", "GET /er7/{id}", "--json"], "").expect(0, "").json();
    let found = ["provider", "action", "decision", "route"].map(|name| explained[name].as_str().unwrap());
    assert_eq!(found, ["institutes", "read", "allow", "GET /er7/{messageId}"]);
    assert_eq!(explained["resource"], r#"Sluice::Institute::"policies-west""#);
    assert_eq!(explained["policies"][0]["id"], "institutes-read");
    let policy = &explained["policies"][0];
    assert_eq!((policy["file"].as_str(), policy["effect"].as_str()), (Some("institutes.cedar"), Some("permit")));
    assert!(policy["text"].as_str().unwrap().contains("principal.read == resource"), "{policy}");

    let text = user.about("GET /er7/{id}").expect(0, "Decided by `institutes-read` (institutes.cedar), a permit:").stdout;
    let subject = explained["subject"].as_str().unwrap();
    assert!(text.contains(subject) && text.contains("    when { principal has read && principal.read == resource };"), "{text}");
    // Without --explain only the decision.
    let text = user.ask(&["--token-file", "token", "--route", "GET /er7/{id}"], "").expect(0, "allow").stdout;
    assert!(!text.contains("permit ("), "{text}");

    // Another institute's list: the policy that is about it, and why it did not permit it.
    let text = user.about("GET /institutes/policies-east/er7").expect(1, "deny").stdout;
    assert!(
        text.contains("Not by `institutes-read` (institutes.cedar), a permit: its scope or its conditions do not hold."),
        "{text}"
    );
    user.about("GET /institutes/policies-west/er7").expect(0, "allow");
    user.about("DELETE /er7/{id}").expect(1, "deny");

    let staff = Asking::staff().await;
    staff.about("GET /institutes/policies-west/er7").expect(0, "Decided by `lake-staff-oversee` (lake-staff.cedar), a permit:");
    staff.about("GET /er7/{id}").expect(1, "lake-staff");
    staff.about("POST /er7").expect(1, "deny");
}

#[tokio::test]
async fn a_token_comes_from_a_file_or_stdin_or_the_sign_in() {
    let user = Asking::user_of("policies-north").await;
    let route = ["--route", "POST /er7"];
    user.ask(&[&["--token-file", "-"], route.as_slice()].concat(), &format!("Bearer {}\n", user.token)).expect(0, "allow");
    user.ask(&[&["--token-file", "none"], route.as_slice()].concat(), "").expect(1, "reading none");
    user.ask(&[&["--token-file", "-"], route.as_slice()].concat(), "\n").expect(1, "- holds no token");
    user.ask(&route, "").expect(1, "nobody is signed in");

    let outputs = up(UpOptions::default()).await.unwrap();
    let writer = outputs.user("writer@general-hospital.example").unwrap();
    let signed_in = ["login", writer.email.as_str(), "--local", "--password-stdin"];
    run(user.folder.path(), &signed_in, &format!("{}\n", writer.password.expose_secret())).expect(0, "");
    user.ask(&route, "").expect(0, "general-hospital");
    user.ask(&["--route", "GET /er7"], "").expect(1, "deny");
}

#[tokio::test]
async fn an_invalid_token_is_refused_with_its_reason() {
    let user = Asking::user_of("policies-south").await;
    let (message, signature) = user.token.rsplit_once('.').unwrap();
    let mut signature = signature.to_owned();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    signature.replace_range(..1, first);
    let tampered = format!("{message}.{signature}");
    let asked = ["--token-file", "-", "--explain", "--route", "GET /er7/{id}"];
    user.ask(&asked, &tampered).expect(1, "the token's signature is wrong");
    let refused = user.ask(&[asked.as_slice(), &["--json"]].concat(), &tampered).expect(1, "").json();
    assert_eq!((refused["decision"].as_str(), refused["refused"].as_str()), (Some("refused"), Some("Signature")));
    user.ask(&asked, "a.b.c").expect(1, "the token is no JSON web token");
    user.ask(&asked, &"a".repeat(100_000)).expect(1, "the token is too large");
}

#[tokio::test]
async fn other_policies_than_the_deployed_ones_can_be_asked() {
    let user = Asking::user_of("policies-other").await;
    let copy = copy_of_policies(&user.folder);
    let asked = ["--token-file", "token", "--policies", "policies", "--explain", "--route", "GET /er7/{id}"];
    user.ask(&asked, "").expect(0, "institutes-read");
    let closed = "@id(\"closed\")\nforbid (principal, action == Sluice::Action::\"read\", resource);\n";
    fs::write(copy.join("closed.cedar"), closed).unwrap();
    user.ask(&asked, "").expect(1, "Decided by `closed` (closed.cedar), a forbid:");
    fs::write(copy.join("closed.cedar"), closed.replace("read", "raed")).unwrap();
    user.ask(&asked, "").expect(1, "closed.cedar:2:");
}

#[test]
fn an_invalid_route_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["authorize", "--route", "/er7"], "").expect(2, "expected a method and a path");
    run(folder.path(), &["authorize", "--explain"], "").expect(2, "--route");
}

#[test]
fn a_mistake_in_a_policy_folder_is_reported_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    run(here, &["policies", "check", own_policies().to_str().unwrap()], "").expect(0, "is valid: ");
    let copy = copy_of_policies(&folder);
    let checked = run(here, &["policies", "check", "policies", "--json"], "").expect(0, "").json();
    assert_eq!((&checked["valid"], checked["errors"].as_array().unwrap().len()), (&Value::Bool(true), 0));

    let staff = copy.join("lake-staff.cedar");
    let text = fs::read_to_string(&staff).unwrap();
    fs::write(&staff, text.replace("principal is Sluice::LakeStaff", "principal is Sluice::LakeStuff")).unwrap();
    let line = text.lines().position(|line| line.contains("principal is")).unwrap() + 1;
    run(here, &["policies", "check", "policies"], "").expect(1, &format!("lake-staff.cedar:{line}:"));
    let checked = run(here, &["policies", "check", "policies", "--json"], "").expect(1, "").json();
    assert_eq!(checked["valid"], false);
    let there = |error: &Value| error["file"] == "lake-staff.cedar" && error["line"] == line;
    assert!(checked["errors"].as_array().unwrap().iter().any(there), "{checked}");
    // Nothing is built or made of it.
    run(here, &["policies", "package", "policies", "--output", "authorizer.zip"], "").expect(1, "do not validate");
    run(here, &["policies", "template", "policies"], "").expect(1, "do not validate");
    assert!(!here.join("authorizer.zip").exists());
    run(here, &["policies", "check", "nowhere"], "").expect(1, "cannot be read");
}

#[test]
fn the_template_of_a_policy_store_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let policies = own_policies();
    let template = run(folder.path(), &["policies", "template", policies.to_str().unwrap()], "").expect(0, "").json();
    let resources = template["Resources"].as_object().unwrap();
    let of = |kind: &str| resources.values().filter(|it| it["Type"] == kind).count();
    assert_eq!(of("AWS::VerifiedPermissions::PolicyStore"), 1);
    let text = |path: PathBuf| fs::read_to_string(path).unwrap();
    let files = fs::read_dir(policies).unwrap().map(|it| it.unwrap().path());
    let cedar = files.filter(|path| path.extension().is_some_and(|it| it == "cedar"));
    let count: usize = cedar.map(|path| text(path).matches("@id(").count()).sum();
    assert_eq!(of("AWS::VerifiedPermissions::Policy"), count);
}

#[test]
fn an_authorizer_for_another_api_is_packaged_with_its_policies() {
    let folder = tempfile::tempdir().unwrap();
    copy_of_policies(&folder);
    let arguments = ["policies", "package", "policies", "--output", "authorizer.zip", "--json"];
    let made = run(folder.path(), &arguments, "").expect(0, "").json();
    let zip = folder.path().join("authorizer.zip");
    assert_eq!(
        (made["file"].as_str(), made["sizeBytes"].as_u64()),
        (Some("authorizer.zip"), Some(zip.metadata().unwrap().len()))
    );
    let archive = zip::ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    let names: Vec<_> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    for name in [
        "bootstrap",
        "policies/schema.cedarschema",
        "policies/routes.json",
        "policies/providers.json",
        "policies/institutes.cedar",
    ] {
        assert!(names.iter().any(|it| it == name), "{names:?}");
    }
    run(folder.path(), &["policies", "package", "policies"], "").expect(2, "--output");
    run(folder.path(), &["policies", "package", "policies", "-o", "a.zip", "--architecture", "arm64"], "").expect(2, "--release");
}

#[tokio::test]
async fn a_mistake_in_a_policy_folder_stops_a_deployment_before_anything_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let copy = copy_of_policies(&folder);
    let workspace = sluice::operator::workspace::Workspace::find().await.unwrap();
    // A target folder in which there is nothing: whatever was built would be seen there.
    let target = folder.path().join("target");
    let workspace = workspace.with_target(target.clone());
    let package = async || {
        let purpose = sluice::operator::package::Purpose::Local(sluice::operator::package::Profile::Dev);
        let packed =
            sluice::operator::package::package(&workspace, purpose, &copy, None, &sluice::output::Reporter::silent()).await;
        format!("{:#}", packed.unwrap_err())
    };
    fs::write(
        copy.join("partners.cedar"),
        "@id(\"broken\")\npermit (principal, action, resource)\nwhen { principal.nothing };\n",
    )
    .unwrap();
    assert!(package().await.contains("partners.cedar:3:"), "{}", package().await);
    fs::remove_file(copy.join("partners.cedar")).unwrap();
    let routes = fs::read_to_string(copy.join("routes.json")).unwrap();
    fs::write(copy.join("routes.json"), routes.replace("\"POST /er7\"", "\"POST /er8\"")).unwrap();
    assert!(package().await.contains("routes.json lacks `POST /er7`"), "{}", package().await);
    assert!(!target.exists());
}
