//! The binary: parses the command line, then serves or runs a client. No logic.

use std::io::IsTerminal;
use std::process::ExitCode;

use mimalloc::MiMalloc;
use shardcast::cli;
use shardcast::config::rule::SettingError;
use shardcast::config::values::LogFormat;
use shardcast::config::{Config, process_env};
use tracing_subscriber::fmt;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What a service manager takes as "do not restart: the settings are wrong".
const EXIT_BAD_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let args = cli::command().get_matches();
    if let Some((name, args)) = args.subcommand() {
        return cli::run(name, args);
    }
    match Config::load(&args, &process_env) {
        Ok(config) => {
            init_logs(&config);
            shardcast::server::run(config)
        }
        Err(errors) => {
            errors.iter().for_each(report);
            ExitCode::from(EXIT_BAD_SETTINGS)
        }
    }
}

fn init_logs(config: &Config) {
    let logs = fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(config.log_level);
    match config.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "there is no log yet where the settings are bad"
)]
fn report(error: &SettingError) {
    eprintln!("shardcast: {error}");
}
