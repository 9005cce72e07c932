//! What can go wrong, for callers.

use std::borrow::Cow;
use std::time::Duration;

use crate::frame::Body;

/// A refusal of the broker, or of the client itself.
///
/// The codes of the broker are those of its protocol, such as `TOPIC_NOT_FOUND`. The client's own:
///
/// | code | |
/// |---|---|
/// | `QUEUE_FULL` | no connection, and too much waits for one |
/// | `CONNECTION_LOST` | a publish without `once`: nobody knows whether it happened; or none is made again |
/// | `MESSAGE_TOO_LARGE` | longer than `message_bytes_max`, or than the broker takes |
/// | `TIMEOUT` | no connection within `open_timeout`; the message says what the last attempt met |
/// | `CLOSED` | the client was closed |
/// | `BAD_URL` | a URL that is none of a broker |
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    /// Which one.
    pub code: Cow<'static, str>,
    /// In words.
    pub message: String,
    /// When the same may be taken, where the broker has said so.
    pub retry_after: Option<Duration>,
}

impl Error {
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            retry_after: None,
        }
    }

    /// What the broker says in the body of a refusal over HTTP. None if it is not the broker's.
    #[must_use]
    pub fn of_http(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().map(Body::error)
    }

    /// Whether it is of the client itself, and not the broker's.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let own = [
            "QUEUE_FULL",
            "CONNECTION_LOST",
            "TIMEOUT",
            "CLOSED",
            "BAD_URL",
        ];
        own.contains(&&*self.code)
    }

    /// Whether it says that the key or token is wrong, or missing.
    #[must_use]
    pub fn is_about_the_key(&self) -> bool {
        matches!(
            &*self.code,
            "INVALID_API_KEY" | "INVALID_TOKEN" | "MISSING_API_KEY"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_refusal_over_http_are_understood_and_foreign_ones_told_from_them() {
        let text = |body: &str| Error::of_http(body.as_bytes()).map(|error| error.to_string());
        assert_eq!(
            text(r#"{"error":"topic already exists","code":"TOPIC_EXISTS"}"#).as_deref(),
            Some("TOPIC_EXISTS: topic already exists")
        );
        assert_eq!(
            text(r#"{"error":{"code":"INVALID_API_KEY","message":"Invalid"}}"#).as_deref(),
            Some("INVALID_API_KEY: Invalid")
        );
        assert_eq!(text("<html>"), None);
    }
}
