//! `shardcast topics`, `create`, `delete`: topics over REST, also for the shell.

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use shardcast_client::Error;
use shardcast_client::url::{ServerUrl, percent_encode};

use crate::config::client::ClientSettings;

use super::Failure;
use super::rest::{Call, RestError};

/// Each topic as the broker describes it: one JSON object.
pub(super) async fn list(settings: &ClientSettings) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Topics {
        topics: Vec<Box<RawValue>>,
    }
    let body = call(settings, Method::GET, "/topics", String::new()).await?;
    let topics: Topics = serde_json::from_slice(&body)
        .map_err(|error| RestError::Http(settings.url.clone(), error.into()))?;
    let mut lines: Vec<_> = topics
        .topics
        .iter()
        .map(|topic| topic.get().to_owned())
        .collect();
    // The server lists them shard by shard; each begins with its name.
    lines.sort_unstable();
    Ok(lines)
}

/// Creates a topic.
pub(super) async fn create(settings: &ClientSettings, name: &str) -> Result<(), Failure> {
    let body = serde_json::json!({ "name": name }).to_string();
    call(settings, Method::POST, "/topics", body)
        .await
        .map(drop)
}

/// Deletes a topic.
pub(super) async fn delete(settings: &ClientSettings, name: &str) -> Result<(), Failure> {
    let path = format!("/topics/{}", percent_encode(name));
    let deleted = call(settings, Method::DELETE, &path, String::new()).await;
    deleted.map(drop)
}

/// Makes one call; anything but what was hoped for is a failure.
pub(super) async fn call(
    settings: &ClientSettings,
    method: Method,
    path: &str,
    body: String,
) -> Result<Vec<u8>, Failure> {
    let url = ServerUrl::rest(&settings.url, path).map_err(RestError::from)?;
    let call = Call {
        method,
        url: &url,
        api_key: settings.api_key.as_deref(),
        trust: &settings.trust,
        body,
    };
    let (status, body) = call.answer().await?;
    if matches!(status, StatusCode::OK | StatusCode::CREATED) {
        return Ok(body.to_vec());
    }
    let authority = url.authority();
    Err(Error::of_http(&body).map_or(RestError::Unwell(authority, status).into(), Failure::Client))
}
