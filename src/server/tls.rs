//! The port with TLS: shakes hands, then gives the socket and its session to a core like any other.
//!
//! A handshake costs about as much as a thousand deliveries, so it has threads of its own: when all
//! clients come back at once, nobody's events wait for it. A socket that shakes hands stands in the
//! lobby as a silent one: there are no more of them than `HTTP_CONNECTIONS_MAX`, one more closes the
//! one that has been at it for longest, and none of them takes longer than `READ_TIMEOUT_SEC`.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use super::http::caller::proxied;
use super::http::patience::within;
use super::http::refusal;
use super::lobby::{Guest, Lobby};
use super::ports::Port;
use super::{acceptor, essential};
use crate::budget::{Booked, Kind};
use crate::core::mailbox::Mailbox;
use crate::metrics::TlsCounters;
use crate::process::Process;
use crate::wire::handshake::{HandshakeError, shake};
use crate::wire::identity::Identity;
use crate::wire::tls::HANDSHAKE_BYTES;
use crate::wire::{Arrival, Wire};

/// Cores that one thread shakes hands for: about 4,000 clients a second come to them together.
const CORES_PER_THREAD: usize = 8;

/// How often the files are looked at. What has changed is read when it has not changed since the
/// last look: a certificate and its key are seldom replaced in the same moment.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// What the sockets of the port come to.
#[derive(Debug)]
pub(super) struct Door {
    process: Arc<Process>,
    mailboxes: Arc<[Mailbox]>,
    lobby: Arc<Lobby>,
    identity: Arc<Identity>,
}

impl Door {
    pub(super) fn new(
        process: &Arc<Process>,
        mailboxes: &Arc<[Mailbox]>,
        lobby: &Arc<Lobby>,
        identity: &Arc<Identity>,
    ) -> Arc<Self> {
        Arc::new(Self {
            process: Arc::clone(process),
            mailboxes: Arc::clone(mailboxes),
            lobby: Arc::clone(lobby),
            identity: Arc::clone(identity),
        })
    }

    /// Starts the threads that accept and that shake hands.
    pub(super) fn open(self: &Arc<Self>, port: Port) -> io::Result<()> {
        let threads = self.process.config.shard_count().div_ceil(CORES_PER_THREAD);
        let mut ways = Vec::new();
        for index in 0..threads {
            let (way, sockets) = mpsc::unbounded_channel();
            ways.push(way);
            let door = Arc::clone(self);
            let runtime = Builder::new_current_thread().enable_all().build()?;
            essential::spawn(format!("tls-{index}"), move || {
                LocalSet::new().block_on(&runtime, door.serve(sockets));
            })?;
        }
        let (lobby, spare) = (Arc::clone(&self.lobby), acceptor::open_spare());
        essential::spawn("tls-acceptor".to_owned(), move || {
            let next = std::cell::Cell::new(0);
            acceptor::accept(&lobby, &port, spare, |socket, address| {
                let index = next.get();
                next.set((index + 1) % ways.len());
                // A thread that has ended has ended the process.
                ways[index].send((socket, address)).ok();
            });
        })
    }

    /// Shakes hands with all that come. Bounded by the lobby, which they have entered.
    async fn serve(self: Arc<Self>, mut sockets: mpsc::UnboundedReceiver<(TcpStream, SocketAddr)>) {
        while let Some((socket, address)) = sockets.recv().await {
            let door = Arc::clone(&self);
            spawn_local(async move {
                let guest = Guest::new(Arc::clone(&door.lobby));
                let counters = &door.process.metrics.tls;
                let shaking = Shaking::new(counters);
                let arrived = tokio::select! {
                    biased;
                    arrived = door.welcome(socket, address) => arrived,
                    () = guest.asked_to_leave() => None,
                };
                drop(shaking);
                match &arrived {
                    Some(_) => counters.handshakes.add(1),
                    None => counters.failures.add(1),
                }
                if let Some(arrival) = arrived {
                    guest.move_on();
                    acceptor::place(&door.process, &door.mailboxes, &door.lobby, arrival);
                }
            });
        }
    }

    async fn welcome(&self, socket: TcpStream, address: SocketAddr) -> Option<Arrival> {
        socket.set_nonblocking(true).ok()?;
        let mut socket = tokio::net::TcpStream::from_std(socket).ok()?;
        let config = &self.process.config;
        let address = proxied(config, address, &mut socket).await?;
        let budget = Arc::clone(&self.process.budget);
        let booked = Booked::new(budget, 0, Kind::Connections, HANDSHAKE_BYTES);
        let shaking = shake(&socket, self.identity.current(), booked);
        let failure = match within(config.read_timeout, shaking).await {
            Some(Ok(tls)) => {
                let socket = socket.into_std().ok()?;
                return Some(Arrival {
                    socket,
                    address,
                    tls: Some(tls),
                });
            }
            Some(Err(error)) => error,
            None => io::Error::from(io::ErrorKind::TimedOut).into(),
        };
        tracing::debug!(error = %failure, "no handshake");
        self.turn_away(socket, &failure).await;
        None
    }

    /// Lets the client read why: to close at once could destroy it on its way.
    async fn turn_away(&self, socket: tokio::net::TcpStream, failure: &HandshakeError) {
        let config = &self.process.config;
        let mut wire = Wire { socket, tls: None };
        match failure {
            HandshakeError::Socket(_) => return,
            HandshakeError::Tls(_) => drop(wire.shutdown().await),
            HandshakeError::PlainHttp => {
                let text = "this port speaks TLS: use https:// or wss://";
                let status = hyper::StatusCode::BAD_REQUEST;
                refusal::refuse(&mut wire, status, text, config.write_timeout).await;
            }
        }
        refusal::linger(&wire.socket, config.close_wait).await;
    }
}

/// A handshake that is counted as under way for as long as it is, however it ends.
struct Shaking<'c>(&'c TlsCounters);

impl<'c> Shaking<'c> {
    fn new(counters: &'c TlsCounters) -> Self {
        counters.shaking.add(1);
        Self(counters)
    }
}

impl Drop for Shaking<'_> {
    fn drop(&mut self) {
        self.0.shaking.sub(1);
    }
}

/// Reads the files again at SIGHUP and when they have changed, for ever.
pub(super) async fn renew(identity: Arc<Identity>, mut hangup: Signal) {
    let mut looks = tokio::time::interval(LOOK_PERIOD);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut used = identity.loaded().clone();
    let mut seen = used.clone();
    loop {
        let is_asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = looks.tick() => false,
        };
        let found = identity.read();
        let has_settled = found != used && found == seen;
        if is_asked || has_settled {
            match identity.renew(&found) {
                Ok(()) => tracing::info!("certificate and key are read again"),
                Err(error) => {
                    tracing::error!("{error}; going on with the certificate that was there before");
                }
            }
            used = found.clone();
        }
        seen = found;
    }
}

/// SIGHUP, from now on.
pub(super) fn hangup() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}
