//! The server's REST side: topics made and removed, counts read. Blocking, and only before and after a run.
//!
//! A server that lacks a call is not an error here: the answer is `None`, and the report says what could not be read.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Failure;
use crate::client::{Door, Doors};
use crate::tls::{Tls, Trust};

const TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Rest {
    address: SocketAddr,
    authority: String,
    api_key: Option<String>,
    tls: Option<Tls>,
}

/// As [`resolve`], of several URLs, comma separated: the doors of all, the first's REST, and that of the others.
pub(crate) fn resolve_all(
    urls: &str,
    api_key: Option<&str>,
    trust: &Trust,
) -> Result<(Doors, Rest, Vec<Rest>), Failure> {
    let (first, others) = urls.split_once(',').unwrap_or((urls, ""));
    let (door, rest) = resolve(first.trim(), api_key, trust)?;
    let (mut doors, mut rests) = (vec![door], Vec::new());
    for url in others
        .split(',')
        .map(str::trim)
        .filter(|url| !url.is_empty())
    {
        let (door, rest) = resolve(url, api_key, trust)?;
        doors.push(door);
        rests.push(rest);
    }
    Ok((Doors(doors.into()), rest, rests))
}

/// Resolves `ws://host:port/path` or `wss://…`; the same host and port serve REST.
fn resolve(url: &str, api_key: Option<&str>, trust: &Trust) -> Result<(Door, Rest), Failure> {
    let usage = |why: &str| Failure::Usage(format!("--url {url}: {why}"));
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let is_tls = match scheme {
        "ws" | "http" => false,
        "wss" | "https" => true,
        _ => return Err(usage("only ws:// and wss:// are spoken here")),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, "ws"));
    let with_port = if authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
    {
        authority.to_owned()
    } else {
        format!("{authority}:{}", if is_tls { 443 } else { 80 })
    };
    let host = with_port.rsplit_once(':').map_or("", |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let tls = if is_tls {
        Some(Tls::new(host, trust).map_err(|why| usage(&why))?)
    } else {
        None
    };
    let addresses: Vec<SocketAddr> = with_port
        .to_socket_addrs()
        .map_err(|error| usage(&error.to_string()))?
        .collect();
    // `localhost` often means ::1 first, while servers listen on IPv4.
    let address = addresses.iter().find(|address| address.is_ipv4());
    let address = *address
        .or_else(|| addresses.first())
        .ok_or_else(|| usage("no such host"))?;
    let door = Door {
        address,
        authority: authority.to_owned(),
        path: format!("/{path}"),
        api_key: api_key.map(str::to_owned),
        tls: tls.clone(),
    };
    let rest = Rest {
        address,
        authority: authority.to_owned(),
        api_key: api_key.map(str::to_owned),
        tls,
    };
    Ok((door, rest))
}

impl Rest {
    pub(crate) fn port(&self) -> Option<u16> {
        let local = self.address.ip().is_loopback() || self.address.ip().is_unspecified();
        local.then(|| self.address.port())
    }

    /// A topic that is there already is as good as a new one.
    pub(crate) fn create_topic(&self, name: &str) -> Result<(), Failure> {
        let (status, body) = self
            .call("POST", "/topics", Some(&json!({ "name": name })))
            .map_err(|error| Failure::Connect(format!("{}: {error}", self.authority)))?;
        match status {
            201 | 200 | 409 => Ok(()),
            _ => Err(Failure::Connect(format!(
                "POST /topics was answered with {status} {body}"
            ))),
        }
    }

    /// Waits until the server has the topic too, where another node of its cluster has made it.
    pub(crate) fn await_topic(&self, name: &str) -> Result<(), Failure> {
        let until = Instant::now() + TIMEOUT;
        while self.read(&format!("/topics/{name}")).is_none() {
            if Instant::now() > until {
                let text = format!(
                    "{}: does not hear of topic {name}: is it of the same cluster?",
                    self.authority
                );
                return Err(Failure::Connect(text));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether the server removed it; `None` if it does not answer.
    pub(crate) fn delete_topic(&self, name: &str) -> Option<bool> {
        let answer = self.call("DELETE", &format!("/topics/{name}"), None);
        answer.ok().map(|(status, _)| status == 200)
    }

    pub(crate) fn read(&self, path: &str) -> Option<Value> {
        match self.call("GET", path, None) {
            Ok((200, body)) => Some(body),
            _ => None,
        }
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, Value)> {
        let body = body.map_or_else(String::new, Value::to_string);
        let key = self
            .api_key
            .as_ref()
            .map_or_else(String::new, |key| format!("X-API-Key: {key}\r\n"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{key}\r\n{body}",
            self.authority,
            body.len()
        );
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let answer = match &self.tls {
            Some(tls) => {
                let mut session = tls.session()?;
                exchange(rustls::Stream::new(&mut session, &mut stream), &request)?
            }
            None => exchange(stream, &request)?,
        };
        parse_answer(&answer).ok_or_else(|| io::Error::other("an answer that is not HTTP"))
    }
}

/// All that is answered to `request`.
fn exchange(mut stream: impl Read + Write, request: &str) -> io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse_answer(answer: &[u8]) -> Option<(u16, Value)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let is_chunked = head
        .to_ascii_lowercase()
        .contains("\r\ntransfer-encoding: chunked");
    let joined = is_chunked.then(|| join_chunks(body));
    let body = joined.as_deref().unwrap_or(body);
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// A long list comes in chunks, each behind its size in hexadecimal.
fn join_chunks(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, chunk)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let (Some(chunk), Some(behind)) = (chunk.get(..size), chunk.get(size + 2..)) else {
            break;
        };
        body.push_str(chunk);
        rest = behind;
    }
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Trust, parse_answer, resolve};

    fn open(url: &str) -> Result<(super::Door, super::Rest), crate::Failure> {
        resolve(url, None, &Trust::default())
    }

    #[test]
    fn urls_are_taken_apart() {
        let (door, _) = open("ws://127.0.0.1:9001/ws").expect("a fine url");
        assert_eq!(door.address.to_string(), "127.0.0.1:9001");
        assert_eq!(door.path, "/ws");
        let (door, _) = open("ws://127.0.0.1").expect("a short url");
        assert_eq!((door.address.port(), door.path.as_str()), (80, "/ws"));
        assert!(open("ftp://127.0.0.1").is_err() && open("127.0.0.1").is_err());
        assert!(
            open("wss://127.0.0.1").is_err(),
            "whom to trust is not said"
        );
        let trust = Trust {
            insecure: true,
            ca: None,
        };
        let (door, _) = resolve("wss://[::1]", None, &trust).expect("a fine url");
        assert_eq!(door.address.to_string(), "[::1]:443");
        assert!(door.tls.is_some());
    }

    #[test]
    fn answers_are_read_with_and_without_json() {
        let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{\"a\":1}";
        assert_eq!(parse_answer(answer), Some((201, json!({"a": 1}))));
        let answer = b"HTTP/1.1 404 Not Found\r\n\r\nno";
        assert_eq!(parse_answer(answer).map(|(status, _)| status), Some(404));
        let answer =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
        assert_eq!(parse_answer(answer), Some((200, json!({"a": 1}))));
        assert_eq!(parse_answer(b"hello"), None);
    }
}
