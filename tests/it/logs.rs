//! A log that cannot be written stops, slows and ends nothing; what is lost of it is counted.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::harness::broker::{Broker, command};
use crate::harness::client::Client;
use crate::harness::raw::RawSocket;
use crate::harness::{PATIENCE, eventually};

/// Has the broker log a line at level debug: this is not HTTP.
async fn cause_a_line(broker: &Broker) {
    let mut socket = RawSocket::dial(broker).await;
    socket.send(b"\x01\x02\r\n\r\n").await;
    socket.wire.rest("the end of what is not HTTP").await;
}

async fn lines_dropped(broker: &Broker) -> u64 {
    let stats = broker.get("/stats").await.json();
    stats["totals"]["log_lines_dropped"]
        .as_u64()
        .expect("a total")
}

#[tokio::test]
async fn heartbeats_and_the_drain_go_on_when_the_reader_is_gone() {
    let settings = [("PING_PERIOD_SEC", "1"), ("PONG_WAIT_SEC", "2")];
    let mut broker = Broker::start_without_log(&settings);
    let mut silent = RawSocket::connect(&broker).await;
    let mut healthy = Client::connect(&broker).await;
    // The end of the silent one is logged on the thread that keeps the time of the other.
    let (_, ()) = tokio::join!(silent.expect_close(), async {
        for _ in 0..4 {
            assert_eq!(healthy.recv().await["msg"], "ping");
        }
    });
    eventually("the count of the lost line", async || {
        lines_dropped(&broker).await > 0
    })
    .await;
    broker.signal(Signal::TERM);
    let (code, _) = broker.wait_exit(PATIENCE).await;
    assert_eq!(code, 0);
}

#[tokio::test]
async fn lines_that_nobody_reads_are_dropped_and_told_later() {
    let settings = [
        ("LOG_LEVEL", "debug"),
        ("LOG_BUFFER_MAX", "4096"),
        ("LOG_REPEATS_PER_SEC", "0"),
    ];
    let mut broker = Broker::start_with_log_asleep(&settings);
    let mut client = Client::connect(&broker).await;
    // A pipe holds 64 KiB, and so many lines that are longer than 64 bytes fill it.
    for _ in 0..2000 {
        cause_a_line(&broker).await;
        if lines_dropped(&broker).await > 0 {
            break;
        }
    }
    assert!(lines_dropped(&broker).await > 0);
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    let metrics = broker.get("/metrics").await.body;
    assert!(metrics.contains("\nshardcast_log_lines_dropped_total "));
    broker.wake_log();
    eventually("the line about lost lines", async || {
        cause_a_line(&broker).await;
        broker.log().contains("log lines were lost")
    })
    .await;
}

#[tokio::test]
async fn a_drain_ends_in_time_though_nobody_reads_the_log() {
    let settings = [("LOG_LEVEL", "debug"), ("LOG_REPEATS_PER_SEC", "0")];
    let mut broker = Broker::start_with_log_asleep(&settings);
    for _ in 0..1000 {
        cause_a_line(&broker).await;
    }
    broker.signal(Signal::TERM);
    let (code, _) = broker.wait_exit(PATIENCE).await;
    assert_eq!(code, 0);
}

#[tokio::test]
async fn repeated_lines_are_counted_and_told_together() {
    let settings = [("LOG_LEVEL", "debug"), ("LOG_REPEATS_PER_SEC", "1")];
    let broker = Broker::start(&settings);
    for _ in 0..50 {
        cause_a_line(&broker).await;
    }
    eventually("the count of what was left out", async || {
        broker.log().contains("left out more of: HTTP")
    })
    .await;
    assert!(broker.log().lines().count() < 50, "{}", broker.log());
}

/// Killed when the test is over.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn full_disk() -> Stdio {
    let full = File::options().write(true).open("/dev/full");
    full.expect("a device of every Linux").into()
}

#[tokio::test]
async fn a_start_with_a_full_disk_serves() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("ports are not used up");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let mut start = command(&[("PORT", &address.port().to_string())]);
    let mut broker = Killed(start.stderr(full_disk()).spawn().expect("it was built"));
    eventually("a broker that listens", async || {
        tokio::net::TcpStream::connect(address).await.is_ok()
    })
    .await;
    let still_runs = broker.0.try_wait().expect("it is our child").is_none();
    assert!(still_runs);
}

#[tokio::test]
async fn bad_settings_exit_with_2_though_nobody_can_be_told() {
    let mut start = command(&[("PORT", "x")]);
    let mut broker = Killed(start.stderr(full_disk()).spawn().expect("it was built"));
    let mut code = None;
    eventually("its end", async || {
        code = broker.0.try_wait().expect("it is our child");
        code.is_some()
    })
    .await;
    assert_eq!(code.and_then(|status| status.code()), Some(2));
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let mut broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    broker.signal(Signal::HUP);
    eventually("the line about it", async || {
        broker.log().contains("SIGHUP")
    })
    .await;
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    broker.signal(Signal::TERM);
    let (code, took) = broker.wait_exit(PATIENCE).await;
    assert!(code == 0 && took < Duration::from_secs(5));
}

async fn says(broker: &Broker, words: &str) {
    eventually(words, async || broker.log().contains(words)).await;
}

#[tokio::test]
async fn a_signal_makes_the_log_say_more_and_in_the_end_what_it_said_before() {
    let broker = Broker::start(&[("LOG_LEVEL", "info")]);
    for level in ["DEBUG"] {
        broker.signal(Signal::USR1);
        says(&broker, &format!("SIGUSR1: LOG_LEVEL is {level} now")).await;
    }
    cause_a_line(&broker).await;
    says(&broker, "HTTP connection failed").await;
    broker.signal(Signal::USR1);
    says(&broker, "SIGUSR1: LOG_LEVEL is TRACE now").await;
    broker.signal(Signal::USR1);
    says(&broker, "SIGUSR1: LOG_LEVEL is INFO now").await;
    let before = broker.log().matches("HTTP connection failed").count();
    cause_a_line(&broker).await;
    assert_eq!(broker.get("/health").await.status, 200);
    assert_eq!(
        broker.log().matches("HTTP connection failed").count(),
        before
    );
}

#[tokio::test]
async fn whoever_is_refused_is_in_the_log_with_the_reason_and_without_the_key() {
    let broker = Broker::start(&[
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", "right"),
        ("ALLOWED_ORIGINS", "https://good.example"),
    ]);
    let wrong = [("x-api-key", "wrong-and-secret")];
    broker
        .request("GET", "/stats?ticket=secret", &wrong, "")
        .await;
    says(
        &broker,
        "refused: Invalid or expired API key client=127.0.0.1:",
    )
    .await;
    let origin = [("origin", "https://evil.example")];
    broker.upgrade("/ws", &origin).await;
    says(
        &broker,
        "forbidden: origin https://evil.example is not allowed client=127.0.0.1:",
    )
    .await;
    broker.get("/ws").await;
    says(
        &broker,
        "an upgrade was refused: this is a WebSocket endpoint",
    )
    .await;
    let mut client = Client::connect(&broker).await;
    client
        .send(json!({"type": "auth", "api_key": "wrong-and-secret"}))
        .await;
    client.expect_close().await;
    says(
        &broker,
        "a WebSocket was refused: Invalid or expired API key client=127.0.0.1:",
    )
    .await;
    assert!(!broker.log().contains("secret"), "{}", broker.log());
}

#[tokio::test]
async fn what_strangers_may_do_is_said_at_the_start() {
    let open = Broker::start(&[]);
    says(&open, "no keys are asked for").await;
    says(&open, "any page in the browser").await;
    let origins = Broker::start(&[("ALLOWED_ORIGINS", "https://good.example")]);
    says(&origins, "no keys are asked for").await;
    assert!(!origins.log().contains("any page"));
    let closed = Broker::start(&[("AUTH_ENABLED", "true"), ("API_KEYS", "k")]);
    assert_eq!(closed.get("/health").await.status, 200);
    assert!(!closed.log().contains("WARN"), "{}", closed.log());
}
