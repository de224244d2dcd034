//! The gateway: listens, delivers, reports, and comes to an end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::Charset;
use serde_json::json;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::answer::{AckMode, ControlIds};
use crate::connection::{Limits, Service};
use crate::delivery::{Delivery, Pace};
use crate::lake::Lake;
use crate::report::{Counters, Log, Report, count, now_ms};
use crate::spool::Spool;

/// A peer that has gone without a word is noticed after this and nine more questions.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Answers are short. A peer that does not read them is noticed when so many are on their way, and not megabytes later.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// How long to wait when the system has no more file handles.
const NO_HANDLES: Duration = Duration::from_millis(100);

/// How a gateway works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When a message is answered.
    pub mode: AckMode,
    /// What all messages are in; else each says so itself (MSH-18). [`Lake`] has to name it to the API, too.
    pub charset: Option<Charset>,
    /// What a peer may do.
    pub limits: Limits,
    /// How many frames are submitted at a time.
    pub submitters: usize,
    /// The longest pause between two tries when the API does not answer; the first is half a second.
    pub longest_pause: Duration,
    /// How often there is a [`Report`] in the log.
    pub report_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: AckMode::default(),
            charset: None,
            limits: Limits::default(),
            submitters: 16,
            longest_pause: Duration::from_secs(60),
            report_every: Duration::from_secs(60),
        }
    }
}

/// Runs until `stop`, and then finishes what is under way. What is not delivered by then stays in the spool.
pub async fn run<L: Lake>(
    options: Options,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    spool: Spool,
    lake: L,
    log: Log,
    stop: impl Future<Output = ()> + Send,
) -> Report {
    let (stopping, stopped) = watch::channel(false);
    let (spool, counters) = (Arc::new(spool), Arc::new(Counters::default()));
    let service = Arc::new(Service {
        spool: Arc::clone(&spool),
        counters: Arc::clone(&counters),
        mode: options.mode,
        charset: options.charset,
        limits: options.limits,
        ids: ControlIds::new(now_ms()),
        stop: stopped.clone(),
    });
    let delivery = Arc::new(Delivery {
        lake: Arc::new(lake),
        spool: Arc::clone(&spool),
        counters: Arc::clone(&counters),
        log: log.clone(),
        pace: Pace::new(options.longest_pause),
        charset: options.charset,
        stop: stopped,
    });
    let mut submitters = JoinSet::new();
    for _ in 0..options.submitters.max(1) {
        submitters.spawn(Arc::clone(&delivery).run());
    }
    let report = || Report::of(&counters, spool.status(), now_ms());
    let mut reports = tokio::time::interval(options.report_every.max(Duration::from_millis(10)));
    let mut connections = JoinSet::new();

    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            _ = reports.tick() => {
                spool.tidy();
                say(&log, &report());
            }
            // Those that have ended; an error is a panic, which has ended that connection alone.
            Some(_) = connections.join_next() => {}
            // Only a panic ends one of them. Its message is in the spool and is taken again after a restart.
            Some(_) = submitters.join_next() => {
                log.say_seldom("panic", json!({ "detail": "a submission has panicked" }));
                submitters.spawn(Arc::clone(&delivery).run());
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < options.limits.connections => {
                    connections.spawn(connection(Arc::clone(&service), stream, tls.clone(), log.clone()));
                }
                Ok(_) => {
                    count(&counters.turned_away);
                    log.say_seldom("turnedAway", json!({ "detail": "there are as many connections as there may be" }));
                }
                Err(error) => {
                    log.say_seldom("accept", json!({ "error": error.to_string() }));
                    tokio::time::sleep(NO_HANDLES).await;
                }
            },
        }
    }

    drop(listener);
    stopping.send_replace(true);
    let finished = timeout(options.limits.shutdown, async {
        while connections.join_next().await.is_some() {}
        while submitters.join_next().await.is_some() {}
    });
    if finished.await.is_err() {
        connections.shutdown().await;
        submitters.shutdown().await;
    }
    spool.close().await;
    let last = report();
    say(&log, &last);
    last
}

fn say(log: &Log, report: &Report) {
    log.say("report", serde_json::to_value(report).unwrap_or_default());
}

async fn connection(service: Arc<Service>, stream: TcpStream, tls: Option<TlsAcceptor>, log: Log) {
    /// Counts a connection as long as it is there, also when serving it panics.
    struct Open(Arc<Service>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
    count(&service.counters.connections);
    let _open = Open(Arc::clone(&service));
    // An answer is small and waited for. Without any of the three the connection works as well.
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(&stream);
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6));
    let Some(tls) = tls else { return service.serve(stream).await };
    let reason = match timeout(service.limits.handshake, tls.accept(stream)).await {
        Ok(Ok(stream)) => return service.serve(stream).await,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    count(&service.counters.handshakes_failed);
    log.say_seldom("handshake", json!({ "error": reason }));
}
