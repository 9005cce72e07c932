//! The settings that are more than a number or a switch.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tracing::Level;

/// The keys that open a broker, kept as digests.
///
/// A key itself is never stored: neither a log line nor a core dump can show what was not kept.
#[derive(Clone, Default)]
pub struct ApiKeys {
    digests: Vec<[u8; 32]>,
}

impl ApiKeys {
    /// Keys from a comma-separated list; blanks around a key and empty entries do not count.
    pub fn parse(text: &str) -> Self {
        let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
        Self {
            digests: keys.map(|key| Sha256::digest(key).into()).collect(),
        }
    }

    /// Whether no key is configured.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether `key` is one of them, byte for byte: a header may hold more than ASCII.
    ///
    /// Compares with every digest, in constant time: the answer takes as long for the first key as for none.
    pub fn matches(&self, key: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(key).into();
        self.digests
            .iter()
            .fold(Choice::from(0), |found, digest| {
                found | digest.ct_eq(&given)
            })
            .into()
    }
}

/// Text that never shows, not even where settings are printed to find a fault.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    pub(super) fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// The text, for whoever it is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where NATS keeps the log of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterStorage {
    /// On its disks.
    File,
    /// In its memory.
    Memory,
}

impl ClusterStorage {
    pub(super) const NAMES: &'static [(&'static str, Self)] =
        &[("file", Self::File), ("memory", Self::Memory)];
}

#[expect(
    clippy::option_option,
    reason = "the outer one says whether it parses, as for every setting"
)]
/// `CLUSTER_URL`: none, or addresses of NATS servers.
pub(super) fn parse_nats_urls(text: &str) -> Option<Option<Secret>> {
    let is_url = |url: &str| {
        let host = ["nats://", "tls://"]
            .iter()
            .find_map(|scheme| url.trim().strip_prefix(scheme));
        let host = host.and_then(|host| host.rsplit('@').next());
        host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ']))
    };
    let is_none = text.is_empty();
    (is_none || text.split(',').all(is_url)).then(|| Secret::parse(text))
}

/// `CLUSTER_NAME`, which is part of names at NATS.
pub(super) fn parse_cluster_name(text: &str) -> Option<Box<str>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    ((1..=32).contains(&text.len()) && text.bytes().all(is_plain)).then(|| text.into())
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.digests.len())
    }
}

/// What happens to a connection whose ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumerPolicy {
    /// Its oldest event falls out, and it is told how many did.
    DropOldest,
    /// It is told, and closed with 1013.
    Disconnect,
}

impl SlowConsumerPolicy {
    pub(super) const NAMES: &[(&str, Self)] = &[
        ("drop_oldest", Self::DropOldest),
        ("disconnect", Self::Disconnect),
    ];
}

/// Whether all sends of a turn leave in one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoUring {
    /// Where the kernel and the container's profile let it.
    Auto,
    /// Always; the start fails where it cannot be.
    On,
    /// Never.
    Off,
}

impl IoUring {
    pub(super) const NAMES: &[(&str, Self)] =
        &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

/// A port, or `off`.
#[expect(
    clippy::option_option,
    reason = "the outer one is every parser's: whether the text is allowed"
)]
pub(super) fn parse_port(text: &str) -> Option<Option<u16>> {
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    text.parse().ok().map(Some)
}

/// A number of bytes, with or without a unit: 1024, 512KiB, 4MiB, 2GiB.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// 0, or a size that a broker can do something with.
pub(super) fn parse_budget(text: &str) -> Option<usize> {
    const LEAST: usize = 16 << 20;
    let bytes = usize::try_from(parse_size(text)?).ok()?;
    (bytes == 0 || bytes >= LEAST).then_some(bytes)
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object for each line.
    Json,
}

impl LogFormat {
    pub(super) const NAMES: &[(&str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// The names of log levels.
pub(super) const LOG_LEVELS: &[(&str, Level)] = &[
    ("trace", Level::TRACE),
    ("debug", Level::DEBUG),
    ("info", Level::INFO),
    ("warn", Level::WARN),
    ("error", Level::ERROR),
];

/// What `GIN_MODE` means for the log.
pub(super) const GIN_MODES: &[(&str, Level)] = &[("debug", Level::DEBUG), ("release", Level::INFO)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_the_keys_matches_and_nothing_else() {
        let keys = ApiKeys::parse(" first , ,second,");
        assert!(keys.matches(b"first") && keys.matches(b"second"));
        let keys8 = ApiKeys::parse("schlüssel");
        assert!(keys8.matches(b"schl\xc3\xbcssel") && !keys8.matches(b"schl\xfcssel"));
        assert!(!keys.matches(b"") && !keys.matches(b" first ") && !keys.matches(b"firs"));
        assert!(
            !ApiKeys::parse(" , ").matches(b""),
            "no key opens a broker that has none"
        );
    }

    #[test]
    fn keys_do_not_show() {
        assert_eq!(
            format!("{:?}", ApiKeys::parse("hunter2,hunter3")),
            "ApiKeys(2)"
        );
    }
}
