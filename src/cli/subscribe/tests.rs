use crate::cli::test_server::{Answer, TestServer};

use super::*;

/// Subscribes until the server ends it; what was printed, and how it ended.
async fn subscribe_to(server: &TestServer, subscription: Subscription) -> (String, String, String) {
    let (mut out, mut notices) = (Vec::new(), Vec::new());
    let ended = subscribe(&server.settings(), &subscription, &mut out, &mut notices).await;
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        text(out),
        text(notices),
        ended.expect_err("it ends with the connection").to_string(),
    )
}

fn topics(topics: &[&str]) -> Subscription {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    Subscription {
        topics,
        last: None,
        starts: Vec::new(),
        policy: Wish::default(),
        reconnect: false,
        verbose: false,
    }
}

fn event(topic: &str, seq: u64, payload: &str) -> Answer {
    Answer::Text(format!(
        r#"{{"type":"event","topic":"{topic}","message":{{"id":"i","payload":{payload}}},"ts":"x","seq":{seq}}}"#
    ))
}

fn text(text: &str) -> Answer {
    Answer::Text(text.to_owned())
}

#[tokio::test]
async fn events_are_printed_as_they_came_and_the_rest_is_not() {
    let server = TestServer::start(|_| {
        vec![
            text(
                r#"{"type":"ack","request_id":"1","topic":"a","status":"ok","ts":"x","epoch":"9f","seq":7}"#,
            ),
            event("a", 8, "{\"b\":  1.0}"),
            text(r#"{"type":"info","msg":"ping","ts":"x"}"#),
            text(
                r#"{"type":"error","error":{"code":"SLOW_CONSUMER","message":"3 dropped"},"ts":"x","dropped":3}"#,
            ),
            event("a", 12, "[\n1,\r\n2]"),
            Answer::Close(1001, "bye"),
        ]
    });
    let (out, notices, ended) = subscribe_to(&server.await, topics(&["a"])).await;
    assert_eq!(
        out,
        "{\"type\":\"event\",\"topic\":\"a\",\"message\":{\"id\":\"i\",\"payload\":{\"b\":  1.0}},\"ts\":\"x\",\"seq\":8}\n\
         {\"type\":\"event\",\"topic\":\"a\",\"message\":{\"id\":\"i\",\"payload\":[ 1,  2]},\"ts\":\"x\",\"seq\":12}\n"
    );
    assert_eq!(notices, "shardcast: 3 dropped\n");
    assert_eq!(ended, "the server closed the connection (code 1001: bye)");
}

#[tokio::test]
async fn every_topic_is_asked_for_with_the_position() {
    let server = TestServer::start(|command| match command["topic"].as_str() {
        Some("b") => vec![Answer::Close(1000, "")],
        _ => vec![text(
            r#"{"type":"ack","topic":"a","status":"ok","ts":"x","epoch":"9f","seq":7,"recovered":false}"#,
        )],
    })
    .await;
    let starts = vec![Start::parse("9f:5").expect("a position")];
    let (_, notices, _) = subscribe_to(
        &server,
        Subscription {
            starts,
            verbose: true,
            ..topics(&["a", "b"])
        },
    )
    .await;
    assert_eq!(
        notices,
        "shardcast: 'a' does not reach back that far: what it kept follows\nshardcast: 'a' is at 9f:7\n"
    );
    let commands = server.commands();
    assert_eq!(commands[0]["since"]["seq"], 5);
    assert_eq!(
        (&commands[1]["topic"], &commands[1]["request_id"]),
        (&"b".into(), &"2".into())
    );
}

#[tokio::test]
async fn it_ends_with_the_last_of_its_topics() {
    let server = TestServer::start(|command| {
        let topic = command["topic"].as_str().unwrap_or_default();
        let deleted =
            format!(r#"{{"type":"info","topic":"{topic}","msg":"topic_deleted","ts":"x"}}"#);
        vec![event(topic, 1, "1"), Answer::Text(deleted)]
    })
    .await;
    let (out, notices, ended) = subscribe_to(&server, topics(&["a", "b"])).await;
    assert_eq!(out.lines().count(), 2);
    assert_eq!(
        notices,
        "shardcast: topic 'a' was deleted\nshardcast: topic 'b' was deleted\n"
    );
    assert_eq!(ended, "there is nothing left to subscribe to");
}

#[tokio::test]
async fn it_goes_on_behind_what_it_has_printed() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let server = TestServer::start(move |_| {
        let ack = |more: &str| {
            text(&format!(
                r#"{{"type":"ack","request_id":"1","topic":"a","status":"ok","ts":"x","epoch":"9f",{more}}}"#
            ))
        };
        match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => vec![ack(r#""seq":7"#), event("a", 8, "1"), Answer::Vanish],
            1 => vec![ack(r#""seq":9,"recovered":true"#), event("a", 9, "1"), Answer::Close(1001, "")],
            2 => vec![ack(r#""seq":20,"recovered":false"#), event("a", 15, "1"), Answer::Vanish],
            _ => vec![Answer::Close(1008, "enough")],
        }
    })
    .await;
    let subscription = Subscription {
        reconnect: true,
        ..topics(&["a"])
    };
    let (out, notices, ended) = subscribe_to(&server, subscription).await;
    assert_eq!(out.lines().count(), 3);
    assert!(
        notices.contains("'a' does not reach back that far"),
        "{notices}"
    );
    assert!(notices.contains("'a': 10 to 14 are lost"), "{notices}");
    assert_eq!(
        notices.matches("; trying again in ").count(),
        3,
        "{notices}"
    );
    assert_eq!(
        ended,
        "the server closed the connection (code 1008: enough)"
    );
    let since: Vec<_> = server
        .commands()
        .iter()
        .map(|command| command["since"]["seq"].clone())
        .collect();
    assert_eq!(
        since,
        [serde_json::Value::Null, 8.into(), 9.into(), 15.into()]
    );
}

#[tokio::test]
async fn a_pattern_goes_on_behind_each_of_its_topics() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let server = TestServer::start(move |_| {
        let ack = |more: &str| {
            text(&format!(
                r#"{{"type":"ack","request_id":"1","topic":"a.*","status":"ok","ts":"x","matched":1,{more}}}"#
            ))
        };
        if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            let at = r#""positions":{"a.1":{"epoch":"9f","seq":9}},"recovered":true"#;
            return vec![ack(at), event("a.1", 8, "1"), event("a.1", 9, "1"), Answer::Close(1008, "enough")];
        }
        let created = r#"{"type":"info","topic":"a.2","msg":"topic_created","ts":"x","epoch":"8e"}"#;
        vec![
            ack(r#""positions":{"a.1":{"epoch":"9f","seq":7}}"#),
            event("a.1", 8, "1"),
            text(created),
            event("a.2", 1, "1"),
            Answer::Vanish,
        ]
    })
    .await;
    let subscription = Subscription {
        reconnect: true,
        ..topics(&["a.*"])
    };
    let (out, notices, _) = subscribe_to(&server, subscription).await;
    assert_eq!(out.lines().count(), 3, "{out}");
    assert!(notices.contains("topic 'a.2' was created"), "{notices}");
    let commands = server.commands();
    assert_eq!(commands[0]["positions"], true);
    let positions = serde_json::json!({
        "a.1": {"epoch": "9f", "seq": 8},
        "a.2": {"epoch": "8e", "seq": 1},
    });
    assert_eq!(commands[1]["positions"], positions);
}

#[tokio::test]
async fn it_comes_back_when_it_was_told_to() {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let server = TestServer::start(move |_| {
        if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            return vec![Answer::Close(1008, "enough")];
        }
        let told =
            r#"{"type":"info","msg":"shutting_down","ts":"x","retry_after_ms":1}"#.to_owned();
        vec![Answer::Text(told), Answer::Close(1001, "")]
    })
    .await;
    let subscription = Subscription {
        reconnect: true,
        ..topics(&["a"])
    };
    let (_, notices, _) = subscribe_to(&server, subscription).await;
    // By itself it would wait for a quarter of a second at least.
    assert!(notices.contains("; trying again in 0.0 s"), "{notices}");
}

#[test]
fn pauses_grow_to_a_bound_and_are_spread() {
    let pause = |failures, random| retry_pause(failures, random).as_millis();
    assert_eq!((pause(0, 0), pause(0, 499)), (250, 499));
    assert_eq!((pause(1, 0), pause(3, 0)), (500, 2000));
    assert_eq!((pause(20, 0), pause(u32::MAX, 0)), (15_000, 15_000));
}

#[tokio::test]
async fn an_error_of_the_server_ends_it() {
    let server = TestServer::start(|_| {
        vec![text(
            r#"{"type":"error","request_id":"1","error":{"code":"TOPIC_NOT_FOUND","message":"no 'a'"},"ts":"x"}"#,
        )]
    });
    let (_, _, ended) = subscribe_to(&server.await, topics(&["a"])).await;
    assert_eq!(ended, "TOPIC_NOT_FOUND: no 'a'");
}

#[tokio::test]
async fn many_topics_with_history_do_not_block_each_other() {
    let server = TestServer::start(|command| {
        let last = command["topic"] == "t999";
        let close = last.then_some(Answer::Close(1000, ""));
        (1..=20)
            .map(|seq| event("t", seq, "1"))
            .chain(close)
            .collect()
    });
    let names: Vec<_> = (0..1000).map(|n| format!("t{n}")).collect();
    let subscription = Subscription {
        topics: names,
        ..topics(&[])
    };
    let (out, _, _) = subscribe_to(&server.await, subscription).await;
    assert_eq!(out.lines().count(), 20_000);
}

/// A pipe whose reader has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn notices_that_nobody_hears_do_not_end_it() {
    let server = TestServer::start(|_| {
        let slow =
            r#"{"type":"error","error":{"code":"SLOW_CONSUMER","message":"3 dropped"},"ts":"x"}"#;
        vec![text(slow), event("a", 4, "1"), Answer::Close(1001, "")]
    })
    .await;
    let mut out = Vec::new();
    let ended = subscribe(&server.settings(), &topics(&["a"]), &mut out, &mut Closed).await;
    assert!(matches!(ended, Err(Failure::Link(_))));
    assert!(!out.is_empty());
}

#[tokio::test]
async fn a_closed_pipe_ends_it() {
    let server = TestServer::start(|_| vec![event("a", 1, "1")]).await;
    let ended = subscribe(
        &server.settings(),
        &topics(&["a"]),
        &mut Closed,
        &mut Vec::new(),
    )
    .await;
    assert!(
        matches!(ended, Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe)
    );
}

#[tokio::test]
async fn what_a_server_says_moves_no_cursor() {
    let server = TestServer::start(|command| {
        let id = &command["request_id"];
        vec![
            Answer::Text(format!("\u{1b}[2J{}", "x".repeat(1000))),
            Answer::Text(format!(
                r#"{{"type":"ack","request_id":{id},"topic":"a","status":"ok","ts":"x","epoch":"9f","seq":7}}"#
            )),
            Answer::Text(
                r#"{"type":"info","msg":"topic_created","topic":"\u001b]0;owned\u0007","ts":"x","epoch":"9f"}"#.to_owned(),
            ),
            Answer::Close(1008, "\u{1b}[2J"),
        ]
    })
    .await;
    let (_, notices, ended) = subscribe_to(&server, topics(&["a"])).await;
    assert!(notices.contains("not understood: [2Jxxx"), "{notices:?}");
    for line in notices.lines().chain([&*ended]) {
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.len() < 300, "{line:?}");
    }
}
