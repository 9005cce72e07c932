//! The key or token of a client, and when a token has to be renewed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::error::Error;
use crate::options::Options;

/// What a source of secrets gives.
type Found = Result<String, Box<dyn std::error::Error + Send + Sync>>;

type Source = dyn Fn() -> Pin<Box<dyn Future<Output = Found> + Send>> + Send + Sync;

/// A key or token, or what gives one whenever one is needed.
#[derive(Clone)]
pub struct Secret(Kind);

#[derive(Clone)]
enum Kind {
    Value(Arc<str>),
    Source(Arc<Source>),
}

impl Secret {
    /// Asks `source` for each connection, and for a token again before it ends. What fails is asked again.
    pub fn from_fn<F, T>(source: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Found> + Send + 'static,
    {
        Self(Kind::Source(Arc::new(move || Box::pin(source()))))
    }

    async fn value(&self) -> Found {
        match &self.0 {
            Kind::Value(value) => Ok(value.to_string()),
            Kind::Source(source) => source().await,
        }
    }

    fn can_change(&self) -> bool {
        matches!(self.0, Kind::Source(_))
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(Kind::Value(value.into()))
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(Kind::Value(value.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is shown to the broker.
#[derive(Clone)]
pub(crate) enum Proof {
    Nothing,
    Key(String),
    Token(String),
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    key: Option<Secret>,
    token: Option<Secret>,
}

impl Credentials {
    pub(crate) fn of(options: &Options) -> Result<Self, Error> {
        if options.key.is_some() && options.token.is_some() {
            return Err(Error::new("BAD_REQUEST", "give a key or a token, not both"));
        }
        Ok(Self {
            key: options.key.clone(),
            token: options.token.clone(),
        })
    }

    /// Whether asking again may give another one.
    pub(crate) fn can_change(&self) -> bool {
        let mut secrets = self.key.iter().chain(&self.token);
        secrets.any(Secret::can_change)
    }

    pub(crate) async fn proof(&self) -> Result<Proof, Box<dyn std::error::Error + Send + Sync>> {
        match (&self.key, &self.token) {
            (Some(key), _) => Ok(Proof::Key(key.value().await?)),
            (None, Some(token)) => Ok(Proof::Token(token.value().await?)),
            (None, None) => Ok(Proof::Nothing),
        }
    }

    /// Whether a link that was refused like this would be refused for ever.
    pub(crate) fn is_final(&self, error: &Error, proof: &Proof) -> bool {
        match proof {
            Proof::Nothing => error.is_about_the_key() || error.code == "UNAUTHORIZED",
            // The source has nothing fresh yet.
            Proof::Token(token) if self.can_change() && has_ended(token) => false,
            Proof::Key(_) | Proof::Token(_) => error.is_about_the_key(),
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
}

/// When a JWT ends, since 1970; None if it does not say. Not verified: that is for the broker.
fn end_of(token: &str) -> Option<Duration> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Duration::try_from_secs_f64(claims.exp).ok()
}

fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

fn has_ended(token: &str) -> bool {
    end_of(token).is_some_and(|end| end <= since_1970())
}

/// For how long a token is still good; None if it does not say.
pub(crate) fn lifetime(token: &str) -> Option<Duration> {
    Some(end_of(token)?.saturating_sub(since_1970()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_when_it_ends_or_it_does_not() {
        let later = since_1970() + Duration::from_secs(100);
        let good = token(&format!("{{\"exp\":{}}}", later.as_secs()));
        let left = lifetime(&good).expect("it says");
        assert!(left > Duration::from_secs(90) && left <= Duration::from_secs(101));
        assert!(!has_ended(&good) && has_ended(&token("{\"exp\":1}")));
        for none in [
            "",
            "a.b",
            "a.!.c",
            &token("{}"),
            &token("{\"exp\":-1}"),
            &token("{\"exp\":\"1\"}"),
        ] {
            assert_eq!(lifetime(none), None, "{none}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let options = Options {
            key: Some(Secret::from("hunter2")),
            ..Options::new("ws://a")
        };
        let shown = format!("{options:?} {:?}", options.key);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
