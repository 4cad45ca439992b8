//! The twin of any HTTP API that a connector file describes.
//!
//! It reads the file backwards: requests are taken apart by the templates that Penstock fills, and answers are made so
//! that they say, in the places that the file declares, what became of each row.

use std::{collections::BTreeMap, sync::Arc};

use axum::http::{HeaderMap, Method};
use penstock_model::{
    connector::{AuthKind, HttpConnector, HttpOperation},
    definition::{Limits as AccountLimits, Problem},
    operation::OperationKind,
};
use serde_json::Value;

use crate::{
    batch::Auth,
    desk::{Reply, Setting, SharedDesk, Twin},
    faults::Script,
    journal::Journal,
    row_error::RowError,
    window::{RateLimit, account_limits},
};

mod answer;
mod api;
mod asked;
mod body;
mod meaning;
mod members;
mod records;
mod rows;
mod text;

pub use records::ConnectorRecord;

use api::Api;
use body::Pattern;
use text::{Capture, TextPattern};

/// What an answer does with rows that are not acceptable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefusedRows {
    /// It says so of each, in the places that the connector file declares for it; where it declares none, the whole request is
    /// refused. The default.
    #[default]
    AsDeclared,
    /// The same, under 207.
    MultiStatus,
    /// The request is refused as a whole and none of its rows applied; the lists of errors name the bad ones.
    RefuseAndName,
    /// The request is refused as a whole and none of its rows applied; which ones are bad is not told.
    Refuse,
}

type RefuseRow = dyn Fn(&str, &Value) -> Option<RowError> + Send + Sync;

/// The simulated API. Clones share one state.
#[derive(Clone)]
pub struct ConnectorTwin(SharedDesk<Api>);

/// Settings of a [`ConnectorTwin`].
pub struct ConnectorTwinBuilder {
    connector: HttpConnector,
    auth: Auth,
    settings: BTreeMap<String, String>,
    object: String,
    keys: BTreeMap<String, Vec<String>>,
    refused_rows: RefusedRows,
    refuse_duplicates: bool,
    says_retry_after: bool,
    refuse_row: Option<Arc<RefuseRow>>,
    setting: Setting,
}

/// What a request of the file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Purpose {
    /// It writes records.
    Write,
    /// It reads them.
    Read,
    /// It links them to others.
    Link,
    /// It shows whether it may.
    Probe,
}

/// One operation of the file, ready to read requests.
struct Compiled {
    /// The object it is listed under; `*` for all others.
    object: String,
    purpose: Purpose,
    /// Of a read `update`, of a link `create`: what its answers mean.
    kind: OperationKind,
    operation: HttpOperation,
    path: TextPattern,
    body: Option<Pattern>,
    row_in_path: bool,
    /// Whether records are told by their ids and get other keys.
    moves: bool,
}

impl ConnectorTwinBuilder {
    /// The credential asked for. By default the first way to sign in that the file names, with the token `twin`; a bearer token
    /// if it names none.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// This token, in the first way to sign in that the file names: for basic, `user:password`; for a header of its own, `Api-Key`.
    pub fn token(mut self, token: &str) -> Self {
        self.auth = first_way(&self.connector, token);
        self
    }

    /// The value of one of the file's settings, in place of its default.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The name of the object that requests are about which don't say; `records` by default.
    pub fn object(mut self, name: &str) -> Self {
        name.clone_into(&mut self.object);
        self
    }

    /// The match fields of an object's records; of all objects for `*`. Needed where requests don't tell them from other fields.
    pub fn key<'a>(mut self, object: &str, fields: impl IntoIterator<Item = &'a str>) -> Self {
        let fields = fields.into_iter().map(str::to_owned).collect();
        self.keys.insert(object.to_owned(), fields);
        self
    }

    /// What answers do with rows that are not acceptable.
    pub fn refused_rows(mut self, refused_rows: RefusedRows) -> Self {
        self.refused_rows = refused_rows;
        self
    }

    /// Refuses rows of one request that are about one record.
    pub fn refuse_duplicates(mut self) -> Self {
        self.refuse_duplicates = true;
        self
    }

    /// Refuses the records of an object (first argument) for which this gives an error.
    pub fn refuse_rows(
        mut self,
        refuse: impl Fn(&str, &Value) -> Option<RowError> + Send + Sync + 'static,
    ) -> Self {
        self.refuse_row = Some(Arc::new(refuse));
        self
    }

    /// Whether refusals above a limit say `Retry-After`; they do by default.
    pub fn retry_after(mut self, says: bool) -> Self {
        self.says_retry_after = says;
        self
    }

    /// What the account allows, in place of the file's own limits.
    pub fn limits(mut self, limits: &AccountLimits) -> Self {
        let (rates, daily) = account_limits(limits);
        (self.setting.rates, self.setting.daily) = (rates, daily);
        self
    }

    // The file's own limits by default.
    crate::desk::settings!();

    /// The twin without a server; [`RunningTwin::start`](crate::RunningTwin::start) gives it one.
    ///
    /// # Errors
    /// Everything that is wrong with the file, with pointers into it; among it objects whose match fields have to be told with
    /// [`key`](Self::key).
    pub fn build(mut self) -> Result<ConnectorTwin, Vec<Problem>> {
        let mut problems = self.connector.validate();
        if !problems.is_empty() {
            return Err(problems);
        }
        for (name, setting) in &self.connector.settings {
            match (self.settings.contains_key(name), &setting.default) {
                (true, _) => {}
                (false, Some(default)) => drop(self.settings.insert(name.clone(), default.clone())),
                (false, None) => problems.push(Problem::at(
                    format!("/settings/{name}"),
                    "this setting has no default: give the twin a value",
                )),
            }
        }
        let mut compiled = Vec::new();
        for (object, operations) in &self.connector.objects {
            for (kind, operation) in operations {
                match compile(object, Purpose::Write, *kind, operation, &self.settings) {
                    Ok(operation) => compiled.push(operation),
                    Err(message) => problems.push(Problem::at(at(object, *kind), message)),
                }
            }
        }
        if let Some(probe) = &self.connector.probe {
            match compile("*", Purpose::Probe, OperationKind::Update, probe, &self.settings) {
                Ok(operation) => compiled.push(operation),
                Err(message) => problems.push(Problem::at("/probe", message)),
            }
        }
        let HttpConnector { reads, links, labelled_links, moves, .. } = &self.connector;
        for (map, place, purpose, kind) in [
            (reads, "reads", Purpose::Read, OperationKind::Update),
            (links, "links", Purpose::Link, OperationKind::Create),
            (labelled_links, "labelled_links", Purpose::Link, OperationKind::Create),
            (moves, "moves", Purpose::Write, OperationKind::Update),
        ] {
            for (object, operation) in map {
                match compile(object, purpose, kind, operation, &self.settings) {
                    Ok(operation) => compiled.push(Compiled { moves: place == "moves", ..operation }),
                    Err(message) => problems.push(Problem::at(format!("/{place}/{object}"), message)),
                }
            }
        }
        let writes = compiled.iter().filter(|it| it.purpose == Purpose::Write);
        problems.extend(writes.filter(|it| self.lacks_key(it)).map(|it| {
            let message = "its requests do not tell the match field from other fields: name it (key)";
            Problem::at(at(&it.object, it.kind), message)
        }));
        if !problems.is_empty() {
            return Err(problems);
        }
        let api = Api::new(self.connector, compiled, self.settings, self.auth, self.object, self.keys).with(
            self.refused_rows,
            self.refuse_duplicates,
            self.says_retry_after,
            self.refuse_row,
        );
        Ok(ConnectorTwin(SharedDesk::new(api, self.setting)))
    }

    /// Whether it can't be told by what a record of this operation is identified.
    fn lacks_key(&self, compiled: &Compiled) -> bool {
        use penstock_model::connector::template::RowSlot;
        let has = |slot| compiled.body.as_ref().is_some_and(|body| body.has(slot));
        let told = compiled.row_in_path
            || [RowSlot::MatchValue, RowSlot::Match, RowSlot::Id].into_iter().any(has)
            || (has(RowSlot::MatchField) && has(RowSlot::Record))
            || compiled.path.tells(Capture::MatchField);
        let given = self.keys.contains_key(&compiled.object)
            || self.keys.contains_key("*")
            // `*` is all objects that the file does not list.
            || (compiled.object == "*" && !self.keys.is_empty());
        compiled.kind != OperationKind::Append && !told && !given
    }
}

fn at(object: &str, kind: OperationKind) -> String {
    let kind = serde_json::to_value(kind).unwrap_or_default();
    let object = object.replace('~', "~0").replace('/', "~1");
    format!("/objects/{object}/{}", kind.as_str().unwrap_or_default())
}

fn compile(
    object: &str,
    purpose: Purpose,
    kind: OperationKind,
    operation: &HttpOperation,
    settings: &BTreeMap<String, String>,
) -> Result<Compiled, String> {
    let path = TextPattern::path(&operation.path, settings)?;
    let body = operation.body.as_ref().map(|body| Pattern::compile(body, settings)).transpose()?;
    let row_in_path = path.tells(Capture::MatchValue) || path.tells(Capture::Id);
    Ok(Compiled {
        object: object.to_owned(),
        purpose,
        kind,
        operation: operation.clone(),
        path,
        body,
        row_in_path,
        moves: false,
    })
}

/// The credential of the first way to sign in that a connector accepts.
fn first_way(connector: &HttpConnector, token: &str) -> Auth {
    match connector.auth.first() {
        Some(AuthKind::None) => Auth::None,
        Some(
            AuthKind::Bearer | AuthKind::ClientCredentials | AuthKind::JwtBearer | AuthKind::RefreshToken,
        )
        | None => Auth::Bearer(token.to_owned()),
        Some(AuthKind::Basic) => {
            let (user, password) = token.split_once(':').unwrap_or(("twin", token));
            Auth::Basic { user: user.to_owned(), password: password.to_owned() }
        }
        Some(AuthKind::Header) => Auth::Header { name: "Api-Key".to_owned(), value: token.to_owned() },
        Some(AuthKind::Body) => Auth::Body(token.to_owned()),
    }
}

impl ConnectorTwin {
    /// A twin of this API with defaults, to be changed.
    pub fn builder(connector: HttpConnector) -> ConnectorTwinBuilder {
        let mut setting = Setting::new(RateLimit::UNLIMITED);
        (setting.rates, setting.daily) = account_limits(&connector.limits);
        ConnectorTwinBuilder {
            auth: first_way(&connector, "twin"),
            connector,
            settings: BTreeMap::new(),
            object: "records".to_owned(),
            keys: BTreeMap::new(),
            refused_rows: RefusedRows::default(),
            refuse_duplicates: false,
            says_retry_after: true,
            refuse_row: None,
            setting,
        }
    }

    /// From now on this credential is asked for, as after a rotation.
    pub fn replace_auth(&self, auth: Auth) {
        self.0.lock().dialect.auth = auth;
    }

    /// The credential asked for.
    pub fn auth(&self) -> Auth {
        self.0.lock().dialect.auth.clone()
    }

    /// The limits that it enforces; the requests a day as a window of 24 hours.
    pub fn limits(&self) -> Vec<RateLimit> {
        self.0.lock().limits()
    }

    /// Puts a record with these fields, a JSON object, into an object without a request, unnoted in the journal. Gives its id.
    pub fn seed(&self, object: &str, key: &str, fields: &Value) -> String {
        self.0.lock().dialect.seed(object, key, fields)
    }

    /// The names of the objects that have or had records.
    pub fn objects(&self) -> Vec<String> {
        self.0.lock().dialect.objects.keys().cloned().collect()
    }

    /// The records of an object by ascending key, without the archived and appended ones.
    pub fn records(&self, object: &str) -> Vec<ConnectorRecord> {
        self.of(object, |object| object.live.values().cloned().collect()).unwrap_or_default()
    }

    /// How many records an object has, without the archived and appended ones.
    pub fn count(&self, object: &str) -> usize {
        self.of(object, |object| object.live.len()).unwrap_or_default()
    }

    /// The record with this key.
    pub fn record(&self, object: &str, key: &str) -> Option<ConnectorRecord> {
        self.of(object, |object| object.live.get(key).cloned())?
    }

    /// The archived records of an object, in that order.
    pub fn archived(&self, object: &str) -> Vec<ConnectorRecord> {
        self.of(object, |object| object.archived.clone()).unwrap_or_default()
    }

    /// The appended records of an object, in that order.
    pub fn appended(&self, object: &str) -> Vec<ConnectorRecord> {
        self.of(object, |object| object.appended.clone()).unwrap_or_default()
    }

    /// Whether references of an object's records become links, rather than values of fields.
    pub fn links_records(&self, object: &str) -> bool {
        self.0.lock().dialect.connector.link(object).is_some()
    }

    /// What a record is linked to, by its id: the other record's object (if requests tell it) and id.
    pub fn links(&self, object: &str, id: &str) -> Vec<(String, String)> {
        self.0.lock().dialect.links_of(object, id)
    }

    fn of<R>(&self, object: &str, ask: impl FnOnce(&records::Object) -> R) -> Option<R> {
        self.0.lock().dialect.objects.get(object).map(ask)
    }
}

impl Twin for ConnectorTwin {
    fn handle(&self, method: &Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Reply {
        self.0.handle(method, path, headers, body)
    }

    fn journal(&self) -> Journal {
        self.0.lock().journal.clone()
    }

    fn held(&self) -> BTreeMap<String, usize> {
        let desk = self.0.lock();
        let held = |object: &records::Object| object.live.len() + object.appended.len();
        desk.dialect.objects.iter().map(|(name, object)| (name.clone(), held(object))).collect()
    }

    fn set_faults(&self, script: Script) {
        self.0.set_faults(script);
    }
}
