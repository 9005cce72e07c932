//! Messages in the body of an HTTP request: one object, or an array of them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::fields;

/// Messages in one body at most.
pub const POST_MESSAGES_MAX: usize = 1000;

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct Post {
    /// A checked UUID, made here where there was none.
    pub id: Box<str>,
    /// JSON, byte for byte as it was sent.
    pub payload: Box<str>,
    /// It is not to be published if one with this id is kept.
    pub once: bool,
}

/// What is in a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Posts {
    /// At least one.
    pub messages: Vec<Post>,
    /// They came as an array, and are answered as one.
    pub is_array: bool,
}

/// Why a body is refused, and nothing of it published.
#[derive(Debug, PartialEq, Eq)]
pub struct BadPost {
    /// Which message of an array it is.
    pub index: Option<usize>,
    /// In words for the client.
    pub text: Cow<'static, str>,
    /// It is longer than a message may be.
    pub is_too_long: bool,
}

/// What a message may be.
#[derive(Debug, Clone, Copy)]
pub struct PostLimits {
    /// Bytes of a message.
    pub bytes_max: usize,
    /// Levels of objects and arrays in a payload.
    pub depth_max: usize,
}

/// Fields of a message; unknown ones are ignored.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    /// `null` is a payload like any other.
    #[serde(borrow, default, deserialize_with = "given")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default)]
    once: Option<&'a RawValue>,
}

fn given<'de, D: Deserializer<'de>>(json: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(json).map(Some)
}

/// Reads a body.
pub fn parse(body: &str, limits: PostLimits) -> Result<Posts, BadPost> {
    let bad = |text: &str| BadPost {
        index: None,
        text: text.to_owned().into(),
        is_too_long: false,
    };
    let syntax = |error: serde_json::Error| bad(&format!("the body is not JSON: {error}"));
    if !body.trim_start().starts_with('[') {
        let item: &RawValue = serde_json::from_str(body).map_err(syntax)?;
        let message = message(item.get(), None, limits)?;
        return Ok(Posts {
            messages: vec![message],
            is_array: false,
        });
    }
    let items: Vec<&RawValue> = serde_json::from_str(body).map_err(syntax)?;
    if !(1..=POST_MESSAGES_MAX).contains(&items.len()) {
        let text = format!(
            "{} messages: 1 to {POST_MESSAGES_MAX} are allowed",
            items.len()
        );
        return Err(bad(&text));
    }
    let items = items.iter().enumerate();
    let messages = items.map(|(index, item)| message(item.get(), Some(index), limits));
    Ok(Posts {
        messages: messages.collect::<Result<_, _>>()?,
        is_array: true,
    })
}

fn message(json: &str, index: Option<usize>, limits: PostLimits) -> Result<Post, BadPost> {
    let bad = |text: Cow<'static, str>| BadPost {
        index,
        text,
        is_too_long: false,
    };
    if json.len() > limits.bytes_max {
        let text = format!(
            "a message of {} bytes: MAX_MESSAGE_SIZE is {}",
            json.len(),
            limits.bytes_max
        );
        return Err(BadPost {
            is_too_long: true,
            ..bad(text.into())
        });
    }
    if !json.starts_with('{') {
        return Err(bad("a message must be an object".into()));
    }
    let item: Item<'_> = serde_json::from_str(json)
        .map_err(|error| bad(format!("not a message: {error}").into()))?;
    let id = match item.id {
        None => Uuid::new_v4().to_string(),
        Some(id) => {
            let id = fields::string(id.get()).ok_or_else(|| bad("id must be a string".into()))?;
            if Uuid::try_parse(&id).is_err() {
                return Err(bad("id must be a valid UUID".into()));
            }
            id.into_owned()
        }
    };
    let payload = item
        .payload
        .ok_or_else(|| bad("payload is required".into()))?;
    if fields::nests_deeper(payload.get(), limits.depth_max) {
        let text = format!(
            "nesting is too deep: at most {} levels are allowed in a payload",
            limits.depth_max
        );
        return Err(bad(text.into()));
    }
    let once = match item.once.map(RawValue::get) {
        None | Some("false" | "null") => false,
        Some("true") => true,
        Some(_) => return Err(bad("once must be true or false".into())),
    };
    Ok(Post {
        id: id.into(),
        payload: payload.get().into(),
        once,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "550e8400-e29b-41d4-a716-446655440000";
    const LIMITS: PostLimits = PostLimits {
        bytes_max: 200,
        depth_max: 3,
    };

    #[test]
    fn one_message_or_an_array_of_them() {
        let one = parse(r#" {"payload": {"a" :1} , "x":[]}"#, LIMITS).expect("a message");
        assert!(!one.is_array && one.messages.len() == 1);
        assert_eq!(&*one.messages[0].payload, r#"{"a" :1}"#);
        assert!(Uuid::try_parse(&one.messages[0].id).is_ok() && !one.messages[0].once);
        let text = format!(r#"[{{"payload":null}},{{"id":"{ID}","once":true,"payload":[1]}}]"#);
        let two = parse(&text, LIMITS).expect("two messages");
        assert!(two.is_array);
        assert_eq!(&*two.messages[0].payload, "null");
        let wanted = Post {
            id: ID.into(),
            payload: "[1]".into(),
            once: true,
        };
        assert_eq!(two.messages[1], wanted);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_place() {
        let many = format!("[{}]", vec![r#"{"payload":1}"#; 1001].join(","));
        let long = format!(r#"[{{"payload":1}},{{"payload":"{}"}}]"#, "x".repeat(200));
        for (body, index, words) in [
            ("", None, "the body is not JSON"),
            ("[]", None, "0 messages: 1 to 1000"),
            (many.as_str(), None, "1001 messages"),
            ("7", None, "a message must be an object"),
            (r#"{"id":null}"#, None, "payload is required"),
            (r#"[{"payload":1},{}]"#, Some(1), "payload is required"),
            ("[[1]]", Some(0), "a message must be an object"),
            (r#"[{"payload":1,"id":"x"}]"#, Some(0), "UUID"),
            (r#"[{"payload":1,"id":7}]"#, Some(0), "id must be a string"),
            (
                r#"{"payload":1,"once":1}"#,
                None,
                "once must be true or false",
            ),
            (r#"{"payload":[[[[1]]]]}"#, None, "nesting is too deep"),
            (long.as_str(), Some(1), "MAX_MESSAGE_SIZE is 200"),
        ] {
            let bad = parse(body, LIMITS).expect_err("it is wrong");
            assert!(bad.text.contains(words), "{body}: {}", bad.text);
            assert_eq!(bad.index, index, "{body}");
            assert_eq!(bad.is_too_long, words.starts_with("MAX"), "{body}");
        }
    }
}
