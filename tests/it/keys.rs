//! Named keys: their file, how it is read again, and when a key ends.

use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::broker::{Broker, run_to_end};
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::keys::{KeyFile, ROOT, assert_ended, call, connect, create, key, text};

const ALL: &str = "subscribe = [\">\"]\npublish = [\">\"]";

fn auth(key: &str) -> Value {
    json!({"type": "auth", "api_key": key})
}

/// Waits until `key` is one, or is none.
async fn until_status(broker: &Broker, key: &str, status: u16) {
    eventually("the file to be read again", async || {
        call(broker, key, "GET", "/topics", "").await.status == status
    })
    .await;
}

/// A time so many seconds from now, as TOML has it.
fn in_seconds(seconds: u64) -> String {
    let at = SystemTime::now() + Duration::from_secs(seconds);
    let at = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("it is later");
    let at = jiff::Timestamp::from_second(i64::try_from(at.as_secs()).expect("small"));
    format!("expires = {}", at.expect("in this century"))
}

#[tokio::test]
async fn a_named_key_opens_the_door_in_each_way() {
    let file = KeyFile::new(&key("dashboard-key", ALL));
    let broker = file.broker(&[]);
    create(&broker, &["orders"]).await;
    let mut client = connect(&broker, "dashboard-key").await;
    client.subscribe("orders").await;
    let mut client = Client::connect(&broker).await;
    assert_eq!(
        client.ask(auth("dashboard-key")).await["status"],
        "authenticated"
    );
    client.publish("orders", 1).await;
    assert_eq!(
        call(&broker, "dashboard-key", "GET", "/topics", "")
            .await
            .status,
        200
    );
    for wrong in ["dashboard", "dashboard-ke", "dashboard-keyy", ""] {
        assert_eq!(call(&broker, wrong, "GET", "/topics", "").await.status, 401);
        let mut client = Client::connect(&broker).await;
        client.send(auth(wrong)).await;
        assert_ended(&mut client, "INVALID_API_KEY", "Invalid or expired API key").await;
    }
}

#[tokio::test]
async fn a_file_is_enough() {
    let file = KeyFile::new(&key("dashboard-key", ALL));
    let path = file.path();
    let broker = Broker::start(&[("AUTH_ENABLED", "true"), ("API_KEYS_FILE", text(&path))]);
    assert_eq!(
        call(&broker, "dashboard-key", "GET", "/topics", "")
            .await
            .status,
        200
    );
    assert_eq!(broker.get("/topics").await.status, 401);
}

#[test]
fn a_file_that_cannot_be_used_stops_the_start_and_says_where() {
    let broken = format!("{}observed = true\n", key("dashboard-key", ""));
    for (content, words) in [
        (Some(&*broken), "line 5: unknown field `observed`"),
        (Some("# no key\n"), "line 1: there is no [[key]] in it"),
        (Some(""), "there is no [[key]]"),
        (None, "No such file"),
    ] {
        let file = KeyFile::new(content.unwrap_or_default());
        let path = file.path();
        if content.is_none() {
            std::fs::remove_file(&path).expect("it is there");
        }
        let settings = [("AUTH_ENABLED", "true"), ("API_KEYS_FILE", text(&path))];
        let refusal = run_to_end(&settings, &[]);
        assert_eq!(refusal.code, 2, "{}", refusal.stderr);
        let begin = format!("API_KEYS_FILE={}: ", text(&path));
        assert!(refusal.stderr.contains(&begin), "{}", refusal.stderr);
        assert!(refusal.stderr.contains(words), "{}", refusal.stderr);
        assert_eq!(refusal.stderr.lines().count(), 1, "{}", refusal.stderr);
    }
}

#[tokio::test]
async fn a_change_of_the_file_is_read_however_it_is_made() {
    let file = KeyFile::new(&key("first-key", ALL));
    let broker = file.broker(&[]);
    file.replace(&key("second-key", ALL));
    until_status(&broker, "second-key", 200).await;
    assert_eq!(
        call(&broker, "first-key", "GET", "/topics", "")
            .await
            .status,
        401
    );
    file.rewrite(&key("third-key", ALL));
    until_status(&broker, "third-key", 200).await;
    file.swap("..1", &key("fourth-key", ALL));
    until_status(&broker, "fourth-key", 200).await;
    file.swap("..2", &key("fifth-key", ALL));
    until_status(&broker, "fifth-key", 200).await;
    assert_eq!(
        call(&broker, "fourth-key", "GET", "/topics", "")
            .await
            .status,
        401
    );
    assert_eq!(
        call(&broker, ROOT.1, "GET", "/topics", "").await.status,
        200
    );
}

#[tokio::test]
async fn a_hangup_has_the_file_read() {
    let file = KeyFile::new(&key("first-key", ALL));
    let broker = file.broker(&[]);
    let reads = |broker: &Broker| broker.log().matches("read API_KEYS_FILE").count();
    let before = reads(&broker);
    broker.signal(Signal::HUP);
    eventually("the file to be read again", async || {
        reads(&broker) > before
    })
    .await;
    assert_eq!(
        call(&broker, "first-key", "GET", "/topics", "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_key_that_is_withdrawn_ends_its_connections_and_no_others() {
    let both = [key("dashboard-key", ALL), key("other-key", ALL)].concat();
    let file = KeyFile::new(&both);
    let broker = file.broker(&[]);
    create(&broker, &["orders"]).await;
    let mut by_header = connect(&broker, "dashboard-key").await;
    by_header.subscribe("orders").await;
    let mut by_auth = Client::connect(&broker).await;
    by_auth.ask(auth("dashboard-key")).await;
    let mut others = [
        connect(&broker, "other-key").await,
        connect(&broker, ROOT.1).await,
    ];
    file.replace(&key("other-key", ALL));
    for mut client in [by_header, by_auth] {
        assert_ended(&mut client, "UNAUTHORIZED", "Key 'dashboard' was withdrawn").await;
    }
    for client in &mut others {
        assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    }
    assert!(
        broker.log().contains("Key 'dashboard' was withdrawn"),
        "{}",
        broker.log()
    );
}

#[tokio::test]
async fn a_key_whose_digest_changes_is_another_key() {
    let file = KeyFile::new(&key("dashboard-key", ALL));
    let broker = file.broker(&[]);
    let mut client = connect(&broker, "dashboard-key").await;
    let other = key("other-key", ALL).replace("\"other\"", "\"dashboard\"");
    file.replace(&other);
    assert_ended(&mut client, "UNAUTHORIZED", "Key 'dashboard' was withdrawn").await;
    assert_eq!(
        call(&broker, "other-key", "GET", "/topics", "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_key_that_expires_ends_its_connections() {
    let file = KeyFile::new(&key("dashboard-key", &in_seconds(3)));
    let broker = file.broker(&[]);
    let mut client = connect(&broker, "dashboard-key").await;
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    assert_ended(&mut client, "UNAUTHORIZED", "Key 'dashboard' has expired").await;
    assert_eq!(
        call(&broker, "dashboard-key", "GET", "/topics", "")
            .await
            .status,
        401
    );
    let mut late = Client::connect(&broker).await;
    late.send(auth("dashboard-key")).await;
    assert_ended(&mut late, "INVALID_API_KEY", "Invalid or expired API key").await;
}

#[tokio::test]
async fn an_expiry_that_is_moved_into_the_past_holds_at_once() {
    let file = KeyFile::new(&key("dashboard-key", &in_seconds(3600)));
    let broker = file.broker(&[]);
    let mut client = connect(&broker, "dashboard-key").await;
    file.replace(&key("dashboard-key", "expires = 2020-01-01T00:00:00Z"));
    assert_ended(&mut client, "UNAUTHORIZED", "Key 'dashboard' has expired").await;
}

#[tokio::test]
async fn a_file_that_is_refused_changes_nothing_and_is_told_once() {
    let file = KeyFile::new(&key("dashboard-key", ALL));
    let broker = file.broker(&[]);
    let mut client = connect(&broker, "dashboard-key").await;
    for (content, words) in [
        (
            String::new(),
            "there is no [[key]] in it; what was read before stays",
        ),
        (key("other-key", "subscribe = ["), "line 4"),
        (
            key("other-key", "publish = [\"a*\"]"),
            "line 4: publish: '*' stands",
        ),
    ] {
        file.replace(&content);
        eventually("the refusal", async || broker.log().contains(words)).await;
        assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
        assert_eq!(
            call(&broker, "dashboard-key", "GET", "/topics", "")
                .await
                .status,
            200
        );
    }
    // Each is there all at once: one that is written in place is empty for a moment.
    // A later read shows that enough looks have passed.
    file.replace(&[key("dashboard-key", ALL), key("next-key", ALL)].concat());
    until_status(&broker, "next-key", 200).await;
    assert_eq!(
        broker.log().matches("there is no [[key]]").count(),
        1,
        "{}",
        broker.log()
    );
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn a_key_has_so_many_connections() {
    let file = KeyFile::new(&key("dashboard-key", "connections_max = 2"));
    let broker = file.broker(&[]);
    let full = "Key 'dashboard' has no room for another connection: connections_max is 2";
    let first = connect(&broker, "dashboard-key").await;
    let mut second = Client::connect(&broker).await;
    second.ask(auth("dashboard-key")).await;

    let header = [("x-api-key", "dashboard-key")];
    let refused = broker.upgrade("/ws", &header).await;
    let body = json!({"error": full, "code": "LIMIT_EXCEEDED"});
    assert_eq!((refused.status, refused.json()), (429, body));
    let mut third = Client::connect(&broker).await;
    third.send(auth("dashboard-key")).await;
    assert_ended(&mut third, "LIMIT_EXCEEDED", full).await;
    // REST takes no place, and neither does another key.
    assert_eq!(
        call(&broker, "dashboard-key", "GET", "/topics", "")
            .await
            .status,
        200
    );
    connect(&broker, ROOT.1).await;

    first.close().await;
    eventually("the place to be free again", async || {
        broker.upgrade("/ws", &header).await.status == 101
    })
    .await;
}

#[tokio::test]
async fn the_auth_behind_a_header_takes_no_second_place() {
    let file = KeyFile::new(&key("dashboard-key", "connections_max = 1"));
    let broker = file.broker(&[]);
    let mut client = connect(&broker, "dashboard-key").await;
    assert_eq!(
        client.ask(auth("dashboard-key")).await["status"],
        "authenticated"
    );
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn keys_never_show() {
    let secrets = ["dashboard-sesame-key", "wrong-sesame", ROOT.1];
    let file = KeyFile::new(&key(secrets[0], ALL));
    let broker = file.broker(&[("LOG_LEVEL", "trace"), ("LOG_REPEATS_PER_SEC", "0")]);
    let mut said = String::new();
    for secret in secrets {
        said += &call(&broker, secret, "GET", "/topics", "").await.body;
        said += &call(&broker, secret, "GET", "/stats", "").await.body;
        said += &call(&broker, secret, "GET", "/metrics", "").await.body;
        let mut client = Client::connect(&broker).await;
        client.send(auth(secret)).await;
        said += &client.recv_raw().await;
    }
    let mut client = connect(&broker, secrets[0]).await;
    // The key in the place of its digest is the mistake that is easily made.
    file.rewrite(&format!(
        "[[key]]\nname = \"x\"\nsha256 = \"{}\"\n",
        secrets[0]
    ));
    eventually("the refusal", async || {
        broker.log().contains("line 3: sha256")
    })
    .await;
    file.replace(&key("other-key", ALL));
    said += &client.recv_raw().await;
    said += &broker.log();
    assert!(
        said.contains("Key 'dashboard-sesame' was withdrawn"),
        "{said}"
    );
    for secret in secrets {
        assert!(!said.contains(secret), "{secret} in {said}");
    }
}

/// The quickest of three, so that a busy machine judges nobody.
async fn quickest(mut attempt: impl AsyncFnMut() -> Duration) -> Duration {
    let mut quickest = Duration::MAX;
    for _ in 0..3 {
        quickest = quickest.min(attempt().await);
    }
    quickest
}

#[tokio::test]
async fn withdrawal_reaches_a_connection_within_a_second_of_the_change() {
    let file = KeyFile::new(&key("passing-key", ""));
    let broker = file.broker(&[]);
    let took = quickest(async || {
        file.replace(&key("passing-key", ""));
        until_status(&broker, "passing-key", 200).await;
        let mut client = connect(&broker, "passing-key").await;
        let start = Instant::now();
        file.replace(&key("other-key", ""));
        assert_eq!(client.expect_close().await.0, 1008);
        start.elapsed()
    })
    .await;
    assert!(took <= Duration::from_secs(1), "{took:?}");
}
