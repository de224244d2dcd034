//! Adds records to an index that is younger than they are.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue::S;
use domain::{ControlIdKey, Record, Status, arrivals};
use runtime::StepError;

use crate::{Catalog, UPDATE_ITEM, status};

impl Catalog {
    /// Puts a record into the index by arrival, or mends its `listed` there, which a worker of an earlier build leaves as it was. False
    /// if there is nothing to do, or somebody changes the record. Safe to repeat.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn index_arrival(&self, record: &Record) -> Result<bool, StepError> {
        let listed = record.status.listed();
        let has_ended = record.claim_submission.is_some() && listed != Status::Queued;
        let ended_by = if has_ended { ", ended_by = claim_submission" } else { "" };
        let written = self
            .item_of(&record.source, &record.message_id)
            .update_expression(format!("SET arrival_shard = :shard, listed = :listed{ended_by}"))
            .condition_expression("#status = :status AND (attribute_not_exists(arrival_shard) OR listed <> :listed)")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":status", status(record.status))
            .expression_attribute_values(":listed", status(listed))
            .expression_attribute_values(":shard", S(arrivals::shard(&record.source, &record.message_id)))
            .send()
            .await;
        is_new(written.map(drop))
    }

    /// Puts a stored record into the index by control id, as [`Catalog::finish`] does. False if there is nothing to do: the message is
    /// not stored, has no control id, or its record is in the index. Safe to repeat.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn index_control_id(&self, record: &Record) -> Result<bool, StepError> {
        let control_id = record.facts.as_ref().and_then(|facts| facts.summary.control_id.as_deref());
        let Some(control_id) = control_id else { return Ok(false) };
        let written = self
            .item_of(&record.source, &record.message_id)
            .update_expression("SET control_id_at = :control_id_at")
            .condition_expression("#status = :stored AND attribute_not_exists(control_id_at)")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":stored", status(Status::Stored))
            .expression_attribute_values(":control_id_at", S(ControlIdKey::new(control_id, record.received_at).to_string()))
            .send()
            .await;
        is_new(written.map(drop))
    }
}

/// Whether a conditional write was made. A refused condition says that it was not needed.
pub(crate) fn is_new(written: Result<(), SdkError<UpdateItemError>>) -> Result<bool, StepError> {
    match written {
        Ok(()) => Ok(true),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
            _ => Err(StepError::from_sdk(UPDATE_ITEM, &error)),
        },
    }
}
