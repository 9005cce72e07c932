//! Whom the broker shows itself as, and whom it wants to see: files that are read again, and files that are bad.

use std::path::Path;

use rcgen::date_time_ymd;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::broker::{Broker, run_to_end};
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::keys::key;
use crate::harness::tls::{Authority, Signed, ask, connect, swap_link, web_socket};

/// The certificate that a new client is shown.
async fn shown(broker: &Broker, authority: &Authority) -> Vec<u8> {
    let stream = connect(broker, authority.client()).await;
    let stream = stream.expect("a handshake");
    let shown = stream.get_ref().1.peer_certificates();
    shown.expect("there is one")[0].to_vec()
}

async fn shows_another(broker: &Broker, authority: &Authority, before: &[u8]) {
    eventually("another certificate", async || {
        shown(broker, authority).await != before
    })
    .await;
}

async fn says(broker: &Broker, words: &str) {
    eventually(words, async || broker.log().contains(words)).await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_after_sighup_and_nobody_is_dropped() {
    let authority = Authority::new();
    let mut broker = authority.start(&[]);
    let mut secret = web_socket(&broker, authority.client()).await;
    let mut plain = Client::connect(&broker).await;
    let before = shown(&broker, &authority).await;
    authority.install(&authority.sign("broker"));
    broker.signal(Signal::HUP);
    shows_another(&broker, &authority, &before).await;
    for client in [&mut secret, &mut plain] {
        assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    }
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait_exit(crate::harness::PATIENCE).await.0, 0);
}

#[tokio::test]
async fn a_change_is_seen_without_a_signal_also_behind_links_that_are_swapped() {
    let authority = Authority::new();
    // As Kubernetes mounts secrets: files are links through `..data`, which is replaced.
    let put = |folder: &str, signed: &Signed| {
        std::fs::create_dir(authority.path(folder)).expect("a new folder");
        authority.write(&format!("{folder}/tls.crt"), &signed.cert);
        authority.write(&format!("{folder}/tls.key"), &signed.key);
    };
    put("first", &authority.sign("broker"));
    swap_link(&authority.path("..data"), Path::new("first"));
    for file in ["tls.crt", "tls.key"] {
        swap_link(&authority.path(file), &Path::new("..data").join(file));
    }
    let (cert, key) = (authority.setting("tls.crt"), authority.setting("tls.key"));
    let settings = [
        ("TLS_CERT", cert.as_str()),
        ("TLS_KEY", key.as_str()),
        ("TLS_PORT", "0"),
    ];
    let broker = Broker::start(&settings);
    let before = shown(&broker, &authority).await;
    put("second", &authority.sign("broker"));
    swap_link(&authority.path("..data"), Path::new("second"));
    shows_another(&broker, &authority, &before).await;
}

#[tokio::test]
async fn a_bad_file_is_logged_with_its_reason_and_the_old_one_stays() {
    let authority = Authority::new();
    let broker = authority.start(&[]);
    let before = shown(&broker, &authority).await;
    let other = authority.sign("broker");
    let expired = authority.sign_with("broker", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let key_of_another = Signed {
        cert: other.cert.clone(),
        key: authority.sign("broker").key,
    };
    let nothing = Signed {
        cert: "nothing of the kind".to_owned(),
        key: other.key.clone(),
    };
    for (signed, reason) in [
        (key_of_another, "must be the private key of TLS_CERT"),
        (
            nothing,
            "must be a certificate chain in PEM: there is none in it",
        ),
        (expired, "it expired at 2021-01-01"),
    ] {
        authority.install(&signed);
        broker.signal(Signal::HUP);
        says(&broker, reason).await;
        assert_eq!(shown(&broker, &authority).await, before, "{reason}");
    }
    authority.install(&other);
    shows_another(&broker, &authority, &before).await;
}

#[test]
fn bad_files_stop_the_start_with_2_and_a_reason() {
    let authority = Authority::new();
    authority.install(&authority.sign("broker"));
    let other = authority.sign("other");
    authority.write("other.pem", &other.key);
    let [cert, key, other, missing] =
        ["cert.pem", "key.pem", "other.pem", "missing.pem"].map(|file| authority.setting(file));
    let good = [("TLS_CERT", cert.as_str()), ("TLS_KEY", key.as_str())];
    for (further, reason) in [
        (("TLS_CERT", missing.as_str()), "TLS_CERT=\"/"),
        (("TLS_CERT", key.as_str()), "there is none in it"),
        (("TLS_KEY", cert.as_str()), "TLS_KEY=\"/"),
        (
            ("TLS_KEY", other.as_str()),
            "must be the private key of TLS_CERT",
        ),
        (("TLS_CLIENT_CA", key.as_str()), "TLS_CLIENT_CA=\"/"),
        (("TLS_KEY", ""), "a file when TLS_CERT is given"),
        (("TLS_CERT", ""), "a file when TLS_KEY is given"),
        (("TLS_PORT", "65536"), "TLS_PORT=\"65536\""),
        (("PORT", "none"), "0 to 65535, or off"),
    ] {
        let refusal = run_to_end(&[&good[..], &[further]].concat(), &[]);
        assert_eq!(refusal.code, 2, "{further:?}: {}", refusal.stderr);
        assert!(refusal.stderr.contains(reason), "{}", refusal.stderr);
        assert_eq!(refusal.stderr.lines().count(), 1, "{}", refusal.stderr);
    }
    for (settings, reason) in [
        (&[("PORT", "off")][..], "a number when there is no TLS_CERT"),
        (
            &[("TLS_CLIENT_CA", "x")],
            "a file when TLS_CLIENT_CA is given",
        ),
        (
            &[good[0], good[1], ("PORT", "9"), ("TLS_PORT", "9")],
            "another port than PORT",
        ),
    ] {
        let refusal = run_to_end(settings, &[]);
        assert_eq!(refusal.code, 2, "{}", refusal.stderr);
        assert!(refusal.stderr.contains(reason), "{}", refusal.stderr);
    }
}

#[tokio::test]
async fn a_client_needs_a_certificate_where_an_authority_is_set() {
    let authority = Authority::new();
    let ca = authority.setting("ca.pem");
    let broker = authority.start(&[("TLS_CLIENT_CA", &ca), ("LOG_LEVEL", "debug")]);
    let stranger = Authority::new();
    let (known, unknown) = (authority.sign("till-7"), stranger.sign("till-7"));
    for shown in [None, Some(&unknown)] {
        let config = authority.client_with(rustls::ALL_VERSIONS, shown);
        // In TLS 1.3 the client is through before the server has looked at its certificate.
        let refused = match connect(&broker, config).await {
            Ok(mut stream) => tokio::io::AsyncReadExt::read_u8(&mut stream).await.err(),
            Err(error) => Some(error),
        };
        let error = refused.expect("strangers are refused").to_string();
        assert!(error.contains("alert"), "{error}");
    }
    for version in rustls::ALL_VERSIONS {
        let config = authority.client_with(&[version], Some(&known));
        let mut client = web_socket(&broker, config).await;
        assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    }
    says(&broker, "till-7").await;
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let config = authority.client_with(rustls::ALL_VERSIONS, Some(&known));
    assert!(ask(&broker, config, health).await.contains("200 OK"));
    // The plain port asks for nothing.
    assert_eq!(broker.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_certificate_with_the_name_of_a_key_is_as_good_as_the_key() {
    let authority = Authority::new();
    let ca = authority.setting("ca.pem");
    let keys = key("till-key", "subscribe = [\"orders\"]") + &key("boss-key", "admin = true");
    let file = authority.write("keys.toml", &keys);
    let settings = [
        ("TLS_CLIENT_CA", ca.as_str()),
        ("AUTH_ENABLED", "true"),
        ("API_KEYS_FILE", &file),
    ];
    let broker = authority.start(&settings);
    let config = |name: &str| {
        let signed = authority.sign(name);
        authority.client_with(rustls::ALL_VERSIONS, Some(&signed))
    };
    let request = |method: &str, path: &str, body: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let body = "{\"name\":\"orders\"}";
    let create = request("POST", "/topics", body);
    assert!(ask(&broker, config("boss"), &create).await.contains("201"));
    let answer = ask(&broker, config("till"), &create).await;
    assert!(
        answer.contains("Key 'till' may not manage 'orders'"),
        "{answer}"
    );
    let answer = ask(&broker, config("stranger"), &create).await;
    assert!(answer.contains("MISSING_API_KEY"), "{answer}");
    let mut till = web_socket(&broker, config("till")).await;
    till.subscribe("orders").await;
    let connections = request("GET", "/connections", "");
    let answer = ask(&broker, config("boss"), &connections).await;
    assert!(answer.contains("\"key\":\"till\""), "{answer}");
    // Without its key in the file a name is worth nothing.
    authority.write("keys.toml", &key("boss-key", "admin = true"));
    assert_eq!(till.expect_close().await.0, 1008);
    let mut till = web_socket(&broker, config("till")).await;
    till.send(json!({"type": "subscribe", "topic": "orders"}))
        .await;
    assert_eq!(till.expect_close().await.0, 1008);
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_told_at_the_start() {
    let authority = Authority::new();
    authority.install(&authority.sign_with("broker", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }));
    let (cert, key) = (authority.setting("cert.pem"), authority.setting("key.pem"));
    let settings = [
        ("TLS_CERT", cert.as_str()),
        ("TLS_KEY", key.as_str()),
        ("TLS_PORT", "0"),
    ];
    let broker = Broker::start(&settings);
    says(
        &broker,
        "clients will not take the certificate (TLS_CERT): it expired at 2021",
    )
    .await;
}
