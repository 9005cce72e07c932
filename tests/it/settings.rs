//! Configuration: what makes no sense stops the start, all of it at once, and keys stay secret.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::harness::broker::{Broker, Refusal, run_to_end};
use crate::harness::client::Client;

/// The start fails with exit code 2; gives the line about each of these variables.
fn assert_refused(settings: &[(&str, &str)], flags: &[&str], variables: &[&str]) -> Vec<String> {
    let Refusal { code, stderr } = run_to_end(settings, flags);
    assert_eq!(code, 2, "{stderr}");
    let line_about = |variable: &&str| {
        let line = stderr.lines().find(|line| line.contains(*variable));
        line.unwrap_or_else(|| panic!("nothing about {variable}:\n{stderr}"))
            .to_owned()
    };
    variables.iter().map(line_about).collect()
}

#[test]
fn every_bad_value_is_reported_in_one_start() {
    let settings = [
        ("PORT", "65536"),
        ("RING_BUFFER_SIZE", "-1"),
        ("SUBSCRIBER_QUEUE_SIZE", "many"),
        ("PING_PERIOD_SEC", "1.5"),
        ("AUTH_ENABLED", "perhaps"),
        ("SLOW_CONSUMER_POLICY", "panic"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("GIN_MODE", "martini"),
        ("HOST", "not a host"),
    ];
    let lines = assert_refused(&settings, &[], &settings.map(|(variable, _)| variable));
    for (line, (_, value)) in lines.iter().zip(settings) {
        assert!(line.contains(value), "{value} in {line}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for (variable, value) in [
        ("SUBSCRIBER_QUEUE_SIZE", "0"),
        ("MAX_MESSAGE_SIZE", "0"),
        ("PING_PERIOD_SEC", "0"),
        ("WRITE_WAIT_SEC", "0"),
        ("SHUTDOWN_TIMEOUT_SEC", "99999999999999999999"),
        ("MAX_TOPICS", "-5"),
        ("ALLOWED_ORIGINS", "not an origin"),
    ] {
        assert_refused(&[(variable, value)], &[], &[variable]);
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let relation = [("PING_PERIOD_SEC", "60"), ("PONG_WAIT_SEC", "60")];
    assert_refused(&relation, &[], &["PING_PERIOD_SEC", "PONG_WAIT_SEC"]);
    assert_refused(&[("AUTH_ENABLED", "true")], &[], &["API_KEYS"]);
    assert_refused(
        &[("AUTH_ENABLED", "true"), ("API_KEYS", " , ")],
        &[],
        &["API_KEYS"],
    );
}

#[tokio::test]
async fn a_heartbeat_period_alone_is_enough() {
    let broker = Broker::start(&[("PING_PERIOD_SEC", "60")]);
    assert_eq!(broker.get("/health").await.status, 200);
}

#[test]
fn contradictions_are_reported_beside_bad_values() {
    let settings = [
        ("PING_PERIOD_SEC", "9"),
        ("PONG_WAIT_SEC", "8"),
        ("AUTH_ENABLED", "true"),
        ("RING_BUFFER_SIZE", "x"),
    ];
    assert_refused(
        &settings,
        &[],
        &["PING_PERIOD_SEC", "API_KEYS", "RING_BUFFER_SIZE"],
    );
}

#[test]
fn bad_flags_are_refused() {
    let flags = ["--ring-buffer-size", "x"];
    assert_refused(&[], &flags, &["RING_BUFFER_SIZE"]);
    assert_eq!(run_to_end(&[], &["--no-such-flag"]).code, 2);
}

#[tokio::test]
async fn a_flag_beats_its_variable() {
    let broker =
        Broker::start_with_flags(&[("RING_BUFFER_SIZE", "1")], &["--ring-buffer-size", "3"]);
    broker.create_topic("orders").await;
    let mut client = Client::connect(&broker).await;
    client.publish_all("orders", 1..=5, 5).await;
    client.subscribe_with("orders", json!({"last_n": 5})).await;
    assert_eq!(client.expect_seqs_to("orders", 5).await, [3, 4, 5]);
}

#[tokio::test]
async fn gin_modes_are_accepted() {
    for mode in ["debug", "release"] {
        let broker = Broker::start(&[("GIN_MODE", mode)]);
        assert_eq!(broker.get("/health").await.status, 200);
    }
}

#[tokio::test]
async fn json_logs_are_json_line_by_line() {
    let broker = Broker::start(&[("LOG_FORMAT", "json")]);
    let mut client = Client::connect(&broker).await;
    client.ask(json!({"type": "ping"})).await;
    let log = broker.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let parsed: Result<Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok_and(|line| line.is_object()), "{line}");
    }
}

#[test]
fn a_port_that_is_taken_fails_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("ports are not used up");
    let address = taken.local_addr().expect("it is bound");
    let refusal = run_to_end(&[("PORT", &address.port().to_string())], &[]);
    assert_ne!(refusal.code, 0);
    let told = refusal.stderr.contains(&address.to_string());
    assert!(told, "{}", refusal.stderr);
}

#[tokio::test]
async fn api_keys_never_show_in_the_log() {
    let settings = [
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", "sesame-one,sesame-two"),
        ("LOG_LEVEL", "trace"),
    ];
    let broker = Broker::start(&settings);
    for key in ["sesame-one", "sesame-wrong"] {
        let mut client = Client::connect(&broker).await;
        client.send(json!({"type": "auth", "api_key": key})).await;
        client.recv().await;
        broker
            .request("GET", "/stats", &[("X-API-Key", key)], "")
            .await;
        broker.upgrade("/ws", &[("X-API-Key", key)]).await;
    }
    assert!(!broker.log().contains("sesame"), "{}", broker.log());
}

#[tokio::test]
async fn what_is_in_force_is_told_without_keys() {
    let settings = [
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", "sesame-one"),
        ("RING_BUFFER_SIZE", "7"),
    ];
    let broker = Broker::start_with_flags(&settings, &["--max-topics", "9"]);
    assert_eq!(broker.get("/settings").await.status, 401);
    let key = [("X-API-Key", "sesame-one")];
    let answer = broker.request("GET", "/settings", &key, "").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains("sesame"), "{}", answer.body);
    let told = answer.json();
    let told = told["settings"].as_array().expect("a list");
    for (name, value, default, from) in [
        ("RING_BUFFER_SIZE", "7", "100", "environment"),
        ("MAX_TOPICS", "9", "100000", "flag"),
        ("API_KEYS", "set", "", "environment"),
        ("CONSOLE", "true", "true", "default"),
    ] {
        let setting = told.iter().find(|setting| setting["name"] == name);
        let setting = setting.expect("every setting is told");
        assert_eq!(setting["value"], value, "{name}");
        assert_eq!(setting["default"], default, "{name}");
        assert_eq!(setting["from"], from, "{name}");
    }
}

#[test]
fn api_keys_never_show_in_a_refused_start() {
    let settings = [
        ("API_KEYS", "sesame-one"),
        ("PORT", "x"),
        ("AUTH_ENABLED", "true"),
    ];
    let refusal = run_to_end(&settings, &[]);
    assert_eq!(refusal.code, 2);
    assert!(!refusal.stderr.contains("sesame"), "{}", refusal.stderr);
}
