//! Turns what an institute has stored into Parquet: a file for each table and day.
//!
//! One invocation is about one institute. The worker's own role reaches no message, no record and no table: it assumes a role whose
//! session has the institute as its tag `source`, and IAM compares this tag with the partition of the catalog, with the object's prefix
//! and its tag, and with the prefix in the tables' bucket.
//!
//! The catalog's index says what there is, and no event does. The unit is a day of arrival. A day is read as a whole, and each table's
//! file of that day is replaced by one PUT, under the same name. So a run that ends in the middle leaves files that the next run writes
//! again, and no reader ever sees a message twice. Only then is the day committed to the institute's progress item.
//! A day stays open, and is looked at by each run, until it is over and each of its records is stored: so a message that was held is in
//! its day's files as soon as somebody has released it.

mod day;
mod digest;
mod files;
mod index;
mod messages;
mod progress;

use std::time::{Duration, Instant};

use aws_types::SdkConfig;
use domain::{Source, Timestamp};
use runtime::{Field, StepError, client, log_field};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sessions::InstituteSessions;
use tables::Mapping;

pub use files::Disk;

use day::{Days, Reached, Totals};
use index::Index;
use progress::{Begun, Progress};

/// No call of AWS takes longer, with its retries. A run's lease depends on it.
pub const CALL_WITHIN: Duration = Duration::from_secs(180);

/// The names of what a session works on.
#[derive(Clone, Debug)]
pub struct Names {
    /// The catalog's table.
    pub catalog: String,
    /// The table with each institute's progress.
    pub progress: String,
    /// The bucket of the tables.
    pub bucket: String,
}

/// The worker.
#[derive(Debug)]
pub struct Tabulator {
    /// The configuration of the clients, whose credentials a session replaces.
    pub sdk: SdkConfig,
    /// The sessions for one institute each.
    pub sessions: InstituteSessions,
    /// What the sessions work on.
    pub names: Names,
    /// What the tables are, with the names of the deployment's schema.
    pub mapping: Mapping,
    /// Where days are written before they are in the bucket.
    pub disk: Disk,
    /// After this long, an invocation begins no further day, so that the last one has time left. It begins one at least.
    pub begin_within: Duration,
}

/// What a run is asked for. The state machine repeats an invocation with its answer, without `from`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    institute: Source,
    /// Write the days from this one (`YYYY-MM-DD`) on again.
    #[serde(default)]
    from: Option<String>,
    /// Of the run's earlier invocations.
    #[serde(default)]
    looked_at: Option<String>,
    #[serde(flatten)]
    totals: Totals,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Every day is up to date.
    Done,
    /// There are more days than this run had time for.
    More,
    /// Another run works on this institute. This one has done nothing, or it was taken for dead, and ends.
    Running,
}

/// The answer of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    institute: Source,
    outcome: Outcome,
    /// Of the open days, those up to this one were looked at, if there is more to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    looked_at: Option<String>,
    /// Another run works on the institute, until then at the latest unless it says again that it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// What this run has written. No list, because a run may be about years, and Step Functions limits an answer.
    #[serde(flatten)]
    totals: Totals,
}

impl Tabulator {
    /// Brings an institute's tables up to date.
    ///
    /// # Errors
    /// When the input names no institute, or AWS refuses or does not answer. The days that were committed stay; the next run goes on
    /// after them.
    pub async fn run(&self, event: Value) -> Result<Run, StepError> {
        let input: Input = runtime::input("a run of tables", event)?;
        log_field(Field::Source, &input.institute);
        let run = self.run_of(input).await?;
        log_field(Field::Outcome, run.outcome.word());
        log_field(Field::Messages, run.totals.messages);
        log_field(Field::Unread, run.totals.unread);
        Ok(run)
    }

    async fn run_of(&self, input: Input) -> Result<Run, StepError> {
        let began = Instant::now();
        let Input { institute, from, looked_at, mut totals } = input;
        let from = from.filter(|it| !it.is_empty()).map(|it| Timestamp::day_start(&it).map(Timestamp::date));
        let from = from.map(|it| it.ok_or(StepError::InvalidInput { what: "the day `from`" })).transpose()?;
        let session = self.sessions.of(&institute).await?;
        let dynamodb = client!(aws_sdk_dynamodb, &self.sdk, |it| it.credentials_provider(session.clone()));
        let s3 = client!(aws_sdk_s3, &self.sdk, |it| it.credentials_provider(session));

        let now = runtime::now();
        let mut progress = match Progress::begin(dynamodb.clone(), &self.names.progress, &institute).await? {
            Begun::Own(progress) => *progress,
            Begun::Running { until } => {
                return Ok(Run { institute, outcome: Outcome::Running, looked_at: None, until, totals });
            }
        };
        let days = Days {
            index: Index::new(dynamodb, self.names.catalog.clone(), institute.clone()),
            s3,
            bucket: &self.names.bucket,
            source: &institute,
            mapping: &self.mapping,
            disk: &self.disk,
            now,
        };
        let done = async {
            if let Some(from) = from {
                progress.forget_from(&from);
                // The run's next invocation is not asked for it again.
                progress.commit().await?;
            }
            let mut is_first = true;
            let has_time = || std::mem::take(&mut is_first) || began.elapsed() < self.begin_within;
            days.bring_up_to_date(&mut progress, looked_at, &mut totals, has_time).await
        };
        let done = done.await;
        // Also after a failure, so that the next run need not wait for the end of the lease.
        let ended = progress.end(runtime::now()).await;
        let (outcome, looked_at) = match done {
            Ok(Reached::End) => (Outcome::Done, None),
            Ok(Reached::Open(looked_at)) => (Outcome::More, looked_at),
            // What this run had committed stays.
            Err(StepError::ClaimLost) => (Outcome::Running, None),
            Err(error) => return Err(error),
        };
        ended?;
        Ok(Run { institute, outcome, looked_at, until: None, totals })
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::More => "more",
            Self::Running => "running",
        }
    }
}
