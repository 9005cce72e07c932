//! Who is on the other side of a socket, and who of each request that comes on it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::CONTENT_LENGTH;
use hyper::{Request, StatusCode};
use tokio::net::TcpStream;

use super::answer::{Answer, Reason, too_many};
use super::forwarded;
use super::patience::within;
use super::route::Route;
use crate::access::grant::Grant;
use crate::config::Config;
use crate::connection::pace::{Pace, Verdict};
use crate::process::Process;
use crate::wire::proxy;

/// So much of a path is logged.
const LOGGED_PATH_BYTES: usize = 100;

/// Who is on the other side of a socket.
#[derive(Debug)]
pub(super) struct Peer {
    address: SocketAddr,
    /// The common name in the certificate that it has shown.
    name: Option<Box<str>>,
    pace: RefCell<Option<Box<Pace>>>,
}

impl Peer {
    pub(super) fn new(config: &Config, address: SocketAddr, name: Option<Box<str>>) -> Self {
        if let Some(name) = &name {
            tracing::debug!(%address, name, "a client has shown its certificate");
        }
        Self {
            address,
            name,
            pace: RefCell::new(Pace::of(config)),
        }
    }
}

/// The client behind a new socket, whose header of the PROXY protocol is taken off it where there
/// must be one. `None` if it is missing, broken or late, or comes from somebody who may not say so.
pub(in crate::server) async fn proxied(
    config: &Config,
    address: SocketAddr,
    socket: &mut TcpStream,
) -> Option<SocketAddr> {
    if !config.proxy_protocol {
        return Some(address);
    }
    if !config.trusted_proxies.have(address.ip()) {
        tracing::info!(client = %address, "refused: no proxy of TRUSTED_PROXIES");
        return None;
    }
    let read = within(config.read_timeout, proxy::read(socket)).await;
    match read.unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(client) => Some(client.unwrap_or(address)),
        Err(error) => {
            tracing::info!(proxy = %address, %error, "refused");
            None
        }
    }
}

/// Who makes one request.
#[derive(Debug)]
pub(super) struct Caller<'p> {
    /// Where it is, proxies that are trusted left out.
    pub(super) address: SocketAddr,
    peer: &'p Peer,
}

impl<'p> Caller<'p> {
    pub(super) fn new(config: &Config, peer: &'p Peer, request: &Request<()>) -> Self {
        let trusted = &config.trusted_proxies;
        Self {
            address: forwarded::client(peer.address, request.headers(), trusted),
            peer,
        }
    }

    /// The common name in the certificate that its socket has shown.
    pub(super) fn name(&self) -> Option<&str> {
        self.peer.name.as_deref()
    }

    /// Counts a request against the rates of its connection and its key. The refusal, if it came too
    /// soon.
    pub(super) fn is_too_soon(
        &self,
        process: &Process,
        grant: &Grant,
        request: &Request<()>,
    ) -> Option<Answer> {
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        self.count(process, grant, 1, length.unwrap_or(0))
    }

    /// Counts messages beyond the first of a request. The refusal, if they came too soon.
    pub(super) fn are_too_many(
        &self,
        process: &Process,
        grant: &Grant,
        messages: u64,
    ) -> Option<Answer> {
        self.count(process, grant, messages, 0)
    }

    fn count(
        &self,
        process: &Process,
        grant: &Grant,
        messages: u64,
        bytes: usize,
    ) -> Option<Answer> {
        let verdict = Pace::count(
            &mut self.peer.pace.borrow_mut(),
            &process.config,
            grant,
            (messages, bytes),
            || process.started.elapsed(),
        );
        match verdict {
            Verdict::Within => None,
            Verdict::Over { retry_after_ms } | Verdict::Beyond { retry_after_ms } => {
                let wait = Duration::from_millis(retry_after_ms);
                Some(too_many("too many requests in this time", wait))
            }
        }
    }

    /// Says whom a key, a right or an upgrade was refused. The log keeps to a few lines a second.
    pub(super) fn log_refusal(&self, request: &Request<()>, answer: &Answer) {
        let Some(Reason(reason)) = answer.extensions().get() else {
            return;
        };
        let (client, path) = (self.address, request.uri().path());
        let path = &path[..path.floor_char_boundary(LOGGED_PATH_BYTES)];
        match answer.status() {
            StatusCode::UNAUTHORIZED => tracing::info!(%client, path, "refused: {reason}"),
            StatusCode::FORBIDDEN => tracing::info!(%client, path, "forbidden: {reason}"),
            StatusCode::TOO_MANY_REQUESTS => tracing::info!(%client, path, "too many: {reason}"),
            _ if matches!(Route::of(path), Some(Route::WebSocket)) => {
                tracing::info!(%client, "an upgrade was refused: {reason}");
            }
            _ => {}
        }
    }
}
