//! One connection: reads its frames, puts them into the spool, answers them in their order.
//!
//! Reading and answering happen at the same time, so a peer may send frames without waiting for answers, up to a limit. A frame that was
//! read to its end goes to the spool whether or not the peer is still there to be answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::{Charset, MAX_MESSAGE_BYTES, MAX_UPLOAD_BYTES};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::admission::{Presence, Turns};
use crate::answer::{Answerable, Complaint, ControlIds, ReasonedVerdict};
use crate::clock::now_ms;
use crate::destination::Ending;
use crate::feed::Line;
use crate::foreign::Stray;
use crate::frame::{Frame, Frames, HEAD_BYTES, framed};
use crate::hybrid::{self, Hybrid};
use crate::large::{Room, Share};
use crate::origin::Label;
use crate::report::{Counters, Log, QUIET_STRANGER, count};
use crate::spool::{Spool, Unwritten};

/// How many bytes are read at a time.
const READ_BYTES: usize = 16 * 1024;

/// A peer that sends this many bytes outside of frames does not speak MLLP.
const MAX_STRAY_BYTES: usize = 64 * 1024;

/// If a connection is closed with bytes unread, the system resets it, and an answer on its way may be lost. So the peer has this
/// long to close first.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1024 * 1024;

/// The limits for a peer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at a time; a further one closes the one that has been idle longest.
    pub connections: usize,
    /// The most connections of one address at a time.
    pub connections_per_address: usize,
    /// Most bytes of a frame.
    pub frame_bytes: usize,
    /// The memory for all frames of more than [`MAX_MESSAGE_BYTES`] that are being read, in bytes; at least that of one frame.
    pub large_bytes: usize,
    /// Most frames of one connection that are read and not answered.
    pub unanswered: usize,
    /// How long a connection may be open without a frame.
    pub idle: Duration,
    /// How long a frame may take from its first byte to its last.
    pub frame: Duration,
    /// How long a peer may take to read an answer.
    pub write: Duration,
    /// How long a peer may take to agree on TLS.
    pub handshake: Duration,
    /// How long [`crate::ApplicationAck::Stored`] waits for the outcome before it answers that the gateway keeps the message.
    pub outcome: Duration,
    /// How long work under way may take when the gateway must stop.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_address: 128,
            frame_bytes: MAX_UPLOAD_BYTES,
            large_bytes: 4 * MAX_UPLOAD_BYTES,
            unanswered: 32,
            idle: Duration::from_secs(3600),
            frame: Duration::from_secs(60),
            write: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            // Less than the shortest timeout of senders: Mirth waits 5 s, HAPI 10 s.
            outcome: Duration::from_secs(4),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) spool: Arc<Spool>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log: Log,
    pub(crate) limits: Limits,
    pub(crate) ids: ControlIds,
    pub(crate) turns: Turns,
    pub(crate) room: Arc<Room>,
    /// Held while a large message is decoded for its answer, which takes up to three times its memory.
    pub(crate) decoding: Mutex<()>,
    /// Once true, no more frames are read.
    pub(crate) stop: watch::Receiver<bool>,
}

/// One connection's feed, origin and presence.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) line: Arc<Line>,
    pub(crate) label: Arc<Label>,
    pub(crate) presence: Arc<Presence>,
}

/// How reading ended.
enum End {
    /// The peer closed the connection, or it broke.
    Gone,
    /// The gateway is stopping.
    Stopped,
    /// The gateway closes the connection, for this reason.
    Closed(String),
}

/// The result of reading from a connection.
enum Read {
    Bytes(usize),
    Late,
    Ended(End),
}

/// A frame that needs an answer.
struct Unanswered {
    answerable: Answerable,
    /// Whether it came in the hybrid protocol.
    is_hybrid: bool,
    state: State,
}

enum State {
    Known(ReasonedVerdict),
    /// Resolves when the message is on disk. If an answer depends on the outcome, that is awaited next.
    Spooled {
        stored: oneshot::Receiver<Result<(), Unwritten>>,
        awaited: Option<Awaited>,
    },
}

/// An outcome, and how long the peer waits for it.
struct Awaited {
    ending: oneshot::Receiver<Vec<Ending>>,
    until: Instant,
}

impl Service {
    /// Serves a peer until it leaves or breaks a limit, or the gateway stops.
    pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Send>(&self, peer: &Peer, stream: S) {
        let (mut read, mut write) = tokio::io::split(stream);
        let (answers, unanswered) = mpsc::channel(self.limits.unanswered.max(1));
        {
            let mut reading = std::pin::pin!(self.read(peer, &mut read, answers));
            let mut writing = std::pin::pin!(self.write(peer, &mut write, unanswered));
            tokio::select! {
                end = &mut reading => {
                    if let End::Closed(reason) = end {
                        self.log.say_why(&peer.label.origin, "closed", &reason);
                    }
                    writing.await;
                }
                () = &mut writing => {
                    let reason = "the peer does not read its answers";
                    return self.log.say_why(&peer.label.origin, "closed", reason);
                }
            }
        }
        let close = async {
            let _ = write.shutdown().await;
            let _ = tokio::io::copy(&mut read.take(LINGER_BYTES), &mut tokio::io::sink()).await;
        };
        let _ = timeout(LINGER, close).await;
    }

    /// Reads frames until there are no more. Dropping the sender of `answers` ends the answers.
    async fn read<S: AsyncRead>(&self, peer: &Peer, stream: &mut ReadHalf<S>, answers: mpsc::Sender<Unanswered>) -> End {
        let mut frames = Frames::with_room(self.limits.frame_bytes, Arc::clone(&self.room));
        let mut buffer = vec![0; READ_BYTES];
        let mut unread = 0..0;
        let mut end = End::Gone;
        // Read nothing while too many frames are unanswered.
        while let Ok(place) = answers.reserve().await {
            let idle_until = Instant::now() + self.limits.idle;
            let mut frame_until = None;
            let frame = loop {
                let mut input = buffer.get(unread.clone()).unwrap_or_default();
                let frame = frames.next(&mut input);
                unread.start = unread.end - input.len();
                self.counters.cut.fetch_add(frames.take_cut(), Ordering::Relaxed);
                peer.presence.set_within_frame(frames.is_within());
                if let Some(name) = frames.take_stray().and_then(|stray| self.tell(peer, stray)) {
                    end = End::Closed(format!("the peer speaks {name}"));
                    break None;
                }
                if frame.is_some() {
                    break frame;
                }
                if frames.stray_bytes() > MAX_STRAY_BYTES {
                    end = End::Closed(format!("{MAX_STRAY_BYTES} bytes outside of frames"));
                    break None;
                }
                // Bytes outside of frames, and a frame that comes byte by byte, extend no deadline.
                let until = if frames.is_within() {
                    let frame_until = *frame_until.get_or_insert_with(|| Instant::now() + self.limits.frame);
                    frames.silence().map_or(frame_until, |silence| frame_until.min(Instant::now() + silence))
                } else {
                    idle_until
                };
                match self.read_some(peer, stream, &mut buffer, until).await {
                    Read::Bytes(read) => unread = 0..read,
                    // A frame that the gateway itself interrupts is incomplete.
                    Read::Ended(End::Stopped) => {
                        end = End::Stopped;
                        break None;
                    }
                    Read::Ended(ended) => {
                        end = ended;
                        break frames.end_if_silent();
                    }
                    Read::Late => {
                        end = End::Closed(if frames.is_within() {
                            format!("a frame took more than {} s", self.limits.frame.as_secs())
                        } else {
                            format!("no frame within {} s", self.limits.idle.as_secs())
                        });
                        break frames.end_if_silent();
                    }
                }
            };
            let Some(frame) = frame else { break };
            peer.presence.received(self.turns.next());
            let unanswered = self.receive(peer, frame, frames.take_share()).await;
            // Not before: if the connection ends meanwhile, the frame goes with it.
            count(&self.counters.received);
            peer.line.activity.receive(now_ms());
            place.send(unanswered);
        }
        if frames.is_within() {
            count(&self.counters.cut);
            self.log.say_of(&peer.label.origin, "cut", json!({ "detail": "a frame has begun and not ended" }));
        }
        end
    }

    /// Counts and logs bytes outside of frames. Returns the name of a protocol that ends the connection.
    fn tell(&self, peer: &Peer, stray: Stray) -> Option<&'static str> {
        let (counter, detail) = match stray {
            Stray::Protocol(name) => {
                count(&self.counters.foreign);
                return Some(name);
            }
            Stray::Astm => (&self.counters.astm, "the peer sends ENQ: it speaks ASTM, not MLLP"),
            Stray::Unframed => (&self.counters.unframed, "the peer sends messages without a frame"),
            Stray::Unknown => return None,
        };
        count(counter);
        self.log.say_of_each(QUIET_STRANGER, &peer.label.origin, "stranger", detail, json!({ "detail": detail }));
        None
    }

    async fn read_some<S: AsyncRead>(&self, peer: &Peer, stream: &mut ReadHalf<S>, buffer: &mut [u8], until: Instant) -> Read {
        tokio::select! {
            biased;
            () = self.stopped() => Read::Ended(End::Stopped),
            read = timeout_at(until, stream.read(buffer)) => match read {
                Ok(Ok(read)) if read > 0 => Read::Bytes(read),
                Ok(_) => Read::Ended(End::Gone),
                Err(_) => Read::Late,
            },
            () = peer.presence.leave() => {
                Read::Ended(End::Closed("the longest idle connection made room for another".to_owned()))
            }
        }
    }

    async fn stopped(&self) {
        // An error means that the gateway is gone.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Puts a frame into the spool, or returns the reason why not. `_share` is the room of a large frame, until the spool has it.
    async fn receive(&self, peer: &Peer, frame: Frame, _share: Share) -> Unanswered {
        let charset = peer.line.feed.charset;
        let known =
            |answerable: Answerable, verdict, is_hybrid| Unanswered { answerable, is_hybrid, state: State::Known(verdict) };
        let passed_over = |mut head: Vec<u8>, verdict| {
            let is_hybrid = hybrid::strip(&mut head).is_some();
            known(Answerable::of_head(&head, charset), verdict, is_hybrid)
        };
        let (message, is_hybrid) = match frame {
            Frame::TooLong { head } => {
                return passed_over(head, ReasonedVerdict::Never(Complaint::too_long(self.limits.frame_bytes)));
            }
            Frame::NoRoom { head } => {
                count(&self.counters.crowded);
                return passed_over(head, ReasonedVerdict::of_unwritten(Unwritten::Crowded));
            }
            Frame::Whole(mut message) => {
                let hybrid = hybrid::strip(&mut message);
                if hybrid == Some(Hybrid::Mismatch) {
                    count(&self.counters.mismatched);
                    let detail = "size or checksum of the hybrid protocol are of other bytes: something has changed the message";
                    self.log.say_of_each(QUIET_STRANGER, &peer.label.origin, "mismatch", "", json!({ "detail": detail }));
                }
                let is_hybrid = hybrid.is_some();
                (message, is_hybrid)
            }
        };
        let (answerable, message) = match self.look_at(message, charset).await {
            (answerable, Ok(message)) => (answerable, message),
            (answerable, Err(verdict)) => return known(answerable, verdict, is_hybrid),
        };
        let (waiter, awaited) = if answerable.waits_for_outcome(peer.line.feed.application_ack) {
            let (waiter, ending) = oneshot::channel();
            (Some(waiter), Some(Awaited { ending, until: Instant::now() + self.limits.outcome }))
        } else {
            (None, None)
        };
        let stored = self.spool.append(&peer.label, message, now_ms(), waiter).await;
        Unanswered { answerable, is_hybrid, state: State::Spooled { stored, awaited } }
    }

    /// Reads a message as far as its answer needs that. A large one is read on a thread of its own, because that takes up to seconds,
    /// and only one at a time.
    async fn look_at(&self, message: Vec<u8>, charset: Option<Charset>) -> (Answerable, Result<Vec<u8>, ReasonedVerdict>) {
        let looked_at = if message.len() <= MAX_MESSAGE_BYTES {
            Ok(Answerable::of(message, charset))
        } else {
            count(&self.counters.large);
            let head = message.get(..HEAD_BYTES).unwrap_or_default().to_vec();
            let _turn = self.decoding.lock().await;
            let reading = tokio::task::spawn_blocking(move || Answerable::of(message, charset));
            reading.await.map_err(|_| Answerable::of_head(&head, charset))
        };
        match looked_at {
            Ok((answerable, message)) => (answerable, message.map_err(ReasonedVerdict::Never)),
            // The runtime ends, or the thread has panicked: nobody knows what the message is.
            Err(answerable) => (answerable, Err(ReasonedVerdict::of_unwritten(Unwritten::Stopped))),
        }
    }

    /// Answers frames in order. Ends when there are no more, or the peer does not read an answer.
    async fn write<S: AsyncWrite>(&self, peer: &Peer, stream: &mut WriteHalf<S>, mut unanswered: mpsc::Receiver<Unanswered>) {
        while let Some(Unanswered { answerable, is_hybrid, state }) = unanswered.recv().await {
            let framed = |answer: Vec<u8>| if is_hybrid { framed(&hybrid::wrapped(&answer)) } else { framed(&answer) };
            let (verdict, awaited) = self.kept(state).await;
            let mut verdicts = answerable.settle(&[verdict]);
            let mut frames = answerable.commit(&verdicts, &self.ids).map(framed).unwrap_or_default();
            if let Some(awaited) = awaited {
                // The commit acknowledgment does not wait.
                if !self.send(stream, &frames).await {
                    return;
                }
                frames.clear();
                verdicts = answerable.settle(&self.outcome(awaited).await);
            }
            frames.extend(answerable.application(&verdicts, &self.ids).map(framed).unwrap_or_default());
            if !self.send(stream, &frames).await {
                return;
            }
            let is_accepted = verdicts.iter().all(ReasonedVerdict::is_accepted);
            if let Some(reason) = verdicts.iter().find_map(ReasonedVerdict::reason) {
                self.log.say_why(&peer.label.origin, "rejected", reason);
            }
            peer.presence.answered();
            count(if is_accepted { &self.counters.acknowledged } else { &self.counters.rejected });
        }
    }

    /// Sends frames. Returns whether the peer takes them.
    async fn send<S: AsyncWrite>(&self, stream: &mut WriteHalf<S>, frames: &[u8]) -> bool {
        if frames.is_empty() {
            return true;
        }
        let written = timeout(self.limits.write, async {
            stream.write_all(frames).await?;
            stream.flush().await
        });
        matches!(written.await, Ok(Ok(())))
    }

    /// Whether the spool keeps a message, as soon as that is known, and how to await its outcome.
    async fn kept(&self, state: State) -> (ReasonedVerdict, Option<Awaited>) {
        match state {
            State::Known(verdict) => (verdict, None),
            State::Spooled { stored, awaited } => match stored.await.unwrap_or(Err(Unwritten::Stopped)) {
                Ok(()) => (ReasonedVerdict::Accepted, awaited),
                Err(error) => (ReasonedVerdict::of_unwritten(error), None),
            },
        }
    }

    /// The outcomes of the messages of a frame. An unknown outcome counts as kept, so no message is refused for lack of one:
    /// devices drop a rejected message, or hang up.
    async fn outcome(&self, Awaited { ending, until }: Awaited) -> Vec<ReasonedVerdict> {
        let kept =
            |why: String| vec![ReasonedVerdict::Kept(format!("{why}: the gateway keeps the message and will still deliver it"))];
        tokio::select! {
            biased;
            endings = timeout_at(until, ending) => match endings {
                Ok(Ok(endings)) => endings.into_iter().map(ReasonedVerdict::from).collect(),
                Ok(Err(_)) => kept("the outcome is not known".to_owned()),
                Err(_) => kept(format!("no outcome within {} s", self.limits.outcome.as_secs_f32())),
            },
            () = self.stopped() => kept("the gateway is shutting down".to_owned()),
        }
    }
}
