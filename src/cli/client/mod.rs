//! One connection to a broker, for every subcommand that has one.
//!
//! A task reads frames and another writes them, because a read or a write of fastwebsockets that is dropped half-way
//! loses its place in the stream. What the caller awaits are only queues, so all of it may stand in a `select!`.
//! Pings are answered by the tasks. A server that says nothing at all is asked once, and then given up. Nothing
//! reconnects here: a client that lost its server is told why.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use fastwebsockets::{
    FragmentCollector, Frame, OpCode, Payload, Role, WebSocket, WebSocketError, handshake,
};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, rt};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::client::{ClientSettings, Trust};

use super::transport;
use super::url::{ServerUrl, UrlError};

/// How long a server may take for the connection and the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Messages that wait in each direction; then the socket is no longer read, or `send` waits.
const QUEUE_MESSAGES_MAX: usize = 256;

/// The longest message that is taken: what the largest `MAX_MESSAGE_SIZE` makes, with its envelope.
const MESSAGE_BYTES_MAX: usize = 17 << 20;

/// What went wrong with a connection, in words for the one who started it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the API key has characters that a header cannot carry")]
    ApiKey,
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    #[error("{0} did not answer within {n} s", n = CONNECT_TIMEOUT.as_secs())]
    NoAnswer(String),
    #[error("{0} refused the connection with HTTP {1}{meaning}", meaning = meaning(*.1))]
    Refused(String, u16),
    #[error("{0} did not answer as a WebSocket server: {1}")]
    Handshake(String, WebSocketError),
    #[error("the server closed the connection{0}")]
    Closed(CloseReason),
    #[error("the connection to the server was lost: {0}")]
    Lost(WebSocketError),
    #[error(
        "the connection to the server is dead: nothing came for {0} s, and a ping was not answered"
    )]
    Silent(u64),
    #[error("the connection to the server is gone")]
    Gone,
}

impl ClientError {
    /// Whether the same may succeed a little later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Url(_) | Self::ApiKey => false,
            Self::Refused(_, status) => *status == 429 || *status >= 500,
            // 1008: the server does not want this client.
            Self::Closed(reason) => reason.code != Some(1008),
            _ => true,
        }
    }

    /// Whether it may be the key that the server minds.
    pub(super) fn is_about_the_key(&self) -> bool {
        match self {
            Self::Refused(_, status) => *status == 401,
            Self::Closed(reason) => reason.code == Some(1008),
            _ => false,
        }
    }
}

/// Code and text of a close frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CloseReason {
    code: Option<u16>,
    text: String,
}

/// Sends on a connection.
#[derive(Debug)]
pub(super) struct ClientSender {
    outgoing: mpsc::Sender<Outgoing>,
}

/// Receives on a connection.
#[derive(Debug)]
pub(super) struct ClientReceiver {
    incoming: mpsc::Receiver<Result<String, ClientError>>,
}

#[derive(Debug)]
enum Outgoing {
    Text(String),
    Ping,
    Pong(Vec<u8>),
    Close(Vec<u8>),
}

/// Connects and shakes hands.
pub(super) async fn connect(
    settings: &ClientSettings,
) -> Result<(ClientSender, ClientReceiver), ClientError> {
    let mut url = ServerUrl::socket(&settings.url)?;
    if let Some(client_id) = &settings.client_id {
        url = url.with_query("client_id", client_id);
    }
    let request = upgrade_request(&url, settings.api_key.as_deref())?;
    match timeout(CONNECT_TIMEOUT, shake_hands(&url, request, &settings.trust)).await {
        Ok(stream) => Ok(spawn(stream?, settings.silence_max)),
        Err(_) => Err(ClientError::NoAnswer(url.authority())),
    }
}

impl ClientSender {
    /// Sends one command; waits only while the server takes none.
    pub(super) async fn send(&self, text: String) -> Result<(), ClientError> {
        self.outgoing
            .send(Outgoing::Text(text))
            .await
            .map_err(|_| ClientError::Gone)
    }

    /// Sends all that is queued and takes leave of the server.
    pub(super) async fn close(self, mut receiver: ClientReceiver) {
        let farewell = async {
            let normal = 1000_u16.to_be_bytes().to_vec();
            let sent = self.outgoing.send(Outgoing::Close(normal)).await;
            while sent.is_ok() && receiver.next().await.is_ok() {}
        };
        // A server that does not answer the close changes nothing for us: all answers are in already.
        timeout(CLOSE_TIMEOUT, farewell).await.unwrap_or_default();
    }
}

impl ClientReceiver {
    /// The next message of the server; an error is the last thing that it gives.
    pub(super) async fn next(&mut self) -> Result<String, ClientError> {
        self.incoming.recv().await.unwrap_or(Err(ClientError::Gone))
    }
}

fn upgrade_request(
    url: &ServerUrl,
    api_key: Option<&str>,
) -> Result<Request<Empty<Bytes>>, ClientError> {
    let mut request = Request::get(&url.target)
        .header(HOST, url.authority())
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header("Sec-WebSocket-Key", handshake::generate_key())
        .header("Sec-WebSocket-Version", "13");
    if let Some(api_key) = api_key {
        let key = HeaderValue::from_bytes(api_key.as_bytes()).map_err(|_| ClientError::ApiKey)?;
        request = request.header("X-API-Key", key);
    }
    // The URL is parsed and the rest is ours: only the key can be what a header does not take.
    request.body(Empty::new()).map_err(|_| ClientError::ApiKey)
}

async fn shake_hands(
    url: &ServerUrl,
    request: Request<Empty<Bytes>>,
    trust: &Trust,
) -> Result<TokioIo<Upgraded>, ClientError> {
    let socket = transport::connect(url, trust)
        .await
        .map_err(|error| ClientError::Connect(url.authority(), error))?;
    match handshake::client(&Spawner, request, socket).await {
        Ok((socket, _)) => Ok(socket.into_inner()),
        Err(WebSocketError::InvalidStatusCode(status)) => {
            Err(ClientError::Refused(url.authority(), status))
        }
        Err(error) => Err(ClientError::Handshake(url.authority(), error)),
    }
}

/// Lets hyper spawn on the runtime of the caller.
struct Spawner;

impl<F> rt::Executor<F> for Spawner
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

fn spawn(stream: TokioIo<Upgraded>, silence_max: Duration) -> (ClientSender, ClientReceiver) {
    let (from_server, to_server) = tokio::io::split(stream);
    let (outgoing, queued) = mpsc::channel(QUEUE_MESSAGES_MAX);
    let (received, incoming) = mpsc::channel(QUEUE_MESSAGES_MAX);
    tokio::spawn(read_all(
        from_server,
        received,
        outgoing.clone(),
        silence_max,
    ));
    tokio::spawn(write_all(to_server, queued));
    (ClientSender { outgoing }, ClientReceiver { incoming })
}

/// Ends with the error that ends the connection, or when nobody listens any more.
async fn read_all(
    stream: ReadHalf<TokioIo<Upgraded>>,
    received: mpsc::Sender<Result<String, ClientError>>,
    outgoing: mpsc::Sender<Outgoing>,
    silence_max: Duration,
) {
    let mut socket = web_socket(tokio::io::join(stream, tokio::io::sink()));
    socket.set_max_message_size(MESSAGE_BYTES_MAX);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let next = read_message(&mut socket, &outgoing, silence_max).await;
        let ended = next.is_err();
        if received.send(next).await.is_err() || ended {
            return;
        }
    }
}

async fn read_message<S>(
    socket: &mut FragmentCollector<S>,
    outgoing: &mpsc::Sender<Outgoing>,
    silence_max: Duration,
) -> Result<String, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let frame = read_frame(socket, outgoing, silence_max).await?;
        // When the writer is gone there is nobody to answer to, and the next read says why.
        let payload = Vec::from(frame.payload);
        match frame.opcode {
            OpCode::Text | OpCode::Binary => {
                return String::from_utf8(payload)
                    .map_err(|_| ClientError::Lost(WebSocketError::InvalidUTF8));
            }
            OpCode::Ping => outgoing
                .send(Outgoing::Pong(payload))
                .await
                .unwrap_or_default(),
            OpCode::Close => {
                let reason = CloseReason::parse(&payload);
                outgoing
                    .send(Outgoing::Close(payload))
                    .await
                    .unwrap_or_default();
                return Err(ClientError::Closed(reason));
            }
            OpCode::Pong | OpCode::Continuation => {}
        }
    }
}

/// The next frame. Asks for a sign of life when half of the time is over: a server need not say anything by itself.
async fn read_frame<'f, S>(
    socket: &'f mut FragmentCollector<S>,
    outgoing: &mpsc::Sender<Outgoing>,
    silence_max: Duration,
) -> Result<Frame<'f>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut frame = pin!(socket.read_frame());
    if let Ok(frame) = timeout(silence_max / 2, frame.as_mut()).await {
        return frame.map_err(ClientError::Lost);
    }
    // A queue that is full is as good as a ping: what is in it wants answers too.
    outgoing.try_send(Outgoing::Ping).unwrap_or_default();
    match timeout(silence_max / 2, frame).await {
        Ok(frame) => frame.map_err(ClientError::Lost),
        Err(_) => Err(ClientError::Silent(silence_max.as_secs())),
    }
}

/// Ends with the close frame, which must be the last, or when the socket takes no more.
async fn write_all(stream: WriteHalf<TokioIo<Upgraded>>, mut queued: mpsc::Receiver<Outgoing>) {
    let mut socket = web_socket(tokio::io::join(tokio::io::empty(), stream));
    while let Some(outgoing) = queued.recv().await {
        let last = matches!(outgoing, Outgoing::Close(_));
        let frame = match outgoing {
            Outgoing::Text(text) => Frame::text(Payload::Owned(text.into_bytes())),
            Outgoing::Ping => Frame::new(true, OpCode::Ping, None, Payload::Borrowed(b"")),
            Outgoing::Pong(payload) => Frame::pong(Payload::Owned(payload)),
            Outgoing::Close(payload) => Frame::close_raw(Payload::Owned(payload)),
        };
        // The reader sees the same broken connection, and reports it.
        if socket.write_frame(frame).await.is_err() || last {
            return;
        }
    }
}

/// One direction of the client's socket: the other one is a task of its own, so nothing may be answered in here.
fn web_socket<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> WebSocket<S> {
    let mut socket = WebSocket::after_handshake(stream, Role::Client);
    socket.set_auto_pong(false);
    socket.set_auto_close(false);
    socket
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

impl CloseReason {
    fn parse(payload: &[u8]) -> Self {
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        let text = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
        Self {
            code,
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

#[cfg(test)]
mod tests;
