//! Adds records that are older than the index by control id to it.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue::S;
use domain::{ControlIdKey, Record, Status};
use runtime::StepError;

use crate::{Catalog, UPDATE_ITEM, status};

impl Catalog {
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
        match written {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
                _ => Err(StepError::from_sdk(UPDATE_ITEM, &error)),
            },
        }
    }
}
