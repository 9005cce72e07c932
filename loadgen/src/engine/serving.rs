//! What a lane does when a socket is ready: read it, let its owner judge, answer, and notice the end.
//!
//! Called for each event of the loop. A connection that is over frees everything that waited for it.

use mio::event::Event;

use super::shared::Phase;
use super::subscriber::Standing;
use super::{Lane, Seat};
use crate::client::{Ended, Inbound};

impl Lane {
    pub(super) fn on_event(&mut self, event: &Event) {
        let token = event.token().0;
        let client = match token.checked_sub(self.publishers.len()) {
            None => self.publishers[token].as_mut().map(|(client, _)| client),
            Some(at) => self.seats[at].client.as_mut(),
        };
        if let Some(client) = client {
            client.on_event(event);
        }
        self.on_ready(token);
    }

    pub(super) fn on_ready(&mut self, token: usize) {
        let outcome = if token < self.publishers.len() {
            self.serve_publisher(token)
        } else {
            self.serve_seat(token - self.publishers.len())
        };
        match outcome {
            Ok(Inbound::Drained) => {}
            Ok(Inbound::More) => self.again.push(token),
            Err(ended) => self.on_end(token, &ended),
        }
    }

    fn serve_publisher(&mut self, at: usize) -> Result<Inbound, Ended> {
        let Some((client, publisher)) = &mut self.publishers[at] else {
            return Ok(Inbound::Drained);
        };
        client.flush()?;
        let was_open = client.is_open();
        let books = &mut self.books;
        let inbound = client.receive(&mut self.buffer, |text| publisher.on_message(text, books))?;
        if !was_open && client.is_open() {
            publisher.settled = true;
            self.settled += 1;
            self.opening -= 1;
        }
        Ok(inbound)
    }

    fn serve_seat(&mut self, at: usize) -> Result<Inbound, Ended> {
        let Seat {
            client,
            subscriber,
            settled,
            ..
        } = &mut self.seats[at];
        let Some(client) = client else {
            return Ok(Inbound::Drained);
        };
        if subscriber.stalls && self.phase == Phase::Running {
            return Ok(Inbound::Drained);
        }
        client.flush()?;
        let was_open = client.is_open();
        let (books, plan, shared) = (&mut self.books, &self.plan, &self.shared);
        let inbound = client.receive(&mut self.buffer, |text| {
            subscriber.on_message(text, books, plan, shared);
        })?;
        if !was_open && client.is_open() {
            let topic = serde_json::Value::from(plan.topics[subscriber.topic].as_str());
            client.queue_text(&format!(
                r#"{{"type":"subscribe","topic":{topic},"last_n":0,"request_id":"s"}}"#
            ));
        }
        if subscriber.standing == Standing::Refused {
            return Err(Ended::Refused(books.refusal.clone().unwrap_or_default()));
        }
        if !*settled && subscriber.standing == Standing::Subscribed {
            *settled = true;
            self.settled += 1;
            self.opening -= 1;
        }
        // Pongs and the subscribe leave with the read that asked for them.
        if client.unsent_bytes() > 0 {
            client.flush()?;
        }
        Ok(inbound)
    }

    pub(super) fn on_end(&mut self, token: usize, ended: &Ended) {
        let first = self.publishers.len();
        let settled = if token < first {
            let publisher = self.publishers[token].take();
            publisher.is_some_and(|(_, publisher)| publisher.settled)
        } else {
            let seat = &mut self.seats[token - first];
            seat.client = None;
            seat.subscriber.leave(&mut self.books, &self.plan);
            seat.settled
        };
        if !settled {
            self.settled += 1;
            self.opening -= 1;
            self.failures.push(ended.to_string());
            return;
        }
        self.ended += 1;
        if token >= first && self.seats[token - first].subscriber.stalls {
            self.stalled_ended += 1;
        } else {
            self.endings.push(ended.to_string());
        }
    }
}
