//! The gateway: opens its feeds, admits connections, delivers, reports, and stops.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admission::{Admission, Guests, Presence, Turns};
use crate::answer::ControlIds;
use crate::arrivals::Arrival;
use crate::awaited::AwaitedQueue;
use crate::clock::now_ms;
use crate::connection::{Limits, Peer, Service};
use crate::delivery::{Delivery, Keep, Pace};
use crate::destination::Destination;
use crate::feed::{Endpoint, Feed, Line};
use crate::feeds::Feeds;
use crate::large::Room;
use crate::metrics;
use crate::origin::{Label, Origin};
use crate::overview::Overview;
use crate::report::{Counters, GatewayReport, Log, count};
use crate::spool::{Lane, Spool};

/// A peer that has gone without closing its connection is noticed after this time and nine more probes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Answers are short. A peer that does not read them is noticed when this many bytes are on their way, and not megabytes later.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How many large messages are submitted at a time. Each is in memory, and they share the line of a hospital with everything else.
const UPLOADERS: usize = 2;

/// How many status requests may run at a time.
const WATCHERS: usize = 4;

/// How many connections may wait to be admitted.
const ARRIVALS: usize = 64;

/// The settings of a gateway that do not depend on the feed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The limits for peers.
    pub limits: Limits,
    /// How many frames are submitted at a time, beside two large ones.
    pub submitters: usize,
    /// The longest pause between two tries when the API does not answer; the first is half a second.
    pub longest_pause: Duration,
    /// How often the log gets a [`GatewayReport`].
    pub report_every: Duration,
    /// How long the spool keeps a message.
    pub keep: Keep,
    /// The first pause before the gateway asks for the status of a message whose sender does not wait; it grows to ten times
    /// that.
    pub look_after: Duration,
    /// The first pause before the gateway resubmits a held or lost message; it grows to 360 times that.
    pub again_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            submitters: 16,
            longest_pause: Duration::from_secs(60),
            report_every: Duration::from_secs(60),
            keep: Keep::default(),
            look_after: Duration::from_secs(30),
            again_after: Duration::from_secs(10),
        }
    }
}

/// The signals to a running gateway.
pub struct Signals<Stop> {
    /// New feeds, or the reason why there are none: the text for the log.
    pub reload: mpsc::Receiver<Result<Vec<Feed>, String>>,
    /// Resolves when the gateway has to end.
    pub stop: Stop,
    /// The port for metrics. It is on loopback, because it asks nobody for credentials.
    pub metrics: Option<TcpListener>,
}

impl<Stop> Signals<Stop> {
    /// Signals that only end a gateway.
    pub fn stop(stop: Stop) -> Self {
        Self { reload: mpsc::channel(1).1, stop, metrics: None }
    }
}

/// Runs until it is told to stop, and then finishes work in progress. Undelivered messages stay in the spool.
pub async fn run<D: Destination>(
    options: Options,
    mut feeds: Feeds,
    spool: Spool,
    destination: D,
    log: Log,
    signals: Signals<impl Future<Output = ()> + Send>,
) -> GatewayReport {
    let (stopping, stopped) = watch::channel(false);
    let (spool, counters) = (Arc::new(spool), Arc::new(Counters::default()));
    let service = Arc::new(Service {
        spool: Arc::clone(&spool),
        counters: Arc::clone(&counters),
        log: log.clone(),
        limits: options.limits,
        ids: ControlIds::new(now_ms()),
        turns: Turns::default(),
        room: Arc::new(Room::new(options.limits.large_bytes, options.limits.frame_bytes)),
        decoding: Mutex::default(),
        stop: stopped.clone(),
    });
    let delivery = Arc::new(Delivery {
        destination: Arc::new(destination),
        spool: Arc::clone(&spool),
        counters: Arc::clone(&counters),
        log: log.clone(),
        pace: Pace::new(options.longest_pause),
        keep: options.keep,
        again_after: options.again_after,
        awaited: AwaitedQueue::new(options.look_after),
        stop: stopped,
    });
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        watchers.spawn(Arc::clone(&delivery).watch());
    }
    let mut submitters = JoinSet::new();
    for _ in 0..options.submitters.max(1) {
        submitters.spawn(Arc::clone(&delivery).run(Lane::Small));
    }
    let mut uploaders = JoinSet::new();
    for _ in 0..UPLOADERS {
        uploaders.spawn(Arc::clone(&delivery).run(Lane::Large));
    }
    let overview = Arc::new(Overview::new(counters, Arc::clone(&spool), feeds.lines()));
    let mut reports = tokio::time::interval(options.report_every.max(Duration::from_millis(10)));
    let mut reception = Reception {
        guests: Guests::new(options.limits.connections, options.limits.connections_per_address),
        connections: JoinSet::new(),
        next_id: 1,
        service,
        log: log.clone(),
    };
    let (arrivals, mut arrived) = mpsc::channel(ARRIVALS);
    let mut sources = JoinSet::new();
    feeds.start(&mut sources, &arrivals, &log);
    name_certificates(&feeds.lines(), &log);
    let mut helpers = JoinSet::new();
    if let Some(listener) = signals.metrics {
        helpers.spawn(metrics::serve(listener, Arc::clone(&overview)));
    }

    let mut reload = signals.reload;
    let mut may_reload = true;
    let mut stop = std::pin::pin!(signals.stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            _ = reports.tick() => {
                spool.tidy();
                name_silent_feeds(&feeds.lines(), &log);
                say(&log, &overview.report());
            }
            next = reload.recv(), if may_reload => match next {
                None => may_reload = false,
                Some(next) => {
                    let replaced = match next {
                        Ok(next) => feeds.replace(next).await.map_err(|error| error.to_string()),
                        Err(reason) => Err(reason),
                    };
                    match replaced {
                        Ok(()) => {
                            feeds.start(&mut sources, &arrivals, &log);
                            overview.set_lines(feeds.lines());
                            log.say("reload", json!({ "done": true, "feeds": feeds.lines().len() }));
                            name_certificates(&feeds.lines(), &log);
                        }
                        Err(reason) => log.say("reload", json!({ "done": false, "reason": reason })),
                    }
                }
            },
            // An error is a panic, which has ended only that connection.
            Some(ended) = reception.connections.join_next_with_id() => reception.guests.remove(match &ended {
                Ok((id, ())) => *id,
                Err(error) => error.id(),
            }),
            // The source of a removed feed.
            Some(_) = sources.join_next() => {}
            // Only a panic ends one of them. The spool still has its message, and gives it out after a restart.
            Some(_) = submitters.join_next() => {
                log.say_seldom("panic", json!({ "detail": "a submission has panicked" }));
                submitters.spawn(Arc::clone(&delivery).run(Lane::Small));
            }
            Some(_) = uploaders.join_next() => {
                log.say_seldom("panic", json!({ "detail": "a submission of a large message has panicked" }));
                uploaders.spawn(Arc::clone(&delivery).run(Lane::Large));
            }
            // Only a panic ends one of them. The gateway asks for its messages after a restart.
            Some(_) = watchers.join_next() => {
                log.say_seldom("panic", json!({ "detail": "a question for the status of messages has panicked" }));
                watchers.spawn(Arc::clone(&delivery).watch());
            }
            Some(arrival) = arrived.recv() => reception.receive(arrival),
        }
    }

    sources.shutdown().await;
    drop(feeds);
    drop(arrived);
    stopping.send_replace(true);
    let finished = timeout(options.limits.shutdown, async {
        while reception.connections.join_next().await.is_some() {}
        while submitters.join_next().await.is_some() {}
        while uploaders.join_next().await.is_some() {}
    });
    // After the next start, the lake is asked again.
    watchers.shutdown().await;
    if finished.await.is_err() {
        reception.connections.shutdown().await;
        submitters.shutdown().await;
        uploaders.shutdown().await;
    }
    spool.close().await;
    let last = overview.report();
    say(&log, &last);
    last
}

fn say(log: &Log, report: &GatewayReport) {
    log.say("report", serde_json::to_value(report).unwrap_or_default());
}

/// Logs certificates that have expired or will soon.
fn name_certificates(lines: &[Arc<Line>], log: &Log) {
    let now = now_ms();
    for line in lines {
        if let Some(days) = line.expiring_days(now) {
            log.say("certificate", json!({ "feed": line.feed.name, "isExpired": days < 0, "days": days }));
        }
    }
}

/// Logs feeds that have become silent, or are no longer silent.
fn name_silent_feeds(lines: &[Arc<Line>], log: &Log) {
    let now = now_ms();
    for line in lines {
        if let Some(is_silent) = line.silence_changed(now) {
            let seconds = line.activity.silent_ms(now) / 1000;
            log.say("silent", json!({ "feed": line.feed.name, "isSilent": is_silent, "lastSeconds": seconds }));
        }
    }
}

/// Admits connections, or turns them away.
struct Reception {
    guests: Guests,
    connections: JoinSet<()>,
    next_id: u64,
    service: Arc<Service>,
    log: Log,
}

impl Reception {
    fn receive(&mut self, Arrival { stream, peer, line, open }: Arrival) {
        let origin =
            Origin { feed: line.feed.name.clone(), peer: Some(peer), connection: self.next_id, charset: line.feed.charset };
        self.next_id += 1;
        let address = peer.ip().to_canonical();
        let counters = &self.service.counters;
        if !line.allows(address) {
            count(&counters.not_allowed);
            return self.log.say_why(&origin, "turnedAway", "the feed does not allow this address");
        }
        // A connection that the gateway has opened itself takes no place, and gives none up.
        let is_guest = matches!(line.feed.endpoint, Endpoint::Listen(_));
        let admission = if is_guest { self.guests.admit(address) } else { Admission::Free };
        match admission {
            Admission::Free => {}
            Admission::Evicted => count(&counters.evicted),
            Admission::Full => {
                count(&counters.turned_away);
                let reason = "the limit of connections is reached, and none is idle";
                return self.log.say_why(&origin, "turnedAway", reason);
            }
        }
        let presence = Arc::new(Presence::new(self.service.turns.next()));
        let peer = Peer { line, label: Arc::new(Label::new(origin)), presence: Arc::clone(&presence) };
        let task = self.connections.spawn(connection(Arc::clone(&self.service), peer, stream, open));
        if is_guest {
            self.guests.add(task.id(), address, presence);
        }
    }
}

/// Counts a connection while it exists, even if serving it panics.
struct Counted<'counters>([&'counters AtomicU64; 2]);

impl<'counters> Counted<'counters> {
    fn new(counters: [&'counters AtomicU64; 2]) -> Self {
        counters.into_iter().for_each(count);
        Self(counters)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        for counter in self.0 {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

async fn connection(service: Arc<Service>, peer: Peer, stream: TcpStream, _open: Option<oneshot::Sender<()>>) {
    let _counted = Counted::new([&service.counters.connections, &peer.line.activity.connections]);
    // ACKs are small, and somebody waits for them. The connection also works without any of the three options.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(&stream);
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6));
    let line = Arc::clone(&peer.line);
    let handshake = service.limits.handshake;
    let failed = match (&line.tls, &line.connector) {
        (None, None) => return service.serve(&peer, stream).await,
        (Some(tls), _) => {
            let accepted = tokio::select! {
                accepted = timeout(handshake, tls.acceptor.accept(stream)) => accepted,
                () = peer.presence.leave() => return,
            };
            match accepted {
                Ok(Ok(stream)) => return service.serve(&peer, stream).await,
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            }
        }
        (None, Some(tls)) => match timeout(handshake, tls.connector.connect(tls.name.clone(), stream)).await {
            Ok(Ok(stream)) => return service.serve(&peer, stream).await,
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        },
    };
    let reason = failed.map_or_else(|| format!("it took more than {} s", handshake.as_secs()), |error| error.to_string());
    count(&service.counters.handshakes_failed);
    service.log.say_of(&peer.label.origin, "handshake", json!({ "reason": reason }));
}
