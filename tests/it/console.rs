//! The console's page and its parts as they are served; what the page does is tested in a browser (`console/test`).

use crate::harness::broker::Broker;
use crate::harness::http::Response;
use crate::harness::keys::{KeyFile, call, key};

const PARTS: [(&str, &str); 4] = [
    ("/console", "text/html; charset=utf-8"),
    ("/console/console.js", "text/javascript; charset=utf-8"),
    ("/console/console.css", "text/css; charset=utf-8"),
    ("/console/icon.svg", "image/svg+xml"),
];

async fn get(broker: &Broker, path: &str, headers: &[(&str, &str)]) -> Response {
    broker.request("GET", path, headers, "").await
}

#[tokio::test]
async fn it_is_served_without_a_key_and_locked_down() {
    let broker = Broker::start(&[("AUTH_ENABLED", "true"), ("API_KEYS", "one")]);
    for (path, content_type) in PARTS {
        let part = get(&broker, path, &[]).await;
        assert_eq!(part.status, 200, "{path}");
        assert!(!part.body.is_empty(), "{path}");
        for (header, value) in [
            ("content-type", content_type),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ] {
            assert_eq!(part.header(header), Some(value), "{path}");
        }
        let policy = part.header("content-security-policy");
        let policy = policy.expect("a policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let head = broker.request("HEAD", path, &[], "").await;
        let length = part.body.len().to_string();
        assert_eq!(
            head.header("content-length"),
            Some(length.as_str()),
            "{path}"
        );
        let refused = broker.request("POST", path, &[], "").await;
        assert_eq!(
            (refused.status, refused.header("allow")),
            (405, Some("GET, HEAD"))
        );
    }
}

#[tokio::test]
async fn its_page_names_only_what_is_served() {
    let broker = Broker::start(&[]);
    let page = get(&broker, "/console", &[]).await;
    let mut named: Vec<_> = page.body.split('"').collect();
    named.retain(|word| word.starts_with("console/"));
    assert_eq!(named.len(), 3, "{named:?}");
    for name in named {
        assert_eq!(
            get(&broker, &format!("/{name}"), &[]).await.status,
            200,
            "{name}"
        );
    }
    let slash = get(&broker, "/console/", &[]).await;
    assert_eq!(
        (slash.status, slash.header("location")),
        (308, Some("../console"))
    );
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again() {
    let broker = Broker::start(&[]);
    for (path, _) in PARTS {
        let part = get(&broker, path, &[]).await;
        let tag = part.header("etag").expect("a tag");
        let again = get(&broker, path, &[("If-None-Match", tag)]).await;
        assert_eq!(again.status, 304, "{path}");
        assert!(again.header("content-security-policy").is_some(), "{path}");
        let other = [("If-None-Match", "W/\"0000\"")];
        assert_eq!(get(&broker, path, &other).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn it_is_compressed_for_those_who_take_it() {
    let broker = Broker::start(&[]);
    for (path, _) in PARTS {
        let plain = get(&broker, path, &[]).await;
        assert_eq!(plain.header("vary"), Some("accept-encoding"));
        assert_eq!(plain.header("content-encoding"), None);
        let accept = [("Accept-Encoding", "gzip, br")];
        let packed = broker.request("HEAD", path, &accept, "").await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{path}");
        let length = packed.header("content-length").expect("a length");
        let length: usize = length.parse().expect("a number");
        assert!(length < plain.body.len(), "{path}: {length}");
    }
}

#[tokio::test]
async fn it_can_be_turned_off() {
    let broker = Broker::start(&[("CONSOLE", "false")]);
    for (path, _) in PARTS {
        let answer = get(&broker, path, &[]).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["code"], "BAD_REQUEST");
    }
}

#[tokio::test]
async fn the_notice_of_what_it_contains_goes_with_it() {
    let broker = Broker::start(&[]);
    let script = get(&broker, "/console/console.js", &[]).await;
    assert!(script.body.contains("Contains uPlot"));
    assert!(script.body.contains("Permission is hereby granted"));
}

#[tokio::test]
async fn settings_are_for_those_who_may_observe() {
    let keys = [
        key("reader", "observe = true"),
        key("writer", "publish = [\">\"]"),
    ];
    let file = KeyFile::new(&keys.concat());
    let broker = file.broker(&[]);
    assert_eq!(
        call(&broker, "reader", "GET", "/settings", "").await.status,
        200
    );
    let refused = call(&broker, "writer", "GET", "/settings", "").await;
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (403, Some("FORBIDDEN"))
    );
}
