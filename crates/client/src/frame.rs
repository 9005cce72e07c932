//! Frames of the broker, as far as a client has to understand them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::event::Position;

/// A server that wants to be left alone for longer is asked again then. Without a bound its number could be
/// one with which no clock can be wound.
pub(crate) const PAUSE_MAX: Duration = Duration::from_hours(1);

/// Any frame; what is not known is ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) request_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) topic: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(crate) message: Option<Message<'a>>,
    #[serde(borrow)]
    pub(crate) ts: Option<Cow<'a, str>>,
    pub(crate) seq: Option<u64>,
    #[serde(default)]
    pub(crate) skipped: u64,
    #[serde(borrow)]
    pub(crate) epoch: Option<Cow<'a, str>>,
    pub(crate) matched: Option<u64>,
    #[serde(default)]
    pub(crate) duplicate: bool,
    pub(crate) recovered: Option<bool>,
    #[serde(borrow)]
    pub(crate) positions: Option<BTreeMap<Cow<'a, str>, At<'a>>>,
    #[serde(borrow)]
    pub(crate) lost: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow)]
    pub(crate) msg: Option<Cow<'a, str>>,
    pub(crate) retry_after_ms: Option<u64>,
    #[serde(borrow)]
    pub(crate) error: Option<Refusal<'a>>,
}

/// The message of an event.
#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow)]
    pub(crate) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) payload: Option<&'a RawValue>,
}

/// Where a topic is.
#[derive(Debug, Deserialize)]
pub(crate) struct At<'a> {
    #[serde(borrow)]
    pub(crate) epoch: Cow<'a, str>,
    pub(crate) seq: u64,
}

impl At<'_> {
    pub(crate) fn position(&self) -> Position {
        Position {
            epoch: (*self.epoch).into(),
            seq: self.seq,
        }
    }
}

/// What was wrong.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal<'a> {
    #[serde(borrow)]
    pub(crate) code: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) message: Cow<'a, str>,
}

impl<'a> Frame<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// When the broker wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let pause = self.retry_after_ms.map(Duration::from_millis);
        pause.map(|pause| pause.min(PAUSE_MAX))
    }

    /// The error of an `error` frame.
    pub(crate) fn error(&self) -> Error {
        let (code, message) = match &self.error {
            Some(error) => (error.code.to_string(), error.message.to_string()),
            None => ("INTERNAL".to_owned(), String::new()),
        };
        Error {
            retry_after: self.retry_after(),
            ..Error::new(code, message)
        }
    }
}

/// The body of a refusal over HTTP, which has one of two forms.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Body {
    /// As in a frame.
    Nested {
        /// What was wrong.
        error: Nested,
    },
    /// Its text first.
    Flat {
        /// In words.
        error: String,
        /// Which.
        code: String,
    },
}

/// See [`Body`].
#[derive(Debug, Deserialize)]
pub(crate) struct Nested {
    code: String,
    #[serde(default)]
    message: String,
}

impl Body {
    pub(crate) fn error(self) -> Error {
        match self {
            Self::Nested { error } => Error::new(error.code, error.message),
            Self::Flat { error, code } => Error::new(code, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_a_server_is_more_than_a_clock_can_take() {
        let pause = |number: &str| {
            let text = format!(r#"{{"type":"error","retry_after_ms":{number}}}"#);
            Frame::parse(&text).expect("a frame").error().retry_after
        };
        assert_eq!(pause("20"), Some(Duration::from_millis(20)));
        assert_eq!(pause(&u64::MAX.to_string()), Some(PAUSE_MAX));
        assert_eq!(pause("null"), None);
    }
}
