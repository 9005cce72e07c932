//! The command line: the broker's flags, and the subcommands that are clients of a broker.
//!
//! A client speaks the wire contract and nothing else: it shares no code with the broker, so what works here works for
//! every other client. `sub` and `pub` are the client for Rust, [`shardcast_client`]; `shell` speaks by hand on one of
//! its connections. `key` is no client: it makes what the broker reads; nor are `man` and
//! `completions`. Standard output carries data only, for pipes; what is said to a person goes to standard
//! error.

use std::io::{self, IsTerminal, Read, Write};
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use shardcast_client::link::LinkError;
use shardcast_client::url::UrlError;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::config::client::{ClientSettings, history_file, load_trust, local_url};
use crate::config::process_env;
use crate::config::rule::SettingError;

use self::publish::{Format, MESSAGE_BYTES_MAX};
use self::rest::RestError;
use self::subscribe::Subscription;
use self::top::{View, Wanted};

mod arguments;
mod client;
mod health;
mod key;
mod manual;
mod message;
mod publish;
mod rest;
mod shell;
mod subscribe;
#[cfg(test)]
mod test_server;
mod top;
mod topics;

pub use arguments::{command, short_help};

/// What a shell says of a program that was ended by Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;

/// What a client could not do.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Rest(#[from] RestError),
    #[error("{}", told(.0))]
    Client(#[from] shardcast_client::Error),
    #[error("{0} of the commands failed")]
    Commands(u64),
    #[error("no answer from the server for {0} s")]
    NoAnswer(u64),
    #[error("nothing to publish: give a PAYLOAD, or - to type messages line by line")]
    NoPayload,
    #[error("the message is {0}")]
    Payload(String),
    #[error("line {line}: {why}; {published}")]
    Line {
        line: u64,
        why: String,
        published: String,
    },
    #[error("--since names '{0}', which is not subscribed to")]
    Start(String),
    #[error("there is nothing left to subscribe to")]
    Deleted,
    #[error("interrupted")]
    Interrupted,
    #[error("the settings in the environment are wrong")]
    Settings(Vec<SettingError>),
    /// It has been said already.
    #[error(transparent)]
    Told(Box<Self>),
    #[error("{0}")]
    Key(String),
    #[error("{0}")]
    Column(String),
    #[error("cannot read {0}: {1}")]
    File(String, io::Error),
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// What the client says of itself needs no code in front.
fn told(error: &shardcast_client::Error) -> String {
    if error.is_own() {
        error.message.clone()
    } else {
        error.to_string()
    }
}

impl Failure {
    /// What a person can do about it here, where the server's own words do not say.
    fn advice(&self, gave_key: bool) -> Option<&'static str> {
        let code = match self {
            Self::Client(error) => &*error.code,
            Self::Link(error) if error.is_about_the_key() => "UNAUTHORIZED",
            _ => return None,
        };
        match code {
            "TOPIC_NOT_FOUND" => {
                Some("`shardcast create` creates it; with --auto-create-topics the broker does")
            }
            "UNAUTHORIZED" | "INVALID_API_KEY" | "MISSING_API_KEY" if gave_key => {
                Some("the API key that was given (--api-key or SHARDCAST_API_KEY) is wrong")
            }
            "UNAUTHORIZED" | "MISSING_API_KEY" => {
                Some("give a key that the broker knows, with --api-key or SHARDCAST_API_KEY")
            }
            _ => None,
        }
    }
}

/// Runs a subcommand of [`command`] to its end.
pub fn run(name: &str, args: &ArgMatches) -> ExitCode {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit_code(Err(error.into()), false),
    };
    let settings = ClientSettings::load(args, &process_env);
    let result = match name {
        "health" => run_health(args, &runtime),
        "key" => key::run(args),
        "man" => manual::man(args),
        "completions" => manual::completions(args),
        "sub" => run_sub(args, &settings, &runtime),
        "pub" => run_pub(args, &settings, &runtime),
        "topics" => run_topics(&settings, &runtime),
        "top" => run_top(args, &settings, &runtime),
        "create" | "delete" => run_each(name, args, &settings, &runtime),
        _ => runtime.block_on(shell::shell(&settings, history_file(&process_env))),
    };
    let code = exit_code(result, settings.api_key.is_some());
    // A read of standard input cannot be cancelled; waiting for it would hang a client that has already failed.
    runtime.shutdown_background();
    code
}

fn run_health(args: &ArgMatches, runtime: &Runtime) -> Result<(), Failure> {
    let mut trust = load_trust(args, &process_env);
    let url = if let Some(url) = args.get_one::<String>("url") {
        url.clone()
    } else {
        let is_named = process_env("SHARDCAST_URL").is_some_and(|url| !url.is_empty());
        // A certificate names the broker as its clients know it, and not as this machine does.
        trust.insecure |= !is_named && trust.ca.is_none();
        local_url(&process_env).map_err(Failure::Settings)?
    };
    runtime.block_on(health::health(&url, &trust, &mut io::stdout()))
}

fn run_sub(args: &ArgMatches, settings: &ClientSettings, runtime: &Runtime) -> Result<(), Failure> {
    let all = |name: &str| args.get_many(name).into_iter().flatten().cloned();
    let subscription = Subscription {
        topics: all("topic").collect(),
        last: args.get_one("last").copied(),
        starts: args
            .get_many("since")
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        latest: args.get_flag("latest"),
        max_rate: args.get_one("max-rate").copied().and_then(NonZeroU16::new),
        reconnect: args.get_flag("reconnect"),
        verbose: args.get_flag("verbose"),
    };
    let (mut out, mut notices) = (io::stdout(), io::stderr());
    runtime.block_on(async {
        tokio::select! {
            ended = subscribe::subscribe(settings, &subscription, &mut out, &mut notices) => ended,
            interrupt = tokio::signal::ctrl_c() => Err(interrupt.map_or_else(Failure::Output, |()| Failure::Interrupted)),
            () = reader_gone() => Ok(()),
        }
    })
}

/// Resolves when nobody can read standard output any more: on a quiet topic no write would show it.
async fn reader_gone() {
    let (gone, is_gone) = oneshot::channel();
    // Blocks for as long as there is a reader, and ends with the process. A file has none that could go.
    let watching = std::thread::Builder::new().spawn(move || {
        let output = io::stdout();
        // Errors and hang-ups are always reported; nothing else is asked for.
        let mut polled = [PollFd::new(&output, PollFlags::empty())];
        while poll(&mut polled, None) == Err(Errno::INTR) {}
        gone.send(()).ok();
    });
    if watching.is_err() || is_gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn run_pub(args: &ArgMatches, settings: &ClientSettings, runtime: &Runtime) -> Result<(), Failure> {
    let topic: &String = args.get_one("topic").expect("clap requires it");
    let payload = args.get_one::<String>("payload").map(String::as_str);
    let file = args.get_one::<String>("file").map(String::as_str);
    let format = if args.get_flag("json") {
        Format::Json
    } else {
        Format::JsonOrText
    };
    if payload.or(file).is_none() && io::stdin().is_terminal() {
        return Err(Failure::NoPayload);
    }
    let file = file.map(read_file).transpose()?;
    let one = payload.filter(|payload| *payload != "-").map(str::as_bytes);
    let published = runtime.block_on(async {
        if let Some(payload) = file.as_deref().or(one) {
            publish::publish_one(settings, topic, payload, format).await
        } else {
            let lines = tokio::io::BufReader::new(tokio::io::stdin());
            publish::publish_lines(settings, topic, lines, format, &mut io::stderr()).await
        }
    })?;
    if args.get_flag("verbose") {
        writeln!(io::stdout(), "{published}")?;
    }
    Ok(())
}

/// A file, or standard input, as far as a message may be long and a byte more.
fn read_file(path: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path == "-" {
        io::stdin()
            .take(MESSAGE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MESSAGE_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::File(path.to_owned(), error))?;
    Ok(bytes)
}

fn run_top(args: &ArgMatches, settings: &ClientSettings, runtime: &Runtime) -> Result<(), Failure> {
    let text = |name: &str| args.get_one::<String>(name).map(String::as_str);
    let view = match text("view") {
        Some("connections") => View::Connections,
        _ => View::Topics,
    };
    let number = |name: &str| args.get_one(name).copied().unwrap_or(1_u64);
    let wanted = Wanted {
        view,
        by: view.by(text("sort")).map_err(Failure::Column)?,
        interval: Duration::from_secs(number("interval")),
        count: number("count"),
    };
    runtime.block_on(async {
        tokio::select! {
            ended = top::top(settings, wanted) => ended,
            interrupt = tokio::signal::ctrl_c() => Err(interrupt.map_or_else(Failure::Output, |()| Failure::Interrupted)),
            () = reader_gone() => Ok(()),
        }
    })
}

fn run_topics(settings: &ClientSettings, runtime: &Runtime) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for topic in runtime.block_on(topics::list(settings))? {
        writeln!(out, "{topic}")?;
    }
    Ok(out.flush()?)
}

/// Creates or deletes each topic, whatever becomes of the others.
fn run_each(
    name: &str,
    args: &ArgMatches,
    settings: &ClientSettings,
    runtime: &Runtime,
) -> Result<(), Failure> {
    let mut last = Ok(());
    for topic in args.get_many::<String>("topic").into_iter().flatten() {
        let done = runtime.block_on(async {
            match name {
                "create" => topics::create(settings, topic).await,
                _ => topics::delete(settings, topic).await,
            }
        });
        if let Err(failure) = done {
            complain(&format_args!("cannot {name} '{topic}': {failure}"));
            last = Err(Failure::Told(Box::new(failure)));
        }
    }
    last
}

/// A reader that went away, as `head` does, has seen what it wanted: that is success.
fn exit_code(result: Result<(), Failure>, gave_key: bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(Failure::Interrupted) => ExitCode::from(EXIT_INTERRUPTED),
        Err(Failure::Settings(errors)) => {
            for error in &errors {
                complain(error);
            }
            ExitCode::FAILURE
        }
        Err(failure) => {
            let failure = match failure {
                Failure::Told(failure) => *failure,
                failure => {
                    complain(&failure);
                    failure
                }
            };
            if let Some(advice) = failure.advice(gave_key) {
                complain(&advice);
            }
            ExitCode::FAILURE
        }
    }
}

/// Says why a client failed, and what to do. Nobody may be there to hear it, and that changes nothing.
fn complain(error: &dyn std::fmt::Display) {
    say(&mut io::stderr(), error);
}

/// Says something on a line of its own, without what would move the cursor: others have chosen some of it.
fn say(to: &mut dyn Write, text: &dyn std::fmt::Display) {
    writeln!(to, "shardcast: {}", harmless(&text.to_string())).ok();
}

/// Without control characters.
fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
