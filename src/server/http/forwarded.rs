//! Where a client is, when proxies stand between: the word of those that are trusted counts, and
//! nobody else's.
//!
//! Each proxy adds at the right whom it was asked by. So the list is read from the right, for as
//! long as the one who speaks is trusted; who is not, is the client, and what it wrote further left
//! is its own invention.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};

use crate::config::networks::Networks;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client behind a request that came from `socket`. Its port is 0 where no proxy has said it.
pub(super) fn client(socket: SocketAddr, headers: &HeaderMap, trusted: &Networks) -> SocketAddr {
    if !trusted.have(socket.ip()) {
        return socket;
    }
    // A proxy writes one of the two; `Forwarded` is looked at where there is no other.
    let name = if headers.contains_key(X_FORWARDED_FOR) {
        X_FORWARDED_FOR
    } else {
        FORWARDED
    };
    let fields = headers.get_all(&name).iter().rev();
    let hops = fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    let mut nearest = socket;
    for hop in hops {
        let named = str::from_utf8(hop).ok().map(str::trim).and_then(|hop| {
            if name == FORWARDED {
                of_forwarded(hop)
            } else {
                address(hop)
            }
        });
        // What a trusted proxy could not name either, is somebody that it has hidden.
        let Some(named) = named else { break };
        nearest = named;
        if !trusted.have(named.ip()) {
            break;
        }
    }
    nearest
}

/// `for=` of one element of `Forwarded` (RFC 7239).
fn of_forwarded(element: &str) -> Option<SocketAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut pairs = pairs.map(|(name, value)| (name.trim(), value.trim()));
    let (_, node) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    let quoted = node
        .strip_prefix('"')
        .and_then(|node| node.strip_suffix('"'));
    address(quoted.unwrap_or(node))
}

/// An address with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>();
    address
        .map(|address| (address, 0).into())
        .or_else(|_| text.parse())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(fields: &[(&'static str, &str)]) -> String {
        let trusted = Networks::parse("10.0.0.0/8,2001:db8::/32").expect("networks");
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a field"));
        }
        let socket = "10.0.0.1:5000".parse().expect("an address");
        client(socket, &headers, &trusted).to_string()
    }

    #[test]
    fn the_rightmost_that_is_not_trusted_is_the_client() {
        for (field, client_is) in [
            ("192.0.2.7", "192.0.2.7:0"),
            ("6.6.6.6, 192.0.2.7", "192.0.2.7:0"),
            ("6.6.6.6,192.0.2.7 , 10.9.9.9,10.0.0.2", "192.0.2.7:0"),
            ("192.0.2.7:4711", "192.0.2.7:4711"),
            ("[2001:db9::1]:4711, 2001:db8::5", "[2001:db9::1]:4711"),
            ("2001:db9::1", "[2001:db9::1]:0"),
            // All of them are ours: the first is as far as we can see.
            ("10.0.0.3, 10.0.0.2", "10.0.0.3:0"),
            ("192.0.2.7, unknown, 10.0.0.2", "10.0.0.2:0"),
            ("unknown", "10.0.0.1:5000"),
            ("", "10.0.0.1:5000"),
            (",,", "10.0.0.1:5000"),
        ] {
            assert_eq!(
                client_of(&[("x-forwarded-for", field)]),
                client_is,
                "{field}"
            );
        }
        let fields = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        assert_eq!(client_of(&fields), "192.0.2.7:0");
    }

    #[test]
    fn the_standard_field_is_read_where_there_is_no_other() {
        for (field, client_is) in [
            ("for=192.0.2.7;proto=https", "192.0.2.7:0"),
            ("For=\"[2001:db9::1]:4711\"", "[2001:db9::1]:4711"),
            (
                "for=6.6.6.6, by=10.0.0.1; for=192.0.2.7, for=10.0.0.2",
                "192.0.2.7:0",
            ),
            ("for=_hidden", "10.0.0.1:5000"),
            ("proto=https", "10.0.0.1:5000"),
        ] {
            assert_eq!(client_of(&[("forwarded", field)]), client_is, "{field}");
        }
        let fields = [
            ("forwarded", "for=6.6.6.6"),
            ("x-forwarded-for", "192.0.2.7"),
        ];
        assert_eq!(client_of(&fields), "192.0.2.7:0");
    }

    #[test]
    fn nobody_else_is_believed() {
        let trusted = Networks::parse("10.0.0.0/8").expect("networks");
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "192.0.2.7".parse().expect("a field"));
        let socket = "192.0.2.99:5000".parse().expect("an address");
        assert_eq!(client(socket, &headers, &trusted), socket);
    }
}
