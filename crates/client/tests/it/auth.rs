//! Keys and tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use shardcast_client::{Client, ClientState, Error, Limits, Options, Secret, Subscribe};

use crate::harness::{Broker, next_event, publish, quick, subscribed, within};

const SECRET: &[u8] = b"a secret that is long enough for the broker to take it";

fn with_keys() -> Broker {
    Broker::with(&[
        ("AUTO_CREATE_TOPICS", "true"),
        ("AUTH_ENABLED", "true"),
        ("API_KEYS", "secret"),
    ])
}

async fn connect(
    broker: &Broker,
    key: Option<Secret>,
    token: Option<Secret>,
) -> Result<Client, Error> {
    let options = Options {
        key,
        token,
        limits: Limits {
            token_refresh: Duration::from_secs(1),
            ..quick()
        },
        ..Options::new(broker.url())
    };
    within("an answer", Client::connect(options)).await
}

#[tokio::test]
async fn a_key_opens_and_a_wrong_one_is_final() {
    let broker = with_keys();
    let client = connect(&broker, Some("secret".into()), None).await;
    let client = client.expect("it is the right one");
    publish(&client, "t", 1).await;
    let error = connect(&broker, Some("guess".into()), None).await;
    assert_eq!(error.expect_err("it is wrong").code, "INVALID_API_KEY");
    let error = connect(&broker, Some("a".into()), Some("b".into())).await;
    assert_eq!(error.expect_err("both").code, "BAD_REQUEST");

    // Without one the connection opens, and the first command is the last.
    let client = connect(&broker, None, None).await.expect("it opens");
    let mut states = client.state();
    let mut events = client.subscribe("t", Subscribe::default()).expect("a name");
    assert_eq!(
        events.ready().await.expect_err("no key").code,
        "UNAUTHORIZED"
    );
    within(
        "it is given up",
        states.wait_for(|state| *state == ClientState::Failed),
    )
    .await
    .expect("it is told");
}

#[tokio::test]
async fn a_source_of_keys_is_asked_again_where_it_fails() {
    let broker = with_keys();
    let asked = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&asked);
    let source = Secret::from_fn(move || {
        let time = counts.fetch_add(1, Ordering::Relaxed);
        async move {
            match time {
                0 => Err("the vault is shut".into()),
                1 => Ok("old".to_owned()),
                _ => Ok("secret".to_owned()),
            }
        }
    });
    let client = connect(&broker, Some(source), None).await.expect("at last");
    publish(&client, "t", 1).await;
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

fn token(seconds: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later");
    let claims = json!({
        "sub": "tests", "exp": now.as_secs() + seconds,
        "subscribe": [">"], "publish": [">"], "manage": [">"],
    });
    encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(SECRET),
    )
    .expect("it is signed")
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let folder = std::env::temp_dir().join(format!("shardcast-client-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("jwt");
    std::fs::write(&file, SECRET).expect("a file");
    let broker = Broker::with(&[
        ("AUTO_CREATE_TOPICS", "true"),
        ("AUTH_ENABLED", "true"),
        ("JWT_SECRET_FILE", file.to_str().expect("text")),
    ]);
    let asked = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&asked);
    let source = Secret::from_fn(move || {
        let time = counts.fetch_add(1, Ordering::Relaxed);
        let token = token(if time == 0 { 3 } else { 600 });
        async move { Ok(token) }
    });
    let client = connect(&broker, None, Some(source))
        .await
        .expect("it opens");
    let mut events = subscribed(&client, "t", Subscribe::default()).await;
    let states = client.state();
    // Longer than the first token is good for.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(
        !states.has_changed().expect("it lives"),
        "the connection has ended"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    publish(&client, "t", 1).await;
    assert_eq!(next_event(&mut events).await.seq, 1);
    let error = connect(&broker, None, Some("e30.e30.e30".into())).await;
    assert_eq!(error.expect_err("it is none").code, "INVALID_TOKEN");
    std::fs::remove_dir_all(folder).ok();
}

#[tokio::test]
async fn a_source_that_panics_ends_its_client_and_nobody_waits() {
    let broker = with_keys();
    let source = Secret::from_fn(|| async { panic!("the vault is on fire") });
    let error = connect(&broker, Some(source), None).await;
    assert_eq!(error.expect_err("it has ended").code, "INTERNAL");
}
