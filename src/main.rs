//! The binary: parses the command line, then serves or runs a client. No logic.

use std::io::Write;
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
    if args.get_flag("short-help") {
        // A reader that has gone needs no help.
        std::io::stdout()
            .write_all(cli::short_help().as_bytes())
            .ok();
        return ExitCode::SUCCESS;
    }
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
