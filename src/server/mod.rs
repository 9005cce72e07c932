//! The server: bind, start a thread for each core, accept and spread, drain.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

mod acceptor;
mod descriptors;
mod drain;
mod essential;
mod http;
mod lobby;
mod patience;

use self::descriptors::Shares;
use self::drain::Signals;
use self::lobby::{Guest, Lobby};
use crate::broker::inbox::{Bell, Inbox};
use crate::broker::shard::{Shard, ShardLimits};
use crate::broker::{Broker, RUN_EVENTS_LIMIT};
use crate::config::Config;
use crate::connection::flusher::{tend, work};
use crate::connection::home::{Home, Mailbox, Process};
use crate::metrics::Metrics;
use crate::seats::Seats;

/// Runs the broker until a signal ends it. The exit code of the process.
pub fn run(config: Config) -> ExitCode {
    match catch_unwind(AssertUnwindSafe(|| start(config))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
        Err(_) => essential::end("main"),
    }
}

fn start(config: Config) -> io::Result<()> {
    let limit = descriptors::raise_limit();
    let wanted = config.address();
    let listener = acceptor::listen(&config, wanted).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {wanted}: {error}"))
    })?;
    let address = listener.local_addr()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Before anything else, so that no signal finds the process without an answer.
    let signals = runtime.block_on(async { Signals::listen() })?;

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
        seats: Seats::default(),
        batch_messages_max: turn_topic_events_max(&config),
        topics_total: Arc::new(AtomicUsize::new(0)),
        config,
    });

    let lobbies = start_cores(&process, bells, &inboxes)?;
    let shares = open_seats(&process, limit);
    let lobby = Arc::new(Lobby::new(shares.http));
    for core in lobbies {
        // A core that has ended since then has ended the process.
        core.send(Arc::clone(&lobby)).ok();
    }
    let (accepting, spare) = (Arc::clone(&process), acceptor::open_spare());
    essential::spawn("acceptor".to_owned(), move || {
        acceptor::accept(&accepting, &lobby, &listener, spare);
    })?;
    tracing::info!(
        addr = %address,
        version = env!("CARGO_PKG_VERSION"),
        shards = threads,
        descriptors = limit,
        connections_max = shares.proven,
        http_connections_max = shares.http,
        "listening"
    );
    runtime.block_on(drain::drain_at_signal(&process, signals));
    Ok(())
}

/// Starts a thread for each core, and returns when all of them have what they need. Each then waits
/// to be told of the lobby, which is as large as they have left room for.
fn start_cores(
    process: &Arc<Process>,
    bells: Vec<Arc<Bell>>,
    inboxes: &[Arc<Inbox>],
) -> io::Result<Vec<mpsc::Sender<Arc<Lobby>>>> {
    let (ready, all_ready) = mpsc::channel();
    let mut lobbies = Vec::new();
    for (index, (bell, inbox)) in bells.into_iter().zip(inboxes).enumerate() {
        let (process, inbox, ready) = (Arc::clone(process), Arc::clone(inbox), ready.clone());
        let (tell, lobby) = mpsc::channel();
        lobbies.push(tell);
        essential::spawn(format!("core-{index}"), move || {
            if process.config.pin_threads {
                pin(index);
            }
            let runtime = Builder::new_current_thread().enable_all().build();
            let (runtime, is_ready) = match runtime {
                Ok(runtime) => (Some(runtime), Ok(())),
                Err(error) => (None, Err(error)),
            };
            ready.send(is_ready).ok();
            // Nobody tells it where another core could not start: the process is about to end.
            match (runtime, lobby.recv()) {
                (Some(runtime), Ok(lobby)) => core(index, &process, inbox, &bell, &runtime, lobby),
                _ => std::thread::park(),
            }
        })?;
    }
    for index in 0..lobbies.len() {
        let is_ready: io::Result<()> = all_ready.recv().map_err(io::Error::other)?;
        is_ready.map_err(|error| {
            let cores = lobbies.len();
            let text = format!("cannot start {cores} cores (SHARDS), only {index}: {error}");
            io::Error::new(error.kind(), text)
        })?;
    }
    Ok(lobbies)
}

/// Counts what the process needs itself, and opens what is left to clients.
fn open_seats(process: &Process, limit: usize) -> Shares {
    let own = descriptors::open_now(process.mailboxes.len());
    let shares = Shares::new(&process.config, limit, own);
    if let Some(wanted) = process.config.connections_max
        && wanted > shares.proven
    {
        tracing::warn!(
            descriptors = limit,
            own,
            "MAX_CONNECTIONS={wanted} is more than the limit on open files allows; it is {} now",
            shares.proven
        );
    }
    process.seats.open(shares.proven, shares.unproven);
    shares
}

/// Events that one topic accepts before rings are flushed. A batch that is taken may hold as many
/// again: both fit into a ring.
fn turn_topic_events_max(config: &Config) -> usize {
    (config.ring_messages_max / 2).max(1)
}

/// The whole life of one thread.
fn core(
    index: usize,
    process: &Arc<Process>,
    inbox: Arc<Inbox>,
    bell: &Bell,
    runtime: &Runtime,
    lobby: Arc<Lobby>,
) {
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
    LocalSet::new().block_on(runtime, async {
        let tending = tokio::task::spawn_local(tend(Rc::clone(&home)));
        tokio::task::spawn_local(async move {
            drop(tending.await);
            // A task that panics is gone without a word; without its clock a core is of no use.
            essential::end("the clock of a core");
        });
        let serving = Rc::clone(&home);
        let arrived = move |socket| {
            let (home, lobby) = (Rc::clone(&serving), Arc::clone(&lobby));
            tokio::task::spawn_local(async move {
                let guest = Rc::new(Guest::new(lobby));
                tokio::select! {
                    biased;
                    () = http::serve(Rc::clone(&home), socket, Rc::clone(&guest)) => {}
                    () = guest.asked_to_leave() => {}
                }
                home.counters.requesting.sub(1);
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
