//! From a new socket to a session: the only place where a client costs asymmetric cryptography.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::Wire;
use super::tls::Tls;
use crate::budget::Booked;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("it speaks HTTP without TLS")]
    PlainHttp,
}

/// Shakes hands. An error has been told to the client as an alert, as far as its socket took it.
pub(crate) async fn shake(
    socket: &TcpStream,
    config: Arc<ServerConfig>,
    booked: Booked,
) -> Result<Box<Tls>, HandshakeError> {
    let mut first = [0];
    socket.peek(&mut first).await?;
    // A record begins with a number below 32.
    if first[0].is_ascii_uppercase() {
        return Err(HandshakeError::PlainHttp);
    }
    let tls = Box::new(Tls::new(config, booked)?);
    loop {
        socket.readable().await?;
        match tls.read_handshake(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            read => read?,
        }
        send(&tls, socket).await?;
        if let Some(error) = tls.error() {
            return Err(error.into());
        }
        if !tls.is_handshaking() {
            return Ok(tls);
        }
    }
}

async fn send(tls: &Tls, socket: &TcpStream) -> io::Result<()> {
    while let Err(error) = tls.try_send(socket) {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        socket.writable().await?;
    }
    Ok(())
}

impl Wire {
    /// The name in the certificate that the client has shown.
    pub(crate) fn client_name(&self) -> Option<String> {
        super::identity::common_name(&self.tls.as_ref()?.client_certificate()?)
    }
}
