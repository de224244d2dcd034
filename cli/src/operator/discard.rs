//! Decides that a held message is not to be stored.
//!
//! One conditional write turns `held` into `discarded`, with who, when and why. The copy stays in the held bucket until its time is
//! over. A later submission of the same message is tried anew.

use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use catalog::{Catalog, Discard};
use domain::catalog::DiscardFacts;
use domain::{MessageId, Source};
use serde::Serialize;

use super::announce::announce;
use super::audit::outcome_of;
use client::aws::Aws;
use client::outputs::Outputs;

/// The most characters of a reason.
const MAX_REASON: usize = 200;

/// A discarded message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Discarded {
    /// The message.
    pub message_id: MessageId,
    /// Its institute.
    pub source: Source,
    /// By whom, when and why.
    #[serde(flatten)]
    pub facts: DiscardFacts,
}

/// Discards a held message, and publishes the event `discarded`. Repeating it publishes the event once more, and keeps who discarded the
/// message first.
///
/// # Errors
/// When there is no such message, it is not held, or AWS refuses a call.
pub async fn discard(aws: &Aws, outputs: &Outputs, key: &(Source, MessageId), reason: &str) -> Result<Discarded> {
    let (source, message_id) = key;
    let by = aws.caller_arn().await?;
    let catalog = Catalog::new(aws_sdk_dynamodb::Client::new(aws.config()), outputs.table.clone());
    let record = match catalog.discard(source, message_id, &by, reason, SystemTime::now().into()).await? {
        Discard::Discarded(record) => *record,
        Discard::NotHeld(status) => bail!("the message is not held, but `{status}`: only a held message can be discarded"),
        Discard::Unknown => bail!("`{source}` has submitted no message {message_id}"),
    };
    if let Some(outcome) = outcome_of(&record) {
        announce(aws, outputs, "discard", outcome).await?;
    }
    let facts = record.discarded.context("a discarded record says by whom")?;
    Ok(Discarded { message_id: message_id.clone(), source: source.clone(), facts })
}

/// Checks the text of a reason.
///
/// # Errors
/// When it is empty, longer than 200 characters, or more than a line.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    let is_good = !text.trim().is_empty() && text.chars().count() <= MAX_REASON && !text.chars().any(char::is_control);
    if is_good { Ok(text.to_owned()) } else { Err(format!("expected a line of at most {MAX_REASON} characters")) }
}
