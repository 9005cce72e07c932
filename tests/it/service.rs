//! Under a service manager: sockets that are handed over, and what the manager is told.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::PATIENCE;
use crate::harness::broker::{Broker, command_handed, refusal_of};
use crate::harness::client::Client;
use crate::harness::keys::Folder;
use crate::harness::raw::RawSocket;
use crate::harness::tls::{Authority, web_socket};

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn copy(listener: &TcpListener) -> OwnedFd {
    listener.try_clone().expect("a descriptor").into()
}

#[tokio::test]
async fn a_socket_that_is_handed_over_is_served_whatever_port_says() {
    let socket = listener();
    let address = socket.local_addr().expect("it is bound");
    let broker = Broker::start_handed(vec![copy(&socket)], &[("PORT", "1")]);
    assert_eq!(broker.address(), address);
    broker.create_topic("t").await;
    let mut subscriber = Client::subscribed(&broker, "t").await;
    Client::connect(&broker).await.publish("t", 1).await;
    subscriber.expect_event("t").await;
}

#[tokio::test]
async fn the_second_socket_that_is_handed_over_speaks_tls() {
    let authority = Authority::new();
    authority.install(&authority.sign("broker"));
    let (cert, key) = (authority.setting("cert.pem"), authority.setting("key.pem"));
    let settings = [
        ("TLS_CERT", cert.as_str()),
        ("TLS_KEY", key.as_str()),
        ("TLS_PORT", "1"),
    ];
    let (plain, secure) = (listener(), listener());
    let broker = Broker::start_handed(vec![copy(&plain), copy(&secure)], &settings);
    assert_eq!(broker.address(), plain.local_addr().expect("it is bound"));
    assert_eq!(
        broker.tls_address(),
        secure.local_addr().expect("it is bound")
    );
    broker.create_topic("t").await;
    let mut subscriber = web_socket(&broker, authority.client()).await;
    subscriber.subscribe("t").await;
    Client::connect(&broker).await.publish("t", 1).await;
    subscriber.expect_event("t").await;
}

#[tokio::test]
async fn a_restart_refuses_nobody() {
    let socket = listener();
    let mut first = Broker::start_handed(vec![copy(&socket)], &[]);
    let mut client = Client::connect(&first).await;
    first.signal(Signal::TERM);
    assert_eq!(client.recv().await["type"], "info");
    // Who comes now is heard by the next process, and notices nothing but the wait.
    let mut late = RawSocket::dial(&first).await;
    let next = async {
        drop(client);
        let (code, _) = first.wait_exit(PATIENCE).await;
        assert_eq!(code, 0);
        Broker::start_handed(vec![copy(&socket)], &[])
    };
    let ((), next) = tokio::join!(late.upgrade(), next);
    assert_eq!(late.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    assert_eq!(next.health("subscribers").await, 0);
}

#[test]
fn sockets_that_do_not_fit_are_refused() {
    let one = listener();
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for (sockets, wanted) in [
        (
            vec![copy(&one), copy(&one)],
            "LISTEN_FDS hands over 2, but there must be one for PORT and one for TLS_PORT, in \
             this order, as far as they are set: 1",
        ),
        (
            vec![udp.into()],
            "socket 1 of LISTEN_FDS does not listen on TCP",
        ),
    ] {
        let refusal = refusal_of(&mut command_handed(sockets, &[]));
        assert_eq!(refusal.code, 1);
        assert!(refusal.stderr.contains(wanted), "{}", refusal.stderr);
    }
}

/// What `NOTIFY_SOCKET` leads to.
struct Manager {
    socket: UnixDatagram,
    path: String,
    _folder: Folder,
}

impl Manager {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let path = path.to_str().expect("UTF-8").to_owned();
        Self {
            socket,
            path,
            _folder: folder,
        }
    }

    fn next(&self) -> String {
        let mut text = [0; 1024];
        let length = self.socket.recv(&mut text).expect("it is told something");
        String::from_utf8_lossy(&text[..length]).into_owned()
    }
}

#[tokio::test]
async fn the_manager_is_told_when_it_is_ready_and_when_it_stops() {
    let manager = Manager::new();
    let mut broker = Broker::start(&[("NOTIFY_SOCKET", &manager.path)]);
    let wanted = format!("READY=1\nSTATUS=listening on {}\n", broker.address());
    assert_eq!(manager.next(), wanted);
    broker.signal(Signal::TERM);
    assert_eq!(manager.next(), "STOPPING=1\nSTATUS=draining\n");
    assert_eq!(broker.wait_exit(PATIENCE).await.0, 0);
}

#[test]
fn the_manager_hears_that_it_lives_twice_in_the_time_it_gives() {
    let manager = Manager::new();
    let settings = [
        ("NOTIFY_SOCKET", manager.path.as_str()),
        ("WATCHDOG_USEC", "400000"),
    ];
    let broker = Broker::start(&settings);
    assert!(manager.next().starts_with("READY=1"));
    let start = Instant::now();
    for _ in 0..5 {
        assert_eq!(manager.next(), "WATCHDOG=1\n");
    }
    let least = Duration::from_millis(4 * 200);
    assert!(start.elapsed() + Duration::from_millis(50) >= least);
    // A process that does not run says nothing.
    broker.signal(Signal::STOP);
    let gap = Duration::from_millis(600);
    manager
        .socket
        .set_read_timeout(Some(gap))
        .expect("a timeout");
    let is_quiet = (0..3).any(|_| manager.socket.recv(&mut [0; 64]).is_err());
    assert!(is_quiet);
    broker.signal(Signal::CONT);
    manager
        .socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout");
    assert_eq!(manager.next(), "WATCHDOG=1\n");
}

#[test]
fn a_manager_that_cannot_be_told_stops_nothing() {
    let broker = Broker::start(&[("NOTIFY_SOCKET", "/nowhere/at/all")]);
    let wanted = "the service manager cannot be told (NOTIFY_SOCKET)";
    let patience = Instant::now() + PATIENCE;
    while !broker.log().contains(wanted) {
        assert!(Instant::now() < patience, "{}", broker.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}
