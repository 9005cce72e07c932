//! Messages over HTTP: in by POST, and what a topic keeps by GET.

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::http::{Response, Rest};
use crate::harness::json::number;
use crate::harness::keys::{KeyFile, call, create, key};

const ID: &str = "550e8400-e29b-41d4-a716-446655440000";

async fn post(broker: &Broker, topic: &str, body: &str) -> Response {
    let path = format!("/topics/{topic}/messages");
    broker.request("POST", &path, &[], body).await
}

/// What was accepted, without the epoch.
async fn posted(broker: &Broker, topic: &str, body: &str) -> Value {
    let answer = post(broker, topic, body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut answer = answer.json();
    let members = answer.as_object_mut().expect("an object");
    assert_eq!(members.remove("status"), Some(json!("ok")));
    assert!(members.remove("epoch").is_some());
    answer
}

async fn kept(broker: &Broker, query: &str) -> Value {
    let answer = broker.get(&format!("/topics/t/messages{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn seqs(kept: &Value) -> Vec<u64> {
    let messages = kept["messages"].as_array().expect("a list");
    messages.iter().map(|event| number(event, "seq")).collect()
}

#[tokio::test]
async fn one_message_is_published_and_answered() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let mut subscriber = Client::subscribed(&broker, "t").await;
    let body = format!(r#"{{"id":"{ID}","payload":{{"a" :  [1]}}}}"#);
    let answer = posted(&broker, "t", &body).await;
    assert_eq!(
        answer,
        json!({"topic": "t", "id": ID, "seq": 1, "matched": 1})
    );
    let event = subscriber.recv_raw().await;
    assert!(event.contains(r#""payload":{"a" :  [1]}"#), "{event}");
    let answer = posted(&broker, "t", r#"{"payload":null}"#).await;
    assert_eq!(answer["seq"], 2);
    assert_eq!(answer["id"].as_str().map(str::len), Some(36));
    let event = subscriber.expect_event("t").await;
    assert_eq!(
        event["message"],
        json!({"id": answer["id"], "payload": null})
    );
}

#[tokio::test]
async fn an_array_is_published_whole_with_consecutive_numbers_and_nobody_who_keeps_up_loses_any() {
    // Ten times what a ring holds, beside somebody who publishes to the same topic.
    let broker = Broker::start(&[
        ("SUBSCRIBER_QUEUE_SIZE", "100"),
        ("RING_BUFFER_SIZE", "2000"),
    ]);
    broker.create_topic("t").await;
    let mut subscriber = Client::subscribed(&broker, "t").await;
    let mut other = Client::connect(&broker).await;
    let items: Vec<_> = (0..1000).map(|n| json!({"payload": n})).collect();
    let body = Value::from(items).to_string();
    let (answer, _) = tokio::join!(
        posted(&broker, "t", &body),
        other.publish_all("t", vec!["x"; 50], 10)
    );
    let messages = answer["messages"].as_array().expect("a list");
    assert_eq!(messages.len(), 1000);
    let first = number(&messages[0], "seq");
    let all: Vec<_> = messages.iter().map(|one| number(one, "seq")).collect();
    assert!(all.iter().copied().eq(first..first + 1000), "consecutive");
    assert!(messages.iter().all(|one| one["matched"] == 1));
    let seen = subscriber.expect_seqs_to("t", 1050).await;
    assert!(seen.into_iter().eq(1..=1050), "nothing is missing");
}

#[tokio::test]
async fn a_fault_in_one_message_publishes_none() {
    let broker = Broker::start(&[("MAX_MESSAGE_SIZE", "1000"), ("PUBLISH_BODY_MAX", "20000")]);
    broker.create_topic("t").await;
    let long = "x".repeat(1000);
    let huge = "x".repeat(20_000);
    for (body, status, index, words) in [
        (
            r#"[{"payload":1},{"id":"x","payload":1}]"#.to_owned(),
            400,
            Some(1),
            "UUID",
        ),
        (
            r#"[{"payload":1},{}]"#.to_owned(),
            400,
            Some(1),
            "payload is required",
        ),
        (
            r#"[{"payload":1},{"payload":1,"once":2}]"#.to_owned(),
            400,
            Some(1),
            "once must be",
        ),
        (
            format!(r#"[{{"payload":1}},{{"payload":"{long}"}}]"#),
            413,
            Some(1),
            "MAX_MESSAGE_SIZE",
        ),
        (
            format!(r#"{{"payload":"{long}"}}"#),
            413,
            None,
            "MAX_MESSAGE_SIZE is 1000",
        ),
        (
            format!(r#"{{"payload":"{huge}"}}"#),
            413,
            None,
            "body over the limit of 20000",
        ),
        ("[]".to_owned(), 400, None, "1 to 1000 are allowed"),
        ("{".to_owned(), 400, None, "not JSON"),
        (String::new(), 400, None, "not JSON"),
    ] {
        let answer = post(&broker, "t", &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        let answer = answer.json();
        assert_eq!(answer["index"].as_u64(), index, "{answer}");
        let text = answer["error"].as_str().expect("words");
        assert!(text.contains(words), "{text}");
    }
    assert_eq!(kept(&broker, "").await["seq"], 0);
    let unknown = post(&broker, "nowhere", r#"{"payload":1}"#).await;
    assert_eq!(
        (unknown.status, &unknown.json()["code"]),
        (404, &json!("TOPIC_NOT_FOUND"))
    );
    let pattern = post(&broker, "a.*", r#"{"payload":1}"#).await;
    assert_eq!(pattern.status, 400, "{}", pattern.body);
    let created = Broker::start(&[("AUTO_CREATE_TOPICS", "true")]);
    assert_eq!(posted(&created, "t", r#"{"payload":1}"#).await["seq"], 1);
}

#[tokio::test]
async fn once_publishes_an_id_that_is_kept_no_second_time() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "3")]);
    broker.create_topic("t").await;
    let mut subscriber = Client::subscribed(&broker, "t").await;
    let once = format!(r#"{{"id":"{ID}","payload":1,"once":true}}"#);
    // One that was published without it counts too.
    let first = posted(&broker, "t", &format!(r#"{{"id":"{ID}","payload":1}}"#)).await;
    assert_eq!(first["seq"], 1);
    let again = posted(&broker, "t", &once).await;
    assert_eq!(
        again,
        json!({"topic": "t", "id": ID, "seq": 1, "matched": 0, "duplicate": true})
    );
    let upper = once.replace(ID, &ID.to_uppercase());
    assert_eq!(posted(&broker, "t", &upper).await["duplicate"], true);
    let both = format!(r#"[{once},{{"payload":2}},{once}]"#);
    let answer = posted(&broker, "t", &both).await;
    let told: Vec<_> = answer["messages"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (number(one, "seq"), one["duplicate"] == true))
        .collect();
    assert_eq!(told, [(1, true), (2, false), (1, true)]);
    for _ in 0..3 {
        posted(&broker, "t", r#"{"payload":3}"#).await;
    }
    // It has left the history, and earlier in the same array counts.
    let answer = posted(&broker, "t", &format!("[{once},{once}]")).await;
    assert_eq!(answer["messages"][0]["seq"], 6);
    assert_eq!(answer["messages"][1]["seq"], 6);
    assert_eq!(answer["messages"][1]["duplicate"], true);
    let seen = subscriber.expect_seqs_to("t", 6).await;
    assert!(seen.into_iter().eq(1..=6));
}

#[tokio::test]
async fn what_is_kept_is_read_from_the_oldest_on() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "5")]);
    broker.create_topic("t").await;
    let nothing = kept(&broker, "").await;
    assert_eq!(
        (&nothing["seq"], &nothing["messages"]),
        (&json!(0), &json!([]))
    );
    assert_eq!(nothing.get("recovered"), None);
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("t", 1..=8, 4).await;
    let all = kept(&broker, "").await;
    assert_eq!(seqs(&all), [4, 5, 6, 7, 8]);
    let event = &all["messages"][0];
    assert_eq!(
        (&event["type"], &event["topic"]),
        (&json!("event"), &json!("t"))
    );
    assert_eq!(event["message"]["payload"], 4);
    let epoch = all["epoch"].as_str().expect("an epoch");
    assert_eq!(seqs(&kept(&broker, "?last=2").await), [7, 8]);
    assert_eq!(seqs(&kept(&broker, "?last=0").await), [0; 0]);
    for (since, limit, wanted, recovered) in [
        (format!("{epoch}:6"), "", vec![7, 8], true),
        (format!("{epoch}:3"), "&limit=2", vec![4, 5], true),
        (format!("{epoch}:8"), "", vec![], true),
        (format!("{epoch}:1"), "", vec![4, 5, 6, 7, 8], false),
        (
            "0123456789abcdef:7".to_owned(),
            "",
            vec![4, 5, 6, 7, 8],
            false,
        ),
    ] {
        let since = kept(&broker, &format!("?since={since}{limit}")).await;
        assert_eq!(seqs(&since), wanted);
        assert_eq!(since["recovered"], recovered);
        assert_eq!(since["seq"], 8);
    }
    for query in ["?last=x", "?since=8", "?limit=0"] {
        let path = format!("/topics/t/messages{query}");
        assert_eq!(broker.get(&path).await.status, 400, "{query}");
    }
    assert_eq!(broker.get("/topics/nowhere/messages").await.status, 404);
}

#[tokio::test]
async fn a_long_history_comes_in_pieces_and_whole() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "3000")]);
    broker.create_topic("t").await;
    let mut publisher = Client::connect(&broker).await;
    publisher
        .publish_all("t", vec!["x".repeat(500); 3000], 100)
        .await;
    let all = kept(&broker, "").await;
    assert!(seqs(&all).into_iter().eq(1..=3000));
    assert!(
        seqs(&kept(&broker, "?limit=1234").await)
            .into_iter()
            .eq(1..=1234)
    );
}

#[tokio::test]
async fn rights_and_rates_hold_for_messages_over_http() {
    let keys = [
        key("writer-key", "publish = [\"t\"]\nmessages_per_sec = 10"),
        key("reader-key", "subscribe = [\"t\"]"),
    ];
    let file = KeyFile::new(&keys.concat());
    let broker = file.broker(&[]);
    create(&broker, &["t", "u"]).await;
    let (path, body) = ("/topics/t/messages", r#"{"payload":1}"#);
    for (key, method, path, status) in [
        ("writer-key", "POST", path, 200),
        ("reader-key", "POST", path, 403),
        ("reader-key", "GET", path, 200),
        ("writer-key", "GET", path, 403),
        ("writer-key", "POST", "/topics/u/messages", 403),
        ("writer-key", "POST", "/topics/nowhere/messages", 403),
        ("no-key", "POST", path, 401),
    ] {
        let answer = call(&broker, key, method, path, body).await;
        assert_eq!(
            answer.status, status,
            "{key} {method} {path}: {}",
            answer.body
        );
    }
    // Each message counts, and none of too many is published.
    let many = format!("[{}]", vec![body; 30].join(","));
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    call(&broker, "writer-key", "POST", path, body).await;
    let fits = format!("[{}]", [body; 5].join(","));
    assert_eq!(
        call(&broker, "writer-key", "POST", path, &fits)
            .await
            .status,
        200
    );
    let refused = call(&broker, "writer-key", "POST", path, &many).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert!(refused.header("retry-after").is_some());
    let kept = call(&broker, "reader-key", "GET", path, "").await.json();
    assert_eq!(kept["seq"], 7);
}

#[tokio::test]
async fn other_methods_are_told_what_is_allowed() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    for name in ["t/messages", "t/messages/"] {
        broker.create_topic(name).await;
        broker.delete_topic(name).await;
    }
    let answer = broker.request("PUT", "/topics/t/messages", &[], "").await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, DELETE"));
    let head = broker.request("HEAD", "/topics/t/messages", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn bodies_on_their_way_are_bounded_by_the_budget() {
    let broker = Broker::start(&[("MEMORY_BUDGET", "16MiB"), ("READ_TIMEOUT_SEC", "60")]);
    broker.create_topic("t").await;
    let before = broker.resident_kib();
    let head = "POST /topics/t/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n";
    let half = [head.as_bytes(), &vec![b' '; 900_000]].concat();
    let mut waiting = Vec::new();
    for _ in 0..60 {
        let mut rest = Rest::open(&broker).await;
        rest.wire.offer(&half).await;
        waiting.push(rest);
    }
    // There is room for 18 of them; whose part comes last finds none.
    let mut refused = 0;
    for rest in &mut waiting {
        let answer = tokio::time::timeout(
            std::time::Duration::from_millis(200),
            rest.response("a refusal"),
        );
        if let Ok(answer) = answer.await {
            assert_eq!(answer.status, 503, "{}", answer.body);
            assert_eq!(answer.json()["code"], "LIMIT_EXCEEDED");
            refused += 1;
        }
    }
    assert!(refused >= 42, "{refused} of 60");
    let grown = broker.resident_kib().saturating_sub(before);
    assert!(grown < 40 * 1024, "{grown} KiB more");
    drop(waiting);
    eventually("room again", async || {
        let stats = broker.get("/stats").await.json();
        stats["totals"]["memory"]["kinds"]["input"] == 0
    })
    .await;
    let answer = post(&broker, "t", r#"{"payload":1}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_no_more_in_a_turn_than_a_ring_holds() {
    const CALLERS: u64 = 48;
    const CALLS: u64 = 10;
    let broker = Broker::start(&[("SHARDS", "1"), ("SUBSCRIBER_QUEUE_SIZE", "10")]);
    broker.create_topic("t").await;
    let mut subscriber = Client::subscribed(&broker, "t").await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let mut rest = Rest::open(&broker).await;
        callers.spawn(async move {
            for _ in 0..CALLS {
                let body = r#"{"payload":1}"#;
                let answer = rest.request("POST", "/topics/t/messages", &[], body).await;
                assert_eq!(answer.status, 200, "{}", answer.body);
            }
        });
    }
    // It takes all that it is given: nothing falls out.
    for seq in 1..=CALLERS * CALLS {
        assert_eq!(subscriber.recv().await["seq"], seq);
    }
    callers.join_all().await;
}
