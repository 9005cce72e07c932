//! What a client may do.

#[path = "../../../../src/access/grant.rs"]
pub(crate) mod grant;

mod models;

/// What a grant counts by; under a lock, and no part of any model.
#[path = "../../../../src/access/rate.rs"]
mod rate;
