//! What the twin of a connector file does with a request.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use bytes::Bytes;
use penstock_model::{
    connector::{Encoding, HttpConnector, Meaning, Method, RefusedRest},
    operation::OperationKind,
    settle::Repeat,
};
use serde_json::{Value, json, value::RawValue};

use super::{
    Compiled, RefuseRow, RefusedRows,
    answer::{Fate, Teller, Told},
    asked::{AskedRow, Link},
    body::{Misfit, Pattern, Row},
    meaning::code_for,
    records::{ConnectorRecord, Effect, Object, RowProblem, to_value},
    rows::{Taken, take},
    text::{Captures, TextPattern},
};
use crate::{
    batch::Auth,
    clock::Moment,
    desk::{Dialect, Limits, Refusal, Request, claims, json_response},
    journal::{Applied, Journal},
    row_error::RowError,
};

pub(crate) struct Api {
    pub(super) connector: HttpConnector,
    operations: Vec<Arc<Compiled>>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) auth: Auth,
    /// What requests are about that don't say.
    object: String,
    keys: BTreeMap<String, Vec<String>>,
    refused_rows: RefusedRows,
    refuse_duplicates: bool,
    says_retry_after: bool,
    refuse_row: Option<Arc<RefuseRow>>,
    pub(super) objects: BTreeMap<String, Object>,
    next_id: u64,
    /// By path and idempotency key: the body and its answer.
    answered: HashMap<(String, Vec<u8>), (Bytes, Response<Bytes>)>,
    pub(super) links: BTreeSet<Link>,
}

/// A request that fits an operation.
pub(super) struct Fitting {
    pub(super) compiled: Arc<Compiled>,
    pub(super) object: String,
    rows: Vec<Taken>,
    /// In place of rows, where nothing is written.
    pub(super) asked: Vec<AskedRow>,
    /// The credential, where it stands in the body.
    secret: Option<String>,
}

/// Why a request is refused before its rows are looked at.
struct Unfit {
    status: StatusCode,
    message: String,
}

impl Unfit {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl Api {
    pub(super) fn new(
        connector: HttpConnector,
        operations: Vec<Compiled>,
        settings: BTreeMap<String, String>,
        auth: Auth,
        object: String,
        keys: BTreeMap<String, Vec<String>>,
    ) -> Self {
        let keys = keys.into_iter().map(|(object, mut fields)| {
            fields.sort();
            (object, fields)
        });
        Self {
            connector,
            operations: operations.into_iter().map(Arc::new).collect(),
            settings,
            auth,
            object,
            keys: keys.collect(),
            refused_rows: RefusedRows::default(),
            refuse_duplicates: false,
            says_retry_after: true,
            refuse_row: None,
            objects: BTreeMap::new(),
            next_id: 1_000,
            answered: HashMap::new(),
            links: BTreeSet::new(),
        }
    }

    pub(super) fn with(
        self,
        refused_rows: RefusedRows,
        refuse_duplicates: bool,
        says_retry_after: bool,
        refuse_row: Option<Arc<RefuseRow>>,
    ) -> Self {
        Self { refused_rows, refuse_duplicates, says_retry_after, refuse_row, ..self }
    }

    pub(super) fn seed(&mut self, object: &str, key: &str, fields: &Value) -> String {
        self.next_id += 1;
        let id = self.next_id.to_string();
        let members = fields.as_object().into_iter().flatten();
        let fields = members.map(|(name, value)| (name.clone(), value.to_string())).collect();
        let record = ConnectorRecord { key: key.to_owned(), id: id.clone(), fields };
        self.objects.entry(object.to_owned()).or_default().insert(record);
        id
    }

    pub(super) fn keys(&self, object: &str) -> Option<&[String]> {
        self.keys.get(object).or_else(|| self.keys.get("*")).map(Vec::as_slice)
    }

    /// The operations whose path this is, with what the path tells.
    fn at_path(&self, path: &str) -> Vec<(Arc<Compiled>, Captures)> {
        let listed = |object: &str| object != "*" && self.connector.objects.contains_key(object);
        let fits = |compiled: &Arc<Compiled>| {
            let captures = compiled.path.read(path)?;
            let object = captures.iter().find(|(what, _)| *what == super::Capture::Object);
            let own = match object {
                Some((_, object)) if compiled.object == "*" => !listed(object),
                Some((_, object)) => *object == compiled.object,
                None => true,
            };
            own.then(|| (Arc::clone(compiled), captures))
        };
        let mut found: Vec<_> = self.operations.iter().filter_map(fits).collect();
        // An object that is listed by name comes before all others.
        let fixed = |compiled: &Compiled| Reverse(compiled.body.as_ref().map_or(0, Pattern::fixed));
        found.sort_by_key(|(compiled, _)| {
            (compiled.object == "*", compiled.purpose, fixed(compiled), compiled.kind)
        });
        found
    }

    /// The operation that a request asks for, and its rows.
    fn fit(&self, request: &Request<'_>) -> Result<Fitting, Unfit> {
        let path = whole_path(request);
        let mut found = self.at_path(&path);
        if found.is_empty() {
            return Err(Unfit::new(
                StatusCode::NOT_FOUND,
                "no operation of the connector file has this path",
            ));
        }
        found.retain(|(compiled, _)| method(compiled.operation.method) == request.method.as_str());
        let mut first = None;
        for (compiled, captures) in found {
            match self.read(compiled, captures, request) {
                Ok(fitting) => return Ok(fitting),
                Err(unfit) => drop(first.get_or_insert(unfit)),
            }
        }
        Err(first.unwrap_or_else(|| {
            Unfit::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "no operation of the connector file has this method here",
            )
        }))
    }

    /// Reads a request as this operation.
    fn read(
        &self,
        compiled: Arc<Compiled>,
        captures: Captures,
        request: &Request<'_>,
    ) -> Result<Fitting, Unfit> {
        let bad = |message: String| Unfit::new(StatusCode::BAD_REQUEST, message);
        let operation = &compiled.operation;
        let mut shared = Row::default();
        let misfit = |Misfit { at, why }| bad(format!("{at}: {why}"));
        shared.learn(captures, "the path").map_err(misfit)?;
        let form;
        let rows = match &compiled.body {
            None if request.body.is_empty() => vec![shared],
            None => return Err(bad("this operation has no body".to_owned())),
            Some(_) if !self.names_kind() && !claims(request.headers, kind_of(operation.encoding)) => {
                let message = format!("the body must be {}", kind_of(operation.encoding));
                return Err(Unfit::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
            }
            Some(template) => {
                if let Some(most) = operation.batch.bytes
                    && request.body.len() > usize::try_from(most).unwrap_or(usize::MAX)
                {
                    let message = format!("a body has at most {most} bytes");
                    return Err(Unfit::new(StatusCode::PAYLOAD_TOO_LARGE, message));
                }
                form = match operation.encoding {
                    Encoding::Json => None,
                    Encoding::Form => Some(
                        template
                            .of_form(request.body)
                            .ok_or_else(|| bad("the body is no form".to_owned()))?,
                    ),
                };
                let text = form.as_ref().map_or(request.body, |form| form.as_bytes());
                let body: &RawValue =
                    serde_json::from_slice(text).map_err(|_| bad("the body is not JSON".to_owned()))?;
                template.rows(body, shared).map_err(misfit)?
            }
        };
        let most = usize::try_from(operation.batch.rows).unwrap_or(usize::MAX);
        if rows.is_empty() || rows.len() > most {
            return Err(bad(format!("a request has 1 to {most} rows")));
        }
        let object = match rows.first().and_then(|row| row.object.clone()) {
            Some(object) => object,
            None if compiled.object == "*" => self.object.clone(),
            None => compiled.object.clone(),
        };
        self.check_headers(request, &object)?;
        let secret = rows.first().and_then(|row| row.secret.clone());
        let mut ordinals = HashSet::new();
        if rows.iter().filter_map(|row| row.ordinal.as_ref()).any(|ordinal| !ordinals.insert(ordinal.clone()))
        {
            return Err(bad("an ordinal stands twice".to_owned()));
        }
        if compiled.purpose != super::Purpose::Write {
            let asked = rows.into_iter().map(AskedRow::from).collect();
            return Ok(Fitting { compiled, object, rows: Vec::new(), asked, secret });
        }
        let keys = self.keys(&object);
        let taken = rows
            .into_iter()
            .map(|row| take(row, compiled.kind, keys, self.connector.values, compiled.moves))
            .collect::<Result<Vec<_>, _>>()
            .map_err(misfit)?;
        Ok(Fitting { compiled, object, rows: taken, asked: Vec::new(), secret })
    }

    /// Whether the file itself says of what kind bodies are: then it is asked for among the headers.
    fn names_kind(&self) -> bool {
        self.connector.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"))
    }

    /// Asks for the headers that the file says every request has.
    fn check_headers(&self, request: &Request<'_>, object: &str) -> Result<(), Unfit> {
        for (name, text) in &self.connector.headers {
            let given = request.headers.get(name.as_str()).and_then(|value| value.to_str().ok());
            let pattern = TextPattern::plain(text, &self.settings).ok();
            let read = pattern.and_then(|pattern| pattern.read(given?));
            let fits = read.is_some_and(|captures| {
                captures.iter().all(|(what, text)| *what != super::Capture::Object || text == object)
            });
            if !fits {
                return Err(Unfit::new(
                    StatusCode::BAD_REQUEST,
                    format!("the header {name} is not as the file says"),
                ));
            }
        }
        Ok(())
    }

    /// Carries out a request.
    fn carry_out(
        &mut self,
        fitting: &Fitting,
        request: &Request<'_>,
        journal: &mut Journal,
    ) -> Response<Bytes> {
        let Fitting { compiled, object, rows, asked: _, secret: _ } = fitting;
        let kind = compiled.kind;
        let asked: Vec<_> =
            rows.iter().enumerate().map(|(n, row)| self.checked(object, n, row, rows, request)).collect();
        let stored = self.objects.entry(object.clone()).or_default();
        let mut plan = stored.plan(kind, &asked);
        if kind == OperationKind::Append && compiled.operation.repeat(kind) == Repeat::Safe {
            // An API that may be told twice recognises what it has by a key: without one the file promises too much.
            for (planned, asked) in plan.iter_mut().zip(&asked) {
                if let (Ok(effect), Ok(asked)) = (planned, asked)
                    && asked.key.as_ref().is_some_and(|key| stored.appended.iter().any(|it| it.key == *key))
                {
                    *effect = Effect::Nothing;
                }
            }
        }
        let teller = Teller {
            connector: &self.connector,
            settings: &self.settings,
            compiled,
            object,
            match_field: rows.first().and_then(|row| row.match_field.as_deref()),
        };
        if matches!(
            kind,
            OperationKind::Delete | OperationKind::Archive | OperationKind::Update | OperationKind::Clear
        ) {
            let can_say_missing = if teller.names_rows() {
                code_for(&self.connector, Meaning::Missing).is_some()
            } else {
                rows.len() == 1 && teller.can_say(Meaning::Missing, 1)
            };
            if !can_say_missing {
                // What is not there need not be removed, and is left alone: such an API says nothing of it.
                for planned in plan.iter_mut().filter(|planned| matches!(planned, Err(RowProblem::Missing))) {
                    *planned = Ok(Effect::Nothing);
                }
            }
        }
        let told = |fate, row: &Taken| Told {
            ordinal: row.ordinal.clone(),
            matched: row.matched.clone(),
            id: row.asked.as_ref().ok().and_then(|asked| asked.id.clone()),
            fate,
        };
        let problem = plan.iter().find_map(|planned| planned.as_ref().err());
        if let Some(problem) = problem {
            let together = match self.refused_rows {
                RefusedRows::AsDeclared | RefusedRows::MultiStatus if teller.names_rows() => None,
                // By such a file a refusal that names rows has accepted the others.
                RefusedRows::RefuseAndName
                    if compiled.operation.answer.refused_rest == RefusedRest::Accepted =>
                {
                    None
                }
                RefusedRows::AsDeclared | RefusedRows::MultiStatus | RefusedRows::Refuse => Some(false),
                RefusedRows::RefuseAndName => Some(true),
            };
            if let Some(named) = together {
                if rows.len() == 1 {
                    let (meaning, error) = said(&self.connector, problem);
                    return teller.refused(meaning, &error, 1);
                }
                let refused: Vec<Told> = (plan.iter().zip(rows))
                    .map(|(planned, row)| match planned {
                        Ok(_) => told(Fate::Accepted { id: String::new(), created: false }, row),
                        Err(problem) => told(Fate::Refused(said(&self.connector, problem).1), row),
                    })
                    .collect();
                return teller.refused_for_rows(&refused, named);
            }
        }
        let mut answers = Vec::with_capacity(rows.len());
        for ((planned, asked), row) in plan.iter().zip(&asked).zip(rows) {
            let (effect, asked) = match (planned, asked) {
                (Ok(effect), Ok(asked)) => (*effect, asked),
                (Err(problem), _) => {
                    answers.push(told(Fate::Refused(said(&self.connector, problem).1), row));
                    continue;
                }
                (Ok(_), Err(error)) => {
                    answers.push(told(Fate::Refused(error.clone()), row));
                    continue;
                }
            };
            let next_id = &mut self.next_id;
            let done = stored.apply(asked, effect, || {
                *next_id += 1;
                next_id.to_string()
            });
            let created = matches!(effect, Effect::Write { creates: true } | Effect::Append);
            answers.push(told(Fate::Accepted { id: done.id.clone(), created }, row));
            journal.apply(Applied {
                sequence: 0,
                request: request.number,
                object: object.clone(),
                action: done.action,
                key: done.key,
                id: done.id,
                at: request.now.since_start,
            });
        }
        teller.carried_out(&answers, self.refused_rows == RefusedRows::MultiStatus)
    }

    /// What a row asks for, or why this twin refuses it whatever it holds.
    fn checked(
        &self,
        object: &str,
        n: usize,
        row: &Taken,
        all: &[Taken],
        request: &Request<'_>,
    ) -> Result<super::records::Asked, RowError> {
        if let Some(error) = request.refused_row(n) {
            return Err(error);
        }
        let asked = row.asked.clone()?;
        if let Some(error) =
            self.refuse_row.as_ref().and_then(|refuse| refuse(object, &to_value(&asked.fields)))
        {
            return Err(error);
        }
        let alike = |other: &&Taken| row.matched.is_some() && other.matched == row.matched;
        if self.refuse_duplicates && all.iter().filter(alike).nth(1).is_some() {
            return Err(RowError::new(
                "duplicate_in_request",
                "another row of the request is about this record",
            ));
        }
        Ok(asked)
    }

    /// The answer to a request that no operation fits.
    fn unfit(&self, unfit: &Unfit) -> Response<Bytes> {
        json_response(unfit.status, &self.words(&unfit.message))
    }

    fn words(&self, message: &str) -> Value {
        let place = self.connector.error.message.as_ref().map_or("/detail", |place| place.0.as_str());
        place
            .rsplit('/')
            .filter(|part| !part.is_empty())
            .fold(json!(message), |inner, part| json!({part: inner}))
    }
}

/// What a problem with a row means, and its code and words.
fn said(connector: &HttpConnector, problem: &RowProblem) -> (Meaning, RowError) {
    let with_code = |meaning, word: &str, message: &str| {
        (meaning, RowError::new(code_for(connector, meaning).unwrap_or(word), message))
    };
    match problem {
        RowProblem::Exists => with_code(Meaning::Exists, "exists", "there is a record with this key"),
        RowProblem::Missing => with_code(Meaning::Missing, "missing", "there is no such record"),
        RowProblem::Bad(error) => (Meaning::Rejected, error.clone()),
    }
}

fn whole_path(request: &Request<'_>) -> String {
    match request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.to_owned(),
    }
}

const fn kind_of(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Form => "application/x-www-form-urlencoded",
    }
}

const fn method(method: Method) -> &'static str {
    match method {
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Get => "GET",
    }
}

impl Dialect for Api {
    fn authorized(&self, request: &Request<'_>) -> bool {
        self.auth.accepts(request.headers)
    }

    fn refuse(&self, refusal: Refusal, request: &Request<'_>) -> Response<Bytes> {
        // Any operation will do where the path fits none: what the connector says holds for all.
        let (compiled, captures) = match self.at_path(&whole_path(request)).into_iter().next() {
            Some(found) => found,
            None => match self.operations.first() {
                Some(first) => (Arc::clone(first), Vec::new()),
                None => return json_response(StatusCode::NOT_FOUND, &json!({})),
            },
        };
        let object = captures.iter().find(|(what, _)| *what == super::Capture::Object);
        let object = object.map_or(self.object.as_str(), |(_, object)| object.as_str());
        let teller = Teller {
            connector: &self.connector,
            settings: &self.settings,
            compiled: &compiled,
            object,
            match_field: None,
        };
        let (meaning, message) = match refusal {
            Refusal::Throttled => (Meaning::Throttled, "too many requests"),
            // Where the file has no word for a used-up quota, the API is one that only throttles.
            Refusal::QuotaGone if teller.can_say(Meaning::Quota, 2) => {
                (Meaning::Quota, "the quota of the day is used up")
            }
            Refusal::QuotaGone => (Meaning::Throttled, "the quota of the day is used up"),
            Refusal::Unauthorized => (Meaning::Unauthorized, "the credential is not accepted"),
            Refusal::Status(status) => {
                return json_response(status, &self.words(status.canonical_reason().unwrap_or("an error")));
            }
        };
        teller.refused(meaning, &RowError::new("", message), 2)
    }

    fn says_retry_after(&self) -> bool {
        self.says_retry_after
    }

    fn respond(&mut self, request: &Request<'_>, journal: &mut Journal) -> Response<Bytes> {
        let fitting = match self.fit(request) {
            Ok(fitting) => fitting,
            Err(unfit) => return self.unfit(&unfit),
        };
        if let Auth::Body(token) = &self.auth
            && fitting.secret.as_ref() != Some(token)
        {
            return self.refuse(Refusal::Unauthorized, request);
        }
        match fitting.compiled.purpose {
            super::Purpose::Write => {}
            super::Purpose::Probe => return json_response(StatusCode::OK, &json!({})),
            super::Purpose::Read => return self.read_records(&fitting, request),
            super::Purpose::Link => return self.link_records(&fitting, request),
        }
        let Some(header) = &fitting.compiled.operation.idempotency_key else {
            return self.carry_out(&fitting, request, journal);
        };
        let Some(key) = request.headers.get(header.as_str()) else {
            let message = format!("the header {header} is missing");
            return self.unfit(&Unfit::new(StatusCode::BAD_REQUEST, message));
        };
        let place = (whole_path(request), key.as_bytes().to_vec());
        match self.answered.get(&place) {
            Some((body, answer)) if body == request.body => return answer.clone(),
            Some(_) => {
                let message = format!("this {header} came with another body before");
                return self.unfit(&Unfit::new(StatusCode::UNPROCESSABLE_ENTITY, message));
            }
            None => {}
        }
        let answer = self.carry_out(&fitting, request, journal);
        self.answered.insert(place, (Bytes::copy_from_slice(request.body), answer.clone()));
        answer
    }

    fn decorate(&self, limits: &mut Limits, now: Moment, headers: &mut HeaderMap) {
        let Some((limit, remaining, wait)) = limits.windows.tightest(now.instant) else { return };
        let mut set = |name: Option<&String>, value: u128| {
            if let Some(name) = name.and_then(|name| HeaderName::try_from(name.as_str()).ok())
                && let Ok(value) = HeaderValue::try_from(value.to_string())
            {
                headers.insert(name, value);
            }
        };
        let names = &self.connector.rate_headers;
        let wait_s = u128::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        set(names.remaining.as_ref(), u128::try_from(remaining).unwrap_or_default());
        set(names.window_ms.as_ref(), limit.within.as_millis());
        set(names.reset_after_s.as_ref(), wait_s);
        let wall = u128::try_from(now.wall.as_second()).unwrap_or_default();
        set(names.reset_at_s.as_ref(), wall + wait_s + u128::from(wait_s > 0));
    }
}
