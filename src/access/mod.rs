//! Who may do what: keys and the rights that they carry.
//!
//! A [`Grant`] is what a client may do. It is asked once for each command and each REST call,
//! before the broker hears of it; the broker knows nothing of keys. Nothing here is shown: neither
//! a key nor what could be one stands in a log, an error or `Debug`.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

pub mod file;
pub mod grant;
pub mod key;
mod watched;

use self::grant::Grant;
use self::key::Keys;
use self::watched::Watched;
use crate::config::Config;
use crate::config::values::ApiKeys;

/// The keys of a process.
#[derive(Debug)]
pub struct Access {
    is_on: bool,
    /// Each opens everything.
    open: ApiKeys,
    keys: Keys,
    /// Where the named keys come from.
    file: Option<Mutex<Watched>>,
}

/// A file that cannot be used. Its text is one line for the operator.
#[derive(Debug, Error)]
#[error("{variable}={path}: {why}")]
pub struct FileError {
    variable: &'static str,
    path: String,
    why: String,
}

const API_KEYS_FILE: &str = "API_KEYS_FILE";

/// The time in milliseconds of the Unix clock.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Access {
    /// Reads the files that the settings name, where keys are asked for.
    pub fn open(config: &Config) -> Result<Self, FileError> {
        let path = config.api_keys_file.as_deref();
        let access = Self {
            is_on: config.auth_enabled,
            open: config.api_keys.clone(),
            keys: Keys::default(),
            file: path
                .filter(|_| config.auth_enabled)
                .map(|path| Mutex::new(Watched::new(path))),
        };
        access.read_keys(|_| true)?;
        Ok(access)
    }

    /// Whether a client needs a key.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// What `key` grants, if it is one.
    pub fn by_key(&self, key: &[u8]) -> Option<Grant> {
        if !self.is_on || self.open.matches(key) {
            return Some(Grant::Everything);
        }
        let grant = Grant::Named(self.keys.find(key)?);
        grant.end(now_ms()).is_none().then_some(grant)
    }

    /// Reads again what has changed, or everything if it `must`. Whether somebody's rights have
    /// changed by it; a file that cannot be used is told in the log, and what was stays.
    pub fn renew(&self, must: bool) -> bool {
        match self.read_keys(|file| file.has_changed() || must) {
            Ok(has_changed) => has_changed,
            Err(error) => {
                tracing::error!("{error}; the old keys stay");
                false
            }
        }
    }

    /// Reads the named keys if the file is `wanted`.
    fn read_keys(&self, wanted: impl FnOnce(&mut Watched) -> bool) -> Result<bool, FileError> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if !wanted(&mut file) {
            return Ok(false);
        }
        let read = file.read().map_err(|error| error.to_string());
        let parsed = read.and_then(|text| file::parse(&text).map_err(|error| error.to_string()));
        let entries = parsed.map_err(|why| FileError {
            variable: API_KEYS_FILE,
            path: shown(file.path()),
            why,
        })?;
        let changed = self.keys.replace(entries);
        tracing::info!(
            keys = changed.keys,
            new = changed.new,
            withdrawn = changed.withdrawn,
            "read {API_KEYS_FILE}"
        );
        Ok(true)
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
