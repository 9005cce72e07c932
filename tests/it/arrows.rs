//! Knowledge flows one way through the sources: which part of the broker may name which.
//!
//! `server → core → connection → process → broker → protocol`; settings, counters, the budget, seats and the log are
//! known to many and know little. The command line stands beside all of it and is known to nobody.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each part with all that it may name. What is not here may not be: a new part is to be given its place.
const ARROWS: [(&str, &[&str]); 18] = [
    (
        "server",
        &[
            "core",
            "connection",
            "process",
            "access",
            "broker",
            "cluster",
            "protocol",
            "config",
            "metrics",
            "budget",
            "roster",
            "seats",
            "logs",
            "wire",
        ],
    ),
    (
        "core",
        &[
            "connection",
            "process",
            "broker",
            "protocol",
            "config",
            "metrics",
            "budget",
            "roster",
            "seats",
            "sync",
            "wire",
        ],
    ),
    (
        "connection",
        &[
            "process", "access", "broker", "protocol", "pattern", "config", "metrics", "budget",
            "roster", "seats", "wire",
        ],
    ),
    ("wire", &["config", "budget"]),
    (
        "process",
        &[
            "access", "broker", "cluster", "config", "metrics", "budget", "roster", "seats",
        ],
    ),
    (
        "cluster",
        &["broker", "protocol", "config", "metrics", "logs"],
    ),
    ("access", &["pattern", "config", "sync"]),
    ("pattern", &[]),
    (
        "broker",
        &["protocol", "pattern", "metrics", "budget", "sync"],
    ),
    ("protocol", &["pattern"]),
    ("cli", &["config", "access", "pattern"]),
    ("logs", &["config", "metrics"]),
    ("config", &[]),
    ("metrics", &[]),
    ("budget", &["sync"]),
    ("roster", &[]),
    ("seats", &["sync"]),
    ("sync", &[]),
];

/// Parts that are told the time and handed their bytes, so that they test like arithmetic.
const PURE: [&str; 2] = ["broker", "protocol"];

/// What would give a part a clock or a socket.
const IMPURE: [&str; 7] = [
    "std::net",
    "std::fs",
    "std::io",
    "tokio::net",
    "tokio::time",
    "Instant",
    "SystemTime",
];

/// The two files that hold everything together.
const ROOTS: [&str; 2] = ["lib", "main"];

/// Every source with the part that it belongs to.
fn sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let inner = path.strip_prefix(&root).expect("found under it");
                let part = inner.iter().next().and_then(|part| part.to_str());
                let part = part.expect("names are UTF-8").trim_end_matches(".rs");
                sources.push((part.to_owned(), path));
            }
        }
    }
    sources
}

/// The code of a source. Tests and comments may name what they like.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("mod tests {").next();
    let lines = code.unwrap_or_default().lines();
    lines.filter(|line| !line.trim_start().starts_with("//"))
}

/// The parts that a source names.
fn named(text: &str) -> BTreeSet<&str> {
    let paths = code(text).flat_map(|line| line.split("crate::").skip(1));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    paths
        .map(|path| path.split(|c| !is_name(c)).next().unwrap_or_default())
        .filter(|name| !name.is_empty())
        .collect()
}

/// What is wrong with the arrows of one source.
fn faults(part: &str, text: &str) -> Vec<String> {
    if ROOTS.contains(&part) {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == part) else {
        return vec![format!("{part} has no place among the parts")];
    };
    let unknown = named(text)
        .into_iter()
        .filter(|name| *name != part && !allowed.contains(name))
        .map(|name| format!("{part} may not know {name}"));
    let impure = IMPURE
        .into_iter()
        .filter(|what| PURE.contains(&part) && code(text).any(|line| line.contains(what)))
        .map(|what| format!("{part} is pure: no {what}"));
    unknown.chain(impure).collect()
}

#[test]
fn knowledge_flows_one_way() {
    let sources = sources();
    assert!(sources.len() > 50, "the sources are somewhere else");
    for (part, path) in sources {
        // Test files beside the code that they test.
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
        let faults = faults(&part, &text);
        assert!(faults.is_empty(), "{}: {faults:?}", path.display());
        // `crate::{a, b}` and a path over the top would hide what they name.
        let hidden = text.contains("crate::{") || text.contains("use crate as");
        assert!(!hidden, "{}: one path for each part", path.display());
    }
}

#[test]
fn an_arrow_against_the_stream_is_found() {
    let against = "use crate::server::lobby;\n";
    assert_eq!(faults("broker", against), ["broker may not know server"]);
    let inline = "fn f() {\n    crate::connection::local::f();\n}\n";
    assert_eq!(faults("broker", inline), ["broker may not know connection"]);
    assert_eq!(faults("seats", "use crate::config::Config;\n").len(), 1);
    assert_eq!(faults("sidecar", "").len(), 1);
    let along = "//! See crate::server.\nuse crate::protocol::json;\n";
    assert_eq!(faults("broker", along), [""; 0]);
    let tests = "\n#[cfg(test)]\nmod tests {\n    use crate::server::lobby;\n}\n";
    assert_eq!(faults("broker", tests), [""; 0]);
    let clock = "let now = std::time::Instant::now();\n";
    assert_eq!(faults("broker", clock), ["broker is pure: no Instant"]);
    assert_eq!(faults("core", clock), [""; 0]);
}
