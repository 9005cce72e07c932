//! A list that is changed in one place and read as immutable snapshots elsewhere.
//!
//! It is made of pages that a snapshot shares until they change. A change copies one page at most,
//! a snapshot the list of pages, so a storm of n changes costs n and not n².

use std::sync::Arc;

/// Entries of one page: what one change copies at most.
const PAGE: usize = 64;

/// A dense list in no particular order. A clone is a snapshot.
#[derive(Debug, Clone)]
pub struct Pages<T> {
    #[expect(
        clippy::rc_buffer,
        reason = "a page that no snapshot shares grows in place"
    )]
    pages: Vec<Arc<Vec<T>>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T: Clone> Pages<T> {
    /// Each entry once.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter())
    }

    /// The entries of page `index`; `None` behind the last page.
    pub fn page(&self, index: usize) -> Option<&[T]> {
        self.pages.get(index).map(|page| page.as_slice())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let full = self.pages.len().saturating_sub(1) * PAGE;
        full + self.pages.last().map_or(0, |page| page.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Adds an entry; its place is the length before.
    pub(crate) fn push(&mut self, entry: T) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => Arc::make_mut(page).push(entry),
            _ => self.pages.push(Arc::new(vec![entry])),
        }
    }

    /// Takes out the entry at `place`; the last one moves there, and is returned if it moved.
    pub(crate) fn remove(&mut self, place: usize) -> Option<T> {
        let last = self.pop()?;
        if place == self.len() {
            return None;
        }
        if let Some(slot) = self
            .pages
            .get_mut(place / PAGE)
            .and_then(|page| Arc::make_mut(page).get_mut(place % PAGE))
        {
            *slot = last.clone();
        }
        Some(last)
    }

    fn pop(&mut self) -> Option<T> {
        let page = Arc::make_mut(self.pages.last_mut()?);
        let last = page.pop();
        if page.is_empty() {
            self.pages.pop();
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changes_leave_each_entry_once_and_snapshots_as_they_were() {
        let mut pages = Pages::default();
        let mut plain: Vec<u64> = Vec::new();
        let mut seed = 7_u64;
        let mut snapshots: Vec<(Pages<u64>, Vec<u64>)> = Vec::new();
        for step in 0..20_000_u64 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let place = usize::try_from(seed >> 33).expect("64 bits") % (plain.len() + 1);
            if seed >> 63 == 0 || place == plain.len() {
                pages.push(step);
                plain.push(step);
            } else {
                let moved = (place + 1 < plain.len()).then(|| plain[plain.len() - 1]);
                assert_eq!(pages.remove(place), moved);
                plain.swap_remove(place);
            }
            if seed.is_multiple_of(997) {
                snapshots.push((pages.clone(), plain.clone()));
            }
            assert_eq!(pages.len(), plain.len());
        }
        snapshots.push((pages, plain));
        for (pages, plain) in snapshots {
            assert!(pages.iter().eq(&plain));
        }
    }
}
