//! One peer: reads its frames, has them spooled, answers them in their order.
//!
//! Reading and answering go on at the same time, so a peer may send frames without waiting for answers, up to a limit. What was read
//! to its end goes to the spool whether or not the peer is still there to be told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::Charset;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::{AckMode, Complaint, ControlIds, Kind, Subject, Verdict};
use crate::delivery::Fate;
use crate::frame::{Frame, Frames, framed};
use crate::report::{Counters, count, now_ms};
use crate::spool::{Spool, Unwritten};

/// So much is read at a time.
const READ_BYTES: usize = 16 * 1024;

/// A peer that sends so much without any frame speaks something else.
const MAX_JUNK_BYTES: usize = 64 * 1024;

/// An FS ends a frame when nothing has followed it for so long.
const SILENCE: Duration = Duration::from_millis(500);

/// When a connection is closed with something unread, the system resets it, and an answer that is on its way may be lost. So the peer
/// has this long to close first.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1024 * 1024;

/// What a peer may do, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; a further one is closed at once.
    pub connections: usize,
    /// Bytes of a frame.
    pub frame_bytes: usize,
    /// Frames of one connection that are read and not answered.
    pub unanswered: usize,
    /// How long a connection may be open without a frame.
    pub idle: Duration,
    /// How long a frame may take from its first byte to its last.
    pub frame: Duration,
    /// How long a peer may take to read an answer.
    pub write: Duration,
    /// How long a peer may take to agree on TLS.
    pub handshake: Duration,
    /// How long [`AckMode::Outcome`] waits before it answers AR.
    pub outcome: Duration,
    /// How long what is under way may take when the gateway is told to stop.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            frame_bytes: domain::MAX_MESSAGE_BYTES,
            unanswered: 32,
            idle: Duration::from_secs(3600),
            frame: Duration::from_secs(60),
            write: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            outcome: Duration::from_secs(30),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) spool: Arc<Spool>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) mode: AckMode,
    /// That of all messages; else each says so itself.
    pub(crate) charset: Option<Charset>,
    pub(crate) limits: Limits,
    pub(crate) ids: ControlIds,
    /// When true, no more frames are read.
    pub(crate) stop: watch::Receiver<bool>,
}

/// A frame that is to be answered.
struct Unanswered {
    subject: Subject,
    /// `None`: the sender wants no answer.
    kind: Option<Kind>,
    state: State,
}

enum State {
    Known(Verdict),
    /// To be known when the disk has answered, and then what `fate` waits for, if anything.
    Spooled {
        stored: oneshot::Receiver<Result<(), Unwritten>>,
        fate: Option<oneshot::Receiver<Vec<Fate>>>,
        until: Instant,
    },
}

impl Service {
    /// Serves a peer until it goes, breaks a limit, or the gateway stops.
    pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Send>(&self, stream: S) {
        let (mut read, mut write) = tokio::io::split(stream);
        let (answers, unanswered) = mpsc::channel(self.limits.unanswered.max(1));
        {
            let mut reading = std::pin::pin!(self.read(&mut read, answers));
            let mut writing = std::pin::pin!(self.write(&mut write, unanswered));
            tokio::select! {
                () = &mut reading => writing.await,
                // The peer does not read its answers: no more is taken from it.
                () = &mut writing => return,
            }
        }
        let close = async {
            let _ = write.shutdown().await;
            let _ = tokio::io::copy(&mut read.take(LINGER_BYTES), &mut tokio::io::sink()).await;
        };
        let _ = timeout(LINGER, close).await;
    }

    /// Reads frames until there are no more. Ends the answers by dropping their sender.
    async fn read<S: AsyncRead>(&self, stream: &mut ReadHalf<S>, answers: mpsc::Sender<Unanswered>) {
        let mut frames = Frames::new(self.limits.frame_bytes);
        let mut buffer = vec![0; READ_BYTES];
        let mut unread = 0..0;
        // Nothing is read while too much is unanswered.
        while let Ok(place) = answers.reserve().await {
            let idle_until = Instant::now() + self.limits.idle;
            let mut frame_until = None;
            let frame = loop {
                let mut input = buffer.get(unread.clone()).unwrap_or_default();
                let frame = frames.next(&mut input);
                unread.start = unread.end - input.len();
                self.counters.cut.fetch_add(frames.take_cut(), Ordering::Relaxed);
                if frame.is_some() {
                    break frame;
                }
                // What is no frame, and a frame that comes byte by byte, make no deadline longer.
                let until = if frames.is_within() {
                    let frame_until = *frame_until.get_or_insert_with(|| Instant::now() + self.limits.frame);
                    if frames.is_behind_end() { frame_until.min(Instant::now() + SILENCE) } else { frame_until }
                } else {
                    idle_until
                };
                match self.read_some(stream, &mut buffer, until).await {
                    Some(read) if read > 0 && frames.junk_bytes() <= MAX_JUNK_BYTES => unread = 0..read,
                    // What was cut short by the gateway itself is not at its end.
                    _ if *self.stop.borrow() => break None,
                    _ => break frames.end_if_silent(),
                }
            };
            let Some(frame) = frame else { break };
            count(&self.counters.received);
            place.send(self.receive(frame).await);
        }
        if frames.is_within() {
            count(&self.counters.cut);
        }
    }

    /// `None`: nothing came in time, the connection is broken, or the gateway stops.
    async fn read_some<S: AsyncRead>(&self, stream: &mut ReadHalf<S>, buffer: &mut [u8], until: Instant) -> Option<usize> {
        tokio::select! {
            biased;
            () = self.stopped() => None,
            read = timeout_at(until, stream.read(buffer)) => read.ok()?.ok(),
        }
    }

    async fn stopped(&self) {
        // An error: nobody is there who could say so, and nobody who waits for the end.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Has a frame spooled, or says why not.
    async fn receive(&self, frame: Frame) -> Unanswered {
        let known = |subject: Subject, complaint| {
            let kind = subject.kind(self.mode);
            Unanswered { subject, kind, state: State::Known(Verdict::Never(complaint)) }
        };
        let message = match frame {
            Frame::TooLong { head } => {
                return known(Subject::of_head(&head, self.charset), Complaint::too_long(self.limits.frame_bytes));
            }
            Frame::Whole(message) => message,
        };
        let (subject, message) = match Subject::of(message, self.charset) {
            (subject, Ok(message)) => (subject, message),
            (subject, Err(complaint)) => return known(subject, complaint),
        };
        let kind = subject.kind(self.mode);
        let until = Instant::now() + self.limits.outcome;
        let (waiter, fate) = match kind {
            Some(Kind::Application) => {
                let (waiter, fate) = oneshot::channel();
                (Some(waiter), Some(fate))
            }
            _ => (None, None),
        };
        let stored = self.spool.append(message, now_ms(), waiter).await;
        Unanswered { subject, kind, state: State::Spooled { stored, fate, until } }
    }

    /// Answers frames in their order. Ends when there are no more, or the peer does not take an answer.
    async fn write<S: AsyncWrite>(&self, stream: &mut WriteHalf<S>, mut unanswered: mpsc::Receiver<Unanswered>) {
        while let Some(Unanswered { subject, kind, state }) = unanswered.recv().await {
            let verdicts = subject.settle(&self.verdicts(state).await);
            let is_accepted = verdicts.iter().all(Verdict::is_accepted);
            if let Some(answer) = kind.and_then(|kind| subject.answer(kind, &verdicts, &self.ids)) {
                let frame = framed(&answer);
                let written = timeout(self.limits.write, async {
                    stream.write_all(&frame).await?;
                    stream.flush().await
                });
                if !matches!(written.await, Ok(Ok(()))) {
                    return;
                }
            }
            count(if is_accepted { &self.counters.acknowledged } else { &self.counters.rejected });
        }
    }

    /// What a frame is answered with, once that is known.
    async fn verdicts(&self, state: State) -> Vec<Verdict> {
        let (stored, fate, until) = match state {
            State::Known(verdict) => return vec![verdict],
            State::Spooled { stored, fate, until } => (stored, fate, until),
        };
        if let Err(error) = stored.await.unwrap_or(Err(Unwritten::Stopped)) {
            return vec![Verdict::of_unwritten(error)];
        }
        let Some(fate) = fate else { return vec![Verdict::Accepted] };
        let kept = |why: String| vec![Verdict::NotNow(format!("{why}: the gateway keeps the message and will still deliver it"))];
        tokio::select! {
            biased;
            fates = timeout_at(until, fate) => match fates {
                Ok(Ok(fates)) => fates.into_iter().map(Verdict::from).collect(),
                Ok(Err(_)) => kept("the outcome is not known".to_owned()),
                Err(_) => kept(format!("no outcome within {} s", self.limits.outcome.as_secs())),
            },
            () = self.stopped() => kept("the gateway is shutting down".to_owned()),
        }
    }
}
