//! TLS for peers: the gateway's certificate, and whose certificates it takes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Files in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The gateway's certificate, and those that link it to a root.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// With it, a peer must show a certificate of one of these.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or holds no PEM of the kind.
    #[error("reading {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong; nothing of the file.
        source: pem::Error,
    },
    /// A file holds none.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// Certificate and key do not fit, or are no good.
    #[error("the certificate and its key: {0}")]
    Certificate(tokio_rustls::rustls::Error),
    /// The certificates that clients are checked against are no good.
    #[error("the certificates of the clients' CA: {0}")]
    ClientCa(VerifierBuilderError),
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|source| TlsError::File { path: path.to_owned(), source })?;
    if certificates.is_empty() { Err(TlsError::Empty(path.to_owned())) } else { Ok(certificates) }
}

impl TlsFiles {
    /// Reads the files. TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let own = certificates(&self.certificates)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::File { path: self.key.clone(), source })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Certificate)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(TlsError::Certificate)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(TlsError::ClientCa)?)
            }
        };
        let config = builder.with_single_cert(own, key).map_err(TlsError::Certificate)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
