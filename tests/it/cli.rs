//! The subcommands that are clients, run as people and scripts run them.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::broker::{Broker, command, run_to_end};
use crate::harness::client::Client;
use crate::harness::json::member;
use crate::harness::tls::Authority;
use crate::harness::{PATIENCE, eventually};

/// A subcommand that is still running; killed when the test is over.
struct Tool(Child);

impl Tool {
    fn start(broker: &Broker, arguments: &[&str]) -> Self {
        let url = format!("ws://{}/ws", broker.address());
        Self::start_with(&[("SHARDCAST_URL", &url)], arguments)
    }

    fn start_with(settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let child = command(settings)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("the binary was built with the tests"))
    }

    /// Runs it on this input to its end; gives exit code and standard output.
    fn run(broker: &Broker, arguments: &[&str], input: &str) -> (Option<i32>, String) {
        let Ended { code, stdout, .. } = Self::run_bytes(broker, arguments, input.as_bytes());
        (code, stdout)
    }

    /// Runs it on this input to its end.
    fn run_bytes(broker: &Broker, arguments: &[&str], input: &[u8]) -> Ended {
        let mut tool = Self::start(broker, arguments);
        let mut stdin = tool.0.stdin.take().expect("stdin is piped");
        // It may have what it needs before it has read everything.
        stdin.write_all(input).ok();
        drop(stdin);
        tool.end()
    }

    /// Waits for its end.
    fn end(&mut self) -> Ended {
        let stdout = self.0.stdout.take().map(read_all);
        let stderr = read_all(self.0.stderr.take().expect("stderr is piped"));
        let text = |reading: mpsc::Receiver<String>| {
            let text = reading.recv_timeout(PATIENCE);
            text.expect("it ends in time")
        };
        let (stdout, stderr) = (stdout.map(text).unwrap_or_default(), text(stderr));
        Ended {
            code: self.0.wait().expect("it is our child").code(),
            stdout,
            stderr,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a child has a positive pid"), signal).expect("it still runs");
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

/// What is left of a subcommand.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn read_all(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, text) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        from.read_to_string(&mut text).expect("it writes UTF-8");
        sender.send(text)
    });
    text
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
    eventually("the subscription", async || {
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
async fn sub_wants_fewer_events_where_it_is_told_so() {
    for wish in [&["--max-rate", "1"][..], &["--latest", "--max-rate", "2"]] {
        let broker = broker().await;
        let mut tool = Tool::start(&broker, &[&["sub", "orders"], wish].concat());
        subscribed(&broker, 1).await;
        let mut publisher = Client::connect(&broker).await;
        publisher.publish_all("orders", 1..=20, 1).await;
        // What is held back comes before the word that ends it.
        broker.delete_topic("orders").await;
        let output = tool.end().stdout;
        let mut at = 0;
        for line in output.lines() {
            let number = |key| member(line, key).parse::<u64>().expect("a number");
            assert_eq!(number("seq"), at + number("skipped") + 1, "{line}");
            at = number("seq");
        }
        assert_eq!(at, 20, "{output}");
        assert!(output.lines().count() < 20, "{output}");
    }
    let broker = broker().await;
    for rate in ["0", "1001", "fast"] {
        let wrong = Tool::run_bytes(&broker, &["sub", "orders", "--max-rate", rate], b"");
        assert_eq!(wrong.code, Some(2));
        assert!(wrong.stderr.contains("--max-rate"), "{}", wrong.stderr);
    }
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

/// As in an editor's shell. `script` gives it the terminal.
#[tokio::test]
async fn a_shell_talks_on_a_terminal_that_cannot_move_its_cursor() {
    let broker = broker().await;
    let script = Command::new("script")
        .args(["--quiet", "--return", "--command"])
        .arg(concat!(env!("CARGO_BIN_EXE_shardcast"), " shell"))
        .arg("/dev/null")
        .env("TERM", "dumb")
        .env("SHARDCAST_URL", format!("ws://{}/ws", broker.address()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = Tool(script.expect("script is part of every Debian"));
    let mut stdin = tool.0.stdin.take().expect("stdin is piped");
    stdin.write_all(b"topics\nquit\n").expect("it reads");
    let ended = tool.end();
    assert!(ended.stdout.contains("\"orders\""), "{}", ended.stdout);
    assert_eq!(ended.code, Some(0), "{}", ended.stdout);
}

#[tokio::test]
async fn two_tools_make_a_pipe() {
    let broker = broker().await;
    let mut tool = Tool::start(&broker, &["sub", "orders"]);
    eventually("the subscription", async || {
        broker.subscribers_of("orders").await == 1
    })
    .await;
    let (code, _) = Tool::run(&broker, &["pub", "orders"], "1\n2\n3\n");
    assert_eq!(code, Some(0));
    let lines = tool.lines(3);
    let seqs: Vec<_> = lines.iter().map(|line| member(line, "seq")).collect();
    assert_eq!(seqs, ["1", "2", "3"]);
}

async fn subscribed(broker: &Broker, count: u64) {
    eventually("the subscription", async || {
        broker.subscribers_of("orders").await == count
    })
    .await;
}

#[tokio::test]
async fn pub_publishes_what_comes_before_a_bad_line_and_says_how_much() {
    let broker = broker().await;
    let input = b"1\n2\n3\n4\n5\n\xff\n7\n";
    let ended = Tool::run_bytes(&broker, &["pub", "orders"], input);
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stderr,
        "shardcast: line 6: not UTF-8; published 5, seq 1 to 5\n"
    );
    let ended = Tool::run_bytes(&broker, &["pub", "orders", "--json"], b"{}\nhello\n");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("line 2: not JSON: "));
    assert!(
        ended.stderr.ends_with("published 1, seq 6 to 6\n"),
        "{}",
        ended.stderr
    );
    let ended = Tool::run_bytes(&broker, &["pub", "orders", "hello", "--json"], b"");
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
}

#[tokio::test]
async fn pub_sends_a_file_as_one_message() {
    let broker = broker().await;
    let mut subscriber = Client::subscribed(&broker, "orders").await;
    let text = "{\"a\":\n 1}\n";
    let ended = Tool::run_bytes(&broker, &["pub", "orders", "--file", "-"], text.as_bytes());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let event = subscriber.expect_event("orders").await;
    assert_eq!(event["message"]["payload"]["a"], 1);
    let file = std::env::temp_dir().join(format!("shardcast-cli-{}", std::process::id()));
    std::fs::write(&file, "two\nlines").expect("a writable temporary directory");
    let path = file.to_str().expect("a path in UTF-8");
    let ended = Tool::run_bytes(&broker, &["pub", "orders", "--file", path], b"");
    std::fs::remove_file(&file).expect("it was written");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let event = subscriber.expect_event("orders").await;
    assert_eq!(event["message"]["payload"], "two\nlines");
    let ended = Tool::run_bytes(&broker, &["pub", "orders", "--file", path], b"");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("cannot read"), "{}", ended.stderr);
}

#[tokio::test]
async fn sub_ends_when_its_reader_has_gone() {
    let broker = broker().await;
    let mut tool = Tool::start(&broker, &["sub", "orders"]);
    subscribed(&broker, 1).await;
    drop(tool.0.stdout.take());
    assert_eq!(tool.end().code, Some(0));
}

#[tokio::test]
async fn sub_ends_with_130_when_it_is_interrupted() {
    let broker = broker().await;
    let mut tool = Tool::start(&broker, &["sub", "orders"]);
    subscribed(&broker, 1).await;
    tool.signal(Signal::INT);
    let ended = tool.end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(130), ""));
}

#[tokio::test]
async fn sub_ends_with_its_topic() {
    let broker = broker().await;
    let mut tool = Tool::start(&broker, &["sub", "orders"]);
    subscribed(&broker, 1).await;
    broker.delete_topic("orders").await;
    let ended = tool.end();
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("topic 'orders' was deleted"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn sub_notices_a_dead_link() {
    let broker = broker().await;
    let mut tool = Tool::start(&broker, &["sub", "orders", "--timeout", "2"]);
    subscribed(&broker, 1).await;
    broker.signal(Signal::STOP);
    let ended = tool.end();
    broker.signal(Signal::CONT);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("nothing came for 2 s"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_quiet_topic_is_no_dead_link() {
    let broker = Broker::start(&[("PING_PERIOD_SEC", "50")]);
    broker.create_topic("orders").await;
    let mut tool = Tool::start(&broker, &["sub", "orders", "--timeout", "2"]);
    subscribed(&broker, 1).await;
    // Longer than the timeout: only its own pings keep it alive.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    Client::connect(&broker).await.publish("orders", 1).await;
    assert_eq!(tool.lines(1).len(), 1);
}

#[tokio::test]
async fn sub_goes_on_where_it_was_told_to_for_each_topic() {
    let broker = broker().await;
    broker.create_topic("trades").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("orders", 1..=3, 1).await;
    publisher.publish_all("trades", 1..=3, 1).await;
    let epoch = |topic: &'static str| {
        let broker = &broker;
        async move {
            let mut client = Client::connect(broker).await;
            let command = serde_json::json!({"type": "subscribe", "topic": topic});
            let ack = client.ask(command).await;
            ack["epoch"].as_str().expect("an epoch").to_owned()
        }
    };
    let orders = format!("orders={}:2", epoch("orders").await);
    let trades = format!("trades={}:1", epoch("trades").await);
    let arguments = [
        "sub", "orders", "trades", "--since", &orders, "--since", &trades,
    ];
    let mut tool = Tool::start(&broker, &arguments);
    let mut seen: Vec<_> = tool
        .lines(3)
        .iter()
        .map(|line| (member(line, "topic"), member(line, "seq")))
        .collect();
    seen.sort();
    let seen: Vec<_> = seen
        .iter()
        .map(|(topic, seq)| format!("{topic} {seq}"))
        .collect();
    assert_eq!(seen, ["\"orders\" 3", "\"trades\" 2", "\"trades\" 3"]);
    let wrong = Tool::run_bytes(&broker, &["sub", "orders", "--since", &trades], b"");
    assert_eq!(wrong.code, Some(1));
    assert!(
        wrong.stderr.contains("--since names 'trades'"),
        "{}",
        wrong.stderr
    );
}

#[tokio::test]
async fn sub_comes_back_when_the_broker_is_there_again() {
    let broker = broker().await;
    let port = broker.address().port().to_string();
    let mut tool = Tool::start(&broker, &["sub", "orders", "--reconnect"]);
    subscribed(&broker, 1).await;
    drop(broker);
    let mut broker = None;
    eventually("the port", async || {
        let free = std::net::TcpListener::bind(format!("127.0.0.1:{port}"));
        free.is_ok()
    })
    .await;
    broker.get_or_insert_with(|| Broker::start(&[("PORT", &port)]));
    let broker = broker.expect("it was started");
    broker.create_topic("orders").await;
    subscribed(&broker, 1).await;
    Client::connect(&broker).await.publish("orders", 1).await;
    let lines = tool.lines(1);
    assert_eq!(member(&lines[0], "seq"), "1");
}

#[tokio::test]
async fn sub_to_a_pattern_goes_on_behind_each_topic() {
    let broker = Broker::start(&[]);
    let port = broker.address().port().to_string();
    broker.create_topic("orders.eu").await;
    let mut publisher = Client::connect(&broker).await;
    publisher.publish_all("orders.eu", 1..=5, 5).await;
    let mut tool = Tool::start(&broker, &["sub", "orders.*", "--last", "2", "--reconnect"]);
    eventually("the subscriber", async || {
        broker.subscribers_of("orders.eu").await == 1
    })
    .await;
    broker.create_topic("orders.us").await;
    publisher.publish("orders.us", 1).await;
    publisher.publish("orders.eu", 1).await;
    eventually("what is written", async || {
        let connections = broker.get("/connections").await.json();
        let connections = connections["connections"].as_array().expect("a list");
        connections.iter().any(|of| of["events_out"] == 2)
    })
    .await;
    drop(broker);
    eventually("the port", async || {
        std::net::TcpListener::bind(format!("127.0.0.1:{port}")).is_ok()
    })
    .await;
    // What is there when it comes back is another topic, of which it has seen nothing.
    let broker = Broker::start(&[("PORT", &port)]);
    let mut publisher = Client::connect(&broker).await;
    broker.create_topic("orders.eu").await;
    publisher.publish_all("orders.eu", 1..=2, 2).await;
    let mut shown: Vec<_> = tool
        .lines(6)
        .iter()
        .map(|line| format!("{} {}", member(line, "topic"), member(line, "seq")))
        .collect();
    shown.sort();
    let expected = ["eu\" 1", "eu\" 2", "eu\" 4", "eu\" 5", "eu\" 6", "us\" 1"];
    assert_eq!(shown, expected.map(|of| format!("\"orders.{of}")));
    let wrong = Tool::run_bytes(&broker, &["sub", "orders*"], b"");
    assert!(
        wrong.stderr.contains("a token of its own"),
        "{}",
        wrong.stderr
    );
}

#[tokio::test]
async fn a_wrong_key_is_said_to_be_wrong() {
    let broker = Broker::start(&[("AUTH_ENABLED", "true"), ("API_KEYS", "schlüssel")]);
    for arguments in [
        &["sub", "orders"][..],
        &["pub", "orders", "1"],
        &["topics"],
        &["create", "orders"],
    ] {
        let ended = Tool::run_bytes(&broker, &[arguments, &["--api-key", "wrong"]].concat(), b"");
        assert_eq!(ended.code, Some(1));
        assert!(
            ended.stderr.contains("API key that was given"),
            "{}",
            ended.stderr
        );
        let ended = Tool::run_bytes(&broker, arguments, b"");
        assert!(ended.stderr.contains("give a key"), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn topics_are_created_listed_and_deleted() {
    let broker = broker().await;
    let odd = "a/b c?";
    let (code, _) = Tool::run(&broker, &["create", "trades", odd], "");
    assert_eq!(code, Some(0));
    let (code, listed) = Tool::run(&broker, &["topics"], "");
    let names: Vec<_> = listed.lines().map(|line| member(line, "name")).collect();
    assert_eq!(
        (code, names),
        (
            Some(0),
            vec![
                format!("\"{odd}\""),
                "\"orders\"".to_owned(),
                "\"trades\"".to_owned()
            ]
        )
    );
    let ended = Tool::run_bytes(&broker, &["create", "orders", "new"], b"");
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("cannot create 'orders': TOPIC_EXISTS"),
        "{}",
        ended.stderr
    );
    let (code, _) = Tool::run(&broker, &["delete", odd, "trades", "new"], "");
    assert_eq!((code, broker.health("topics").await), (Some(0), 1));
    let (code, output) = Tool::run(
        &broker,
        &["shell"],
        "create x\ntopics\ndelete x\ndelete x\n",
    );
    assert_eq!(code, Some(1));
    assert!(
        output.starts_with("ok x created\n{\"name\":\"orders\""),
        "{output}"
    );
    assert!(
        output.ends_with("ok x deleted\nerror: TOPIC_NOT_FOUND: topic not found\n"),
        "{output}"
    );
}

#[tokio::test]
async fn health_asks_where_the_other_clients_connect() {
    let broker = broker().await;
    let ended = Tool::run_bytes(&broker, &["health"], b"");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout.starts_with("{\"uptime_sec\":"),
        "{}",
        ended.stdout
    );
}

#[test]
fn there_is_a_short_help_and_a_long_one() {
    let help = |arguments: &[&str]| {
        let output = command(&[]).args(arguments).output();
        let output = output.expect("the binary was built with the tests");
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).expect("help is UTF-8")
    };
    let (short, long) = (help(&["-h"]), help(&["--help"]));
    assert!(
        short.lines().count() < 48 && short.contains("--port"),
        "{short}"
    );
    assert!(long.lines().count() > 100 && long.contains("PORT=8080"));
    assert_eq!(help(&["help"]), long);
    assert!(help(&["sub", "-h"]).contains("--since") && help(&["help", "sub"]).contains("--since"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_speaks_tls_where_the_url_says_so() {
    let authority = Authority::new();
    let broker = authority.start(&[("PORT", "off")]);
    let port = broker.tls_address().port();
    let (ca, url) = (
        authority.setting("ca.pem"),
        format!("wss://localhost:{port}/ws"),
    );
    let settings = [("SHARDCAST_URL", url.as_str()), ("SHARDCAST_CA", &ca)];
    let run = |settings: &[(&str, &str)], arguments: &[&str]| {
        let Ended {
            code,
            stdout,
            stderr,
        } = Tool::start_with(settings, arguments).end();
        (code, stdout, stderr)
    };
    assert_eq!(run(&settings, &["create", "orders"]).0, Some(0));
    assert!(run(&settings, &["topics"]).1.contains("orders"));
    let arguments = ["sub", "orders", "--verbose"];
    let mut subscriber = Tool::start_with(&settings, &arguments);
    let mut said = BufReader::new(subscriber.0.stderr.take().expect("stderr is piped"));
    let said = in_time(move || {
        let mut line = String::new();
        said.read_line(&mut line).expect("UTF-8");
        (line, said)
    });
    assert!(said.0.contains("orders"), "{}", said.0);
    assert_eq!(run(&settings, &["pub", "orders", "hello"]).0, Some(0));
    assert!(subscriber.lines(1)[0].contains("hello"));

    let health = format!("https://127.0.0.1:{port}");
    let health = ["health", "--url", &health];
    assert_eq!(run(&[], &[&health[..], &["--ca", &ca]].concat()).0, Some(0));
    assert_eq!(
        run(&[], &[&health[..], &["--insecure"]].concat()).0,
        Some(0)
    );
    let (code, _, stderr) = run(&[], &health);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("UnknownIssuer"), "{stderr}");
    let (code, _, stderr) = run(&[], &[&health[..], &["--ca", "/dev/null"]].concat());
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no certificate in it"), "{stderr}");

    // As a container asks for its own health.
    let (cert, port) = (authority.setting("cert.pem"), port.to_string());
    let own = [
        ("PORT", "off"),
        ("TLS_CERT", cert.as_str()),
        ("TLS_KEY", &cert),
        ("TLS_PORT", &port),
    ];
    assert_eq!(run(&own, &["health"]).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_shown_to_a_broker_that_asks_for_one() {
    let authority = Authority::new();
    let ca = authority.setting("ca.pem");
    let broker = authority.start(&[("TLS_CLIENT_CA", &ca)]);
    let port = broker.tls_address().port().to_string();
    let signed = authority.sign("till-7");
    let cert = authority.write("client.pem", &signed.cert);
    let key = authority.write("client.key", &signed.key);
    // As a container asks for its own health, where there is no plain port.
    let own = [
        ("PORT", "off"),
        ("TLS_CERT", "c"),
        ("TLS_KEY", "k"),
        ("TLS_PORT", port.as_str()),
        ("SHARDCAST_CA", &ca),
    ];
    let shown = [
        ("SHARDCAST_CERT", cert.as_str()),
        ("SHARDCAST_CERT_KEY", &key),
    ];
    let run = |settings: &[(&str, &str)], arguments: &[&str]| {
        let Ended { code, stderr, .. } = Tool::start_with(settings, arguments).end();
        (code, stderr)
    };
    assert_eq!(run(&[&own[..], &shown].concat(), &["health"]).0, Some(0));
    assert_eq!(run(&own, &["health"]).0, Some(1));
    let url = format!("wss://127.0.0.1:{port}/ws");
    let url = [("SHARDCAST_URL", url.as_str()), ("SHARDCAST_CA", &ca)];
    let flags = ["create", "orders", "--cert", &cert, "--cert-key", &key];
    assert_eq!(run(&url, &flags), (Some(0), String::new()));
    let (code, stderr) = run(&url, &["topics", "--cert", &cert]);
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("--cert and --cert-key go together"),
        "{stderr}"
    );
    let wrong = ["topics", "--cert", &cert, "--cert-key", &cert];
    let (code, stderr) = run(&url, &wrong);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--cert-key"), "{stderr}");
}

#[tokio::test]
async fn a_new_key_opens_what_its_table_says() {
    let mut tool = Tool::start_with(
        &[],
        &[
            "key",
            "new",
            "--name",
            "dash \"x\"",
            "--subscribe",
            "orders.*",
            "--observe",
        ],
    );
    let made = tool.end();
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let (_, key) = made
        .stderr
        .trim()
        .rsplit_once(' ')
        .expect("the key is the last word");
    assert!(key.starts_with("sc_") && !made.stdout.contains(key));
    let path = std::env::temp_dir().join(format!("{key}.toml"));
    std::fs::write(&path, &made.stdout).expect("a temporary file");
    let path = path.to_str().expect("UTF-8");

    let broker = Broker::start(&[("AUTH_ENABLED", "true"), ("API_KEYS_FILE", path)]);
    let header = [("X-API-Key", key)];
    assert_eq!(
        broker.request("GET", "/stats", &header, "").await.status,
        200
    );
    let body = r#"{"name":"orders.eu"}"#;
    assert_eq!(
        broker
            .request("POST", "/topics", &header, body)
            .await
            .status,
        403
    );

    let check = |arguments: &[&str]| {
        let all = [&["key", "check", path][..], arguments].concat();
        let ended = Tool::start_with(&[], &all).end();
        (ended.code, ended.stderr)
    };
    let name = ["--name", "dash \"x\""];
    assert_eq!(check(&[]).0, Some(0));
    assert_eq!(
        check(&[&name[..], &["--subscribe", "orders.eu"]].concat()).0,
        Some(0)
    );
    let (code, said) = check(&[&name[..], &["--publish", "orders.eu"]].concat());
    assert_eq!(
        (code, said.trim()),
        (
            Some(1),
            "shardcast: key 'dash \"x\"' may not publish to 'orders.eu'"
        )
    );
    assert_eq!(check(&["--name", "nobody"]).0, Some(1));

    let listed = Tool::start_with(&[], &["key", "list", path]).end();
    let line: serde_json::Value = serde_json::from_str(listed.stdout.trim()).expect("JSON");
    assert_eq!(line["name"], "dash \"x\"");
    assert_eq!(line["subscribe"], serde_json::json!(["orders.*"]));
    std::fs::write(path, "[[key]]\nname = 1\n").expect("a temporary file");
    let (code, said) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("line 2"), "{said}");
    std::fs::remove_file(path).ok();
}

#[test]
fn a_key_that_no_file_may_hold_is_not_made() {
    for arguments in [
        &["--name", ""][..],
        &["--name", "a", "--subscribe", "a.*b"],
        &["--name", "a", "--expires", "tomorrow"],
        &["--name", "a", "--connections-max", "0"],
    ] {
        let all = [&["key", "new"][..], arguments].concat();
        let ended = Tool::start_with(&[], &all).end();
        assert_ne!(ended.code, Some(0), "{arguments:?}");
        assert!(
            ended.stdout.is_empty() && !ended.stderr.contains("sc_"),
            "{}",
            ended.stderr
        );
    }
}
