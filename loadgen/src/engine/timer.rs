//! A timer finer than the milliseconds of `epoll_wait`.
//!
//! The kernel reports it like a socket, so that a message leaves when it is due and the thread sleeps until then.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

#[derive(Debug)]
pub(crate) struct Timer {
    fd: OwnedFd,
    armed_for_ns: u64,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self {
            fd: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            armed_for_ns: 0,
        })
    }

    pub(crate) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(
            &mut SourceFd(&self.fd.as_raw_fd()),
            token,
            Interest::READABLE,
        )
    }

    /// Fires once at `due_ns`. It is never read: each arming resets it, and each expiry is a new edge.
    pub(crate) fn arm(&mut self, due_ns: u64, now_ns: u64) {
        if due_ns == self.armed_for_ns {
            return;
        }
        self.armed_for_ns = due_ns;
        let wait = due_ns.saturating_sub(now_ns).max(1);
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let spec = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: i64::try_from(wait / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(wait % 1_000_000_000).expect("below a second"),
            },
        };
        // Without it the loop still wakes by its own timeout, only later.
        drop(timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec));
    }
}
