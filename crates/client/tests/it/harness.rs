//! A real broker for each test, on a port that is free, and what a test does to it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use shardcast_client::{
    Client, Event, Gap, Item, Limits, Options, Publish, Receipt, Subscribe, Subscription,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Pauses that a test can wait for.
pub(crate) fn quick() -> Limits {
    Limits {
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(100),
        heartbeat: Duration::from_millis(500),
        heartbeat_timeout: Duration::from_secs(2),
        open_timeout: Some(PATIENCE),
        ..Limits::default()
    }
}

/// Fails if `work` does not end.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Waits until `check` holds.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, wait).await;
}

#[expect(clippy::disallowed_methods, reason = "a test has no settings")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The broker: what `SHARDCAST_BIN` names, or what stands beside the tests; built if nothing does.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = variable("SHARDCAST_BIN") {
            return given.into();
        }
        let tests = std::env::current_exe().expect("a path");
        let profile = tests
            .parent()
            .and_then(Path::parent)
            .expect("target/debug/deps");
        let binary = profile.join("shardcast");
        if !binary.exists() {
            let cargo = variable("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.args(["build", "--package", "shardcast", "--bin", "shardcast"]);
            build
                .arg("--target-dir")
                .arg(profile.parent().expect("target"));
            assert!(build.status().expect("cargo runs").success());
        }
        binary
    })
}

/// A running broker, which ends with the test.
pub(crate) struct Broker {
    settings: Vec<(String, String)>,
    process: Child,
    pub(crate) port: u16,
    log: Arc<Mutex<String>>,
}

impl Broker {
    /// One whose topics make themselves.
    pub(crate) fn start() -> Self {
        Self::with(&[("AUTO_CREATE_TOPICS", "true")])
    }

    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let own = [
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("SHARDS", "2"),
            ("DRAIN_GRACE_MS", "50"),
        ];
        let settings = own.iter().chain(settings);
        let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<_> = settings.collect();
        let log = Arc::default();
        let (process, port) = spawn(&settings, &log);
        Self {
            settings,
            process,
            port,
            log,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("nobody panics in it").clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), signal).expect("it runs");
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }

    /// Starts it again, on the same port.
    pub(crate) fn start_again(&mut self) {
        let port = ("PORT".to_owned(), self.port.to_string());
        self.settings.push(port);
        (self.process, self.port) = spawn(&self.settings, &self.log);
    }

    /// What it answers over HTTP, head and body.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> String {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await;
        let mut socket = socket.expect("it listens");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let exchange = async {
            socket
                .write_all(request.as_bytes())
                .await
                .expect("it reads");
            let mut answer = String::new();
            socket
                .read_to_string(&mut answer)
                .await
                .expect("it answers");
            answer
        };
        within("an answer", exchange).await
    }

    /// A client of it.
    pub(crate) async fn client(&self) -> Client {
        client(&self.url(), quick()).await
    }
}

impl Drop for Broker {
    #[expect(clippy::print_stderr, reason = "for whoever reads of the failure")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- the broker's log\n{}", self.log());
        }
    }
}

fn spawn(settings: &[(String, String)], log: &Arc<Mutex<String>>) -> (Child, u16) {
    let mut command = Command::new(binary());
    command.env_clear().envs(settings.iter().cloned());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut process = command.spawn().expect("the broker was built");
    let lines = BufReader::new(process.stderr.take().expect("it is piped")).lines();
    let (tell, told) = std::sync::mpsc::channel();
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let port = line.split("addr=127.0.0.1:").nth(1);
            let port = port.and_then(|rest| rest.split(' ').next()?.parse::<u16>().ok());
            if let Some(port) = port.filter(|_| line.contains("listening")) {
                tell.send(port).ok();
            }
            let mut log = log.lock().expect("nobody panics in it");
            log.push_str(&line);
            log.push('\n');
        }
    });
    let Ok(port) = told.recv_timeout(PATIENCE) else {
        process.kill().ok();
        panic!("it does not say where it listens");
    };
    (process, port)
}

pub(crate) async fn client(url: &str, limits: Limits) -> Client {
    let options = Options {
        limits,
        ..Options::new(url)
    };
    let connected = within("a connection", Client::connect(options)).await;
    connected.expect("it connects")
}

pub(crate) async fn publish(client: &Client, topic: &str, payload: impl Serialize) -> Receipt {
    let published = client.publish(topic, &payload, Publish::default());
    within("a receipt", published).await.expect("it is taken")
}

/// A subscription that is acked.
pub(crate) async fn subscribed(client: &Client, name: &str, wish: Subscribe) -> Subscription {
    let mut subscription = client.subscribe(name, wish).expect("a good name");
    within("the ack", subscription.ready())
        .await
        .expect("it is taken");
    subscription
}

pub(crate) async fn next(subscription: &mut Subscription) -> Item {
    let item = within("an item", subscription.next()).await;
    item.expect("it goes on").expect("no error")
}

pub(crate) async fn next_event(subscription: &mut Subscription) -> Event {
    match next(subscription).await {
        Item::Event(event) => event,
        Item::Gap(gap) => panic!("{gap:?} in place of an event"),
    }
}

pub(crate) async fn next_gap(subscription: &mut Subscription) -> Gap {
    match next(subscription).await {
        Item::Gap(gap) => gap,
        Item::Event(event) => panic!("{event:?} in place of a gap"),
    }
}

/// Takes events and gaps until the event with this number; all that was between must be one or the other, in order.
/// Returns how many were lost.
pub(crate) async fn account(subscription: &mut Subscription, mut at: u64, end: u64) -> u64 {
    let mut lost = 0;
    while at < end {
        match next(subscription).await {
            Item::Event(event) => {
                assert_eq!(event.seq, at + 1, "neither lost nor doubled");
                at = event.seq;
            }
            Item::Gap(gap) => {
                assert_eq!(gap.first, at + 1, "{gap:?}");
                at = gap.last.expect("the epoch is the same");
                lost += gap.count.expect("it is known");
            }
        }
    }
    lost
}

/// The time that something took.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (work.await, began.elapsed())
}
