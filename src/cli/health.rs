//! `shardcast health`: asks a broker how it is, for people and for container health checks.

use std::io::Write;

use hyper::{Method, StatusCode};
use shardcast_client::tls::Trust;
use shardcast_client::url::ServerUrl;

use super::Failure;
use super::rest::{Call, RestError};

/// Prints the answer to `GET /health`; an error unless it is a 200.
pub(super) async fn health(url: &str, trust: &Trust, out: &mut dyn Write) -> Result<(), Failure> {
    let url = ServerUrl::health(url).map_err(RestError::from)?;
    let call = Call {
        method: Method::GET,
        url: &url,
        api_key: None,
        trust,
        body: String::new(),
    };
    let (status, body) = call.answer().await?;
    if !body.is_empty() {
        writeln!(out, "{}", String::from_utf8_lossy(&body).trim_end())?;
    }
    match status {
        StatusCode::OK => Ok(()),
        status => Err(RestError::Unwell(url.authority(), status).into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn health_of(response: &'static str) -> (Result<(), Failure>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a client");
            let mut request = vec![0; 1024];
            let n = socket.read(&mut request).await.expect("a request");
            assert!(request[..n].starts_with(b"GET /health HTTP/1.1\r\n"));
            socket
                .write_all(response.as_bytes())
                .await
                .expect("a client that reads");
        });
        let mut out = Vec::new();
        let result = health(&url, &Trust::default(), &mut out).await;
        (result, String::from_utf8(out).expect("text"))
    }

    #[tokio::test]
    async fn a_healthy_broker_is_a_success() {
        let (result, out) =
            health_of("HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"uptime_sec\":1}").await;
        assert!(result.is_ok());
        assert_eq!(out, "{\"uptime_sec\":1}\n");
    }

    #[tokio::test]
    async fn any_other_status_is_a_failure_that_still_prints_the_answer() {
        let (result, out) = health_of("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}").await;
        assert!(result.expect_err("unwell").to_string().contains("HTTP 503"));
        assert_eq!(out, "{}\n");
    }

    #[tokio::test]
    async fn what_is_not_http_is_a_failure() {
        let (result, _) = health_of("SSH-2.0-OpenSSH_9.6\r\n").await;
        assert!(
            result
                .expect_err("not HTTP")
                .to_string()
                .contains("did not answer as an HTTP server")
        );
    }

    #[tokio::test]
    async fn nobody_there_is_one_line() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let error = health(
            &format!("http://{address}"),
            &Trust::default(),
            &mut Vec::new(),
        )
        .await
        .expect_err("nobody there");
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot connect to {address}: ")),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let error = health(&url, &Trust::default(), &mut Vec::new())
            .await
            .expect_err("silence");
        assert!(error.to_string().contains("within 3 s"), "{error}");
    }
}
