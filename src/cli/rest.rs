//! One REST call to a broker, on a connection of its own.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use shardcast_client::tls::{Transport, Trust, connect};
use shardcast_client::url::{ServerUrl, UrlError};
use tokio::time::timeout;

/// How long a healthy broker takes at most: a check that hangs is a check that failed.
const TIMEOUT: Duration = Duration::from_secs(3);

/// More than any answer of a broker: the list of all topics is the longest.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the API key has characters that a header cannot carry")]
    ApiKey,
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("{0} did not answer as an HTTP server: {1}")]
    Http(String, Box<dyn std::error::Error + Send + Sync>),
    #[error("{0} did not answer within {n} s", n = TIMEOUT.as_secs())]
    NoAnswer(String),
    #[error("{0} answered with HTTP {1}")]
    Unwell(String, StatusCode),
}

/// What a call asks for.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: &'a ServerUrl,
    pub(super) api_key: Option<&'a str>,
    pub(super) trust: &'a Trust,
    /// JSON, or nothing.
    pub(super) body: String,
}

impl Call<'_> {
    /// Status and body of the answer.
    pub(super) async fn answer(&self) -> Result<(StatusCode, Bytes), RestError> {
        let answered = timeout(TIMEOUT, self.ask()).await;
        answered.map_err(|_| RestError::NoAnswer(self.url.authority()))?
    }

    async fn ask(&self) -> Result<(StatusCode, Bytes), RestError> {
        let request = self.request()?;
        let socket = connect(self.url, self.trust)
            .await
            .map_err(|error| RestError::Connect(self.url.authority(), error))?;
        exchange(request, socket)
            .await
            .map_err(|error| RestError::Http(self.url.authority(), error))
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, RestError> {
        let mut request = Request::builder()
            .method(&self.method)
            .uri(&self.url.target)
            .header(HOST, self.url.authority())
            .header(CONNECTION, "close");
        if !self.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = self.api_key {
            let key = HeaderValue::from_bytes(key.as_bytes()).map_err(|_| RestError::ApiKey)?;
            request = request.header("X-API-Key", key);
        }
        let body = Full::new(self.body.clone().into());
        let bad = |error: hyper::http::Error| RestError::Http(self.url.authority(), error.into());
        request.body(body).map_err(bad)
    }
}

async fn exchange(
    request: Request<Full<Bytes>>,
    socket: Transport,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // Its errors come out of the request too, which is where they can be reported.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
    Ok((status, body.collect().await?.to_bytes()))
}
