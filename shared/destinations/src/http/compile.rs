//! From a connector file and a sync to operations that can be encoded and decoded.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_model::connector::template::RowSlot;
use penstock_model::connector::{AuthKind, Connector, Encoding, HttpConnector, HttpOperation, Method};
use penstock_model::definition::{Auth, Limits, Mode, Problem, ResolvedSync, pointer_part};
use penstock_model::operation::OperationKind;

use super::answer::{CompiledAnswer, Meanings};
use super::ask::{self, CompiledAsks};
use super::encode::{CompiledOperation, MatchField, Segment, UrlPart, percent_encode};
use super::template::template;
use super::texts::{Filled, Texts};
use super::transport::{self, HeaderMap, HeaderName, HeaderValue};
use crate::oauth::Endpoint;

/// Requests in flight per chunk, where neither connection nor connector says.
const REQUESTS_IN_FLIGHT: u32 = 8;
/// How long an answer is waited for, where neither connection nor connector says.
const ANSWER_TIMEOUT_S: u32 = 60;
/// Bytes of a body, where the connector doesn't say: below the request limits of usual gateways (10 MB).
const BODY_BYTES: usize = 8 * 1024 * 1024;

/// What a sync's connector can do with its object.
#[derive(Debug)]
pub struct Compiled {
    /// The operations.
    pub operations: BTreeMap<OperationKind, CompiledOperation>,
    /// What has to be asked for the sync's fields.
    pub(super) asks: CompiledAsks,
    /// How a record gets another match value, where the sync may ask for that.
    pub(super) moved: Option<CompiledOperation>,
}

/// Makes a sync's connector ready for its object.
///
/// # Errors
/// Everything in which the sync does not fit the connector. Pointers of problems of the sync begin with `/sync`, of the
/// connection with `/connection`, of the connector file with `/connector`.
pub fn compile(definition: &ResolvedSync, connector: &HttpConnector) -> Result<Compiled, Vec<Problem>> {
    let mut problems: Vec<Problem> = connector
        .validate()
        .into_iter()
        .map(|problem| Problem::at(format!("/connector{}", problem.pointer), problem.message))
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let (mut texts, address) = texts(definition, connector, &mut problems);
    let address = address.as_str();
    let mut compiled = BTreeMap::new();
    match connector.operations(&definition.sync.object) {
        None => problems.push(Problem::at(
            "/sync/object",
            format!("the connector {} does not know the object {}", connector.name, definition.sync.object),
        )),
        Some(operations) => {
            for (kind, operation) in operations {
                let limits = &definition.connection.limits;
                match compile_operation(*kind, operation, connector, limits, address, &mut texts) {
                    Ok(operation) => drop(compiled.insert(*kind, operation)),
                    Err(message) => problems.push(Problem::at("/connector", message)),
                }
            }
        }
    }
    let moved = connector.moved(&definition.sync.object).filter(|_| definition.sync.mode == Mode::Upsert);
    let moved = moved.and_then(|moved| {
        let limits = &definition.connection.limits;
        match compile_operation(OperationKind::Update, moved, connector, limits, address, &mut texts) {
            Ok(operation) => Some(operation),
            Err(message) => {
                problems.push(Problem::at("/connector", message));
                None
            }
        }
    });
    if texts.wants_match_field && texts.match_field.is_none() {
        let message =
            format!("{} identifies records by exactly one field: match must name one", connector.name);
        problems.push(Problem::at("/sync/match", message));
    }
    // Salesforce asks in its own way.
    let asks = match &definition.connector {
        Connector::Http(_) => ask::compile(definition, connector, address, &texts, &mut problems),
        Connector::Salesforce(_) | Connector::Postgres => CompiledAsks::default(),
    };
    if problems.is_empty() { Ok(Compiled { operations: compiled, asks, moved }) } else { Err(problems) }
}

/// What the texts of a connector file are filled with for a sync, and the address to send to. What of the connection does not fit the
/// connector is added to `problems`.
pub(super) fn texts<'a>(
    definition: &'a ResolvedSync,
    connector: &HttpConnector,
    problems: &mut Vec<Problem>,
) -> (Texts<'a>, String) {
    let texts = Texts {
        settings: settings(definition, connector, problems),
        object: &definition.sync.object,
        match_field: match definition.sync.matched.keys().collect::<Vec<_>>().as_slice() {
            [only] => Some((*only).clone()),
            _ => None,
        },
        wants_match_field: false,
        other: None,
        names: None,
        label: None,
    };
    check_sign_in(definition, connector, problems);
    let address = definition.address.trim_end_matches('/');
    let is_address = reqwest::Url::parse(address).is_ok_and(|url| {
        matches!(url.scheme(), "https" | "http") && url.query().is_none() && url.fragment().is_none()
    });
    if !is_address {
        problems.push(Problem::at(
            "/connection/address",
            "the address must be a URL that begins with https:// or http://",
        ));
    }
    (texts, address.to_owned())
}

fn settings(
    definition: &ResolvedSync,
    connector: &HttpConnector,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let chosen = &definition.connection.settings;
    for name in chosen.keys().filter(|name| !connector.settings.contains_key(*name)) {
        let known: Vec<&str> = connector.settings.keys().map(String::as_str).collect();
        let message =
            format!("the connector {} has no such setting; it has: {}", connector.name, known.join(", "));
        problems.push(Problem::at(format!("/connection/settings/{}", pointer_part(name)), message));
    }
    let mut settings = BTreeMap::new();
    for (name, setting) in &connector.settings {
        match chosen.get(name).or(setting.default.as_ref()) {
            Some(value) => drop(settings.insert(name.clone(), value.clone())),
            None => {
                let message = format!("the connector {} needs the setting {name}", connector.name);
                problems.push(Problem::at("/connection/settings", message));
            }
        }
    }
    settings
}

fn check_sign_in(definition: &ResolvedSync, connector: &HttpConnector, problems: &mut Vec<Problem>) {
    let kind = match &definition.connection.auth {
        Auth::None => Some(AuthKind::None),
        Auth::Bearer(_) => Some(AuthKind::Bearer),
        Auth::Basic(_) => Some(AuthKind::Basic),
        Auth::Body(_) => Some(AuthKind::Body),
        Auth::Header(header) => {
            if HeaderName::try_from(header.name.as_str()).is_err() {
                problems.push(Problem::at("/connection/auth/header/name", "this is not a header's name"));
            }
            Some(AuthKind::Header)
        }
        Auth::Password(_) => None,
        Auth::ClientCredentials(_) => Some(AuthKind::ClientCredentials),
        Auth::JwtBearer(_) => Some(AuthKind::JwtBearer),
        Auth::RefreshToken(_) => Some(AuthKind::RefreshToken),
    };
    if definition.connection.auth.oauth().is_some() && token_endpoint(definition, connector).is_none() {
        let message =
            format!("give a token_url that begins with https://: the connector {} has none", connector.name);
        problems.push(Problem::at("/connection/auth", message));
    }
    let accepted = kind.is_some_and(|kind| connector.auth.is_empty() || connector.auth.contains(&kind));
    if !accepted {
        let message = format!(
            "the connector {} does not accept this way to sign in; it accepts: {}",
            connector.name,
            ways(connector)
        );
        problems.push(Problem::at("/connection/auth", message));
    }
}

/// Where access tokens are had, if they are how to sign in and somebody says so: the connection, else the connector.
pub(crate) fn token_endpoint(definition: &ResolvedSync, connector: &HttpConnector) -> Option<Endpoint> {
    let oauth = definition.connection.auth.oauth()?;
    let url = match (&oauth.token_url, &connector.token_url) {
        (Some(url), _) => url.clone(),
        (None, Some(url)) => {
            let mut texts = Texts {
                settings: settings(definition, connector, &mut Vec::new()),
                object: &definition.sync.object,
                match_field: None,
                wants_match_field: false,
                other: None,
                names: None,
                label: None,
            };
            texts.text(url).ok()?
        }
        (None, None) => return None,
    };
    let url = match url.strip_prefix('/') {
        Some(path) => format!("{}/{path}", definition.address.trim_end_matches('/')),
        None => url,
    };
    let is_url = reqwest::Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "https" | "http"));
    is_url.then(|| Endpoint::new(url))
}

fn ways(connector: &HttpConnector) -> String {
    let all = [
        AuthKind::None,
        AuthKind::Bearer,
        AuthKind::Basic,
        AuthKind::Header,
        AuthKind::Body,
        AuthKind::ClientCredentials,
        AuthKind::JwtBearer,
        AuthKind::RefreshToken,
    ];
    let kinds = if connector.auth.is_empty() { &all } else { connector.auth.as_slice() };
    let names = kinds.iter().map(|kind| match kind {
        AuthKind::None => "none",
        AuthKind::Bearer => "bearer",
        AuthKind::Basic => "basic",
        AuthKind::Header => "header",
        AuthKind::ClientCredentials => "client_credentials",
        AuthKind::JwtBearer => "jwt_bearer",
        AuthKind::RefreshToken => "refresh_token",
        AuthKind::Body => "body",
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Makes one operation ready. `texts` say for which object, by which match field, and of a read for which fields.
///
/// # Errors
/// What in the connector file does not fit, in words.
pub(super) fn compile_operation(
    kind: OperationKind,
    operation: &HttpOperation,
    connector: &HttpConnector,
    limits: &Limits,
    address: &str,
    texts: &mut Texts<'_>,
) -> Result<CompiledOperation, String> {
    let mut url = vec![UrlPart::Static(address.to_owned())];
    for part in texts.parts(&operation.path)? {
        url.push(match part {
            Filled::Literal(text) => UrlPart::Static(text),
            Filled::Value(value) => {
                let mut encoded = String::new();
                percent_encode(&mut encoded, &value);
                UrlPart::Static(encoded)
            }
            Filled::MatchValue => UrlPart::MatchValue,
            Filled::Id => UrlPart::Id,
            Filled::Ids => UrlPart::Ids,
            Filled::OtherId => UrlPart::OtherId,
        });
    }
    let template = |body| template(body, operation.encoding, texts);
    let body = operation.body.as_ref().map(template).transpose()?;
    let rows = [connector.limits.rows_per_request, limits.rows_per_request];
    let rows = rows.into_iter().flatten().fold(operation.batch.rows, u32::min).max(1);
    let in_body =
        |wanted: RowSlot| body.as_ref().is_some_and(|template| template.row.contains(&Segment::Slot(wanted)));
    let answer = {
        let meanings = Meanings {
            statuses: connector.statuses.iter().chain(&operation.statuses).map(|(k, v)| (*k, *v)).collect(),
            codes: connector.codes.iter().chain(&operation.codes).map(|(k, v)| (k.clone(), *v)).collect(),
            row_in_path: url
                .iter()
                .any(|part| matches!(part, UrlPart::MatchValue | UrlPart::Id | UrlPart::OtherId)),
        };
        let names = texts.names.clone();
        let fill = &mut |pointer: &_| texts.pointer(pointer);
        CompiledAnswer::compile(&operation.answer, &connector.error, meanings, names.as_deref(), fill)?
    };
    Ok(CompiledOperation {
        kind,
        repeat: operation.repeat(kind),
        idempotency_key: operation.idempotency_key.as_deref().map(header_name).transpose()?,
        rows: rows.try_into().unwrap_or(usize::MAX),
        bytes: operation.batch.bytes.map_or(BODY_BYTES, |bytes| bytes.try_into().unwrap_or(usize::MAX)),
        method: match operation.method {
            Method::Post => transport::Method::POST,
            Method::Put => transport::Method::PUT,
            Method::Patch => transport::Method::PATCH,
            Method::Delete => transport::Method::DELETE,
            Method::Get => transport::Method::GET,
        },
        needs_id: operation.needs_id(),
        needs_match_value: url.contains(&UrlPart::MatchValue) || in_body(RowSlot::MatchValue),
        url,
        headers: headers(connector, operation, texts)?,
        body,
        match_field: MatchField::new(texts.match_field.clone()),
        answer,
    })
}

fn headers(
    connector: &HttpConnector,
    operation: &HttpOperation,
    texts: &mut Texts<'_>,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(reqwest::header::ACCEPT, HeaderValue::from_static("application/json"));
    if operation.body.is_some() {
        let kind = match operation.encoding {
            Encoding::Json => "application/json",
            Encoding::Form => "application/x-www-form-urlencoded",
        };
        headers.insert(reqwest::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, text) in &connector.headers {
        let value = texts.text(text)?;
        let value = HeaderValue::try_from(value)
            .map_err(|_| format!("the header {name} holds what no header may"))?;
        headers.insert(header_name(name)?, value);
    }
    Ok(headers)
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("{name} is not a header's name"))
}

/// The limits of an account: the connection's, else the connector's, else Penstock's.
pub(crate) struct EffectiveLimits {
    pub(crate) requests_in_flight: usize,
    pub(crate) answer_timeout: Duration,
    /// Requests and the time in which so many are allowed. Requests per day are no matter of pace: push keeps count.
    pub(crate) windows: Vec<(u32, Duration)>,
}

pub(crate) fn limits(connection: &Limits, connector: &Limits) -> EffectiveLimits {
    let limits = connection.or(connector);
    let windows = [
        (limits.requests_per_second, 1),
        (limits.requests_per_10_seconds, 10),
        (limits.requests_per_minute, 60),
    ];
    let in_flight = limits.requests_in_flight.unwrap_or(REQUESTS_IN_FLIGHT);
    let timeout = limits.answer_timeout_s.unwrap_or(ANSWER_TIMEOUT_S);
    EffectiveLimits {
        requests_in_flight: in_flight.max(1).try_into().unwrap_or(usize::MAX),
        answer_timeout: Duration::from_secs(u64::from(timeout)),
        windows: windows
            .into_iter()
            .filter_map(|(count, s)| Some((count?, Duration::from_secs(s))))
            .collect(),
    }
}
