//! The callers' identity ids in the identity pool, kept beyond one process: Cognito's GetId gives 25 a second in an account.
//!
//! An identity id is not secret and opens nothing: Cognito gives credentials for it only to a token of that very identity.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue::{N, S};
use domain::{Requester, Timestamp};
use runtime::StepError;

use crate::search::is_new;
use crate::{Catalog, Item};

/// The partition of the table with the identity ids. No institute can have this name, so no user may read or write it.
pub const IDENTITIES: &str = "#identities";

/// An identity id is asked for again after so long, so that those of users who left disappear.
const KEPT: Duration = Duration::from_secs(90 * 24 * 60 * 60);

impl Catalog {
    /// The identity id that was remembered for a caller.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn identity(&self, of: &Requester) -> Result<Option<String>, StepError> {
        let found = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(of)))
            .projection_expression("identity_id")
            .send()
            .await
            .map_err(|error| StepError::from_sdk("dynamodb:GetItem", &error))?;
        Ok(found.item.and_then(|mut item| item.remove("identity_id")).and_then(|it| it.as_s().ok().cloned()))
    }

    /// Remembers a caller's identity id, in the place of `stale` where that is remembered. Where another process was faster, it changes
    /// nothing.
    ///
    /// # Errors
    /// [`StepError`] of the call.
    pub async fn remember_identity(
        &self,
        of: &Requester,
        identity_id: &str,
        stale: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StepError> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(key(of)))
            .update_expression("SET identity_id = :identity_id, expires_at = :expires_at")
            .expression_attribute_values(":identity_id", S(identity_id.to_owned()))
            .expression_attribute_values(":expires_at", N(now.plus(KEPT).as_seconds().to_string()));
        let update = match stale {
            None => update.condition_expression("attribute_not_exists(identity_id)"),
            Some(stale) => {
                update.condition_expression("identity_id = :stale").expression_attribute_values(":stale", S(stale.to_owned()))
            }
        };
        is_new(update.send().await.map(drop)).map(drop)
    }
}

fn key(of: &Requester) -> Item {
    [("source", IDENTITIES.to_owned()), ("message_id", of.digest())].map(|(name, text)| (name.to_owned(), S(text))).into()
}
