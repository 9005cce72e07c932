//! Accepts sockets and gives each to the core that has the fewest.
//!
//! Blocks, and has a thread of its own, so that a storm of connections delays nobody's events. It
//! must never end: a broker that accepts nobody is better started again.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::lobby::Lobby;
use super::ports::Port;
use crate::core::mailbox::{Letter, Mailbox};
use crate::process::Process;
use crate::wire::Arrival;

/// How long accepting pauses when the system does not let it.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts sockets, forever, and has `take` go on with each. `spare` is given up for a moment when there is no other
/// descriptor. Once the port is closed the thread has nothing to do.
pub(super) fn accept(
    lobby: &Lobby,
    port: &Port,
    mut spare: Option<File>,
    take: impl Fn(TcpStream, SocketAddr),
) {
    loop {
        if spare.is_none() {
            // Somebody else was quicker when it was given up.
            spare = open_spare();
        }
        if !port.wait() {
            std::thread::park();
            continue;
        }
        match port.listener.accept() {
            Ok((socket, address)) => {
                lobby.enter();
                take(socket, address);
            }
            // The client has gone before it was accepted, another process has it, or a signal came.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::Interrupted
                        | io::ErrorKind::WouldBlock
                ) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept; pausing");
                // Whoever waits is told at once by a close, and not left hanging.
                drop(spare.take());
                turn_away(port);
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
fn turn_away(port: &Port) {
    if port.is_blocking() && port.listener.set_nonblocking(true).is_err() {
        return;
    }
    drop(port.listener.accept());
    if port.is_blocking() {
        // Where this fails, accept fails too, and comes here again after a pause.
        port.listener.set_nonblocking(false).ok();
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
