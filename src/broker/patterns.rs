//! Which connections want which patterns, as one shard knows it: asked when a topic is created, never
//! for a message.
//!
//! Patterns stand under the text in front of their first wildcard, so that a new topic is held
//! against those that begin as it does, and not against all. What already is, is found by
//! [`Table::look_through`](super::table::Table::look_through). Every shard knows every pattern.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use super::ConnectionId;
use crate::pattern::Pattern;

/// What a pattern takes beside its text, and each who wants it.
const PATTERN_BYTES: usize = 256;
const WISH_BYTES: usize = 24;

/// Those who want each pattern.
type Wishes = AHashMap<Arc<Pattern>, AHashSet<ConnectionId>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Patterns {
    by_prefix: AHashMap<Box<str>, Wishes>,
    bytes: usize,
}

impl Patterns {
    /// A connection wants a pattern; false if it did before.
    pub(crate) fn insert(&mut self, subscriber: ConnectionId, pattern: &Arc<Pattern>) -> bool {
        let wishes = match self.by_prefix.get_mut(pattern.prefix()) {
            Some(wishes) => wishes,
            None => self.by_prefix.entry(pattern.prefix().into()).or_default(),
        };
        let wanting = wishes.entry(Arc::clone(pattern)).or_insert_with(|| {
            self.bytes += bytes_of(pattern);
            AHashSet::new()
        });
        let is_new = wanting.insert(subscriber);
        self.bytes += if is_new { WISH_BYTES } else { 0 };
        is_new
    }

    /// A connection wants a pattern no longer; false if it did not.
    pub(crate) fn remove(&mut self, subscriber: ConnectionId, pattern: &Pattern) -> bool {
        let Some(wishes) = self.by_prefix.get_mut(pattern.prefix()) else {
            return false;
        };
        let Some(wanting) = wishes.get_mut(pattern) else {
            return false;
        };
        if !wanting.remove(&subscriber) {
            return false;
        }
        self.bytes -= WISH_BYTES;
        if wanting.is_empty() {
            wishes.remove(pattern);
            self.bytes -= bytes_of(pattern);
        }
        if wishes.is_empty() {
            self.by_prefix.remove(pattern.prefix());
        }
        true
    }

    /// Gives `want` each who wants a pattern that means `topic`, once for each such pattern. Returns
    /// how many patterns were looked at.
    pub(crate) fn matching(&self, topic: &str, mut want: impl FnMut(ConnectionId)) -> usize {
        if self.by_prefix.is_empty() {
            return 0;
        }
        let mut looks = 0;
        let dots = topic.match_indices('.').map(|(at, _)| at + 1);
        for end in [0].into_iter().chain(dots) {
            let prefix = topic.get(..end).unwrap_or_default();
            for (pattern, wanting) in self.by_prefix.get(prefix).into_iter().flatten() {
                looks += 1;
                if pattern.matches(topic) {
                    wanting.iter().copied().for_each(&mut want);
                }
            }
        }
        looks
    }

    /// What they take in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn bytes_of(pattern: &Pattern) -> usize {
    PATTERN_BYTES + 2 * pattern.as_str().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ConnectionId {
        ConnectionId::new(0, number, 1)
    }

    /// A number below `most` out of `seed`.
    fn below(seed: &mut u64, most: usize) -> usize {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(*seed >> 33).expect("64 bits") % most
    }

    fn name(seed: &mut u64, tokens: &[&str]) -> String {
        let count = 1 + below(seed, 4);
        let parts: Vec<_> = (0..count)
            .map(|_| tokens[below(seed, tokens.len())])
            .collect();
        parts.join(".")
    }

    #[test]
    fn a_topic_is_wanted_by_whoever_has_a_pattern_that_means_it() {
        let (mut patterns, mut seed) = (Patterns::default(), 7);
        let mut plain: Vec<(ConnectionId, Arc<Pattern>)> = Vec::new();
        for _ in 0..20_000 {
            let mut text = name(&mut seed, &["a", "b", "", "*", "*"]);
            text = match below(&mut seed, 4) {
                0 => ">".into(),
                1 => text + ".>",
                2 => "*.".to_owned() + &text,
                _ => text + ".*",
            };
            let wish = (
                id(u32::try_from(below(&mut seed, 5)).expect("small")),
                Arc::new(Pattern::parse(&text).expect("a pattern")),
            );
            let known = plain.iter().position(|of| *of == wish);
            if below(&mut seed, 2) == 0 {
                assert_eq!(patterns.insert(wish.0, &wish.1), known.is_none());
                plain.extend(known.is_none().then_some(wish));
            } else {
                assert_eq!(patterns.remove(wish.0, &wish.1), known.is_some());
                known.map(|at| plain.swap_remove(at));
            }
            let topic = name(&mut seed, &["a", "b", ""]);
            let mut wanted = Vec::new();
            patterns.matching(&topic, |id| wanted.push(id.slot()));
            let meant = plain.iter().filter(|(_, pattern)| pattern.matches(&topic));
            let mut meant: Vec<_> = meant.map(|(id, _)| id.slot()).collect();
            wanted.sort_unstable();
            meant.sort_unstable();
            assert_eq!(wanted, meant, "{topic:?}");
        }
        for (id, pattern) in plain {
            assert!(patterns.remove(id, &pattern));
        }
        assert!(patterns.by_prefix.is_empty() && patterns.bytes() == 0);
    }

    #[test]
    fn patterns_that_begin_otherwise_are_not_looked_at() {
        let mut patterns = Patterns::default();
        for number in 0..1000 {
            let pattern = Pattern::parse(&format!("t{number}.*")).expect("a pattern");
            patterns.insert(id(number), &Arc::new(pattern));
        }
        let mut wanted = 0;
        assert_eq!(patterns.matching("t7.eu", |_| wanted += 1), 1);
        assert_eq!(wanted, 1);
    }
}
