//! The sockets that clients come to: opened here, or handed over by a service manager.
//!
//! One that is handed over (`LISTEN_FDS`, as systemd's socket activation has it) outlives the
//! process. When this one drains it accepts nobody any more: who comes meanwhile waits in the
//! socket's queue for the next process, and is not refused.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use listenfd::ListenFd;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Config;

/// All of them.
#[derive(Debug)]
pub(super) struct Ports {
    /// `PORT`.
    pub(super) plain: Option<Port>,
    /// `TLS_PORT`.
    pub(super) secure: Option<Port>,
    pub(super) closing: Option<Closing>,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    /// It was handed over, and is to be let alone from then on.
    closing: Option<Closing>,
}

/// Says that nobody is to be accepted any more.
#[derive(Debug, Clone)]
pub(super) struct Closing(Arc<OwnedFd>);

impl Ports {
    /// Takes what was handed over, the first for `PORT` and the next for `TLS_PORT`, or opens them.
    pub(super) fn open(config: &Config) -> io::Result<Self> {
        let wanted = [config.address(), config.tls_address()];
        let handed = ListenFd::from_env();
        let [plain, secure] = if handed.len() == 0 {
            let open = |address| Port::open(config, address);
            wanted.map(|address| address.map(open).transpose())
        } else {
            Port::take(config, handed, wanted.map(|address| address.is_some()))?
        };
        let (plain, secure) = (plain?, secure?);
        let closing = plain
            .iter()
            .chain(&secure)
            .find_map(|port| port.closing.clone());
        Ok(Self {
            plain,
            secure,
            closing,
        })
    }
}

impl Port {
    fn open(config: &Config, wanted: SocketAddr) -> io::Result<Self> {
        let listener = listen(config, wanted).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {wanted}: {error}"))
        })?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            closing: None,
        })
    }

    fn take(
        config: &Config,
        mut handed: ListenFd,
        is_wanted: [bool; 2],
    ) -> io::Result<[io::Result<Option<Self>>; 2]> {
        let wanted = is_wanted.iter().filter(|is_wanted| **is_wanted).count();
        if handed.len() != wanted {
            return Err(io::Error::other(format!(
                "LISTEN_FDS hands over {}, but there must be one for PORT and one for TLS_PORT, in \
                 this order, as far as they are set: {wanted}",
                handed.len()
            )));
        }
        let closing = Closing(Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?));
        let mut index = 0;
        let mut take = || {
            let taken = handed.take_tcp_listener(index);
            index += 1;
            let about = |error: io::Error| {
                let text = format!("socket {index} of LISTEN_FDS does not listen on TCP: {error}");
                io::Error::new(error.kind(), text)
            };
            let listener = taken.map_err(about)?.ok_or(io::ErrorKind::NotFound)?;
            prepare(config, &SockRef::from(&listener))?;
            // Another process may take from the same queue, between a look at it and the accept.
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let closing = Some(closing.clone());
            Ok::<_, io::Error>(Self {
                listener,
                address,
                closing,
            })
        };
        Ok(is_wanted.map(|is_wanted| is_wanted.then(&mut take).transpose()))
    }

    /// Whether accepting waits by itself for somebody to come.
    pub(super) fn is_blocking(&self) -> bool {
        self.closing.is_none()
    }

    /// Waits until somebody may be there. False if nobody is to be accepted any more.
    pub(super) fn wait(&self) -> bool {
        let Some(Closing(closing)) = &self.closing else {
            return true;
        };
        let mut sources = [
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::from_borrowed_fd(closing.as_fd(), PollFlags::IN),
        ];
        // A signal ends the wait; accepting then finds nobody.
        poll(&mut sources, None).ok();
        sources[1].revents().is_empty()
    }
}

impl Closing {
    /// From now on nobody is accepted.
    pub(super) fn close(&self) {
        if let Err(error) = rustix::io::write(&*self.0, &1_u64.to_ne_bytes()) {
            tracing::warn!(%error, "cannot stop accepting");
        }
    }
}

/// What accepted sockets inherit.
fn prepare(config: &Config, socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = config.socket_unsent_bytes_max {
        socket.set_tcp_notsent_lowat(bytes)?;
    }
    Ok(())
}

fn listen(config: &Config, address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    prepare(config, &SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(config.listen_backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}
