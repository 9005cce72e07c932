//! `shardcast shell`: commands line by line, from a person or from a pipe.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tokio::io::BufReader;

use crate::config::client::ClientSettings;

use super::Failure;
use super::client::connect;

mod interactive;
mod line;
mod render;
mod script;

/// Runs until the input or the connection ends.
pub(super) async fn shell(
    settings: &ClientSettings,
    history: Option<PathBuf>,
) -> Result<(), Failure> {
    let (sender, receiver) = connect(settings).await?;
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        interactive::run(settings, sender, receiver, history).await
    } else {
        let input = BufReader::new(tokio::io::stdin());
        script::run(settings, sender, receiver, input, &mut io::stdout()).await
    }
}
