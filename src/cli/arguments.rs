//! What the command line takes, and its help.

use clap::{Arg, ArgAction, Command, value_parser};

use crate::config;
use crate::config::client::{ClientSettings, trust_flags};
use crate::config::rule::DAY_SEC;

use super::key;
use super::manual;
use super::subscribe::Start;

/// Columns of the short help, and where its lists of flags begin.
const COLUMNS: usize = 80;
const INDENT: usize = 11;

/// Commands that the short help names in its last line: its list is of those of every day.
const OF_ONCE: [&str; 2] = ["man", "completions"];

/// The whole command line, for `main` to parse.
pub fn command() -> Command {
    Command::new("shardcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "An in-memory publish/subscribe broker over WebSockets. Without a command it serves.",
        )
        .after_help("Each flag is also the environment variable below it; the flag wins.")
        .max_term_width(COLUMNS)
        .next_line_help(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_flag(true)
        .args([
            Arg::new("short-help")
                .short('h')
                .action(ArgAction::SetTrue)
                .help("Print a help of one screen"),
            help_flag().long("help"),
        ])
        .args(config::flags())
        .subcommands(
            [
                sub_command(),
                pub_command(),
                topics_command(),
                create_command(),
                delete_command(),
                shell_command(),
                top_command(),
                health_command(),
                key::command(),
                manual::man_command(),
                manual::completions_command(),
            ]
            // clap gives them none where the broker has its own.
            .map(|command| command.arg(help_flag().short('h').long("help"))),
        )
}

fn help_flag() -> Arg {
    Arg::new("help")
        .action(ArgAction::Help)
        .help("Print this help")
}

/// The commands, and the names of the flags by their groups: what fits on one screen.
pub fn short_help() -> String {
    let command = command();
    let mut text =
        "Usage: shardcast [FLAGS] to serve, shardcast COMMAND ... to be a client\n\nCommands:\n"
            .to_owned();
    let every_day = |command: &&Command| !OF_ONCE.contains(&command.get_name());
    for command in command.get_subcommands().filter(every_day) {
        let about = command.get_about().map(ToString::to_string);
        let line = format!(
            "  {:width$}{}\n",
            command.get_name(),
            about.unwrap_or_default(),
            width = INDENT - 2
        );
        text.push_str(&line);
    }
    text.push_str(
        "\nFlags of the broker, each also a variable of the environment (--port: PORT):\n",
    );
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for flag in command.get_arguments() {
        let (Some(heading), Some(name)) = (flag.get_help_heading(), flag.get_long()) else {
            continue;
        };
        match groups.last_mut() {
            Some((of, names)) if *of == heading => names.push(name),
            _ => groups.push((heading, vec![name])),
        }
    }
    for (heading, mut names) in groups {
        let mut heading = heading;
        while !names.is_empty() {
            let line = take_a_line(&mut names);
            let line = format!("  {heading:width$}{line}\n", width = INDENT - 2);
            text.push_str(&line);
            heading = "";
        }
    }
    text.push_str(
        "\n--help, COMMAND --help and the command man say more; completions is for shells.\n",
    );
    text
}

/// Takes the first of `names` that there is room for side by side: one that is too long for the rest of
/// the line lets shorter ones behind it go first.
fn take_a_line(names: &mut Vec<&str>) -> String {
    let mut line = String::new();
    names.retain(|name| {
        let gap = if line.is_empty() { "" } else { " " };
        let width = INDENT + line.len() + gap.len() + 2 + name.len();
        // A name that is longer than a line has one to itself.
        let is_taken = width <= COLUMNS || line.is_empty();
        if is_taken {
            line.push_str(gap);
            line.push_str("--");
            line.push_str(name);
        }
        !is_taken
    });
    line
}

fn health_command() -> Command {
    Command::new("health")
        .about("Ask a broker for its health; exit code 0 if it is well")
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .help("The broker [SHARDCAST_URL, or HOST and PORT of the environment]"),
        )
        .args(trust_flags())
}

fn sub_command() -> Command {
    Command::new("sub")
        .about("Print the events of topics, one JSON object on each line")
        .arg(topic("What to subscribe to: names, or patterns like 'orders.*' and 'orders.>'").num_args(1..))
        .args([
            Arg::new("last")
                .long("last")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("First the newest N events of each topic's history"),
            Arg::new("since")
                .long("since")
                .value_name("[TOPIC=]EPOCH:SEQ")
                .value_parser(Start::parse)
                .action(ArgAction::Append)
                .help("First what followed this event, of one topic or of each; --verbose shows where a topic is"),
            Arg::new("latest")
                .long("latest")
                .action(ArgAction::SetTrue)
                .help("Where this is slow, only the newest event of each topic; 'skipped' in it counts the others"),
            Arg::new("max-rate")
                .long("max-rate")
                .value_name("N")
                .value_parser(value_parser!(u16).range(1..=1000))
                .help("At most N events a second of each topic, the newest of each interval"),
            Arg::new("reconnect")
                .long("reconnect")
                .action(ArgAction::SetTrue)
                .help("Connect again when the connection is lost, and go on behind the last event"),
            verbose("Say on standard error what is subscribed to, as EPOCH:SEQ"),
        ])
        .args(ClientSettings::flags())
}

fn pub_command() -> Command {
    Command::new("pub")
        .about("Publish one message, or each line of standard input as one")
        .arg(topic("Where to publish"))
        .arg(
            Arg::new("payload")
                .value_name("PAYLOAD")
                .allow_hyphen_values(true)
                .help("JSON, or else text; - or nothing reads standard input"),
        )
        .args([
            Arg::new("file")
                .long("file")
                .value_name("PATH")
                .conflicts_with("payload")
                .help("Publish a file as one message; - is standard input"),
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Refuse what is not JSON, instead of sending it as a string"),
            verbose("Print how many were published, and their sequence numbers"),
        ])
        .args(ClientSettings::flags())
}

fn topics_command() -> Command {
    Command::new("topics")
        .about("List the topics, one JSON object on each line")
        .args(ClientSettings::flags())
}

fn create_command() -> Command {
    Command::new("create")
        .about("Create topics")
        .arg(topic("What to create").value_name("NAME").num_args(1..))
        .args(ClientSettings::flags())
}

fn delete_command() -> Command {
    Command::new("delete")
        .about("Delete topics")
        .arg(topic("What to delete").value_name("NAME").num_args(1..))
        .args(ClientSettings::flags())
}

fn shell_command() -> Command {
    Command::new("shell")
        .about("Talk to a broker line by line; reads commands from a pipe too")
        .args(ClientSettings::flags())
}

fn top_command() -> Command {
    Command::new("top")
        .about("Watch what a broker does: rates, topics, who is slow; text when piped")
        .args([
            Arg::new("view")
                .value_name("VIEW")
                .value_parser(["topics", "connections"])
                .help("What to list [topics]"),
            Arg::new("sort")
                .long("sort")
                .value_name("COLUMN")
                .help(
                    "By what, the largest first, or a name by the alphabet. Of more than 200 connections \
                     those are listed that lag most, for 'dropped' lost most, for 'since' are oldest",
                ),
            Arg::new("interval")
                .long("interval")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=DAY_SEC))
                .default_value("2")
                .help("How often to look"),
            Arg::new("count")
                .long("count")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .default_value("1")
                .help("Where it is no terminal, so many reports; 0 prints them without end"),
        ])
        .args(ClientSettings::flags())
}

fn topic(help: &'static str) -> Arg {
    Arg::new("topic")
        .value_name("TOPIC")
        .required(true)
        .help(help)
}

fn verbose(help: &'static str) -> Arg {
    Arg::new("verbose")
        .short('v')
        .long("verbose")
        .action(ArgAction::SetTrue)
        .help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn the_short_help_fits_on_a_screen_and_has_every_flag() {
        let help = short_help();
        assert!(
            help.lines().all(|line| line.chars().count() <= COLUMNS),
            "{help}"
        );
        assert!(
            help.lines().count() <= 44,
            "{}:\n{help}",
            help.lines().count()
        );
        for flag in config::flags() {
            let name = flag.get_long().expect("a flag has a name");
            assert!(help.contains(&format!("--{name}")), "{name}");
        }
    }
}
