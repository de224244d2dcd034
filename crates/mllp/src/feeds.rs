//! All feeds of a gateway: opens their ports, and changes them while it runs.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::arrivals::{self, Arrival};
use crate::clock::now_ms;
use crate::feed::{Activity, Endpoint, Feed, Line};
use crate::report::Log;
use crate::tls::TlsError;

/// Why a feed cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The port cannot be listened on.
    #[error("feed `{feed}`: listening on {address}: {source}")]
    Listen {
        /// The feed's name.
        feed: String,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Its certificates cannot be used.
    #[error("feed `{feed}`: TLS: {}", causes(.source))]
    Tls {
        /// The feed's name.
        feed: String,
        /// The cause.
        source: TlsError,
    },
    /// Another feed has its name or its endpoint.
    #[error("two feeds have the name or the address of `{0}`")]
    Twice(String),
}

fn causes(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Open feeds: their ports are bound, and their certificates are read.
#[derive(Debug)]
pub struct Feeds {
    open: Vec<OpenFeed>,
    /// By name, including feeds that were removed.
    activities: HashMap<String, Arc<Activity>>,
}

#[derive(Debug)]
struct OpenFeed {
    line: Arc<Line>,
    /// The port, until a task takes connections from it.
    listener: Option<TcpListener>,
    address: Option<SocketAddr>,
    /// The task that accepts or makes connections, and the sender of its new settings.
    task: Option<(AbortHandle, watch::Sender<Arc<Line>>)>,
}

impl Feeds {
    /// Opens feeds, all or none.
    ///
    /// # Errors
    /// When a port is taken, a certificate cannot be read, or two feeds have one name or one endpoint.
    pub async fn open(feeds: Vec<Feed>) -> Result<Self, FeedError> {
        let mut opened = Self { open: Vec::new(), activities: HashMap::new() };
        opened.replace(feeds).await?;
        Ok(opened)
    }

    /// The name and the address of each feed that listens.
    pub fn addresses(&self) -> impl Iterator<Item = (&str, SocketAddr)> {
        self.open.iter().filter_map(|open| Some((open.line.feed.name.as_str(), open.address?)))
    }

    pub(crate) fn lines(&self) -> Vec<Arc<Line>> {
        self.open.iter().map(|open| Arc::clone(&open.line)).collect()
    }

    /// Replaces the feeds, or leaves everything unchanged. A port that stays in use is not closed in between.
    pub(crate) async fn replace(&mut self, feeds: Vec<Feed>) -> Result<(), FeedError> {
        let now = now_ms();
        let mut next: Vec<OpenFeed> = Vec::new();
        for feed in feeds {
            if next.iter().any(|open| open.line.feed.name == feed.name || open.line.feed.endpoint == feed.endpoint) {
                return Err(FeedError::Twice(feed.name));
            }
            let (name, endpoint) = (feed.name.clone(), feed.endpoint.clone());
            let activity = self.activities.get(&name).map_or_else(|| Arc::new(Activity::new(now)), Arc::clone);
            let line = Line::open(feed, activity).map_err(|source| FeedError::Tls { feed: name.clone(), source })?;
            let is_open = self.open.iter().any(|open| open.line.feed.endpoint == endpoint);
            let listener = match endpoint {
                Endpoint::Listen(address) if !is_open => {
                    let bound = TcpListener::bind(address).await;
                    Some(bound.map_err(|source| FeedError::Listen { feed: name, address, source })?)
                }
                _ => None,
            };
            let address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
            next.push(OpenFeed { line: Arc::new(line), listener, address, task: None });
        }
        // Nothing can fail from here on.
        for open in &mut next {
            let name = open.line.feed.name.clone();
            self.activities.entry(name).or_insert_with(|| Arc::clone(&open.line.activity));
            if let Some(before) = self.open.iter_mut().find(|before| before.line.feed.endpoint == open.line.feed.endpoint) {
                (open.listener, open.address, open.task) = (before.listener.take(), before.address, before.task.take());
                if let Some((_, line)) = &open.task {
                    line.send_replace(Arc::clone(&open.line));
                }
            }
        }
        // Connections of removed feeds stay until their peers close them.
        for (task, _) in self.open.iter().filter_map(|gone| gone.task.as_ref()) {
            task.abort();
        }
        self.open = next;
        Ok(())
    }

    /// Starts a task for each feed that has none.
    pub(crate) fn start(&mut self, tasks: &mut JoinSet<()>, arrivals: &mpsc::Sender<Arrival>, log: &Log) {
        for open in &mut self.open {
            if open.task.is_some() {
                continue;
            }
            let (lines, line) = watch::channel(Arc::clone(&open.line));
            let (arrivals, log) = (arrivals.clone(), log.clone());
            let task = match (open.listener.take(), &open.line.feed.endpoint) {
                (Some(listener), _) => tasks.spawn(arrivals::accept(listener, line, arrivals, log)),
                (None, Endpoint::Connect(address)) => tasks.spawn(arrivals::connect(address.clone(), line, arrivals, log)),
                (None, Endpoint::Listen(_)) => continue,
            };
            open.task = Some((task, lines));
        }
    }
}
