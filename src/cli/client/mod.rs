//! One connection to a broker, for every subcommand that has one: the client's, without its memory. Nothing reconnects
//! here: a client that lost its server is told why.

use std::time::Duration;

use shardcast_client::link::{self, LinkOptions, LinkReceiver, LinkSender};
use shardcast_client::url::ServerUrl;

use super::Failure;
use crate::config::client::ClientSettings;

/// How long a server may take for the connection and the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may take to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest message that is taken: what the largest `MAX_MESSAGE_SIZE` makes, with its envelope.
const MESSAGE_BYTES_MAX: usize = 17 << 20;

/// Connects and shakes hands.
pub(super) async fn connect(
    settings: &ClientSettings,
) -> Result<(LinkSender, LinkReceiver), Failure> {
    let mut url = ServerUrl::socket(&settings.url)?;
    if let Some(client_id) = &settings.client_id {
        url = url.with_query("client_id", client_id);
    }
    let options = LinkOptions {
        api_key: settings.api_key.as_deref(),
        trust: &settings.trust,
        connect_timeout: CONNECT_TIMEOUT,
        heartbeat: settings.silence_max / 2,
        heartbeat_timeout: settings.silence_max / 2,
        frame_bytes_max: MESSAGE_BYTES_MAX,
    };
    Ok(link::connect(&url, &options).await?)
}

/// Sends all that is queued and takes leave of the server.
pub(super) async fn close(sender: LinkSender, receiver: LinkReceiver) {
    sender.close(receiver, CLOSE_TIMEOUT).await;
}

#[cfg(test)]
mod tests;
