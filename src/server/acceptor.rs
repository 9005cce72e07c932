//! Accepts sockets and gives each to the core that has the fewest.
//!
//! Blocks, and has a thread of its own, so that a storm of connections delays nobody's events. It
//! must never end: a broker that accepts nobody is better started again.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::lobby::Lobby;
use crate::config::Config;
use crate::core::mailbox::{Letter, Mailbox};
use crate::process::Process;
use crate::wire::Arrival;

/// How long accepting pauses when the system does not let it.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens the socket that clients come to.
pub(super) fn listen(config: &Config, address: SocketAddr) -> io::Result<TcpListener> {
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

/// Accepts sockets, forever, and has `take` go on with each. `spare` is given up for a moment when there is no other descriptor.
pub(super) fn accept(
    lobby: &Lobby,
    listener: &TcpListener,
    mut spare: Option<File>,
    take: impl Fn(TcpStream),
) {
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                lobby.enter();
                take(socket);
            }
            // The client has gone before it was accepted, or a signal came.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept; pausing");
                // Whoever waits is told at once by a close, and not left hanging.
                drop(spare.take());
                turn_away(listener);
                spare = open_spare();
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// A descriptor to give up when there is no other.
pub(super) fn open_spare() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Accepts and closes one socket, if one waits.
fn turn_away(listener: &TcpListener) {
    if listener.set_nonblocking(true).is_ok() {
        drop(listener.accept());
        // Where this fails, accept fails too, and comes here again after a pause.
        listener.set_nonblocking(false).ok();
    }
}

/// Gives a socket, which has its place in the lobby, to the core that has the fewest.
pub(super) fn place(process: &Process, mailboxes: &[Mailbox], lobby: &Lobby, arrival: Arrival) {
    let emptiest = process
        .metrics
        .cores
        .iter()
        .zip(mailboxes)
        .min_by_key(|(core, _)| core.sockets());
    match (arrival.socket.set_nonblocking(true), emptiest) {
        (Ok(()), Some((core, mailbox))) => {
            core.requesting.add(1);
            mailbox.send(Letter::Socket(arrival));
        }
        _ => lobby.leave(),
    }
}
