//! Clients whose machine is gone without a word: no reset, no end, no answer. They live in a network namespace that loses
//! its address, which takes root and `ip`; elsewhere the tests say so and pass.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;

use super::Neighbour;
use crate::harness::broker::Broker;
use crate::harness::descriptors::descriptors_of;
use crate::harness::http::request_head;
use crate::harness::raw::{self, RawSocket};
use crate::harness::sse::EventStream;
use crate::harness::wire::Wire;
use crate::harness::within;

/// Another machine, as far as the network can tell. It is gone with the test.
struct Machine {
    name: String,
    link: String,
    ours: Ipv4Addr,
    theirs: Ipv4Addr,
}

fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    let program = words.next().expect("a command has a name");
    let mut process = Command::new(program);
    process.args(words).stdin(Stdio::null());
    let status = process.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl Machine {
    /// `None`, and a line that says so, where there can be none.
    #[expect(clippy::print_stderr, reason = "it is all that a skipped test says")]
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = std::process::id() * 4 + NEXT.fetch_add(1, Ordering::Relaxed);
        let [.., high, low] = number.to_be_bytes();
        let machine = Self {
            name: format!("sc{number}"),
            link: format!("sc{number}h"),
            ours: Ipv4Addr::new(10, 213, high, low & 0xFC | 1),
            theirs: Ipv4Addr::new(10, 213, high, low & 0xFC | 2),
        };
        let Self {
            name, link, ours, ..
        } = &machine;
        let is_there = run(&format!("ip netns add {name}"))
            && run(&format!(
                "ip link add {link} type veth peer name inside netns {name}"
            ))
            && run(&format!("ip addr add {ours}/30 dev {link}"))
            && run(&format!("ip link set {link} up"))
            && run(&format!("ip -n {name} link set inside up"));
        if !is_there {
            eprintln!("skipped: network namespaces take root and ip(8)");
            return None;
        }
        machine.appear();
        Some(machine)
    }

    fn appear(&self) {
        let Self { name, theirs, .. } = self;
        let added = run(&format!("ip -n {name} addr add {theirs}/30 dev inside"));
        assert!(added, "an address can be added");
    }

    /// From now on nothing comes from it, and nothing arrives there.
    fn vanish(&self) {
        let Self { name, .. } = self;
        let flushed = run(&format!("ip -n {name} addr flush dev inside"));
        assert!(flushed, "an address can be taken away");
    }

    /// A connection from there.
    async fn dial(&self, broker: &Broker) -> Wire {
        let path = format!("/run/netns/{}", self.name);
        let to = (self.ours, broker.address().port());
        // A thread of its own: whoever has moved does not come back.
        let dialing = tokio::task::spawn_blocking(move || {
            std::thread::spawn(move || {
                let space = File::open(path).expect("the namespace is there");
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(space.as_fd(), kind).expect("root may");
                std::net::TcpStream::connect(to)
            })
            .join()
        });
        let dialed = within("a connection from there", dialing).await;
        let stream = dialed.expect("it runs").expect("it does not panic");
        let stream = stream.expect("the broker listens");
        stream.set_nonblocking(true).expect("it is a socket");
        Wire::from_stream(TcpStream::from_std(stream).expect("a runtime"))
    }

    async fn connect(&self, broker: &Broker) -> RawSocket {
        let mut socket = RawSocket {
            wire: self.dial(broker).await,
        };
        socket.upgrade().await;
        socket
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        run(&format!("ip link del {}", self.link));
        run(&format!("ip netns del {}", self.name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_vanished_at_any_stage_is_forgotten() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let broker = Broker::start(&[
        ("HOST", "0.0.0.0"),
        ("PING_PERIOD_SEC", "1"),
        ("PONG_WAIT_SEC", "2"),
        ("WRITE_WAIT_SEC", "2"),
        ("READ_TIMEOUT_SEC", "2"),
        ("WRITE_TIMEOUT_SEC", "2"),
        ("IDLE_TIMEOUT_SEC", "2"),
        ("CLOSE_WAIT_SEC", "1"),
        ("HEARTBEAT_INFO", "false"),
    ]);
    let mut neighbour = Neighbour::of(&broker).await;
    neighbour.live().await;
    let descriptors = descriptors_of(&broker);

    let _idle = machine.connect(&broker).await;
    let mut subscriber = machine.connect(&broker).await;
    let subscribe = r#"{"type":"subscribe","topic":"far"}"#;
    broker.create_topic("far").await;
    assert_eq!(subscriber.ask(subscribe).await["type"], "ack");
    let mut half_a_frame = machine.connect(&broker).await;
    half_a_frame.send(&raw::text(subscribe)[..20]).await;
    let mut unread = machine.connect(&broker).await;
    unread
        .send(&raw::text(r#"{"type":"ping"}"#).repeat(1000))
        .await;
    let _silent = machine.dial(&broker).await;
    let mut half_a_request = machine.dial(&broker).await;
    half_a_request.send(b"GET /health HTTP/1.1\r\nHo").await;
    let mut kept_alive = machine.dial(&broker).await;
    kept_alive
        .send(request_head("GET", "/health", &[]).as_bytes())
        .await;
    kept_alive.take_head("an answer").await.expect("an answer");
    // One that is quiet, and one for which something comes.
    broker.create_topic("quiet").await;
    let mut streams = Vec::new();
    for path in ["/topics/quiet/events", "/topics/far/events"] {
        let wire = machine.dial(&broker).await;
        let mut stream = EventStream::open_over(wire, path, &[]).await;
        stream.expect("ack").await;
        streams.push(stream);
    }
    assert_eq!(broker.subscribers_of("far").await, 2);

    machine.vanish();
    let ack = neighbour.publisher.publish("far", "x".repeat(60_000)).await;
    assert_eq!(ack["matched"], 2);
    neighbour.alone(&broker, descriptors).await;
    for topic in ["far", "quiet"] {
        assert_eq!(broker.subscribers_of(topic).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_away_for_a_moment_misses_nothing() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let broker = Broker::start(&[("HOST", "0.0.0.0"), ("HEARTBEAT_INFO", "false")]);
    let mut neighbour = Neighbour::of(&broker).await;
    let mut subscriber = machine.connect(&broker).await;
    let subscribe = r#"{"type":"subscribe","topic":"calm"}"#;
    assert_eq!(subscriber.ask(subscribe).await["type"], "ack");
    machine.vanish();
    for number in 1..=50 {
        neighbour.seq = number;
        let ack = neighbour.publisher.publish("calm", number).await;
        assert_eq!((&ack["seq"], &ack["matched"]), (&number.into(), &2.into()));
        assert_eq!(neighbour.subscriber.recv().await["seq"], number);
    }
    machine.appear();
    for number in 1..=50_u64 {
        assert_eq!(subscriber.recv().await["seq"], number);
    }
}
