use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

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
        ..Subscription::default()
    }
}

/// The ack of a command.
fn ack(command: &Value, more: &str) -> Answer {
    let (id, topic) = (&command["request_id"], &command["topic"]);
    Answer::Text(format!(
        r#"{{"type":"ack","request_id":{id},"topic":{topic},"status":"ok","ts":"x",{more}}}"#
    ))
}

/// What ends a subscription that would come back otherwise.
fn enough(command: &Value) -> Answer {
    let id = &command["request_id"];
    Answer::Text(format!(
        r#"{{"type":"error","request_id":{id},"error":{{"code":"FORBIDDEN","message":"enough"}},"ts":"x"}}"#
    ))
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
    let server = TestServer::start(|command| {
        vec![
            ack(command, r#""epoch":"9f","seq":7"#),
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
    assert!(notices.contains("shardcast: 3 dropped\n"), "{notices}");
    assert!(
        notices.contains("shardcast: 'a': 9 to 11 are lost\n"),
        "{notices}"
    );
    assert_eq!(ended, "the server closed the connection (code 1001: bye)");
}

#[tokio::test]
async fn every_topic_is_asked_for_with_the_position() {
    let server = TestServer::start(|command| match command["topic"].as_str() {
        Some("b") => vec![Answer::Close(1000, "")],
        _ => vec![ack(command, r#""epoch":"9f","seq":7,"recovered":false"#)],
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
    assert_eq!(notices, "shardcast: 'a' is at 9f:7\n");
    let commands = server.commands();
    assert_eq!(commands[0]["since"]["seq"], 5);
    assert_eq!(
        (&commands[1]["topic"], &commands[1]["since"]["seq"]),
        (&"b".into(), &5.into())
    );
}

#[test]
fn each_name_is_asked_for_once_with_its_own_start() {
    let start = |text: &str| Start::parse(text).expect("a start");
    let subscription = Subscription {
        starts: vec![
            start("a.1=9f:1"),
            start("8e:2"),
            start("x=y=7d:3"),
            start("a.1=9f:4"),
        ],
        ..topics(&["a.*", "a.1", "b", "x=y", "b"])
    };
    assert!(subscription.check().is_ok());
    assert_eq!(subscription.names(), ["a.1", "b", "x=y", "a.*"]);
    let since = |name| match subscription.wish(name).since {
        Some(Since::Topic(at)) => at.to_string(),
        Some(Since::Topics(all)) => format!(
            "{:?}",
            all.into_iter()
                .map(|(topic, at)| format!("{topic}={at}"))
                .collect::<Vec<_>>()
        ),
        None => String::new(),
    };
    assert_eq!(
        subscription
            .names()
            .into_iter()
            .map(since)
            .collect::<Vec<_>>(),
        ["9f:4", "8e:2", "7d:3", r#"["a.1=9f:4"]"#]
    );
    let stray = Subscription {
        starts: vec![start("c=9f:1")],
        ..topics(&["a.*"])
    };
    assert!(matches!(stray.check(), Err(Failure::Start(topic)) if topic == "c"));
    assert!(Start::parse("a=41").is_err() && Start::parse("a=9f:x").is_err());
}

#[tokio::test]
async fn what_a_name_and_a_pattern_both_mean_is_printed_once() {
    let server = TestServer::start(|command| match command["topic"].as_str() {
        Some("a.1") => vec![ack(command, r#""epoch":"9f","seq":0"#)],
        _ => vec![
            ack(command, r#""matched":2,"positions":{"a.1":{"epoch":"9f","seq":0},"a.2":{"epoch":"8e","seq":0}}"#),
            event("a.1", 2, "1"),
            event("a.2", 2, "1"),
            Answer::Close(1001, ""),
        ],
    })
    .await;
    let (out, notices, _) = subscribe_to(&server, topics(&["a.*", "a.1"])).await;
    assert_eq!(out.lines().count(), 2, "{out}");
    assert_eq!(notices.matches("1 is lost").count(), 2, "{notices}");
}

#[tokio::test]
async fn a_topic_that_was_named_and_is_made_again_comes_under_its_pattern() {
    let server = TestServer::start(|command| {
        let told = |msg: &str| {
            text(&format!(
                r#"{{"type":"info","msg":"{msg}","topic":"a.1","ts":"x","epoch":"8e"}}"#
            ))
        };
        match command["topic"].as_str() {
            Some("a.1") => vec![ack(command, r#""epoch":"9f","seq":0"#)],
            _ => vec![
                ack(
                    command,
                    r#""matched":1,"positions":{"a.1":{"epoch":"9f","seq":0}}"#,
                ),
                event("a.1", 1, "1"),
                event("a.1", 2, "2"),
                told("topic_deleted"),
                told("topic_created"),
                event("a.1", 1, "3"),
                Answer::Close(1001, ""),
            ],
        }
    })
    .await;
    let (out, _, _) = subscribe_to(&server, topics(&["a.1", "a.*"])).await;
    let payload = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        event["message"]["payload"].to_string()
    };
    assert_eq!(out.lines().map(payload).collect::<String>(), "123", "{out}");
}

#[tokio::test]
async fn it_ends_with_the_last_of_its_topics() {
    let server = TestServer::start(|command| {
        let topic = command["topic"].as_str().unwrap_or_default();
        let deleted =
            format!(r#"{{"type":"info","topic":"{topic}","msg":"topic_deleted","ts":"x"}}"#);
        let acked = ack(command, r#""epoch":"9f","seq":0"#);
        vec![acked, event(topic, 1, "1"), Answer::Text(deleted)]
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
    let asked = Arc::new(AtomicU64::new(0));
    let server = TestServer::start(move |command| {
        let ack = |more: &str| ack(command, &format!(r#""epoch":"9f",{more}"#));
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => vec![ack(r#""seq":7"#), event("a", 8, "1"), Answer::Vanish],
            1 => vec![
                ack(r#""seq":9,"recovered":true"#),
                event("a", 9, "1"),
                Answer::Close(1001, ""),
            ],
            2 => vec![
                ack(r#""seq":20,"recovered":false"#),
                event("a", 15, "1"),
                Answer::Vanish,
            ],
            _ => vec![enough(command)],
        }
    })
    .await;
    let subscription = Subscription {
        reconnect: true,
        ..topics(&["a"])
    };
    let (out, notices, ended) = subscribe_to(&server, subscription).await;
    assert_eq!(out.lines().count(), 3);
    let missing = "'a' does not reach back that far: 10 to 14 are lost";
    assert!(notices.contains(missing), "{notices}");
    assert_eq!(
        notices.matches("; trying again in ").count(),
        3,
        "{notices}"
    );
    assert_eq!(ended, "FORBIDDEN: enough");
    let since: Vec<_> = server
        .commands()
        .iter()
        .map(|command| command["since"]["seq"].clone())
        .collect();
    assert_eq!(since, [Value::Null, 8.into(), 9.into(), 15.into()]);
}

#[tokio::test]
async fn a_pattern_goes_on_behind_each_of_its_topics() {
    let asked = Arc::new(AtomicU64::new(0));
    let server = TestServer::start(move |command| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => {
            let created =
                r#"{"type":"info","topic":"a.2","msg":"topic_created","ts":"x","epoch":"8e"}"#;
            vec![
                ack(
                    command,
                    r#""matched":1,"positions":{"a.1":{"epoch":"9f","seq":7}}"#,
                ),
                event("a.1", 8, "1"),
                text(created),
                event("a.2", 1, "1"),
                Answer::Vanish,
            ]
        }
        1 => {
            let at = r#""matched":1,"positions":{"a.1":{"epoch":"9f","seq":9}},"recovered":true"#;
            vec![
                ack(command, at),
                event("a.1", 8, "1"),
                event("a.1", 9, "1"),
                Answer::Vanish,
            ]
        }
        _ => vec![enough(command)],
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
    let asked = Arc::new(AtomicU64::new(0));
    let server = TestServer::start(move |command| {
        if asked.fetch_add(1, Ordering::Relaxed) > 0 {
            return vec![enough(command)];
        }
        let told =
            r#"{"type":"info","msg":"shutting_down","ts":"x","retry_after_ms":1300}"#.to_owned();
        vec![Answer::Text(told), Answer::Close(1001, "")]
    })
    .await;
    let subscription = Subscription {
        reconnect: true,
        ..topics(&["a"])
    };
    let (_, notices, _) = subscribe_to(&server, subscription).await;
    // By itself it would wait for a quarter of a second at most.
    assert!(notices.contains("; trying again in 1.3 s"), "{notices}");
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
        let topic = command["topic"].as_str().expect("a topic");
        let close = (topic == "t999").then_some(Answer::Close(1000, ""));
        [ack(command, r#""epoch":"9f","seq":0"#)]
            .into_iter()
            .chain((1..=20).map(|seq| event(topic, seq, "1")))
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
    let server = TestServer::start(|command| {
        let slow =
            r#"{"type":"error","error":{"code":"SLOW_CONSUMER","message":"3 dropped"},"ts":"x"}"#;
        let acked = ack(command, r#""epoch":"9f","seq":0"#);
        vec![
            acked,
            text(slow),
            event("a", 4, "1"),
            Answer::Close(1001, ""),
        ]
    })
    .await;
    let mut out = Vec::new();
    let ended = subscribe(&server.settings(), &topics(&["a"]), &mut out, &mut Closed).await;
    assert!(matches!(ended, Err(Failure::Client(_))));
    assert!(!out.is_empty());
}

#[tokio::test]
async fn a_closed_pipe_ends_it() {
    let server = TestServer::start(|command| {
        vec![ack(command, r#""epoch":"9f","seq":0"#), event("a", 1, "1")]
    })
    .await;
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
    let asked = Arc::new(AtomicU64::new(0));
    let server = TestServer::start(move |command| {
        let created = r#"{"type":"info","msg":"topic_created","topic":"\u001b]0;owned\u0007","ts":"x","epoch":"9f"}"#;
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => vec![
                ack(command, r#""positions":{}"#),
                text(created),
                Answer::Text(format!("\u{1b}[2J{}", "x".repeat(1000))),
            ],
            _ => vec![Answer::Close(1008, "\u{1b}[2J")],
        }
    })
    .await;
    for reconnect in [true, false] {
        let subscription = Subscription {
            reconnect,
            ..topics(&["*"])
        };
        let (mut out, mut notices) = (Vec::new(), Vec::new());
        let settings = server.settings();
        let ended = subscribe(&settings, &subscription, &mut out, &mut notices);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(2), ended).await;
        let notices = String::from_utf8(notices).expect("text");
        let ended = ended.map_or(String::new(), |ended| {
            ended.expect_err("the end").to_string()
        });
        assert!(
            !reconnect || notices.contains("not the protocol"),
            "{notices}"
        );
        assert!(
            !reconnect || notices.contains("topic ']0;owned' was"),
            "{notices}"
        );
        for line in notices.lines().chain([&*ended]) {
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(line.len() < 400, "{line:?}");
        }
    }
}
