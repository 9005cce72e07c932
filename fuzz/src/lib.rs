//! A broker in this process, for inputs that have to go through a socket.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use shardcast::access::Access;
use shardcast::config::{Config, flags};

/// An answer that takes longer is a hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// The address of a broker with small limits, started at the first call.
pub fn broker() -> SocketAddr {
    static BROKER: OnceLock<SocketAddr> = OnceLock::new();
    *BROKER.get_or_init(|| {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it is bound");
        drop(free);
        let port = address.port().to_string();
        let args = clap::Command::new("fuzz")
            .args(flags())
            .get_matches_from(["fuzz"]);
        let env = |name: &str| {
            Some(match name {
                "HOST" => "127.0.0.1".into(),
                "PORT" => port.clone().into(),
                "SHARDS" => "2".into(),
                "MAX_TOPICS" => "50".into(),
                "AUTO_CREATE_TOPICS" => "true".into(),
                "RING_BUFFER_SIZE" => "4".into(),
                "HTTP_BODY_MAX" => "1024".into(),
                "MAX_MESSAGE_SIZE" => "2048".into(),
                "CLOSE_WAIT_SEC" => "0".into(),
                "ALLOWED_ORIGINS" => "https://a.example".into(),
                _ => return None,
            })
        };
        let config = Config::load(&args, &env).expect("these settings are allowed");
        let access = Access::open(&config).expect("there are no keys");
        std::thread::spawn(move || shardcast::server::run(config, None, access));
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        address
    })
}

/// A socket to it.
pub fn connect() -> TcpStream {
    let socket = TcpStream::connect(broker()).expect("it listens");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a legal timeout");
    socket
        .set_write_timeout(Some(PATIENCE))
        .expect("a legal timeout");
    socket
}

/// Sends `bytes` and the end of the stream. Returns all that comes back.
pub fn ask(mut socket: TcpStream, bytes: &[u8]) -> Vec<u8> {
    // It may be closed by the first of these bytes.
    let _sent = socket
        .write_all(bytes)
        .and_then(|()| socket.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => {
            panic!("no end of the answer")
        }
        _ => answer,
    }
}

/// Whether somebody else is still served.
pub fn is_healthy() -> bool {
    let answer = ask(
        connect(),
        b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    answer.starts_with(b"HTTP/1.1 200")
}
