//! Patterns of topic names: `orders.*`, `prices.>`, or one name as it stands.
//!
//! A name is split at its dots into tokens, which may be empty. `*` stands for exactly one token,
//! `>` as the last one for one or more. Everything else stands for itself. A pattern is checked
//! once, when it is parsed.

use thiserror::Error;

/// The longest topic name, and the longest pattern, in bytes of UTF-8.
pub const TOPIC_NAME_BYTES_MAX: usize = 255;

/// Which topics are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

/// Whether `text` is meant as a pattern: no topic has a name with `*` or `>`.
pub fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '>'])
}

impl Pattern {
    /// Checks a pattern: 1 to 255 bytes, no control characters, wildcards only as whole tokens.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() || text.len() > TOPIC_NAME_BYTES_MAX {
            return Err(PatternError::Length);
        }
        if text.chars().any(char::is_control) {
            return Err(PatternError::ControlCharacter);
        }
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            let is_last = tokens.peek().is_none();
            match token {
                "*" => {}
                ">" if is_last => {}
                _ if token.contains('*') => return Err(PatternError::Star),
                _ if token.contains('>') => return Err(PatternError::Rest),
                _ => {}
            }
        }
        Ok(Self(text.into()))
    }

    /// Whether it means `topic`.
    pub fn matches(&self, topic: &str) -> bool {
        let mut tokens = topic.split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// Whether it means every topic that `other` means.
    pub fn covers(&self, other: &Self) -> bool {
        let mut tokens = other.0.split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                // What stands for several tokens has no place where there is one.
                (_, Some(">") | None) => return false,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// What every topic that it means begins with.
    pub fn prefix(&self) -> &str {
        let first = self.0.find(['*', '>']).unwrap_or(self.0.len());
        self.0.get(..first).unwrap_or_default()
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a pattern is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Empty, or longer than any topic's name.
    #[error("a pattern has 1 to {TOPIC_NAME_BYTES_MAX} bytes")]
    Length,
    /// It holds a control character.
    #[error("a pattern holds no control characters")]
    ControlCharacter,
    /// A `*` beside other characters.
    #[error("'*' stands for one whole token between dots, as in 'orders.*'")]
    Star,
    /// A `>` beside other characters, or not at the end.
    #[error("'>' stands alone behind the last dot, as in 'orders.>'")]
    Rest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_token_by_token() {
        for (pattern, meant, others) in [
            ("orders", &["orders"][..], &["order", "orders.eu", ""][..]),
            (
                "orders.*",
                &["orders.eu", "orders."],
                &["orders", "orders.eu.de", "x.eu"],
            ),
            (
                "*.eu",
                &["orders.eu", ".eu"],
                &["eu", "orders.us", "a.b.eu"],
            ),
            (
                "orders.>",
                &["orders.eu", "orders.eu.de", "orders."],
                &["orders", "ordersx.eu"],
            ),
            (">", &["a", "a.b", "", "."], &[]),
            ("*", &["a", ""], &["a.b", "."]),
            ("a.*.c", &["a.b.c", "a..c"], &["a.c", "a.b.c.d", "a.b.b.c"]),
            ("a..b", &["a..b"], &["a.b", "a.x.b"]),
            ("*.>", &["a.b", "a.b.c"], &["a"]),
        ] {
            let parsed = Pattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.as_str(), pattern);
            for topic in meant {
                assert!(parsed.matches(topic), "{pattern} {topic:?}");
            }
            for topic in others {
                assert!(!parsed.matches(topic), "{pattern} {topic:?}");
            }
        }
    }

    #[test]
    fn one_pattern_lies_inside_another() {
        for (outer, inner, others) in [
            (
                "orders.*",
                &["orders.*", "orders.eu"][..],
                &["orders.>", "*.*", "orders.*.*", "orders"][..],
            ),
            (
                "orders.>",
                &["orders.>", "orders.*", "orders.*.>", "orders.a.b"],
                &[">", "*.>", "orders"],
            ),
            (">", &[">", "*", "a", "a.>", "*.*"], &[]),
            ("*", &["*", "a"], &[">", "*.*", "a.b"]),
            ("*.>", &["*.>", "a.>", "*.*", "a.*.b"], &[">", "*", "a"]),
            ("a.*.c", &["a.*.c", "a.b.c"], &["a.>", "a.*.*", "*.*.c"]),
            ("a.b", &["a.b"], &["a.*", "a.>", "*.b"]),
        ] {
            let pattern = |text: &str| Pattern::parse(text).expect("a pattern");
            for text in inner {
                assert!(pattern(outer).covers(&pattern(text)), "{outer} {text}");
            }
            for text in others {
                assert!(!pattern(outer).covers(&pattern(text)), "{outer} {text}");
            }
        }
    }

    #[test]
    fn a_pattern_begins_with_what_its_topics_begin_with() {
        for (text, prefix) in [
            ("orders.*", "orders."),
            ("a.b.>", "a.b."),
            ("*.eu", ""),
            (">", ""),
            ("a.b", "a.b"),
        ] {
            assert_eq!(
                Pattern::parse(text).map(|of| of.prefix().to_owned()),
                Ok(prefix.into())
            );
            assert_eq!(has_wildcards(text), text != "a.b");
        }
    }

    /// What all clients of the contract agree on.
    #[test]
    fn the_shared_vectors_hold() {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../tests/contract/patterns.json")).expect("JSON");
        let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
        for vector in file["vectors"].as_array().expect("vectors") {
            let pattern = Pattern::parse(&text(&vector["pattern"])).expect("a pattern");
            let is_meant = pattern.matches(&text(&vector["name"]));
            assert_eq!(vector["matches"], is_meant, "{vector}");
        }
        for invalid in file["invalid"].as_array().expect("names") {
            assert!(Pattern::parse(&text(invalid)).is_err(), "{invalid}");
        }
    }

    #[test]
    fn wildcards_stand_for_whole_tokens() {
        let long = "a".repeat(256);
        for (text, error) in [
            ("", PatternError::Length),
            (&long, PatternError::Length),
            ("a\nb", PatternError::ControlCharacter),
            ("a*", PatternError::Star),
            ("a.b*.c", PatternError::Star),
            ("**", PatternError::Star),
            (">.a", PatternError::Rest),
            ("a.>.b", PatternError::Rest),
            ("a>", PatternError::Rest),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text:?}");
        }
    }
}
