//! `POST /er7/search`: an institute's messages about a patient, newest first.
//!
//! The patient's identifier is in the body of the request and nowhere else. The index has hashes of identifiers under a key of the
//! institute (crate `patients`). The worker may make the hash, and read neither index nor catalog: it reads both with the caller's
//! credentials.

use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::catalog::MAX_PAGE;
use domain::{PatientIdentifier, Source, Timestamp};
use patients::{PatientIndex, PatientKey, PatientKeys, Search};
use runtime::{Field, HttpProblem, StepError, json_response, log_field};
use serde::Deserialize;
use serde_json::json;

use crate::catalog::Position;
use crate::list::{DEFAULT_LIMIT, entries};
use crate::{Answer, Fetch, Reader, cursor};

/// Entries that one request reads if the caller names an authority too: few identifiers belong to several authorities.
const EVALUATED: usize = 500;
/// After so many requests, or so much time, the answer has the messages found so far. Its cursor continues there.
const MAX_QUERIES: usize = 10;
const MAX_TIME: Duration = Duration::from_secs(8);

/// The index by patient, and the keys of its hashes.
#[derive(Debug)]
pub struct Patients {
    /// Own role: makes an institute's key.
    pub keys: PatientKeys,
    /// Only with a caller's credentials.
    pub index: PatientIndex,
}

/// The body of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    patient: String,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

struct Question {
    patient: PatientIdentifier,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    limit: usize,
    cursor: Option<String>,
}

impl Fetch {
    /// A page of the messages about a patient.
    pub(crate) async fn search(&self, request: &ApiGatewayV2httpRequest) -> Result<Answer, HttpProblem> {
        let reader = Reader::of(request)?;
        let question = Question::of(request)?;
        let Some(patients) = &self.patients else {
            return Err(invalid("this deployment has no index by patient (SearchIndexes)"));
        };
        let caller = self.credentials(&reader).await?;
        let key = patients.keys.of(&reader.source).await.map_err(|error| HttpProblem::of_step(&error))?;
        // The patient's hash, which is keyed: nobody learns an identifier from a cursor.
        let selection = (key.hash_of(&question.patient), question.from, question.to);
        let after = match &question.cursor {
            None => None,
            Some(cursor) => {
                let position = cursor::decode_for(cursor, &reader.source, &selection);
                Some(position.ok_or_else(|| invalid("`cursor` was not issued for this search and institute"))?)
            }
        };
        let found = self.found(patients, &caller, &reader.source, &key, &question, after).await;
        let (records, next) = found.map_err(|error| HttpProblem::of_step(&error))?;
        log_field(Field::Messages, records.len());
        let mut body = json!({ "messages": entries(&records) });
        if let (Some(next), Some(body)) = (next, body.as_object_mut()) {
            body.insert("cursor".to_owned(), cursor::encode(&reader.source, &selection, &next).into());
        }
        Ok(("searched", json_response(200, &body)))
    }

    /// The records of a page, and the position where the next one begins. `None` after the last page.
    async fn found(
        &self,
        patients: &Patients,
        caller: &Credentials,
        source: &Source,
        key: &PatientKey,
        question: &Question,
        after: Option<Position>,
    ) -> Result<(Vec<domain::Record>, Option<Position>), StepError> {
        let Question { patient, from, to, limit, .. } = question;
        let search = Search { source, key, patient, from: *from, to: *to };
        let began = Instant::now();
        let mut position = after.and_then(|it| Some((it.received_at?, it.message_id)));
        let mut found = Vec::new();
        for _ in 0..MAX_QUERIES {
            // One more than the page holds, to know whether there is another page.
            let evaluated = if patient.authorities().is_empty() { limit + 1 - found.len() } else { EVALUATED };
            let (entries, reached) = patients.index.search(caller, &search, position.as_ref(), evaluated).await?;
            found.extend(entries);
            position = reached;
            if found.len() > *limit {
                found.truncate(*limit);
                position = found.last().cloned();
                break;
            }
            if position.is_none() || began.elapsed() > MAX_TIME {
                break;
            }
        }
        let ids: Vec<_> = found.into_iter().map(|(_, message_id)| message_id).collect();
        let records = self.catalog.get_many(caller, source, &ids).await?;
        let position = position.map(|(at, message_id)| Position { received_at: Some(at), held_since: None, message_id });
        Ok((records, position))
    }
}

impl Question {
    /// 400 names what is wrong, and quotes nothing of the body.
    fn of(request: &ApiGatewayV2httpRequest) -> Result<Self, HttpProblem> {
        let text = request.body.as_deref().unwrap_or_default();
        let decoded = request.is_base64_encoded.then(|| BASE64_STANDARD.decode(text).unwrap_or_default());
        let body = serde_json::from_slice(decoded.as_deref().unwrap_or(text.as_bytes()));
        let Body { patient, from, to, limit, cursor } =
            body.map_err(|_| HttpProblem::new(400, "Bad request", BODY.to_owned()))?;
        let time = |name: &str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => match Timestamp::range_end(&text) {
                Some(time) => Ok(Some(time)),
                None => Err(invalid(&format!("`{name}` must be an RFC 3339 timestamp or YYYY-MM-DD"))),
            },
        };
        let patient = patient.parse().map_err(|error: domain::InvalidPatientIdentifier| invalid(&error.to_string()))?;
        let (from, to) = (time("from", from)?, time("to", to)?);
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Err(invalid("`from` must be before `to`"));
        }
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(invalid(&format!("`limit` is a number from 1 to {MAX_PAGE}")));
        }
        Ok(Self { patient, from, to, limit, cursor })
    }
}

const BODY: &str = "the body is a JSON object with `patient`, and may have `from`, `to`, `limit` and `cursor`";

fn invalid(detail: &str) -> HttpProblem {
    HttpProblem::new(400, "Invalid query", detail)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn asked(body: &str) -> Result<Question, String> {
        let event = json!({ "body": body, "requestContext": { "http": { "method": "POST" } } });
        Question::of(&serde_json::from_value(event).unwrap()).map_err(|problem| {
            assert_eq!(problem.status, 400);
            problem.detail
        })
    }

    #[test]
    fn a_question_is_a_patient_and_perhaps_a_time() {
        let whole = json!({ "patient": "4711^^^HIS", "from": "2026-11-28", "to": "2026-11-29", "limit": 7, "cursor": "x" });
        let Ok(question) = asked(&whole.to_string()) else { panic!() };
        assert_eq!((question.patient.id(), question.patient.authorities()), ("4711", &["HIS".to_owned()][..]));
        let times = [question.from, question.to].map(|it| it.unwrap().to_string());
        assert_eq!(times, ["2026-11-28T00:00:00.000Z", "2026-11-29T00:00:00.000Z"]);
        assert_eq!((question.limit, question.cursor.as_deref()), (7, Some("x")));
        assert_eq!(asked(r#"{"patient":"4711"}"#).map(|it| it.limit), Ok(DEFAULT_LIMIT));
    }

    #[test]
    fn what_is_wrong_is_named_and_never_quoted() {
        let with = |name: &str, value: Value| {
            let mut body = json!({ "patient": "SECRET" });
            body[name] = value;
            body.to_string()
        };
        for (body, says) in [
            ("SECRET".to_owned(), "JSON object"),
            (json!(["SECRET"]).to_string(), "JSON object"),
            (json!({}).to_string(), "`patient`"),
            (with("patient", json!("SE\nCRET")), "ID^^^AUTHORITY"),
            (with("patient", json!("")), "ID^^^AUTHORITY"),
            (with("patients", json!("SECRET")), "JSON object"),
            (with("from", json!("SECRET")), "`from`"),
            (with("to", json!("SECRET")), "`to`"),
            (with("limit", json!(0)), "`limit`"),
            (with("limit", json!(MAX_PAGE + 1)), "`limit`"),
            (json!({ "patient": "SECRET", "from": "2026-11-29", "to": "2026-11-29" }).to_string(), "before"),
        ] {
            let detail = asked(&body).err().unwrap();
            assert!(detail.contains(says) && !detail.contains("SECRET"), "{body}: {detail}");
        }
    }
}
