//! Answers to what is no request: hyper gives them without a word, here they get one.
//!
//! hyper writes such an answer by itself, with an empty body. [`Patient`](super::patience::Patient)
//! knows it by that and holds it back; when hyper has given the socket up, [`refuse`] writes ours.

use std::io;
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::answer::ErrorBody;
use super::patience::within;
use crate::protocol::codes::ErrorCode;
use crate::wire::Wire;

/// Bytes that a client may send behind its last answer. Beyond it gets a reset.
const LINGER_BYTES_MAX: usize = 16 << 20;

/// The status of an answer that hyper gave by itself, if these bytes begin with one. None of ours
/// has one of these statuses and an empty body.
pub(super) fn automatic(bytes: &[u8]) -> Option<StatusCode> {
    let rest = bytes.strip_prefix(b"HTTP/1.")?;
    let status = StatusCode::from_bytes(rest.get(2..5)?).ok()?;
    let is_refusal = matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::URI_TOO_LONG
            | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
    let empty = b"\r\ncontent-length: 0\r\n";
    let is_empty = || bytes.windows(empty.len()).any(|line| line == empty);
    (is_refusal && is_empty()).then_some(status)
}

/// What is to be said when hyper has given up: to `refused`, the status it would have sent, or to
/// the error it ended with. `unread` is what it had of the head.
pub(super) fn words(
    refused: Option<StatusCode>,
    error: Option<&hyper::Error>,
    is_mid_head: bool,
    unread: &[u8],
    head_bytes_max: usize,
) -> Option<(StatusCode, String)> {
    let status = match refused {
        // Where not even the first line ends, it is the path that is too long.
        Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) if !unread.contains(&b'\n') => {
            StatusCode::URI_TOO_LONG
        }
        Some(status) => status,
        None if error?.is_parse_version_h2() => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        None if is_mid_head && is_timeout(error?) => StatusCode::REQUEST_TIMEOUT,
        None if is_mid_head && error?.is_incomplete_message() => StatusCode::BAD_REQUEST,
        None => return None,
    };
    let text = match status {
        StatusCode::URI_TOO_LONG => {
            format!("the path is over the limit of {head_bytes_max} bytes (HTTP_HEAD_MAX)")
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => format!(
            "the head of the request is over the limit of {head_bytes_max} bytes (HTTP_HEAD_MAX) or of 100 headers"
        ),
        StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
            "HTTP/2 is not spoken here; use HTTP/1.1".to_owned()
        }
        StatusCode::REQUEST_TIMEOUT => {
            "the head of the request did not come within READ_TIMEOUT_SEC".to_owned()
        }
        _ => match error {
            Some(error) => format!("this is not an HTTP/1.1 request: {error}"),
            None => "this is not an HTTP/1.1 request".to_owned(),
        },
    };
    Some((status, text))
}

/// Whether the socket's patience has ended it.
fn is_timeout(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Writes an answer by hand.
pub(in crate::server) async fn refuse(
    socket: &mut Wire,
    status: StatusCode,
    text: &str,
    timeout: Duration,
) {
    let code = match status {
        StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ErrorCode::MessageTooLarge
        }
        _ => ErrorCode::BadRequest,
    };
    let body = ErrorBody::new(code, text).to_json();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let answer = [head.as_bytes(), &body].concat();
    let written = within(timeout, socket.write_all(&answer)).await;
    if matches!(written, Some(Ok(()))) {
        socket.shutdown().await.ok();
    }
}

/// Reads on behind the last answer, until the client closes: to close before it would turn what
/// still comes into a reset, which destroys the answer on its way.
pub(in crate::server) async fn linger(socket: &TcpStream, timeout: Duration) {
    let discarding = async {
        let mut left = LINGER_BYTES_MAX;
        while left > 0 && socket.readable().await.is_ok() {
            match discard(socket) {
                Ok(0) => return,
                Ok(bytes) => left = left.saturating_sub(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(timeout, discarding).await.ok();
}

/// A function of its own, so that the buffer is no part of any connection's future.
fn discard(socket: &TcpStream) -> io::Result<usize> {
    socket.try_read(&mut [0; 16 * 1024])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_refusal_is_hypers_own() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(
            automatic(own),
            Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        );
        let old = b"HTTP/1.0 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(automatic(old), Some(StatusCode::BAD_REQUEST));
        for ours in [
            &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 30\r\n\r\n"[..],
            b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1",
            b"HTTP/1.1 4",
            b"{}",
            b"",
        ] {
            assert_eq!(automatic(ours), None);
        }
    }
}
