//! Tokens (JWT): signed elsewhere, checked here. What they grant stands in their claims.
//!
//! An algorithm belongs to a key and is never the token's choice: HS256 goes with the secret alone,
//! everything else with the key of a set that has the token's `kid`. There is no leeway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::file::is_name;
use super::grant::{Grant, Holder, Rights};
use super::now_ms;
use crate::pattern::Pattern;

/// Longer tokens are not looked at: that of a client with some hundred patterns is shorter.
const TOKEN_BYTES_MAX: usize = 8192;

/// A shorter secret can be guessed from one token (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// What tokens are checked with.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    issuer: Option<Box<str>>,
    audience: Option<Box<str>>,
    secret: ArcSwapOption<DecodingKey>,
    keys: ArcSwapOption<BTreeMap<String, (Algorithm, DecodingKey)>>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    subscribe: Option<Vec<String>>,
    publish: Option<Vec<String>>,
    manage: Option<Vec<String>>,
    observe: Option<bool>,
}

impl Tokens {
    /// None yet; whatever comes has to name these, where they are given.
    pub(super) fn new(issuer: Option<Box<str>>, audience: Option<Box<str>>) -> Self {
        Self {
            issuer,
            audience,
            ..Self::default()
        }
    }

    /// What `token` grants, or why it is refused. Nothing of the token is in the words.
    pub(super) fn grant(&self, token: &str) -> Result<Grant, &'static str> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("it is too long");
        }
        let header = decode_header(token).map_err(|error| describe(error.kind()))?;
        if header.crit.is_some() {
            return Err("it wants extensions that nobody knows (crit)");
        }
        let claims = match header.alg {
            Algorithm::HS256 => match &*self.secret.load() {
                Some(secret) => self.claims(token, header.alg, secret),
                None => Err("there is no secret for HS256"),
            },
            alg => {
                let keys = self.keys.load();
                let kid = header.kid.ok_or("it has no kid")?;
                match keys.as_ref().and_then(|keys| keys.get(&kid)) {
                    Some((of, key)) if *of == alg => self.claims(token, alg, key),
                    Some(_) => Err("its algorithm is not that of the key with its kid"),
                    None => Err("no key has its kid"),
                }
            }
        }?;
        if !is_name(&claims.sub) {
            return Err("its sub is no name");
        }
        let expires = Duration::try_from_secs_f64(claims.exp).map_err(|_| "its exp is no time")?;
        let rights = Rights {
            subscribe: patterns(claims.subscribe)?,
            publish: patterns(claims.publish)?,
            manage: patterns(claims.manage)?,
            observe: claims.observe.unwrap_or(false),
            expires_ms: Some(u64::try_from(expires.as_millis()).unwrap_or(u64::MAX)),
            ..Rights::default()
        };
        let grant = Grant::Named(Arc::new(Holder::of_token(&claims.sub, rights)));
        match grant.end(now_ms()) {
            Some(_) => Err("it has expired"),
            None => Ok(grant),
        }
    }

    /// The claims of a token whose signature and times are right.
    fn claims(
        &self,
        token: &str,
        alg: Algorithm,
        key: &DecodingKey,
    ) -> Result<Claims, &'static str> {
        let mut validation = Validation::new(alg);
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.validate_aud = self.audience.is_some();
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        let decoded = decode(token, key, &validation);
        Ok(decoded.map_err(|error| describe(error.kind()))?.claims)
    }

    /// Takes the content of `JWT_SECRET_FILE`.
    pub(super) fn take_secret(&self, content: &[u8]) -> Result<(), String> {
        let line = content.strip_suffix(b"\n").unwrap_or(content);
        let secret = line
            .strip_suffix(b"\r")
            .filter(|_| line.len() < content.len());
        let secret = secret.unwrap_or(line);
        if secret.is_empty() {
            return Err("it is empty".to_owned());
        }
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "a secret of {} bytes; HS256 wants {SECRET_BYTES_MIN} at least (RFC 7518, 3.2)",
                secret.len()
            ));
        }
        self.secret
            .store(Some(Arc::new(DecodingKey::from_secret(secret))));
        Ok(())
    }

    /// Takes the content of `JWT_JWKS_FILE`.
    pub(super) fn take_keys(&self, content: &[u8]) -> Result<(), String> {
        let set: JwkSet = serde_json::from_slice(content).map_err(|error| {
            // Its own words may quote what should not have been there.
            format!("line {}: not a set of keys (JWKS)", error.line())
        })?;
        let mut keys = BTreeMap::new();
        for (index, jwk) in set.keys.iter().enumerate() {
            let (Some(alg), Some(kid)) = (algorithm(jwk), &jwk.common.key_id) else {
                continue;
            };
            let key = DecodingKey::from_jwk(jwk)
                .map_err(|_| format!("keys[{index}] (kid {kid:?}) cannot be read"))?;
            if keys.insert(kid.clone(), (alg, key)).is_some() {
                return Err(format!("keys[{index}]: another key has the kid {kid:?}"));
            }
        }
        if keys.is_empty() {
            return Err("there is no key with a kid for RS256, ES256 or EdDSA in it".to_owned());
        }
        tracing::info!(
            usable = keys.len(),
            of = set.keys.len(),
            "read JWT_JWKS_FILE"
        );
        self.keys.store(Some(Arc::new(keys)));
        Ok(())
    }
}

/// What a key of a set may be used for, if it is one of the three.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(of) if of.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(of) if of.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let of = &jwk.common;
    let is_its_algorithm = of.key_algorithm.is_none_or(|of| of == name);
    let signs = of
        .public_key_use
        .as_ref()
        .is_none_or(|of| *of == PublicKeyUse::Signature);
    let operations = of.key_operations.as_ref();
    let verifies = operations.is_none_or(|of| of.contains(&KeyOperations::Verify));
    (is_its_algorithm && signs && verifies).then_some(algorithm)
}

fn patterns(texts: Option<Vec<String>>) -> Result<Vec<Pattern>, &'static str> {
    let texts = texts.unwrap_or_default();
    let parsed = texts.iter().map(|text| Pattern::parse(text));
    let parsed: Result<_, _> = parsed.collect();
    parsed.map_err(|_| "one of its claims holds what is no pattern")
}

/// Not the library's own words: they quote the token.
fn describe(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidSignature => "its signature is wrong",
        ErrorKind::InvalidAlgorithm => "its algorithm is not that of the key",
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "its nbf is in the future",
        ErrorKind::InvalidIssuer => "its iss is not JWT_ISSUER",
        ErrorKind::InvalidAudience => "its aud is not JWT_AUDIENCE",
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "exp" => "it has no exp",
            "sub" => "it has no sub",
            "iss" => "it has no iss",
            _ => "it has no aud",
        },
        _ => "it cannot be read",
    }
}
