//! (3, 4) What a client says: each text is parsed, checked against what this connection may do, and
//! answered here or handed to the shard that owns the topic.

use std::rc::Rc;

use super::Connection;
use super::flow::Flow;
use super::local::Local;
use super::pace::{Pace, Verdict};
use crate::access::address::AddressPlace;
use crate::access::grant::{Denial, Place, Right};
use crate::broker::request::{Replay, Request};
use crate::protocol::answer::Answer;
use crate::protocol::codes::{CloseCode, ErrorCode};
use crate::protocol::command::{self, BadCommand, Command};
use crate::protocol::names::RequestId;
use crate::protocol::policy::Policy;
use crate::protocol::websocket::decoder::Message;
use crate::protocol::websocket::frame;
use crate::seats::Seat;

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) local: Rc<Local>,
    pub(super) connection: Rc<Connection>,
    pub(super) flow: Flow,
    /// A command that waits until those before it are answered.
    held: Option<Box<Held>>,
    /// The upgrade's header has authenticated the connection, and no `auth` has come: the first one
    /// is answered like any other, since clients with one set of headers for everything send both.
    pub(super) is_auth_expected: bool,
    /// Held for as long as the socket is open; one of those without a key until they prove theirs.
    pub(super) seat: Seat,
    /// Held likewise: one of those that its key has.
    pub(super) place: Place,
    /// And one of those that its address has.
    _address: Option<Box<AddressPlace>>,
    /// How often the client may say something, if that is limited.
    pace: Option<Box<Pace>>,
}

/// A command that waits, and what was decided of it when it came.
#[derive(Debug)]
struct Held {
    text: Box<str>,
    verdict: Verdict,
}

/// The right to be connected.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) seat: Seat,
    /// Empty until a key is known.
    pub(crate) place: Place,
    /// Where addresses are limited.
    pub(crate) address: Option<Box<AddressPlace>>,
}

/// Whether a command was acted on, or has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acted {
    Done,
    MustWait,
}

impl Session {
    pub(super) fn new(local: Rc<Local>, connection: Rc<Connection>, admission: Admission) -> Self {
        let is_auth_expected = local.process.access.is_on() && connection.is_authenticated.get();
        let Admission {
            seat,
            place,
            address,
        } = admission;
        let flow = Flow::new(Rc::clone(&local), Rc::clone(&connection));
        Self {
            pace: Pace::of(local.config()),
            local,
            connection,
            flow,
            held: None,
            is_auth_expected,
            seat,
            place,
            _address: address,
        }
    }

    /// Whether no other command is to be taken now.
    pub(super) fn must_pause(&self) -> bool {
        self.held.is_some() || self.flow.must_pause()
    }

    /// Bytes of a command that waits.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.text.len())
    }

    /// Tries again with the command that waits.
    pub(super) fn resume(&mut self) {
        if !self.flow.has_refused()
            && let Some(held) = self.held.take()
            && self.act(&held.text, held.verdict) == Acted::MustWait
        {
            self.held = Some(held);
        }
    }

    /// Acts on one message.
    pub(super) fn receive(&mut self, message: Message<'_>) {
        let (local, connection) = (&self.local, &self.connection);
        match message {
            Message::Text(text) => {
                let verdict = {
                    let grant = connection.grant.borrow();
                    let (config, bytes) = (local.config(), text.len());
                    Pace::count(&mut self.pace, config, &grant, (1, bytes), || {
                        local.elapsed()
                    })
                };
                if self.act(text, verdict) == Acted::MustWait {
                    let text = text.into();
                    self.held = Some(Box::new(Held { text, verdict }));
                }
            }
            Message::Ping(payload) => connection.send(local, |out| frame::pong(out, payload)),
            Message::Pong => {}
            Message::Deflated(message) => self.receive_deflated(message),
            Message::Close(code) => {
                let code = code.map(CloseCode);
                let told = code.unwrap_or(CloseCode::NONE);
                connection.note_end(local, told, "closed by the client");
                connection.close(local, code, "");
            }
        }
    }

    /// Acts on the text that `message` is inflated to. All of it counts as read.
    fn receive_deflated(&mut self, message: &[u8]) {
        let local = Rc::clone(&self.local);
        let bytes_max = local.config().message_bytes_max;
        let mut inflater = local.inflater.borrow_mut();
        match inflater.get_or_insert_default().inflate(message, bytes_max) {
            Ok(text) => {
                local.has_read(text.len());
                self.receive(Message::Text(text));
            }
            Err(violation) => {
                // So much was made of it.
                local.has_read(bytes_max);
                self.connection.close_for(&local, &violation);
            }
        }
    }

    fn act(&mut self, text: &str, verdict: Verdict) -> Acted {
        let command = command::parse(text, self.local.config().payload_depth_max);
        if !self.connection.is_authenticated.get() {
            self.authenticate(&command);
            return Acted::Done;
        }
        if self.local.is_draining.get() {
            return self.answer(&Answer::Error {
                request_id: request_id_of(&command),
                code: ErrorCode::Unavailable,
                message: "Server is shutting down",
            });
        }
        if verdict != Verdict::Within {
            return self.slow_down(request_id_of(&command), verdict);
        }
        match command {
            Ok(Command::Publish(publish)) => {
                if let Some(denial) = self.connection.denial(Right::Publish, &publish.topic) {
                    return self.deny(publish.request_id, &denial);
                }
                self.flow.publish(&publish);
                Acted::Done
            }
            Ok(Command::Subscribe {
                request_id,
                topic,
                replay,
                policy,
            }) => self.subscribe(request_id, &topic, replay, policy),
            Ok(Command::Unsubscribe { request_id, topic }) => {
                let subscriber = self.connection.id;
                self.ask(&topic, |topic| Request::Unsubscribe {
                    subscriber,
                    topic,
                    request_id: owned(request_id),
                })
            }
            Ok(Command::SubscribePattern {
                request_id,
                pattern,
                past,
                policy,
                wants_positions,
            }) => self.subscribe_pattern(request_id, pattern, (past, policy), wants_positions),
            Ok(Command::UnsubscribePattern {
                request_id,
                pattern,
            }) => self.unsubscribe_pattern(request_id, pattern),
            Ok(Command::Ping { request_id }) => self.answer(&Answer::Pong { request_id }),
            Ok(Command::Auth { request_id, proof }) => {
                self.authenticate_again(request_id, proof.as_ref())
            }
            Err(BadCommand {
                request_id,
                message,
                ..
            }) => self.answer(&Answer::Error {
                request_id,
                code: ErrorCode::BadRequest,
                message: &message,
            }),
        }
    }

    /// Refuses what came too soon.
    fn slow_down(&mut self, request_id: Option<RequestId<'_>>, verdict: Verdict) -> Acted {
        match verdict {
            Verdict::Within => Acted::Done,
            Verdict::Over { retry_after_ms } => self.answer(&Answer::TooSoon {
                request_id,
                retry_after_ms,
            }),
            Verdict::Beyond { retry_after_ms } => {
                let answer = Answer::TooSoon {
                    request_id,
                    retry_after_ms,
                };
                let reason = "above the rate limit for too long";
                self.connection.refuse(&self.local, &answer, reason);
                Acted::Done
            }
        }
    }

    /// Refuses what the grant does not allow, in its order; ends where there is no grant any more.
    pub(super) fn deny(&mut self, request_id: Option<RequestId<'_>>, denial: &Denial) -> Acted {
        match denial {
            Denial::Forbidden(text) => self.answer(&Answer::Error {
                request_id,
                code: ErrorCode::Forbidden,
                message: text,
            }),
            Denial::Ended(end) => {
                self.connection.end_grant(&self.local, *end);
                Acted::Done
            }
        }
    }

    fn subscribe(
        &mut self,
        request_id: Option<RequestId<'_>>,
        topic: &str,
        replay: command::Replay<'_>,
        policy: Policy,
    ) -> Acted {
        let connection = &self.connection;
        if let Some(denial) = connection.denial(Right::Subscribe, topic) {
            return self.deny(request_id, &denial);
        }
        let subscriptions_max = self.local.config().subscriptions_max;
        // Subscribes that are under way count as if they had succeeded.
        let under_way = connection.subscriptions() + connection.in_flight.get() as usize;
        if under_way >= subscriptions_max && !connection.topics.borrow().has(topic) {
            return self.answer_full(request_id);
        }
        let replay = match replay {
            command::Replay::None => Replay::None,
            command::Replay::Last(wanted) => Replay::Last(wanted),
            command::Replay::Since { epoch, seq } => Replay::Since {
                epoch: epoch.into(),
                seq,
            },
        };
        let subscriber = connection.id;
        // One piece of the past waits for a connection, not one for each of its subscribes.
        let is_inline = self.flow.is_idle() && connection.ring.borrow().is_empty();
        self.ask(topic, |topic| Request::Subscribe {
            subscriber,
            topic,
            replay,
            policy,
            is_inline,
            request_id: owned(request_id),
        })
    }

    pub(super) fn answer_full(&mut self, request_id: Option<RequestId<'_>>) -> Acted {
        let subscriptions_max = self.local.config().subscriptions_max;
        let message = format!("No room for another subscription: the limit is {subscriptions_max}");
        self.answer(&Answer::Error {
            request_id,
            code: ErrorCode::LimitExceeded,
            message: &message,
        })
    }

    /// Answers a command here, once those before it are answered.
    pub(super) fn answer(&mut self, answer: &Answer<'_>) -> Acted {
        if !self.flow.is_idle() {
            return Acted::MustWait;
        }
        self.connection.say(&self.local, answer);
        Acted::Done
    }

    /// Hands a command to the shard of `topic`, once those with other shards are answered.
    fn ask(&mut self, topic: &str, request: impl FnOnce(Box<str>) -> Request) -> Acted {
        let shard = self.local.process.broker.shard_of(topic);
        if !self.flow.may_ask(shard) {
            return Acted::MustWait;
        }
        self.flow.ask(shard, request(topic.into()));
        Acted::Done
    }
}

fn owned(request_id: Option<RequestId<'_>>) -> Option<Box<str>> {
    request_id.map(|id| id.as_json().into())
}

pub(super) fn request_id_of<'a>(
    command: &Result<Command<'a>, BadCommand<'a>>,
) -> Option<RequestId<'a>> {
    match command {
        Ok(Command::Publish(publish)) => publish.request_id,
        Ok(
            Command::Auth { request_id, .. }
            | Command::Subscribe { request_id, .. }
            | Command::Unsubscribe { request_id, .. }
            | Command::SubscribePattern { request_id, .. }
            | Command::UnsubscribePattern { request_id, .. }
            | Command::Ping { request_id },
        )
        | Err(BadCommand { request_id, .. }) => *request_id,
    }
}
