//! What all twins do with a request: count it, let the script have its way, ask for the credential, keep the limits.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{CONTENT_TYPE, DATE, RETRY_AFTER},
};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;

use crate::{
    clock::{Clock, Moment},
    faults::{Fault, Faults, RetryAfter, Script},
    journal::{Ended, Journal},
    row_error::RowError,
    window::{DAY, DailyQuota, RateLimit, Windows},
};

/// A simulated API. Clones share one state.
pub trait Twin: Clone + Send + Sync + 'static {
    /// Handles one request without any transport. `path` may have a query; the twins of built-in APIs ignore it.
    fn handle(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply;

    /// What was seen and applied so far.
    fn journal(&self) -> Journal;

    /// How many records each object holds, with the appended ones.
    fn held(&self) -> BTreeMap<String, usize>;

    /// Replaces the fault script; its counts begin anew.
    fn set_faults(&self, script: Script);

    /// The twin as a service, to be mounted anywhere or called in process.
    ///
    /// Where there is no connection to break, a reset or lost answer is a response whose body fails at once.
    fn router(&self) -> axum::Router {
        crate::server::router(self.clone())
    }
}

/// What becomes of a request.
pub struct Reply {
    /// How long the answer is held back. The request has been applied before.
    pub after: Duration,
    /// The answer, or how the connection breaks.
    pub outcome: Result<Response<Bytes>, Broken>,
}

/// A connection that breaks instead of giving a whole answer.
#[derive(Clone, Error)]
pub enum Broken {
    /// Reset before the request was handled.
    #[error("the connection was reset")]
    Reset,
    /// Closed without an answer after the request was applied.
    #[error("the connection was closed before an answer")]
    AnswerLost,
    /// Closed within the answer's body after the request was applied.
    #[error("the connection was closed in the middle of the answer")]
    Truncated {
        /// Status and headers, and the part of the body that arrived.
        partial: Box<Response<Bytes>>,
        /// The length that the whole body would have had, in bytes.
        full_length: usize,
    },
}

impl fmt::Debug for Broken {
    /// Without the body: it may hold row values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broken({self})")
    }
}

/// A request as a dialect sees it.
pub(crate) struct Request<'a> {
    pub(crate) number: u64,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    /// What stands after the path's question mark.
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) now: Moment,
    /// The script's own errors for rows, and for which.
    row_faults: Option<(NonZeroU64, RowError)>,
}

impl Request<'_> {
    /// Why the script refuses the row at this position, from 0, if it does.
    pub(crate) fn refused_row(&self, position: usize) -> Option<RowError> {
        let (every, error) = self.row_faults.as_ref()?;
        let position = u64::try_from(position).ok()?;
        position.is_multiple_of(every.get()).then(|| error.clone())
    }
}

/// Why a request is turned away before it is looked into.
#[derive(Clone, Copy)]
pub(crate) enum Refusal {
    Throttled,
    QuotaGone,
    Unauthorized,
    Status(StatusCode),
}

/// What differs from API to API.
pub(crate) trait Dialect: Send + 'static {
    /// Checks the credential.
    fn authorized(&self, request: &Request<'_>) -> bool;
    /// The answer to a request that is turned away.
    fn refuse(&self, refusal: Refusal, request: &Request<'_>) -> Response<Bytes>;
    /// Whether throttled answers say when to come back.
    fn says_retry_after(&self) -> bool;
    /// Does what the request asks for.
    fn respond(&mut self, request: &Request<'_>, journal: &mut Journal) -> Response<Bytes>;
    /// How long a request is under way before it is answered.
    fn takes(&self, _request: &Request<'_>) -> Duration {
        Duration::ZERO
    }
    /// Adds what every answer carries.
    fn decorate(&self, limits: &mut Limits, now: Moment, headers: &mut HeaderMap);
}

/// The limits of an account.
pub(crate) struct Limits {
    pub(crate) windows: Windows,
    pub(crate) daily: Option<DailyQuota>,
    /// Until when, since the start, the script has used up the day; and whether refusals say so.
    closed: Option<(Duration, bool)>,
}

impl Limits {
    fn new(rates: Vec<RateLimit>, daily: Option<u64>) -> Self {
        Self { windows: Windows::new(rates), daily: daily.map(DailyQuota::new), closed: None }
    }

    /// Uses up the quota of the day of `since_start`.
    fn close(&mut self, since_start: Duration, says: bool) {
        let days = since_start.as_secs() / DAY.as_secs() + 1;
        self.closed = Some((Duration::from_secs(days * DAY.as_secs()), says));
        if let Some(daily) = &mut self.daily {
            daily.use_up(since_start);
        }
    }

    /// Counts a request, or says why not, and how long to wait if that is told.
    fn admit(&mut self, now: Moment, says: bool) -> Result<(), (Refusal, Option<Duration>)> {
        if let Some((until, says)) = self.closed
            && now.since_start < until
        {
            return Err((Refusal::QuotaGone, says.then(|| until.saturating_sub(now.since_start))));
        }
        self.windows.admit(now.instant).map_err(|wait| (Refusal::Throttled, says.then_some(wait)))?;
        match &mut self.daily {
            Some(daily) => {
                daily.admit(now.since_start).map_err(|wait| (Refusal::QuotaGone, says.then_some(wait)))
            }
            None => Ok(()),
        }
    }
}

/// What the builders of all twins have.
pub(crate) struct Setting {
    /// All hold at once.
    pub(crate) rates: Vec<RateLimit>,
    pub(crate) daily: Option<u64>,
    pub(crate) faults: Script,
    pub(crate) wall_clock: Option<Timestamp>,
}

impl Setting {
    pub(crate) fn new(rate: RateLimit) -> Self {
        Self { rates: vec![rate], daily: None, faults: Script::default(), wall_clock: None }
    }
}

/// The methods that all builders have; `self.setting` is a [`Setting`].
macro_rules! settings {
    () => {
        /// The rate limit, in place of all others. A 429 says `Retry-After` in seconds where the API does.
        pub fn rate_limit(mut self, limit: crate::window::RateLimit) -> Self {
            self.setting.rates = vec![limit];
            self
        }

        /// Rate limits that hold at once, in place of all others.
        pub fn rate_limits(mut self, limits: Vec<crate::window::RateLimit>) -> Self {
            self.setting.rates = limits;
            self
        }

        /// The number of requests a day.
        pub fn daily_limit(mut self, requests: u64) -> Self {
            self.setting.daily = Some(requests);
            self
        }

        /// The fault script.
        pub fn faults(mut self, script: crate::faults::Script) -> Self {
            self.setting.faults = script;
            self
        }

        /// What the wall clock shows at the start; the system's time by default. From there it follows tokio's clock.
        pub fn wall_clock(mut self, start: jiff::Timestamp) -> Self {
            self.setting.wall_clock = Some(start);
            self
        }
    };
}
pub(crate) use settings;

/// A dialect with its state and everything around it.
pub(crate) struct Desk<D> {
    pub(crate) dialect: D,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
    faults: Faults,
    limits: Limits,
}

/// A desk that many may use.
pub(crate) struct SharedDesk<D>(Arc<Mutex<Desk<D>>>);

impl<D> Clone for SharedDesk<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D: Dialect> SharedDesk<D> {
    pub(crate) fn new(dialect: D, setting: Setting) -> Self {
        Self(Arc::new(Mutex::new(Desk {
            dialect,
            journal: Journal::default(),
            clock: Clock::starting_at(setting.wall_clock.unwrap_or_else(Timestamp::now)),
            faults: Faults::new(setting.faults),
            limits: Limits::new(setting.rates, setting.daily),
        })))
    }

    /// The state; a panic of another holder does not make it unusable.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Desk<D>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_faults(&self, script: Script) {
        self.lock().faults = Faults::new(script);
    }

    pub(crate) fn handle(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        self.lock().handle(method, path, headers, body)
    }
}

impl<D: Dialect> Desk<D> {
    /// The limits that are enforced, the daily one as a window of a day.
    pub(crate) fn limits(&self) -> Vec<RateLimit> {
        let daily = self.limits.daily.as_ref().and_then(|daily| u32::try_from(daily.limit()).ok());
        let daily = daily.map(|requests| RateLimit::new(requests, DAY));
        self.limits.windows.limits().chain(daily).collect()
    }

    fn handle(&mut self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let now = self.clock.now();
        let number = self.journal.arrived(now.instant);
        let mut request = Request { number, method, path, query, headers, body, now, row_faults: None };
        let mut after = self.dialect.takes(&request);
        let outcome = match self.faults.next(path, now.since_start) {
            None => Ok(self.answer(&request)),
            Some(Fault::Slow { ms }) => {
                after += Duration::from_millis(ms);
                Ok(self.answer(&request))
            }
            Some(Fault::Status { code, retry_after }) => Ok(self.failing(code, retry_after, &request)),
            Some(Fault::Unauthorized) => Ok(self.refuse(Refusal::Unauthorized, &request)),
            Some(Fault::QuotaGone) => Ok(self.refuse(Refusal::QuotaGone, &request)),
            Some(Fault::DayUsedUp { retry_after }) => {
                self.limits.close(now.since_start, retry_after);
                Ok(self.answer(&request))
            }
            Some(Fault::RefuseRows { every, code, message, field }) => {
                request.row_faults = Some((every, RowError { code, message, field }));
                Ok(self.answer(&request))
            }
            Some(Fault::NotJson) => Ok(html(StatusCode::OK, "We will be back soon")),
            Some(Fault::WrongJson) => {
                drop(self.answer(&request));
                let mut response = json_response(StatusCode::OK, &json!({"message": "done"}));
                self.dialect.decorate(&mut self.limits, now, response.headers_mut());
                Ok(response)
            }
            Some(Fault::Reset) => Err(Broken::Reset),
            Some(Fault::AnswerLost) => {
                drop(self.answer(&request));
                Err(Broken::AnswerLost)
            }
            Some(Fault::Truncated) => Err(truncated(self.answer(&request))),
        };
        let ended = match &outcome {
            Ok(response) => Ended::Answered(response.status().as_u16()),
            Err(Broken::Reset) => Ended::Reset,
            Err(Broken::AnswerLost) => Ended::AnswerLost,
            Err(Broken::Truncated { .. }) => Ended::Truncated,
        };
        self.journal.ended(path, ended);
        Reply { after, outcome }
    }

    fn answer(&mut self, request: &Request<'_>) -> Response<Bytes> {
        if !self.dialect.authorized(request) {
            return self.refuse(Refusal::Unauthorized, request);
        }
        if let Err((refusal, wait)) = self.limits.admit(request.now, self.dialect.says_retry_after()) {
            let mut response = self.refuse(refusal, request);
            if let Some(wait) = wait {
                // Rounded up: a whole number of seconds after which a place is surely free.
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            return response;
        }
        let mut response = self.dialect.respond(request, &mut self.journal);
        self.dialect.decorate(&mut self.limits, request.now, response.headers_mut());
        response
    }

    fn refuse(&mut self, refusal: Refusal, request: &Request<'_>) -> Response<Bytes> {
        let mut response = self.dialect.refuse(refusal, request);
        self.dialect.decorate(&mut self.limits, request.now, response.headers_mut());
        response
    }

    fn failing(
        &mut self,
        code: u16,
        retry_after: Option<RetryAfter>,
        request: &Request<'_>,
    ) -> Response<Bytes> {
        let refusal = match code {
            429 => Refusal::Throttled,
            401 => Refusal::Unauthorized,
            _ => Refusal::Status(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)),
        };
        let mut response = self.refuse(refusal, request);
        match retry_after {
            None => {}
            Some(RetryAfter::Seconds(seconds)) => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            Some(RetryAfter::DateInSeconds(seconds)) => {
                let mut date = |name, ahead| {
                    if let Ok(value) = HeaderValue::try_from(request.now.http_date(ahead)) {
                        response.headers_mut().insert(name, value);
                    }
                };
                date(RETRY_AFTER, Duration::from_secs(seconds));
                date(DATE, Duration::ZERO);
            }
        }
        response
    }
}

fn truncated(response: Response<Bytes>) -> Broken {
    let full_length = response.body().len();
    if full_length < 2 {
        return Broken::AnswerLost;
    }
    let partial = Box::new(response.map(|body| body.slice(..full_length / 2)));
    Broken::Truncated { partial, full_length }
}

/// An answer with a JSON body.
pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Bytes> {
    with_body(status, "application/json;charset=utf-8", Bytes::from(body.to_string()))
}

/// An answer with a page for people, as gateways give it.
pub(crate) fn html(status: StatusCode, text: &str) -> Response<Bytes> {
    with_body(status, "text/html", Bytes::from(format!("<html><body><h1>{text}</h1></body></html>")))
}

/// An answer with a text that is no JSON.
pub(crate) fn text(status: StatusCode, content_type: &'static str, text: String) -> Response<Bytes> {
    with_body(status, content_type, Bytes::from(text))
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Whether a request says that its body is JSON.
pub(crate) fn claims_json(headers: &HeaderMap) -> bool {
    claims(headers, "application/json")
}

/// Whether the headers say that the body is of this kind.
pub(crate) fn claims(headers: &HeaderMap, kind: &str) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|claimed| claimed.trim().eq_ignore_ascii_case(kind))
}
