//! The workers' AWS clients after a freeze: Lambda stops a worker between two invocations, and meanwhile its connections die.
//!
//! The peer is a server on a thread of its own. The clients are those that the workers make, on a runtime that stands still while the
//! peer ends, resets or forgets its connections.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use dispatch::Executions;
use futures_util::future::{BoxFuture, FutureExt as _, try_join_all};
use sluice::operator::workspace::Workspace;
use sluice_tests::Harness;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::grants;
use crate::logs::workers;

/// What becomes of the connections that were open when the worker was frozen.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// They are as they were.
    None,
    /// The peer closes them meanwhile.
    Fin,
    /// The peer resets them meanwhile.
    Reset,
    /// The peer resets them when the next request comes: it has forgotten them.
    ResetOnRequest,
    /// The peer takes the next request and never answers.
    Silent,
}

/// A server that answers every request on a connection of its own.
struct Peer {
    address: String,
    end: watch::Sender<End>,
    /// A line for each connection that has come to its [`End`] or is ready to, and for each request after it: `true` if that came over a
    /// connection from before.
    ended: mpsc::Receiver<()>,
    later: mpsc::Receiver<bool>,
}

impl Peer {
    fn new() -> Result<Self> {
        let (end, ends) = watch::channel(End::None);
        let (ended, has_ended) = mpsc::channel();
        let (later, requests) = mpsc::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = format!("http://{}", listener.local_addr()?);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let Ok((stream, _)) = listener.accept().await else { return };
                    tokio::spawn(serve(stream, ends.clone(), ended.clone(), later.clone()));
                }
            });
        });
        Ok(Self { address, end, ended: has_ended, later: requests })
    }

    /// Stands still, as the worker does, until the peer is done with that many connections.
    fn freeze(&self, end: End, connections: usize) -> Result<()> {
        self.end.send(end)?;
        for _ in 0..connections {
            self.ended.recv_timeout(Duration::from_secs(10)).context("a connection did not end")?;
        }
        Ok(())
    }
}

/// Serves one connection. Returns when it ends, which closes it.
async fn serve(mut stream: TcpStream, mut ends: watch::Receiver<End>, ended: mpsc::Sender<()>, later: mpsc::Sender<bool>) {
    let is_new = *ends.borrow() != End::None;
    loop {
        tokio::select! {
            request = request(&mut stream) => {
                let Some(action) = request else { return };
                if is_new {
                    let _ = later.send(false);
                }
                if answer(&mut stream, &action).await.is_err() {
                    return;
                }
            }
            changed = ends.changed(), if !is_new => {
                if changed.is_err() {
                    return;
                }
                let end = *ends.borrow();
                if end == End::Reset {
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                }
                if matches!(end, End::Fin | End::Reset) {
                    drop(stream);
                    let _ = ended.send(());
                    return;
                }
                let _ = ended.send(());
                if request(&mut stream).await.is_none() {
                    return;
                }
                let _ = later.send(true);
                if end == End::ResetOnRequest {
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    return;
                }
                // Until the client has enough.
                while request(&mut stream).await.is_some() {}
                return;
            }
        }
    }
}

/// Reads a request and gives the action that its body names if that is a form, or else an empty text. `None` if the connection ended.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let mut body = vec![0; header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let is_form = header("content-type").is_some_and(|it| it.contains("form-urlencoded"));
    let form = if is_form { String::from_utf8_lossy(&body) } else { "".into() };
    Some(form.split('&').find_map(|it| it.strip_prefix("Action=")).unwrap_or_default().to_owned())
}

/// Answers with success: in XML to a form, and otherwise in JSON.
async fn answer(stream: &mut TcpStream, action: &str) -> std::io::Result<()> {
    let xml = format!("<{action}Response><{action}Result/></{action}Response>");
    let body = if action.is_empty() { "{}" } else { &xml };
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await
}

/// The configuration of the workers for a peer, with a short wait for an answer and between two attempts.
async fn config(peer: &Peer, attempt: Duration) -> SdkConfig {
    let config = runtime::sdk_config(attempt, Duration::from_secs(20)).await;
    let credentials = Credentials::new("key", "secret", None, None, "test");
    let retry = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    let config = config.to_builder().endpoint_url(&peer.address).region(aws_config::Region::new("eu-central-1"));
    config.credentials_provider(SharedCredentialsProvider::new(credentials)).retry_config(retry).build()
}

type Call = Box<dyn Fn() -> BoxFuture<'static, Result<()>>>;

/// A call of `$client`, which comes to an answer or not.
macro_rules! call {
    ($sdk:ident, $config:expr, |$client:ident| $request:expr) => {{
        let client = runtime::client!($sdk, $config);
        Box::new(move || {
            let $client = client.clone();
            async move {
                $request.send().await?;
                Ok(())
            }
            .boxed()
        }) as Call
    }};
}

/// A call of every service that workers call, by a client made as in their `main.rs`.
fn calls(config: &SdkConfig) -> Vec<(&'static str, Call)> {
    let executions = |name: &'static str| {
        let [client, unpooled] = [config, &runtime::without_pool(config)].map(|config| {
            runtime::client!(aws_sdk_sfn, config, |sfn| sfn
                .retry_config(aws_sdk_sfn::config::retry::RetryConfig::disabled())
                .interceptor(runtime::StripHostPrefix))
        });
        let executions = std::sync::Arc::new(Executions { client, unpooled, state_machine_arn: "arn".to_owned() });
        let call = move || {
            let executions = std::sync::Arc::clone(&executions);
            async move { Ok(executions.start(name, "{}".to_owned(), None).await.map(drop)?) }.boxed()
        };
        Box::new(call) as Call
    };
    vec![
        (
            "dynamodb",
            call!(aws_sdk_dynamodb, config, |it| it
                .get_item()
                .table_name("t")
                .key("k", aws_sdk_dynamodb::types::AttributeValue::S("v".to_owned()))),
        ),
        ("kms", call!(aws_sdk_kms, config, |it| it.decrypt().ciphertext_blob(aws_sdk_kms::primitives::Blob::new("x")))),
        ("s3", call!(aws_sdk_s3, config, |it| it.put_object().bucket("b").key("k").body(b"body".to_vec().into()))),
        ("sqs", call!(aws_sdk_sqs, config, |it| it.send_message().queue_url("http://q/1/q").message_body("x"))),
        ("sns", call!(aws_sdk_sns, config, |it| it.publish().topic_arn("arn").message("x"))),
        ("cognito-identity", call!(aws_sdk_cognitoidentity, config, |it| it.get_id().identity_pool_id("p"))),
        ("cognito-idp", call!(aws_sdk_cognitoidentityprovider, config, |it| it.admin_get_user().user_pool_id("p").username("u"))),
        ("sts", call!(aws_sdk_sts, config, |it| it.assume_role().role_arn("arn:aws:iam::1:role/r").role_session_name("session"))),
        ("verifiedpermissions", call!(aws_sdk_verifiedpermissions, config, |it| it.is_authorized().policy_store_id("p"))),
        ("states", executions("name")),
    ]
}

#[tokio::test]
async fn there_is_a_call_of_every_service_that_a_worker_calls() -> Result<()> {
    // Brings the system up, which builds the workers.
    let _it = Harness::new()?;
    let workspace = Workspace::find().await?;
    let mut called = BTreeSet::new();
    for worker in workers() {
        let calls = grants::calls(&workspace, worker)?;
        called.extend(calls.iter().filter_map(|it| it.split(':').next()).map(str::to_owned));
    }
    let calls = calls(&config(&Peer::new()?, Duration::from_secs(1)).await);
    assert_eq!(calls.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>(), called);
    Ok(())
}

/// So many calls at once, so that the pool has as many connections.
const CONNECTIONS: usize = 2;

#[tokio::test]
async fn every_client_gets_its_answer_though_its_connections_died_while_it_was_frozen() -> Result<()> {
    for end in [End::Fin, End::Reset, End::ResetOnRequest, End::Silent] {
        let names = calls(&config(&Peer::new()?, Duration::from_secs(1)).await).into_iter().map(|(name, _)| name);
        for (index, name) in names.enumerate() {
            // An execution is silent as long as it runs: a silent peer cannot be told from it.
            if (name, end) == ("states", End::Silent) {
                continue;
            }
            let peer = Peer::new()?;
            let config = config(&peer, Duration::from_millis(if end == End::Silent { 1500 } else { 10_000 })).await;
            let (_, call) = calls(&config).swap_remove(index);
            try_join_all((0..CONNECTIONS).map(|_| call())).await.with_context(|| format!("{name}, before"))?;
            peer.freeze(end, CONNECTIONS).with_context(|| format!("{name}, {end:?}"))?;
            call().await.with_context(|| format!("{name}, {end:?}"))?;
            ensure!(peer.later.try_iter().any(|is_old| !is_old), "{name}, {end:?}: over a dead connection");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_was_idle_for_long_is_not_tried_again() -> Result<()> {
    // Long enough for a busy machine to make all connections before the first of them is too old.
    let max_idle = Duration::from_millis(400);
    for (index, (name, _)) in calls(&config(&Peer::new()?, Duration::from_secs(1)).await).into_iter().enumerate() {
        let peer = Peer::new()?;
        let config =
            config(&peer, Duration::from_secs(20)).await.to_builder().http_client(runtime::http_client(max_idle)).build();
        let (_, call) = calls(&config).swap_remove(index);
        try_join_all((0..CONNECTIONS).map(|_| call())).await?;
        let frozen = Instant::now();
        peer.freeze(End::Silent, CONNECTIONS)?;
        while frozen.elapsed() <= max_idle {
            std::thread::yield_now();
        }
        call().await.with_context(|| name.to_owned())?;
        assert_eq!(peer.later.try_iter().collect::<Vec<_>>(), [false], "{name}: one request, over a new connection");
    }
    Ok(())
}
