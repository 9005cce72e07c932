//! The server: bind, start a thread for each core, accept and spread, drain.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::time::{Instant, SystemTime};

use sendmany::SendMany;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

mod acceptor;
mod descriptors;
mod drain;
mod essential;
mod http;
mod lobby;
mod ports;
mod renewal;
mod service;
mod tls;

use self::descriptors::Shares;
use self::drain::Signals;
use self::http::Http;
use self::http::ending::Ending;
use self::lobby::{Guest, Lobby};
use self::ports::Ports;
use crate::access::Access;
use crate::access::address::Addresses;
#[cfg(feature = "cluster")]
use crate::broker::Order;
use crate::broker::inbox::{Bell, Inbox};
use crate::broker::shard::{Shard, ShardLimits};
use crate::broker::{Broker, RUN_EVENTS_LIMIT, Shared};
use crate::budget::{Budget, memory_of_machine};
#[cfg(feature = "cluster")]
use crate::cluster;
use crate::cluster::standing::Standing;
use crate::config::Config;
use crate::config::origins::AllowedOrigins;
use crate::config::values::IoUring;
use crate::core::Core;
use crate::core::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::roster::Ledger;
use crate::seats::Seats;
use crate::wire::Arrival;
use crate::wire::identity::Identity;

/// Runs the broker until a signal ends it. The exit code of the process.
/// `identity` is shown to those who come with TLS, if they may.
pub fn run(config: Config, identity: Option<Identity>, access: Access) -> ExitCode {
    match catch_unwind(AssertUnwindSafe(|| start(config, identity, access))) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
        Err(_) => essential::end("main"),
    }
}

fn start(config: Config, identity: Option<Identity>, access: Access) -> io::Result<()> {
    let limit = descriptors::raise_limit();
    let Ports {
        plain,
        secure,
        closing,
    } = Ports::open(&config)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Before anything else, so that no signal finds the process without an answer.
    let signals = runtime.block_on(async { Signals::listen() })?;

    let threads = config.shard_count();
    let bells: Vec<Arc<Bell>> = (0..threads).map(|_| Arc::default()).collect();
    let bell: Arc<Bell> = Arc::default();
    let inboxes: Arc<[Arc<Inbox>]> = bells
        .iter()
        .map(|bell| Arc::new(Inbox::new(config.inbox_size, Arc::clone(bell))))
        .collect();
    let process = Arc::new(Process {
        access,
        addresses: Arc::new(Addresses::new(&config)),
        broker: broker(&config, &inboxes, &bell),
        cluster: standing(&config),
        metrics: Metrics::new(threads),
        ledger: Ledger::default(),
        budget: Arc::new(Budget::new(memory_bytes_max(&config), threads)),
        draining: AtomicBool::new(false),
        started: Instant::now(),
        started_at: SystemTime::now(),
        seats: Seats::default(),
        batch_messages_max: turn_topic_events_max(&config),
        topics_total: Arc::new(AtomicUsize::new(0)),
        config,
    });

    #[cfg(feature = "cluster")]
    join_cluster(&process, bell)?;
    let mailboxes: Arc<[Mailbox]> = bells
        .iter()
        .map(|bell| Mailbox::new(threads, Arc::clone(bell)))
        .collect();
    let ending = Arc::new(Ending::default());
    let lobbies = start_cores(&process, &mailboxes, &ending, bells, &inboxes)?;
    let shares = open_seats(&process, limit);
    let lobby = Arc::new(Lobby::new(shares.http));
    for core in lobbies {
        // A core that has ended since then has ended the process.
        core.send(Arc::clone(&lobby)).ok();
    }
    let addresses = [&plain, &secure].map(|port| port.as_ref().map(|port| port.address));
    if let (Some(port), Some(identity)) = (secure, identity) {
        if let Some(reason) = identity.loaded().outdated() {
            tracing::warn!("clients will not take the certificate (TLS_CERT): {reason}");
        }
        let identity = Arc::new(identity);
        let door = tls::Door::new(&process, &mailboxes, &lobby, &identity);
        door.open(port)?;
        let hangup = runtime.block_on(async { tls::hangup() })?;
        runtime.spawn(tls::renew(identity, hangup));
    }
    if let Some(port) = plain {
        let (accepting, placing) = (Arc::clone(&process), Arc::clone(&mailboxes));
        let spare = acceptor::open_spare();
        essential::spawn("acceptor".to_owned(), move || {
            acceptor::accept(&lobby, &port, spare, |socket, address| {
                let arrival = Arrival {
                    socket,
                    address,
                    tls: None,
                };
                acceptor::place(&accepting, &placing, &lobby, arrival);
            });
        })?;
    }
    renewal::start(&runtime, &process, &mailboxes)?;
    tracing::info!(
        addr = addresses[0].map(tracing::field::display),
        tls_addr = addresses[1].map(tracing::field::display),
        version = env!("CARGO_PKG_VERSION"),
        shards = threads,
        descriptors = limit,
        connections_max = shares.proven,
        http_connections_max = shares.http,
        memory_budget = process.budget.bytes_max(),
        io_uring = process.metrics.core_sum(|core| &core.io_uring) > 0,
        "listening"
    );
    warn_of_open_doors(&process);
    let [plain, secure] = addresses.map(|address| address.map(|address| address.to_string()));
    let listening: Vec<_> = plain.into_iter().chain(secure).collect();
    service::is_ready(&format!("listening on {}", listening.join(" and ")));
    runtime.spawn(service::watch(Arc::clone(&mailboxes)));
    let begin = || {
        service::is_stopping();
        if let Some(closing) = closing {
            closing.close();
        }
    };
    runtime.block_on(drain::drain_at_signal(
        &process, &mailboxes, &ending, signals, begin,
    ));
    Ok(())
}

/// Where the figures of a cluster are, if there is to be one.
fn standing(config: &Config) -> Option<Arc<Standing>> {
    let urls = config.cluster_urls.as_ref();
    urls.map(|_| Arc::new(Standing::new(&config.cluster_name)))
}

/// The way to the shards. Where there are other nodes, `bell` is rung for what they have to hear first.
fn broker(config: &Config, inboxes: &Arc<[Arc<Inbox>]>, bell: &Arc<Bell>) -> Broker {
    let broker = Broker::new(Arc::clone(inboxes));
    #[cfg(feature = "cluster")]
    if config.cluster_urls.is_some() {
        return broker.ordered_by(Order {
            entrance: Arc::new(Inbox::new(config.inbox_size, Arc::clone(bell))),
            partitions: config.cluster_partitions,
            partition_of: cluster::partition_of,
        });
    }
    #[cfg(not(feature = "cluster"))]
    let _ = (config, bell);
    broker
}

/// Begins to take part in a cluster, if there is to be one.
#[cfg(feature = "cluster")]
fn join_cluster(process: &Process, bell: Arc<Bell>) -> io::Result<()> {
    let (Some(urls), Some(standing)) = (process.config.cluster_urls.clone(), &process.cluster)
    else {
        return Ok(());
    };
    let parts = cluster::Parts {
        config: process.config.clone(),
        broker: process.broker.clone(),
        topics_total: Arc::clone(&process.topics_total),
        shards: process.metrics.shards.clone(),
        standing: Arc::clone(standing),
        bell,
        started: process.started,
    };
    essential::spawn("cluster".to_owned(), move || {
        if let Err(error) = cluster::run(urls.reveal(), parts) {
            tracing::error!("the cluster cannot be joined: {error}");
        }
    })
}

/// Says what the settings let strangers do, once.
fn warn_of_open_doors(process: &Process) {
    if process.access.is_on() {
        return;
    }
    let pages = match process.config.allowed_origins {
        AllowedOrigins::Any => ", and so may any page in the browser of whoever can reach it",
        AllowedOrigins::Only(_) => "",
    };
    tracing::warn!(
        "no keys are asked for: whoever can reach this broker may publish, delete topics and close \
         connections{pages} (AUTH_ENABLED, ALLOWED_ORIGINS)"
    );
}

/// `MEMORY_BUDGET`, or three quarters of what the machine or the process' group has.
fn memory_bytes_max(config: &Config) -> usize {
    match config.memory_bytes_max {
        0 => memory_of_machine().map_or(usize::MAX, |bytes| bytes / 4 * 3),
        bytes => bytes,
    }
}

/// What a core has of its own before it serves anybody.
fn prepare(index: usize, process: &Process) -> io::Result<(Runtime, Option<SendMany>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let many = match process.config.io_uring {
        IoUring::Off => None,
        IoUring::On => Some(SendMany::new().map_err(|error| {
            let text = format!("IO_URING=on, but the kernel does not let it: {error}");
            io::Error::new(error.kind(), text)
        })?),
        IoUring::Auto => match SendMany::new() {
            Ok(many) => Some(many),
            Err(error) => {
                if index == 0 {
                    tracing::info!(%error, "no io_uring here: each send is a system call of its own");
                }
                None
            }
        },
    };
    if many.is_some() {
        process.metrics.core(index).io_uring.set(1);
    }
    Ok((runtime, many))
}

/// Starts a thread for each core, and returns when all of them have what they need. Each then waits
/// to be told of the lobby, which is as large as they have left room for.
fn start_cores(
    process: &Arc<Process>,
    mailboxes: &Arc<[Mailbox]>,
    ending: &Arc<Ending>,
    bells: Vec<Arc<Bell>>,
    inboxes: &[Arc<Inbox>],
) -> io::Result<Vec<mpsc::Sender<Arc<Lobby>>>> {
    let (ready, all_ready) = mpsc::channel();
    let mut lobbies = Vec::new();
    for (index, (bell, inbox)) in bells.into_iter().zip(inboxes).enumerate() {
        let (process, inbox, ready) = (Arc::clone(process), Arc::clone(inbox), ready.clone());
        let (mailboxes, ending) = (Arc::clone(mailboxes), Arc::clone(ending));
        let (tell, lobby) = mpsc::channel();
        lobbies.push(tell);
        essential::spawn(format!("core-{index}"), move || {
            if process.config.pin_threads {
                pin(index);
            }
            let (prepared, is_ready) = match prepare(index, &process) {
                Ok(prepared) => (Some(prepared), Ok(())),
                Err(error) => (None, Err(error)),
            };
            ready.send(is_ready).ok();
            // Nobody tells it where another core could not start: the process is about to end.
            match (prepared, lobby.recv()) {
                (Some((runtime, many)), Ok(lobby)) => {
                    let shard = shard(index, &process, inbox);
                    let core = Core::new(index, process, mailboxes, Arc::clone(&bell), many);
                    let http = Rc::new(Http::new(Rc::clone(&core), ending));
                    serve(&core, &http, shard, &bell, &runtime, &lobby);
                }
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
    let own = descriptors::open_now(process.config.shard_count());
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

/// Bytes of text that one turn of a shard accepts before rings are flushed.
const TURN_BYTES_MAX: usize = 512 * 1024;

/// The shard of core `index`.
fn shard(index: usize, process: &Process, inbox: Arc<Inbox>) -> Shard {
    let config = &process.config;
    let cores = config.shard_count();
    let limits = ShardLimits {
        history_events_max: config.history_messages_max,
        history_bytes_max: config.history_bytes_max / cores,
        run_events_max: config
            .run_messages_max
            .min(config.ring_messages_max)
            .clamp(1, RUN_EVENTS_LIMIT),
        turn_topic_events_max: turn_topic_events_max(config),
        turn_events_max: 1024,
        turn_bytes_max: TURN_BYTES_MAX.min(config.ring_bytes_max / 2),
        turn_requests_max: 1024,
        topics_max: config.topics_max,
        auto_create: config.auto_create_topics,
    };
    let shared = Shared {
        counters: process.metrics.shard(index),
        directory: Arc::clone(process.broker.directory(index)),
        topics_total: Arc::clone(&process.topics_total),
        budget: Arc::clone(&process.budget),
        entrance: process.broker.entrance().map(Arc::clone),
    };
    Shard::new(index, cores, inbox, limits, shared)
}

/// The whole life of one core.
fn serve(
    core: &Rc<Core>,
    http: &Rc<Http>,
    shard: Shard,
    bell: &Bell,
    runtime: &Runtime,
    lobby: &Arc<Lobby>,
) {
    LocalSet::new().block_on(runtime, async {
        let (tending, releasing) = (Rc::clone(core).tend(), Rc::clone(core).release());
        let tending = tokio::task::spawn_local(async { tokio::join!(tending, releasing) });
        tokio::task::spawn_local(async move {
            drop(tending.await);
            // A task that panics is gone without a word; without its clock a core is of no use.
            essential::end("the clock of a core");
        });
        let arrived = |socket| {
            let (core, http, lobby) = (Rc::clone(core), Rc::clone(http), Arc::clone(lobby));
            tokio::task::spawn_local(async move {
                let _counted = Requesting(core);
                let guest = Rc::new(Guest::new(lobby));
                tokio::select! {
                    biased;
                    () = http::serve(http, socket, Rc::clone(&guest)) => {}
                    () = guest.asked_to_leave() => {}
                }
            });
        };
        Rc::clone(core).work(shard, bell, arrived).await;
    });
}

/// A socket that is counted as requesting for as long as its task lives, however that ends.
struct Requesting(Rc<Core>);

impl Drop for Requesting {
    fn drop(&mut self) {
        self.0.local.counters.requesting.sub(1);
    }
}

fn pin(index: usize) {
    let mut set = rustix::thread::CpuSet::new();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    set.set(index % cores);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(thread = index, %error, "cannot pin the thread");
    }
}
