//! The flags of every scenario, with their defaults and what they mean.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

use crate::wire::PAYLOAD_BYTES_MIN;

pub(crate) fn command() -> Command {
    Command::new("loadgen")
        .about("Loads a shardcast server, checks every sequence on every subscriber, and measures")
        .after_help("Exit codes: 0 all is well, 1 a loss or a breach of the contract, 2 bad usage or no connection.")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(fanout())
        .subcommand(latency())
        .subcommand(idle())
        .subcommand(stalled())
        .subcommand(churn())
        .subcommand(soak())
        .subcommand(slo())
}

fn fanout() -> Command {
    scenario(
        "fanout",
        "Deliveries per second and what one costs (closed loop)",
        ["1", "100", "10"],
    )
    .arg(number(
        "window",
        "N",
        "32",
        "Messages of a topic on their way to its slowest subscriber, shared by its publishers; 0: as fast as TCP takes them",
    ))
}

fn latency() -> Command {
    scenario(
        "latency",
        "Latency from the time a message was due (open loop)",
        ["10", "10", "20"],
    )
    .arg(rate("1000", "Publishes per second over all topics"))
}

fn idle() -> Command {
    scenario(
        "idle",
        "What a connection costs that only listens",
        ["10", "0", "10"],
    )
    .arg(count(
        "conns",
        "N",
        "1000",
        "Connections, each subscribed to one topic",
    ))
}

fn stalled() -> Command {
    scenario(
        "stalled",
        "Subscribers that stop reading, and what the others notice",
        ["1", "50", "8"],
    )
    .arg(count(
        "stalled",
        "K",
        "5",
        "So many of all subscribers stop reading",
    ))
    .arg(rate("2000", "Publishes per second over all topics"))
    .arg(number(
        "receive-buffer",
        "BYTES",
        "4096",
        "Receive buffer of those that stop, so that it fills; 0: the system's",
    ))
}

fn churn() -> Command {
    scenario(
        "churn",
        "Connect, subscribe, get an event, leave, again",
        ["10", "0", "10"],
    )
    .arg(rate("0", "Connections per second; 0: as fast as possible"))
    .arg(count(
        "workers",
        "N",
        "64",
        "Connections that come and go at the same time",
    ))
}

fn soak() -> Command {
    scenario(
        "soak",
        "A moderate rate for long: a line each minute, and the slope of memory",
        ["10", "10", "3600"],
    )
    .arg(rate("500", "Publishes per second over all topics"))
    .arg(positive(
        "slope-kb-max",
        "KB",
        "512",
        "Growth of the server per minute that fails a run of five minutes or more",
    ))
}

fn slo() -> Command {
    scenario(
        "slo",
        "The highest rate that keeps an objective",
        ["10", "10", "5"],
    )
    .arg(rate("1000", "Publishes per second to begin with"))
    .arg(positive(
        "p99-ms",
        "MS",
        "10",
        "The 99th percentile that must be kept",
    ))
    .arg(number(
        "loss",
        "N",
        "0",
        "Announced losses that are allowed in a step",
    ))
}

/// The defaults are those of `--topics`, `--subs` and `--secs`.
fn scenario(
    name: &'static str,
    about: &'static str,
    [topics, subs, secs]: [&'static str; 3],
) -> Command {
    let command = Command::new(name)
        .about(about)
        .arg(text(
            "url",
            "URL",
            "ws://127.0.0.1:8080/ws",
            "Where the server is; of a cluster several, comma separated, over which connections are spread",
        ))
        .arg(
            Arg::new("api-key")
                .long("api-key")
                .value_name("KEY")
                .help("Sent as X-API-Key"),
        )
        .arg(
            Arg::new("ca")
                .long("ca")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Whose certificate a wss:// server must have"),
        )
        .arg(
            Arg::new("insecure")
                .long("insecure")
                .action(ArgAction::SetTrue)
                .help("Take any certificate of a wss:// server"),
        )
        .arg(count(
            "topics",
            "N",
            topics,
            "Topics, made for this run and removed after it",
        ))
        .arg(positive("secs", "SECS", secs, "How long to measure"))
        .arg(positive(
            "drain-secs",
            "SECS",
            "10",
            "How long to wait at the end for what is on its way",
        ))
        .arg(count("threads", "N", "1", "Threads of the generator"))
        .arg(flag(
            "json",
            "One JSON object on standard output instead of the table",
        ))
        .arg(
            Arg::new("html")
                .long("html")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Writes a page with curves, all in one file"),
        )
        .arg(
            Arg::new("server-pid")
                .long("server-pid")
                .value_name("PID")
                .value_parser(value_parser!(u32))
                .help("The server's process; found by its port if it runs here"),
        )
        .arg(flag("quiet", "No progress line"));
    let command = match name {
        "idle" | "churn" => command,
        _ => command
            .arg(count("subs", "N", subs, "Subscribers of each topic"))
            .arg(count("pubs", "N", "1", "Publisher connections in all"))
            .arg(positive(
                "warmup",
                "SECS",
                "1",
                "How long to run before measuring",
            )),
    };
    let bytes = format!("Bytes of a payload, {PAYLOAD_BYTES_MIN} or more");
    command.arg(count("bytes", "N", "128", "").help(bytes))
}

fn text(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value)
        .default_value(default)
        .help(help)
}

fn number(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Arg {
    text(name, value, default, help).value_parser(value_parser!(u64).range(..=1 << 40))
}

fn count(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Arg {
    text(name, value, default, help).value_parser(value_parser!(u64).range(1..=10_000_000))
}

fn positive(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Arg {
    text(name, value, default, help).value_parser(finite)
}

fn rate(default: &'static str, help: &'static str) -> Arg {
    positive("rate", "PER_SEC", default, help)
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .action(ArgAction::SetTrue)
        .help(help)
}

fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && (0.0..=1e9).contains(&value) => Ok(value),
        _ => Err("a number from 0 to 1000000000 is wanted".into()),
    }
}
