//! `ALLOWED_ORIGINS`, in the form in which browsers write an `Origin`.
//!
//! An entry that no browser's header could equal would refuse every page without a word. So it is
//! brought into that form (RFC 6454 and the URL standard: lower case, no default port), or refused.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The origins that browsers may connect from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Every page may connect.
    Any,
    /// Only pages of these origins may.
    Only(Vec<String>),
}

impl AllowedOrigins {
    /// Origins from a comma-separated list; `None` where an entry could never equal an `Origin` header.
    pub fn parse(text: &str) -> Option<Self> {
        let origins: Vec<_> = text
            .split(',')
            .map(str::trim)
            .filter(|origin| !origin.is_empty())
            .collect();
        let parsed: Option<Vec<_>> = origins
            .iter()
            .filter(|origin| **origin != "*")
            .map(|origin| parse_origin(origin))
            .collect();
        let parsed = parsed?;
        if parsed.len() < origins.len() {
            return Some(Self::Any);
        }
        Some(Self::Only(parsed))
    }

    /// Whether a page with this `Origin` header may ask.
    pub fn allows(&self, origin: impl AsRef<[u8]>) -> bool {
        match self {
            Self::Any => true,
            Self::Only(origins) => origins
                .iter()
                .any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin.as_ref())),
        }
    }
}

/// `scheme://host[:port]`, or the `null` of pages without an origin; a closing slash is what address bars add.
fn parse_origin(text: &str) -> Option<String> {
    if text == "null" {
        return Some(text.to_owned());
    }
    let text = text.to_ascii_lowercase();
    let (scheme, rest) = text.split_once("://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    // A page has none of these: WebSockets are opened by pages of http and https, files are `null`.
    if !is_scheme || matches!(scheme, "ws" | "wss" | "file") {
        return None;
    }
    let (host, port) = match rest.rfind(':') {
        Some(colon) if !rest.ends_with(']') => (&rest[..colon], Some(&rest[colon + 1..])),
        _ => (rest, None),
    };
    let host = parse_host(host)?;
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => 0,
    };
    match port.map(parse_port) {
        Some(None) => None,
        Some(Some(port)) if port != default_port => Some(format!("{scheme}://{host}:{port}")),
        _ => Some(format!("{scheme}://{host}")),
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port > 0)
}

/// A host as browsers write it, from one in lower case.
fn parse_host(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        // Rust writes the end of a mapped address with dots, browsers do not.
        return Some(match (address.to_ipv4_mapped(), address.segments()) {
            (Some(_), [.., high, low]) => format!("[::ffff:{high:x}:{low:x}]"),
            _ => format!("[{address}]"),
        });
    }
    let is_name = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        && !host.starts_with('.')
        && !host.contains("..");
    if !is_name {
        return None;
    }
    // What ends in a number is an IPv4 address for a browser, which writes it in four parts.
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next()?;
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return host.parse::<Ipv4Addr>().ok().map(|host| host.to_string());
    }
    Some(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_whole() {
        let origins = AllowedOrigins::parse("https://a.example/, http://localhost:3000")
            .expect("two origins");
        assert!(origins.allows("https://a.example") && origins.allows("HTTPS://A.example"));
        assert!(origins.allows("http://localhost:3000"));
        assert!(!origins.allows("https://a.example.evil.example"));
        assert!(!origins.allows("http://localhost") && !origins.allows("null"));
        assert!(!origins.allows(b"\xff") && !origins.allows(""));
    }

    #[test]
    fn entries_take_the_form_of_browsers() {
        for (entry, origin) in [
            ("https://a.example:443", "https://a.example"),
            ("http://localhost:80/", "http://localhost"),
            ("http://a.example:443", "http://a.example:443"),
            ("HTTPS://A.Example:08443", "https://a.example:8443"),
            (
                "https://xn--bcher-kva.example",
                "https://xn--bcher-kva.example",
            ),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
            ("http://[::ffff:1.2.3.4]", "http://[::ffff:102:304]"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("null", "null"),
        ] {
            let expected = Some(AllowedOrigins::Only(vec![origin.to_owned()]));
            assert_eq!(AllowedOrigins::parse(entry), expected, "{entry}");
        }
    }

    #[test]
    fn entries_that_could_never_match_are_refused() {
        for entry in [
            "a.example",
            "https://",
            "https://a.example/path",
            "https://a.example?x",
            "https://a.example#x",
            "https://user@a.example",
            "https://user:pw@a.example",
            "https://*.example",
            "https://bücher.example",
            "https://a b.example",
            "https://a.example:0",
            "https://a.example:70000",
            "https://a.example:",
            "https://a.example:+80",
            "https://127.1",
            "https://[::1",
            "https://[fe80::1%25eth0]",
            "wss://a.example",
            "file://x",
            "://a.example",
            "https://a.example,*,b.example",
        ] {
            assert_eq!(AllowedOrigins::parse(entry), None, "{entry}");
        }
    }

    #[test]
    fn a_star_allows_all() {
        let any = AllowedOrigins::parse("https://a.example,*").expect("a star");
        assert!(any == AllowedOrigins::Any && any.allows("null"));
    }
}
