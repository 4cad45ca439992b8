//! One operation, with its values spelt as the object's fields want them: for collections as JSON, for jobs as CSV.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use penstock_model::definition::{LookupField, OnMissing, Sync};
use penstock_model::json::Json;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::Outcome;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ID;
use super::table::{Column, Spelling, Table};

/// A field's value.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Cell {
    /// Empties the field.
    Null,
    /// A text, a date, an id.
    Text(String),
    /// A number or a flag, as JSON has it.
    Literal(String),
    /// A reference by a field of the other record, or several of its fields.
    Record(Vec<(String, Cell)>),
    /// What no field takes: a list, or an object where there is no reference.
    Nested(String),
}

/// One operation, ready to be sent.
#[derive(Clone)]
pub(super) struct Row {
    pub(super) n: u32,
    pub(super) kind: OperationKind,
    pub(super) key: Json,
    /// The record's id, where it is known.
    pub(super) id: Option<String>,
    /// The match field's name and value; none for an append without one.
    pub(super) matched: Option<(String, Cell)>,
    pub(super) fields: Vec<(String, Cell)>,
    /// The fields to write only if they are empty there.
    pub(super) if_empty: Vec<(String, Cell)>,
    /// The references that may lead nowhere without the row being refused for it.
    pub(super) lookups: Vec<Reference>,
    /// What no two requests under way may share: the records that get locked.
    pub(super) parents: Vec<u64>,
    /// Whether the record is known by its id under another match value.
    pub(super) moved: bool,
    /// Whether a record that is only to be created can't be upserted, since what it is matched by is no external id.
    pub(super) inserts: bool,
}

/// A reference by a field of the other record, that has to be looked up first.
#[derive(Clone)]
pub(super) struct Reference {
    /// The name of the relationship.
    pub(super) name: String,
    /// The field of this object that holds it.
    pub(super) field: String,
    /// The other object.
    pub(super) object: String,
    /// Its field.
    pub(super) by: String,
    pub(super) key: Cell,
    /// Whether the field is emptied if there is no such record; left alone otherwise.
    pub(super) empties: bool,
}

/// Why an operation can't be sent.
pub(super) struct Unready {
    pub(super) n: u32,
    pub(super) outcome: Outcome,
}

/// The members of a JSON object in their order, unread.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;

        impl<'de> Visitor<'de> for Reads {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or_default());
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reads)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads an operation of a sync against the object's fields. `matched` is the match field's name.
///
/// # Errors
/// The outcome of one that can't be sent.
pub(super) fn read(
    operation: &Operation,
    sync: &Sync,
    table: &Table,
    matched: Option<&str>,
) -> Result<Row, Unready> {
    let reject = |code: &str, message: &str| Unready {
        n: operation.n,
        outcome: Outcome::rejected(code, message.to_owned()),
    };
    let unreadable = || reject("not_json", "the row is no JSON object");
    let cells = |json: &Json| -> Result<Vec<(String, Cell)>, Unready> {
        let Members(members) = serde_json::from_str(json.get()).map_err(|_| unreadable())?;
        Ok(members.into_iter().map(|(name, raw)| member(&name, raw.get(), table)).collect())
    };
    let mut fields = cells(&operation.fields)?;
    let asks = operation.asks.as_deref();
    let if_empty = asks.and_then(|asks| asks.if_empty.as_ref()).map(&cells).transpose()?.unwrap_or_default();
    let asked = match asks.and_then(|asks| asks.lookups.as_ref()) {
        None => Vec::new(),
        Some(json) => {
            let Members(members) = serde_json::from_str(json.get()).map_err(|_| unreadable())?;
            members.into_iter().map(|(name, raw)| (name.to_string(), plain_cell(raw.get()))).collect()
        }
    };
    let mut lookups = Vec::new();
    for (name, key) in asked {
        let Some(lookup) = sync.lookups().find(|lookup| lookup.field == name) else { continue };
        let Some((relationship, column)) = table.reference(&name) else {
            return Err(reject("no_reference", "the field refers to no other record"));
        };
        match (key, lookup.on_missing) {
            (Cell::Null, _) => fields.push((column.name.clone(), Cell::Null)),
            // Salesforce finds the record, and refuses the row if there is none.
            (key, OnMissing::Reject) => {
                fields.push((relationship.to_owned(), Cell::Record(vec![(lookup.by.to_owned(), key)])));
            }
            (key, on_missing @ (OnMissing::Skip | OnMissing::Null)) => lookups.push(Reference {
                name: relationship.to_owned(),
                field: column.name.clone(),
                object: object_of(lookup, &name, column),
                by: lookup.by.to_owned(),
                key,
                empties: on_missing == OnMissing::Null,
            }),
        }
    }
    let known_by = match matched {
        None => None,
        Some(field) => cells(&operation.matched)?.into_iter().find(|(name, _)| name == field),
    };
    let is_empty = |cell: &Cell| match cell {
        Cell::Null => true,
        Cell::Text(text) => text.is_empty(),
        Cell::Literal(_) => false,
        Cell::Record(_) | Cell::Nested(_) => true,
    };
    let by_id = matched.is_some_and(|field| field.eq_ignore_ascii_case(ID));
    let given_id =
        known_by.as_ref().filter(|(_, cell)| by_id && !is_empty(cell)).map(|(_, cell)| cell.plain());
    let id = operation.id.clone().or(given_id);
    let needs_match = match operation.kind {
        OperationKind::Upsert | OperationKind::Create => true,
        OperationKind::Update | OperationKind::Delete | OperationKind::Archive | OperationKind::Clear => {
            id.is_none()
        }
        OperationKind::Append => false,
    };
    if needs_match && known_by.as_ref().is_none_or(|(_, cell)| is_empty(cell)) {
        return Err(reject("match_empty", "the match field is empty"));
    }
    // Where records are matched by their own ids, there is nothing else to find them by, and nothing to create.
    let is_upsert = operation.kind == OperationKind::Upsert;
    let kind = if is_upsert && by_id { OperationKind::Update } else { operation.kind };
    let moved = kind == OperationKind::Upsert && operation.id.is_some();
    let parents = parents(&fields, table);
    let matched = known_by.filter(|_| !by_id);
    let (n, key) = (operation.n, operation.key.clone());
    let is_external = |(name, _): &(String, Cell)| table.column(name).is_none_or(|column| column.is_external);
    let inserts = kind == OperationKind::Create && !matched.as_ref().is_some_and(is_external);
    Ok(Row { n, kind, key, id, matched, fields, if_empty, lookups, parents, moved, inserts })
}

/// The object that a lookup searches: as the sync says, else the first that the field may refer to.
fn object_of(lookup: LookupField<'_>, name: &str, column: &Column) -> String {
    let told = (lookup.object != name).then(|| lookup.object.to_owned());
    told.or_else(|| column.refers_to.first().cloned()).unwrap_or_else(|| lookup.object.to_owned())
}

/// What the records are that a row refers to, hashed: two rows with one in common wait for each other's lock at Salesforce.
pub(super) fn parents(fields: &[(String, Cell)], table: &Table) -> Vec<u64> {
    let mut parents = Vec::new();
    for (name, cell) in fields {
        let (column, value) = match cell {
            Cell::Record(members) => {
                let Some((by, value)) = members.first() else { continue };
                (table.referring(name), format!("{by}={}", value.plain()))
            }
            Cell::Text(id) => (table.column(name), id.clone()),
            Cell::Null | Cell::Literal(_) | Cell::Nested(_) => continue,
        };
        let Some(column) = column.filter(|column| column.locks) else { continue };
        let mut hasher = DefaultHasher::new();
        (&column.refers_to, value.to_lowercase()).hash(&mut hasher);
        parents.push(hasher.finish());
    }
    parents
}

/// A member of the operation's JSON, as the field that it writes.
fn member(name: &str, raw: &str, table: &Table) -> (String, Cell) {
    let cell = cell(name, raw, table);
    // A reference is emptied by the field that holds it.
    let field = (cell == Cell::Null && table.column(name).is_none()).then(|| table.referring(name)).flatten();
    (field.map_or(name, |column| column.name.as_str()).to_owned(), cell)
}

fn cell(name: &str, raw: &str, table: &Table) -> Cell {
    if raw.starts_with('{')
        && table.referring(name).is_some()
        && let Ok(Members(members)) = serde_json::from_str(raw)
    {
        // The other record's fields are not described here: their values stay as they are.
        let members = members.into_iter().map(|(name, raw)| (name.to_string(), plain_cell(raw.get())));
        return Cell::Record(members.collect());
    }
    let cell = plain_cell(raw);
    match table.column(name) {
        Some(column) => spelt(cell, column),
        None => cell,
    }
}

/// A value as JSON has it.
fn plain_cell(raw: &str) -> Cell {
    match raw.as_bytes().first() {
        Some(b'n') => Cell::Null,
        Some(b'"') => serde_json::from_str(raw).map_or_else(|_| Cell::Nested(raw.to_owned()), Cell::Text),
        Some(b'{' | b'[') | None => Cell::Nested(raw.to_owned()),
        Some(_) => Cell::Literal(raw.to_owned()),
    }
}

fn spelt(cell: Cell, column: &Column) -> Cell {
    match (column.spelling, cell) {
        // Salesforce takes no number for a text.
        (Spelling::Text | Spelling::Choices | Spelling::Moment, Cell::Literal(json)) => Cell::Text(json),
        (Spelling::Choices, Cell::Nested(json)) => match serde_json::from_str::<Vec<String>>(&json) {
            Ok(choices) => Cell::Text(choices.join(";")),
            Err(_) => Cell::Nested(json),
        },
        (Spelling::Moment, Cell::Text(text)) => Cell::Text(to_the_millisecond(text)),
        // A decimal travels as text, so that it keeps its digits; here it is a number again.
        (Spelling::Number, Cell::Text(text)) if is_number(&text) => Cell::Literal(text),
        (Spelling::Flag, Cell::Text(text)) if text == "true" || text == "false" => Cell::Literal(text),
        (_, cell) => cell,
    }
}

fn is_number(text: &str) -> bool {
    serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// `2026-01-31T12:00:00.123456Z` with three digits of its fraction: Salesforce takes no more.
fn to_the_millisecond(text: String) -> String {
    let Some((whole, rest)) = text.split_once('.') else { return text };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (Some(kept), Some(zone)) = (rest.get(..digits.min(3)), rest.get(digits..)) else { return text };
    format!("{whole}.{kept}{zone}")
}

impl Cell {
    /// The value as text, without quotes; nothing for null.
    pub(super) fn plain(&self) -> String {
        self.as_text().to_owned()
    }

    /// As [`plain`](Self::plain).
    pub(super) fn as_text(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Text(text) | Self::Literal(text) | Self::Nested(text) => text,
            Self::Record(members) => members.first().map_or("", |(_, cell)| cell.as_text()),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Text(text) => push_text(out, text),
            Self::Literal(json) | Self::Nested(json) => out.push_str(json),
            Self::Record(members) => write_object(out, members.iter().map(|(name, cell)| (name, cell))),
        }
    }
}

fn push_text(out: &mut String, text: &str) {
    struct Quoted<'a>(&'a str);
    impl Serialize for Quoted<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(self.0)
        }
    }
    // A text has a JSON form always.
    out.push_str(&serde_json::to_string(&Quoted(text)).unwrap_or_default());
}

fn write_object<'c>(out: &mut String, members: impl Iterator<Item = (&'c String, &'c Cell)>) {
    out.push('{');
    for (n, (name, cell)) in members.enumerate() {
        if n > 0 {
            out.push(',');
        }
        push_text(out, name);
        out.push(':');
        cell.write(out);
    }
    out.push('}');
}

fn object<'c>(members: impl Iterator<Item = (&'c String, &'c Cell)>) -> Json {
    let mut out = String::new();
    write_object(&mut out, members);
    Json::written(out)
}

impl Row {
    /// The match value, as Salesforce compares it: text without case. What is only appended is compared with nothing.
    pub(super) fn match_key(&self) -> Option<String> {
        match (&self.matched, &self.id) {
            _ if self.kind == OperationKind::Append => None,
            (Some((_, cell)), _) => Some(cell.plain().to_lowercase()),
            (None, Some(id)) => Some(id.clone()),
            (None, None) => None,
        }
    }

    /// Whether it is sent as an update of the record with its id.
    pub(super) fn is_by_id(&self) -> bool {
        match self.kind {
            OperationKind::Upsert | OperationKind::Create => self.moved && self.id.is_some(),
            OperationKind::Update | OperationKind::Delete | OperationKind::Archive | OperationKind::Clear => {
                true
            }
            OperationKind::Append => false,
        }
    }

    /// The operation for the engine.
    pub(super) fn operation(&self) -> Operation {
        let matched = || self.matched.iter().map(|(name, cell)| (name, cell));
        let fields = self.fields.iter().map(|(name, cell)| (name, cell));
        let (kind, fields) = if self.kind == OperationKind::Upsert && self.is_by_id() {
            // The record gets its new match value with the other fields.
            (OperationKind::Update, object(matched().chain(fields)))
        } else if self.kind == OperationKind::Archive {
            (OperationKind::Delete, object(fields))
        } else if self.inserts {
            (OperationKind::Append, object(fields))
        } else {
            (self.kind, object(fields))
        };
        let (n, key, id) = (self.n, self.key.clone(), self.id.clone());
        Operation { n, kind, key, matched: object(matched()), id, fields, asks: None }
    }
}
