//! Who may do what in Sluice, decided by Cedar in this process.

#![cfg(test)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{decider, policies, table, token};
use serde_json::{Value, json};
use sluice_policies::{Decision, Engine};

#[tokio::test]
async fn everybody_may_do_what_the_table_says_and_nothing_else() {
    let bound = decider(Some("a"), Engine::InProcess);
    let unbound = decider(None, Engine::InProcess);
    for row in table() {
        let decider = if row.partners_institute.is_some() { &bound } else { &unbound };
        let decision = row.check(decider).await;
        assert!(decision.allowed || (decision.context.is_empty() && decision.detail.is_some()), "{}", row.name());
    }
}

#[test]
fn the_table_has_every_route_and_needs_every_policy() {
    let rows = table();
    let routes: BTreeSet<&str> = rows.iter().map(|row| row.route.as_str()).collect();
    let deciding: BTreeSet<&str> = rows.iter().filter_map(|row| row.expected).collect();
    let policies = policies();
    assert_eq!(routes, policies.routes().collect());
    assert_eq!(deciding, policies.iter().map(|policy| policy.id.as_str()).collect());
}

async fn decide(provider: &str, claims: Value, route: &str) -> Decision {
    let path = BTreeMap::from([("source".to_owned(), "a".to_owned())]);
    decider(Some("a"), Engine::InProcess).decide(&token(provider, claims), route, &path).await.unwrap()
}

#[tokio::test]
async fn the_api_learns_who_calls_and_with_which_rights() {
    let context = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let subject = ("subject", "6f1b0a4e-8f0e-4f4e-9c37-1d8a54c1f4aa");
    let user = decide("institutes", json!({ "custom:read": "a", "custom:write": "b" }), "GET /er7").await;
    let common = [subject, ("tokenUse", "id"), ("provider", "institutes"), ("issuer", "https://institutes.example")];
    assert_eq!(user.context, context(&[&common[..], &[("read", "a"), ("write", "b")]].concat()));

    let staff = decide("lake-staff", json!({ "custom:read": "a", "write": "a" }), "GET /institutes/{source}/er7").await;
    let common = [subject, ("tokenUse", "id"), ("provider", "lake-staff"), ("issuer", "https://lake-staff.example")];
    assert_eq!(staff.context, context(&common), "claims that providers.json does not name are nobody's business");

    let partner = decide("partners", json!({ "write": "b" }), "POST /er7").await;
    let common = [subject, ("provider", "partners"), ("issuer", "https://partners.example")];
    assert_eq!(partner.context, context(&[&common[..], &[("write", "a")]].concat()));
}

#[tokio::test]
async fn an_unknown_route_or_provider_is_denied_with_the_reason() {
    let rights = || json!({ "custom:read": "a", "custom:write": "a" });
    for (provider, claims, route, why) in [
        ("institutes", rights(), "GET /er7/{id}", "routes.json does not have the route"),
        ("institutes", rights(), "DELETE /er7/{messageId}", "routes.json does not have the route"),
        ("institutes", rights(), "$default", "routes.json does not have the route"),
        ("strangers", rights(), "GET /er7", "providers.json does not have the provider"),
        ("institutes", json!({ "custom:write": "a" }), "GET /er7", "the request has no `principal.read`"),
        ("institutes", json!({}), "GET /er7/{messageId}/status", "no `principal.write` or `principal.read`"),
        ("institutes", json!({ "custom:read": ["a"] }), "GET /er7", "the token's `custom:read` is not an entity"),
        ("institutes", json!({ "custom:read": { "a": "a" } }), "GET /er7", "the token's `custom:read` is not an entity"),
        ("institutes", json!({ "custom:read": 7 }), "GET /er7", "the token's `custom:read` is not an entity"),
        ("lake-staff", rights(), "GET /er7", "the request has no `principal.read`"),
        ("partners", rights(), "GET /er7/{messageId}", "the request has no `principal.read`"),
    ] {
        let decision = decide(provider, claims, route).await;
        assert!(!decision.allowed && decision.policies.is_empty() && decision.context.is_empty(), "{provider} {route}");
        let detail = decision.detail.unwrap();
        assert!(detail.contains(why), "{provider} {route}: {detail}");
    }
}

#[tokio::test]
async fn a_path_parameter_is_a_name_and_not_a_pattern() {
    let decider = decider(Some("a"), Engine::InProcess);
    for institute in ["*", "a*", "a\"", "a/../b", "", " a", "A", "a\u{0}"] {
        let path = BTreeMap::from([("source".to_owned(), institute.to_owned())]);
        let user = token("institutes", json!({ "custom:read": "a", "custom:write": "a" }));
        let decision = decider.decide(&user, "GET /institutes/{source}/er7", &path).await.unwrap();
        assert!(!decision.allowed, "{institute:?}");
    }
}
