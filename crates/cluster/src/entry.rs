//! What one entry of the log holds, and how it is written.
//!
//! An entry is `S`, a version, the node that wrote it, that node's number of it, and *groups* up to the end: what one
//! client asked for in one go. Numbers are little-endian; lengths of texts are LEB128. Names, ids and payloads stand in it
//! byte for byte.
//!
//! ```text
//! entry   = 'S'  version:u8  node:u64  number:u64  group*
//! group   = kind:u8  creation:u8  bytes:u32  body
//! body    = message*                    kind 1: each for itself    kind 2: all or none, one behind the other
//!         | topic:text                  kind 3: create             kind 4: delete
//! message = flags:u8 (1: once)  topic:text (empty: that of the one before)  id:text  payload:text
//! ```
//!
//! What is no entry of ours (anybody who may write to the subject can put anything there) is passed over by every node
//! alike. An entry of a later version stops a node: it cannot know what it would miss.

use bytes::Bytes;

use crate::rest::Rest;

/// The version that this release writes, and the last that it reads.
pub const VERSION: u8 = 1;

const MARK: u8 = b'S';

/// Bytes in front of the groups.
pub const HEAD_BYTES: usize = 18;

/// What a group has in front of its body, in bytes.
const GROUP_HEAD_BYTES: usize = 6;

/// Whether what is asked for may make its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// No: the topic has to be there.
    Never,
    /// Yes.
    Allowed,
    /// It might, had the node that was asked not as many topics as it may have.
    Full,
}

/// What a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Messages, each for itself.
    Messages,
    /// Messages of one topic, all or none, one behind the other.
    Together,
    /// The creation of a topic.
    Create,
    /// The deletion of a topic.
    Delete,
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Where to.
    pub topic: &'a str,
    /// A UUID as its publisher wrote it.
    pub id: &'a str,
    /// JSON, byte for byte.
    pub payload: &'a str,
    /// It is not to be published if one with its id is kept.
    pub once: bool,
}

/// An entry that is being written.
#[derive(Debug)]
pub struct Draft {
    bytes: Vec<u8>,
    messages: usize,
}

impl Draft {
    /// An empty one, by `node`, which numbers its entries.
    pub fn new(node: u64, number: u64) -> Self {
        let mut bytes = vec![MARK, VERSION];
        bytes.extend_from_slice(&node.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        Self { bytes, messages: 0 }
    }

    /// Adds messages that are each for itself ([`Kind::Messages`]) or all or none ([`Kind::Together`]).
    pub fn messages<'a>(
        &mut self,
        kind: Kind,
        creation: Creation,
        messages: impl Iterator<Item = Message<'a>>,
    ) {
        self.group(kind, creation, |draft| {
            let mut last = "";
            for message in messages {
                draft.bytes.push(message.once.into());
                let topic = if message.topic == last {
                    ""
                } else {
                    message.topic
                };
                draft.text(topic);
                draft.text(message.id);
                draft.text(message.payload);
                draft.messages += 1;
                last = message.topic;
            }
        });
    }

    /// Adds the creation or the deletion of a topic.
    pub fn change(&mut self, kind: Kind, creation: Creation, topic: &str) {
        self.messages += 1;
        self.group(kind, creation, |draft| draft.text(topic));
    }

    fn group(&mut self, kind: Kind, creation: Creation, write: impl FnOnce(&mut Self)) {
        let kind = match kind {
            Kind::Messages => 1,
            Kind::Together => 2,
            Kind::Create => 3,
            Kind::Delete => 4,
        };
        let creation = match creation {
            Creation::Never => 0,
            Creation::Allowed => 1,
            Creation::Full => 2,
        };
        self.bytes.extend_from_slice(&[kind, creation, 0, 0, 0, 0]);
        let start = self.bytes.len();
        write(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start - 4..start].copy_from_slice(&length.to_le_bytes());
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    fn text(&mut self, text: &str) {
        let mut length = text.len();
        while length >= 0x80 {
            self.bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.bytes.push(length as u8);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Messages in it, creations and deletions counted as one each.
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Bytes that it has.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The finished entry.
    pub fn finish(self) -> Bytes {
        self.bytes.into()
    }
}

/// Why an entry is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// It was not written by any node.
    #[error("it is no entry of shardcast")]
    Foreign,
    /// A later release has written it.
    #[error("it has version {0}, and this release reads up to {VERSION}")]
    Later(u8),
    /// Its groups do not end where they say.
    #[error("it is cut or garbled")]
    Garbled,
}

/// An entry that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Who wrote it.
    pub node: u64,
    /// Its number among those of that node.
    pub number: u64,
    /// What is in it, in its order.
    pub groups: Vec<Group<'a>>,
}

/// A group of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<'a> {
    /// What it is.
    pub kind: Kind,
    /// Whether it may make its topics.
    pub creation: Creation,
    /// Messages; of a creation or deletion one, whose topic is meant.
    pub messages: Vec<Message<'a>>,
}

impl<'a> Entry<'a> {
    /// Reads all of an entry, or nothing.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BadEntry> {
        let mut rest = Rest(bytes);
        let head = rest.take(HEAD_BYTES).ok_or(BadEntry::Foreign)?;
        match (head[0], head[1]) {
            (MARK, 1..=VERSION) => {}
            (MARK, version) if version > VERSION => return Err(BadEntry::Later(version)),
            _ => return Err(BadEntry::Foreign),
        }
        let mut head = Rest(&head[2..]);
        let (node, number) = (head.u64(), head.u64());
        let mut groups = Vec::new();
        while !rest.0.is_empty() {
            groups.push(Group::parse(&mut rest).ok_or(BadEntry::Garbled)?);
        }
        Ok(Self {
            node: node.unwrap_or_default(),
            number: number.unwrap_or_default(),
            groups,
        })
    }
}

impl<'a> Group<'a> {
    fn parse(rest: &mut Rest<'a>) -> Option<Self> {
        let head = rest.take(GROUP_HEAD_BYTES)?;
        let kind = match head[0] {
            1 => Kind::Messages,
            2 => Kind::Together,
            3 => Kind::Create,
            4 => Kind::Delete,
            _ => return None,
        };
        let creation = match head[1] {
            0 => Creation::Never,
            1 => Creation::Allowed,
            2 => Creation::Full,
            _ => return None,
        };
        let bytes = u32::from_le_bytes(head[2..].try_into().ok()?);
        let mut body = Rest(rest.take(bytes as usize)?);
        let mut messages = Vec::new();
        if matches!(kind, Kind::Create | Kind::Delete) {
            let topic = text(&mut body)?;
            messages.push(Message {
                topic,
                id: "",
                payload: "",
                once: false,
            });
            return body.0.is_empty().then_some(Self {
                kind,
                creation,
                messages,
            });
        }
        let mut last = "";
        while !body.0.is_empty() {
            let once = match body.take(1)? {
                [0] => false,
                [1] => true,
                _ => return None,
            };
            let topic = text(&mut body)?;
            last = if topic.is_empty() { last } else { topic };
            let (id, payload) = (text(&mut body)?, text(&mut body)?);
            if last.is_empty()
                || (kind == Kind::Together
                    && messages
                        .last()
                        .is_some_and(|first: &Message<'_>| first.topic != last))
            {
                return None;
            }
            messages.push(Message {
                topic: last,
                id,
                payload,
                once,
            });
        }
        (!messages.is_empty()).then_some(Self {
            kind,
            creation,
            messages,
        })
    }
}

/// A text behind its length in LEB128.
fn text<'a>(rest: &mut Rest<'a>) -> Option<&'a str> {
    let mut length = 0_usize;
    for shift in (0..28).step_by(7) {
        let byte = *rest.take(1)?.first()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return rest.text(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(topic: &'a str, payload: &'a str) -> Message<'a> {
        Message {
            topic,
            id: "550e8400-e29b-41d4-a716-446655440000",
            payload,
            once: payload.len() % 2 == 1,
        }
    }

    fn draft() -> Bytes {
        let long = "x".repeat(70_000);
        let mut draft = Draft::new(7, 9);
        let messages = [
            message("a", "1"),
            message("a", "{ \"b\" : 1e1 }"),
            message("b.c", &long),
            message("a", "\"ü\""),
        ];
        draft.messages(Kind::Messages, Creation::Allowed, messages.into_iter());
        draft.change(Kind::Create, Creation::Full, "new");
        draft.messages(
            Kind::Together,
            Creation::Never,
            [message("t", "1"), message("t", "2")].into_iter(),
        );
        draft.change(Kind::Delete, Creation::Never, "old");
        assert_eq!((draft.len(), draft.is_empty()), (8, false));
        draft.finish()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = draft();
        let entry = Entry::parse(&bytes).expect("ours");
        assert_eq!((entry.node, entry.number), (7, 9));
        let kinds: Vec<_> = entry
            .groups
            .iter()
            .map(|group| (group.kind, group.creation))
            .collect();
        let (never, allowed) = (Creation::Never, Creation::Allowed);
        assert_eq!(
            kinds,
            [
                (Kind::Messages, allowed),
                (Kind::Create, Creation::Full),
                (Kind::Together, never),
                (Kind::Delete, never)
            ]
        );
        let topics: Vec<_> = entry
            .groups
            .iter()
            .flat_map(|group| &group.messages)
            .map(|message| message.topic)
            .collect();
        assert_eq!(topics, ["a", "a", "b.c", "a", "new", "t", "t", "old"]);
        assert_eq!(entry.groups[0].messages[1], message("a", "{ \"b\" : 1e1 }"));
        assert_eq!(entry.groups[0].messages[2].payload.len(), 70_000);
    }

    #[test]
    fn the_form_is_that_of_every_release_with_this_version() {
        let mut draft = Draft::new(0x0102, 3);
        draft.messages(
            Kind::Messages,
            Creation::Allowed,
            [message("t", "{}")].into_iter(),
        );
        let bytes = draft.finish();
        let mut wanted =
            b"S\x01\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x01\x01\x2b\0\0\0\0\x01t\x24".to_vec();
        wanted.extend_from_slice(b"550e8400-e29b-41d4-a716-446655440000\x02{}");
        assert_eq!(bytes, wanted);
    }

    #[test]
    fn what_is_no_entry_is_refused_whole_and_never_panics() {
        let bytes = draft();
        assert_eq!(Entry::parse(b""), Err(BadEntry::Foreign));
        assert_eq!(
            Entry::parse(b"hello, this is somebody else"),
            Err(BadEntry::Foreign)
        );
        for end in HEAD_BYTES + 1..bytes.len() {
            // Where a group ends an entry may end.
            if let Ok(entry) = Entry::parse(&bytes[..end]) {
                assert!(entry.groups.len() < 4);
            }
        }
        for place in 0..200.min(bytes.len()) {
            for bit in 0..8 {
                let mut garbled = bytes.to_vec();
                garbled[place] ^= 1 << bit;
                drop(Entry::parse(&garbled));
            }
        }
        let mut later = bytes.to_vec();
        later[1] = VERSION + 1;
        assert_eq!(Entry::parse(&later), Err(BadEntry::Later(VERSION + 1)));
    }
}
