//! The one crate with `unsafe` in it, so that the broker itself can forbid it: sends on many sockets
//! in one system call.
//!
//! A [`Batch`] gathers sends, [`Batch::submit`] hands all of them to the kernel by one
//! `io_uring_enter` and returns when each has its result. It blocks no longer than as many calls of
//! `sendmsg(2)` with `MSG_DONTWAIT` would: with that flag `io_uring` completes a send inside the
//! call, also when the socket takes nothing (`WouldBlock`), and arms no poll.
//!
//! # Why it is sound
//!
//! The kernel reads three kinds of memory: the bytes, and the `iovec`s and `msghdr`s that point at
//! them. The bytes are borrowed for `'buf` by the `Batch`, and a `Batch` is used up by `submit`,
//! which does not return before the kernel is done with all of them: it counts completions until
//! there are as many as submissions. The `iovec`s and `msghdr`s live in two `Vec`s of [`SendMany`]
//! which are not touched between the first submission and the last completion. Should the kernel
//! refuse to go on, `submit` gives up the ring before it returns, if nothing is under way, and ends
//! the process if something is: a third way would leave pointers with the kernel. Sends that were
//! gathered and never submitted are plain data. Descriptors are borrowed for `'buf` as well.

#![cfg(target_os = "linux")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, squeue, types};

/// Sends in one batch: entries of the submission ring.
pub const SENDS_MAX: usize = ENTRIES as usize;

const ENTRIES: u32 = 256;

/// A ring, and the memory for one batch. Belongs to the thread that made it.
pub struct SendMany {
    ring: Option<IoUring>,
    sends: Vec<Gathered>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::msghdr>,
    /// Neither the ring (`SINGLE_ISSUER`) nor the raw pointers may leave the thread.
    _thread: PhantomData<*const ()>,
}

impl std::fmt::Debug for SendMany {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SendMany")
            .field("works", &self.ring.is_some())
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
struct Gathered {
    fd: i32,
    first_iovec: usize,
    iovecs: usize,
}

impl SendMany {
    /// Makes a ring and tries it on a socket pair.
    ///
    /// # Errors
    ///
    /// Whatever the kernel says: `ENOSYS` before 5.6, `EPERM` where a container's profile or
    /// `kernel.io_uring_disabled` forbids it, `ENOMEM` under a small limit on locked memory.
    pub fn new() -> io::Result<Self> {
        let entries = ENTRIES;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .build(entries)
            // Kernels before 6.0 know neither flag.
            .or_else(|_| IoUring::new(entries))?;
        let mut made = Self {
            ring: Some(ring),
            sends: Vec::new(),
            iovecs: Vec::new(),
            headers: Vec::new(),
            _thread: PhantomData,
        };
        made.probe()?;
        Ok(made)
    }

    /// Sends one byte for real: a profile may allow the ring and forbid the send.
    fn probe(&mut self) -> io::Result<()> {
        use std::os::fd::AsFd;
        let (near, _far) = std::os::unix::net::UnixStream::pair()?;
        let mut results = Vec::new();
        let mut batch = self.batch();
        batch.push(near.as_fd(), [b"x".as_slice()]);
        batch.submit(&mut results)?;
        match results.pop() {
            Some(Ok(1)) => Ok(()),
            Some(Err(error)) => Err(error),
            _ => Err(io::Error::other("a send of one byte sent none")),
        }
    }

    /// Begins a batch.
    pub fn batch<'buf>(&mut self) -> Batch<'_, 'buf> {
        self.sends.clear();
        self.iovecs.clear();
        Batch {
            many: self,
            _borrowed: PhantomData,
        }
    }

    /// Hands over the submission entries from `start` on, as many as fit. Returns how many.
    fn queue(&mut self, start: usize) -> usize {
        let Self {
            ring: Some(ring),
            headers,
            sends,
            iovecs,
            ..
        } = self
        else {
            return 0;
        };
        let mut queue = ring.submission();
        let mut queued = 0;
        for (index, send) in sends.iter().enumerate().skip(start) {
            let entry = entry_of(*send, iovecs, headers, index);
            // SAFETY: the entry points at an iovec's bytes or at a msghdr, both of which stay where
            // they are until `submit` has seen the completion; see the crate's header.
            if unsafe { queue.push(&entry) }.is_err() {
                break;
            }
            queued += 1;
        }
        queued
    }
}

fn entry_of(
    send: Gathered,
    iovecs: &[libc::iovec],
    headers: &[libc::msghdr],
    index: usize,
) -> squeue::Entry {
    let fd = types::Fd(send.fd);
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    let entry = if send.iovecs == 1 {
        let iovec = iovecs[send.first_iovec];
        let bytes = u32::try_from(iovec.iov_len).unwrap_or(u32::MAX);
        opcode::Send::new(fd, iovec.iov_base.cast(), bytes)
            .flags(flags)
            .build()
    } else {
        opcode::SendMsg::new(fd, &raw const headers[index])
            .flags(flags.cast_unsigned())
            .build()
    };
    entry.user_data(index as u64)
}

/// Sends that are not submitted yet. See the crate's header for what it borrows.
#[derive(Debug)]
pub struct Batch<'many, 'buf> {
    many: &'many mut SendMany,
    _borrowed: PhantomData<&'buf [u8]>,
}

impl<'buf> Batch<'_, 'buf> {
    /// Whether another send fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.many.sends.len() < SENDS_MAX
    }

    /// Adds one send of `slices`, one behind the other, on `socket`.
    ///
    /// # Panics
    ///
    /// If there is no room or no slice.
    pub fn push(&mut self, socket: BorrowedFd<'buf>, slices: impl IntoIterator<Item = &'buf [u8]>) {
        assert!(self.has_room(), "a batch holds {SENDS_MAX} sends");
        let first_iovec = self.many.iovecs.len();
        self.many
            .iovecs
            .extend(slices.into_iter().map(|slice| libc::iovec {
                iov_base: slice.as_ptr().cast_mut().cast(),
                iov_len: slice.len(),
            }));
        let iovecs = self.many.iovecs.len() - first_iovec;
        assert!(iovecs > 0, "a send has something to send");
        self.many.sends.push(Gathered {
            fd: socket.as_raw_fd(),
            first_iovec,
            iovecs,
        });
    }

    /// Sends all of it. `results` has the outcome of each send, in their order: the bytes that the
    /// socket took, or its error; `WouldBlock` if it takes nothing now.
    ///
    /// # Errors
    ///
    /// The ring is of no use any more; what was sent of the batch is not known, so that its
    /// sockets are of no use either. Has not been seen on a kernel that passed [`SendMany::new`].
    pub fn submit(self, results: &mut Vec<io::Result<usize>>) -> io::Result<()> {
        let many = self.many;
        results.clear();
        results.extend((0..many.sends.len()).map(|_| Ok(0)));
        many.headers.clear();
        for send in &many.sends {
            // SAFETY: a msghdr of zeros is a valid one: no name, no control data, no slices.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            // From here on `iovecs` does not change before all is completed, so neither do its
            // addresses.
            header.msg_iov = many.iovecs[send.first_iovec..].as_ptr().cast_mut();
            header.msg_iovlen = send.iovecs;
            many.headers.push(header);
        }
        let mut queued = 0;
        let mut completed = 0;
        while completed < many.sends.len() {
            queued += many.queue(queued);
            let Some(ring) = &mut many.ring else {
                return Err(io::Error::other("the ring was given up"));
            };
            let entered = ring.submit_and_wait(queued - completed);
            let unsubmitted = ring.submission().len();
            for entry in ring.completion() {
                let index = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
                if let Some(result) = results.get_mut(index) {
                    *result = match entry.result() {
                        error @ ..0 => Err(io::Error::from_raw_os_error(-error)),
                        sent => Ok(usize::try_from(sent).unwrap_or_default()),
                    };
                }
                completed += 1;
            }
            let Err(error) = entered else { continue };
            if matches!(
                error.raw_os_error(),
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
            ) {
                continue;
            }
            if queued - unsubmitted > completed {
                // The kernel has pointers into memory that this function is about to give back.
                std::process::abort();
            }
            many.ring = None;
            return Err(error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    /// None where this kernel or container has no `io_uring`: then there is nothing to test.
    fn many() -> Option<SendMany> {
        SendMany::new().ok()
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let near = TcpStream::connect(address).expect("it listens");
        let (far, _) = listener.accept().expect("somebody came");
        (near, far)
    }

    #[test]
    fn each_socket_gets_its_slices_in_their_order() {
        let Some(mut many) = many() else { return };
        let pairs: Vec<_> = (0..SENDS_MAX).map(|_| pair()).collect();
        let texts: Vec<_> = (0..SENDS_MAX).map(|n| format!("socket {n};")).collect();
        let mut results = Vec::new();
        for round in 0..3 {
            let mut batch = many.batch();
            for ((near, _), text) in pairs.iter().zip(&texts) {
                let slices: &[&[u8]] = &[text.as_bytes(), b" and ", text.as_bytes()];
                batch.push(near.as_fd(), slices[..=round].iter().copied());
            }
            batch.submit(&mut results).expect("the ring works");
            for (((_, far), text), result) in pairs.iter().zip(&texts).zip(&results) {
                let wanted = [text.as_str(), " and ", text.as_str()][..=round].concat();
                assert_eq!(result.as_ref().ok(), Some(&wanted.len()));
                let mut got = vec![0; wanted.len()];
                (&*far).read_exact(&mut got).expect("it was sent");
                assert_eq!(got, wanted.as_bytes());
            }
        }
    }

    #[test]
    fn a_full_socket_says_so_and_holds_up_nobody() {
        let Some(mut many) = many() else { return };
        let (full, _unread) = pair();
        let (free, mut far) = pair();
        let much = vec![7; 1 << 20];
        let mut results = Vec::new();
        let mut taken = 0;
        loop {
            let mut batch = many.batch();
            batch.push(full.as_fd(), [much.as_slice()]);
            batch.push(free.as_fd(), [b"x".as_slice()]);
            batch.submit(&mut results).expect("the ring works");
            assert_eq!(results[1].as_ref().ok(), Some(&1));
            far.read_exact(&mut [0]).expect("one byte");
            match &results[0] {
                Ok(sent) => taken += sent,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert!(taken > 0);
    }

    #[test]
    fn a_dead_socket_is_an_error_of_its_own() {
        let Some(mut many) = many() else { return };
        let (near, far) = pair();
        near.shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        let (live, _far) = pair();
        let mut results = Vec::new();
        let mut batch = many.batch();
        batch.push(near.as_fd(), [b"x".as_slice()]);
        batch.push(live.as_fd(), [b"y".as_slice()]);
        batch.submit(&mut results).expect("the ring works");
        let error = results[0].as_ref().expect_err("it is shut down");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(results[1].as_ref().ok(), Some(&1));
        drop(far);
    }

    #[test]
    fn a_batch_that_is_dropped_sends_nothing() {
        let Some(mut many) = many() else { return };
        let (near, far) = pair();
        {
            let mut batch = many.batch();
            batch.push(near.as_fd(), [b"x".as_slice()]);
        }
        let mut results = Vec::new();
        many.batch().submit(&mut results).expect("nothing to do");
        assert!(results.is_empty());
        drop(near);
        let mut got = Vec::new();
        (&far).read_to_end(&mut got).expect("the end");
        assert!(got.is_empty());
    }
}
