//! Mappings from definitions and batches as users have them.

mod definitions;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use penstock_model::connector::{Capabilities, Capability, ValueStyle};
use penstock_model::definition::Sync;
use penstock_model::operation::{Asks, OperationKind};
use penstock_model::settle::Repeat;
use penstock_model::unload::{Column, ColumnType};
use serde_json::{Value, json};

use super::{Engines, Mapping, Rejection};

pub(crate) fn capabilities(values: ValueStyle) -> Capabilities {
    use OperationKind::{Append, Archive, Clear, Create, Delete, Update, Upsert};
    let plain = Capability { repeat: Repeat::Safe, needs_id: false };
    let kinds = [Upsert, Create, Update, Delete, Clear, Append];
    let mut operations: BTreeMap<_, _> = kinds.into_iter().map(|kind| (kind, plain)).collect();
    operations.insert(Archive, Capability { needs_id: true, ..plain });
    Capabilities::of(operations, values)
}

pub(crate) fn sync(definition: Value) -> Sync {
    let mut whole = json!({ "unload": "u", "connection": "c", "object": "o", "match": { "id": "id" } });
    whole.as_object_mut().unwrap().extend(definition.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn fields(fields: Value) -> Sync {
    sync(json!({ "fields": fields }))
}

fn compile(sync: &Sync) -> Mapping {
    Mapping::compile(sync, None, &capabilities(ValueStyle::Json)).unwrap()
}

type TestColumn = (&'static str, ColumnType, ArrayRef);

fn batch(columns: &[TestColumn]) -> (RecordBatch, Vec<Column>) {
    let arrays = columns.iter().map(|(name, _, array)| (*name, Arc::clone(array), true));
    let kinds = columns.iter().map(|(name, kind, _)| Column { name: (*name).to_owned(), kind: kind.clone() });
    (RecordBatch::try_from_iter_with_nullable(arrays).unwrap(), kinds.collect())
}

/// What came of a row, with its parts cut out of their text.
#[derive(Debug, PartialEq)]
struct Row {
    matched: String,
    fields: String,
    asks: Option<Box<Asks>>,
    anything: bool,
}

fn map_all(mapping: &Mapping, columns: &[TestColumn]) -> Vec<Result<Row, Rejection>> {
    let (batch, kinds) = batch(columns);
    let engines = Engines::new();
    let compiled = mapping.expressions(&engines);
    let rows = mapping.rows(&compiled, &batch, &kinds).unwrap();
    let mut text = String::new();
    let cut = |mapped: super::Mapped, text: &str| Row {
        matched: text[mapped.matched].to_owned(),
        fields: text[mapped.fields].to_owned(),
        asks: mapped.asks,
        anything: mapped.anything,
    };
    (0..batch.num_rows()).map(|row| rows.map(row, &mut text).map(|mapped| cut(mapped, &text))).collect()
}

fn texts(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

/// The id column that every sync here matches by.
fn id() -> TestColumn {
    ("id", ColumnType::Int, Arc::new(Int64Array::from(vec![1])))
}

/// One field over one row of these columns.
fn one(field: Value, style: ValueStyle, columns: &[TestColumn]) -> Result<Value, &'static str> {
    let mapping = Mapping::compile(&fields(json!({ "f": field })), None, &capabilities(style)).unwrap();
    let mut all = columns.to_vec();
    all.push(id());
    let mapped = map_all(&mapping, &all).remove(0).map_err(|rejection| rejection.code)?;
    let object: Value = serde_json::from_str(&mapped.fields).unwrap();
    Ok(object.get("f").cloned().unwrap_or_else(|| json!("absent")))
}
