//! The progress of an audit, in a file: findings and checkpoints, one line of JSON each.
//!
//! A checkpoint follows the findings of its page. What comes after the last checkpoint belongs to a page that is read again, so it is
//! cut off when the file is opened.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use client::private_file;
use serde::{Deserialize, Serialize};

use super::finding::{Checked, Finding};

/// Where an audit resumes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Checkpoint {
    pub(super) phase: Phase,
    /// How many institutes of the selection are done in this phase.
    pub(super) scope: usize,
    /// The last record or object that is done.
    pub(super) after: Option<Vec<String>>,
    /// The extent of the audit so far.
    pub(super) checked: Checked,
}

/// The phases of an audit, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    /// The records of the catalog.
    #[default]
    Records,
    /// The 202s in the log of `submit`.
    Accepted,
    /// The objects of the lake.
    Objects,
    /// The objects of the held bucket.
    Held,
    /// Nothing any more.
    Done,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    /// The audit that the file belongs to; no other one may resume from it.
    Audit(String),
    Finding(Box<Finding>),
    Checkpoint(Checkpoint),
}

/// The file of the audit; without one, it does nothing.
#[derive(Debug)]
pub(super) struct Journal {
    file: Option<File>,
}

impl Journal {
    /// Opens or creates the file, and returns its content.
    pub(super) fn open(path: Option<&Path>, audit: &str) -> Result<(Self, Checkpoint, Vec<Finding>)> {
        let Some(path) = path else { return Ok((Self { file: None }, Checkpoint::default(), Vec::new())) };
        let context = || format!("the audit's file `{}`", path.display());
        let (mut checkpoint, mut findings, mut pending) = (Checkpoint::default(), Vec::new(), Vec::new());
        let mut lines: Vec<String> = Vec::new();
        let mut whole = 0;
        if let Ok(file) = File::open(path) {
            for line in BufReader::new(file).lines() {
                let line = line.with_context(context)?;
                // The last line of a run that was killed may be cut short.
                let Ok(read) = serde_json::from_str(&line) else { break };
                match read {
                    Line::Audit(other) => {
                        ensure!(other == audit, "{} belongs to another audit: {other}", context());
                        whole = lines.len() + 1;
                    }
                    Line::Finding(finding) => pending.push(*finding),
                    Line::Checkpoint(read) => {
                        checkpoint = read;
                        findings.append(&mut pending);
                        whole = lines.len() + 1;
                    }
                }
                lines.push(line);
            }
            ensure!(whole > 0 || lines.is_empty(), "{} does not belong to an audit", context());
        }
        let mut text = String::new();
        for line in lines.iter().take(whole) {
            text.push_str(line);
            text.push('\n');
        }
        private_file::write(path, text.as_bytes()).with_context(context)?;
        let file = File::options().append(true).open(path).with_context(context)?;
        let mut journal = Self { file: Some(file) };
        if whole == 0 {
            journal.write(&Line::Audit(audit.to_owned()))?;
        }
        Ok((journal, checkpoint, findings))
    }

    /// Appends the findings of a page, and where the next page begins.
    pub(super) fn page(&mut self, findings: &[Finding], checkpoint: &Checkpoint) -> Result<()> {
        if self.file.is_some() {
            for finding in findings {
                self.write(&Line::Finding(Box::new(finding.clone())))?;
            }
            self.write(&Line::Checkpoint(checkpoint.clone()))?;
        }
        Ok(())
    }

    fn write(&mut self, line: &Line) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        file.write_all(text.as_bytes()).context("writing the audit's file")
    }
}
