//! Everything hostile at once beside healthy clients, for as long as `SHARDCAST_SOAK_SECS` says (default 4): they
//! miss nothing, and when it is over memory, descriptors and gauges are where they were after the first quarter.
//!
//! `SHARDCAST_SOAK_SECS=3600 cargo test --release --test it soak -- --nocapture` is the hostile hour; it says a line
//! each minute.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::json::publish_text;
use crate::harness::raw::{self, upgrade_request};

/// Topics that hostile clients make.
const TOPICS: usize = 200;

/// More than an allocator keeps for itself, far less than one kind of leak leaves in minutes.
const RESIDENT_KIB_MARGIN: u64 = 16 * 1024;

/// Sockets of whoever asks for the figures.
const DESCRIPTORS_MARGIN: usize = 3;

/// A round trip that no noise of a busy machine reaches while the process is not stopped.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(5);

/// How long the process is stopped, again and again.
const PAUSE: Duration = Duration::from_millis(1200);

#[expect(
    clippy::disallowed_methods,
    reason = "the rule is for the broker; this is how the soak gets its length"
)]
fn length() -> Duration {
    let given = std::env::var("SHARDCAST_SOAK_SECS");
    let secs = given.map_or(4, |secs| {
        secs.parse().expect("SHARDCAST_SOAK_SECS is seconds")
    });
    Duration::from_secs(secs)
}

/// What a hostile client does once, and then again.
#[derive(Clone, Copy, Debug)]
enum Attack {
    FloodPublishes,
    FloodSubscribes,
    Stall,
    TrickleFrame,
    TrickleHead,
    PileUpReplays,
    LeaveAnswers,
    Storm,
    HalfARequest,
    Garbage,
}

const ATTACKS: [Attack; 10] = [
    Attack::FloodPublishes,
    Attack::FloodSubscribes,
    Attack::Stall,
    Attack::TrickleFrame,
    Attack::TrickleHead,
    Attack::PileUpReplays,
    Attack::LeaveAnswers,
    Attack::Storm,
    Attack::HalfARequest,
    Attack::Garbage,
];

/// Whatever happens to a hostile client is its own affair.
type Outcome = std::io::Result<()>;

async fn dial(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(address).await
}

async fn upgrade(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut socket = dial(address).await?;
    socket.write_all(upgrade_request("/ws").as_bytes()).await?;
    let mut head = [0; 12];
    socket.read_exact(&mut head).await?;
    Ok(socket)
}

async fn trickle(mut socket: TcpStream, bytes: &[u8]) -> Outcome {
    for byte in bytes.iter().take(60) {
        socket.write_all(&[*byte]).await?;
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Reads for `time`, slowly.
async fn nibble(socket: &mut TcpStream, time: Duration) -> Outcome {
    let start = Instant::now();
    while start.elapsed() < time {
        if let Ok(read) = timeout(time, socket.read(&mut [0; 1024])).await
            && read? == 0
        {
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

impl Attack {
    async fn once(self, address: SocketAddr, round: usize) -> Outcome {
        let topic = |number: usize| format!("hostile-{}", number % TOPICS);
        match self {
            Self::FloodPublishes => {
                let mut socket = upgrade(address).await?;
                let one = raw::text(&publish_text(
                    &topic(round),
                    &format!("\"{}\"", "x".repeat(1000)),
                ));
                socket.write_all(&one.repeat(300)).await?;
                nibble(&mut socket, Duration::from_millis(50)).await
            }
            Self::FloodSubscribes => {
                let mut socket = upgrade(address).await?;
                let all: Vec<_> = (0..TOPICS)
                    .flat_map(|number| {
                        raw::text(&format!(
                            r#"{{"type":"subscribe","topic":"{}"}}"#,
                            topic(number)
                        ))
                    })
                    .collect();
                socket.write_all(&all).await?;
                nibble(&mut socket, Duration::from_millis(200)).await
            }
            Self::Stall => {
                let mut socket = upgrade(address).await?;
                for topic in ["healthy", &topic(round)] {
                    let subscribe = format!(r#"{{"type":"subscribe","topic":"{topic}"}}"#);
                    socket.write_all(&raw::text(&subscribe)).await?;
                }
                sleep(Duration::from_millis(1500)).await;
                Ok(())
            }
            Self::TrickleFrame => {
                let socket = upgrade(address).await?;
                trickle(socket, &raw::text(&publish_text(&topic(round), "1"))).await
            }
            Self::TrickleHead => {
                trickle(dial(address).await?, upgrade_request("/ws").as_bytes()).await
            }
            Self::PileUpReplays => {
                let mut socket = upgrade(address).await?;
                let replay = raw::text(&format!(
                    r#"{{"type":"subscribe","topic":"{}","last_n":100}}"#,
                    topic(round)
                ));
                socket.write_all(&replay.repeat(500)).await?;
                sleep(Duration::from_millis(300)).await;
                Ok(())
            }
            Self::LeaveAnswers => {
                let mut socket = dial(address).await?;
                let get = |path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
                let both = [get("/topics"), get("/stats")].concat().repeat(20);
                socket.write_all(both.as_bytes()).await?;
                sleep(Duration::from_millis(300)).await;
                Ok(())
            }
            Self::Storm => {
                let mut sockets = Vec::new();
                for _ in 0..30 {
                    sockets.push(dial(address).await?);
                }
                sleep(Duration::from_millis(100)).await;
                Ok(())
            }
            Self::HalfARequest => {
                let mut socket = dial(address).await?;
                let half =
                    b"POST /topics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"name\":";
                socket.write_all(half).await?;
                if round.is_multiple_of(2) {
                    socket.shutdown().await?;
                }
                nibble(&mut socket, Duration::from_millis(300)).await
            }
            Self::Garbage => {
                let mut socket = upgrade(address).await?;
                let bytes: Vec<u8> = (0..2000_usize)
                    .map(|n| (n * 7 + round * 13).to_le_bytes()[0])
                    .collect();
                socket.write_all(&bytes).await?;
                nibble(&mut socket, Duration::from_millis(50)).await
            }
        }
    }
}

/// Attacks until it is dropped.
fn attack(address: SocketAddr) -> JoinSet<()> {
    let one = |attack: Attack| async move {
        for round in 0.. {
            // An attack that meets a stopped process ends with it.
            drop(timeout(Duration::from_secs(3), attack.once(address, round)).await);
            sleep(Duration::from_millis(30)).await;
        }
    };
    ATTACKS.into_iter().chain(ATTACKS).map(one).collect()
}

/// A publisher and two subscribers who must not notice anything.
struct Healthy {
    publisher: Client,
    subscribers: [Client; 2],
    seq: u64,
}

impl Healthy {
    async fn new(broker: &Broker) -> Self {
        broker.create_topic("healthy").await;
        Self {
            publisher: Client::connect(broker).await,
            subscribers: [
                Client::subscribed(broker, "healthy").await,
                Client::subscribed(broker, "healthy").await,
            ],
            seq: 0,
        }
    }

    /// Publishes and receives for `time`. Returns how long 99 of 100 messages took to reach both.
    async fn live(&mut self, time: Duration) -> Duration {
        let (start, mut took) = (Instant::now(), Vec::new());
        while start.elapsed() < time {
            self.seq += 1;
            let sent = Instant::now();
            let ack = self.publisher.publish("healthy", "x".repeat(200)).await;
            assert_eq!(ack["seq"], self.seq);
            for subscriber in &mut self.subscribers {
                assert_eq!(subscriber.expect_event("healthy").await["seq"], self.seq);
            }
            took.push(sent.elapsed());
            sleep(Duration::from_millis(10)).await;
        }
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }
}

/// What has to be as it was.
#[derive(Debug)]
struct State {
    resident_kib: u64,
    descriptors: usize,
    gauges: Vec<u64>,
}

impl State {
    async fn of(broker: &Broker) -> Self {
        let totals = broker.get("/stats").await.json()["totals"].clone();
        let kinds = totals["memory"]["kinds"].clone();
        let number = |value: &Value| value.as_u64().expect("a gauge is a number");
        let gauges = ["connections", "subscribers", "queued"].map(|name| number(&totals[name]));
        let bytes = ["replies", "input", "connections"].map(|name| number(&kinds[name]));
        let path = format!("/proc/{}/fd", broker.pid().as_raw_nonzero());
        Self {
            resident_kib: broker.resident_kib(),
            descriptors: std::fs::read_dir(path).expect("it runs").count(),
            gauges: [gauges, bytes].concat(),
        }
    }

    /// The state once hostile clients have gone: three connections, two of them subscribed.
    async fn settled(broker: &Broker) -> Self {
        eventually("the hostile clients are forgotten", async || {
            let state = Self::of(broker).await;
            state.gauges[..5] == [3, 2, 0, 0, 0]
        })
        .await;
        // Answers that are still being closed.
        let mut state = Self::of(broker).await;
        for _ in 0..50 {
            sleep(Duration::from_millis(100)).await;
            let now = Self::of(broker).await;
            if now.descriptors >= state.descriptors && now.resident_kib + 256 >= state.resident_kib
            {
                break;
            }
            state = now;
        }
        state
    }
}

#[expect(clippy::print_stderr, reason = "the record of a long run")]
fn say(line: &str) {
    eprintln!("soak: {line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_hostile_at_once_leaves_nothing_behind_and_is_not_felt() {
    let whole = length();
    let broker = Broker::start(&[
        ("AUTO_CREATE_TOPICS", "true"),
        ("HEARTBEAT_INFO", "false"),
        ("SUBSCRIBER_QUEUE_SIZE", "1000"),
        ("RING_BUFFER_SIZE", "10"),
        ("MEMORY_BUDGET", "64MiB"),
        ("READ_TIMEOUT_SEC", "2"),
        ("WRITE_TIMEOUT_SEC", "2"),
        ("WRITE_WAIT_SEC", "2"),
        ("CLOSE_WAIT_SEC", "1"),
        ("HTTP_CONNECTIONS_MAX", "100"),
    ]);
    let mut healthy = Healthy::new(&broker).await;
    let alone = healthy.live(whole / 8).await;
    let hostile = attack(broker.address());
    let mut beside = healthy.live(whole / 8).await;
    drop(hostile);
    let before = State::settled(&broker).await;
    say(&format!(
        "alone p99 {alone:?}, beside {beside:?}, {before:?}"
    ));

    let hostile = attack(broker.address());
    let (start, step) = (
        Instant::now(),
        (whole * 3 / 4 / 3).min(Duration::from_mins(1)),
    );
    while start.elapsed() < whole * 3 / 4 {
        beside = beside.max(healthy.live(step).await);
        say(&format!(
            "{:?}: beside {beside:?}, {:?}",
            start.elapsed(),
            State::of(&broker).await
        ));
        broker.signal(Signal::STOP);
        sleep(PAUSE).await;
        broker.signal(Signal::CONT);
    }
    drop(hostile);
    let after = State::settled(&broker).await;
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    say(&format!(
        "p99 beside all of it {ratio:.1} times that alone, {after:?}"
    ));
    assert_eq!(after.gauges, before.gauges);
    assert!(
        after.descriptors <= before.descriptors + DESCRIPTORS_MARGIN,
        "{before:?} {after:?}"
    );
    assert!(
        after.resident_kib < before.resident_kib + RESIDENT_KIB_MARGIN,
        "{before:?} {after:?}"
    );
    assert!(beside < ROUND_TRIP_MAX, "{alone:?} {beside:?}");
    assert_eq!(
        healthy.seq,
        broker.get("/stats").await.json()["topics"]["healthy"]["messages"]
    );
}
