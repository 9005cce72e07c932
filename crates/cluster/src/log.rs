//! The stream itself: made or checked at the start, appended to in the order of each partition.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use async_nats::Client;
use async_nats::jetstream::context::{
    Context, ContextBuilder, GetStreamErrorKind, PublishErrorKind,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType};
use async_nats::jetstream::{ErrorCode, stream::Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use crate::partition::mix;
use crate::reader::Reader;
use crate::settings::{Settings, Storage};
use crate::status::Status;

/// `JetStream` knows a repeated append for so long; an append is tried for less.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// The longest that [`Settings::timeout`] may be.
pub const TIMEOUT_MAX: Duration = Duration::from_mins(1);

/// An append without an answer for so long is sent again, under the same id.
const ATTEMPT: Duration = Duration::from_millis(500);

/// Pause after an attempt that was refused.
const PAUSE: Duration = Duration::from_millis(25);

/// Nodes tell each other that they are there so often, and look at the log.
const BEAT: Duration = Duration::from_secs(1);

/// A node that was not heard of for so many beats is gone.
const BEATS_MISSED_MAX: u32 = 4;

/// What an append has beside its payload: the subject, the id and the protocol around them.
const APPEND_OVERHEAD_BYTES: usize = 512;

/// Why a node cannot take part. It is for the operator, and final.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A file of credentials cannot be read, or an address is none.
    #[error("{0}")]
    Settings(String),
    /// The log was made with other settings.
    #[error(
        "the log of cluster '{name}' was made with {what}={theirs}, and this node has {ours}: all nodes need the same (a cluster \
         keeps what it was made with)"
    )]
    Other {
        /// The cluster.
        name: String,
        /// The setting.
        what: &'static str,
        /// In the log.
        theirs: String,
        /// Here.
        ours: String,
    },
    /// NATS says that it will not keep such a log.
    #[error("NATS does not make the log of cluster '{name}': {error}")]
    NotMade {
        /// The cluster.
        name: String,
        /// What NATS says.
        error: String,
    },
}

/// Why an entry was not appended, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It is larger than the NATS server takes. It was not stored.
    #[error("it is larger than NATS takes")]
    TooLarge,
    /// It was not confirmed in time, and may have been stored. The last thing that was heard.
    #[error("{0}")]
    TimedOut(String),
}

/// A log.
#[derive(Debug, Clone)]
pub struct Log {
    settings: Arc<Settings>,
    client: Client,
    context: Context,
    status: Arc<Status>,
    node: u64,
}

impl Log {
    /// Begins to connect, and goes on trying for as long as it takes.
    pub async fn connect(settings: Settings) -> Result<Self, Refusal> {
        let status = Arc::new(Status::default());
        let mut node = [0; 8];
        getrandom::fill(&mut node).map_err(|error| Refusal::Settings(error.to_string()))?;
        let client = crate::connecting::connect(&settings, Arc::clone(&status)).await?;
        let context = ContextBuilder::new()
            .timeout(ATTEMPT * 4)
            .build(client.clone());
        let node = u64::from_le_bytes(node);
        Ok(Self {
            settings: Arc::new(settings),
            client,
            context,
            status,
            node,
        })
    }

    /// The number of this node, another one at each start.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// How it goes.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Bytes that one entry may have.
    pub fn entry_bytes_max(&self) -> usize {
        self.client
            .max_payload()
            .saturating_sub(APPEND_OVERHEAD_BYTES)
    }

    /// The name of the stream.
    pub fn stream_name(&self) -> String {
        format!("SHARDCAST_{}", self.settings.name)
    }

    /// What this log, and no other of its name, makes of a number: each another.
    fn seed(id: &str) -> u64 {
        id.bytes().fold(0, |seed, byte| mix(seed ^ u64::from(byte)))
    }

    /// Finds the stream or makes it, waiting for NATS as long as it takes, and holds it against the settings.
    pub async fn prepare(&self) -> Result<Prepared, Refusal> {
        let mut told = String::new();
        loop {
            match self.find_or_make().await {
                Ok(prepared) => return Ok(prepared),
                Err(Trouble::Final(refusal)) => return Err(refusal),
                Err(Trouble::Passing(text)) => {
                    let is_worth_a_line = !text.is_empty() && text != told;
                    if is_worth_a_line && self.status.is_connected() {
                        tracing::warn!("the log of the cluster cannot be reached yet: {text}");
                        told = text;
                    }
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn find_or_make(&self) -> Result<Prepared, Trouble> {
        let wanted = self.config()?;
        let name = self.stream_name();
        let stream = match self.context.get_stream(&name).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(kind)
                    if kind.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    self.make(wanted.clone()).await?
                }
                GetStreamErrorKind::JetStream(kind)
                    if kind.error_code() == ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT =>
                {
                    return Err(self.not_made("JetStream is not enabled for this account"));
                }
                _ => return Err(Trouble::Passing(error.to_string())),
            },
        };
        let info = stream.cached_info();
        self.compare(&wanted, &info.config)?;
        self.note(&info.state);
        let id = info.config.metadata.get(LOG_ID).map_or("", String::as_str);
        Ok(Prepared {
            seed: Self::seed(id),
            last: info.state.last_sequence,
            first: info.state.first_sequence,
        })
    }

    async fn make(&self, config: stream::Config) -> Result<Stream, Trouble> {
        self.context.create_stream(config).await.map_err(|error| {
            use async_nats::jetstream::context::CreateStreamErrorKind as Kind;
            match error.kind() {
                // Another node was quicker: it is found at the next look.
                Kind::JetStream(kind) if kind.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                    Trouble::Passing(String::new())
                }
                // Servers that have not found each other yet, or of which one is away.
                Kind::JetStream(kind) if kind.error_code() == ErrorCode::CLUSTER_NO_PEERS => {
                    Trouble::Passing(kind.to_string())
                }
                Kind::JetStream(kind) => match kind.code() {
                    500..=599
                        if kind.error_code() != ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED
                            && kind.error_code() != ErrorCode::STORAGE_RESOURCES_EXCEEDED =>
                    {
                        Trouble::Passing(error.to_string())
                    }
                    _ => self.not_made(kind.to_string()),
                },
                _ => Trouble::Passing(error.to_string()),
            }
        })
    }

    fn not_made(&self, error: impl Display) -> Trouble {
        let name = self.settings.name.clone();
        Trouble::Final(Refusal::NotMade {
            name,
            error: error.to_string(),
        })
    }

    fn config(&self) -> Result<stream::Config, Trouble> {
        let settings = &self.settings;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Trouble::Passing(error.to_string()))?;
        let metadata = [
            (PARTITIONS, settings.partitions.to_string()),
            (HISTORY, settings.history.to_string()),
            (LOG_ID, format!("{:032x}", u128::from_le_bytes(id))),
        ];
        Ok(stream::Config {
            name: self.stream_name(),
            subjects: vec![format!("shardcast.{}.log.*", settings.name)],
            description: Some("What happens in a cluster of shardcast, in its order".to_owned()),
            storage: match settings.storage {
                Storage::File => StorageType::File,
                Storage::Memory => StorageType::Memory,
            },
            num_replicas: settings.replicas,
            max_bytes: i64::try_from(settings.bytes_max).unwrap_or(i64::MAX),
            // Full, it takes no more: an entry that went would be missing from the state of a node that starts.
            discard: DiscardPolicy::New,
            duplicate_window: DUPLICATE_WINDOW,
            deny_delete: true,
            metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
            ..stream::Config::default()
        })
    }

    /// Holds what is there against what this node would have made.
    fn compare(&self, ours: &stream::Config, theirs: &stream::Config) -> Result<(), Trouble> {
        let storage = |config: &stream::Config| match config.storage {
            StorageType::File => "file".to_owned(),
            StorageType::Memory => "memory".to_owned(),
        };
        let noted = |config: &stream::Config, key: &str| {
            config
                .metadata
                .get(key)
                .cloned()
                .unwrap_or_else(|| "(nothing: it is no log of shardcast)".to_owned())
        };
        let settings = |config: &stream::Config| {
            [
                ("CLUSTER_PARTITIONS", noted(config, PARTITIONS)),
                ("RING_BUFFER_SIZE", noted(config, HISTORY)),
                ("CLUSTER_REPLICAS", config.num_replicas.to_string()),
                ("CLUSTER_STORAGE", storage(config)),
                ("CLUSTER_LOG_BYTES_MAX", config.max_bytes.to_string()),
            ]
        };
        for ((what, theirs), (_, ours)) in settings(theirs).into_iter().zip(settings(ours)) {
            if theirs != ours {
                let name = self.settings.name.clone();
                return Err(Trouble::Final(Refusal::Other {
                    name,
                    what,
                    theirs,
                    ours,
                }));
            }
        }
        Ok(())
    }

    pub(crate) fn note(&self, state: &stream::State) {
        self.status.first.set(state.first_sequence);
        self.status.last.set(state.last_sequence);
        self.status.bytes.set(state.bytes);
    }

    /// Appends an entry, which has a number that no other of this node has. It is tried again, under one name, until it
    /// is confirmed or [`Settings::timeout`] has passed: it is stored once, whatever got lost. Entries of one partition
    /// are stored in their order if each waits for the one before.
    pub async fn append(
        &self,
        partition: usize,
        number: u64,
        entry: Bytes,
    ) -> Result<u64, AppendError> {
        if entry.len() > self.entry_bytes_max() {
            return Err(AppendError::TooLarge);
        }
        self.status.appending.add(1);
        let appended = self.try_append(partition, number, entry).await;
        self.status.appending.sub(1);
        match appended {
            Ok(_) => self.status.appended.add(1),
            Err(_) => self.status.failed.add(1),
        }
        appended
    }

    async fn try_append(
        &self,
        partition: usize,
        number: u64,
        entry: Bytes,
    ) -> Result<u64, AppendError> {
        let deadline = Instant::now() + self.settings.timeout;
        let subject = format!("shardcast.{}.log.{partition}", self.settings.name);
        let id = format!("{:016x}-{number}", self.node);
        let mut heard = "there is no connection to NATS".to_owned();
        loop {
            // What is sent without a connection is kept by the client, without a bound in time.
            if self.status.is_connected() {
                let message = PublishMessage::build()
                    .payload(entry.clone())
                    .message_id(&id);
                let attempt = async {
                    self.context
                        .send_publish(subject.clone(), message)
                        .await?
                        .await
                };
                let until = deadline.min(Instant::now() + ATTEMPT);
                match timeout_at(until, attempt).await {
                    Ok(Ok(ack)) => return Ok(ack.sequence),
                    Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                        return Err(AppendError::TooLarge);
                    }
                    Ok(Err(error)) => heard = error.to_string(),
                    Err(_) => "NATS did not confirm it".clone_into(&mut heard),
                }
                self.status.retried.add(1);
            }
            if Instant::now() + PAUSE >= deadline {
                sleep(deadline - Instant::now().min(deadline)).await;
                return Err(AppendError::TimedOut(heard));
            }
            sleep(PAUSE).await;
        }
    }

    /// Lets go of all entries before `first`.
    pub async fn purge_before(&self, first: u64) -> Result<(), async_nats::Error> {
        let stream = self.context.get_stream(self.stream_name()).await?;
        stream.purge().sequence(first).await?;
        self.note(&stream.get_info().await?.state);
        Ok(())
    }

    /// Reads all entries from `next` on, the first of which has number 1.
    pub fn read_from(&self, next: u64) -> Reader {
        Reader::new(self.clone(), next)
    }

    /// Tells other nodes that this one is there, counts them, and looks at how large the log is, for ever.
    pub async fn beat(&self) {
        let subject = format!("shardcast.{}.nodes", self.settings.name);
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard: AHashMap<u64, Instant> = AHashMap::new();
        loop {
            let Ok(mut others) = self.client.subscribe(subject.clone()).await else {
                sleep(BEAT).await;
                continue;
            };
            loop {
                tokio::select! {
                    other = others.next() => {
                        let Some(other) = other else { break };
                        if let Ok(node) = <[u8; 8]>::try_from(&*other.payload) {
                            heard.insert(u64::from_le_bytes(node), Instant::now());
                        }
                    }
                    _ = beats.tick() => {
                        if self.status.is_connected() {
                            let node = Bytes::copy_from_slice(&self.node.to_le_bytes());
                            // Nobody misses one that is lost.
                            drop(self.client.publish(subject.clone(), node).await);
                            if let Ok(stream) = self.context.get_stream(self.stream_name()).await {
                                self.note(&stream.cached_info().state);
                            }
                        }
                        heard.insert(self.node, Instant::now());
                        heard.retain(|_, at| at.elapsed() < BEAT * BEATS_MISSED_MAX);
                        self.status.nodes.set(heard.len() as u64);
                    }
                }
            }
        }
    }
}

/// Notes that a log carries.
const PARTITIONS: &str = "shardcast-partitions";
const HISTORY: &str = "shardcast-history";
const LOG_ID: &str = "shardcast-log";

/// A log that can be read and appended to.
#[derive(Debug, Clone, Copy)]
pub struct Prepared {
    /// A number that no other log has.
    pub seed: u64,
    /// The last entry that it has.
    pub last: u64,
    /// The first entry that it still has; one more than the last if it has none.
    pub first: u64,
}

impl Prepared {
    /// A number for what comes to be in group `group` of entry `entry`: the same on every node, and another for all
    /// others of this log, and of one that was made anew.
    pub fn birth(&self, entry: u64, group: usize) -> u64 {
        // One-to-one for entries below 2⁴⁸ with less than 2¹⁶ groups, which an entry of 64 KiB cannot have more of.
        mix(self.seed ^ (entry << 16 | group as u64))
    }
}

enum Trouble {
    Final(Refusal),
    /// Why, unless that is nothing to speak of.
    Passing(String),
}
