//! An institute's progress: which days are in the tables, and whether a run works on them at this moment.
//!
//! One item of a table of its own, keyed by the institute. Each change of it is one conditional `UpdateItem` in the institute's session.
//!
//! A run takes a lease of the progress, and says again that it works while it does, and before it replaces files ([`Progress::keep`]). A lease
//! is longer than such a call may take: so when it has lapsed, no call of its holder is on its way any more, and another run may begin,
//! however its holder ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use domain::{Source, Timestamp};
use runtime::StepError;
use serde::{Deserialize, Serialize};
use tables::Entry;

use crate::CALL_WITHIN;

const UPDATE_ITEM: &str = "dynamodb:UpdateItem";

/// For how long after its end a day may still get a new record: the clocks of workers differ, and the index follows the table.
const MARGIN: Duration = Duration::from_secs(60 * 60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long a run keeps others out since it said last that it works: a call that it begins then, and the difference between the
/// workers' clocks.
const LEASE: Duration = CALL_WITHIN.saturating_add(Duration::from_secs(60));

/// How old such a word may be when a call begins. The rest of the minute is for the clocks.
const FRESH: Duration = Duration::from_secs(20);

/// So many unreadable messages of a day are tried again by each run.
const MOST_UNREAD_OF_DAY: usize = 20;

/// So many of all days: an item of DynamoDB has at most 400 KB.
const MOST_UNREAD: usize = 500;

/// The digests of the open days; an empty one for a day that no run has read yet.
type Open = BTreeMap<String, String>;

/// The progress, while this run has the lease.
#[derive(Debug)]
pub(crate) struct Progress {
    client: Client,
    table: String,
    source: Source,
    run: String,
    /// When this run said last that it works.
    kept_at: Timestamp,
    kept: Kept,
    /// Days that have files since the last commit.
    new_days: BTreeSet<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Kept {
    /// Every day up to this one is in the tables, but for the open ones.
    through: Option<String>,
    #[serde(default)]
    open: Open,
    /// Every day that has files, since a session may not list them: a day whose records have all gone is in no index.
    #[serde(default)]
    days: BTreeSet<String>,
    /// Messages that S3 did not give, by day. They may come back.
    #[serde(default)]
    unread: BTreeMap<String, Vec<Object>>,
}

/// An object of the lake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Object {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) version_id: Option<String>,
}

impl From<&Entry> for Object {
    fn from(entry: &Entry) -> Self {
        Self { bucket: entry.bucket.clone(), key: entry.key.clone(), version_id: entry.version_id.clone() }
    }
}

/// Who works on an institute.
#[derive(Debug)]
pub(crate) enum Begun {
    /// This run.
    Own(Box<Progress>),
    /// Another one, until then unless it says again that it works.
    Running { until: Option<Timestamp> },
}

/// The part of an item that says until when another run works.
#[derive(Deserialize)]
struct Lease {
    run_until: i64,
}

impl Progress {
    /// Takes an institute's progress for this run, unless another run has the lease.
    pub(crate) async fn begin(client: Client, table: &str, source: &Source) -> Result<Begun, StepError> {
        let run = runtime::new_submission_id().to_string();
        let (kept, new_days, now) = (Kept::default(), BTreeSet::new(), runtime::now());
        let mut progress = Self { client, table: table.to_owned(), source: source.clone(), run, kept_at: now, kept, new_days };
        let begin = progress
            .update("SET run = :run, run_until = :until")
            // It is this run's already where the answer to the first attempt was lost.
            .condition_expression("attribute_not_exists(run_until) OR run_until < :now OR run = :run")
            .expression_attribute_values(":until", millis(now.plus(LEASE)))
            .expression_attribute_values(":now", millis(now))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let item = match begin {
            Ok(done) => done.attributes.unwrap_or_default(),
            Err(error) => {
                let Some(UpdateItemError::ConditionalCheckFailedException(refused)) = error.as_service_error() else {
                    return Err(StepError::from_sdk(UPDATE_ITEM, &error));
                };
                let lease = refused.item.clone().and_then(|item| serde_dynamo::from_item::<_, Lease>(item).ok());
                return Ok(Begun::Running { until: lease.and_then(|it| Timestamp::from_millis(it.run_until)) });
            }
        };
        progress.kept = serde_dynamo::from_item(item).map_err(|_| StepError::InvalidInput { what: "an institute's progress" })?;
        Ok(Begun::Own(Box::new(progress)))
    }

    /// Says that this run still works, if it has not said so just now. Whoever replaces a file calls this before.
    ///
    /// # Errors
    /// [`StepError::ClaimLost`] if another run has taken this one for dead.
    pub(crate) async fn keep(&mut self) -> Result<(), StepError> {
        loop {
            let now = runtime::now();
            if now < self.kept_at.plus(FRESH) {
                return Ok(());
            }
            let keep = self.while_mine(self.update("SET run_until = :until"));
            lost(keep.expression_attribute_values(":until", millis(now.plus(LEASE))).send().await)?;
            // From when it was said: the answer may have taken long.
            self.kept_at = now;
        }
    }

    pub(crate) fn through(&self) -> Option<&str> {
        self.kept.through.as_deref()
    }

    /// The open days, the oldest first.
    #[cfg(test)]
    fn open_days(&self) -> Vec<String> {
        self.kept.open.keys().cloned().collect()
    }

    /// The days that each run looks at, the oldest first: the open ones, and those with messages that could not be read.
    pub(crate) fn days_to_look_at(&self) -> BTreeSet<String> {
        self.kept.open.keys().chain(self.kept.unread.keys()).cloned().collect()
    }

    /// Whether a day is over, and only messages that could not be read are missing in its files.
    pub(crate) fn is_closed(&self, day: &str) -> bool {
        self.through().is_some_and(|through| day <= through) && !self.kept.open.contains_key(day)
    }

    /// The messages of a day that could not be read, as many as are tried again.
    pub(crate) fn unread(&self, day: &str) -> &[Object] {
        self.kept.unread.get(day).map_or(&[], Vec::as_slice)
    }

    /// Notes which messages of a day could not be read. The manifest names all of them.
    pub(crate) fn note_unread(&mut self, day: &str, unread: Vec<Object>) {
        self.kept.unread.remove(day);
        let others = self.kept.unread.values().map(Vec::len).sum::<usize>();
        let tried: Vec<_> = unread.into_iter().take(MOST_UNREAD_OF_DAY.min(MOST_UNREAD.saturating_sub(others))).collect();
        if !tried.is_empty() {
            self.kept.unread.insert(day.to_owned(), tried);
        }
    }

    /// The digest of an open day's files; `None` if there are none, or not of these columns.
    pub(crate) fn digest(&self, day: &str) -> Option<&str> {
        self.kept.open.get(day).map(String::as_str).filter(|it| !it.is_empty())
    }

    /// Whether a day has files.
    pub(crate) fn has_files(&self, day: &str) -> bool {
        self.kept.days.contains(day)
    }

    /// The first day with files that no run has looked at since all from it on were to be written again.
    pub(crate) fn first_to_replace(&self) -> Option<&str> {
        let through = self.through().unwrap_or_default();
        self.kept.days.iter().map(String::as_str).find(|day| *day > through)
    }

    /// Notes that there are files of a day.
    pub(crate) fn note_files(&mut self, day: &str) {
        if self.kept.days.insert(day.to_owned()) {
            self.new_days.insert(day.to_owned());
        }
    }

    /// Forgets what was written of this day and of all later ones.
    pub(crate) fn forget_from(&mut self, day: &str) {
        self.kept.open.retain(|it, _| it.as_str() < day);
        self.kept.unread.retain(|it, _| it.as_str() < day);
        if self.through().is_some_and(|through| through >= day) {
            self.kept.through =
                Timestamp::day_start(day).and_then(|it| Timestamp::from_millis(it.as_millis() - 1)).map(Timestamp::date);
        }
    }

    /// Notes that the files of a day have this digest. The day is closed if it is over and each of its records is stored.
    pub(crate) fn note(&mut self, day: &str, digest: String, has_unfinished: bool, now: Timestamp) {
        if has_unfinished || !is_over(day, now) {
            self.kept.open.insert(day.to_owned(), digest);
        } else {
            self.kept.open.remove(day);
        }
        if self.through().is_none_or(|through| through < day) {
            self.kept.through = Some(day.to_owned());
        }
    }

    /// Notes that every day up to now was looked for. Days that may still get records stay open, also those that have none yet.
    pub(crate) fn note_all(&mut self, now: Timestamp) {
        let yesterday = Timestamp::from_millis(now.as_millis() - i64::try_from(DAY.as_millis()).unwrap_or_default());
        for day in yesterday.into_iter().chain([now]).map(Timestamp::date) {
            if !is_over(&day, now) {
                self.kept.open.entry(day.clone()).or_default();
            }
        }
        if self.through().is_none_or(|through| through < now.date().as_str()) {
            self.kept.through = Some(now.date());
        }
    }

    /// Commits what was noted.
    pub(crate) async fn commit(&mut self) -> Result<(), StepError> {
        let open = self.kept.open.iter().map(|(day, digest)| (day.clone(), AttributeValue::S(digest.clone()))).collect();
        let through = self.through().map_or(AttributeValue::Null(true), |it| AttributeValue::S(it.to_owned()));
        let unread = serde_dynamo::to_attribute_value(&self.kept.unread).map_err(|_| UNWRITABLE)?;
        let update = if self.new_days.is_empty() {
            self.update("SET #through = :through, #open = :open, #unread = :unread")
        } else {
            self.update("SET #through = :through, #open = :open, #unread = :unread ADD #days :days")
                .expression_attribute_names("#days", "days")
                .expression_attribute_values(":days", AttributeValue::Ss(self.new_days.iter().cloned().collect()))
        };
        let commit = self
            .while_mine(update)
            .expression_attribute_names("#through", "through")
            .expression_attribute_names("#open", "open")
            .expression_attribute_names("#unread", "unread")
            .expression_attribute_values(":through", through)
            .expression_attribute_values(":open", AttributeValue::M(open))
            .expression_attribute_values(":unread", unread);
        lost(commit.send().await)?;
        self.new_days.clear();
        Ok(())
    }

    /// Lets other runs in.
    pub(crate) async fn end(&self, now: Timestamp) -> Result<(), StepError> {
        let end = self.while_mine(self.update("SET ran_at = :now REMOVE run, run_until"));
        match lost(end.expression_attribute_values(":now", AttributeValue::S(now.to_string())).send().await) {
            // An earlier attempt has ended it, or another run works.
            Ok(()) | Err(StepError::ClaimLost) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn update(&self, expression: &str) -> UpdateItemFluentBuilder {
        let update = self.client.update_item().table_name(&self.table).update_expression(expression);
        let update = update.key("source", AttributeValue::S(self.source.to_string()));
        update.expression_attribute_values(":run", AttributeValue::S(self.run.clone()))
    }

    /// On condition that the lease is still this run's.
    fn while_mine(&self, update: UpdateItemFluentBuilder) -> UpdateItemFluentBuilder {
        update.condition_expression("run = :run")
    }
}

const UNWRITABLE: StepError = StepError::InvalidInput { what: "an institute's progress" };

/// A condition that failed says that another run has the lease.
fn lost(done: Result<UpdateItemOutput, SdkError<UpdateItemError>>) -> Result<(), StepError> {
    match done {
        Ok(_) => Ok(()),
        Err(error) if error.as_service_error().is_some_and(|it| it.is_conditional_check_failed_exception()) => {
            Err(StepError::ClaimLost)
        }
        Err(error) => Err(StepError::from_sdk(UPDATE_ITEM, &error)),
    }
}

fn millis(time: Timestamp) -> AttributeValue {
    AttributeValue::N(time.as_millis().to_string())
}

/// Whether a day can get no new record any more.
fn is_over(day: &str, now: Timestamp) -> bool {
    Timestamp::day_start(day).is_some_and(|it| it.plus(DAY).plus(MARGIN) <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(through: Option<&str>, open: &[(&str, &str)]) -> Progress {
        let config = aws_sdk_dynamodb::Config::builder().behavior_version_latest().build();
        let open = open.iter().map(|(day, digest)| ((*day).to_owned(), (*digest).to_owned())).collect();
        Progress {
            client: Client::from_conf(config),
            table: "progress".to_owned(),
            source: "west".parse().unwrap(),
            run: "1".to_owned(),
            kept_at: runtime::now(),
            kept: Kept { through: through.map(str::to_owned), open, ..Kept::default() },
            new_days: BTreeSet::new(),
        }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::range_end(text).unwrap()
    }

    #[test]
    fn a_day_is_open_until_it_is_over_and_everything_is_stored() {
        let mut it = progress(None, &[]);
        it.note("2026-11-27", "a".to_owned(), false, at("2026-11-28T00:59:59Z"));
        assert_eq!((it.open_days(), it.digest("2026-11-27")), (vec!["2026-11-27".to_owned()], Some("a")));
        it.note("2026-11-27", "b".to_owned(), false, at("2026-11-28T01:00:00Z"));
        assert_eq!((it.open_days(), it.through()), (vec![], Some("2026-11-27")));
        // A held message keeps its day open, and does not keep the later days.
        it.note("2026-11-20", "c".to_owned(), true, at("2026-11-28"));
        assert_eq!((it.open_days(), it.through()), (vec!["2026-11-20".to_owned()], Some("2026-11-27")));
    }

    #[test]
    fn a_day_without_records_stays_open_while_it_may_get_some() {
        let mut it = progress(Some("2026-11-20"), &[("2026-11-28", "x")]);
        it.note_all(at("2026-11-28T00:30:00Z"));
        assert_eq!((it.open_days(), it.through()), (vec!["2026-11-27".to_owned(), "2026-11-28".to_owned()], Some("2026-11-28")));
        assert_eq!((it.digest("2026-11-27"), it.digest("2026-11-28")), (None, Some("x")));
        let mut it = progress(None, &[]);
        it.note_all(at("2026-11-28T01:00:00Z"));
        assert_eq!(it.open_days(), ["2026-11-28"]);
    }

    #[test]
    fn days_are_written_again_from_a_day_on() {
        let mut it = progress(Some("2026-11-28"), &[("2026-10-01", "x"), ("2026-11-28", "y")]);
        it.forget_from("2026-11-01");
        assert_eq!((it.open_days(), it.through()), (vec!["2026-10-01".to_owned()], Some("2026-10-31")));
        it.forget_from("2026-12-01");
        assert_eq!(it.through(), Some("2026-10-31"));
    }

    #[test]
    fn a_closed_day_is_looked_at_while_messages_of_it_could_not_be_read() {
        let mut it = progress(Some("2026-11-28"), &[("2026-11-28", "x")]);
        let unread = |count: usize| {
            (0..count).map(|n| Object { bucket: "lake".to_owned(), key: n.to_string(), version_id: None }).collect::<Vec<_>>()
        };
        it.note_unread("2026-11-20", unread(30));
        assert_eq!(it.unread("2026-11-20").len(), MOST_UNREAD_OF_DAY);
        assert_eq!(it.days_to_look_at().into_iter().collect::<Vec<_>>(), ["2026-11-20", "2026-11-28"]);
        assert_eq!((it.is_closed("2026-11-20"), it.is_closed("2026-11-28"), it.is_closed("2026-11-29")), (true, false, false));
        for day in 1..=28 {
            it.note_unread(&format!("2026-10-{day:02}"), unread(30));
        }
        assert_eq!(it.kept.unread.values().map(Vec::len).sum::<usize>(), MOST_UNREAD, "the item has room for so many");
        it.note_unread("2026-11-20", Vec::new());
        assert!(!it.days_to_look_at().contains("2026-11-20"));
        it.forget_from("2026-10-02");
        assert_eq!(it.days_to_look_at().into_iter().collect::<Vec<_>>(), ["2026-10-01"]);
    }

    #[test]
    fn a_lease_outlives_every_call_that_is_begun_under_it() {
        assert!(LEASE >= FRESH + CALL_WITHIN + Duration::from_secs(30));
    }

    #[test]
    fn a_day_with_files_is_written_again_also_when_no_record_of_it_is_left() {
        let mut it = progress(Some("2026-11-28"), &[]);
        it.note_files("2026-11-01");
        it.note_files("2026-11-20");
        assert_eq!((it.first_to_replace(), it.has_files("2026-11-20"), it.has_files("2026-11-21")), (None, true, false));
        it.forget_from("2026-11-15");
        assert_eq!(it.first_to_replace(), Some("2026-11-20"));
        it.note("2026-11-20", "a".to_owned(), false, at("2026-11-28"));
        assert_eq!(it.first_to_replace(), None);
        it.forget_from("2026-10-01");
        assert_eq!(it.first_to_replace(), Some("2026-11-01"));
    }
}
