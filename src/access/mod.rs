//! Who may do what: keys, tokens, and the rights that they carry.
//!
//! A [`Grant`] is what a client may do. It is asked once for each command and each REST call,
//! before the broker hears of it; the broker knows nothing of keys. Nothing here is shown: neither
//! a key nor what could be one stands in a log, an error or `Debug`.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;

pub mod address;
pub mod file;
pub mod grant;
mod jwt;
pub mod key;
pub mod rate;
pub mod ticket;
mod watched;

use self::grant::Grant;
use self::jwt::Tokens;
use self::key::Keys;
use self::ticket::Tickets;
use self::watched::Watched;
use crate::config::Config;
use crate::config::values::ApiKeys;

/// The keys of a process.
#[derive(Debug)]
pub struct Access {
    is_on: bool,
    takes_tokens: bool,
    /// Each opens everything.
    open: ApiKeys,
    keys: Keys,
    tokens: Tokens,
    tickets: Tickets,
    sources: Mutex<Vec<Source>>,
}

/// A file that something is read from, again and again.
#[derive(Debug)]
struct Source {
    /// The setting that names it.
    variable: &'static str,
    file: Watched,
    /// Takes its content. Whether rights of somebody who is here may have changed by it.
    take: fn(&Access, &[u8]) -> Result<bool, String>,
}

/// A file that cannot be used. Its text is one line for the operator.
#[derive(Debug, Error)]
#[error("{variable}={path}: {why}")]
pub struct FileError {
    variable: &'static str,
    path: String,
    why: String,
}

/// The time in milliseconds of the Unix clock.
pub fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Access {
    /// Reads the files that the settings name, where keys are asked for.
    pub fn open(config: &Config) -> Result<Self, Vec<FileError>> {
        let source = |variable, path: &Option<_>, take| {
            path.as_deref().map(|path: &Path| Source {
                variable,
                file: Watched::new(path),
                take,
            })
        };
        let secret = config.jwt_secret_file.as_deref();
        let sources = [
            source("API_KEYS_FILE", &config.api_keys_file, Self::take_keys),
            source(
                "JWT_SECRET_FILE",
                &config.jwt_secret_file,
                |access, content| access.tokens.take_secret(content).map(|()| false),
            ),
            source("JWT_JWKS_FILE", &config.jwt_jwks_file, |access, content| {
                access.tokens.take_keys(content).map(|()| false)
            }),
        ];
        let sources = sources.into_iter().flatten();
        let access = Self {
            is_on: config.auth_enabled,
            takes_tokens: secret.or(config.jwt_jwks_file.as_deref()).is_some(),
            open: config.api_keys.clone(),
            keys: Keys::default(),
            tokens: Tokens::new(config.jwt_issuer.clone(), config.jwt_audience.clone()),
            tickets: Tickets::new(config.tickets_max),
            sources: Mutex::new(sources.filter(|_| config.auth_enabled).collect()),
        };
        let errors: Vec<_> = access.read(|_| true).filter_map(Result::err).collect();
        if errors.is_empty() {
            Ok(access)
        } else {
            Err(errors)
        }
    }

    /// Whether a client needs a key.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether a client may come with a token.
    pub fn takes_tokens(&self) -> bool {
        self.is_on && self.takes_tokens
    }

    /// What `key` grants, if it is one.
    pub fn by_key(&self, key: &[u8]) -> Option<Grant> {
        if !self.is_on || self.open.matches(key) {
            return Some(Grant::Everything);
        }
        let grant = Grant::Named(self.keys.find(key)?);
        grant.end(now_ms()).is_none().then_some(grant)
    }

    /// What the key of this name grants: for a client whose certificate has it.
    pub fn by_name(&self, name: &str) -> Option<Grant> {
        let grant = Grant::Named(self.keys.of_name(name)?);
        grant.end(now_ms()).is_none().then_some(grant)
    }

    /// What `token` grants, if it is one.
    pub fn by_token(&self, token: &str) -> Option<Grant> {
        if !self.is_on {
            return Some(Grant::Everything);
        }
        let grant = self.tokens.grant(token);
        grant
            .inspect_err(|why| tracing::debug!("a token was refused: {why}"))
            .ok()
    }

    /// A ticket that acts once as `grant`. `None` if too many are out.
    pub fn sell_ticket(&self, grant: Grant, now: Instant) -> Option<String> {
        self.tickets.sell(grant, now)
    }

    /// What `ticket` grants, if it is one that was not used, and whose key has not ended since.
    pub fn by_ticket(&self, ticket: &str, now: Instant) -> Option<Grant> {
        let grant = self.tickets.look(ticket.as_bytes(), now)?;
        grant.end(now_ms()).is_none().then_some(grant)
    }

    /// Uses `ticket` up. False if somebody else was quicker.
    pub fn use_ticket(&self, ticket: &str, now: Instant) -> bool {
        self.tickets.take(ticket.as_bytes(), now).is_some()
    }

    /// Reads again what has changed, or everything if it `must`. Whether somebody's rights have
    /// changed by it; a file that cannot be used is told in the log, and what was stays.
    pub fn renew(&self, must: bool) -> bool {
        let mut has_changed = false;
        for read in self.read(|file| file.has_changed() || must) {
            match read {
                Ok(changed) => has_changed |= changed,
                Err(error) => tracing::error!("{error}; what was read before stays"),
            }
        }
        has_changed
    }

    /// Reads the files that are `wanted`.
    fn read(
        &self,
        wanted: impl Fn(&mut Watched) -> bool,
    ) -> impl Iterator<Item = Result<bool, FileError>> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = sources
            .iter_mut()
            .filter_map(|source| wanted(&mut source.file).then(|| self.read_one(source)));
        sources.collect::<Vec<_>>().into_iter()
    }

    fn read_one(&self, source: &mut Source) -> Result<bool, FileError> {
        let read = source.file.read().map_err(|error| error.to_string());
        let taken = read.and_then(|content| (source.take)(self, &content));
        taken.map_err(|why| FileError {
            variable: source.variable,
            path: source.file.path().display().to_string(),
            why,
        })
    }

    /// Takes the content of `API_KEYS_FILE`.
    fn take_keys(&self, content: &[u8]) -> Result<bool, String> {
        let text = str::from_utf8(content).map_err(|error| error.to_string())?;
        let entries = file::parse(text).map_err(|error| error.to_string())?;
        let changed = self.keys.replace(entries);
        tracing::info!(
            keys = changed.keys,
            new = changed.new,
            withdrawn = changed.withdrawn,
            "read API_KEYS_FILE"
        );
        Ok(true)
    }
}
