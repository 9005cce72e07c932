//! `API_KEYS_FILE`: TOML, one `[[key]]` for each key.
//!
//! An error names the line and the field, and never quotes a value: it could be a key that somebody
//! put into the wrong place.

use std::ops::Range;

use ahash::AHashSet;
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;
use toml::value::Datetime;

use super::grant::Rights;
use super::key::Digest;
use crate::pattern::Pattern;

/// The longest name of a key, in bytes.
pub const KEY_NAME_BYTES_MAX: usize = 128;

/// What one `[[key]]` says.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// In logs, and in what clients are told.
    pub name: String,
    /// SHA-256 of the key.
    pub digest: Digest,
    /// What it may do.
    pub rights: Rights,
}

/// Why a file is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct KeyFileError {
    line: usize,
    what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    key: Vec<Spanned<Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Spanned<String>,
    sha256: Spanned<String>,
    #[serde(default)]
    subscribe: Vec<Spanned<String>>,
    #[serde(default)]
    publish: Vec<Spanned<String>>,
    #[serde(default)]
    manage: Vec<Spanned<String>>,
    #[serde(default)]
    observe: bool,
    #[serde(default)]
    admin: bool,
    expires: Option<Spanned<Datetime>>,
    connections_max: Option<Spanned<i64>>,
    messages_per_sec: Option<Spanned<i64>>,
    bytes_per_sec: Option<Spanned<i64>>,
}

/// Where a file is read, to say in which line something stands.
struct Lines<'a>(&'a str);

impl Lines<'_> {
    fn error(&self, span: Range<usize>, what: impl Into<String>) -> KeyFileError {
        let before = self.0.get(..span.start).unwrap_or_default();
        KeyFileError {
            line: 1 + before.matches('\n').count(),
            what: what.into(),
        }
    }

    fn patterns(
        &self,
        field: &str,
        texts: &[Spanned<String>],
    ) -> Result<Vec<Pattern>, KeyFileError> {
        let pattern = |text: &Spanned<String>| {
            Pattern::parse(text.get_ref())
                .map_err(|error| self.error(text.span(), format!("{field}: {error}")))
        };
        texts.iter().map(pattern).collect()
    }

    fn expires(&self, at: &Spanned<Datetime>) -> Result<u64, KeyFileError> {
        let parsed: Option<jiff::Timestamp> = at.get_ref().to_string().parse().ok();
        parsed
            .and_then(|at| u64::try_from(at.as_millisecond()).ok())
            .ok_or_else(|| {
                let what = "expires must be a time with its offset, like 2027-01-01T00:00:00Z";
                self.error(at.span(), what)
            })
    }

    /// A limit, if there is one.
    fn most(&self, field: &str, of: Option<&Spanned<i64>>) -> Result<Option<u64>, KeyFileError> {
        let Some(most) = of else {
            return Ok(None);
        };
        match u64::try_from(*most.get_ref()) {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(self.error(
                most.span(),
                format!("{field} must be a whole number from 1"),
            )),
        }
    }

    fn entry(&self, table: &Table) -> Result<KeyEntry, KeyFileError> {
        let name = table.name.get_ref();
        if !is_name(name) {
            let what =
                format!("name must have 1 to {KEY_NAME_BYTES_MAX} bytes and no control characters");
            return Err(self.error(table.name.span(), what));
        }
        let digest = Digest::parse(table.sha256.get_ref()).ok_or_else(|| {
            let what = "sha256 must be 64 hexadecimal digits, the SHA-256 of the key";
            self.error(table.sha256.span(), what)
        })?;
        Ok(KeyEntry {
            name: name.clone(),
            digest,
            rights: Rights {
                subscribe: self.patterns("subscribe", &table.subscribe)?,
                publish: self.patterns("publish", &table.publish)?,
                manage: self.patterns("manage", &table.manage)?,
                observe: table.observe,
                admin: table.admin,
                expires_ms: table
                    .expires
                    .as_ref()
                    .map(|at| self.expires(at))
                    .transpose()?,
                connections_max: self.most("connections_max", table.connections_max.as_ref())?,
                messages_per_sec: self.most("messages_per_sec", table.messages_per_sec.as_ref())?,
                bytes_per_sec: self.most("bytes_per_sec", table.bytes_per_sec.as_ref())?,
            },
        })
    }
}

/// Whether `name` can name a key or the holder of a token.
pub fn is_name(name: &str) -> bool {
    (1..=KEY_NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Reads a file of keys. One that has none is refused too: it is being written at this moment.
pub fn parse(text: &str) -> Result<Vec<KeyEntry>, KeyFileError> {
    let lines = Lines(text);
    let document: Document = toml::from_str(text)
        .map_err(|error| lines.error(error.span().unwrap_or(0..0), error.message()))?;
    let mut names = AHashSet::new();
    let mut digests = AHashSet::new();
    let mut entries = Vec::new();
    for table in &document.key {
        let entry = lines.entry(table.get_ref())?;
        if !names.insert(entry.name.clone()) {
            let what = format!("name: another key is called '{}'", entry.name);
            return Err(lines.error(table.get_ref().name.span(), what));
        }
        if !digests.insert(entry.digest.index()) {
            let what = "sha256: another key has the same";
            return Err(lines.error(table.get_ref().sha256.span(), what));
        }
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(lines.error(0..0, "there is no [[key]] in it"));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::grant::Right;

    const DIGEST: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    #[test]
    fn all_that_a_key_may_say_is_read() {
        let text = format!(
            r#"
            [[key]]
            name = "dashboard"
            sha256 = "{DIGEST}"
            subscribe = ["orders.*", "prices.>"]
            publish = []
            manage = ["tmp.>"]
            observe = true
            expires = 2027-01-01T00:00:00Z
            connections_max = 10
            messages_per_sec = 100
            bytes_per_sec = 100000
            admin = false

            [[key]]
            name = "bare"
            sha256 = "{}"
            "#,
            DIGEST.replace('2', "3").to_uppercase()
        );
        let entries = parse(&text).expect("a legal file");
        let [dashboard, bare] = &entries[..] else {
            panic!("{entries:?}");
        };
        assert_eq!(
            (dashboard.name.as_str(), bare.name.as_str()),
            ("dashboard", "bare")
        );
        let rights = &dashboard.rights;
        assert!(rights.has(Right::Subscribe, "prices.eu.x") && rights.has(Right::Manage, "tmp.1"));
        assert!(!rights.has(Right::Publish, "orders.eu") && rights.may_observe());
        assert_eq!(rights.expires_ms, Some(1_798_761_600_000));
        assert_eq!(rights.connections_max, Some(10));
        assert_eq!(
            (rights.messages_per_sec, rights.bytes_per_sec),
            (Some(100), Some(100_000))
        );
        assert_eq!(bare.rights, Rights::default());
    }

    #[test]
    fn a_refused_file_is_told_with_line_and_field() {
        let head = format!("[[key]]\nname = \"a\"\nsha256 = \"{DIGEST}\"\n");
        for (text, line, words) in [
            (String::new(), 1, "no [[key]]"),
            ("# nothing\n".into(), 1, "no [[key]]"),
            (
                "[[key]]\nname = \"a\"\n".into(),
                1,
                "missing field `sha256`",
            ),
            ("[[key]]\nname = \"a\nsha256 = 1".into(), 2, "string"),
            (format!("{head}subscribe = \"orders\"\n"), 4, "sequence"),
            (
                format!("{head}subscribe = [\n\"a\",\n\"b*\"]\n"),
                6,
                "subscribe: '*'",
            ),
            (format!("{head}publish = [\">.a\"]\n"), 4, "publish: '>'"),
            (
                format!("{head}subscribed = []\n"),
                4,
                "unknown field `subscribed`",
            ),
            (format!("{head}expires = 2027-01-01\n"), 4, "expires"),
            (format!("{head}connections_max = 0\n"), 4, "connections_max"),
            (format!("{head}{head}"), 5, "another key is called 'a'"),
            (
                format!("{head}{}", head.replace("\"a\"", "\"b\"")),
                6,
                "another key has the same",
            ),
            (
                "[[key]]\nname = \"\"\nsha256 = \"x\"\n".into(),
                2,
                "name must",
            ),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.what.contains(words), "{text}: {error}");
            assert_eq!(error.line, line, "{text}: {error}");
        }
    }

    #[test]
    fn a_key_in_the_place_of_its_digest_is_not_repeated() {
        let text = "[[key]]\nname = \"a\"\nsha256 = \"sc_hunter2\"\n";
        let error = parse(text).expect_err("it is no digest").to_string();
        assert!(error.contains("line 3: sha256 must be 64") && !error.contains("hunter2"));
    }
}
