//! One WebSocket to a broker, without a memory: what goes over it are texts.
//!
//! A task writes, so that a socket which takes nothing does not keep the other direction from being read. What
//! callers await are a queue and a stream of messages, so all of it may stand in a `select!`. Pings are answered
//! by themselves. A server that says nothing at all is asked once, and then given up; the time in which nobody
//! reads does not count. Nothing here connects again: [`Client`](crate::Client) does.

use std::io;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as SocketError, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::error::Error;
use crate::frame::PAUSE_MAX;
use crate::tls::{Transport, Trust, connect as connect_transport};
use crate::url::ServerUrl;

/// Messages that wait to be written; then `send` waits.
const QUEUE_MESSAGES_MAX: usize = 256;

const NORMAL: u16 = 1000;

/// What went wrong with a connection, in words for the one who started it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The key cannot be sent.
    #[error("the API key has characters that a header cannot carry")]
    ApiKey,
    /// There is no way to the server.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    /// It is too slow.
    #[error("{0} did not answer within {n} s", n = .1.as_secs())]
    NoAnswer(String, Duration),
    /// It answered with another status than that of a WebSocket.
    #[error("{authority} refused the connection with HTTP {status}{meaning}", meaning = meaning(*.status))]
    Refused {
        /// Host and port.
        authority: String,
        /// Of HTTP.
        status: u16,
        /// What the broker says of it; None where somebody in between has answered.
        error: Option<Error>,
        /// When it may be tried again, where the answer says so.
        retry_after: Option<Duration>,
    },
    /// It answered with something else.
    #[error("{0} did not answer as a WebSocket server: {1}")]
    Handshake(String, SocketError),
    /// It took leave.
    #[error("the server closed the connection{0}")]
    Closed(CloseReason),
    /// The connection ended without a word.
    #[error("the connection to the server was lost: {0}")]
    Lost(String),
    /// It says nothing any more.
    #[error(
        "the connection to the server is dead: nothing came for {n} s, and a ping was not answered", n = .0.as_secs()
    )]
    Silent(Duration),
    /// It has ended before, with the error that was told then.
    #[error("the connection to the server is gone")]
    Gone,
}

impl LinkError {
    /// Whether the same may succeed a little later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::ApiKey => false,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            // 1008: the server does not want this client.
            Self::Closed(reason) => reason.code != Some(1008),
            _ => true,
        }
    }

    /// Whether it may be the key that the server minds.
    #[must_use]
    pub fn is_about_the_key(&self) -> bool {
        match self {
            Self::Refused { status, .. } => *status == 401,
            Self::Closed(reason) => reason.code == Some(1008),
            _ => false,
        }
    }
}

fn meaning(status: u16) -> &'static str {
    match status {
        401 => ": it wants another API key",
        403 => ": it does not allow this client",
        404 | 405 | 426 => ": the URL is not that of a WebSocket",
        429 => ": it has too many connections",
        503 => ": it is shutting down or has too many connections",
        _ => "",
    }
}

/// Code and text of a close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// None if it had none.
    pub code: Option<u16>,
    /// Without control characters.
    pub text: String,
}

impl CloseReason {
    fn of(frame: Option<&CloseFrame>) -> Self {
        let text = frame.map_or("", |frame| &frame.reason);
        Self {
            code: frame.map(|frame| frame.code.into()),
            text: text.chars().filter(|c| !c.is_control()).collect(),
        }
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.text.as_str()) {
            (None, _) => Ok(()),
            (Some(code), "") => write!(f, " (code {code})"),
            (Some(code), text) => write!(f, " (code {code}: {text})"),
        }
    }
}

/// How a link is made, and for how long it may be silent.
#[derive(Debug, Clone)]
pub struct LinkOptions<'a> {
    /// Shown in a header of the upgrade, where the broker asks for a key.
    pub api_key: Option<&'a str>,
    /// Which server is taken for the broker.
    pub trust: &'a Trust,
    /// Longest time for TCP, TLS and the upgrade together.
    pub connect_timeout: Duration,
    /// Silence after which a sign of life is asked for.
    pub heartbeat: Duration,
    /// How long that may stay without an answer.
    pub heartbeat_timeout: Duration,
    /// Longest message that is taken, in bytes.
    pub frame_bytes_max: usize,
}

/// Sends on a link.
#[derive(Debug)]
pub struct LinkSender {
    outgoing: mpsc::Sender<Message>,
}

/// Receives on a link.
#[derive(Debug)]
pub struct LinkReceiver {
    incoming: SplitStream<WebSocketStream<Transport>>,
    /// Only for pings: the queue ends with its other holder.
    outgoing: mpsc::WeakSender<Message>,
    heartbeat: Duration,
    heartbeat_timeout: Duration,
    /// How long it has been waited for a sign of life.
    waited: Duration,
    has_asked: bool,
}

/// Connects and shakes hands.
///
/// # Errors
///
/// Each of the kinds of [`LinkError`] that can come before the first message.
pub async fn connect(
    url: &ServerUrl,
    options: &LinkOptions<'_>,
) -> Result<(LinkSender, LinkReceiver), LinkError> {
    let shaken = timeout(options.connect_timeout, shake_hands(url, options)).await;
    let no_answer = |_| LinkError::NoAnswer(url.authority(), options.connect_timeout);
    let socket = shaken.map_err(no_answer)??;
    let (sink, incoming) = socket.split();
    let (outgoing, queued) = mpsc::channel(QUEUE_MESSAGES_MAX);
    let receiver = LinkReceiver {
        incoming,
        outgoing: outgoing.downgrade(),
        heartbeat: options.heartbeat,
        heartbeat_timeout: options.heartbeat_timeout,
        waited: Duration::ZERO,
        has_asked: false,
    };
    tokio::spawn(write_all(sink, queued));
    Ok((LinkSender { outgoing }, receiver))
}

async fn shake_hands(
    url: &ServerUrl,
    options: &LinkOptions<'_>,
) -> Result<WebSocketStream<Transport>, LinkError> {
    let scheme = if url.is_tls { "wss" } else { "ws" };
    let request = format!("{scheme}://{}{}", url.authority(), url.target);
    let bad = |error| LinkError::Handshake(url.authority(), error);
    let mut request = request.into_client_request().map_err(bad)?;
    if let Some(key) = options.api_key {
        let key = HeaderValue::from_bytes(key.as_bytes()).map_err(|_| LinkError::ApiKey)?;
        request.headers_mut().insert("X-API-Key", key);
    }
    let socket = connect_transport(url, options.trust).await;
    let socket = socket.map_err(|error| LinkError::Connect(url.authority(), error))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(options.frame_bytes_max))
        .max_frame_size(Some(options.frame_bytes_max));
    match client_async_with_config(request, socket, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(SocketError::Http(response)) => Err(refused(url.authority(), &response)),
        Err(error) => Err(bad(error)),
    }
}

fn refused(authority: String, response: &Response<Option<Vec<u8>>>) -> LinkError {
    let body = response.body().as_deref().unwrap_or_default();
    let error = Error::of_http(body);
    let after = response.headers().get("Retry-After");
    let seconds = after.and_then(|after| after.to_str().ok()?.parse().ok());
    LinkError::Refused {
        authority,
        status: response.status().as_u16(),
        error,
        retry_after: seconds.map(|seconds| Duration::from_secs(seconds).min(PAUSE_MAX)),
    }
}

impl LinkSender {
    /// Sends one command; waits only while the server takes none.
    ///
    /// # Errors
    ///
    /// The link has ended; the receiver says why.
    pub async fn send(&self, text: impl Into<Utf8Bytes>) -> Result<(), LinkError> {
        let sent = self.outgoing.send(Message::Text(text.into())).await;
        sent.map_err(|_| LinkError::Gone)
    }

    /// Waits for room for one command.
    ///
    /// # Errors
    ///
    /// The link has ended; the receiver says why.
    pub(crate) async fn room(&self) -> Result<mpsc::Permit<'_, Message>, LinkError> {
        self.outgoing.reserve().await.map_err(|_| LinkError::Gone)
    }

    /// Shows the server a sign of life while nothing is read. A queue that is full is one too.
    pub(crate) fn show_life(&self) {
        self.outgoing.try_send(Message::Pong(Bytes::new())).ok();
    }

    /// Ends when nothing can be sent any more.
    pub(crate) async fn closed(&self) {
        self.outgoing.closed().await;
    }

    /// Sends all that is queued and takes leave of the server, for at most so long.
    pub async fn close(self, mut receiver: LinkReceiver, patience: Duration) {
        let normal = CloseFrame {
            code: NORMAL.into(),
            reason: Utf8Bytes::default(),
        };
        let farewell = async {
            let sent = self.outgoing.send(Message::Close(Some(normal))).await;
            while sent.is_ok() && receiver.next().await.is_ok() {}
        };
        // A server that does not answer the close changes nothing for us: all answers are in already.
        timeout(patience, farewell).await.unwrap_or_default();
    }
}

impl LinkReceiver {
    /// The next message of the server; an error is the last thing that it gives. May be dropped half-way.
    ///
    /// # Errors
    ///
    /// The link has ended.
    pub async fn next(&mut self) -> Result<Utf8Bytes, LinkError> {
        loop {
            let most = if self.has_asked {
                self.heartbeat_timeout
            } else {
                self.heartbeat
            };
            let left = most.saturating_sub(self.waited);
            let waiting = Waiting::begin(&mut self.waited);
            let next = timeout(left, self.incoming.next()).await;
            drop(waiting);
            let Ok(next) = next else {
                if self.has_asked {
                    return Err(LinkError::Silent(self.heartbeat + self.heartbeat_timeout));
                }
                (self.has_asked, self.waited) = (true, Duration::ZERO);
                // A queue that is full is as good as a ping: what is in it wants answers too.
                let queue = self.outgoing.upgrade();
                queue.and_then(|queue| queue.try_send(Message::Ping(Bytes::new())).ok());
                continue;
            };
            (self.has_asked, self.waited) = (false, Duration::ZERO);
            match next {
                None => return Err(LinkError::Gone),
                Some(Ok(Message::Text(text))) => return Ok(text),
                Some(Ok(Message::Binary(bytes))) => {
                    let not_text = |_| LinkError::Lost("what came is not UTF-8".to_owned());
                    return Utf8Bytes::try_from(bytes).map_err(not_text);
                }
                Some(Ok(Message::Close(frame))) => {
                    // What is read next is the end; that sends the answer, which is what is wanted here.
                    self.incoming.next().now_or_never();
                    return Err(LinkError::Closed(CloseReason::of(frame.as_ref())));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Err(LinkError::Lost(error.to_string())),
            }
        }
    }
}

/// Adds the time that it lives to what was waited, also where waiting is given up half-way.
struct Waiting<'a> {
    waited: &'a mut Duration,
    began: Instant,
}

impl<'a> Waiting<'a> {
    fn begin(waited: &'a mut Duration) -> Self {
        Self {
            waited,
            began: Instant::now(),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        *self.waited += self.began.elapsed();
    }
}

/// Ends with the close frame, which must be the last, or when the socket takes no more.
async fn write_all(
    mut sink: SplitSink<WebSocketStream<Transport>, Message>,
    mut queued: mpsc::Receiver<Message>,
) {
    while let Some(first) = queued.recv().await {
        let mut next = Some(first);
        while let Some(message) = next {
            let is_last = matches!(message, Message::Close(_));
            // The reader sees the same broken connection, and reports it.
            if sink.feed(message).await.is_err() {
                return;
            }
            if is_last {
                sink.flush().await.ok();
                return;
            }
            next = queued.try_recv().ok();
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}
