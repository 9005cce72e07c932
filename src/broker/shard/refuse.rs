//! What is not carried out, and what others are asked for first.

use super::super::delivery::{Outcome, Refusal, Said};
use super::super::request::{Created, Request};
use super::{Shard, Told};
use crate::protocol::time::Timestamp;

impl Shard {
    /// Answers a change that is not carried out. What is no change has no such answer.
    pub(super) fn refuse(&mut self, request: Request, refusal: Refusal, ts: Timestamp) {
        match request {
            Request::Publish(publishes) => {
                let outcomes = vec![Outcome::Refused(refusal); publishes.items.len()];
                let to = publishes.publisher;
                let said = Said::Published {
                    publishes,
                    outcomes,
                };
                self.reply(to, ts, said);
            }
            Request::Subscribe {
                subscriber,
                topic,
                request_id,
                ..
            } => {
                let said = Said::Refused {
                    request_id,
                    topic,
                    refusal,
                };
                self.reply(subscriber, ts, said);
            }
            Request::Post(posted) => self.told.push(Told::Posted(posted.reply, Err(refusal))),
            Request::Create { reply, .. } => {
                let created = match refusal {
                    Refusal::NoMemory => Created::NoMemory,
                    _ => Created::Unavailable,
                };
                self.told.push(Told::Created(reply, created));
            }
            Request::Delete { reply, .. } => self.told.push(Told::Deleted(reply, Err(refusal))),
            _ => {}
        }
    }

    /// Whether somebody wants a topic that is not there, and that is not for this shard alone to make.
    pub(super) fn must_ask_for(&self, topic: &str) -> bool {
        self.limits.auto_create
            && !self.terms.are_settled()
            && self.shared.entrance.is_some()
            && self.table.find(topic).is_none()
    }

    /// Has a subscribe come back once its topic is made.
    pub(super) fn ask_for(&mut self, request: Request, ts: Timestamp) {
        let asked = match &self.shared.entrance {
            Some(entrance) => entrance.push(request),
            None => Err(request),
        };
        if let Err(request) = asked {
            self.refuse(request, Refusal::Unavailable, ts);
        }
    }
}
