//! The client of shardcast, a publish/subscribe broker over `WebSockets`.
//!
//! ```no_run
//! use shardcast_client::{Client, Item, Options, Publish, Subscribe};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Options::new("ws://localhost:8080/ws")).await?;
//! let mut orders = client.subscribe("orders", Subscribe::default())?;
//! orders.ready().await?;
//! client.publish("orders", &serde_json::json!({"id": 17}), Publish::default()).await?;
//! while let Some(item) = orders.next().await {
//!     match item? {
//!         Item::Event(event) => println!("{} {}", event.seq, event.payload),
//!         Item::Gap(gap) => println!("{} to {:?} are lost", gap.first, gap.last),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - **Order, and nothing twice**: each subscription sees the events of a topic in the order of their `seq`, each
//!   at most once, over as many connections as it takes.
//! - **What is missing is told**: each loss is a [`Gap`] with its exact range, in its place between two events.
//! - **Nothing lost on the way in, nothing doubled**: a message that was sent and not answered is sent again under
//!   its id with `"once":true`, until the broker answers.
//! - **Bounded**: what waits for a consumer, and what waits for the broker, has a limit in messages and in bytes.
//! - **It comes back** by itself, with a random pause that grows, or when the broker says.
//!
//! [`link`] is one connection without any of that, [`url`] and [`tls`] are the way to a broker: for programs
//! that want to speak the protocol by hand, as the command line of the broker does.

pub mod link;
pub mod tls;
pub mod url;

mod backoff;
mod client;
mod command;
mod conversation;
mod credentials;
mod error;
mod event;
mod followed;
mod frame;
mod hearing;
mod inbox;
mod notice;
mod options;
mod outbox;
mod pattern;
mod shared;
mod subscription;
mod supervisor;
mod tracker;

pub use client::{Client, ClientState, Publish};
pub use credentials::Secret;
pub use error::Error;
pub use event::{Event, Gap, Item, Position, Reason, Receipt};
pub use notice::{Notice, OnNotice};
pub use options::{Limits, Options};
pub use pattern::{is_pattern, matches};
pub use subscription::{Since, Subscribe, Subscription, SubscriptionState};
pub use uuid::Uuid;

#[cfg(test)]
mod tests;
