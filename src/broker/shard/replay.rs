//! The past, piece by piece, for those who ask for the next.

use super::super::history::{PIECE_BYTES_MAX, PIECE_RUNS_MAX};
use super::super::ring::{Fetch, Piece};
use super::Shard;

impl Shard {
    /// The next piece of a replay: of its first topic, and as far as there is room of those behind it.
    pub(super) fn piece(&mut self, wanted: &Fetch) -> Piece {
        let mut piece = self.piece_of_one(wanted);
        let (mut last, mut bytes) = (wanted.last, piece.bytes());
        for next in &wanted.further {
            if piece.next <= last || bytes >= PIECE_BYTES_MAX || piece.kept.len() >= PIECE_RUNS_MAX
            {
                break;
            }
            let more = self.piece_of_one(next);
            bytes += more.bytes();
            piece.kept.extend(more.kept);
            piece.lost += more.lost;
            piece.next = more.next;
            piece.through += 1;
            last = next.last;
        }
        piece
    }

    /// All of it is lost if its topic has ended.
    fn piece_of_one(&mut self, wanted: &Fetch) -> Piece {
        let place = self.table.find_entry(&wanted.topic);
        match place.and_then(|place| self.table.slot(place)) {
            Some(slot) => slot.topic.piece(wanted),
            None => Piece {
                next: wanted.last + 1,
                lost: wanted.last + 1 - wanted.first,
                ..Piece::default()
            },
        }
    }
}
