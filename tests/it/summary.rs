//! `GET /institutes/{source}/summary`: the route that IAM authorizes with the caller's exchanged credentials, and the sessions that the
//! worker reads with. Who gets nothing there: `attacks::the_summary`, `audiences`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use aws_sdk_iam::Client as Iam;
use aws_sdk_sts::types::Tag;
use client::aws::Aws;
use client::deployment::Deployment;
use domain::arrivals;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sluice_tests::{Caller, Harness, adt, unique};

use crate::attacks::call::{Answer, Call};
use crate::permissions::allowed;
use crate::twins::{Twin, document, roles};

/// Asks with the credentials that the caller's token is exchanged for.
pub(crate) async fn ask(it: &Harness, caller: &Caller, path: &str) -> Result<Answer> {
    let credentials: Credentials = client::sign_in::exchange(&Deployment::try_from(it.outputs)?, &caller.token).await?;
    let endpoint = it.aws.endpoint_url().context("an endpoint")?;
    let api = it.outputs.api_url.strip_prefix(endpoint).context("an API at the endpoint")?;
    Call::api(format!("{api}{path}")).send(endpoint, &it.outputs.region, &credentials).await
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|_| answer.body.clone().into())
}

#[tokio::test]
async fn a_reader_counts_the_messages_of_their_institute() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    for message in [adt(&unique(), "DOE"), adt(&unique(), "ROE"), format!("NOT HL7 {}", unique())] {
        it.store(&admin, &message).await?;
    }
    let reader = it.caller(&it.institute, "").await?;
    let path = format!("/institutes/{}/summary", it.institute);
    let answer = ask(&it, &reader, &path).await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = json_of(&answer);
    assert_eq!((&body["institute"], body.get("next")), (&json!(it.institute), None));
    // They may have come in two hours.
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for cell in body["counts"].as_array().context("counts")? {
        assert!(cell["hour"].as_str().is_some_and(|it| it.ends_with(":00:00.000Z")), "{cell}");
        let key = format!("{} {} {}", cell["type"], cell["status"], cell["state"]);
        *counts.entry(key).or_default() += cell["count"].as_i64().context("a count")?;
    }
    let expected = [("\"ADT^A01\" \"stored\" \"parsed\"".to_owned(), 2), ("null \"stored\" \"error\"".to_owned(), 1)];
    assert_eq!(counts, expected.into());

    let earlier = ask(&it, &reader, &format!("{path}?from=2026-01-01&to=2026-01-02")).await?;
    assert_eq!(json_of(&earlier)["counts"], json!([]));
    let bad = ask(&it, &reader, &format!("{path}?form=2026-01-01")).await?;
    assert_eq!((bad.status, &json_of(&bad)["type"]), (400, &json!("urn:sluice:problem:invalid-query")));
    Ok(())
}

#[tokio::test]
async fn every_letter_of_a_name_stands_for_itself() -> Result<()> {
    let it = Harness::new()?;
    let own = format!("St.Else-where_{}", unique());
    let caller = it.caller(&own, &own).await?;
    assert_eq!(ask(&it, &caller, &format!("/institutes/{own}/summary")).await?.status, 200);
    for (letter, other) in [(".", "x"), (".", "_"), ("-", "x"), ("-", ".."), ("_", "x"), ("_", "-"), ("S", "s")] {
        let another = own.replacen(letter, other, 1);
        let answer = ask(&it, &caller, &format!("/institutes/{another}/summary")).await?;
        assert_eq!(answer.status, 403, "{another}: {answer:?}");
        assert!(answer.body.contains("execute-api:Invoke"), "IAM refuses: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_good_signature_nothing_is_counted() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let url = format!("{}/institutes/{}/summary", it.outputs.api_url, it.institute);
    let token = admin.token.expose_secret();
    for authorization in [None, Some(token.to_owned()), Some(format!("Bearer {token}")), Some("AWS4-HMAC-SHA256 x".to_owned())] {
        let mut request = reqwest::Client::new().get(&url);
        if let Some(authorization) = &authorization {
            request = request.header("authorization", authorization);
        }
        let answer = request.send().await?;
        let (status, body) = (answer.status().as_u16(), answer.text().await?);
        assert!(status == 403 && !body.contains("counts"), "{status} {body}");
    }
    // Another's secret for the right key.
    let good: Credentials = client::sign_in::exchange(&Deployment::try_from(it.outputs)?, &admin.token).await?;
    let bad = Credentials::new(good.access_key_id(), "not the secret", good.session_token().map(str::to_owned), None, "test");
    let endpoint = it.aws.endpoint_url().context("an endpoint")?;
    let path = url.strip_prefix(endpoint).context("an API at the endpoint")?;
    for (credentials, status) in [(&good, 200), (&bad, 403)] {
        let answer = Call::api(path).send(endpoint, &it.outputs.region, credentials).await?;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_of_the_worker_reads_what_is_counted_of_one_institute_and_nothing_else() -> Result<()> {
    let it = Harness::new()?;
    let (message_id, _) = it.store(&it.admin().await?, &adt(&unique(), "DOE")).await?;
    let key = it.record(&message_id).await?.facts.context("stored")?.key;
    let session = async |read: Option<&str>| Twin::of_institute(&it, "pipeline", "SummaryReaderRole", "read", read).await;
    let (mine, none) = (session(Some(&it.institute)).await?, session(None).await?);
    let (mine, none) = (&mine.aws, &none.aws);
    let table = &it.outputs.table;
    // The partition that has the record.
    let number = arrivals::shard(&it.institute.parse()?, &message_id).replace(&it.institute, "");
    let query = |aws: &Aws, source: &str, projection: &str| -> QueryFluentBuilder {
        let query = aws_sdk_dynamodb::Client::new(aws.config()).query().table_name(table).index_name(arrivals::INDEX);
        let partition = AttributeValue::S(format!("{source}{number}"));
        let query = query.key_condition_expression("#key = :key").expression_attribute_names("#key", arrivals::SHARD);
        let query = query.expression_attribute_values(":key", partition);
        query.projection_expression(projection).select(Select::SpecificAttributes)
    };
    let (source, counted) = (it.institute.as_str(), "received_at, summary.messageType");
    let other = format!("{source}2");
    let found = query(mine, source, counted).send().await?;
    assert_eq!(found.count(), 1);
    let all = |aws: &Aws, source: &str| {
        query(aws, source, counted).set_projection_expression(None).set_select(Some(Select::AllAttributes))
    };
    let of_source = |query: QueryFluentBuilder| {
        let query = query.expression_attribute_names("#key", "source");
        query.expression_attribute_values(":key", AttributeValue::S(source.to_owned()))
    };
    let refused = [
        ("another's", query(mine, &other, counted)),
        ("without an institute", query(none, source, counted)),
        ("of no institute", query(none, "", counted)),
        ("the table", of_source(query(mine, source, counted)).set_index_name(None)),
        ("another index", of_source(query(mine, source, counted)).index_name("by-held-since")),
        ("whose submission it is", query(mine, source, "received_at, last_submission")),
        ("where the message is", query(mine, source, "bucket, #key")),
        ("all attributes", all(mine, source)),
        ("a count of another's", all(mine, &other).select(Select::Count)),
    ];
    for (what, query) in refused {
        assert!(!allowed(query.clone().send().await)?, "{what}");
        // The twin: the account's root is refused none of them for how it is asked.
        let root = query.customize().config_override(
            aws_sdk_dynamodb::Config::builder()
                .credentials_provider(it.outputs.root_key.as_ref().context("a root key")?.credentials()),
        );
        assert!(allowed(root.send().await)?, "{what}, by root");
    }
    let get = aws_sdk_dynamodb::Client::new(mine.config()).get_item().table_name(table);
    let get = get.key("source", AttributeValue::S(source.to_owned()));
    assert!(!allowed(get.key("message_id", AttributeValue::S(message_id.to_string())).send().await)?);
    assert!(!allowed(aws_sdk_dynamodb::Client::new(mine.config()).scan().table_name(table).send().await)?);
    assert!(!allowed(mine.s3().get_object().bucket(&it.outputs.bucket).key(key).send().await)?);
    Ok(())
}

#[tokio::test]
async fn only_the_worker_gets_a_session_and_only_with_an_institute() -> Result<()> {
    let it = Harness::new()?;
    let roles = roles(&it, "pipeline").await?;
    let (worker, reader) = (&roles["SummaryRole"], &roles["SummaryReaderRole"]);
    let account = it.aws.account().await?;
    let role = Iam::new(it.aws.config()).get_role().role_name(reader).send().await?;
    let role = role.role().context("a role")?;
    let expected = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::{account}:role/{worker}") },
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {
            "StringLike": { "aws:RequestTag/read": "?*" },
            "ForAllValues:StringEquals": { "aws:TagKeys": ["read"] },
        },
    }]});
    assert_eq!(document(role.assume_role_policy_document().context("a trust policy")?)?, expected);
    // A role with the very same rights, and another name.
    let twin = Twin::of(&it, worker).await?;
    let tag = Tag::builder().key("read").value(&it.institute).build()?;
    let assume = aws_sdk_sts::Client::new(twin.aws.config()).assume_role().role_session_name("test").role_arn(role.arn());
    assert!(!allowed(assume.tags(tag).send().await)?);
    Ok(())
}
