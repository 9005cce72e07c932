//! Messages in the body of an HTTP request: one object, or an array of them.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::depth::nests_deeper;
use super::{fields, json};

/// Messages in one body at most.
pub const POST_MESSAGES_MAX: usize = 1000;

/// Bytes that are read in one go.
const STEP_BYTES: usize = 64 * 1024;

/// What a message costs beside its bytes, in bytes.
const STEP_COST: usize = 64;

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

/// A body that is being read, a part at a time: all of a large one takes milliseconds, and whoever
/// reads it has others to serve. First its messages are found, then each is looked at, so a body
/// that is not JSON is refused as that.
#[derive(Debug)]
pub struct Reading<'a> {
    limits: PostLimits,
    is_array: bool,
    /// Where the next message is to be found; `None` behind the last.
    rest: Option<&'a str>,
    /// How many were found; of too many the first are kept.
    found: usize,
    items: Vec<&'a str>,
    messages: Vec<Post>,
}

impl<'a> Reading<'a> {
    /// Nothing is read yet.
    pub fn new(body: &'a str, limits: PostLimits) -> Self {
        let body = skip_white(body);
        let list = body.strip_prefix('[');
        Self {
            limits,
            is_array: list.is_some(),
            rest: Some(list.unwrap_or(body)),
            found: 0,
            items: Vec::new(),
            messages: Vec::new(),
        }
    }

    /// Reads on, some tens of microseconds long. `None` if there is more to read.
    pub fn go_on(&mut self) -> Option<Result<Posts, BadPost>> {
        let mut bytes = 0;
        while bytes < STEP_BYTES {
            let step = match (self.rest, self.items.get(self.messages.len())) {
                (Some(rest), _) => self.find(rest),
                (None, Some(item)) => self.look_at(item),
                (None, None) => {
                    return Some(Ok(Posts {
                        messages: std::mem::take(&mut self.messages),
                        is_array: self.is_array,
                    }));
                }
            };
            match step {
                Ok(more) => bytes += more + STEP_COST,
                Err(bad) => return Some(Err(bad)),
            }
        }
        None
    }

    /// Finds the message at the start of `rest`. Returns how far it went.
    fn find(&mut self, rest: &'a str) -> Result<usize, BadPost> {
        let before = rest.len();
        let rest = skip_white(rest);
        if self.is_array && self.found == 0 && rest.starts_with(']') {
            return self.end_list(&rest[1..], before);
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        let item = match values.next() {
            Some(Ok(item)) => item.get(),
            Some(Err(error)) => return Err(self.syntax(&json::cause(&error))),
            None => return Err(self.syntax("it ends where a message should be")),
        };
        let rest = skip_white(rest.get(values.byte_offset()..).unwrap_or_default());
        self.found += 1;
        if self.found <= POST_MESSAGES_MAX {
            self.items.push(item);
        }
        if !self.is_array {
            return self.end(rest, before);
        }
        match rest.as_bytes().first() {
            Some(b',') => {
                self.rest = Some(&rest[1..]);
                Ok(before - rest.len())
            }
            Some(b']') => self.end_list(&rest[1..], before),
            _ => Err(self.syntax("a , or ] should follow")),
        }
    }

    fn end_list(&mut self, rest: &'a str, before: usize) -> Result<usize, BadPost> {
        let read = self.end(rest, before)?;
        if (1..=POST_MESSAGES_MAX).contains(&self.found) {
            return Ok(read);
        }
        let found = self.found;
        let text = format!("{found} messages: 1 to {POST_MESSAGES_MAX} are allowed");
        Err(BadPost::new(None, text))
    }

    fn end(&mut self, rest: &'a str, before: usize) -> Result<usize, BadPost> {
        if !skip_white(rest).is_empty() {
            return Err(self.syntax("something stands behind its end"));
        }
        self.rest = None;
        Ok(before)
    }

    fn look_at(&mut self, item: &str) -> Result<usize, BadPost> {
        let index = self.is_array.then_some(self.messages.len());
        self.messages.push(message(item, index, self.limits)?);
        Ok(item.len())
    }

    fn syntax(&self, cause: &str) -> BadPost {
        let index = self.is_array.then_some(self.found);
        BadPost::new(index, format!("the body is not JSON: {cause}"))
    }
}

/// What JSON takes for white space.
fn skip_white(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

impl BadPost {
    fn new(index: Option<usize>, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            index,
            text: text.into(),
            is_too_long: false,
        }
    }
}

fn message(json: &str, index: Option<usize>, limits: PostLimits) -> Result<Post, BadPost> {
    let bad = |text: Cow<'static, str>| BadPost::new(index, text);
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
    if nests_deeper(payload.get(), limits.depth_max) {
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

    fn parse(body: &str, limits: PostLimits) -> Result<Posts, BadPost> {
        let mut reading = Reading::new(body, limits);
        loop {
            if let Some(read) = reading.go_on() {
                return read;
            }
        }
    }

    #[test]
    fn a_large_body_is_read_in_many_steps_and_what_is_too_many_is_only_counted() {
        let ones = format!("[{}1]", "1,".repeat(300_000));
        let mut reading = Reading::new(&ones, LIMITS);
        let mut steps = 1;
        let read = loop {
            match reading.go_on() {
                Some(read) => break read,
                None => steps += 1,
            }
        };
        let bad = read.expect_err("too many");
        assert_eq!(bad.text, "300001 messages: 1 to 1000 are allowed");
        assert!(steps > 100, "{steps}");
        assert_eq!(reading.items.len(), POST_MESSAGES_MAX);
    }

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
            ("7 8", None, "something stands behind its end"),
            ("[7] 8", Some(1), "something stands behind its end"),
            ("[7", Some(1), "a , or ] should follow"),
            ("[7 8]", Some(1), "a , or ] should follow"),
            ("[7,", Some(1), "it ends where a message should be"),
            ("[7,]", Some(1), "the body is not JSON: expected value"),
            ("[{},{]", Some(1), "the body is not JSON: "),
            ("[,7]", Some(0), "the body is not JSON: expected value"),
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
