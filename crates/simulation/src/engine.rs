//! The events, in the order of their times.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use fastrand::Rng;

use crate::fair_queue::FairQueue;
use crate::histogram::Histogram;
use crate::quota::Bucket;
use crate::report::{QuotaUse, Report, Waits};
use crate::sandboxes::{Refused, Sandbox, Sandboxes};
use crate::scenario::{Outage, Scenario, Senseless, Step};

/// The steps of an execution.
const STEPS: [Step; 4] = [Step::Deduplicate, Step::Parse, Step::Store, Step::Publish];

/// How often a state retries a throttled step (`statemachines/ingest.asl.json`), after 1, 2, 4 seconds with full jitter.
const STATE_RETRIES: u32 = 3;
/// How long a failing try takes: the SDK's three attempts.
const FAILURE_SECONDS: f64 = 1.0;
/// How long the SDK's three attempts bridge throttling, and then how long a state's four tries do.
const SDK_SECONDS: f64 = 1.0;
const STATE_SECONDS: f64 = 5.0;
const WRITES: &str = "writes of a partition (the institute's index by arrival)";
/// The longest delay of a message (`dispatch`).
const MAX_DELAY_SECONDS: f64 = 900.0;
/// A message that waited longer than this for a free invocation of dispatch has hit `MaximumConcurrency`.
const PATIENCE_SECONDS: f64 = 10.0;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A sender posts a message.
    Post,
    /// The API has answered, and the message is in the queue.
    Queued { message: u32, sandbox: u32 },
    /// The delay of a message is over.
    Visible(u32),
    /// Dispatch looks at the queue.
    Poll,
    /// An execution begins a step, at its n-th try.
    Begin { execution: u32, step: u8, attempt: u8 },
    /// An execution ends a step.
    End { execution: u32, step: u8, sandbox: u32, is_good: bool },
}

struct Entry {
    at: f64,
    /// Orders events of the same time by their creation.
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap returns the greatest, so the order is reversed.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at).then(other.number.cmp(&self.number))
    }
}

#[derive(Clone, Copy, Debug)]
struct Message {
    posted_at: f64,
    institute: u32,
    /// Among all partitions of all institutes.
    partition: usize,
    failures: u16,
    is_begun: bool,
    is_stored: bool,
}

/// A message in an invocation of dispatch.
#[derive(Clone, Copy, Debug)]
struct Execution {
    message: u32,
    invocation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Invocation {
    left: u32,
    sandbox: u32,
}

/// A quota, and when it was reached.
struct Met {
    name: &'static str,
    throttles: u64,
    first_at: f64,
}

struct Engine<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    events: BinaryHeap<Entry>,
    number: u64,
    messages: Slab<Message>,
    executions: Slab<Execution>,
    invocations: Slab<Invocation>,
    running: u32,
    is_polling: bool,
    queue: FairQueue,
    sandboxes: Sandboxes,
    route: Bucket,
    get_id: Bucket,
    get_credentials: Bucket,
    sns: Bucket,
    partitions: Vec<Bucket>,
    prefixes: Vec<Bucket>,
    met: Vec<Met>,
    waits: Vec<Histogram>,
    all: Histogram,
    posted: u64,
    refused: u64,
    held: u64,
    most_waiting: usize,
    oldest: f64,
    identities: u64,
    /// The institutes whose users' identity ids are remembered, and since when.
    identified: BTreeMap<u32, f64>,
    ended_at: f64,
}

/// Runs a scenario until every message is stored, held or refused.
///
/// # Errors
/// [`Senseless`], when the scenario makes no sense.
pub fn run(scenario: &Scenario) -> Result<Report, Senseless> {
    scenario.check()?;
    let mut engine = Engine::new(scenario);
    engine.post_next(0.0);
    while let Some(Entry { at, event, .. }) = engine.events.pop() {
        engine.on(at, event);
    }
    Ok(engine.report())
}

impl<'a> Engine<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let limits = &scenario.limits;
        let count = scenario.institutes as usize;
        let mut sandboxes = Sandboxes::new(limits.lambda_concurrency, Bucket::new(limits.lambda_scaling));
        if scenario.is_warm {
            for step in Step::ALL.into_iter().filter(|step| *step != Step::Dispatch) {
                sandboxes.warm(step, (scenario.rate * scenario.times.of(step).p95_ms / 1000.0 * 1.5).ceil() as u32);
            }
            sandboxes.warm(Step::Dispatch, scenario.deployment.maximum_concurrency);
        }
        Self {
            scenario,
            rng: Rng::with_seed(scenario.seed),
            events: BinaryHeap::new(),
            number: 0,
            messages: Slab::default(),
            executions: Slab::default(),
            invocations: Slab::default(),
            running: 0,
            is_polling: false,
            queue: FairQueue::new(scenario.institutes),
            sandboxes,
            route: Bucket::new(limits.route),
            get_id: Bucket::new(limits.get_id),
            get_credentials: Bucket::new(limits.get_credentials),
            sns: Bucket::new(limits.sns_publish),
            partitions: vec![Bucket::new(limits.partition_writes); count * limits.index_partitions as usize],
            prefixes: vec![Bucket::new(limits.prefix_puts); count],
            met: Vec::new(),
            waits: vec![Histogram::default(); count],
            all: Histogram::default(),
            posted: 0,
            refused: 0,
            held: 0,
            most_waiting: 0,
            oldest: 0.0,
            identities: 0,
            // A fleet that ran before has met them all.
            identified: if scenario.is_warm { (0..scenario.institutes).map(|it| (it, 0.0)).collect() } else { BTreeMap::new() },
            ended_at: 0.0,
        }
    }

    fn at(&mut self, at: f64, event: Event) {
        self.number += 1;
        self.events.push(Entry { at, number: self.number, event });
    }

    fn meet(&mut self, name: &'static str, now: f64) {
        match self.met.iter_mut().find(|it| it.name == name) {
            Some(met) => met.throttles += 1,
            None => self.met.push(Met { name, throttles: 1, first_at: now }),
        }
    }

    /// Waits until a rate allows `count` more, as the SDK and the state retry; `None` if that takes too long for them.
    fn wait(
        &mut self,
        (name, within): (&'static str, f64),
        now: f64,
        of: impl FnOnce(&mut Self) -> Option<&mut Bucket>,
        count: f64,
    ) -> Option<f64> {
        let seconds = of(self).map_or(Some(0.0), |bucket| bucket.reserve(now, count, within));
        if seconds != Some(0.0) {
            self.meet(name, now);
        }
        seconds
    }

    /// Posts the next message, at a rate that is higher in the first minute of an hour.
    fn post_next(&mut self, now: f64) {
        const HOUR: f64 = 3600.0;
        const MINUTE: f64 = 60.0;
        let Scenario { rate, burst_share, seconds, .. } = *self.scenario;
        let (high, low) = (rate * (1.0 - burst_share) + rate * burst_share * HOUR / MINUTE, rate * (1.0 - burst_share));
        let mut at = now;
        while at < seconds {
            let in_hour = at % HOUR;
            let (rate, end) = if in_hour < MINUTE { (high, at - in_hour + MINUTE) } else { (low, at - in_hour + HOUR) };
            let gap = if rate > 0.0 { -(1.0 - self.rng.f64()).ln() / rate } else { f64::INFINITY };
            if at + gap < end {
                if at + gap < seconds {
                    self.at(at + gap, Event::Post);
                }
                return;
            }
            // The arrivals have no memory, so they can start anew when the rate changes.
            at = end;
        }
    }

    fn institute(&mut self) -> u32 {
        let count = self.scenario.institutes;
        match self.scenario.hot_share {
            Some(share) if count == 1 || self.rng.f64() < share => 0,
            Some(_) => self.rng.u32(1..count),
            None => self.rng.u32(0..count),
        }
    }

    fn on(&mut self, now: f64, event: Event) {
        match event {
            Event::Post => {
                self.post_next(now);
                self.post(now);
            }
            Event::Queued { message, sandbox } => {
                self.sandboxes.give_back(Step::Submit, sandbox, now);
                self.on(now, Event::Visible(message));
            }
            Event::Visible(message) => {
                if let Some(Message { institute, .. }) = self.messages.get(message).copied() {
                    self.queue.push(institute, message);
                    self.most_waiting = self.most_waiting.max(self.queue.len());
                    self.poll_later(now);
                }
            }
            Event::Poll => {
                self.is_polling = false;
                self.dispatch(now);
            }
            Event::Begin { execution, step, attempt } => self.begin(now, execution, step, attempt),
            Event::End { execution, step, sandbox, is_good } => {
                if let Some(function) = STEPS.get(usize::from(step)) {
                    self.sandboxes.give_back(*function, sandbox, now);
                    if *function == Step::Store && is_good {
                        self.stored(now, execution);
                    }
                }
                match is_good {
                    true if usize::from(step) + 1 < STEPS.len() => {
                        self.at(now, Event::Begin { execution, step: step + 1, attempt: 0 });
                    }
                    true => self.end(now, execution, true),
                    false => self.end(now, execution, false),
                }
            }
        }
    }

    fn post(&mut self, now: f64) {
        self.posted += 1;
        let institute = self.institute();
        if !self.route.take(now, 1.0) {
            self.refused += 1;
            return self.meet("the API's rate limit (SubmitRateLimit)", now);
        }
        let sandbox = match self.sandboxes.take(Step::Submit, now) {
            Ok(sandbox) => sandbox,
            Err(refused) => {
                self.refused += 1;
                return self.refused_sandbox(refused, now);
            }
        };
        let partitions = self.scenario.limits.index_partitions;
        let partition = (institute * partitions + self.rng.u32(0..partitions)) as usize;
        let units = self.scenario.limits.units_per_message / 2.0;
        let Some(wait) = self.wait((WRITES, SDK_SECONDS), now, |it| it.partitions.get_mut(partition), units) else {
            self.refused += 1;
            return self.sandboxes.give_back(Step::Submit, sandbox.id, now);
        };
        let time = self.time(Step::Submit, sandbox) + wait;
        let message = self.messages.insert(Message {
            posted_at: now,
            institute,
            partition,
            failures: 0,
            is_begun: false,
            is_stored: false,
        });
        self.at(now + time, Event::Queued { message, sandbox: sandbox.id });
    }

    fn refused_sandbox(&mut self, refused: Refused, now: f64) {
        let name = match refused {
            Refused::Concurrency => "Lambda's concurrency of the account",
            Refused::Scaling => "Lambda's rate of new sandboxes of a function",
        };
        self.meet(name, now);
    }

    fn time(&mut self, step: Step, sandbox: Sandbox) -> f64 {
        let cold = if sandbox.is_new { self.scenario.times.cold_ms / 1000.0 } else { 0.0 };
        self.scenario.times.of(step).sample(&mut self.rng) + cold
    }

    fn poll_later(&mut self, now: f64) {
        if !self.is_polling {
            self.is_polling = true;
            self.at(now + self.scenario.times.poll_ms / 1000.0, Event::Poll);
        }
    }

    /// Gives waiting messages to free invocations.
    fn dispatch(&mut self, now: f64) {
        while self.running < self.scenario.deployment.maximum_concurrency && self.queue.len() > 0 {
            let sandbox = match self.sandboxes.take(Step::Dispatch, now) {
                Ok(sandbox) => sandbox,
                Err(refused) => {
                    self.refused_sandbox(refused, now);
                    // The poller retries by itself.
                    if !self.is_polling {
                        self.is_polling = true;
                        self.at(now + 1.0, Event::Poll);
                    }
                    return;
                }
            };
            let cold = if sandbox.is_new { self.scenario.times.cold_ms / 1000.0 } else { 0.0 };
            let invocation = self.invocations.insert(Invocation { left: 0, sandbox: sandbox.id });
            self.running += 1;
            for _ in 0..self.scenario.deployment.batch_size {
                let Some(message) = self.queue.pop() else { break };
                self.begun(now, message);
                if let Some(it) = self.invocations.get_mut(invocation) {
                    it.left += 1;
                }
                let execution = self.executions.insert(Execution { message, invocation });
                let start = now + cold + self.scenario.times.execution_ms / 1000.0;
                self.at(start, Event::Begin { execution, step: 0, attempt: 0 });
            }
        }
    }

    /// Takes a message from the queue. Its wait counts the first time.
    fn begun(&mut self, now: f64, message: u32) {
        let Some(it) = self.messages.get_mut(message) else { return };
        let waited = now - it.posted_at;
        if std::mem::replace(&mut it.is_begun, true) {
            return;
        }
        self.oldest = self.oldest.max(waited);
        if waited > PATIENCE_SECONDS {
            self.meet("dispatch's invocations (MaximumConcurrency)", now);
        }
    }

    fn begin(&mut self, now: f64, execution: u32, step: u8, attempt: u8) {
        let (Some(&function), Some(message)) = (STEPS.get(usize::from(step)), self.message_of(execution)) else { return };
        let sandbox = match self.sandboxes.take(function, now) {
            Ok(sandbox) => sandbox,
            Err(refused) => {
                self.refused_sandbox(refused, now);
                if u32::from(attempt) < STATE_RETRIES {
                    let delay = self.rng.f64() * f64::from(1_u32 << attempt);
                    return self.at(now + delay, Event::Begin { execution, step, attempt: attempt + 1 });
                }
                return self.end(now, execution, false);
            }
        };
        let time = self.time(function, sandbox);
        let is_out = |outage: Outage| (outage.from..outage.from + outage.seconds).contains(&now);
        let waited = match function {
            Step::Store if self.scenario.outage.is_some_and(is_out) => None,
            _ => self.quotas(function, sandbox.id, &message, now),
        };
        let (time, is_good) = waited.map_or((FAILURE_SECONDS, false), |waited| (time + waited, true));
        self.at(now + time, Event::End { execution, step, sandbox: sandbox.id, is_good });
    }

    /// How long a step waits for quotas; `None` if it gives up.
    fn quotas(&mut self, function: Step, sandbox: u32, message: &Message, now: f64) -> Option<f64> {
        let units = self.scenario.limits.units_per_message / 2.0;
        let Message { institute, partition, .. } = *message;
        let (index, writes) = (institute as usize, (WRITES, STATE_SECONDS));
        match function {
            Step::Store => {
                let mut waited = 0.0;
                if self.sandboxes.is_new_to(Step::Store, sandbox, institute) {
                    // The first process that meets an institute's user remembers the identity id for all.
                    if self.identified.get(&institute).is_none_or(|at| *at > now) {
                        waited += self.wait(("Cognito's GetId", STATE_SECONDS), now, |it| Some(&mut it.get_id), 1.0)?;
                        self.identities += 1;
                        self.identified.entry(institute).or_insert(now + waited);
                    }
                    let credentials = ("Cognito's GetCredentialsForIdentity", STATE_SECONDS);
                    waited += self.wait(credentials, now, |it| Some(&mut it.get_credentials), 1.0)?;
                    self.sandboxes.meet(Step::Store, sandbox, institute);
                }
                let puts = ("PUTs below an institute's prefix", STATE_SECONDS);
                waited += self.wait(puts, now, |it| it.prefixes.get_mut(index), 2.0)?;
                Some(waited + self.wait(writes, now, |it| it.partitions.get_mut(partition), units)?)
            }
            Step::Publish => self.wait(("SNS's Publish", STATE_SECONDS), now, |it| Some(&mut it.sns), 1.0),
            _ => Some(0.0),
        }
    }

    /// A message reaches the lake. It may do so again if it could not be announced.
    fn stored(&mut self, now: f64, execution: u32) {
        let Some(Execution { message, .. }) = self.executions.get(execution).copied() else { return };
        let Some(it) = self.messages.get_mut(message) else { return };
        let Message { posted_at, institute, .. } = *it;
        if std::mem::replace(&mut it.is_stored, true) {
            return;
        }
        self.all.add(now - posted_at);
        if let Some(waits) = self.waits.get_mut(institute as usize) {
            waits.add(now - posted_at);
        }
    }

    fn message_of(&self, execution: u32) -> Option<Message> {
        let Execution { message, .. } = self.executions.get(execution)?;
        self.messages.get(*message).copied()
    }

    /// Ends an execution: its message is stored, retried, or held. The last one of a batch ends the invocation.
    fn end(&mut self, now: f64, execution: u32, is_good: bool) {
        let Some(Execution { message, invocation }) = self.executions.remove(execution) else { return };
        let Some(it) = self.messages.get_mut(message) else { return };
        let (institute, waited) = (it.institute, now - it.posted_at);
        it.failures = it.failures.saturating_add(u16::from(!is_good));
        let (failures, is_stored) = (it.failures, it.is_stored);
        self.queue.done(institute);
        let deployment = self.scenario.deployment;
        if is_good {
            self.messages.remove(message);
            self.ended_at = now;
        } else if waited > deployment.retry_minutes * 60.0 {
            self.held += u64::from(!is_stored);
            self.messages.remove(message);
            self.ended_at = now;
        } else {
            let most = (deployment.retry_base_seconds * f64::from(failures.saturating_sub(1)).exp2()).min(MAX_DELAY_SECONDS);
            let delay = self.rng.f64() * most;
            self.at(now + delay, Event::Visible(message));
        }
        let Some(it) = self.invocations.get_mut(invocation) else { return };
        it.left -= 1;
        let Invocation { left, sandbox } = *it;
        if left == 0 {
            self.invocations.remove(invocation);
            self.sandboxes.give_back(Step::Dispatch, sandbox, now);
            self.running -= 1;
            if self.queue.len() > 0 {
                self.poll_later(now);
            }
        }
    }

    fn report(self) -> Report {
        let waits = |it: &Histogram| Some(Waits { stored: it.count(), p50_seconds: it.at(0.5)?, p99_seconds: it.at(0.99)? });
        let mut others: Vec<Waits> = self.waits.iter().skip(1).filter_map(waits).collect();
        others.sort_by(|a, b| a.p99_seconds.total_cmp(&b.p99_seconds));
        let stored = self.all.count();
        let sandboxes = Step::ALL.map(|step| {
            let (most, made) = self.sandboxes.most(step);
            (format!("{step:?}").to_lowercase(), most, made)
        });
        Report {
            posted: self.posted,
            refused: self.refused,
            stored,
            held: self.held,
            stored_per_second: if self.ended_at > 0.0 { stored as f64 / self.ended_at } else { 0.0 },
            ended_at_seconds: self.ended_at,
            all: waits(&self.all),
            first: self.waits.first().and_then(waits),
            middle: others.get(others.len() / 2).copied(),
            worst: others.last().copied(),
            most_waiting: self.most_waiting,
            oldest_seconds: self.oldest,
            most_busy: self.sandboxes.most_busy,
            sandboxes: sandboxes.into(),
            identities: self.identities,
            quotas: self
                .met
                .iter()
                .map(|it| QuotaUse { name: it.name, throttles: it.throttles, first_at_seconds: it.first_at })
                .collect(),
        }
    }
}

/// A store of numbered items, which reuses the numbers.
#[derive(Debug)]
struct Slab<T> {
    all: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { all: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn insert(&mut self, thing: T) -> u32 {
        if let Some(number) = self.free.pop()
            && let Some(place) = self.all.get_mut(number as usize)
        {
            *place = Some(thing);
            return number;
        }
        self.all.push(Some(thing));
        u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.all.get(number as usize)?.as_ref()
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.all.get_mut(number as usize)?.as_mut()
    }

    fn remove(&mut self, number: u32) -> Option<T> {
        let thing = self.all.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(thing)
    }
}
