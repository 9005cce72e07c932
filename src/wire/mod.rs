//! A socket with or without TLS: what stands between the bytes of a client and those on the wire.
//!
//! Everything about rustls is in this folder. `tls` is one session, without buffers or a socket of
//! its own: an idle one keeps its keys and little else. [`identity`] is what the server shows to
//! clients, and is read again while it runs; `handshake` makes a session of a new socket.
//!
//! HTTP reads and writes a `Wire`. A connection that has become a `WebSocket` is taken apart again:
//! its core reads and writes the socket itself, and asks the session only if there is one.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

pub(crate) mod handshake;
pub mod identity;
pub mod proxy;
pub(crate) mod tls;

use tls::Tls;

/// An accepted socket on its way to the core that it was given to.
#[derive(Debug)]
pub struct Arrival {
    pub(crate) socket: std::net::TcpStream,
    /// Where the client is.
    pub(crate) address: SocketAddr,
    /// Its session, once hands are shaken.
    pub(crate) tls: Option<Box<Tls>>,
}

/// A socket, and the session over it if it has one.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: TcpStream,
    pub(crate) tls: Option<Box<Tls>>,
}

impl Wire {
    /// The socket, served by the runtime of this thread.
    pub(crate) fn new(arrival: Arrival) -> io::Result<Self> {
        Ok(Self {
            socket: TcpStream::from_std(arrival.socket)?,
            tls: arrival.tls,
        })
    }

    /// What is said to a client before its socket is closed, if it came with TLS.
    pub(crate) fn send_last(&self) {
        if let Some(tls) = &self.tls {
            tls.send_last(&self.socket);
        }
    }
}

/// Tells the runtime that `socket` has been read empty, after a read that got less than there was
/// room for: the next look at it leaves a waker, and no call to read finds nothing. The end of the
/// stream stays known, and bytes that come from now on wake the task.
pub(crate) fn is_drained(socket: &TcpStream) {
    let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
    drop(socket.try_io(Interest::READABLE, nothing));
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, tls } = &mut *self;
        let Some(tls) = tls else {
            return Pin::new(socket).poll_read(cx, into);
        };
        loop {
            if !tls.has_something() {
                ready!(socket.poll_read_ready(cx))?;
            }
            match tls.read(socket, into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    into.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, tls } = &mut *self;
        let Some(tls) = tls else {
            return Pin::new(socket).poll_write_vectored(cx, slices);
        };
        ready!(tls.poll_sent(socket, cx))?;
        let bytes = tls.encrypt(slices.iter().map(|slice| &**slice))?;
        // What the socket does not take now, the next write or flush waits for.
        match tls.poll_sent(socket, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            None => Poll::Ready(Ok(())),
            Some(tls) => tls.poll_sent(&self.socket, cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, tls } = &mut *self;
        if let Some(tls) = tls {
            tls.say_end();
            ready!(tls.poll_sent(socket, cx))?;
        }
        Pin::new(socket).poll_shutdown(cx)
    }
}
