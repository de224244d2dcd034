//! Puts the records of an earlier version into the index by control id.

use anyhow::Result;
use catalog::Catalog;
use domain::{Record, Source};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::records::Records;
use crate::output::Step;
use client::aws::Aws;
use client::outputs::Outputs;

/// Records that are written at once.
const AT_ONCE: usize = 8;

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Reindexed {
    /// Records that were looked at.
    pub records: usize,
    /// Those of them that were put into the index.
    pub indexed: usize,
}

/// Looks at the records of one institute, or of all, and puts those into the index by control id that belong there and are not in it. Safe
/// to repeat.
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
        let missing = items.into_iter().filter(|item| !item.contains_key("control_id_at"));
        let missing: Vec<Record> = missing.filter_map(|item| catalog::record(item).ok()).collect();
        let written = stream::iter(&missing).map(|record| catalog.index_control_id(record)).buffer_unordered(AT_ONCE);
        done.indexed += written.try_fold(0, |sum, is_new| async move { Ok(sum + usize::from(is_new)) }).await?;
        step.at(format!("{} records, {} put into the index", done.records, done.indexed));
        after = reached;
        if after.is_none() {
            return Ok(done);
        }
    }
}
