//! The table, its defaults and what is said about bad values.

use super::*;

fn load(args: &[&str], env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let command = clap::Command::new("shardcast")
        .no_binary_name(true)
        .args(flags());
    let args = command.try_get_matches_from(args).expect("known flags");
    let env = |name: &str| {
        env.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.into())
    };
    Config::load(&args, &env).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn errors(args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    load(args, env).expect_err("bad settings")
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = Config::default();
    let address = config.address().map(|address| address.to_string());
    assert_eq!(address.as_deref(), Some("0.0.0.0:8080"));
    assert_eq!(config.tls_address(), None);
    assert_eq!(
        (config.history_messages_max, config.ring_messages_max),
        (100, 100)
    );
    assert_eq!(
        (config.ping_period.as_secs(), config.pong_wait.as_secs()),
        (30, 60)
    );
    assert_eq!(
        (
            config.read_timeout.as_secs(),
            config.write_timeout.as_secs()
        ),
        (15, 15)
    );
    assert_eq!(
        (
            config.write_wait.as_secs(),
            config.shutdown_timeout.as_secs()
        ),
        (10, 10)
    );
    assert_eq!((config.idle_timeout, config.auth_enabled), (None, false));
    assert_eq!(
        (config.message_bytes_max, config.connections_max),
        (65_536, None)
    );
    assert_eq!(
        (config.topics_max, config.subscriptions_max),
        (100_000, 1000)
    );
    assert_eq!(config.slow_consumer_policy, SlowConsumerPolicy::DropOldest);
    assert_eq!(
        (config.log_level, config.log_format),
        (Level::INFO, LogFormat::Text)
    );
    assert_eq!(config.socket_unsent_bytes_max, Some(16_384));
    assert!(config.heartbeat_info && config.allowed_origins.allows("https://any.example"));
    assert!(config.shard_count() >= 1);
}

#[test]
fn a_flag_beats_the_environment_and_an_empty_variable_is_not_set() {
    let config = load(
        &["--port", "0"],
        &[("PORT", "9000"), ("RING_BUFFER_SIZE", "")],
    )
    .expect("good settings");
    assert_eq!((config.port, config.history_messages_max), (Some(0), 100));
    let config =
        load(&[], &[("PORT", " 9000 "), ("IDLE_TIMEOUT_SEC", "5")]).expect("good settings");
    assert_eq!(
        (config.port, config.idle_timeout),
        (Some(9000), Some(Duration::from_secs(5)))
    );
}

#[test]
fn all_bad_settings_are_reported_at_once() {
    let env = [
        ("PORT", "http"),
        ("RING_BUFFER_SIZE", "-1"),
        ("LOG_FORMAT", "xml\n"),
        ("HOST", "localhost"),
    ];
    assert_eq!(
        errors(&["--subscriber-queue-size", "0"], &env),
        [
            r#"HOST="localhost": must be an IPv4 or IPv6 address"#,
            r#"PORT="http": must be a whole number from 0 to 65535, or off"#,
            r#"RING_BUFFER_SIZE="-1": must be a whole number from 0 to 1000000"#,
            r#"SUBSCRIBER_QUEUE_SIZE="0": must be a whole number from 1 to 1000000"#,
            r#"LOG_FORMAT="xml\n": must be text or json"#,
        ]
    );
}

#[test]
fn sizes_may_have_a_unit() {
    let env = [
        ("SUBSCRIBER_QUEUE_BYTES", "512KiB"),
        ("HISTORY_BYTES_MAX", "2G"),
        ("MAX_MESSAGE_SIZE", "4096"),
        ("MEMORY_BUDGET", "64MiB"),
    ];
    let config = load(&[], &env).expect("allowed");
    assert_eq!(config.ring_bytes_max, 512 << 10);
    assert_eq!(config.history_bytes_max, 2 << 30);
    assert_eq!(config.message_bytes_max, 4096);
    assert_eq!(config.memory_bytes_max, 64 << 20);
    let env = [
        ("SUBSCRIBER_QUEUE_BYTES", "1KiB"),
        ("MAX_MESSAGE_SIZE", "4 MiB"),
        ("HISTORY_BYTES_MAX", "99999999999TiB"),
        ("MEMORY_BUDGET", "1MiB"),
        ("RING_BUFFER_SIZE", "1K"),
    ];
    let errors = errors(&[], &env);
    assert_eq!(errors.len(), env.len(), "{errors:?}");
    let queue = r#"SUBSCRIBER_QUEUE_BYTES="1KiB": must be bytes from 65536 to 1099511627776, or a size like 512KiB"#;
    assert!(errors.iter().any(|error| error == queue), "{errors:?}");
}

#[test]
fn relations_are_reported_at_once_too() {
    let env = [
        ("PING_PERIOD_SEC", "60"),
        ("PONG_WAIT_SEC", "60"),
        ("AUTH_ENABLED", "T"),
        ("API_KEYS", " , "),
        ("DRAIN_GRACE_MS", "10000"),
    ];
    assert_eq!(
        errors(&[], &env),
        [
            "PING_PERIOD_SEC=60: must be below PONG_WAIT_SEC=60",
            "DRAIN_GRACE_MS=10000: must be below SHUTDOWN_TIMEOUT_SEC=10",
            "API_KEYS=\"\": must be at least one key when AUTH_ENABLED is true, unless there is API_KEYS_FILE, JWT_SECRET_FILE or JWT_JWKS_FILE",
        ]
    );
}

#[test]
fn of_a_heartbeat_and_its_wait_one_may_be_given_alone() {
    for (env, period, wait) in [
        ([("PING_PERIOD_SEC", "60")], 60_000, 120_000),
        ([("PING_PERIOD_SEC", "5")], 5_000, 60_000),
        ([("PONG_WAIT_SEC", "20")], 10_000, 20_000),
        ([("PONG_WAIT_SEC", "1")], 500, 1_000),
        ([("PONG_WAIT_SEC", "300")], 30_000, 300_000),
    ] {
        let config = load(&[], &env).expect("allowed");
        let times = (config.ping_period.as_millis(), config.pong_wait.as_millis());
        assert_eq!(times, (period, wait), "{env:?}");
    }
}

#[test]
fn a_relation_to_a_bad_value_is_not_reported() {
    let env = [
        ("PING_PERIOD_SEC", "90"),
        ("PONG_WAIT_SEC", "long"),
        ("AUTH_ENABLED", "true"),
    ];
    let errors = errors(&[], &env);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("PONG_WAIT_SEC") && errors[1].starts_with("API_KEYS"));
}

#[test]
fn switches_are_spelled_as_in_go_and_may_stand_alone_as_flags() {
    for (text, expected) in [
        ("1", true),
        ("t", true),
        ("True", true),
        ("F", false),
        ("FALSE", false),
    ] {
        assert_eq!(
            load(&[], &[("PIN_THREADS", text)])
                .expect("a switch")
                .pin_threads,
            expected,
            "{text}"
        );
    }
    let config = load(&["--pin-threads", "--port", "9000"], &[]).expect("a switch, and a port");
    assert!(config.pin_threads && config.port == Some(9000));
    assert!(
        !load(&["--heartbeat-info=false"], &[])
            .expect("a switch")
            .heartbeat_info
    );
    assert_eq!(errors(&[], &[("PIN_THREADS", "yes")]).len(), 1);
}

#[test]
fn log_level_wins_over_gin_mode() {
    let level = |env: &[(&str, &str)]| load(&[], env).map(|config| config.log_level);
    assert_eq!(level(&[("GIN_MODE", "debug")]), Ok(Level::DEBUG));
    assert_eq!(level(&[("GIN_MODE", "release")]), Ok(Level::INFO));
    assert_eq!(
        level(&[("GIN_MODE", "debug"), ("LOG_LEVEL", "WARN")]),
        Ok(Level::WARN)
    );
    assert!(level(&[("GIN_MODE", "fast"), ("LOG_LEVEL", "warn")]).is_err());
}

#[test]
fn keys_never_show() {
    let env = [("API_KEYS", "hunter2"), ("AUTH_ENABLED", "maybe")];
    assert!(!errors(&[], &env).join("\n").contains("hunter2"));
    let config = load(&["--api-keys", "hunter2, hunter3"], &[]).expect("good settings");
    assert!(!format!("{config:?}").contains("hunter2") && config.api_keys.matches(b"hunter3"));
}

#[cfg(unix)]
#[test]
fn a_key_that_is_not_text_is_refused_and_not_replaced() {
    use std::os::unix::ffi::OsStringExt;
    let env = |name: &str| (name == "API_KEYS").then(|| OsString::from_vec(vec![b'k', 0xff]));
    let errors = Config::from_sources(&|_| None, &env).expect_err("not UTF-8");
    assert_eq!(errors.len(), 1);
    assert!(
        errors[0].to_string().starts_with("API_KEYS=(hidden)"),
        "{}",
        errors[0]
    );
}

#[test]
fn each_setting_has_one_flag_and_help_for_80_columns() {
    let mut names: Vec<_> = rows().map(|row| row.env).collect();
    names.sort_unstable();
    assert!(
        names.is_sorted_by(|a, b| a < b),
        "a setting is there twice: {names:?}"
    );
    let mut command = clap::Command::new("shardcast")
        .next_line_help(true)
        .term_width(80)
        .args(flags());
    command.build();
    let help = command.render_help().to_string();
    assert!(help.lines().all(|line| line.chars().count() <= 80));
    assert!(help.contains("--max-subscriptions-per-connection <TOPICS>"));
}

#[test]
fn a_run_is_never_cut_short_in_silence() {
    let limit = crate::broker::RUN_EVENTS_LIMIT;
    let runs_of = |events: usize| load(&[&format!("--run-messages-max={events}")], &[]);
    assert!(runs_of(limit).is_ok() && runs_of(limit + 1).is_err());
}

#[test]
fn the_documents_and_the_example_environment_name_every_setting_with_its_default() {
    let document = include_str!("../../docs/settings.md");
    let example = include_str!("../../.env.example");
    for row in rows() {
        let line = row.allowed();
        let (setting, _) = line.split_once(": ").expect("what is allowed follows");
        let flag = format!("--{}", row.env.to_ascii_lowercase().replace('_', "-"));
        let documented = document.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(setting) && words.next_back() == Some(flag.as_str())
        });
        assert!(documented, "docs/settings.md: {setting} {flag}");
        let exemplified = example
            .lines()
            .any(|line| line.strip_prefix('#') == Some(setting));
        assert!(exemplified, ".env.example: #{setting}");
    }
}

#[test]
fn colors_are_off_where_the_environment_says_so() {
    let wanted = |value: Option<&str>| wants_color(&|_| value.map(OsString::from));
    assert!(wanted(None) && wanted(Some("")) && !wanted(Some("1")));
}

#[test]
fn what_is_in_force_is_told_with_where_it_comes_from_and_without_secrets() {
    let env = [
        ("API_KEYS", "hunter2"),
        ("PING_PERIOD_SEC", "60"),
        ("GIN_MODE", "debug"),
    ];
    let config = load(&["--ring-buffer-size", "7"], &env).expect("good settings");
    let told: Vec<_> = config.in_force().collect();
    assert_eq!(told.len(), rows().count());
    assert!(!format!("{told:?}").contains("hunter2"));
    for (name, value, origin) in [
        ("HOST", "0.0.0.0", Origin::Default),
        ("RING_BUFFER_SIZE", "7", Origin::Flag),
        ("API_KEYS", "set", Origin::Environment),
        ("PING_PERIOD_SEC", "60", Origin::Environment),
        ("PONG_WAIT_SEC", "120", Origin::Default),
        ("GIN_MODE", "debug", Origin::Environment),
        ("LOG_LEVEL", "debug", Origin::Default),
    ] {
        let setting = told.iter().find(|setting| setting.name == name);
        let setting = setting.expect("every setting is told");
        assert_eq!(
            (setting.value.as_str(), setting.origin),
            (value, origin),
            "{name}"
        );
    }
    let defaults = Config::default();
    let keys = defaults
        .in_force()
        .find(|setting| setting.name == "API_KEYS");
    assert_eq!(keys.expect("it is told").value, "not set");
}
