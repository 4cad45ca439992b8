use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Answer, Codes, Pointer};
use super::template::uses_id;
use super::{Capabilities, Capability, ValueStyle};
use crate::definition::Limits;
use crate::operation::OperationKind;
use crate::settle::Repeat;

/// A connector file: how an HTTP API wants to be told of records, and how it answers. Only `name` and `objects` are
/// required.
///
/// Texts may hold placeholders: `{object}`, any setting such as `{version}`, `{match.field}`, and in paths of
/// operations that send one row per request `{match.value}` and `{id}`; in links `{other}` (the other record's object) and
/// `{other.id}`. A literal brace is doubled: `{{`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpConnector {
    /// The API's name, for people.
    pub name: String,
    /// The API's address if it is the same for every account, such as `https://api.example.com`. A connection's own address comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The ways to sign in that the API accepts; any, if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auth: Vec<AuthKind>,
    /// Where OAuth access tokens are had: a URL, or a path after the address. A connection's own `token_url` comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// Values that a connection may choose, such as an API version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Setting>,
    /// How values are spelt: `json` keeps their types, `text` makes text of everything.
    #[serde(default)]
    pub values: ValueStyle,
    /// Headers of every request, beside the credential and, unless one is named here, `content-type: application/json`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What an account allows unless its connection says otherwise.
    #[serde(default)]
    pub limits: Limits,
    /// The headers in which answers tell how much is left of the rate limit.
    #[serde(default)]
    pub rate_headers: RateHeaders,
    /// Where a request that fails as a whole says why.
    #[serde(default)]
    pub error: ErrorBody,
    /// What statuses mean, where it differs from the usual: 2xx `accepted`; 400, 413 and 422 `rejected`, and 409 too, which is
    /// `exists` for a row alone; 404 `missing` if the path names the row; 401 and 403 `unauthorized`; 429 `throttled`; 408, 425 and 5xx
    /// `retry`; all others `refused`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub statuses: BTreeMap<u16, Meaning>,
    /// What the API's own error codes mean, of rows as of whole requests. They count more than the status. A code that isn't
    /// listed rejects the row. One that ends with `*` stands for all that begin so, for an API that has words in place of codes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, Meaning>,
    /// One harmless request that shows whether the credential is accepted and may do what is needed: `penstock test` sends it. Like an
    /// operation without a row; `{object}` in its path is the object of the sync that is tested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<HttpOperation>,
    /// What can be done with which object, and how: by the object's name, or `*` for all others.
    pub objects: BTreeMap<String, BTreeMap<OperationKind, HttpOperation>>,
    /// How records of an object are read by their match field: by the object's name, or `*` for all others. With it a sync can
    /// write fields only if they are empty (`write: if_empty`), and look up records of this object (`lookup`); operations that need the
    /// record's id find it, and an object with `create` and `update` but no `upsert` can be upserted: what is found is updated. Its
    /// `answer.results` says where the records stand, and in each of them the `id` and the `fields`; a row that is not among
    /// them has no record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reads: BTreeMap<String, HttpOperation>,
    /// How a record of an object is linked to another, once both ids are known: by the object's name, or `*` for all others. With
    /// it a `lookup` field becomes a link, made by a further request after the record was written; without it the other
    /// record's id becomes the field's value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, HttpOperation>,
    /// How a record is linked to another in a way that the sync names (`label`), where the API has several: like `links`, with `$label` in
    /// the body.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labelled_links: BTreeMap<String, HttpOperation>,
    /// How a record is written to by its id, once the match value of its row has changed: by the object's name, or `*` for all others. With it
    /// such a record gets its new match value with the other fields; without it the new value leads to another record, or makes
    /// one. It holds the id (`$id`, or `{id}` in the path) and the match (`$record`, `$match` or `$match.value`); ids are those that the
    /// answers of `upsert` tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub moves: BTreeMap<String, HttpOperation>,
}

/// A way to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    /// No credential.
    None,
    /// `Authorization: Bearer`.
    Bearer,
    /// HTTP basic.
    Basic,
    /// A header of its own.
    Header,
    /// OAuth 2.0 client credentials.
    ClientCredentials,
    /// OAuth 2.0 with a signed assertion.
    JwtBearer,
    /// OAuth 2.0 with a refresh token.
    RefreshToken,
    /// In the body, where it says `$secret`.
    Body,
}

/// A value that a connection may choose.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The value if a connection chooses none; without it every connection must.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// Headers that tell how much is left of the rate limit. With nothing left, Penstock waits and slows down before the
/// API refuses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateHeaders {
    /// How many requests are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<String>,
    /// Seconds until there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_after_s: Option<String>,
    /// The moment at which there are more, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_at_s: Option<String>,
    /// The length of the sliding window over which requests are counted, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<String>,
    /// How many of the account's requests are used and how many it has, as `used/all`, with or without a name and an equals sign
    /// before it (Salesforce). It is shown in the report; nothing is slowed down by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<String>,
    /// How many requests are left of the day's. With nothing left the run waits as for a used-up quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_remaining: Option<String>,
}

/// Where a request that fails as a whole says why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// The error code. Of several pointers, the first whose value stands under `codes` counts.
    #[serde(default, skip_serializing_if = "Codes::is_empty")]
    pub code: Codes,
    /// The words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Pointer>,
}

/// What a status or an error code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// The request was carried out: its answer tells of the rows.
    Accepted,
    /// The record is there already: `create` skips the row, others reject it.
    Exists,
    /// There is no such record: `update`, `clear`, `delete` and `archive` skip the row, others reject it.
    Missing,
    /// The row is bad. A batch of which no row is named is halved until the bad rows stand alone.
    Rejected,
    /// It may work later: the row, or the whole request, is sent again.
    Retry,
    /// Too many requests: Penstock slows down; no attempt is used up.
    Throttled,
    /// The credential is refused: it is fetched afresh once, then the run stops.
    Unauthorized,
    /// The quota is used up for now: the run waits for as long as `Retry-After` says, up to a day, or asks every half hour. If it is gone for longer, the run stops, and can be redriven.
    Quota,
    /// The chunk is refused in a way that no row is to blame for: its rows become dead letters.
    Refused,
}

/// How one operation is sent and answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpOperation {
    /// The HTTP method.
    pub method: Method,
    /// The path, and query if any, after the address: `/contacts/{id}`. What placeholders stand for is percent-encoded. `{ids}` stands for the
    /// ids of all records of a request without a body, with commas between.
    pub path: String,
    /// How many rows go into a request.
    #[serde(default)]
    pub batch: Batch,
    /// How the body is sent: as JSON, or its members as the fields of a form.
    #[serde(default)]
    pub encoding: Encoding,
    /// The JSON body, with placeholders. An object `{"$each": …}` makes a list with one element per row. A text stands for a
    /// part of the row: `$record` (match fields and fields in one object), `$fields`, `$match`, `$match.field` (the name of the
    /// only match field), `$match.value`, `$id` (the record's id at the destination), `$key` (the unload's primary key),
    /// `$ordinal` (a text that is unique within the request), `$secret` (the credential, with `auth: { body: … }`); in reads `$names` (the list of the fields that are asked for), in
    /// links `$other.id` (the id of the record that is linked to) and in `labelled_links` `$label` (the kind of link, as the sync has it). A member `"..."` puts the members of `$record`, `$fields` or
    /// `$match` among the others of its object. A text that begins with a dollar sign begins with two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Whether the API ends up the same if a request is carried out twice. Left out, `create` and `append` are unsafe and all
    /// others safe. What is unsafe is never sent again after a lost answer: it is reported as unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<RepeatWord>,
    /// A header that takes a key by which the API recognises a repeated request, such as `Idempotency-Key`: then a lost answer
    /// is followed by the same request with the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What statuses mean for this operation, before those of the connector.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub statuses: BTreeMap<u16, Meaning>,
    /// What error codes mean for this operation, before those of the connector.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, Meaning>,
    /// Where the answer tells what became of each row. Left out, a status that is `accepted` accepts every row.
    #[serde(default)]
    pub answer: Answer,
}

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// JSON.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`: each member of the body's object is a field, a text as it is, anything else as JSON.
    Form,
}

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// GET.
    Get,
}

/// How many rows go into a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Rows at most. More than one need `$each` in the body.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100_000))]
    pub rows: u32,
    /// Bytes of the body at most. A row that is larger by itself is rejected unsent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub bytes: Option<u32>,
}

const fn one() -> u32 {
    1
}

impl Default for Batch {
    fn default() -> Self {
        Self { rows: 1, bytes: None }
    }
}

/// Whether a request may be carried out twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RepeatWord {
    /// It ends up the same.
    Safe,
    /// It would be done twice.
    Unsafe,
}

impl HttpConnector {
    /// The operations of an object: under its own name, else under `*`.
    #[must_use]
    pub fn operations(&self, object: &str) -> Option<&BTreeMap<OperationKind, HttpOperation>> {
        self.objects.get(object).or_else(|| self.objects.get("*"))
    }

    /// What can be done with an object; `None` if the connector doesn't know the object.
    #[must_use]
    pub fn capabilities(&self, object: &str) -> Option<Capabilities> {
        let finds_ids = self.read(object).is_some();
        let own = self.operations(object)?;
        let mut operations: BTreeMap<OperationKind, Capability> = own
            .iter()
            .map(|(kind, operation)| {
                let needs_id = operation.needs_id() && !finds_ids;
                (*kind, Capability { repeat: operation.repeat(*kind), needs_id })
            })
            .collect();
        if self.finds_first(object) {
            // What may have been created is found before anything is sent again.
            let capability = Capability { repeat: Repeat::Safe, needs_id: false };
            operations.insert(OperationKind::Upsert, capability);
        }
        let reads_fields =
            |read: &HttpOperation| read.answer.results.as_ref().is_some_and(|it| it.fields.is_some());
        Some(Capabilities {
            if_empty: self.read(object).is_some_and(reads_fields),
            lookups: !self.reads.is_empty(),
            follows_id: self.moved(object).is_some(),
            ..Capabilities::of(operations, self.values)
        })
    }

    /// Whether an upsert of this object is a read first, and then an update of what was found or a creation: the API has nothing that does both.
    #[must_use]
    pub fn finds_first(&self, object: &str) -> bool {
        let has = |kind| self.operations(object).is_some_and(|operations| operations.contains_key(&kind));
        let halves = has(OperationKind::Create) && has(OperationKind::Update);
        halves && !has(OperationKind::Upsert) && self.read(object).is_some()
    }

    /// How records of an object are read.
    #[must_use]
    pub fn read(&self, object: &str) -> Option<&HttpOperation> {
        self.reads.get(object).or_else(|| self.reads.get("*"))
    }

    /// How records of an object are linked to others.
    #[must_use]
    pub fn link(&self, object: &str) -> Option<&HttpOperation> {
        self.links.get(object).or_else(|| self.links.get("*"))
    }

    /// How records of an object are linked to others in a way that the sync names.
    #[must_use]
    pub fn labelled_link(&self, object: &str) -> Option<&HttpOperation> {
        self.labelled_links.get(object).or_else(|| self.labelled_links.get("*"))
    }

    /// How records of an object get another match value.
    #[must_use]
    pub fn moved(&self, object: &str) -> Option<&HttpOperation> {
        self.moves.get(object).or_else(|| self.moves.get("*"))
    }
}

impl HttpOperation {
    /// Whether it may be sent again after a lost answer, as operation of this kind.
    #[must_use]
    pub const fn repeat(&self, kind: OperationKind) -> Repeat {
        match (self.repeat, kind) {
            (Some(RepeatWord::Safe), _) => Repeat::Safe,
            (Some(RepeatWord::Unsafe), _) | (None, OperationKind::Create | OperationKind::Append) => {
                Repeat::Unsafe
            }
            (
                None,
                OperationKind::Upsert
                | OperationKind::Update
                | OperationKind::Delete
                | OperationKind::Archive
                | OperationKind::Clear,
            ) => Repeat::Safe,
        }
    }

    /// Whether path or body hold the record's id at the destination.
    #[must_use]
    pub fn needs_id(&self) -> bool {
        uses_id(&self.path, self.body.as_ref())
    }
}
