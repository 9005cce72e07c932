//! What a key may do, and that what it may not changes nothing and tells nothing.

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::publish;
use crate::harness::eventually;
use crate::harness::keys::{KeyFile, ROOT, call, connect, create, key};
use crate::harness::raw::{self, RawSocket};

async fn topics_of(broker: &Broker, key: &str) -> Vec<String> {
    let topics = call(broker, key, "GET", "/topics", "").await.json();
    let topics = topics["topics"].as_array().expect("a list");
    let names = topics.iter().map(|topic| topic["name"].as_str());
    let mut names: Vec<_> = names.map(|name| name.expect("a name").to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_a_key_may_not_say_is_forbidden_and_changes_nothing() {
    let file = KeyFile::new(&key("reader-key", "subscribe = [\"orders.*\"]"));
    let broker = file.broker(&[]);
    create(&broker, &["orders.eu", "prices.eu"]).await;
    let mut client = connect(&broker, "reader-key").await;
    client.subscribe("orders.eu").await;
    for topic in ["orders.eu", "prices.eu", "nowhere"] {
        let text = client.expect_refusal(&publish(topic, 1), "FORBIDDEN").await;
        assert_eq!(text, format!("Key 'reader' may not publish to '{topic}'"));
    }
    // Names stay hidden: one that is there is refused like one that is not.
    for topic in ["prices.eu", "nowhere", "orders", "orders.eu.de"] {
        let command = json!({"type": "subscribe", "topic": topic}).to_string();
        let text = client.expect_refusal(&command, "FORBIDDEN").await;
        assert_eq!(text, format!("Key 'reader' may not subscribe to '{topic}'"));
    }
    let command = json!({"type": "subscribe", "topic": "orders.us"}).to_string();
    client.expect_refusal(&command, "TOPIC_NOT_FOUND").await;
    assert_eq!(client.unsubscribe("prices.eu").await, Vec::<Value>::new());
    let stats = call(&broker, ROOT.1, "GET", "/stats", "").await.json();
    assert_eq!(stats["topics"]["orders.eu"]["messages"], 0);
    assert_eq!(stats["topics"]["prices.eu"]["subscribers"], 0);
}

#[tokio::test]
async fn a_forbidden_subscribe_creates_no_topic() {
    let file = KeyFile::new(&key("reader-key", "subscribe = [\"orders\"]"));
    let broker = file.broker(&[("AUTO_CREATE_TOPICS", "true")]);
    let mut client = connect(&broker, "reader-key").await;
    client.subscribe("orders").await;
    let command = json!({"type": "subscribe", "topic": "other"}).to_string();
    client.expect_refusal(&command, "FORBIDDEN").await;
    client
        .expect_refusal(&publish("other", 1), "FORBIDDEN")
        .await;
    assert_eq!(topics_of(&broker, ROOT.1).await, ["orders"]);
}

#[tokio::test]
async fn refusals_come_in_the_order_of_the_commands() {
    let file = KeyFile::new(&key("writer-key", "publish = [\"a\"]"));
    let broker = file.broker(&[]);
    create(&broker, &["a", "b"]).await;
    let head = raw::upgrade_request("/ws");
    let head = head.replacen("\r\n", "\r\nX-API-Key: writer-key\r\n", 1);
    let mut socket = RawSocket::dial(&broker).await;
    socket.send(head.as_bytes()).await;
    assert_eq!(socket.upgrade_response().await.status, 101);
    let texts = ["a", "b", "a", "b"].map(|topic| raw::text(&publish(topic, 1)));
    socket.send(&texts.concat()).await;
    for seq in [1, 2] {
        assert_eq!(socket.recv().await["seq"], seq);
        assert_eq!(socket.recv().await["error"]["code"], "FORBIDDEN");
    }
}

#[tokio::test]
async fn topics_are_managed_by_those_who_may() {
    let file = KeyFile::new(&key("janitor-key", "manage = [\"tmp.>\"]"));
    let broker = file.broker(&[]);
    create(&broker, &["orders"]).await;
    let post = |name: &str| json!({ "name": name }).to_string();
    let forbidden = |name: &str| {
        let text = format!("Key 'janitor' may not manage '{name}'");
        json!({"error": text, "code": "FORBIDDEN"})
    };
    for name in ["orders", "new", "tmp"] {
        let refused = call(&broker, "janitor-key", "POST", "/topics", &post(name)).await;
        assert_eq!((refused.status, refused.json()), (403, forbidden(name)));
        let path = format!("/topics/{name}");
        let refused = call(&broker, "janitor-key", "DELETE", &path, "").await;
        assert_eq!((refused.status, refused.json()), (403, forbidden(name)));
    }
    let created = call(&broker, "janitor-key", "POST", "/topics", &post("tmp.1")).await;
    assert_eq!(created.status, 201);
    assert_eq!(topics_of(&broker, ROOT.1).await, ["orders", "tmp.1"]);
    for status in [200, 404] {
        let deleted = call(&broker, "janitor-key", "DELETE", "/topics/tmp.1", "").await;
        assert_eq!(deleted.status, status);
    }
}

#[tokio::test]
async fn a_slash_at_the_end_opens_no_other_topic() {
    let keys = [
        key("plain-key", "manage = [\"a\"]"),
        key("slash-key", "manage = [\"a/\"]"),
    ];
    let file = KeyFile::new(&keys.concat());
    let broker = file.broker(&[]);
    create(&broker, &["a", "a/"]).await;
    let deleted = call(&broker, "plain-key", "DELETE", "/topics/a/", "").await;
    assert_eq!(
        (deleted.status, &deleted.json()["topic"]),
        (200, &json!("a"))
    );
    create(&broker, &["a"]).await;
    for status in [200, 403] {
        let deleted = call(&broker, "slash-key", "DELETE", "/topics/a/", "").await;
        assert_eq!(deleted.status, status);
    }
    assert_eq!(topics_of(&broker, ROOT.1).await, ["a"]);
}

#[tokio::test]
async fn the_list_of_topics_has_those_that_a_key_has_to_do_with() {
    let keys = [
        key(
            "mixed-key",
            "subscribe = [\"a.*\"]\npublish = [\"b\"]\nmanage = [\"c.>\"]",
        ),
        key("nothing-key", ""),
        key("observer-key", "observe = true"),
        key("admin-key", "admin = true"),
    ];
    let file = KeyFile::new(&keys.concat());
    let broker = file.broker(&[]);
    let all = ["a.1", "a.1.2", "b", "c", "c.1", "d"];
    create(&broker, &all).await;
    assert_eq!(topics_of(&broker, "mixed-key").await, ["a.1", "b", "c.1"]);
    assert_eq!(topics_of(&broker, "nothing-key").await, [""; 0]);
    assert_eq!(topics_of(&broker, "observer-key").await, [""; 0]);
    assert_eq!(topics_of(&broker, "admin-key").await, all);
    assert_eq!(topics_of(&broker, ROOT.1).await, all);
}

#[tokio::test]
async fn a_long_list_of_which_little_may_be_seen_comes_whole() {
    let file = KeyFile::new(&key("few-key", "subscribe = [\"seen.*\"]"));
    let broker = file.broker(&[("AUTO_CREATE_TOPICS", "true")]);
    let mut root = connect(&broker, ROOT.1).await;
    for n in 0..1000 {
        let topic = if n % 500 == 0 {
            format!("seen.{n}")
        } else {
            format!("hidden.{n}")
        };
        root.publish(&topic, 1).await;
    }
    assert_eq!(topics_of(&broker, "few-key").await, ["seen.0", "seen.500"]);
}

#[tokio::test]
async fn figures_are_for_those_who_may_observe() {
    let keys = [
        key(
            "all-key",
            "subscribe = [\">\"]\npublish = [\">\"]\nmanage = [\">\"]",
        ),
        key("observer-key", "observe = true"),
        key("admin-key", "admin = true"),
    ];
    let file = KeyFile::new(&keys.concat());
    let broker = file.broker(&[("METRICS_AUTH", "true")]);
    for path in ["/stats", "/metrics"] {
        for (key, status) in [
            ("all-key", 403),
            ("observer-key", 200),
            ("admin-key", 200),
            (ROOT.1, 200),
        ] {
            let answer = call(&broker, key, "GET", path, "").await;
            assert_eq!(answer.status, status, "{key} {path}");
        }
        let refused = call(&broker, "all-key", "GET", path, "").await;
        assert_eq!(
            refused.json(),
            json!({"error": "Key 'all' may not observe", "code": "FORBIDDEN"})
        );
        assert_eq!(broker.get(path).await.status, 401);
    }
    let open = file.broker(&[]);
    assert_eq!(open.get("/metrics").await.status, 200);
    assert_eq!(
        call(&open, "all-key", "GET", "/metrics", "").await.status,
        200
    );
}

#[tokio::test]
async fn an_admin_may_do_everything() {
    let file = KeyFile::new(&key("admin-key", "admin = true"));
    let broker = file.broker(&[]);
    let body = json!({"name": "orders"}).to_string();
    assert_eq!(
        call(&broker, "admin-key", "POST", "/topics", &body)
            .await
            .status,
        201
    );
    let mut client = connect(&broker, "admin-key").await;
    client.subscribe("orders").await;
    client.send_text(&publish("orders", 1)).await;
    client.expect_event("orders").await;
    assert_eq!(
        call(&broker, "admin-key", "DELETE", "/topics/orders", "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn changed_rights_hold_from_the_next_command() {
    let file = KeyFile::new(&key("worker-key", "publish = [\"a\"]"));
    let broker = file.broker(&[]);
    create(&broker, &["a", "b"]).await;
    let mut client = connect(&broker, "worker-key").await;
    client.publish("a", 1).await;
    client.expect_refusal(&publish("b", 1), "FORBIDDEN").await;
    file.replace(&key("worker-key", "publish = [\"b\"]"));
    eventually("the new rights", async || {
        let answer: Value =
            serde_json::from_str(&client.ask_raw(&publish("b", 1)).await).expect("JSON");
        answer["type"] == "ack"
    })
    .await;
    client.expect_refusal(&publish("a", 1), "FORBIDDEN").await;
}

#[tokio::test]
async fn a_subscription_that_is_not_allowed_any_more_ends_and_the_others_stay() {
    let file = KeyFile::new(&key("reader-key", "subscribe = [\"a\", \"b\", \"c\"]"));
    let broker = file.broker(&[]);
    create(&broker, &["a", "b", "c"]).await;
    let mut client = connect(&broker, "reader-key").await;
    for topic in ["a", "b", "c"] {
        client.subscribe(topic).await;
    }
    file.replace(&key("reader-key", "subscribe = [\"b\"]"));
    let mut told = [
        client.expect_error("FORBIDDEN").await,
        client.expect_error("FORBIDDEN").await,
    ];
    told.sort();
    let words = ["a", "c"].map(|topic| format!("Key 'reader' may not subscribe to '{topic}'"));
    assert_eq!(told, words);
    let mut root = connect(&broker, ROOT.1).await;
    for (topic, matched) in [("a", 0), ("c", 0), ("b", 1)] {
        assert_eq!(root.publish(topic, 1).await["matched"], matched);
    }
    client.expect_event("b").await;
    // What it has lost it may be given again.
    file.replace(&key("reader-key", "subscribe = [\"a\", \"b\"]"));
    eventually("the new rights", async || {
        let command = json!({"type": "subscribe", "topic": "a"});
        client.ask(command).await["type"] == "ack"
    })
    .await;
    root.publish("a", 2).await;
    client.expect_event("a").await;
}

#[tokio::test]
async fn many_connections_are_all_reviewed() {
    const CLIENTS: usize = 600;
    let file = KeyFile::new(&key("reader-key", "subscribe = [\">\"]"));
    let broker = file.broker(&[("SHARDS", "1")]);
    create(&broker, &["a"]).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect(&broker, "reader-key").await;
        client.subscribe("a").await;
        clients.push(client);
    }
    file.replace(&key("reader-key", "subscribe = [\"b\"]"));
    for client in &mut clients {
        client.expect_error("FORBIDDEN").await;
    }
}

#[tokio::test]
async fn a_replay_ends_with_the_right_to_its_topic() {
    const KEPT: u64 = 400;
    let may = key("reader-key", "subscribe = [\"orders\"]");
    let file = KeyFile::new(&may);
    let kept = KEPT.to_string();
    let broker = file.broker(&[("RING_BUFFER_SIZE", &kept), ("WRITE_WAIT_SEC", "60")]);
    create(&broker, &["orders"]).await;
    let mut publisher = connect(&broker, ROOT.1).await;
    let payload = "x".repeat(30_000);
    let payloads = vec![payload; usize::try_from(KEPT).expect("small")];
    publisher.publish_all("orders", payloads, 20).await;
    let mut reader = RawSocket::connect_small(&broker).await;
    reader
        .send_text(r#"{"type":"auth","api_key":"reader-key"}"#)
        .await;
    assert_eq!(reader.recv().await["type"], "ack");
    let subscribe = format!(r#"{{"type":"subscribe","topic":"orders","last_n":{KEPT}}}"#);
    reader.send_text(&subscribe).await;
    assert_eq!(reader.recv().await["type"], "ack");
    file.replace(&key("reader-key", "subscribe = [\"other\"]"));
    // The shard has taken it off before it reads on.
    eventually("its end", async || {
        let topic = call(&broker, ROOT.1, "GET", "/topics/orders", "").await;
        topic.json()["subscribers"] == 0
    })
    .await;
    reader.widen();
    let mut replayed = 0;
    loop {
        let message = reader.recv().await;
        if message["type"] == "event" {
            replayed += 1;
            continue;
        }
        assert_eq!(message["error"]["code"], "FORBIDDEN", "{message}");
        break;
    }
    assert!(replayed < KEPT / 2, "{replayed} of {KEPT} events");
    assert_eq!(reader.ask(r#"{"type":"ping"}"#).await["type"], "pong");
}
