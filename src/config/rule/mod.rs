//! How one setting is read: what is allowed, and what is said when it is not.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub mod reader;
pub(super) mod row;

use super::values::parse_size;

/// The longest time that a setting may name.
pub(crate) const DAY_SEC: u64 = 86_400;

const SWITCH_ON: &[&str] = &["1", "t", "T", "true", "TRUE", "True"];
const SWITCH_OFF: &[&str] = &["0", "f", "F", "false", "FALSE", "False"];

/// One row of the table: a setting and how its text becomes a `T`.
#[derive(Debug)]
pub(super) struct Rule<T: 'static> {
    env: &'static str,
    default: &'static str,
    /// What the value is called in the help: its unit.
    unit: &'static str,
    parser: Parser<T>,
    /// A secret's value never appears in an error.
    secret: bool,
    /// Read where this setting is not given, with the reason for its help.
    fallback: Option<(&'static Self, &'static str)>,
}

#[derive(Clone, Copy, Debug)]
enum Parser<T: 'static> {
    Number {
        least: u64,
        most: u64,
        /// It may have a unit of bytes behind it.
        is_size: bool,
        convert: fn(u64) -> Option<T>,
    },
    OneOf(&'static [(&'static str, T)]),
    Text {
        allowed: &'static str,
        parse: fn(&str) -> Option<T>,
    },
}

/// A whole number within bounds, in words of the caller.
pub(super) const fn number<T>(
    env: &'static str,
    default: &'static str,
    bounds: RangeInclusive<u64>,
    unit: &'static str,
    convert: fn(u64) -> Option<T>,
) -> Rule<T> {
    let parser = Parser::Number {
        least: *bounds.start(),
        most: *bounds.end(),
        is_size: false,
        convert,
    };
    Rule {
        env,
        default,
        unit,
        parser,
        secret: false,
        fallback: None,
    }
}

/// A whole number where 0 means that there is none.
pub(super) const fn optional<T: TryFrom<u64>>(
    env: &'static str,
    default: &'static str,
    bounds: RangeInclusive<u64>,
    unit: &'static str,
) -> Rule<Option<T>> {
    number(env, default, bounds, unit, |n| {
        T::try_from(n).ok().map(|value| (n > 0).then_some(value))
    })
}

/// A number of things.
pub(super) const fn count<T: TryFrom<u64>>(
    env: &'static str,
    default: &'static str,
    bounds: RangeInclusive<u64>,
    unit: &'static str,
) -> Rule<T> {
    number(env, default, bounds, unit, |n| T::try_from(n).ok())
}

/// A size in bytes, with or without a unit.
pub(super) const fn bytes(
    env: &'static str,
    default: &'static str,
    bounds: RangeInclusive<u64>,
) -> Rule<usize> {
    let parser = Parser::Number {
        least: *bounds.start(),
        most: *bounds.end(),
        is_size: true,
        convert: |n| usize::try_from(n).ok(),
    };
    Rule {
        parser,
        ..count(env, default, bounds, "BYTES")
    }
}

/// A time in seconds, up to a day.
pub(super) const fn seconds(
    env: &'static str,
    default: &'static str,
    least: u64,
) -> Rule<Duration> {
    number(env, default, least..=DAY_SEC, "SECONDS", |n| {
        Some(Duration::from_secs(n))
    })
}

/// A time in milliseconds, up to a day.
pub(super) const fn millis(env: &'static str, default: &'static str, least: u64) -> Rule<Duration> {
    number(env, default, least..=DAY_SEC * 1000, "MILLISECONDS", |n| {
        Some(Duration::from_millis(n))
    })
}

/// One of a few names, in any case.
pub(super) const fn one_of<T>(
    env: &'static str,
    default: &'static str,
    names: &'static [(&'static str, T)],
) -> Rule<T> {
    Rule {
        env,
        default,
        unit: "NAME",
        parser: Parser::OneOf(names),
        secret: false,
        fallback: None,
    }
}

/// On or off, in every spelling of Go's `strconv.ParseBool`, which the contract comes from.
pub(super) const fn switch(env: &'static str, default: &'static str) -> Rule<bool> {
    text(
        env,
        default,
        SWITCH_UNIT,
        "true or false (or 1, 0, t, f)",
        |text| {
            let on = SWITCH_ON.contains(&text);
            (on || SWITCH_OFF.contains(&text)).then_some(on)
        },
    )
}

const SWITCH_UNIT: &str = "true|false";

/// Anything else: `parse` says whether it is allowed.
pub(super) const fn text<T>(
    env: &'static str,
    default: &'static str,
    unit: &'static str,
    allowed: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Rule<T> {
    Rule {
        env,
        default,
        unit,
        parser: Parser::Text { allowed, parse },
        secret: false,
        fallback: None,
    }
}

/// A file, or none.
pub(super) const fn path(env: &'static str) -> Rule<Option<PathBuf>> {
    text(env, "", "FILE", "a path", |text| {
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    })
}

/// Some text, or none.
pub(super) const fn some_text(env: &'static str) -> Rule<Option<Box<str>>> {
    text(env, "", "TEXT", "any text", |text| {
        Some((!text.is_empty()).then(|| text.into()))
    })
}

impl<T: Clone> Rule<T> {
    /// The same rule for a value that must not be shown.
    pub(super) const fn secret(self) -> Self {
        Self {
            secret: true,
            ..self
        }
    }

    /// The same rule, with another setting that counts where this one is not given.
    pub(super) const fn or(self, fallback: &'static Self, reason: &'static str) -> Self {
        Self {
            fallback: Some((fallback, reason)),
            ..self
        }
    }

    fn parse(&self, text: &str) -> Option<T> {
        match &self.parser {
            Parser::Number {
                least,
                most,
                is_size,
                convert,
            } => {
                let number = if *is_size {
                    parse_size(text)
                } else {
                    text.parse().ok()
                };
                convert(number.filter(|number| (least..=most).contains(&number))?)
            }
            Parser::OneOf(names) => names
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text))
                .map(|(_, value)| value.clone()),
            Parser::Text { parse, .. } => parse(text),
        }
    }

    fn allowed(&self) -> String {
        match &self.parser {
            Parser::Number { is_size: true, .. } => {
                format!("bytes from {}, or a size like 512KiB", self.range())
            }
            Parser::Number { .. } => format!("a whole number from {}", self.range()),
            _ => self.range(),
        }
    }

    /// What is allowed, in the few words that the help has room for.
    fn range(&self) -> String {
        match &self.parser {
            Parser::Number { least, most, .. } => format!("{least} to {most}"),
            Parser::OneOf(names) => names
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(" or "),
            Parser::Text { allowed, .. } => (*allowed).to_owned(),
        }
    }
}

/// A setting that does not parse or makes no sense. Its text is one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value}: must be {allowed}")]
pub struct SettingError {
    variable: &'static str,
    value: String,
    allowed: String,
}

impl SettingError {
    pub(super) fn new(
        variable: &'static str,
        value: impl Display,
        allowed: impl Into<String>,
    ) -> Self {
        Self {
            variable,
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }

    /// The name of the setting.
    pub fn variable(&self) -> &'static str {
        self.variable
    }
}
