//! Settings that do not fit together, or not to the cluster.

use super::Cluster;
use crate::harness::broker::run_to_end;

#[tokio::test]
async fn a_node_with_other_settings_than_the_cluster_does_not_start() {
    let Some(cluster) = Cluster::new() else {
        return;
    };
    drop(cluster.node(&[]).await);
    for (name, value, words) in [
        (
            "CLUSTER_PARTITIONS",
            "32",
            "CLUSTER_PARTITIONS=64, and this node has 32",
        ),
        (
            "RING_BUFFER_SIZE",
            "5",
            "RING_BUFFER_SIZE=100, and this node has 5",
        ),
        (
            "CLUSTER_STORAGE",
            "memory",
            "CLUSTER_STORAGE=file, and this node has memory",
        ),
        (
            "CLUSTER_LOG_BYTES_MAX",
            "2MiB",
            "CLUSTER_LOG_BYTES_MAX=1073741824, and this node has 2097152",
        ),
    ] {
        let own = [
            ("CLUSTER_URL", &*cluster.url),
            ("CLUSTER_NAME", &*cluster.name),
            (name, value),
        ];
        let refusal = run_to_end(&own, &[]);
        assert_eq!(refusal.code, 2, "{}", refusal.stderr);
        assert!(refusal.stderr.contains(words), "{}", refusal.stderr);
    }
}

#[test]
fn what_is_no_cluster_is_said_without_its_password() {
    for (name, value, words) in [
        (
            "CLUSTER_URL",
            "nats://me:geheim@",
            "CLUSTER_URL=(hidden): must be addresses like nats://",
        ),
        (
            "CLUSTER_URL",
            "http://host:4222",
            "CLUSTER_URL=(hidden): must be addresses like nats://",
        ),
        ("CLUSTER_NAME", "a.b", "1 to 32 letters"),
        (
            "CLUSTER_REPLICAS",
            "2",
            "CLUSTER_REPLICAS=2: must be 1, 3 or 5",
        ),
        ("CLUSTER_TIMEOUT_MS", "0", "100 to 60000"),
        ("CLUSTER_STORAGE", "tape", "file or memory"),
        ("CLUSTER_CERT", "a.pem", "CLUSTER_KEY"),
    ] {
        let refusal = run_to_end(&[(name, value)], &[]);
        assert_eq!(refusal.code, 2, "{}", refusal.stderr);
        assert!(refusal.stderr.contains(words), "{}", refusal.stderr);
        assert!(!refusal.stderr.contains("geheim"), "{}", refusal.stderr);
    }
    let few = [
        ("CLUSTER_URL", "nats://localhost:4222"),
        ("CLUSTER_PARTITIONS", "2"),
        ("SHARDS", "3"),
    ];
    let refusal = run_to_end(&few, &[]);
    assert!(
        refusal
            .stderr
            .contains("at least as many as there are shards, 3"),
        "{}",
        refusal.stderr
    );
    let missing = [
        ("CLUSTER_URL", "nats://localhost:4222"),
        ("CLUSTER_CREDS_FILE", "/none/at/all"),
    ];
    let refusal = run_to_end(&missing, &[]);
    assert_eq!(refusal.code, 2);
    assert!(
        refusal.stderr.contains("CLUSTER_CREDS_FILE: /none/at/all"),
        "{}",
        refusal.stderr
    );
}
