//! The connection to NATS: where it is, and who a node is there.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use percent_encoding::percent_decode_str;

use crate::log::Refusal;
use crate::settings::Settings;
use crate::status::Status;

/// NATS is asked for a sign of life so often: one that is frozen is left after about twice that.
const PING: Duration = Duration::from_secs(2);

/// Begins to connect, and goes on trying for as long as it takes.
pub(crate) async fn connect(settings: &Settings, status: Arc<Status>) -> Result<Client, Refusal> {
    let urls = settings.urls.split(',').map(|url| url.trim().parse());
    // The errors would show the address, and with it a password.
    let urls: Result<Vec<ServerAddr>, _> = urls.collect();
    let urls = urls.map_err(|_| Refusal::Settings("CLUSTER_URL: it is no address".to_owned()))?;
    let mut options = options(settings, status).await?;
    if let Some((user, password)) = user(&urls)? {
        options = options.user_and_password(user, password);
    }
    options.connect(urls).await.map_err(|error| {
        let kind = error.kind();
        Refusal::Settings(format!("CLUSTER_URL: no connection can be made: {kind}"))
    })
}

/// Who a node is, where an address says so: the client of NATS takes it from nowhere there. The first counts for
/// all, and others must be the same: which server answers is chance.
fn user(urls: &[ServerAddr]) -> Result<Option<(String, String)>, Refusal> {
    let mut users = urls.iter().filter(|url| url.has_user_pass());
    let Some(first) = users.next() else {
        return Ok(None);
    };
    let of = |url: &ServerAddr| {
        let text = |part: Option<&str>| {
            let decoded = percent_decode_str(part.unwrap_or_default()).decode_utf8();
            decoded
                .map(std::borrow::Cow::into_owned)
                .unwrap_or_default()
        };
        (text(url.username()), text(url.password()))
    };
    let user = of(first);
    if users.any(|other| of(other) != user) {
        return Err(Refusal::Settings(
            "CLUSTER_URL: all addresses that name a user must name the same, with the same password"
                .to_owned(),
        ));
    }
    Ok(Some(user))
}

/// How to connect.
async fn options(settings: &Settings, status: Arc<Status>) -> Result<ConnectOptions, Refusal> {
    let unreadable =
        |what: &str, error: &dyn Display| Refusal::Settings(format!("{what}: {error}"));
    let of = &settings.credentials;
    let mut options = ConnectOptions::new();
    if let Some(token) = &of.token {
        options = options.token(token.clone());
    }
    if let Some(path) = &of.creds_file {
        let read = options.credentials_file(path).await;
        options = read.map_err(|error| {
            unreadable(
                "CLUSTER_CREDS_FILE",
                &format!("{}: {error}", path.display()),
            )
        })?;
    }
    if let Some(path) = &of.nkey_file {
        let seed = std::fs::read_to_string(path);
        let seed = seed.map_err(|error| {
            unreadable("CLUSTER_NKEY_FILE", &format!("{}: {error}", path.display()))
        })?;
        options = options.nkey(seed.trim().to_owned());
    }
    if let Some(path) = &of.ca_file {
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &of.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let noted = move |event| {
        let status = Arc::clone(&status);
        async move { note_event(&status, &event) }
    };
    Ok(options
        .name(format!("shardcast {}", settings.name))
        .ping_interval(PING)
        .connection_timeout(Duration::from_secs(2))
        .retry_on_initial_connect()
        .reconnect_delay_callback(|attempts| Duration::from_millis(50 << attempts.min(5)))
        .event_callback(noted))
}

fn note_event(status: &Status, event: &Event) {
    match event {
        Event::Connected => {
            if !status.set_connected(true) {
                tracing::info!("connected to NATS");
            }
        }
        Event::Disconnected | Event::Closed => {
            if status.set_connected(false) {
                status.reconnects.add(1);
                tracing::warn!("the connection to NATS is lost");
            }
        }
        Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => {}
        Event::ServerError(error) => tracing::warn!("NATS: {error}"),
        Event::ClientError(error) => tracing::warn!("no connection to NATS: {error}"),
    }
}
