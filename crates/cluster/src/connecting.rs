//! The connection to NATS: where it is, and who a node is there.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::AHashMap;
use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::{Client, ConnectOptions, Event, Server, ServerAddr};
use nkeys::KeyPair;
use percent_encoding::percent_decode_str;

use crate::log::Refusal;
use crate::settings::{Credentials, Settings};
use crate::status::Status;

/// NATS is asked for a sign of life so often: one that is frozen is left after about twice that.
const PING: Duration = Duration::from_secs(2);

/// Begins to connect, and goes on trying for as long as it takes.
pub(crate) async fn connect(settings: &Settings, status: Arc<Status>) -> Result<Client, Refusal> {
    let urls = settings.urls.split(',').map(|url| url.trim().parse());
    // The errors would show the address, and with it a password.
    let urls: Result<Vec<ServerAddr>, _> = urls.collect();
    let urls = urls.map_err(|_| Refusal::Settings("CLUSTER_URL: it is no address".to_owned()))?;
    let mut options = options(settings, status).await?;
    if let Some((user, password)) = user(&urls)? {
        options = options.user_and_password(user, password);
    }
    options.connect(urls).await.map_err(|error| {
        let kind = error.kind();
        Refusal::Settings(format!("CLUSTER_URL: no connection can be made: {kind}"))
    })
}

/// Who a node is, where an address says so: the client of NATS takes it from nowhere there. The first counts for
/// all, and others must be the same: which server answers is chance.
fn user(urls: &[ServerAddr]) -> Result<Option<(String, String)>, Refusal> {
    let mut users = urls.iter().filter(|url| url.has_user_pass());
    let Some(first) = users.next() else {
        return Ok(None);
    };
    let of = |url: &ServerAddr| {
        let text = |part: Option<&str>| {
            let decoded = percent_decode_str(part.unwrap_or_default()).decode_utf8();
            decoded
                .map(std::borrow::Cow::into_owned)
                .unwrap_or_default()
        };
        (text(url.username()), text(url.password()))
    };
    let user = of(first);
    if users.any(|other| of(other) != user) {
        return Err(Refusal::Settings(
            "CLUSTER_URL: all addresses that name a user must name the same, with the same password"
                .to_owned(),
        ));
    }
    Ok(Some(user))
}

/// How to connect.
async fn options(settings: &Settings, status: Arc<Status>) -> Result<ConnectOptions, Refusal> {
    let of = &settings.credentials;
    let mut options = ConnectOptions::new();
    if let Some(token) = &of.token {
        options = options.token(token.clone());
    }
    if let Some(path) = &of.creds_file {
        let read = options.credentials_file(path).await;
        options = read.map_err(|error| unusable("CLUSTER_CREDS_FILE", path, &error))?;
    }
    if let Some(path) = &of.nkey_file {
        options = options.nkey(seed(path)?);
    }
    // Read here too: the client of NATS would find out at each connection, and where there is no TLS never.
    if let Some(path) = &of.ca_file {
        certificates("CLUSTER_CA", path)?;
        options = options.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &of.certificate {
        certificates("CLUSTER_CERT", certificate)?;
        PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("CLUSTER_KEY", key, &error))?;
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let troubles = Arc::new(Troubles::new(of));
    let told = Arc::clone(&troubles);
    let noted = move |event| {
        let (status, told) = (Arc::clone(&status), Arc::clone(&told));
        async move { note_event(&status, &told, &event) }
    };
    Ok(options
        .name(format!("shardcast {}", settings.name))
        .ping_interval(PING)
        .connection_timeout(Duration::from_secs(2))
        .retry_on_initial_connect()
        .reconnect_delay_callback(|attempts| Duration::from_millis(50 << attempts.min(5)))
        // It chooses none. It is where the client says why the servers could not be had before; what it tells as an
        // event has no cause.
        .reconnect_to_server_callback(move |servers, _| {
            let troubles = Arc::clone(&troubles);
            async move {
                troubles.tell(&servers);
                None
            }
        })
        .event_callback(noted))
}

fn unusable(setting: &str, path: &Path, error: &dyn Display) -> Refusal {
    Refusal::Settings(format!("{setting}: {}: {error}", path.display()))
}

/// The seed of an `NKey`, and nothing around it.
fn seed(path: &Path) -> Result<String, Refusal> {
    let unusable = |error: &dyn Display| unusable("CLUSTER_NKEY_FILE", path, error);
    let seed = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    let seed = seed.trim();
    KeyPair::from_seed(seed).map_err(|_| unusable(&"it is not the seed of an NKey"))?;
    Ok(seed.to_owned())
}

/// Fails unless there is at least one certificate in the file, and nothing else that is called one.
fn certificates(setting: &str, path: &Path) -> Result<(), Refusal> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if found.is_empty() => {
            Err(unusable(setting, path, &"there is no certificate in it"))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(unusable(setting, path, &error)),
    }
}

/// Why servers cannot be had: each reason is told once for as long as it is the same.
#[derive(Debug)]
struct Troubles {
    /// The settings that say who a node is.
    who: String,
    /// By server.
    told: Mutex<AHashMap<String, String>>,
}

impl Troubles {
    fn new(of: &Credentials) -> Self {
        let given = [
            ("CLUSTER_TOKEN", of.token.is_some()),
            ("CLUSTER_CREDS_FILE", of.creds_file.is_some()),
            ("CLUSTER_NKEY_FILE", of.nkey_file.is_some()),
            ("CLUSTER_CERT", of.certificate.is_some()),
        ];
        let given = given.iter().filter(|(_, is_given)| *is_given);
        let mut given: Vec<_> = given.map(|(name, _)| *name).collect();
        given.push("the user in CLUSTER_URL");
        Self {
            who: given.join(", "),
            told: Mutex::default(),
        }
    }

    fn told(&self) -> MutexGuard<'_, AHashMap<String, String>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, servers: &[Server]) {
        let mut told = self.told();
        for server in servers {
            let Some(error) = &server.last_error else {
                continue;
            };
            let place = format!("{}:{}", server.addr.host(), server.addr.port());
            if told.get(&place) == Some(error) {
                continue;
            }
            tracing::warn!(
                "no connection to NATS at {place}: {error}{}",
                self.hint(error)
            );
            told.insert(place, error.clone());
        }
    }

    /// What in the settings may be wrong.
    fn hint(&self, error: &str) -> String {
        let is_about = |words: &[&str]| words.iter().any(|word| error.contains(word));
        if is_about(&["authorization violation", "failed signing nonce"]) {
            return format!(": see {}", self.who);
        }
        // What rustls says: of the other side's certificate, and what the other side says of ours.
        if is_about(&["TLS", "certificate", "alert"]) {
            return ": see CLUSTER_CA, CLUSTER_CERT, CLUSTER_KEY".to_owned();
        }
        String::new()
    }

    fn forget(&self) {
        self.told().clear();
    }
}

fn note_event(status: &Status, troubles: &Troubles, event: &Event) {
    match event {
        Event::Connected => {
            troubles.forget();
            if !status.set_connected(true) {
                tracing::info!("connected to NATS");
            }
        }
        Event::Disconnected | Event::Closed => {
            if status.set_connected(false) {
                status.reconnects.add(1);
                tracing::warn!("the connection to NATS is lost");
            }
        }
        Event::ServerError(error) => tracing::warn!("NATS: {error}"),
        // A name that is not found is the one reason that is not kept with its server.
        Event::ClientError(error) if error.to_string().contains("DNS") => {
            tracing::warn!("no connection to NATS: {error}: see CLUSTER_URL");
        }
        Event::ClientError(_) | Event::SlowConsumer(_) | Event::LameDuckMode | Event::Draining => {}
    }
}
