//! The two ways in which a held message ends: a user releases it, or an operator discards it.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue::{self, N, S};
use aws_sdk_dynamodb::types::ReturnValue;
use domain::catalog::Problem;
use domain::claim::Released;
use domain::held::{HeldPosition, HeldQuery, RELEASE_GRACE};
use domain::{MessageId, Record, Requester, Source, Status, SubmittedMessage, Timestamp};
use runtime::StepError;

use crate::read::record;
use crate::{Catalog, UNWRITABLE, UPDATE_ITEM, attribute, millis, refusing_record, status};

/// The index of the held messages of an institute (`infra/core.yaml`).
const HELD_INDEX: &str = "by-held-since";
/// Held, or released so long ago that the release must be lost. A record that an execution started by hand made was never queued.
const CAN_BE_RELEASED: &str = "(#status = :held OR (#status IN (:queued, :processing) \
                               AND (attribute_not_exists(queued_at) OR queued_at < :stale) \
                               AND (attribute_not_exists(lease_until) OR lease_until < :now)))";

/// The result of [`Catalog::discard`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discard {
    /// The record says `discarded`, now or since before.
    Discarded(Box<Record>),
    /// The message is not held.
    NotHeld(Status),
    /// The institute has submitted no such message.
    Unknown,
}

impl Catalog {
    /// Records that a held message is released with a new submission, which the caller then queues. Of several releases at the
    /// same time, one succeeds. A release that was recorded and never ended can be repeated after [`RELEASE_GRACE`].
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn release(
        &self,
        submitted: &SubmittedMessage,
        releaser: &Requester,
        now: Timestamp,
    ) -> Result<Released, StepError> {
        let written = self
            .item(submitted)
            .update_expression(
                "SET #status = :queued, listed = :queued, last_submission = :me, queued_at = :now, releaser = :releaser",
            )
            .condition_expression(format!("attribute_exists(held_key) AND {CAN_BE_RELEASED}"))
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":me", S(submitted.submission_id.to_string()))
            .expression_attribute_values(":held", status(Status::Held))
            .expression_attribute_values(":queued", status(Status::Queued))
            .expression_attribute_values(":processing", status(Status::Processing))
            .expression_attribute_values(":now", millis(now))
            .expression_attribute_values(":stale", stale(now))
            .expression_attribute_values(":releaser", attribute(releaser)?)
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        match written {
            Ok(output) => {
                let released = record(output.attributes.ok_or(StepError::Unavailable { operation: UPDATE_ITEM })?)?;
                Ok(Released::Queued(Box::new(released.held.ok_or(UNWRITABLE)?)))
            }
            Err(error) if is_about_no_record(&error) => Ok(Released::Unknown),
            Err(error) => {
                let record = refusing_record(&error)?;
                let is_mine = record.status == Status::Queued && record.last_submission == Some(submitted.submission_id);
                match record.held {
                    // The answer to this very release was lost, and the SDK repeated the call.
                    Some(held) if is_mine => Ok(Released::Queued(Box::new(held))),
                    _ => Ok(Released::NotHeld(record.status)),
                }
            }
        }
    }

    /// Takes back a release that could not be queued: the record says `held` again, with the reason if the copy is to blame.
    /// Changes nothing if another submission has come in between.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn take_release_back(&self, submitted: &SubmittedMessage, problem: Option<Problem>) -> Result<(), StepError> {
        let mut assignments = "SET #status = :held, listed = :held".to_owned();
        let mut update = self.item(submitted);
        if let Some(problem) = &problem {
            assignments.push_str(", #error = :error");
            update =
                update.expression_attribute_names("#error", "error").expression_attribute_values(":error", attribute(problem)?);
        }
        let written = update
            .update_expression(format!("{assignments} REMOVE last_submission"))
            .condition_expression("#status = :queued AND last_submission = :me")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":me", S(submitted.submission_id.to_string()))
            .expression_attribute_values(":held", status(Status::Held))
            .expression_attribute_values(":queued", status(Status::Queued))
            .send()
            .await;
        match written {
            Ok(_) => Ok(()),
            Err(error) if is_about_no_record(&error) => Ok(()),
            Err(error) => refusing_record(&error).map(drop),
        }
    }

    /// The next messages of an institute that can be released, in the order in which they were held. Looks at no more than
    /// `examined` messages, so the result may have fewer, or none. The position is that of the last message looked at; `None`
    /// after the last one.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn held(
        &self,
        source: &Source,
        query: &HeldQuery,
        after: Option<&HeldPosition>,
        examined: usize,
        now: Timestamp,
    ) -> Result<(Vec<HeldPosition>, Option<HeldPosition>), StepError> {
        const OPERATION: &str = "dynamodb:Query";
        let last = query.to.and_then(|to| Timestamp::from_millis(to.as_millis() - 1));
        let range = match (query.from, last) {
            (None, None) => "",
            (Some(_), None) => " AND held_since >= :from",
            (None, Some(_)) => " AND held_since <= :last",
            (Some(_), Some(_)) => " AND held_since BETWEEN :from AND :last",
        };
        let reason = if query.reason.is_some() { " AND held_reason = :reason" } else { "" };
        let mut request = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(HELD_INDEX)
            .limit(examined.try_into().unwrap_or(i32::MAX))
            .key_condition_expression(format!("#source = :source{range}"))
            .filter_expression(format!("{CAN_BE_RELEASED}{reason}"))
            .expression_attribute_names("#source", "source")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":source", S(source.to_string()))
            .expression_attribute_values(":held", status(Status::Held))
            .expression_attribute_values(":queued", status(Status::Queued))
            .expression_attribute_values(":processing", status(Status::Processing))
            .expression_attribute_values(":now", millis(now))
            .expression_attribute_values(":stale", stale(now));
        let values = [
            (":from", query.from.map(|it| it.to_string())),
            (":last", last.map(|it| it.to_string())),
            (":reason", query.reason.map(|it| it.to_string())),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                request = request.expression_attribute_values(name, S(value));
            }
        }
        if let Some(HeldPosition { held_since, message_id }) = after {
            request = request
                .exclusive_start_key("source", S(source.to_string()))
                .exclusive_start_key("held_since", S(held_since.to_string()))
                .exclusive_start_key("message_id", S(message_id.to_string()));
        }
        let found = request.send().await.map_err(|error| StepError::from_sdk(OPERATION, &error))?;
        let position = |item| serde_dynamo::from_item(item).map_err(|_| StepError::InvalidInput { what: "a catalog record" });
        let reached = found.last_evaluated_key.map(position).transpose()?;
        Ok((found.items.unwrap_or_default().into_iter().map(position).collect::<Result<_, _>>()?, reached))
    }

    /// Records that a held message is not to be stored, under an operator's credentials. A repeated call changes nothing and
    /// gives the earlier decision.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn discard(
        &self,
        source: &Source,
        message_id: &MessageId,
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<Discard, StepError> {
        let written = self
            .item_of(source, message_id)
            .update_expression("SET #status = :discarded, listed = :discarded, discarded_at = :now, discarded_by = :by, discard_reason = :reason")
            .condition_expression("#status = :held")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":held", status(Status::Held))
            .expression_attribute_values(":discarded", status(Status::Discarded))
            .expression_attribute_values(":now", S(now.to_string()))
            .expression_attribute_values(":by", S(by.to_owned()))
            .expression_attribute_values(":reason", S(reason.to_owned()))
            .return_values(ReturnValue::AllNew)
            .send()
            .await;
        let record = match written {
            Ok(output) => record(output.attributes.ok_or(StepError::Unavailable { operation: UPDATE_ITEM })?)?,
            Err(error) if is_about_no_record(&error) => return Ok(Discard::Unknown),
            Err(error) => refusing_record(&error)?,
        };
        match record.status {
            Status::Discarded => Ok(Discard::Discarded(Box::new(record))),
            status => Ok(Discard::NotHeld(status)),
        }
    }
}

/// The time before which a release no longer counts as on its way.
fn stale(now: Timestamp) -> AttributeValue {
    let grace = i64::try_from(RELEASE_GRACE.as_millis()).unwrap_or(i64::MAX);
    N(now.as_millis().saturating_sub(grace).to_string())
}

/// Whether a condition was refused because there is no record.
fn is_about_no_record(error: &SdkError<UpdateItemError>) -> bool {
    let refusal = error.as_service_error();
    matches!(refusal, Some(UpdateItemError::ConditionalCheckFailedException(refusal)) if refusal.item.is_none())
}
