//! Settings of the subcommands that are clients: where the broker is, and who asks.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use shardcast_client::tls::Trust;

use super::Config;
use super::rule::{DAY_SEC, SettingError};

/// Where the broker is when nothing says otherwise.
const DEFAULT_URL: &str = "ws://127.0.0.1:8080/ws";

/// Three heartbeats of a broker with its defaults.
const DEFAULT_SILENCE_SEC: u64 = 90;

type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What every client needs in order to connect.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// URL of the broker's WebSocket.
    pub url: String,
    /// The label of this connection in the broker's logs.
    pub client_id: Option<String>,
    /// The key, where the broker wants one.
    pub api_key: Option<String>,
    /// Which server is taken for the broker.
    pub trust: Trust,
    /// How long the broker may send nothing at all before its connection counts as dead.
    pub silence_max: Duration,
}

impl ClientSettings {
    /// The flags of every client, for a clap command.
    pub fn flags() -> [Arg; 8] {
        let [ca, insecure, cert, cert_key] = trust_flags();
        let flag = |name: &'static str| Arg::new(name).long(name).help_heading("Connection");
        [
            flag("url")
                .value_name("URL")
                .help(format!("The broker [SHARDCAST_URL={DEFAULT_URL}]")),
            flag("client-id")
                .value_name("ID")
                .help("Label of this connection in the broker's logs"),
            flag("api-key")
                .value_name("KEY")
                .help("Key, where the broker asks for one [SHARDCAST_API_KEY]"),
            flag("timeout")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(2..=DAY_SEC))
                .help(format!(
                    "Silence of the broker after which it is given up [{DEFAULT_SILENCE_SEC}]"
                )),
            ca,
            insecure,
            cert,
            cert_key,
        ]
    }

    /// Reads the flags, then the environment; an empty variable counts as not set.
    pub fn load(args: &ArgMatches, env: Env<'_>) -> Self {
        // Not every subcommand has each of them.
        let flag = |name: &str| args.try_get_one::<String>(name).ok().flatten().cloned();
        let silence_sec = args.try_get_one("timeout").ok().flatten().copied();
        Self {
            url: flag("url")
                .or_else(|| variable(env, "SHARDCAST_URL"))
                .unwrap_or_else(|| DEFAULT_URL.to_owned()),
            client_id: flag("client-id"),
            api_key: flag("api-key").or_else(|| variable(env, "SHARDCAST_API_KEY")),
            trust: load_trust(args, env),
            silence_max: Duration::from_secs(silence_sec.unwrap_or(DEFAULT_SILENCE_SEC)),
        }
    }
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("url", &self.url)
            .field("client_id", &self.client_id)
            .field("api_key", &self.api_key.as_ref().map(|_| "(hidden)"))
            .field("trust", &self.trust)
            .field("silence_max", &self.silence_max)
            .finish()
    }
}

/// The flags of whom a client trusts, for a clap command.
pub fn trust_flags() -> [Arg; 4] {
    let flag = |name: &'static str| Arg::new(name).long(name).help_heading("Connection");
    [
        flag("ca")
            .value_name("FILE")
            .help("Whose certificate a wss:// server must have; else whom the system trusts [SHARDCAST_CA]"),
        flag("insecure")
            .action(ArgAction::SetTrue)
            .help("Take any certificate of a wss:// server"),
        flag("cert")
            .value_name("FILE")
            .help("Certificate to show to a server that asks for one [SHARDCAST_CERT]"),
        flag("cert-key")
            .value_name("FILE")
            .help("Its private key [SHARDCAST_CERT_KEY]"),
    ]
}

/// Whom a client trusts: the flags, then the environment.
pub fn load_trust(args: &ArgMatches, env: Env<'_>) -> Trust {
    let file = |flag: &str, name: &str| {
        let given = args.try_get_one::<String>(flag).ok().flatten().cloned();
        given.or_else(|| variable(env, name)).map(PathBuf::from)
    };
    let insecure = args.try_get_one("insecure").ok().flatten().copied();
    Trust {
        ca: file("ca", "SHARDCAST_CA"),
        insecure: insecure.unwrap_or_default(),
        cert: file("cert", "SHARDCAST_CERT"),
        cert_key: file("cert-key", "SHARDCAST_CERT_KEY"),
    }
}

/// The URL under which this machine reaches a broker started with the same environment, unless `SHARDCAST_URL` says.
pub fn local_url(env: Env<'_>) -> Result<String, Vec<SettingError>> {
    if let Some(url) = variable(env, "SHARDCAST_URL") {
        return Ok(url);
    }
    let config = Config::from_sources(&|_| None, env)?;
    let host = match config.host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    let (scheme, port) = match config.port {
        Some(port) => ("http", port),
        None => ("https", config.tls_port),
    };
    Ok(format!("{scheme}://{}", SocketAddr::new(host, port)))
}

/// Where the shell keeps its history: below `XDG_STATE_HOME`, which must be absolute to count, or the home directory.
pub fn history_file(env: Env<'_>) -> Option<PathBuf> {
    let state = env("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || {
        env("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
    };
    let state = state.or_else(|| Some(home()?.join(".local/state")))?;
    Some(state.join("shardcast/history"))
}

fn variable(env: Env<'_>, name: &str) -> Option<String> {
    let text = env(name)?.to_string_lossy().into_owned();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(args: &[&str], env: &[(&str, &str)]) -> ClientSettings {
        let command = clap::Command::new("sub")
            .no_binary_name(true)
            .args(ClientSettings::flags());
        let args = command.try_get_matches_from(args).expect("known flags");
        ClientSettings::load(&args, &lookup(env))
    }

    fn lookup(env: &[(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| {
            env.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.into())
        }
    }

    #[test]
    fn flags_beat_the_environment() {
        let env = [
            ("SHARDCAST_URL", "ws://a/ws"),
            ("SHARDCAST_API_KEY", "hunter2"),
        ];
        assert_eq!(load(&[], &env).url, "ws://a/ws");
        assert_eq!(load(&["--url", "ws://b/ws"], &env).url, "ws://b/ws");
        assert_eq!(load(&[], &[("SHARDCAST_URL", "")]).url, DEFAULT_URL);
        assert_eq!(
            load(&["--api-key", "k"], &env).api_key.as_deref(),
            Some("k")
        );
        assert!(!format!("{:?}", load(&[], &env)).contains("hunter2"));
    }

    #[test]
    fn the_local_url_is_one_that_can_be_connected_to() {
        let url = |env: &[(&str, &str)]| local_url(&lookup(env)).expect("good settings");
        assert_eq!(url(&[]), "http://127.0.0.1:8080");
        assert_eq!(
            url(&[("HOST", "::"), ("PORT", "9000")]),
            "http://[::1]:9000"
        );
        assert_eq!(url(&[("HOST", "10.0.0.7")]), "http://10.0.0.7:8080");
        let secure = [("PORT", "off"), ("TLS_CERT", "c"), ("TLS_KEY", "k")];
        assert_eq!(url(&secure), "https://127.0.0.1:8443");
        assert!(local_url(&lookup(&[("PORT", "x")])).is_err());
        assert_eq!(
            url(&[("SHARDCAST_URL", "ws://a/ws"), ("PORT", "x")]),
            "ws://a/ws"
        );
    }

    #[test]
    fn the_history_is_below_the_state_directory() {
        let file = |env: &[(&str, &str)]| {
            history_file(&lookup(env)).map(|path| path.display().to_string())
        };
        assert_eq!(
            file(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]).as_deref(),
            Some("/s/shardcast/history")
        );
        assert_eq!(
            file(&[("HOME", "/h")]).as_deref(),
            Some("/h/.local/state/shardcast/history")
        );
        assert_eq!(file(&[]), None);
    }
}
