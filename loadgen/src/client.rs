//! One connection: from `connect` over the upgrade to the close frame, never blocking.
//!
//! Bytes are read through a buffer that all connections of a thread share, so that an idle one owns almost nothing. The
//! [engine](crate::engine) calls it when its socket is ready. Pings are answered here; everything else goes to the caller.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::sync::Arc;

use memchr::memmem;
use mio::event::Event;
use mio::net::TcpStream;
use rustls::ClientConnection;
use socket2::{Domain, Protocol, Socket, Type};

use crate::tls::{self, Tls};

use crate::frame::{CLOSE, Frame, FrameReader, PONG, TEXT, append_masked};

/// RFC 6455 §1.3's own example. A fixed key spares a hash for each connection and still proves that the server computes it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HEAD_BYTES_MAX: usize = 16 << 10;
/// After so many full buffers the other connections have their turn.
const READS_MAX: usize = 8;

/// Where the servers are: one, or the nodes of a cluster, over which connections are spread.
#[derive(Debug, Clone)]
pub(crate) struct Doors(pub(crate) Arc<[Door]>);

impl Doors {
    /// That of connection `number`. There is one at least.
    pub(crate) fn of(&self, number: usize) -> &Door {
        &self.0[number % self.0.len()]
    }
}

/// Where to, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) api_key: Option<String>,
    pub(crate) tls: Option<Tls>,
}

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Open,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("the server ended the stream without a close frame")]
    Silent,
    #[error("closed by the server with {code} {reason}")]
    Closed { code: u16, reason: String },
    #[error("upgrade refused: {0}")]
    Refused(String),
    #[error("protocol error of the server: {0}")]
    Protocol(#[from] crate::frame::FrameError),
}

/// What a read left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inbound {
    Drained,
    /// There may be more, and the socket will not say so again.
    More,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    session: Option<Box<ClientConnection>>,
    stage: Stage,
    frames: FrameReader,
    head: Vec<u8>,
    out: Vec<u8>,
    out_written: usize,
    /// The server has said all that it will say: from now on only reading to the end shows the end.
    hung_up: bool,
}

impl Client {
    /// Begins to connect. The upgrade request waits in the buffer until the socket is writable.
    pub(crate) fn connect(
        door: &Door,
        client_id: &str,
        source: Option<IpAddr>,
        receive_buffer_bytes: usize,
    ) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(door.address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if receive_buffer_bytes > 0 {
            socket.set_recv_buffer_size(receive_buffer_bytes)?;
        }
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&door.address.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => return Err(error),
            _ => {}
        }
        let session = match &door.tls {
            Some(tls) => Some(Box::new(tls.session()?)),
            None => None,
        };
        let mut client = Self {
            stream: TcpStream::from_std(StdStream::from(socket)),
            session,
            stage: Stage::Connecting,
            frames: FrameReader::default(),
            head: Vec::new(),
            out: Vec::new(),
            out_written: 0,
            hung_up: false,
        };
        client.queue_upgrade(door, client_id);
        Ok(client)
    }

    fn queue_upgrade(&mut self, door: &Door, client_id: &str) {
        let separator = if door.path.contains('?') { '&' } else { '?' };
        let key = door
            .api_key
            .as_ref()
            .map_or_else(String::new, |key| format!("X-API-Key: {key}\r\n"));
        let request = format!(
            "GET {}{separator}client_id={client_id} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{key}\r\n",
            door.path, door.authority
        );
        self.out.extend_from_slice(request.as_bytes());
    }

    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Bytes that the socket has not taken yet.
    pub(crate) fn unsent_bytes(&self) -> usize {
        let is_pending = |session: &ClientConnection| session.wants_write();
        let sealed = self.session.as_deref().is_some_and(is_pending);
        self.out.len() - self.out_written + usize::from(sealed)
    }

    fn write(&mut self) -> io::Result<usize> {
        let bytes = &self.out[self.out_written..];
        match &mut self.session {
            Some(session) => tls::write(session, &mut self.stream, bytes),
            None => self.stream.write(bytes),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.session {
            Some(session) => tls::read(session, &mut self.stream, buffer),
            None => self.stream.read(buffer),
        }
    }

    /// Where complete frames may be appended; they leave with the next [`flush`](Self::flush).
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub(crate) fn queue_text(&mut self, text: &str) {
        append_masked(&mut self.out, TEXT, text.as_bytes());
    }

    /// Says goodbye as well as the socket allows; the caller drops the connection right after.
    pub(crate) fn say_goodbye(&mut self) {
        append_masked(&mut self.out, CLOSE, &1000_u16.to_be_bytes());
        // Nobody waits for a goodbye that does not get through.
        drop(self.flush());
    }

    /// Writes what waits. A socket that takes no more will be reported writable again.
    pub(crate) fn flush(&mut self) -> Result<(), Ended> {
        if self.stage == Stage::Connecting {
            if let Some(error) = self.stream.take_error()? {
                return Err(error.into());
            }
            self.stage = Stage::Upgrading;
        }
        if let Some(session) = &mut self.session {
            match tls::send(session, &mut self.stream) {
                Err(error) if !is_not_yet(&error) => return Err(error.into()),
                _ => {}
            }
        }
        while self.out_written < self.out.len() {
            match self.write() {
                Ok(written) => self.out_written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_not_yet(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.out_written = 0;
        Ok(())
    }

    /// Takes note of what an event says about the socket. An end that comes together with data makes no event of its own.
    pub(crate) fn on_event(&mut self, event: &Event) {
        self.hung_up |= event.is_read_closed() || event.is_error();
    }

    /// Reads what there is and hands on every message.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut on_message: impl FnMut(&[u8]),
    ) -> Result<Inbound, Ended> {
        for _ in 0..READS_MAX {
            let read = match self.read(buffer) {
                Ok(0) => return Err(Ended::Silent),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_not_yet(&error) => return Ok(Inbound::Drained),
                Err(error) => return Err(error.into()),
            };
            self.take_bytes(&buffer[..read], &mut on_message)?;
            // A short read means that the socket is empty: one more call would only say so.
            if read < buffer.len() && !self.hung_up && self.session.is_none() {
                return Ok(Inbound::Drained);
            }
        }
        Ok(Inbound::More)
    }

    fn take_bytes(
        &mut self,
        bytes: &[u8],
        on_message: &mut impl FnMut(&[u8]),
    ) -> Result<(), Ended> {
        if self.stage == Stage::Open {
            return self.take_frames(bytes, on_message);
        }
        self.head.extend_from_slice(bytes);
        let Some(end) = memmem::find(&self.head, b"\r\n\r\n") else {
            if self.head.len() > HEAD_BYTES_MAX {
                return Err(Ended::Refused("an endless answer".into()));
            }
            return Ok(());
        };
        let head = std::mem::take(&mut self.head);
        let (answer, rest) = head.split_at(end + 4);
        if !answer.starts_with(b"HTTP/1.1 101") || memmem::find(answer, ACCEPT).is_none() {
            let shown = String::from_utf8_lossy(&head[..head.len().min(300)]);
            return Err(Ended::Refused(shown.replace("\r\n", " | ")));
        }
        self.stage = Stage::Open;
        self.take_frames(rest, on_message)
    }

    fn take_frames(
        &mut self,
        bytes: &[u8],
        on_message: &mut impl FnMut(&[u8]),
    ) -> Result<(), Ended> {
        let mut closed = None;
        let out = &mut self.out;
        self.frames.feed(bytes, |frame| match frame {
            Frame::Message(text) => on_message(text),
            Frame::Ping(payload) => {
                append_masked(out, PONG, payload);
            }
            Frame::Pong => {}
            Frame::Close { code, reason } => {
                closed = Some((code, String::from_utf8_lossy(reason).into_owned()));
            }
        })?;
        match closed {
            Some((code, reason)) => {
                append_masked(&mut self.out, CLOSE, &code.to_be_bytes());
                drop(self.flush());
                Err(Ended::Closed { code, reason })
            }
            None => Ok(()),
        }
    }
}

/// `EINPROGRESS`: what a socket that does not block says while it connects.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// Not connected yet is also a kind of not yet: a write may come before the connect has ended.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}
