//! The connection against a server of another make.

use shardcast_client::tls::Trust;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::cli::test_server::{Answer, TestServer};

use super::*;

async fn connect_error(settings: ClientSettings) -> String {
    connect(&settings)
        .await
        .expect_err("no connection")
        .to_string()
}

fn settings(url: &str) -> ClientSettings {
    ClientSettings {
        url: url.to_owned(),
        client_id: None,
        api_key: None,
        trust: Trust::default(),
        silence_max: Duration::from_secs(90),
    }
}

#[tokio::test]
async fn the_upgrade_carries_label_and_key() {
    let server = TestServer::start(|_| Vec::new()).await;
    let client_id = Some("a b&c".to_owned());
    let settings = ClientSettings {
        client_id,
        api_key: Some("hunter2".to_owned()),
        ..server.settings()
    };
    let (sender, receiver) = connect(&settings).await.expect("a server");
    close(sender, receiver).await;
    assert_eq!(
        server.requests(),
        [(
            "/ws?client_id=a%20b%26c".to_owned(),
            Some("hunter2".to_owned())
        )]
    );
}

#[tokio::test]
async fn pings_are_answered_and_not_handed_on() {
    let server = TestServer::start(|command| match command.as_u64() {
        Some(1) => vec![
            Answer::Ping("are you there"),
            Answer::Text("first".to_owned()),
        ],
        _ => vec![Answer::Text("second".to_owned()), Answer::Close(1000, "")],
    })
    .await;
    let (sender, mut receiver) = connect(&server.settings()).await.expect("a server");
    sender.send("1".to_owned()).await.expect("open");
    assert_eq!(&*receiver.next().await.expect("a message"), "first");
    sender.send("2".to_owned()).await.expect("open");
    assert_eq!(&*receiver.next().await.expect("a message"), "second");
    assert_eq!(server.pongs(), ["are you there"]);
    let closed = receiver.next().await.expect_err("closed");
    assert_eq!(
        closed.to_string(),
        "the server closed the connection (code 1000)"
    );
    assert!(receiver.next().await.is_err(), "it stays closed");
}

#[tokio::test]
async fn everything_sent_before_the_close_arrives() {
    let server = TestServer::start(|_| Vec::new()).await;
    let (sender, receiver) = connect(&server.settings()).await.expect("a server");
    for n in 0..1000 {
        sender.send(n.to_string()).await.expect("open");
    }
    close(sender, receiver).await;
    assert_eq!(server.commands().len(), 1000);
}

#[tokio::test]
async fn a_receiver_that_is_dropped_half_way_loses_nothing() {
    let server = TestServer::start(|_| {
        (0..100)
            .map(|n| Answer::Text("x".repeat(n * 1000)))
            .collect()
    })
    .await;
    let (sender, mut receiver) = connect(&server.settings()).await.expect("a server");
    sender.send("0".to_owned()).await.expect("open");
    let mut lengths = Vec::new();
    while lengths.len() < 100 {
        tokio::select! {
            biased;
            text = receiver.next() => lengths.push(text.expect("a message").len()),
            () = tokio::task::yield_now() => {}
        }
    }
    assert!(lengths.into_iter().eq((0..100).map(|n| n * 1000)));
}

#[tokio::test]
async fn no_server_is_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let error = connect_error(settings(&format!("ws://{address}/ws"))).await;
    assert!(
        error.starts_with(&format!("cannot connect to {address}: ")) && !error.contains('\n'),
        "{error}"
    );
}

#[tokio::test]
async fn a_refusal_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}/ws", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a client");
        let response = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        socket
            .write_all(response)
            .await
            .expect("a client that reads");
    });
    let error = connect_error(settings(&url)).await;
    assert!(error.contains("HTTP 503: it is shutting down"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_connecting() {
    let api_key = Some("a\nb".to_owned());
    let error = connect_error(ClientSettings {
        api_key,
        ..settings("ws://127.0.0.1:1/ws")
    })
    .await;
    assert_eq!(
        error,
        "the API key has characters that a header cannot carry"
    );
}

#[tokio::test]
async fn a_server_that_vanishes_is_told_from_one_that_closes() {
    let server = TestServer::start(|_| vec![Answer::Vanish]).await;
    let (sender, mut receiver) = connect(&server.settings()).await.expect("a server");
    sender.send("0".to_owned()).await.expect("open");
    let error = receiver.next().await.expect_err("gone").to_string();
    assert!(
        error.starts_with("the connection to the server was lost"),
        "{error}"
    );
}
