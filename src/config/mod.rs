//! Every limit of the broker, with its default, its unit and what is allowed.
//!
//! The only place that reads the environment and the arguments. One table, below, makes the fields of [`Config`], the
//! flags with their help, and the parse; so a setting cannot be documented and then not read. A `Config` that exists
//! has passed every check: nothing behind it validates a setting again. Keys never show in errors or in `Debug`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Arg, ArgMatches};
use tracing::Level;

use self::networks::Networks;
use self::origins::AllowedOrigins;
use self::rule::reader::{Origin, Reader, Taken};
use self::rule::row::Row;
use self::rule::{Rule, SettingError};
use self::rule::{
    bytes, count, millis, number, one_of, optional, path, seconds, some_text, switch, text,
};
use self::values::{
    ApiKeys, ClusterStorage, GIN_MODES, IoUring, LOG_LEVELS, LogFormat, Secret, SlowConsumerPolicy,
};

pub mod client;
pub mod networks;
pub mod origins;
pub mod rule;
pub mod values;

/// What the contract accepts besides `LOG_LEVEL`, for those who set it already.
const GIN_MODE: Rule<Level> = one_of("GIN_MODE", "release", GIN_MODES);

/// Each row becomes a field of `Config`, a flag, its help, and one step of the parse.
macro_rules! settings {
    ($( $group:literal { $( #[doc = $doc:literal] $field:ident: $kind:ty = $rule:expr; )+ } )+) => {
        /// The settings of a broker, all checked.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($( #[doc = $doc] pub $field: $kind, )+)+
            /// What was read, for [`Self::in_force`].
            taken: Arc<[Taken]>,
        }

        impl Config {
            fn read(reader: &mut Reader<'_>) -> Self {
                Self { $($( $field: reader.read(&$rule), )+)+ taken: Arc::default() }
            }
        }

        fn rows() -> impl Iterator<Item = Row> {
            [$($( Row::with_fallback::<$kind>(&$rule, $group, $doc), )+)+].into_iter().flatten()
        }
    };
}

settings! {
    "Network" {
        /// Address to listen on.
        host: IpAddr = text("HOST", "0.0.0.0", "ADDRESS", "an IPv4 or IPv6 address",
            |text| text.parse().ok());
        /// TCP port; 0 takes any free one, off leaves only `TLS_PORT`.
        port: Option<u16> = text("PORT", "8080", "PORT", "a whole number from 0 to 65535, or off", values::parse_port);
        /// Threads, each with its share of topics and connections; 0 is one for each core.
        shards: usize = count("SHARDS", "0", 0..=1024, "THREADS");
        /// Keep each thread on one core; off where other programs share the machine.
        pin_threads: bool = switch("PIN_THREADS", "false");
        /// Connections the kernel keeps ready for accept, so that a storm is not refused.
        listen_backlog: u32 = count("LISTEN_BACKLOG", "4096", 1..=65_535, "CONNECTIONS");
        /// Bytes that the kernel may hold unsent; small keeps events fresh, 0 is its default.
        socket_unsent_bytes_max: Option<u32> = optional("SOCKET_UNSENT_MAX", "16384", 0..=1 << 30, "BYTES");
        /// One system call for all sends of a turn: where the kernel lets it, or never, or else do not start.
        io_uring: IoUring = one_of("IO_URING", "auto", IoUring::NAMES);
        /// Origins that browsers may connect from, comma separated; * is all.
        allowed_origins: AllowedOrigins =
            text("ALLOWED_ORIGINS", "*", "ORIGINS", "* or origins as browsers send them, like https://a.example:8443: hosts in ASCII (xn--), no user, path or query", AllowedOrigins::parse);
        /// Networks, comma separated, whose `X-Forwarded-For` and `Forwarded` say where a client is, and whose PROXY headers are taken.
        trusted_proxies: Networks =
            text("TRUSTED_PROXIES", "", "NETWORKS", "addresses or networks like 10.0.0.0/8, comma separated", Networks::parse);
        /// Every connection begins with a header of the PROXY protocol, v1 or v2; it wants `TRUSTED_PROXIES`.
        proxy_protocol: bool = switch("PROXY_PROTOCOL", "false");
    }
    "TLS" {
        /// Certificate chain in PEM. Given, TLS is served on `TLS_PORT`; read again when it changes and at SIGHUP.
        tls_cert: Option<PathBuf> = path("TLS_CERT");
        /// The certificate's private key in PEM, read again with it.
        tls_key: Option<PathBuf> = path("TLS_KEY");
        /// TCP port of TLS, beside PORT; 0 takes any free one.
        tls_port: u16 = count("TLS_PORT", "8443", 0..=65_535, "PORT");
        /// Authorities in PEM. Given, every client of `TLS_PORT` needs a certificate of one of them.
        tls_client_ca: Option<PathBuf> = path("TLS_CLIENT_CA");
    }
    "Delivery" {
        /// History kept for each topic; 0 keeps none.
        history_messages_max: usize = count("RING_BUFFER_SIZE", "100", 0..=1_000_000, "MESSAGES");
        /// Events that wait for one connection before the oldest is dropped.
        ring_messages_max: usize = count("SUBSCRIBER_QUEUE_SIZE", "100", 1..=1_000_000, "MESSAGES");
        /// Bytes of events that wait for one connection before the oldest is dropped.
        ring_bytes_max: usize = bytes("SUBSCRIBER_QUEUE_BYTES", "2097152", 65_536..=1 << 40);
        /// What a full queue does: drop its oldest event, or end the connection.
        slow_consumer_policy: SlowConsumerPolicy =
            one_of("SLOW_CONSUMER_POLICY", "drop_oldest", SlowConsumerPolicy::NAMES);
        /// Create a topic when it is first used instead of answering `TOPIC_NOT_FOUND`.
        auto_create_topics: bool = switch("AUTO_CREATE_TOPICS", "false");
        /// Take permessage-deflate where a client offers it: fewer bytes for more processor time.
        compression: bool = switch("COMPRESSION", "false");
        /// Events shorter than this are sent as they are: what it saves would not pay.
        compression_bytes_min: usize = bytes("COMPRESSION_MIN", "256", 0..=1 << 24);
        /// Most consecutive messages of a topic that enter a queue as one entry.
        run_messages_max: usize = count("RUN_MESSAGES_MAX", "32", 1..=64, "MESSAGES");
    }
    "Limits" {
        /// Memory for all that is kept for clients, like 512MiB; 0 is 75 % of what the machine or its group has.
        memory_bytes_max: usize = text("MEMORY_BUDGET", "0", "SIZE", "a size like 512MiB, at least 16MiB",
            values::parse_budget);
        /// Bytes of all histories; over it those that keep most lose their oldest.
        history_bytes_max: usize = bytes("HISTORY_BYTES_MAX", "1073741824", 0..=1 << 50);
        /// Longest message of a client, its fragments joined.
        message_bytes_max: usize = bytes("MAX_MESSAGE_SIZE", "65536", 128..=16 << 20);
        /// Deepest nesting of arrays and objects in a payload.
        payload_depth_max: usize = count("PAYLOAD_DEPTH_MAX", "128", 1..=1024, "LEVELS");
        /// Most connections at once; 0 is what the limit on open files allows.
        connections_max: Option<usize> = optional("MAX_CONNECTIONS", "0", 0..=10_000_000, "CONNECTIONS");
        /// Most connections that have still to send their key; 0 is a quarter of `MAX_CONNECTIONS`, at least 128.
        unauthenticated_max: Option<usize> = optional("UNAUTHENTICATED_MAX", "0", 0..=10_000_000, "CONNECTIONS");
        /// Most sockets that are not `WebSocket`s; one more closes the longest silent. 0 is a tenth of the open files, 16 to 16384.
        http_connections_max: Option<usize> = optional("HTTP_CONNECTIONS_MAX", "0", 0..=10_000_000, "CONNECTIONS");
        /// Most topics at once.
        topics_max: usize = count("MAX_TOPICS", "100000", 1..=10_000_000, "TOPICS");
        /// Most topics and patterns that one connection is subscribed to.
        subscriptions_max: usize = count("MAX_SUBSCRIPTIONS_PER_CONNECTION", "1000", 1..=1_000_000, "TOPICS");
        /// Most topics that a pattern may mean when one subscribes to it.
        pattern_topics_max: usize = count("MAX_PATTERN_TOPICS", "10000", 1..=10_000_000, "TOPICS");
        /// Commands of one connection in a second, in the long run; 0 is no limit.
        rate_messages_per_sec: u64 = count("RATE_MESSAGES_PER_SEC", "0", 0..=1_000_000_000, "COMMANDS");
        /// Bytes of its commands in a second, as many at once; 0 is no limit.
        rate_bytes_per_sec: usize = bytes("RATE_BYTES_PER_SEC", "0", 0..=1 << 40);
        /// Commands of one connection at once; 0 is a second's worth.
        rate_burst_messages: Option<u64> = optional("RATE_BURST_MESSAGES", "0", 0..=1_000_000_000, "COMMANDS");
        /// How long a client may go on above its rate before its connection ends.
        rate_patience: Duration = seconds("RATE_PATIENCE_SEC", "10", 1);
        /// Upgraded connections of one address at once, or of an IPv6 network of 64 bits; 0 is no limit.
        address_connections_max: Option<u32> = optional("CONNECTIONS_PER_IP_MAX", "0", 0..=10_000_000, "CONNECTIONS");
        /// Upgraded connections that one address may open in a second, as many at once; 0 is no limit.
        address_connection_rate: u64 = count("CONNECTION_RATE_PER_IP", "0", 0..=1_000_000, "CONNECTIONS");
        /// Wrong keys and tokens of one address in a second, as many at once; 0 is no limit. Behind a proxy it wants `TRUSTED_PROXIES`.
        address_failure_rate: u64 = count("AUTH_FAILURE_RATE_PER_IP", "0", 0..=1_000_000, "FAILURES");
        /// Batches of commands that wait for one shard; connections wait when it is full.
        inbox_size: usize = count("SHARD_INBOX_SIZE", "4096", 1..=1_048_576, "BATCHES");
        /// Commands of one connection that are not answered yet.
        commands_in_flight_max: usize = count("COMMANDS_IN_FLIGHT_MAX", "1024", 1..=65_536, "COMMANDS");
        /// Unsent replies after which a connection is no longer read.
        reply_bytes_max: usize = bytes("REPLY_BUFFER_MAX", "262144", 4096..=1 << 30);
        /// Longest body of a REST request.
        http_body_bytes_max: usize = bytes("HTTP_BODY_MAX", "65536", 256..=16 << 20);
        /// Longest body of a `POST` of messages.
        publish_body_bytes_max: usize = bytes("PUBLISH_BODY_MAX", "1048576", 256..=64 << 20);
        /// Longest head of an HTTP request; what a client may send before any key is looked at.
        http_head_bytes_max: usize = bytes("HTTP_HEAD_MAX", "16384", 8192..=1 << 20);
    }
    "Timeouts" {
        /// Pause between two heartbeats; below `PONG_WAIT_SEC`, and at most half of it if only that is given.
        ping_period: Duration = seconds("PING_PERIOD_SEC", "30", 1);
        /// Silence of a client after which it is disconnected; at least twice `PING_PERIOD_SEC` if only that is given.
        pong_wait: Duration = seconds("PONG_WAIT_SEC", "60", 1);
        /// Send the heartbeat also as an info message, for clients that cannot see pings.
        heartbeat_info: bool = switch("HEARTBEAT_INFO", "true");
        /// How long a socket may take no byte before it is disconnected.
        write_wait: Duration = seconds("WRITE_WAIT_SEC", "10", 1);
        /// Time for a client to send the head of an HTTP request, and again for its body.
        read_timeout: Duration = seconds("READ_TIMEOUT_SEC", "15", 1);
        /// Time for an HTTP response to leave.
        write_timeout: Duration = seconds("WRITE_TIMEOUT_SEC", "15", 1);
        /// Pause between two requests of an HTTP connection; 0 is as `READ_TIMEOUT_SEC`.
        idle_timeout: Option<Duration> =
            number("IDLE_TIMEOUT_SEC", "0", 0..=rule::DAY_SEC, "SECONDS", |n| {
                Some((n > 0).then(|| Duration::from_secs(n)))
            });
        /// Time for a closed connection to read its close frame.
        close_wait: Duration = seconds("CLOSE_WAIT_SEC", "2", 0);
        /// Pause between the `shutting_down` notice and the close.
        drain_grace: Duration = millis("DRAIN_GRACE_MS", "250", 0);
        /// Longest time that a shutdown may take; above `DRAIN_GRACE_MS`.
        shutdown_timeout: Duration = seconds("SHUTDOWN_TIMEOUT_SEC", "10", 1);
        /// Time over which the clients of a broker that shuts down are told to come back, each at a moment of its own.
        reconnect_spread: Duration = seconds("RECONNECT_SPREAD_SEC", "5", 0);
    }
    "Access" {
        /// Ask every client for an API key.
        auth_enabled: bool = switch("AUTH_ENABLED", "false");
        /// Keys, comma separated. A flag shows in the process list: use the variable.
        api_keys: ApiKeys =
            text("API_KEYS", "", "KEYS", "keys in UTF-8, comma separated", |text| Some(ApiKeys::parse(text))).secret();
        /// Named keys with their rights, in TOML; read again when the file changes and at SIGHUP.
        api_keys_file: Option<PathBuf> = path("API_KEYS_FILE");
        /// Secret that tokens (JWT) are signed with by HS256; read again like the keys.
        jwt_secret_file: Option<PathBuf> = path("JWT_SECRET_FILE");
        /// Public keys (JWKS) that tokens are signed with by RS256, ES256 or `EdDSA`; read again like the keys.
        jwt_jwks_file: Option<PathBuf> = path("JWT_JWKS_FILE");
        /// What a token must have as its iss; nothing asks for none.
        jwt_issuer: Option<Box<str>> = some_text("JWT_ISSUER");
        /// What a token must have in its aud; nothing asks for none.
        jwt_audience: Option<Box<str>> = some_text("JWT_AUDIENCE");
        /// Tickets that may be out at once; one counts for 30 seconds, used or not.
        tickets_max: usize = count("TICKETS_MAX", "10000", 1..=1_000_000, "TICKETS");
        /// Time for a new connection to send its key.
        auth_timeout: Duration = seconds("AUTH_TIMEOUT_SEC", "10", 1);
        /// Ask for the key on /metrics too.
        metrics_auth: bool = switch("METRICS_AUTH", "false");
        /// Serve the console at /console. The page is open to all and holds nothing; what it shows wants a key.
        console: bool = switch("CONSOLE", "true");
    }
    "Cluster" {
        /// NATS servers with `JetStream`, comma separated: all nodes with the same ones and one name are one broker. May hold a user and password, percent-encoded and the same in all.
        cluster_urls: Option<Secret> = text("CLUSTER_URL", "", "URLS", "addresses like nats://host:4222 or tls://host:4222, comma separated",
            values::parse_nats_urls).secret();
        /// Name of the broker that the nodes are: one NATS can serve several.
        cluster_name: Box<str> = text("CLUSTER_NAME", "shardcast", "NAME", "1 to 32 letters, digits, _ or -", values::parse_cluster_name);
        /// NATS servers that keep the log; 1, 3 or 5. Like the next three it is fixed when the cluster is made.
        cluster_replicas: usize = count("CLUSTER_REPLICAS", "1", 1..=5, "SERVERS");
        /// Partitions of the topics: appends under way at once, and no fewer than any node has shards.
        cluster_partitions: usize = count("CLUSTER_PARTITIONS", "64", 1..=1024, "PARTITIONS");
        /// Where NATS keeps the log.
        cluster_storage: ClusterStorage = one_of("CLUSTER_STORAGE", "file", ClusterStorage::NAMES);
        /// Bytes that the log may have, reserved at NATS. Full, it takes no more.
        cluster_log_bytes_max: usize = bytes("CLUSTER_LOG_BYTES_MAX", "1073741824", 1 << 20..=1 << 50);
        /// How long a publish, a creation or a deletion waits for the log before it is UNAVAILABLE.
        cluster_timeout: Duration = number("CLUSTER_TIMEOUT_MS", "2000", 100..=60_000, "MILLISECONDS", |n| Some(Duration::from_millis(n)));
        /// Token that NATS asks for.
        cluster_token: Option<Secret> = text("CLUSTER_TOKEN", "", "TOKEN", "any text", |text| Some(Secret::parse(text))).secret();
        /// A NATS user's JWT and seed, as nsc writes them.
        cluster_creds_file: Option<PathBuf> = path("CLUSTER_CREDS_FILE");
        /// Seed of the `NKey` that NATS knows.
        cluster_nkey_file: Option<PathBuf> = path("CLUSTER_NKEY_FILE");
        /// Authorities of NATS in PEM, in the place of those of the machine.
        cluster_ca: Option<PathBuf> = path("CLUSTER_CA");
        /// Certificate that is shown to NATS, in PEM; it wants `CLUSTER_KEY`.
        cluster_cert: Option<PathBuf> = path("CLUSTER_CERT");
        /// Its private key, in PEM.
        cluster_key: Option<PathBuf> = path("CLUSTER_KEY");
    }
    "Logs" {
        /// Least important log line that is written.
        log_level: Level = one_of("LOG_LEVEL", "info", LOG_LEVELS)
            .or(&GIN_MODE, "Log level debug or info, where LOG_LEVEL is not given.");
        /// Log lines for people or for programs.
        log_format: LogFormat = one_of("LOG_FORMAT", "text", LogFormat::NAMES);
        /// Log lines that wait to be written; over it new ones are dropped and counted.
        log_buffer_bytes_max: usize = bytes("LOG_BUFFER_MAX", "1048576", 4096..=1 << 30);
        /// Lines of one kind in a second; those over it are counted and told together. 0 writes all.
        log_repeats_per_sec_max: u32 = count("LOG_REPEATS_PER_SEC", "10", 0..=1_000_000, "LINES");
    }
}

/// A setting, and what holds for it.
#[derive(Debug)]
pub struct InForce {
    /// What the help lists it under.
    pub group: &'static str,
    /// The variable.
    pub name: &'static str,
    /// As text; of a secret only whether it is set.
    pub value: String,
    /// What holds where nobody says anything.
    pub default: &'static str,
    /// Who has said it.
    pub origin: Origin,
    /// What it is for.
    pub about: String,
}

impl Config {
    /// Reads the settings from the flags, then the environment, then the defaults; an empty variable counts as not set.
    ///
    /// `args` come from a command made with [`flags`]; `env` is [`process_env`] outside tests.
    pub fn load(
        args: &ArgMatches,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Vec<SettingError>> {
        let given_as_flag = |name: &str| args.try_get_one::<OsString>(name).ok().flatten().cloned();
        Self::from_sources(&given_as_flag, env)
    }

    /// The address to listen on without TLS, if any.
    pub fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host, self.port?))
    }

    /// The address to listen on with TLS, if any.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        let port = self.tls_cert.as_ref().map(|_| self.tls_port)?;
        Some(SocketAddr::new(self.host, port))
    }

    /// The number of shards: as configured, or one for each core that this process may use.
    pub fn shard_count(&self) -> usize {
        match self.shards {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            shards => shards,
        }
    }

    fn from_sources(
        flag: &dyn Fn(&str) -> Option<OsString>,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Vec<SettingError>> {
        let mut reader = Reader::new(flag, env);
        let mut config = Self::read(&mut reader);
        let is_period_given = reader.is_given("PING_PERIOD_SEC");
        let is_wait_given = reader.is_given("PONG_WAIT_SEC");
        let (taken, mut errors) = reader.into_parts();
        config.match_heartbeat(is_period_given, is_wait_given);
        config.taken = taken.into();
        // Beside a value that is bad already, a relation would be to its default, which nobody asked for.
        let bad: Vec<_> = errors.iter().map(SettingError::variable).collect();
        let conflicts = config.conflicts().into_iter();
        errors.extend(
            conflicts
                .filter(|(pair, _)| !pair.iter().any(|name| bad.contains(name)))
                .map(|(_, error)| error),
        );
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(errors)
        }
    }

    /// Every setting as it was at the start.
    pub fn in_force(&self) -> impl Iterator<Item = InForce> {
        // Those that follow another one where they are not given.
        let followers = [
            (
                "PING_PERIOD_SEC",
                self.ping_period.as_secs_f64().to_string(),
            ),
            ("PONG_WAIT_SEC", self.pong_wait.as_secs_f64().to_string()),
            ("LOG_LEVEL", self.log_level.to_string().to_lowercase()),
        ];
        rows().filter_map(move |row| {
            let taken = self.taken.iter().find(|taken| taken.env == row.env)?;
            let follower = followers.iter().find(|(name, _)| *name == row.env);
            Some(InForce {
                group: row.group,
                name: row.env,
                value: follower.map_or(&taken.value, |(_, value)| value).clone(),
                default: row.default,
                origin: taken.origin,
                about: row.about,
            })
        })
    }

    /// Of a heartbeat's period and the wait for its answer one may be given alone, and the other follows: a wait of at
    /// least twice the period.
    fn match_heartbeat(&mut self, is_period_given: bool, is_wait_given: bool) {
        if is_period_given && !is_wait_given {
            self.pong_wait = self.pong_wait.max(self.ping_period.saturating_mul(2));
        }
        if is_wait_given && !is_period_given {
            self.ping_period = self.ping_period.min(self.pong_wait / 2);
        }
    }

    /// The relations that do not hold between settings each allowed on its own, with the two that each is between.
    fn conflicts(&self) -> Vec<([&'static str; 2], SettingError)> {
        let mut conflicts = Vec::new();
        let mut conflict = |pair: [&'static str; 2], value: u128, allowed: String| {
            conflicts.push((pair, SettingError::new(pair[0], value, allowed)));
        };
        if self.ping_period >= self.pong_wait {
            let (period, wait) = (self.ping_period.as_secs(), self.pong_wait.as_secs());
            let pair = ["PING_PERIOD_SEC", "PONG_WAIT_SEC"];
            conflict(pair, period.into(), format!("below {}={wait}", pair[1]));
        }
        if self.drain_grace >= self.shutdown_timeout {
            let (grace, most) = (
                self.drain_grace.as_millis(),
                self.shutdown_timeout.as_secs(),
            );
            let pair = ["DRAIN_GRACE_MS", "SHUTDOWN_TIMEOUT_SEC"];
            conflict(pair, grace, format!("below {}={most}", pair[1]));
        }
        let files = [
            &self.api_keys_file,
            &self.jwt_secret_file,
            &self.jwt_jwks_file,
        ];
        let has_file = files.iter().any(|file| file.is_some());
        if self.auth_enabled && self.api_keys.is_empty() && !has_file {
            let pair = ["API_KEYS", "AUTH_ENABLED"];
            let allowed = "at least one key when AUTH_ENABLED is true, unless there is API_KEYS_FILE, JWT_SECRET_FILE or JWT_JWKS_FILE";
            conflicts.push((pair, SettingError::new(pair[0], "\"\"", allowed)));
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            let pair = ["TRUSTED_PROXIES", "PROXY_PROTOCOL"];
            let allowed = "at least one network when PROXY_PROTOCOL is true";
            conflicts.push((pair, SettingError::new(pair[0], "\"\"", allowed)));
        }
        conflicts.extend(self.tls_conflicts());
        conflicts.extend(self.cluster_conflicts());
        conflicts
    }

    /// What is said about a cluster where there can be none, and what of it does not fit together.
    fn cluster_conflicts(&self) -> Vec<([&'static str; 2], SettingError)> {
        let mut conflicts = Vec::new();
        let mut conflict = |is_bad: bool, pair: [&'static str; 2], value: &str, allowed: &str| {
            if is_bad {
                conflicts.push((pair, SettingError::new(pair[0], value, allowed)));
            }
        };
        let is_cluster = self.cluster_urls.is_some();
        let pair = ["CLUSTER_URL", "CLUSTER_URL"];
        let without = "not given: this broker was built without clusters (feature cluster)";
        conflict(
            is_cluster && !cfg!(feature = "cluster"),
            pair,
            "(hidden)",
            without,
        );
        let replicas = self.cluster_replicas;
        let pair = ["CLUSTER_REPLICAS", "CLUSTER_URL"];
        let is_even = replicas.is_multiple_of(2);
        conflict(is_even, pair, &replicas.to_string(), "1, 3 or 5");
        let pair = ["CLUSTER_PARTITIONS", "SHARDS"];
        let shards = self.shard_count();
        let enough = format!("at least as many as there are shards, {shards}");
        let is_few = is_cluster && self.cluster_partitions < shards;
        conflict(is_few, pair, &self.cluster_partitions.to_string(), &enough);
        let (has_cert, has_key) = (self.cluster_cert.is_some(), self.cluster_key.is_some());
        let pair = ["CLUSTER_KEY", "CLUSTER_CERT"];
        conflict(
            has_cert && !has_key,
            pair,
            "\"\"",
            "a file when CLUSTER_CERT is given",
        );
        let pair = ["CLUSTER_CERT", "CLUSTER_KEY"];
        conflict(
            has_key && !has_cert,
            pair,
            "\"\"",
            "a file when CLUSTER_KEY is given",
        );
        conflicts
    }

    /// Certificate and key belong together, the rest of TLS needs both, and the broker needs a port.
    fn tls_conflicts(&self) -> Vec<([&'static str; 2], SettingError)> {
        let mut conflicts = Vec::new();
        let mut conflict = |is_bad: bool, pair: [&'static str; 2], value: &str, allowed: &str| {
            if is_bad {
                conflicts.push((pair, SettingError::new(pair[0], value, allowed)));
            }
        };
        let (has_cert, has_key) = (self.tls_cert.is_some(), self.tls_key.is_some());
        let file = "a file when TLS_CERT is given";
        conflict(has_cert && !has_key, ["TLS_KEY", "TLS_CERT"], "\"\"", file);
        let file = "a file when TLS_KEY is given";
        conflict(has_key && !has_cert, ["TLS_CERT", "TLS_KEY"], "\"\"", file);
        let file = "a file when TLS_CLIENT_CA is given";
        let has_ca = self.tls_client_ca.is_some();
        let pair = ["TLS_CERT", "TLS_CLIENT_CA"];
        conflict(has_ca && !has_cert && !has_key, pair, "\"\"", file);
        let number = "a number when there is no TLS_CERT";
        conflict(
            self.port.is_none() && !has_cert,
            ["PORT", "TLS_CERT"],
            "off",
            number,
        );
        let is_same = has_cert && self.tls_port > 0 && self.port == Some(self.tls_port);
        let (port, other) = (self.tls_port.to_string(), "another port than PORT");
        conflict(is_same, ["TLS_PORT", "PORT"], &port, other);
        conflicts
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::from_sources(&|_| None, &|_| None)
            .expect("a test holds every default against its own rule")
    }
}

/// The flags of the broker, one for each setting, for a clap command.
pub fn flags() -> Vec<Arg> {
    rows().map(Row::flag).collect()
}

/// One variable of the environment of this process.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment"
)]
pub fn process_env(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Whether colors are wanted, as far as the environment says: <https://no-color.org>.
pub fn wants_color(env: &dyn Fn(&str) -> Option<OsString>) -> bool {
    env("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests;
