//! `POST /tickets`, and what a `?ticket=` on an upgrade is worth.

use std::borrow::Cow;
use std::time::Instant;

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::access::KeyError;
use super::answer::{Answer, error, json};
use crate::access::grant::Grant;
use crate::access::ticket::TICKET_TIME;
use crate::core::Core;
use crate::protocol::codes::ErrorCode;

/// What opens one connection.
#[derive(Serialize, ToSchema)]
pub(super) struct Ticket<'a> {
    ticket: &'a str,
    expires_in_sec: u64,
}

/// A ticket that acts as `grant`.
pub(super) fn sell(core: &Core, grant: Grant) -> Answer {
    let Some(ticket) = core.process().access.sell_ticket(grant, Instant::now()) else {
        let text = format!(
            "too many tickets are out: TICKETS_MAX is {}",
            core.config().tickets_max
        );
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return error(status, ErrorCode::LimitExceeded, &text);
    };
    let ticket = Ticket {
        ticket: &ticket,
        expires_in_sec: TICKET_TIME.as_secs(),
    };
    json(StatusCode::CREATED, &ticket)
}

/// The ticket in a query.
pub(super) fn of_query(query: &str) -> Option<Cow<'_, str>> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find_map(|(key, ticket)| (key == "ticket").then_some(ticket))
}

/// What `ticket` grants. It is used up by [`redeem`], so that an upgrade that comes to nothing for
/// another reason may be tried again with it.
pub(super) fn grant(core: &Core, ticket: &str) -> Result<Grant, KeyError> {
    let grant = core.process().access.by_ticket(ticket, Instant::now());
    grant.ok_or(KeyError::TICKET)
}

/// Uses `ticket` up.
pub(super) fn redeem(core: &Core, ticket: &str) -> Result<(), KeyError> {
    let is_first = core.process().access.use_ticket(ticket, Instant::now());
    is_first.then_some(()).ok_or(KeyError::TICKET)
}
