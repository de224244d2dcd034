//! Users who have signed up themselves: who gets rights, and by which rule.

use serde_json::json;

use super::setting::Setting;

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
