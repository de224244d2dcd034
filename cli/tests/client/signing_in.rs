//! Signing in and out, and how a session is renewed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_cognitoidentityprovider::types::{
    AttributeType, ExplicitAuthFlowsType, MessageActionType, SoftwareTokenMfaConfigType, UserPoolMfaType,
};
use secrecy::ExposeSecret as _;

use super::person::{Ended, Person, root};
use super::scripted::{http, scripted, shut_out, token_of};
use super::{mode, text, with_end};

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

/// The authenticator of a secret.
fn totp(secret: &str) -> totp_rs::Totp {
    totp_rs::Builder::new().with_secret(totp_rs::Secret::try_from_base32(secret).unwrap()).build().unwrap()
}

fn code(totp: &totp_rs::Totp) -> String {
    totp.generate_current().to_string()
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
