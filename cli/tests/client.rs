//! What a user of a hospital does with `sluice`: the real binary against the local system.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that panics has failed"
)]

#[path = "client/doctor.rs"]
mod doctor;
#[path = "client/finding.rs"]
mod finding;
#[path = "client/held.rs"]
mod held;
#[path = "client/hold.rs"]
mod hold;
#[path = "client/person.rs"]
mod person;
#[path = "client/schema.rs"]
mod schema;
#[path = "client/scripted.rs"]
mod scripted;
#[path = "client/terminal.rs"]
mod terminal;
#[path = "client/uploads.rs"]
mod uploads;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_cognitoidentityprovider::types::{
    AttributeType, ExplicitAuthFlowsType, MessageActionType, SoftwareTokenMfaConfigType, UserPoolMfaType,
};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use client::aws::Aws;
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use person::{Ended, Person, root};
use scripted::{accepted, http, scripted, shut_out, token_of};

const DEADLINE: Duration = Duration::from_secs(90);

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// An ID token with another end, which nobody has signed.
fn with_end(token: &str, seconds: i64) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    claims["exp"] = json!(seconds);
    format!("{}.{}.{}", parts[0], BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2])
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn a_user_signs_in_and_out() {
    let person = Person::new("inout").await;
    person.run(&["whoami"]).expect(1, "nobody is signed in: `sluice login` does that");
    person.login(&[], "Wrong-password-1").expect(1, "the sign-in was refused: Incorrect username or password");
    assert!(!person.session_file().exists());
    person.run(&["login", "--deployment", "deployment.json"]).expect(3, "no terminal for the password prompt");

    let signed_in = person.login(&[], &person.password).expect(0, "");
    assert!(signed_in.text().contains(&person.institute), "{}", signed_in.text());
    assert_eq!((mode(&person.session_file()), mode(&person.path("config/sluice"))), (0o600, 0o700));
    let kept = std::fs::read_to_string(person.session_file()).unwrap();
    let passwords = person.outputs.users.iter().map(|user| user.password.expose_secret());
    for secret in passwords.chain([person.password.as_str()]) {
        assert!(!kept.contains(secret));
    }

    let who = person.run(&["whoami", "--json"]).expect(0, "").json();
    assert_eq!((text(&who["email"]), text(&who["read"])), (person.email.as_str(), person.institute.as_str()));
    assert_eq!(text(&who["apiUrl"]), person.outputs.api_url);
    // Elsewhere nobody is signed in.
    let elsewhere = person.command(&["whoami"]).env("SLUICE_SESSION", person.path("other.json")).output().unwrap();
    person.ended(elsewhere).expect(1, "nobody is signed in");

    std::fs::copy(person.session_file(), person.path("copy.json")).unwrap();
    person.run(&["logout"]).expect(0, "");
    assert!(!person.session_file().exists());
    person.run(&["logout"]).expect(0, "");
    person.run(&["list"]).expect(1, "nobody is signed in");

    // Whoever has a copy of the file cannot go on with it for longer than the ID token lives.
    std::fs::copy(person.path("copy.json"), person.session_file()).unwrap();
    person.change_session(|session| session["idToken"] = with_end(text(&session["idToken"]), 1_000).into());
    person.run(&["whoami"]).expect(1, "sign in again with `sluice login`");
}

#[tokio::test]
async fn signing_in_again_needs_neither_the_address_nor_the_deployment() {
    let person = Person::signed_in("again").await;
    // A deployment on AWS, as far as the session knows; the local one is looked up anew.
    person.change_session(|session| session["deployment"]["clientId"] = "another".into());
    person.sign_in_again(&[], &person.password).expect(0, "");
    assert_eq!(text(&person.session()["deployment"]["clientId"]), person.outputs.client_id);
}

#[tokio::test]
async fn the_lakes_staff_sign_in_to_a_pool_of_their_own() {
    let nurse = Person::new("nurse").await;
    let staff = Person::of_staff("staff").await;
    staff.login(&[], &staff.password).expect(1, "the sign-in was refused");
    nurse.login(&["--staff"], &nurse.password).expect(1, "the sign-in was refused");
    assert!(!staff.session_file().exists() && !nurse.session_file().exists());

    let table = staff.login(&["--staff"], &staff.password).expect(0, "").text();
    assert!(table.contains("lake staff, of no institute") && !table.contains("may read"), "{table}");
    let who = staff.run(&["whoami", "--json"]).expect(0, "").json();
    assert_eq!((text(&who["pool"]), text(&who["email"])), ("lake-staff", staff.email.as_str()));
    let deployment = &staff.session()["deployment"];
    assert_eq!(deployment["userPoolId"].as_str(), staff.outputs.staff_user_pool_id.as_deref());
    // The tokens are renewed, exchanged and revoked at that pool.
    let before = text(&staff.session()["idToken"]).to_owned();
    staff.change_session(|session| session["idToken"] = with_end(&before, 1_000).into());
    staff.run(&["whoami"]).expect(0, "");
    assert!(text(&staff.session()["idToken"]) != before);
    assert_eq!(staff.run(&["credentials"]).expect(0, "").json()["Version"], 1);

    // Without a name, or with the same, it is that sign-in again; another account is sought among the institutes' users.
    staff.sign_in_again(&[], &staff.password).expect(0, "");
    staff.sign_in_again(&[&staff.email], &staff.password).expect(0, "");
    assert_eq!(staff.run(&["whoami", "--json"]).expect(0, "").json()["pool"], "lake-staff");
    staff.sign_in_again(&[&nurse.email], &nurse.password).expect(0, "");
    let who = staff.run(&["whoami", "--json"]).expect(0, "").json();
    assert_eq!((text(&who["pool"]), text(&who["read"])), ("institutes", nurse.institute.as_str()));
    staff.sign_in_again(&[&staff.email], &staff.password).expect(1, "the sign-in was refused");
    staff.sign_in_again(&[&staff.email, "--staff"], &staff.password).expect(0, "");
    staff.run(&["logout"]).expect(0, "");
    assert!(!staff.session_file().exists());
}

#[tokio::test]
async fn a_temporary_password_is_replaced() {
    let mut person = Person::new("temporary").await;
    let cognito = Cognito::new(root(&person.outputs).config());
    person.email = format!("new-{}", person.email);
    cognito
        .admin_create_user()
        .user_pool_id(&person.outputs.user_pool_id)
        .username(&person.email)
        .user_attributes(AttributeType::builder().name("email").value(&person.email).build().unwrap())
        .message_action(MessageActionType::Suppress)
        .temporary_password("Temporary-1234")
        .send()
        .await
        .unwrap();
    person.login(&[], "Temporary-1234").expect(1, "the password is temporary: a new one is needed");
    person.login(&[], "Temporary-1234\nLasting-password-1").expect(0, "");
    person.login(&[], "Temporary-1234").expect(1, "the sign-in was refused");
    let who = person.login(&["--json"], "Lasting-password-1").expect(0, "").json();
    assert_eq!(text(&who["write"]), "");
    person.message("a.hl7", "DOE");
    let refused = person.run(&["send", "a.hl7"]).expect(1, "0 accepted, 1 refused, 0 left");
    assert!(refused.text().contains("403 Forbidden"), "{}", refused.text());
}

/// Signs in with a password, waits for the secret of an authenticator, and gives the code that it shows.
fn set_up_authenticator(person: &Person, flags: &[&str]) -> (Ended, totp_rs::Totp) {
    let mut arguments = vec!["login", person.email.as_str(), "--password-stdin", "--deployment", "deployment.json"];
    arguments.extend(flags);
    let mut child = person.command(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}", person.password).unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut uri = String::new();
    stderr.read_line(&mut uri).unwrap();
    assert!(uri.contains(&format!("otpauth://totp/Sluice:{}?secret=", person.email)), "{uri}");
    let totp = totp(uri.split_once("secret=").unwrap().1.split('&').next().unwrap());
    writeln!(stdin, "{}", code(&totp)).unwrap();
    drop(stdin);
    (person.ended(child.wait_with_output().unwrap()), totp)
}

#[tokio::test]
async fn a_second_factor_is_set_up_and_asked_for() {
    let person = Person::new("totp").await;
    let (ended, totp) = set_up_authenticator(&person, &["--set-up-totp"]);
    ended.expect(0, "");

    person.login(&[], &person.password).expect(1, "a code from the authenticator app is needed");
    person.login(&[], &format!("{}\n000000", person.password)).expect(1, "the code is wrong");
    person.login(&[], &format!("{}\n{}", person.password, code(&totp))).expect(0, "");
}

#[tokio::test]
async fn a_pool_that_demands_a_second_factor_gets_one_at_the_first_sign_in() {
    let mut person = Person::new("mfa").await;
    let aws = root(&person.outputs);
    let cognito = Cognito::new(aws.config());
    let pool = cognito.create_user_pool().pool_name(&person.institute).send().await.unwrap();
    let pool_id = pool.user_pool().unwrap().id().unwrap().to_owned();
    let client = cognito
        .create_user_pool_client()
        .user_pool_id(&pool_id)
        .client_name("sluice")
        .explicit_auth_flows(ExplicitAuthFlowsType::AllowUserSrpAuth)
        .explicit_auth_flows(ExplicitAuthFlowsType::AllowRefreshTokenAuth)
        .send()
        .await
        .unwrap();
    cognito
        .set_user_pool_mfa_config()
        .user_pool_id(&pool_id)
        .mfa_configuration(UserPoolMfaType::On)
        .software_token_mfa_configuration(SoftwareTokenMfaConfigType::builder().enabled(true).build())
        .send()
        .await
        .unwrap();
    let user = sluice::local::users::create_user(&aws, &pool_id, &person.email, "", "").await.unwrap();
    person.password = user.password.expose_secret().to_owned();
    person.outputs.user_pool_id = pool_id.clone();
    person.outputs.client_id = client.user_pool_client().unwrap().client_id().unwrap().to_owned();
    std::fs::write(person.path("deployment.json"), serde_json::to_string(&person.outputs).unwrap()).unwrap();

    let (ended, totp) = set_up_authenticator(&person, &[]);
    ended.expect(0, "");
    person.login(&[], &format!("{}\n{}", person.password, code(&totp))).expect(0, "");
    cognito.delete_user_pool().user_pool_id(&pool_id).send().await.unwrap();
}

#[tokio::test]
async fn files_are_sent_once_and_the_bad_ones_are_named() {
    let person = Person::signed_in("send").await;
    person.message("a.hl7", "DOE");
    person.message("b.hl7", "ROE");
    std::fs::write(person.path("empty.hl7"), "").unwrap();
    std::fs::File::create(person.path("large.hl7")).unwrap().set_len(65 << 20).unwrap();
    std::fs::write(person.path("random"), format!("no HL7 {}", person.institute)).unwrap();
    let umlaut = person.message("latin1.hl7", "M\u{fc}LLER");
    let latin1: Vec<u8> = umlaut.chars().map(|it| u8::try_from(u32::from(it)).unwrap()).collect();
    std::fs::write(person.path("latin1.hl7"), latin1).unwrap();

    let files = ["a.hl7", "empty.hl7", "large.hl7", "latin1.hl7", "b.hl7", "random", "missing.hl7"];
    let mut arguments = vec!["send", "--any", "--json", "--wait"];
    arguments.extend(files);
    let sent = person.run(&arguments).expect(1, "").json();
    let rows = sent["files"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| text(&row["file"])).collect::<Vec<_>>(), files);
    let found: Vec<_> = rows.iter().map(|row| (text(&row["fate"]), row["state"].as_str())).collect();
    let refused = ("refused", None);
    let parsed = ("accepted", Some("parsed"));
    assert_eq!(found, [parsed, refused, refused, refused, parsed, ("accepted", Some("error")), refused]);
    assert_eq!((&sent["accepted"], &sent["refused"], &sent["left"]), (&json!(3), &json!(4), &json!(0)));
    let answers: Vec<_> = [1, 2, 3, 6].map(|row: usize| text(&rows[row]["answer"])).into();
    assert_eq!(answers[0], "the file is empty");
    assert_eq!(answers[1], "too large: a message may have at most 64 MiB");
    assert!(answers[2].starts_with("400 Bad Request") && answers[2].contains("not valid UTF-8"), "{}", answers[2]);
    assert!(answers[3].contains("No such file"), "{}", answers[3]);

    // The journal knows them by what is in them, and holds none of it.
    let again = person.run(&["send", "--json", "a.hl7", "b.hl7"]).expect(0, "").json();
    assert!(again["files"].as_array().unwrap().iter().all(|row| row["answer"] == "sent before"));
    assert!(!format!("{:?}", person.journal()).contains("DOE"));
    let folder = person.path("state/sluice/sent");
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
    let again = person.run(&["send", "--json", "--again", "a.hl7"]).expect(0, "").json();
    assert_eq!(
        (text(&again["files"][0]["answer"]), &again["accepted"], &again["before"]),
        ("stored before", &json!(0), &json!(1))
    );

    // By any name that the other commands take, and by no other.
    person.run(&["send", "--charset", "foo", "latin1.hl7"]).expect(2, "unknown character set");
    let charset = person.run(&["send", "--charset", "8859/1", "--wait=60", "--json", "latin1.hl7"]).expect(0, "").json();
    assert_eq!(charset["files"][0]["status"], "stored");
    let id = text(&charset["files"][0]["messageId"]);
    assert_eq!(person.run(&["get", id]).expect(0, "").text(), umlaut);

    let mut piped = person.command(&["send", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(person.message("c.hl7", "POE").as_bytes()).unwrap();
    let table = person.ended(piped.wait_with_output().unwrap()).expect(0, "1 accepted, 0 refused, 0 left").text();
    assert!(table.contains("202 Accepted"), "{table}");
    person.run(&["send", "--charset", "a\rb", "a.hl7"]).expect(2, "unknown character set");
}

/// Starts to send the folder `many`, and waits until some of it is accepted.
fn start_sending(person: &Person) -> Child {
    let child = person.command(&["send", "--json", "--concurrency", "2", "many"]).spawn().unwrap();
    let began = Instant::now();
    while person.journal().len() < 5 {
        assert!(began.elapsed() < DEADLINE, "nothing is accepted");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn an_interrupted_send_resumes_where_it_stopped() {
    const FILES: usize = 110;
    let person = Person::signed_in("many").await;
    std::fs::create_dir(person.path("many")).unwrap();
    for number in 0..FILES {
        person.message(&format!("many/{number:03}.hl7"), "DOE");
    }

    // Ctrl-C: what is under way is finished, and the journal is what was reported.
    let child = start_sending(&person);
    signal(&child, Signal::INT);
    let ended = person.ended(child.wait_with_output().unwrap()).expect(1, "Finishing the messages under way");
    let report = ended.json();
    let accepted = usize::try_from(report["accepted"].as_u64().unwrap()).unwrap();
    assert_eq!(person.journal().len(), accepted);
    assert!(accepted < FILES && report["refused"] == 0, "{report}");
    assert_eq!(report["left"], FILES - accepted);
    let in_order = report["files"].as_array().unwrap().iter().map(|row| row["fate"] == "accepted");
    assert_eq!(in_order.filter(|it| *it).count(), accepted);

    // Killed: nothing that the journal has is sent again.
    std::thread::sleep(Duration::from_millis(20));
    let mut child = person.command(&["send", "--json", "--concurrency", "2", "many"]).spawn().unwrap();
    let began = Instant::now();
    while person.journal().len() < accepted + 5 {
        assert!(began.elapsed() < DEADLINE, "nothing more is accepted");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let journal = person.journal();
    assert!(journal.len() < FILES);

    let report = person.run(&["send", "--json", "--wait", "--concurrency", "8", "many"]).expect(0, "").json();
    assert_eq!(report["accepted"].as_u64().unwrap() + report["before"].as_u64().unwrap(), FILES as u64);
    let rows = report["files"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["answer"] == "sent before").count(), journal.len());
    assert!(rows.iter().all(|row| row["status"] == "stored"), "{report}");

    // Two pages.
    let listed = person.run(&["list", "--all", "--json"]).expect(0, "").text();
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed.len(), FILES);
    for entry in &journal {
        let found = listed.iter().find(|message| message["messageId"] == entry["messageId"]).unwrap();
        assert_eq!(found["submissions"], 1, "{found}");
    }
}

#[tokio::test]
async fn the_bytes_that_were_sent_are_read_back() {
    let person = Person::signed_in("raw").await;
    let message = person.message("a.hl7", "M\u{fc}LLER");
    let sent: Vec<u8> = message.replace('\r', "\r\n").chars().map(|character| character as u8).collect();
    std::fs::write(person.path("a.hl7"), &sent).unwrap();
    let answer = person.run(&["send", "--charset", "iso-8859-1", "--wait", "--json", "a.hl7"]).expect(0, "").json();
    let id = text(&answer["files"][0]["messageId"]);
    assert_eq!(person.run(&["get", id]).expect(0, "").text(), message);
    assert_eq!(person.run(&["get", id, "--raw"]).expect(0, "").stdout, sent);
    person.run(&["get", id, "--raw", "--json", "-o", "copy.bin"]).expect(0, "copy.bin");
    assert_eq!(std::fs::read(person.path("copy.bin")).unwrap(), sent);
    person.run(&["get", id, "--raw", "--format", "json"]).expect(2, "--format");
}

#[tokio::test]
async fn messages_are_read_back() {
    let person = Person::signed_in("read").await;
    let message = person.message("a.hl7", "DOE");
    let mut large = person.message("large.hl7", "ROE");
    for number in 0..60_000 {
        large.push_str(&format!("OBX|{number}|ST|GLU^Glucose^L|1|{number}|mg/dL|70-105|N|||F\r"));
    }
    std::fs::write(person.path("large.hl7"), &large).unwrap();
    let sent = person.run(&["send", "--wait", "--json", "--concurrency", "1", "a.hl7", "large.hl7"]).expect(0, "").json();
    let [id, large_id] = [0, 1].map(|row: usize| text(&sent["files"][row]["messageId"]));

    let status = person.run(&["status", id, "--json"]).expect(0, "").json();
    assert_eq!((&status[0]["status"], &status[0]["state"]), (&json!("stored"), &json!("parsed")));
    let table = person.run(&["status", "--wide", id, large_id]).expect(0, "").text();
    assert!(table.contains(id) && table.contains(large_id), "{table}");

    assert_eq!(person.run(&["get", id]).expect(0, "").text(), message);
    person.run(&["get", id, "--output", "copy.hl7"]).expect(0, "copy.hl7");
    assert_eq!(std::fs::read_to_string(person.path("copy.hl7")).unwrap(), message);
    assert_eq!(person.path("copy.hl7").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let rendition = person.run(&["get", id, "--format", "json"]).expect(0, "").json();
    assert!(rendition.to_string().contains("DOE"));
    assert_eq!(person.run(&["get", large_id]).expect(0, "").text(), large);
    // By way of S3: it is more than a Lambda function can answer.
    let rendition = person.run(&["get", large_id, "--format", "json"]).expect(0, "");
    assert!(rendition.stdout.len() > 6 << 20 && rendition.json().is_object(), "{}", rendition.stdout.len());

    let none = "0".repeat(64);
    let error = format!("error: {none}: 404 Not Found: the institute has no message with this id");
    person.run(&["get", &none, "-o", "none.hl7"]).expect(1, &error);
    assert!(!person.path("none.hl7").exists());
    person.run(&["status", &none, id]).expect(1, "404 Not Found");
    person.run(&["get", "not-an-id"]).expect(2, "64 hexadecimal digits");
    person.run(&["get", id, "-o", "nowhere/a.hl7"]).expect(1, "writing nowhere/a.hl7");

    let lines = |arguments: &[&str]| -> Vec<Value> {
        let text = person.run(arguments).expect(0, "").text();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&["list", "--json"]);
    assert_eq!(all.len(), 2);
    assert_eq!(all[1]["controlId"], format!("{}-a.hl7", person.institute), "newest first");
    assert_eq!(lines(&["list", "--json", "--type", "ADT^A01"]).len(), 2);
    assert_eq!(lines(&["list", "--json", "--type", "ORU"]).len(), 0);
    assert_eq!(lines(&["list", "--json", "--to", "2026-01-01"]).len(), 0);
    assert_eq!(lines(&["list", "--json", "--from", text(&all[0]["receivedAt"])]).len(), 1);
    let table = person.run(&["list", "--limit", "1", "--wide"]).expect(0, "There are more than these 1").text();
    assert!(table.contains("ADT^A01") && table.contains(text(&all[0]["messageId"])), "{table}");
    person.run(&["list", "--from", "some day"]).expect(2, "invalid value");
}

#[tokio::test]
async fn an_expired_token_is_renewed() {
    let person = Person::signed_in("renew").await;
    person.message("a.hl7", "DOE");
    let before = text(&person.session()["idToken"]).to_owned();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();

    // Too short a life for a request.
    person.change_session(|session| session["idToken"] = with_end(&before, now + 60i64).into());
    std::fs::set_permissions(person.session_file(), PermissionsExt::from_mode(0o644)).unwrap();
    person.run(&["whoami"]).expect(0, "");
    let renewed = text(&person.session()["idToken"]).to_owned();
    assert!(renewed != before && mode(&person.session_file()) == 0o600);

    // The API knows better than this machine's clock.
    person.change_session(|session| session["idToken"] = with_end(&before, now + 86_400).into());
    person.run(&["send", "--wait", "a.hl7"]).expect(0, "1 accepted");
    assert_eq!(person.run(&["list", "--json"]).expect(0, "").text().lines().count(), 1);

    person.change_session(|session| {
        session["idToken"] = with_end(&before, now).into();
        session["refreshToken"] = "a.b.c".into();
    });
    person.message("b.hl7", "ROE");
    person.run(&["send", "b.hl7"]).expect(1, "error: the sign-in has ended: sign in again with `sluice login`");
}

#[tokio::test]
async fn the_lakes_staff_see_the_status_of_an_institutes_messages_and_not_their_content() {
    let (nurse, other) = (Person::signed_in("overseen").await, Person::signed_in("other").await);
    nurse.message("a.hl7", "DOE");
    let sent = nurse.run(&["send", "--wait", "--json", "a.hl7"]).expect(0, "").json();
    let id = text(&sent["files"][0]["messageId"]);
    let institute = nurse.institute.as_str();

    let staff = Person::of_staff("overseer").await;
    staff.login(&["--staff"], &staff.password).expect(0, "");
    let is_unified = nurse.outputs.stack_output("Authorization").unwrap() == "unified";
    // API Gateway's own authorizer knows the institutes' users only.
    let shut_out = if is_unified { "403 Forbidden: lake staff see which messages an institute has" } else { "401 Unauthorized" };
    let let_in: &[&Person] = if is_unified { &[&staff, &nurse] } else { &[&nurse] };
    for person in let_in {
        let listed = person.run(&["list", "--institute", institute, "--json"]).expect(0, "").text();
        let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((listed.len(), text(&listed[0]["messageId"])), (1, id));
        let status = person.run(&["status", "--institute", institute, id, "--json"]).expect(0, "").json();
        assert_eq!((&status[0]["messageId"], &status[0]["status"]), (&json!(id), &json!("stored")));
    }
    staff.run(&["get", id]).expect(1, shut_out);
    staff.run(&["list"]).expect(1, shut_out);
    staff.message("b.hl7", "ROE");
    let table = staff.run(&["send", "b.hl7"]).expect(1, "0 accepted, 1 refused").text();
    assert!(table.contains(shut_out), "{table}");
    staff.run(&["release", "--all"]).expect(1, shut_out);
    other.run(&["list", "--institute", institute]).expect(1, "403 Forbidden");
    other.run(&["status", "--institute", institute, id]).expect(1, "");
    staff.run(&["list", "--institute", "a/b"]).expect(2, "--institute");
    if is_unified {
        staff.run(&["status", "--institute", institute, &id[..8]]).expect(0, "");
        let nothing =
            staff.run(&["list", "--institute", "no-such-institute"]).expect(0, "no messages of institute no-such-institute");
        assert!(nothing.stderr.contains("A name that no institute has") && nothing.stdout.is_empty(), "{}", nothing.stderr);
    }
}

#[tokio::test]
async fn a_reader_is_told_who_may_submit_and_release() {
    let mut person = Person::new("mayread").await;
    if person.outputs.stack_output("Authorization").unwrap() != "unified" {
        // There the API itself refuses, and says why.
        return;
    }
    person.email = format!("reader-{}", person.email);
    let (aws, pool) = (root(&person.outputs), person.outputs.user_pool_id.clone());
    let user = sluice::local::users::create_user(&aws, &pool, &person.email, &person.institute, "").await.unwrap();
    person.password = user.password.expose_secret().to_owned();
    person.login(&[], &person.password).expect(0, "");
    person.message("a.hl7", "DOE");
    let may = format!("403 Forbidden: the account may read the messages of {}, and neither submit nor release", person.institute);
    let table = person.run(&["send", "a.hl7"]).expect(1, "0 accepted, 1 refused").text();
    assert!(table.contains(&may), "{table}");
    person.run(&["release", "--all"]).expect(1, &may);
    person.run(&["release", &"0".repeat(64)]).expect(1, &may);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_user_is_told_the_possible_reasons() {
    let person = Person::signed_in("shutout").await;
    // A token that has ended, though this machine's clock says otherwise.
    let before = text(&person.session()["idToken"]).to_owned();
    let (url, requests) = scripted(vec![shut_out(), http("200 OK", "", r#"{"messages":[]}"#)]).await;
    person.asks_at(&url);
    person.run_async(&["list"]).await.expect(0, &format!("There are no messages of institute {}.", person.institute));
    let tokens: Vec<_> = requests.await.unwrap().iter().map(|request| token_of(request).unwrap()).collect();
    assert!(tokens.len() == 2 && tokens[0].ends_with(&before) && tokens[1] != tokens[0]);

    // A user who may not do it: one more try, and no more than one for all of many files.
    let means = "403 Forbidden: not signed in any more, or not allowed: `sluice whoami`";
    let (url, requests) = scripted(vec![shut_out(); 2]).await;
    person.asks_at(&url);
    person.run_async(&["list"]).await.expect(1, means);
    assert_eq!(requests.await.unwrap().len(), 2);
    for file in ["a.hl7", "b.hl7", "c.hl7"] {
        person.message(file, "DOE");
    }
    let (url, requests) = scripted(vec![shut_out(); 4]).await;
    person.asks_at(&url);
    let files = ["send", "--concurrency", "1", "a.hl7", "b.hl7", "c.hl7"];
    let table = person.run_async(&files).await.expect(1, "0 accepted, 3 refused").text();
    assert_eq!(table.matches(means).count(), 3, "{table}");
    let tokens: Vec<_> = requests.await.unwrap().iter().map(|request| token_of(request).unwrap()).collect();
    assert!(tokens.len() == 4 && tokens[0] != tokens[1] && tokens[1] == tokens[2] && tokens[2] == tokens[3]);

    // What the API itself refuses is final: it knew the user.
    let problem = r#"{"title":"Forbidden","status":403,"detail":"the user may not read"}"#;
    let (url, requests) = scripted(vec![http("403 Forbidden", "Content-Type: application/problem+json\r\n", problem)]).await;
    person.asks_at(&url);
    person.run_async(&["list"]).await.expect(1, "403 Forbidden: the user may not read");
    assert_eq!(requests.await.unwrap().len(), 1);

    // Nobody is signed in any more, which the user pool says.
    person.change_session(|session| session["refreshToken"] = "a.b.c".into());
    let (url, requests) = scripted(vec![shut_out()]).await;
    person.asks_at(&url);
    person.run_async(&["list"]).await.expect(1, "the sign-in has ended: sign in again with `sluice login`");
    assert_eq!(requests.await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_messages_of_a_batch_are_sent_one_by_one() {
    let person = Person::signed_in("batch").await;
    let messages = ["a.hl7", "b.hl7", "c.hl7"].map(|file| person.message(file, "DOE"));
    let batch = format!("FHS|^~\\&\rBHS|^~\\&\r{}BTS|4\rFTS|1\r", messages.concat());
    std::fs::write(person.path("batch.hl7"), batch).unwrap();
    let refusal = r#"{"title":"Bad request","status":400,"detail":"not this one"}"#;
    let took = http("202 Accepted", "", &accepted());
    let refused = http("400 Bad Request", "Content-Type: application/problem+json\r\n", refusal);
    let (url, requests) = scripted(vec![took.clone(), refused, took.clone(), took]).await;
    person.asks_at(&url);

    let send = ["send", "--json", "--concurrency", "1", "batch.hl7"];
    let first = person.run_async(&send).await.expect(1, "").json();
    let rows = first["files"].as_array().unwrap();
    let found: Vec<_> = rows.iter().map(|row| (text(&row["file"]), text(&row["fate"]))).collect();
    assert_eq!(found, [("batch.hl7#1", "accepted"), ("batch.hl7#2", "refused"), ("batch.hl7#3", "accepted")]);
    assert_eq!((&first["accepted"], &first["refused"], &first["left"]), (&json!(2), &json!(1), &json!(0)));
    let problem = json!({ "file": "batch.hl7", "code": "bts-count", "declared": 4, "found": 3 });
    assert_eq!(first["batchProblems"], json!([problem]));

    // The same command goes on with what is left, and a message of a batch is known in a file of its own, too.
    let files = ["send", "--concurrency", "1", "batch.hl7", "a.hl7"];
    let ended = person.run_async(&files).await.expect(0, "1 accepted, 3 sent or stored before, 0 refused, 0 left");
    assert!(ended.stderr.contains("Look at batch.hl7: BTS-1 says that the batch has 4 messages; found: 3."), "{}", ended.stderr);
    assert_eq!(ended.text().matches("sent before").count(), 3, "{}", ended.text());
    let requests = requests.await.unwrap();
    for (request, message) in requests.iter().zip([&messages[0], &messages[1], &messages[2], &messages[1]]) {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        // MSH-18 says what it is in.
        assert!(head.contains("content-type: application/hl7-v2\r\n"), "{head}");
        assert_eq!(body, message);
    }
}

#[tokio::test]
async fn a_batch_is_stored_message_by_message() {
    let person = Person::signed_in("batches").await;
    let messages = ["one", "two"].map(|file| person.message(file, "M\u{fc}LLER"));
    // Of a file with a byte order mark all messages are in UTF-8, whatever MSH-18 says.
    let batch = messages.concat().replace("|2.5.1\r", "|2.5.1||||||8859/1\r");
    std::fs::write(person.path("marked.hl7"), format!("\u{feff}{batch}")).unwrap();
    std::fs::write(person.path("large.hl7"), format!("{}NTE|{}\r{}", messages[0], "x".repeat(64 << 20), messages[1])).unwrap();
    let sent = person.run(&["send", "--wait", "--json", "marked.hl7"]).expect(0, "").json();
    for (row, message) in sent["files"].as_array().unwrap().iter().zip(batch.split_inclusive("F\r")) {
        assert_eq!((&row["status"], &row["state"]), (&json!("stored"), &json!("parsed")));
        assert_eq!(person.run(&["get", text(&row["messageId"])]).expect(0, "").text(), message);
    }
    let large = person.run(&["send", "--json", "large.hl7"]).expect(1, "").json();
    assert_eq!(large["files"][0]["answer"], "too large: a message may have at most 64 MiB");
}

#[tokio::test]
async fn an_interrupted_wait_fails_and_a_message_that_the_api_lost_is_resent() {
    let person = Person::signed_in("waits").await;
    person.message("a.hl7", "DOE");
    let status = |status: &str| {
        let at = "2026-01-02T03:04:05Z";
        let status = json!({ "messageId": "0".repeat(64), "status": status, "submissions": 1, "receivedAt": at });
        http("200 OK", "Content-Type: application/json\r\n", &json!({ "statuses": [status] }).to_string())
    };
    let (url, requests) = scripted(vec![http("202 Accepted", "", &accepted()), status("queued")]).await;
    person.asks_at(&url);
    let child = person.command(&["send", "--wait", "a.hl7"]).spawn().unwrap();
    requests.await.unwrap();
    signal(&child, Signal::INT);
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    person.ended(ended.await.unwrap()).expect(1, "1 accepted, 0 refused, 0 left");

    let took = || http("202 Accepted", "", &accepted());
    let answers = vec![status("unknown"), took(), status("processing"), status("stored")];
    let (other_url, requests) = scripted(answers).await;
    // The journal is the API's: the same one under another port.
    let journal = std::fs::read_dir(person.path("state/sluice/sent")).unwrap().next().unwrap().unwrap().path();
    let lines = std::fs::read(&journal).unwrap();
    std::fs::remove_file(&journal).unwrap();
    person.change_session(|session| session["deployment"]["apiUrl"] = other_url.as_str().into());
    person.run(&["send", "none.hl7"]).expect(1, "1 refused");
    let journal = std::fs::read_dir(person.path("state/sluice/sent")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&journal, lines).unwrap();
    let table = person.run_async(&["send", "--wait", "a.hl7"]).await.expect(0, "1 accepted").text();
    assert!(table.contains("202 Accepted, submitted again") && table.contains("stored"), "{table}");
    let paths = |requests: Vec<String>| requests.iter().map(|it| it.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(paths(requests.await.unwrap()), ["/er7/status", "/er7", "/er7/status", "/er7/status"]);

    // Once, and no more: then somebody has to look at it.
    let answers = vec![took(), status("unknown"), took(), status("failed")];
    let (url, requests) = scripted(answers).await;
    person.asks_at(&url);
    person.run_async(&["send", "--wait", "a.hl7"]).await.expect(1, "resends messages that were accepted but not stored");
    assert_eq!(paths(requests.await.unwrap()), ["/er7", "/er7/status", "/er7", "/er7/status"]);
}

#[tokio::test]
async fn an_answer_from_another_server_is_no_acceptance() {
    let person = Person::signed_in("proxy").await;
    person.message("a.hl7", "DOE");
    let (url, _) = scripted(vec![http("409 Conflict", "", "{}")]).await;
    person.asks_at(&url);
    let table = person.run_async(&["send", "a.hl7"]).await.expect(1, "0 accepted, 1 refused").text();
    assert!(table.contains("not an answer of the API"), "{table}");
    assert!(person.journal().is_empty());
}

#[tokio::test]
async fn an_api_that_stays_busy_ends_the_sending() {
    let person = Person::signed_in("busy").await;
    for file in ["a.hl7", "b.hl7"] {
        person.message(file, "DOE");
    }
    let busy = http("429 Too Many Requests", "Retry-After: 0\r\n", "");
    let (url, requests) = scripted(vec![busy.clone(); 7]).await;
    person.asks_at(&url);
    let ended = person.run_async(&["send", "--concurrency", "1", "a.hl7", "b.hl7"]).await;
    assert!(ended.stderr.contains("0 accepted, 0 refused, 2 left"), "{}", ended.stderr);
    ended.expect(1, "error: a.hl7: 429 Too Many Requests");
    assert_eq!(requests.await.unwrap().len(), 7);

    // And while its outcome is waited for.
    let answers = [vec![http("202 Accepted", "", &accepted())], vec![busy; 7]].concat();
    let (url, requests) = scripted(answers).await;
    person.asks_at(&url);
    person
        .run_async(&["send", "--wait", "a.hl7"])
        .await
        .expect(1, "error: asking for the status of the messages: 429 Too Many Requests");
    assert_eq!(requests.await.unwrap().len(), 8);
}

/// Waits until a command has its handler of Ctrl-C.
async fn until_it_listens(child: &Child) {
    let began = Instant::now();
    if !Path::new("/proc/self/status").exists() {
        return tokio::time::sleep(Duration::from_secs(3)).await;
    }
    while began.elapsed() < DEADLINE {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        if u64::from_str_radix(caught, 16).unwrap() & 0b10 != 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never listened");
}

#[tokio::test]
async fn a_second_interrupt_ends_a_command_that_waits_for_its_input() {
    let person = Person::signed_in("stuck").await;
    let mut child = person.command(&["send", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    // Written to and left open: the end of it never comes.
    child.stdin.as_mut().unwrap().write_all(b"MSH|").unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    until_it_listens(&child).await;
    signal(&child, Signal::INT);
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("Ctrl-C again stops at once"), "{line}");
    signal(&child, Signal::INT);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) && child.try_wait().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Harmless where it has ended.
    let _ = child.kill();
    assert_eq!(child.wait().unwrap().code(), Some(1), "it waited for the end of its input");
}

#[tokio::test]
async fn sending_waits_when_it_is_told_to_and_goes_on_after_a_lost_connection() {
    let person = Person::signed_in("patient").await;
    person.message("a.hl7", "DOE");
    let accepted = accepted();
    let (url, requests) = scripted(vec![
        http("429 Too Many Requests", "Retry-After: 1\r\n", ""),
        String::new(),
        http("503 Service Unavailable", "", ""),
        http("202 Accepted", "Content-Type: application/json\r\n", &accepted),
    ])
    .await;
    person.asks_at(&url);
    let began = Instant::now();
    person.run_async(&["send", "a.hl7"]).await.expect(0, "1 accepted");
    assert!(began.elapsed() > Duration::from_millis(1_000 + 1_000 + 2_000), "no pause was made");
    assert!(requests.await.unwrap().iter().all(|request| request.starts_with("POST /er7 ")));
    assert_eq!(person.journal().len(), 1);
}

#[tokio::test]
async fn an_interrupt_ends_a_pause_and_a_second_one_a_request() {
    let person = Person::signed_in("impatient").await;
    person.message("a.hl7", "DOE");
    let (url, requests) = scripted(vec![http("429 Too Many Requests", "Retry-After: 100\r\n", "")]).await;
    person.asks_at(&url);
    let child = person.command(&["send", "a.hl7"]).spawn().unwrap();
    requests.await.unwrap();
    signal(&child, Signal::INT);
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    person.ended(ended.await.unwrap()).expect(1, "0 accepted, 0 refused, 1 left");

    // An API that does not answer: the connection is taken, and nothing comes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    person.asks_at(&url);
    let mut child = person.command(&["send", "a.hl7"]).spawn().unwrap();
    let _connection = listener.accept().await.unwrap();
    signal(&child, Signal::INT);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("Ctrl-C again stops at once"), "{line}");
    let began = Instant::now();
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(10), "it ended when the request did");
    assert!(person.journal().is_empty());
}

#[tokio::test]
async fn a_download_outlives_its_token() {
    let person = Person::signed_in("outlive").await;
    let message = person.message("a.hl7", "DOE");
    let id = domain::Er7::canonical(&message).unwrap().message_id();
    let half = http("200 OK", "", &message).replace("JANE||19800101|F\r", "");
    let (url, requests) = scripted(vec![
        http("401 Unauthorized", "", r#"{"message":"Unauthorized"}"#),
        http("307 Temporary Redirect", "Location: HERE/bucket/one?X-Amz-Signature=a\r\n", ""),
        http("403 Forbidden", "", "<Error><Code>ExpiredToken</Code></Error>"),
        http("307 Temporary Redirect", "Location: HERE/bucket/two?X-Amz-Signature=b\r\n", ""),
        half,
        http("429 Too Many Requests", "Retry-After: 1\r\n", ""),
        http("200 OK", "", &message),
    ])
    .await;
    person.asks_at(&url);
    let began = Instant::now();
    person.run_async(&["get", id.as_str(), "-o", "a.copy"]).await.expect(0, "a.copy");
    assert!(began.elapsed() > Duration::from_millis(1_500), "neither pause was made");
    assert_eq!(std::fs::read_to_string(person.path("a.copy")).unwrap(), message);

    let requests = requests.await.unwrap();
    let asked: Vec<_> = requests.iter().map(|it| it.split(' ').nth(1).unwrap().split('?').next().unwrap()).collect();
    let path = format!("/er7/{id}");
    assert_eq!(asked, [&path, &path, "/bucket/one", &path, "/bucket/two", "/bucket/two", "/bucket/two"]);
    let token = |request: &String| {
        request.lines().find_map(|line| line.to_ascii_lowercase().starts_with("authorization: ").then(|| line.to_owned()))
    };
    let tokens: Vec<_> = requests.iter().map(token).collect();
    assert!(tokens[0].is_some() && tokens[1] != tokens[0] && tokens[3] != tokens[1] && tokens[3].is_some());
    assert!([2, 4, 5, 6].iter().all(|number: &usize| tokens[*number].is_none()), "S3 saw the token");

    // Something else than the message that was asked for leaves nothing.
    let (url, _) = scripted(vec![http("200 OK", "", "MSH|another")]).await;
    person.asks_at(&url);
    person.run_async(&["get", id.as_str(), "-o", "b.copy"]).await.expect(1, "the downloaded bytes do not match the message id");
    assert!(!person.path("b.copy").exists());
    let names: Vec<_> = std::fs::read_dir(person.home.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".tmp")), "{names:?}");
}

/// The authenticator of a secret.
fn totp(secret: &str) -> totp_rs::Totp {
    totp_rs::Builder::new().with_secret(totp_rs::Secret::try_from_base32(secret).unwrap()).build().unwrap()
}

fn code(totp: &totp_rs::Totp) -> String {
    totp.generate_current().to_string()
}

#[tokio::test]
async fn the_users_own_credentials_read_the_lake() {
    let person = Person::signed_in("credentials").await;
    let message = person.message("a.hl7", "DOE");
    person.run(&["send", "--wait", "a.hl7"]).expect(0, "");
    let given = person.run(&["credentials"]).expect(0, "").json();
    assert_eq!(given["Version"], 1);
    assert!(text(&given["Expiration"]).parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::now());
    let member = |name: &str| text(&given[name]).to_owned();
    let [key, secret, token] = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(member);
    let credentials = aws_sdk_s3::config::Credentials::new(key, secret, Some(token), None, "sluice credentials");
    let endpoint_url = person.outputs.endpoint_url.as_deref().unwrap();
    let user = Aws::with_credentials(endpoint_url, &person.outputs.region, credentials).s3();

    let prefix = format!("source={}/", person.institute);
    let root = root(&person.outputs).s3();
    let listed = root.list_objects_v2().bucket(&person.outputs.bucket).prefix(prefix).send().await.unwrap();
    let key = listed.contents().iter().find_map(|it| it.key().filter(|key| key.ends_with(".hl7"))).unwrap();
    let object = user.get_object().bucket(&person.outputs.bucket).key(key).send().await.unwrap();
    assert_eq!(object.body.collect().await.unwrap().to_vec(), message.as_bytes());
}

/// Queues a message of this person's institute with a token that opens for nobody, as a defect would, and waits until it is held.
async fn held(person: &Person, control_id: &str) -> String {
    let message = format!("MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01^ADT_A01|{control_id}|P|2.5.1\rPID|1||7||DOE\r");
    let message_id = domain::Er7::canonical(&message).unwrap().message_id().to_string();
    let envelope = json!({
        "v": 1, "submissionId": ulid::Ulid::generate().to_string(), "messageId": message_id, "source": person.institute,
        "receivedAt": domain::Timestamp::from(std::time::SystemTime::now()), "subject": "s", "issuer": "i", "token": "bm90IHNlYWxlZA==",
        "payload": { "inline": base64::prelude::BASE64_STANDARD.encode(&message) },
    });
    let sqs = aws_sdk_sqs::Client::new(root(&person.outputs).config());
    sqs.send_message().queue_url(&person.outputs.queue_url).message_body(envelope.to_string()).send().await.unwrap();
    until_status(person, &message_id, "held").await;
    message_id
}

async fn until_status(person: &Person, message_id: &str, status: &str) {
    let began = Instant::now();
    loop {
        let said = person.run(&["status", message_id, "--json"]);
        if said.code == Some(0) && said.json()[0]["status"] == status {
            return;
        }
        assert!(began.elapsed() < DEADLINE, "{message_id} is not {status}: {}", said.stderr);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn held_messages_are_released_by_id_or_all_at_once() {
    let person = Person::signed_in("release").await;
    assert_eq!(person.run(&["release", "--all"]).expect(0, "").text().trim(), "Nothing is held.");
    let (first, second, third) = (held(&person, "1").await, held(&person, "2").await, held(&person, "3").await);
    let status = person.run(&["status", &first, "--json"]).expect(0, "").json();
    assert_eq!((text(&status[0]["held"]["reason"]), text(&status[0]["error"]["code"])), ("denied", "TokenInvalid"));

    let table = person.run(&["release", &first]).expect(0, "").text();
    assert!(table.contains(&first) && table.contains("on its way again"), "{table}");
    until_status(&person, &first, "stored").await;
    person.run(&["release", &first]).expect(1, "Not held");
    person.run(&["release", &"0".repeat(64)]).expect(1, "no message with this id");

    let nothing = person.run(&["release", "--all", "--reason", "expired", "--json"]).expect(0, "").json();
    assert_eq!(nothing, json!({ "released": [], "refused": [] }));
    let all = person.run(&["release", "--all", "--reason", "denied", "--json"]).expect(0, "").json();
    let released: Vec<_> = all["released"].as_array().unwrap().iter().map(|it| text(&it["messageId"]).to_owned()).collect();
    assert_eq!(released, [second.clone(), third.clone()], "in the order in which they were held");
    for id in [&second, &third] {
        until_status(&person, id, "stored").await;
    }
    person.run(&["release"]).expect(2, "required");
    person.run(&["release", "--all", &first]).expect(2, "cannot be used with");
}
