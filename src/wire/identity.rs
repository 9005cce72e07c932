//! What the server shows to clients that come with TLS: `TLS_CERT`, `TLS_KEY`, `TLS_CLIENT_CA`.
//!
//! Read at the start and again while the server runs: who connects gets what is there then, who is
//! connected keeps what he has. Files that are bad change nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::CN;

use crate::config::Config;

/// What is spoken inside.
const ALPN: &[u8] = b"http/1.1";

/// A setting whose file does not do. Its text is one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}={path:?}: must be {wanted}: {reason}")]
pub struct IdentityError {
    setting: &'static str,
    path: PathBuf,
    wanted: &'static str,
    reason: String,
}

/// The identity of the server.
#[derive(Debug)]
pub struct Identity {
    files: Files,
    current: ArcSwap<ServerConfig>,
    /// What `current` was made of.
    loaded: Contents,
}

#[derive(Clone, Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// What stands in the files, or why that is not known.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    cert: Result<Vec<u8>, String>,
    key: Result<Vec<u8>, String>,
    client_ca: Option<Result<Vec<u8>, String>>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Contents(hidden)")
    }
}

impl Identity {
    /// Reads the files that `config` names; none are named where TLS is not wanted.
    pub fn load(config: &Config) -> Result<Option<Self>, IdentityError> {
        let (Some(cert), Some(key)) = (&config.tls_cert, &config.tls_key) else {
            return Ok(None);
        };
        let files = Files {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: config.tls_client_ca.clone(),
        };
        let loaded = files.read();
        let current = ArcSwap::from_pointee(files.server_config(&loaded)?);
        Ok(Some(Self {
            files,
            current,
            loaded,
        }))
    }

    /// For a client that connects now.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// What the files held at the start.
    pub(crate) fn loaded(&self) -> &Contents {
        &self.loaded
    }

    /// What the files hold now.
    pub(crate) fn read(&self) -> Contents {
        self.files.read()
    }

    /// Shows from now on what is in `contents`, unless that does not do.
    pub(crate) fn renew(&self, contents: &Contents) -> Result<(), IdentityError> {
        let renewed = self.files.server_config(contents)?;
        if let Some(reason) = contents.outdated() {
            return Err(self.files.bad_cert(reason));
        }
        self.current.store(Arc::new(renewed));
        Ok(())
    }
}

impl Contents {
    /// Why clients will not take the certificate today, if so.
    pub(crate) fn outdated(&self) -> Option<String> {
        let pem = self.cert.as_ref().ok()?;
        let der = CertificateDer::from_pem_slice(pem).ok()?;
        let validity = Certificate::from_der(&der).ok()?.tbs_certificate.validity;
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let at = |time: Duration| time.as_secs();
        let (from, until) = (
            validity.not_before.to_unix_duration(),
            validity.not_after.to_unix_duration(),
        );
        if at(now) > at(until) {
            return Some(format!("it expired at {}", validity.not_after));
        }
        (at(now) < at(from)).then(|| format!("it begins at {}", validity.not_before))
    }
}

impl Files {
    fn read(&self) -> Contents {
        let read = |path: &Path| std::fs::read(path).map_err(|error| error.to_string());
        Contents {
            cert: read(&self.cert),
            key: read(&self.key),
            client_ca: self.client_ca.as_deref().map(read),
        }
    }

    fn server_config(&self, contents: &Contents) -> Result<ServerConfig, IdentityError> {
        let chain = certificates(&contents.cert).map_err(|reason| self.bad_cert(reason))?;
        let bad_key = |reason: String| IdentityError {
            setting: "TLS_KEY",
            path: self.key.clone(),
            wanted: "the private key of TLS_CERT in PEM",
            reason,
        };
        let key = contents
            .key
            .as_ref()
            .map_err(|error| bad_key(error.clone()))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| bad_key(error.to_string()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.bad_cert(error.to_string()))?;
        let builder = match &contents.client_ca {
            None => builder.with_no_client_auth(),
            Some(authorities) => builder.with_client_cert_verifier(
                client_verifier(authorities, provider)
                    .map_err(|reason| self.bad_client_ca(reason))?,
            ),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| bad_key(error.to_string()))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A client that comes back shows what it was given: nothing is kept for it here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer =
            aws_lc_rs::Ticketer::new().map_err(|error| self.bad_cert(error.to_string()))?;
        config.send_tls13_tickets = 1;
        Ok(config)
    }

    fn bad_cert(&self, reason: String) -> IdentityError {
        IdentityError {
            setting: "TLS_CERT",
            path: self.cert.clone(),
            wanted: "a certificate chain in PEM",
            reason,
        }
    }

    fn bad_client_ca(&self, reason: String) -> IdentityError {
        IdentityError {
            setting: "TLS_CLIENT_CA",
            path: self.client_ca.clone().unwrap_or_default(),
            wanted: "certificates of authorities in PEM",
            reason,
        }
    }
}

/// What asks clients for a certificate.
fn client_verifier(
    authorities: &Result<Vec<u8>, String>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities)? {
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())
}

/// All certificates in a file, at least one.
fn certificates(pem: &Result<Vec<u8>, String>) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = pem.as_ref().map_err(String::clone)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is none in it".to_owned()),
        found => found.map_err(|error| error.to_string()),
    }
}

/// The common name of a certificate's subject, as far as it is text for a log line.
pub(super) fn common_name(der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?;
    let names = certificate.tbs_certificate.subject.0;
    let mut attributes = names.iter().flat_map(|name| name.0.iter());
    let value = &attributes.find(|attribute| attribute.oid == CN)?.value;
    let text = Utf8StringRef::try_from(value)
        .map(|text| text.as_str().to_owned())
        .or_else(|_| PrintableStringRef::try_from(value).map(|text| text.as_str().to_owned()))
        .ok()?;
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    (!text.is_empty()).then_some(text)
}
