//! Just enough HTTP/1.1 to call REST, and to see answers exactly as they come.

use std::fmt::Write;
use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::broker::Broker;
use crate::harness::wire::Wire;

/// A kept-alive HTTP connection.
pub(crate) struct Rest {
    pub(crate) wire: Wire,
}

impl Rest {
    /// Connects.
    pub(crate) async fn open(broker: &Broker) -> Self {
        Self::at(broker.address()).await
    }

    /// Connects to whoever listens there.
    pub(crate) async fn at(address: SocketAddr) -> Self {
        Self {
            wire: Wire::connect(address, None).await,
        }
    }

    /// One call.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let mut request = request_head(method, path, headers);
        if !body.is_empty() {
            let length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
            request.truncate(request.len() - 2);
            request.push_str(&length);
        }
        self.wire.offer(request.as_bytes()).await;
        let what = format!("the answer to {method} {path}");
        if method == "HEAD" {
            self.response_head(&what).await
        } else {
            self.response(&what).await
        }
    }

    /// The head of the next answer, without a body that may follow.
    pub(crate) async fn response_head(&mut self, what: &str) -> Response {
        let head = self.wire.take_head(what).await;
        Response::parse_head(&head.unwrap_or_else(|| panic!("no {what}")))
    }

    /// The next answer on this connection.
    pub(crate) async fn response(&mut self, what: &str) -> Response {
        let mut response = self.response_head(what).await;
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = String::from_utf8(self.chunks(what).await).expect("bodies are UTF-8");
            return response;
        }
        let length = response.header("content-length").map_or(0, |length| {
            length.parse().expect("Content-Length is a number")
        });
        let body = self.wire.take(length, what).await.expect("the whole body");
        response.body = String::from_utf8(body).expect("bodies are UTF-8");
        response
    }

    /// A body in chunks.
    async fn chunks(&mut self, what: &str) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = self.wire.take_line(what).await.expect("a chunk's size");
            let size = usize::from_str_radix(size.trim(), 16).expect("a size is hexadecimal");
            let chunk = self.wire.take(size + 2, what).await.expect("a whole chunk");
            body.extend(&chunk[..size]);
            if size == 0 {
                return body;
            }
        }
    }
}

/// The head of a request, with its empty line.
pub(crate) fn request_head(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: shardcast\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").expect("a String takes everything");
    }
    head + "\r\n"
}

/// An answer.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    /// Status and headers, without a body.
    pub(crate) fn parse_head(head: &str) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|line| line.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("no HTTP answer: {head:?}"));
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: String::new(),
        }
    }

    /// A header, its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body, which must be JSON and be called so.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Status and body at once, to compare with what the contract's table says.
    pub(crate) fn pair(&self) -> (u16, &str) {
        (self.status, &self.body)
    }
}
