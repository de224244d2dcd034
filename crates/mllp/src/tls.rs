//! TLS in both directions. For peers that connect: the gateway's certificate, and the CA of the certificates that it accepts. For
//! peers that are servers: the CA of their certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The PEM files of a feed that speaks TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The gateway's certificate, and the chain that links it to a root.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// CA certificates; with them, a peer must present a certificate signed by one of them.
    pub client_ca: Option<PathBuf>,
}

/// The PEM files of a feed whose peer is a server that speaks TLS.
#[derive(Clone, Debug)]
pub struct PeerTls {
    /// CA certificates: the peer must present a certificate signed by one of them.
    pub ca: PathBuf,
    /// The gateway's certificate and its private key, if the peer asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The name in the peer's certificate; without it the host of the feed's address.
    pub name: Option<String>,
}

/// The connector from these files.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) connector: TlsConnector,
    pub(crate) name: ServerName<'static>,
    /// When the gateway's own certificate expires, in seconds since 1970; `None` if it has none, or that cannot be read.
    pub(crate) expires_seconds: Option<i64>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Connector")
    }
}

/// The acceptor from a feed's files.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// When the gateway's certificate expires, in seconds since 1970; `None` if that cannot be read.
    pub(crate) expires_seconds: Option<i64>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Tls")
    }
}

/// Why TLS is impossible.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the expected kind.
    #[error("reading {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause, which contains nothing of the file's content.
        source: pem::Error,
    },
    /// A file of certificates holds none.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// Certificate and key do not match, or are unusable.
    #[error("the certificate and its key: {0}")]
    Certificate(tokio_rustls::rustls::Error),
    /// The name of the peer is not one that a certificate can have.
    #[error("`{0}` is not a server name")]
    Name(String),
    /// The CA certificates of the clients are unusable.
    #[error("the certificates of the clients' CA: {0}")]
    ClientCa(VerifierBuilderError),
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    if certificates.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(certificates) }
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(TlsError::Certificate)?;
    }
    Ok(roots)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// When the first of these certificates expires, in seconds since 1970: the gateway's own, which the chain follows.
fn expires_seconds(certificates: &[CertificateDer<'_>]) -> Option<i64> {
    let (_, own) = x509_parser::parse_x509_certificate(certificates.first()?).ok()?;
    Some(own.validity().not_after.timestamp())
}

impl PeerTls {
    /// Reads the files. `address` is the peer's host and port.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn load(&self, address: &str) -> Result<Connector, TlsError> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name.clone()).map_err(|_| TlsError::Name(name))?;
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Certificate)?;
        let builder = builder.with_root_certificates(roots(&self.ca)?);
        let (config, expires_seconds) = match &self.own {
            None => (builder.with_no_client_auth(), None),
            Some((certificate, key)) => {
                let own = certificates(certificate)?;
                let expires_seconds = expires_seconds(&own);
                let config = builder.with_client_auth_cert(own, private_key(key)?).map_err(TlsError::Certificate)?;
                (config, expires_seconds)
            }
        };
        Ok(Connector { connector: TlsConnector::from(Arc::new(config)), name, expires_seconds })
    }
}

impl TlsFiles {
    /// Reads the files. The acceptor speaks TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(crate) fn load(&self) -> Result<Tls, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let own = certificates(&self.certificates)?;
        let key = private_key(&self.key)?;
        let expires_seconds = expires_seconds(&own);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Certificate)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(TlsError::ClientCa)?)
            }
        };
        let config = builder.with_single_cert(own, key).map_err(TlsError::Certificate)?;
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), expires_seconds })
    }
}
