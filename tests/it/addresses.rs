//! Limits by address, and where a client is when proxies stand between.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::harness::broker::{Broker, UPGRADE_HEADERS, run_to_end};
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::http::{Rest, request_head};
use crate::harness::raw::RawSocket;
use crate::harness::tls::{Authority, dial, shake};

/// The address under which `/connections` shows the only one.
async fn address_shown(broker: &Broker, headers: &[(&str, &str)]) -> String {
    let page = broker.request("GET", "/connections", headers, "").await;
    let connections = page.json()["connections"].clone();
    assert_eq!(
        connections.as_array().map(Vec::len),
        Some(1),
        "{connections}"
    );
    let address = connections[0]["address"].as_str();
    address.expect("an address").to_owned()
}

#[tokio::test]
async fn a_trusted_proxy_says_where_the_client_is_and_nobody_else() {
    let forwarded = [("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.9")];
    let trusting = Broker::start(&[("TRUSTED_PROXIES", "127.0.0.0/8,10.0.0.9")]);
    let _client = Client::connect_with(&trusting, "/ws", &forwarded).await;
    assert_eq!(address_shown(&trusting, &[]).await, "192.0.2.7");
    let wary = Broker::start(&[("TRUSTED_PROXIES", "10.0.0.0/8")]);
    let _client = Client::connect_with(&wary, "/ws", &forwarded).await;
    assert!(address_shown(&wary, &[]).await.starts_with("127.0.0.1:"));
    let trusting = Broker::start(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let standard = [("forwarded", "for=\"[2001:db8::7]:4711\";proto=https")];
    let _client = Client::connect_with(&trusting, "/ws", &standard).await;
    assert_eq!(address_shown(&trusting, &[]).await, "[2001:db8::7]:4711");
}

#[tokio::test]
async fn hostile_lists_of_addresses_hurt_nobody() {
    let broker = Broker::start(&[("TRUSTED_PROXIES", "127.0.0.1")]);
    let long = "127.0.0.1,".repeat(800);
    let garbage = [
        "",
        ",,,,",
        "\u{fffd}",
        "for=",
        "[::1",
        "1.2.3.4.5",
        long.as_str(),
    ];
    for field in garbage {
        for name in ["x-forwarded-for", "forwarded"] {
            let answer = broker.request("GET", "/topics", &[(name, field)], "").await;
            assert_eq!(answer.status, 200, "{name}: {field}");
        }
    }
}

#[tokio::test]
async fn connections_of_one_address_have_a_limit_and_those_of_others_do_not_count() {
    let broker = Broker::start(&[
        ("CONNECTIONS_PER_IP_MAX", "2"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ]);
    let from = |address| [("x-forwarded-for", address)];
    let first = Client::connect_with(&broker, "/ws", &from("192.0.2.7")).await;
    let _second = Client::connect_with(&broker, "/ws", &from("192.0.2.7")).await;
    let refused = broker.upgrade("/ws", &from("192.0.2.7")).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("1"));
    let body = refused.json();
    assert_eq!(body["code"], "LIMIT_EXCEEDED");
    assert_eq!(
        body["error"],
        "2 connections of this address are open: CONNECTIONS_PER_IP_MAX"
    );
    let _other = Client::connect_with(&broker, "/ws", &from("192.0.2.8")).await;
    // One network of IPv6 is one address.
    let _six = Client::connect_with(&broker, "/ws", &from("2001:db8::1")).await;
    let _seven = Client::connect_with(&broker, "/ws", &from("2001:db8::2")).await;
    assert_eq!(
        broker.upgrade("/ws", &from("2001:db8::3")).await.status,
        429
    );
    // REST takes no place.
    let rest = broker
        .request("GET", "/topics", &from("192.0.2.7"), "")
        .await;
    assert_eq!(rest.status, 200);
    first.close().await;
    eventually("a place", async || {
        broker.upgrade("/ws", &from("192.0.2.7")).await.status == 101
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ends_at_once_give_every_place_back() {
    const MOST: usize = 300;
    let most = MOST.to_string();
    let broker = Broker::start(&[("CONNECTIONS_PER_IP_MAX", &most)]);
    let request = request_head("GET", "/ws", &UPGRADE_HEADERS);
    for _ in 0..2 {
        let mut all = Vec::new();
        while all.len() < MOST {
            let mut socket = RawSocket::dial(&broker).await;
            socket.send(request.as_bytes()).await;
            if socket.upgrade_response().await.status == 101 {
                all.push(socket);
            }
        }
        assert_eq!(broker.upgrade("/ws", &[]).await.status, 429);
        drop(all);
    }
}

#[tokio::test]
async fn connections_of_one_address_must_not_come_too_fast() {
    let broker = Broker::start(&[("CONNECTION_RATE_PER_IP", "3")]);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Client::connect(&broker).await);
    }
    let refused = broker.upgrade("/ws", &[]).await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    let text = "connections of this address come too fast: CONNECTION_RATE_PER_IP";
    assert_eq!(refused.json()["error"], text);
    sleep(Duration::from_millis(400)).await;
    held.push(Client::connect(&broker).await);
    // To refuse costs nothing that would have to be waited for.
    eventually("a place again", async || {
        broker.upgrade("/ws", &[]).await.status == 101
    })
    .await;
}

#[tokio::test]
async fn requests_of_one_connection_have_a_rate() {
    let broker = Broker::start(&[("RATE_MESSAGES_PER_SEC", "1"), ("RATE_BURST_MESSAGES", "3")]);
    let mut rest = Rest::open(&broker).await;
    for _ in 0..3 {
        assert_eq!(rest.request("GET", "/topics", &[], "").await.status, 200);
    }
    let refused = rest.request("GET", "/topics", &[], "").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["code"], "LIMIT_EXCEEDED");
    // Whoever looks whether it lives is not counted.
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(
            rest.request("GET", path, &[], "").await.status,
            200,
            "{path}"
        );
    }
    assert_eq!(broker.get("/topics").await.status, 200);
    sleep(Duration::from_millis(1_050)).await;
    assert_eq!(rest.request("GET", "/topics", &[], "").await.status, 200);
}

#[tokio::test]
async fn an_address_may_not_guess_keys_without_end() {
    let broker = Broker::start(&[
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", "right"),
        ("AUTH_FAILURE_RATE_PER_IP", "4"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ]);
    let key = |key, address| [("x-api-key", key), ("x-forwarded-for", address)];
    for _ in 0..3 {
        let wrong = key("wrong", "192.0.2.7");
        assert_eq!(
            broker.request("GET", "/topics", &wrong, "").await.status,
            401
        );
    }
    let headers = [("x-forwarded-for", "192.0.2.7")];
    let mut client = Client::connect_with(&broker, "/ws", &headers).await;
    client
        .send_text(r#"{"type":"auth","api_key":"wrong"}"#)
        .await;
    client.expect_error("INVALID_API_KEY").await;
    // Now not even the right one is looked at.
    let refused = broker
        .request("GET", "/topics", &key("right", "192.0.2.7"), "")
        .await;
    assert_eq!(refused.status, 429, "{}", refused.body);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["error"]["code"], "LIMIT_EXCEEDED");
    assert_eq!(
        broker
            .upgrade("/ws", &key("right", "192.0.2.7"))
            .await
            .status,
        429
    );
    let other = key("right", "192.0.2.8");
    assert_eq!(
        broker.request("GET", "/topics", &other, "").await.status,
        200
    );
    eventually("patience again", async || {
        let right = key("right", "192.0.2.7");
        broker.request("GET", "/topics", &right, "").await.status == 200
    })
    .await;
}

/// A header of the PROXY protocol, version 2, for TCP over IPv4.
fn version_two(command: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, 0x11, 0, 12]);
    header.extend([192, 0, 2, 7, 127, 0, 0, 1, 0xC3, 0x50, 0x1F, 0x90]);
    header
}

const VERSION_ONE: &[u8] = b"PROXY TCP4 192.0.2.7 127.0.0.1 50000 8080\r\n";

fn proxied(further: &[(&str, &str)]) -> Broker {
    let settings = [("PROXY_PROTOCOL", "true"), ("TRUSTED_PROXIES", "127.0.0.1")];
    Broker::start(&[&settings, further].concat())
}

/// One request behind a header, which comes in pieces of so many bytes.
async fn ask(broker: &Broker, header: &[u8], path: &str, piece: usize) -> Option<u16> {
    let mut rest = Rest::open(broker).await;
    let request = request_head("GET", path, &[("connection", "close")]);
    let bytes = [header, request.as_bytes()].concat();
    for piece in bytes.chunks(piece) {
        rest.wire.offer(piece).await;
        if piece.len() < bytes.len() {
            sleep(Duration::from_millis(1)).await;
        }
    }
    let answer = String::from_utf8_lossy(&rest.wire.rest("the answer").await).into_owned();
    let status = answer.split(' ').nth(1)?;
    status.parse().ok()
}

#[tokio::test]
async fn a_proxy_says_in_front_of_everything_whom_it_speaks_for() {
    let broker = proxied(&[]);
    for (header, wanted) in [
        (VERSION_ONE.to_vec(), "192.0.2.7:50000"),
        (version_two(1), "192.0.2.7:50000"),
        (version_two(0), "127.0.0.1:"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1:"),
    ] {
        let mut socket = RawSocket::dial(&broker).await;
        socket.send(&header).await;
        socket.upgrade().await;
        let mut rest = Rest::open(&broker).await;
        rest.wire.offer(&header).await;
        let page = rest.request("GET", "/connections", &[], "").await.json();
        let shown = page["connections"][0]["address"].as_str().expect("one");
        assert!(shown.starts_with(wanted), "{shown} for {header:?}");
        drop(socket);
        eventually("its end", async || {
            let page = rest.request("GET", "/connections", &[], "").await.json();
            page["connections"].as_array().is_some_and(Vec::is_empty)
        })
        .await;
    }
}

#[tokio::test]
async fn the_header_may_come_in_pieces_and_what_follows_in_the_same_is_kept() {
    let broker = proxied(&[]);
    for header in [VERSION_ONE.to_vec(), version_two(1)] {
        for piece in [1, 7, 12, 13, 16, 45, 10_000] {
            let status = ask(&broker, &header, "/health", piece).await;
            assert_eq!(status, Some(200), "{header:?} in pieces of {piece}");
        }
    }
}

#[tokio::test]
async fn without_a_good_header_from_a_trusted_proxy_the_socket_is_closed() {
    let broker = proxied(&[("READ_TIMEOUT_SEC", "1")]);
    let mut endless = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    endless.extend([0x21, 0x11, 0xFF, 0xFF]);
    let too_long = format!("PROXY TCP4 {} \r\n", "1".repeat(200));
    for header in [
        b"".to_vec(),
        b"PROXY TCP4 192.0.2.7 127.0.0.1 70000 8080\r\n".to_vec(),
        b"PROXY TCP9 192.0.2.7 127.0.0.1 1 2\r\n".to_vec(),
        too_long.into_bytes(),
        endless,
    ] {
        assert_eq!(
            ask(&broker, &header, "/health", 10_000).await,
            None,
            "{header:?}"
        );
    }
    // One that trickles is given up.
    let mut slow = Rest::open(&broker).await;
    slow.wire.offer(b"PROXY TCP4 192").await;
    assert!(slow.wire.rest("the end").await.is_empty());
    let stranger = Broker::start(&[
        ("PROXY_PROTOCOL", "true"),
        ("TRUSTED_PROXIES", "192.0.2.0/24"),
    ]);
    assert_eq!(ask(&stranger, VERSION_ONE, "/health", 10_000).await, None);
    assert_eq!(
        ask(&broker, VERSION_ONE, "/health", 10_000).await,
        Some(200)
    );
}

#[tokio::test]
async fn tls_begins_behind_the_header() {
    let authority = Authority::new();
    let settings = [("PROXY_PROTOCOL", "true"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let broker = authority.start(&settings);
    for header in [VERSION_ONE.to_vec(), version_two(1)] {
        let mut stream = dial(&broker, None).await;
        stream.write_all(&header).await.expect("the broker reads");
        let stream = shake(stream, authority.client())
            .await
            .expect("a handshake");
        let mut client = Client::connect_over(Box::new(stream), "/ws", &[]).await;
        let pong = client.ask(serde_json::json!({"type": "ping"})).await;
        assert_eq!(pong["type"], "pong");
        let mut rest = Rest::open(&broker).await;
        rest.wire.offer(VERSION_ONE).await;
        let page = rest.request("GET", "/connections", &[], "").await.json();
        assert_eq!(page["connections"][0]["address"], "192.0.2.7:50000");
    }
    // A handshake without the header is none.
    let stream = dial(&broker, None).await;
    assert!(shake(stream, authority.client()).await.is_err());
}

#[test]
fn settings_that_trust_nobody_or_nonsense_stop_the_start() {
    for (settings, reason) in [
        (
            vec![("PROXY_PROTOCOL", "true")],
            "TRUSTED_PROXIES=\"\": must be at least one network when PROXY_PROTOCOL is true",
        ),
        (
            vec![("TRUSTED_PROXIES", "10.0.0.0/33")],
            "must be addresses or networks like 10.0.0.0/8, comma separated",
        ),
    ] {
        let refusal = run_to_end(&settings, &[]);
        assert_eq!(refusal.code, 2, "{}", refusal.stderr);
        assert!(refusal.stderr.contains(reason), "{}", refusal.stderr);
    }
}
