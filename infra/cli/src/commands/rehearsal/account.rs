//! The simulated account: how it is reached, what it asks for and what it allows.

use std::time::Duration;

use penstock_destinations::Transport;
use penstock_destinations::http::transport::{Request, Response, Sent, TransportError, TransportErrorKind};
use penstock_model::definition::{Auth, SecretRef};
use penstock_model::port::{Boxed, Freshness, Secret, SecretError, Secrets};
use penstock_twins::{Broken, Twin};

use super::held::Simulated;
use crate::definitions::check::CheckedSync;

/// What every secret is in a rehearsal. It has the form that every way to sign in takes.
pub(super) const SECRET: &str = "twin:twin";
/// How long a request and its answer are on their way.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Every secret is the same.
#[derive(Debug)]
pub(super) struct FixedSecret;

impl Secrets for FixedSecret {
    fn fetch<'a>(&'a self, _: &'a SecretRef, _: Freshness) -> Boxed<'a, Result<Secret, SecretError>> {
        Box::pin(std::future::ready(Ok(Secret::new(SECRET.to_owned()))))
    }
}

/// The twin's way to ask for the secret that a connection's way to sign in sends.
pub(super) fn auth(auth: &Auth) -> penstock_twins::Auth {
    match auth {
        Auth::None | Auth::Password(_) => penstock_twins::Auth::None,
        Auth::Bearer(_) | Auth::ClientCredentials(_) | Auth::JwtBearer(_) | Auth::RefreshToken(_) => {
            penstock_twins::Auth::Bearer(SECRET.to_owned())
        }
        Auth::Basic(_) => {
            let (user, password) = SECRET.split_once(':').unwrap_or_default();
            penstock_twins::Auth::Basic { user: user.to_owned(), password: password.to_owned() }
        }
        Auth::Body(_) => penstock_twins::Auth::Body(SECRET.to_owned()),
        Auth::Header(header) => {
            penstock_twins::Auth::Header { name: header.name.clone(), value: SECRET.to_owned() }
        }
    }
}

/// A twin in this process.
pub(super) struct InProcess {
    twin: Simulated,
    /// Every address that the sync's account may have, the longest first.
    addresses: Vec<String>,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcess")
    }
}

impl InProcess {
    pub(super) fn new(twin: Simulated, checked: &CheckedSync) -> Self {
        let connection = &checked.connection.definition;
        let environments = connection.environments.values().map(|environment| environment.address.clone());
        let own = connection.address.clone().into_iter().chain(checked.connector.default_address());
        let mut addresses: Vec<String> =
            environments.chain(own).map(|address| address.trim_end_matches('/').to_owned()).collect();
        addresses.sort_by_key(|address| std::cmp::Reverse(address.len()));
        Self { twin, addresses }
    }
}

impl Transport for InProcess {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let broken = |sent, kind| Err(TransportError { sent, kind, source: None });
            let below = self.addresses.iter().find_map(|address| request.url.strip_prefix(address.as_str()));
            let Some(path) = below else {
                return broken(Sent::SurelyNot, TransportErrorKind::Connect);
            };
            tokio::time::sleep(ROUND_TRIP).await;
            let (method, headers, body) = (&request.method, &request.headers, request.whole_body());
            let reply = match &self.twin {
                Simulated::File(twin) => twin.handle(method, path, headers, &body),
                Simulated::Salesforce(twin) => twin.handle(method, path, headers, &body),
            };
            tokio::time::sleep(reply.after).await;
            match reply.outcome {
                Ok(answer) => {
                    let (parts, body) = answer.into_parts();
                    Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body })
                }
                Err(Broken::Reset | Broken::AnswerLost | Broken::Truncated { .. }) => {
                    broken(Sent::Maybe, TransportErrorKind::Broken)
                }
            }
        })
    }
}
