//! An entry that NATS has sent into a connection that ended, with nothing behind it that would show that it is missing.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Cluster;
use crate::harness::client::Client;
use crate::harness::eventually;

/// A way to a server that can be told to swallow what the server says, and to end.
struct Way {
    port: u16,
    swallowed: Arc<Mutex<Vec<u8>>>,
    swallows: watch::Sender<bool>,
    ends: watch::Sender<u64>,
}

impl Way {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let way = Self {
            port: listener.local_addr().expect("it is bound").port(),
            swallowed: Arc::default(),
            swallows: watch::Sender::new(false),
            ends: watch::Sender::new(0),
        };
        let (swallows, ends) = (way.swallows.subscribe(), way.ends.subscribe());
        let swallowed = Arc::clone(&way.swallowed);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&server).await.expect("it is there");
                let (swallows, swallowed) = (swallows.clone(), Arc::clone(&swallowed));
                let mut ends = ends.clone();
                ends.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(near, far, swallows, &swallowed) => {}
                        _ = ends.changed() => {}
                    }
                });
            }
        });
        way
    }

    fn has_swallowed(&self, text: &str) -> bool {
        let swallowed = self.swallowed.lock().expect("nobody panics in it");
        String::from_utf8_lossy(&swallowed).contains(text)
    }
}

async fn pass(
    near: TcpStream,
    far: TcpStream,
    swallows: watch::Receiver<bool>,
    swallowed: &Mutex<Vec<u8>>,
) {
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
        (near.into_split(), far.into_split());
    let back = async {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_far.read(&mut bytes).await {
            if *swallows.borrow() {
                let mut swallowed = swallowed.lock().expect("nobody panics in it");
                swallowed.extend_from_slice(&bytes[..read]);
            } else if to_near.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_near, &mut to_far) => {}
        () = back => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_entry_of_the_log_is_not_missed_when_it_went_into_a_connection_that_ended() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    let way = Way::to(cluster.url.trim_start_matches("nats://").to_owned()).await;
    let near = cluster.node(&[]).await;
    let url = format!("nats://127.0.0.1:{}", way.port);
    let far = cluster.node(&[("CLUSTER_URL", &url)]).await;
    near.create_topic("t").await;
    cluster.level(&[&near, &far]).await;
    let mut reader = Client::subscribed(&far, "t").await;
    way.swallows.send_replace(true);
    let mut publisher = Client::connect(&near).await;
    publisher.publish("t", "the last").await;
    eventually("the entry on its way", async || {
        way.has_swallowed("the last")
    })
    .await;
    way.swallows.send_replace(false);
    way.ends.send_modify(|ends| *ends += 1);
    let event = reader.expect_event("t").await;
    assert_eq!(event["message"]["payload"], "the last");
    cluster.level(&[&near, &far]).await;
}
