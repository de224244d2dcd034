//! Puts the messages of an earlier version into the indexes by arrival, by control id and by patient.

use anyhow::{Context as _, Result, ensure};
use catalog::Catalog;
use domain::{Er7, Record, Source, arrivals};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::records::Records;
use crate::output::Step;
use client::Client;
use client::aws::Aws;
use client::outputs::Outputs;
use client::read::{Format, message};
use client::tokens::TokenClaims;
use patients::{MAX_ENTRIES, PatientIndex, PatientKeys};

/// How many records are written at once.
const AT_ONCE: usize = 8;

/// The result of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Reindexed {
    /// The number of records that were looked at.
    pub records: usize,
    /// The number of records that were added to an index.
    pub indexed: usize,
}

/// Adds records of one institute, or of all, to the indexes by arrival and by control id where they belong and are missing. Safe to
/// repeat.
///
/// # Errors
/// When AWS refuses a call.
pub async fn reindex(aws: &Aws, outputs: &Outputs, of: Option<&Source>, step: &Step) -> Result<Reindexed> {
    let catalog = Catalog::new(aws_sdk_dynamodb::Client::new(aws.config()), outputs.table.clone());
    let records = Records::new(aws, outputs);
    let (mut done, mut after) = (Reindexed::default(), None);
    loop {
        let (items, reached) = records.page(of, after.as_ref()).await?;
        done.records += items.len();
        let missing: Vec<Record> = items.into_iter().filter_map(to_write).collect();
        let write = async |record: &Record| {
            let by_arrival = catalog.index_arrival(record).await?;
            anyhow::Ok(catalog.index_control_id(record).await? || by_arrival)
        };
        let written = stream::iter(&missing).map(write).buffer_unordered(AT_ONCE);
        done.indexed += written.try_fold(0, |sum, is_new| async move { Ok(sum + usize::from(is_new)) }).await?;
        step.at(format!("{} records, {} put into the index", done.records, done.indexed));
        after = reached;
        if after.is_none() {
            return Ok(done);
        }
    }
}

/// The record, if an index may lack it or has another status of it.
fn to_write(item: catalog::Item) -> Option<Record> {
    let has_keys = ["control_id_at", arrivals::SHARD].iter().all(|it| item.contains_key(*it));
    let listed = item.get("listed").and_then(|it| it.as_s().ok()).cloned();
    let record = catalog::record(item).ok()?;
    let is_listed = listed.as_deref() == Some(record.status.listed().as_str());
    (!has_keys || !is_listed).then_some(record)
}

/// Adds the messages that a signed-in user may read to the index by patient. Reads them through the API, under the user's rights,
/// and writes the index under the operator's rights: neither account can do both. Safe to repeat.
///
/// # Errors
/// When the deployment has no such index, the user may read nothing, or the API or AWS refuses a call.
pub async fn reindex_patients(aws: &Aws, outputs: &Outputs, reader: &Client, step: &Step) -> Result<Reindexed> {
    let output = |name: &str| outputs.stack_outputs.get(name).filter(|it| !it.is_empty()).cloned();
    ensure!(output("SearchIndexes").as_deref() == Some("true"), "the deployment has no index by patient (SearchIndexes)");
    let source = TokenClaims::of(&reader.session().await?.tokens.id)?.read;
    let source: Source = source.parse().context("whoever is signed in may read no institute's messages")?;
    let key_arn = output("PatientKeyArn").context("the deployment has no key for patients: deploy it first")?;
    let key = PatientKeys::new(aws_sdk_kms::Client::new(aws.config()), key_arn).of(&source).await?;
    let table = output("PatientTableName").context("the deployment has no index by patient: deploy it first")?;
    let index = PatientIndex::new(aws_sdk_dynamodb::Client::new(aws.config()), table);
    let records = Records::new(aws, outputs);
    let (mut done, mut after) = (Reindexed::default(), None);
    loop {
        let (items, reached) = records.page(Some(&source), after.as_ref()).await?;
        done.records += items.len();
        let stored = items.into_iter().filter_map(|item| catalog::record(item).ok()).filter(|it| it.facts.is_some());
        let stored: Vec<Record> = stored.collect();
        let write = async |record: &Record| {
            let bytes = message(reader, &record.message_id, Format::Er7).await?;
            let er7 = Er7::canonical(std::str::from_utf8(&bytes)?)?;
            let identifiers = hl7::patient_identifiers(&er7, MAX_ENTRIES);
            let place = (record.received_at, &record.message_id);
            anyhow::Ok(index.add(&source, &key, place, &identifiers).await? > 0)
        };
        let written = stream::iter(&stored).map(write).buffer_unordered(AT_ONCE);
        done.indexed += written.try_fold(0, |sum, has| async move { Ok(sum + usize::from(has)) }).await?;
        step.at(format!("{} records, {} messages put into the index by patient", done.records, done.indexed));
        after = reached;
        if after.is_none() {
            return Ok(done);
        }
    }
}
