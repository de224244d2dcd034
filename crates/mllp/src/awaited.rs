//! Messages that the API has accepted and the lake has not stored yet, if the spool or a sender waits for that. The gateway
//! asks for the status of many at a time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::MessageId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::destination::{Ending, MOST_ASKED};
use crate::spool::{Entry, Waiter};

/// The first pause before the gateway asks about a message whose sender waits, and the longest one.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// If no sender waits, a pause grows to this many times the first.
const LONGEST_UNATTENDED: u32 = 10;

/// The gateway asks about a message together with older ones once one part in this many of its pause is over: two seconds of 30. Earlier,
/// the message is not stored yet.
const RIPE: u32 = 15;

/// A frame that the API has.
#[derive(Debug)]
pub(crate) struct Awaited {
    /// Its place in the spool; `None` if the spool no longer has it.
    pub(crate) entry: Option<Entry>,
    /// The sender who waits for the outcome, if any.
    pub(crate) waiter: Option<Waiter>,
    /// The messages of the frame, in order.
    pub(crate) messages: Box<[AwaitedMessage]>,
    /// When the API got it.
    pub(crate) since: Instant,
    /// How often the gateway has asked about it.
    pub(crate) looks: u32,
}

/// A message of a frame that the API has.
#[derive(Debug)]
pub(crate) enum AwaitedMessage {
    /// Its outcome is unknown.
    Open(MessageId),
    /// Its outcome is known.
    Ended(Ending),
}

impl Awaited {
    /// The messages to ask about.
    pub(crate) fn open(&self) -> impl Iterator<Item = &MessageId> {
        self.messages.iter().filter_map(|message| match message {
            AwaitedMessage::Open(id) => Some(id),
            AwaitedMessage::Ended(_) => None,
        })
    }

    /// The outcome of each message; `None` while one is unknown.
    pub(crate) fn endings(&self) -> Option<Vec<Ending>> {
        let ending = |message: &AwaitedMessage| match message {
            AwaitedMessage::Open(_) => None,
            AwaitedMessage::Ended(ending) => Some(ending.clone()),
        };
        self.messages.iter().map(ending).collect()
    }

    /// Whether the spool or a sender still needs the outcome.
    fn is_wanted(&self) -> bool {
        self.entry.is_some() || self.waiter.as_ref().is_some_and(|waiter| !waiter.is_closed())
    }

    /// The pause before the next question about it.
    fn pause(&self, unattended: Duration) -> Duration {
        if self.waiter.as_ref().is_some_and(|waiter| !waiter.is_closed()) {
            FIRST_LOOK.mul_f64(1.5_f64.powi(i32::try_from(self.looks.min(20)).unwrap_or(20))).min(LONGEST_LOOK)
        } else {
            unattended.saturating_mul((1 << self.looks.min(10)).min(LONGEST_UNATTENDED))
        }
    }
}

/// An action at a certain time.
#[derive(Debug)]
enum Task {
    Ask(Awaited),
    /// Submit the message again.
    Submit(Entry),
}

/// The actions that are due.
#[derive(Debug, Default)]
pub(crate) struct Due {
    /// Frames to ask about.
    pub(crate) ask: Vec<Awaited>,
    /// Frames to submit again.
    pub(crate) submit: Vec<Entry>,
}

/// All awaited frames, ordered by the time of the next action. 100,000 entries need about 30 MB.
#[derive(Debug)]
pub(crate) struct AwaitedQueue {
    /// The first pause before a question about a message whose sender does not wait.
    unattended: Duration,
    tasks: Mutex<Tasks>,
    /// An earlier action was added.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Tasks {
    next_number: u64,
    by_time: BTreeMap<(Instant, u64), Task>,
}

impl AwaitedQueue {
    /// An empty queue. `unattended` is the first pause before a question about a message whose sender does not wait.
    pub(crate) fn new(unattended: Duration) -> Self {
        Self { unattended, tasks: Mutex::default(), changed: Notify::new() }
    }

    /// Adds a frame to ask about after its pause; at once, if nobody knows how long the API has had it.
    pub(crate) fn ask(&self, awaited: Awaited, at_once: bool) {
        if awaited.is_wanted() {
            let pause = if at_once { Duration::ZERO } else { awaited.pause(self.unattended) };
            self.add(Instant::now() + pause, Task::Ask(awaited));
        }
    }

    /// Adds a frame to submit again after a pause.
    pub(crate) fn submit(&self, entry: Entry, pause: Duration) {
        self.add(Instant::now() + pause, Task::Submit(entry));
    }

    fn add(&self, at: Instant, task: Task) {
        let mut tasks = self.tasks();
        let number = tasks.next_number;
        tasks.next_number += 1;
        let is_first = tasks.by_time.first_key_value().is_none_or(|((first, _), _)| at < *first);
        tasks.by_time.insert((at, number), task);
        drop(tasks);
        if is_first {
            self.changed.notify_one();
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an action is due, and takes it; also takes frames that are due soon, to fill one question.
    pub(crate) async fn due(&self) -> Due {
        loop {
            let now = Instant::now();
            let first = {
                let mut tasks = self.tasks();
                match tasks.by_time.first_key_value() {
                    Some(((at, _), _)) if *at <= now => {
                        let due = tasks.take(now, now + self.unattended - self.unattended / RIPE);
                        let is_more_due = tasks.by_time.first_key_value().is_some_and(|((at, _), _)| *at <= now);
                        drop(tasks);
                        if is_more_due {
                            self.changed.notify_one();
                        }
                        return due;
                    }
                    Some(((at, _), _)) => Some(*at),
                    None => None,
                }
            };
            match first {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }
}

impl Tasks {
    /// Takes the actions that are due now. Of the questions, it also takes those due by `soon`, as far as they fit into one
    /// request.
    fn take(&mut self, now: Instant, soon: Instant) -> Due {
        let mut due = Due::default();
        let mut asked = 0;
        while let Some(first) = self.by_time.first_entry() {
            let at = first.key().0;
            match first.get() {
                Task::Submit(_) if at > now => break,
                Task::Ask(awaited) if at > soon.max(now) || (asked > 0 && asked + awaited.open().count() > MOST_ASKED) => break,
                _ => {}
            }
            match first.remove() {
                Task::Submit(entry) => due.submit.push(entry),
                Task::Ask(awaited) => {
                    asked += awaited.open().count();
                    due.ask.push(awaited);
                }
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_wait_for_the_lake_need_little_memory() {
        // A message alone in its frame, with its id and its place in the queue. 100,000 of them need less than 40 MB.
        let bytes = size_of::<Awaited>() + size_of::<AwaitedMessage>() + size_of::<(Instant, u64)>() + 64;
        assert!(bytes <= 400, "{bytes}");
    }

    fn awaited(nth: usize, waiter: Option<Waiter>) -> Awaited {
        let id: MessageId = format!("{nth:064x}").parse().unwrap();
        let entry = waiter.is_none().then(|| Entry::of_test(nth));
        Awaited { entry, waiter, messages: Box::new([AwaitedMessage::Open(id)]), since: Instant::now(), looks: 0 }
    }

    #[test]
    fn messages_due_soon_fill_up_a_question_about_messages_that_are_due() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut tasks = Tasks::default();
        for nth in 0..600 {
            tasks.by_time.insert((now + 2 * second, nth), Task::Ask(awaited(nth as usize, None)));
        }
        tasks.by_time.insert((now + 2 * second, 600), Task::Submit(Entry::of_test(600)));
        tasks.by_time.insert((now + 30 * second, 601), Task::Ask(awaited(601, None)));
        let due = tasks.take(now, now + 28 * second);
        assert_eq!((due.ask.len(), due.submit.len()), (MOST_ASKED, 0));
        let due = tasks.take(now, now + 28 * second);
        assert_eq!((due.ask.len(), due.submit.len()), (100, 0), "nothing is submitted before its time");
        let due = tasks.take(now + 2 * second, now + 28 * second);
        assert_eq!((due.ask.len(), due.submit.len(), tasks.by_time.len()), (0, 1, 1), "a message that is too young waits");
    }

    #[test]
    fn a_waiting_sender_is_told_soon_and_a_message_that_nobody_waits_for_is_forgotten() {
        let unattended = Duration::from_secs(30);
        let (waiter, ending) = tokio::sync::oneshot::channel();
        let mut attended = awaited(1, Some(waiter));
        assert_eq!((attended.pause(unattended), awaited(2, None).pause(unattended)), (FIRST_LOOK, unattended));
        attended.looks = 50;
        assert_eq!(attended.pause(unattended), LONGEST_LOOK);
        let old = Awaited { looks: 50, ..awaited(2, None) };
        assert_eq!(old.pause(unattended), Duration::from_secs(300));
        drop(ending);
        let queue = AwaitedQueue::new(unattended);
        queue.ask(attended, false);
        assert!(queue.tasks().by_time.is_empty());
    }
}
