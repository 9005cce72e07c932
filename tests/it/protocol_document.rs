//! Every example of docs/protocol.md, carried out: a client that was written from it must not meet a surprise.

use rustix::process::Signal;

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::http::Response;
use crate::harness::keys::{KeyFile, text};
use crate::harness::sse::EventStream;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// One block of the document.
struct Example {
    /// Behind ```` ```example ````.
    settings: Vec<(&'static str, &'static str)>,
    /// The last block of TOML before it: what `API_KEYS_FILE` holds.
    keys: String,
    lines: Vec<&'static str>,
}

fn examples() -> Vec<Example> {
    let mut lines = DOCUMENT.lines();
    let mut examples = Vec::new();
    let mut keys = String::new();
    while let Some(line) = lines.next() {
        if line == "```toml" {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            keys = block.join("\n");
        }
        let Some(settings) = line.strip_prefix("```example") else {
            continue;
        };
        let settings = settings.split_whitespace();
        let settings = settings.map(|setting| setting.split_once('=').expect("NAME=VALUE"));
        let block = lines.by_ref().take_while(|line| *line != "```");
        examples.push(Example {
            settings: settings.collect(),
            keys: keys.clone(),
            lines: block.collect(),
        });
    }
    examples
}

/// Whether `text` is `pattern`, in which `…` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, further)) = pattern.split_once('…') else {
        return pattern == text;
    };
    let Some(rest) = text.strip_prefix(first) else {
        return false;
    };
    (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| fits(further, rest)))
}

#[track_caller]
fn assert_fits(pattern: &str, text: &str) {
    assert!(
        fits(pattern, text),
        "documented {pattern}\n      is a {text}"
    );
}

async fn carry_out(example: Example) {
    let key = [("X-API-Key", "secret")];
    let file = KeyFile::new(&example.keys);
    let path = file.path();
    let mut settings = example.settings;
    for (name, value) in &mut settings {
        if *name == "API_KEYS_FILE" {
            *value = text(&path);
        }
    }
    let broker = Broker::start(&settings);
    broker
        .request("POST", "/topics", &key, r#"{"name":"orders"}"#)
        .await;
    let mut client = None;
    let mut answer: Option<Response> = None;
    let mut stream: Option<EventStream> = None;
    for line in example.lines {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if matches!(first, ">" | "<" | "close") && client.is_none() {
            client = Some(Client::connect(&broker).await);
        }
        match (first, &mut client, &answer) {
            (">", Some(client), _) => client.send_text(rest).await,
            ("<", Some(client), _) => assert_fits(rest, &client.recv_raw().await),
            ("close", Some(client), _) => {
                let (code, before) = client.expect_close().await;
                assert_eq!((code.to_string().as_str(), before.len()), (rest, 0));
            }
            ("SIGTERM", _, _) => broker.signal(Signal::TERM),
            ("GET", _, _) if rest.contains("/events?") => {
                stream = Some(EventStream::open(&broker, rest, &[]).await);
            }
            ("|", _, _) => {
                let stream = stream.as_mut().expect("a stream");
                let line = stream.wire.take_until(b"\n", "a line").await;
                assert_fits(rest, line.expect("the stream goes on").trim_end());
            }
            ("GET" | "POST" | "PUT" | "DELETE", _, _) => {
                let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
                answer = Some(broker.request(first, path, &[], body).await);
            }
            (status, _, Some(answer)) => {
                assert_eq!(answer.status.to_string(), status, "{}", answer.body);
                assert_fits(rest, &answer.body);
            }
            _ => panic!("what is {line}?"),
        }
    }
}

#[tokio::test]
async fn every_documented_example_is_what_happens() {
    let examples = examples();
    assert!(examples.len() > 15, "{}", examples.len());
    for example in examples {
        carry_out(example).await;
    }
}

#[test]
fn every_error_code_is_documented() {
    for code in shardcast::protocol::codes::ErrorCode::ALL {
        let row = format!("| `{}` |", code.as_str());
        assert!(DOCUMENT.contains(&row), "{row}");
    }
}
