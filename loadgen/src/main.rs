//! `loadgen` loads a shardcast server, checks every sequence on every subscriber, and measures.
//!
//! It shares no code with the broker. A run goes from [`args`] to a [`scenario`], which makes topics over [`rest`] and lets
//! the [`conductor`] start [`engine`] lanes; each lane holds [`client`]s, which turn bytes into messages with [`frame`] and
//! [`wire`]; [`check`] says what is wrong with them, [`pace`] when the next may leave; [`report`] shows the outcome.

mod args;
mod check;
mod client;
mod conductor;
mod engine;
mod frame;
mod pace;
mod procfs;
mod report;
mod rest;
mod scenario;
mod tls;
mod units;
mod wire;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::report::file::PageFile;

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("cannot run against this server: {0}")]
    Connect(String),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a thread of the generator broke")]
    Broken,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(failure) => {
            // Nobody is left to hear that standard error is closed.
            drop(writeln!(io::stderr(), "loadgen: {failure}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, Failure> {
    let matches = args::flags::command().get_matches();
    let (scenario, settings) = args::parse(&matches).map_err(Failure::Usage)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second signal finds the flag set by the first, and ends the process at once.
        flag::register_conditional_shutdown(signal, 2, stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    let json = settings.json;
    let page = settings.html.as_deref().map(PageFile::open).transpose()?;
    let report = match scenario::play(&scenario, settings, stop) {
        Ok(report) => report,
        Err(failure) => {
            if let Some(page) = page {
                page.abandon();
            }
            return Err(failure);
        }
    };
    let text = if json {
        format!("{}\n", report::json::render(&report))
    } else {
        report::table::render(&report)
    };
    io::stdout().write_all(text.as_bytes())?;
    if let Some(page) = page {
        page.write(&report::html::render(&report))?;
    }
    Ok(report.is_clean())
}
