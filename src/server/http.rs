//! Routes: the upgrade to WebSocket, topics, health, stats, metrics. Thin: each asks the shards or
//! the counters and writes JSON.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::lobby::Guest;
use super::patience::Patient;
use crate::broker::inbox::Inbox;
use crate::broker::request::{Created, Request as ShardRequest};
use crate::broker::topic::TopicStats;
use crate::connection::home::Home;
use crate::connection::reader::Reader;
use crate::metrics::LOG_LINES_DROPPED;
use crate::protocol::codes::{ErrorCode, INVALID_API_KEY_TEXT, MISSING_API_KEY_TEXT};
use crate::protocol::names::{TopicNameError, check_topic_name};

type Answer = Response<Full<Bytes>>;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Longest label of a connection, in bytes; a longer one is cut.
const CLIENT_ID_BYTES_MAX: usize = 128;

/// Serves HTTP on a new socket until it closes or becomes a WebSocket connection.
pub(super) async fn serve(home: Rc<Home>, socket: std::net::TcpStream, guest: Rc<Guest>) {
    let Ok(socket) = TcpStream::from_std(socket) else {
        return;
    };
    let config = home.config();
    let read_timeout = config.read_timeout;
    let socket = Patient::new(socket, config.idle_timeout, config.write_timeout);
    let service = service_fn(move |request| {
        let (home, guest) = (Rc::clone(&home), Rc::clone(&guest));
        async move {
            guest.ask();
            let answer = answer(home, request).await;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                guest.fall_silent();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(read_timeout)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "HTTP connection failed");
    }
}

async fn answer(home: Rc<Home>, request: Request<Incoming>) -> Answer {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let is_get = method == Method::GET || method == Method::HEAD;
    let needs_key = match path.as_str() {
        "/ws" | "/health" | "/ready" | "/" => false,
        "/metrics" => home.config().metrics_auth,
        _ => true,
    };
    if needs_key && let Some(refusal) = check_key(&home, &request) {
        return refusal;
    }
    match path.as_str() {
        "/ws" if method == Method::GET => last_if_refused(upgrade(&home, request)),
        "/" if is_get => json(StatusCode::OK, &Identity::default()),
        "/health" if is_get => json(StatusCode::OK, &health(&home)),
        "/ready" if is_get => ready(&home),
        "/metrics" if is_get => metrics(&home),
        "/stats" if is_get => stats(&home).await,
        "/topics" if is_get => topics(&home).await,
        "/topics" if method == Method::POST => create(&home, request).await,
        "/ws" | "/" | "/health" | "/ready" | "/metrics" | "/stats" => wrong_method(&method, "GET"),
        "/topics" => wrong_method(&method, "GET, POST"),
        _ => match path.strip_prefix("/topics/") {
            Some(name) if method == Method::DELETE => delete(&home, name).await,
            Some(_) => wrong_method(&method, "DELETE"),
            None => error(
                StatusCode::NOT_FOUND,
                ErrorCode::BadRequest,
                &format!("no such path: {path}"),
            ),
        },
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    code: &'static str,
}

#[derive(Serialize)]
struct KeyErrorBody {
    error: KeyError,
}

#[derive(Serialize)]
struct KeyError {
    code: &'static str,
    message: &'static str,
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn error(status: StatusCode, code: ErrorCode, error: &str) -> Answer {
    json(
        status,
        &ErrorBody {
            error,
            code: code.as_str(),
        },
    )
}

fn wrong_method(method: &Method, allowed: &'static str) -> Answer {
    let text = format!("{method} is not allowed here; allowed: {allowed}");
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest, &text);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn unavailable() -> Answer {
    error(
        StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Unavailable,
        "server is shutting down",
    )
}

fn is_draining(home: &Home) -> bool {
    home.process.draining.load(Ordering::Relaxed)
}

/// What is wrong with the request's key, if keys are asked for.
fn check_key(home: &Home, request: &Request<Incoming>) -> Option<Answer> {
    if !home.config().auth_enabled {
        return None;
    }
    let (code, message) = match request.headers().get(API_KEY).map(HeaderValue::to_str) {
        None => (ErrorCode::MissingApiKey, MISSING_API_KEY_TEXT),
        Some(Ok(key)) if home.config().api_keys.matches(key) => return None,
        Some(_) => (ErrorCode::InvalidApiKey, INVALID_API_KEY_TEXT),
    };
    let body = KeyErrorBody {
        error: KeyError {
            code: code.as_str(),
            message,
        },
    };
    Some(json(StatusCode::UNAUTHORIZED, &body))
}

/// A client that is not let in has nothing to keep its socket open for.
fn last_if_refused(mut answer: Answer) -> Answer {
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
    }
    answer
}

/// `GET /ws`: the handshake, and the task of the new connection.
fn upgrade(home: &Rc<Home>, mut request: Request<Incoming>) -> Answer {
    let config = home.config();
    if is_draining(home) {
        return unavailable();
    }
    if !fastwebsockets::upgrade::is_upgrade_request(&request) {
        let text =
            "this is a WebSocket endpoint: Connection: Upgrade and Upgrade: websocket are required";
        return upgrade_required(text);
    }
    let origin = match request.headers().get(ORIGIN).map(HeaderValue::to_str) {
        None => None,
        Some(Ok(origin)) => Some(origin),
        Some(Err(_)) => Some("not readable"),
    };
    if !config.allowed_origins.allows(origin) {
        let text = format!("origin {} is not allowed", origin.unwrap_or_default());
        return error(StatusCode::FORBIDDEN, ErrorCode::Unauthorized, &text);
    }
    let authenticated = !config.auth_enabled
        || request
            .headers()
            .get(API_KEY)
            .is_some_and(|key| key.to_str().is_ok_and(|key| config.api_keys.matches(key)));
    let seats = &home.process.seats;
    let (seat, seats_max) = if authenticated {
        (seats.take(), seats.proven_max())
    } else {
        (seats.take_unproven(), seats.unproven_max())
    };
    let Some(seat) = seat else {
        let who = if authenticated { "" } else { " without a key" };
        let text = format!("no room for another connection{who}: the limit is {seats_max}");
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::LimitExceeded,
            &text,
        );
    };
    let client_id = client_id(request.uri().query().unwrap_or_default());
    let (response, upgraded) = match fastwebsockets::upgrade::upgrade(&mut request) {
        Ok(accepted) => accepted,
        Err(fastwebsockets::WebSocketError::InvalidSecWebsocketVersion) => {
            return upgrade_required("Sec-WebSocket-Version must be 13");
        }
        Err(_) => {
            return error(
                StatusCode::BAD_REQUEST,
                ErrorCode::BadRequest,
                "Sec-WebSocket-Key is required",
            );
        }
    };
    let home = Rc::clone(home);
    tokio::task::spawn_local(async move {
        let Ok(websocket) = upgraded.await else {
            return;
        };
        let Ok(parts) = websocket
            .into_inner()
            .into_inner()
            .downcast::<TokioIo<Patient>>()
        else {
            return;
        };
        let socket = parts.io.into_inner().into_inner();
        let reader = Reader::new(
            home,
            seat,
            socket,
            client_id,
            authenticated,
            parts.read_buf.to_vec(),
        );
        // A task of its own, so that this one, which is larger, is gone with the handshake.
        tokio::task::spawn_local(reader);
    });
    response.map(|_| Full::default())
}

fn upgrade_required(text: &str) -> Answer {
    let mut answer = error(StatusCode::UPGRADE_REQUIRED, ErrorCode::BadRequest, text);
    answer
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer
        .headers_mut()
        .insert("sec-websocket-version", HeaderValue::from_static("13"));
    answer
}

/// The label that a client gives itself. Cut to its limit, without what could forge a log line.
fn client_id(query: &str) -> Option<Box<str>> {
    let (_, id) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "client_id")?;
    let id: String = id.chars().filter(|c| !c.is_control()).collect();
    let cut = id.floor_char_boundary(CLIENT_ID_BYTES_MAX);
    (cut > 0).then(|| id[..cut].into())
}

#[derive(Serialize)]
struct Identity {
    service: &'static str,
    version: &'static str,
    endpoints: Endpoints,
}

#[derive(Serialize)]
struct Endpoints {
    websocket: &'static str,
    topics: &'static str,
    health: &'static str,
    stats: &'static str,
}

impl Default for Identity {
    fn default() -> Self {
        let endpoints = Endpoints {
            websocket: "/ws",
            topics: "/topics",
            health: "/health",
            stats: "/stats",
        };
        Self {
            service: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            endpoints,
        }
    }
}

#[derive(Serialize)]
struct Health {
    uptime_sec: u64,
    topics: usize,
    subscribers: u64,
}

fn health(home: &Home) -> Health {
    Health {
        uptime_sec: home.process.started.elapsed().as_secs(),
        topics: home.process.topics_total.load(Ordering::Relaxed),
        subscribers: home.process.metrics.home_sum(|home| &home.subscribers),
    }
}

#[derive(Serialize)]
struct Ready {
    status: &'static str,
}

fn ready(home: &Home) -> Answer {
    if is_draining(home) {
        unavailable()
    } else {
        json(StatusCode::OK, &Ready { status: "ready" })
    }
}

/// Asks a shard, waiting for room in its inbox.
async fn ask<T>(
    inbox: &Arc<Inbox>,
    request: impl FnOnce(oneshot::Sender<T>) -> ShardRequest,
) -> Option<T> {
    let (reply, replied) = oneshot::channel();
    inbox.send(request(reply)).await;
    replied.await.ok()
}

/// Every topic of every shard, by name.
async fn describe(home: &Home) -> Vec<TopicStats> {
    let mut topics = Vec::new();
    for inbox in home.process.broker.inboxes() {
        topics.extend(
            ask(inbox, |reply| ShardRequest::Describe { reply })
                .await
                .unwrap_or_default(),
        );
    }
    topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    topics
}

#[derive(Serialize)]
struct Topics<'a> {
    topics: Vec<TopicRow<'a>>,
}

#[derive(Serialize)]
struct TopicRow<'a> {
    name: &'a str,
    subscribers: usize,
}

async fn topics(home: &Home) -> Answer {
    let topics = describe(home).await;
    let rows = topics.iter().map(|topic| TopicRow {
        name: &topic.name,
        subscribers: topic.subscribers,
    });
    json(
        StatusCode::OK,
        &Topics {
            topics: rows.collect(),
        },
    )
}

#[derive(Serialize)]
struct Stats<'a> {
    topics: BTreeMap<&'a str, StatsRow>,
    totals: Totals,
}

#[derive(Serialize)]
struct StatsRow {
    messages: u64,
    subscribers: usize,
    dropped: u64,
    bytes_in: u64,
    bytes_out: u64,
    seq: u64,
}

/// Since the start, deleted topics included. `offered = delivered + dropped + discarded + queued`.
#[derive(Serialize)]
struct Totals {
    messages: u64,
    offered: u64,
    delivered: u64,
    dropped: u64,
    discarded: u64,
    queued: u64,
    bytes_in: u64,
    bytes_out: u64,
    connections: u64,
    subscribers: u64,
    slow_disconnects: u64,
    log_lines_dropped: u64,
}

fn totals(home: &Home) -> Totals {
    let metrics = &home.process.metrics;
    // What went out is read before what came in, so that nothing seems to be missing.
    let delivered = metrics.home_sum(|home| &home.delivered);
    let discarded = metrics.home_sum(|home| &home.discarded);
    let dropped = metrics.shard_sum(|shard| &shard.dropped);
    let offered = metrics.shard_sum(|shard| &shard.offered);
    Totals {
        messages: metrics.shard_sum(|shard| &shard.accepted),
        offered,
        delivered,
        dropped,
        discarded,
        queued: offered.saturating_sub(delivered + dropped + discarded),
        bytes_in: metrics.shard_sum(|shard| &shard.bytes_in),
        bytes_out: metrics.shard_sum(|shard| &shard.bytes_out),
        connections: metrics.home_sum(|home| &home.connections),
        subscribers: metrics.home_sum(|home| &home.subscribers),
        slow_disconnects: metrics.home_sum(|home| &home.slow_disconnects),
        log_lines_dropped: LOG_LINES_DROPPED.value(),
    }
}

async fn stats(home: &Home) -> Answer {
    let topics = describe(home).await;
    let rows = topics.iter().map(|topic| {
        let row = StatsRow {
            messages: topic.messages,
            subscribers: topic.subscribers,
            dropped: topic.dropped,
            bytes_in: topic.bytes_in,
            bytes_out: topic.bytes_out,
            seq: topic.seq,
        };
        (&*topic.name, row)
    });
    json(
        StatusCode::OK,
        &Stats {
            topics: rows.collect(),
            totals: totals(home),
        },
    )
}

#[derive(Serialize)]
struct TopicAnswer<'a> {
    status: &'static str,
    topic: &'a str,
}

async fn create(home: &Home, request: Request<Incoming>) -> Answer {
    let name = match read_name(home, request).await {
        Ok(name) => name,
        Err(refusal) => return refusal,
    };
    if is_draining(home) {
        return unavailable();
    }
    let broker = &home.process.broker;
    let inbox = broker.inbox(broker.shard_of(&name));
    match ask(inbox, |reply| ShardRequest::Create {
        name: name.as_str().into(),
        reply,
    })
    .await
    {
        Some(Created::Created) => json(
            StatusCode::CREATED,
            &TopicAnswer {
                status: "created",
                topic: &name,
            },
        ),
        Some(Created::Exists) => error(
            StatusCode::CONFLICT,
            ErrorCode::TopicExists,
            "topic already exists",
        ),
        Some(Created::LimitReached) => {
            let text = format!(
                "no room for another topic: MAX_TOPICS is {}",
                home.config().topics_max
            );
            error(
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::LimitExceeded,
                &text,
            )
        }
        None => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Internal,
            "the topic's shard did not answer",
        ),
    }
}

/// The `name` in the body of a request, checked.
async fn read_name(home: &Home, request: Request<Incoming>) -> Result<String, Answer> {
    let bytes_max = home.config().http_body_bytes_max;
    let bad = |text: &str| error(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, text);
    let reading = Limited::new(request.into_body(), bytes_max).collect();
    let body = match tokio::time::timeout(home.config().read_timeout, reading).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(failed)) if failed.is::<http_body_util::LengthLimitError>() => {
            let text = format!("body over the limit of {bytes_max} bytes");
            return Err(error(
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::MessageTooLarge,
                &text,
            ));
        }
        Ok(Err(_)) => return Err(bad("the body could not be read")),
        Err(_) => {
            let text = "the body did not come within READ_TIMEOUT_SEC";
            return Err(error(
                StatusCode::REQUEST_TIMEOUT,
                ErrorCode::BadRequest,
                text,
            ));
        }
    };
    let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(&body)
        .map_err(|failed| bad(&format!("the body is not a JSON object: {failed}")))?;
    let name = match fields.get("name").map(|value| value.get()) {
        None | Some("null") => return Err(bad("name is required")),
        Some(name) => {
            serde_json::from_str::<String>(name).map_err(|_| bad("name must be a string"))?
        }
    };
    match check_topic_name(&name) {
        Ok(()) => Ok(name),
        Err(TopicNameError::Empty) => Err(bad("name is required")),
        Err(wrong) => Err(bad(&wrong.to_string())),
    }
}

async fn delete(home: &Home, name: &str) -> Answer {
    let not_found = || {
        error(
            StatusCode::NOT_FOUND,
            ErrorCode::TopicNotFound,
            "topic not found",
        )
    };
    let Ok(name) = percent_decode_str(name).decode_utf8() else {
        return not_found();
    };
    if is_draining(home) {
        return unavailable();
    }
    let broker = &home.process.broker;
    let inbox = broker.inbox(broker.shard_of(&name));
    match ask(inbox, |reply| ShardRequest::Delete {
        name: (&*name).into(),
        reply,
    })
    .await
    {
        Some(true) => json(
            StatusCode::OK,
            &TopicAnswer {
                status: "deleted",
                topic: &name,
            },
        ),
        _ => not_found(),
    }
}

/// The totals in the text format of Prometheus.
fn metrics(home: &Home) -> Answer {
    let totals = totals(home);
    let health = health(home);
    let rows: [(&str, &str, &str, u64); 14] = [
        (
            "messages_total",
            "counter",
            "Messages accepted.",
            totals.messages,
        ),
        (
            "events_offered_total",
            "counter",
            "Events offered to subscribers' rings.",
            totals.offered,
        ),
        (
            "events_delivered_total",
            "counter",
            "Events handed to the kernel.",
            totals.delivered,
        ),
        (
            "events_dropped_total",
            "counter",
            "Events pushed out of full rings.",
            totals.dropped,
        ),
        (
            "events_discarded_total",
            "counter",
            "Events queued for a connection when it ended.",
            totals.discarded,
        ),
        (
            "payload_bytes_total",
            "counter",
            "Payload bytes accepted.",
            totals.bytes_in,
        ),
        (
            "event_bytes_total",
            "counter",
            "Bytes of event frames offered.",
            totals.bytes_out,
        ),
        (
            "socket_writes_total",
            "counter",
            "Calls that wrote to a WebSocket; events delivered over these is the batching.",
            home.process.metrics.home_sum(|home| &home.writes),
        ),
        (
            "slow_disconnects_total",
            "counter",
            "Connections ended for being too slow.",
            totals.slow_disconnects,
        ),
        (
            "log_lines_dropped_total",
            "counter",
            "Log lines that could not be written.",
            totals.log_lines_dropped,
        ),
        (
            "connections",
            "gauge",
            "WebSocket connections open.",
            totals.connections,
        ),
        (
            "subscribers",
            "gauge",
            "Connections with a subscription.",
            totals.subscribers,
        ),
        ("topics", "gauge", "Topics.", health.topics as u64),
        (
            "uptime_seconds",
            "gauge",
            "Seconds since the start.",
            health.uptime_sec,
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        let row = format!(
            "# HELP shardcast_{name} {help}\n# TYPE shardcast_{name} {kind}\nshardcast_{name} {value}\n"
        );
        text.push_str(&row);
    }
    let mut answer = Response::new(Full::new(text.into()));
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    answer
}
