//! A socket that gives up on a client which is silent, or does not take its HTTP response.
//!
//! A deadline judges nobody before the socket has been looked at: a process that stood still
//! (stopped, or its machine was) finds its timers overdue before it has heard of the bytes that
//! came meanwhile. So an overdue timer only makes for another look, and the time by which it was
//! late is given back.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::progress::{Progress, Stage};
use super::refusal;
use crate::config::Config;
use crate::wire::Wire;

/// A timer that fires later than this was held up by more than a busy machine.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// Until the second look at a socket whose deadline has passed.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One wait, while it lasts.
#[derive(Debug, Default)]
pub(super) struct Wait(Option<Timer>);

#[derive(Debug)]
struct Timer {
    due: Instant,
    sleep: Pin<Box<Sleep>>,
    has_looked_again: bool,
}

impl Wait {
    pub(super) fn stop(&mut self) {
        self.0 = None;
    }

    /// Ready when the wait has lasted for `timeout`, reckoned from the first call. To be called
    /// after each look that found nothing. A `timeout` of zero still makes for a second look.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>, timeout: Duration) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| {
            let due = Instant::now() + timeout;
            Timer {
                due,
                sleep: Box::pin(sleep_until(due)),
                has_looked_again: false,
            }
        });
        loop {
            ready!(timer.sleep.as_mut().poll(cx));
            let late = timer.due.elapsed();
            let more = if late > STOOD_STILL {
                late
            } else if timer.has_looked_again {
                return Poll::Ready(());
            } else {
                LOOK_AGAIN
            };
            timer.has_looked_again = true;
            timer.due = Instant::now() + more;
            timer.sleep.as_mut().reset(timer.due);
        }
    }
}

/// What `future` comes to, or `None` if that takes longer than `timeout`.
pub(in crate::server) async fn within<F: Future>(
    timeout: Duration,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut wait = Wait::default();
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => wait.poll_over(cx, timeout).map(|()| None),
    })
    .await
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// For the head of a request.
    pub(super) read: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
    /// For any byte of an answer.
    pub(super) write: Duration,
}

impl Timeouts {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            read: config.read_timeout,
            idle: config.idle_timeout.unwrap_or(config.read_timeout),
            write: config.write_timeout,
        }
    }
}

/// A socket whose reads and writes fail with `TimedOut` once one has waited for too long. The time
/// for a body is the reader's of that body to bound.
#[derive(Debug)]
pub(super) struct Patient {
    socket: Wire,
    progress: Arc<Progress>,
    timeouts: Timeouts,
    reading: Wait,
    /// What `reading` waits for.
    reading_stage: Stage,
    writing: Wait,
    refused: Option<StatusCode>,
    has_ended: bool,
}

impl Patient {
    pub(super) fn new(socket: Wire, progress: Arc<Progress>, timeouts: Timeouts) -> Self {
        Self {
            socket,
            progress,
            timeouts,
            reading: Wait::default(),
            reading_stage: Stage::Fresh,
            writing: Wait::default(),
            refused: None,
            has_ended: false,
        }
    }

    pub(super) fn into_inner(self) -> Wire {
        self.socket
    }

    /// The status of the empty answer that hyper would have given to what is no request. It is held
    /// back, so that one with words can be given in its place.
    pub(super) fn refused(&self) -> Option<StatusCode> {
        self.refused
    }

    /// Whether the client has closed its side, or the connection has failed.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stage = self.progress.stage();
        // The time for the first head runs from the start: its first byte changes nothing.
        let goes_on = stage == self.reading_stage
            || (self.reading_stage, stage) == (Stage::Fresh, Stage::Head);
        if !goes_on {
            self.reading.stop();
        }
        self.reading_stage = stage;
        let timeout = match stage {
            Stage::Fresh | Stage::Head => self.timeouts.read,
            Stage::Idle => self.timeouts.idle,
            Stage::Busy | Stage::Answered | Stage::Closing => return Poll::Pending,
        };
        ready!(self.reading.poll_over(cx, timeout));
        self.has_ended = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn judge_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing.stop();
            return written;
        }
        ready!(self.writing.poll_over(cx, self.timeouts.write));
        self.has_ended = true;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.progress.wants_to_read();
        let before = into.filled().len();
        match Pin::new(&mut this.socket).poll_read(cx, into) {
            Poll::Ready(read) => {
                let has_bytes = into.filled().len() > before;
                if has_bytes {
                    if this.progress.stage() == Stage::Idle {
                        // Another request: the wait for it is over, however soon its answer leaves
                        // and the next wait begins.
                        this.reading.stop();
                    }
                    this.progress.has_read();
                }
                this.has_ended |= read.is_err() || !has_bytes;
                Poll::Ready(read)
            }
            Poll::Pending => this.poll_silence(cx),
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(status) = slices.first().and_then(|head| refusal::automatic(head)) {
            self.refused = Some(status);
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        self.progress.writes(true);
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.judge_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.progress.writes(flushed.is_pending());
        self.judge_write(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refused.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
