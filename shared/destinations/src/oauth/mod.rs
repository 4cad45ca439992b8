//! OAuth 2.0 access tokens: had from a token endpoint, kept per process, renewed before they expire and when they are refused.
//!
//! Three grants, none of which needs a person: client credentials, a signed assertion, a refresh token. A refresh token that the
//! endpoint replaces is stored before the access token that came with it is used: once it is used, the old one may be worth nothing.

mod grant;
mod jwt;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use penstock_model::definition::{Auth, SecretRef};
use penstock_model::port::{Freshness, Secret};
use penstock_model::{Failure, FailureName, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::Parts;
use crate::http::retry::{backoff, retry_after};
use crate::http::transport::{HeaderMap, HeaderValue, Method, Request, Response};

/// How often a token is asked for before its endpoint counts as unavailable, or the secret as wrong.
const ATTEMPTS: u32 = 4;
/// An endpoint that takes longer is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// A token is renewed so long before it expires, or a tenth of its life if that is less: a request takes its time.
const MARGIN: Duration = Duration::from_secs(60);

/// Where tokens are had for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The URL that gives tokens.
    pub(crate) url: String,
    /// Whom an assertion names as its audience, unless the connection does.
    pub(crate) audience: String,
}

impl Endpoint {
    /// An endpoint whose assertions are meant for itself (RFC 7523 section 3).
    pub(crate) fn new(url: String) -> Self {
        Self { audience: url.clone(), url }
    }
}

/// An access token and what came with it. Its Debug form is blank where it has to be.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    /// What requests carry.
    pub(crate) access: Secret,
    /// The account's own address, where the endpoint says so (Salesforce).
    pub(crate) instance_url: Option<String>,
    /// From when on it is not used any more, where the endpoint says how long it lives.
    pub(crate) good_until: Option<Timestamp>,
}

/// The access tokens of a process, by endpoint and secret. They outlive a push: an endpoint gives an account only so many.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<(String, SecretRef), Arc<Kept>>>);

#[derive(Debug, Default)]
struct Kept(tokio::sync::Mutex<State>);

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    /// A token whose refresh token could not be stored yet: it is not used before.
    unstored: Option<(Secret, Token)>,
}

impl Tokens {
    /// A token for this way to sign in. `refused` is the one that the destination did not take: then it is another.
    ///
    /// # Errors
    /// `DestinationUnauthorized` if the endpoint refuses the secret, also after that was fetched afresh; `DestinationUnavailable`;
    /// `SecretsUnavailable`, also if a replaced refresh token can't be stored.
    pub(crate) async fn token(
        &self,
        parts: &Parts,
        auth: &Auth,
        endpoint: &Endpoint,
        refused: Option<&Secret>,
    ) -> Result<Token, Failure> {
        let Some(oauth) = auth.oauth() else {
            let message = "an access token was asked for where there is none";
            return Err(Failure::new(FailureName::InvariantBroken, message));
        };
        let kept = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry((endpoint.url.clone(), oauth.secret.clone())).or_default())
        };
        // Whoever comes next waits, and finds what this one got.
        let mut state = kept.0.lock().await;
        let now = parts.clock.now();
        let is_good = |token: &&Token| {
            refused != Some(&token.access) && token.good_until.is_none_or(|until| now < until)
        };
        if let Some(token) = state.token.as_ref().filter(is_good) {
            return Ok(token.clone());
        }
        if state.unstored.is_none() {
            let asking = Asking { parts, auth, endpoint, secret: &oauth.secret };
            let freshness = if refused.is_some() { Freshness::Fresh } else { asking.first_freshness() };
            let (token, replaced) = asking.ask(freshness).await?;
            match replaced {
                None => {
                    state.token = Some(token.clone());
                    return Ok(token);
                }
                Some(secret) => state.unstored = Some((secret, token)),
            }
        }
        if let Some((secret, token)) = state.unstored.clone() {
            parts.secrets.store(&oauth.secret, secret).await.map_err(|error| {
                let message =
                    "the destination has replaced the refresh token, and the new one is not stored yet";
                Failure::because(error.name(), message, error)
            })?;
            state.unstored = None;
            state.token = Some(token);
        }
        state.token.clone().ok_or_else(|| Failure::new(FailureName::InvariantBroken, "a token got lost"))
    }
}

/// What a token is asked for with.
struct Asking<'a> {
    parts: &'a Parts,
    auth: &'a Auth,
    endpoint: &'a Endpoint,
    secret: &'a SecretRef,
}

/// What an endpoint says.
enum Said {
    Token(Box<Answer>),
    /// The secret is refused, with the code of RFC 6749 section 5.2 if it gives one.
    Refused(String),
    /// It can't at the moment.
    Unavailable {
        after: Option<Duration>,
        why: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    instance_url: Option<String>,
    #[serde(default)]
    expires_in: Option<Value>,
    #[serde(default)]
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Asking<'_> {
    /// A refresh token may have been replaced by another process since it was last fetched.
    fn first_freshness(&self) -> Freshness {
        if self.auth.changes_secret() { Freshness::Fresh } else { Freshness::Cached }
    }

    /// A new token; and the secret with the refresh token that came with it, if it is another.
    async fn ask(&self, mut freshness: Freshness) -> Result<(Token, Option<Secret>), Failure> {
        let clock = &self.parts.clock;
        let mut refused: Option<(Secret, String)> = None;
        for attempt in 1.. {
            let secret = self.fetch(freshness).await?;
            if let Some((before, code)) = &refused
                && *before == secret
            {
                return Err(self.unauthorized(code));
            }
            let form = grant::form(self.auth, self.endpoint, &secret, clock.now())
                .map_err(|form| self.malformed(form))?;
            let wait = match self.send(form).await {
                Said::Token(answer) => return Ok(self.take(*answer, &secret)),
                Said::Refused(code) if attempt >= ATTEMPTS => return Err(self.unauthorized(&code)),
                Said::Refused(code) => {
                    refused = Some((secret, code));
                    freshness = Freshness::Fresh;
                    backoff(attempt, &*self.parts.random)
                }
                Said::Unavailable { why, .. } if attempt >= ATTEMPTS => {
                    let message = format!("no access token could be had: {why}");
                    return Err(Failure::new(FailureName::DestinationUnavailable, message));
                }
                Said::Unavailable { after, .. } => {
                    backoff(attempt, &*self.parts.random).max(after.unwrap_or_default().min(ANSWER_TIMEOUT))
                }
            };
            clock.sleep(wait).await;
        }
        Err(Failure::new(FailureName::InvariantBroken, "an endless loop has ended"))
    }

    async fn fetch(&self, freshness: Freshness) -> Result<Secret, Failure> {
        self.parts.secrets.fetch(self.secret, freshness).await.map_err(|error| {
            Failure::because(error.name(), "no secret to ask for an access token with", error)
        })
    }

    async fn send(&self, form: String) -> Said {
        let mut headers = HeaderMap::new();
        headers.insert(reqwest::header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            reqwest::header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let request = Request {
            method: Method::POST,
            url: self.endpoint.url.clone(),
            headers,
            body: Bytes::from(form),
            pieces: None,
            shown_body: Some(Bytes::from_static(b"(hidden)")),
        };
        let parts = self.parts;
        match select(parts.transport.send(request), parts.clock.sleep(ANSWER_TIMEOUT)).await {
            Either::Left((Ok(answer), _)) => said(&answer, parts.clock.now()),
            Either::Left((Err(error), _)) => Said::Unavailable { after: None, why: error.to_string() },
            Either::Right(((), _)) => Said::Unavailable { after: None, why: "no answer in time".to_owned() },
        }
    }

    fn take(&self, answer: Answer, secret: &Secret) -> (Token, Option<Secret>) {
        let lives = answer.expires_in.as_ref().and_then(seconds).map(Duration::from_secs);
        let now = self.parts.clock.now();
        let token = Token {
            access: Secret::new(answer.access_token),
            instance_url: answer.instance_url.map(|url| url.trim_end_matches('/').to_owned()),
            good_until: lives.map(|lives| now.plus(lives - MARGIN.min(lives / 10))),
        };
        let new = answer.refresh_token.filter(|_| self.auth.changes_secret());
        (token, new.and_then(|new| grant::replaced(secret, &new)))
    }

    fn unauthorized(&self, code: &str) -> Failure {
        let message = format!(
            "no access token is given for the secret {} ({code}): check the secret and what its app is allowed to do, then redrive",
            self.secret.describe()
        );
        Failure::new(FailureName::DestinationUnauthorized, message)
    }

    fn malformed(&self, form: &str) -> Failure {
        let message =
            format!("the secret {} is not of the right form: it must be {form}", self.secret.describe());
        Failure::new(FailureName::DestinationUnauthorized, message)
    }
}

/// RFC 6749 has a number; some endpoints write it as text.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn said(answer: &Response, now: Timestamp) -> Said {
    match answer.status {
        200..=299 => match serde_json::from_slice::<Answer>(&answer.body) {
            Ok(token) if !token.access_token.is_empty() => Said::Token(Box::new(token)),
            Ok(_) | Err(_) => {
                Said::Unavailable { after: None, why: "the answer holds no access token".to_owned() }
            }
        },
        408 | 425 | 429 | 500..=599 => Said::Unavailable {
            after: retry_after(&answer.headers, now),
            why: format!("status {}", answer.status),
        },
        status => {
            let code = serde_json::from_slice::<Refusal>(&answer.body).ok().map(|it| it.error);
            // Nothing else of the answer is shown: it is not ours to say what it holds.
            let is_code = |code: &String| {
                (1..=40).contains(&code.len())
                    && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            };
            Said::Refused(code.filter(is_code).unwrap_or_else(|| format!("status {status}")))
        }
    }
}
