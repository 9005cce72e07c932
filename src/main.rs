//! The binary: parses the command line, then serves or runs a client. No logic.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use shardcast::config::{Config, process_env};
use shardcast::{cli, logs, server};

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
            logs::init(&config);
            let code = server::run(config);
            logs::flush();
            code
        }
        Err(errors) => {
            logs::report(errors.iter().map(ToString::to_string));
            ExitCode::from(EXIT_BAD_SETTINGS)
        }
    }
}
