//! How much comes from one address: connections, how fast they come, and wrong keys.
//!
//! An address is one of IPv4, or a network of IPv6 with 64 bits: that is what one customer gets, who
//! may use any address in it. The table knows addresses that are connected, and those that were
//! refused or came a moment ago; the others are forgotten when it has doubled.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::AHashMap;

use super::rate::{Buckets, Limit};
use crate::config::Config;

/// Addresses that may be known before any is forgotten.
const KNOWN_LEAST: usize = 1024;

/// The limits, and who is known.
#[derive(Debug)]
pub struct Addresses {
    connections_max: Option<u32>,
    arrivals: Option<Limit>,
    failures: Option<Limit>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    known: AHashMap<IpAddr, Known>,
    /// How many there were when some were forgotten last.
    kept: usize,
}

#[derive(Debug, Default)]
struct Known {
    connections: u32,
    arrivals: Buckets,
    failures: Buckets,
    /// When it did something last.
    seen: Duration,
}

/// Why an address has to wait.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany {
    /// In words for the client.
    pub text: String,
    /// For how long, as far as that is known.
    pub wait: Duration,
}

impl Addresses {
    /// The limits of the settings.
    pub fn new(config: &Config) -> Self {
        let limit = |per_second| Limit::new(per_second, per_second);
        Self {
            connections_max: config.address_connections_max,
            arrivals: limit(config.address_connection_rate),
            failures: limit(config.address_failure_rate),
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address`, `now` after the start of the process. `None` where
    /// addresses have no limits.
    pub fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        now: Duration,
    ) -> Result<Option<Box<AddressPlace>>, TooMany> {
        if self.connections_max.is_none() && self.arrivals.is_none() {
            return Ok(None);
        }
        let address = network_of(address);
        let mut table = self.table();
        let known = table.known(address, now);
        if let Some(most) = self
            .connections_max
            .filter(|most| known.connections >= *most)
        {
            return Err(TooMany {
                text: format!(
                    "{most} connections of this address are open: CONNECTIONS_PER_IP_MAX"
                ),
                wait: Duration::from_secs(1),
            });
        }
        known.arrivals.limit(self.arrivals, None);
        known.arrivals.count(1, 0, now).map_err(|wait| TooMany {
            text: "connections of this address come too fast: CONNECTION_RATE_PER_IP".into(),
            wait,
        })?;
        known.connections += 1;
        drop(table);
        let addresses = Arc::clone(self);
        Ok(Some(Box::new(AddressPlace { addresses, address })))
    }

    /// Whether `address` may try another key.
    pub fn may_try(&self, address: IpAddr, now: Duration) -> Result<(), TooMany> {
        if self.failures.is_none() {
            return Ok(());
        }
        let table = self.table();
        let known = table.known.get(&network_of(address));
        let wait = known.map_or(Ok(()), |known| known.failures.would_count(1, now));
        wait.map_err(|wait| TooMany {
            text: "too many wrong keys from this address: AUTH_FAILURE_RATE_PER_IP".into(),
            wait,
        })
    }

    /// `address` has shown a key or token that is none.
    pub fn has_failed(&self, address: IpAddr, now: Duration) {
        if self.failures.is_some() {
            let mut table = self.table();
            let known = table.known(network_of(address), now);
            known.failures.limit(self.failures, None);
            known.failures.count(1, 0, now).ok();
        }
    }
}

impl Table {
    fn known(&mut self, address: IpAddr, now: Duration) -> &mut Known {
        if self.known.len() >= (2 * self.kept).max(KNOWN_LEAST) {
            // A bucket that takes a second's worth is empty after a second.
            let is_fresh = |known: &Known| now.saturating_sub(known.seen) < Duration::from_secs(2);
            self.known
                .retain(|_, known| known.connections > 0 || is_fresh(known));
            self.kept = self.known.len();
        }
        let known = self.known.entry(address).or_default();
        known.seen = now;
        known
    }
}

/// One of the connections of an address, given back when it is dropped.
#[derive(Debug)]
pub struct AddressPlace {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Some(known) = self.addresses.table().known.get_mut(&self.address) {
            known.connections = known.connections.saturating_sub(1);
        }
    }
}

/// What counts as one address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(change: impl FnOnce(&mut Config)) -> Arc<Addresses> {
        let mut config = Config::default();
        change(&mut config);
        Arc::new(Addresses::new(&config))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let addresses = addresses(|config| config.address_connections_max = Some(2));
        let now = Duration::from_secs(1);
        let enter = |text: &str| addresses.enter(ip(text), now);
        let first = enter("2001:db8::1").expect("a place");
        let _second = enter("2001:db8::2").expect("a place in the same network");
        assert!(enter("2001:db8::3").is_err() && enter("2001:db8:0:1::3").is_ok());
        drop(first);
        assert!(enter("2001:db8::3").is_ok());
        let _plain = [enter("10.0.0.1"), enter("::ffff:10.0.0.1")];
        assert!(enter("10.0.0.1").is_err() && enter("10.0.0.2").is_ok());
    }

    #[test]
    fn without_limits_nobody_is_known() {
        let addresses = addresses(|_| {});
        assert_eq!(
            addresses
                .enter(ip("10.0.0.1"), Duration::ZERO)
                .map(|place| place.is_some()),
            Ok(false)
        );
        addresses.has_failed(ip("10.0.0.1"), Duration::ZERO);
        assert_eq!(addresses.may_try(ip("10.0.0.1"), Duration::ZERO), Ok(()));
        assert!(addresses.table().known.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_is_forgotten() {
        let addresses = addresses(|config| config.address_connection_rate = 1);
        let mut most = 0;
        for n in 0..100_000_u32 {
            let now = Duration::from_millis(u64::from(n));
            let address = IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
            drop(addresses.enter(address, now));
            most = most.max(addresses.table().known.len());
        }
        // One a millisecond, and each is remembered for two seconds.
        assert!(most <= 2 * 2001, "{most}");
    }

    #[test]
    fn failures_have_a_bucket_of_their_own() {
        let addresses = addresses(|config| config.address_failure_rate = 2);
        let (address, now) = (ip("10.0.0.1"), Duration::from_secs(1));
        for _ in 0..2 {
            assert_eq!(addresses.may_try(address, now), Ok(()));
            addresses.has_failed(address, now);
        }
        assert!(addresses.may_try(address, now).is_err());
        assert_eq!(addresses.may_try(ip("10.0.0.2"), now), Ok(()));
        let later = now + Duration::from_millis(500);
        assert_eq!(addresses.may_try(address, later), Ok(()));
    }
}
