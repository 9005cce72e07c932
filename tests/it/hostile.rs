//! Hostile clients beside healthy ones: who floods, trickles or pauses is felt by nobody else.
//!
//! Latency is compared with the same client's own on the same machine a moment before and after, since machines that
//! run tests are busy: what is claimed is that a flood does not make it another order of magnitude.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::http::request_head;
use crate::harness::json::publish_text;
use crate::harness::raw::{self, FIN, PING, PONG, RawSocket, masked};
use crate::harness::wire::Wire;
use crate::harness::within;

/// How much longer a round trip may take beside a flood than without one.
const RATIO_MAX: u32 = 15;

/// Round trips shorter than this are taken for as long: on a busy machine they are chance.
const FLOOR: Duration = Duration::from_millis(4);

/// The round trip that 99 of 100 pings keep.
async fn p99(client: &mut Client, during: Duration) -> Duration {
    let start = Instant::now();
    let mut took = Vec::new();
    while start.elapsed() < during {
        let sent = Instant::now();
        assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
        took.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// One flood at a time: they would measure each other.
pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Measures a healthy client on the only core alone, beside what `hostile` starts, and alone again. A busy machine
/// gets three tries, since starvation by a flood is not a matter of luck.
async fn assert_unfelt(broker: &Broker, hostile: impl AsyncFn() -> Hostile) {
    let _turn = ONE_AT_A_TIME.lock().await;
    let mut healthy = Client::connect(broker).await;
    let second = Duration::from_secs(1);
    let mut tries = Vec::new();
    for _ in 0..3 {
        let before = p99(&mut healthy, second / 2).await;
        let flood = hostile().await;
        let beside = p99(&mut healthy, 2 * second).await;
        flood.end().await;
        let after = p99(&mut healthy, second / 2).await;
        if beside < before.max(after).max(FLOOR) * RATIO_MAX {
            return;
        }
        tries.push([before, beside, after]);
    }
    panic!("p99 before, beside and after the flood: {tries:?}");
}

/// Tasks that do harm until they are ended.
#[derive(Default)]
struct Hostile {
    tasks: JoinSet<()>,
}

impl Hostile {
    async fn end(mut self) {
        self.tasks.abort_all();
        while let Some(ended) = self.tasks.join_next().await {
            assert!(ended.is_err_and(|error| error.is_cancelled()));
        }
    }

    /// Sends `bytes` again and again as fast as they are taken, and reads all that comes.
    fn flood(sockets: impl IntoIterator<Item = RawSocket>, bytes: &[u8]) -> Self {
        let bytes: Arc<[u8]> = bytes.into();
        let flood = |socket: RawSocket| {
            let bytes = Arc::clone(&bytes);
            async move {
                let (mut from, mut to) = socket.wire.stream.into_split();
                let reading = async {
                    let mut buffer = vec![0; 256 * 1024];
                    while from.read(&mut buffer).await.expect("it is open") > 0 {}
                };
                let writing = async {
                    loop {
                        to.write_all(&bytes).await.expect("it is open");
                    }
                };
                tokio::select! { () = reading => {}, () = writing => {} }
            }
        };
        Self {
            tasks: sockets.into_iter().map(flood).collect(),
        }
    }
}

fn one_core(further: &[(&str, &str)]) -> Broker {
    Broker::start(&[&[("SHARDS", "1")], further].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_dear_messages_is_not_felt() {
    let broker = one_core(&[]);
    broker.create_topic("t").await;
    let bad_json = format!(r#"{{"type":"ping","a":[{}]]"#, "1,".repeat(32_000));
    let keys: Vec<_> = (0..5000).map(|n| format!(r#""{n:x}":1"#)).collect();
    let since = format!(
        r#"{{"type":"subscribe","topic":"t","since":{{{}}}}}"#,
        keys.join(",")
    );
    let bytes = [raw::text(&bad_json), raw::text(&since)].concat();
    assert_unfelt(&broker, async || {
        Hostile::flood([RawSocket::connect(&broker).await], &bytes)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_small_commands_are_not_felt() {
    let broker = one_core(&[]);
    broker.create_topic("t").await;
    let commands = [
        masked(FIN | PING, b""),
        raw::text(r#"{"type":"ping"}"#),
        raw::text(r#"{"type":"subscribe","topic":"t","last_n":5}"#),
        raw::text(r#"{"type":"unsubscribe","topic":"t"}"#),
        raw::text("{"),
        raw::text(&publish_text("t", "1")),
    ];
    assert_unfelt(&broker, async || {
        let sockets = [
            RawSocket::connect(&broker).await,
            RawSocket::connect(&broker).await,
        ];
        Hostile::flood(sockets, &commands.concat().repeat(200))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fast_reader_of_long_replays_is_not_felt() {
    let broker = one_core(&[("RING_BUFFER_SIZE", "10000")]);
    broker.create_topic("t").await;
    let mut publisher = Client::connect(&broker).await;
    let payloads = std::iter::repeat_n("x".repeat(500), 10_000);
    publisher.publish_all("t", payloads, 1000).await;
    let replay = raw::text(r#"{"type":"subscribe","topic":"t","last_n":10000}"#);
    assert_unfelt(&broker, async || {
        Hostile::flood([RawSocket::connect(&broker).await], &replay.repeat(100))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_for_long_lists_is_not_felt() {
    let broker = one_core(&[("AUTO_CREATE_TOPICS", "true")]);
    let mut publisher = Client::connect(&broker).await;
    for topic in 0..5000 {
        publisher
            .send_text(&publish_text(&format!("topic-{topic}"), "1"))
            .await;
        publisher.recv().await;
    }
    let requests = [
        request_head("GET", "/stats", &[]),
        request_head("GET", "/topics", &[]),
    ];
    assert_unfelt(&broker, async || {
        let mut sockets = Vec::new();
        for _ in 0..4 {
            sockets.push(RawSocket::dial(&broker).await);
        }
        Hostile::flood(sockets, requests.concat().repeat(20).as_bytes())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_connections_is_not_felt() {
    let broker = one_core(&[]);
    let address = broker.address();
    assert_unfelt(&broker, async || {
        let storm = |_| async move {
            loop {
                let mut wire = Wire::connect(address, None).await;
                wire.send(raw::upgrade_request("/ws").as_bytes()).await;
                assert!(wire.take_head("the answer").await.is_some());
                // The storm is one of coming and going, not of ports that are used up.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        Hostile {
            tasks: (0..4).map(storm).collect(),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trickles_are_not_felt_and_come_through() {
    let broker = one_core(&[]);
    let mut trickles = JoinSet::new();
    for _ in 0..100 {
        let mut socket = RawSocket::connect(&broker).await;
        trickles.spawn(async move {
            let mut pace = interval(Duration::from_millis(50));
            for byte in raw::text(r#"{"type":"ping","request_id":"slow"}"#) {
                pace.tick().await;
                socket.send(&[byte]).await;
            }
            assert_eq!(socket.recv().await["request_id"], "slow");
        });
    }
    assert_unfelt(&broker, async || Hostile::default()).await;
    trickles.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_misses_nothing_beside_stalled_and_flooding_ones() {
    let broker = one_core(&[("SUBSCRIBER_QUEUE_SIZE", "1000")]);
    broker.create_topic("t").await;
    let subscribe = r#"{"type":"subscribe","topic":"t"}"#;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut socket = RawSocket::connect_small(&broker).await;
        assert_eq!(socket.ask(subscribe).await["type"], "ack");
        stalled.push(socket);
    }
    let flooder = RawSocket::connect(&broker).await;
    let flood = Hostile::flood([flooder], &raw::text(subscribe).repeat(1000));
    let mut healthy = Client::subscribed(&broker, "t").await;
    let mut publisher = Client::connect(&broker).await;
    for seq in 1..=400 {
        let ack = publisher.publish("t", "x".repeat(1000)).await;
        assert_eq!(ack["seq"], seq);
        assert_eq!(healthy.expect_event("t").await["seq"], seq);
    }
    flood.end().await;
}

/// The next frame but heartbeats.
async fn next_reply(socket: &mut RawSocket) -> Value {
    loop {
        let message = socket.recv().await;
        if message["type"] != "info" {
            return message;
        }
    }
}

#[tokio::test]
async fn a_pause_of_the_process_is_held_against_no_client_that_was_there() {
    let settings = [("PING_PERIOD_SEC", "1"), ("PONG_WAIT_SEC", "2")];
    let broker = Broker::start(&settings);
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(RawSocket::connect(&broker).await);
    }
    broker.signal(Signal::STOP);
    let mut pace = interval(Duration::from_millis(500));
    for _ in 0..7 {
        pace.tick().await;
        for client in &mut clients {
            client.send(&masked(FIN | PONG, b"")).await;
        }
    }
    broker.signal(Signal::CONT);
    for client in &mut clients {
        client.send_text(r#"{"type":"ping"}"#).await;
        assert_eq!(next_reply(client).await["type"], "pong");
    }
}

#[tokio::test]
async fn a_pause_of_the_process_is_held_against_no_client_that_reads() {
    let settings = [
        ("WRITE_WAIT_SEC", "1"),
        ("AUTH_TIMEOUT_SEC", "1"),
        ("SUBSCRIBER_QUEUE_SIZE", "1000"),
        ("SUBSCRIBER_QUEUE_BYTES", "10000000"),
    ];
    let broker = Broker::start(&settings);
    broker.create_topic("t").await;
    let mut reader = RawSocket::connect_small(&broker).await;
    reader.ask(r#"{"type":"subscribe","topic":"t"}"#).await;
    let mut publisher = Client::connect(&broker).await;
    let payloads = (0..100).map(|_| "x".repeat(20_000));
    publisher.publish_all("t", payloads, 20).await;
    broker.signal(Signal::STOP);
    let mut pace = interval(Duration::from_millis(100));
    for _ in 0..25 {
        pace.tick().await;
        // It reads what there is: the socket stands still for want of a broker.
        reader.wire.take_in();
    }
    broker.signal(Signal::CONT);
    for seq in 1..=100 {
        assert_eq!(next_reply(&mut reader).await["seq"], seq);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_were_left_unread_all_come_when_they_are_read() {
    const CLIENTS: usize = 100;
    let broker = one_core(&[("HEARTBEAT_INFO", "false")]);
    let id = "r".repeat(128);
    let ping = raw::text(&json!({"type": "ping", "request_id": id}).to_string());
    // More than may wait unread; as many again come through while it is read.
    let pings = 3000;
    let burst = Arc::new(ping.repeat(pings));
    let mut sockets = Vec::new();
    for _ in 0..CLIENTS {
        sockets.push(RawSocket::connect(&broker).await);
    }
    for is_paused in [false, true] {
        // A machine that is busy enough has all of it in the sockets before the broker looks.
        if is_paused {
            broker.signal(Signal::STOP);
        }
        let mut sent = Vec::new();
        for socket in &mut sockets {
            let mut taken = 0;
            loop {
                match socket.wire.stream.try_write(&burst[taken..]) {
                    Ok(more) if more > 0 => taken += more,
                    _ => break sent.push(taken),
                }
            }
        }
        if is_paused {
            broker.signal(Signal::CONT);
        }
        let mut readers = JoinSet::new();
        for (socket, sent) in sockets.drain(..).zip(sent) {
            let burst = Arc::clone(&burst);
            readers.spawn(read_all(socket, burst, sent, pings));
        }
        sockets = readers.join_all().await;
    }
}

/// Sends the rest and reads every pong; nothing is sent any more once all has been.
#[expect(clippy::rc_buffer, reason = "one burst for many connections")]
async fn read_all(socket: RawSocket, burst: Arc<Vec<u8>>, sent: usize, pongs: usize) -> RawSocket {
    let Wire { stream, .. } = socket.wire;
    let (mut from, mut to) = stream.into_split();
    let sending = tokio::spawn(async move {
        to.write_all(&burst[sent..]).await.expect("it is open");
        to
    });
    let one =
        json!({"type": "pong", "request_id": "r".repeat(128), "ts": "2025-08-25T10:00:00.000Z"});
    let mut left = pongs * (one.to_string().len() + 4);
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let read = within("the last pongs", from.read(&mut buffer)).await;
        let read = read.expect("it is open");
        assert!(read > 0, "ended with {left} bytes of pongs missing");
        left = left.checked_sub(read).expect("pongs and nothing else");
    }
    let to = sending.await.expect("no panic");
    let stream = from.reunite(to).expect("one socket");
    RawSocket {
        wire: Wire::from_stream(stream),
    }
}
