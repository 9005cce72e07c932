//! Settings are taken or refused with one line each; nothing that an environment holds panics.
#![no_main]

use std::ffi::OsString;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use shardcast::config::{Config, flags};

const NAMES: &[&str] = &[
    "HOST",
    "PORT",
    "SHARDS",
    "PIN_THREADS",
    "SOCKET_UNSENT_MAX",
    "IO_URING",
    "ALLOWED_ORIGINS",
    "RING_BUFFER_SIZE",
    "SUBSCRIBER_QUEUE_BYTES",
    "SLOW_CONSUMER_POLICY",
    "MEMORY_BUDGET",
    "MAX_CONNECTIONS",
    "HTTP_HEAD_MAX",
    "PING_PERIOD_SEC",
    "PONG_WAIT_SEC",
    "DRAIN_GRACE_MS",
    "IDLE_TIMEOUT_SEC",
    "AUTH_ENABLED",
    "API_KEYS",
    "LOG_LEVEL",
    "LOG_FORMAT",
];

fuzz_target!(|values: Vec<(u8, &str)>| {
    static ARGS: OnceLock<clap::ArgMatches> = OnceLock::new();
    let args = ARGS.get_or_init(|| {
        let command = clap::Command::new("shardcast").args(flags());
        command.get_matches_from(["shardcast"])
    });
    let env = |name: &str| {
        let mut given = values.iter().rev();
        let (_, value) =
            given.find(|(index, _)| NAMES[usize::from(*index) % NAMES.len()] == name)?;
        Some(OsString::from(value))
    };
    match Config::load(args, &env) {
        Ok(config) => {
            assert!(config.ring_messages_max >= 1 && config.pong_wait > config.ping_period);
            assert!(config.memory_bytes_max == 0 || config.memory_bytes_max >= 16 << 20);
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in errors {
                let line = error.to_string();
                assert!(
                    line.starts_with(error.variable()) && !line.contains('\n'),
                    "{line}"
                );
            }
        }
    }
});
