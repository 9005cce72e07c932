//! Tokens signed by HS256, with an HMAC that is nobody's but the RFC's (2104).

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What the brokers of the tests sign with.
pub(crate) const SECRET: &str = "a secret of forty bytes, no more no less";

fn hmac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        for (byte, key) in block.iter_mut().zip(secret) {
            *byte ^= key;
        }
        block
    };
    let inner = Sha256::new_with_prefix(padded(0x36)).chain_update(message);
    let outer = Sha256::new_with_prefix(padded(0x5c)).chain_update(inner.finalize());
    outer.finalize().to_vec()
}

/// One part of a token.
pub(crate) fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// A token with any header, signed by `secret`.
pub(crate) fn sign_with(secret: &str, header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(hmac(secret.as_bytes(), message.as_bytes()));
    format!("{message}.{signature}")
}

/// A token that is right.
pub(crate) fn sign(claims: &Value) -> String {
    let header = serde_json::json!({"alg": "HS256", "typ": "JWT"});
    sign_with(SECRET, &header, claims)
}

/// So many seconds from now, as tokens have it.
pub(crate) fn in_seconds(seconds: f64) -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.expect("it is later").as_secs_f64() + seconds
}
