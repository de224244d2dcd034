//! All writes to the catalog table, each one conditional `UpdateItem`, and the reads under the worker's own role.
//!
//! PK `source`, SK `message_id`; the attributes are the members of [`domain::Record`] in snake_case, and
//! `control_id_at` ([`domain::ControlIdKey`]) for the index `by-control-id`; `arrival_shard` ([`domain::arrivals`]), `listed` and
//! `ended_by` for the index `by-arrival`. Nothing is read before it is
//! written: a refused condition returns the item (`ReturnValuesOnConditionCheckFailure`), and [`domain::claim`] reads the reason from
//! it. The property test in `tests/it/claim_model.rs` runs these functions against a reference model.

#![warn(missing_docs)]

mod allowance;
mod held;
mod identities;
mod read;
mod search;

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
use domain::{
    ControlIdKey, HeldFacts, MessageId, Record, Requester, Source, Status, Stored, SubmittedMessage, Timestamp, arrivals,
};
use heck::ToSnakeCase as _;
use runtime::StepError;
use serde::Serialize;

pub use allowance::{ALLOWANCES, Allowance};
pub use held::Discard;
pub use identities::IDENTITIES;
pub use read::{Item, key, record};

const UPDATE_ITEM: &str = "dynamodb:UpdateItem";

const NOT_STORED: &str = "(attribute_not_exists(#status) OR #status <> :stored)";
const CLAIM_IS_MINE: &str = "claim_submission = :me";
const NEWEST_IS_MINE: &str = "(attribute_not_exists(last_submission) OR last_submission = :me)";
const HELD_FACTS: &str = "held_reason, held_since, held_until, held_key, held_version_id, held_expires_at";
/// The record of a held message outlives the copy, whoever submits or claims it meanwhile.
const EXPIRES_AT: &str = "expires_at = if_not_exists(held_expires_at, :expires_at)";
/// A record of an earlier build gets its partition of the index with its next submission or claim, at its end, or by
/// [`Catalog::index_arrival`].
const ARRIVAL_SHARD: &str = "arrival_shard = :shard";
const UNWRITABLE: StepError = StepError::InvalidInput { what: "a catalog attribute" };

/// The catalog, under the worker's own role.
#[derive(Clone, Debug)]
pub struct Catalog {
    client: Client,
    table: String,
}

/// The result of [`Catalog::record_submission`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedSubmission {
    /// Whether the message is stored already: then the submission was counted and must not be queued. Otherwise the record says
    /// `queued`, and the caller may queue the submission.
    pub is_stored: bool,
    /// When the institute first submitted the message.
    pub first_received_at: Timestamp,
}

impl Catalog {
    /// The catalog in `table`.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Records a submission before it is queued, so that the API can answer its status from the 202 on.
    ///
    /// The record becomes `queued`, also while an earlier submission of the same message is being processed or is held: a caller
    /// who polls must not take another submission's outcome for its own. A record whose submission never reaches the queue blocks
    /// nobody: it holds no claim, and a held copy can still be released.
    ///
    /// # Errors
    /// [`StepError`] of the calls.
    pub async fn record_submission(
        &self,
        submitted: &SubmittedMessage,
        received_at: Timestamp,
        submitter: &Requester,
    ) -> Result<RecordedSubmission, StepError> {
        let recorded = self
            .update(submitted)
            .update_expression(format!(
                "SET #status = :queued, listed = :queued, {ARRIVAL_SHARD}, last_submission = :me, {EXPIRES_AT}, \
                     queued_at = :queued_at, submitter = :submitter, \
                     received_at = if_not_exists(received_at, :received_at) ADD submissions :one REMOVE #error"
            ))
            .condition_expression(NOT_STORED)
            .expression_attribute_names("#error", "error")
            .expression_attribute_values(":queued", status(Status::Queued))
            .expression_attribute_values(":shard", shard(submitted))
            .expression_attribute_values(":expires_at", expires_at(received_at))
            .expression_attribute_values(":queued_at", millis(received_at))
            .expression_attribute_values(":submitter", attribute(submitter)?)
            .expression_attribute_values(":received_at", S(received_at.to_string()))
            .expression_attribute_values(":one", N("1".to_owned()))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await;
        match recorded {
            Ok(output) => {
                Ok(RecordedSubmission { is_stored: false, first_received_at: first_received_at(&output).unwrap_or(received_at) })
            }
            Err(error) => {
                let record = refusing_record(&error)?;
                self.count_duplicate(submitted).await?;
                Ok(RecordedSubmission { is_stored: true, first_received_at: record.received_at })
            }
        }
    }

    async fn count_duplicate(&self, submitted: &SubmittedMessage) -> Result<(), StepError> {
        let counted = self
            .item(submitted)
            .update_expression("ADD submissions :one")
            .condition_expression("attribute_exists(message_id)")
            .expression_attribute_values(":one", N("1".to_owned()))
            .send()
            .await;
        counted.map(drop).map_err(|error| StepError::from_sdk(UPDATE_ITEM, &error))
    }

    /// Claims a message for a submission, with a lease that ends `lease` after `now`. Safe to repeat: the same submission gets
    /// the same answer.
    ///
    /// Creates the record if there is none (an operator started the execution by hand).
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn claim(
        &self,
        submitted: &SubmittedMessage,
        received_at: Timestamp,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Claim, StepError> {
        let claimed = self
            .update(submitted)
            .update_expression(format!(
                "SET #status = :processing, listed = :queued, {ARRIVAL_SHARD}, claim_submission = :me, lease_until = :lease_until, \
                     {EXPIRES_AT}, \
                     received_at = if_not_exists(received_at, :received_at), submissions = if_not_exists(submissions, :one), \
                     last_submission = if_not_exists(last_submission, :me)"
            ))
            .condition_expression(format!(
                "(attribute_not_exists(#status) OR NOT #status IN (:stored, :discarded)) \
                 AND (attribute_not_exists(lease_until) OR lease_until < :now OR {CLAIM_IS_MINE})"
            ))
            .expression_attribute_values(":discarded", status(Status::Discarded))
            .expression_attribute_values(":processing", status(Status::Processing))
            .expression_attribute_values(":queued", status(Status::Queued))
            .expression_attribute_values(":shard", shard(submitted))
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
                // The record changed in between and no longer refuses the claim. The step is tried again.
                Claim::refused_by(&record, submitted.submission_id, now).ok_or(StepError::Unavailable { operation: UPDATE_ITEM })
            }
        }
    }

    /// Marks the message stored, if the submission still holds the claim. Safe to repeat.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn finish(&self, submitted: &SubmittedMessage, stored: Stored) -> Result<Finish, StepError> {
        let mut update = self.update(submitted).expression_attribute_values(":shard", shard(submitted));
        let mut assignments = vec![format!("#status = :stored, listed = :stored, ended_by = :me, {ARRIVAL_SHARD}")];
        let facts: HashMap<String, AttributeValue> = serde_dynamo::to_item(&stored.facts).map_err(|_| UNWRITABLE)?;
        for (member, value) in facts.into_iter().chain([("error".to_owned(), attribute(&stored.error)?)]) {
            let name = member.to_snake_case();
            assignments.push(format!("#{name} = :{name}"));
            update = update
                .expression_attribute_values(format!(":{name}"), value)
                .expression_attribute_names(format!("#{name}"), name);
        }
        if let Some(control_id) = &stored.facts.summary.control_id {
            assignments.push("#control_id_at = :control_id_at".to_owned());
            let key = ControlIdKey::new(control_id, stored.received_at);
            update = update
                .expression_attribute_values(":control_id_at", S(key.to_string()))
                .expression_attribute_names("#control_id_at", "control_id_at");
        }
        let written = update
            .update_expression(format!("SET {} REMOVE lease_until, expires_at, {HELD_FACTS}", assignments.join(", ")))
            .condition_expression(format!("{NOT_STORED} AND {CLAIM_IS_MINE}"))
            .send()
            .await;
        match written {
            Ok(_) => Ok(Finish::Stored(Box::new(stored))),
            Err(error) => Ok(Finish::refused_by(&refusing_record(&error)?, submitted.submission_id)),
        }
    }

    /// Gives the claim up with `failed`, or with `queued` for another try.
    ///
    /// If a newer submission of the message waits, the record says `queued`, because the caller of that submission polls the same
    /// record. Safe to repeat.
    ///
    /// # Errors
    /// [`StepError`] of the calls.
    pub async fn give_up(&self, submitted: &SubmittedMessage, to: Status, error: &str) -> Result<GivenUp, StepError> {
        let problem = Some(Problem::new(error));
        let mine = format!("{NOT_STORED} AND {CLAIM_IS_MINE}");
        let newest = format!("{mine} AND {NEWEST_IS_MINE}");
        match self.write_given_up(submitted, to, problem, None, newest).await {
            Ok(()) => return Ok(GivenUp::Recorded),
            Err(error) if is_lost(&error, submitted)? => return Ok(GivenUp::Lost),
            Err(_) => {}
        }
        match self.write_given_up(submitted, Status::Queued, None, None, mine).await {
            Ok(()) => Ok(GivenUp::QueuedForAnother),
            Err(error) => refusing_record(&error).map(|_| GivenUp::Lost),
        }
    }

    /// Gives the claim up with `held`, once the copy lies in the held bucket. The record outlives the copy.
    ///
    /// If a newer submission of the message waits, the record says `queued` as with [`Catalog::give_up`], and knows the copy
    /// nonetheless: that submission may never have reached the queue. Safe to repeat.
    ///
    /// # Errors
    /// [`StepError`] of the calls.
    pub async fn hold(&self, submitted: &SubmittedMessage, held: &HeldFacts, error: &str) -> Result<GivenUp, StepError> {
        let problem = Some(Problem::new(error));
        let mine = format!("{NOT_STORED} AND {CLAIM_IS_MINE}");
        let newest = format!("{mine} AND {NEWEST_IS_MINE}");
        match self.write_given_up(submitted, Status::Held, problem, Some(held), newest).await {
            Ok(()) => return Ok(GivenUp::Recorded),
            Err(error) if is_lost(&error, submitted)? => return Ok(GivenUp::Lost),
            Err(_) => {}
        }
        match self.write_given_up(submitted, Status::Queued, None, Some(held), mine).await {
            Ok(()) => Ok(GivenUp::QueuedForAnother),
            Err(error) => refusing_record(&error).map(|_| GivenUp::Lost),
        }
    }

    async fn write_given_up(
        &self,
        submitted: &SubmittedMessage,
        to: Status,
        problem: Option<Problem>,
        held: Option<&HeldFacts>,
        condition: String,
    ) -> Result<(), SdkError<UpdateItemError>> {
        let null = AttributeValue::Null(true);
        let ended_by = if to.is_final() { ", ended_by = :me" } else { "" };
        let mut assignments = format!("SET #status = :to, listed = :to{ended_by}, #error = :error");
        let mut update = self
            .update(submitted)
            .condition_expression(condition)
            .expression_attribute_names("#error", "error")
            .expression_attribute_values(":to", status(to))
            .expression_attribute_values(":error", attribute(&problem).unwrap_or(null.clone()));
        if let Some(held) = held {
            assignments.push_str(
                ", held_reason = :reason, held_since = :since, held_until = :until, held_key = :key, held_version_id = :version, \
                 expires_at = :expires_at, held_expires_at = :expires_at",
            );
            update = update
                .expression_attribute_values(":reason", S(held.held_reason.as_str().to_owned()))
                .expression_attribute_values(":since", S(held.held_since.to_string()))
                .expression_attribute_values(":until", S(held.held_until.to_string()))
                .expression_attribute_values(":key", S(held.held_key.clone()))
                .expression_attribute_values(":version", held.held_version_id.clone().map_or(null, S))
                .expression_attribute_values(":expires_at", expires_at(held.held_until));
        }
        // A submission that has ended no longer counts as the newest: the one that is tried later decides the final status.
        let forget = if to.is_final() { ", last_submission" } else { "" };
        update.update_expression(format!("{assignments} REMOVE lease_until{forget}")).send().await.map(drop)
    }

    fn item(&self, submitted: &SubmittedMessage) -> UpdateItemFluentBuilder {
        self.item_of(&submitted.source, &submitted.message_id)
    }

    fn item_of(&self, source: &Source, message_id: &MessageId) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(source, message_id)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
    }

    /// An update whose expressions may use `#status`, `:stored` and `:me`.
    fn update(&self, submitted: &SubmittedMessage) -> UpdateItemFluentBuilder {
        self.item(submitted)
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":stored", status(Status::Stored))
            .expression_attribute_values(":me", S(submitted.submission_id.to_string()))
    }
}

/// The value that `if_not_exists(received_at, ...)` left in the record.
fn first_received_at(output: &UpdateItemOutput) -> Option<Timestamp> {
    output.attributes.as_ref()?.get("received_at")?.as_s().ok()?.parse().ok()
}

/// The record's partition of the index by arrival.
fn shard(submitted: &SubmittedMessage) -> AttributeValue {
    S(arrivals::shard(&submitted.source, &submitted.message_id))
}

fn status(status: Status) -> AttributeValue {
    S(status.as_str().to_owned())
}

fn millis(at: Timestamp) -> AttributeValue {
    N(at.as_millis().to_string())
}

fn expires_at(from: Timestamp) -> AttributeValue {
    N(from.plus(RECORD_TTL).as_seconds().to_string())
}

fn attribute(value: &impl Serialize) -> Result<AttributeValue, StepError> {
    serde_dynamo::to_attribute_value(value).map_err(|_| UNWRITABLE)
}

/// Whether a refused condition says that the submission no longer holds the claim.
fn is_lost(error: &SdkError<UpdateItemError>, submitted: &SubmittedMessage) -> Result<bool, StepError> {
    let record = refusing_record(error)?;
    Ok(record.status == Status::Stored || record.claim_submission != Some(submitted.submission_id))
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
