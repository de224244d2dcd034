//! A sender of messages, to try a feed.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::frame::{Frame, Frames, framed};
use crate::hybrid;

/// Generous: answers are short.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// How long a second answer may take: an application acknowledgment after a commit acknowledgment.
const SECOND: Duration = Duration::from_millis(300);

/// A connection to a receiver.
pub struct Sender {
    stream: TcpStream,
    frames: Frames,
    patience: Duration,
    unread: Vec<u8>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Sender")
    }
}

impl Sender {
    /// Connects to `HOST:PORT`. `patience` limits the connecting and each answer.
    ///
    /// # Errors
    /// When nobody answers there in time.
    pub async fn connect(address: &str, patience: Duration) -> io::Result<Self> {
        let stream = timeout(patience, TcpStream::connect(address)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, frames: Frames::new(MAX_ANSWER_BYTES), patience, unread: Vec::new() })
    }

    /// Sends a message, and returns the answers without their frames: one, or two when a commit acknowledgment comes first; none when
    /// the receiver stays silent.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn exchange(&mut self, message: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.stream.write_all(&framed(message)).await?;
        let mut answers = Vec::new();
        answers.extend(self.answer(Instant::now() + self.patience).await?);
        if answers.first().is_some_and(|answer| code(answer).starts_with(b"C")) {
            // The connection may end after the first answer.
            answers.extend(self.answer(Instant::now() + SECOND).await.ok().flatten());
        }
        Ok(answers)
    }

    /// Sends a message that asks for no answer. Returns what comes at once all the same.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn tell(&mut self, message: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.stream.write_all(&framed(message)).await?;
        Ok(self.answer(Instant::now() + SECOND).await?.into_iter().collect())
    }

    async fn answer(&mut self, until: Instant) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut input = &self.unread[..];
            let frame = self.frames.next(&mut input);
            self.unread = input.to_vec();
            match frame {
                Some(Frame::Whole(mut answer)) => {
                    let _ = hybrid::strip(&mut answer);
                    return Ok(Some(answer));
                }
                Some(Frame::TooLong { .. } | Frame::NoRoom { .. }) => return Err(io::ErrorKind::FileTooLarge.into()),
                None => {}
            }
            match timeout_at(until, self.stream.read_buf(&mut self.unread)).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    return Ok(self.frames.end_if_silent().and_then(|frame| match frame {
                        Frame::Whole(answer) => Some(answer),
                        Frame::TooLong { .. } | Frame::NoRoom { .. } => None,
                    }));
                }
            }
        }
    }
}

/// MSA-1 of an acknowledgment; empty when there is none.
pub fn code(answer: &[u8]) -> &[u8] {
    let segment = answer.split(|byte| *byte == b'\r').find(|segment| segment.starts_with(b"MSA"));
    let code = segment.and_then(|msa| msa.get(4..)).unwrap_or_default();
    code.get(..2).unwrap_or_default()
}

/// The messages in an MLLP stream that was recorded in a file; `None` when the bytes hold no frame.
pub fn unframed(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut frames = Frames::new(usize::MAX);
    let mut input = bytes;
    let mut messages = Vec::new();
    while let Some(Frame::Whole(message)) = frames.next(&mut input) {
        messages.push(message);
    }
    if let Some(Frame::Whole(message)) = frames.end_if_silent() {
        messages.push(message);
    }
    (!messages.is_empty()).then_some(messages)
}
