//! What may stand between a client and its broker: cuts, and swallows.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How it treats its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Passes,
    /// Nothing that the broker says arrives.
    Swallows,
}

/// See the module.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    manner: watch::Sender<Manner>,
    cuts: watch::Sender<u64>,
}

impl Proxy {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = Self {
            port: listener.local_addr().expect("it is bound").port(),
            manner: watch::Sender::new(Manner::Passes),
            cuts: watch::Sender::new(0),
        };
        let (manner, cuts) = (proxy.manner.subscribe(), proxy.cuts.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (manner, mut cuts) = (manner.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(client, port, manner) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws", self.port)
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From now on nothing that the broker says arrives, or it does again.
    pub(crate) fn swallow(&self, swallows: bool) {
        let manner = if swallows {
            Manner::Swallows
        } else {
            Manner::Passes
        };
        self.manner.send_replace(manner);
    }
}

async fn pass(client: TcpStream, port: u16, manner: watch::Receiver<Manner>) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let there = async {
        tokio::io::copy(&mut from_client, &mut to_broker).await.ok();
    };
    let back = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from_broker.read(&mut bytes).await {
            let passes = *manner.borrow() == Manner::Passes;
            if passes && to_client.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    // One direction that ends ends both.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}
