//! `sluice mllp`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use domain::Charset;
use mllp::{AckMode, Limits, Log, Options, Spool, TlsFiles};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::client::{Account, Client};
use crate::error::ExitCode;
use crate::gateway::Api;
use crate::output::Output;
use crate::session::{Claims, Deployment, state_folder};

/// Where to listen, and what peers may do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address and port, such as 127.0.0.1:2575.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The folder that keeps what is acknowledged and not yet submitted; a file in it locks it. By default in $XDG_STATE_HOME/sluice.
    #[arg(long, value_name = "FOLDER")]
    spool: Option<PathBuf>,
    /// Answer when a message is on disk (CA), or when its outcome is known (AA, AE, AR).
    #[arg(long, value_enum, default_value_t = Ack::Queued)]
    ack: Ack,

    /// What all messages are in, whatever MSH-18 says: a name of the IANA registry or of HL7 table 0211. Without it each says so itself.
    #[arg(long, value_name = "NAME", value_parser = crate::messages::charset)]
    charset: Option<Charset>,

    /// The account to sign in with; without it, whoever is signed in on this machine.
    #[arg(long, requires_all = ["password_file", "deployment"])]
    email: Option<String>,
    /// A file with the account's password, which nobody else can read.
    #[arg(long, value_name = "FILE", requires = "email")]
    password_file: Option<PathBuf>,
    /// The file that describes the deployment, as its operator hands it out.
    #[arg(long, value_name = "FILE", requires = "email")]
    deployment: Option<PathBuf>,

    /// The gateway's certificate in PEM, with those that link it to a root. Peers must speak TLS then.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Certificates in PEM: a peer must show one that one of these has signed.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    client_ca: Option<PathBuf>,

    /// Connections at a time; a further one is closed at once.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_connections: u32,
    /// Bytes of a frame.
    #[arg(long, value_name = "BYTES", default_value_t = domain::MAX_MESSAGE_BYTES as u64, value_parser = clap::value_parser!(u64).range(1..=domain::MAX_MESSAGE_BYTES as u64))]
    max_frame_bytes: u64,
    /// Frames of a connection that are read and not answered.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    max_unanswered: u32,
    /// Bytes of the spool on disk; when they are used up, messages are rejected.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30, value_parser = clap::value_parser!(u64).range(64 << 20..))]
    spool_max_bytes: u64,
    /// How long a connection may be open without a frame.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(1..))]
    idle_timeout: u64,
    /// How long a frame may take from its first byte to its last.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    frame_timeout: u64,
    /// How long a peer may take to read an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    write_timeout: u64,
    /// With `--ack outcome`: how long a message is waited for before the answer is AR.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    outcome_timeout: u64,
    /// How many frames are submitted at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// How often there is a line of counts on stderr.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    report_seconds: u64,
}

/// When a message is answered.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Ack {
    /// When it is on disk.
    Queued,
    /// When the lake has come to an end with it.
    Outcome,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let tls = args.tls()?;
    // True from the beginning: the gateway sends again, not the client.
    let (_hurry, hurried) = watch::channel(true);
    let client = match args.account()? {
        Some(account) => Client::sign_in_until(account, hurried).await?,
        None => Client::open_until(hurried)?,
    }
    .staying();
    let session = client.session().await?;
    let institute = Claims::of(&session.tokens.id)?.write;
    ensure!(!institute.is_empty(), "{} may not submit: the account has no institute to write for", session.email);

    let folder = match &args.spool {
        Some(folder) => folder.clone(),
        None => state_folder()?.join("mllp"),
    };
    // What is acknowledged in one character set must not be delivered in another.
    let charset = args.charset.map_or("", Charset::name);
    let owner = format!("{}\n{institute}\n{charset}\n", session.deployment.api_url);
    let (spool, recovery) = Spool::open(&folder, &owner, args.spool_max_bytes)?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listening on {}", args.listen))?;
    let address = listener.local_addr().context("listening")?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let reporter = &output.reporter;
    if !address.ip().is_loopback() {
        if tls.is_none() {
            reporter.say(
                "Warning: messages come in without TLS, from other machines too. --tls-cert and --tls-key make them private.",
            );
        }
        if args.client_ca.is_none() {
            reporter
                .say(format!("Warning: whoever reaches the port submits for {institute}. --client-ca asks for certificates."));
        }
    }
    if recovery.damaged > 0 {
        reporter.say(format!(
            "{} damaged parts of the spool were moved to {}.",
            recovery.damaged,
            folder.join("damaged").display()
        ));
    }
    if recovery.messages > 0 {
        reporter.say(format!("{} messages of before are in the spool and are submitted now.", recovery.messages));
    }
    reporter.say(format!("Listening on {address} for {institute}, spool {}.", folder.display()));

    let log = {
        let reporter = reporter.clone();
        Log::new(move |line| reporter.say(line))
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let report =
        mllp::run(args.options(), listener, tls, spool, Api { client, charset: args.charset, institute }, log, stop).await;
    if output.is_json() {
        output.json(&report)?;
    }
    Ok(ExitCode::Success)
}

impl Args {
    fn tls(&self) -> Result<Option<mllp::TlsAcceptor>> {
        let Some((certificates, key)) = self.tls_cert.clone().zip(self.tls_key.clone()) else { return Ok(None) };
        let acceptor = TlsFiles { certificates, key, client_ca: self.client_ca.clone() }.acceptor();
        Ok(Some(acceptor.context("TLS")?))
    }

    fn account(&self) -> Result<Option<Account>> {
        let (Some(email), Some(password_file), Some(deployment)) = (&self.email, &self.password_file, &self.deployment) else {
            return Ok(None);
        };
        let deployment = Deployment::read(deployment)?;
        Ok(Some(Account { email: email.clone(), password_file: password_file.clone(), deployment }))
    }

    fn options(&self) -> Options {
        let mode = match self.ack {
            Ack::Queued => AckMode::Queued,
            Ack::Outcome => AckMode::Outcome,
        };
        let limits = Limits {
            connections: usize::try_from(self.max_connections).unwrap_or(usize::MAX),
            frame_bytes: usize::try_from(self.max_frame_bytes).unwrap_or(domain::MAX_MESSAGE_BYTES),
            unanswered: usize::try_from(self.max_unanswered).unwrap_or(usize::MAX),
            idle: Duration::from_secs(self.idle_timeout),
            frame: Duration::from_secs(self.frame_timeout),
            write: Duration::from_secs(self.write_timeout),
            outcome: Duration::from_secs(self.outcome_timeout),
            ..Limits::default()
        };
        Options {
            mode,
            charset: self.charset,
            limits,
            submitters: usize::from(self.concurrency),
            report_every: Duration::from_secs(self.report_seconds),
            ..Options::default()
        }
    }
}
