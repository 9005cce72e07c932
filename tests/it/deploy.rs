//! What lies in `deploy/` speaks of things that exist: metrics, settings and paths.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::harness::broker::Broker;

fn deploy(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "deploy", name]
        .iter()
        .collect();
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of settings in `text`: words in capitals with a `_` or a `=`.
fn settings(text: &str) -> BTreeSet<&str> {
    words(text, "")
        .into_iter()
        .filter(|word| {
            let is_name = |letter: u8| letter.is_ascii_uppercase() || letter == b'_';
            word.len() > 4 && word.contains('_') && word.bytes().all(is_name)
        })
        .collect()
}

/// The words of `text` that start with `prefix`.
fn words<'t>(text: &'t str, prefix: &str) -> BTreeSet<&'t str> {
    let is_inside = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_inside(letter))
        .filter(|word| word.starts_with(prefix))
        .collect()
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_for_metrics_that_exist() {
    let broker = Broker::start(&[]);
    let metrics = broker.get("/metrics").await.body;
    let there: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    for file in ["grafana.json", "alerts.yml"] {
        let text = deploy(file);
        let mut asked = words(&text, "shardcast_");
        asked.append(&mut words(&text, "process_"));
        assert!(asked.len() > 8, "{file} asks for {asked:?}");
        for name in asked {
            assert!(there.contains(name), "{file} asks for {name}");
        }
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&deploy("grafana.json")).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "{panel}");
        let is_row = panel["type"] == "row";
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        assert!(is_row != (targets > 0), "{panel}");
    }
}

#[test]
fn the_settings_that_are_spoken_of_exist() {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), ".env.example"]
        .iter()
        .collect();
    let example = fs::read_to_string(path).expect(".env.example");
    let there = settings(&example);
    let of_systemd = ["AF_INET", "AF_UNIX", "LISTEN_FDS", "NOTIFY_SOCKET"];
    for file in [
        "shardcast.service",
        "shardcast.socket",
        "kubernetes.yaml",
        "nginx.conf",
        "Caddyfile",
        "haproxy.cfg",
        "alerts.yml",
    ] {
        let text = deploy(file);
        for name in settings(&text) {
            let is_known = there.contains(name) || of_systemd.contains(&name);
            assert!(is_known, "{file} speaks of {name}");
        }
    }
}

/// What a manager waits before it kills must be longer than what a drain may take.
#[test]
fn nobody_kills_a_broker_that_drains() {
    let drain = shardcast::config::Config::default()
        .shutdown_timeout
        .as_secs();
    let after = |text: &str, name: &str| {
        let rest = text
            .split(name)
            .nth(1)
            .unwrap_or_else(|| panic!("no {name}"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().expect("seconds")
    };
    assert!(after(&deploy("shardcast.service"), "\nTimeoutStopSec=") > drain);
    let pod = deploy("kubernetes.yaml");
    let pause = after(&pod, "[\"sleep\", \"");
    assert!(after(&pod, "terminationGracePeriodSeconds: ") >= drain + pause);
}
