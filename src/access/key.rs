//! Named keys: found by the digest of what a client sends.

use std::sync::Arc;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::file::KeyEntry;
use super::grant::Holder;

/// The SHA-256 of a key. A key itself is never kept.
#[derive(Clone, Copy, Debug)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of `key`, byte for byte.
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// From 64 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<Self> {
        let digits: Option<Vec<u8>> = hex
            .chars()
            .map(|digit| {
                digit
                    .to_digit(16)
                    .and_then(|digit| u8::try_from(digit).ok())
            })
            .collect();
        let digits = digits.filter(|digits| digits.len() == 64)?;
        let bytes: Vec<u8> = digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect();
        bytes.try_into().ok().map(Self)
    }

    /// As hexadecimal digits.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// Where it stands in a table. No client can choose it, and no time that is taken tells more
    /// of it.
    pub(super) fn index(self) -> u64 {
        let first = self.0.first_chunk().copied();
        u64::from_be_bytes(first.unwrap_or_default())
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

impl PartialEq for Digest {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

type Table = AHashMap<u64, (Digest, Arc<Holder>)>;

/// The named keys at this moment.
#[derive(Debug, Default)]
pub(super) struct Keys(ArcSwap<Table>);

/// What a new file has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) keys: usize,
    pub(super) new: usize,
    pub(super) withdrawn: usize,
}

impl Keys {
    /// Who holds `key`.
    pub(super) fn find(&self, key: &[u8]) -> Option<Arc<Holder>> {
        let digest = Digest::of(key);
        let table = self.0.load();
        let (known, holder) = table.get(&digest.index())?;
        (*known == digest).then(|| Arc::clone(holder))
    }

    /// Who has this name.
    pub(super) fn of_name(&self, name: &str) -> Option<Arc<Holder>> {
        let table = self.0.load();
        let mut holders = table.values().map(|(_, holder)| holder);
        holders.find(|holder| holder.name() == name).cloned()
    }

    /// Takes the keys of a new file in the place of those there are. A key that stays keeps its
    /// holder, so that its connections see their new rights; one that goes is withdrawn.
    pub(super) fn replace(&self, entries: Vec<KeyEntry>) -> Changed {
        let old = self.0.load_full();
        let mut new = 0;
        let mut table = Table::new();
        for KeyEntry {
            name,
            digest,
            rights,
        } in entries
        {
            let index = digest.index();
            let known = old.get(&index);
            let kept = known.filter(|(of, holder)| *of == digest && holder.name() == name);
            let holder = if let Some((_, holder)) = kept {
                holder.set_rights(rights);
                Arc::clone(holder)
            } else {
                new += 1;
                Arc::new(Holder::new(&name, rights))
            };
            table.insert(index, (digest, holder));
        }
        let keys = table.len();
        let stays = |holder: &Arc<Holder>, index: &u64| {
            let now = table.get(index);
            now.is_some_and(|(_, now)| Arc::ptr_eq(now, holder))
        };
        let gone: Vec<_> = old
            .iter()
            .filter(|(index, (_, holder))| !stays(holder, index))
            .map(|(_, (_, holder))| Arc::clone(holder))
            .collect();
        // Nobody finds them any more once they are withdrawn.
        self.0.store(Arc::new(table));
        for holder in &gone {
            holder.withdraw();
        }
        Changed {
            keys,
            new,
            withdrawn: gone.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::grant::{End, Rights};

    fn entry(name: &str, key: &str) -> KeyEntry {
        KeyEntry {
            name: name.into(),
            digest: Digest::of(key.as_bytes()),
            rights: Rights::default(),
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_hex(), hex);
        assert!(Digest::parse(hex) == Some(digest));
        for wrong in [
            "",
            &hex[1..],
            &format!("{hex}0"),
            &hex.replace('b', "g"),
            &hex.replace('b', "é"),
        ] {
            assert!(Digest::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_that_stays_keeps_its_holder_and_the_others_are_withdrawn() {
        let keys = Keys::default();
        keys.replace(vec![
            entry("a", "key-a"),
            entry("b", "key-b"),
            entry("c", "key-c"),
        ]);
        let [a, b, c] =
            ["key-a", "key-b", "key-c"].map(|key| keys.find(key.as_bytes()).expect(key));
        assert!(keys.find(b"key").is_none() && keys.find(b"").is_none());
        // b has another key now, and c another name.
        let changed = keys.replace(vec![
            entry("a", "key-a"),
            entry("b", "new"),
            entry("d", "key-c"),
        ]);
        let expected = Changed {
            keys: 3,
            new: 2,
            withdrawn: 2,
        };
        assert_eq!(changed, expected);
        assert!(Arc::ptr_eq(&a, &keys.find(b"key-a").expect("it stayed")));
        assert_eq!(a.end(0), None);
        assert_eq!(
            (b.end(0), c.end(0)),
            (Some(End::Withdrawn), Some(End::Withdrawn))
        );
        assert!(keys.find(b"key-b").is_none());
        assert_eq!(
            keys.find(b"key-c").expect("it has another name").name(),
            "d"
        );
    }
}
