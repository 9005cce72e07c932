//! TLS of the generator's connections, for servers whose URL begins with `wss://`.
//!
//! Resumption is off: what a connection costs is to be what the first one of a client costs.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// Which server is taken for the one that is meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) insecure: bool,
}

/// Makes the session of each connection to one server.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Tls {
    pub(crate) fn new(host: &str, trust: &Trust) -> Result<Self, String> {
        let text = |error: &dyn fmt::Display| error.to_string();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = if trust.insecure {
            Arc::new(Anybody(Arc::clone(&provider)))
        } else {
            let path = trust.ca.as_ref();
            let path = path.ok_or("wss:// wants --ca FILE or --insecure")?;
            let pem = std::fs::read(path).map_err(|error| text(&error))?;
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(&pem) {
                let authority = authority.map_err(|error| text(&error))?;
                roots.add(authority).map_err(|error| text(&error))?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| text(&error))?
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| text(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| text(&error))?;
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    pub(crate) fn session(&self) -> io::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)
    }
}

/// Writes what the session has for the socket. Fine also if the socket takes no more of it.
pub(crate) fn send(session: &mut ClientConnection, socket: &mut impl Write) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(socket)?;
    }
    Ok(())
}

/// Encrypts some of `bytes` and writes it. `WouldBlock` while the socket has not taken what was before.
pub(crate) fn write(
    session: &mut ClientConnection,
    socket: &mut impl Write,
    bytes: &[u8],
) -> io::Result<usize> {
    if !session.is_handshaking() {
        send(session, socket)?;
    }
    let taken = session.writer().write(bytes)?;
    match send(session, socket) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ if taken == 0 => Err(ErrorKind::WouldBlock.into()),
        _ => Ok(taken),
    }
}

/// Reads what was encrypted; 0 is the end. `WouldBlock` if the socket has no more.
pub(crate) fn read<S: Read + Write>(
    session: &mut ClientConnection,
    socket: &mut S,
    buffer: &mut [u8],
) -> io::Result<usize> {
    loop {
        match session.reader().read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
            read => return read,
        }
        if session.read_tls(socket)? == 0 {
            return Ok(0);
        }
        session
            .process_new_packets()
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        match send(session, socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

/// Takes every server for the one that is meant, as `--insecure` says.
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// Sends back all that comes, until the end of it.
    fn echo(mut socket: UnixStream) {
        let names = vec!["localhost".to_owned()];
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).expect("randomness");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("it was just made");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions that there are")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("they belong together");
        let mut session = ServerConnection::new(Arc::new(config)).expect("a session");
        let mut stream = rustls::Stream::new(&mut session, &mut socket);
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            stream
                .write_all(&buffer[..read])
                .expect("a client that reads");
        }
        stream.conn.send_close_notify();
        stream.flush().expect("a client that reads");
    }

    #[test]
    fn all_that_is_written_comes_back_over_a_socket_that_never_waits() {
        let (mut near, far) = UnixStream::pair().expect("sockets");
        let server = thread::spawn(move || echo(far));
        near.set_nonblocking(true).expect("it is open");
        let trust = Trust {
            ca: None,
            insecure: true,
        };
        let tls = Tls::new("localhost", &trust).expect("a name");
        let mut session = tls.session().expect("a session");
        let text: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let (mut sent, mut got) = (0, Vec::new());
        let mut buffer = vec![0; 64 << 10];
        while got.len() < text.len() {
            // More than the socket holds: both directions must give way to each other.
            if sent < text.len() {
                match write(&mut session, &mut near, &text[sent..]) {
                    Ok(taken) => sent += taken,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            } else if let Err(error) = send(&mut session, &mut near) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
            match read(&mut session, &mut near, &mut buffer) {
                Ok(0) => panic!("an end after {} bytes", got.len()),
                Ok(read) => got.extend_from_slice(&buffer[..read]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(got == text);
        session.send_close_notify();
        send(&mut session, &mut near).expect("an empty socket");
        server.join().expect("it does not panic");
        assert_eq!(read(&mut session, &mut near, &mut buffer).ok(), Some(0));
    }
}
