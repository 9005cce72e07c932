//! The same with TLS: cut in the middle of a handshake, and in the middle of a record.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Neighbour;
use super::cuts::{messages_of, reset};
use crate::harness::descriptors::descriptors_of;
use crate::harness::json::publish_text;
use crate::harness::raw::{self, upgrade_request};
use crate::harness::tls::{Authority, dial};
use crate::harness::within;

/// Bytes from one cut to the next. A life has some 2,000 of them, most in its first message.
const STEP: usize = 37;

/// A connection that takes so many bytes, and then none.
struct Cut {
    stream: TcpStream,
    left: usize,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.left);
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..taken]);
        if let Poll::Ready(Ok(count)) = written {
            self.left -= count;
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A handshake, an upgrade and a publish, as far as it comes: what was said last, or where it was cut.
async fn live(cut: &mut Cut, config: ClientConfig) -> io::Result<String> {
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").expect("a legal name");
    let mut stream = connector.connect(name, cut).await?;
    let publish = raw::text(&publish_text("cut", "1"));
    let both = [upgrade_request("/ws").as_bytes(), &publish].concat();
    stream.write_all(&both).await?;
    stream.flush().await?;
    let mut answers = Vec::new();
    while !answers.ends_with(b"}") {
        if stream.read_buf(&mut answers).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&answers).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_with_tls_that_is_cut_anywhere_leaves_nothing() {
    let authority = Authority::new();
    let broker = authority.start(&[("HEARTBEAT_INFO", "false")]);
    let mut neighbour = Neighbour::of(&broker).await;
    broker.create_topic("cut").await;
    neighbour.live().await;
    let descriptors = descriptors_of(&broker);
    let mut whole = 0;
    for version in rustls::ALL_VERSIONS {
        let config = authority.client_with(&[version], None);
        let mut cuts = 0;
        for is_reset in [false, true] {
            for left in (0..).step_by(STEP) {
                let stream = dial(&broker, None).await;
                let mut cut = Cut { stream, left };
                let lived = within("an end", live(&mut cut, config.clone())).await;
                if is_reset {
                    reset(cut.stream);
                }
                if let Ok(told) = lived {
                    assert!(told.contains(r#""type":"ack""#), "{told}");
                    whole += 1;
                    break;
                }
                cuts += 1;
            }
            neighbour.alone(&broker, descriptors).await;
        }
        assert!(cuts > 10, "only {cuts} cuts of {version:?}");
    }
    assert_eq!(messages_of(&broker, "cut").await, whole);
}
