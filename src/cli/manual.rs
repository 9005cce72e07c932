//! What a shell and `man` are to know of the command line, out of its one definition: nothing here names a flag.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;
use roff::{Roff, bold, roman};

use super::{Failure, arguments};

/// Each is sourced and asked in a test.
const SHELLS: [(&str, Shell); 3] = [
    ("bash", Shell::Bash),
    ("zsh", Shell::Zsh),
    ("fish", Shell::Fish),
];

const SIGNALS: [(&str, &str); 3] = [
    (
        "SIGTERM, SIGINT",
        "Tell every client, do what was begun, and end, at the latest after SHUTDOWN_TIMEOUT_SEC. A second one ends it at once.",
    ),
    (
        "SIGHUP",
        "Read certificates, keys and secrets again. A file that is bad is logged, and what was read before stays.",
    ),
    (
        "SIGUSR1",
        "Log more, level by level, and then what LOG_LEVEL says again.",
    ),
];

const EXIT_STATUS: [(&str, &str); 4] = [
    (
        "0",
        "The broker has ended as it was asked to; or a command has done what it was asked.",
    ),
    ("1", "It has not; standard error says why."),
    (
        "2",
        "The command line cannot be read, or a setting of the broker is wrong: a start over will not help.",
    ),
    ("130", "A command was ended by Ctrl-C."),
];

pub(super) fn completions_command() -> Command {
    Command::new("completions")
        .about("Print what a shell needs to complete commands and flags")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(PossibleValuesParser::new(SHELLS.map(|(name, _)| name)))
                .help("bash: source it, or keep it as /usr/share/bash-completion/completions/shardcast"),
        )
}

pub(super) fn man_command() -> Command {
    Command::new("man")
        .about("Print the manual page of the broker: shardcast man | man -l -")
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Write it and the pages of all commands there, instead of printing one"),
        )
}

pub(super) fn completions(args: &ArgMatches) -> Result<(), Failure> {
    let asked: &String = args.get_one("shell").expect("clap requires it");
    for (_, shell) in SHELLS.iter().filter(|(name, _)| name == asked) {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut arguments::command(), "shardcast", &mut script);
        // At once, and not by the generator: it panics where the reader has gone.
        io::stdout().write_all(&script)?;
    }
    Ok(())
}

pub(super) fn man(args: &ArgMatches) -> Result<(), Failure> {
    let Some(dir) = args.get_one::<PathBuf>("dir") else {
        return Ok(io::stdout().write_all(&page()?)?);
    };
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(arguments::command(), dir))
        .and_then(|()| std::fs::write(dir.join("shardcast.1"), page()?))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
    Ok(())
}

/// The page of the broker: its flags in their groups, which are its settings, and what is no flag.
fn page() -> io::Result<Vec<u8>> {
    let command = arguments::command()
        .override_usage("shardcast [FLAGS]\nshardcast COMMAND ...")
        .subcommand_help_heading("COMMANDS")
        .disable_help_subcommand(true)
        .after_help(None::<&str>)
        .long_about(
            "An in-memory publish/subscribe broker over WebSockets. Without a command it serves.\n\
             \n\
             Each flag is also a variable of the environment, which is named with its default and what \
             is allowed; the flag wins.",
        );
    let man = Man::new(command).manual("shardcast");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    // A name of a setting with a hyphen in it could not be copied.
    Roff::new()
        .control("nh", [])
        .control("ad", ["l"])
        .to_writer(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut own = Roff::new();
    for (heading, entries) in [
        ("SIGNALS", SIGNALS.as_slice()),
        ("EXIT STATUS", &EXIT_STATUS),
    ] {
        own.control("SH", [heading]);
        for (term, text) in entries {
            own.control("TP", []);
            own.text([bold(*term)]);
            own.text([roman(*text)]);
        }
    }
    own.to_writer(&mut page)?;
    Ok(page)
}
