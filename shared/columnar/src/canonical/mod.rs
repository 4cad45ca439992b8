//! Canonical values: what is equal whatever writer, physical type, precision or unit it came in.
//!
//! Row hashes are made column by column: each value is hashed in its canonical form, mixed with a seed made of
//! the column's lower-case name, and added to its row's hash. So the order of columns does not matter, and neither do
//! the boundaries of batches. Every other column-wise scheme we measured costs more (a row format 2.7 times).
//!
//! | logical type | canonical form |
//! |---|---|
//! | whole numbers, decimals | the number itself: `5`, `5.00` and DECIMAL(38,0) `5` are equal |
//! | floating point | as 64-bit (FLOAT is widened); one NaN, no negative zero |
//! | text, enumerations, JSON | UTF-8 bytes; JSON is parsed where the unload says so ([`add_json_column`]) |
//! | UUID | as its lower-case text with hyphens |
//! | binary | bytes |
//! | date, time | days; nanoseconds |
//! | instants, timestamps without zone | nanoseconds, in 128 bits; the two differ from each other |
//! | list | its elements in order; an empty list is not null |
//! | struct, map | by field name or key, in any order |
//! | null | itself |

mod cells;
mod json;
mod key;
mod mix;
mod number;

pub(crate) use cells::uuid_text;

use std::collections::BTreeMap;

use arrow::array::{Array, RecordBatch};
use penstock_model::unload::{Column, ColumnType};

use crate::unload::UnloadError;

pub use key::{Keys, keys};

/// The version of the canonical forms and of the hash: another one makes stored row hashes incomparable, which plan then
/// treats like a change of the fields. The form of keys is not meant: it has to stay.
pub const HASH_VERSION: u32 = 1;

/// Adds one column to the hashes of its rows; `hashes` has an entry per row and starts at 0.
///
/// # Errors
/// [`UnloadError::SchemaMismatch`] if the array's type is not one that [`crate::reading`] gives.
pub fn add_column(
    hashes: &mut [u64],
    name: &str,
    kind: &ColumnType,
    array: &dyn Array,
) -> Result<(), UnloadError> {
    let seed = mix::name_seed(name);
    let mut rest = hashes.iter_mut();
    let mut add = |hash: u64| {
        if let Some(row) = rest.next() {
            *row = row.wrapping_add(mix::seeded(hash, seed));
        }
    };
    cells::each(array, kind, &mut add).map_err(|unfit| unfit.of(name))
}

/// Adds one column of JSON text to the hashes of its rows, each cell by what it says. Text that is no JSON counts as text.
///
/// # Errors
/// [`UnloadError::SchemaMismatch`] if the column is not in the batch, or is no text.
pub fn add_json_column(hashes: &mut [u64], batch: &RecordBatch, column: &Column) -> Result<(), UnloadError> {
    let seed = mix::name_seed(&column.name);
    let mut rest = hashes.iter_mut();
    let mut add = |hash: u64| {
        if let Some(row) = rest.next() {
            *row = row.wrapping_add(mix::seeded(hash, seed));
        }
    };
    let array = array_of(batch, &column.name)?;
    json::each(array, &column.kind, &mut add).map_err(|unfit| unfit.of(&column.name))
}

/// The hashes of a batch's rows over `columns`, which the batch must have.
///
/// # Errors
/// As [`add_column`]; also if a column is not in the batch.
pub fn row_hashes(batch: &RecordBatch, columns: &[Column]) -> Result<Vec<u64>, UnloadError> {
    let mut hashes = vec![0; batch.num_rows()];
    for column in columns {
        add_column(&mut hashes, &column.name, &column.kind, array_of(batch, &column.name)?)?;
    }
    Ok(hashes)
}

/// Nulls of each column of a batch, by lower-case name.
#[must_use]
pub fn null_counts(batch: &RecordBatch) -> BTreeMap<String, u64> {
    let schema = batch.schema_ref();
    schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| (field.name().to_lowercase(), array.logical_null_count() as u64))
        .collect()
}

/// A column of a batch by name, without regard to case.
fn array_of<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, UnloadError> {
    let lower = name.to_lowercase();
    let fields = batch.schema_ref().fields();
    fields
        .iter()
        .zip(batch.columns())
        .find(|(field, _)| field.name() == name || field.name().to_lowercase() == lower)
        .map(|(_, array)| array.as_ref())
        .ok_or_else(|| UnloadError::mismatch(format!("column {name} was not read")))
}

/// An array is not of a type that its column's logical type allows.
#[derive(Debug)]
struct Unfit {
    found: arrow::datatypes::DataType,
    wanted: String,
}

impl Unfit {
    fn new(array: &dyn Array, kind: &ColumnType) -> Self {
        Self { found: array.data_type().clone(), wanted: kind.to_string() }
    }

    fn of(self, column: &str) -> UnloadError {
        UnloadError::mismatch(format!("column {column} was read as {}, not as {}", self.found, self.wanted))
    }
}

#[cfg(test)]
mod tests;
