//! The thread of the cluster: connects, then appends and reads for as long as the process lives.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use shardcast_cluster::log::{Log, Refusal};
use shardcast_cluster::settings::{Credentials, Settings, Storage};
use shardcast_cluster::status::Status;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use super::feed::Feed;
use super::lanes::{Appender, Lanes};
use super::standing::Standing;
use crate::broker::Broker;
use crate::broker::inbox::Bell;
use crate::config::Config;
use crate::config::values::ClusterStorage;
use crate::logs;
use crate::metrics::ShardCounters;

/// Figures are read so often.
const LOOK: Duration = Duration::from_millis(100);

/// A log that this node cannot take part in: settings that want a person.
const EXIT_BAD_SETTINGS: i32 = 2;

/// What the cluster has to do with the rest of the process.
#[derive(Debug)]
pub struct Parts {
    /// The settings.
    pub config: Config,
    /// The way to the shards, and the entrance for changes.
    pub broker: Broker,
    /// Topics in all shards.
    pub topics_total: Arc<AtomicUsize>,
    /// One for each shard.
    pub shards: Box<[Arc<ShardCounters>]>,
    /// Where others look.
    pub standing: Arc<Standing>,
    /// Rung when something is at the entrance.
    pub bell: Arc<Bell>,
    /// When the server started.
    pub started: Instant,
}

/// Takes part in the cluster that the settings name, for ever. `urls` is `CLUSTER_URL`.
pub fn run(urls: &str, parts: Parts) -> std::io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let settings = settings(urls, &parts.config);
    LocalSet::new().block_on(&runtime, async {
        match take_part(settings, parts).await {
            Ok(never) => match never {},
            Err(Failure::Refused(refusal)) => {
                tracing::error!("{refusal}");
                logs::end(EXIT_BAD_SETTINGS)
            }
            Err(Failure::Lost(text)) => {
                tracing::error!("this node cannot go on and has to start anew: {text}");
                logs::end(1)
            }
        }
    })
}

/// Why a node ends.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot take part.
    Refused(Refusal),
    /// It has lost its place in the log.
    Lost(String),
}

async fn take_part(settings: Settings, parts: Parts) -> Result<std::convert::Infallible, Failure> {
    let log = Log::connect(settings).await.map_err(Failure::Refused)?;
    let parts = Rc::new(parts);
    parts.standing.node.set(log.node()).ok();
    tokio::task::spawn_local(show(Arc::clone(log.status()), Rc::clone(&parts)));
    let prepared = log.prepare().await.map_err(Failure::Refused)?;
    tracing::info!(
        cluster = log.settings().name,
        node = format!("{:016x}", log.node()),
        entries = (prepared.last + 1).saturating_sub(prepared.first.max(1)),
        "reading the log of the cluster"
    );
    let beating = log.clone();
    tokio::task::spawn_local(async move { beating.beat().await });
    let lanes = Rc::new(RefCell::new(Lanes::new(log.settings().partitions)));
    let appender = Appender::new(log.clone(), Rc::clone(&parts), Rc::clone(&lanes));
    let feed = Feed::new(log, prepared, parts, lanes, appender.call());
    tokio::select! {
        never = appender.work() => match never {},
        failed = feed.work() => Err(failed),
    }
}

/// Keeps the figures that others see up to date.
async fn show(status: Arc<Status>, parts: Rc<Parts>) {
    let standing = &parts.standing;
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        standing.set_connected(status.is_connected());
        standing.nodes.set(status.nodes.value());
        standing.appending.set(status.appending.value());
        standing.appended.set(status.appended.value());
        standing.retried.set(status.retried.value());
        standing.failed.set(status.failed.value());
        standing.reconnects.set(status.reconnects.value());
        let (first, last) = (status.first.value(), status.last.value());
        standing
            .log_entries
            .set((last + 1).saturating_sub(first.max(1)));
        standing.log_bytes.set(status.bytes.value());
        standing
            .log_bytes_max
            .set(parts.config.cluster_log_bytes_max as u64);
    }
}

fn settings(urls: &str, config: &Config) -> Settings {
    Settings {
        urls: urls.to_owned(),
        credentials: Credentials {
            token: config
                .cluster_token
                .as_ref()
                .map(|token| token.reveal().to_owned()),
            creds_file: config.cluster_creds_file.clone(),
            nkey_file: config.cluster_nkey_file.clone(),
            ca_file: config.cluster_ca.clone(),
            certificate: config.cluster_cert.clone().zip(config.cluster_key.clone()),
        },
        name: config.cluster_name.to_string(),
        partitions: config.cluster_partitions,
        history: config.history_messages_max,
        replicas: config.cluster_replicas,
        storage: match config.cluster_storage {
            ClusterStorage::File => Storage::File,
            ClusterStorage::Memory => Storage::Memory,
        },
        bytes_max: config.cluster_log_bytes_max as u64,
        timeout: config.cluster_timeout,
    }
}
