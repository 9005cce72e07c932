//! Connections that end where nobody expects it: at every byte, by a close or a reset, or by taking nothing more.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Neighbour;
use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::descriptors::descriptors_of;
use crate::harness::eventually;
use crate::harness::http::request_head;
use crate::harness::json::{number, publish_text};
use crate::harness::raw::{self, CLOSE, FIN, PING, RawSocket, masked, upgrade_request};
use crate::harness::wire::Wire;

/// Cuts at once.
const CUTS_AT_ONCE: usize = 32;

/// Ends a connection by a reset: what is under way does not arrive.
pub(super) fn reset(stream: TcpStream) {
    let linger = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    linger.expect("it is a TCP socket");
    drop(stream);
}

/// All that a client sends in its life: a handshake, a subscribe, a publish, a ping, a close. The publish is whole at the
/// second number.
fn life() -> (Vec<u8>, usize) {
    let mut bytes = upgrade_request("/ws").into_bytes();
    bytes.extend(raw::text(
        r#"{"type":"subscribe","topic":"cut","last_n":3}"#,
    ));
    bytes.extend(raw::text(&publish_text("cut", r#"{"a":[1,2,3]}"#)));
    let published = bytes.len();
    bytes.extend(masked(FIN | PING, b"still here"));
    bytes.extend(masked(FIN | CLOSE, &1000_u16.to_be_bytes()));
    (bytes, published)
}

pub(super) async fn messages_of(broker: &Broker, topic: &str) -> u64 {
    let stats = broker.get("/stats").await.json();
    number(&stats["topics"][topic], "messages")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_is_cut_at_any_byte_leaves_nothing_but_what_was_whole() {
    let broker = Broker::start(&[]);
    broker.create_topic("cut").await;
    let mut neighbour = Neighbour::of(&broker).await;
    neighbour.live().await;
    let (descriptors, address) = (descriptors_of(&broker), broker.address());
    let (life, published) = life();
    let whole = (published..=life.len()).count() as u64;
    for is_reset in [false, true] {
        let before = messages_of(&broker, "cut").await;
        let mut cuts = JoinSet::new();
        for cut in 0..=life.len() {
            let bytes = life[..cut].to_vec();
            cuts.spawn(async move {
                let mut wire = Wire::connect(address, None).await;
                wire.send(&bytes).await;
                if is_reset {
                    reset(wire.stream);
                } else {
                    // A close that finds answers unread would be a reset.
                    wire.shut_down().await;
                    wire.rest("the end of half a life").await;
                }
            });
            if cuts.len() == CUTS_AT_ONCE {
                let ended = cuts.join_next().await.expect("there are some");
                ended.expect("the cut");
                neighbour.live().await;
            }
        }
        cuts.join_all().await;
        neighbour.alone(&broker, descriptors).await;
        let accepted = messages_of(&broker, "cut").await - before;
        // What a reset destroys before it is read was never there.
        assert!(
            accepted == whole || is_reset && accepted < whole,
            "{accepted} of {whole}"
        );
    }
}

/// Where a reset comes.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Silence,
    HalfAHead,
    UnreadHandshake,
    HalfAFrame,
    Fragments,
    UnreadReplay,
    UnreadPongs,
    Closing,
    HalfABody,
    UnreadList,
    KeptAlive,
}

const STAGES: [Stage; 11] = [
    Stage::Silence,
    Stage::HalfAHead,
    Stage::UnreadHandshake,
    Stage::HalfAFrame,
    Stage::Fragments,
    Stage::UnreadReplay,
    Stage::UnreadPongs,
    Stage::Closing,
    Stage::HalfABody,
    Stage::UnreadList,
    Stage::KeptAlive,
];

impl Stage {
    /// A connection that has come this far.
    async fn reach(self, broker: &Broker) -> TcpStream {
        let mut socket = match self {
            Self::Silence
            | Self::HalfAHead
            | Self::UnreadHandshake
            | Self::HalfABody
            | Self::UnreadList
            | Self::KeptAlive => RawSocket::dial(broker).await,
            _ => RawSocket::connect_small(broker).await,
        };
        let upgrade = upgrade_request("/ws").into_bytes();
        let replay = raw::text(r#"{"type":"subscribe","topic":"kept","last_n":100}"#);
        let ping = raw::text(r#"{"type":"ping"}"#);
        let post = request_head("POST", "/topics", &[("Content-Length", "100")]) + "{\"name\":";
        let list = request_head("GET", "/stats", &[]);
        let bytes = match self {
            Self::Silence => Vec::new(),
            Self::HalfAHead => upgrade[..upgrade.len() / 2].to_vec(),
            Self::UnreadHandshake => upgrade,
            Self::HalfAFrame => replay[..replay.len() / 2].to_vec(),
            Self::Fragments => masked(raw::TEXT, b"{\"type\":"),
            Self::UnreadReplay => replay.repeat(20),
            Self::UnreadPongs => ping.repeat(5000),
            Self::Closing => masked(FIN | CLOSE, b""),
            Self::HalfABody => post.into_bytes(),
            Self::UnreadList => list.repeat(50).into_bytes(),
            Self::KeptAlive => list.into_bytes(),
        };
        socket.send(&bytes).await;
        if matches!(self, Self::KeptAlive) {
            socket.wire.take_head("an answer").await;
        }
        socket.wire.stream
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_at_any_stage_leaves_nothing_behind() {
    let broker = Broker::start(&[("SUBSCRIBER_QUEUE_SIZE", "1000")]);
    broker.create_topic("kept").await;
    let mut publisher = Client::connect(&broker).await;
    let payloads = std::iter::repeat_n("x".repeat(4000), 100);
    publisher.publish_all("kept", payloads, 10).await;
    publisher.close().await;
    let mut neighbour = Neighbour::of(&broker).await;
    neighbour.live().await;
    let descriptors = descriptors_of(&broker);
    for round in 0..3 {
        for stage in STAGES {
            let stream = stage.reach(&broker).await;
            // At once, then with the broker in the middle of it, then when it has done what it can.
            match round {
                0 => {}
                1 => tokio::task::yield_now().await,
                _ => neighbour.live().await,
            }
            reset(stream);
        }
        neighbour.alone(&broker, descriptors).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_stay_shut_are_given_up_and_counted() {
    let broker = Broker::start(&[
        ("WRITE_WAIT_SEC", "1"),
        ("WRITE_TIMEOUT_SEC", "1"),
        ("CLOSE_WAIT_SEC", "1"),
    ]);
    broker.create_topic("flood").await;
    let mut neighbour = Neighbour::of(&broker).await;
    neighbour.live().await;
    let descriptors = descriptors_of(&broker);

    // One that is sent events, one that is sent answers, and one that is sent lists; none takes any of it.
    let mut subscriber = RawSocket::connect_small(&broker).await;
    subscriber
        .ask(r#"{"type":"subscribe","topic":"flood"}"#)
        .await;
    let mut asking = RawSocket::connect_small(&broker).await;
    let pings = raw::text(r#"{"type":"ping"}"#).repeat(1000);
    while asking.push(&pings).await > 0 {}
    let mut listing = RawSocket {
        wire: Wire::connect(broker.address(), Some(4096)).await,
    };
    let lists = request_head("GET", "/stats", &[]).repeat(100);
    while listing.push(lists.as_bytes()).await > 0 {}
    let mut publisher = Client::connect(&broker).await;
    let payloads = std::iter::repeat_n("x".repeat(32_000), 400);
    publisher.publish_all("flood", payloads, 10).await;
    publisher.close().await;

    neighbour.alone(&broker, descriptors).await;
    let totals = broker.get("/stats").await.json()["totals"].clone();
    assert_eq!(totals["slow_disconnects"], 2);
    for mut socket in [subscriber, asking, listing] {
        eventually("its end", async || !socket.is_open(b"x").await).await;
    }
}
