//! A file of keys, and brokers that read it.

use std::fmt::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::http::Response;

/// A key of `API_KEYS`, which opens everything.
pub(crate) const ROOT: (&str, &str) = ("x-api-key", "root-key");

/// A folder that is gone with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shardcast-it-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The table of a key whose name is the key without `-key` at its end.
pub(crate) fn key(key: &str, further: &str) -> String {
    let name = key.trim_end_matches("-key");
    let digest = Sha256::digest(key);
    let hex = digest.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes all");
        hex
    });
    format!("[[key]]\nname = \"{name}\"\nsha256 = \"{hex}\"\n{further}\n")
}

/// `API_KEYS_FILE`.
pub(crate) struct KeyFile {
    folder: Folder,
}

impl KeyFile {
    pub(crate) fn new(text: &str) -> Self {
        let file = Self {
            folder: Folder::new(),
        };
        file.rewrite(text);
        file
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path("keys.toml")
    }

    /// Writes another file and puts it in the place of this one, as careful programs do.
    pub(crate) fn replace(&self, text: &str) {
        let new = self.folder.path("new");
        std::fs::write(&new, text).expect("a writable folder");
        std::fs::rename(new, self.path()).expect("a writable folder");
    }

    /// Writes it in its place, as others do.
    pub(crate) fn rewrite(&self, text: &str) {
        std::fs::write(self.path(), text).expect("a writable folder");
    }

    /// Makes the path a link to a folder that is a link, as Kubernetes does, and swaps that.
    pub(crate) fn swap(&self, version: &str, text: &str) {
        let data = self.folder.path("..data");
        let real = self.folder.path(version);
        std::fs::create_dir_all(&real).expect("a writable folder");
        std::fs::write(real.join("keys.toml"), text).expect("a writable folder");
        let new = self.folder.path("..data_new");
        symlink(real, &new).expect("a writable folder");
        std::fs::rename(&new, &data).expect("a writable folder");
        if !self.path().is_symlink() {
            std::fs::remove_file(self.path()).expect("it is there");
            symlink(data.join("keys.toml"), self.path()).expect("a writable folder");
        }
    }

    /// A broker that reads it, beside the one key that opens everything.
    pub(crate) fn broker(&self, further: &[(&str, &str)]) -> Broker {
        let path = self.path();
        let settings = [
            ("AUTH_ENABLED", "true"),
            ("API_KEYS", ROOT.1),
            ("API_KEYS_FILE", text(&path)),
        ];
        Broker::start(&[&settings, further].concat())
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

/// A connection of `key`.
pub(crate) async fn connect(broker: &Broker, key: &str) -> Client {
    Client::connect_with(broker, "/ws", &[("x-api-key", key)]).await
}

/// One REST call of `key`.
pub(crate) async fn call(
    broker: &Broker,
    key: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Response {
    let headers = [("X-API-Key", key)];
    broker.request(method, path, &headers, body).await
}

/// Makes topics.
pub(crate) async fn create(broker: &Broker, topics: &[&str]) {
    for topic in topics {
        let body = json!({ "name": topic }).to_string();
        let created = call(broker, ROOT.1, "POST", "/topics", &body).await;
        assert_eq!(created.status, 201, "{}", created.body);
    }
}

/// The only thing that may come is this error, and then close 1008.
pub(crate) async fn assert_ended(client: &mut Client, code: &str, text: &str) {
    let (close, before) = client.expect_close().await;
    let told: Vec<&Value> = before.iter().map(|message| &message["error"]).collect();
    assert_eq!(told, [&json!({"code": code, "message": text})]);
    assert_eq!(close, 1008);
}
