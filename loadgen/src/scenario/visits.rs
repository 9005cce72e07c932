//! Connections that come and go, each through one slot of a small event loop.
//!
//! Not the engine's loop, because here connections, not messages, are the work. Every visit ends: when it has its event, when
//! the server keeps none, or when its time is over.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use super::Session;
use crate::Failure;
use crate::client::{Client, Ended};
use crate::engine::shared::Plan;
use crate::engine::subscriber::latency_histogram;
use crate::units::{count, nanos};
use crate::wire::{EventShape, PublishTemplate, Told};

const BUFFER_BYTES: usize = 64 << 10;
const VISIT_MAX: Duration = Duration::from_secs(5);
/// An ack without an event after it: the server keeps no history.
const EVENT_WAIT: Duration = Duration::from_millis(500);

/// What all visits together brought.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) secs: f64,
    pub(crate) done: u64,
    pub(crate) with_event: u64,
    pub(crate) failed: u64,
    pub(crate) failure: Option<String>,
    pub(crate) visit_ns: Histogram<u64>,
}

/// Publishes one message into each topic, then visits them in turn.
pub(crate) fn visit(
    session: &Session,
    plan: &Plan,
    rate: f64,
    workers: usize,
) -> Result<Outcome, Failure> {
    let shape = |topic: &String| EventShape::new(topic, plan.payload_bytes, false);
    let mut churn = Churn {
        session,
        shapes: plan.topics.iter().map(shape).collect(),
        topics: &plan.topics,
        poll: Poll::new()?,
        buffer: vec![0; BUFFER_BYTES],
        visits: (0..workers).map(|_| None).collect(),
        started: 0,
        outcome: Outcome {
            secs: 0.0,
            done: 0,
            with_event: 0,
            failed: 0,
            failure: None,
            visit_ns: latency_histogram(),
        },
    };
    churn.publish_one_each(plan.run)?;
    churn.run(rate)?;
    Ok(churn.outcome)
}

/// One visit that goes on.
struct Visit {
    client: Client,
    topic: usize,
    since: Instant,
    subscribed: bool,
    acked: Option<Instant>,
    event: bool,
    trouble: Option<String>,
}

struct Churn<'a> {
    session: &'a Session,
    topics: &'a [String],
    shapes: Vec<EventShape>,
    poll: Poll,
    buffer: Vec<u8>,
    visits: Vec<Option<Visit>>,
    started: u64,
    outcome: Outcome,
}

impl Churn<'_> {
    /// Over an ordinary connection, waiting for each ack.
    fn publish_one_each(&mut self, run: u32) -> Result<(), Failure> {
        let mut client = Client::connect(self.session.doors.of(0), "churn", None, 0)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut client.stream, Token(usize::MAX), interest)?;
        let deadline = Instant::now() + VISIT_MAX;
        let (mut events, mut answered, mut sent) = (Events::with_capacity(8), 0, false);
        while answered < self.topics.len() {
            if Instant::now() > deadline {
                return Err(Failure::Connect(
                    "the first publishes were not acked in time".into(),
                ));
            }
            self.poll
                .poll(&mut events, Some(Duration::from_millis(20)))?;
            client.flush().map_err(|ended| connect_failure(&ended))?;
            let take = |text: &[u8]| {
                answered += usize::from(matches!(Told::parse(text), Told::Ack { .. }));
            };
            client
                .receive(&mut self.buffer, take)
                .map_err(|ended| connect_failure(&ended))?;
            if client.is_open() && !sent {
                sent = true;
                for topic in self.topics {
                    let mut template =
                        PublishTemplate::new(topic, 0, run, self.session.settings.bytes);
                    template.append(client.out(), 1, 0);
                }
                client.flush().map_err(|ended| connect_failure(&ended))?;
            }
        }
        client.say_goodbye();
        Ok(())
    }

    /// Visits until the time is over.
    fn run(&mut self, rate: f64) -> Result<(), Failure> {
        let start = Instant::now();
        let end = start + Duration::from_nanos(nanos(self.session.settings.secs));
        let mut events = Events::with_capacity(self.visits.len());
        loop {
            let now = Instant::now();
            let over = now >= end || self.session.stopped();
            if over && (self.visits.iter().all(Option::is_none) || now >= end + VISIT_MAX) {
                break;
            }
            let allowed = if rate > 0.0 {
                count(rate * (now - start).as_secs_f64())
            } else {
                u64::MAX
            };
            if !over {
                self.start_visits(allowed, now);
            }
            self.poll
                .poll(&mut events, Some(Duration::from_millis(2)))?;
            for event in &events {
                if let Some(Some(visit)) = self.visits.get_mut(event.token().0) {
                    visit.client.on_event(event);
                    self.serve(event.token().0);
                }
            }
            self.end_overdue();
        }
        self.outcome.secs = start.elapsed().as_secs_f64();
        Ok(())
    }

    fn start_visits(&mut self, allowed: u64, now: Instant) {
        for at in 0..self.visits.len() {
            if self.visits[at].is_some() || self.started >= allowed {
                continue;
            }
            let topic = usize::try_from(self.started).unwrap_or(0) % self.topics.len();
            self.started += 1;
            match self.open(at, topic, now) {
                Ok(visit) => self.visits[at] = Some(visit),
                Err(error) => {
                    self.fail(error.to_string());
                    return;
                }
            }
        }
    }

    fn open(&self, at: usize, topic: usize, now: Instant) -> io::Result<Visit> {
        let mut client = Client::connect(
            self.session.doors.of(at),
            &format!("churn-{}", self.started),
            None,
            0,
        )?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut client.stream, Token(at), interest)?;
        Ok(Visit {
            client,
            topic,
            since: now,
            subscribed: false,
            acked: None,
            event: false,
            trouble: None,
        })
    }

    fn serve(&mut self, at: usize) {
        let Some(visit) = &mut self.visits[at] else {
            return;
        };
        let shape = &mut self.shapes[visit.topic];
        match visit.go_on(shape, &self.topics[visit.topic], &mut self.buffer) {
            Err(ended) => self.leave(at, Some(ended.to_string())),
            Ok(()) if visit.trouble.is_some() => {
                let trouble = visit.trouble.take();
                self.leave(at, trouble);
            }
            Ok(()) if visit.event && visit.acked.is_some() => self.leave(at, None),
            Ok(()) => {}
        }
    }

    fn end_overdue(&mut self) {
        for at in 0..self.visits.len() {
            let Some(visit) = &self.visits[at] else {
                continue;
            };
            if visit
                .acked
                .is_some_and(|acked| acked.elapsed() > EVENT_WAIT)
            {
                self.leave(at, None);
            } else if visit.since.elapsed() > VISIT_MAX {
                self.leave(at, Some("no ack in time".into()));
            }
        }
    }

    fn leave(&mut self, at: usize, trouble: Option<String>) {
        let Some(mut visit) = self.visits[at].take() else {
            return;
        };
        if let Some(trouble) = trouble {
            return self.fail(trouble);
        }
        visit.client.say_goodbye();
        self.outcome.done += 1;
        self.outcome.with_event += u64::from(visit.event);
        let took = u64::try_from(visit.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.outcome.visit_ns.saturating_record(took);
    }

    fn fail(&mut self, why: String) {
        self.outcome.failed += 1;
        self.outcome.failure.get_or_insert(why);
    }
}

impl Visit {
    fn go_on(
        &mut self,
        shape: &mut EventShape,
        topic: &str,
        buffer: &mut [u8],
    ) -> Result<(), Ended> {
        self.client.flush()?;
        let (acked, event, trouble) = (&mut self.acked, &mut self.event, &mut self.trouble);
        self.client.receive(buffer, |text| match shape.read(text) {
            Some(_) if acked.is_none() => *trouble = Some("an event came before the ack".into()),
            Some(_) => *event = true,
            None => match Told::parse(text) {
                Told::Ack { .. } => *acked = Some(Instant::now()),
                Told::Heartbeat => {}
                other => *trouble = Some(format!("{other:?}")),
            },
        })?;
        if self.client.is_open() && !self.subscribed {
            self.subscribed = true;
            let topic = serde_json::Value::from(topic);
            self.client.queue_text(&format!(
                r#"{{"type":"subscribe","topic":{topic},"last_n":1}}"#
            ));
            self.client.flush()?;
        }
        Ok(())
    }
}

fn connect_failure(ended: &Ended) -> Failure {
    Failure::Connect(ended.to_string())
}
