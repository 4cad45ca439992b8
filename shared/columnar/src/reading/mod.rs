//! Reads a split: fetches what is needed of its files and decodes it into Arrow batches.
//!
//! Only the columns asked for are fetched, and only the pages that hold rows asked for. One row group at a time is
//! in memory. Whatever a damaged file does to the decoder comes back as [`UnloadError::Corrupt`].

mod conform;
mod delta;
mod fetch;
mod file;
mod located;
mod pages;

pub(crate) use conform::rezoned;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use penstock_model::port::Objects;
use penstock_model::unload::{Column, PinnedUnload, Split};

pub use located::PageLocations;

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

/// The rows wanted of a split.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// All of them.
    All,
    /// Some of them.
    Chosen {
        /// Their numbers within the split, rising.
        numbers: &'a [u32],
        /// Where pages stand, as an earlier reading of the whole split found; empty if there was none.
        pages: &'a PageLocations,
    },
}

impl Rows<'_> {
    /// Those with smaller numbers than `end`, and the others.
    fn split_at(self, end: u32) -> (Self, Self) {
        match self {
            Self::All => (Self::All, Self::All),
            Self::Chosen { numbers, pages } => {
                let (before, after) = numbers.split_at(numbers.partition_point(|row| *row < end));
                (Self::Chosen { numbers: before, pages }, Self::Chosen { numbers: after, pages })
            }
        }
    }

    const fn is_none(&self) -> bool {
        match self {
            Self::All => false,
            Self::Chosen { numbers, .. } => numbers.is_empty(),
        }
    }
}

/// Reads a split, or some rows of it, and hands each batch over together with its rows' numbers. Gives where pages stand, as far as
/// that was found out: of files that do not say it themselves, when all rows are read.
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
    rows: Rows<'_>,
    mut each: impl FnMut(&RecordBatch, &[u32]) -> Result<(), E>,
) -> Result<PageLocations, E> {
    let mut first = 0;
    let mut rest = rows;
    let mut opened = Vec::with_capacity(source.split.pieces.len());
    for piece in &source.split.pieces {
        let next = first + piece.rows;
        let (wanted, after) = rest.split_at(next);
        rest = after;
        if !wanted.is_none() {
            opened.push(file::open_piece(source, piece, first, wanted));
        }
        first = next;
    }
    if matches!(rest, Rows::Chosen { numbers: [_, ..], .. }) {
        return Err(UnloadError::corrupt(&source.unload.prefix, "it lacks rows that it had before").into());
    }
    // Of many small files most of the time goes by waiting for footers: some are fetched ahead.
    let mut opened = stream::iter(opened).buffered(FOOTERS_AHEAD);
    let mut located = PageLocations::default();
    while let Some(piece) = opened.try_next().await? {
        located.append(piece.read(source.objects, &mut each).await?);
    }
    Ok(located)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod writers;
