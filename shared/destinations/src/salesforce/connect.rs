//! The org: how it is signed in to, where it is, and calls that carry no rows or whole files of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use penstock_model::connector::{HttpConnector, RateHeaders};
use penstock_model::definition::{Auth, Connection, OAuth, ResolvedSync};
use penstock_model::report::ApiUsage;
use penstock_model::{Failure, FailureName, Timestamp};
use serde::Deserialize;

use crate::Parts;
use crate::destination::{Spending, Witness};
use crate::http::HttpDestination;
use crate::http::auth::SignIn;
use crate::http::compile;
use crate::http::retry::{ATTEMPTS, account_use, backoff, retry_after};
use crate::http::transport::{HeaderMap, HeaderValue, Method, Pieces, Request, Response, Taker};

/// Where production and sandboxes take assertions for, unless the connection says otherwise.
const LOGIN: &str = "https://login.salesforce.com";
const TEST_LOGIN: &str = "https://test.salesforce.com";
/// A wait that is longer is the state machine's.
const LONG_WAIT: Duration = Duration::from_secs(20);
/// Where Salesforce does not say when there is more of the day's quota, it is asked again after so long.
const QUOTA_LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Why a push stops before its work is done.
#[derive(Debug)]
pub(super) enum Halt {
    /// Time is up, or there is something to wait for; go on after this long.
    Later(Duration),
    /// The call has failed.
    Failed(Failure),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// How to get into an org.
#[derive(Debug)]
pub(super) struct Door {
    name: String,
    address: String,
    /// `/services/data/v67.0`.
    pub(super) base: String,
    auth: Auth,
    sign_in: SignIn,
    names: RateHeaders,
    answer_timeout: Duration,
}

/// What the calls of one push share.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    pub(super) door: &'a Door,
    pub(super) parts: &'a Parts,
    pub(super) witness: &'a dyn Witness,
    /// The engine, whose pace holds for these calls too.
    pub(super) engine: &'a HttpDestination,
    /// Nothing is sent from this moment on.
    pub(super) last_send: Timestamp,
    /// No answer is waited for beyond this moment.
    pub(super) until: Timestamp,
}

/// One call.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    /// After the org's address.
    pub(super) path: String,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Bytes,
    /// In place of `body`.
    pub(super) pieces: Option<Arc<dyn Pieces>>,
}

impl Call {
    pub(super) fn get(path: String) -> Self {
        Self { method: Method::GET, path, content_type: None, body: Bytes::new(), pieces: None }
    }

    pub(super) fn json(method: Method, path: String, body: &serde_json::Value) -> Self {
        let body = Bytes::from(body.to_string());
        Self { method, path, content_type: Some("application/json"), body, pieces: None }
    }
}

/// What a refused request says, of which there may be several; the first counts.
#[derive(Deserialize)]
pub(super) struct Complaint {
    #[serde(rename = "errorCode")]
    pub(super) code: String,
}

/// The code of a refused request, if it looks like one: it is shown.
pub(super) fn complaint(answer: &Response) -> Option<String> {
    let complaints: Vec<Complaint> = serde_json::from_slice(&answer.body).ok()?;
    let is_code = |code: &String| {
        code.len() <= 60
            && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    complaints.into_iter().next().map(|complaint| complaint.code).filter(is_code)
}

/// How to sign in, with all that is left open said: the engine finds the same tokens then, wherever the org turns out to be.
fn auth(definition: &ResolvedSync, connector: &HttpConnector) -> Auth {
    let auth = &definition.connection.auth;
    let (Some(endpoint), Some(oauth)) = (compile::token_endpoint(definition, connector), auth.oauth()) else {
        return auth.clone();
    };
    let is_sandbox = endpoint.url.contains(".sandbox.") || endpoint.url.starts_with(TEST_LOGIN);
    let audience = if is_sandbox { TEST_LOGIN } else { LOGIN };
    let oauth = OAuth { token_url: Some(endpoint.url), ..oauth.clone() };
    match auth {
        Auth::JwtBearer(_) => {
            let audience = oauth.audience.clone().unwrap_or_else(|| audience.to_owned());
            Auth::JwtBearer(OAuth { audience: Some(audience), ..oauth })
        }
        Auth::ClientCredentials(_) => Auth::ClientCredentials(oauth),
        Auth::RefreshToken(_) => Auth::RefreshToken(oauth),
        Auth::None
        | Auth::Bearer(_)
        | Auth::Basic(_)
        | Auth::Header(_)
        | Auth::Body(_)
        | Auth::Password(_) => auth.clone(),
    }
}

fn with_auth(definition: &ResolvedSync, auth: &Auth) -> ResolvedSync {
    let connection = Connection { auth: auth.clone(), ..definition.connection.clone() };
    ResolvedSync { connection, ..definition.clone() }
}

impl Door {
    pub(super) fn new(definition: &ResolvedSync, connector: &HttpConnector) -> Self {
        let version = definition.connection.settings.get("version").cloned();
        let default = connector.settings.get("version").and_then(|setting| setting.default.clone());
        let auth = auth(definition, connector);
        let signed_in = with_auth(definition, &auth);
        let endpoint = compile::token_endpoint(&signed_in, connector);
        let limits = compile::limits(&definition.connection.limits, &connector.limits);
        Self {
            name: connector.name.clone(),
            address: definition.address.trim_end_matches('/').to_owned(),
            base: format!("/services/data/v{}", version.or(default).unwrap_or_default()),
            sign_in: SignIn::new(auth.clone(), connector.name.clone(), endpoint),
            auth,
            names: connector.rate_headers.clone(),
            answer_timeout: limits.answer_timeout,
        }
    }

    /// The sync with the org's own address, for the engine.
    pub(super) async fn definition(
        &self,
        definition: &ResolvedSync,
        parts: &Parts,
    ) -> Result<ResolvedSync, Failure> {
        let address = self.address(parts).await?;
        Ok(ResolvedSync { address, ..with_auth(definition, &self.auth) })
    }

    /// Where the org is: as the token says, else as the connection says.
    pub(super) async fn address(&self, parts: &Parts) -> Result<String, Failure> {
        let credential = self.sign_in.credential(parts).await?;
        let told = credential.token.and_then(|token| token.instance_url);
        Ok(told.unwrap_or_else(|| self.address.clone()))
    }
}

impl Course<'_> {
    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// Waits, if that fits into the push.
    pub(super) async fn wait(&self, wait: Duration) -> Result<(), Halt> {
        if wait > LONG_WAIT || self.now().plus(wait) >= self.last_send {
            return Err(Halt::Later(wait));
        }
        self.parts.clock.sleep(wait).await;
        Ok(())
    }

    /// Makes a call until it is answered in a way that decides. Only for calls that do no harm if they are made twice. Answers of 2xx, 400
    /// and 404 are the caller's to read.
    pub(super) async fn call(&self, call: &Call) -> Result<Response, Halt> {
        self.call_into(call, None).await
    }

    /// As [`call`](Self::call); the body of a success goes to `taker`, if there is one.
    pub(super) async fn call_into(
        &self,
        call: &Call,
        mut taker: Option<&mut dyn Taker>,
    ) -> Result<Response, Halt> {
        let mut refused = 0;
        let mut failed = 0;
        let mut throttled = 0;
        let mut sent_before = false;
        loop {
            self.place().await?;
            self.witness.may_send().await?;
            let credential = self.door.sign_in.credential(self.parts).await?;
            if let Spending::OverBudget { until } = self.witness.spend().await? {
                return Err(Halt::Later(self.now().until(until)));
            }
            if self.now() >= self.last_send {
                return Err(Halt::Later(Duration::ZERO));
            }
            let address = self.door.address(self.parts).await?;
            let mut headers = HeaderMap::new();
            headers.insert(reqwest::header::ACCEPT, HeaderValue::from_static("application/json"));
            if let Some(kind) = call.content_type {
                headers.insert(reqwest::header::CONTENT_TYPE, HeaderValue::from_static(kind));
            }
            headers.extend(credential.header);
            let url = format!("{address}{}", call.path);
            let Call { method, body, pieces, .. } = call.clone();
            let request = Request { method, url, headers, body, pieces, shown_body: None };
            let retried = u64::from(std::mem::replace(&mut sent_before, true));
            self.witness.count(ApiUsage { requests: 1, retried, ..ApiUsage::default() });
            let answer = match &mut taker {
                None => self.send(request, None).await,
                Some(taker) => self.send(request, Some(&mut **taker)).await,
            };
            let (why, after) = match answer {
                Err(why) => (why, None),
                Ok(answer) => {
                    let account = account_use(&self.door.names, &answer.headers);
                    self.witness.count(ApiUsage { account, ..ApiUsage::default() });
                    let after = retry_after(&answer.headers, self.now());
                    let code = if answer.status >= 400 { complaint(&answer) } else { None };
                    match (answer.status, code.as_deref()) {
                        (200..=299, _) => {
                            self.door.sign_in.proven(credential.generation).await;
                            return Ok(answer);
                        }
                        (_, Some("REQUEST_LIMIT_EXCEEDED")) => {
                            self.witness.count(ApiUsage { throttled: 1, ..ApiUsage::default() });
                            return Err(Halt::Later(after.unwrap_or(QUOTA_LOOK_AGAIN)));
                        }
                        (401, _) | (_, Some("INVALID_SESSION_ID")) if refused > 0 => {
                            return Err(self.door.sign_in.unauthorized().into());
                        }
                        (401, _) | (_, Some("INVALID_SESSION_ID")) => {
                            refused += 1;
                            self.door.sign_in.refused(credential.generation, self.parts).await?;
                            continue;
                        }
                        (403, _) => return Err(self.forbidden(code.as_deref()).into()),
                        (429, _) => {
                            throttled += 1;
                            self.witness.count(ApiUsage { throttled: 1, ..ApiUsage::default() });
                            let wait = backoff(throttled + 1, &*self.parts.random);
                            self.wait(after.unwrap_or(wait)).await?;
                            continue;
                        }
                        (408 | 425 | 500..=599, _) => (format!("status {}", answer.status), after),
                        (_, Some("SERVER_UNAVAILABLE" | "REQUEST_RUNNING_TOO_LONG" | "QUERY_TIMEOUT")) => {
                            (format!("status {}", answer.status), after)
                        }
                        (_, _) => return Ok(answer),
                    }
                }
            };
            failed += 1;
            if failed >= ATTEMPTS {
                let message =
                    format!("{} does not answer, or with server errors only (last: {why})", self.door.name);
                return Err(Failure::new(FailureName::DestinationUnavailable, message).into());
            }
            let wait = backoff(failed, &*self.parts.random);
            self.wait(after.map_or(wait, |after| after.max(wait))).await?;
        }
    }

    /// Waits for a place in the account's pace.
    async fn place(&self) -> Result<(), Halt> {
        loop {
            let now = self.now();
            let free = self.engine.pace().take(now);
            match free {
                Ok(()) => return Ok(()),
                Err(free) => self.wait(now.until(free)).await?,
            }
        }
    }

    async fn send(&self, request: Request, taker: Option<&mut dyn Taker>) -> Result<Response, String> {
        let timeout = self.door.answer_timeout.min(self.now().until(self.until));
        let transport = &self.parts.transport;
        let answer = match taker {
            None => transport.send(request),
            Some(taker) => {
                taker.begin();
                transport.send_into(request, taker)
            }
        };
        match select(answer, self.parts.clock.sleep(timeout)).await {
            Either::Left((answer, _)) => answer.map_err(|error| error.to_string()),
            Either::Right(((), _)) => Err("no answer in time".to_owned()),
        }
    }

    fn forbidden(&self, code: Option<&str>) -> Failure {
        let message = format!(
            "{} forbids this ({}): check what the user of the connection is allowed to do, then redrive",
            self.door.name,
            code.unwrap_or("status 403")
        );
        Failure::new(FailureName::DestinationUnauthorized, message)
    }

    /// A refusal that no row is to blame for.
    pub(super) fn refused(&self, what: &str, answer: &Response) -> Failure {
        let code = complaint(answer).unwrap_or_else(|| format!("status {}", answer.status));
        let message =
            format!("{} refuses {what} ({code}): check object, match and API version", self.door.name);
        Failure::new(FailureName::DestinationRefused, message)
    }
}
