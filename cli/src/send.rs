//! Sends the messages of files in a way that can be broken off and taken up again.
//!
//! The messages of a batch are sent one by one, so that each has an answer and a place in the journal of its own.
//!
//! What the API accepts goes into a [`Journal`] at once, and what is there is not sent again. Only a machine that goes
//! down between the answer and the journal makes a message be sent twice, and the API stores it once all the same.

mod journal;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use domain::{Charset, MAX_MESSAGE_BYTES, MessageId, State, Status};
use futures_util::stream::{self, StreamExt};
use hl7::BatchProblem;
use indicatif::ProgressBar;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use crate::client::Client;
use crate::http::{Answer, ER7, JSON, TRANSFER_DEADLINE};
use crate::messages::{Body, TOO_LARGE};
use crate::read;
use crate::wait::pauses;
pub use journal::{Content, Entry, Journal};

/// The pause between two looks at a message grows from here to [`LONGEST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// How to send.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the files are encoded in; what each message says when nothing is said.
    pub charset: Option<String>,
    /// How many messages are under way at a time.
    pub concurrency: usize,
    /// Also what the journal has as accepted.
    pub again: bool,
    /// How long to wait for the outcome of each; `None` for not at all.
    pub wait: Option<Duration>,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// The API has the message.
    Accepted,
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
    /// What became of it.
    pub fate: Fate,
    /// The answer of the API, or why there is none.
    pub answer: String,
    /// The message's id, once it is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// How far the message is, where that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Whether it parsed, once it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// What the journal says of it.
    #[serde(skip)]
    entry: Option<Entry>,
}

/// What is wrong with a batch, though each of its messages may be well.
#[derive(Debug, Clone, Serialize)]
pub struct Doubt {
    /// The file.
    pub file: String,
    /// What it is.
    #[serde(flatten)]
    pub problem: BatchProblem,
}

/// What became of everything, in the order in which it was named.
#[derive(Debug)]
pub struct Report {
    /// A row for each message; one for a file that was not come to.
    pub rows: Vec<Row>,
    /// Batches that may be incomplete.
    pub doubts: Vec<Doubt>,
    /// Why sending ended early, when it did by itself.
    pub error: Option<anyhow::Error>,
}

impl Report {
    /// How many met this fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> usize {
        self.rows.iter().filter(|row| row.fate == fate).count()
    }

    /// Whether everything was accepted, and, where that was waited for, stored.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.error.is_none()
            && self.rows.iter().all(|row| row.fate == Fate::Accepted && row.status.is_none_or(|it| it == Status::Stored))
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
) -> Report {
    let sender = Sender { client, journal, options, hurry, error: RefCell::default(), doubts: RefCell::default() };
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
        let accepted: Vec<_> = rows.iter().enumerate().filter(|(_, row)| row.fate == Fate::Accepted).collect();
        progress.set_prefix("waiting");
        progress.set_length(accepted.len() as u64);
        progress.set_position(0);
        let deadline = tokio::time::Instant::now() + limit;
        let waiting = stream::iter(accepted)
            .map(|(index, row)| {
                let sender = &sender;
                async move {
                    let row = sender.wait(row.clone(), deadline).await;
                    progress.inc(1);
                    (index, row)
                }
            })
            .buffer_unordered(options.concurrency);
        let waited: Vec<(usize, Row)> = waiting.collect().await;
        for (index, row) in waited {
            if let Some(place) = rows.get_mut(index) {
                *place = row;
            }
        }
    }
    progress.finish_and_clear();
    Report { rows, doubts: sender.doubts.into_inner(), error: sender.error.into_inner() }
}

/// A message to be sent.
struct Item {
    /// Of its row.
    name: String,
    /// Or why there is none.
    body: Result<Rc<Body>, String>,
    /// Of the body, from 1.
    number: usize,
}

struct Sender<'a> {
    client: &'a Client,
    journal: &'a Journal,
    options: &'a Options,
    hurry: &'a watch::Receiver<bool>,
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
        let (path, named) = (file.to_owned(), self.options.charset.as_deref().and_then(Charset::for_label));
        let name = file.display().to_string();
        let body = match tokio::task::spawn_blocking(move || Body::read_for_api(&path, named)).await {
            Ok(Ok(body)) => Rc::new(body),
            Ok(Err(problem)) => return Vec::from([Item { name, body: Err(problem), number: 1 }]),
            Err(error) => {
                self.end(error.into());
                return Vec::new();
            }
        };
        let doubts = body.problems().into_iter().map(|problem| Doubt { file: name.clone(), problem });
        self.doubts.borrow_mut().extend(doubts);
        let item = |number| Item { name: body.name(&name, number), body: Ok(Rc::clone(&body)), number };
        (1..=body.count()).map(item).collect()
    }

    async fn send(&self, item: Item) -> Row {
        let left = Row::left(item.name);
        if !self.goes_on() {
            return left;
        }
        let refused = |problem: String| Row { fate: Fate::Refused, answer: problem, ..left.clone() };
        let body = match item.body {
            Ok(body) => body,
            Err(problem) => return refused(problem),
        };
        let Some(message) = body.message(item.number) else { return left };
        if message.bytes.len() > MAX_MESSAGE_BYTES {
            return refused(TOO_LARGE.to_owned());
        }
        // Of a file with a byte order mark only the first message has it.
        let marked = message.inherited_charset().filter(|_| item.number > 1).map(|it| it.name().to_owned());
        let charset = self.options.charset.clone().or(marked);
        let content = Content::of(message.bytes, charset.as_deref());
        if let Some(entry) = self.journal.accepted(&content).filter(|_| !self.options.again) {
            return Row { fate: Fate::Accepted, answer: "sent before".to_owned(), ..left }.with(entry);
        }
        match self.post(message.bytes, charset.as_deref()).await {
            Ok(answer) => match self.answered(&left, content, &answer) {
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

    async fn post(&self, message: &[u8], charset: Option<&str>) -> Result<Answer> {
        let content_type = match charset {
            Some(charset) => format!("{ER7}; charset={charset}"),
            None => ER7.to_owned(),
        };
        let request = |api: &crate::http::Api, token: &secrecy::SecretString| {
            let request = api.request(Method::POST, "/er7", Some(token)).timeout(TRANSFER_DEADLINE);
            request.header(CONTENT_TYPE, &content_type).header(ACCEPT, JSON).body(message.to_vec())
        };
        self.client.call(request).await
    }

    fn answered(&self, left: &Row, content: Content, answer: &Answer) -> Result<Row> {
        let status = match answer.status {
            StatusCode::ACCEPTED => Status::Queued,
            StatusCode::CONFLICT => Status::Stored,
            // It was asked often enough, and the next file would fare no better.
            _ if answer.is_busy() => bail!("{}: {}", left.file, answer.problem()),
            _ => return Ok(Row { fate: Fate::Refused, answer: answer.problem(), ..left.clone() }),
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
        Ok(Row { fate: Fate::Accepted, answer: answer.status.to_string(), ..left.clone() }.with(entry))
    }

    /// Looks at a message until it has come to its end, and keeps what that is.
    async fn wait(&self, mut row: Row, deadline: tokio::time::Instant) -> Row {
        let Some(entry) = row.entry.clone() else { return row };
        // What nobody has looked at since is as it was.
        row.status = Some(entry.status);
        let mut pause = FIRST_LOOK;
        while self.goes_on() {
            match read::status(self.client, None, &entry.message_id).await {
                Ok(Ok(found)) => (row.status, row.state) = (Some(found.status), found.state),
                Ok(Err(answer)) if answer.is_busy() => {
                    self.end(anyhow!("{}: {}", row.file, answer.problem()));
                    break;
                }
                Ok(Err(answer)) => {
                    // Gone from the catalog, as a message is that was not stored in 30 days: it is to be sent again.
                    if answer.status == StatusCode::NOT_FOUND {
                        row.status = Some(Status::Expired);
                    }
                    row.answer = answer.problem();
                    break;
                }
                Err(_) if *self.hurry.borrow() => break,
                Err(error) => {
                    self.end(error.context(row.file.clone()));
                    break;
                }
            }
            let is_final = row.status.is_some_and(Status::is_final);
            if is_final || tokio::time::Instant::now() + pause > deadline || !pauses(pause, self.hurry).await {
                break;
            }
            pause = (pause * 2).min(LONGEST_LOOK);
        }
        let status = row.status.unwrap_or(entry.status);
        if status != entry.status
            && status.is_final()
            && let Err(error) = self.journal.keep(Entry { at: Timestamp::now(), status, ..entry })
        {
            self.end(error);
        }
        row
    }
}

impl Row {
    fn left(file: String) -> Self {
        Self { file, fate: Fate::Left, answer: "not sent".to_owned(), message_id: None, status: None, state: None, entry: None }
    }

    fn with(self, entry: Entry) -> Self {
        Self { message_id: Some(entry.message_id.clone()), entry: Some(entry), ..self }
    }
}
