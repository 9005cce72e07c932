//! `shardcast top`: as text in a pipe, and on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::harness::broker::{Broker, command, run_to_end};
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::keys::{KeyFile, key};

fn url(broker: &Broker) -> String {
    format!("ws://{}/ws", broker.address())
}

fn top(broker: &Broker, arguments: &[&str]) -> (Option<i32>, String, String) {
    let url = url(broker);
    let ended = command(&[("SHARDCAST_URL", &url)])
        .arg("top")
        .args(arguments)
        .output()
        .expect("the binary was built with the tests");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

/// Cells of the line whose first is `name`.
fn cells(report: &str, name: &str) -> Vec<String> {
    let mut lines = report.lines().map(str::split_whitespace);
    let line = lines.find(|line| line.clone().next() == Some(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {report}"));
    line.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pipe_it_is_text_for_people_and_programs() {
    let broker = Broker::start(&[]);
    for topic in ["busy", "idle", "two words"] {
        broker.create_topic(topic).await;
    }
    let mut subscriber = Client::connect_as(&broker, "watcher").await;
    subscriber.subscribe("busy").await;
    let mut publisher = Client::connect_as(&broker, "source").await;
    publisher.publish_all("busy", 0..10, 10).await;
    let publishing = tokio::spawn(async move {
        loop {
            publisher.publish("busy", 0).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let ((code, report, _), broker) = tokio::task::spawn_blocking(move || {
        (top(&broker, &["--interval", "1", "--count", "2"]), broker)
    })
    .await
    .expect("it ran");
    assert_eq!(code, Some(0));
    assert_eq!(report.matches("TOPIC").count(), 2, "{report}");
    let header = cells(&report, "TOPIC");
    assert_eq!(header[..3], ["TOPIC", "SUBS", "MSG/S"]);
    let busy = cells(&report, "busy");
    assert_eq!(busy[1], "1");
    assert!(busy[2].parse::<f64>().expect("a rate") > 1.0, "{report}");
    // The busiest first.
    assert!(report.find("\nbusy") < report.find("\nidle"), "{report}");
    assert!(report.contains("conn 2   subs 1 "), "{report}");
    assert_eq!(cells(&report, "two_words").len(), header.len());

    let ((_, report, _), broker) = tokio::task::spawn_blocking(move || {
        let arguments = ["connections", "--interval", "1", "--sort", "client"];
        (top(&broker, &arguments), broker)
    })
    .await
    .expect("it ran");
    assert!(
        report.find("\nsource") < report.find("\nwatcher"),
        "{report}"
    );
    assert_eq!(cells(&report, "watcher")[1], "0", "{report}");
    publishing.abort();
    drop(broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_cannot_do_is_one_line() {
    let broker = Broker::start(&[]);
    let (code, _, told) = top(&broker, &["--sort", "size"]);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("there is no column 'size'") && told.contains("msg/s"),
        "{told}"
    );
    let gone = run_to_end(&[("SHARDCAST_URL", "ws://127.0.0.1:1/ws")], &["top"]);
    assert!(
        gone.stderr.contains("cannot connect to 127.0.0.1:1"),
        "{}",
        gone.stderr
    );

    let keys = KeyFile::new(&key("app-key", "subscribe = [\">\"]"));
    let broker = keys.broker(&[]);
    let (code, _, told) = top(&broker, &["--api-key", "app-key"]);
    assert_eq!(code, Some(1));
    assert!(told.contains("FORBIDDEN"), "{told}");
}

/// A program on a terminal of its own.
struct OnTerminal {
    child: Child,
    keyboard: File,
    /// All that it has written.
    screen: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn start(broker: &Broker, columns: u16, lines: u16) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).expect("ours");
        unlockpt(&terminal).expect("ours");
        let name = ptsname(&terminal, Vec::new()).expect("a name");
        let inner = open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it is there");
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, size).expect("a size");
        let again = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("a descriptor"));
        let url = url(broker);
        let child = command(&[("SHARDCAST_URL", &url), ("TERM", "xterm-256color")])
            .args(["top", "--interval", "1"])
            .stdin(again(&inner))
            .stdout(again(&inner))
            .stderr(again(&inner))
            .spawn()
            .expect("the binary was built with the tests");
        drop(inner);
        let keyboard = File::from(terminal);
        let mut output = keyboard.try_clone().expect("a descriptor");
        let screen = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..read]);
                written.lock().expect("nobody panics").push_str(&text);
            }
        });
        Self {
            child,
            keyboard,
            screen,
        }
    }

    async fn shows(&self, text: &str) {
        eventually(&format!("{text:?} on the screen"), async || {
            self.screen.lock().expect("nobody panics").contains(text)
        })
        .await;
    }

    /// Waits for its end. The other screen was entered and is left: what stood there before stands there again.
    async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        eventually("its end", async || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        })
        .await;
        self.shows("\u{1b}[?1049h").await;
        self.shows("\u{1b}[?1049l").await;
        status.and_then(|status| status.code())
    }

    fn press(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("it is open");
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_is_a_screen_that_follows_and_leaves_no_trace() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut terminal = OnTerminal::start(&broker, 80, 24);
    terminal.shows("orders").await;
    // Cells that did not change are not written again: what is new stands alone.
    broker.create_topic("trades").await;
    terminal.shows("trades").await;
    let _client = Client::connect_as(&broker, "watcher").await;
    terminal.press("\t");
    terminal.shows("watcher").await;
    terminal.press("q");
    assert_eq!(terminal.ended().await, Some(0));
}

#[tokio::test]
async fn an_interrupt_from_outside_leaves_the_terminal_as_it_was() {
    let broker = Broker::start(&[]);
    broker.create_topic("orders").await;
    let mut terminal = OnTerminal::start(&broker, 80, 24);
    terminal.shows("orders").await;
    let pid = i32::try_from(terminal.child.id()).ok();
    let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(terminal.ended().await, Some(130));
}
