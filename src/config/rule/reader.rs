//! Reads settings from flags and the environment, and gathers what is wrong with them.

use std::ffi::{OsStr, OsString};

use super::{Rule, SettingError};

/// Longer values are cut in an error, which is to stay one line.
const SHOWN_CHARS_MAX: usize = 60;

type Source<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where the value of a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag,
    /// The environment.
    Environment,
    /// Nobody has said anything.
    Default,
}

/// What was read for a setting.
#[derive(Clone, Debug)]
pub(in crate::config) struct Taken {
    pub(in crate::config) env: &'static str,
    /// As text, and of a secret only whether there is one.
    pub(in crate::config) value: String,
    pub(in crate::config) origin: Origin,
}

/// Reads settings and gathers what is wrong with them.
pub(in crate::config) struct Reader<'a> {
    flag: Source<'a>,
    env: Source<'a>,
    taken: Vec<Taken>,
    errors: Vec<SettingError>,
}

impl<'a> Reader<'a> {
    pub(in crate::config) fn new(flag: Source<'a>, env: Source<'a>) -> Self {
        Self {
            flag,
            env,
            taken: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The value of a setting. Where it is bad, that is noted among the errors and its default stands in, so that the
    /// settings after it are read all the same.
    pub(in crate::config) fn read<T: Clone>(&mut self, rule: &Rule<T>) -> T {
        let fallback = rule.fallback.map(|(fallback, _)| self.read(fallback));
        let text = self.given(rule.env);
        self.note(rule, text.as_deref());
        let given = text.and_then(|text| self.parse(rule, &text));
        given.or(fallback).unwrap_or_else(|| {
            rule.parse(rule.default)
                .expect("a test holds every default against its own rule")
        })
    }

    /// What was read, and what is wrong with it.
    pub(in crate::config) fn into_parts(self) -> (Vec<Taken>, Vec<SettingError>) {
        (self.taken, self.errors)
    }

    /// Keeps the text of a setting for those who ask what is in force.
    fn note<T>(&mut self, rule: &Rule<T>, given: Option<&OsStr>) {
        let origin = match given {
            None => Origin::Default,
            Some(_) if (self.flag)(rule.env).is_some() => Origin::Flag,
            Some(_) => Origin::Environment,
        };
        let text = given.map_or_else(|| rule.default.into(), OsStr::to_string_lossy);
        let value = match (rule.secret, text.trim()) {
            (true, "") => "not set",
            (true, _) => "set",
            (false, text) => text,
        };
        self.taken.push(Taken {
            env: rule.env,
            value: value.to_owned(),
            origin,
        });
    }

    /// Whether somebody has said what `name` is to be.
    pub(in crate::config) fn is_given(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    /// A flag counts also when it is empty; a variable does not, since Compose files and charts set empty ones.
    fn given(&self, name: &str) -> Option<OsString> {
        (self.flag)(name).or_else(|| (self.env)(name).filter(|text| !text.is_empty()))
    }

    fn parse<T: Clone>(&mut self, rule: &Rule<T>, text: &OsStr) -> Option<T> {
        let value = text.to_str().and_then(|text| rule.parse(text.trim()));
        if value.is_none() {
            let shown = if rule.secret {
                "(hidden)".to_owned()
            } else {
                shown(&text.to_string_lossy())
            };
            self.errors
                .push(SettingError::new(rule.env, shown, rule.allowed()));
        }
        value
    }
}

/// A value as an error shows it: quoted, so that blanks and line ends are seen, and cut.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
        None => format!("{text:?}"),
    }
}
