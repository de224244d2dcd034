//! The catalog table: every write there is, each one conditional `UpdateItem`, and the one read.
//!
//! PK `source`, SK `message_id`; the attributes are the fields of [`domain::Record`]. Nothing is read before it is
//! written: the condition is the question, and a refused one brings the item back (`ReturnValuesOnConditionCheckFailure`),
//! from which [`domain::claim`] reads why. The property test in `tests/it/claim_model.rs` runs these functions against a
//! reference model.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::AttributeValue::{self, N, S};
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use domain::catalog::Problem;
use domain::claim::{Claim, Finish, GivenUp, RECORD_TTL};
use domain::step::Subject;
use domain::{MessageId, Record, Source, Status, Stored, Timestamp};
use runtime::StepError;
use serde::Serialize;

const UPDATE_ITEM: &str = "dynamodb:UpdateItem";
const NOT_STORED: &str = "(attribute_not_exists(#status) OR #status <> :stored)";
const CLAIM_IS_MINE: &str = "claim_submission = :me";

/// The catalog, as a worker's own role sees it.
#[derive(Clone, Debug)]
pub struct Catalog {
    client: Client,
    table: String,
}

/// What became of noting a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The message is stored already: the submission was counted and goes nowhere. Else the record says `queued`, and it may go
    /// into the queue.
    pub is_stored: bool,
    /// When the institute first submitted the message.
    pub first_received_at: Timestamp,
}

impl Catalog {
    /// The catalog in `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Notes a submission before it is queued, so that its status can be asked for from the 202 on.
    ///
    /// The record becomes `queued`, also while an earlier submission of the same message is being processed or after one
    /// was denied: a caller who polls must not take another submission's end for its own. An entry whose submission never
    /// reaches the queue is in nobody's way: it holds no claim.
    ///
    /// # Errors
    /// [`StepError`] of the calls.
    pub async fn note_submission(&self, subject: &Subject, received_at: Timestamp) -> Result<Noted, StepError> {
        let noted = self
            .update(subject)
            .update_expression(
                "SET #status = :queued, last_submission = :me, expires_at = :expires_at, \
                 received_at = if_not_exists(received_at, :received_at) ADD submissions :one REMOVE #error",
            )
            .condition_expression(NOT_STORED)
            .expression_attribute_names("#error", "error")
            .expression_attribute_values(":queued", status(Status::Queued))
            .expression_attribute_values(":expires_at", expires_at(received_at))
            .expression_attribute_values(":received_at", S(received_at.to_string()))
            .expression_attribute_values(":one", N("1".to_owned()))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await;
        match noted {
            Ok(output) => Ok(Noted { is_stored: false, first_received_at: first_received_at(&output).unwrap_or(received_at) }),
            Err(error) => {
                let record = refusing_record(&error)?;
                self.count_duplicate(subject).await?;
                Ok(Noted { is_stored: true, first_received_at: record.received_at })
            }
        }
    }

    async fn count_duplicate(&self, subject: &Subject) -> Result<(), StepError> {
        let counted = self
            .item(subject)
            .update_expression("ADD submissions :one")
            .condition_expression("attribute_exists(message_id)")
            .expression_attribute_values(":one", N("1".to_owned()))
            .send()
            .await;
        counted.map(drop).map_err(|error| StepError::from_sdk(UPDATE_ITEM, &error))
    }

    /// Claims a message for a submission, with a lease of that length from `now`. Safe to repeat: the same submission
    /// gets the same answer.
    ///
    /// A record that is not there (an operator started the execution by hand) is made.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn claim(
        &self,
        subject: &Subject,
        received_at: Timestamp,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Claim, StepError> {
        let claimed = self
            .update(subject)
            .update_expression(
                "SET #status = :processing, claim_submission = :me, lease_until = :lease_until, expires_at = :expires_at, \
                 received_at = if_not_exists(received_at, :received_at), submissions = if_not_exists(submissions, :one), \
                 last_submission = if_not_exists(last_submission, :me)",
            )
            .condition_expression(format!(
                "{NOT_STORED} AND (attribute_not_exists(lease_until) OR lease_until < :now OR {CLAIM_IS_MINE})"
            ))
            .expression_attribute_values(":processing", status(Status::Processing))
            .expression_attribute_values(":now", N(now.as_millis().to_string()))
            .expression_attribute_values(":lease_until", N(now.plus(lease).as_millis().to_string()))
            .expression_attribute_values(":expires_at", expires_at(now))
            .expression_attribute_values(":received_at", S(received_at.to_string()))
            .expression_attribute_values(":one", N("1".to_owned()))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await;
        match claimed {
            Ok(output) => Ok(Claim::New { received_at: first_received_at(&output).unwrap_or(received_at) }),
            Err(error) => {
                let record = refusing_record(&error)?;
                // A record that no longer refuses changed in between; the step is tried again.
                Claim::refused_by(&record, subject.submission_id, now).ok_or(StepError::Unavailable { operation: UPDATE_ITEM })
            }
        }
    }

    /// Marks the message stored, if the claim still is the submission's. Safe to repeat.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn finish(&self, subject: &Subject, stored: Stored) -> Result<Finish, StepError> {
        let written = self
            .update(subject)
            .update_expression(
                "SET #status = :stored, #state = :state, #bucket = :bucket, #key = :key, version_id = :version_id, \
                 json_key = :json_key, json_version_id = :json_version_id, raw_key = :raw_key, \
                 raw_version_id = :raw_version_id, charset = :charset, stored_at = :stored_at, summary = :summary, \
                 #error = :error REMOVE lease_until, expires_at",
            )
            .condition_expression(format!("{NOT_STORED} AND {CLAIM_IS_MINE}"))
            .expression_attribute_names("#state", "state")
            .expression_attribute_names("#bucket", "bucket")
            .expression_attribute_names("#key", "key")
            .expression_attribute_names("#error", "error")
            .expression_attribute_values(":state", S(stored.state.as_str().to_owned()))
            .expression_attribute_values(":bucket", S(stored.bucket.clone()))
            .expression_attribute_values(":key", S(stored.key.clone()))
            .expression_attribute_values(":version_id", attribute(&stored.version_id)?)
            .expression_attribute_values(":json_key", attribute(&stored.json_key)?)
            .expression_attribute_values(":json_version_id", attribute(&stored.json_version_id)?)
            .expression_attribute_values(":raw_key", attribute(&stored.raw_key)?)
            .expression_attribute_values(":raw_version_id", attribute(&stored.raw_version_id)?)
            .expression_attribute_values(":charset", attribute(&stored.charset)?)
            .expression_attribute_values(":stored_at", S(stored.stored_at.to_string()))
            .expression_attribute_values(":summary", attribute(&stored.summary)?)
            .expression_attribute_values(":error", attribute(&stored.error)?)
            .send()
            .await;
        match written {
            Ok(_) => Ok(Finish::Stored(Box::new(stored))),
            Err(error) => Ok(Finish::refused_by(&refusing_record(&error)?, subject.submission_id)),
        }
    }

    /// Gives the claim up with a final status (`denied`, `expired`, `failed`), or with `queued` for another try.
    ///
    /// Where a newer submission of the message waits, the record says `queued` whatever became of this one: its caller
    /// polls the same record. Safe to repeat.
    ///
    /// # Errors
    /// [`StepError`] of the calls.
    pub async fn give_up(&self, subject: &Subject, to: Status, error: &str) -> Result<GivenUp, StepError> {
        let problem = Some(Problem::new(error));
        let mine = format!("{NOT_STORED} AND {CLAIM_IS_MINE}");
        let newest = format!("{mine} AND (attribute_not_exists(last_submission) OR last_submission = :me)");
        match self.write_given_up(subject, to, problem, newest).await {
            Ok(()) => return Ok(GivenUp::Recorded),
            Err(error) => {
                let record = refusing_record(&error)?;
                if record.status == Status::Stored || record.claim_submission != Some(subject.submission_id) {
                    return Ok(GivenUp::Lost);
                }
            }
        }
        match self.write_given_up(subject, Status::Queued, None, mine).await {
            Ok(()) => Ok(GivenUp::QueuedForAnother),
            Err(error) => refusing_record(&error).map(|_| GivenUp::Lost),
        }
    }

    async fn write_given_up(
        &self,
        subject: &Subject,
        to: Status,
        problem: Option<Problem>,
        condition: String,
    ) -> Result<(), SdkError<UpdateItemError>> {
        let problem = attribute(&problem).unwrap_or(AttributeValue::Null(true));
        // A submission that has come to its end is nobody's successor any more: one that is tried later has the last word.
        let forget = if to.is_final() { ", last_submission" } else { "" };
        self.update(subject)
            .update_expression(format!("SET #status = :to, #error = :error REMOVE lease_until{forget}"))
            .condition_expression(condition)
            .expression_attribute_names("#error", "error")
            .expression_attribute_values(":to", status(to))
            .expression_attribute_values(":error", problem)
            .send()
            .await
            .map(drop)
    }

    /// The record of a message, as it is now.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn get(&self, source: &Source, message_id: &MessageId) -> Result<Option<Record>, StepError> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("source", S(source.to_string()))
            .key("message_id", S(message_id.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| StepError::from_sdk("dynamodb:GetItem", &error))?;
        found.item.map(record).transpose()
    }

    fn item(&self, subject: &Subject) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("source", S(subject.source.to_string()))
            .key("message_id", S(subject.message_id.to_string()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    /// An update whose expressions speak of `#status`, `:stored` and `:me`.
    fn update(&self, subject: &Subject) -> UpdateItemFluentBuilder {
        self.item(subject)
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":stored", status(Status::Stored))
            .expression_attribute_values(":me", S(subject.submission_id.to_string()))
    }
}

/// What `if_not_exists(received_at, ...)` left there.
fn first_received_at(output: &UpdateItemOutput) -> Option<Timestamp> {
    output.attributes.as_ref()?.get("received_at")?.as_s().ok()?.clone().try_into().ok()
}

fn status(status: Status) -> AttributeValue {
    S(status.as_str().to_owned())
}

fn expires_at(from: Timestamp) -> AttributeValue {
    N(from.plus(RECORD_TTL).as_seconds().to_string())
}

fn attribute(value: &impl Serialize) -> Result<AttributeValue, StepError> {
    serde_dynamo::to_attribute_value(value).map_err(|_| StepError::InvalidInput { what: "a catalog attribute" })
}

fn record(item: HashMap<String, AttributeValue>) -> Result<Record, StepError> {
    serde_dynamo::from_item(item).map_err(|_| StepError::InvalidInput { what: "a catalog record" })
}

/// The record that refused a condition; any other error as a [`StepError`].
fn refusing_record(error: &SdkError<UpdateItemError>) -> Result<Record, StepError> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
            record(refusal.item.clone().ok_or(StepError::Unavailable { operation: UPDATE_ITEM })?)
        }
        _ => Err(StepError::from_sdk(UPDATE_ITEM, error)),
    }
}
