//! The command line: the broker's flags, and the subcommands that are clients of a broker.
//!
//! A client speaks the wire contract and nothing else: it shares no code with the broker, so what works here works for
//! every other client. Standard output carries data only, for pipes; what is said to a person goes to standard
//! error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::runtime::{Builder, Runtime};

use crate::config::client::{ClientSettings, history_file, local_url};
use crate::config::{self, process_env};

use self::client::ClientError;
use self::health::HealthError;
use self::message::Since;
use self::subscribe::Subscription;

mod client;
mod health;
mod message;
mod publish;
mod shell;
mod subscribe;
#[cfg(test)]
mod test_server;
mod url;

/// What a client could not do.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("{code}: {message}")]
    Server { code: String, message: String },
    #[error("{0} of the commands failed")]
    Commands(u64),
    #[error("no answer from the server for {0} s")]
    NoAnswer(u64),
    #[error("nothing to publish: give a PAYLOAD, or - to type messages line by line")]
    NoPayload,
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// What a person can do about it here, where the server's own words do not say.
    fn advice(&self) -> Option<&'static str> {
        let Self::Server { code, .. } = self else {
            return None;
        };
        match code.as_str() {
            "TOPIC_NOT_FOUND" => {
                Some("POST /topics creates it; with --auto-create-topics the broker does")
            }
            "UNAUTHORIZED" => {
                Some("give a key that the broker knows, with --api-key or SHARDCAST_API_KEY")
            }
            _ => None,
        }
    }
}

/// The whole command line, for `main` to parse.
pub fn command() -> Command {
    Command::new("shardcast")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "An in-memory publish/subscribe broker over WebSockets. Without a command it serves.",
        )
        .after_help("Each flag is also the environment variable below it; the flag wins.")
        .max_term_width(80)
        .next_line_help(true)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .args(config::flags())
        .subcommands([
            health_command(),
            sub_command(),
            pub_command(),
            shell_command(),
        ])
}

/// Runs a subcommand of [`command`] to its end.
pub fn run(name: &str, args: &ArgMatches) -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(Err(error.into())),
    };
    let code = match name {
        "health" => run_health(args, &runtime),
        "sub" => exit_code(run_sub(args, &runtime)),
        "pub" => exit_code(run_pub(args, &runtime)),
        _ => run_shell(args, &runtime),
    };
    // A read of standard input cannot be cancelled; waiting for it would hang a client that has already failed.
    runtime.shutdown_background();
    code
}

fn health_command() -> Command {
    Command::new("health")
        .about("Ask a broker for its health; exit code 0 if it is well")
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .help("The broker [default: http:// with HOST and PORT of the environment]"),
        )
}

fn sub_command() -> Command {
    Command::new("sub")
        .about("Print the events of topics, one JSON object on each line")
        .arg(
            Arg::new("topic")
                .value_name("TOPIC")
                .required(true)
                .num_args(1..)
                .help("What to subscribe to"),
        )
        .args([
            Arg::new("last")
                .long("last")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .conflicts_with("since")
                .help("First the newest N events of each topic's history"),
            Arg::new("since")
                .long("since")
                .value_name("EPOCH:SEQ")
                .value_parser(Since::parse)
                .help("First what followed this event; --verbose shows where a topic is"),
            verbose("Say on standard error what is subscribed to, as EPOCH:SEQ"),
        ])
        .args(ClientSettings::flags())
}

fn pub_command() -> Command {
    Command::new("pub")
        .about("Publish one message, or each line of standard input as one")
        .arg(
            Arg::new("topic")
                .value_name("TOPIC")
                .required(true)
                .help("Where to publish"),
        )
        .arg(
            Arg::new("payload")
                .value_name("PAYLOAD")
                .allow_hyphen_values(true)
                .help("JSON, or else text; - or nothing reads standard input"),
        )
        .arg(verbose(
            "Print how many were published, and their sequence numbers",
        ))
        .args(ClientSettings::flags())
}

fn shell_command() -> Command {
    Command::new("shell")
        .about("Talk to a broker line by line; reads commands from a pipe too")
        .args(ClientSettings::flags())
}

fn verbose(help: &'static str) -> Arg {
    Arg::new("verbose")
        .short('v')
        .long("verbose")
        .action(ArgAction::SetTrue)
        .help(help)
}

fn run_health(args: &ArgMatches, runtime: &Runtime) -> ExitCode {
    let url = match args.get_one::<String>("url") {
        Some(url) => Ok(url.clone()),
        None => local_url(&process_env),
    };
    match url {
        Ok(url) => exit_code(runtime.block_on(health::health(&url, &mut io::stdout()))),
        Err(errors) => {
            for error in &errors {
                complain(error);
            }
            ExitCode::FAILURE
        }
    }
}

fn run_sub(args: &ArgMatches, runtime: &Runtime) -> Result<(), Failure> {
    let subscription = Subscription {
        topics: args
            .get_many("topic")
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        last: args.get_one("last").copied(),
        since: args.get_one("since").cloned(),
        verbose: args.get_flag("verbose"),
    };
    let settings = ClientSettings::load(args, &process_env);
    let (mut out, mut notices) = (io::stdout(), io::stderr());
    runtime.block_on(async {
        tokio::select! {
            ended = subscribe::subscribe(&settings, &subscription, &mut out, &mut notices) => ended,
            interrupt = tokio::signal::ctrl_c() => Ok(interrupt?),
        }
    })
}

fn run_pub(args: &ArgMatches, runtime: &Runtime) -> Result<(), Failure> {
    let settings = ClientSettings::load(args, &process_env);
    let topic: &String = args.get_one("topic").expect("clap requires it");
    let payload = args.get_one::<String>("payload").map(String::as_str);
    if payload.is_none() && io::stdin().is_terminal() {
        return Err(Failure::NoPayload);
    }
    let published = runtime.block_on(async {
        match payload {
            None | Some("-") => {
                let lines = tokio::io::BufReader::new(tokio::io::stdin());
                publish::publish_lines(&settings, topic, lines, &mut io::stderr()).await
            }
            Some(payload) => {
                publish::publish_one(&settings, topic, payload, &mut io::stderr()).await
            }
        }
    })?;
    if args.get_flag("verbose") {
        writeln!(io::stdout(), "{published}")?;
    }
    Ok(())
}

fn run_shell(args: &ArgMatches, runtime: &Runtime) -> ExitCode {
    let settings = ClientSettings::load(args, &process_env);
    exit_code(runtime.block_on(shell::shell(&settings, history_file(&process_env))))
}

/// A reader that went away, as `head` does, has seen what it wanted: that is success.
fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            complain(&failure);
            if let Some(advice) = failure.advice() {
                complain(&advice);
            }
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the lines that say why a client failed, and what to do"
)]
fn complain(error: &dyn std::fmt::Display) {
    eprintln!("shardcast: {error}");
}
