//! What is wrong with a policy folder is said before anything is deployed: all of it, each with its line and column.

#![cfg(test)]

mod common;

use std::fs;
use std::path::Path;

use common::{folder, policies};
use serde_json::{Value, json};
use sluice_policies::{Policies, store_template};
use tempfile::TempDir;

/// A copy of Sluice's own folder, to be spoilt.
fn copy() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn errors(folder: &Path) -> Vec<String> {
    match Policies::load(folder) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// Puts one text in place of the first of another in the file.
fn spoil(folder: &Path, file: &str, old: &str, new: &str) {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    assert!(text.contains(old), "{file}: {old}");
    fs::write(folder.join(file), text.replacen(old, new, 1)).unwrap();
}

/// The place (`line:column`) of a text in a file as it is now.
fn place(folder: &Path, file: &str, text: &str) -> String {
    let all = fs::read_to_string(folder.join(file)).unwrap();
    let before = all.split_once(text).unwrap_or_else(|| panic!("{file}: {text}")).0;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    format!("{}:{column}", before.matches('\n').count() + 1)
}

#[test]
fn sluices_own_policy_folder_is_valid() {
    assert_eq!(errors(&folder()), [""; 0]);
    assert_eq!(policies().iter().map(|policy| policy.file.as_str()).collect::<Vec<_>>().len(), 5);
}

/// One thing spoilt in one file: where the error must point, and what it must say.
#[test]
fn every_error_has_its_line_and_column() {
    let staff = "lake-staff.cedar";
    let mut missed = Vec::new();
    for (file, old, new, at, says) in [
        // Cedar
        (staff, "permit (", "permit principal (", "principal (", "unexpected token"),
        (staff, "Sluice::LakeStaff", "Sluice::LakeStuff", "Sluice::LakeStuff", "Sluice::LakeStuff"),
        (staff, "Action::\"list\"", "Action::\"lst\"", "Sluice::Action::\"lst\"", "Sluice::Action::\"lst\""),
        (staff, "\n);", "\n) when { principal.read == resource };", "principal.read", "`read`"),
        (staff, "\n);", "\n) when { principal == resource };", "@id", "policy is impossible"),
        (staff, "\n);", "\n) when { 1 };", "1 };", "expected Bool"),
        (staff, "\n);", "\n) when { false };", "@id", "policy is impossible"),
        (
            staff,
            "[Sluice::Action::\"list\", Sluice::Action::\"status\"]",
            "Sluice::Action::\"read\"",
            "@id",
            "unable to find an applicable action",
        ),
        (staff, "@id(\"lake-staff-oversee\")\n", "", "permit", "`@id`"),
        (staff, "@id(\"lake-staff-oversee\")", "@id(\"lake,staff\")", "@id", "`@id`"),
        (staff, "@id(\"lake-staff-oversee\")", "@id(\"\")", "@id", "`@id`"),
        (staff, "@id(\"lake-staff-oversee\")", "@id(\"partners-submit\")", "", "the id `partners-submit` stands twice"),
        (staff, "@id(\"lake-staff-oversee\")", "@id(\"PartnersSubmit\")", "", "too much alike"),
        (staff, "principal is Sluice::LakeStaff", "principal == ?principal", "@id", "template"),
        // The schema
        ("schema.cedarschema", "entity Institute;", "entity Institute", "entity InstituteUser", "unexpected token"),
        ("schema.cedarschema", "entity LakeStaff;", "entity LakeStaff in [Nobody];", "Nobody", "Nobody"),
        // The routes
        ("routes.json", "\"namespace\": \"Sluice\",", "\"namespace\": \"Sluice\"", "\"routes\"", "expected `,` or `}`"),
        ("routes.json", "\"namespace\": \"Sluice\"", "\"namespace\": \"a b\"", "\"namespace\"", "`a b` is not a namespace"),
        ("routes.json", "\"namespace\"", "\"namspace\"", "", "unknown field `namspace`"),
        (
            "routes.json",
            "\"action\": \"submit\"",
            "\"action\": \"submitt\"",
            "\"action\": \"submitt\"",
            "Sluice::Action::\"submitt\"",
        ),
        ("routes.json", "\"POST /er7\"", "\"POST er7\"", "\"POST er7\"", "is not a route key"),
        ("routes.json", "\"POST /er7\"", "\"ANY /er7\"", "\"ANY /er7\"", "is not a route key"),
        ("routes.json", "\"HEAD /er7/{messageId}\"", "\"GET /er7/{messageId}\"", "", "`GET /er7/{messageId}` stands here twice"),
        ("routes.json", "\"HEAD /er7/{messageId}\"", "\"GET /er7/{id}\"", "\"GET /er7/{messageId}\"", "are the same route"),
        (
            "routes.json",
            "\"submit\", \"resource\": { \"type\": \"Institute\"",
            "\"submit\", \"resource\": { \"type\": \"Hospital\"",
            "\"type\": \"Hospital\"",
            "no entity type `Hospital`",
        ),
        (
            "routes.json",
            "\"submit\", \"resource\": { \"type\": \"Institute\"",
            "\"submit\", \"resource\": { \"type\": \"LakeStaff\"",
            "\"action\": \"submit\"",
            "no provider's principal does",
        ),
        (
            "routes.json",
            "[\"principal.write\"] } },\n    \"POST",
            "[\"principal.wrote\"] } },\n    \"POST",
            "\"principal.wrote\"",
            "`wrote`",
        ),
        (
            "routes.json",
            "[\"principal.write\"] } },\n    \"POST",
            "[\"path.source\"] } },\n    \"POST",
            "\"path.source\"] } },\n    \"POST",
            "no parameter `source`",
        ),
        ("routes.json", "[\"principal.write\"] } },\n    \"POST", "[\"write\"] } },\n    \"POST", "\"write\"", "neither"),
        ("routes.json", "[\"principal.write\"] } },\n    \"POST", "[] } },\n    \"POST", "\"id\": []", "needs an id"),
        // The providers
        ("providers.json", "\"type\": \"LakeStaff\"", "\"type\": \"Staff\"", "\"type\": \"Staff\"", "no entity type `Staff`"),
        (
            "providers.json",
            "\"type\": \"LakeStaff\"",
            "\"type\": \"InstituteUser\"",
            "\"type\": \"InstituteUser\", \"id\": \"sub\" }\n  }",
            "principals of one type",
        ),
        ("providers.json", "\"read\": {", "\"red\": {", "\"red\"", "has no `red`"),
        (
            "providers.json",
            "\"read\": { \"claim\": \"custom:read\", \"type\": \"Institute\" }",
            "\"read\": { \"claim\": \"custom:read\" }",
            "\"read\"",
            "is an entity",
        ),
        (
            "providers.json",
            "\"read\": { \"claim\": \"custom:read\", \"type\": \"Institute\" }",
            "\"read\": { \"claim\": \"custom:read\", \"type\": \"Partner\" }",
            "\"read\"",
            "is an entity",
        ),
        ("providers.json", "\"claim\": \"custom:read\", ", "", "\"read\"", "one of `claim` and `constant`"),
        (
            "providers.json",
            "\"claim\": \"custom:read\", ",
            "\"claim\": \"a\", \"constant\": \"b\", ",
            "\"read\"",
            "one of `claim` and `constant`",
        ),
        ("providers.json", "\"constant\": \"institute\", ", "\"constent\": \"institute\", ", "", "unknown field `constent`"),
        ("providers.json", "\"tokenUse\": [],", "", "", "missing field `tokenUse`"),
        (
            "providers.json",
            "{ \"type\": \"LakeStaff\", \"id\": \"sub\" }",
            "{ \"type\": \"LakeStaff\", \"id\": \"\" }",
            "\"id\": \"\"",
            "claim for its id",
        ),
    ] {
        let folder = copy();
        spoil(folder.path(), file, old, new);
        let found = errors(folder.path());
        let expected = if at.is_empty() { format!("{file}:") } else { format!("{file}:{}: ", place(folder.path(), file, at)) };
        let hit = found
            .iter()
            .any(|error| error.contains(says) && (error.starts_with(&expected) || !error.starts_with(file) && at.is_empty()));
        if !hit {
            missed.push(format!("{file}: {new}: expected {expected} … {says}, found {found:#?}"));
        }
        let placed =
            |error: &String| error.split(':').skip(1).take(2).all(|number| number.parse::<usize>().is_ok_and(|it| it > 0));
        assert!(found.iter().all(placed), "{found:#?}");
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn all_mistakes_in_a_folder_are_reported_at_once() {
    let folder = copy();
    spoil(folder.path(), "partners.cedar", "principal has write && ", "");
    spoil(folder.path(), "lake-staff.cedar", "Sluice::LakeStaff", "Sluice::Nobody");
    spoil(folder.path(), "routes.json", "\"submit\"", "\"send\"");
    spoil(folder.path(), "providers.json", "\"custom:read\", \"type\": \"Institute\"", "\"custom:read\", \"type\": \"Hospital\"");
    fs::write(
        folder.path().join("more.cedar"),
        "permit (principal, action, resource) when { };\nforbid (principal, actin, resource);\n",
    )
    .unwrap();
    let found = errors(folder.path());
    for file in ["partners.cedar", "lake-staff.cedar", "routes.json", "providers.json", "more.cedar"] {
        assert!(found.iter().any(|error| error.starts_with(file)), "{file}: {found:#?}");
    }
    assert!(!found.iter().any(|error| error.contains("no provider")), "no error is said twice in other words: {found:#?}");
    let mut sorted = found.clone();
    sorted.sort_by_key(|error| error.split(':').next().unwrap().to_owned());
    assert_eq!(found, sorted);
}

#[test]
fn a_missing_file_of_a_folder_is_named() {
    for file in ["schema.cedarschema", "routes.json", "providers.json"] {
        let folder = copy();
        fs::remove_file(folder.path().join(file)).unwrap();
        let found = errors(folder.path());
        assert!(found.iter().any(|error| error.starts_with(&format!("{file}:1:1: the file cannot be read"))), "{found:#?}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(errors(empty.path()).iter().any(|error| error.contains("there is no policy")));
    assert!(errors(&empty.path().join("nowhere")).iter().any(|error| error.contains("cannot be read")));
}

#[test]
fn a_policy_and_a_schema_fit_into_a_policy_store() {
    let folder = copy();
    let long = format!(
        "@id(\"long\")\npermit (principal, action, resource is Sluice::Institute) when {{ {} true }};",
        "true && ".repeat(1250)
    );
    fs::write(folder.path().join("long.cedar"), &long).unwrap();
    let found = errors(folder.path());
    assert!(found.iter().any(|error| error.starts_with("long.cedar:1:1: the policy has 10")), "{found:#?}");

    let folder = copy();
    let many: String = (0..6000).map(|number| format!("entity Additional{number:05};\n")).collect();
    spoil(folder.path(), "schema.cedarschema", "entity Institute;", &format!("entity Institute;\n{many}"));
    let found = errors(folder.path());
    assert!(found.iter().any(|error| error.starts_with("schema.cedarschema:1:1: the schema has ")), "{found:#?}");

    let folder = copy();
    let schema = folder.path().join("schema.cedarschema");
    fs::write(&schema, format!("{}\nnamespace Other {{ entity Thing; }}\n", fs::read_to_string(&schema).unwrap())).unwrap();
    assert!(errors(folder.path()).iter().any(|error| error.contains("several namespaces")));
}

#[test]
fn known_entities_are_checked_against_the_schema() {
    let institute = json!({ "uid": { "type": "Sluice::Institute", "id": "a" }, "attrs": {}, "parents": [] });
    let user = |attributes: Value| json!({ "uid": { "type": "Sluice::InstituteUser", "id": "jane" }, "attrs": attributes, "parents": [] });
    let read = json!({ "read": { "__entity": { "type": "Sluice::Institute", "id": "a" } } });
    for (entities, line) in [
        (json!([institute, user(read.clone())]), 0),
        (json!([institute, user(json!({ "reads": "a" }))]), 3),
        (json!([institute, user(json!({ "read": "a" }))]), 3),
        (json!([institute, institute]), 3),
        (json!([{ "uid": { "type": "Sluice::Hospital", "id": "a" }, "attrs": {}, "parents": [] }]), 2),
        (
            json!([{ "uid": { "type": "Sluice::Institute", "id": "a" }, "attrs": {}, "parents": [{ "type": "Sluice::Institute", "id": "b" }] }]),
            2,
        ),
        (json!({}), 1),
    ] {
        let folder = copy();
        let lines: Vec<String> = entities.as_array().into_iter().flatten().map(Value::to_string).collect();
        let text = if entities.is_array() { format!("[\n{}\n]", lines.join(",\n")) } else { entities.to_string() };
        fs::write(folder.path().join("entities.json"), text).unwrap();
        let found = errors(folder.path());
        assert_eq!(found.is_empty(), line == 0, "{entities}: {found:#?}");
        assert!(found.iter().all(|error| error.starts_with(&format!("entities.json:{line}:"))), "{entities}: {found:#?}");
    }
}

#[test]
fn the_store_has_the_schema_and_every_policy() {
    let policies = policies();
    let template = store_template(&policies);
    let resources = template["Resources"].as_object().unwrap();
    assert_eq!(resources.len(), 1 + policies.iter().count());
    let store = &resources["PolicyStore"];
    assert_eq!(store["Type"], "AWS::VerifiedPermissions::PolicyStore");
    assert_eq!(store["Properties"]["ValidationSettings"]["Mode"], "STRICT");
    let schema: Value = serde_json::from_str(store["Properties"]["Schema"]["CedarJson"].as_str().unwrap()).unwrap();
    assert!(schema["Sluice"]["actions"]["submit"].is_object());
    let submit = &resources["PolicyInstitutesSubmit"];
    assert_eq!(submit["Type"], "AWS::VerifiedPermissions::Policy");
    assert_eq!(submit["Properties"]["PolicyStoreId"], json!({ "Fn::GetAtt": ["PolicyStore", "PolicyStoreId"] }));
    let definition = &submit["Properties"]["Definition"]["Static"];
    assert_eq!(definition["Description"], "institutes-submit");
    assert!(definition["Statement"].as_str().unwrap().starts_with("@id(\"institutes-submit\")"));
    assert_eq!(template["Outputs"]["PolicyStoreId"]["Value"], json!({ "Fn::GetAtt": ["PolicyStore", "PolicyStoreId"] }));
    assert!(resources.keys().all(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric())));
}

/// The blocks of a language in the folder's README.
fn readme(language: &str) -> Vec<String> {
    let text = fs::read_to_string(folder().join("README.md")).unwrap();
    let blocks = text.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| Some(block.strip_prefix(language)?.strip_prefix('\n')?.to_owned())).collect()
}

#[test]
fn the_folder_in_the_readme_is_valid() {
    let folder = copy();
    let [providers, routes, entities] = readme("json").try_into().unwrap();
    for (name, text) in [("providers.json", providers), ("routes.json", routes), ("entities.json", entities)] {
        fs::write(folder.path().join(name), text).unwrap();
    }
    spoil(
        folder.path(),
        "schema.cedarschema",
        "entity InstituteUser =",
        "entity UserGroup, Group;\nentity InstituteUser in [UserGroup, Group] =",
    );
    spoil(folder.path(), "schema.cedarschema", "read?: Institute,", "read?: Institute, department?: String,");
    assert_eq!(errors(folder.path()), [""; 0]);
    let policies = fs::read_to_string(folder.path().join("institutes.cedar")).unwrap();
    let shown = readme("cedar");
    assert!(shown.iter().all(|policy| policies.contains(policy)) && !shown.is_empty());
}
