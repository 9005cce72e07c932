//! The body of a request: read by a route that wants it, thrown away where none does.
//!
//! An unread body would end the connection, and what of it comes after the close would destroy the
//! answer. So whatever is left is read up to [`DISCARDED_BYTES_MAX`] before the answer leaves.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;

use super::patience::within;
use crate::budget::Booked;

/// How much of a body is read for nothing: as much as Go's server, behind which clients expect to
/// keep their connection.
const DISCARDED_BYTES_MAX: u64 = 256 * 1024;

/// The body of one request.
#[derive(Debug)]
pub(super) struct RequestBody {
    incoming: Incoming,
    timeout: Duration,
    /// Not to be read: the client asks first whether it may send, and does when it is read; or it
    /// has been given up.
    is_left: bool,
}

/// Why a body was not read.
#[derive(Debug)]
pub(super) enum Unread {
    TooLong,
    TooSlow,
    Broken,
    /// `MEMORY_BUDGET` is used up.
    NoMemory,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, headers: &HeaderMap, timeout: Duration) -> Self {
        Self {
            incoming,
            timeout,
            is_left: headers.contains_key(EXPECT),
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// All of it, if it has no more than `bytes_max`. What has come is booked.
    pub(super) async fn read(
        &mut self,
        bytes_max: usize,
        booked: &mut Booked,
    ) -> Result<Vec<u8>, Unread> {
        if self.incoming.size_hint().lower() > bytes_max as u64 {
            return Err(Unread::TooLong);
        }
        self.is_left = false;
        let incoming = &mut self.incoming;
        let reading = async {
            // Parts as they came: a buffer that doubles leaves its halves with the allocator.
            let (mut parts, mut bytes) = (Vec::new(), 0);
            while let Some(frame) = incoming.frame().await {
                let frame = frame.map_err(|_| Unread::Broken)?;
                let Ok(part) = frame.into_data() else {
                    continue;
                };
                bytes += part.len();
                if bytes > bytes_max {
                    return Err(Unread::TooLong);
                }
                parts.push(part);
                booked.set(bytes);
                if booked.is_over() {
                    return Err(Unread::NoMemory);
                }
            }
            Ok(parts.concat())
        };
        let read = within(self.timeout, reading).await;
        let read = read.unwrap_or(Err(Unread::TooSlow));
        // What is only too long is read to its end before the answer leaves.
        self.is_left = matches!(
            read,
            Err(Unread::Broken | Unread::TooSlow | Unread::NoMemory)
        );
        read
    }

    /// Throws away what is left. Whether the end was reached, and the connection can go on.
    pub(super) async fn discard(&mut self) -> bool {
        if self.is_empty() {
            return true;
        }
        if self.is_left || self.incoming.size_hint().lower() > DISCARDED_BYTES_MAX {
            return false;
        }
        let discarding = async {
            let mut discarded = 0;
            while let Some(frame) = self.incoming.frame().await {
                let Ok(frame) = frame else { return false };
                discarded += frame.data_ref().map_or(0, |data| data.len() as u64);
                if discarded > DISCARDED_BYTES_MAX {
                    return false;
                }
            }
            true
        };
        within(self.timeout, discarding).await.unwrap_or(false)
    }
}
