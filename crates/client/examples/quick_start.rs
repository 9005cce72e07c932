//! A subscription, a publish, an event.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is run at a terminal"
)]

use serde_json::{Value, json};
use shardcast_client::{Client, Error, Item, Options, Publish, Subscribe};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    let url = url.as_deref().unwrap_or("ws://localhost:8080/ws");
    let client = Client::connect(Options::new(url)).await?;
    let mut orders = client.subscribe("orders", Subscribe::default())?;
    orders.ready().await?;
    let order = json!({"id": 17, "state": "paid"});
    let receipt = client.publish("orders", &order, Publish::default()).await?;
    while let Some(item) = orders.next().await {
        match item? {
            Item::Event(event) => {
                let payload: Value = event.json().expect("any JSON is a value");
                println!("{} {payload}", event.seq == receipt.seq);
                break;
            }
            Item::Gap(gap) => eprintln!("{} events are lost", gap.count.unwrap_or(0)),
        }
    }
    client.close().await;
    Ok(())
}
