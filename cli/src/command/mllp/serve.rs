//! `sluice mllp`: the gateway itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use domain::Charset;
use jiff::Timestamp;
use mllp::{ApplicationAck, Endpoint, Feed, Feeds, Keep, Limits, Log, Options, Signals, Spool, TlsFiles};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::config;
use crate::error::{ExitCode, Misused};
use crate::output::{Output, one_line};
use crate::user::gateway::{Api, Say, release_held};
use client::deployment::Deployment;
use client::session::state_folder;
use client::tokens::TokenClaims;
use client::{Client, ServiceAccount};

/// Where to listen, and what peers may do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and port to listen on, such as 127.0.0.1:2575. May be given several times.
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<SocketAddr>,
    /// Host and port of a sender to connect to, such as an analyzer that is a server. May be given several times.
    #[arg(long, value_name = "HOST:PORT", value_parser = config::host_and_port)]
    connect: Vec<String>,
    /// TOML file with several feeds, each with its own settings. SIGHUP reads it again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["listen", "connect", "application_ack", "charset", "tls_cert"])]
    config: Option<PathBuf>,
    /// Spool folder for acknowledged messages that the lake has not stored yet. By default in $XDG_STATE_HOME/sluice.
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,
    /// When to send the application acknowledgment (AA, AE, AR): as soon as the message is on disk, or when the lake has stored it. The
    /// message itself says which acknowledgments it wants (MSH-15, MSH-16).
    #[arg(long, value_enum, value_name = "WHEN", default_value = "safe")]
    application_ack: When,

    /// How long to keep a message: until the lake has stored it (the gateway resubmits it if the lake holds or loses it), or until the API
    /// has queued it.
    #[arg(long, value_enum, value_name = "HOW-LONG", default_value = "until-stored")]
    keep: HowLong,

    /// With `--keep until-stored`: how long after a submission the gateway first asks the lake whether it has stored the message.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    ask_after: u64,

    /// Character set of all messages, overriding MSH-18 (IANA or HL7 table 0211 name).
    #[arg(long, value_name = "NAME", value_parser = client::messages::charset)]
    charset: Option<Charset>,

    /// Loopback address and port for Prometheus (`/metrics`) and for health checks (`/healthz`).
    #[arg(long, value_name = "ADDRESS", value_parser = loopback)]
    metrics: Option<SocketAddr>,

    /// Account to sign in with. By default the session of `sluice login` on this machine.
    #[arg(long, requires_all = ["password_file", "deployment"])]
    email: Option<String>,
    /// File with the account's password; must be readable by its owner only.
    #[arg(long, value_name = "FILE", requires = "email")]
    password_file: Option<PathBuf>,
    /// File that describes the deployment, from its operator.
    #[arg(long, value_name = "FILE", requires = "email")]
    deployment: Option<PathBuf>,

    /// PEM file of the gateway's certificate chain. Peers must then speak TLS.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// PEM file of CA certificates; clients must present a certificate signed by one of them.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,

    /// Maximum number of connections; a further one closes the one that has been idle longest.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_connections: u32,
    /// Maximum number of connections from one address; a further one closes that address's connection that has been idle longest.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_connections_per_address: u32,
    /// Maximum frame size in bytes; never more than a quarter of --spool-max-bytes. The gateway uploads frames of more than 4 MiB, so the
    /// deployment must have uploads.
    #[arg(long, value_name = "BYTES", default_value_t = domain::MAX_UPLOAD_BYTES as u64, value_parser = clap::value_parser!(u64).range(1..=domain::MAX_UPLOAD_BYTES as u64))]
    max_frame_bytes: u64,
    /// Maximum memory for all frames of more than 4 MiB that are being received; another one is rejected until there is room.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().large_bytes as u64, value_parser = clap::value_parser!(u64).range(64 << 20..))]
    max_large_bytes: u64,
    /// Maximum number of unanswered frames per connection.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    max_unanswered: u32,
    /// Maximum size of the spool on disk in bytes; when it is reached, messages are rejected.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30, value_parser = clap::value_parser!(u64).range(64 << 20..))]
    spool_max_bytes: u64,
    /// Maximum time without a frame, after which a connection is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: u64,
    /// Maximum time from a frame's first byte to its last.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    frame_timeout: u64,
    /// Maximum time for a peer to read an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    write_timeout: u64,
    /// With `--application-ack stored`: maximum time to wait for the outcome. Then the answer is AA, with a note that the gateway keeps the
    /// message. Senders wait 5 s (Mirth) or 10 s (HAPI).
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    outcome_timeout: u64,
    /// Maximum number of concurrent submissions.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// Interval of the report on stderr.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    report_seconds: u64,
}

/// When a message has its application acknowledgment.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum When {
    /// When it is on disk.
    Safe,
    /// When the lake has stored or refused it.
    Stored,
}

/// How long the spool keeps a message.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum HowLong {
    /// Until the lake has stored it.
    UntilStored,
    /// Until the API has queued it.
    UntilQueued,
}

/// The spool's folder, named or by default.
pub(in crate::command) fn spool_folder(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(folder) => Ok(folder.to_owned()),
        None => Ok(state_folder()?.join("mllp")),
    }
}

/// The metrics need no sign-in, so their port must be on loopback.
fn loopback(address: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = address.parse().map_err(|_| "not an address and a port, such as 127.0.0.1:9090".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("not a loopback address: metrics are for this machine only".to_owned())
    }
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let feeds = args.feeds()?;
    for feed in &feeds {
        feed.check().with_context(|| format!("TLS of feed {}", feed.name))?;
    }
    // True from the start: the gateway repeats submissions, not the client.
    let (_hurry, hurried) = watch::channel(true);
    let client = match args.account()? {
        Some(account) => Client::sign_in_until(account, hurried).await?,
        None => Client::open_until(hurried)?,
    }
    .staying();
    let session = client.session().await?;
    let institute = TokenClaims::of(&session.tokens.id)?.write;
    ensure!(!institute.is_empty(), "{} may not submit: the account has no institute to write for", session.email);

    let folder = spool_folder(args.spool.as_deref())?;
    // The third line is for spools of earlier versions, which wrote the character set of all messages there.
    let owner = format!("{}\n{institute}\n\n", session.deployment.api_url);
    let (spool, recovery) = Spool::open(&folder, &owner, args.spool_max_bytes)?;
    let open = Feeds::open(feeds.clone()).await?;
    let metrics = match args.metrics {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| format!("metrics: listening on {address}"))?),
        None => None,
    };

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let reporter = &output.reporter;
    for (name, address) in open.addresses().filter(|(_, address)| !address.ip().is_loopback()) {
        let Some(feed) = feeds.iter().find(|feed| feed.name == name) else { continue };
        if feed.tls.is_none() {
            reporter.say(format!("Warning: {address} is not a loopback address, and messages come in without TLS."));
        }
        if feed.peers.is_empty() && feed.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) {
            reporter.say(format!(
                "Warning: whoever reaches {address} submits for {institute}. Name the peers in a config file, or ask for certificates with --client-ca."
            ));
        }
    }
    if recovery.damaged > 0 {
        reporter.say(format!(
            "{} damaged records of the spool were moved to {}.",
            recovery.damaged,
            folder.join("damaged").display()
        ));
    }
    if recovery.messages > 0 {
        reporter.say(format!(
            "{} messages from a previous run are not known to be stored: they are asked about or submitted now.",
            recovery.messages
        ));
    }
    if args.frame_bytes() < args.max_frame_bytes {
        reporter.say(format!("Frames of more than {} bytes are refused, a quarter of --spool-max-bytes.", args.frame_bytes()));
    }
    if let Some(address) = metrics.as_ref().and_then(|metrics| metrics.local_addr().ok()) {
        reporter.say(format!("Metrics at http://{address}/metrics, health at http://{address}/healthz."));
    }
    for feed in &feeds {
        if let Endpoint::Connect(address) = &feed.endpoint {
            reporter.say(format!("Connecting to {address} for {institute}, spool {}.", folder.display()));
        }
    }
    for (_, address) in open.addresses() {
        reporter.say(format!("Listening on {address} for {institute}, spool {}.", folder.display()));
    }

    let log = {
        let reporter = reporter.clone();
        Log::new(move |line| reporter.say_json(line))
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let options = args.options();
    let (reload, reloads) = mpsc::channel(1);
    let rereading = tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let feeds = args.feeds().map_err(|error| one_line(&format!("{error:#}")));
            if reload.send(feeds).await.is_err() {
                return;
            }
        }
    });
    let signals = Signals { reload: reloads, stop, metrics };
    let client = Arc::new(client);
    let say: Say = {
        let reporter = reporter.clone();
        Arc::new(move |mut line: Value| {
            if let Some(line) = line.as_object_mut() {
                line.insert("time".to_owned(), Timestamp::now().to_string().into());
            }
            reporter.say_json(&line.to_string());
        })
    };
    let releasing = tokio::spawn(release_held(Arc::clone(&client), institute.clone(), options.look_after, Arc::clone(&say)));
    let report = mllp::run(options, open, spool, Api { client, institute, say }, log, signals).await;
    rereading.abort();
    releasing.abort();
    if output.is_json() {
        output.json(&report)?;
    }
    Ok(ExitCode::Success)
}

impl Args {
    /// The feeds of the config file, or those of the command line, which share their settings.
    fn feeds(&self) -> Result<Vec<Feed>> {
        if let Some(path) = &self.config {
            return config::read(path);
        }
        let tls = self.tls_cert.clone().zip(self.tls_key.clone()).map(|(certificates, key)| TlsFiles {
            certificates,
            key,
            client_ca: self.client_ca.clone(),
        });
        let application_ack = match self.application_ack {
            When::Safe => ApplicationAck::Safe,
            When::Stored => ApplicationAck::Stored,
        };
        let listen = self.listen.iter().map(|address| Feed { tls: tls.clone(), ..Feed::new(Endpoint::Listen(*address)) });
        let connect = self.connect.iter().map(|address| Feed::new(Endpoint::Connect(address.clone())));
        let feeds: Vec<Feed> =
            listen.chain(connect).map(|feed| Feed { charset: self.charset, application_ack, ..feed }).collect();
        if feeds.is_empty() {
            return Err(Misused::because(
                "Say where messages come from: --listen ADDRESS, --connect HOST:PORT or --config FILE.",
            ));
        }
        Ok(feeds)
    }

    fn account(&self) -> Result<Option<ServiceAccount>> {
        let (Some(email), Some(password_file), Some(deployment)) = (&self.email, &self.password_file, &self.deployment) else {
            return Ok(None);
        };
        let deployment = Deployment::read(deployment)?;
        Ok(Some(ServiceAccount { email: email.clone(), password_file: password_file.clone(), deployment }))
    }

    /// The size of the largest frame. A spool that holds only a few of the largest messages would refuse them most of the time.
    fn frame_bytes(&self) -> u64 {
        self.max_frame_bytes.min(self.spool_max_bytes / 4)
    }

    fn options(&self) -> Options {
        let limits = Limits {
            connections: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
            connections_per_address: usize::try_from(self.max_connections_per_address).unwrap_or(usize::MAX),
            frame_bytes: usize::try_from(self.frame_bytes()).unwrap_or(usize::MAX),
            large_bytes: usize::try_from(self.max_large_bytes).unwrap_or(usize::MAX),
            unanswered: usize::try_from(self.max_unanswered).unwrap_or(usize::MAX),
            idle: Duration::from_secs(self.idle_timeout),
            frame: Duration::from_secs(self.frame_timeout),
            write: Duration::from_secs(self.write_timeout),
            outcome: Duration::from_secs(self.outcome_timeout),
            ..Limits::default()
        };
        Options {
            limits,
            submitters: usize::from(self.concurrency),
            report_every: Duration::from_secs(self.report_seconds),
            look_after: Duration::from_secs(self.ask_after),
            keep: match self.keep {
                HowLong::UntilStored => Keep::UntilStored,
                HowLong::UntilQueued => Keep::UntilQueued,
            },
            ..Options::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: super::Args,
    }

    #[test]
    fn a_frame_is_never_larger_than_a_quarter_of_the_spool() {
        let frame_bytes = |options: &[&str]| {
            let given = ["mllp", "--spool", "spool"].iter().chain(options);
            Command::try_parse_from(given).unwrap().args.options().limits.frame_bytes
        };
        assert_eq!(frame_bytes(&[]), domain::MAX_UPLOAD_BYTES);
        assert_eq!(frame_bytes(&["--max-frame-bytes", "1000"]), 1000);
        assert_eq!(frame_bytes(&["--spool-max-bytes", "80000000"]), 20_000_000);
    }
}
