//! The log on a real `nats-server`, which is ended and started again.

mod nats;

use std::time::Duration;

use ahash::AHashSet;
use bytes::Bytes;
use nats::Nats;
use shardcast_cluster::entry::{Creation, Draft, Entry, Kind, Message};
use shardcast_cluster::log::{AppendError, Log, Refusal};
use shardcast_cluster::reader::{Gone, Read, Reader, Stored};
use shardcast_cluster::settings::{Credentials, Settings, Storage};
use tokio::time::{Instant, sleep, timeout};

fn settings(nats: &Nats) -> Settings {
    Settings {
        urls: nats.url(),
        credentials: Credentials::default(),
        name: "test".to_owned(),
        partitions: 8,
        history: 100,
        replicas: 1,
        storage: Storage::File,
        bytes_max: 1 << 26,
        timeout: Duration::from_secs(2),
    }
}

async fn log(settings: Settings) -> Log {
    let log = Log::connect(settings).await.expect("good settings");
    log.prepare().await.expect("a log like ours, or none");
    log
}

fn entry(node: u64, number: u64) -> Bytes {
    let mut draft = Draft::new(node, number);
    let payload = number.to_string();
    let message = Message {
        topic: "t",
        id: "",
        payload: &payload,
        once: false,
    };
    draft.messages(Kind::Messages, Creation::Never, [message].into_iter());
    draft.finish()
}

async fn read(reader: &mut Reader) -> Stored {
    loop {
        let read = timeout(Duration::from_secs(30), reader.next())
            .await
            .expect("something to read");
        if let Read::Entry(stored) = read.expect("nothing is purged") {
            return stored;
        }
    }
}

#[tokio::test]
async fn what_is_appended_is_read_by_all_in_one_order() {
    let Some(nats) = Nats::start() else { return };
    let (one, other) = (log(settings(&nats)).await, log(settings(&nats)).await);
    let mut readers = [one.read_from(1), other.read_from(1)];
    for number in 0..20 {
        let log = [&one, &other][usize::try_from(number % 2).expect("small")];
        let place = log
            .append(3, number, entry(log.node(), number))
            .await
            .expect("NATS is there");
        assert_eq!(place, number + 1);
    }
    for number in 0..20 {
        let [first, second] = &mut readers;
        let (first, second) = (read(first).await, read(second).await);
        assert_eq!(
            (first.place, &first.bytes, first.unix_ms),
            (second.place, &second.bytes, second.unix_ms)
        );
        assert_eq!(Entry::parse(&first.bytes).expect("ours").number, number);
    }
    assert_eq!(read(&mut one.read_from(15)).await.place, 15);
}

#[tokio::test]
async fn a_repeat_is_stored_once() {
    let Some(nats) = Nats::start() else { return };
    let log = log(settings(&nats)).await;
    let first = log.append(0, 7, entry(1, 7)).await.expect("NATS is there");
    assert_eq!(log.append(0, 7, entry(1, 7)).await, Ok(first));
    assert_eq!(log.append(0, 8, entry(1, 8)).await, Ok(first + 1));
}

#[tokio::test]
async fn other_settings_are_refused_by_name() {
    let Some(nats) = Nats::start() else { return };
    let ours = settings(&nats);
    log(ours.clone()).await;
    let others = [
        (
            "CLUSTER_PARTITIONS=8, and this node has 9",
            Settings {
                partitions: 9,
                ..ours.clone()
            },
        ),
        (
            "RING_BUFFER_SIZE=100, and this node has 5",
            Settings {
                history: 5,
                ..ours.clone()
            },
        ),
        (
            "CLUSTER_REPLICAS=1, and this node has 3",
            Settings {
                replicas: 3,
                ..ours.clone()
            },
        ),
        (
            "CLUSTER_STORAGE=file, and this node has memory",
            Settings {
                storage: Storage::Memory,
                ..ours.clone()
            },
        ),
        (
            "CLUSTER_LOG_BYTES_MAX=67108864, and this node has 9",
            Settings {
                bytes_max: 9,
                ..ours.clone()
            },
        ),
    ];
    for (words, other) in others {
        let other = Log::connect(other).await.expect("it connects");
        let refusal = other
            .prepare()
            .await
            .expect_err("it is another")
            .to_string();
        assert!(refusal.contains(words), "{refusal}");
    }
    let three = Settings {
        name: "three".to_owned(),
        replicas: 3,
        ..ours
    };
    let three = Log::connect(three)
        .await
        .expect("it connects")
        .prepare()
        .await;
    assert!(matches!(three, Err(Refusal::NotMade { .. })), "{three:?}");
}

#[tokio::test]
async fn too_large_and_too_much_are_said() {
    let Some(nats) = Nats::start() else { return };
    let log = log(Settings {
        bytes_max: 100_000,
        timeout: Duration::from_millis(300),
        ..settings(&nats)
    })
    .await;
    let large = Bytes::from(vec![0; log.entry_bytes_max() + 1]);
    assert_eq!(log.append(0, 1, large).await, Err(AppendError::TooLarge));
    for number in 2..20 {
        match log.append(0, number, Bytes::from(vec![0; 10_000])).await {
            Ok(_) => {}
            Err(AppendError::TimedOut(words)) => {
                return assert!(words.contains("maximum bytes"), "{words}");
            }
            Err(AppendError::TooLarge) => panic!("it is not"),
        }
    }
    panic!("the log has no bound");
}

#[tokio::test]
async fn nothing_is_missing_doubled_or_out_of_order_when_nats_is_killed() {
    let Some(mut nats) = Nats::start() else {
        return;
    };
    let log = log(Settings {
        timeout: Duration::from_secs(20),
        ..settings(&nats)
    })
    .await;
    let mut reader = log.read_from(1);
    let writers: Vec<_> = (0..4_u64)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                let until = Instant::now() + Duration::from_secs(3);
                let mut number = 0;
                while Instant::now() < until {
                    number += 1;
                    let partition = usize::try_from(writer).expect("small");
                    log.append(partition, writer << 32 | number, entry(writer, number))
                        .await
                        .expect("within twenty seconds");
                }
                number
            })
        })
        .collect();
    for _ in 0..2 {
        sleep(Duration::from_millis(700)).await;
        nats.kill();
        sleep(Duration::from_millis(300)).await;
        nats.up();
    }
    let mut last = Vec::new();
    for writer in writers {
        last.push(writer.await.expect("no writer panics"));
    }
    let mut next = [1; 4];
    for place in 1..=last.iter().sum() {
        let stored = read(&mut reader).await;
        assert_eq!(stored.place, place);
        let entry = Entry::parse(&stored.bytes).expect("ours");
        let next = &mut next[usize::try_from(entry.node).expect("small")];
        assert_eq!(
            entry.number, *next,
            "in the order of its partition, and once"
        );
        *next += 1;
    }
    assert!(last.iter().all(|last| *last > 20), "{last:?}");
    assert!(log.status().reconnects.value() >= 2);
}

#[tokio::test]
async fn without_nats_an_append_fails_in_time_and_the_next_one_works() {
    let Some(mut nats) = Nats::start() else {
        return;
    };
    let log = log(Settings {
        timeout: Duration::from_millis(500),
        ..settings(&nats)
    })
    .await;
    log.append(0, 1, entry(1, 1)).await.expect("NATS is there");
    nats.kill();
    let began = Instant::now();
    assert!(matches!(
        log.append(0, 2, entry(1, 2)).await,
        Err(AppendError::TimedOut(_))
    ));
    assert!(
        (400..1500).contains(&began.elapsed().as_millis()),
        "{:?}",
        began.elapsed()
    );
    nats.up();
    let number = (3..100).map(|number| (number, entry(1, number)));
    for (number, entry) in number {
        if log.append(0, number, entry).await.is_ok() {
            return;
        }
    }
    panic!("it never came back");
}

#[tokio::test]
async fn a_log_that_was_purged_or_made_anew_is_not_read_on() {
    let Some(nats) = Nats::start() else { return };
    let log = log(settings(&nats)).await;
    for number in 1..=9 {
        log.append(0, number, entry(1, number))
            .await
            .expect("NATS is there");
    }
    assert_eq!(
        log.read_from(12).next().await.expect_err("too short"),
        Gone::Shorter { last: 9, read: 11 }
    );
    log.purge_before(5).await.expect("NATS is there");
    assert_eq!(
        log.read_from(3).next().await.expect_err("purged"),
        Gone::Purged { first: 5, next: 3 }
    );
    assert_eq!(read(&mut log.read_from(5)).await.place, 5);
}

#[tokio::test]
async fn births_are_all_different() {
    let Some(nats) = Nats::start() else { return };
    let log = log(settings(&nats)).await;
    let prepared = log.prepare().await.expect("it is there");
    let births: AHashSet<_> = (1..500)
        .flat_map(|place| (0..20).map(move |group| prepared.birth(place, group)))
        .collect();
    assert_eq!(births.len(), 499 * 20);
    let again = log.prepare().await.expect("it is there");
    assert_eq!(prepared.birth(7, 3), again.birth(7, 3));
}
