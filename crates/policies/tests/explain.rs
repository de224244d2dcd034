//! Why a token may do something, or may not, for a person to read.

#![cfg(test)]

mod common;

use common::{decider, token};
use serde_json::{Value, json};
use sluice_policies::{Engine, Explanation};

fn explain(provider: &str, claims: Value, method: &str, path: &str) -> Explanation {
    decider(Some("a"), Engine::InProcess).explain(&token(provider, claims), method, path)
}

#[test]
fn the_policy_that_decided_is_shown_with_its_file_and_text() {
    let explanation = explain("institutes", json!({ "sub": "jane", "custom:read": "a" }), "GET", "/er7/{id}");
    let json = serde_json::to_value(&explanation).unwrap();
    let text = json["policies"][0]["text"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with("// A user with `read` reads the messages") && text.ends_with("principal.read == resource };"),
        "{text}"
    );
    assert_eq!(
        json,
        json!({
            "provider": "institutes",
            "subject": "jane",
            "tokenUse": "id",
            "route": "GET /er7/{messageId}",
            "action": "read",
            "principal": "Sluice::InstituteUser::\"jane\"",
            "resource": "Sluice::Institute::\"a\"",
            "decision": "allow",
            "reason": "permitted by institutes-read",
            "policies": [{ "id": "institutes-read", "file": "institutes.cedar", "effect": "permit", "text": text }],
            "considered": [],
        })
    );
}

#[test]
fn a_denial_shows_the_policies_about_it_and_why_they_did_not_decide() {
    let explanation = explain("institutes", json!({ "custom:read": "b" }), "get", "/institutes/a/er7/abc/status?x=y");
    assert_eq!(explanation.decision, "deny");
    assert_eq!(explanation.route.as_deref(), Some("GET /institutes/{source}/er7/{messageId}/status"));
    assert_eq!(explanation.resource.as_deref(), Some("Sluice::Institute::\"a\""));
    assert!(explanation.reason.contains("do not hold"), "{}", explanation.reason);
    assert!(explanation.policies.is_empty());
    let considered: Vec<_> = explanation.considered.iter().map(|it| (it.policy.id.as_str(), it.why.as_str())).collect();
    assert_eq!(
        considered,
        [("institutes-status", "its scope or its conditions do not hold")],
        "the policies for others are not about it"
    );
    let json = serde_json::to_value(&explanation.considered[0]).unwrap();
    assert_eq!((&json["id"], &json["file"]), (&json!("institutes-status"), &json!("institutes.cedar")));
}

#[test]
fn without_a_question_an_explanation_says_what_is_missing() {
    let staff = || json!({ "custom:read": "a" });
    for (provider, claims, method, path, reason) in [
        ("institutes", json!({ "custom:write": "a" }), "GET", "/er7", "no `principal.read`"),
        ("institutes", json!({}), "GET", "/er7/abc/status", "no `principal.write` or `principal.read`"),
        ("institutes", json!({ "custom:read": "a" }), "GET", "/institutes/{source}/er7", "no `path.source`"),
        ("institutes", json!({ "custom:read": "a" }), "DELETE", "/er7/abc", "routes.json does not have the route"),
        ("institutes", json!({ "custom:read": "a" }), "GET", "/er7/", "routes.json does not have the route"),
        ("strangers", json!({}), "GET", "/er7", "providers.json does not have the provider"),
        ("lake-staff", staff(), "GET", "/er7/abc", "no `principal.read`"),
        ("lake-staff", staff(), "POST", "/er7", "no `principal.write`"),
    ] {
        let explanation = explain(provider, claims, method, path);
        assert_eq!(explanation.decision, "deny", "{provider} {method} {path}");
        assert!(explanation.reason.contains(reason), "{provider} {method} {path}: {}", explanation.reason);
        assert!(explanation.policies.is_empty() && explanation.resource.is_none(), "{provider} {method} {path}");
    }
}

#[test]
fn an_explanation_agrees_with_the_decision() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let deciders = [Some("a"), None].map(|institute| decider(institute, Engine::InProcess));
    for row in common::table() {
        let decider = &deciders[usize::from(row.partners_institute.is_none())];
        let (method, path) = row.route.split_once(' ').unwrap();
        let path = row.path.iter().fold(path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
        let explanation = decider.explain(&row.verified, method, &path);
        let decision = runtime.block_on(decider.decide(&row.verified, &row.route, &row.path)).unwrap();
        assert_eq!(explanation.decision == "allow", decision.allowed, "{}", row.name());
        assert_eq!(explanation.route.as_ref(), Some(&row.route));
        let policies: Vec<String> = explanation.policies.into_iter().map(|policy| policy.id).collect();
        assert_eq!(policies, decision.policies, "{}", row.name());
    }
}
