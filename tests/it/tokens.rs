//! Tokens (JWT): which are taken, what they may do, how they are renewed, and what is tried with them.
//!
//! Those in `tokens/` were made by another library, with `tokens/make.py`.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::broker::{Broker, run_to_end};
use crate::harness::client::{Client, publish};
use crate::harness::eventually;
use crate::harness::hs256::{SECRET, in_seconds, part, sign, sign_with};
use crate::harness::keys::{Folder, KeyFile, ROOT, assert_ended, call, create, key, text};

const JWKS: &str = include_str!("tokens/jwks.json");
const INVALID: &str = "Invalid or expired token";

/// A broker that takes tokens, and its files.
struct Guarded {
    folder: Folder,
    broker: Broker,
}

/// With the secret and the public keys.
fn guarded(further: &[(&str, &str)]) -> Guarded {
    let folder = Folder::new();
    let (secret, jwks) = (folder.path("secret"), folder.path("jwks.json"));
    std::fs::write(&secret, format!("{SECRET}\n")).expect("a writable folder");
    std::fs::write(&jwks, JWKS).expect("a writable folder");
    let settings = [
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", ROOT.1),
        ("JWT_SECRET_FILE", text(&secret)),
        ("JWT_JWKS_FILE", text(&jwks)),
    ];
    let broker = Broker::start(&[&settings, further].concat());
    Guarded { folder, broker }
}

fn made() -> BTreeMap<String, String> {
    serde_json::from_str(include_str!("tokens/tokens.json")).expect("a table of tokens")
}

fn auth(token: &str) -> Value {
    json!({"type": "auth", "token": token})
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Rights on everything under `orders.`, for an hour.
fn claims() -> Value {
    json!({"sub": "machine", "exp": in_seconds(3600.0), "subscribe": ["orders.*"], "publish": ["orders.>"]})
}

/// The claims with one of them as said; `null` takes it out.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    let fields = claims.as_object_mut().expect("it is one");
    if value.is_null() {
        fields.remove(name);
    } else {
        fields.insert(name.to_owned(), value);
    }
    claims
}

async fn status_of(broker: &Broker, token: &str) -> u16 {
    let headers = [("Authorization", bearer(token))];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    broker.request("GET", "/topics", &headers, "").await.status
}

/// Fails unless `token` opens nothing, in each of the ways.
async fn assert_refused(broker: &Broker, token: &str, what: &str) {
    let authorization = bearer(token);
    let header = [("Authorization", authorization.as_str())];
    let body = json!({"error": {"code": "INVALID_TOKEN", "message": INVALID}});
    let rest = broker.request("GET", "/topics", &header, "").await;
    assert_eq!((rest.status, rest.json()), (401, body.clone()), "{what}");
    let upgrade = broker.upgrade("/ws", &header).await;
    assert_eq!((upgrade.status, upgrade.json()), (401, body), "{what}");
    let mut client = Client::connect(broker).await;
    client.send(auth(token)).await;
    assert_ended(&mut client, "INVALID_TOKEN", INVALID).await;
}

#[tokio::test]
async fn a_token_of_each_algorithm_opens_the_door_in_each_way() {
    let guarded = guarded(&[]);
    let broker = &guarded.broker;
    create(broker, &["orders.eu", "prices"]).await;
    let made = made();
    let tokens = ["RS256", "ES256", "EdDSA"].map(|name| made[name].clone());
    for token in tokens.into_iter().chain([sign(&claims())]) {
        let by_header =
            Client::connect_with(broker, "/ws", &[("authorization", &bearer(&token))]).await;
        let mut by_auth = Client::connect(broker).await;
        assert_eq!(by_auth.ask(auth(&token)).await["status"], "authenticated");
        for mut client in [by_header, by_auth] {
            client.publish("orders.eu", 1).await;
            let text = client
                .expect_refusal(&publish("prices", 1), "FORBIDDEN")
                .await;
            assert_eq!(text, "Key 'machine' may not publish to 'prices'");
        }
        let authorization = format!("bearer  {token}");
        let header = [("Authorization", authorization.as_str())];
        let topics = broker.request("GET", "/topics", &header, "").await.json();
        assert_eq!(
            topics["topics"].as_array().map(Vec::len),
            Some(1),
            "{topics}"
        );
        assert_eq!(
            broker.request("GET", "/stats", &header, "").await.status,
            403
        );
    }
}

#[tokio::test]
async fn claims_are_rights() {
    let guarded = guarded(&[]);
    let broker = &guarded.broker;
    let token =
        sign(&json!({"sub": "ops", "exp": in_seconds(60.0), "manage": ["tmp.*"], "observe": true}));
    let authorization = bearer(&token);
    let header = [("Authorization", authorization.as_str())];
    for (name, status) in [("tmp.1", 201), ("orders", 403)] {
        let body = json!({ "name": name }).to_string();
        assert_eq!(
            broker
                .request("POST", "/topics", &header, &body)
                .await
                .status,
            status
        );
    }
    assert_eq!(
        broker.request("GET", "/stats", &header, "").await.status,
        200
    );
}

#[tokio::test]
async fn what_is_tried_with_tokens_of_public_keys_fails() {
    let guarded = guarded(&[]);
    let right = ["RS256", "ES256", "EdDSA"];
    let mut tried = 0;
    for (name, token) in made() {
        if right.contains(&name.as_str()) {
            continue;
        }
        assert_refused(&guarded.broker, &token, &name).await;
        tried += 1;
    }
    assert!(tried >= 14, "{tried}");
}

#[tokio::test]
async fn what_is_tried_with_other_tokens_fails() {
    let guarded = guarded(&[]);
    let broker = &guarded.broker;
    let right = sign(&claims());
    assert_eq!(status_of(broker, &right).await, 200);
    let (message, signature) = right.rsplit_once('.').expect("three parts");
    let header = |alg: &str| json!({"alg": alg, "typ": "JWT"});
    let none = |alg: &str| format!("{}.{}.", part(&header(alg)), part(&claims()));
    let long = claims_with("subscribe", json!(vec!["orders.eu"; 800]));
    let other = sign_with(
        "another secret of forty bytes, not less!",
        &header("HS256"),
        &claims(),
    );
    let swapped = format!(
        "{}.{}.{signature}",
        part(&header("HS256")),
        part(&claims_with("sub", json!("root")))
    );
    for (what, token) in [
        ("nothing", String::new()),
        ("two parts", message.to_owned()),
        ("four parts", format!("{right}.x")),
        ("no signature", format!("{message}.")),
        (
            "another signature",
            format!("{message}.{}", signature.replace(&signature[..4], "AAAA")),
        ),
        ("another secret", other),
        ("other claims", swapped),
        ("alg none", none("none")),
        ("alg None", none("None")),
        (
            "alg none, signed",
            sign_with(SECRET, &header("none"), &claims()),
        ),
        ("HS512", sign_with(SECRET, &header("HS512"), &claims())),
        (
            "crit",
            sign_with(
                SECRET,
                &json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
                &claims(),
            ),
        ),
        ("no exp", sign(&claims_with("exp", Value::Null))),
        (
            "exp that is text",
            sign(&claims_with("exp", json!("4102444800"))),
        ),
        ("exp that is negative", sign(&claims_with("exp", json!(-1)))),
        (
            "exp just past",
            sign(&claims_with("exp", json!(in_seconds(-0.2)))),
        ),
        (
            "nbf in the future",
            sign(&claims_with("nbf", json!(in_seconds(30.0)))),
        ),
        ("nbf that is text", sign(&claims_with("nbf", json!("0")))),
        ("no sub", sign(&claims_with("sub", Value::Null))),
        ("empty sub", sign(&claims_with("sub", json!("")))),
        (
            "sub with a line end",
            sign(&claims_with("sub", json!("a\nb"))),
        ),
        (
            "sub that is long",
            sign(&claims_with("sub", json!("a".repeat(129)))),
        ),
        ("no pattern", sign(&claims_with("subscribe", json!(["a*"])))),
        (
            "rights that are no list",
            sign(&claims_with("publish", json!("orders"))),
        ),
        ("too long", sign(&long)),
    ] {
        assert_refused(broker, &token, what).await;
    }
    let nbf = sign(&claims_with("nbf", json!(in_seconds(-1.0).floor())));
    assert_eq!(status_of(broker, &nbf).await, 200);
    let unasked =
        json!({"sub": "m", "exp": in_seconds(60.0), "iss": "anybody", "aud": ["x"], "admin": true});
    assert_eq!(status_of(broker, &sign(&unasked)).await, 200);
}

#[tokio::test]
async fn a_token_of_an_enormous_size_is_refused_and_the_broker_goes_on() {
    let guarded = guarded(&[]);
    let mut client = Client::connect(&guarded.broker).await;
    client.send(auth(&"a.b.c".repeat(12_000))).await;
    assert_ended(&mut client, "INVALID_TOKEN", INVALID).await;
    assert_eq!(status_of(&guarded.broker, &sign(&claims())).await, 200);
}

#[tokio::test]
async fn issuer_and_audience_are_asked_for_where_they_are_set() {
    let guarded = guarded(&[
        ("JWT_ISSUER", "https://issuer"),
        ("JWT_AUDIENCE", "shardcast"),
    ]);
    let broker = &guarded.broker;
    let with = |iss: Value, aud: Value| {
        let mut claims = claims();
        claims["iss"] = iss;
        claims["aud"] = aud;
        sign(&claims)
    };
    let iss = json!("https://issuer");
    for aud in [json!("shardcast"), json!(["other", "shardcast"])] {
        assert_eq!(status_of(broker, &with(iss.clone(), aud)).await, 200);
    }
    for (what, token) in [
        ("neither", sign(&claims())),
        ("no aud", sign(&claims_with("iss", iss.clone()))),
        ("no iss", sign(&claims_with("aud", json!("shardcast")))),
        ("null", with(Value::Null, Value::Null)),
        (
            "another iss",
            with(json!("https://issuer/"), json!("shardcast")),
        ),
        ("another aud", with(iss.clone(), json!("shardcast2"))),
        ("other auds", with(iss.clone(), json!(["a", "b"]))),
        ("an aud that is no text", with(iss, json!(7))),
    ] {
        assert_refused(broker, &token, what).await;
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let guarded = guarded(&[]);
    let mut client = Client::connect(&guarded.broker).await;
    let token = sign(&claims_with("exp", json!(in_seconds(1.5))));
    assert_eq!(client.ask(auth(&token)).await["status"], "authenticated");
    assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
    assert_ended(&mut client, "UNAUTHORIZED", "Key 'machine' has expired").await;
}

#[tokio::test]
async fn a_fresh_token_renews_the_connection_and_a_refused_one_changes_nothing() {
    let guarded = guarded(&[]);
    let broker = &guarded.broker;
    create(broker, &["orders.eu", "orders.us"]).await;
    let short = sign(&claims_with("exp", json!(in_seconds(2.0))));
    let renewed = Client::connect_with(broker, "/ws", &[("authorization", &bearer(&short))]).await;
    let mut ending = Client::connect(broker).await;
    ending.ask(auth(&short)).await;
    let mut renewed = renewed;
    renewed.subscribe("orders.eu").await;
    renewed.subscribe("orders.us").await;
    for (token, words) in [
        ("nonsense".to_owned(), INVALID),
        (sign(&claims_with("exp", json!(in_seconds(-1.0)))), INVALID),
        (
            sign(&claims_with("sub", json!("somebody"))),
            "The sub of the token is not that of this connection",
        ),
    ] {
        let text = renewed
            .expect_refusal(&auth(&token).to_string(), "INVALID_TOKEN")
            .await;
        assert_eq!(text, words);
    }
    let key = json!({"type": "auth", "api_key": ROOT.1}).to_string();
    assert_eq!(
        renewed.expect_refusal(&key, "BAD_REQUEST").await,
        "Already authenticated"
    );
    // The fresh one may do less: what it may not have ends.
    let fresh = sign(&claims_with("subscribe", json!(["orders.eu"])));
    assert_eq!(renewed.ask(auth(&fresh)).await["status"], "authenticated");
    let text = renewed.expect_error("FORBIDDEN").await;
    assert_eq!(text, "Key 'machine' may not subscribe to 'orders.us'");
    assert_ended(&mut ending, "UNAUTHORIZED", "Key 'machine' has expired").await;
    // The other one's end was later than that of the token that was renewed.
    renewed.send_text(&publish("orders.eu", 1)).await;
    renewed.expect_event("orders.eu").await;
}

#[tokio::test]
async fn a_key_is_not_renewed_by_a_token() {
    let guarded = guarded(&[]);
    let mut client = Client::connect_with(&guarded.broker, "/ws", &[ROOT]).await;
    client.ask(json!({"type": "auth", "api_key": ROOT.1})).await;
    let text = client
        .expect_refusal(&auth(&sign(&claims())).to_string(), "BAD_REQUEST")
        .await;
    assert_eq!(text, "Already authenticated");
}

#[tokio::test]
async fn where_there_are_no_tokens_the_header_of_somebody_else_is_not_looked_at() {
    let file = KeyFile::new(&key("dashboard-key", ""));
    let broker = file.broker(&[]);
    let foreign = [("authorization", "Bearer of-somebody-else")];
    let mut client = Client::connect_with(&broker, "/ws", &foreign).await;
    let answer = client
        .ask(json!({"type": "auth", "api_key": "dashboard-key"}))
        .await;
    assert_eq!(answer["status"], "authenticated");
    let rest = broker.request("GET", "/topics", &foreign, "").await;
    assert_eq!(rest.json()["error"]["code"], "MISSING_API_KEY");
    let mut client = Client::connect(&broker).await;
    client.send(auth(&sign(&claims()))).await;
    assert_ended(&mut client, "INVALID_TOKEN", INVALID).await;
}

#[tokio::test]
async fn a_right_key_counts_beside_a_wrong_token() {
    let guarded = guarded(&[]);
    let both = [("Authorization", "Bearer nonsense"), ("X-API-Key", ROOT.1)];
    assert_eq!(
        guarded
            .broker
            .request("GET", "/stats", &both, "")
            .await
            .status,
        200
    );
    assert_eq!(guarded.broker.upgrade("/ws", &both).await.status, 101);
    let mut client = Client::connect(&guarded.broker).await;
    let both = json!({"type": "auth", "api_key": ROOT.1, "token": "nonsense"});
    assert_eq!(client.ask(both).await["status"], "authenticated");
}

#[tokio::test]
async fn where_nobody_is_asked_every_token_is_acked() {
    let broker = Broker::start(&[]);
    let mut client = Client::connect(&broker).await;
    assert_eq!(
        client.ask(auth("anything")).await["status"],
        "authenticated"
    );
}

#[tokio::test]
async fn secrets_and_keys_are_read_again() {
    let guarded = guarded(&[]);
    let broker = &guarded.broker;
    let (right, rsa) = (sign(&claims()), &made()["RS256"]);
    assert_eq!(status_of(broker, &right).await, 200);
    let secret = "the next secret, which has forty bytes, too";
    std::fs::write(guarded.folder.path("secret"), secret).expect("a writable folder");
    let next = sign_with(secret, &json!({"alg": "HS256"}), &claims());
    eventually("the new secret", async || {
        status_of(broker, &next).await == 200
    })
    .await;
    assert_eq!(status_of(broker, &right).await, 401);

    let jwks = guarded.folder.path("jwks.json");
    for (content, words) in [
        ("{\"keys\":[\n", "JWT_JWKS_FILE="),
        ("{\"keys\":[]}", "there is no key with a kid"),
    ] {
        std::fs::write(&jwks, content).expect("a writable folder");
        eventually("the refusal", async || broker.log().contains(words)).await;
        assert_eq!(status_of(broker, rsa).await, 200);
    }
    let renamed = JWKS.replace("\"rsa\"", "\"rsa-2\"");
    std::fs::write(&jwks, renamed).expect("a writable folder");
    broker.signal(Signal::HUP);
    eventually("the new keys", async || status_of(broker, rsa).await == 401).await;
    assert_eq!(status_of(broker, &made()["EdDSA"]).await, 200);
}

#[test]
fn files_that_cannot_be_used_stop_the_start() {
    let folder = Folder::new();
    let path = folder.path("file");
    for (variable, content, words) in [
        ("JWT_SECRET_FILE", "\n", "it is empty"),
        (
            "JWT_SECRET_FILE",
            "only thirty-one bytes, as it is",
            "a secret of 31 bytes; HS256 wants 32 at least",
        ),
        (
            "JWT_JWKS_FILE",
            "{\n\"keys\": 7}",
            "line 2: not a set of keys",
        ),
        ("JWT_JWKS_FILE", "{\"keys\":[]}", "no key with a kid"),
        (
            "JWT_JWKS_FILE",
            "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"a\",\"x\":\"*\"}]}",
            "keys[0] (kid \"a\")",
        ),
    ] {
        std::fs::write(&path, content).expect("a writable folder");
        let settings = [("AUTH_ENABLED", "true"), (variable, text(&path))];
        let refusal = run_to_end(&settings, &[]);
        assert_eq!(refusal.code, 2, "{}", refusal.stderr);
        let begin = format!("{variable}={}: ", text(&path));
        let stderr = refusal.stderr;
        assert!(
            stderr.contains(&begin) && stderr.contains(words),
            "{stderr}"
        );
    }
    // All that is wrong is told at once.
    std::fs::write(&path, "").expect("a writable folder");
    let path = text(&path);
    let settings = [
        ("AUTH_ENABLED", "true"),
        ("API_KEYS_FILE", path),
        ("JWT_SECRET_FILE", path),
        ("JWT_JWKS_FILE", path),
    ];
    assert_eq!(run_to_end(&settings, &[]).stderr.lines().count(), 3);
}

#[tokio::test]
async fn tokens_and_secrets_never_show() {
    let guarded = guarded(&[("LOG_LEVEL", "trace"), ("LOG_REPEATS_PER_SEC", "0")]);
    let broker = &guarded.broker;
    let (right, expired) = (sign(&claims()), sign(&claims_with("exp", json!(1))));
    let odd = sign(&claims_with("publish", json!("sesame-in-a-claim")));
    let mut said = String::new();
    for token in [&right, &expired, &odd] {
        let authorization = bearer(token);
        let header = [("Authorization", authorization.as_str())];
        said += &broker.request("GET", "/topics", &header, "").await.body;
        said += &broker.request("GET", "/stats", &header, "").await.body;
        let mut client = Client::connect(broker).await;
        said += &client.ask_raw(&auth(token).to_string()).await;
    }
    said += &call(broker, ROOT.1, "GET", "/stats", "").await.body;
    said += &call(broker, ROOT.1, "GET", "/metrics", "").await.body;
    eventually("the log", async || {
        broker.log().contains("a token was refused")
    })
    .await;
    said += &broker.log();
    let parts = [&right, &expired, &odd].map(|token| token.split('.').map(str::to_owned));
    let secrets = parts
        .into_iter()
        .flatten()
        .chain([SECRET.to_owned(), "sesame".to_owned()]);
    for secret in secrets {
        assert!(!said.contains(&secret), "{secret} in {said}");
    }
}
