//! What is told beside the events, and a client that ends with its first connection.

use std::sync::{Arc, Mutex};

use shardcast_client::{Client, ClientState, Item, Notice, OnNotice, Options, Publish, Subscribe};

use crate::harness::{Broker, next, next_event, publish, quick, subscribed, until, within};

/// A client, and what it has been told.
async fn told_client(broker: &Broker, reconnect: bool) -> (Client, Arc<Mutex<Vec<Notice>>>) {
    let told = Arc::<Mutex<Vec<_>>>::default();
    let telling = Arc::clone(&told);
    let on_notice =
        OnNotice::from(move |notice| telling.lock().expect("nobody panics").push(notice));
    let connected = Client::connect(Options {
        reconnect,
        on_notice: Some(on_notice),
        limits: quick(),
        ..Options::new(broker.url())
    });
    let client = within("a connection", connected).await;
    (client.expect("it connects"), told)
}

async fn has_told(told: &Mutex<Vec<Notice>>, wanted: impl Fn(&Notice) -> bool) {
    until("the notice", async || {
        told.lock().expect("nobody panics").iter().any(&wanted)
    })
    .await;
}

#[tokio::test]
async fn a_topic_that_is_deleted_ends_who_wants_that_and_all_of_it_comes_before() {
    let broker = Broker::start();
    let (client, told) = told_client(&broker, true).await;
    let mut pattern = subscribed(&client, "*", Subscribe::default()).await;
    let wish = Subscribe {
        until_deleted: true,
        keep_text: true,
        ..Subscribe::default()
    };
    let mut events = subscribed(&client, "t", wish).await;
    publish(&client, "t", "a  b").await;
    publish(&client, "t", 2).await;
    broker.call("DELETE", "/topics/t", "").await;
    has_told(&told, |notice| {
        *notice == Notice::TopicDeleted("t".to_owned())
    })
    .await;
    has_told(&told, |notice| {
        *notice == Notice::TopicCreated("t".to_owned())
    })
    .await;
    let first = next_event(&mut events).await;
    let text: serde_json::Value =
        serde_json::from_str(&first.text.expect("it was asked for")).expect("JSON");
    assert_eq!(
        (&text["seq"], &text["message"]["payload"]),
        (&1.into(), &"a  b".into())
    );
    assert_eq!(next_event(&mut events).await.seq, 2);
    assert!(within("the end", events.next()).await.is_none());
    let Item::Event(event) = next(&mut pattern).await else {
        panic!("nothing is lost");
    };
    assert!(event.text.is_none());
    // Another topic of that name is for those who wait for one.
    publish(&client, "t", 3).await;
    assert_eq!(next_event(&mut pattern).await.seq, 2);
    assert_eq!(next_event(&mut pattern).await.seq, 1);
    let told = told.lock().expect("nobody panics");
    let at = |notice: &Notice| match notice {
        Notice::Subscribed { name, positions } if name == "t" => Some(positions.get("t")?.seq),
        _ => None,
    };
    assert_eq!(told.iter().find_map(at), Some(0));
}

#[tokio::test]
async fn one_that_does_not_reconnect_ends_with_its_connection() {
    let mut broker = Broker::start();
    let (once, _) = told_client(&broker, false).await;
    let (again, told) = told_client(&broker, true).await;
    let mut events = subscribed(&once, "t", Subscribe::default()).await;
    publish(&again, "t", 1).await;
    assert_eq!(next_event(&mut events).await.seq, 1);
    broker.kill();
    let ended = within("the end", events.next()).await;
    let error = ended.expect("an error").expect_err("it has ended");
    assert_eq!(error.code, "CONNECTION_LOST");
    assert!(within("the end", events.next()).await.is_none());
    assert_eq!(*once.state().borrow(), ClientState::Failed);
    let refused = once.publish("t", &2, Publish::default()).await;
    assert_eq!(
        refused.expect_err("there is no connection").code,
        "CONNECTION_LOST"
    );
    has_told(&told, |notice| {
        matches!(notice, Notice::Disconnected { .. })
    })
    .await;
    let never = Client::connect(Options {
        reconnect: false,
        limits: quick(),
        ..Options::new(broker.url())
    });
    let error = within("the end", never).await.expect_err("nobody is there");
    assert!(
        error.is_own() && error.message.starts_with("cannot connect to"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_under_way_when_the_only_connection_ends_is_told_why() {
    let mut broker = Broker::start();
    let (client, _) = told_client(&broker, false).await;
    publish(&client, "t", 1).await;
    broker.signal(rustix::process::Signal::STOP);
    let how = Publish {
        once: false,
        ..Publish::default()
    };
    let publishing = {
        let client = client.clone();
        tokio::spawn(async move { client.publish("t", &2, how).await })
    };
    tokio::task::yield_now().await;
    broker.kill();
    let answer = within("an answer", publishing)
        .await
        .expect("it does not panic");
    let error = answer.expect_err("nobody has answered");
    assert_eq!(error.code, "CONNECTION_LOST");
}
