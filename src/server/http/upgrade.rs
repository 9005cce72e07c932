//! `GET /ws`: the handshake, and the task of the new connection.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderValue, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::{HeaderMap, Request, StatusCode, Version};
use hyper_util::rt::TokioIo;

use super::access;
use super::answer::{Answer, bad_request, error, too_many, unavailable, upgrade_required};
use super::body::RequestBody;
use super::caller::Caller;
use super::is_draining;
use super::patience::Patient;
use super::tickets;
use crate::access::address::{AddressPlace, TooMany};
use crate::access::grant::{Grant, Place};
use crate::connection::session::Admission;
use crate::connection::{Entrance, Newcomer};
use crate::core::Core;
use crate::process::Process;
use crate::protocol::codes::ErrorCode;
use crate::protocol::websocket::deflate;

/// Longest label of a connection, in bytes; a longer one is cut.
const CLIENT_ID_BYTES_MAX: usize = 128;

/// Pause between two log lines about proxies that speak HTTP/1.0.
const OLD_PROXY_PAUSE_SEC: u64 = 60;

/// Answers a request for a WebSocket; where the answer is 101, a connection begins.
pub(super) fn upgrade(
    core: &Rc<Core>,
    caller: &Caller<'_>,
    request: &mut Request<()>,
    body: &RequestBody,
) -> Answer {
    if is_draining(core) {
        return unavailable(core.config().reconnect_spread);
    }
    if request.version() < Version::HTTP_11 && request.headers().contains_key(UPGRADE) {
        warn_of_old_proxy(core.process());
        return upgrade_required("a WebSocket needs HTTP/1.1; this request came by HTTP/1.0");
    }
    if !fastwebsockets::upgrade::is_upgrade_request(request) {
        let text =
            "this is a WebSocket endpoint: Connection: Upgrade and Upgrade: websocket are required";
        return upgrade_required(text);
    }
    if let Err(text) = check_websocket_key(request.headers()) {
        return bad_request(text);
    }
    // What follows the head of an upgrade is the first frame, or not, as whoever reads it decides.
    if !body.is_empty() {
        return bad_request("a request for a WebSocket has no body");
    }
    let query = request.uri().query().unwrap_or_default();
    let ticket = tickets::of_query(query).map(Cow::into_owned);
    let granted = match &ticket {
        Some(ticket) => tickets::grant(core, ticket).map(Some),
        None => access::grant_of_upgrade(core.process(), caller, request.headers()),
    };
    let grant = match granted {
        Ok(grant) => grant,
        Err(wrong) => return wrong.answer(),
    };
    let admission = match enter(core, caller, grant.as_ref()) {
        Ok(admission) => admission,
        Err(refusal) => return *refusal,
    };
    let client_id = client_id(query);
    let takes_deflated = core.config().compression && offers_deflate(request.headers());
    let Ok((mut response, upgraded)) = fastwebsockets::upgrade::upgrade(request) else {
        return upgrade_required("Sec-WebSocket-Version must be 13");
    };
    if let Some(Err(wrong)) = ticket.map(|ticket| tickets::redeem(core, &ticket)) {
        return wrong.answer();
    }
    if takes_deflated {
        let accepted = HeaderValue::from_static(deflate::ACCEPTED);
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_EXTENSIONS, accepted);
    }
    let (core, address) = (Rc::clone(core), caller.address);
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
        let newcomer = Newcomer {
            wire: parts.io.into_inner().into_inner(),
            address,
            client_id,
            grant,
            entrance: Entrance::WebSocket { takes_deflated },
        };
        let reader = core.adopt(admission, newcomer, parts.read_buf.to_vec());
        // A task of its own, so that this one, which is larger, is gone with the handshake.
        tokio::task::spawn_local(reader);
    });
    response.map(|_| Vec::new().into())
}

/// Lets a client in, or refuses it.
pub(super) fn enter(
    core: &Core,
    caller: &Caller<'_>,
    grant: Option<&Grant>,
) -> Result<Admission, Box<Answer>> {
    let process = core.process();
    let (ip, now) = (caller.address.ip(), process.started.elapsed());
    let address = process.addresses.enter(ip, now);
    let address = address.map_err(|TooMany { text, wait }| Box::new(too_many(&text, wait)))?;
    admit(process, grant, address)
        .map_err(|(status, text)| Box::new(error(status, ErrorCode::LimitExceeded, &text)))
}

/// Takes a seat, and a place among the connections of the key; or says what there is no room for.
fn admit(
    process: &Process,
    grant: Option<&Grant>,
    address: Option<Box<AddressPlace>>,
) -> Result<Admission, (StatusCode, String)> {
    let place = grant.map_or_else(|| Ok(Place::default()), Grant::enter);
    let place = place.map_err(|text| (StatusCode::TOO_MANY_REQUESTS, text))?;
    let seats = &process.seats;
    let (seat, seats_max, who) = match grant {
        Some(_) => (seats.take(), seats.proven_max(), ""),
        None => (
            seats.take_unproven(),
            seats.unproven_max(),
            " without a key",
        ),
    };
    let seat = seat.ok_or_else(|| {
        let text = format!("no room for another connection{who}: the limit is {seats_max}");
        (StatusCode::SERVICE_UNAVAILABLE, text)
    })?;
    Ok(Admission {
        seat,
        place,
        address,
    })
}

fn offers_deflate(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    deflate::is_offered(offers.filter_map(|offer| offer.to_str().ok()))
}

/// RFC 6455, 4.2.1: one key, and it is base64 of 16 bytes.
fn check_websocket_key(headers: &HeaderMap) -> Result<(), &'static str> {
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err("exactly one Sec-WebSocket-Key is required");
    };
    let digits = key.as_bytes().strip_suffix(b"==").unwrap_or_default();
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if digits.len() == 22 && digits.iter().all(is_digit) {
        Ok(())
    } else {
        Err("Sec-WebSocket-Key must be base64 of 16 bytes")
    }
}

/// Says in the log what to set in a proxy that asks for upgrades by HTTP/1.0. Not for each
/// request: every client behind such a proxy makes one.
fn warn_of_old_proxy(process: &Process) {
    /// When it was last said, in seconds since the start and one pause; 0 is never.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = process.started.elapsed().as_secs() + OLD_PROXY_PAUSE_SEC;
    let said = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
        (now >= last + OLD_PROXY_PAUSE_SEC).then_some(now)
    });
    if said.is_ok() {
        tracing::warn!(
            "a WebSocket was asked for by HTTP/1.0 and refused: the proxy in front must speak HTTP/1.1; \
             for nginx set proxy_http_version 1.1, proxy_set_header Upgrade $http_upgrade \
             and proxy_set_header Connection \"upgrade\""
        );
    }
}

/// The label that a client gives itself. Cut to its limit, without what could forge a log line.
pub(super) fn client_id(query: &str) -> Option<Box<str>> {
    let (_, id) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "client_id")?;
    let id: String = id.chars().filter(|c| !c.is_control()).collect();
    let cut = id.floor_char_boundary(CLIENT_ID_BYTES_MAX);
    (cut > 0).then(|| id[..cut].into())
}
