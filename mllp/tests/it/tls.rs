//! TLS, with and without certificates of the peers.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use sluice_mllp::TlsFiles;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::{Gateway, Peer, Setup, adt};

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
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
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
    assert_eq!(peer.exchange(&large).await.code(), ("CA", "BIG"));
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("CA", "A1"));
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
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("CA", "A1"));
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

#[test]
fn files_that_are_no_good_are_named() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Ca::new());
    let good = files(&folder, &ca, Some(&ca));
    assert!(good.acceptor().is_ok());
    let error = |files: &TlsFiles| files.acceptor().err().unwrap().to_string();
    let absent = folder.path().join("absent.pem");
    for bad in [
        TlsFiles { certificates: absent.clone(), ..good.clone() },
        TlsFiles { key: absent.clone(), ..good.clone() },
        TlsFiles { client_ca: Some(absent), ..good.clone() },
    ] {
        assert!(error(&bad).contains("absent.pem"), "{}", error(&bad));
    }
    let no_certificate = TlsFiles { certificates: good.key.clone(), ..good.clone() };
    assert!(error(&no_certificate).contains("holds no certificate"), "{}", error(&no_certificate));
    let (_, other_key) = ca.issue(ExtendedKeyUsagePurpose::ServerAuth);
    std::fs::write(&good.key, other_key.serialize_pem()).unwrap();
    assert!(error(&good).contains("certificate and its key"), "{}", error(&good));
}
