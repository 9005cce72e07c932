//! HTTP on a new socket: requests one after the other, until it closes, or becomes a WebSocket or an
//! event stream.
//!
//! hyper parses and writes; what is here decides. Every request that has begun gets an answer with
//! a body of JSON, whatever the client does with its own side, with a body that nobody wanted, or
//! while the process ends. Routes are thin: each asks the shards or the counters.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;

mod accept;
mod access;
mod answer;
mod body;
pub(super) mod caller;
mod connections;
mod console;
pub(super) mod ending;
pub(super) mod events;
mod forwarded;
mod listing;
mod messages;
mod metrics;
mod openapi;
pub(super) mod patience;
mod progress;
pub(super) mod refusal;
mod route;
mod settings;
mod stats;
mod tickets;
mod topics;
mod upgrade;

use self::answer::{Answer, AnswerBody, bad_request, error, json, options, wrong_method};
use self::body::RequestBody;
use self::caller::{Caller, Peer, proxied};
use self::ending::Ending;
use self::listing::{Kind, Turns};
use self::patience::{Patient, Timeouts, Wait};
use self::progress::Progress;
use self::route::Route;

use super::lobby::Guest;
use crate::access::grant::Grant;
use crate::config::Config;
use crate::core::Core;
use crate::protocol::codes::ErrorCode;
use crate::wire::{Arrival, Wire};

/// What the HTTP connections of one core share.
#[derive(Debug)]
pub(super) struct Http {
    core: Rc<Core>,
    ending: Arc<Ending>,
    turns: Turns,
}

impl Http {
    pub(super) fn new(core: Rc<Core>, ending: Arc<Ending>) -> Self {
        Self {
            core,
            ending,
            turns: Turns::default(),
        }
    }
}

/// Serves HTTP on a new socket until it closes or becomes a connection.
pub(super) async fn serve(http: Rc<Http>, arrival: Arrival, guest: Rc<Guest>) {
    let core = Rc::clone(&http.core);
    let config = core.config();
    let mut address = arrival.address;
    let Ok(mut socket) = Wire::new(arrival) else {
        return;
    };
    // Where there is TLS, this stood in front of the handshake.
    if socket.tls.is_none() {
        match proxied(config, address, &mut socket.socket).await {
            Some(client) => address = client,
            None => return,
        }
    }
    let name = socket.client_name().map(String::into_boxed_str);
    let peer = Rc::new(Peer::new(config, address, name));
    let underway = http.ending.enter();
    let progress = Arc::new(Progress::default());
    let socket = Patient::new(socket, Arc::clone(&progress), Timeouts::of(config));
    let ending = Arc::clone(&http.ending);
    let at_service = Arc::clone(&progress);
    let leaving = Rc::new(Cell::new(None));
    let (at_core, leaves) = (Rc::clone(&http.core), Rc::clone(&leaving));
    let service = service_fn(move |request| {
        at_service.begin();
        guest.ask();
        let (http, progress) = (Rc::clone(&http), Arc::clone(&at_service));
        let (guest, peer) = (Rc::clone(&guest), Rc::clone(&peer));
        let leaves = Rc::clone(&leaves);
        async move {
            let answer = answer(&http, &peer, request).await;
            if matches!(answer.body(), AnswerBody::Stream(_)) {
                // hyper is not asked again.
                leaves.set(Some(answer));
                return pending().await;
            }
            progress.answered(answer.headers().get(CONNECTION).is_some());
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                guest.fall_silent();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = http1::Builder::new()
        .half_close(true)
        // The socket has its own patience, which does not judge after a pause.
        .header_read_timeout(None)
        .max_buf_size(config.http_head_bytes_max)
        .max_header_size(config.http_head_bytes_max)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut beginning = None;
    let served = {
        let mut ending = pin!(ending.begun());
        let mut is_ending = false;
        let mut quiet = Wait::default();
        poll_fn(|cx| {
            if let Poll::Ready(served) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Some(served));
            }
            // Answers to requests before it may still be on their way.
            let stream = leaving.take();
            if stream.is_some() && progress.is_flushed() {
                beginning = stream;
                return Poll::Ready(None);
            }
            leaving.set(stream);
            is_ending = is_ending || ending.as_mut().poll(cx).is_ready();
            if !is_ending || underway.is_none() || !progress.is_idle() {
                quiet.stop();
                return Poll::Pending;
            }
            // What was sent before the end began may not have been seen yet.
            quiet.poll_over(cx, Duration::ZERO).map(|()| None)
        })
        .await
    };
    let Some(parts) = connection.into_parts() else {
        return;
    };
    if let Some(answer) = beginning {
        events::begin(&at_core, parts.io.into_inner().into_inner(), answer);
        return;
    }
    let Some(served) = served else {
        parts.io.into_inner().into_inner().send_last();
        return;
    };
    let is_in_head = progress.stage() == progress::Stage::Head;
    let patient = parts.io.into_inner();
    let (socket, has_ended) = end(
        config,
        patient,
        served.err().as_ref(),
        is_in_head,
        &parts.read_buf,
    )
    .await;
    drop((underway, parts.read_buf, parts.service));
    if !has_ended {
        refusal::linger(&socket.socket, config.close_wait).await;
    }
}

/// The last words to a client. Whether it has closed its side before.
async fn end(
    config: &Config,
    patient: Patient,
    failure: Option<&hyper::Error>,
    is_in_head: bool,
    read: &[u8],
) -> (Wire, bool) {
    if let Some(error) = failure {
        tracing::debug!(%error, "HTTP connection failed");
    }
    let head_bytes_max = config.http_head_bytes_max;
    let refused = patient.refused();
    let words = refusal::words(refused, failure, is_in_head, read, head_bytes_max);
    let has_ended = patient.has_ended() && words.is_none();
    let mut socket = patient.into_inner();
    if let Some((status, text)) = words {
        refusal::refuse(&mut socket, status, &text, config.write_timeout).await;
    }
    socket.send_last();
    (socket, has_ended)
}

/// Answers one request, and sees to what of its body nobody has read.
async fn answer(http: &Rc<Http>, peer: &Peer, request: Request<Incoming>) -> Answer {
    let config = http.core.config();
    let (head, incoming) = request.into_parts();
    let mut body = RequestBody::new(incoming, &head.headers, config.read_timeout);
    let mut request = Request::from_parts(head, ());
    let caller = Caller::new(config, peer, &request);
    let mut answer = decide(http, &caller, &mut request, &mut body).await;
    caller.log_refusal(&request, &answer);
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return answer;
    }
    let route = Route::of_broker(config, request.uri().path());
    let allowed = route.map(Route::allowed);
    let (method, headers) = (request.method(), request.headers());
    access::add_cors(config, method, headers, allowed, &mut answer);
    let is_refused_upgrade = matches!(route, Some(Route::WebSocket));
    // A client that is not let in has nothing to keep its socket open for.
    if !body.discard().await || is_refused_upgrade || is_draining(&http.core) {
        answer
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn decide(
    http: &Rc<Http>,
    caller: &Caller<'_>,
    request: &mut Request<()>,
    body: &mut RequestBody,
) -> Answer {
    let core = &http.core;
    let config = core.config();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = Route::of_broker(config, &path);
    if let Some(refusal) = access::check_host(request.version(), request.headers()) {
        return refusal;
    }
    if path.is_empty() {
        return bad_request("the target of a request begins with a slash");
    }
    if !matches!(route, Some(Route::Health | Route::Ready))
        && let Some(refusal) = access::check_origin(config, request.headers())
    {
        return refusal;
    }
    // A preflight carries no key.
    if method == Method::OPTIONS
        && let Some(route) = route
    {
        return options(route.allowed());
    }
    let needs_key = !route.is_some_and(|route| route.is_open(config));
    let query = request.uri().query().unwrap_or_default();
    // What opens a stream opens nothing else that its path may stand for.
    let is_stream =
        method == Method::GET && matches!(route, Some(Route::Events | Route::TopicEvents(_)));
    let ticket = is_stream.then(|| tickets::of_query(query)).flatten();
    let grant = if let Some(ticket) = ticket {
        match tickets::grant(core, &ticket) {
            Ok(grant) => grant,
            Err(wrong) => return wrong.answer(),
        }
    } else if needs_key {
        match access::grant(core.process(), caller, request.headers()) {
            Ok(grant) => grant,
            Err(wrong) => return wrong.answer(),
        }
    } else {
        Grant::Everything
    };
    let Some(route) = route else {
        return error(
            StatusCode::NOT_FOUND,
            ErrorCode::BadRequest,
            &format!("no such path: {path}"),
        );
    };
    if !route.takes(&method) {
        return wrong_method(&method, route.allowed());
    }
    let checked = match route {
        Route::Connection(_) if method == Method::DELETE => grant.check_admin(),
        Route::Stats
        | Route::Metrics
        | Route::Settings
        | Route::Connections
        | Route::Connection(_) => grant.check_observe(),
        _ => Ok(()),
    };
    if let Err(text) = checked {
        return access::forbidden(&text);
    }
    // Looking whether it lives is free, and so is asking to become a WebSocket: that has limits of
    // its own.
    if needs_key && let Some(refusal) = caller.is_too_soon(core.process(), &grant, request) {
        return refusal;
    }
    if let Some(standing) = &core.process().cluster
        && !standing.has_begun()
        && route.is_about_topics()
    {
        return answer::not_level("this node has still to read the log of its cluster");
    }
    carry_out(http, caller, request, body, route, grant).await
}

/// What comes of a request that may be made.
async fn carry_out(
    http: &Rc<Http>,
    caller: &Caller<'_>,
    request: &mut Request<()>,
    body: &mut RequestBody,
    route: Route<'_>,
    grant: Grant,
) -> Answer {
    let core = &http.core;
    let (method, uri) = (request.method(), request.uri());
    let query = uri.query().unwrap_or_default();
    match route {
        Route::WebSocket if *method == Method::HEAD => {
            answer::upgrade_required("this is a WebSocket endpoint: GET is required")
        }
        Route::WebSocket => upgrade::upgrade(core, caller, request, body),
        Route::Root => json(StatusCode::OK, &stats::Identity::default()),
        Route::Health => json(StatusCode::OK, &stats::health(core)),
        Route::Ready => stats::ready(core),
        Route::Metrics => metrics::metrics(core, request.headers()),
        Route::OpenApi => openapi::document(),
        Route::Settings => settings::show(core.config()),
        Route::Console(part) => console::serve(part, request.headers()),
        Route::Stats => listing::list(core, &http.turns, Kind::Stats, grant).await,
        Route::Topics if *method == Method::POST => topics::create(core, body, &grant).await,
        Route::Topics => listing::list(core, &http.turns, Kind::Topics, grant).await,
        Route::Tickets => tickets::sell(core, grant),
        Route::Connections => connections::list(core, &http.turns, query).await,
        Route::Connection(id) if *method == Method::DELETE => connections::dismiss(core, id).await,
        Route::Connection(id) => connections::show(core, id).await,
        Route::Topic(name) if *method == Method::DELETE => topics::delete(core, name, &grant).await,
        Route::Topic(name) => topics::show(http, name, query, &grant).await,
        Route::Messages(_) | Route::TopicEvents(_) if *method == Method::DELETE => {
            // That of a topic whose own name ends like this.
            let name = uri.path().strip_prefix("/topics/").unwrap_or_default();
            topics::delete(core, name, &grant).await
        }
        Route::Messages(name) if *method == Method::POST => {
            messages::post(http, caller, name, body, &grant).await
        }
        Route::Messages(name) => messages::recall(http, name, query, &grant).await,
        Route::Events => events::open(http, caller, None, request, body, grant).await,
        Route::TopicEvents(name) => {
            events::open(http, caller, Some(name), request, body, grant).await
        }
    }
}

fn is_draining(core: &Core) -> bool {
    core.process().is_draining()
}
