//! One user after the other: who is added, changed, closed, invited; and the lake's staff.

use aws_sdk_cognitoidentityprovider::types::{AuthFlowType, ChallengeNameType};
use client::sign_in::exchange;
use serde_json::json;

use super::setting::{PASSWORD, Setting};

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
