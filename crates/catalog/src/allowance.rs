//! How many messages an institute may submit in large bodies.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue::{N, S};
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use domain::{Source, Timestamp};
use runtime::StepError;

use crate::{Catalog, UPDATE_ITEM, expires_at, millis};

/// How many messages an institute may submit in large bodies: the parameters of a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The number of messages a second, in the long run.
    pub per_second: u32,
    /// The number of messages at once.
    pub burst: u32,
}

/// The partition of the table with the institutes' allowances. No institute can have this name, so no user may read it.
pub const ALLOWANCES: &str = "#allowances";

impl Catalog {
    /// Takes `count` messages from the allowance of an institute. If it is used up, gives the number of seconds after which to
    /// try again.
    ///
    /// The item holds the time until which the allowance is spent, in milliseconds. The call makes one conditional write, and a
    /// second one if some of the allowance is spent; it reads nothing first.
    ///
    /// # Errors
    /// [`StepError`] of the calls.
    pub async fn take_allowance(
        &self,
        source: &Source,
        count: u32,
        allowance: Allowance,
        now: Timestamp,
    ) -> Result<Option<u32>, StepError> {
        let per_second = i64::from(allowance.per_second.max(1));
        let cost_ms = i64::from(count) * 1000 / per_second;
        let spent_at_most = now.as_millis() + i64::from(allowance.burst) * 1000 / per_second - cost_ms;
        let update = || {
            self.client
                .update_item()
                .table_name(&self.table)
                .key("source", S(ALLOWANCES.to_owned()))
                .key("message_id", S(source.to_string()))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .expression_attribute_values(":now", millis(now))
                .expression_attribute_values(":expires_at", expires_at(now))
        };
        let anew = update()
            .update_expression("SET spent_until = :until, expires_at = :expires_at")
            .condition_expression("attribute_not_exists(spent_until) OR spent_until < :now")
            .expression_attribute_values(":until", N((now.as_millis() + cost_ms).to_string()));
        match anew.send().await {
            Ok(_) => return Ok(None),
            Err(error) if is_refused(&error) => {}
            Err(error) => return Err(StepError::from_sdk(UPDATE_ITEM, &error)),
        }
        let more = update()
            .update_expression("SET spent_until = spent_until + :cost, expires_at = :expires_at")
            .condition_expression("spent_until >= :now AND spent_until <= :at_most")
            .expression_attribute_values(":cost", N(cost_ms.to_string()))
            .expression_attribute_values(":at_most", N(spent_at_most.to_string()));
        match more.send().await {
            Ok(_) => Ok(None),
            Err(error) if is_refused(&error) => {
                let spent_until = spent_until(&error).unwrap_or(spent_at_most);
                let seconds = (spent_until - spent_at_most).max(0).div_euclid(1000) + 1;
                Ok(Some(u32::try_from(seconds).unwrap_or(u32::MAX)))
            }
            Err(error) => Err(StepError::from_sdk(UPDATE_ITEM, &error)),
        }
    }
}

fn is_refused(error: &SdkError<UpdateItemError>) -> bool {
    error.as_service_error().is_some_and(UpdateItemError::is_conditional_check_failed_exception)
}

/// The time until which the allowance is spent, from the item that refused a condition.
fn spent_until(error: &SdkError<UpdateItemError>) -> Option<i64> {
    let Some(UpdateItemError::ConditionalCheckFailedException(refusal)) = error.as_service_error() else { return None };
    refusal.item.as_ref()?.get("spent_until")?.as_n().ok()?.parse().ok()
}
