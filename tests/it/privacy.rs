//! Neither a patient nor a token is anywhere but where they belong.
//!
//! One run of everything the system does, with texts in it that occur nowhere by chance; then everything that the run
//! produced is searched for them. What each search must find is planted too, so that a blind search fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_sfn::types::HistoryEvent;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use client::http::{Answer, ER7, JSON, RAW};
use domain::{Envelope, Payload, Status};
use futures_util::future::try_join_all;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sluice_tests::{Caller, DEADLINE, Harness, unique};
use tokio::time::{Instant, sleep};

use crate::canary::{Canaries, Patient};
use crate::failures::{REDRIVE, dead_letter};
use crate::forge;
use crate::listen::{Listener, event_id};
use crate::logs::{self, AUTHORIZE, pipeline_workers};
use crate::summary;

/// A place and what was found there.
type Evidence = Vec<(String, String)>;

/// One run: two institutes, what they sent, and what came back directly.
struct Run {
    a: Harness,
    b: Harness,
    admin: Caller,
    since: i64,
    patient: Patient,
    /// The message that comes more than once.
    adt: String,
    tokens: Vec<SecretString>,
    /// What the queue was given, by what is to come of it.
    queued: BTreeMap<&'static str, Envelope>,
    /// Submission ids that the API gave.
    posted: Vec<String>,
    answers: Evidence,
    executions: Evidence,
}

impl Run {
    async fn new() -> Result<Self> {
        let (a, b) = (Harness::new()?, Harness::new()?);
        let (since, patient, admin) = (logs::now(), Patient::new(), a.admin().await?);
        Ok(Self {
            since,
            adt: patient.adt(),
            patient,
            tokens: vec![admin.token.clone()],
            queued: BTreeMap::new(),
            posted: Vec::new(),
            answers: Vec::new(),
            executions: Vec::new(),
            a,
            b,
            admin,
        })
    }

    /// Through the queue, as `submit` would do it.
    async fn queue(&mut self) -> Result<()> {
        let (a, b, adt) = (self.a.institute.clone(), self.b.institute.clone(), self.patient.adt());
        let expired = forge::unsigned_token(&self.a, forge::EXPIRED);
        let forged = forge::unsigned_token(&self.a, forge::VALID);
        let mut failed = forge::envelope(&self.a, &a, &self.patient.free_text(), &self.admin.token).await?;
        // Not the id of what is in it: no step can go on.
        failed.message_id = domain::Er7::canonical(&unique())?.message_id();
        let all = [
            ("failed", failed),
            ("denied", forge::envelope(&self.a, &b, &adt, &self.admin.token).await?),
            ("expired", forge::envelope(&self.a, &a, &self.patient.oru(), &expired).await?),
            ("invalid", forge::envelope(&self.a, &a, &self.patient.oru(), &forged).await?),
            ("duplicate", forge::envelope(&self.a, &a, &self.adt, &self.admin.token).await?),
        ];
        self.tokens.extend([expired, forged]);
        for (what, envelope) in all {
            // The duplicate goes in when there is something to duplicate.
            if what != "duplicate" {
                forge::enqueue(&self.a, &envelope).await?;
            }
            self.queued.insert(what, envelope);
        }
        Ok(())
    }

    /// Through the API: what is good.
    async fn post(&mut self) -> Result<()> {
        let long = format!("{}NTE|2||{}\r", self.patient.oru(), "x".repeat(200 * 1024));
        let in_json = json!({ "msg": BASE64_STANDARD.encode(self.patient.adt()), "encoding": "utf-8" }).to_string();
        let bodies = [
            (self.adt.clone().into_bytes(), ER7),
            (self.patient.free_text().into_bytes(), "text/plain"),
            (long.into_bytes(), ER7),
            // Kept as it was received, too.
            (self.patient.adt().replace('\r', "\r\n").into_bytes(), "application/hl7-v2; charset=iso-8859-1"),
            (in_json.into_bytes(), JSON),
        ];
        for (body, content_type) in bodies {
            let answer = self.a.api.submit(body, content_type, Some(&self.admin.token)).await?;
            ensure!(answer.status == 202, "{}", answer.status);
            self.keep(&answer);
            self.posted.push(answer.text("submissionId"));
            let status = self.a.api.final_status(&answer.text("messageId"), &self.admin.token, DEADLINE).await?;
            ensure!(status["status"] == "stored", "{status}");
            self.answers.push(("a status".to_owned(), status.to_string()));
        }
        let duplicate = self.a.submit(&self.admin, &self.adt).await?;
        ensure!(duplicate.status == 409, "{}", duplicate.status);
        self.keep(&duplicate);
        forge::enqueue(&self.a, &self.queued["duplicate"]).await
    }

    /// Through the API: several messages in one body, of which one cannot be decoded, answered in HL7 and in JSON.
    async fn post_several(&mut self) -> Result<()> {
        let undecodable = [self.patient.free_text().as_bytes(), b"\rMSH|^~\\&|\rPID|\xff\r"].concat();
        for accept in [ER7, JSON] {
            let body = [self.patient.adt().as_bytes(), self.patient.adt().as_bytes(), &undecodable].concat();
            let request = self.a.api.request(reqwest::Method::POST, "/er7", Some(&self.admin.token));
            let answer = client::http::send(request.header("content-type", ER7).header("accept", accept).body(body)).await?;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            ensure!(text.contains("byte ") && matches!(answer.status.as_u16(), 200 | 202), "{}: {text}", answer.status);
            self.keep(&answer);
        }
        Ok(())
    }

    /// Through the API: what is refused.
    async fn post_badly(&mut self) -> Result<()> {
        let (text, name) = (self.patient.free_text(), self.patient.name.clone());
        let base64 = BASE64_STANDARD.encode(&text);
        let bad = [
            (format!("{{ \"msg\": \"{text}"), JSON.to_owned()),
            (json!({ "msg": text }).to_string(), JSON.to_owned()),
            (json!({ "text": text }).to_string(), JSON.to_owned()),
            (json!({ "msg": base64, "encoding": name }).to_string(), JSON.to_owned()),
            (json!({ "msg": BASE64_STANDARD.encode([text.as_bytes(), b"\xff"].concat()) }).to_string(), JSON.to_owned()),
            (json!(text).to_string(), JSON.to_owned()),
            (text.clone(), format!("application/{name}")),
            (text.clone(), format!("{ER7}; charset={name}")),
        ];
        for (body, content_type) in bad {
            let answer = self.a.api.submit(body.into_bytes(), &content_type, Some(&self.admin.token)).await?;
            ensure!(matches!(answer.status.as_u16(), 400 | 415), "{} for {content_type}", answer.status);
            self.keep(&answer);
        }
        let not_utf8 = [text.as_bytes(), b"\xff"].concat();
        let answer = self.a.api.submit(not_utf8, ER7, Some(&self.admin.token)).await?;
        self.keep(&answer);
        for token in self.bad_tokens() {
            let answer = self.a.api.submit(text.clone().into_bytes(), ER7, Some(&token)).await?;
            ensure!(answer.status == self.a.bad_token(), "{}", answer.status);
            self.keep(&answer);
            let answer = self.a.api.status(&"0".repeat(64), Some(&token)).await?;
            self.keep(&answer);
            self.tokens.push(token);
        }
        let nobody = self.a.caller("", "").await?;
        let answer = self.a.submit(&nobody, &text).await?;
        ensure!(answer.status == 403, "{}", answer.status);
        self.keep(&answer);
        self.tokens.push(nobody.token);
        Ok(())
    }

    /// Through the API: what may be read, and what is asked for in words that must not be repeated.
    async fn read(&mut self) -> Result<()> {
        let (path, name) = (format!("/er7/{}", domain::Er7::canonical(&self.adt)?.message_id()), self.patient.name.clone());
        let ask = async |path: &str, token: &SecretString, accept: &str, known: &str| {
            let request = self.a.api.request(reqwest::Method::GET, path, Some(token));
            client::http::send(request.header("accept", accept).header("if-none-match", known)).await
        };
        let token = &self.admin.token;
        for accept in [ER7, JSON, RAW] {
            let message = ask(&path, token, accept, &name).await?;
            ensure!(String::from_utf8_lossy(&message.body).contains(&name), "not the message: {}", message.status);
        }
        let mut answers = vec![ask("/er7", token, JSON, "").await?, ask(&path, token, &format!("application/{name}"), "").await?];
        let queries = ["from", "to", "type", "limit", "cursor", &name].map(|it| format!("/er7?{it}={name}"));
        for bad in queries.into_iter().chain([format!("/er7/{name}")]) {
            let answer = ask(&bad, token, JSON, "").await?;
            ensure!(answer.status == 400, "{}", answer.status);
            answers.push(answer);
        }
        for bad in self.bad_tokens() {
            answers.push(ask(&path, &bad, ER7, "").await?);
            answers.push(ask("/er7", &bad, JSON, "").await?);
        }
        // The patient, by an identifier: what is good and what is bad.
        for body in [
            json!({ "patient": self.patient.record_number }),
            json!({ "patient": self.patient.record_number, name.as_str(): 1 }),
            json!(name),
        ] {
            let request = self.a.api.request(reqwest::Method::POST, "/er7/search", Some(token)).header("content-type", JSON);
            answers.push(client::http::send(request.body(body.to_string())).await?);
        }
        // The institute's numbers, by requests that are signed.
        let numbers = format!("/institutes/{}/summary", self.a.institute);
        for (query, status) in [(String::new(), 200), (format!("?from={name}"), 400)] {
            let answer = summary::ask(&self.a, &self.admin, &format!("{numbers}{query}")).await?;
            ensure!(answer.status == status && !answer.body.contains(&name), "{}", answer.status);
        }
        ensure!(answers.iter().any(|it| it.status == 200) && answers.iter().any(|it| it.status == 406), "not as asked");
        answers.iter().for_each(|answer| self.keep(answer));
        Ok(())
    }

    /// A good token with other claims, one with a patient in it, and no token at all.
    fn bad_tokens(&self) -> Vec<SecretString> {
        let good: Vec<&str> = self.admin.token.expose_secret().split('.').collect();
        let claims = json!({ "sub": unique(), "name": self.patient.name, "exp": forge::VALID }).to_string();
        vec![
            format!("{}.{}.{}", good[0], BASE64_URL_SAFE_NO_PAD.encode(claims), good[2]).into(),
            format!("{}.{}.{}", good[0], BASE64_URL_SAFE_NO_PAD.encode(unique()), BASE64_URL_SAFE_NO_PAD.encode(unique())).into(),
            self.patient.name.clone().into(),
        ]
    }

    /// Into the queue and the state machine: what is no envelope at all, and holds what must not be quoted.
    async fn break_in(&mut self) -> Result<()> {
        let (token, text) = (self.admin.token.expose_secret().to_owned(), self.patient.free_text());
        let good = forge::envelope(&self.a, &self.a.institute, &self.patient.adt(), &self.admin.token).await?;
        let good = serde_json::to_value(&good)?;
        let with = |name: &str, value: Value| {
            let mut envelope = good.clone();
            envelope[name] = value;
            envelope
        };
        let broken = [
            with("receivedAt", json!(text)),
            with("source", json!(text)),
            with("submissionId", json!(token)),
            with("messageId", json!(text)),
            with("payload", json!({ "inline": text })),
            with("payload", json!({ "text": text })),
            with("payload", json!({ "bucket": text, "key": token })),
            with("token", json!(token)),
            json!({ "msg": text, "token": token }),
        ];
        self.executions.extend(
            try_join_all(broken.iter().map(async |input| {
                let execution = forge::execute(&self.a, input).await?;
                let found = [execution.output(), execution.error(), execution.cause()].map(Option::unwrap_or_default).join("\n");
                anyhow::Ok((execution.execution_arn().to_owned(), found))
            }))
            .await?,
        );
        let sqs = aws_sdk_sqs::Client::new(self.a.aws.config());
        for body in self.broken_letters() {
            sqs.send_message().queue_url(&self.a.outputs.queue_url).message_body(body).send().await?;
        }
        Ok(())
    }

    /// What somebody may put into the queue, and what lies whole among the dead letters then.
    fn broken_letters(&self) -> [String; 2] {
        let token = self.admin.token.expose_secret();
        let text = self.patient.free_text();
        [format!("{text} {token}"), json!({ "v": 1, "source": text, "token": token }).to_string()]
    }

    /// Waits for the end of everything that was queued.
    async fn settle(&self) -> Result<()> {
        for (what, envelope) in &self.queued {
            let status = match *what {
                "duplicate" => Status::Stored,
                _ => Status::Held,
            };
            let began = Instant::now();
            loop {
                let record = self.a.catalog().get(&envelope.source, &envelope.message_id).await?;
                if record.is_some_and(|record| record.status == status) {
                    break;
                }
                ensure!(began.elapsed() < DEADLINE, "`{what}` did not end as {status:?}");
                sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    /// Releases what is held: one message by its id, whose copy is not that message, and then all that is held of the institute.
    async fn release(&mut self) -> Result<()> {
        let damaged = self.a.api.release(self.queued["failed"].message_id.as_str(), &self.admin.token).await?;
        ensure!(damaged.status == 500, "{}", damaged.status);
        self.keep(&damaged);
        let all = self.a.api.release_held(&json!({ "reason": "failed" }), &self.admin.token).await?;
        ensure!(all.status == 202, "{}", all.status);
        self.keep(&all);
        Ok(())
    }

    fn keep(&mut self, answer: &Answer) {
        let text = format!("{:?}\n{}", answer.headers, String::from_utf8_lossy(&answer.body));
        self.answers.push((format!("an answer {}", answer.status), text));
    }

    fn tokens(&self) -> Canaries {
        self.tokens.iter().fold(Canaries::default(), Canaries::token)
    }

    /// Everything that must not be known outside: the patient and the tokens, in any form.
    fn secrets(&self) -> Canaries {
        self.tokens().patient_in_any_form(&self.patient)
    }
}

/// Every event of every log group since the run began.
async fn logged(run: &Run) -> Result<Evidence> {
    let groups = logs::groups(&run.a).await?;
    let found = try_join_all(groups.iter().map(async |group| {
        let lines = match logs::lines(&run.a, group, run.since, "").await {
            // Another test deletes stacks that it deployed, with their log groups.
            Err(error) if logs::is_deleted(&error) => Vec::new(),
            lines => lines?,
        };
        anyhow::Ok(lines.into_iter().map(|line| (group.clone(), line.text)).collect::<Evidence>())
    }));
    Ok(found.await?.concat())
}

/// What the executions of this run left behind, but for the input they were given.
async fn histories(run: &Run) -> Result<Evidence> {
    let sfn = aws_sdk_sfn::Client::new(run.a.aws.config());
    let mine: BTreeSet<String> =
        run.queued.values().map(|it| it.submission_id.to_string()).chain(run.posted.iter().cloned()).collect();
    let mut arns: Vec<String> = run.executions.iter().map(|(arn, _)| arn.clone()).collect();
    let mut pages = sfn.list_executions().state_machine_arn(&run.a.outputs.state_machine_arn).into_paginator().items().send();
    while let Some(execution) = pages.next().await {
        let execution = execution?;
        // `dispatch` names them by submission, message and receive.
        if execution.name().split_once('-').is_some_and(|(submission, _)| mine.contains(submission)) {
            arns.push(execution.execution_arn().to_owned());
        }
    }
    ensure!(arns.len() >= run.executions.len() + mine.len(), "{} executions of {} submissions", arns.len(), mine.len());
    let mut found = Vec::new();
    for arn in arns {
        let end = sfn.describe_execution().execution_arn(&arn).send().await?;
        let texts = [end.output(), end.error(), end.cause()].map(Option::unwrap_or_default).join("\n");
        found.push((format!("the end of {arn}"), texts));
        let mut events = sfn.get_execution_history().execution_arn(&arn).into_paginator().items().send();
        let mut states = 0;
        while let Some(event) = events.next().await {
            found.push((format!("the history of {arn}"), of_event(&event?, &mut states)));
        }
        ensure!(states > 0, "an execution without a state");
    }
    Ok(found)
}

/// The texts of an event. The first state is entered with the execution's input, which is the envelope.
fn of_event(event: &HistoryEvent, states: &mut usize) -> String {
    let mut texts = vec![event.r#type().as_str()];
    if let Some(entered) = event.state_entered_event_details() {
        *states += 1;
        if *states > 1 {
            texts.extend(entered.input());
        }
    }
    texts.extend(event.state_exited_event_details().and_then(|it| it.output()));
    texts.extend(event.task_succeeded_event_details().and_then(|it| it.output()));
    texts.extend(event.task_failed_event_details().into_iter().flat_map(|it| [it.error(), it.cause()]).flatten());
    texts.extend(event.lambda_function_failed_event_details().into_iter().flat_map(|it| [it.error(), it.cause()]).flatten());
    texts.extend(event.execution_failed_event_details().into_iter().flat_map(|it| [it.error(), it.cause()]).flatten());
    texts.extend(event.execution_succeeded_event_details().and_then(|it| it.output()));
    texts.join("\n")
}

/// Every record there is, with every attribute.
async fn catalog(run: &Run) -> Result<Evidence> {
    let client = aws_sdk_dynamodb::Client::new(run.a.aws.config());
    let mut items = client.scan().table_name(&run.a.outputs.table).into_paginator().items().send();
    let mut found = Vec::new();
    while let Some(item) = items.next().await {
        found.push(("the catalog".to_owned(), format!("{:?}", item?)));
    }
    Ok(found)
}

/// Names of objects. Metrics have none of ours: no role may write one (`permissions`), and those made of log lines are
/// in the logs.
async fn names(run: &Run) -> Result<Evidence> {
    let mut found = Vec::new();
    for bucket in [&run.a.outputs.bucket, &run.a.outputs.overflow_bucket].into_iter().chain(&run.a.outputs.held_bucket) {
        let mut objects = run.a.aws.s3().list_objects_v2().bucket(bucket).into_paginator().send();
        while let Some(page) = objects.next().await {
            found.extend(page?.contents().iter().map(|it| (bucket.clone(), it.key().unwrap_or_default().to_owned())));
        }
    }
    Ok(found)
}

async fn emulator_log() -> Result<Evidence> {
    let file = sluice::local::status().await?.log_file;
    let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    Ok(String::from_utf8_lossy(&text).lines().map(|line| (file.display().to_string(), line.to_owned())).collect())
}

/// Where the canaries are, and of which kind. Never the text itself: this goes into a test's output.
fn found(canaries: &Canaries, evidence: &Evidence) -> BTreeSet<(String, &'static str)> {
    let found = evidence.iter().flat_map(|(place, text)| canaries.found_in(text).into_iter().map(|kind| (place.clone(), kind)));
    found.collect()
}

#[tokio::test]
async fn neither_patient_nor_token_is_anywhere_but_where_they_belong() -> Result<()> {
    let undisturbed = REDRIVE.read().await;
    let mut run = Run::new().await?;
    let sources = [run.a.institute.clone(), run.b.institute.clone()];
    let sources = [sources[0].as_str(), sources[1].as_str()];
    let mut listener = Listener::new(&run.a, json!({ "source": sources }), &sources).await?;
    run.queue().await?;
    run.post().await?;
    run.post_several().await?;
    run.post_badly().await?;
    run.read().await?;
    run.break_in().await?;
    let planted = Plant::new(&run).await?;
    run.settle().await?;
    run.release().await?;
    for body in run.broken_letters() {
        dead_letter(&run.a, &body, true).await?;
    }
    drop(undisturbed);

    let secrets = run.secrets();
    // What waits in the queue, and what is held, holds the message, and no token that anybody could use.
    for envelope in run.queued.values() {
        assert_eq!(run.tokens().found_in(&serde_json::to_string(envelope)?), [] as [&str; 0]);
    }
    let failed = &run.queued["failed"];
    let copy = run.a.held_copy(&failed.source, &failed.message_id).await?;
    assert!(copy.contains(failed.message_id.as_str()) && !copy.contains(&failed.token), "the copy, without its token");
    assert_eq!(run.tokens().found_in(&copy), [] as [&str; 0]);

    for kind in ["stored", "unparsable", "duplicate", "held"] {
        let began = Instant::now();
        while !listener.kinds().contains(kind) {
            ensure!(began.elapsed() < DEADLINE, "no event `{kind}`");
            listener.hear(0).await?;
        }
    }
    let events: Evidence = listener.hear(0).await?.iter().map(|it| ("an event".to_owned(), format!("{it:?}"))).collect();
    // Each with a text that shows that the search looks at what this run produced.
    for (what, evidence, mark) in [
        ("events", &events, run.a.institute.as_str()),
        ("answers", &run.answers, &run.posted[0]),
        ("answers of executions", &run.executions, "InvalidInput"),
        ("catalog", &catalog(&run).await?, &run.a.institute),
        ("names", &names(&run).await?, &run.a.institute),
        ("emulator's log", &emulator_log().await?, &run.a.institute),
    ] {
        assert_eq!(found(&secrets, evidence), BTreeSet::new(), "{what}");
        assert!(evidence.iter().any(|(_, text)| text.contains(mark)), "{what} of this run were not seen");
    }
    let histories = histories(&run).await?;
    assert_eq!(found(&secrets, &histories), BTreeSet::new());
    // Nor is the sealed token, or the payload, in any state's output.
    for envelope in run.queued.values() {
        let Payload::Inline { inline, .. } = &envelope.payload else { panic!("not inline") };
        assert!(!histories.iter().any(|(_, text)| text.contains(inline) || text.contains(&envelope.token)));
    }

    planted.check(&run, &secrets).await
}

/// What a careless line would look like, in a log group of its own; and a message where it may be.
struct Plant {
    group: String,
}

impl Plant {
    async fn new(run: &Run) -> Result<Self> {
        let group = format!("/test/{}", unique());
        let client = aws_sdk_cloudwatchlogs::Client::new(run.a.aws.config());
        client.create_log_group().log_group_name(&group).send().await?;
        client.create_log_stream().log_group_name(&group).log_stream_name("test").send().await?;
        let lines = [
            json!({ "level": "WARN", "body": run.patient.free_text() }).to_string(),
            format!("payload {}", BASE64_STANDARD.encode(run.patient.adt())),
            format!("authorization: Bearer {}", run.admin.token.expose_secret()),
            format!("sealed {}", BASE64_STANDARD.encode(run.tokens[1].expose_secret())),
        ];
        let event = |line| aws_sdk_cloudwatchlogs::types::InputLogEvent::builder().timestamp(logs::now()).message(line).build();
        let events = lines.map(event).into_iter().collect::<Result<_, _>>()?;
        client.put_log_events().log_group_name(&group).log_stream_name("test").set_log_events(Some(events)).send().await?;
        Ok(Self { group })
    }

    /// The logs hold canaries in this group, and nowhere else.
    async fn check(self, run: &Run, secrets: &Canaries) -> Result<()> {
        let logged = logged(run).await;
        let client = aws_sdk_cloudwatchlogs::Client::new(run.a.aws.config());
        client.delete_log_group().log_group_name(&self.group).send().await?;
        let logged = logged?;
        let kinds = ["patient", "patient in base64", "token", "token in base64"];
        let expected: BTreeSet<_> = kinds.into_iter().map(|kind| (self.group.clone(), kind)).collect();
        assert_eq!(found(secrets, &logged), expected);
        for worker in pipeline_workers() {
            let group = logs::group_of(&run.a, worker)?;
            assert!(logged.iter().any(|(place, text)| *place == group && text.contains(&run.a.institute)), "no line of {worker}");
        }
        if run.a.is_unified() {
            let group = logs::group_of(&run.a, AUTHORIZE)?;
            assert!(logged.iter().any(|(place, text)| *place == group && text.contains("\"policies\"")), "no decision is logged");
        }
        // And in the lake, where a message belongs, it is found.
        let key = run.a.record(&run.queued["duplicate"].message_id).await?.facts.context("stored")?.key;
        let object = run.a.aws.s3().get_object().bucket(&run.a.outputs.bucket).key(key).send().await?;
        let object = object.body.collect().await?.into_bytes();
        assert_eq!(secrets.found_in(std::str::from_utf8(&object)?), ["patient"; 3]);
        Ok(())
    }
}

/// Waits until every invocation since then has its line, and gives the lines. An invocation with two lines, or a line
/// that is no JSON, is an error.
async fn one_line_each(it: &Harness, worker: &str, since: i64) -> Result<Vec<Value>> {
    let group = logs::group_of(it, worker)?;
    let began = Instant::now();
    let invocations: BTreeSet<String> = {
        let lines = logs::lines(it, &group, since, "").await?;
        let start = |line: &logs::Line| Some(line.text.strip_prefix("START RequestId: ")?.split(' ').next()?.to_owned());
        lines.iter().filter_map(start).collect()
    };
    ensure!(!invocations.is_empty(), "{worker} was not invoked");
    loop {
        let lines = logs::structured(&logs::lines(it, &group, since, "").await?)?;
        let count = |id: &String| lines.iter().filter(|line| line["requestId"] == id.as_str()).count();
        let counts: Vec<usize> = invocations.iter().map(count).collect();
        ensure!(counts.iter().all(|count| *count <= 1), "{worker}: an invocation with several lines");
        if counts.iter().all(|count| *count == 1) {
            return Ok(lines);
        }
        ensure!(began.elapsed() < DEADLINE, "{worker}: an invocation without a line");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn each_invocation_writes_one_structured_line() -> Result<()> {
    let it = Harness::new()?;
    let since = logs::now();
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    let admin = it.admin().await?;
    let answer = it.submit(&admin, &Patient::new().adt()).await?;
    let (submission_id, message_id) = (answer.text("submissionId"), answer.text("messageId"));
    it.api.final_status(&message_id, &admin.token, DEADLINE).await?;
    ensure!(it.api.get(&format!("/er7/{message_id}"), Some(&admin.token)).await?.status == 200, "the message is not read");
    listener.hear_id(&event_id(&submission_id, &message_id, "stored")).await?;
    let failing = forge::envelope(&it, &it.institute, "MSH|", &"no token".into()).await?;
    assert_eq!(forge::outcome(&it, &failing).await?, "held");

    let expected: [(&str, &str, &[&str]); 8] = [
        ("Submit", "queued", &["GenerateDataKey", "SendMessage", "UpdateItem"]),
        ("Dispatch", "batch", &["StartSyncExecution"]),
        ("Deduplicate", "new", &["UpdateItem"]),
        ("Parse", "parsed", &[]),
        (
            "Store",
            "stored",
            &[
                "BatchWriteItem",
                "Decrypt",
                "GenerateMac",
                "GetCredentialsForIdentity",
                "GetId",
                "GetItem",
                "PutObject",
                "PutObject",
                "UpdateItem",
                "UpdateItem",
            ],
        ),
        ("Publish", "stored", &["Publish"]),
        ("Status", "stored", &["GetItem"]),
        ("Fetch", "read", &["GetCredentialsForIdentity", "GetId", "GetItem", "GetObject"]),
    ];
    for (worker, outcome, operations) in expected {
        let lines = one_line_each(&it, worker, since).await?;
        for line in &lines {
            assert!(line["durationMs"].as_f64().is_some_and(|it| it > 0.0), "{worker}: {line}");
            assert_eq!(line["worker"], worker.to_lowercase());
            for name in ["requestId", "outcome", "level", "time"] {
                assert!(line[name].as_str().is_some_and(|it| !it.is_empty()), "{worker} without `{name}`: {line}");
            }
            let requests = line["awsRequests"].as_array().with_context(|| format!("{worker} without `awsRequests`"))?;
            // Without an answer there is no id, which other tests' faults bring about.
            for request in requests {
                let has = |name: &str| request[name].as_str().is_some_and(|it| !it.is_empty());
                assert!(has("operation") && has("requestId"), "{worker}: {line}");
            }
        }
        // Of a batch, each message has its own part of the line.
        let is_about_it = |part: &Value| {
            part["messageId"] == message_id.as_str()
                && part["source"] == it.institute.as_str()
                && (part["submissionId"] == submission_id.as_str() || ["Status", "Fetch"].contains(&worker))
        };
        let is_mine =
            |line: &&Value| line["messages"].as_array().map_or_else(|| is_about_it(line), |parts| parts.iter().any(is_about_it));
        // The status is asked for until it is a final one.
        let mine: Vec<_> = lines.iter().filter(is_mine).filter(|line| line["outcome"] == outcome).collect();
        assert_eq!(mine.len(), 1, "{worker}: lines about one message with the outcome `{outcome}`");
        let requests: Vec<_> = mine[0]["awsRequests"].as_array().into_iter().flatten().collect();
        // A request that AWS did not answer in time has no id, and the SDK makes it again.
        let (answered, silent): (Vec<_>, Vec<_>) = requests.into_iter().partition(|it| it["requestId"] != "none");
        let mut made: Vec<&str> = answered.iter().filter_map(|it| it["operation"].as_str()).collect();
        assert!(silent.iter().all(|it| made.iter().any(|name| it["operation"] == **name)), "{worker}: {}", mine[0]);
        made.sort_unstable();
        assert_eq!(made, operations, "{worker}");
    }
    let lines = one_line_each(&it, "Store", since).await?;
    let failed = lines.iter().find(|line| line["submissionId"] == failing.submission_id.to_string()).context("a line")?;
    assert_eq!(
        (&failed["outcome"], &failed["error"], &failed["level"]),
        (&json!("error"), &json!("TokenInvalid"), &json!("ERROR"))
    );
    let lines = one_line_each(&it, "Hold", since).await?;
    let held = lines.iter().find(|line| line["submissionId"] == failing.submission_id.to_string()).context("a line")?;
    assert_eq!((&held["outcome"], &held["reason"], &held["level"]), (&json!("held"), &json!("denied"), &json!("INFO")));
    Ok(())
}
