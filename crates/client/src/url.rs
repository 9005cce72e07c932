//! The URL of a broker, taken apart.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_tungstenite::tungstenite::http::Uri;

/// All but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The path of the broker's WebSocket, for a URL that names only the server.
const SOCKET_PATH: &str = "/ws";

const HTTP_EXAMPLE: &str = "http://127.0.0.1:8080";

/// A server and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// Of TCP.
    pub port: u16,
    /// TLS is spoken with it.
    pub is_tls: bool,
    /// Path and query.
    pub target: String,
}

/// A URL that is not one, or not one of a server that this client can talk to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no URL for this: expected something like {1}")]
pub struct UrlError(String, &'static str);

impl ServerUrl {
    /// The WebSocket of the broker whose WebSocket, or whose root, is at `url`.
    ///
    /// # Errors
    ///
    /// It is no URL of a broker.
    pub fn of_broker(url: &str) -> Result<Self, UrlError> {
        if is_socket(url) {
            return Self::socket(url);
        }
        Self::rest(url, SOCKET_PATH)
    }

    /// The WebSocket of a broker: `ws://host[:port][/path]`, or `wss://`.
    ///
    /// # Errors
    ///
    /// It is another URL, or none.
    pub fn socket(url: &str) -> Result<Self, UrlError> {
        Self::parse(url, "ws", SOCKET_PATH, "ws://127.0.0.1:8080/ws")
    }

    /// The health of a broker: `http://host[:port][/path]`, or beside the WebSocket of a `ws://` URL.
    ///
    /// # Errors
    ///
    /// It is no URL of a broker.
    pub fn health(url: &str) -> Result<Self, UrlError> {
        if is_socket(url) {
            return Self::rest(url, "/health");
        }
        Self::parse(url, "http", "/health", HTTP_EXAMPLE)
    }

    /// A path of the broker whose WebSocket, or whose root, is at `url`.
    ///
    /// # Errors
    ///
    /// It is no URL of a broker.
    pub fn rest(url: &str, path: &str) -> Result<Self, UrlError> {
        let scheme = if is_socket(url) { "ws" } else { "http" };
        let server = Self::parse(url, scheme, "/", HTTP_EXAMPLE)?;
        let base = server.target.split('?').next().unwrap_or_default();
        let base = base.strip_suffix(SOCKET_PATH).unwrap_or(base);
        Ok(Self {
            target: format!("{}{path}", base.trim_end_matches('/')),
            ..server
        })
    }

    /// The same URL with one more query parameter.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        self.target
            .push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(name);
        self.target.push('=');
        self.target.push_str(&percent_encode(value));
        self
    }

    /// What the `Host` header says.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn parse(url: &str, scheme: &str, path: &str, example: &'static str) -> Result<Self, UrlError> {
        let not_a_url = || UrlError(url.to_owned(), example);
        let uri: Uri = url.parse().map_err(|_| not_a_url())?;
        let given = uri.scheme_str().unwrap_or_default();
        let is_tls = given.strip_suffix('s') == Some(scheme);
        let host = uri.host().filter(|_| is_tls || given == scheme);
        let host = host.ok_or_else(not_a_url)?;
        // Who asks is not said in a URL here, and to pass over it would be to ask as somebody else. Nor is a
        // port passed over that is no number.
        let authority = uri.port_u16().map(|port| format!("{host}:{port}"));
        let authority = authority.as_deref().unwrap_or(host);
        if uri.authority().is_none_or(|of| of.as_str() != authority) {
            return Err(not_a_url());
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let target = match target.strip_prefix('/') {
            Some("") => path.to_owned(),
            Some(query) if query.starts_with('?') => format!("{path}{query}"),
            _ => target.to_owned(),
        };
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            host,
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
            target,
        })
    }
}

/// Whether it is the URL of a WebSocket.
fn is_socket(url: &str) -> bool {
    url.starts_with("ws:") || url.starts_with("wss:")
}

/// Everything but RFC 3986's unreserved characters as `%XX`.
#[must_use]
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(url: &str) -> (String, String) {
        let url = ServerUrl::socket(url).expect("a URL");
        (url.authority(), url.target)
    }

    #[test]
    fn a_url_may_leave_out_port_and_path() {
        assert_eq!(socket("ws://a:8080/ws"), ("a:8080".into(), "/ws".into()));
        assert_eq!(socket("ws://a"), ("a:80".into(), "/ws".into()));
        assert_eq!(socket("ws://a/?x=1"), ("a:80".into(), "/ws?x=1".into()));
        assert_eq!(
            socket("ws://[::1]:9/proxy/ws"),
            ("[::1]:9".into(), "/proxy/ws".into())
        );
        assert_eq!(
            ServerUrl::socket("ws://[::1]:9").expect("a URL").host,
            "::1"
        );
        assert_eq!(
            ServerUrl::health("http://a:1").expect("a URL").target,
            "/health"
        );
    }

    #[test]
    fn rest_is_beside_the_web_socket() {
        let rest = |url: &str| ServerUrl::rest(url, "/topics").expect("a URL").target;
        assert_eq!(rest("ws://a:8080/ws?x=1"), "/topics");
        assert_eq!(rest("ws://a"), "/topics");
        assert_eq!(rest("http://a/"), "/topics");
        assert_eq!(rest("ws://a/proxy/ws"), "/proxy/topics");
        let secure = ServerUrl::rest("wss://a/ws", "/topics").expect("a URL");
        assert_eq!(
            (secure.target.as_str(), secure.port, secure.is_tls),
            ("/topics", 443, true)
        );
        let secure = ServerUrl::health("https://a:1").expect("a URL");
        assert_eq!((secure.port, secure.is_tls), (1, true));
        let health = |url: &str| ServerUrl::health(url).expect("a URL").target;
        assert_eq!(health("ws://a/ws"), "/health");
        assert_eq!(health("http://a/proxy/health"), "/proxy/health");
    }

    #[test]
    fn other_schemes_are_refused_with_a_reason() {
        let error = |url: &str| ServerUrl::socket(url).expect_err("not a URL").to_string();
        for url in [
            "http://a/ws",
            "https://a/ws",
            "wsss://a/ws",
            "a:8080",
            "",
            "ws://",
            "ws:///ws",
            "ws://a b",
            "ws://user:secret@a/ws",
            "ws://a:b/ws",
            "ws://a:/ws",
            "ws://a:99999/ws",
        ] {
            assert!(error(url).contains("expected something like"), "{url}");
        }
    }

    #[test]
    fn a_query_value_is_encoded() {
        let url = ServerUrl::socket("ws://a/ws").expect("a URL");
        assert_eq!(
            url.clone().with_query("client_id", "a-1").target,
            "/ws?client_id=a-1"
        );
        let url = url.with_query("client_id", "a b&c=é").with_query("x", "1");
        assert_eq!(url.target, "/ws?client_id=a%20b%26c%3D%C3%A9&x=1");
    }
}
