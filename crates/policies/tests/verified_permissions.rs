//! Amazon Verified Permissions in place of Cedar in this process: the same questions, the same answers, and nobody gets in
//! when it does not answer.

#![cfg(test)]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_verifiedpermissions::Client;
use aws_sdk_verifiedpermissions::config::http::HttpResponse;
use aws_sdk_verifiedpermissions::config::retry::RetryConfig;
use aws_sdk_verifiedpermissions::config::timeout::TimeoutConfig;
use aws_sdk_verifiedpermissions::config::{Credentials, Region};
use aws_sdk_verifiedpermissions::operation::is_authorized::{IsAuthorizedInput, IsAuthorizedOutput};
use aws_sdk_verifiedpermissions::types::{self, DeterminingPolicyItem, EntityIdentifier};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use cedar_policy::{Authorizer, Context, Entities, EntityId, EntityUid, Policy, PolicyId, PolicySet, Request, Schema};
use common::{decider, policies, table, token};
use runtime::StepError;
use serde_json::{Value, json};
use sluice_policies::{Decision, Engine, store_template};
use tokio::net::TcpListener;

const STORE: &str = "PSEXAMPLEabcdefg111111";

/// Keeps what goes over the wire.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<Mutex<Vec<(String, Value)>>>);

#[dyn_dispatch_hint]
impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "Wire"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        self.0.lock().unwrap().push((target, serde_json::from_slice(request.body().bytes().unwrap())?));
        Ok(())
    }
}

fn engine(rule: &Rule, wire: &Wire) -> Engine {
    let client = mock_client!(aws_sdk_verifiedpermissions, RuleMode::MatchAny, [rule], |conf| {
        conf.retry_config(RetryConfig::disabled()).interceptor(wire.clone())
    });
    Engine::VerifiedPermissions { client, policy_store_id: STORE.to_owned() }
}

/// An institute's user asks for `GET /er7/{messageId}/status`, or another route.
async fn ask(rule: &Rule, wire: &Wire) -> Result<Decision, StepError> {
    let user = token("institutes", json!({ "sub": "jane", "custom:read": "a", "custom:write": "b" }));
    let path = BTreeMap::from([("messageId".to_owned(), "0".to_owned())]);
    decider(Some("a"), engine(rule, wire)).decide(&user, "GET /er7/{messageId}/status", &path).await
}

fn answering(status: u16, body: &'static str) -> Rule {
    mock!(Client::is_authorized).then_http_response(move || HttpResponse::new(status.try_into().unwrap(), body.into()))
}

#[tokio::test]
async fn the_request_and_the_answer_have_the_documented_shapes() {
    let wire = Wire::default();
    let rule =
        answering(200, r#"{"decision":"ALLOW","determiningPolicies":[{"policyId":"SPEXAMPLEabcdefg111111"}],"errors":[]}"#);
    let decision = ask(&rule, &wire).await.unwrap();
    assert_eq!((decision.allowed, decision.policies), (true, vec!["SPEXAMPLEabcdefg111111".to_owned()]));
    assert_eq!(decision.context["write"], "b");

    let entities = json!([{
        "uid": { "type": "Sluice::InstituteUser", "id": "jane" },
        "attrs": {
            "read": { "__entity": { "type": "Sluice::Institute", "id": "a" } },
            "write": { "__entity": { "type": "Sluice::Institute", "id": "b" } },
        },
        "parents": [],
    }]);
    let sent = wire.0.lock().unwrap().clone();
    let [(target, body)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(target, "VerifiedPermissions.IsAuthorized");
    let mut body = body.clone();
    let text = body["entities"]["cedarJson"].take();
    assert_eq!(serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap(), entities);
    assert_eq!(
        body,
        json!({
            "policyStoreId": STORE,
            "principal": { "entityType": "Sluice::InstituteUser", "entityId": "jane" },
            "action": { "actionType": "Sluice::Action", "actionId": "status" },
            "resource": { "entityType": "Sluice::Institute", "entityId": "b" },
            "entities": { "cedarJson": null },
        })
    );
}

/// A policy store as the template makes it, which evaluates what it is asked as Verified Permissions does.
struct Store {
    policies: PolicySet,
    schema: Schema,
}

impl Store {
    fn new() -> Self {
        let template = store_template(&policies());
        let resources = template["Resources"].as_object().unwrap().values();
        let statics = resources.filter_map(|resource| resource["Properties"]["Definition"].get("Static"));
        let policies = statics.map(|it| {
            let id = PolicyId::new(it["Description"].as_str().unwrap());
            Policy::parse(Some(id), it["Statement"].as_str().unwrap()).unwrap()
        });
        let schema = template["Resources"]["PolicyStore"]["Properties"]["Schema"]["CedarJson"].as_str().unwrap();
        Self { policies: PolicySet::from_policies(policies).unwrap(), schema: Schema::from_json_str(schema).unwrap() }
    }

    fn is_authorized(&self, input: &IsAuthorizedInput) -> IsAuthorizedOutput {
        assert_eq!(input.policy_store_id(), Some(STORE));
        let action = input.action().unwrap();
        let request = Request::new(
            of_identifier(input.principal().unwrap()),
            uid(action.action_type(), action.action_id()),
            of_identifier(input.resource().unwrap()),
            Context::empty(),
            Some(&self.schema),
        );
        let entities = input.entities().unwrap().as_cedar_json().unwrap();
        let entities = Entities::from_json_str(entities, Some(&self.schema)).unwrap();
        let response = Authorizer::new().is_authorized(&request.unwrap(), &self.policies, &entities);
        let decision = match response.decision() {
            cedar_policy::Decision::Allow => types::Decision::Allow,
            cedar_policy::Decision::Deny => types::Decision::Deny,
        };
        let determining =
            response.diagnostics().reason().map(|id| DeterminingPolicyItem::builder().policy_id(id.to_string()).build().unwrap());
        IsAuthorizedOutput::builder()
            .decision(decision)
            .set_determining_policies(Some(determining.collect()))
            .set_errors(Some(Vec::new()))
            .build()
            .unwrap()
    }
}

fn uid(kind: &str, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.parse().unwrap(), EntityId::new(id))
}

fn of_identifier(identifier: &EntityIdentifier) -> EntityUid {
    uid(identifier.entity_type(), identifier.entity_id())
}

#[tokio::test]
async fn both_engines_answer_alike_on_the_whole_table() {
    let store = Store::new();
    let rule = mock!(Client::is_authorized).then_compute_output(move |input| store.is_authorized(input));
    let wire = Wire::default();
    let here = [Some("a"), None].map(|institute| decider(institute, Engine::InProcess));
    let there = [Some("a"), None].map(|institute| decider(institute, engine(&rule, &wire)));
    let mut allowed = 0;
    for row in table() {
        let deployment = usize::from(row.partners_institute.is_none());
        let answers = [row.check(&here[deployment]).await, row.check(&there[deployment]).await];
        assert_eq!(answers[0], answers[1], "{}", row.name());
        allowed += usize::from(answers[1].allowed);
    }
    assert!(rule.num_calls() > allowed && allowed > 0, "it was asked, and not only where it allows: {}", rule.num_calls());
}

#[tokio::test]
async fn nobody_gets_in_without_an_answer_that_says_allow() {
    for (status, body, name) in [
        (400, r#"{"__type":"com.amazonaws.verifiedpermissions#ThrottlingException","message":"jane"}"#, "Throttled"),
        (400, r#"{"__type":"com.amazonaws.verifiedpermissions#AccessDeniedException","message":"jane"}"#, "Misconfigured"),
        (400, r#"{"__type":"com.amazonaws.verifiedpermissions#ResourceNotFoundException","message":"jane"}"#, "Misconfigured"),
        (400, r#"{"__type":"com.amazonaws.verifiedpermissions#ValidationException","message":"jane"}"#, "Misconfigured"),
        (500, r#"{"__type":"com.amazonaws.verifiedpermissions#InternalServerException","message":"jane"}"#, "Unavailable"),
        (503, "jane", "Unavailable"),
        (200, "<html>jane</html>", "Misconfigured"),
    ] {
        let error = ask(&answering(status, body), &Wire::default()).await.unwrap_err();
        assert_eq!(error.name(), name, "{status} {body}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("jane"), "{text}");
    }
}

#[tokio::test]
async fn only_the_answer_allow_lets_a_caller_in() {
    let words = ["DENY", "ALLOWED", "allow", "Allow", "", "MAYBE"].map(|word| format!(r#""decision":"{word}","#));
    for decision in words.into_iter().chain([String::new()]) {
        let body = format!(r#"{{{decision}"determiningPolicies":[],"errors":[]}}"#);
        let rule = mock!(Client::is_authorized)
            .then_http_response(move || HttpResponse::new(200.try_into().unwrap(), body.clone().into()));
        let decision = ask(&rule, &Wire::default()).await.unwrap();
        assert!(!decision.allowed && decision.context.is_empty(), "{decision:?}");
    }
}

#[tokio::test]
async fn a_policy_that_could_not_be_evaluated_is_noted_without_its_text() {
    let rule = answering(
        200,
        r#"{"decision":"DENY","determiningPolicies":[],"errors":[{"errorDescription":"while evaluating policy SPX: jane"}]}"#,
    );
    let detail = ask(&rule, &Wire::default()).await.unwrap().detail.unwrap();
    assert!(detail.contains("could not be evaluated") && !detail.contains("jane"), "{detail}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_lets_nobody_in() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(200)).build();
    let conf = aws_sdk_verifiedpermissions::Config::builder()
        .behavior_version_latest()
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .endpoint_url(format!("http://{}", listener.local_addr().unwrap()))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled());
    let engine = Engine::VerifiedPermissions { client: Client::from_conf(conf.build()), policy_store_id: STORE.to_owned() };
    let user = token("institutes", json!({ "custom:read": "a" }));
    let error = decider(None, engine).decide(&user, "GET /er7", &BTreeMap::new()).await.unwrap_err();
    assert_eq!(error, StepError::Unavailable { operation: "verifiedpermissions:IsAuthorized" });
}

#[tokio::test]
async fn a_name_that_verified_permissions_does_not_take_is_denied_by_both_engines() {
    let rule = answering(200, r#"{"decision":"ALLOW","determiningPolicies":[],"errors":[]}"#);
    let decider = decider(Some("a"), engine(&rule, &Wire::default()));
    let staff = token("lake-staff", json!({}));
    for (institute, asked) in [("a".repeat(200), true), ("a".repeat(201), false), ("a\nb".to_owned(), false)] {
        let path = BTreeMap::from([("source".to_owned(), institute)]);
        let before = rule.num_calls();
        let decision = decider.decide(&staff, "GET /institutes/{source}/er7", &path).await.unwrap();
        assert_eq!((decision.allowed, rule.num_calls() > before), (asked, asked));
        let here = common::decider(None, Engine::InProcess).decide(&staff, "GET /institutes/{source}/er7", &path).await.unwrap();
        assert_eq!((here.allowed, &here.detail), (asked, &decision.detail));
    }
}
