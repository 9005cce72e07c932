//! One TLS session over a socket that somebody else owns.
//!
//! Records are read into, and decrypted in, one buffer of the thread; what is kept for a session is
//! a record that is not complete, plaintext that nobody has taken yet, and records that the socket
//! has not taken. An idle session has none of the three.
//!
//! Encrypted is only what leaves at once: what a record holds cannot be dropped any more, and
//! neither can it be shared with other connections.
//!
//! Not `Sync`; sent from the thread that shakes hands to the core that serves the connection.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::{ServerConfig, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use tokio::net::TcpStream;

use super::is_drained;
use crate::budget::Booked;

/// Plaintext in one record.
const RECORD_BYTES: usize = 16 * 1024;

/// What a record is longer than its plaintext, at most: header, nonce, padding, tag.
const OVERHEAD_BYTES: usize = 256 + 5;

/// Plaintext that is encrypted in one go.
const SEAL_BYTES_MAX: usize = 64 * 1024;

/// The buffer of a thread: the longest unfinished message, and a read.
const BUFFER_BYTES: usize = 64 * 1024 + SEAL_BYTES_MAX;

/// What a session takes beside its buffers: keys and state.
const SESSION_BYTES: usize = 4 * 1024;

/// The same while hands are shaken: the transcript, key shares, certificates on their way.
pub(crate) const HANDSHAKE_BYTES: usize = 16 * 1024;

thread_local! {
    /// Ciphertext that was just read, or plaintext that is put together for a record. Never both:
    /// neither outlives the call that uses it.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tls(RefCell<Session>);

struct Session {
    tls: UnbufferedServerConnection,
    /// A record that is not complete.
    incoming: Vec<u8>,
    /// Plaintext that nobody has taken yet.
    opened: Vec<u8>,
    outgoing: Sealed,
    /// Nothing comes any more, with or without a word of the client.
    has_ended: bool,
    /// The client has been told, or need not be, that nothing comes any more.
    has_said_end: bool,
    error: Option<rustls::Error>,
    booked: Booked,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("outgoing", &self.outgoing)
            .field("has_ended", &self.has_ended)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Records on their way to the socket.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    records: Vec<u8>,
    /// Bytes of them that the kernel has.
    written: usize,
    /// Bytes of the plaintext that they stand for.
    plain: usize,
}

impl Sealed {
    /// What the kernel has still to take.
    pub(crate) fn rest(&self) -> &[u8] {
        self.records.get(self.written..).unwrap_or_default()
    }
}

impl Tls {
    /// The session of a socket on which nothing was said yet.
    pub(super) fn new(config: Arc<ServerConfig>, booked: Booked) -> Result<Self, rustls::Error> {
        let tls = UnbufferedServerConnection::new(config)?;
        Ok(Self(RefCell::new(Session {
            tls,
            incoming: Vec::new(),
            opened: Vec::new(),
            outgoing: Sealed::default(),
            has_ended: false,
            has_said_end: false,
            error: None,
            booked,
        })))
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.0.borrow().tls.is_handshaking()
    }

    /// Why the session failed.
    pub(super) fn error(&self) -> Option<rustls::Error> {
        self.0.borrow().error.clone()
    }

    /// The certificate that the client has shown, in DER.
    pub(crate) fn client_certificate(&self) -> Option<Vec<u8>> {
        let session = self.0.borrow();
        let shown = session.tls.peer_certificates()?.first()?;
        Some(shown.to_vec())
    }

    /// Whether a read has something without asking the socket: plaintext, the end, an error.
    pub(crate) fn has_something(&self) -> bool {
        let session = self.0.borrow();
        !session.opened.is_empty() || session.has_ended || session.error.is_some()
    }

    /// Reads plaintext; 0 is the end of it. `WouldBlock` if the socket has no whole record.
    pub(crate) fn read(&self, socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        let session = &mut *self.0.borrow_mut();
        // Bounded: rustls ends a session that sends many records in a row without plaintext.
        loop {
            if !session.opened.is_empty() {
                return Ok(session.take_opened(into));
            }
            if let Some(error) = &session.error {
                return Err(io::Error::new(io::ErrorKind::InvalidData, error.clone()));
            }
            if session.has_ended {
                return Ok(0);
            }
            let read = session.fill(socket, into)?;
            if read > 0 {
                return Ok(read);
            }
        }
    }

    /// Reads once from the socket, for a session that has no use for plaintext yet.
    pub(super) fn read_handshake(&self, socket: &TcpStream) -> io::Result<()> {
        let session = &mut *self.0.borrow_mut();
        session.fill(socket, &mut [])?;
        if session.has_ended && session.error.is_none() && session.tls.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Encrypts `slices`, or the first of it, behind what has not left yet. Returns how many bytes
    /// of it that were.
    pub(super) fn encrypt<'a>(
        &self,
        slices: impl IntoIterator<Item = &'a [u8]>,
    ) -> io::Result<usize> {
        self.0.borrow_mut().encrypt(slices)
    }

    /// Encrypts `slices`, or the first of it, unless the last of it has still to leave, and gives
    /// away all that is to be sent. The outcome is to be told to [`Tls::settle`]. `None` if there is
    /// nothing, or if the session cannot go on.
    pub(crate) fn seal<'a>(
        &self,
        slices: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Box<Sealed>> {
        let session = &mut *self.0.borrow_mut();
        if session.outgoing.plain == 0 {
            session.encrypt(slices).ok()?;
        }
        let sealed = std::mem::take(&mut session.outgoing);
        (!sealed.rest().is_empty()).then(|| Box::new(sealed))
    }

    /// The socket has taken `taken` bytes of `sealed`. Returns how many bytes of plaintext are
    /// through by that, and keeps what is left.
    pub(crate) fn settle(&self, mut sealed: Sealed, taken: usize) -> usize {
        let session = &mut *self.0.borrow_mut();
        sealed.written += taken;
        if sealed.rest().is_empty() {
            return sealed.plain;
        }
        debug_assert!(session.outgoing.records.is_empty(), "sealed once at a time");
        session.outgoing = sealed;
        session.book();
        0
    }

    /// Whether records wait for the socket.
    pub(crate) fn has_sealed(&self) -> bool {
        !self.0.borrow().outgoing.rest().is_empty()
    }

    /// Adds the word that nothing comes any more. False if it was said before.
    pub(crate) fn say_end(&self) -> bool {
        self.0.borrow_mut().say_end()
    }

    /// Writes what waits, as far as the socket takes it now.
    pub(super) fn try_send(&self, socket: &TcpStream) -> io::Result<()> {
        let session = &mut *self.0.borrow_mut();
        while !session.outgoing.rest().is_empty() {
            session.outgoing.written += socket.try_write(session.outgoing.rest())?;
        }
        session.outgoing = Sealed::default();
        session.book();
        Ok(())
    }

    /// Ready when nothing waits for the socket.
    pub(super) fn poll_sent(
        &self,
        socket: &TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.try_send(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(socket.poll_write_ready(cx))?;
                }
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// The last that a client hears: an alert that waits, or that nothing comes any more.
    pub(crate) fn send_last(&self, socket: &TcpStream) {
        self.say_end();
        // A socket that takes nothing now is closed without it.
        self.try_send(socket).ok();
    }
}

impl Session {
    fn take_opened(&mut self, into: &mut [u8]) -> usize {
        let taken = self.opened.len().min(into.len());
        into[..taken].copy_from_slice(&self.opened[..taken]);
        self.opened.drain(..taken);
        if self.opened.is_empty() {
            self.opened = Vec::new();
            self.book();
        }
        taken
    }

    /// Reads once from the socket. Returns the bytes of plaintext that are now in `into`; what does
    /// not fit waits.
    fn fill(&mut self, socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        BUFFER.with_borrow_mut(|buffer| {
            let carried = self.incoming.len();
            buffer[..carried].copy_from_slice(&self.incoming);
            let wanted = into.len().max(RECORD_BYTES + OVERHEAD_BYTES);
            let end = buffer.len().min(carried + wanted);
            let room = &mut buffer[carried..end];
            let read = socket.try_read(room)?;
            if read == 0 {
                self.has_ended = true;
                return Ok(0);
            }
            if read < room.len() {
                is_drained(socket);
            }
            let bytes = &mut buffer[..carried + read];
            let (used, taken) = self.advance(bytes, into, &[]);
            self.incoming.clear();
            if used < bytes.len() && !self.has_ended {
                self.incoming.extend_from_slice(&bytes[used..]);
            } else {
                self.incoming = Vec::new();
            }
            if self.incoming.len() > BUFFER_BYTES - RECORD_BYTES {
                self.error = Some(rustls::Error::PeerSentOversizedRecord);
            }
            self.book();
            Ok(taken)
        })
    }

    fn encrypt<'a>(&mut self, slices: impl IntoIterator<Item = &'a [u8]>) -> io::Result<usize> {
        // An unfinished record is shown again: rustls knows where in it it stands.
        let mut incoming = std::mem::take(&mut self.incoming);
        let sealed = BUFFER.with_borrow_mut(|buffer| {
            let mut slices = slices.into_iter().filter(|slice| !slice.is_empty());
            let first = slices.next().unwrap_or_default();
            let mut plain = &first[..first.len().min(SEAL_BYTES_MAX)];
            let mut next = slices.next();
            // Many small ones make one record. A large one is not copied, and goes alone.
            if next.is_some() && plain.len() < RECORD_BYTES {
                let mut end = plain.len();
                buffer[..end].copy_from_slice(plain);
                while let Some(slice) = next
                    && end < SEAL_BYTES_MAX
                {
                    let bytes = slice.len().min(SEAL_BYTES_MAX - end);
                    buffer[end..end + bytes].copy_from_slice(&slice[..bytes]);
                    end += bytes;
                    next = slices.next();
                }
                plain = &buffer[..end];
            }
            self.advance(&mut incoming, &mut [], plain);
            plain.len()
        });
        self.incoming = incoming;
        match &self.error {
            None => {
                self.outgoing.plain += sealed;
                Ok(sealed)
            }
            Some(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error.clone())),
        }
    }

    fn say_end(&mut self) -> bool {
        if std::mem::replace(&mut self.has_said_end, true) {
            return false;
        }
        let mut incoming = std::mem::take(&mut self.incoming);
        self.advance(&mut incoming, &mut [], &[]);
        if self.error.is_some() {
            return false;
        }
        let state = self.tls.process_tls_records(&mut incoming).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let end = |room: &mut [u8]| {
                traffic
                    .queue_close_notify(room)
                    .map_err(|error| too_small(&error))
            };
            append(&mut self.outgoing.records, 0, end).ok();
        }
        self.incoming = incoming;
        true
    }

    /// Runs the session over `bytes`, up to where it needs more of them, and encrypts `plain`.
    /// Plaintext that comes out goes into `into`, the rest of it waits. Returns how many of `bytes`
    /// are done with, and how many are in `into`.
    fn advance(&mut self, bytes: &mut [u8], into: &mut [u8], plain: &[u8]) -> (usize, usize) {
        let (mut used, mut taken) = (0, 0);
        // Of a session that has failed only the alert for the client is of interest; to show it more
        // records would be an error of ours.
        while self.error.is_none() || self.tls.wants_write() {
            let UnbufferedStatus { discard, state, .. } =
                self.tls.process_tls_records(&mut bytes[used..]);
            used += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        used += record.discard;
                        let fits = record.payload.len().min(into.len() - taken);
                        let (now, later) = record.payload.split_at(fits);
                        into[taken..taken + fits].copy_from_slice(now);
                        taken += fits;
                        self.opened.extend_from_slice(later);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let encode = |room: &mut [u8]| match data.encode(room) {
                        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                        encoded => encoded.map_err(|_| None),
                    };
                    append(&mut self.outgoing.records, 0, encode).ok();
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if !plain.is_empty() {
                        let records = plain.len().div_ceil(RECORD_BYTES);
                        let guess = plain.len() + records * 64;
                        let encrypt = |room: &mut [u8]| {
                            traffic
                                .encrypt(plain, room)
                                .map_err(|error| too_small(&error))
                        };
                        if append(&mut self.outgoing.records, guess, encrypt).is_err() {
                            self.error = Some(rustls::Error::EncryptError);
                        }
                    }
                    return (used, taken);
                }
                Err(error) => self.error = Some(error),
                Ok(ConnectionState::BlockedHandshake) if plain.is_empty() => return (used, taken),
                Ok(ConnectionState::Closed) if plain.is_empty() => {
                    self.has_ended = true;
                    return (used, taken);
                }
                _ => {
                    // Early data is never accepted, and what cannot be encrypted must not leave.
                    self.error.get_or_insert(rustls::Error::EncryptError);
                    return (used, taken);
                }
            }
        }
        (used, taken)
    }

    /// Books what the session keeps.
    fn book(&mut self) {
        let buffers = [&self.incoming, &self.opened, &self.outgoing.records];
        let kept: usize = buffers.iter().map(|buffer| buffer.capacity()).sum();
        let own = if self.tls.is_handshaking() {
            HANDSHAKE_BYTES
        } else {
            SESSION_BYTES
        };
        self.booked.set(own + kept);
    }
}

fn too_small(error: &EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

/// Appends what `write` writes: first it gets room for `guess` bytes, then for as many as it asks
/// for. An error if it still cannot.
fn append(
    records: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), ()> {
    let before = records.len();
    records.resize(before + guess, 0);
    let written = match write(&mut records[before..]) {
        Err(Some(required)) => {
            records.resize(before + required, 0);
            write(&mut records[before..])
        }
        written => written,
    };
    records.truncate(before + written.as_ref().unwrap_or(&0));
    written.map(|_| ()).map_err(|_| ())
}
