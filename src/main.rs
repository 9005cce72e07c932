//! The binary: parses the command line, then serves or runs a client. No logic.

use std::io::Write;
use std::process::ExitCode;

use mimalloc::MiMalloc;
use shardcast::access::Access;
use shardcast::config::{Config, process_env};
use shardcast::wire::identity::Identity;
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
    let loaded = Config::load(&args, &process_env)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
        .and_then(|config| {
            // What is wrong with any file is said in one go.
            match (Identity::load(&config), Access::open(&config)) {
                (Ok(identity), Ok(access)) => Ok((config, identity, access)),
                (identity, access) => {
                    let identity = identity.err().map(|error| error.to_string());
                    let access = access.err().unwrap_or_default();
                    let access = access.iter().map(ToString::to_string);
                    Err(identity.into_iter().chain(access).collect::<Vec<_>>())
                }
            }
        });
    match loaded {
        Ok((config, identity, access)) => {
            logs::init(&config);
            let code = server::run(config, identity, access);
            logs::flush();
            code
        }
        Err(errors) => {
            logs::report(errors);
            ExitCode::from(EXIT_BAD_SETTINGS)
        }
    }
}
