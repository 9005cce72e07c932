//! Who a node is to NATS: each way that the settings offer, on a server that asks for it, and a wrong one beside it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::Cluster;
use crate::harness::broker::run_to_end;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::nats::Nats;
use crate::harness::tls::Authority;

/// Never to be seen.
const SECRET: &str = "geheim-7";

/// A NATS with this configuration, which lies in the folder of `files`.
fn cluster(files: &Authority, configuration: &str) -> Option<Cluster> {
    let file = files.write("nats.conf", configuration);
    Nats::start_with(&["-c", &file]).map(Cluster::on)
}

/// A node with `right` takes part, and one with `wrong` does not.
async fn assert_opens(
    cluster: &Cluster,
    right: &[(&str, &str)],
    wrong: &[(&str, &str)],
    words: &str,
) {
    let node = cluster.node(right).await;
    node.create_topic("t").await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.publish("t", 1).await["seq"], 1);
    assert!(!node.log().contains(SECRET), "{}", node.log());
    assert_stays_outside(cluster, wrong, words).await;
}

/// A node with these settings does not take part, says so in `words`, and shows no secret.
async fn assert_stays_outside(cluster: &Cluster, wrong: &[(&str, &str)], words: &str) {
    let outside = cluster.start(wrong);
    eventually("a word of what is wrong", async || {
        outside.log().contains(words)
    })
    .await;
    assert_eq!(outside.get("/ready").await.status, 503);
    assert!(!outside.log().contains(SECRET), "{}", outside.log());
}

#[tokio::test]
async fn a_user_and_a_password_in_the_address() {
    let files = Authority::new();
    let asks = format!("authorization {{ user: me, password: \"{SECRET}@:/\" }}");
    let Some(mut cluster) = cluster(&files, &asks) else {
        return;
    };
    let bare = cluster.url.clone();
    cluster.url = bare.replace("nats://", &format!("nats://me:{SECRET}%40%3A%2F@"));
    let other = bare.replace("nats://", &format!("nats://me:{SECRET}-no@"));
    let wrong = [("CLUSTER_URL", &*other)];
    let words = "authorization violation: see the user in CLUSTER_URL";
    assert_opens(&cluster, &[], &wrong, words).await;
    // Which server answers is chance: two users would be two rights.
    let two = format!("{},{bare},{other}", cluster.url);
    let refusal = run_to_end(&[("CLUSTER_URL", &*two)], &[]);
    assert_eq!(refusal.code, 2, "{}", refusal.stderr);
    assert!(
        refusal.stderr.contains("must name the same"),
        "{}",
        refusal.stderr
    );
    assert!(!refusal.stderr.contains(SECRET), "{}", refusal.stderr);
}

#[tokio::test]
async fn a_token() {
    let files = Authority::new();
    let asks = format!("authorization {{ token: \"{SECRET}\" }}");
    let Some(cluster) = cluster(&files, &asks) else {
        return;
    };
    let other = format!("{SECRET}-no");
    let right = [("CLUSTER_TOKEN", SECRET)];
    let wrong = [("CLUSTER_TOKEN", &*other)];
    let words = "authorization violation: see CLUSTER_TOKEN";
    assert_opens(&cluster, &right, &wrong, words).await;
}

#[tokio::test]
async fn the_seed_of_an_nkey() {
    let files = Authority::new();
    let (user, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let users = format!("users: [ {{ nkey: {} }} ]", user.public_key());
    let Some(cluster) = cluster(&files, &format!("authorization {{ {users} }}")) else {
        return;
    };
    let seed = |of: &KeyPair| of.seed().expect("it was made here");
    let right = files.write("right.nk", &format!("{}\n", seed(&user)));
    let wrong = files.write("wrong.nk", &seed(&stranger));
    let (right, wrong) = (
        [("CLUSTER_NKEY_FILE", &*right)],
        [("CLUSTER_NKEY_FILE", &*wrong)],
    );
    let words = "authorization violation: see CLUSTER_NKEY_FILE";
    assert_opens(&cluster, &right, &wrong, words).await;
}

/// A JWT as NATS has them.
fn signed(by: &KeyPair, name: &str, of: &KeyPair, kind: &str, more: Value) -> String {
    let mut nats = more;
    nats["type"] = kind.into();
    nats["version"] = 2.into();
    let claims = json!({
        "jti": name, "iat": 1_700_000_000, "iss": by.public_key(), "name": name,
        "sub": of.public_key(), "nats": nats,
    });
    let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = parts.join(".");
    let signature = by.sign(text.as_bytes()).expect("it has its seed");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn creds(jwt: &str, user: &KeyPair) -> String {
    let seed = user.seed().expect("it was made here");
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

#[tokio::test]
async fn a_file_of_credentials() {
    let files = Authority::new();
    let operator = KeyPair::new_operator();
    let (account, system) = (KeyPair::new_account(), KeyPair::new_account());
    let limits = |storage: i64| {
        let mut limits = json!({"wildcards": true});
        for name in [
            "subs", "data", "payload", "imports", "exports", "conn", "leaf",
        ] {
            limits[name] = (-1).into();
        }
        for name in ["mem_storage", "disk_storage", "streams", "consumer"] {
            limits[name] = storage.into();
        }
        json!({"limits": limits, "default_permissions": {"pub": {}, "sub": {}}})
    };
    let accounts = [(&account, "APP", -1), (&system, "SYS", 0)].map(|(of, name, storage)| {
        let jwt = signed(&operator, name, of, "account", limits(storage));
        format!("{}: {jwt}", of.public_key())
    });
    let asks = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n{}\n}}\n",
        signed(&operator, "op", &operator, "operator", json!({})),
        system.public_key(),
        accounts.join("\n"),
    );
    let Some(cluster) = cluster(&files, &asks) else {
        return;
    };
    let user = KeyPair::new_user();
    let rights = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
    let jwt = signed(&account, "node", &user, "user", rights.clone());
    let right = files.write("right.creds", &creds(&jwt, &user));
    // Of an account that the operator does not know.
    let stranger = KeyPair::new_account();
    let jwt = signed(&stranger, "node", &user, "user", rights);
    let wrong = files.write("wrong.creds", &creds(&jwt, &user));
    let (right, wrong) = (
        [("CLUSTER_CREDS_FILE", &*right)],
        [("CLUSTER_CREDS_FILE", &*wrong)],
    );
    let words = "authorization violation: see CLUSTER_CREDS_FILE";
    assert_opens(&cluster, &right, &wrong, words).await;
}

#[tokio::test]
async fn certificates_of_both_sides() {
    let files = Authority::new();
    for name in ["server", "node"] {
        let signed = files.sign(name);
        files.write(&format!("{name}.pem"), &signed.cert);
        files.write(&format!("{name}.key"), &signed.key);
    }
    let asks = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        files.setting("server.pem"),
        files.setting("server.key"),
        files.setting("ca.pem"),
    );
    let Some(mut cluster) = cluster(&files, &asks) else {
        return;
    };
    cluster.url = cluster.url.replace("nats://", "tls://");
    let (ca, cert) = (files.setting("ca.pem"), files.setting("node.pem"));
    let key = files.setting("node.key");
    let trusts = ("CLUSTER_CA", &*ca);
    let shows = [("CLUSTER_CERT", &*cert), ("CLUSTER_KEY", &*key)];
    let right = [trusts, shows[0], shows[1]];
    // Who does not know the server, and whom the server does not know.
    let words = "see CLUSTER_CA, CLUSTER_CERT, CLUSTER_KEY";
    assert_opens(&cluster, &right, &shows, words).await;
    assert_stays_outside(&cluster, &[trusts], words).await;
    // The authorities of the machine count where no others are named, and not beside others.
    let machine = [("SSL_CERT_FILE", &*ca), shows[0], shows[1]];
    drop(cluster.node(&machine).await);
    let stranger = Authority::new();
    let other = stranger.setting("ca.pem");
    let others = [&machine[..], &[("CLUSTER_CA", &*other)]].concat();
    assert_stays_outside(&cluster, &others, words).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_stops_the_start() {
    let files = Authority::new();
    let signed = files.sign("node");
    let (missing, garbled) = (
        files.setting("missing"),
        files.write("garbled", &format!("{SECRET}\n")),
    );
    let (cert, key) = (
        files.write("cert.pem", &signed.cert),
        files.write("key.pem", &signed.key),
    );
    for name in [
        "CLUSTER_CREDS_FILE",
        "CLUSTER_NKEY_FILE",
        "CLUSTER_CA",
        "CLUSTER_CERT",
        "CLUSTER_KEY",
    ] {
        for file in [&missing, &garbled] {
            let mut settings = vec![("CLUSTER_URL", "nats://127.0.0.1:1")];
            if name == "CLUSTER_CERT" || name == "CLUSTER_KEY" {
                settings.extend([("CLUSTER_CERT", &*cert), ("CLUSTER_KEY", &*key)]);
            }
            settings.push((name, file));
            let refusal = run_to_end(&settings, &[]);
            assert_eq!(refusal.code, 2, "{name}: {}", refusal.stderr);
            let says = refusal.stderr.contains(&format!("{name}: {file}: "));
            assert!(says, "{name}: {}", refusal.stderr);
            assert!(!refusal.stderr.contains(SECRET), "{}", refusal.stderr);
        }
    }
}
