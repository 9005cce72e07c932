//! TLS: whom the client trusts, and what it shows.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use shardcast_client::tls::Trust;
use shardcast_client::{Client, Error, Limits, Options};

use crate::harness::{Broker, publish, quick, within};

/// Certificates of one test, in a folder of its own.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let folder = format!("shardcast-client-tls-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let files = Self(folder);
        files.write("ca.pem", &issuer.pem());
        for name in ["server", "client"] {
            let params = CertificateParams::new(vec!["localhost".to_owned()]);
            let key = KeyPair::generate().expect("a key");
            let signed = params.expect("a name").signed_by(&key, &issuer);
            files.write(
                &format!("{name}.pem"),
                &signed.expect("a certificate").pem(),
            );
            files.write(&format!("{name}.key"), &key.serialize_pem());
        }
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    fn broker(&self, more: &[(&str, &str)]) -> Broker {
        let (cert, key) = (self.text("server.pem"), self.text("server.key"));
        let own = [
            ("AUTO_CREATE_TOPICS", "true"),
            ("PORT", "off"),
            ("TLS_PORT", "0"),
            ("TLS_CERT", &cert),
            ("TLS_KEY", &key),
        ];
        Broker::with(&[&own, more].concat())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

async fn connect(broker: &Broker, trust: Trust) -> Result<Client, Error> {
    let options = Options {
        trust,
        limits: Limits {
            open_timeout: Some(std::time::Duration::from_secs(2)),
            ..quick()
        },
        ..Options::new(format!("wss://localhost:{}/ws", broker.port))
    };
    within("an answer", Client::connect(options)).await
}

#[tokio::test]
async fn the_authority_that_is_given_counts_and_no_other() {
    let files = Files::new("trust");
    let broker = files.broker(&[]);
    let trust = Trust {
        ca: Some(files.path("ca.pem")),
        ..Trust::default()
    };
    let client = connect(&broker, trust).await.expect("it is trusted");
    publish(&client, "t", 1).await;
    let error = connect(&broker, Trust::default())
        .await
        .expect_err("nobody knows it");
    assert!(error.message.contains("certificate"), "{error}");
    let anybody = Trust {
        insecure: true,
        ..Trust::default()
    };
    let client = connect(&broker, anybody).await.expect("anybody is");
    publish(&client, "t", 2).await;
    let none = Trust {
        ca: Some(files.path("server.key")),
        ..Trust::default()
    };
    let error = connect(&broker, none)
        .await
        .expect_err("it is no certificate");
    assert!(error.message.contains("server.key"), "{error}");
}

#[tokio::test]
async fn a_broker_that_asks_for_a_certificate_is_shown_one() {
    let files = Files::new("client");
    let ca = files.text("ca.pem");
    let broker = files.broker(&[("TLS_CLIENT_CA", &ca)]);
    let trust = Trust {
        ca: Some(files.path("ca.pem")),
        cert: Some(files.path("client.pem")),
        cert_key: Some(files.path("client.key")),
        ..Trust::default()
    };
    let client = connect(&broker, trust.clone()).await.expect("it is known");
    publish(&client, "t", 1).await;
    let without = Trust {
        cert: None,
        cert_key: None,
        ..trust.clone()
    };
    connect(&broker, without).await.expect_err("it shows none");
    let half = Trust {
        cert_key: None,
        ..trust
    };
    let error = connect(&broker, half).await.expect_err("a key is missing");
    assert!(error.message.contains("go together"), "{error}");
}
