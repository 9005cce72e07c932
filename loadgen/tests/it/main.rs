//! The generator against a server that is honest, and against servers that are not.
//!
//! What is tested is the judgement: a checker that has never seen a lie proves nothing.

mod server;

use std::process::{Command, Output};

use serde_json::Value;

use self::server::{Lie, Server};

/// A short run, as JSON.
fn loadgen(server: &Server, words: &str) -> (Option<i32>, Value) {
    let url = format!("ws://127.0.0.1:{}/ws", server.port);
    let output = run(&format!(
        "{words} --url {url} --json --quiet --drain-secs 1"
    ));
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), report)
}

fn run(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(words.split_whitespace())
        .output()
        .expect("the binary starts")
}

const FANOUT: &str = "fanout --subs 3 --secs 0.3 --warmup 0";

fn judged(lie: Lie) -> (Option<i32>, String) {
    let server = Server::start(lie);
    let (code, report) = loadgen(&server, FANOUT);
    (code, report["breaks"].to_string())
}

#[test]
fn an_honest_server_passes_and_is_left_as_it_was() {
    let server = Server::start(Lie::None);
    let (code, report) = loadgen(
        &server,
        "fanout --topics 2 --pubs 4 --subs 3 --secs 0.3 --warmup 0",
    );
    assert_eq!(code, Some(0), "{report}");
    let figures = &report["figures"];
    let published = figures["published"].as_u64().expect("a count");
    assert!(published > 64, "{figures}");
    assert_eq!(figures["acked"], published);
    assert_eq!(figures["delivered"], published * 3);
    assert_eq!(report["server_counts"]["totals.accepted"], published);
    assert_eq!(server.topics_left(), 0);
}

#[test]
fn an_announced_loss_is_counted_and_forgiven() {
    let server = Server::start(Lie::DropAndTell);
    let (code, report) = loadgen(&server, FANOUT);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["figures"]["lost_announced"], 2);
    assert_eq!(report["figures"]["notices"], 1);
}

#[test]
fn a_silent_loss_is_a_break() {
    let (code, breaks) = judged(Lie::DropSilently);
    assert_eq!(code, Some(1));
    assert!(
        breaks.contains("2 messages lost without a SLOW_CONSUMER notice"),
        "{breaks}"
    );
}

#[test]
fn a_notice_with_a_wrong_count_is_a_break() {
    let (code, breaks) = judged(Lie::DropAndMiscount);
    assert_eq!(code, Some(1));
    assert!(
        breaks.contains("1 messages announced as dropped, but not missing"),
        "{breaks}"
    );
}

#[test]
fn a_repeat_is_a_break() {
    let (code, breaks) = judged(Lie::Repeat);
    assert_eq!(code, Some(1));
    assert!(breaks.contains("1 messages delivered twice"), "{breaks}");
}

#[test]
fn a_swap_is_a_break() {
    let (code, breaks) = judged(Lie::Swap);
    assert_eq!(code, Some(1));
    assert!(
        breaks.contains("1 messages delivered out of order"),
        "{breaks}"
    );
}

#[test]
fn an_event_of_another_topic_is_a_break() {
    let (code, breaks) = judged(Lie::Misdeliver);
    assert_eq!(code, Some(1));
    assert!(breaks.contains("the contract does not know"), "{breaks}");
}

#[test]
fn a_changed_payload_is_a_break() {
    let (code, breaks) = judged(Lie::Rewrite);
    assert_eq!(code, Some(1));
    assert!(breaks.contains("the contract does not know"), "{breaks}");
}

#[test]
fn a_connection_that_ends_early_is_a_break() {
    let (code, breaks) = judged(Lie::HangUp);
    assert_eq!(code, Some(1));
    assert!(breaks.contains("1 connections ended early"), "{breaks}");
}

#[test]
fn a_subscriber_that_is_disconnected_as_slow_is_a_break() {
    let (code, breaks) = judged(Lie::CallSlow);
    assert_eq!(code, Some(1));
    assert!(
        breaks.contains("1 subscribers were disconnected as slow"),
        "{breaks}"
    );
}

#[test]
fn a_server_that_remembers_who_left_is_caught() {
    for (words, lie, code) in [
        ("idle --conns 5 --secs 0.2", Lie::None, 0),
        ("idle --conns 5 --secs 0.2", Lie::Remember, 1),
        ("churn --workers 3 --secs 0.2 --topics 2", Lie::None, 0),
        ("churn --workers 3 --secs 0.2 --topics 2", Lie::Remember, 1),
    ] {
        let server = Server::start(lie);
        let (found, report) = loadgen(&server, words);
        assert_eq!(found, Some(code), "{words} {lie:?} {report}");
    }
}

#[test]
fn who_stops_reading_is_judged_when_it_reads_again() {
    let words = "stalled --subs 3 --stalled 1 --rate 400 --secs 0.4 --warmup 0";
    for (lie, code) in [
        (Lie::None, 0),
        (Lie::DropAndTell, 0),
        (Lie::DropSilently, 1),
    ] {
        let server = Server::start(lie);
        let (found, report) = loadgen(&server, words);
        assert_eq!(found, Some(code), "{lie:?} {report}");
        let figures = &report["figures"];
        let count = |name: &str| figures[name].as_u64().expect("a count");
        // Which of the three subscribes first, and is lied to, is the scheduler's choice.
        let announced = count("lost_announced") + count("stalled_announced");
        assert_eq!(announced, if lie == Lie::DropAndTell { 2 } else { 0 });
        let silent = count("lost_unannounced") + count("stalled_unannounced");
        assert_eq!(silent, if lie == Lie::DropSilently { 2 } else { 0 });
        assert!(count("stalled_received") > 100, "{figures}");
    }
}

#[test]
fn latency_is_measured_from_the_time_a_message_was_due() {
    let server = Server::start(Lie::Pause);
    let (code, report) = loadgen(
        &server,
        "latency --topics 1 --subs 1 --rate 500 --secs 1 --warmup 0",
    );
    assert_eq!(code, Some(0), "{report}");
    // The server stands still for 200 ms once: about 100 messages were due meanwhile, and all of them are late.
    let p90 = report["figures"]["p90_ns"].as_u64().expect("a percentile");
    assert!(p90 > 60_000_000, "{p90}");
    assert_eq!(report["figures"]["lost_unannounced"], 0);
}

#[test]
fn bad_usage_and_a_missing_server_have_their_own_code() {
    assert_eq!(run("fanout --subs none").status.code(), Some(2));
    assert_eq!(run("fanout --bytes 1").status.code(), Some(2));
    assert_eq!(
        run("fanout --url ws://127.0.0.1:1/ws").status.code(),
        Some(2)
    );
    let server = Server::start(Lie::WrongAccept);
    let (code, _) = loadgen(&server, FANOUT);
    assert_eq!(code, Some(2));
}

#[test]
fn a_page_that_cannot_be_written_is_refused_before_the_run() {
    let server = Server::start(Lie::None);
    let url = format!("ws://127.0.0.1:{}/ws", server.port);
    let begun = std::time::Instant::now();
    let output = run(&format!(
        "latency --secs 60 --quiet --html /nowhere/page.html --url {url}"
    ));
    assert_eq!(output.status.code(), Some(2));
    assert!(begun.elapsed().as_secs() < 30);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("--html /nowhere/page.html: No such file"),
        "{said}"
    );
}

#[test]
fn a_run_that_fails_leaves_an_older_page_alone_and_no_empty_one() {
    let old = std::env::temp_dir().join(format!("loadgen-old-{}.html", std::process::id()));
    let new = old.with_extension("new.html");
    std::fs::write(&old, "older").expect("a file can be written");
    for path in [&old, &new] {
        let words = format!("fanout --url ws://127.0.0.1:1/ws --html {}", path.display());
        assert_eq!(run(&words).status.code(), Some(2));
    }
    assert_eq!(std::fs::read(&old).expect("it is still there"), b"older");
    std::fs::remove_file(&old).expect("it can go");
    assert!(!new.exists());
}

#[test]
fn a_search_draws_its_steps_and_a_listener_its_memory() {
    let server = Server::start(Lie::None);
    let path = std::env::temp_dir().join(format!("loadgen-curves-{}.html", server.port));
    // This process is the server, so that there is a memory to draw.
    let own = std::process::id();
    for (words, titles) in [
        (
            "slo --topics 1 --subs 1 --rate 100 --secs 0.2 --warmup 0 --p99-ms 0.000001",
            ["99th percentile by rate", "of 1 ns"],
        ),
        (
            "idle --conns 5 --secs 0.4 --topics 1",
            ["Memory of the server", "Seconds since all were connected"],
        ),
    ] {
        let words = format!("{words} --server-pid {own} --html {}", path.display());
        let (_, report) = loadgen(&server, &words);
        let page = std::fs::read_to_string(&path).expect("a page");
        for title in titles {
            assert!(page.contains(title), "{title} in {words}: {report}");
        }
    }
    std::fs::remove_file(&path).expect("the page can go");
}

#[test]
fn the_page_is_written() {
    let server = Server::start(Lie::None);
    let path = std::env::temp_dir().join(format!("loadgen-{}.html", server.port));
    let words = format!(
        "latency --topics 1 --rate 200 --secs 0.5 --warmup 0 --html {}",
        path.display()
    );
    let (code, _) = loadgen(&server, &words);
    let page = std::fs::read_to_string(&path).expect("a page");
    std::fs::remove_file(&path).expect("the page can go");
    assert_eq!(code, Some(0));
    assert!(page.contains("<svg") && page.ends_with("</html>\n"));
}
