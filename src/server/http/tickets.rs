//! `POST /tickets`, and what a `?ticket=` on an upgrade is worth.

use std::time::Instant;

use hyper::StatusCode;
use serde::Serialize;

use super::access::KeyError;
use super::answer::{Answer, error, json};
use crate::access::grant::Grant;
use crate::access::ticket::TICKET_TIME;
use crate::core::Core;
use crate::protocol::codes::ErrorCode;

#[derive(Serialize)]
struct Ticket<'a> {
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

/// What the ticket in a query grants; `None` if there is none in it.
pub(super) fn redeem(core: &Core, query: &str) -> Option<Result<Grant, KeyError>> {
    let (_, ticket) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "ticket")?;
    let grant = core.process().access.by_ticket(&ticket, Instant::now());
    Some(grant.ok_or(KeyError::TICKET))
}
