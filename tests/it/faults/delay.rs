//! Clients that are far away: 100 ms there, 100 ms back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::json::number;

/// How long a byte is under way.
const ONE_WAY: Duration = Duration::from_millis(100);

/// Passes on what comes, each piece so much later, and then the end.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let (sender, mut pieces) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        loop {
            let mut piece = Vec::with_capacity(16 * 1024);
            let read = from.read_buf(&mut piece).await;
            let is_end = !matches!(read, Ok(1..));
            sender.send((Instant::now() + ONE_WAY, piece)).ok();
            if is_end {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(reading, writing);
}

/// A way to the broker that takes its time, as long as it is kept.
struct LongWay {
    address: SocketAddr,
    _passing: JoinSet<()>,
}

impl LongWay {
    async fn to(broker: &Broker) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (address, to) = (
            listener.local_addr().expect("it is bound"),
            broker.address(),
        );
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            let mut ways = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(to).await.expect("the broker listens");
                far.set_nodelay(true).expect("it is a TCP socket");
                near.set_nodelay(true).expect("it is a TCP socket");
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                ways.spawn(pass(near_in, far_out));
                ways.spawn(pass(far_in, near_out));
            }
        });
        Self {
            address,
            _passing: passing,
        }
    }

    async fn connect(&self, headers: &[(&'static str, &str)]) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        Client::connect_over(Box::new(stream), "/ws", headers).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_away_misses_nothing_and_is_not_slowed_to_one_message_a_round_trip() {
    const MESSAGES: u64 = 2000;
    let broker = Broker::start(&[("SUBSCRIBER_QUEUE_SIZE", "2000")]);
    broker.create_topic("far").await;
    let way = LongWay::to(&broker).await;
    let mut subscriber = way.connect(&[]).await;
    subscriber.subscribe("far").await;
    let mut publisher = way.connect(&[]).await;

    let started = Instant::now();
    publisher.publish("far", 1).await;
    assert!(started.elapsed() >= 2 * ONE_WAY, "the way is not long");
    let acks = publisher.publish_all("far", 2..=MESSAGES, 500).await;
    let took = started.elapsed();
    assert!(acks.iter().map(|ack| number(ack, "seq")).eq(2..=MESSAGES));
    // Five round trips; one for each message would be 400 seconds.
    assert!(took < Duration::from_secs(8), "{took:?}");
    let seqs = subscriber.expect_seqs_to("far", MESSAGES).await;
    assert!(seqs.into_iter().eq(1..=MESSAGES));

    let (code, _) = {
        broker.delete_topic("far").await;
        let told = subscriber.recv().await;
        assert_eq!(told["msg"], "topic_deleted");
        broker.signal(rustix::process::Signal::TERM);
        subscriber.expect_close().await
    };
    assert_eq!(code, 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_far_away_is_in_time_with_keys_and_heartbeats() {
    let broker = Broker::start(&[
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", "far-key"),
        ("AUTH_TIMEOUT_SEC", "1"),
        ("PING_PERIOD_SEC", "1"),
        ("PONG_WAIT_SEC", "2"),
    ]);
    let way = LongWay::to(&broker).await;
    let mut client = way.connect(&[]).await;
    let ack = client
        .ask(json!({"type": "auth", "api_key": "far-key"}))
        .await;
    assert_eq!(ack["status"], "authenticated");
    for _ in 0..4 {
        assert_eq!(client.recv().await["msg"], "ping");
    }
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}
