//! What a new user gets of which rule, and what happens when an AWS call fails: what the running system cannot be made to
//! show, or not in all its cases.

#![cfg(test)]

use aws_sdk_cognitoidentityprovider::config::http::HttpResponse;
use aws_sdk_cognitoidentityprovider::config::retry::RetryConfig;
use aws_sdk_cognitoidentityprovider::operation::admin_get_user::AdminGetUserOutput;
use aws_sdk_cognitoidentityprovider::operation::admin_update_user_attributes::AdminUpdateUserAttributesOutput;
use aws_sdk_cognitoidentityprovider::types::AttributeType;
use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
use aws_sdk_dynamodb::operation::put_item::PutItemOutput;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_dynamodb::types::AttributeValue::{Bool, S};
use aws_smithy_mocks::{Rule, RuleMode, mock, mock_client};
use enroll::{Enrollment, Mode};
use runtime::StepError;
use serde_json::{Value, json};

const SUB: &str = "6f1b0a4e-8f0e-4f4e-9c37-1d8a54c1f4aa";
const ADDRESS: &str = "jane.doe@st-elsewhere.example";

type Users = aws_sdk_cognitoidentityprovider::Client;
type Entries = aws_sdk_dynamodb::Client;

fn event(attributes: &Value) -> Value {
    json!({
        "version": "1",
        "triggerSource": "PostConfirmation_ConfirmSignUp",
        "region": "eu-central-1",
        "userPoolId": "eu-central-1_pool",
        "userName": SUB,
        "callerContext": { "awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": "client" },
        "request": { "userAttributes": attributes, "clientMetadata": { "institute": "anything" } },
        "response": {},
    })
}

/// Somebody who signed up in the pool itself and proved the address.
fn proved() -> Value {
    json!({ "sub": SUB, "email": ADDRESS, "email_verified": "true", "cognito:user_status": "CONFIRMED" })
}

/// Somebody whom a provider sent. What it says of the address, Cognito has not verified.
fn sent_by(provider: &str) -> Value {
    let identities = json!([{ "userId": "1", "providerName": provider, "providerType": "SAML", "primary": "true" }]);
    json!({ "sub": SUB, "email": ADDRESS, "email_verified": "false", "identities": identities.to_string() })
}

/// Runs the trigger. A call that no rule is for panics.
async fn run(mode: Mode, users: &[&Rule], entries: &[&Rule], event: Value) -> Result<Value, StepError> {
    let users = mock_client!(aws_sdk_cognitoidentityprovider, RuleMode::MatchAny, users, |conf| {
        conf.retry_config(RetryConfig::disabled())
    });
    let entries = mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, entries, |conf| conf.retry_config(RetryConfig::disabled()));
    Enrollment::new(users, entries, "enrollment".to_owned(), mode).confirmed(event).await
}

fn attributes(pairs: &[(&str, &str)]) -> Vec<AttributeType> {
    pairs.iter().map(|(name, value)| AttributeType::builder().name(*name).value(*value).build().unwrap()).collect()
}

/// The user has these attributes.
fn user_with(pairs: &'static [(&str, &str)]) -> Rule {
    mock!(Users::admin_get_user)
        .match_requests(|request| request.user_pool_id() == Some("eu-central-1_pool") && request.username() == Some(SUB))
        .then_output(|| AdminGetUserOutput::builder().username(SUB).set_user_attributes(Some(attributes(pairs))).build().unwrap())
}

/// The user is given exactly this.
fn gives(pairs: Vec<(&'static str, String)>) -> Rule {
    mock!(Users::admin_update_user_attributes)
        .match_requests(move |request| {
            let given = request.user_attributes().iter().map(|it| (it.name(), it.value().unwrap_or_default().to_owned()));
            request.username() == Some(SUB) && given.eq(pairs.iter().cloned())
        })
        .then_output(|| AdminUpdateUserAttributesOutput::builder().build())
}

/// The table's rule for the domain of [`ADDRESS`].
fn rule(read: bool, write: bool, provider: Option<&'static str>) -> Rule {
    mock!(Entries::get_item)
        .match_requests(|request| {
            let key = request.key().unwrap();
            key["kind"] == S("domain".into()) && key["name"] == S("st-elsewhere.example".into())
        })
        .then_output(move || {
            let text = |text: &str| S(text.to_owned());
            let mut item = GetItemOutput::builder()
                .item("kind", text("domain"))
                .item("name", text("st-elsewhere.example"))
                .item("institute", text("st-elsewhere"))
                .item("read", Bool(read))
                .item("write", Bool(write))
                .item("added_at", text("2026-01-02T03:04:05.000Z"));
            if let Some(provider) = provider {
                item = item.item("provider", text(provider));
            }
            item.build()
        })
}

fn no_rule() -> Rule {
    mock!(Entries::get_item).then_output(|| GetItemOutput::builder().build())
}

/// An entry is made for a user who waits, with this address or none.
fn notes_waiting(address: Option<&'static str>) -> Rule {
    mock!(Entries::put_item)
        .match_requests(move |request| {
            let item = request.item().unwrap();
            request.condition_expression() == Some("attribute_not_exists(kind)")
                && item["kind"] == S("pending".into())
                && item["name"] == S(SUB.into())
                && item["username"] == S(SUB.into())
                && item.get("email") == address.map(|address| S(address.into())).as_ref()
        })
        .then_output(|| PutItemOutput::builder().build())
}

/// The table has noted this institute as the one that the user founded.
fn has_founded(institute: &'static str) -> Rule {
    mock!(Entries::update_item)
        .match_requests(|request| {
            let key = request.key().unwrap();
            let expression = request.update_expression().unwrap();
            let Some(S(proposed)) = request.expression_attribute_values().unwrap().get(":institute") else { return false };
            key["kind"] == S("founded".into())
                && key["name"] == S(SUB.into())
                && expression.contains("institute = if_not_exists(institute, :institute)")
                && proposed.as_bytes()[14] == b'4'
        })
        .then_output(|| {
            UpdateItemOutput::builder()
                .attributes("kind", S("founded".into()))
                .attributes("name", S(SUB.into()))
                .attributes("institute", S(institute.into()))
                .attributes("since", S("2026-01-02T03:04:05.000Z".into()))
                .build()
        })
}

#[tokio::test]
async fn a_proved_address_gets_what_its_domain_gives() {
    let institute = || "st-elsewhere".to_owned();
    for (read, write, given) in [
        (true, true, vec![("custom:read", institute()), ("custom:write", institute())]),
        (true, false, vec![("custom:read", institute())]),
        (false, true, vec![("custom:write", institute())]),
    ] {
        let (user, gives) = (user_with(&[("email", ADDRESS), ("custom:read", "")]), gives(given));
        let event = event(&proved());
        let answer = run(Mode::Domains, &[&user, &gives], &[&rule(read, write, None)], event.clone()).await;
        assert_eq!(answer, Ok(event), "Cognito gets its event back");
        assert_eq!(gives.num_calls(), 1);
    }
}

#[tokio::test]
async fn a_rule_is_for_the_pools_own_users_or_for_one_providers() {
    let pool = proved();
    let (theirs, others) = (sent_by("st-elsewhere-saml"), sent_by("general-hospital-oidc"));
    for (user, provider, enrolled) in [
        (&pool, None, true),
        (&pool, Some("st-elsewhere-saml"), false),
        (&theirs, Some("st-elsewhere-saml"), true),
        (&theirs, None, false),
        (&others, Some("st-elsewhere-saml"), false),
        (&others, None, false),
    ] {
        let (known, gives) = (user_with(&[]), gives(vec![("custom:read", "st-elsewhere".to_owned())]));
        let waiting = notes_waiting(Some(ADDRESS));
        run(Mode::Domains, &[&known, &gives], &[&rule(true, false, provider), &waiting], event(user)).await.unwrap();
        assert_eq!((gives.num_calls() == 1, waiting.num_calls() == 1), (enrolled, !enrolled), "{user} {provider:?}");
    }
}

#[tokio::test]
async fn a_providers_users_found_nothing_also_where_others_do() {
    let user = sent_by("st-elsewhere-saml");
    let (known, gives) = (user_with(&[]), gives(vec![("custom:read", "st-elsewhere".to_owned())]));
    let rule = rule(true, false, Some("st-elsewhere-saml"));
    run(Mode::Found, &[&known, &gives], &[&rule], event(&user)).await.unwrap();
    assert_eq!(gives.num_calls(), 1);
    let waiting = notes_waiting(Some(ADDRESS));
    run(Mode::Found, &[&known], &[&no_rule(), &waiting], event(&user)).await.unwrap();
    assert_eq!(waiting.num_calls(), 1);
}

#[tokio::test]
async fn an_address_that_nobody_vouches_for_is_not_looked_up() {
    let with = |name: &str, value: Value| {
        let mut user = proved();
        user[name] = value;
        user
    };
    for (user, noted) in [
        (with("email_verified", json!("false")), None),
        (with("email_verified", json!(null)), None),
        (with("email_verified", json!("TRUE")), None),
        (with("email", json!(null)), None),
        (with("email", json!("jane@evil.example@st-elsewhere.example")), Some("jane@evil.example@st-elsewhere.example")),
    ] {
        let waiting = notes_waiting(noted);
        run(Mode::Domains, &[&user_with(&[])], &[&waiting], event(&user)).await.unwrap();
        assert_eq!(waiting.num_calls(), 1, "{user}");
    }
}

#[tokio::test]
async fn a_rule_that_gives_nothing_is_none() {
    let waiting = notes_waiting(Some(ADDRESS));
    run(Mode::Domains, &[&user_with(&[])], &[&rule(false, false, None), &waiting], event(&proved())).await.unwrap();
    assert_eq!(waiting.num_calls(), 1);
}

#[tokio::test]
async fn an_institute_that_is_set_stays() {
    for set in [&[("custom:read", "other")], &[("custom:write", "other")]] {
        for mode in [Mode::Domains, Mode::Found] {
            let user = user_with(set);
            run(mode, &[&user], &[], event(&proved())).await.unwrap();
            assert_eq!(user.num_calls(), 1, "asked, and nothing else done");
        }
    }
}

#[tokio::test]
async fn only_a_confirmed_sign_up_enrolls_a_user() {
    for source in ["PostConfirmation_ConfirmForgotPassword", "PostAuthentication_Authentication", ""] {
        let mut event = event(&proved());
        event["triggerSource"] = json!(source);
        assert_eq!(run(Mode::Domains, &[], &[], event.clone()).await, Ok(event.clone()), "{source}: nothing is called");
        assert_eq!(run(Mode::Found, &[], &[], event.clone()).await, Ok(event), "{source}: nothing is called");
    }
}

#[tokio::test]
async fn a_founder_gets_the_institute_that_the_table_has() {
    const FIRST: &str = "0b9e6a3c-2f3d-4a51-8f2e-0d7c1b2a3f44";
    let (user, founded) = (user_with(&[]), has_founded(FIRST));
    let gives = gives(vec![("custom:read", FIRST.to_owned()), ("custom:write", FIRST.to_owned())]);
    // A trigger that is called again may see the user as they were before the first call.
    for calls in 1..=2 {
        run(Mode::Found, &[&user, &gives], &[&founded], event(&proved())).await.unwrap();
        assert_eq!((founded.num_calls(), gives.num_calls()), (calls, calls));
    }
}

#[tokio::test]
async fn a_user_who_waits_already_is_left_waiting() {
    let there = mock!(Entries::put_item)
        .then_http_response(|| answer(400, "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"));
    run(Mode::Domains, &[&user_with(&[])], &[&no_rule(), &there], event(&proved())).await.unwrap();
    assert_eq!(there.num_calls(), 1);
}

/// An error as AWS words it, with an address in it.
fn answer(status: u16, code: &str) -> HttpResponse {
    let body = json!({ "__type": code, "message": format!("no {ADDRESS}") });
    HttpResponse::new(status.try_into().unwrap(), body.to_string().into())
}

#[tokio::test]
async fn a_call_that_fails_fails_the_sign_up_and_nothing_comes_after_it() {
    for (status, code, name) in [
        (400, "TooManyRequestsException", "Throttled"),
        (400, "ProvisionedThroughputExceededException", "Throttled"),
        (500, "InternalServerError", "Unavailable"),
        (400, "AccessDeniedException", "Misconfigured"),
    ] {
        let failing = move || answer(status, code);
        let no_user = mock!(Users::admin_get_user).then_http_response(failing);
        let no_update = mock!(Users::admin_update_user_attributes).then_http_response(failing);
        let no_get = mock!(Entries::get_item).then_http_response(failing);
        let no_put = mock!(Entries::put_item).then_http_response(failing);
        let no_founding = mock!(Entries::update_item).then_http_response(failing);
        let (user, given) = (user_with(&[]), rule(true, true, None));
        let runs = [
            ("AdminGetUser", run(Mode::Domains, &[&no_user], &[], event(&proved())).await),
            ("GetItem", run(Mode::Domains, &[&user], &[&no_get], event(&proved())).await),
            ("PutItem", run(Mode::Domains, &[&user], &[&no_rule(), &no_put], event(&proved())).await),
            ("AdminUpdateUserAttributes", run(Mode::Domains, &[&user, &no_update], &[&given], event(&proved())).await),
            ("UpdateItem", run(Mode::Found, &[&user], &[&no_founding], event(&proved())).await),
        ];
        for (operation, result) in runs {
            let error = result.unwrap_err();
            let text = error.to_string();
            assert_eq!(error.name(), name, "{operation} {code}");
            assert!(text.contains(operation), "{text}");
            assert!(!text.contains("jane") && !text.contains("st-elsewhere"), "{text}");
        }
    }
}

#[tokio::test]
async fn an_unreadable_event_is_named_and_not_quoted() {
    let damaged = mock!(Entries::get_item).then_output(|| GetItemOutput::builder().item("name", S(ADDRESS.into())).build());
    let mut linked = sent_by("one");
    linked["identities"] = json!(r#"[{"providerName":"one"},{"providerName":"other"}]"#);
    let mut garbled = sent_by("one");
    garbled["identities"] = json!(ADDRESS);
    let nobody = event(&json!({ "email": ADDRESS }));
    for result in [
        run(Mode::Domains, &[&user_with(&[])], &[&damaged], event(&proved())).await,
        run(Mode::Domains, &[], &[], event(&linked)).await,
        run(Mode::Domains, &[], &[], event(&garbled)).await,
        run(Mode::Domains, &[], &[], nobody).await,
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.name(), "InvalidInput");
        assert!(!error.to_string().contains("jane"), "{error}");
    }
}
