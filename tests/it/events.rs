//! Server-Sent Events: what a stream is sent, and which position goes with it.

use serde_json::{Value, json};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::http::Rest;
use crate::harness::sse::{Event, EventStream};

async fn publish(broker: &Broker, topic: &str, body: &str) {
    let path = format!("/topics/{topic}/messages");
    let answer = broker.request("POST", &path, &[], body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Messages 1 to `count`, each with its number for a payload.
async fn fill(broker: &Broker, topic: &str, count: u64) {
    broker.create_topic(topic).await;
    let messages: Vec<_> = (1..=count).map(|n| json!({"payload": n})).collect();
    let path = topic.replace('/', "%2F").replace(' ', "%20");
    publish(broker, &path, &json!(messages).to_string()).await;
}

async fn epoch(broker: &Broker, topic: &str) -> String {
    let of = broker.get(&format!("/topics/{topic}")).await.json();
    of["epoch"].as_str().expect("an epoch").to_owned()
}

fn without_ts(event: &Event) -> Value {
    let mut json = event.json();
    let ts = json.as_object_mut().expect("an object").remove("ts");
    assert_eq!(ts.expect("a ts").as_str().map(str::len), Some(24));
    json
}

#[tokio::test]
async fn a_stream_has_its_headers_an_ack_and_each_event_with_its_position() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let epoch = epoch(&broker, "t").await;
    let mut stream = EventStream::open(&broker, "/topics/t/events", &[]).await;
    for (name, value) in [
        ("cache-control", Some("no-store")),
        ("x-accel-buffering", Some("no")),
        ("connection", Some("close")),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(stream.head.header(name), value, "{name}");
    }
    let date = stream.head.header("date").expect("a date");
    assert!(date.ends_with(" GMT"), "{date}");
    let ack = stream.expect("ack").await;
    assert_eq!(ack.last_id, "");
    assert_eq!(
        without_ts(&ack),
        json!({"type": "ack", "topic": "t", "status": "ok", "epoch": epoch, "seq": 0})
    );
    // The same JSON as on a WebSocket, to the byte.
    let mut websocket = Client::subscribed(&broker, "t").await;
    for (seq, payload) in [r#"{"a" :  [1.0e0]}"#, "null", r#""ü\u00fc\n""#]
        .iter()
        .enumerate()
    {
        publish(&broker, "t", &format!(r#"{{"payload":{payload}}}"#)).await;
        let event = stream.expect_event("t").await;
        assert_eq!(event.data, websocket.recv_raw().await);
        assert_eq!(event.last_id, format!("{epoch}:{}", seq + 1));
    }
}

#[tokio::test]
async fn a_payload_of_several_lines_has_a_data_line_for_each() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let mut stream = EventStream::open(&broker, "/topics/t/events", &[]).await;
    stream.expect("ack").await;
    publish(&broker, "t", "{\"payload\":{\n\"a\":\r\n1,\r\"b\":\n\n2}}").await;
    let event = stream.expect_event("t").await;
    assert!(
        event.data.contains("{\n\"a\":\n1,\n\"b\":\n\n2}"),
        "{event:?}"
    );
    assert_eq!(event.json()["message"]["payload"], json!({"a": 1, "b": 2}));
    // And in one run with others.
    publish(&broker, "t", "[{\"payload\":[\n1]},{\"payload\":2}]").await;
    assert_eq!(stream.expect_seqs_to("t", 3).await, [2, 3]);
}

#[tokio::test]
async fn it_begins_with_what_was_asked_for() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "10")]);
    fill(&broker, "t", 20).await;
    let epoch = epoch(&broker, "t").await;
    for (query, header, recovered, first) in [
        ("", "", Value::Null, None),
        ("?last=3", "", Value::Null, Some(18)),
        ("?last=1000", "", Value::Null, Some(11)),
        (&*format!("?since={epoch}:15"), "", true.into(), Some(16)),
        (&*format!("?since={epoch}:20"), "", true.into(), None),
        (&*format!("?since={epoch}:5"), "", false.into(), Some(11)),
        ("?since=other:20", "", false.into(), Some(11)),
        // What the browser says counts, not what the page was opened with.
        ("?last=3", &*format!("{epoch}:19"), true.into(), Some(20)),
        (
            "?since=other:1",
            &*format!("{epoch}:19"),
            true.into(),
            Some(20),
        ),
    ] {
        let path = format!("/topics/t/events{query}");
        let mut stream = EventStream::open(&broker, &path, &[("Last-Event-ID", header)]).await;
        let ack = stream.expect("ack").await.json();
        assert_eq!(ack["seq"], 20, "{query}");
        assert_eq!(ack["recovered"], recovered, "{query}");
        if let Some(first) = first {
            let seqs = stream.expect_seqs_to("t", 20).await;
            assert_eq!(seqs, (first..=20).collect::<Vec<_>>(), "{query}");
        }
    }
    let mut stream = EventStream::open(&broker, "/topics/t/events?last=2", &[]).await;
    stream.expect("ack").await;
    publish(&broker, "t", r#"{"payload":21}"#).await;
    assert_eq!(stream.expect_seqs_to("t", 21).await, [19, 20, 21]);
}

#[tokio::test]
async fn a_client_that_comes_again_with_its_last_id_misses_nothing_and_gets_nothing_twice() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "1000")]);
    broker.create_topic("t").await;
    let (mut last_id, mut seen) = (String::new(), Vec::new());
    for round in 0..20_u64 {
        let headers = [("Last-Event-ID", &*last_id)];
        let mut stream = EventStream::open(&broker, "/topics/t/events", &headers).await;
        stream.expect("ack").await;
        publish(
            &broker,
            "t",
            &format!("[{}{{\"payload\":0}}]", "{\"payload\":1},".repeat(9)),
        )
        .await;
        // It goes away in the middle.
        let upto = 10 * round + 4;
        seen.extend(stream.expect_seqs_to("t", upto).await);
        last_id.clone_from(&stream.last_id);
    }
    assert_eq!(seen, (1..=194).collect::<Vec<_>>());
}

#[tokio::test]
async fn several_topics_come_in_one_stream_with_the_position_in_each() {
    let broker = Broker::start(&[("SHARDS", "2")]);
    let names = ["a", "b", "c", "d"];
    for name in names {
        fill(&broker, name, 2).await;
    }
    let mut epochs = Vec::new();
    for name in names {
        epochs.push(epoch(&broker, name).await);
    }
    let path = "/events?topic=a&topic=b&topic=c&topic=d";
    let mut stream = EventStream::open(&broker, path, &[]).await;
    let ack = stream.expect("ack").await;
    let at = |index: usize| json!({"epoch": epochs[index], "seq": 2});
    let positions = json!({"a": at(0), "b": at(1), "c": at(2), "d": at(3)});
    assert_eq!(
        without_ts(&ack),
        json!({"type": "ack", "status": "ok", "matched": 4, "positions": positions})
    );
    let id = |seqs: [u64; 4]| {
        let of = epochs
            .iter()
            .zip(seqs)
            .map(|(epoch, seq)| format!("{epoch}:{seq}"));
        of.collect::<Vec<_>>().join(",")
    };
    publish(&broker, "c", r#"[{"payload":3},{"payload":4}]"#).await;
    stream.expect_event("c").await;
    assert_eq!(stream.last_id, id([2, 2, 3, 2]));
    stream.expect_event("c").await;
    assert_eq!(stream.last_id, id([2, 2, 4, 2]));
    publish(&broker, "a", r#"{"payload":3}"#).await;
    stream.expect_event("a").await;
    let last_id = stream.last_id.clone();
    assert_eq!(last_id, id([3, 2, 4, 2]));
    drop(stream);

    // It comes again, when more has happened.
    publish(&broker, "b", r#"[{"payload":3},{"payload":4}]"#).await;
    publish(&broker, "c", r#"{"payload":5}"#).await;
    let mut stream = EventStream::open(&broker, path, &[("Last-Event-ID", &last_id)]).await;
    let ack = stream.expect("ack").await.json();
    assert_eq!(
        (&ack["recovered"], &ack["lost"]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(ack["positions"]["b"]["seq"], 4, "where live events begin");
    let mut came = Vec::new();
    for _ in 0..3 {
        let event = stream.expect("message").await.json();
        came.push((event["topic"].to_string(), event["seq"].as_u64()));
    }
    came.sort();
    let of = |topic: &str, seq| (format!("\"{topic}\""), Some(seq));
    assert_eq!(came, [of("b", 3), of("b", 4), of("c", 5)]);
    assert_eq!(stream.last_id, id([3, 4, 5, 2]));
}

#[tokio::test]
async fn a_stream_that_is_cut_in_the_middle_of_its_replays_goes_on_where_it_was() {
    let broker = Broker::start(&[("SHARDS", "2")]);
    for name in ["a", "b", "c"] {
        fill(&broker, name, 5).await;
    }
    let (mut last_id, mut seen) = (String::new(), Vec::new());
    while seen.len() < 15 {
        let headers = [("Last-Event-ID", &*last_id)];
        let path = "/events?topic=a&topic=b&topic=c&last=100";
        let mut stream = EventStream::open(&broker, path, &headers).await;
        stream.expect("ack").await;
        let event = stream.expect("message").await;
        let json = event.json();
        seen.push((
            json["topic"].to_string(),
            json["seq"].as_u64().expect("a seq"),
        ));
        last_id = event.last_id;
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 15, "each of 5 events of 3 topics once");
}

#[tokio::test]
async fn what_of_several_topics_is_lost_is_told() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "2")]);
    for name in ["a", "b"] {
        fill(&broker, name, 5).await;
    }
    let (of_a, of_b) = (epoch(&broker, "a").await, epoch(&broker, "b").await);
    for (positions, recovered, lost) in [
        (format!("{of_a}:3,{of_b}:4"), true, Value::Null),
        (format!("{of_a}:4,{of_b}:1"), false, json!(["b"])),
        (format!("x:1,{of_b}:1"), false, json!(["a", "b"])),
    ] {
        let path = format!("/events?topic=a&topic=b&since={positions}");
        let mut stream = EventStream::open(&broker, &path, &[]).await;
        let ack = stream.expect("ack").await.json();
        assert_eq!(ack["recovered"], recovered, "{positions}");
        assert_eq!(ack["lost"], lost, "{positions}");
    }
}

#[tokio::test]
async fn one_name_in_a_query_is_the_stream_of_that_topic() {
    let broker = Broker::start(&[]);
    fill(&broker, "a/b c", 1).await;
    let epoch = epoch(&broker, "a%2Fb%20c").await;
    for path in [
        "/events?topic=a/b+c&last=1",
        "/topics/a%2Fb%20c/events/?last=1",
    ] {
        let mut stream = EventStream::open(&broker, path, &[]).await;
        let ack = stream.expect("ack").await.json();
        assert_eq!((&ack["topic"], &ack["seq"]), (&"a/b c".into(), &1.into()));
        stream.expect_event("a/b c").await;
        assert_eq!(stream.last_id, format!("{epoch}:1"));
    }
}

#[tokio::test]
async fn what_is_no_request_for_a_stream_is_refused_in_words() {
    let broker = Broker::start(&[]);
    broker.create_topic("t").await;
    let many: Vec<_> = (0..65).map(|n| format!("topic={n}")).collect();
    let many = format!("/events?{}", many.join("&"));
    for (path, status, text) in [
        ("/topics/none/events", 404, "topic not found"),
        ("/events?topic=t&topic=none", 404, "topic not found"),
        (
            "/events",
            400,
            "a topic is required: ?topic=NAME, one for each",
        ),
        (
            "/events?topic=",
            400,
            "topic name is empty: 1 to 255 bytes are allowed",
        ),
        ("/events?topic=t.*", 400, "topic name holds '*'"),
        ("/events?topic=t&topic=t", 400, "topic 't' is named twice"),
        (&many, 400, "more than 64 topics in one stream"),
        (
            "/topics/t/events?last=x",
            400,
            "last must be a whole number",
        ),
        ("/topics/t/events?since=5", 400, "since must be EPOCH:SEQ"),
        (
            "/events?topic=t&topic=u&since=a:1",
            400,
            "since must be 2 times EPOCH:SEQ with commas, in the order of the topics",
        ),
    ] {
        let answer = broker.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let error = answer.json()["error"].to_string();
        assert!(error.contains(text), "{path}: {error}");
    }
    let mut rest = Rest::open(&broker).await;
    for path in ["/topics/t/events", "/events?topic=t"] {
        let not_accepted = [("Accept", "application/json, text/event-stream;q=0")];
        for (method, headers) in [("HEAD", &[][..]), ("GET", &not_accepted)] {
            let answer = rest.request(method, path, headers, "").await;
            assert_eq!(answer.status, 406, "{method} {path}");
        }
        let answer = rest.request("GET", path, &[], "{}").await;
        assert_eq!(answer.status, 400, "{}", answer.body);
        let answer = rest.request("POST", path, &[], "").await;
        assert_eq!(answer.status, 405);
    }
    // The connection has outlived all of that.
    assert_eq!(rest.request("GET", "/health", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_stream_has_no_more_topics_than_a_connection_may_have() {
    let broker = Broker::start(&[
        ("MAX_SUBSCRIPTIONS_PER_CONNECTION", "2"),
        ("AUTO_CREATE_TOPICS", "true"),
    ]);
    let refused = broker.get("/events?topic=a&topic=b&topic=c").await;
    let (status, body) = (refused.status, refused.json());
    assert_eq!((status, &body["code"]), (400, &"LIMIT_EXCEEDED".into()));
    let text = "more topics than a connection may have: MAX_SUBSCRIPTIONS_PER_CONNECTION is 2";
    assert_eq!(body["error"], text);
    // Nothing has come of it.
    assert_eq!(broker.health("topics").await, 0);
    let mut stream = EventStream::open(&broker, "/events?topic=a&topic=b", &[]).await;
    assert_eq!(stream.expect("ack").await.json()["matched"], 2);
}

#[tokio::test]
async fn topics_are_created_where_that_is_allowed_and_there_is_room() {
    let broker = Broker::start(&[("AUTO_CREATE_TOPICS", "true"), ("MAX_TOPICS", "2")]);
    let mut stream = EventStream::open(&broker, "/events?topic=a&topic=b", &[]).await;
    assert_eq!(stream.expect("ack").await.json()["matched"], 2);
    let answer = broker.get("/topics/c/events").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert_eq!(answer.json()["code"], "LIMIT_EXCEEDED");
}

#[tokio::test]
async fn answers_to_requests_before_it_leave_before_it() {
    let broker = Broker::start(&[("RING_BUFFER_SIZE", "500")]);
    fill(&broker, "t", 500).await;
    let mut rest = Rest::open(&broker).await;
    // Nobody reads while it is answered, so that much of it waits.
    let list = "GET /topics/t/messages HTTP/1.1\r\nHost: x\r\n\r\n";
    let stream = "GET /topics/t/events?last=1 HTTP/1.1\r\nHost: x\r\n\r\n";
    let requests = list.repeat(50) + stream + "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    rest.wire.send(requests.as_bytes()).await;
    for _ in 0..50 {
        let answer = rest.response("a list").await;
        assert_eq!(
            answer.json()["messages"].as_array().map(Vec::len),
            Some(500)
        );
    }
    let head = rest.response_head("the head of a stream").await;
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let mut stream = EventStream::of(rest.wire, head);
    stream.expect("ack").await;
    stream.expect_event("t").await;
    publish(&broker, "t", r#"{"payload":501}"#).await;
    assert_eq!(stream.expect_seqs_to("t", 501).await, [501]);
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_read_it() {
    let broker = Broker::start(&[("ALLOWED_ORIGINS", "https://app.example")]);
    broker.create_topic("t").await;
    let origin = [("Origin", "https://app.example")];
    let stream = EventStream::open(&broker, "/topics/t/events", &origin).await;
    let allowed = stream.head.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://app.example"));
    assert_eq!(stream.head.header("vary"), Some("Origin"));
    let exposed = stream.head.header("access-control-expose-headers");
    assert_eq!(exposed, Some("Retry-After"));
    let other = [("Origin", "https://evil.example")];
    let refused = broker.request("GET", "/topics/t/events", &other, "").await;
    assert_eq!(refused.status, 403);
    let preflight = [
        origin[0],
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "last-event-id"),
    ];
    let answer = broker.request("OPTIONS", "/events", &preflight, "").await;
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    let headers = answer.header("access-control-allow-headers");
    assert!(headers.is_some_and(|headers| headers.contains("Last-Event-ID")));
}
