//! A second judge for DynamoDB: the requests of the workers are put to moto too, which shares no code with the local AWS. Both must answer
//! alike: with the same items, and with the same refusals.
//!
//! The local AWS records the requests and its answers (`cli/local/extension/recordings.py`). So what is judged is what the deployed
//! workers send, and what the claim protocol sends in random interleavings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_cognitoidentityprovider::Client as Cognito;
use aws_sdk_dynamodb::Client as DynamoDb;
use catalog::Allowance;
use client::http::JSON;
use domain::catalog::Problem;
use domain::held::HeldQuery;
use domain::{HoldReason, Requester, Source, Timestamp};
use enroll::{Enrollment, Mode};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice::operator::workspace::Workspace;
use sluice_tests::{DEADLINE, Harness, adt, python, unique};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::attacks::call::Call;
use crate::contract::root;
use crate::enroll::Person;
use crate::faults::Faults;
use crate::{claim_model, documents, forge, summary, tabulate};

/// Before the name of an operation in a request's header.
const TARGET: &str = "DynamoDB_20120810.";

/// A request to DynamoDB, and the local AWS's answer.
#[derive(Debug, Deserialize)]
struct Recorded {
    operation: String,
    request: Value,
    status: u16,
    answer: Value,
}

/// moto's server, for the time of a test.
struct Moto {
    _server: Child,
    endpoint: String,
}

impl Moto {
    async fn start(root: &Path) -> Result<Self> {
        let python = python("moto", &root.join("tests/it/expressions/requirements.txt")).await?;
        let began = Instant::now();
        loop {
            let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let mut command = Command::new(&python);
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            let mut server = command.spawn()?;
            // It ends if somebody has taken the port since.
            while server.try_wait()?.is_none() {
                ensure!(began.elapsed() < DEADLINE, "moto does not listen");
                sleep(Duration::from_millis(100)).await;
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() && server.try_wait()?.is_none() {
                    return Ok(Self { _server: server, endpoint: format!("http://127.0.0.1:{port}") });
                }
            }
        }
    }

    async fn ask(&self, operation: &str, request: &Value) -> Result<(u16, Value)> {
        let credential = "AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/dynamodb/aws4_request";
        let made = reqwest::Client::new().post(&self.endpoint).header("x-amz-target", format!("{TARGET}{operation}"));
        let made = made.header("authorization", credential).header(CONTENT_TYPE, "application/x-amz-json-1.0");
        let answer = made.body(request.to_string()).send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Makes a table with the keys and indexes of the one of this name that is deployed.
    async fn make_table(&self, it: &Harness, name: &str) -> Result<()> {
        let described = local(it, "DescribeTable", &json!({ "TableName": name })).await?.1;
        let table = &described["Table"];
        let mut made = json!({ "BillingMode": "PAY_PER_REQUEST" });
        for member in ["TableName", "AttributeDefinitions", "KeySchema"] {
            made[member] = table[member].clone();
        }
        if let Some(indexes) = table["GlobalSecondaryIndexes"].as_array() {
            let index = |it: &Value| json!({ "IndexName": it["IndexName"], "KeySchema": it["KeySchema"], "Projection": it["Projection"] });
            made["GlobalSecondaryIndexes"] = indexes.iter().map(index).collect();
        }
        let (status, answer) = self.ask("CreateTable", &made).await?;
        ensure!(status == 200, "{answer}");
        Ok(())
    }
}

/// The local AWS's answer to the account's root.
async fn local(it: &Harness, operation: &str, request: &Value) -> Result<(u16, Value)> {
    let endpoint = it.outputs.endpoint_url.as_deref().context("an endpoint")?;
    let key = it.outputs.root_key.as_ref().context("a root key")?.credentials();
    let call = Call::json("dynamodb", &format!("{TARGET}{operation}"), request);
    let answer = call.send(endpoint, &it.outputs.region, &key).await?;
    Ok((answer.status, serde_json::from_str(&answer.body)?))
}

/// The tables that a request names.
fn tables(request: &Value) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = request["TableName"].as_str().into_iter().collect();
    names.extend(request["RequestItems"].as_object().into_iter().flat_map(|it| it.keys().map(String::as_str)));
    for item in request["TransactItems"].as_array().into_iter().flatten() {
        names.extend(item.as_object().into_iter().flat_map(|it| it.values()).filter_map(|it| it["TableName"].as_str()));
    }
    names
}

/// What matters of an answer. The texts of errors are left out, as is what an answer may leave out because it is empty; a set has no order.
fn verdict(status: u16, answer: &Value) -> Value {
    if status != 200 {
        let code = answer["__type"].as_str().unwrap_or_default();
        return json!({ "code": code.rsplit('#').next(), "item": without_order(&answer["Item"]) });
    }
    let mut answer = answer.clone();
    if let Some(members) = answer.as_object_mut() {
        members.remove("ConsumedCapacity");
        // After the last item of an index a page of just so many items may name a next page, which is empty.
        members.remove("LastEvaluatedKey");
        members.retain(|_, it| !it.is_null() && it.as_object().is_none_or(|it| !it.is_empty()));
    }
    without_order(&answer)
}

fn without_order(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, it)| match (name.as_str(), it) {
                ("SS" | "NS", Value::Array(set)) => {
                    (name.clone(), json!(set.iter().filter_map(Value::as_str).collect::<BTreeSet<_>>()))
                }
                _ => (name.clone(), without_order(it)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(without_order).collect(),
        other => other.clone(),
    }
}

/// The request for moto. Its UPDATED_NEW leaves out attributes that were set to the value that they had, which AWS names: moto is asked
/// for all attributes.
fn asked(request: &Value) -> Value {
    let mut request = request.clone();
    if request["ReturnValues"] == "UPDATED_NEW" {
        request["ReturnValues"] = json!("ALL_NEW");
    }
    request
}

/// Of moto's answer to such a request, the attributes that the local AWS names.
fn named_in(request: &Value, here: &Value, mut there: Value) -> Value {
    let (true, Some(named)) = (request["ReturnValues"] == "UPDATED_NEW", here["Attributes"].as_object()) else { return there };
    if let Some(members) = there["Attributes"].as_object_mut() {
        members.retain(|name, _| named.contains_key(name));
    }
    there
}

/// The claim protocol, the allowance and the list of what is held, by the functions that the workers call.
async fn use_the_catalog(it: &Harness) -> Result<()> {
    let mut of_model = Harness::of(it.outputs)?;
    of_model.institute.clone_from(&it.institute);
    tokio::task::spawn_blocking(move || claim_model::interleave(&of_model, 20)).await??;
    let (catalog, source): (_, Source) = (it.catalog(), it.institute.parse()?);
    let allowance = Allowance { per_second: 1, burst: 10 };
    for seconds in [0, 0, 0, 5, 60] {
        let now = Timestamp::from_millis(1_800_000_000_000 + seconds * 1000).context("a time")?;
        catalog.take_allowance(&source, 5, allowance, now).await?;
    }
    let now = Timestamp::from_millis(1_900_000_000_000).context("a time")?;
    let at = |millis| Timestamp::from_millis(millis).map(Some).context("a time");
    let (from, to) = (at(1_800_000_000_000)?, at(1_800_000_001_000)?);
    for (from, to) in [(None, None), (from, None), (None, to), (from, to)] {
        for reason in [None, Some(HoldReason::Denied)] {
            let query = HeldQuery { from, to, reason };
            let (_, reached) = catalog.held(&source, &query, None, 1, now).await?;
            catalog.held(&source, &query, reached.as_ref(), 100, now).await?;
        }
    }
    // What the random interleavings do not do: say why a release was taken back.
    let token = it.admin().await?.token;
    let envelope = forge::envelope(it, &it.institute, &adt(&unique(), "DOE"), &token).await?;
    let submitted = forge::submitted(&envelope);
    catalog.take_release_back(&submitted, Some(Problem::new("Denied"))).await?;
    // Nor do they remember an identity id, or put a record into an index.
    let user = Requester { issuer: "https://idp.example".to_owned(), subject: unique() };
    let [one, other] = ["one", "other"].map(|id| format!("{source}:{id}"));
    catalog.remember_identity(&user, &one, None, now).await?;
    catalog.remember_identity(&user, &other, Some(&one), now).await?;
    catalog.record_submission(&submitted, now, &user).await?;
    let record = catalog.get(&source, &submitted.message_id).await?.context("a record")?;
    catalog.index_arrival(&record).await?;
    Ok(())
}

/// Every selection of the listing, the statuses, the search, the summary.
async fn use_the_api(it: &Harness) -> Result<()> {
    let admin = it.admin().await?;
    let (control_id, mut ids) = (unique(), Vec::new());
    for message in [adt(&control_id, "DOE"), adt(&control_id, "ROE"), "NOT HL7".to_owned()] {
        ids.push(it.store(&admin, &message).await?.0);
    }
    it.submit(&admin, &adt(&control_id, "DOE")).await?;
    let id = ids[0].to_string();
    let prefix = &id[..8];
    let submission = it.record(&ids[0]).await?.last_submission.context("a submission")?;
    let day = "from=2026-01-01&to=2099-01-01";
    let paths = [
        "/er7?limit=1".to_owned(),
        "/er7?from=2026-01-01".to_owned(),
        "/er7?to=2099-01-01".to_owned(),
        format!(
            "/er7?{day}&type=ADT&event=A01&sender=HIS&receiver=LAKE&messageFrom=2026-01-01&messageTo=2027-01-01&status=stored"
        ),
        format!("/er7?controlId={control_id}"),
        format!("/er7?controlId={control_id}&limit=1&{day}&type=ADT"),
        format!("/er7?submission={submission}"),
        "/er7?status=held".to_owned(),
        "/er7?status=queued".to_owned(),
        format!("/er7?idPrefix={prefix}"),
        format!("/er7?idPrefix={prefix}&{day}&controlId={control_id}"),
        format!("/er7/{id}"),
        format!("/er7/{id}/status"),
    ];
    for path in paths {
        let answer = it.api.get(&path, Some(&admin.token)).await?;
        ensure!(answer.status == 200, "{path}: {}: {}", answer.status, answer.json());
        if let Some(cursor) = answer.json()["cursor"].as_str().filter(|_| path.contains("limit=1")) {
            let answer = it.api.get(&format!("{path}&cursor={cursor}"), Some(&admin.token)).await?;
            ensure!(answer.status == 200, "{path}, the next page: {}", answer.json());
        }
    }
    let nowhere = "0".repeat(64);
    for (path, body) in [
        ("/er7/status", json!({ "messageIds": [id, nowhere] })),
        ("/er7/search", json!({ "patient": "4711" })),
        ("/er7/search", json!({ "patient": "4711^^^HIS", "limit": 1 })),
    ] {
        let request = it.api.request(Method::POST, path, Some(&admin.token)).header(CONTENT_TYPE, JSON);
        let answer = client::http::send(request.body(body.to_string())).await?;
        ensure!(answer.status == 200, "{path}: {}", answer.json());
    }
    let answer = summary::ask(it, &admin, &format!("/institutes/{}/summary", it.institute)).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

/// A new user of a domain without a rule waits, by the deployed worker, and founds an institute, by the code of the other mode.
async fn enrol(it: &Harness, person: &Person, sub: &str) -> Result<()> {
    person.confirm().await?;
    let table = it.outputs.stack_output("EnrollmentTableName")?.to_owned();
    let enrollment = Enrollment::new(Cognito::new(it.aws.config()), DynamoDb::new(it.aws.config()), table, Mode::Found);
    let event = json!({
        "triggerSource": "PostConfirmation_ConfirmSignUp",
        "userPoolId": person.pool,
        "userName": sub,
        "request": { "userAttributes": { "sub": sub, "email": person.email } },
    });
    for _ in 0..2 {
        enrollment.confirmed(event.clone()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_answers_the_requests_to_dynamodb_as_the_local_aws_does() -> Result<()> {
    let (of_catalog, of_api) = (Harness::new()?, Harness::new()?);
    let recorder = Faults::of(&of_api)?;
    let domain = format!("{}.example", unique());
    let person = Person::new(&of_api.aws, of_api.outputs, &domain);
    person.sign_up(&[]).await.map_err(|code| anyhow::anyhow!(code))?;
    let sub = person.attributes().await?["sub"].clone();
    let id = unique();
    let markers = [&of_catalog.institute, &of_api.institute, &domain, &sub];
    recorder.record("POST", &json!({ "id": id, "markers": markers })).await?;
    use_the_catalog(&of_catalog).await?;
    use_the_api(&of_api).await?;
    for _ in 0..2 {
        tabulate::tabulate(&of_api, None).await?;
    }
    enrol(&of_api, &person, &sub).await?;
    let recorded: Vec<Recorded> = serde_json::from_value(recorder.record("DELETE", &json!({ "id": id })).await?)?;

    let workspace = Workspace::find().await?;
    let moto = Moto::start(workspace.root()).await?;
    let names: BTreeSet<&str> = recorded.iter().flat_map(|it| tables(&it.request)).collect();
    for name in names {
        moto.make_table(&of_api, name).await?;
    }
    let (mut unlike, mut codes) = (Vec::new(), BTreeMap::<String, usize>::new());
    for it in &recorded {
        let (status, answer) = moto.ask(&it.operation, &asked(&it.request)).await?;
        let here = verdict(it.status, &it.answer);
        let there = named_in(&it.request, &here, verdict(status, &answer));
        if here != there {
            unlike.push(format!(
                "{} {}\n  the local AWS {}: {here}\n  moto {status}: {there}",
                it.operation, it.request, it.status
            ));
        }
        *codes.entry(here["code"].as_str().unwrap_or("done").to_owned()).or_default() += 1;
    }
    let count = unlike.len();
    unlike.truncate(5);
    ensure!(unlike.is_empty(), "{count} of {} requests are answered unlike:\n{}", recorded.len(), unlike.join("\n"));
    assert!(codes["ConditionalCheckFailedException"] > 20 && codes["done"] > 200, "{codes:?}");

    // Every value that an expression in the source compares with or sets was in a request.
    let sent: BTreeSet<&str> = recorded
        .iter()
        .filter_map(|it| it.request["ExpressionAttributeValues"].as_object())
        .flat_map(|it| it.keys().map(String::as_str))
        .collect();
    let mut named = BTreeSet::new();
    for folder in ["crates", "workers"] {
        for package in std::fs::read_dir(root().join(folder))? {
            let source = package?.path().join("src");
            let text = if source.exists() { documents::rust(&source)? } else { String::new() };
            named.extend(values(&text));
        }
    }
    let missing: Vec<_> = named.iter().filter(|it| !sent.contains(it.as_str())).collect();
    assert!(named.len() > 30 && missing.is_empty(), "no request had {missing:?}; {named:?}");
    Ok(())
}

/// The names of values that stand as texts in a source: `":now"`.
fn values(source: &str) -> BTreeSet<String> {
    let parts = source.split("\":").skip(1).filter_map(|rest| rest.split_once('"')).map(|it| it.0);
    let names = parts.filter(|name| !name.is_empty() && name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'));
    names.map(|name| format!(":{name}")).collect()
}

/// Expressions that AWS refuses, and one beside each that it takes.
#[tokio::test]
async fn both_refuse_the_expressions_that_aws_refuses() -> Result<()> {
    let it = Harness::new()?;
    let workspace = Workspace::find().await?;
    let moto = Moto::start(workspace.root()).await?;
    moto.make_table(&it, &it.outputs.table).await?;
    let values = json!({ ":x": { "S": "x" } });
    for (expression, condition, is_taken) in [
        ("SET z = :x", None, true),
        ("SET z = :x REMOVE z", None, false),
        ("SET z = :x, z = :x", None, false),
        ("SET y = :x REMOVE a.b", None, false),
        ("SET a.b = :x", None, false),
        ("SET status = :x", None, false),
        ("SET y = :y", None, false),
        ("SET y = x + :x", None, false),
        ("SET y = :x", Some("attribute_exists(z) AND z = :x"), true),
        ("SET y = :x", Some("attribute_not_exists(z)"), false),
        ("SET y = :x", Some("NOT z IN (:x)"), false),
    ] {
        let mut request = json!({
            "TableName": it.outputs.table, "UpdateExpression": expression, "ExpressionAttributeValues": values,
            "Key": { "source": { "S": it.institute }, "message_id": { "S": "1" } },
        });
        if let Some(condition) = condition {
            request["ConditionExpression"] = json!(condition);
        }
        let (here, answer) = local(&it, "UpdateItem", &request).await?;
        let (there, other) = moto.ask("UpdateItem", &request).await?;
        assert_eq!((here == 200, there == 200), (is_taken, is_taken), "{expression} {condition:?}: {answer} {other}");
        let code = |status, answer| verdict(status, answer)["code"].clone();
        assert_eq!(code(here, &answer), code(there, &other), "{expression} {condition:?}");
    }
    Ok(())
}
