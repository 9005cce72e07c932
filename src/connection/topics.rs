//! What one connection is subscribed to.

use std::sync::Arc;

use ahash::AHashMap;

use crate::broker::directory::TopicEntry;

/// From so many on, names are looked up in a map.
const FEW: usize = 8;

/// Most connections have one subscription or a few: a list without spare places. Who has many
/// leaves them as fast as few.
#[derive(Debug)]
pub(super) enum Topics {
    Few(Vec<Arc<TopicEntry>>),
    Many(Box<AHashMap<Arc<str>, Arc<TopicEntry>>>),
}

impl Default for Topics {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Topics {
    /// Names of at most so many of them.
    pub(super) fn names(&self, names_max: usize) -> Vec<Arc<str>> {
        let name = |entry: &Arc<TopicEntry>| entry.shared_name();
        match self {
            Self::Few(entries) => entries.iter().take(names_max).map(name).collect(),
            Self::Many(entries) => entries.values().take(names_max).map(name).collect(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few(entries) => entries.len(),
            Self::Many(entries) => entries.len(),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Few(entries) => entries.iter().any(|entry| entry.name() == name),
            Self::Many(entries) => entries.contains_key(name),
        }
    }

    /// Those that `wanted` picks.
    pub(super) fn entries(&self, wanted: impl Fn(&TopicEntry) -> bool) -> Vec<Arc<TopicEntry>> {
        let is_wanted = |entry: &&Arc<TopicEntry>| wanted(entry);
        match self {
            Self::Few(entries) => entries.iter().filter(is_wanted).cloned().collect(),
            Self::Many(entries) => entries.values().filter(is_wanted).cloned().collect(),
        }
    }

    pub(super) fn insert(&mut self, entry: Arc<TopicEntry>) {
        match self {
            Self::Few(entries) if entries.len() < FEW => {
                if entries.is_empty() {
                    // A Vec would start with room for four.
                    entries.reserve_exact(1);
                }
                entries.push(entry);
            }
            Self::Few(entries) => {
                let all = std::mem::take(entries).into_iter().chain([entry]);
                let all = all.map(|entry| (entry.shared_name(), entry));
                *self = Self::Many(Box::new(all.collect()));
            }
            Self::Many(entries) => {
                entries.insert(entry.shared_name(), entry);
            }
        }
    }

    /// Takes out this very topic, not a later one of its name.
    pub(super) fn remove(&mut self, entry: &Arc<TopicEntry>) {
        match self {
            Self::Few(entries) => {
                if let Some(place) = entries.iter().position(|of| Arc::ptr_eq(of, entry)) {
                    entries.swap_remove(place);
                }
                if entries.is_empty() {
                    *entries = Vec::new();
                }
            }
            Self::Many(entries) => {
                let is_it = entries
                    .get(entry.name())
                    .is_some_and(|of| Arc::ptr_eq(of, entry));
                if is_it {
                    entries.remove(entry.name());
                }
                if entries.is_empty() {
                    *self = Self::default();
                }
            }
        }
    }

    pub(super) fn into_entries(self) -> Vec<Arc<TopicEntry>> {
        match self {
            Self::Few(entries) => entries,
            Self::Many(entries) => entries.into_values().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::directory::tests::entry;

    #[test]
    fn topics_come_and_go_whether_few_or_many() {
        let mut topics = Topics::default();
        let entries: Vec<_> = (0..100).map(|n| entry(&format!("t{n}"))).collect();
        for (count, entry) in entries.iter().enumerate() {
            assert!(!topics.has(entry.name()));
            topics.insert(Arc::clone(entry));
            assert!(topics.has(entry.name()));
            assert_eq!(topics.len(), count + 1);
        }
        topics.remove(&entry("t5"));
        assert_eq!(topics.len(), 100);
        for entry in &entries[..95] {
            topics.remove(entry);
            assert!(!topics.has(entry.name()));
        }
        assert_eq!(topics.len(), 5);
        assert_eq!(topics.into_entries().len(), 5);
    }
}
