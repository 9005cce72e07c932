//! The way to a broker: TCP, and TLS over it where the URL asks for that.

use std::fmt::{Debug, Display};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::url::ServerUrl;

/// Which server is taken for the one that a `wss://` or `https://` URL names, and what it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Authorities in PEM; without it those of the system.
    pub ca: Option<PathBuf>,
    /// Any.
    pub insecure: bool,
    /// Certificate chain in PEM that the server is shown if it asks.
    pub cert: Option<PathBuf>,
    /// Its private key in PEM.
    pub cert_key: Option<PathBuf>,
}

/// What is written to and read from.
pub type Transport = Box<dyn Stream>;

/// See [`Transport`].
pub trait Stream: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Debug + Send + Unpin> Stream for S {}

/// Connects to the server of `url`.
///
/// # Errors
///
/// There is none, or not the one that is trusted, or a file of `trust` cannot be used.
pub async fn connect(url: &ServerUrl, trust: &Trust) -> io::Result<Transport> {
    let socket = TcpStream::connect((url.host.as_str(), url.port)).await?;
    socket.set_nodelay(true)?;
    if !url.is_tls {
        return Ok(Box::new(socket));
    }
    let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(client_config(trust)?));
    Ok(Box::new(connector.connect(name, socket).await?))
}

fn client_config(trust: &Trust) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let verifier: Arc<dyn ServerCertVerifier> = if trust.insecure {
        Arc::new(Anybody(provider))
    } else {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots(trust)?), provider)
            .build()
            .map_err(io::Error::other)?
    };
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&trust.cert, &trust.cert_key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let bad = |error: &dyn Display| {
                let (cert, key) = (cert.display(), key.display());
                io::Error::other(format!("--cert {cert} --cert-key {key}: {error}"))
            };
            let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
            let chain = chain.map_err(|error| bad(&error))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(&error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| bad(&error))?
        }
        _ => return Err(io::Error::other("--cert and --cert-key go together")),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Whose signature counts: the file that was given, or else whom the system trusts.
fn roots(trust: &Trust) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &trust.ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let bad = |error: &dyn Display| io::Error::other(format!("--ca {}: {error}", path.display()));
    let pem = std::fs::read(path).map_err(|error| bad(&error))?;
    for authority in CertificateDer::pem_slice_iter(&pem) {
        let authority = authority.map_err(|error| bad(&error))?;
        roots.add(authority).map_err(|error| bad(&error))?;
    }
    if roots.is_empty() {
        return Err(bad(&"there is no certificate in it"));
    }
    Ok(roots)
}

/// Takes every server for the one that is meant, as [`Trust::insecure`] says.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
