//! An institute's own segments have names: on this machine, and in the lake of a deployment that has a schema.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice::Outputs;
use sluice::local::{UpOptions, up};
use sluice::operator::deploy::{Options, Sources, With, deploy, destroy};
use sluice::operator::package::{Profile, Purpose, package};
use sluice::operator::workspace::Workspace;
use sluice::output::Reporter;

use super::person::{Person, root};
use super::text;

const EXAMPLE: &str = include_str!("../../../examples/z-segments/schema.toml");

/// The id of a message with a segment of the example, which is stored.
fn stored(person: &Person) -> String {
    let adt = person.message("plain.hl7", "DOE");
    std::fs::write(person.path("a.hl7"), format!("{adt}ZPI|1|x|de^German\r")).unwrap();
    let sent = person.run(&["send", "--wait", "--json", "a.hl7"]).expect(0, "").json();
    text(&sent["files"][0]["messageId"]).to_owned()
}

#[tokio::test]
async fn a_schema_names_the_segments_of_an_institute_where_messages_are_shown_and_exported() {
    let person = Person::signed_in("schema").await;
    std::fs::write(person.path("schema.toml"), EXAMPLE).unwrap();
    std::fs::write(person.path("bad.toml"), EXAMPLE.replace("[ZPI]", "[PID]")).unwrap();
    let id = &stored(&person);

    let tree = person.run(&["show", id, "--schema", "schema.toml"]).expect(0, "").text();
    for part in ["ZPI  Patient Additional Information", "Set ID - ZPI", "Preferred Language", "Text", "German"] {
        assert!(tree.contains(part), "{part}: {tree}");
    }
    assert!(!person.run(&["show", id]).expect(0, "").text().contains("Patient Additional"));
    let export = |more: &[&str]| -> Vec<Value> {
        let text = person.run(&[&["export", "--to", "-", "--table", "fields"], more].concat()).expect(0, "1 messages").text();
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.filter(|row| row["segment"] == "ZPI").map(|row| json!([row["field_name"], row["name"], row["value"]])).collect()
    };
    let language = "Preferred Language";
    let expected = [
        json!(["Set ID - ZPI", "Set ID - ZPI", "1"]),
        json!([null, null, "x"]),
        json!([language, "Identifier", "de"]),
        json!([language, "Text", "German"]),
    ];
    assert_eq!(export(&["--schema", "schema.toml"]), expected);
    assert_eq!(export(&[])[3], json!([null, null, "German"]));
    // A part of an export that has other names is not continued.
    std::fs::create_dir_all(person.path("all.csv.partial/part-00001.csv")).unwrap();
    person.run(&["export", "--to", "all.csv", "--table", "fields"]).expect(1, "part-00001.csv");
    person
        .run(&["export", "--to", "all.csv", "--table", "fields", "--schema", "schema.toml"])
        .expect(1, "holds what another export left");
    for command in [&["show", id][..], &["export", "--to", "-"]] {
        let ended = person.run(&[command, &["--schema", "bad.toml"]].concat()).expect(2, "bad.toml: line ");
        assert!(ended.text().is_empty() && ended.stderr.contains("a segment of your own is named Z"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn renditions_in_the_lake_have_the_names_of_the_deployments_schema() {
    let first = up(UpOptions::default()).await.unwrap();
    let (aws, workspace) = (root(&first), Workspace::find().await.unwrap());
    let schema = workspace.root().join("examples/z-segments/schema.toml");
    let mut sources = Vec::new();
    for schema in [None, Some(schema.as_path())] {
        let purpose = Purpose::Local(Profile::Dev);
        let packages = package(&workspace, purpose, &workspace.policies(), schema, &Reporter::silent()).await.unwrap();
        sources.push((packages.clone(), Sources::read(&workspace, packages).unwrap()));
    }
    let [(plain, _), (named, with_schema)] = sources.as_slice() else { panic!("two") };
    let changed = plain.iter().zip(named).filter(|(one, other)| one.key != other.key).map(|(one, _)| one.worker.name.as_str());
    assert_eq!(changed.collect::<Vec<_>>(), ["store", "tables"]);

    let stack = format!("schema{}", std::process::id());
    let parameters = BTreeMap::from([("PasswordSignIn".to_owned(), "true".to_owned())]);
    let options = Options { stack: stack.clone(), parameters, ..Options::default() };
    let outputs = deploy(&aws, with_schema, &options, &Reporter::silent()).await.unwrap().outputs;
    let person = Person::at(Outputs { root_key: first.root_key.clone(), ..outputs }, "named").await;
    person.login(&[], &person.password).expect(0, "");
    let id = stored(&person);
    let document = person.run(&["get", &id, "--format", "json"]).expect(0, "").json();
    let zpi = document["segments"].as_array().unwrap().iter().find(|it| it["segment"] == "ZPI").unwrap();
    assert_eq!(
        (&zpi["name"], &zpi["fields"][2]["name"]),
        (&json!("Patient Additional Information"), &json!("Preferred Language"))
    );
    assert_eq!(document["origin"]["messageId"], id.as_str());
    let er7 = person.run(&["get", &id]).expect(0, "").text();
    assert_eq!(hl7::read_json(document.to_string().as_bytes()).unwrap().as_str(), er7);

    destroy(&aws, &stack, With { users: true, data: true }, &Reporter::silent()).await.unwrap();
}
