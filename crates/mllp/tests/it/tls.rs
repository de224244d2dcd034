//! TLS, with and without certificates of the peers.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::Value;
use sluice_mllp::{Endpoint, Feed, Feeds, PeerTls, TlsFiles};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::{DEADLINE, Gateway, Peer, Setup, adt, eventually};

/// A certificate authority.
struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate of it, and the key.
    fn issue(&self, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        self.issue_for_days(usage, 365)
    }

    /// The same, for so many days from today.
    fn issue_for_days(&self, usage: ExtendedKeyUsagePurpose, days: i64) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let last = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        let last = last.to_zoned(jiff::tz::TimeZone::UTC).date();
        params.not_after = rcgen::date_time_ymd(last.year().into(), last.month().unsigned_abs(), last.day().unsigned_abs());
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn client(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let (certificate, key) = self.issue(ExtendedKeyUsagePurpose::ClientAuth);
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

/// The gateway's files.
fn files(folder: &TempDir, server: &Ca, clients: Option<&Ca>) -> TlsFiles {
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = server.issue(ExtendedKeyUsagePurpose::ServerAuth);
    TlsFiles {
        certificates: write("gateway.crt", certificate.pem()),
        key: write("gateway.key", key.serialize_pem()),
        client_ca: clients.map(|ca| write("clients.crt", ca.0.pem())),
    }
}

async fn connect(
    gateway: &Gateway,
    trusted: &Ca,
    own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.0.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = match own {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(gateway.address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// With TLS 1.3 a client learns that its certificate is not taken when it reads.
async fn is_turned_away(connected: std::io::Result<TlsStream<TcpStream>>) -> bool {
    match connected {
        Err(_) => true,
        Ok(mut stream) => !matches!(stream.read(&mut [0]).await, Ok(read) if read > 0),
    }
}

#[tokio::test]
async fn messages_come_over_tls() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let gateway = Setup { tls: Some(files(&folder, &ca, None)), ..Setup::default() }.start().await;
    let mut peer = Peer::new(connect(&gateway, &ca, None).await.unwrap());
    let large = adt("BIG") + &"OBX|1|TX|||x\r".repeat(50_000);
    assert_eq!(peer.exchange(&large).await.code(), ("AA", "BIG"));
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
    // A peer that trusts another CA does not talk to this gateway.
    assert!(connect(&gateway, &Ca::new(), None).await.is_err());
    gateway.until_reported("handshakesFailed", 1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_peer_needs_a_certificate_of_the_right_ca() {
    let (folder, server, clients) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    let gateway = Setup { tls: Some(files(&folder, &server, Some(&clients))), ..Setup::default() }.start().await;
    assert!(is_turned_away(connect(&gateway, &server, None).await).await, "no certificate");
    assert!(is_turned_away(connect(&gateway, &server, Some(Ca::new().client())).await).await, "of another CA");
    assert!(is_turned_away(connect(&gateway, &server, Some(server.client())).await).await, "of the gateway's own CA");
    let (certificate, key) = clients.issue(ExtendedKeyUsagePurpose::ServerAuth);
    let no_client = (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    assert!(is_turned_away(connect(&gateway, &server, Some(no_client)).await).await, "of a server");
    gateway.until_reported("handshakesFailed", 4).await;

    let mut peer = Peer::new(connect(&gateway, &server, Some(clients.client())).await.unwrap());
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
    let report = gateway.stop().await;
    assert_eq!((report.received, report.handshakes_failed), (1, 4));
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_closed() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let setup = Setup { tls: Some(files(&folder, &ca, None)), ..Setup::default() };
    let gateway = setup.limits(|limits| limits.handshake = Duration::from_millis(300)).start().await;
    let mut plain = gateway.connect().await;
    plain.send_message(adt("A1")).await;
    // An alert, and the end.
    assert_eq!(plain.next().await, None);
    let mut silent = gateway.connect().await;
    assert_eq!(silent.next().await, None);
    let report = gateway.stop().await;
    assert_eq!((report.received, report.handshakes_failed), (0, 2));
}

#[tokio::test]
async fn a_handshake_that_stalls_gives_way_to_a_new_connection() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let setup = Setup { tls: Some(files(&folder, &ca, None)), ..Setup::default() };
    // Nothing but the new connection ends the handshake before the test gives up.
    let gateway = setup.limits(|limits| (limits.connections, limits.handshake) = (1, 10 * DEADLINE)).start().await;
    let mut stalled = gateway.connect().await;
    gateway.until_reported("connections", 1).await;
    let mut peer = Peer::new(connect(&gateway, &ca, None).await.unwrap());
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
    assert_eq!(stalled.next().await, None);
    let report = gateway.stop().await;
    assert_eq!((report.evicted, report.turned_away, report.handshakes_failed), (1, 0, 0));
}

/// Writes the gateway's certificate and key anew.
fn renew(files: &TlsFiles, ca: &Ca, days: i64) {
    let (certificate, key) = ca.issue_for_days(ExtendedKeyUsagePurpose::ServerAuth, days);
    std::fs::write(&files.certificates, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_named_and_a_new_one_is_read_without_a_restart() {
    let (folder, ca, next_ca) = (tempfile::tempdir().unwrap(), Ca::new(), Ca::new());
    let files = files(&folder, &ca, None);
    renew(&files, &ca, 20);
    let gateway = Setup { tls: Some(files.clone()), ..Setup::default() }.start().await;
    eventually("named", || gateway.said("certificate").is_some()).await;
    let line = gateway.said("certificate").unwrap();
    let days = line["days"].as_i64().unwrap();
    assert!((18..=20).contains(&days) && line["isExpired"] == false && line["feed"] == "adt", "{line}");
    eventually("reported", || gateway.said("report").is_some_and(|line| line["feeds"][0]["certificateDays"] == days)).await;
    let mut before = Peer::new(connect(&gateway, &ca, None).await.unwrap());
    assert_eq!(before.exchange(adt("A1")).await.code().1, "A1");

    renew(&files, &next_ca, 365);
    let listen = Endpoint::Listen("127.0.0.1:0".parse().unwrap());
    let feed = Feed { name: "adt".to_owned(), tls: Some(files.clone()), ..Feed::new(listen) };
    gateway.reload.send(Ok(vec![feed.clone()])).await.unwrap();
    eventually("reloaded", || gateway.said("reload").is_some_and(|line| line["done"] == true)).await;
    let mut after = Peer::new(connect(&gateway, &next_ca, None).await.unwrap());
    assert_eq!(after.exchange(adt("A2")).await.code().1, "A2");
    assert_eq!(before.exchange(adt("A3")).await.code().1, "A3", "the open connection stays");
    eventually("reported", || {
        gateway.said("report").is_some_and(|line| line["feeds"][0]["certificateDays"].as_i64() > Some(300))
    })
    .await;

    // Half a renewal changes nothing.
    std::fs::write(&files.key, "nothing").unwrap();
    gateway.reload.send(Ok(vec![feed])).await.unwrap();
    eventually("refused", || gateway.said("reload").is_some_and(|line| line["done"] == false)).await;
    assert!(connect(&gateway, &next_ca, None).await.is_ok());
    gateway.stop().await;
}

#[tokio::test]
async fn the_certificates_of_all_feeds_are_watched_and_those_that_last_are_not_named() {
    let (ca, analyzer) = (Ca::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let folders: [TempDir; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [expired, lasting, own] = [(&folders[0], -2), (&folders[1], 40), (&folders[2], 20)].map(|(folder, days)| {
        let files = files(folder, &ca, Some(&ca));
        renew(&files, &ca, days);
        files
    });
    let listen = Endpoint::Listen("127.0.0.2:0".parse().unwrap());
    let connect = Endpoint::Connect(analyzer.local_addr().unwrap().to_string());
    let peer_tls = PeerTls { ca: own.client_ca.unwrap(), own: Some((own.certificates, own.key)), name: None };
    let more = vec![
        Feed { name: "lab".to_owned(), tls: Some(lasting), ..Feed::new(listen) },
        Feed { name: "bc5800".to_owned(), peer_tls: Some(peer_tls), ..Feed::new(connect) },
    ];
    let gateway = Setup { tls: Some(expired), more, ..Setup::default() }.start().await;
    // The feeds are named in their order, before the first report.
    eventually("reported", || gateway.said("report").is_some()).await;
    let lines = gateway.lines.lock().unwrap().clone();
    let named: Vec<_> = lines.iter().filter(|line| line["event"] == "certificate").collect();
    let [adt, bc5800] = named[..] else { panic!("{named:?}") };
    let days = |line: &Value| line["days"].as_i64().unwrap();
    assert!(adt["feed"] == "adt" && adt["isExpired"] == true && (-3..=-2).contains(&days(adt)), "{adt}");
    assert!(bc5800["feed"] == "bc5800" && bc5800["isExpired"] == false && (18..=20).contains(&days(bc5800)), "{bc5800}");
    let report = gateway.said("report").unwrap();
    let reported = [0, 1, 2].map(|nth| report["feeds"][nth]["certificateDays"].as_i64().unwrap());
    assert_eq!((reported[0], reported[2]), (days(adt), days(bc5800)));
    assert!((38..=40).contains(&reported[1]), "{report}");
    gateway.stop().await;
}

#[tokio::test]
async fn tls_files_that_cannot_be_used_are_named() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let good = files(&folder, &ca, Some(&ca));
    let open = async |files: &TlsFiles| {
        let listen = Endpoint::Listen("127.0.0.1:0".parse().unwrap());
        Feeds::open(vec![Feed { tls: Some(files.clone()), ..Feed::new(listen) }]).await
    };
    assert!(open(&good).await.is_ok());
    let error = async |files: &TlsFiles| open(files).await.err().unwrap().to_string();
    let absent = folder.path().join("absent.pem");
    for bad in [
        TlsFiles { certificates: absent.clone(), ..good.clone() },
        TlsFiles { key: absent.clone(), ..good.clone() },
        TlsFiles { client_ca: Some(absent), ..good.clone() },
    ] {
        assert!(error(&bad).await.contains("absent.pem"), "{}", error(&bad).await);
    }
    let no_certificate = TlsFiles { certificates: good.key.clone(), ..good.clone() };
    assert!(error(&no_certificate).await.contains("holds no certificate"), "{}", error(&no_certificate).await);
    let (_, other_key) = ca.issue(ExtendedKeyUsagePurpose::ServerAuth);
    std::fs::write(&good.key, other_key.serialize_pem()).unwrap();
    assert!(error(&good).await.contains("certificate and its key"), "{}", error(&good).await);
}

#[tokio::test]
async fn the_gateway_speaks_tls_to_a_peer_that_is_a_server() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.0.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let (certificate, key) = ca.issue(ExtendedKeyUsagePurpose::ServerAuth);
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_client_cert_verifier(verifier);
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap()));

    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (own, own_key) = ca.issue(ExtendedKeyUsagePurpose::ClientAuth);
    let own = (write("own.crt", own.pem()), write("own.key", own_key.serialize_pem()));
    let right = PeerTls { ca: write("ca.crt", ca.0.pem()), own: Some(own), name: Some("localhost".to_owned()) };
    let wrong = [
        PeerTls { ca: write("other.crt", Ca::new().0.pem()), ..right.clone() },
        PeerTls { name: Some("elsewhere.example".to_owned()), ..right.clone() },
        PeerTls { own: None, ..right.clone() },
    ];
    for (tls, is_right) in wrong.into_iter().map(|tls| (tls, false)).chain([(right, true)]) {
        let analyzer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::Connect(analyzer.local_addr().unwrap().to_string());
        let feed = Feed { name: "bc5800".to_owned(), peer_tls: Some(tls), ..Feed::new(endpoint) };
        let gateway = Setup { more: vec![feed], ..Setup::default() }.start().await;
        let (stream, _) = tokio::time::timeout(DEADLINE, analyzer.accept()).await.unwrap().unwrap();
        let accepted = acceptor.accept(stream).await;
        if is_right {
            assert_eq!(Peer::new(accepted.unwrap()).exchange(adt("T1")).await.code(), ("AA", "T1"));
        } else {
            // The gateway, or the analyzer, ends it before a message is sent.
            assert!(accepted.is_err());
        }
        gateway.stop().await;
    }
}
