//! The subcommands that are clients, run as people and scripts run them.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::harness::PATIENCE;
use crate::harness::broker::{Broker, command, run_to_end};
use crate::harness::client::Client;
use crate::harness::json::member;

/// A subcommand that is still running; killed when the test is over.
struct Tool(Child);

impl Tool {
    fn start(broker: &Broker, arguments: &[&str]) -> Self {
        let url = format!("ws://{}/ws", broker.address());
        let child = command(&[("SHARDCAST_URL", &url)])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("the binary was built with the tests"))
    }

    /// Runs it on this input to its end; gives exit code and standard output.
    fn run(broker: &Broker, arguments: &[&str], input: &str) -> (Option<i32>, String) {
        let mut tool = Self::start(broker, arguments);
        let mut stdin = tool.0.stdin.take().expect("stdin is piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        let mut stdout = tool.0.stdout.take().expect("stdout is piped");
        let output = in_time(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let status = tool.0.wait().expect("it is our child");
        (status.code(), output.expect("it writes UTF-8"))
    }

    /// The next lines of its standard output.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let stdout = self.0.stdout.take().expect("stdout is piped");
        in_time(move || {
            let lines = BufReader::new(stdout).lines();
            lines.take(count).collect::<Result<_, _>>().expect("UTF-8")
        })
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    done.recv_timeout(PATIENCE).expect("an answer in time")
}

async fn broker() -> Broker {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    broker
}

#[tokio::test]
async fn health_exits_with_0_when_the_broker_is_well() {
    let broker = broker().await;
    let port = broker.address().port().to_string();
    let healthy = run_to_end(&[("PORT", &port)], &["health"]);
    assert_eq!(healthy.code, 0, "{}", healthy.stderr);
}

#[test]
fn health_exits_with_1_when_nobody_is_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("ports are not used up");
    let port = free.local_addr().expect("it is bound").port().to_string();
    drop(free);
    let unhealthy = run_to_end(&[("PORT", &port)], &["health"]);
    assert_eq!(unhealthy.code, 1, "{}", unhealthy.stderr);
    assert!(!unhealthy.stderr.is_empty());
}

#[tokio::test]
async fn pub_publishes_each_line_of_standard_input() {
    let broker = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let lines = "{\"n\": 1.0}\n[2]\nthree\n";
    let (code, _) = Tool::run(&broker, &["pub", "orders"], lines);
    assert_eq!(code, Some(0));
    for payload in ["{\"n\": 1.0}", "[2]", "\"three\""] {
        let event = subscriber.recv_raw().await;
        assert_eq!(member(&member(&event, "message"), "payload"), payload);
    }
}

#[tokio::test]
async fn pub_publishes_its_argument() {
    let broker = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let (code, _) = Tool::run(&broker, &["pub", "orders", "{\"n\":1}"], "");
    assert_eq!(code, Some(0));
    let event = subscriber.expect_event("orders").await;
    assert_eq!(event["message"]["payload"]["n"], 1);
}

#[tokio::test]
async fn pub_to_an_unknown_topic_fails() {
    let broker = broker().await;
    let (code, _) = Tool::run(&broker, &["pub", "nowhere"], "1\n");
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn sub_prints_the_history_and_then_live_events() {
    let broker = broker().await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("orders", 1..=3, 1).await;
    let mut tool = Tool::start(&broker, &["sub", "orders", "--last", "2"]);
    crate::harness::eventually("the subscription", async || {
        broker.subscribers_of("orders").await == 1
    })
    .await;
    publisher.publish("orders", 4).await;
    let lines = tool.lines(3);
    for (line, seq) in lines.iter().zip(2..) {
        assert_eq!(member(line, "seq"), seq.to_string());
    }
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn sub_to_an_unknown_topic_fails() {
    let broker = broker().await;
    let (code, output) = Tool::run(&broker, &["sub", "nowhere"], "");
    assert_eq!((code, output.as_str()), (Some(1), ""));
}

#[tokio::test]
async fn a_shell_reads_commands_from_a_pipe() {
    let broker = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let (code, output) = Tool::run(&broker, &["shell"], "ping\npub orders {\"n\":1}\n");
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("pong"), "{output}");
    let event = subscriber.expect_event("orders").await;
    assert_eq!(event["message"]["payload"]["n"], 1);
}

#[tokio::test]
async fn two_tools_make_a_pipe() {
    let broker = broker().await;
    let mut tool = Tool::start(&broker, &["sub", "orders"]);
    crate::harness::eventually("the subscription", async || {
        broker.subscribers_of("orders").await == 1
    })
    .await;
    let (code, _) = Tool::run(&broker, &["pub", "orders"], "1\n2\n3\n");
    assert_eq!(code, Some(0));
    let lines = tool.lines(3);
    let seqs: Vec<_> = lines.iter().map(|line| member(line, "seq")).collect();
    assert_eq!(seqs, ["1", "2", "3"]);
}
