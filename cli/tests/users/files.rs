//! Users in files: import, export, backup and restore.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use aws_sdk_cognitoidentityprovider::types::AttributeType;
use serde_json::{Value, json};

use super::setting::Setting;

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
