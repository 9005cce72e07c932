//! Names of topics, and patterns that stand for several of them.

use crate::error::Error;

const NAME_BYTES_MAX: usize = 255;

/// Whether `name` is a pattern, and not a topic.
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '>'])
}

/// Whether `pattern` stands for `topic`: `*` for one token between dots, `>` at the end for one or more.
#[must_use]
pub fn matches(pattern: &str, topic: &str) -> bool {
    let (mut wanted, mut tokens) = (pattern.split('.'), topic.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return wanted.next().is_none(),
            (Some(want), Some(token)) if want == "*" || want == token => {}
            _ => return false,
        }
    }
}

/// Refuses here what the broker would refuse, so that a slip shows where it was made.
pub(crate) fn check_name(name: &str, may_be_pattern: bool) -> Result<(), Error> {
    let bad = |text: String| Err(Error::new("BAD_REQUEST", text));
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let length = name.len();
        return bad(format!(
            "a topic has 1 to {NAME_BYTES_MAX} bytes, not {length}"
        ));
    }
    if name.contains(char::is_control) {
        return bad(format!("a topic has no control characters: {name:?}"));
    }
    if !is_pattern(name) {
        return Ok(());
    }
    if !may_be_pattern {
        return bad(format!(
            "messages go to a topic, not to a pattern: '{name}'"
        ));
    }
    let mut tokens = name.split('.').peekable();
    while let Some(token) = tokens.next() {
        let is_last = tokens.peek().is_none();
        if is_pattern(token) && token != "*" && !(token == ">" && is_last) {
            return bad(format!(
                "'*' is a token of its own, and '>' the last one: '{name}'"
            ));
        }
    }
    Ok(())
}
