//! The server: bind, start a thread for each core, accept and spread, drain.

use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

mod drain;
mod http;

use self::drain::Drain;
use self::http::Http;

use crate::broker::inbox::{Bell, Inbox};
use crate::broker::request::Request;
use crate::broker::shard::{Shard, ShardLimits};
use crate::broker::{Broker, RUN_EVENTS_LIMIT};
use crate::config::Config;
use crate::connection::flusher::{tend, work};
use crate::connection::home::{Home, Letter, Mailbox, Process};
use crate::metrics::Metrics;

/// Descriptors that are kept back for everything but clients: listener, epoll, log, files.
const DESCRIPTORS_KEPT: usize = 64;

/// Sockets over `MAX_CONNECTIONS` that may be open, so that REST and refusals still work.
const SOCKETS_SPARE: u64 = 1024;

/// How long accepting pauses when there is no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Runs the broker until a signal ends it. The exit code of the process.
pub fn run(config: Config) -> ExitCode {
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> io::Result<()> {
    let descriptors = raise_descriptor_limit();
    let connections_max = config
        .connections_max
        .unwrap_or_else(|| descriptors.saturating_sub(DESCRIPTORS_KEPT).max(1));
    let wanted = SocketAddr::new(config.host, config.port);
    let listener = listen(&config, wanted).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {wanted}: {error}"))
    })?;
    let address = listener.local_addr()?;

    let threads = config.shard_count();
    let bells: Vec<Arc<Bell>> = (0..threads).map(|_| Arc::default()).collect();
    let inboxes: Arc<[Arc<Inbox>]> = bells
        .iter()
        .map(|bell| Arc::new(Inbox::new(config.inbox_size, Arc::clone(bell))))
        .collect();
    let process = Arc::new(Process {
        broker: Broker::new(Arc::clone(&inboxes)),
        metrics: Metrics::new(threads),
        mailboxes: bells
            .iter()
            .map(|bell| Mailbox::new(threads, Arc::clone(bell)))
            .collect(),
        draining: AtomicBool::new(false),
        started: Instant::now(),
        connections_max,
        seats_taken: AtomicUsize::new(0),
        batch_messages_max: turn_topic_events_max(&config),
        topics_total: Arc::new(AtomicUsize::new(0)),
        config,
    });

    let http_drain = Arc::new(Drain::default());
    for (index, (bell, inbox)) in bells.into_iter().zip(inboxes.iter()).enumerate() {
        let (process, inbox) = (Arc::clone(&process), Arc::clone(inbox));
        let http_drain = Arc::clone(&http_drain);
        std::thread::Builder::new()
            .name(format!("core-{index}"))
            .spawn(move || {
                let core = || core(index, &process, inbox, &bell, http_drain);
                // A thread that is gone takes its topics along. Better to end, and be started again.
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(core)).is_err() {
                    tracing::error!(thread = index, "a shard has failed; ending");
                    std::process::exit(1);
                }
            })?;
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let signals = runtime.block_on(async { Signals::listen() })?;
    let accepting = Arc::clone(&process);
    std::thread::Builder::new()
        .name("acceptor".into())
        .spawn(move || accept(&accepting, &listener))?;
    tracing::info!(
        addr = %address,
        version = env!("CARGO_PKG_VERSION"),
        shards = threads,
        descriptors,
        connections_max,
        "listening"
    );
    runtime.block_on(drain_at_signal(&process, &http_drain, signals));
    Ok(())
}

/// Events that one topic accepts before rings are flushed. A batch that is taken may hold as many
/// again: both fit into a ring.
fn turn_topic_events_max(config: &Config) -> usize {
    (config.ring_messages_max / 2).max(1)
}

fn listen(config: &Config, address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit both.
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = config.socket_unsent_bytes_max {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(config.listen_backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Raises the soft limit on open files to the hard one. Returns what it then is.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

/// The whole life of one thread.
fn core(
    index: usize,
    process: &Arc<Process>,
    inbox: Arc<Inbox>,
    bell: &Bell,
    http_drain: Arc<Drain>,
) {
    if process.config.pin_threads {
        pin(index);
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs an epoll descriptor");
    let limits = ShardLimits {
        history_events_max: process.config.history_messages_max,
        run_events_max: process
            .config
            .run_messages_max
            .min(process.config.ring_messages_max)
            .clamp(1, RUN_EVENTS_LIMIT),
        turn_topic_events_max: turn_topic_events_max(&process.config),
        turn_events_max: 1024,
        turn_requests_max: 1024,
        topics_max: process.config.topics_max,
        auto_create: process.config.auto_create_topics,
    };
    let counters = process
        .metrics
        .shards
        .get(index)
        .map(Arc::clone)
        .unwrap_or_default();
    let topics_total = Arc::clone(&process.topics_total);
    let shard = Shard::new(
        index,
        process.mailboxes.len(),
        inbox,
        limits,
        counters,
        topics_total,
    );
    let home = Home::new(index, Arc::clone(process));
    LocalSet::new().block_on(&runtime, async {
        tokio::task::spawn_local(tend(Rc::clone(&home)));
        let http = Rc::new(Http::new(Rc::clone(&home), http_drain));
        let counters = Arc::clone(&home.counters);
        let arrived = move |socket| {
            let (http, counters) = (Rc::clone(&http), Arc::clone(&counters));
            tokio::task::spawn_local(async move {
                http::serve(http, socket).await;
                counters.requesting.sub(1);
            });
        };
        work(home, RefCell::new(shard), bell, arrived).await;
    });
}

fn pin(index: usize) {
    let mut set = rustix::thread::CpuSet::new();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    set.set(index % cores);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(thread = index, %error, "cannot pin the thread");
    }
}

/// Accepts sockets and gives each to the thread that has the fewest. Blocks; has its own thread, so
/// that a storm of connections delays nobody's events.
fn accept(process: &Process, listener: &TcpListener) {
    loop {
        match listener.accept() {
            Ok((socket, _)) => place(process, socket),
            // The client has gone before it was accepted, or a signal came.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept; pausing");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn place(process: &Process, socket: std::net::TcpStream) {
    let sockets: u64 = process
        .metrics
        .homes
        .iter()
        .map(|home| home.sockets())
        .sum();
    if sockets >= (process.connections_max as u64).saturating_add(SOCKETS_SPARE)
        || socket.set_nonblocking(true).is_err()
    {
        return;
    }
    let emptiest = process
        .metrics
        .homes
        .iter()
        .enumerate()
        .min_by_key(|(_, home)| home.sockets());
    if let Some((index, home)) = emptiest
        && let Some(mailbox) = process.mailboxes.get(index)
    {
        home.requesting.add(1);
        mailbox.send(Letter::Socket(socket));
    }
}

/// The signals that end the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits for the first signal, then shuts down as the protocol says. A second one ends at once.
async fn drain_at_signal(process: &Process, http: &Drain, mut signals: Signals) {
    signals.next().await;
    let timeout = process.config.shutdown_timeout;
    tracing::info!(timeout_sec = timeout.as_secs(), "shutting down");
    process.draining.store(true, Ordering::SeqCst);
    tokio::select! {
        drained = tokio::time::timeout(timeout, drain(process, http)) => {
            if drained.is_ok() {
                tracing::info!("drained");
            } else {
                tracing::warn!("not drained within SHUTDOWN_TIMEOUT_SEC; ending");
            }
        }
        () = signals.next() => second_signal(),
    }
}

fn second_signal() {
    tracing::warn!("second signal; ending at once");
    std::process::exit(1);
}

/// Every thread stops taking commands, every shard finishes what it has, every ring is flushed,
/// every socket gets its close, every request under way its answer.
async fn drain(process: &Process, http: &Drain) {
    to_all(process, Letter::Drain).await;
    let mut fences = Vec::new();
    for inbox in process.broker.inboxes() {
        let (reply, passed) = oneshot::channel();
        inbox.send(Request::Fence { reply }).await;
        fences.push(passed);
    }
    for passed in fences {
        drop(passed.await);
    }
    if process.metrics.home_sum(|home| &home.connections) > 0 {
        tokio::time::sleep(process.config.drain_grace).await;
    }
    to_all(process, Letter::Finish).await;
    // Last, so that a balancer hears from `/ready` until the end.
    http.finish().await;
}

async fn to_all(process: &Process, letter: impl Fn(oneshot::Sender<()>) -> Letter) {
    let mut answers = Vec::new();
    for mailbox in &process.mailboxes {
        let (done, answered) = oneshot::channel();
        mailbox.send(letter(done));
        answers.push(answered);
    }
    for answered in answers {
        drop(answered.await);
    }
}
