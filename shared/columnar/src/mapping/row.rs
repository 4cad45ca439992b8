//! One row, from its arrays to the JSON of its operation.

use std::ops::Range;

use arrow::record_batch::RecordBatch;
use penstock_model::definition::OnNull;
use penstock_model::json::Json;
use penstock_model::operation::Asks;
use penstock_model::unload::{Column, ColumnType};

use super::cells::{Cell, Cells};
use super::convert::Refusal;
use super::expression::{Compiled, Engines};
use super::json::key_of;
use super::value::{push_json, push_value};
use super::{FieldPlan, Mapping, MatchField, Place, Source};

/// A batch lacks a column that the mapping uses, or holds one of a type that can't be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {name} can't be mapped: the unload's file lacks it, or its type can't be sent")]
pub struct UnknownColumn {
    /// The column, lower case.
    pub name: String,
}

impl MatchField {
    /// A column's cell as the type that the sync asks for.
    ///
    /// # Errors
    /// [`Refusal`] if it is of another kind.
    pub(super) fn spelt<'a>(&self, cell: Cell<'a>) -> Result<Cell<'a>, Refusal> {
        match self.target {
            Some(target) => target.convert(cell),
            None => Ok(cell),
        }
    }
}

/// What came of a row, and where its parts stand in the text that they were written to.
pub(crate) struct Mapped {
    /// The match fields as a JSON object.
    pub(crate) matched: Range<usize>,
    /// The other fields as a JSON object.
    pub(crate) fields: Range<usize>,
    /// The fields that depend on what the destination holds.
    pub(crate) asks: Option<Box<Asks>>,
    /// Whether there is any field to send.
    pub(crate) anything: bool,
}

/// Why a row can't be mapped. Holds nothing of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// A short code.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// The field at fault.
    pub(crate) field: String,
}

/// A mapping's expressions, compiled for a stretch of rows; one for each field, in order.
pub(crate) struct Expressions<'e, 's>(Vec<Option<Compiled<'e, 's>>>);

impl Mapping {
    /// Compiles the expressions.
    pub(crate) fn expressions<'e, 's>(&'s self, engines: &'e Engines<'s>) -> Expressions<'e, 's> {
        let compiled = self.fields.iter().map(|field| match &field.source {
            // One that does not compile was refused when the mapping was checked; here its rows would be rejected.
            Source::Expression(source, _) => source.compile(engines).ok(),
            Source::Column(_) | Source::Constant(_) => None,
        });
        Expressions(compiled.collect())
    }

    /// Makes a batch's rows ready to be mapped. Columns are found by name, without regard to case; `columns` gives
    /// their logical types.
    ///
    /// # Errors
    /// [`UnknownColumn`] if one that is needed is missing, or can't be sent.
    pub(crate) fn rows<'m, 'e, 's>(
        &'m self,
        expressions: &'m Expressions<'e, 's>,
        batch: &RecordBatch,
        columns: &[Column],
    ) -> Result<Rows<'m, 'e, 's>, UnknownColumn> {
        let cells =
            self.columns.iter().map(|name| cells_of(batch, name, columns)).collect::<Result<_, _>>()?;
        Ok(Rows { mapping: self, expressions, cells })
    }
}

/// A batch's column by its lower-case name.
fn cells_of(batch: &RecordBatch, name: &str, columns: &[Column]) -> Result<Cells, UnknownColumn> {
    let kind = columns.iter().find(|column| column.name.to_lowercase() == name).map(|column| &column.kind);
    let schema = batch.schema();
    let array =
        schema.fields().iter().zip(batch.columns()).find(|(field, _)| field.name().to_lowercase() == name);
    array
        .and_then(|(_, array)| Cells::new(array, kind.unwrap_or(&ColumnType::Null)))
        .ok_or_else(|| UnknownColumn { name: name.to_owned() })
}

/// A batch's key columns, for people.
pub(crate) struct KeyRows(Vec<(String, Cells)>);

impl KeyRows {
    /// The key columns of a batch.
    ///
    /// # Errors
    /// [`UnknownColumn`] if one is missing.
    pub(crate) fn of(batch: &RecordBatch, columns: &[Column]) -> Result<Self, UnknownColumn> {
        let keys = columns.iter().map(|column| {
            let cells = cells_of(batch, &column.name.to_lowercase(), columns)?;
            Ok((key_of(&column.name), cells))
        });
        Ok(Self(keys.collect::<Result<_, _>>()?))
    }

    /// Appends a row's key columns and values as a JSON object.
    pub(crate) fn push(&self, out: &mut String, row: usize) {
        out.push('{');
        for (index, (key, cells)) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(key);
            push_json(out, &cells.at(row));
        }
        out.push('}');
    }
}

/// A batch's rows, ready to be mapped.
pub(crate) struct Rows<'m, 'e, 's> {
    pub(super) mapping: &'m Mapping,
    pub(super) expressions: &'m Expressions<'e, 's>,
    pub(super) cells: Vec<Cells>,
}

impl Rows<'_, '_, '_> {
    /// Maps the row of this number within the batch, into a text that many rows share.
    ///
    /// # Errors
    /// [`Rejection`] for a row that can't be sent as it is; what was written of it by then is no part of anything.
    pub(crate) fn map(&self, row: usize, out: &mut String) -> Result<Mapped, Rejection> {
        let start = out.len();
        self.push_matched(out, row)?;
        let middle = out.len();
        let mut leaf = |out: &mut String, index: usize| self.push_field(out, index, row);
        let anything = self.mapping.tree.write(out, &mut leaf)?;
        if !anything {
            out.push_str("{}");
        }
        let (matched, fields) = (start..middle, middle..out.len());
        let asks = if self.mapping.asks { self.asks(row)? } else { None };
        Ok(Mapped { matched, fields, anything: anything || asks.is_some(), asks })
    }

    /// The fields that depend on what the destination holds, as far as the row has anything to say of them.
    fn asks(&self, row: usize) -> Result<Option<Box<Asks>>, Rejection> {
        let (if_empty, lookups) = (self.among(Place::IfEmpty, row)?, self.among(Place::Lookups, row)?);
        let any = if_empty.is_some() || lookups.is_some();
        Ok(any.then(|| Box::new(Asks { if_empty, lookups })))
    }

    /// The fields of one place as an object without nesting; none if there is nothing to send.
    fn among(&self, place: Place, row: usize) -> Result<Option<Json>, Rejection> {
        let mut out = String::from("{");
        for (index, field) in self.mapping.fields.iter().enumerate().filter(|(_, field)| field.place == place)
        {
            let mark = out.len();
            if mark > 1 {
                out.push(',');
            }
            out.push_str(&field.key);
            if !self.push_field(&mut out, index, row)? {
                out.truncate(mark);
            }
        }
        out.push('}');
        Ok((out.len() > 2).then(|| Json::written(out)))
    }

    fn push_matched(&self, out: &mut String, row: usize) -> Result<(), Rejection> {
        out.push('{');
        for (index, field) in self.mapping.matched.iter().enumerate() {
            let cell = self.cells.get(field.column).map_or(Cell::Null, |cells| cells.at(row));
            let empty = match &cell {
                Cell::Null => true,
                Cell::Text(text) => text.trim().is_empty(),
                Cell::Bool(_)
                | Cell::Int(_)
                | Cell::Decimal(..)
                | Cell::Float32(_)
                | Cell::Float(_)
                | Cell::Bytes(_)
                | Cell::Uuid(_)
                | Cell::Date(_)
                | Cell::Time(..)
                | Cell::Instant(..)
                | Cell::Naive(..)
                | Cell::Number(_)
                | Cell::Json(_)
                | Cell::List(..)
                | Cell::Struct(..)
                | Cell::Map(..) => false,
            };
            if empty {
                let column = self.column_name(field.column);
                return Err(Rejection {
                    code: "match_empty",
                    message: format!("column {column} is empty, so that the record can't be found"),
                    field: field.name.clone(),
                });
            }
            if index > 0 {
                out.push(',');
            }
            out.push_str(&field.key);
            self.push_match(out, field, cell)?;
        }
        out.push('}');
        Ok(())
    }

    /// Appends a field's value; false if the field is not sent.
    pub(super) fn push_field(&self, out: &mut String, index: usize, row: usize) -> Result<bool, Rejection> {
        let Some(field) = self.mapping.fields.get(index) else {
            return Ok(false);
        };
        let refused = |refusal| self.rejection(field, refusal);
        let cell = match &field.source {
            Source::Constant(json) => {
                out.push_str(json);
                return Ok(true);
            }
            Source::Column(column) => self.cells.get(*column).map_or(Cell::Null, |cells| cells.at(row)),
            Source::Expression(_, names) => {
                let Some(Some(compiled)) = self.expressions.0.get(index) else {
                    return Err(refused(super::expression::FAILED));
                };
                let columns: Vec<(&str, &Cells)> = names
                    .iter()
                    .filter_map(|(name, column)| self.cells.get(*column).map(|cells| (name.as_str(), cells)))
                    .collect();
                compiled.evaluate(row, &columns).map_err(refused)?
            }
        };
        let cell = match field.target {
            Some(target) => target.convert(cell).map_err(refused)?,
            None => cell,
        };
        // A blank key leads nowhere.
        let is_blank = matches!(&cell, Cell::Text(text) if text.trim().is_empty());
        let cell = if is_blank && field.place == Place::Lookups { Cell::Null } else { cell };
        if matches!(cell, Cell::Null) && field.on_null == OnNull::Skip {
            return Ok(false);
        }
        push_value(out, &cell, self.mapping.style);
        Ok(true)
    }

    /// Appends a match field's value, of a row that may be but a sample.
    pub(super) fn push_match_of(&self, out: &mut String, index: usize, row: usize) -> Result<(), Rejection> {
        let Some(field) = self.mapping.matched.get(index) else {
            return Ok(());
        };
        let cell = self.cells.get(field.column).map_or(Cell::Null, |cells| cells.at(row));
        self.push_match(out, field, cell)
    }

    fn push_match(&self, out: &mut String, field: &MatchField, cell: Cell<'_>) -> Result<(), Rejection> {
        let cell = field.spelt(cell).map_err(|refusal| Rejection {
            code: refusal.code,
            message: format!("column {} {}", self.column_name(field.column), refusal.what),
            field: field.name.clone(),
        })?;
        push_value(out, &cell, self.mapping.style);
        Ok(())
    }

    fn column_name(&self, column: usize) -> &str {
        self.mapping.columns.get(column).map_or("", String::as_str)
    }

    fn rejection(&self, field: &FieldPlan, refusal: Refusal) -> Rejection {
        let subject = match &field.source {
            Source::Column(column) => format!("column {}", self.column_name(*column)),
            Source::Expression(..) => "the expression".to_owned(),
            Source::Constant(_) => "the constant".to_owned(),
        };
        Rejection {
            code: refusal.code,
            message: format!("{subject} {}", refusal.what),
            field: field.name.clone(),
        }
    }
}
