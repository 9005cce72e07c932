//! How a connection reads its socket, and what it sends there if it came with TLS.
//!
//! Whoever has no session reads and writes the socket itself; whoever has one never does.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Connection;
use super::local::Local;
use crate::wire::is_drained;
use crate::wire::tls::Sealed;

impl Connection {
    /// Whether [`try_read`](Self::try_read) has something.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            Some(tls) if tls.has_something() => Poll::Ready(Ok(())),
            _ => self.socket.poll_read_ready(cx),
        }
    }

    /// Reads what the client has said, without waiting; 0 is the end of it.
    pub(super) fn try_read(self: &Rc<Self>, local: &Local, room: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else {
            let read = self.socket.try_read(room)?;
            if 0 < read && read < room.len() {
                is_drained(&self.socket);
            }
            return Ok(read);
        };
        let read = tls.read(&self.socket, room);
        // Whatever the session has to say to what it has read.
        if tls.has_sealed() && !self.is_parked.get() {
            local.make_ready(self);
        }
        read
    }

    /// Whether records wait for the socket.
    pub(super) fn has_sealed(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_sealed())
    }

    /// The socket has taken `taken` bytes. Returns how many bytes of frames are through by that,
    /// and whether it took less than it was offered: the next send would block.
    pub(super) fn settle_sealed(&self, sealed: Sealed, taken: usize) -> (usize, bool) {
        let Some(tls) = &self.tls else {
            return (0, false);
        };
        let would_block = taken < sealed.rest().len();
        if taken > 0 {
            self.stalled.set(None);
        }
        (tls.settle(sealed, taken), would_block)
    }
}
