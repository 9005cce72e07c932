//! Where the broker is, who asks, and everything that has a limit or a time.

use std::fmt;
use std::time::Duration;

use crate::credentials::Secret;
use crate::notice::OnNotice;
use crate::tls::Trust;

/// What a client is made with.
///
/// ```
/// use shardcast_client::{Limits, Options, Secret};
///
/// let options = Options {
///     key: Some(Secret::from("secret")),
///     limits: Limits { event_queue_max: 100, ..Limits::default() },
///     ..Options::new("ws://localhost:8080/ws")
/// };
/// ```
#[derive(Clone)]
pub struct Options {
    /// `ws://HOST[:PORT]/ws`, or the root as `http://HOST[:PORT]`; `wss://` and `https://` for TLS.
    pub url: String,
    /// An API key.
    pub key: Option<Secret>,
    /// A JWT. One from a function is asked for anew before it ends, so that the connection outlives it. Not
    /// together with a key.
    pub token: Option<Secret>,
    /// A name for the broker's log; it identifies nobody.
    pub client_id: Option<String>,
    /// Which server is taken for the broker, where the URL asks for TLS.
    pub trust: Trust,
    /// Whether another connection is made where one is lost, or cannot be made. Without that the client ends with
    /// [`CONNECTION_LOST`](crate::Error).
    pub reconnect: bool,
    /// Told what happens beside the events.
    pub on_notice: Option<OnNotice>,
    /// Bounds and times.
    pub limits: Limits,
}

impl Options {
    /// Those for a broker that asks for no key, with the limits that are the default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            key: None,
            token: None,
            client_id: None,
            trust: Trust::default(),
            reconnect: true,
            on_notice: None,
            limits: Limits::default(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url)
            .field("client_id", &self.client_id)
            .field("trust", &self.trust)
            .field("reconnect", &self.reconnect)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Bounds and times of a client. The README says why the defaults are what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// [`Client::connect`](crate::Client::connect) waits so long for the broker, 10 s; None for ever, zero not
    /// at all.
    pub open_timeout: Option<Duration>,
    /// For one attempt up to the first answer, 5 s: a few round trips of a bad network.
    pub connect_timeout: Duration,
    /// For the goodbye, 2 s: the broker waits as long.
    pub close_timeout: Duration,
    /// Silence after which a sign of life is asked for, 15 s: below the 30 to 60 after which NATs and balancers
    /// forget a silent connection.
    pub heartbeat: Duration,
    /// How long that may stay without an answer, 10 s.
    pub heartbeat_timeout: Duration,
    /// Ceiling of the first random pause before a new attempt, 0.25 s: most ends are brief.
    pub backoff_min: Duration,
    /// And of all later ones, doubling to here, 30 s.
    pub backoff_max: Duration,
    /// A link that lived so long starts again at the first pause, 5 s; a broker that ends each link at once is
    /// not hammered.
    pub stable: Duration,
    /// Events that may wait for one consumer, 1,000: enough for a burst, seconds behind at most.
    pub event_queue_max: usize,
    /// The same in bytes, 16 MiB, for long events.
    pub event_queue_bytes_max: usize,
    /// Messages that may wait for the broker, sent or not, 1,000.
    pub publish_queue_max: usize,
    /// The same in bytes, 8 MiB.
    pub publish_queue_bytes_max: usize,
    /// Messages sent without an answer, 64: fewer than the broker's history of 100, so that a repeat is found
    /// there.
    pub in_flight_max: usize,
    /// Longest command in bytes, 65,536: the broker's `MAX_MESSAGE_SIZE`, over which it ends the connection.
    pub message_bytes_max: usize,
    /// Longest message taken from the broker in bytes, 16 MiB.
    pub frame_bytes_max: usize,
    /// A token is renewed so long before its end, 30 s, or in the last fifth of its life if that is shorter.
    pub token_refresh: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_timeout: Some(Duration::from_secs(10)),
            connect_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(2),
            heartbeat: Duration::from_secs(15),
            heartbeat_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            stable: Duration::from_secs(5),
            event_queue_max: 1000,
            event_queue_bytes_max: 16 << 20,
            publish_queue_max: 1000,
            publish_queue_bytes_max: 8 << 20,
            in_flight_max: 64,
            message_bytes_max: 65536,
            frame_bytes_max: 16 << 20,
            token_refresh: Duration::from_secs(30),
        }
    }
}
