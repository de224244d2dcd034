//! A policy folder of somebody else, with everything in it that a folder can have: groups, attributes of each kind, known
//! entities, action groups, policies that forbid and policies that cannot be evaluated.

#![cfg(test)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{issuers, token};
use serde_json::{Value, json};
use sluice_policies::{Decider, Decision, Engine, Policies};

const SCHEMA: &str = r#"
    entity Role, Folder;
    entity Team in [Team];
    entity Person in [Team, Role] = {
        name?: String, level?: Long, admin?: Bool, tags?: Set<String>, team?: Team, boss?: Person,
    };
    entity Document in [Folder] = { owner: Person };
    action use;
    action view, edit in [use] appliesTo { principal: [Person], resource: [Document] };
"#;

const POLICIES: &str = r#"
    @id("team") permit (principal in Team::"everybody", action in Action::"use", resource in Folder::"shared");
    @id("role") permit (principal in Role::"editor", action == Action::"edit", resource);
    @id("level") permit (principal, action == Action::"view", resource) when { principal has level && principal.level > 3 };
    @id("admin") permit (principal, action in Action::"use", resource) when { principal has admin && principal.admin };
    @id("name") permit (principal, action == Action::"view", resource) when { principal has name && principal.name like "J*" };
    @id("boss") permit (principal, action == Action::"view", resource)
    when { resource.owner has boss && principal == resource.owner.boss };
    @id("minutes") permit (principal, action == Action::"view", resource == Document::"minutes")
    when { principal == Document::"charter".owner };
    @id("nameless") permit (principal, action == Action::"edit", resource == Document::"charter") unless { principal has name };
    @id("blocked") forbid (principal, action, resource) when { principal has tags && principal.tags.contains("blocked") };
"#;

fn entities() -> Value {
    let reference = |kind: &str, id: &str| json!({ "type": kind, "id": id });
    let entity =
        |uid: Value, attributes: Value, parents: &[Value]| json!({ "uid": uid, "attrs": attributes, "parents": parents });
    let owned = |id: &str, owner: &str, parents: &[Value]| {
        entity(reference("Document", id), json!({ "owner": { "type": "Person", "id": owner } }), parents)
    };
    json!([
        entity(reference("Team", "north"), json!({}), &[reference("Team", "everybody")]),
        entity(reference("Person", "clerk"), json!({ "boss": { "type": "Person", "id": "chief" }, "level": 1 }), &[]),
        entity(reference("Person", "known"), json!({ "level": 9 }), &[reference("Team", "north")]),
        owned("plan", "clerk", &[reference("Folder", "shared")]),
        owned("secret", "clerk", &[]),
        owned("charter", "founder", &[]),
        owned("minutes", "clerk", &[]),
    ])
}

fn providers() -> Value {
    json!({
        "institutes": {
            "tokenUse": ["access"],
            "principal": { "type": "Person", "id": "username" },
            "attributes": {
                "name": { "claim": "name" },
                "level": { "claim": "level" },
                "admin": { "claim": "admin" },
                "tags": { "claim": "tags" },
                "team": { "claim": "team", "type": "Team" },
                "boss": { "constant": "chair", "type": "Person" },
            },
            "parents": [{ "type": "Team", "claim": "teams" }, { "type": "Role", "claim": "cognito:groups" }],
        },
    })
}

fn decider() -> Decider {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let document = json!({ "type": "Document", "id": ["path.document"] });
    let routes = json!({ "routes": {
        "GET /documents/{document}": { "action": "view", "resource": document },
        "PUT /documents/{document}": { "action": "edit", "resource": document },
    } });
    write("schema.cedarschema", SCHEMA);
    write("all.cedar", POLICIES);
    write("routes.json", &routes.to_string());
    write("providers.json", &providers().to_string());
    write("entities.json", &entities().to_string());
    let policies = Policies::load(folder.path()).unwrap_or_else(|errors| panic!("{errors}"));
    Decider::new(&issuers(None), policies, Engine::InProcess)
}

async fn ask(decider: &Decider, method: &str, document: &str, claims: &Value) -> Decision {
    let path = BTreeMap::from([("document".to_owned(), document.to_owned())]);
    let token = token("institutes", claims.clone());
    decider.decide(&token, &format!("{method} /documents/{{document}}"), &path).await.unwrap()
}

#[tokio::test]
async fn claims_groups_and_known_entities_decide_together() {
    let decider = decider();
    let may = |document, claims: Value| (("GET", document), claims);
    let edits = |document, claims: Value| (("PUT", document), claims);
    for (((method, document), claims), policies) in [
        // Attributes of each kind.
        (may("secret", json!({ "username": "x", "name": "Jane" })), &["name"][..]),
        (may("secret", json!({ "username": "x", "name": "Ann" })), &[]),
        (may("secret", json!({ "username": "x", "level": 4 })), &["level"]),
        (may("secret", json!({ "username": "x", "level": 3 })), &[]),
        (edits("secret", json!({ "username": "x", "admin": true })), &["admin"]),
        (edits("secret", json!({ "username": "x", "admin": false })), &[]),
        (may("secret", json!({ "username": "x", "level": 4, "tags": ["new", "blocked"] })), &["blocked"]),
        (may("secret", json!({ "username": "x", "level": 4, "tags": "blocked" })), &["blocked"]),
        (may("secret", json!({ "username": "x", "level": 4, "tags": [] })), &["level"]),
        // An empty claim is none.
        (edits("charter", json!({ "username": "x", "name": "" })), &["nameless"]),
        (edits("charter", json!({ "username": "x", "name": null, "level": "" })), &["nameless"]),
        (edits("charter", json!({ "username": "x", "name": "Jane" })), &[]),
        // Groups: one, several, none, and a group of groups that the folder knows.
        (edits("secret", json!({ "username": "x", "cognito:groups": ["reader", "editor"] })), &["role"]),
        (edits("secret", json!({ "username": "x", "cognito:groups": "editor" })), &["role"]),
        (edits("secret", json!({ "username": "x", "cognito:groups": ["reader"] })), &[]),
        (edits("secret", json!({ "username": "x", "cognito:groups": [] })), &[]),
        (edits("secret", json!({ "username": "x", "cognito:groups": null })), &[]),
        (edits("plan", json!({ "username": "x", "teams": ["north"] })), &["team"]),
        (edits("plan", json!({ "username": "x", "teams": ["south"] })), &[]),
        (edits("secret", json!({ "username": "x", "teams": ["north"] })), &[]),
        // What the folder knows of the caller, of others, and of what a policy names.
        (edits("plan", json!({ "username": "known" })), &["team"]),
        (may("secret", json!({ "username": "known", "level": 1 })), &["level"]),
        (may("secret", json!({ "username": "chief" })), &["boss"]),
        (may("secret", json!({ "username": "clerk" })), &[]),
        (may("minutes", json!({ "username": "founder" })), &["minutes"]),
        (may("minutes", json!({ "username": "x" })), &[]),
    ] {
        let decision = ask(&decider, method, document, &claims).await;
        assert_eq!(decision.policies, policies, "{method} {document} {claims}: {decision:?}");
        assert_eq!(decision.allowed, !policies.is_empty() && policies != ["blocked"], "{method} {document} {claims}");
    }
}

#[tokio::test]
async fn a_claim_of_the_wrong_type_decides_nothing() {
    let decider = decider();
    for claims in [
        json!({}),
        json!({ "username": "" }),
        json!({ "username": 7 }),
        json!({ "username": ["x"] }),
        json!({ "username": "x", "level": "4" }),
        json!({ "username": "x", "level": 4.5 }),
        json!({ "username": "x", "level": 1e30 }),
        json!({ "username": "x", "admin": "true" }),
        json!({ "username": "x", "admin": 1 }),
        json!({ "username": "x", "name": ["Jane"] }),
        json!({ "username": "x", "tags": [7] }),
        json!({ "username": "x", "tags": { "a": true } }),
        json!({ "username": "x", "team": ["north"] }),
        json!({ "username": "x", "teams": 7 }),
        json!({ "username": "x", "teams": [["north"]] }),
    ] {
        // They would be let in for their level, if the rest of the token were not looked at.
        let mut claims = claims;
        claims.as_object_mut().unwrap().entry("level").or_insert(json!(9));
        let decision = ask(&decider, "GET", "secret", &claims).await;
        assert!(!decision.allowed && decision.policies.is_empty(), "{claims}");
        let detail = decision.detail.unwrap();
        assert!(detail.starts_with("the token"), "{claims}: {detail}");
        assert!(!detail.contains("Jane") && !detail.contains("north"), "{detail}");
    }
}

#[tokio::test]
async fn a_policy_that_cannot_be_evaluated_is_named_and_lets_nobody_in() {
    let decider = decider();
    let decision = ask(&decider, "GET", "unheard-of", &json!({ "username": "chief" })).await;
    assert!(!decision.allowed);
    assert_eq!(decision.detail.as_deref(), Some("no policy allows it; policy boss could not be evaluated"));
    let decision = ask(&decider, "GET", "unheard-of", &json!({ "username": "x", "level": 9 })).await;
    assert_eq!((decision.allowed, decision.policies), (true, vec!["level".to_owned()]));
    assert_eq!(decision.detail.as_deref(), Some("policy boss could not be evaluated"));
}

#[tokio::test]
async fn only_texts_and_entities_go_to_the_api() {
    let claims = json!({
        "username": "x", "name": "Jane", "level": 9, "admin": true, "tags": ["new"], "team": "north", "teams": ["north"],
    });
    let decision = ask(&decider(), "GET", "secret", &claims).await;
    let names: Vec<&str> = decision.context.keys().map(String::as_str).collect();
    assert_eq!(names, ["issuer", "name", "provider", "subject", "team", "tokenUse"]);
    assert_eq!((decision.context["name"].as_str(), decision.context["team"].as_str()), ("Jane", "north"));
}
