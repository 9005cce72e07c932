//! `/connections` and `/topics/{name}`: who is connected, who lags and what they lost, who has gone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::json::number;
use crate::harness::keys::{KeyFile, ROOT, call, connect, create, key};
use crate::harness::raw::RawSocket;

const MEMBERS: &str = "id address client_id key transport since subscriptions lag dropped \
                       bytes_in bytes_out events_in events_out last_write";

/// The names of its members, in the order of the alphabet.
fn keys(value: &Value) -> Vec<&str> {
    let members = value.as_object().expect("an object");
    members.keys().map(String::as_str).collect()
}

fn names(names: &str) -> Vec<&str> {
    let mut names: Vec<_> = names.split_whitespace().collect();
    names.sort_unstable();
    names
}

async fn list(broker: &Broker, query: &str) -> Vec<Value> {
    let page = broker.get(&format!("/connections{query}")).await;
    assert_eq!(page.status, 200, "{}", page.body);
    let page = page.json();
    assert_eq!(keys(&page), names("connections next"));
    page["connections"].as_array().expect("a list").clone()
}

async fn only(broker: &Broker) -> Value {
    let list = list(broker, "").await;
    assert_eq!(list.len(), 1, "{list:?}");
    list[0].clone()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().expect("a text")
}

/// All pages, one after the other.
async fn pages(broker: &Broker, path: &str, query: &str, member: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = broker.get(&format!("{path}?{query}{after}")).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let page = page.json();
        all.extend(page[member].as_array().expect("a list").iter().cloned());
        let Some(next) = page["next"].as_str() else {
            return all;
        };
        after = format!("&after={next}");
    }
}

#[tokio::test]
async fn a_connection_is_shown_with_what_it_has_done() {
    let broker = Broker::start(&[]);
    create_all(&broker, &["in", "out"]).await;
    let mut client = Client::connect_as(&broker, "dash%20board").await;
    let before = only(&broker).await;
    assert_eq!(keys(&before), names(MEMBERS));
    assert_eq!(before["client_id"], "dash board");
    assert_eq!(
        (&before["key"], &before["transport"]),
        (&Value::Null, &json!("ws"))
    );
    assert!(text(&before, "address").starts_with("127.0.0.1:"));
    assert_eq!(keys(&before["lag"]), names("events age_ms"));
    assert_eq!(number(&before, "bytes_in"), 0);
    assert_eq!(before["last_write"], Value::Null);

    client.subscribe("in").await;
    client.publish("out", "x".repeat(500)).await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish("in", 1).await;
    client.expect_event("in").await;
    publisher.close().await;
    eventually("one connection", async || {
        list(&broker, "").await.len() == 1
    })
    .await;

    let after = only(&broker).await;
    assert_eq!(number(&after, "subscriptions"), 1);
    assert_eq!(number(&after, "events_in"), 1);
    assert_eq!(number(&after, "events_out"), 1);
    assert!(number(&after, "bytes_in") > 500 && number(&after, "bytes_out") > 100);
    assert!(text(&after, "last_write") >= text(&after, "since"));
    assert_eq!(after["id"], before["id"]);

    let one = broker
        .get(&format!("/connections/{}", text(&after, "id")))
        .await;
    assert_eq!(one.status, 200);
    let one = one.json();
    assert_eq!(keys(&one), names(&format!("{MEMBERS} topics")));
    assert_eq!(one["topics"], json!(["in"]));
}

async fn create_all(broker: &Broker, topics: &[&str]) {
    for topic in topics {
        broker.create_topic(topic).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lags_comes_first_and_what_it_lost_stays_known() {
    let settings = [("SUBSCRIBER_QUEUE_SIZE", "10"), ("WRITE_WAIT_SEC", "60")];
    let broker = Broker::start(&settings);
    broker.create_topic("t").await;
    let _quick = Client::connect_as(&broker, "quick").await;
    let mut slow = RawSocket::connect_small(&broker).await;
    slow.ask(r#"{"type":"subscribe","topic":"t"}"#).await;
    let mut publisher = Client::connect_as(&broker, "publisher").await;
    publisher
        .publish_all("t", vec!["x".repeat(30_000); 100], 5)
        .await;

    for sort in ["lag", "dropped"] {
        let list = list(&broker, &format!("?sort={sort}")).await;
        let first = &list[0];
        assert!(number(first, "dropped") > 0, "{list:?}");
        assert!(
            (10..20).contains(&number(&first["lag"], "events")),
            "{first}"
        );
        assert!(list[1..].iter().all(|other| number(other, "dropped") == 0));
    }
    tokio::time::sleep(std::time::Duration::from_millis(120)).await;
    let lagging = list(&broker, "").await[0].clone();
    assert!(number(&lagging["lag"], "age_ms") >= 100, "{lagging}");
    let sum: u64 = ["dropped", "events_out"]
        .iter()
        .map(|name| number(&lagging, name))
        .sum();
    assert_eq!(sum + number(&lagging["lag"], "events"), 100);

    drop(slow);
    eventually("its end", async || list(&broker, "").await.len() == 2).await;
    let ended = list(&broker, "?closed=1").await;
    assert_eq!(ended.len(), 1);
    let ended = &ended[0];
    assert_eq!(keys(ended), names(&format!("{MEMBERS} code reason ended")));
    assert_eq!(
        (number(ended, "code"), text(ended, "reason")),
        (1006, "the client has gone")
    );
    assert_eq!(ended["id"], lagging["id"]);
    assert_eq!(ended["dropped"], lagging["dropped"]);
    assert_eq!(number(ended, "subscriptions"), 1);
}

#[tokio::test]
async fn the_ledger_says_how_each_has_ended() {
    let settings = [
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", "k"),
        ("AUTH_TIMEOUT_SEC", "1"),
    ];
    let broker = Broker::start(&settings);
    let headers = [("x-api-key", "k")];
    Client::connect_with(&broker, "/ws?client_id=polite", &headers)
        .await
        .close()
        .await;
    let mut rude = RawSocket::connect(&broker).await;
    rude.send(&[0xFF, 0xFF]).await;
    assert_eq!(rude.expect_close().await, Some(1002));
    let mut silent = RawSocket::connect(&broker).await;
    assert_eq!(silent.expect_close().await, Some(1008));
    let all = || async {
        call(&broker, "k", "GET", "/connections?closed=1", "")
            .await
            .json()
    };
    eventually("three ends", async || {
        all().await["connections"].as_array().map(Vec::len) == Some(3)
    })
    .await;
    let all = all().await;
    let ends: Vec<_> = all["connections"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|ended| (number(ended, "code"), text(ended, "reason").to_owned()))
        .collect();
    assert_eq!(ends[0].0, 1008);
    assert_eq!(ends[0].1, "Authentication timeout");
    assert_eq!(ends[1].0, 1002);
    assert!(!ends[1].1.is_empty());
    assert_eq!(ends[2].1, "closed by the client");
}

#[tokio::test]
async fn pages_show_each_connection_once() {
    let broker = Broker::start(&[("SHARDS", "2")]);
    broker.create_topic("t").await;
    let mut clients = Vec::new();
    for index in 0..45 {
        let mut client = Client::connect_as(&broker, &format!("c{index}")).await;
        if index % 3 == 0 {
            client.subscribe("t").await;
        }
        clients.push(client);
    }
    for sort in ["lag", "dropped", "age"] {
        let query = format!("sort={sort}&limit=7");
        let all = pages(&broker, "/connections", &query, "connections").await;
        let ids: BTreeSet<_> = all.iter().map(|one| text(one, "id").to_owned()).collect();
        assert_eq!((all.len(), ids.len()), (45, 45), "{sort}");
        if sort == "age" {
            assert!(all.is_sorted_by(|one, next| text(one, "since") <= text(next, "since")));
        }
    }
    let all = pages(&broker, "/topics/t/subscribers", "limit=4", "subscribers").await;
    let names: BTreeSet<_> = all.iter().map(|one| text(one, "client_id")).collect();
    assert_eq!((all.len(), names.len()), (15, 15));
    assert!(all.iter().all(|one| number(one, "subscriptions") == 1));
    drop(clients);
    eventually("all gone", async || list(&broker, "").await.is_empty()).await;
    let all = pages(&broker, "/connections", "closed=1&limit=10", "connections").await;
    let ids: BTreeSet<_> = all.iter().map(|one| text(one, "id").to_owned()).collect();
    assert_eq!((all.len(), ids.len()), (45, 45));
}

#[tokio::test]
async fn a_bad_question_is_told_what_is_allowed() {
    let broker = Broker::start(&[]);
    for (query, wanted) in [
        ("sort=name", "sort must be lag, dropped or age"),
        ("limit=0", "limit must be a number from 1 to 200"),
        ("limit=9999", "limit must be a number from 1 to 200"),
        (
            "after=zzz",
            "after must be what next was in the page before",
        ),
        ("closed=maybe", "closed must be 1 or 0"),
    ] {
        let answer = broker.get(&format!("/connections?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["error"], wanted);
    }
    for id in [
        "0",
        "zzz",
        "ffffffffffffffff",
        "",
        "1/2",
        "100000000000000000",
    ] {
        for method in ["GET", "DELETE"] {
            let path = format!("/connections/{id}");
            let answer = broker.request(method, &path, &[], "").await;
            let wanted = match (id, method) {
                // A slash at the end changes nothing: that is the list.
                ("", "GET") => 200,
                ("", _) => 405,
                _ => 404,
            };
            assert_eq!(answer.status, wanted, "{method} {path}: {}", answer.body);
        }
    }
    assert_eq!(
        broker.request("POST", "/connections", &[], "").await.status,
        405
    );
}

#[tokio::test]
async fn an_operator_closes_a_connection() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    let mut other = Client::connect_as(&broker, "other").await;
    let list = list(&broker, "").await;
    let id = list
        .iter()
        .find(|one| one["client_id"] != "other")
        .map(|one| text(one, "id").to_owned())
        .expect("it is listed");
    let path = format!("/connections/{id}");
    let answer = broker.request("DELETE", &path, &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let (code, _) = client.expect_close().await;
    assert_eq!(code, 1008);
    eventually("its end", async || {
        broker.request("DELETE", &path, &[], "").await.status == 404
    })
    .await;
    assert_eq!(broker.get(&path).await.status, 404);
    assert_eq!(other.ask(json!({"type": "ping"})).await["type"], "pong");
    let ended = broker.get("/connections?closed=1").await.json();
    assert_eq!(ended["connections"][0]["reason"], "closed by an operator");
}

#[tokio::test]
async fn connections_are_for_those_who_may_observe_and_closed_by_those_who_may_everything() {
    let file = KeyFile::new(
        &[
            key("watcher-key", "observe = true"),
            key("boss-key", "admin = true"),
            key("reader-key", "subscribe = [\"t\"]"),
        ]
        .concat(),
    );
    let broker = file.broker(&[]);
    create(&broker, &["t", "u"]).await;
    let mut reader = connect(&broker, "reader-key").await;
    reader.subscribe("t").await;
    let listed = call(&broker, "watcher-key", "GET", "/connections", "").await;
    let listed = listed.json()["connections"][0].clone();
    assert_eq!(listed["key"], "reader");
    let path = format!("/connections/{}", text(&listed, "id"));
    for (key, method, path, status) in [
        ("reader-key", "GET", "/connections", 403),
        ("reader-key", "GET", "/connections?closed=1", 403),
        ("reader-key", "GET", path.as_str(), 403),
        ("reader-key", "GET", "/topics/t/subscribers", 403),
        ("reader-key", "GET", "/topics/t", 200),
        ("reader-key", "GET", "/topics/u", 403),
        ("reader-key", "GET", "/topics/nowhere", 403),
        ("watcher-key", "GET", "/topics/t", 403),
        ("watcher-key", "GET", path.as_str(), 200),
        ("watcher-key", "DELETE", path.as_str(), 403),
        ("reader-key", "DELETE", path.as_str(), 403),
        ("wrong-key", "GET", "/connections", 401),
        ("wrong-key", "DELETE", path.as_str(), 401),
        ("boss-key", "GET", "/topics/t/subscribers", 200),
        ("boss-key", "DELETE", path.as_str(), 204),
    ] {
        let answer = call(&broker, key, method, path, "").await;
        assert_eq!(
            answer.status, status,
            "{key} {method} {path}: {}",
            answer.body
        );
    }
    assert_eq!(reader.expect_close().await.0, 1008);
    // One that is being closed is listed until its socket is.
    eventually("its end", async || {
        call(&broker, ROOT.1, "GET", &path, "").await.status == 404
    })
    .await;
    let mut reader = connect(&broker, "reader-key").await;
    let listed = call(&broker, ROOT.1, "GET", "/connections", "")
        .await
        .json();
    let path = format!("/connections/{}", text(&listed["connections"][0], "id"));
    assert_eq!(call(&broker, ROOT.1, "DELETE", &path, "").await.status, 204);
    assert_eq!(reader.expect_close().await.0, 1008);
}

#[tokio::test]
async fn a_topic_is_described() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "3")]);
    for name in ["orders", "a/b", "a/subscribers", "ü"] {
        broker.create_topic(name).await;
    }
    let mut client = Client::subscribed(&broker, "orders").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("orders", 0..5, 1).await;
    client.expect_seqs_to("orders", 5).await;
    for path in ["/topics/orders", "/topics/orders/"] {
        let topic = broker.get(path).await;
        assert_eq!(topic.status, 200);
        let topic = topic.json();
        assert_eq!(
            keys(&topic),
            names("name epoch seq subscribers messages kept dropped bytes created")
        );
        assert_eq!(topic["name"], "orders");
        let figures: Vec<_> = ["seq", "subscribers", "messages", "kept", "dropped"]
            .iter()
            .map(|name| number(&topic, name))
            .collect();
        assert_eq!(figures, [5, 1, 5, 3, 0]);
        assert!(number(&topic, "bytes") > 3 * 100);
        assert!(text(&topic, "created").ends_with('Z'));
    }
    for (path, name) in [
        ("/topics/a%2Fb", "a/b"),
        ("/topics/a/b", "a/b"),
        ("/topics/a%2Fsubscribers", "a/subscribers"),
        ("/topics/%C3%BC", "ü"),
    ] {
        assert_eq!(broker.get(path).await.json()["name"], name, "{path}");
    }
    for path in [
        "/topics/nowhere",
        "/topics/nowhere/subscribers",
        "/topics/%FF",
    ] {
        let answer = broker.get(path).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (404, &json!("TOPIC_NOT_FOUND"))
        );
    }
    let head = broker.request("HEAD", "/topics/orders", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}
