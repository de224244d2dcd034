//! What an audit finds, and how it is counted.

use std::collections::BTreeMap;

use domain::{MessageId, Source};
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;
use strum::{Display, IntoStaticStr};

/// The kinds of findings. The names are part of the contract: programs match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Kind {
    /// The record cannot be read.
    RecordDamaged,
    /// A stored message lacks an object: the version that the record names is not there.
    ObjectMissing,
    /// The version that the record names does not hold the message.
    ObjectChanged,
    /// Another version, which does not hold the message, lies over the one that the record names.
    ObjectCovered,
    /// The tags are not those of the record.
    TagsChanged,
    /// An object of the lake that no record names.
    RecordMissing,
    /// A message was accepted, has no end, and cannot be in the queue; or it was accepted, and neither its record nor an object of it is
    /// there.
    Lost,
    /// A message was accepted and has no end after the limit; it may still be in the queue.
    Overdue,
    /// A message was accepted and lies among the dead letters.
    DeadLetter,
    /// No log line says that the event of the message's end was published.
    EventMissing,
    /// A held message lacks its copy.
    HeldObjectMissing,
    /// The copy of a held message is not that message.
    HeldObjectChanged,
    /// A copy in the held bucket that belongs to no record.
    HeldRecordMissing,
}

impl Kind {
    /// Whether `--repair` can mend it: there is one way to do so, and nothing is lost by it.
    #[must_use]
    pub fn is_repairable(self) -> bool {
        matches!(self, Self::TagsChanged | Self::EventMissing)
    }

    /// The advice for the operator.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::RecordDamaged => "restore the record from the table's point-in-time recovery",
            Self::ObjectMissing => {
                "have the institute submit the message again after the record is removed, or restore the version"
            }
            Self::ObjectChanged => "somebody with rights on the bucket changed it: treat it as an incident",
            Self::ObjectCovered => "readers by the API get the right version; remove the other one for readers by key",
            Self::TagsChanged | Self::EventMissing => "sluice audit --repair",
            Self::RecordMissing => "a user wrote it without the API, or its record was removed",
            Self::Lost => "have the institute submit the message again",
            Self::Overdue => "see the log of dispatch by the message id, and audit again",
            Self::DeadLetter => "sluice redrive",
            Self::HeldObjectMissing => "restore the version, or have the institute submit the message again",
            Self::HeldObjectChanged => "somebody with rights on the bucket changed it: treat it as an incident",
            Self::HeldRecordMissing => "its record was removed: the copy expires with the bucket's lifecycle",
        }
    }
}

/// One finding. It names things and never quotes a message.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The kind of the finding.
    pub kind: Kind,
    /// The institute.
    pub source: Option<Source>,
    /// The message.
    pub message_id: Option<MessageId>,
    /// The object's bucket.
    pub bucket: Option<String>,
    /// The object.
    pub key: Option<String>,
    /// Its version.
    pub version_id: Option<String>,
    /// Which of several cases it is, in a few words.
    pub detail: Option<String>,
}

impl Finding {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, source: None, message_id: None, bucket: None, key: None, version_id: None, detail: None }
    }

    pub(super) fn of(kind: Kind, (source, message_id): &(Source, MessageId)) -> Self {
        Self { source: Some(source.clone()), message_id: Some(message_id.clone()), ..Self::new(kind) }
    }

    pub(super) fn with(self, detail: &str) -> Self {
        Self { detail: Some(detail.to_owned()), ..self }
    }

    pub(super) fn at(self, bucket: &str, key: &str, version_id: Option<&str>) -> Self {
        let version_id = version_id.map(str::to_owned);
        Self { bucket: Some(bucket.to_owned()), key: Some(key.to_owned()), version_id, ..self }
    }
}

/// The extent of an audit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// Records of the catalog.
    pub records: u64,
    /// Objects of the lake.
    pub objects: u64,
    /// Objects of the held bucket.
    pub held_objects: u64,
    /// Messages that the log of `submit` says were answered with 202, and whose record was looked for. Absent in files of progress that
    /// earlier versions wrote.
    #[serde(default)]
    pub accepted: u64,
    /// Ends whose event was looked for in the log.
    pub events: u64,
    /// Ends that the log no longer tells of.
    pub events_too_old: u64,
    /// Records of messages that ended, or are on their way, for so short a time that their end was left to the next audit. Absent in
    /// files of progress that earlier versions wrote.
    #[serde(default)]
    pub records_left: u64,
    /// Objects, also of the held bucket, that were written so lately that they were left to the next audit.
    #[serde(default)]
    pub objects_left: u64,
}

/// The result of an audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The extent of the audit.
    pub checked: Checked,
    /// How many findings there are of each kind.
    pub findings: BTreeMap<Kind, u64>,
}

impl Report {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many findings there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.findings.values().sum()
    }
}
