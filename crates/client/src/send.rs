//! Sends the messages of files, and can resume after an interruption.
//!
//! A message that is too large for a request goes to S3 first ([`submit`]).
//!
//! The messages of a batch are sent one by one, so that each has its own answer and its own line in the journal.
//!
//! Each accepted message goes into a [`Journal`] at once, and a message in the journal is not sent again. Only if the machine
//! goes down between the answer and the journal entry is a message sent twice, and the API stores it once all the same.

mod journal;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use domain::{Charset, HoldReason, MAX_UPLOAD_BYTES, MessageId, State, Status};
use futures_util::stream::{self, StreamExt};
use hl7::{BatchProblem, Body, Piece};
use indicatif::ProgressBar;
use jiff::Timestamp;
use reqwest::StatusCode;
use serde::Serialize;
use tokio::sync::watch;

use crate::Client;
use crate::http::Answer;
use crate::messages::{self, NOT_HL7, TOO_LARGE};
use crate::read::{self, Known};
use crate::release;
use crate::submit;
use crate::wait::pauses;
pub use journal::{Content, Entry, Journal};

/// The pause between two looks at a message grows from here to [`LONGEST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// How to send.
#[derive(Debug, Clone)]
pub struct Options {
    /// The character set of the files; without it each message names its own.
    pub charset: Option<Charset>,
    /// How many messages to send at a time.
    pub concurrency: usize,
    /// Also send messages that the journal has as accepted.
    pub again: bool,
    /// Also send files that do not begin as HL7.
    pub any: bool,
    /// Send nothing; only show what would be sent.
    pub dry_run: bool,
    /// How long to wait for the outcome of each message; `None` for not at all.
    pub wait: Option<Duration>,
}

/// The result for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// The API has taken the message.
    Accepted,
    /// It was sent before, by this account or by somebody else: nothing new.
    Before,
    /// It would be sent.
    Planned,
    /// The API, or this machine, does not take it. Sending it again as it is does not help.
    Refused,
    /// Not sent, or without an answer: to be sent again.
    Left,
}

/// One message, or a file that cannot be read.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The file's name, as given, and in a batch the message's number: `batch.hl7#3`. `-` is stdin.
    pub file: String,
    /// The result for it.
    pub fate: Fate,
    /// The answer of the API, or why there is none.
    pub answer: String,
    /// The message's id, once it is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// How far the message has come, if the caller waited for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Whether it parsed, once it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// What the journal says of it.
    #[serde(skip)]
    entry: Option<Entry>,
    /// Where to read it again.
    #[serde(skip)]
    place: Option<Place>,
    /// Whether it was released or submitted again.
    #[serde(skip)]
    is_again: bool,
}

/// A problem of a batch itself; each of its messages may be in order.
#[derive(Debug, Clone, Serialize)]
pub struct Doubt {
    /// The file.
    pub file: String,
    /// The problem.
    #[serde(flatten)]
    pub problem: BatchProblem,
}

/// The results for all messages, in the order in which the files were named.
#[derive(Debug)]
pub struct Sent {
    /// A row for each message, and one for each file that was not reached.
    pub rows: Vec<Row>,
    /// Batches that may be incomplete.
    pub doubts: Vec<Doubt>,
    /// The error that ended sending early, if one did.
    pub error: Option<anyhow::Error>,
}

impl Fate {
    /// Whether nobody has to do anything about it.
    #[must_use]
    pub fn is_well(self) -> bool {
        matches!(self, Self::Accepted | Self::Before | Self::Planned)
    }
}

impl Sent {
    /// How many met this fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> usize {
        self.rows.iter().filter(|row| row.fate == fate).count()
    }

    /// Whether everything was accepted and, if the caller waited for that, stored.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.error.is_none() && self.rows.iter().all(|row| row.fate.is_well() && row.status.is_none_or(|it| it == Status::Stored))
    }
}

/// Sends the files. Ends early, with what is under way, once `hurry` is true.
pub async fn send(
    client: &Client,
    journal: &Journal,
    files: &[PathBuf],
    options: &Options,
    hurry: &watch::Receiver<bool>,
    progress: &ProgressBar,
) -> Sent {
    let sender = Sender { client, journal, options, hurry, progress, error: RefCell::default(), doubts: RefCell::default() };
    progress.set_length(files.len() as u64);
    let sending = stream::iter(files.iter().enumerate())
        .take_while(|_| std::future::ready(sender.goes_on()))
        // One after the other: a file is read when there is room for its first message.
        .then(|(index, file)| {
            let sender = &sender;
            async move {
                let items = sender.open(file).await;
                progress.inc_length((items.len() as u64).saturating_sub(1));
                stream::iter(items.into_iter().enumerate().map(move |(number, item)| ((index, number), item)))
            }
        })
        .flatten()
        .map(|(place, item)| {
            let sender = &sender;
            async move {
                let row = sender.send(item).await;
                progress.inc(1);
                (place, row)
            }
        })
        .buffer_unordered(options.concurrency);
    // By file, and by message of it.
    let mut found: BTreeMap<(usize, usize), Row> = sending.collect().await;
    for (index, file) in files.iter().enumerate() {
        found.entry((index, 0)).or_insert_with(|| Row::left(file.display().to_string()));
    }
    let mut rows: Vec<Row> = found.into_values().collect();

    if let Some(limit) = options.wait {
        sender.wait(&mut rows, tokio::time::Instant::now() + limit, progress).await;
    }
    progress.finish_and_clear();
    Sent { rows, doubts: sender.doubts.into_inner(), error: sender.error.into_inner() }
}

/// A message to be sent.
struct Item {
    /// Of its row.
    name: String,
    /// Or why there is none.
    body: Result<Rc<Body>, String>,
    /// Of the body, from 1.
    number: usize,
    /// Where it can be read again.
    place: Option<Place>,
}

/// Where a message was read.
#[derive(Debug, Clone)]
struct Place {
    file: PathBuf,
    /// Of the file, from 1.
    number: usize,
}

struct Sender<'a> {
    client: &'a Client,
    journal: &'a Journal,
    options: &'a Options,
    hurry: &'a watch::Receiver<bool>,
    progress: &'a ProgressBar,
    /// What made it end: no answer for one message means none for the others.
    error: RefCell<Option<anyhow::Error>>,
    doubts: RefCell<Vec<Doubt>>,
}

impl Sender<'_> {
    fn goes_on(&self) -> bool {
        !*self.hurry.borrow() && self.error.borrow().is_none()
    }

    fn end(&self, error: anyhow::Error) {
        self.error.borrow_mut().get_or_insert(error);
    }

    /// The messages of a file; nothing where it is not known whether it has any.
    async fn open(&self, file: &Path) -> Vec<Item> {
        let (path, named) = (file.to_owned(), self.options.charset);
        let name = file.display().to_string();
        let body = match tokio::task::spawn_blocking(move || messages::read_for_api(&path, named)).await {
            Ok(Ok(body)) => Rc::new(body),
            Ok(Err(problem)) => return Vec::from([Item { name, body: Err(problem), number: 1, place: None }]),
            Err(error) => {
                self.end(error.into());
                return Vec::new();
            }
        };
        let doubts = body.problems().into_iter().map(|problem| Doubt { file: name.clone(), problem });
        self.doubts.borrow_mut().extend(doubts);
        // What came from a pipe cannot be read again.
        let place = |number| Some(Place { file: file.to_owned(), number }).filter(|place| place.file != Path::new("-"));
        let item = |number| Item {
            name: messages::name(&body, &name, number),
            body: Ok(Rc::clone(&body)),
            number,
            place: place(number),
        };
        (1..=body.count()).map(item).collect()
    }

    async fn send(&self, item: Item) -> Row {
        let left = Row { place: item.place, ..Row::left(item.name) };
        if !self.goes_on() {
            return left;
        }
        let refused = |problem: String| Row { fate: Fate::Refused, answer: problem, ..left.clone() };
        let body = match item.body {
            Ok(body) => body,
            Err(problem) => return refused(problem),
        };
        let Some(message) = body.message(item.number) else { return left };
        if message.bytes().len() > MAX_UPLOAD_BYTES {
            return refused(TOO_LARGE.to_owned());
        }
        if !self.options.any && !messages::begins_as_hl7(message.bytes()) {
            return refused(NOT_HL7.to_owned());
        }
        let charset = self.charset(&body, item.number);
        let content = Content::of(message.bytes(), charset);
        if let Some(entry) = self.journal.accepted(&content).filter(|_| !self.options.again) {
            return Row { fate: Fate::Before, answer: "sent before".to_owned(), ..left }.with(entry);
        }
        if self.options.dry_run {
            return match message.read() {
                Ok(read) => {
                    let message_id = Some(read.id.to_string());
                    Row { fate: Fate::Planned, answer: "would be sent".to_owned(), message_id, ..left }
                }
                // As the API would.
                Err(error) => refused(messages::explain(&message, &error)),
            };
        }
        match self.submit(&left.file, &message, charset).await {
            Ok(answer) => match self.answered(&left, content, &answer).await {
                Ok(row) => row,
                Err(error) => {
                    self.end(error);
                    left
                }
            },
            // Broken off in a pause is no error.
            Err(_) if *self.hurry.borrow() => left,
            Err(error) => {
                self.end(error);
                left
            }
        }
    }

    /// Submits a message, and shows how far its upload is if it needs one.
    async fn submit(&self, name: &str, message: &Piece<'_>, charset: Option<&str>) -> Result<Answer> {
        let (bar, name, all) = (self.progress.clone(), name.to_owned(), message.bytes().len());
        let sent = move |bytes: usize| bar.set_message(format!("{name}: {} of {} MiB", bytes >> 20, all.div_ceil(1 << 20)));
        let submitted = submit::submit(self.client, message.shared(), charset, |_| true, sent).await;
        self.progress.set_message("");
        Ok(submitted?.into_answer())
    }

    async fn answered(&self, left: &Row, content: Content, answer: &Answer) -> Result<Row> {
        let (status, fate, said) = match answer.status {
            StatusCode::ACCEPTED => (Status::Queued, Fate::Accepted, answer.status.to_string()),
            StatusCode::CONFLICT => (Status::Stored, Fate::Before, "stored before".to_owned()),
            // It was asked often enough, and the next file would fare no better.
            _ if answer.is_busy() => bail!("{}: {}", left.file, answer.problem()),
            _ => return Ok(Row { fate: Fate::Refused, answer: self.client.refusal(answer).await, ..left.clone() }),
        };
        let Ok(message_id) = answer.text("messageId").parse::<MessageId>() else {
            let answer = format!("{}: not an answer of the API", answer.status);
            return Ok(Row { fate: Fate::Refused, answer, ..left.clone() });
        };
        let entry = Entry {
            at: Timestamp::now(),
            file: left.file.clone(),
            content,
            message_id: message_id.to_string(),
            answer: answer.status.as_u16(),
            status,
        };
        self.journal.keep(entry.clone())?;
        Ok(Row { fate, answer: said, ..left.clone() }.with(entry))
    }

    /// Asks for the status of all accepted messages, many at a time, until each has a final one, and keeps it. A message that the
    /// lake holds is released once, and one that it has lost is submitted once more, each with a fresh token.
    async fn wait(&self, rows: &mut [Row], deadline: tokio::time::Instant, progress: &ProgressBar) {
        let mut open: Vec<(MessageId, &mut Row)> = Vec::new();
        for row in rows.iter_mut() {
            if let Some(id) = row.entry.as_ref().and_then(|entry| entry.message_id.parse().ok()) {
                // Until the API tells more, the row has the status in the journal.
                row.status = row.entry.as_ref().map(|entry| entry.status);
                open.push((id, row));
            }
        }
        progress.set_prefix("waiting");
        progress.set_length(open.len() as u64);
        progress.set_position(0);
        let mut pause = FIRST_LOOK;
        while !open.is_empty() && self.goes_on() {
            let mut left = Vec::with_capacity(open.len());
            let mut rest = std::mem::take(&mut open).into_iter();
            loop {
                let mut asked: Vec<_> = rest.by_ref().take(read::MOST_ASKED).collect();
                let ids: Vec<MessageId> = asked.iter().map(|(id, _)| id.clone()).collect();
                if ids.is_empty() {
                    break;
                }
                let known = match read::statuses(self.client, &ids).await {
                    Ok(Ok(known)) => known,
                    Ok(Err(answer)) => {
                        let refusal = self.client.refusal(&answer).await;
                        return self.end(anyhow!("asking for the status of the messages: {refusal}"));
                    }
                    Err(_) if *self.hurry.borrow() => return,
                    Err(error) => return self.end(error.context("asking for the status of the messages")),
                };
                for ((id, row), known) in asked.drain(..).zip(known) {
                    if self.look(&id, row, known).await {
                        progress.inc(1);
                    } else {
                        left.push((id, row));
                    }
                }
            }
            open = left;
            if tokio::time::Instant::now() + pause > deadline || (!open.is_empty() && !pauses(pause, self.hurry).await) {
                break;
            }
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    /// Takes in the status of a message. Returns whether it is final.
    async fn look(&self, id: &MessageId, row: &mut Row, known: Known) -> bool {
        let (reason, status) = match known {
            Known::Status(found) => {
                (row.status, row.state) = (Some(found.status), found.state);
                (found.held.map(|held| held.reason), found.status)
            }
            // The catalog drops a message that was not stored in 30 days: send it again.
            Known::Unknown => {
                row.status = Some(Status::Expired);
                row.answer = "the API does not know the message any more".to_owned();
                (None, Status::Expired)
            }
        };
        let is_end = !matches!(status, Status::Queued | Status::Processing);
        // If the lake does not let the caller write, a second try does not help; and what an operator discarded stays discarded.
        let may_help =
            !matches!(status, Status::Stored | Status::Discarded | Status::Denied) && reason != Some(HoldReason::Denied);
        if is_end && may_help && !row.is_again {
            row.is_again = true;
            if (status == Status::Held && self.release(id, row).await) || self.send_again(row).await {
                row.status = Some(Status::Queued);
                return false;
            }
        }
        if let Some(entry) = row.entry.clone().filter(|entry| entry.status != status && is_end)
            && let Err(error) = self.journal.keep(Entry { at: Timestamp::now(), status, ..entry })
        {
            self.end(error);
        }
        is_end
    }

    /// Releases a held message. Returns whether it is on its way again: if its copy is damaged or gone, it is not.
    async fn release(&self, id: &MessageId, row: &mut Row) -> bool {
        match release::one(self.client, id).await {
            Ok(Ok(_)) => {
                row.answer = "held, and released".to_owned();
                true
            }
            // Somebody else, such as the institute's gateway, has just released it.
            Ok(Err(answer)) => answer.status == StatusCode::CONFLICT,
            Err(_) => false,
        }
    }

    /// Reads the message of a row once more and submits it. Returns whether it is on its way again.
    async fn send_again(&self, row: &mut Row) -> bool {
        let Some(Place { file, number }) = row.place.clone() else { return false };
        let named = self.options.charset;
        let path = file.clone();
        let Ok(Ok(body)) = tokio::task::spawn_blocking(move || messages::read_for_api(&path, named)).await else { return false };
        let Some(message) = body.message(number) else { return false };
        let charset = self.charset(&body, number);
        // The file may be another one by now.
        if row.entry.as_ref().is_none_or(|entry| entry.content != Content::of(message.bytes(), charset)) {
            return false;
        }
        let Ok(answer) = self.submit(&row.file, &message, charset).await else { return false };
        row.answer = format!("{}, submitted again", answer.status);
        if answer.status == StatusCode::ACCEPTED {
            row.fate = Fate::Accepted;
        }
        matches!(answer.status, StatusCode::ACCEPTED | StatusCode::CONFLICT)
    }

    /// The name, as `Content-Type` takes it, of the charset that is named for a message. Of a file with a byte order mark only the first
    /// message has it.
    fn charset(&self, body: &Body, number: usize) -> Option<&'static str> {
        let marked = body.named_charset().filter(|_| number > 1);
        self.options.charset.or(marked).map(Charset::name)
    }
}

impl Row {
    fn left(file: String) -> Self {
        Self {
            file,
            fate: Fate::Left,
            answer: "not sent".to_owned(),
            message_id: None,
            status: None,
            state: None,
            entry: None,
            place: None,
            is_again: false,
        }
    }

    fn with(self, entry: Entry) -> Self {
        Self { message_id: Some(entry.message_id.clone()), entry: Some(entry), ..self }
    }
}
