//! Every path with every method and every header that might open something.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{HexDigest, NAMED, Scene, TOPICS, assert_tells_nothing};
use crate::harness::broker::UPGRADE_HEADERS;
use crate::harness::http::Response;
use crate::harness::keys::ROOT;
use crate::harness::raw::RawSocket;

const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get",
];

/// What anybody may read.
const OPEN: [&str; 8] = [
    "/",
    "/health",
    "/ready",
    "/metrics",
    "/console",
    "/console/console.js",
    "/console/console.css",
    "/console/icon.svg",
];

/// Everything else that is there or may once be, and ways to write it that a guard might take for something open.
const CLOSED: [&str; 41] = [
    "/stats",
    "/stats/",
    "/stats?/health",
    "/stats?ticket=0123",
    "/topics",
    "/topics/",
    "/topics?x=1",
    "/topics/hidden-topic",
    "/topics/hidden-topic/",
    "/topics/hidden%2Dtopic",
    "/topics/absent-topic",
    "/topics/hidden-topic/subscribers",
    "/topics/hidden-topic/events",
    "/topics/hidden-topic/messages",
    "/topics/absent-topic/messages?last=1",
    "/topics/hidden-topic/publish",
    "/topics/hidden-topic/messages",
    "/topics/../health",
    "/topics/%2e%2e/health",
    "/events?topic=hidden-topic",
    "/publish",
    "/tickets",
    "/tickets/",
    "/connections",
    "/connections?closed=1",
    "/connections/1",
    "/connections/0",
    "/settings",
    "/settings/",
    "/console/console.js/",
    "/console/../stats",
    "/console/index.html",
    "//",
    "//health",
    "/health/../stats",
    "/health%2f..%2fstats",
    "/health;/stats",
    "/Health",
    "/%73tats",
    "/metrics/../stats",
    "/nothing-here",
];

/// Headers that are no key, or not where one belongs.
fn pretences() -> Vec<Vec<(&'static str, String)>> {
    let own = |value: &str| value.to_owned();
    let root_hex = format!("{:x}", HexDigest(NAMED.0));
    let mut all = vec![vec![]];
    for key in [
        "",
        " ",
        "x",
        "root-ke",
        "root-key-",
        "ROOT-KEY",
        "root-key,root-key",
        NAMED.1,
        "*",
        &root_hex,
        &"x".repeat(8000),
    ] {
        all.push(vec![("X-API-Key", own(key))]);
    }
    all.push(vec![("X-API-Key", own("x")), ("X-API-Key", own(ROOT.1))]);
    for (name, value) in [
        ("Authorization", format!("Bearer {}", ROOT.1)),
        ("Authorization", own("Basic cm9vdC1rZXk6")),
        ("Authorization", own("Bearer eyJhbGciOiJub25lIn0.e30.")),
        ("Authorization", own("")),
        ("Cookie", format!("X-API-Key={}", ROOT.1)),
        ("Api-Key", own(ROOT.1)),
        ("X_API_KEY", own(ROOT.1)),
        ("X-Original-URL", own("/health")),
        ("X-Rewrite-URL", own("/health")),
        ("X-HTTP-Method-Override", own("GET")),
        ("X-Forwarded-For", own("127.0.0.1")),
        ("Forwarded", own("for=127.0.0.1;by=secret")),
        ("Origin", own("http://127.0.0.1")),
        ("Access-Control-Request-Method", own("DELETE")),
        ("Accept", own("text/event-stream")),
        ("Last-Event-ID", own("0")),
        ("Expect", own("100-continue, other")),
        ("Content-Length", own("0")),
    ] {
        all.push(vec![(name, value)]);
    }
    let upgrade = UPGRADE_HEADERS.map(|(name, value)| (name, own(value)));
    all.push(upgrade.to_vec());
    all
}

/// Whether this is an answer that a stranger may get from a closed path.
fn is_refusal(answer: &Response, method: &str) -> bool {
    let missing = r#"{"error":{"code":"MISSING_API_KEY","message":"Missing X-API-Key header"}}"#;
    let invalid = r#"{"error":{"code":"INVALID_API_KEY","message":"Invalid or expired API key"}}"#;
    match (answer.status, method) {
        (401, "HEAD") => true,
        (401, _) => [missing, invalid].contains(&answer.body.as_str()),
        // What a route takes says nothing of what is there.
        (204, "OPTIONS") => answer.body.is_empty() && answer.header("allow").is_some(),
        _ => false,
    }
}

/// Headers and body.
fn all_of(answer: &Response) -> String {
    let headers = answer.headers.iter();
    let headers = headers.map(|(name, value)| format!("{name}: {value}\n"));
    headers.chain([answer.body.clone()]).collect()
}

/// The statuses of an open path.
fn of_open(method: &str) -> u16 {
    match method {
        "GET" | "HEAD" => 200,
        "OPTIONS" => 204,
        _ => 405,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_what_is_open_and_refusals() {
    let scene = Scene::set().await;
    let bodies = ["", r#"{"name":"absent-topic"}"#];
    let mut asking = JoinSet::new();
    let open = OPEN.map(|path| (path, true));
    let closed = CLOSED.map(|path| (path, false));
    for (path, is_open) in open.into_iter().chain(closed) {
        let broker = Arc::clone(&scene.broker);
        asking.spawn(async move {
            let mut asked = 0;
            for pretence in pretences() {
                let headers: Vec<_> = pretence.iter().map(|(n, v)| (*n, v.as_str())).collect();
                for (method, body) in METHODS.iter().zip(bodies.iter().cycle()) {
                    let has_length = pretence.iter().any(|(name, _)| *name == "Content-Length");
                    let body = if has_length { "" } else { body };
                    let answer = broker.request(method, path, &headers, body).await;
                    let what = format!("{method} {path} with {headers:?}");
                    let is_expected = if is_open {
                        answer.status == of_open(method)
                    } else {
                        is_refusal(&answer, method)
                    };
                    assert!(is_expected, "{what}: {} {}", answer.status, answer.body);
                    assert_tells_nothing(&all_of(&answer), &what);
                    asked += 1;
                }
            }
            asked
        });
    }
    let asked: usize = asking.join_all().await.into_iter().sum();
    assert_eq!(
        asked,
        (OPEN.len() + CLOSED.len()) * METHODS.len() * pretences().len()
    );
    scene.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_there_is_refused_like_one_that_is_not() {
    let scene = Scene::set().await;
    for method in METHODS {
        for behind in ["", "/", "/subscribers", "/events"] {
            let mut answers = BTreeSet::new();
            for topic in TOPICS {
                let path = format!("/topics/{topic}{behind}");
                let answer = scene.broker.request(method, &path, &[], "").await;
                let mut headers = answer.headers;
                headers.retain(|(name, _)| name != "date");
                answers.insert((answer.status, headers, answer.body));
            }
            assert_eq!(answers.len(), 1, "{method} …{behind}: {answers:?}");
        }
    }
    scene.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_written_strangely_open_nothing() {
    let scene = Scene::set().await;
    let heads = [
        (
            "GET http://shardcast/stats HTTP/1.1\r\nHost: shardcast\r\n",
            401,
        ),
        (
            "GET http://shardcast/stats HTTP/1.1\r\nHost: other\r\n",
            401,
        ),
        ("GET /stats HTTP/1.0\r\n", 401),
        ("GET /stats HTTP/1.1\r\n", 400),
        ("GET /stats HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET /stats HTTP/2.0\r\nHost: a\r\n", 400),
        ("GET stats HTTP/1.1\r\nHost: a\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n", 401),
        ("CONNECT shardcast:80 HTTP/1.1\r\nHost: a\r\n", 400),
        (
            "GET /stats HTTP/1.1\r\nHost: a\r\nX-API-Key : root-key\r\n",
            400,
        ),
        (
            "GET /stats HTTP/1.1\r\nHost: a\r\nX-API-Key\0: root-key\r\n",
            400,
        ),
        (
            "GET /stats HTTP/1.1\r\nHost: a\r\n X-API-Key: root-key\r\n",
            400,
        ),
        ("GET /health\t/stats HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /health\0/stats HTTP/1.1\r\nHost: a\r\n", 400),
        ("GET /st\u{e4}ts HTTP/1.1\r\nHost: a\r\n", 401),
    ];
    for (head, status) in heads {
        let mut socket = RawSocket::dial(&scene.broker).await;
        socket.send(format!("{head}\r\n").as_bytes()).await;
        let text = socket.wire.take_line("an answer").await;
        let text = text.expect("an answer, not the end");
        let told = text.split(' ').nth(1);
        assert_eq!(told, Some(status.to_string().as_str()), "{head:?}: {text}");
    }
    // One request inside the other's body, for whoever counts bytes in another way.
    let inner = "GET /stats HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = format!(
        "POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        inner.len() + 5
    );
    let mut socket = RawSocket::dial(&scene.broker).await;
    socket.send(both.as_bytes()).await;
    socket.wire.shut_down().await;
    let all = socket.wire.rest("the answers").await;
    let all = String::from_utf8(all).expect("answers are UTF-8");
    assert!(!all.contains("HTTP/1.1 200"), "{all}");
    scene.assert_untouched().await;
}
