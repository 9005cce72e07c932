//! Everything that can be said to the broker by somebody without a key: every path with every method and every header
//! that might open something, every command before `auth`, everything that might pass for a key. What comes is what §6 of
//! the contract leaves open, or a refusal; nothing is changed by it, and nothing that only insiders know is in an answer.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::keys::{KeyFile, ROOT, call, connect, create, key};

mod http;
mod websocket;

/// A key of the file, and the name that goes with it.
const NAMED: (&str, &str) = ("insider-key", "insider");

/// A topic that strangers do not know, and one that is not there.
const TOPICS: [&str; 2] = ["hidden-topic", "absent-topic"];

/// A key as its file has it.
struct HexDigest(&'static str);

impl std::fmt::LowerHex for HexDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digest = Sha256::digest(self.0);
        digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What only insiders know.
fn secrets() -> [String; 5] {
    [
        ROOT.1.into(),
        NAMED.0.into(),
        format!("{:x}", HexDigest(NAMED.0)),
        format!("{:x}", HexDigest(ROOT.1)),
        NAMED.1.into(),
    ]
}

/// Fails if a text has in it what only insiders know.
fn assert_tells_nothing(text: &str, what: &str) {
    for secret in secrets().iter().map(String::as_str).chain(TOPICS) {
        assert!(!text.contains(secret), "{what} tells {secret}: {text}");
    }
}

/// The broker that is attacked, with somebody on it who must not notice.
struct Scene {
    _file: KeyFile,
    broker: Arc<Broker>,
    insider: Client,
    before: Value,
}

impl Scene {
    async fn set() -> Self {
        let rights = "subscribe = [\"hidden-topic\"]\npublish = [\"hidden-topic\"]";
        let file = KeyFile::new(&key(NAMED.0, rights));
        let broker = file.broker(&[("LOG_LEVEL", "debug"), ("HEARTBEAT_INFO", "false")]);
        create(&broker, &TOPICS[..1]).await;
        let mut insider = connect(&broker, NAMED.0).await;
        insider.subscribe(TOPICS[0]).await;
        let before = Self::inside(&broker).await;
        Self {
            _file: file,
            broker: Arc::new(broker),
            insider,
            before,
        }
    }

    /// What there is, as somebody with a key sees it.
    async fn inside(broker: &Broker) -> Value {
        let topics = call(broker, ROOT.1, "GET", "/topics", "").await.json();
        let stats = call(broker, ROOT.1, "GET", "/stats", "").await.json();
        let totals = &stats["totals"];
        json!([
            topics,
            stats["topics"],
            totals["messages"],
            totals["subscribers"]
        ])
    }

    /// Nothing has changed, the insider has heard nothing, and no key stands in the log.
    async fn assert_untouched(mut self) {
        assert_eq!(Self::inside(&self.broker).await, self.before);
        assert_eq!(self.insider.settle().await, Vec::<Value>::new());
        let log = self.broker.log();
        for secret in &secrets()[..4] {
            assert!(!log.contains(secret.as_str()), "{secret} is in the log");
        }
    }
}
