//! What a node has to know of the log.

use std::path::PathBuf;
use std::time::Duration;

/// Where a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On disks: it outlives the end of all NATS servers.
    File,
    /// In memory: it ends with the last of them.
    Memory,
}

/// Who a node is to NATS, beside a user and password in its address.
#[derive(Clone, Default)]
pub struct Credentials {
    /// A token.
    pub token: Option<String>,
    /// A file with a user's JWT and seed, as `nsc` writes it.
    pub creds_file: Option<PathBuf>,
    /// A file with the seed of an `NKey`.
    pub nkey_file: Option<PathBuf>,
    /// Authorities in PEM, in the place of those of the machine.
    pub ca_file: Option<PathBuf>,
    /// A certificate in PEM, and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Credentials")
    }
}

/// See the module.
#[derive(Clone)]
pub struct Settings {
    /// Addresses of NATS servers, comma separated. May hold a password.
    pub urls: String,
    /// Who it is.
    pub credentials: Credentials,
    /// The name of the broker: letters, digits, `_` and `-`.
    pub name: String,
    /// Partitions of the log.
    pub partitions: usize,
    /// Messages that each topic keeps: part of the state that all nodes have alike.
    pub history: usize,
    /// How many NATS servers keep the log.
    pub replicas: usize,
    /// Where they keep it.
    pub storage: Storage,
    /// Bytes that the log may have.
    pub bytes_max: u64,
    /// How long an append is tried.
    pub timeout: Duration,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the addresses.
        formatter
            .debug_struct("Settings")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
