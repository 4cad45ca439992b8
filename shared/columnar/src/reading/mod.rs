//! Reads a split: fetches what is needed of its files and decodes it into Arrow batches.
//!
//! Only the columns asked for are fetched, and only the pages that hold rows asked for. One row group at a time is
//! in memory. Whatever a damaged file does to the decoder comes back as [`UnloadError::Corrupt`].

mod conform;
mod fetch;
mod file;
mod pages;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use penstock_model::port::Objects;
use penstock_model::unload::{Column, PinnedUnload, Split};

use crate::unload::{NaiveTimestamps, UnloadError};

/// Footers that are fetched before they are needed.
const FOOTERS_AHEAD: usize = 8;

/// Rows of a batch, at most.
pub const BATCH_ROWS: usize = 8192;

/// A split, and what is wanted of it.
#[derive(Debug, Clone, Copy)]
pub struct SplitSource<'a> {
    /// The objects below the unload's root.
    pub objects: &'a dyn Objects,
    /// The unload.
    pub unload: &'a PinnedUnload,
    /// The split.
    pub split: &'a Split,
    /// The columns to read. Batches have them in this order, under these names.
    pub columns: &'a [Column],
    /// What becomes of timestamps without zone.
    pub naive: NaiveTimestamps,
}

/// Reads a split, or only the `rows` of it (numbers within the split, rising), and hands each batch over together with its rows' numbers.
///
/// A batch's arrays are of any Arrow type that fits the column's logical type: text is `Utf8View`, binary `BinaryView` or
/// `FixedSizeBinary`, a whole number any integer type or a decimal of scale 0, an instant a timestamp of any unit with the zone
/// UTC. They may differ from file to file.
///
/// # Errors
/// [`UnloadError::Corrupt`] if a file is damaged or not the pinned one, `SchemaMismatch` if it lacks a column, `Storage` if it can't
/// be read now; and whatever `each` gives.
pub async fn read_split<E: From<UnloadError>>(
    source: SplitSource<'_>,
    rows: Option<&[u32]>,
    mut each: impl FnMut(&RecordBatch, &[u32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut first = 0;
    let mut rest = rows;
    let mut opened = Vec::with_capacity(source.split.pieces.len());
    for piece in &source.split.pieces {
        let next = first + piece.rows;
        let within = rest.map(|rest| rest.split_at(rest.partition_point(|row| *row < next)));
        rest = within.map(|(_, rest)| rest);
        let wanted = within.map(|(within, _)| within);
        if wanted.is_none_or(|wanted| !wanted.is_empty()) {
            opened.push(file::open_piece(source, piece, first, wanted));
        }
        first = next;
    }
    if rest.is_some_and(|rest| !rest.is_empty()) {
        return Err(UnloadError::corrupt(&source.unload.prefix, "it lacks rows that it had before").into());
    }
    // Of many small files most of the time goes by waiting for footers: some are fetched ahead.
    let mut opened = stream::iter(opened).buffered(FOOTERS_AHEAD);
    while let Some(piece) = opened.try_next().await? {
        piece.read(source.objects, &mut each).await?;
    }
    Ok(())
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod writers;
