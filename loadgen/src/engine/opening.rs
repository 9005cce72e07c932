//! How a lane opens its connections: a bounded number at a time, publishers first.
//!
//! Nothing here waits. A connection that fails is counted, and the next one has its turn.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use mio::{Interest, Token};

use super::Lane;
use super::publisher::Publisher;
use super::shared::Phase;
use crate::client::Client;

/// Connections of one lane that are being opened at the same time.
const OPENING_MAX: usize = 128;
/// From here on each source address serves so many connections: there are about 28,000 ports for one, and the kernel's
/// search for a free one becomes slow long before the last is taken.
const CONNECTIONS_PER_ADDRESS: usize = 5_000;

impl Lane {
    pub(super) fn open_more(&mut self) {
        let all = self.publishers.len() + self.seats.len();
        while self.phase == Phase::Connecting && self.opened < all && self.opening < OPENING_MAX {
            let token = self.opened;
            self.opened += 1;
            if let Err(error) = self.open(token) {
                self.failures.push(error.to_string());
                self.settled += 1;
            } else {
                self.opening += 1;
            }
        }
    }

    fn open(&mut self, token: usize) -> io::Result<()> {
        let seat = token.checked_sub(self.publishers.len());
        let run = self.plan.run;
        let (id, receive_buffer_bytes) = match seat {
            None => (format!("p{run:08x}-{}", self.publisher_numbers[token]), 0),
            Some(at) => {
                let seat = &self.seats[at];
                let stalls = seat.subscriber.stalls;
                let bytes = if stalls {
                    self.plan.receive_buffer_bytes
                } else {
                    0
                };
                (format!("s{run:08x}-{}", seat.number), bytes)
            }
        };
        let source = seat.and_then(|at| self.source_of(self.seats[at].number));
        // Publishers and subscribers of one topic are spread alike, over all nodes.
        let number = seat.map_or_else(|| self.publisher_numbers[token], |at| self.seats[at].number);
        let door = self.doors.of(number);
        let mut client = Client::connect(door, &id, source, receive_buffer_bytes)?;
        self.poll.registry().register(
            &mut client.stream,
            Token(token),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        match seat {
            None => self.publishers[token] = Some((client, Publisher::default())),
            Some(at) => self.seats[at].client = Some(client),
        }
        Ok(())
    }

    fn source_of(&self, number: usize) -> Option<IpAddr> {
        let spread = self.plan.subscribers > CONNECTIONS_PER_ADDRESS;
        if !spread || self.doors.of(number).address.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
            return None;
        }
        let step = u32::try_from(number / CONNECTIONS_PER_ADDRESS).unwrap_or(0);
        let address = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + step);
        Some(address.into())
    }
}
