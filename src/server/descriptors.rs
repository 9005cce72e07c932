//! File descriptors, and how many connections they are enough for.
//!
//! What the process itself needs is counted once it runs, not guessed: it depends on the number of
//! cores. The rest is shared out here, so that no share can take what another one needs.

use std::path::Path;

use crate::config::Config;

/// For what is opened later: files that are read again, a socket that is accepted and then refused.
const KEPT: usize = 8;

/// What a core and the rest of the process need, where the system does not let itself be counted.
const GUESS_PER_CORE: usize = 4;
const GUESS: usize = 16;

/// Connections that may speak HTTP at once, when nothing else is set.
const HTTP_LEAST: usize = 16;
const HTTP_MOST: usize = 16_384;

/// Connections that may still have to send their key, at least. A quarter of a small
/// `MAX_CONNECTIONS` would turn away clients that come together after a restart.
const UNPROVEN_LEAST: usize = 128;

/// How many connections of each kind there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Sockets that are not `WebSocket`s (yet).
    pub(super) http: usize,
    /// `WebSocket`s of clients that may be here.
    pub(super) proven: usize,
    /// `WebSocket`s of clients that have still to send their key.
    pub(super) unproven: usize,
}

impl Shares {
    /// Shares out `limit` descriptors, of which the process has `own` itself.
    pub(super) fn new(config: &Config, limit: usize, own: usize) -> Self {
        let free = limit.saturating_sub(own + KEPT);
        let http = config
            .http_connections_max
            .unwrap_or_else(|| (limit / 10).clamp(HTTP_LEAST, HTTP_MOST))
            .min(free / 2)
            .max(1);
        let free = free.saturating_sub(http);
        let wanted = config.connections_max;
        let unproven = if config.auth_enabled {
            let quarter = wanted.map_or(free / 5, |wanted| wanted / 4);
            let unproven = config
                .unauthenticated_max
                .unwrap_or_else(|| quarter.max(UNPROVEN_LEAST));
            unproven.min(free / 2).max(1)
        } else {
            0
        };
        let free = free.saturating_sub(unproven).max(1);
        Self {
            http,
            proven: wanted.map_or(free, |wanted| wanted.min(free)),
            unproven,
        }
    }
}

/// Raises the soft limit on open files to the hard one. Returns what it then is.
pub(super) fn raise_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

/// The descriptors that this process has open.
pub(super) fn open_now(cores: usize) -> usize {
    let listed = Path::new("/proc/self/fd").read_dir();
    // One of them is the listing itself.
    listed.map_or(GUESS + cores * GUESS_PER_CORE, |files| {
        files.count().saturating_sub(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    #[test]
    fn all_shares_together_fit() {
        for limit in [40, 100, 400, 1024, 20_000, 1_048_576] {
            for auth_enabled in [false, true] {
                for connections_max in [None, Some(10), Some(1_000_000)] {
                    let config = config(|config| {
                        config.auth_enabled = auth_enabled;
                        config.connections_max = connections_max;
                    });
                    let Shares {
                        http,
                        proven,
                        unproven,
                    } = Shares::new(&config, limit, 20);
                    assert!(http + proven + unproven + 20 + KEPT <= limit, "{limit}");
                    assert!(http > 0 && proven > 0 && (unproven > 0) == auth_enabled);
                }
            }
        }
    }

    #[test]
    fn what_is_set_counts_as_far_as_descriptors_go() {
        let config = config(|config| {
            config.auth_enabled = true;
            config.connections_max = Some(1000);
            config.unauthenticated_max = Some(3);
            config.http_connections_max = Some(5);
        });
        let shares = |proven| Shares {
            http: 5,
            proven,
            unproven: 3,
        };
        assert_eq!(Shares::new(&config, 10_000, 20), shares(1000));
        assert_eq!(Shares::new(&config, 136, 20), shares(100));
    }

    #[test]
    fn the_defaults_are_a_tenth_and_a_quarter() {
        let config = config(|config| {
            config.auth_enabled = true;
            config.connections_max = Some(4000);
        });
        let shares = Shares::new(&config, 20_000, 20);
        assert_eq!((shares.http, shares.unproven), (2000, 1000));
    }
}
