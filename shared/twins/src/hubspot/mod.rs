//! The HubSpot twin: batch calls on CRM objects.
//!
//! Facts from HubSpot's developer documentation: batch reference pages of the CRM objects API, "Error handling", "API
//! usage guidelines and limits", "2026-09 migration guide".

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header::AUTHORIZATION};
use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::Value;

use crate::{
    clock::Moment,
    desk::{
        Dialect, Limits, Refusal, Reply, Request, Setting, SharedDesk, Twin, claims_json, html, json_response,
    },
    faults::Script,
    journal::Journal,
    server::RunningTwin,
    window::RateLimit,
};

mod associations;
mod batch;
mod oauth;
mod objects;
mod problem;
mod properties;

pub use objects::HubSpotRecord;
pub use properties::{Kind, Property, Schema};

use associations::{Association, Label};
use batch::Call;
use oauth::App;
use objects::Object;
use problem::{over_limit, refused};

/// The limit of a private app in a Professional or Enterprise account: 190 requests in 10 seconds.
const PROFESSIONAL: RateLimit = RateLimit::new(190, Duration::from_secs(10));

/// What an invalid value or a conflict in a row does to its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRows {
    /// A row with an `objectWriteTraceId` is reported in `errors` and the others are written; one without fails the
    /// batch. The default.
    Reported,
    /// It always fails the whole batch, with 400 or 409.
    FailTheBatch,
}

/// The order of a batch answer's `results`. HubSpot promises none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultOrder {
    /// A random order that follows from the seed. The default, with seed 0.
    Shuffled {
        /// Where the shuffling starts.
        seed: u64,
    },
    /// As sent.
    AsSent,
}

/// The simulated HubSpot account. Clones share one state.
#[derive(Clone)]
pub struct HubSpotTwin(SharedDesk<HubSpot>);

/// Settings of a [`HubSpotTwin`].
pub struct HubSpotTwinBuilder {
    token: String,
    app: App,
    versions: Vec<String>,
    objects: BTreeMap<String, Schema>,
    invalid_rows: InvalidRows,
    order: ResultOrder,
    setting: Setting,
}

impl HubSpotTwinBuilder {
    /// The access token that is accepted; `pat-twin` by default.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = token.into();
        self
    }

    /// The app that may ask for access tokens: `twin-app`, `twin-secret` and `twin-refresh-0` by default.
    pub fn app(mut self, client_id: &str, client_secret: &str, refresh_token: &str) -> Self {
        client_id.clone_into(&mut self.app.client_id);
        client_secret.clone_into(&mut self.app.client_secret);
        refresh_token.clone_into(&mut self.app.refresh_token);
        self
    }

    /// A refresh token that is used is worth nothing any more: the answer brings another.
    pub fn rotates_refresh_tokens(mut self) -> Self {
        self.app.rotates = true;
        self
    }

    /// The date versions of the API beside v3; `2026-03` and `2026-09` by default.
    pub fn versions<S: Into<String>>(mut self, versions: impl IntoIterator<Item = S>) -> Self {
        self.versions = versions.into_iter().map(Into::into).collect();
        self
    }

    /// Adds or replaces an object type. `contacts`, `companies`, `deals` and `tickets` are there with their standard properties.
    pub fn object(mut self, name: &str, schema: Schema) -> Self {
        self.objects.insert(name.to_owned(), schema);
        self
    }

    /// Adds a property to an object type, which is made with [`Schema::bare`] if it is not there.
    pub fn property(mut self, object: &str, name: &str, property: Property) -> Self {
        let schema = self.objects.remove(object).unwrap_or_else(Schema::bare);
        self.objects.insert(object.to_owned(), schema.with(name, property));
        self
    }

    /// What an invalid row does to its batch.
    pub fn invalid_rows(mut self, invalid_rows: InvalidRows) -> Self {
        self.invalid_rows = invalid_rows;
        self
    }

    /// The order of results.
    pub fn result_order(mut self, order: ResultOrder) -> Self {
        self.order = order;
        self
    }

    // 190 requests in 10 seconds by default.
    crate::desk::settings!();

    /// The twin without a server.
    pub fn build(self) -> HubSpotTwin {
        let objects = self.objects.into_iter().map(|(name, schema)| (name, Object::new(schema))).collect();
        let hubspot = HubSpot {
            token: self.token,
            app: self.app,
            versions: self.versions,
            objects,
            invalid_rows: self.invalid_rows,
            shuffle: match self.order {
                ResultOrder::Shuffled { seed } => Some(StdRng::seed_from_u64(seed)),
                ResultOrder::AsSent => None,
            },
            // Away from 1, so that an id is not taken for a position or a key.
            next_id: 51_001,
            associations: BTreeSet::new(),
            labels: BTreeMap::new(),
        };
        HubSpotTwin(SharedDesk::new(hubspot, self.setting))
    }

    /// The twin as a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port can be bound.
    pub async fn start(self) -> io::Result<RunningTwin<HubSpotTwin>> {
        RunningTwin::start(self.build(), 0).await
    }
}

impl HubSpotTwin {
    /// A twin with defaults, to be changed.
    pub fn builder() -> HubSpotTwinBuilder {
        HubSpotTwinBuilder {
            token: "pat-twin".to_owned(),
            app: App::new(),
            versions: vec!["2026-03".to_owned(), "2026-09".to_owned()],
            objects: BTreeMap::from([
                ("contacts".to_owned(), Schema::contacts()),
                ("companies".to_owned(), Schema::companies()),
                ("deals".to_owned(), Schema::deals()),
                ("tickets".to_owned(), Schema::tickets()),
            ]),
            invalid_rows: InvalidRows::Reported,
            order: ResultOrder::Shuffled { seed: 0 },
            setting: Setting::new(PROFESSIONAL),
        }
    }

    /// From now on only this token is accepted, as after a rotation.
    pub fn replace_token(&self, token: impl Into<String>) {
        self.0.lock().dialect.token = token.into();
    }

    /// Ends every session: access tokens that were given out are not taken any more.
    pub fn end_sessions(&self) {
        self.0.lock().dialect.app.end_sessions();
    }

    /// Puts a record into an object without a request, unchecked and unnoted in the journal. Gives its id, or nothing
    /// if there is no such object.
    pub fn seed<'a>(
        &self,
        object: &str,
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<String> {
        let mut desk = self.0.lock();
        let now = desk.clock.now().rfc3339();
        let hubspot = &mut desk.dialect;
        let object = hubspot.objects.get_mut(object)?;
        let id = hubspot.next_id;
        hubspot.next_id += 1;
        let properties =
            properties.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        object.create(id, &now);
        object.write(id, &properties, &now)?;
        Some(id.to_string())
    }

    /// The records of an object, by ascending id.
    pub fn records(&self, object: &str) -> Vec<HubSpotRecord> {
        self.of(object, |object| object.records().cloned().collect()).unwrap_or_default()
    }

    /// How many records an object has.
    pub fn count(&self, object: &str) -> usize {
        self.of(object, |object| object.records().count()).unwrap_or_default()
    }

    /// The record with this value of a unique property; `hs_object_id` is HubSpot's own id.
    pub fn record(&self, object: &str, property: &str, value: &str) -> Option<HubSpotRecord> {
        self.of(object, |object| object.find(property, value).and_then(|id| object.get(id)).cloned())?
    }

    /// The ids of another object's records that a record is associated with.
    pub fn associated(&self, object: &str, id: &str, other: &str) -> Vec<String> {
        let desk = self.0.lock();
        let from = (object, id.parse().unwrap_or_default());
        associations::of(&desk.dialect.associations, from, other).map(|id| id.to_string()).collect()
    }

    /// The types that were given to the association of a record with another one: category and id of each.
    pub fn labels(&self, object: &str, id: &str, other: &str, other_id: &str) -> BTreeSet<(String, u32)> {
        let number = |id: &str| id.parse().unwrap_or_default();
        let pair = (object.to_owned(), number(id), other.to_owned(), number(other_id));
        self.0.lock().dialect.labels.get(&pair).cloned().unwrap_or_default()
    }

    /// The records of an object that were archived, in that order.
    pub fn archived(&self, object: &str) -> Vec<HubSpotRecord> {
        self.of(object, |object| object.archived().to_vec()).unwrap_or_default()
    }

    fn of<R>(&self, object: &str, ask: impl FnOnce(&Object) -> R) -> Option<R> {
        self.0.lock().dialect.objects.get(object).map(ask)
    }
}

impl Twin for HubSpotTwin {
    fn handle(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        self.0.handle(method, path, headers, body)
    }

    fn journal(&self) -> Journal {
        self.0.lock().journal.clone()
    }

    fn held(&self) -> BTreeMap<String, usize> {
        let names: Vec<String> = self.0.lock().dialect.objects.keys().cloned().collect();
        let held = names.into_iter().map(|name| (name.clone(), self.count(&name)));
        held.filter(|(_, count)| *count > 0).collect()
    }

    fn set_faults(&self, script: Script) {
        self.0.set_faults(script);
    }
}

pub(crate) struct HubSpot {
    token: String,
    app: App,
    versions: Vec<String>,
    objects: HashMap<String, Object>,
    invalid_rows: InvalidRows,
    shuffle: Option<StdRng>,
    next_id: u64,
    associations: BTreeSet<Association>,
    /// The types that associations were given, by their own direction.
    labels: BTreeMap<Association, BTreeSet<Label>>,
}

/// What a path means.
enum Route {
    /// A batch call on an object's records.
    Batch(String, Call),
    /// A batch of associations between two objects' records, with types of their own or with the default one.
    Associate { from: String, to: String, typed: bool },
    /// An object's properties.
    Properties(String),
    /// An object's first records.
    List(String),
}

impl HubSpot {
    /// What a path means: `/crm/objects/{date}/{object}/batch/{call}` or `/crm/v3/objects/{object}/batch/{call}`,
    /// `/crm/associations/{date}/{from}/{to}/batch/…` or `/crm/v4/associations/…`, `/crm/properties/{date}/{object}`.
    fn route(&self, method: &Method, path: &str) -> Option<Route> {
        let rest = path.strip_prefix("/crm/")?;
        let parts: Vec<&str> = rest.split('/').collect();
        let known = |version: &str| self.versions.iter().any(|known| known == version);
        let parts = match parts.as_slice() {
            [what, version, rest @ ..] if known(version) => Some((*what, rest)),
            ["v3", what @ ("objects" | "properties"), rest @ ..]
            | ["v4", what @ "associations", rest @ ..] => Some((*what, rest)),
            _ => None,
        };
        let (what, rest) = parts?;
        let post = method == Method::POST;
        Some(match (what, rest) {
            ("objects", [object, "batch", call]) => Route::Batch(named(object), Call::named(call)?),
            ("objects", [object]) if !post => Route::List(named(object)),
            ("properties", [object]) if !post => Route::Properties(named(object)),
            ("associations", [from, to, "batch", "associate", "default"]) => {
                Route::Associate { from: named(from), to: named(to), typed: false }
            }
            ("associations", [from, to, "batch", "create"]) => {
                Route::Associate { from: named(from), to: named(to), typed: true }
            }
            _ => return None,
        })
    }

    /// Whether a path is `/oauth/{date}/token` or `/oauth/v3/token`.
    fn is_token_path(&self, path: &str) -> bool {
        let version = path.strip_prefix("/oauth/").and_then(|rest| rest.strip_suffix("/token"));
        version.is_some_and(|version| version == "v3" || self.versions.iter().any(|known| known == version))
    }

    fn order(&mut self, results: &mut [Value]) {
        if let Some(random) = &mut self.shuffle {
            results.shuffle(random);
        }
    }
}

/// An object's name. HubSpot also takes the type's id and its singular.
fn named(object: &str) -> String {
    match object {
        "0-1" | "contact" => "contacts",
        "0-2" | "company" => "companies",
        "0-3" | "deal" => "deals",
        "0-5" | "ticket" => "tickets",
        other => other,
    }
    .to_owned()
}

impl Dialect for HubSpot {
    fn authorized(&self, request: &Request<'_>) -> bool {
        let value = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| {
            // Schemes are case-insensitive (RFC 9110 section 11.1).
            scheme.eq_ignore_ascii_case("bearer")
        });
        self.is_token_path(request.path)
            || token.is_some_and(|(_, token)| {
                token.trim() == self.token || self.app.knows(token.trim(), request.now.since_start)
            })
    }

    fn refuse(&self, refusal: Refusal, request: &Request<'_>) -> Response<Bytes> {
        match refusal {
            Refusal::Throttled => over_limit("TEN_SECONDLY_ROLLING", "ten_secondly_rolling", request.number),
            Refusal::QuotaGone => over_limit("DAILY", "daily", request.number),
            Refusal::Unauthorized => {
                let (category, message) = if request.headers.contains_key(AUTHORIZATION) {
                    (
                        "EXPIRED_AUTHENTICATION",
                        "The access token used to make this call is expired or invalid.",
                    )
                } else {
                    ("INVALID_AUTHENTICATION", "Authentication credentials not found.")
                };
                refused(StatusCode::UNAUTHORIZED, category, message, request.number)
            }
            Refusal::Status(status) if matches!(status.as_u16(), 502..=504) => {
                html(status, status.canonical_reason().unwrap_or("Error"))
            }
            Refusal::Status(status) => refused(status, "INTERNAL", "internal error", request.number),
        }
    }

    fn says_retry_after(&self) -> bool {
        false
    }

    fn respond(&mut self, request: &Request<'_>, journal: &mut Journal) -> Response<Bytes> {
        if self.is_token_path(request.path) && *request.method == Method::POST {
            return self.app.grant(request);
        }
        let Some(route) = self.route(request.method, request.path) else {
            return refused(StatusCode::NOT_FOUND, "NOT_FOUND", "resource not found", request.number);
        };
        match &route {
            Route::Properties(object) | Route::List(object) if !self.objects.contains_key(object) => {
                let message = format!("Unable to infer object type from: {object}");
                return refused(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &message, request.number);
            }
            Route::Properties(name) => {
                let described = self.objects.get(name).map(|object| object.schema.described());
                return json_response(StatusCode::OK, &described.unwrap_or_default());
            }
            Route::List(_) => return json_response(StatusCode::OK, &serde_json::json!({"results": []})),
            Route::Batch(..) | Route::Associate { .. } => {}
        }
        if request.method != Method::POST {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return refused(status, "METHOD_NOT_ALLOWED", "HTTP 405 Method Not Allowed", request.number);
        }
        if !claims_json(request.headers) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return refused(
                status,
                "UNSUPPORTED_MEDIA_TYPE",
                "HTTP 415 Unsupported Media Type",
                request.number,
            );
        }
        match route {
            Route::Batch(object, call) => batch::respond(self, &object, call, request, journal),
            Route::Associate { from, to, typed } => associations::respond(self, &from, &to, typed, request),
            Route::Properties(_) | Route::List(_) => {
                refused(StatusCode::NOT_FOUND, "NOT_FOUND", "resource not found", request.number)
            }
        }
    }

    fn decorate(&self, limits: &mut Limits, now: Moment, headers: &mut HeaderMap) {
        let mut set = |name: &'static str, value: u64| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        };
        if let Some((limit, remaining, _)) = limits.windows.tightest(now.instant) {
            set("x-hubspot-ratelimit-max", u64::from(limit.requests));
            set("x-hubspot-ratelimit-remaining", u64::try_from(remaining).unwrap_or(u64::MAX));
            let interval = u64::try_from(limit.within.as_millis()).unwrap_or(u64::MAX);
            set("x-hubspot-ratelimit-interval-milliseconds", interval);
        }
        if let Some(daily) = &mut limits.daily {
            set("x-hubspot-ratelimit-daily", daily.limit());
            set("x-hubspot-ratelimit-daily-remaining", daily.remaining_at(now.since_start));
        }
    }
}
