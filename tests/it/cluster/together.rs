//! Nodes that live: whatever is asked of one is seen on all, the same to the letter.

use serde_json::{Value, json};

use super::{Cluster, seen, standing, state};
use crate::harness::client::Client;
use crate::harness::http::Rest;
use crate::harness::json::{message_id, number};
use crate::harness::{eventually, within};

#[tokio::test]
async fn each_kind_of_change_is_the_same_on_all_nodes() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let nodes = [
        cluster.node(&[("SHARDS", "1")]).await,
        cluster
            .node(&[("SHARDS", "3"), ("AUTO_CREATE_TOPICS", "true")])
            .await,
    ];
    let [one, other] = &nodes;
    one.create_topic("orders").await;
    seen(other, "orders", 0).await;
    assert_eq!(other.post_topic("orders").await.status, 409);

    let mut subscribers = [
        Client::subscribed(one, "orders").await,
        Client::subscribed(other, "orders").await,
    ];
    let mut publishers = [Client::connect(one).await, Client::connect(other).await];
    for round in 0..10 {
        let ack = publishers[round % 2]
            .publish("orders", json!({"n": round}))
            .await;
        assert_eq!(
            (number(&ack, "seq"), number(&ack, "matched")),
            (round as u64 + 1, 1)
        );
    }
    let array = r#"[{"payload":1},{"payload": {"as" : 1.50e1}},{"payload":"ü\u00fc"}]"#;
    let posted = other
        .request("POST", "/topics/orders/messages", &[], array)
        .await
        .json();
    assert_eq!(posted["messages"][2]["seq"], 13);
    for _ in 0..13 {
        let [first, second] = &mut subscribers;
        assert_eq!(first.recv_raw().await, second.recv_raw().await);
    }

    // Made by a publish and by a subscribe, where the node that is asked may.
    let ack = publishers[1].publish("made", 1).await;
    assert_eq!(ack["seq"], 1);
    let ack = publishers[1].subscribe("wanted").await;
    seen(one, "made", 1).await;
    seen(one, "wanted", 0).await;
    assert_eq!(
        ack["epoch"],
        one.get("/topics/wanted").await.json()["epoch"]
    );
    let refusal = publishers[0]
        .expect_refusal(
            &crate::harness::client::publish("unknown", 1),
            "TOPIC_NOT_FOUND",
        )
        .await;
    assert!(refusal.contains("unknown"));

    cluster.level(&[one, other]).await;
    let before = state(one).await;
    assert_eq!(before, state(other).await);
    assert_eq!(before.len(), 3);

    // One of that name later is another, on both.
    let epoch = one.get("/topics/orders").await.json()["epoch"].clone();
    other.delete_topic("orders").await;
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.recv().await["msg"], "topic_deleted");
    }
    eventually("the end of the topic", async || {
        one.get("/topics/orders").await.status == 404
    })
    .await;
    one.create_topic("orders").await;
    seen(other, "orders", 0).await;
    let later = other.get("/topics/orders").await.json()["epoch"].clone();
    assert_ne!(epoch, later);
    assert_eq!(later, one.get("/topics/orders").await.json()["epoch"]);
}

#[tokio::test]
async fn a_subscriber_goes_on_at_another_node_where_it_was() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let (one, other) = (cluster.node(&[]).await, cluster.node(&[]).await);
    one.create_topic("t").await;
    let mut publisher = Client::connect(&one).await;
    publisher.publish_all("t", 1..=20, 5).await;
    let epoch = one.get("/topics/t").await.json()["epoch"].clone();
    seen(&other, "t", 20).await;
    let mut resumed = Client::connect(&other).await;
    let ack = resumed
        .subscribe_with("t", json!({"since": {"epoch": epoch, "seq": 7}}))
        .await;
    assert_eq!((&ack["recovered"], &ack["seq"]), (&json!(true), &json!(20)));
    assert_eq!(
        resumed.expect_seqs_to("t", 20).await,
        (8..=20).collect::<Vec<_>>()
    );
    publisher.publish("t", 21).await;
    assert_eq!(resumed.expect_event("t").await["seq"], 21);
    // Patterns too.
    let mut pattern = Client::subscribed(&other, "*").await;
    one.create_topic("u").await;
    assert_eq!(pattern.recv().await["msg"], "topic_created");
    publisher.publish("u", 1).await;
    assert_eq!(pattern.expect_event("u").await["seq"], 1);
}

#[tokio::test]
async fn commands_of_one_connection_keep_their_order() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let node = cluster.node(&[("AUTO_CREATE_TOPICS", "true")]).await;
    let mut client = Client::connect(&node).await;
    // All in one go: what is asked of a shard may not overtake what goes through the log.
    let id = message_id();
    let publish = |topic: &str, n: u64| json!({"type": "publish", "topic": topic, "message": {"id": id, "payload": n}, "request_id": format!("p{n}")});
    let commands = [
        publish("a", 1),
        json!({"type": "subscribe", "topic": "a", "request_id": "s"}),
        publish("a", 2),
        json!({"type": "subscribe", "topic": "new", "request_id": "new"}),
        publish("new", 3),
        json!({"type": "unsubscribe", "topic": "new", "request_id": "u"}),
        publish("new", 4),
        json!({"type": "ping", "request_id": "end"}),
    ];
    for command in commands {
        client.send(command).await;
    }
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "end") {
        let message = client.recv().await;
        heard.push(match message["request_id"].as_str() {
            Some(id) => id.to_owned(),
            None => format!(
                "{}{}",
                message["topic"].as_str().expect("an event"),
                message["message"]["payload"]
            ),
        });
    }
    assert_eq!(
        heard,
        ["p1", "s", "a2", "p2", "new", "new3", "p3", "u", "p4", "end"]
    );
}

#[tokio::test]
async fn fifty_publishers_over_three_nodes_make_one_sequence() {
    const EACH: u64 = 40;
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let room = [("SUBSCRIBER_QUEUE_SIZE", "5000"), ("SHARDS", "1")];
    let nodes = [
        cluster.node(&room).await,
        cluster.node(&room).await,
        cluster.node(&room).await,
    ];
    nodes[0].create_topic("t").await;
    let mut subscribers = Vec::new();
    for node in &nodes {
        seen(node, "t", 0).await;
        subscribers.push(Client::subscribed(node, "t").await);
    }
    let publishers: Vec<_> = (0..50)
        .map(|publisher| {
            let address = nodes[publisher % 3].address();
            tokio::spawn(async move {
                let mut client = Client::try_connect(address).await.expect("it listens");
                let payloads = (0..EACH).map(|n| json!([publisher, n]));
                client.publish_all("t", payloads, 8).await
            })
        })
        .collect();
    let reading = subscribers.into_iter().map(|mut subscriber| {
        tokio::spawn(async move {
            let mut events = Vec::new();
            for seq in 1..=50 * EACH {
                let event = subscriber.recv().await;
                assert_eq!(event["seq"], seq, "{event}");
                events.push(event);
            }
            events
        })
    });
    let reading: Vec<_> = reading.collect();
    for (publisher, acks) in publishers.into_iter().enumerate() {
        let acks = acks.await.expect("no publisher fails");
        let seqs: Vec<_> = acks.iter().map(|ack| number(ack, "seq")).collect();
        assert!(seqs.is_sorted(), "the order of publisher {publisher}");
    }
    let mut seen = Vec::new();
    for events in reading {
        seen.push(
            within("every event", events)
                .await
                .expect("no subscriber fails"),
        );
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    for publisher in 0..50 {
        let of = |event: &&Value| event["message"]["payload"][0] == publisher;
        let numbers = seen[0]
            .iter()
            .filter(of)
            .map(|event| number_at(&event["message"]["payload"], 1));
        assert!(
            numbers.eq(0..EACH),
            "each message of publisher {publisher}, once, in its order"
        );
    }
}

fn number_at(value: &Value, index: usize) -> u64 {
    value[index].as_u64().expect("a number")
}

#[tokio::test]
async fn what_is_repeated_at_another_node_is_published_once() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    // One of them has no memory for what it keeps; what counts as kept is the same all the same.
    let (one, other) = (
        cluster.node(&[]).await,
        cluster.node(&[("HISTORY_BYTES_MAX", "0")]).await,
    );
    one.create_topic("t").await;
    seen(&other, "t", 0).await;
    let message = |id: &str| format!(r#"{{"id":"{id}","payload":1,"once":true}}"#);
    let ids: Vec<_> = (0..150).map(|_| message_id()).collect();
    let mut rests = [Rest::open(&one).await, Rest::open(&other).await];
    for id in &ids {
        for rest in &mut rests {
            let answer = rest
                .request("POST", "/topics/t/messages", &[], &message(id))
                .await;
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    }
    // A hundred are kept: of those before, the ids are free again.
    for (index, wanted) in [(149, 150), (51, 52), (49, 151), (50, 152)] {
        let answer = rests[index % 2]
            .request("POST", "/topics/t/messages", &[], &message(&ids[index]))
            .await
            .json();
        assert_eq!(answer["seq"], wanted, "{index}: {answer}");
        assert_eq!(
            answer["duplicate"] == true,
            wanted <= 150,
            "{index}: {answer}"
        );
    }
    cluster.level(&[&one, &other]).await;
    assert_eq!(other.get("/topics/t").await.json()["seq"], 152);
}

#[tokio::test]
async fn nodes_know_how_they_stand() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let (one, other) = (cluster.node(&[]).await, cluster.node(&[]).await);
    one.create_topic("t").await;
    eventually("both nodes", async || standing(&other).await["nodes"] == 2).await;
    let of = standing(&other).await;
    assert_eq!(of["name"], *cluster.name);
    assert_eq!(
        (&of["ready"], &of["connected"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(of["lag"]["entries"], 0);
    assert_ne!(of["node"], standing(&one).await["node"]);
    eventually("the size of the log", async || {
        standing(&other).await["log"]["entries"] == 1
    })
    .await;
    assert_eq!(standing(&one).await["appends"]["done"], 1);
    let metrics = one.get("/metrics").await.body;
    for figure in [
        "shardcast_cluster_ready 1",
        "shardcast_cluster_nodes 2",
        "shardcast_cluster_appends_total 1",
        "shardcast_cluster_lag_entries 0",
    ] {
        assert!(metrics.contains(figure), "no {figure} in\n{metrics}");
    }
    drop(other);
    eventually("one node", async || standing(&one).await["nodes"] == 1).await;
    let alone = crate::harness::broker::Broker::start(&[]);
    assert_eq!(alone.get("/stats").await.json()["cluster"], Value::Null);
    assert!(
        !alone
            .get("/metrics")
            .await
            .body
            .contains("shardcast_cluster")
    );
}

#[tokio::test]
async fn a_message_larger_than_nats_takes_is_refused_in_words() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let node = cluster
        .node(&[
            ("MAX_MESSAGE_SIZE", "4194304"),
            ("PUBLISH_BODY_MAX", "4194304"),
        ])
        .await;
    node.create_topic("t").await;
    let payload = format!(r#"{{"payload":"{}"}}"#, "x".repeat(2 << 20));
    let answer = node
        .request("POST", "/topics/t/messages", &[], &payload)
        .await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert!(answer.body.contains("max_payload"), "{}", answer.body);
    let mut client = Client::connect(&node).await;
    let text = crate::harness::client::publish("t", "x".repeat(2 << 20));
    let words = client.expect_refusal(&text, "MESSAGE_TOO_LARGE").await;
    assert!(words.contains("max_payload"), "{words}");
    assert_eq!(client.publish("t", 1).await["seq"], 1);
}
