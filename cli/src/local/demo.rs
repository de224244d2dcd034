//! Real messages through the whole system, as four users of two institutes and one of the lake's staff, and what became of
//! each.
//!
//! Every row of the table says what was expected of it, so that the demo is a test as well: of storing and of refusing,
//! of duplicates, of a message too large for the queue, of one in another character set, of one that is no HL7, and, in the last rows, of what users can
//! do who leave our API aside and go to S3 with the credentials their token gives them.

mod messages;
mod pdf;

use std::time::Duration;

use anyhow::{Context, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_s3::error::ProvideErrorMetadata;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::{Charset, MessageId};
use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::local::users::LOCAL_STAFF;
use crate::output::Reporter;
use client::aws::Aws;
use client::deployment::Deployment;
use client::http::{self, Api};
use client::outputs::Outputs;
use client::sign_in::{exchange, sign_in};
use messages::Messages;

/// A message is stored in half a second; a cold worker on a busy machine takes longer.
const DEADLINE: Duration = Duration::from_secs(45);

/// One action of the demo, and its outcome.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The user who sent it.
    pub user: String,
    /// The message that was sent or read.
    pub message: &'static str,
    /// The answer of the API, or of S3.
    pub answer: String,
    /// The final status of the message; empty if nothing was submitted.
    pub status: String,
    /// Its key in the lake; empty if it is not there.
    pub key: String,
    /// The difference from the expected outcome; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unexpected: Option<String>,
}

/// Runs the demo, and returns a row for each action.
///
/// # Errors
/// When it cannot go on: a user cannot sign in, or the API does not answer. An unexpected outcome is a row.
pub async fn run(outputs: &Outputs, reporter: &Reporter) -> Result<Vec<Row>> {
    let aws = outputs.local_aws().context("the demo runs on the local system only")?;
    let api = Api::new(&outputs.api_url)?;

    let step = reporter.step("signing in");
    let (admin, reader, writer, elsewhere, staff) = tokio::try_join!(
        Actor::sign_in(&aws, outputs, "admin@general-hospital.example"),
        Actor::sign_in(&aws, outputs, "reader@general-hospital.example"),
        Actor::sign_in(&aws, outputs, "writer@general-hospital.example"),
        Actor::sign_in(&aws, outputs, "admin@st-elsewhere.example"),
        sign_staff_in(&aws, outputs),
    )?;
    step.done("5 users");

    let Messages { admission, result, vaccination, lab_report, transfer, no_hl7 } = Messages::of_run(Timestamp::now());
    let tampered = admin.tampered();
    let door = Door::of(outputs);
    let here = Sender { api: &api, catalog: &reader, reporter };
    let there = Sender { api: &api, catalog: &elsewhere, reporter };

    // At the same time, as hospitals would.
    let (admitted, resulted, vaccinated, reported, transferred, random, refused, unauthorized) = tokio::try_join!(
        here.send(&admin, "admission (ADT)", Form::Json, &admission, Expected::Stored("parsed")),
        here.send(&writer, "laboratory result (ORU)", Form::Er7, &result, Expected::Stored("parsed")),
        here.send(&admin, "vaccination (VXU)", Form::Er7, &vaccination, Expected::Stored("parsed")),
        here.send(&writer, "laboratory report with a PDF", Form::Json, &lab_report, Expected::Stored("parsed")),
        here.send_as_engine(&writer, "transfer (ADT) in Latin-1", &transfer),
        here.send(&writer, "not HL7 at all", Form::Json, &no_hl7, Expected::Stored("error")),
        here.send(&reader, "admission, sent by a reader", Form::Er7, &admission, Expected::Answered(StatusCode::FORBIDDEN)),
        here.send(&tampered, "admission, tampered token", Form::Er7, &admission, Expected::Answered(door.tampered())),
    )?;
    // These need the first messages to be stored.
    let with_crlf = vaccination.replace('\r', "\r\n");
    let admission_id = MessageId::of_canonical(admission.as_bytes());
    let listed = format!("/institutes/{}/er7", admin.institute);
    let withheld = format!("/er7/{admission_id}");
    let (again, crlf, same_bytes, read, denied, listed, withheld) = tokio::try_join!(
        here.send(&writer, "laboratory result again", Form::Er7, &result, Expected::Duplicate),
        here.send(&admin, "vaccination, with CRLF", Form::Json, &with_crlf, Expected::Duplicate),
        there.send(&elsewhere, "same bytes as the admission", Form::Er7, &admission, Expected::Stored("parsed")),
        read_from_s3(&reader, "reads the admission from S3", outputs, &admitted.key, Some(&admission)),
        read_from_s3(&elsewhere, "reads that admission from S3", outputs, &admitted.key, None),
        ask(&api, &staff, "lists the hospital's messages", &listed, door.list_by_staff(), Some(&admission_id)),
        ask(&api, &staff, "reads the admission", &withheld, door.read_by_staff(), None),
    )?;
    let stored = [admitted, resulted, vaccinated, reported, transferred, random, again, crlf, same_bytes];
    Ok(stored.into_iter().chain([refused, unauthorized, read, denied, listed, withheld]).collect())
}

/// The authorizer of the deployment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// The worker `authorize`, which cannot make API Gateway answer 401, and knows the lake's staff.
    Unified,
    /// API Gateway's own JWT authorizer, which knows the institutes' user pool only.
    Jwt,
}

impl Door {
    fn of(outputs: &Outputs) -> Self {
        // A deployment older than the parameter has the JWT authorizer.
        if outputs.stack_outputs.get("Authorization").is_some_and(|it| it == "unified") { Self::Unified } else { Self::Jwt }
    }

    fn tampered(self) -> StatusCode {
        if self == Self::Unified { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }
    }

    fn list_by_staff(self) -> StatusCode {
        if self == Self::Unified { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
    }

    fn read_by_staff(self) -> StatusCode {
        if self == Self::Unified { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }
    }
}

async fn sign_staff_in(aws: &Aws, outputs: &Outputs) -> Result<SecretString> {
    let user = outputs.user(LOCAL_STAFF).with_context(|| format!("the local system has no user `{LOCAL_STAFF}`"))?;
    sign_in(aws, outputs.staff_pool()?.1, user).await
}

/// Asks the API as one of the lake's staff. `listed` is a message that an answer 200 has to name.
async fn ask(
    api: &Api,
    token: &SecretString,
    message: &'static str,
    path: &str,
    expected: StatusCode,
    listed: Option<&MessageId>,
) -> Result<Row> {
    let answer = api.get(path, Some(token)).await?;
    let mut problems = differs(Expected::Answered(expected), answer.status, "", "", None);
    if let Some(listed) = listed.filter(|_| answer.status == StatusCode::OK)
        && !String::from_utf8_lossy(&answer.body).contains(listed.as_str())
    {
        problems.push("the message is not in the list".to_owned());
    }
    Ok(Row {
        user: LOCAL_STAFF.to_owned(),
        message,
        answer: in_words(answer.status),
        status: String::new(),
        key: String::new(),
        unexpected: (!problems.is_empty()).then(|| problems.join("; ")),
    })
}

fn in_words(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default())
}

/// A user who is signed in.
struct Actor {
    email: String,
    token: SecretString,
    aws: Aws,
    /// The institute whose records this user reads in the catalog.
    institute: String,
    table: String,
}

impl Actor {
    async fn sign_in(aws: &Aws, outputs: &Outputs, email: &str) -> Result<Self> {
        let user = outputs.user(email).with_context(|| format!("the local system has no user `{email}`"))?;
        let token = sign_in(aws, &outputs.client_id, user).await?;
        let credentials = exchange(&Deployment::try_from(outputs)?, &token).await?;
        let endpoint = outputs.endpoint_url.as_deref().unwrap_or_default();
        Ok(Self {
            email: user.email.clone(),
            token,
            aws: Aws::with_credentials(endpoint, &outputs.region, credentials),
            institute: user.read.clone(),
            table: outputs.table.clone(),
        })
    }

    /// The same user with a token in which one character of the signature is another.
    fn tampered(&self) -> Self {
        let token = self.token.expose_secret();
        let (signed, signature) = token.rsplit_once('.').unwrap_or((token, ""));
        let mut characters = signature.chars();
        let first = if characters.next() == Some('A') { 'B' } else { 'A' };
        let token = SecretString::from(format!("{signed}.{first}{}", characters.as_str()));
        Self {
            email: self.email.clone(),
            token,
            aws: self.aws.clone(),
            institute: self.institute.clone(),
            table: self.table.clone(),
        }
    }

    /// The key of a message according to the catalog, which is read with this user's own AWS credentials.
    async fn look_up(&self, message_id: &str) -> Result<String> {
        let answer = aws_sdk_dynamodb::Client::new(self.aws.config())
            .get_item()
            .table_name(&self.table)
            .key("source", AttributeValue::S(self.institute.clone()))
            .key("message_id", AttributeValue::S(message_id.to_owned()))
            .consistent_read(true)
            .send()
            .await
            .map_err(client::error::explain("looking a message up in the catalog"))?;
        let key = answer.item().and_then(|item| item.get("key")).and_then(|key| key.as_s().ok());
        key.cloned().context("the catalog has no key for the message")
    }
}

/// The form of a request's body.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Er7,
}

/// The expected outcome of a message.
#[derive(Clone, Copy)]
enum Expected {
    /// It is accepted and stored, in this state.
    Stored(&'static str),
    /// It is a duplicate: the API refuses it, or accepts it, and the pipeline finds out later.
    Duplicate,
    /// The API accepts nothing, and answers with this status.
    Answered(StatusCode),
}

struct Sender<'a> {
    api: &'a Api,
    /// The user who looks up where a message lies.
    catalog: &'a Actor,
    reporter: &'a Reporter,
}

impl Sender<'_> {
    async fn send(&self, actor: &Actor, message: &'static str, form: Form, er7: &str, expected: Expected) -> Result<Row> {
        let step = self.reporter.step(message);
        let (content_type, body) = match form {
            Form::Er7 => (http::ER7, er7.as_bytes().to_vec()),
            Form::Json => {
                let body = serde_json::json!({ "msg": BASE64_STANDARD.encode(er7), "encoding": "utf-8" });
                (http::JSON, body.to_string().into_bytes())
            }
        };
        let answer = self.api.submit(body, content_type, Some(&actor.token)).await?;
        let mut row = row(actor, message, in_words(answer.status));
        let mut problems = Vec::new();
        if matches!(answer.status, StatusCode::ACCEPTED | StatusCode::CONFLICT) {
            step.at("accepted, waiting");
            let message_id = answer.text("messageId");
            match self.api.final_status(&message_id, &actor.token, DEADLINE).await {
                Ok(found) => {
                    let text = |name: &str| found.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
                    let (status, state) = (text("status"), text("state"));
                    if status == "stored" {
                        row.key = self.catalog.look_up(&message_id).await?;
                    }
                    let submissions = found.get("submissions").and_then(serde_json::Value::as_u64);
                    problems.extend(differs(expected, answer.status, &status, &state, submissions));
                    row.status = match (expected, state.as_str()) {
                        (Expected::Duplicate, _) => format!("{status} once"),
                        (_, "error") => format!("{status}, state error"),
                        _ => status,
                    };
                }
                Err(error) => problems.push(format!("{error:#}")),
            }
        } else {
            problems.extend(differs(expected, answer.status, "", "", None));
            let title = answer.text("title");
            if !title.is_empty() && !problems.is_empty() {
                problems.push(title);
            }
        }
        row.unexpected = (!problems.is_empty()).then(|| problems.join("; "));
        step.done(&row.answer);
        Ok(row)
    }

    /// Sends as an interface engine does: in the character set that MSH-18 names, without a charset in HTTP, and asking for an
    /// acknowledgment.
    async fn send_as_engine(&self, actor: &Actor, message: &'static str, er7: &str) -> Result<Row> {
        let step = self.reporter.step(message);
        let latin_1 = Charset::for_hl7("8859/1").and_then(|it| it.encode(er7)).context("the message is not of Latin-1")?;
        let request = self.api.request(Method::POST, "/er7", Some(&actor.token));
        let answer = http::send(request.header(CONTENT_TYPE, http::ER7).body(latin_1)).await?;
        let ack = String::from_utf8_lossy(&answer.body);
        let msa = ack.split('\r').find(|segment| segment.starts_with("MSA|")).unwrap_or_default();
        let mut fields = msa.split('|').skip(1);
        let (code, control_id) = (fields.next().unwrap_or_default(), fields.next());
        let mut row = row(actor, message, format!("{}, {code}", in_words(answer.status)));
        let mut problems = Vec::new();
        if code != "AA" || control_id != er7.split('|').nth(9) {
            problems.push("expected its acknowledgment with AA".to_owned());
        } else {
            step.at("accepted, waiting");
            let message_id = domain::Er7::canonical(er7)?.message_id();
            match self.api.final_status(message_id.as_str(), &actor.token, DEADLINE).await {
                Ok(found) => row.status = found.get("status").and_then(|it| it.as_str()).unwrap_or_default().to_owned(),
                Err(error) => problems.push(format!("{error:#}")),
            }
            if row.status == "stored" {
                row.key = self.catalog.look_up(message_id.as_str()).await?;
            } else if problems.is_empty() {
                problems.push(format!("expected `stored`, got `{}`", row.status));
            }
        }
        row.unexpected = (!problems.is_empty()).then(|| problems.join("; "));
        step.done(&row.answer);
        Ok(row)
    }
}

fn row(actor: &Actor, message: &'static str, answer: String) -> Row {
    Row { user: actor.email.clone(), message, answer, status: String::new(), key: String::new(), unexpected: None }
}

/// Describes how an outcome differs from the expected one.
fn differs(expected: Expected, answer: StatusCode, status: &str, state: &str, submissions: Option<u64>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut expect = |holds: bool, problem: String| {
        if !holds {
            problems.push(problem);
        }
    };
    match expected {
        Expected::Answered(expected) => expect(answer == expected, format!("expected {expected}, got {answer}")),
        Expected::Stored(expected) => {
            expect(answer == StatusCode::ACCEPTED, format!("expected 202, got {answer}"));
            expect(status == "stored", format!("expected `stored`, got `{status}`"));
            expect(state == expected, format!("expected the state `{expected}`, got `{state}`"));
        }
        Expected::Duplicate => {
            let known = matches!(answer, StatusCode::ACCEPTED | StatusCode::CONFLICT);
            expect(known, format!("expected 409 or 202, got {answer}"));
            expect(status == "stored", format!("expected `stored`, got `{status}`"));
            expect(submissions.is_none_or(|count| count >= 2), "the first submission is not the same message".to_owned());
        }
    }
    problems
}

/// Reads an object from S3 and not through the API, as anybody with a token can. S3 must answer with `content`, or refuse if that
/// is `None`.
async fn read_from_s3(actor: &Actor, message: &'static str, outputs: &Outputs, key: &str, content: Option<&str>) -> Result<Row> {
    let answer = actor.aws.s3().get_object().bucket(&outputs.bucket).key(key).send().await;
    let (answer, unexpected) = match answer {
        Ok(object) => {
            let body = object.body.collect().await.context("reading an object")?.to_vec();
            let unexpected = match content {
                None => Some("expected AccessDenied; the object was given out".to_owned()),
                Some(content) if body != content.as_bytes() => Some("the object is not the message as sent".to_owned()),
                Some(_) => None,
            };
            (format!("S3: {} bytes", body.len()), unexpected)
        }
        Err(error) => {
            let code = error.code().unwrap_or("no answer").to_owned();
            let as_expected = content.is_none() && code == "AccessDenied";
            let unexpected = (!as_expected).then(|| match content {
                Some(_) => format!("expected the object, got {code}"),
                None => format!("expected AccessDenied, got {code}"),
            });
            (format!("S3: {code}"), unexpected)
        }
    };
    Ok(Row { unexpected, ..row(actor, message, answer) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_outcome_has_no_problem() {
        assert!(differs(Expected::Stored("error"), StatusCode::ACCEPTED, "stored", "error", Some(1)).is_empty());
        assert!(differs(Expected::Duplicate, StatusCode::CONFLICT, "stored", "parsed", Some(2)).is_empty());
        assert!(differs(Expected::Answered(StatusCode::FORBIDDEN), StatusCode::FORBIDDEN, "", "", None).is_empty());
    }

    #[test]
    fn an_unexpected_outcome_is_described() {
        let problems = differs(Expected::Stored("parsed"), StatusCode::ACCEPTED, "denied", "", Some(1));
        assert_eq!(problems, ["expected `stored`, got `denied`", "expected the state `parsed`, got ``"]);
        let problems = differs(Expected::Answered(StatusCode::FORBIDDEN), StatusCode::ACCEPTED, "stored", "parsed", None);
        assert_eq!(problems, ["expected 403 Forbidden, got 202 Accepted"]);
        assert_eq!(differs(Expected::Duplicate, StatusCode::ACCEPTED, "stored", "parsed", Some(1)).len(), 1);
    }
}
