//! Sends files, a message each, in a way that can be broken off and taken up again.
//!
//! What the API accepts goes into a [`Journal`] at once, and what is there is not sent again. Only a machine that goes
//! down between the answer and the journal makes a message be sent twice, and the API stores it once all the same.

mod journal;

use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use domain::{MAX_MESSAGE_BYTES, MessageId, State, Status};
use futures_util::stream::{self, StreamExt};
use indicatif::ProgressBar;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use crate::client::Client;
use crate::http::{Answer, ER7, JSON, TRANSFER_DEADLINE};
use crate::read;
use crate::wait::pauses;
pub use journal::{Content, Entry, Journal};

/// The pause between two looks at a message grows from here to [`LONGEST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_millis(200);
const LONGEST_LOOK: Duration = Duration::from_secs(5);

/// How to send.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the files are encoded in; UTF-8 when nothing is said.
    pub charset: Option<String>,
    /// How many messages are under way at a time.
    pub concurrency: usize,
    /// Also what the journal has as accepted.
    pub again: bool,
    /// How long to wait for the outcome of each; `None` for not at all.
    pub wait: Option<Duration>,
}

/// What became of a file.
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

/// One file.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its name, as given; `-` is stdin.
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

/// What became of all files, in their order.
#[derive(Debug)]
pub struct Report {
    /// A row for each file.
    pub rows: Vec<Row>,
    /// Why sending ended early, when it did by itself.
    pub error: Option<anyhow::Error>,
}

impl Report {
    /// How many files met this fate.
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

/// The files that are meant by what is on the command line: of a folder those directly in it, by name, without hidden ones.
///
/// # Errors
/// When a folder cannot be listed, or there is nothing to send.
pub fn files(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        if argument.is_dir() {
            let listed =
                std::fs::read_dir(argument).and_then(|it| it.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>());
            let mut inside = listed.with_context(|| format!("listing {}", argument.display()))?;
            let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            inside.retain(|path| path.is_file() && !is_hidden(path));
            inside.sort();
            files.append(&mut inside);
        } else {
            files.push(argument.clone());
        }
    }
    if files.is_empty() {
        bail!("there are no files to send");
    }
    Ok(files)
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
    let sender = Sender { client, journal, options, hurry, error: RefCell::new(None) };
    progress.set_length(files.len() as u64);
    let sending = stream::iter(files.iter().enumerate())
        .take_while(|_| std::future::ready(sender.goes_on()))
        .map(|(index, file)| {
            let sender = &sender;
            async move {
                let row = sender.send(file).await;
                progress.inc(1);
                (index, row)
            }
        })
        .buffer_unordered(options.concurrency);
    let mut rows: Vec<Row> = files.iter().map(|file| Row::left(file)).collect();
    put_into(&mut rows, sending.collect().await);

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
        let waited = waiting.collect().await;
        put_into(&mut rows, waited);
    }
    progress.finish_and_clear();
    Report { rows, error: sender.error.into_inner() }
}

fn put_into(rows: &mut [Row], found: Vec<(usize, Row)>) {
    for (index, row) in found {
        if let Some(place) = rows.get_mut(index) {
            *place = row;
        }
    }
}

struct Sender<'a> {
    client: &'a Client,
    journal: &'a Journal,
    options: &'a Options,
    hurry: &'a watch::Receiver<bool>,
    /// What made it end: no answer for one message means none for the others.
    error: RefCell<Option<anyhow::Error>>,
}

impl Sender<'_> {
    fn goes_on(&self) -> bool {
        !*self.hurry.borrow() && self.error.borrow().is_none()
    }

    fn end(&self, error: anyhow::Error) {
        self.error.borrow_mut().get_or_insert(error);
    }

    async fn send(&self, file: &Path) -> Row {
        let left = Row::left(file);
        let path = file.to_owned();
        let read = tokio::task::spawn_blocking(move || read_message(&path)).await;
        let message = match read {
            Ok(Ok(message)) => message,
            Ok(Err(problem)) => return Row { fate: Fate::Refused, answer: problem, ..left },
            Err(error) => {
                self.end(error.into());
                return left;
            }
        };
        let content = Content::of(&message, self.options.charset.as_deref());
        if let Some(entry) = self.journal.accepted(&content).filter(|_| !self.options.again) {
            return Row { fate: Fate::Accepted, answer: "sent before".to_owned(), ..left }.with(entry);
        }
        match self.post(message).await {
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

    async fn post(&self, message: Vec<u8>) -> Result<Answer> {
        let content_type = match &self.options.charset {
            Some(charset) => format!("{ER7}; charset={charset}"),
            None => ER7.to_owned(),
        };
        let request = |api: &crate::http::Api, token: &secrecy::SecretString| {
            let request = api.request(Method::POST, "/er7", Some(token)).timeout(TRANSFER_DEADLINE);
            request.header(CONTENT_TYPE, &content_type).header(ACCEPT, JSON).body(message.clone())
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
    fn left(file: &Path) -> Self {
        Self {
            file: file.display().to_string(),
            fate: Fate::Left,
            answer: "not sent".to_owned(),
            message_id: None,
            status: None,
            state: None,
            entry: None,
        }
    }

    fn with(self, entry: Entry) -> Self {
        Self { message_id: Some(entry.message_id.clone()), entry: Some(entry), ..self }
    }
}

/// Reads a file, or says why it cannot be sent. Of a large one no more than is needed to know that it is.
fn read_message(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let source: Box<dyn Read> =
            if path.as_os_str() == "-" { Box::new(std::io::stdin()) } else { Box::new(std::fs::File::open(path)?) };
        let mut message = Vec::new();
        source.take(MAX_MESSAGE_BYTES as u64 + 1).read_to_end(&mut message)?;
        Ok(message)
    };
    match read() {
        Ok(message) if message.len() > MAX_MESSAGE_BYTES => Err("too large: a message may have at most 4 MiB".to_owned()),
        Ok(message) if message.is_empty() => Err("the file is empty".to_owned()),
        Ok(message) => Ok(message),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_means_the_files_in_it() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.hl7", "a.hl7", ".hidden"] {
            std::fs::write(folder.path().join(name), "MSH").unwrap();
        }
        std::fs::create_dir(folder.path().join("deeper")).unwrap();
        let found = files(&[PathBuf::from("-"), folder.path().to_owned(), PathBuf::from("not there")]).unwrap();
        assert_eq!(found, [Path::new("-"), &folder.path().join("a.hl7"), &folder.path().join("b.hl7"), Path::new("not there")]);
        assert!(files(&[folder.path().join("deeper")]).is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_known_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.hl7");
        // Sparse: 4 GiB that are not on the disk, and must not be in memory.
        std::fs::File::create(&path).unwrap().set_len(4 << 30).unwrap();
        assert_eq!(read_message(&path), Err("too large: a message may have at most 4 MiB".to_owned()));
        std::fs::File::create(&path).unwrap().set_len(MAX_MESSAGE_BYTES as u64).unwrap();
        assert_eq!(read_message(&path).unwrap().len(), MAX_MESSAGE_BYTES);
        std::fs::File::create(&path).unwrap();
        assert_eq!(read_message(&path), Err("the file is empty".to_owned()));
        assert!(read_message(&folder.path().join("none")).unwrap_err().contains("cannot be read"));
    }
}
