//! Answers: JSON, in one piece or streamed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, UPGRADE};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::events::Stream;
use super::listing::Listing;
use crate::protocol::codes::ErrorCode;

/// What a route gives.
pub(super) type Answer = Response<AnswerBody>;

/// The body of an answer.
pub(super) enum AnswerBody {
    /// All of it.
    Whole(Full<Bytes>),
    /// Made while it leaves.
    Listing(Listing),
    /// The events of topics, which leave by another way.
    Stream(Box<Stream>),
}

impl From<Vec<u8>> for AnswerBody {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Full::new(bytes.into()))
    }
}

impl From<&'static [u8]> for AnswerBody {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Whole(Full::new(Bytes::from_static(bytes)))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Self::Stream(_) => Poll::Ready(None),
            Self::Listing(listing) => listing
                .poll_piece(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Listing(_) | Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Listing(_) | Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// What was wrong, apart from keys.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody<'a> {
    /// In words.
    error: &'a str,
    /// One of the codes of the protocol.
    code: &'static str,
}

impl<'a> ErrorBody<'a> {
    pub(super) fn new(code: ErrorCode, error: &'a str) -> Self {
        Self {
            error,
            code: code.as_str(),
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    json_bytes(status, serde_json::to_vec(body).unwrap_or_default().into())
}

/// An answer whose body is JSON already.
pub(super) fn json_bytes(status: StatusCode, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Why a request was refused, for the log.
#[derive(Clone)]
pub(super) struct Reason(pub(super) Box<str>);

pub(super) fn error(status: StatusCode, code: ErrorCode, error: &str) -> Answer {
    let mut answer = json(status, &ErrorBody::new(code, error));
    answer.extensions_mut().insert(Reason(error.into()));
    answer
}

pub(super) fn bad_request(text: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, text)
}

pub(super) fn wrong_method(method: &Method, allowed: &'static str) -> Answer {
    let text = format!("{method} is not allowed here; allowed: {allowed}");
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest, &text);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// The answer to `OPTIONS`.
pub(super) fn options(allowed: &'static str) -> Answer {
    let mut answer = Response::new(Vec::new().into());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// The server is draining; clients come back over `reconnect_spread`.
pub(super) fn unavailable(reconnect_spread: Duration) -> Answer {
    let mut answer = error(
        StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Unavailable,
        "server is shutting down",
    );
    add_retry_after(&mut answer, reconnect_spread);
    answer
}

/// A node that has no connection to its log catches up within seconds of having one, or not soon.
const NOT_LEVEL_RETRY: Duration = Duration::from_secs(1);

/// The node has still to read what the others know, or cannot reach where it is kept.
pub(super) fn not_level(text: &str) -> Answer {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = error(status, ErrorCode::Unavailable, text);
    add_retry_after(&mut answer, NOT_LEVEL_RETRY);
    answer
}

/// It came too soon, and is worth another try after `wait`.
pub(super) fn too_many(text: &str, wait: Duration) -> Answer {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let mut answer = error(status, ErrorCode::LimitExceeded, text);
    add_retry_after(&mut answer, wait);
    answer
}

/// Says in whole seconds when to come back.
pub(super) fn add_retry_after(answer: &mut Answer, wait: Duration) {
    let seconds = wait.as_nanos().div_ceil(1_000_000_000).max(1);
    let seconds = HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX));
    answer.headers_mut().insert(RETRY_AFTER, seconds);
}

/// The answer to a request for a WebSocket that cannot become one.
pub(super) fn upgrade_required(text: &str) -> Answer {
    let mut answer = error(StatusCode::UPGRADE_REQUIRED, ErrorCode::BadRequest, text);
    let headers = answer.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    answer
}
