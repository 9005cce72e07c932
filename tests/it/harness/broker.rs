//! The binary under test as a child process, on a port of the system's choice.
//!
//! Its environment holds only what the test gives, and `IO_URING` where [`IO_URING_OF_ALL`] says so. Its log is read all the time, so that it can never block on it, and
//! is printed when the test fails; a panic in it fails any test. It is killed when the [`Broker`] is dropped.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::http::{Response, Rest};
use crate::harness::{PATIENCE, pair};

/// A running broker.
pub(crate) struct Broker {
    process: Child,
    /// The plain port and the one with TLS, as far as it has them.
    addresses: Vec<SocketAddr>,
    log: Log,
    log_sleep: Option<mpsc::Sender<()>>,
    /// The other node of its cluster, where all brokers have one: who comes goes to the one and the other in turn.
    other: Option<Box<Self>>,
    turns: AtomicU32,
}

/// What becomes of the reader of its log once it has said where it listens.
enum Reader {
    Stays,
    Goes,
    Sleeps(mpsc::Receiver<()>),
}

impl Broker {
    /// Starts it with these environment variables.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_with_flags(settings, &[])
    }

    /// Starts it with these environment variables and command-line flags.
    pub(crate) fn start_with_flags(settings: &[(&str, &str)], flags: &[&str]) -> Self {
        let start = |settings: &[_]| Self::spawn(command(settings).args(flags), Reader::Stays);
        let Some(name) = pair::name() else {
            return start(settings);
        };
        let both = [&[("CLUSTER_NAME", &*name)], settings].concat();
        let (mut broker, other) = (start(&both), start(&both));
        pair::register(&name, [broker.addresses[0], other.addresses[0]]);
        broker.other = Some(Box::new(other));
        broker
    }

    /// Starts it with a log whose reader goes away once the broker listens.
    pub(crate) fn start_without_log(settings: &[(&str, &str)]) -> Self {
        Self::spawn(&mut command(settings), Reader::Goes)
    }

    /// Starts it with a log whose reader reads no more once the broker listens, until it is woken.
    pub(crate) fn start_with_log_asleep(settings: &[(&str, &str)]) -> Self {
        let (wake, sleep) = mpsc::channel();
        let mut broker = Self::spawn(&mut command(settings), Reader::Sleeps(sleep));
        broker.log_sleep = Some(wake);
        broker
    }

    /// Has the reader of its log read on.
    pub(crate) fn wake_log(&mut self) {
        self.log_sleep = None;
    }

    /// Starts it where no more than so many files may be open.
    pub(crate) fn start_with_descriptors(limit: u32, settings: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("/bin/sh");
        let script = format!("ulimit -n {limit} && exec \"$0\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_shardcast")]);
        Self::spawn(with_settings(&mut shell, settings), Reader::Stays)
    }

    /// Starts it as a service manager does that hands sockets over: one or two.
    pub(crate) fn start_handed(sockets: Vec<OwnedFd>, settings: &[(&str, &str)]) -> Self {
        Self::follow(&mut command_handed(sockets, settings), Reader::Stays)
    }

    fn spawn(command: &mut Command, reader: Reader) -> Self {
        Self::follow(command.stdin(Stdio::null()).stdout(Stdio::null()), reader)
    }

    fn follow(command: &mut Command, reader: Reader) -> Self {
        let mut process = command
            .spawn()
            .expect("the binary was built with the tests");
        let log = Log::default();
        let announced = log.follow(process.stderr.take().expect("stderr is piped"), reader);
        let Ok(addresses) = announced.recv_timeout(PATIENCE) else {
            process.kill().ok();
            panic!("the broker did not say where it listens:\n{}", log.text());
        };
        let broker = Self {
            process,
            addresses,
            log,
            log_sleep: None,
            other: None,
            turns: AtomicU32::new(0),
        };
        if !pair::cluster_of_all().is_empty() {
            broker.wait_until_level();
        }
        broker
    }

    /// Waits until it has read the log of its cluster, which it says once it listens.
    fn wait_until_level(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.log().contains("level with the log") {
            assert!(Instant::now() < until, "not level:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        let pid = i32::try_from(self.process.id()).ok();
        pid.and_then(Pid::from_raw)
            .expect("a child has a positive pid")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let Some(other) = &self.other else {
            return self.addresses[0];
        };
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        [self, &**other][turn as usize % 2].addresses[0]
    }

    /// Where it listens with TLS, if it does.
    pub(crate) fn tls_address(&self) -> SocketAddr {
        *self.addresses.last().expect("it listens")
    }

    /// All that it has logged until now.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Its resident memory in KiB, without the pages of the binary itself: a debug build has so many of them that they
    /// would hide what clients make it keep.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let digits = line.and_then(|rest| rest.split_whitespace().next());
        digits
            .and_then(|digits| digits.parse().ok())
            .expect("a running process has memory")
    }

    /// Sends its process a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the broker is still there");
    }

    /// Waits until it ends on its own; says its exit code and how long that took from now.
    pub(crate) async fn wait_exit(&mut self, patience: Duration) -> (i32, Duration) {
        let start = Instant::now();
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while start.elapsed() < patience {
            pace.tick().await;
            if let Some(status) = self.process.try_wait().expect("it is our child") {
                let code = status.code().expect("it ended by itself, not by a signal");
                return (code, start.elapsed());
            }
        }
        panic!("the broker still runs after {patience:?}");
    }

    /// One REST call on a connection of its own.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let mut rest = Rest::open(self).await;
        rest.request(method, path, headers, body).await
    }

    /// A `GET` on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "").await
    }

    /// A request to become a WebSocket, for when the answer is expected to be no.
    pub(crate) async fn upgrade(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let headers = [&UPGRADE_HEADERS, headers].concat();
        self.request("GET", path, &headers, "").await
    }

    /// `POST /topics`, whatever comes of it.
    pub(crate) async fn post_topic(&self, name: &str) -> Response {
        let body = serde_json::json!({ "name": name }).to_string();
        self.request("POST", "/topics", &[], &body).await
    }

    /// Makes a topic that is not there yet.
    pub(crate) async fn create_topic(&self, name: &str) {
        let created = self.post_topic(name).await;
        assert_eq!(created.status, 201, "creating {name}: {}", created.body);
    }

    /// Deletes a topic whose name needs no percent-encoding.
    pub(crate) async fn delete_topic(&self, name: &str) {
        let path = format!("/topics/{name}");
        let deleted = self.request("DELETE", &path, &[], "").await;
        assert_eq!(deleted.status, 200, "deleting {name}: {}", deleted.body);
    }

    /// How many subscribers `GET /topics` counts for a topic.
    pub(crate) async fn subscribers_of(&self, topic: &str) -> u64 {
        let topics = self.get("/topics").await.json();
        topics["topics"]
            .as_array()
            .and_then(|topics| topics.iter().find(|entry| entry["name"] == topic))
            .and_then(|entry| entry["subscribers"].as_u64())
            .unwrap_or_else(|| panic!("no {topic} in {topics}"))
    }

    /// One number of `GET /health`.
    pub(crate) async fn health(&self, field: &str) -> u64 {
        let health = self.get("/health").await.json();
        health[field]
            .as_u64()
            .unwrap_or_else(|| panic!("no {field} in {health}"))
    }
}

impl Drop for Broker {
    #[expect(
        clippy::print_stderr,
        reason = "the test harness shows it only for a test that fails"
    )]
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        let log = self.log.text();
        if thread::panicking() {
            eprintln!("---- the broker's log\n{log}");
        } else {
            assert!(!log.contains("panicked at"), "the broker panicked:\n{log}");
        }
    }
}

/// What a start that must not succeed left behind.
pub(crate) struct Refusal {
    pub(crate) code: i32,
    pub(crate) stderr: String,
}

/// Runs the binary to its end.
pub(crate) fn run_to_end(settings: &[(&str, &str)], arguments: &[&str]) -> Refusal {
    let mut command = command(settings);
    command.args(arguments).stdin(Stdio::null());
    refusal_of(command.stdout(Stdio::null()))
}

/// Runs a command to its end.
pub(crate) fn refusal_of(command: &mut Command) -> Refusal {
    let mut process = command
        .spawn()
        .expect("the binary was built with the tests");
    let mut stderr = process.stderr.take().expect("stderr is piped");
    let (sender, finished) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stderr.read_to_string(&mut text);
        sender.send(read.map(|_| text))
    });
    let text = finished.recv_timeout(PATIENCE);
    process.kill().ok();
    let status = process.wait().expect("it is our child");
    Refusal {
        code: status.code().expect("it ended by itself, not by our kill"),
        stderr: text.expect("it ended in time").expect("it logs UTF-8"),
    }
}

/// The binary with nothing in its environment but a free port on the loopback and what the test wants.
pub(crate) fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    with_settings(&mut command, settings);
    command
}

/// The binary with sockets handed over by `LISTEN_FDS`: one or two.
pub(crate) fn command_handed(sockets: Vec<OwnedFd>, settings: &[(&str, &str)]) -> Command {
    let mut shell = Command::new("/bin/sh");
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS={} exec \"$0\" 3<&0 4<&1 </dev/null >/dev/null",
        sockets.len()
    );
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_shardcast")]);
    with_settings(&mut shell, settings);
    let mut sockets = sockets.into_iter();
    if let Some(first) = sockets.next() {
        shell.stdin(first);
    }
    if let Some(second) = sockets.next() {
        shell.stdout(second);
    }
    shell
}

/// A variable of the test process: what `IO_URING` is for every broker whose test does not say.
const IO_URING_OF_ALL: &str = "SHARDCAST_TEST_IO_URING";

#[expect(
    clippy::disallowed_methods,
    reason = "the rule is for the broker; this is how the whole suite is run both ways"
)]
fn io_uring_of_all() -> Option<(&'static str, OsString)> {
    std::env::var_os(IO_URING_OF_ALL).map(|value| ("IO_URING", value))
}

fn with_settings<'a>(command: &'a mut Command, settings: &[(&str, &str)]) -> &'a mut Command {
    command
        .env_clear()
        .env("HOST", "127.0.0.1")
        .env("PORT", "0")
        .envs(io_uring_of_all())
        .envs(pair::cluster_of_all())
        .envs(settings.iter().copied())
        .stderr(Stdio::piped())
}

/// The example of RFC 6455, section 1.3: its key has a known answer.
pub(crate) const UPGRADE_HEADERS: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn text(&self) -> String {
        self.0.lock().expect("no reader panics").clone()
    }

    /// Keeps all lines, and sends the addresses out of the one that announces them.
    fn follow(&self, stderr: ChildStderr, reader: Reader) -> mpsc::Receiver<Vec<SocketAddr>> {
        let (sender, announced) = mpsc::channel();
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("listening") {
                    sender.send(announced_addresses(&line)).ok();
                    match &reader {
                        Reader::Stays => {}
                        Reader::Goes => return,
                        // Ends when the test wakes it or is over.
                        Reader::Sleeps(sleep) => drop(sleep.recv()),
                    }
                }
                let mut text = log.0.lock().expect("no reader panics");
                text.push_str(&line);
                text.push('\n');
            }
        });
        announced
    }
}

/// The addresses in a line like `… listening addr=127.0.0.1:4711 tls_addr=127.0.0.1:4712`, or its like in JSON.
fn announced_addresses(line: &str) -> Vec<SocketAddr> {
    // One that listens everywhere is found on the loopback too.
    let line = line.replace("0.0.0.0:", "127.0.0.1:");
    let ports = line.split("127.0.0.1:").skip(1).filter_map(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    ports
        .map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)))
        .collect()
}
