//! What shells and `man` are told of the command line.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::broker::command;

fn printed(arguments: &[&str]) -> String {
    let output = command(&[]).args(arguments).output();
    let output = output.expect("the binary was built with the tests");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("it is UTF-8")
}

/// What a real bash offers for the last of `words`.
fn offered_by_bash(script: &str, words: &[&str]) -> Vec<String> {
    let ask = r#"
        source /dev/stdin
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        words=$#
        _shardcast shardcast "${!words}" "${COMP_WORDS[$COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash")
        .args(["--norc", "-c", ask, "bash"])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a bash");
    let mut stdin = bash.stdin.take().expect("stdin is piped");
    stdin.write_all(script.as_bytes()).expect("bash reads it");
    drop(stdin);
    let output = bash.wait_with_output().expect("bash ends");
    let text = String::from_utf8(output.stdout).expect("it is UTF-8");
    text.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_flags() {
    let script = printed(&["completions", "bash"]);
    let offered = |words: &[&str]| offered_by_bash(&script, words);
    assert_eq!(offered(&["shardcast", "su"]), ["sub"]);
    assert_eq!(offered(&["shardcast", "sub", "--rec"]), ["--reconnect"]);
    assert_eq!(offered(&["shardcast", "key", "che"]), ["check"]);
    assert_eq!(
        offered(&["shardcast", "completions", ""])[..3],
        ["-h", "--help", "bash"],
    );
    for variable in variables() {
        let flag = format!("--{}", variable.to_lowercase().replace('_', "-"));
        let offered = offered(&["shardcast", &flag]);
        assert!(offered.contains(&flag), "{flag}: {offered:?}");
    }
}

#[test]
fn the_manual_has_every_setting() {
    let page = printed(&["man"]);
    for variable in variables() {
        assert!(page.contains(&format!("\n{variable}=")), "{variable}");
    }
}

#[test]
fn every_command_has_a_page() {
    let dir = std::env::temp_dir().join(format!("shardcast-man-{}", std::process::id()));
    fs::create_dir(&dir).expect("it is ours alone");
    printed(&["man", "--dir", dir.to_str().expect("it is UTF-8")]);
    for (page, word) in [
        ("shardcast", "RING_BUFFER_SIZE"),
        ("shardcast-sub", "reconnect"),
        ("shardcast-key-new", "subscribe"),
    ] {
        let page = fs::read_to_string(dir.join(page).with_extension("1")).expect(page);
        assert!(page.contains(word), "{page}");
    }
    fs::remove_dir_all(&dir).expect("it is ours alone");

    let refused = command(&[]).args(["man", "--dir", "/dev/null"]).output();
    let refused = refused.expect("the binary was built with the tests");
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(why.contains("cannot write: /dev/null: "), "{why}");
    assert_eq!(refused.status.code(), Some(1));
}

/// Every setting, as the sample of the environment has them: a test holds that against the table.
fn variables() -> Vec<&'static str> {
    let sample = include_str!("../../.env.example").lines();
    let names: Vec<_> = sample
        .filter_map(|line| line.trim_start_matches("# ").split_once('='))
        .map(|(name, _)| name.trim_start_matches('#'))
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert!(names.len() > 50, "{names:?}");
    names
}
