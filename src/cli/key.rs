//! `shardcast key`: makes keys for `API_KEYS_FILE`, and says what is in one. Asks no broker.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;

use super::{Failure, complain};
use crate::access::file::{self, KeyEntry};
use crate::access::grant::Right;
use crate::access::key::{Digest, hex};

/// Random bytes in a key: nothing that anybody could guess, so that its SHA-256 may lie in a file.
const KEY_BYTES: usize = 32;

pub(super) fn command() -> Command {
    let patterns = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("PATTERN")
            .action(ArgAction::Append)
            .help(help)
    };
    let name = || Arg::new("name").long("name").value_name("NAME");
    let path = || Arg::new("file").value_name("FILE").required(true);
    Command::new("key")
        .about("Make keys for API_KEYS_FILE, and look at what is in one")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            Command::new("new")
                .about("Print a new key, once, on standard error, and its table on standard output")
                .arg(name().required(true).help("Who it is for: in logs, and in what clients are told"))
                .args([
                    patterns("subscribe", "Topics that it may subscribe to, like 'orders.*'"),
                    patterns("publish", "Topics that it may publish to"),
                    patterns("manage", "Topics that it may create and delete"),
                    Arg::new("observe").long("observe").action(ArgAction::SetTrue).help("It may see figures"),
                    Arg::new("admin").long("admin").action(ArgAction::SetTrue).help("It may do everything"),
                    Arg::new("expires").long("expires").value_name("TIME").help("When it ends, like 2027-01-01T00:00:00Z"),
                    Arg::new("connections-max")
                        .long("connections-max")
                        .value_name("N")
                        .value_parser(value_parser!(u64).range(1..))
                        .help("Its connections at once"),
                ]),
            Command::new("list")
                .about("Print what each key of a file may do, one JSON object on each line")
                .arg(path()),
            Command::new("check")
                .about("Say whether a file is legal and, with --name, whether that key may do all that is named")
                .arg(path())
                .arg(name().help("The key"))
                .args(Right::ALL.map(|right| patterns(right.name(), "A topic on which it must have this right").requires("name"))),
        ])
}

pub(super) fn run(args: &ArgMatches) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match args.subcommand() {
        Some(("new", args)) => new(args, &mut out),
        Some(("list", args)) => list(&read(args)?, &mut out),
        Some((_, args)) => check(args, &read(args)?),
        None => Ok(()),
    }
}

/// A key and its table. The key goes to standard error, so that `>> FILE` takes only the table.
fn new(args: &ArgMatches, out: &mut impl Write) -> Result<(), Failure> {
    let mut random = [0; KEY_BYTES];
    getrandom::fill(&mut random).map_err(|error| Failure::Key(error.to_string()))?;
    let key = format!("sc_{}", hex(&random));
    let table = table(args, &key);
    // What the broker would say to it, it says here.
    file::parse(&table).map_err(|error| Failure::Key(error.to_string()))?;
    writeln!(out, "{table}")?;
    out.flush()?;
    complain(&format_args!("the key, which is nowhere else: {key}"));
    Ok(())
}

fn table(args: &ArgMatches, key: &str) -> String {
    // The escapes of JSON are those of TOML.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let one = |name: &str| args.get_one::<String>(name);
    let name = one("name").map(|name| quoted(name)).unwrap_or_default();
    let digest = Digest::of(key.as_bytes()).to_hex();
    let mut table = format!("[[key]]\nname = {name}\nsha256 = \"{digest}\"\n");
    for right in Right::ALL {
        let patterns = args.get_many::<String>(right.name()).into_iter().flatten();
        let patterns: Vec<_> = patterns.map(|pattern| quoted(pattern)).collect();
        if !patterns.is_empty() {
            writeln!(table, "{} = [{}]", right.name(), patterns.join(", ")).ok();
        }
    }
    for flag in ["observe", "admin"] {
        if args.get_flag(flag) {
            writeln!(table, "{flag} = true").ok();
        }
    }
    if let Some(expires) = one("expires") {
        writeln!(table, "expires = {expires}").ok();
    }
    if let Some(most) = args.get_one::<u64>("connections-max") {
        writeln!(table, "connections_max = {most}").ok();
    }
    table
}

fn read(args: &ArgMatches) -> Result<Vec<KeyEntry>, Failure> {
    let path = args.get_one::<String>("file").expect("clap requires it");
    let text = std::fs::read_to_string(path).map_err(|error| Failure::File(path.clone(), error))?;
    file::parse(&text).map_err(|error| Failure::Key(format!("{path}: {error}")))
}

fn list(entries: &[KeyEntry], out: &mut impl Write) -> Result<(), Failure> {
    for KeyEntry { name, rights, .. } in entries {
        let texts = |patterns: &[crate::pattern::Pattern]| {
            patterns
                .iter()
                .map(|pattern| pattern.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        let expires = rights
            .expires_ms
            .and_then(|at| jiff::Timestamp::from_millisecond(i64::try_from(at).ok()?).ok());
        let line = json!({
            "name": name,
            "subscribe": texts(&rights.subscribe),
            "publish": texts(&rights.publish),
            "manage": texts(&rights.manage),
            "observe": rights.observe,
            "admin": rights.admin,
            "expires": expires.map(|at| at.to_string()),
            "connections_max": rights.connections_max,
        });
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// Every topic that is named must be allowed; the first that is not is said.
fn check(args: &ArgMatches, entries: &[KeyEntry]) -> Result<(), Failure> {
    let Some(name) = args.get_one::<String>("name") else {
        return Ok(());
    };
    let entry = entries.iter().find(|entry| entry.name == *name);
    let entry = entry.ok_or_else(|| Failure::Key(format!("no key is called '{name}'")))?;
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    if entry.rights.expires_ms.is_some_and(|at| at <= now) {
        return Err(Failure::Key(format!("key '{name}' has expired")));
    }
    for right in Right::ALL {
        for topic in args.get_many::<String>(right.name()).into_iter().flatten() {
            if !entry.rights.has(right, topic) {
                let what = format!("key '{name}' may not {} '{topic}'", right.verb());
                return Err(Failure::Key(what));
            }
        }
    }
    Ok(())
}
