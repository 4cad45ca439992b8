//! From a row's columns to a destination's fields.
//!
//! A sync's fields are compiled once per run, with all that is wrong with them found at once; then each changed row
//! is written straight from its Arrow arrays into the JSON text that the destination gets.

mod calendar;
mod cells;
mod compile;
mod convert;
mod expression;
mod fixed;
mod json;
mod row;
mod sample;
mod scan;
mod tree;
mod value;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

use penstock_model::connector::ValueStyle;
use penstock_model::definition::{Mode, OnNull, Scope, Sync};
use penstock_model::operation::OperationKind;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) use expression::Engines;
pub(crate) use fixed::{KeyColumns, match_from_key};
pub use row::UnknownColumn;
pub(crate) use row::{KeyRows, Mapped, Rejection, Rows};

use convert::Target;
use tree::Node;

/// A sync's match, fields and removals, checked and ready to be applied to rows.
#[derive(Debug, Clone)]
pub struct Mapping {
    style: ValueStyle,
    mode: Mode,
    /// Lower-case names of the columns in use, sorted.
    columns: Vec<String>,
    matched: Vec<MatchField>,
    fields: Vec<FieldPlan>,
    /// The fields that are always written, as the object that they make.
    tree: Node,
    /// Whether any field is not among those.
    asks: bool,
    removal: Option<Removal>,
    hash: u64,
}

/// A match field.
#[derive(Debug, Clone)]
struct MatchField {
    name: String,
    /// Its name as a JSON key with a colon.
    key: String,
    column: usize,
    target: Option<Target>,
}

/// A field.
#[derive(Debug, Clone)]
struct FieldPlan {
    name: String,
    /// Its name as a JSON key with a colon.
    key: String,
    source: Source,
    place: Place,
    target: Option<Target>,
    on_null: OnNull,
}

/// Among which of an operation's fields it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Those that are always written.
    Fields,
    /// Those that are written if they are empty.
    IfEmpty,
    /// References to other records.
    Lookups,
}

/// What fills a field.
#[derive(Debug, Clone)]
enum Source {
    /// A column, by its index.
    Column(usize),
    /// An expression, and the columns it names as written.
    Expression(expression::Source, Vec<(String, usize)>),
    /// A constant, as JSON in the destination's style.
    Constant(String),
}

/// What happens to the record of a row that is gone.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    /// The operation.
    pub(crate) kind: OperationKind,
    /// Which records.
    pub(crate) scope: Scope,
    /// Whether the operation needs the record's id.
    pub(crate) needs_id: bool,
    /// The fields to send: emptied ones, or none.
    pub(crate) fields: String,
}

impl Mapping {
    /// The columns (lower case, sorted) that fields and match use: what row hashes cover.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// A hash over fields, match and mode that is the same on every machine and for every spelling of the same
    /// mapping (order, letters of column names, details that are the default).
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The match fields in the destination's spelling, in order, each with the column (lower case) that fills it.
    pub fn match_fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.matched
            .iter()
            .map(|field| (field.name.as_str(), self.columns.get(field.column).map_or("", String::as_str)))
    }

    /// Whether the match values of a removed row can be had from its primary key. Where they can't, they have to
    /// be remembered for removals.
    #[must_use]
    pub fn match_is_key(&self, primary_key: &[String]) -> bool {
        let key: BTreeSet<String> = primary_key.iter().map(|name| name.to_lowercase()).collect();
        self.match_fields().all(|(_, column)| key.contains(column))
    }

    /// What the sync does to rows that are sent.
    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }

    /// What the sync does to records of rows that are gone; `None` if nothing.
    pub(crate) const fn removal(&self) -> Option<&Removal> {
        self.removal.as_ref()
    }
}

/// See [`Mapping::hash`].
fn mapping_hash(sync: &Sync) -> u64 {
    let mut text = String::new();
    let mut part = |value: serde_json::Result<serde_json::Value>| {
        fixed::push_canonical(&mut text, &value.unwrap_or_default());
        text.push('\n');
    };
    part(serde_json::to_value(sync.mode));
    for (field, matched) in &sync.matched {
        let column = matched.column().to_lowercase();
        // Without a type as before there were any: stored snapshots hold the hash.
        part(Ok(match matched.to() {
            None => serde_json::json!(["match", field, column]),
            Some(to) => serde_json::json!(["match", field, column, to]),
        }));
    }
    for (name, field) in &sync.fields {
        let mut details = field.details();
        details.column = details.column.map(|column| column.to_lowercase());
        details.on_null.get_or_insert_default();
        details.write.get_or_insert_default();
        part(serde_json::to_value((name, details)));
    }
    xxh3_64(text.as_bytes())
}
