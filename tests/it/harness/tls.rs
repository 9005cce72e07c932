//! Certificates made for one test, and clients that come with TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::within;

/// A folder of its own with an authority and what it has signed.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shardcast-tls-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder of temporary files");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("randomness");
        let pem = params.self_signed(&key).expect("it signs itself").pem();
        let issuer = Issuer::new(params, key);
        let made = Self {
            folder,
            issuer,
            pem,
        };
        made.write("ca.pem", &made.pem);
        made
    }

    /// A certificate for the broker of a test, or for a client with this name.
    pub(crate) fn sign(&self, name: &str) -> Signed {
        self.sign_with(name, |_| {})
    }

    pub(crate) fn sign_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Signed {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("legal names");
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().expect("randomness");
        let cert = params.signed_by(&key, &self.issuer).expect("it signs");
        Signed {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The path as a setting has it.
    pub(crate) fn setting(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> String {
        std::fs::write(self.path(file), text).expect("a writable folder");
        self.setting(file)
    }

    /// Puts a certificate and its key where the broker of [`Self::start`] looks.
    pub(crate) fn install(&self, signed: &Signed) {
        self.write("cert.pem", &signed.cert);
        self.write("key.pem", &signed.key);
    }

    /// A broker with a certificate of this authority, beside its plain port.
    pub(crate) fn start(&self, settings: &[(&str, &str)]) -> Broker {
        self.install(&self.sign("broker"));
        let (cert, key) = (self.setting("cert.pem"), self.setting("key.pem"));
        let own = [
            ("TLS_CERT", cert.as_str()),
            ("TLS_KEY", key.as_str()),
            ("TLS_PORT", "0"),
        ];
        Broker::start(&[&own, settings].concat())
    }

    /// How a client of this authority speaks TLS.
    pub(crate) fn client(&self) -> ClientConfig {
        self.client_with(rustls::ALL_VERSIONS, None)
    }

    pub(crate) fn client_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shown: Option<&Signed>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.pem)).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("they are supported")
            .with_root_certificates(roots);
        match shown {
            None => builder.with_no_client_auth(),
            Some(Signed { cert, key }) => builder
                .with_client_auth_cert(vec![certificate(cert)], private_key(key))
                .expect("they belong together"),
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // A folder that is not there any more is as good as one that was removed.
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("it was just made")
}

fn private_key(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("it was just made")
}

/// A TCP connection to the port with TLS, perhaps with a small receive buffer.
pub(crate) async fn dial(broker: &Broker, receive_bytes: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    if let Some(bytes) = receive_bytes {
        socket
            .set_recv_buffer_size(bytes)
            .expect("any size is legal");
    }
    let stream = socket.connect(broker.tls_address()).await;
    let stream = stream.expect("the broker listens");
    stream.set_nodelay(true).expect("it is a TCP socket");
    stream
}

/// Shakes hands.
pub(crate) async fn shake(
    stream: TcpStream,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a legal name");
    let connector = TlsConnector::from(Arc::new(config));
    within("the handshake", connector.connect(name, stream)).await
}

/// Connects with TLS.
pub(crate) async fn connect(
    broker: &Broker,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    shake(dial(broker, None).await, config).await
}

/// A WebSocket over TLS.
pub(crate) async fn web_socket(broker: &Broker, config: ClientConfig) -> Client {
    let stream = connect(broker, config).await.expect("a handshake");
    Client::connect_over(Box::new(stream), "/ws", &[]).await
}

/// One request on a connection of its own, and all of what comes back.
pub(crate) async fn ask(broker: &Broker, config: ClientConfig, request: &str) -> String {
    let mut stream = connect(broker, config).await.expect("a handshake");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the broker reads");
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer))
        .await
        .expect("an end that was announced");
    answer
}

/// Links `to` in the place of what is at `link`, in one step.
pub(crate) fn swap_link(link: &Path, to: &Path) {
    let fresh = format!("{}.fresh", link.display());
    std::os::unix::fs::symlink(to, &fresh).expect("a writable folder");
    std::fs::rename(fresh, link).expect("both are in one folder");
}
