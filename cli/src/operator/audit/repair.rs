//! Repairs the findings that have only one possible repair: tags that differ from the record, and missing events.

use anyhow::Result;
use aws_sdk_s3::types::{Tag, Tagging};
use domain::event::{EventType, Outcome};
use domain::{Record, State, Status, SubmittedMessage};
use serde::Serialize;

use super::finding::{Finding, Kind};
use super::lake::expected_tags;
use crate::operator::announce::announce;
use crate::operator::records::Records;
use crate::output::Reporter;
use client::aws::Aws;
use client::error::explain;
use client::outputs::Outputs;

/// The result of a repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Repaired {
    /// How many findings were mended.
    pub mended: usize,
    /// How many were not there any more.
    pub gone: usize,
}

/// Mends those of the findings that [`Kind::is_repairable`] names. Reads each record again first, and leaves what has changed since.
///
/// # Errors
/// When AWS refuses a call. What was mended by then is mended; a repeated repair does no harm.
pub async fn repair(aws: &Aws, outputs: &Outputs, findings: &[Finding], reporter: &Reporter) -> Result<Repaired> {
    let (records, mut repaired) = (Records::new(aws, outputs), Repaired::default());
    let step = reporter.step("mending");
    for finding in findings.iter().filter(|it| it.kind.is_repairable()) {
        let (Some(source), Some(message_id)) = (&finding.source, &finding.message_id) else { continue };
        let record = records.get(&(source.clone(), message_id.clone())).await?;
        let is_mended = match (finding.kind, record) {
            (Kind::TagsChanged, Some(record)) => tag(aws, finding, &record).await?,
            (Kind::EventMissing, Some(record)) => publish(aws, outputs, finding, &record).await?,
            _ => false,
        };
        *(if is_mended { &mut repaired.mended } else { &mut repaired.gone }) += 1;
        step.at(format!("{} mended", repaired.mended));
    }
    step.done(format!("{} mended, {} not there any more", repaired.mended, repaired.gone));
    Ok(repaired)
}

/// Gives the version that the record names the tags that the record implies.
async fn tag(aws: &Aws, finding: &Finding, record: &Record) -> Result<bool> {
    let (Some(facts), Some(bucket), Some(key)) = (&record.facts, &finding.bucket, &finding.key) else { return Ok(false) };
    let named = [
        (Some(&facts.key), &facts.version_id),
        (facts.json_key.as_ref(), &facts.json_version_id),
        (facts.raw_key.as_ref(), &facts.raw_version_id),
    ];
    if facts.bucket != *bucket || !named.contains(&(Some(key), &finding.version_id)) {
        return Ok(false);
    }
    let tags = expected_tags(&record.source, facts.state).into_iter();
    let tags = tags.map(|(name, value)| Tag::builder().key(name).value(value).build()).collect::<Result<Vec<_>, _>>()?;
    let tagging = Tagging::builder().set_tag_set(Some(tags)).build()?;
    let request = aws.s3().put_object_tagging().bucket(bucket).key(key).set_version_id(finding.version_id.clone());
    request.tagging(tagging).send().await.map_err(explain(format!("tagging the object `{key}`")))?;
    Ok(true)
}

/// Publishes the event of the record's end, if that still is the end of the finding.
async fn publish(aws: &Aws, outputs: &Outputs, finding: &Finding, record: &Record) -> Result<bool> {
    let Some(outcome) = outcome_of(record) else { return Ok(false) };
    if Some(outcome.event_type.to_string()) != finding.detail {
        return Ok(false);
    }
    announce(aws, outputs, "audit", outcome).await?;
    Ok(true)
}

/// The outcome that a record has, in the form that `publish` takes; `None` if the message has not ended, or nothing was announced.
pub(crate) fn outcome_of(record: &Record) -> Option<Outcome> {
    let submission_id = record.claim_submission?;
    let submitted = SubmittedMessage { submission_id, message_id: record.message_id.clone(), source: record.source.clone() };
    let outcome = |event_type| Outcome {
        event_type,
        submitted,
        received_at: record.received_at,
        stored: None,
        error: None,
        reason: None,
        traceparent: None,
    };
    match record.status {
        Status::Stored => {
            let stored = record.stored()?;
            let event_type = match stored.facts.state {
                State::Parsed => EventType::Stored,
                State::Error => EventType::Unparsable,
            };
            Some(Outcome { stored: Some(stored), ..outcome(event_type) })
        }
        Status::Held | Status::Discarded => {
            let reason = record.held.as_ref().map(|held| held.held_reason);
            let error = record.error.as_ref().map(|error| error.code.clone());
            let event_type = if record.status == Status::Held { EventType::Held } else { EventType::Discarded };
            Some(Outcome { error, reason, ..outcome(event_type) })
        }
        _ => None,
    }
}
