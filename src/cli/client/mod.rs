//! A broker as every subcommand reaches it: over a connection that is spoken on by hand, or by the client that keeps
//! what outlives one.

use std::time::Duration;

use shardcast_client::link::{self, LinkOptions, LinkReceiver, LinkSender};
use shardcast_client::url::ServerUrl;
use shardcast_client::{Limits, Options, Secret};

use super::Failure;
use crate::config::client::ClientSettings;

/// How long a server may take for the connection and the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest message that is taken: what the largest `MAX_MESSAGE_SIZE` makes, with its envelope.
pub(super) const FRAME_BYTES_MAX: usize = 17 << 20;

/// What a client is made with. Where none is to reconnect, it waits for the first connection and says why there is
/// none; else it tries for ever.
pub(super) fn options(settings: &ClientSettings, reconnect: bool) -> Options {
    Options {
        key: settings.api_key.clone().map(Secret::from),
        client_id: settings.client_id.clone(),
        trust: settings.trust.clone(),
        reconnect,
        limits: Limits {
            open_timeout: reconnect.then_some(Duration::ZERO),
            connect_timeout: CONNECT_TIMEOUT,
            close_timeout: CLOSE_TIMEOUT,
            heartbeat: settings.silence_max / 2,
            heartbeat_timeout: settings.silence_max / 2,
            frame_bytes_max: FRAME_BYTES_MAX,
            ..Limits::default()
        },
        ..Options::new(&settings.url)
    }
}

/// Connects and shakes hands, for one who speaks by hand.
pub(super) async fn connect(
    settings: &ClientSettings,
) -> Result<(LinkSender, LinkReceiver), Failure> {
    let mut url = ServerUrl::of_broker(&settings.url)?;
    if let Some(client_id) = &settings.client_id {
        url = url.with_query("client_id", client_id);
    }
    let options = LinkOptions {
        api_key: settings.api_key.as_deref(),
        trust: &settings.trust,
        connect_timeout: CONNECT_TIMEOUT,
        heartbeat: settings.silence_max / 2,
        heartbeat_timeout: settings.silence_max / 2,
        frame_bytes_max: FRAME_BYTES_MAX,
    };
    Ok(link::connect(&url, &options).await?)
}

/// Sends all that is queued and takes leave of the server.
pub(super) async fn close(sender: LinkSender, receiver: LinkReceiver) {
    sender.close(receiver, CLOSE_TIMEOUT).await;
}

#[cfg(test)]
mod tests;
