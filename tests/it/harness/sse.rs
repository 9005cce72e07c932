//! An event stream, read by the rules of the HTML standard (section 9.2.6) and nothing else.

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::http::{Response, request_head};
use crate::harness::wire::Wire;

/// What a browser would hand to a page.
#[derive(Debug, PartialEq)]
pub(crate) struct Event {
    /// Its name; `message` if it has none.
    pub(crate) name: String,
    pub(crate) data: String,
    /// The position that the browser would come back with.
    pub(crate) last_id: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A stream that is open.
pub(crate) struct EventStream {
    pub(crate) wire: Wire,
    pub(crate) head: Response,
    pub(crate) last_id: String,
    pub(crate) retry_ms: Option<u64>,
    /// Lines that are for nobody.
    pub(crate) comments: usize,
}

impl EventStream {
    /// Opens `path`, which must be answered with a stream.
    pub(crate) async fn open(broker: &Broker, path: &str, headers: &[(&str, &str)]) -> Self {
        let wire = Wire::connect(broker.address(), None).await;
        Self::open_over(wire, path, headers).await
    }

    pub(crate) async fn open_over(mut wire: Wire, path: &str, headers: &[(&str, &str)]) -> Self {
        let request = request_head("GET", path, headers);
        wire.send(request.as_bytes()).await;
        let head = wire.take_head("the head of a stream").await;
        let head = Response::parse_head(&head.expect("an answer"));
        assert_eq!(head.status, 200, "{:?}", head.headers);
        Self::of(wire, head)
    }

    /// What follows `head` on `wire`.
    pub(crate) fn of(wire: Wire, head: Response) -> Self {
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        Self {
            wire,
            head,
            last_id: String::new(),
            retry_ms: None,
            comments: 0,
        }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let (mut name, mut data) = (String::new(), Vec::new());
        loop {
            let line = self.wire.take_until(b"\n", "a line of a stream").await?;
            let line = line.trim_end_matches('\n');
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() && data.is_empty() => name.clear(),
                "" if line.is_empty() => {
                    let unnamed = name.is_empty().then(|| "message".to_owned());
                    return Some(Event {
                        name: unnamed.unwrap_or(name),
                        data: data.join("\n"),
                        last_id: self.last_id.clone(),
                    });
                }
                "" => self.comments += 1,
                "event" => value.clone_into(&mut name),
                "data" => data.push(value.to_owned()),
                "id" => value.clone_into(&mut self.last_id),
                "retry" => self.retry_ms = value.parse().ok(),
                other => panic!("an unknown field: {other:?} in {line:?}"),
            }
        }
    }

    /// The next event, which must have this name.
    pub(crate) async fn expect(&mut self, name: &str) -> Event {
        let event = self.next().await;
        let event = event.unwrap_or_else(|| panic!("the end instead of {name}"));
        assert_eq!(event.name, name, "{event:?}");
        event
    }

    /// The next event of a topic.
    pub(crate) async fn expect_event(&mut self, topic: &str) -> Event {
        let event = self.expect("message").await;
        let json = event.json();
        assert_eq!(
            (&json["type"], &json["topic"]),
            (&"event".into(), &topic.into())
        );
        event
    }

    /// The sequence numbers of the next events of a topic, up to `last`.
    pub(crate) async fn expect_seqs_to(&mut self, topic: &str, last: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.last() != Some(&last) {
            let event = self.expect_event(topic).await.json();
            seqs.push(event["seq"].as_u64().expect("a number"));
        }
        seqs
    }

    /// Nothing but the end of the stream may come.
    pub(crate) async fn expect_end(&mut self) {
        assert_eq!(self.next().await, None);
    }
}
