//! Names that clients choose, checked once at the edge.
//!
//! A topic name reaches the broker only as a [`TopicName`], whether it came over a socket or in a path. A request id is never decoded for use: it is checked, and its JSON is echoed as it was sent.

use std::borrow::Cow;
use std::ops::Deref;

use serde_json::value::RawValue;
use thiserror::Error;

use super::fields;
use crate::pattern::TOPIC_NAME_BYTES_MAX;

/// The longest request id, in bytes of UTF-8 after its escapes are decoded.
pub const REQUEST_ID_BYTES_MAX: usize = 1024;

/// A topic name: 1 to 255 bytes, no control characters, no `*` and no `>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicName<'a>(Cow<'a, str>);

impl<'a> TopicName<'a> {
    /// Checks what a client has sent.
    pub fn parse(name: impl Into<Cow<'a, str>>) -> Result<Self, TopicNameError> {
        let name = name.into();
        check(&name)?;
        Ok(Self(name))
    }

    /// Takes a name that was one before.
    pub fn trusted(name: &'a str) -> Self {
        debug_assert_eq!(check(name), Ok(()));
        Self(name.into())
    }
}

impl Deref for TopicName<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<TopicName<'_>> for Box<str> {
    fn from(name: TopicName<'_>) -> Self {
        name.0.into()
    }
}

fn check(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(TopicNameError::TooLong { bytes: name.len() });
    }
    for character in name.chars() {
        if character.is_control() {
            return Err(TopicNameError::ControlCharacter);
        }
        if matches!(character, '*' | '>') {
            return Err(TopicNameError::Wildcard(character));
        }
    }
    Ok(())
}

/// Why a topic name is refused, in words for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicNameError {
    /// The name has no bytes.
    #[error("topic name is empty: 1 to {TOPIC_NAME_BYTES_MAX} bytes are allowed")]
    Empty,
    /// The name has more than [`TOPIC_NAME_BYTES_MAX`] bytes.
    #[error("topic name has {bytes} bytes: at most {TOPIC_NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// The length that was sent.
        bytes: usize,
    },
    /// The name holds a control character (Unicode category Cc).
    #[error("topic name holds a control character: only printable characters are allowed")]
    ControlCharacter,
    /// The name holds `*` or `>`.
    #[error(
        "topic name holds '{0}': all characters but '*', '>' and control characters are allowed"
    )]
    Wildcard(char),
}

/// A request id as it was sent: a JSON string with its quotes and escapes, echoed verbatim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId<'a>(&'a str);

impl<'a> RequestId<'a> {
    /// Checks that `json` is one JSON string of at most 1,024 bytes, counted after decoding.
    ///
    /// A lone surrogate (`"\ud800"`) is refused: strict parsers could not read the echo.
    pub fn from_json(json: &'a str) -> Result<Self, RequestIdError> {
        let value: &RawValue =
            serde_json::from_str(json).map_err(|_| RequestIdError::NotAString)?;
        Self::from_value(value.get())
    }

    /// The same for text that is known to be one JSON value without white space around it.
    pub(super) fn from_value(json: &'a str) -> Result<Self, RequestIdError> {
        let decoded = fields::string(json).ok_or(RequestIdError::NotAString)?;
        if decoded.len() > REQUEST_ID_BYTES_MAX {
            return Err(RequestIdError::TooLong {
                bytes: decoded.len(),
            });
        }
        Ok(Self(json))
    }

    /// Takes the [`as_json`](Self::as_json) of an earlier request id without checking it again.
    pub fn trusted(json: &'a str) -> Self {
        debug_assert_eq!(Self::from_json(json), Ok(Self(json)));
        Self(json)
    }

    /// The JSON string, quotes included.
    pub fn as_json(&self) -> &'a str {
        self.0
    }
}

/// Why a request id is refused, in words for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RequestIdError {
    /// It is not a JSON string, or one that holds half of a surrogate pair.
    #[error("request_id must be a string")]
    NotAString,
    /// It has more than [`REQUEST_ID_BYTES_MAX`] bytes.
    #[error("request_id has {bytes} bytes: at most {REQUEST_ID_BYTES_MAX} are allowed")]
    TooLong {
        /// The decoded length that was sent.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_of_1_to_255_bytes_pass() {
        let longest = "é".repeat(127) + "x";
        for name in ["o", "orders", "a b/ü.{}\"\\", "日本", longest.as_str()] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn refused_topic_names_say_what_is_allowed() {
        let too_long = "é".repeat(128);
        for (name, error, words) in [
            ("", TopicNameError::Empty, "1 to 255 bytes"),
            (
                &too_long,
                TopicNameError::TooLong { bytes: 256 },
                "has 256 bytes: at most 255",
            ),
            ("a\nb", TopicNameError::ControlCharacter, "control"),
            ("a\u{7f}", TopicNameError::ControlCharacter, "printable"),
            ("a\u{85}", TopicNameError::ControlCharacter, "printable"),
            ("a.*", TopicNameError::Wildcard('*'), "holds '*'"),
            ("a.>", TopicNameError::Wildcard('>'), "holds '>'"),
        ] {
            assert_eq!(check(name), Err(error), "{name:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn request_ids_keep_their_spelling() {
        for json in [
            r#""""#,
            r#""r-1""#,
            r#""a\u0041\n\"é""#,
            r#""\ud83d\ude00""#,
        ] {
            let id = RequestId::from_json(json).expect("a valid id");
            assert_eq!(id.as_json(), json);
            assert_eq!(RequestId::trusted(id.as_json()), id);
        }
    }

    #[test]
    fn request_ids_are_bounded_after_decoding() {
        let plain = |count: usize| format!("\"{}\"", "x".repeat(count));
        let escaped = |count: usize| format!("\"{}\"", r"\u0041".repeat(count));
        for json in [plain(1024), escaped(1024)] {
            assert!(RequestId::from_json(&json).is_ok());
        }
        for json in [plain(1025), escaped(1025)] {
            assert_eq!(
                RequestId::from_json(&json),
                Err(RequestIdError::TooLong { bytes: 1025 })
            );
        }
    }

    #[test]
    fn request_ids_that_are_not_strings_are_refused() {
        for json in [
            "",
            "1",
            "null",
            "[]",
            "x",
            "\"",
            "\"a",
            "\"a\"b\"",
            r#""\x""#,
            r#""\ud800""#,
            "\"\n\"",
        ] {
            assert_eq!(
                RequestId::from_json(json),
                Err(RequestIdError::NotAString),
                "{json}"
            );
        }
    }
}
