//! A feed: where messages come from, and how its peers are answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use domain::Charset;
use ipnet::IpNet;

use crate::answer::ApplicationAck;
use crate::tls::{Connector, PeerTls, Tls, TlsError, TlsFiles};

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// A certificate that expires within this many days is reported at the start.
const CERTIFICATE_DAYS: i64 = 30;

/// Which side opens the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Peers connect to this address.
    Listen(SocketAddr),
    /// The gateway connects to this host and port, and reconnects when the connection ends: for analyzers that are servers.
    Connect(String),
}

/// A source of messages, and how to answer its peers.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Its name in the log, the report and the metrics. No other feed has the same name.
    pub name: String,
    /// Which side opens the connection.
    pub endpoint: Endpoint,
    /// The character set of all its messages; without it each message names its own (MSH-18).
    pub charset: Option<Charset>,
    /// When the gateway sends the application acknowledgment.
    pub application_ack: ApplicationAck,
    /// The addresses that may connect; without any, all may.
    pub peers: Vec<IpNet>,
    /// The time without a message after which the feed is reported as silent.
    pub silent_after: Option<Duration>,
    /// With it, peers must speak TLS; for feeds that listen.
    pub tls: Option<TlsFiles>,
    /// With it, the gateway speaks TLS; for feeds that connect.
    pub peer_tls: Option<PeerTls>,
}

impl Feed {
    /// A feed with the name of its endpoint, and with the defaults of everything else.
    pub fn new(endpoint: Endpoint) -> Self {
        let name = match &endpoint {
            Endpoint::Listen(address) => address.to_string(),
            Endpoint::Connect(address) => address.clone(),
        };
        Self {
            name,
            endpoint,
            charset: None,
            application_ack: ApplicationAck::default(),
            peers: Vec::new(),
            silent_after: None,
            tls: None,
            peer_tls: None,
        }
    }

    /// Reads the feed's certificates and forgets them: a mistake is found before anything is started.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn check(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), |files| files.load().map(drop))?;
        self.connector().map(drop)
    }

    fn connector(&self) -> Result<Option<Connector>, TlsError> {
        match (&self.peer_tls, &self.endpoint) {
            (Some(files), Endpoint::Connect(address)) => files.load(address).map(Some),
            _ => Ok(None),
        }
    }
}

/// The counters of a feed. They outlive a change of the feed's settings.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(crate) received: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// When the last frame was received, or when counting began, in milliseconds since 1970.
    last_ms: AtomicU64,
    /// Whether the log has reported the feed as silent.
    is_said_silent: AtomicBool,
}

impl Activity {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            received: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            last_ms: AtomicU64::new(now_ms),
            is_said_silent: AtomicBool::new(false),
        }
    }

    pub(crate) fn receive(&self, now_ms: u64) {
        self.received.fetch_add(1, Ordering::Relaxed);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.last_ms.load(Ordering::Relaxed))
    }
}

/// A feed that is open.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) feed: Feed,
    pub(crate) tls: Option<Tls>,
    pub(crate) connector: Option<Connector>,
    pub(crate) activity: Arc<Activity>,
}

impl Line {
    /// Reads the feed's certificates.
    pub(crate) fn open(feed: Feed, activity: Arc<Activity>) -> Result<Self, TlsError> {
        let tls = feed.tls.as_ref().map(TlsFiles::load).transpose()?;
        let connector = feed.connector()?;
        Ok(Self { feed, tls, connector, activity })
    }

    /// Whether a peer with this address may send.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        self.feed.peers.is_empty() || self.feed.peers.iter().any(|net| net.contains(&address))
    }

    pub(crate) fn is_silent(&self, now_ms: u64) -> bool {
        let after = self.feed.silent_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        after.is_some_and(|after| self.activity.silent_ms(now_ms) > after)
    }

    /// Whether the feed is silent, if that has changed since the last call.
    pub(crate) fn silence_changed(&self, now_ms: u64) -> Option<bool> {
        let is_silent = self.is_silent(now_ms);
        (self.activity.is_said_silent.swap(is_silent, Ordering::Relaxed) != is_silent).then_some(is_silent)
    }

    /// Days until the gateway's certificate for the feed expires, negative when it has.
    pub(crate) fn certificate_days(&self, now_ms: u64) -> Option<i64> {
        let of_server = self.tls.as_ref().map(|tls| tls.expires_seconds);
        let of_client = || self.connector.as_ref().map(|tls| tls.expires_seconds);
        let expires = of_server.or_else(of_client)??;
        let now = i64::try_from(now_ms / 1000).ok()?;
        Some((expires - now).div_euclid(DAY_SECONDS))
    }

    /// The same, if the certificate should be renewed now.
    pub(crate) fn expiring_days(&self, now_ms: u64) -> Option<i64> {
        self.certificate_days(now_ms).filter(|days| *days < CERTIFICATE_DAYS)
    }
}
