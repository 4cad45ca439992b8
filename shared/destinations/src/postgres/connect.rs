//! Address, sign-in and connections.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use penstock_model::definition::{Auth, Problem, ResolvedSync};
use penstock_model::port::{Clock, Freshness, Secrets};
use penstock_model::{Failure, FailureName};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::errors::{Fault, Trouble, classify};
use super::table::TableName;
use crate::reach::{PrivateAddress, Resolver, is_public, public_addresses};

/// The connection's setting that holds further root certificates, as PEM.
const ROOTS: &str = "root_certificates";
/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a host may leave bytes unacknowledged.
const SILENCE: Duration = Duration::from_secs(30);
/// How long closing one may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Reads `postgres://user@host:port/database?sslmode=disable|prefer|require`. `prefer` is what is meant if nothing is said.
///
/// The problem never repeats the address: it may hold what should not be there.
pub(super) fn parse_address(address: &str) -> Result<Config, Problem> {
    let problem = |message: &str| Problem::at("/address", message);
    let form = "write the address as postgres://user@host:port/database?sslmode=require (or prefer, disable)";
    if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
        return Err(problem(form));
    }
    let config = Config::from_str(address).map_err(|_| problem(form))?;
    if config.get_password().is_some() {
        return Err(problem(
            "the address holds a password: take it out and refer to a secret under auth.password",
        ));
    }
    if config.get_hosts().is_empty() {
        return Err(problem(form));
    }
    Ok(config)
}

/// That the way to sign in is one that a database has.
pub(super) fn check_auth(auth: &Auth) -> Result<(), Problem> {
    match auth {
        Auth::None | Auth::Password(_) => Ok(()),
        Auth::Bearer(_)
        | Auth::Basic(_)
        | Auth::Header(_)
        | Auth::Body(_)
        | Auth::ClientCredentials(_)
        | Auth::JwtBearer(_)
        | Auth::RefreshToken(_) => Err(Problem::at(
            "/auth",
            "PostgreSQL is signed in to by auth.password, or without auth where the server asks for none",
        )),
    }
}

/// That further root certificates, if given, can be read.
pub(super) fn check_roots(definition: &ResolvedSync) -> Result<(), Problem> {
    roots(definition).map(|_| ())
}

fn roots(definition: &ResolvedSync) -> Result<RootCertStore, Problem> {
    let mut store = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(pem) = definition.connection.settings.get(ROOTS) {
        let problem = |_| Problem::at("/settings/root_certificates", "these are no certificates in PEM form");
        let mut certificates = 0;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| problem(()))?;
            store.add(certificate).map_err(|_| problem(()))?;
            certificates += 1;
        }
        if certificates == 0 {
            return Err(problem(()));
        }
    }
    Ok(store)
}

/// How to get into a database.
pub(super) struct Door {
    config: Config,
    auth: Auth,
    tls: Option<MakeRustlsConnect>,
    secrets: Arc<dyn Secrets>,
    /// Where only public addresses may be connected to: who finds them.
    public_only: Option<Arc<dyn Resolver>>,
}

/// What is shown at the door.
#[derive(Clone)]
pub(super) struct Login {
    username: Option<String>,
    password: String,
    /// Whether it was fetched afresh.
    pub(super) freshness: Freshness,
}

/// An open connection.
pub(super) struct Link {
    /// Where statements go in.
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl Link {
    /// Says goodbye and waits for a moment until it is said.
    pub(super) async fn close(self, clock: &dyn Clock) {
        let Self { client, mut driver } = self;
        drop(client);
        let end = futures::future::select(&mut driver, clock.sleep(CLOSE_TIMEOUT)).await;
        drop(end);
        driver.abort();
    }

    /// Drops the connection at once, an unanswered statement with it.
    pub(super) fn abandon(self) {
        self.driver.abort();
    }
}

impl Door {
    /// A door from a checked definition.
    pub(super) fn new(
        definition: &ResolvedSync,
        secrets: Arc<dyn Secrets>,
        public_only: Option<Arc<dyn Resolver>>,
    ) -> Result<Self, Problem> {
        let mut config = parse_address(&definition.address)?;
        config
            .application_name("penstock")
            .connect_timeout(CONNECT_TIMEOUT)
            // A host that has gone without a word is noticed long before a push's time is up.
            .tcp_user_timeout(SILENCE)
            .keepalives_idle(SILENCE)
            .keepalives_interval(SILENCE / 3)
            .keepalives_retries(3);
        let tls = if config.get_ssl_mode() == SslMode::Disable {
            None
        } else {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let client = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|_| Problem::at("/address", "this build has no TLS: write sslmode=disable"))?
                .with_root_certificates(roots(definition)?)
                .with_no_client_auth();
            Some(MakeRustlsConnect::new(client))
        };
        Ok(Self { config, auth: definition.connection.auth.clone(), tls, secrets, public_only })
    }

    /// Fetches the credential.
    pub(super) async fn login(&self, freshness: Freshness) -> Result<Login, Failure> {
        /// A secret as RDS keeps it; what else it holds does not matter.
        #[derive(Deserialize)]
        struct Kept {
            password: String,
            #[serde(default)]
            username: Option<String>,
        }
        let Some(reference) = self.auth.secret() else {
            // An empty password makes a server that wants one say so.
            return Ok(Login { username: None, password: String::new(), freshness: Freshness::Fresh });
        };
        let secret = self.secrets.fetch(reference, freshness).await.map_err(|error| {
            Failure::because(error.name(), "the password of the database could not be had", error)
        })?;
        Ok(match serde_json::from_str::<Kept>(secret.expose()) {
            Ok(Kept { password, username }) => Login { username, password, freshness },
            Err(_) => Login { username: None, password: secret.expose().to_owned(), freshness },
        })
    }

    /// Opens a connection.
    pub(super) async fn open(&self, login: &Login, table: &TableName) -> Result<Link, Trouble> {
        let mut config = self.config.clone();
        config.password(&login.password);
        if let Some(username) = &login.username {
            config.user(username);
        }
        if config.get_user().is_none() {
            return Err(Trouble::Fatal(Failure::new(
                FailureName::SyncInvalid,
                "neither the address nor the secret names a database user: write postgres://user@host/database",
            )));
        }
        if let Some(resolver) = &self.public_only {
            config = public(config, resolver.as_ref()).await?;
        }
        let failed = |error| classify(error, table);
        Ok(match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
                Link { client, driver: tokio::spawn(run(connection)) }
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await.map_err(failed)?;
                Link { client, driver: tokio::spawn(run(connection)) }
            }
        })
    }
}

/// The hosts with the public addresses that they have now, which are then connected to.
async fn public(config: Config, resolver: &dyn Resolver) -> Result<Config, Trouble> {
    let private = || {
        let failure =
            Failure::because(FailureName::SyncInvalid, "the database was not connected to", PrivateAddress);
        Trouble::Fatal(failure)
    };
    if !config.get_hostaddrs().is_empty() {
        let all_public = config.get_hostaddrs().iter().all(|address| is_public(*address));
        return if all_public { Ok(config) } else { Err(private()) };
    }
    let mut addresses = Vec::new();
    for host in config.get_hosts() {
        let Host::Tcp(name) = host else { return Err(private()) };
        let found = public_addresses(resolver, name).await.map_err(|error| {
            if PrivateAddress::caused(&error) { private() } else { Trouble::Lost(Fault::Unknown(error)) }
        })?;
        addresses.extend(found.first());
    }
    let mut config = config;
    for address in addresses {
        config.hostaddr(address);
    }
    Ok(config)
}

/// Moves a connection's bytes. Its error arrives at the statement that waits, too.
async fn run<T>(connection: T)
where
    T: Future<Output = Result<(), tokio_postgres::Error>>,
{
    if let Err(error) = connection.await {
        let sqlstate = error.code().map(tokio_postgres::error::SqlState::code);
        tracing::debug!(sqlstate, "connection to the database ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_without_passwords() {
        let cases = [
            ("postgres://ann@db.example.com:5433/shop?sslmode=require", true),
            ("postgresql://ann@db.example.com/shop", true),
            ("postgres://db.example.com/shop", true),
            ("postgres://ann:hunter2@db.example.com/shop", false),
            ("postgres://ann@db.example.com/shop?password=hunter2", false),
            ("postgres://ann@db.example.com/shop?sslmode=maybe", false),
            ("host=db.example.com password=hunter2", false),
            ("https://db.example.com", false),
            ("", false),
        ];
        for (address, good) in cases {
            let seen = parse_address(address);
            assert_eq!(seen.is_ok(), good, "{address}");
            if let Err(problem) = seen {
                assert!(!problem.message.contains("hunter2"), "{}", problem.message);
            }
        }
    }
}
