//! What `diff` found, for `gate` to count and `transform` and the commit to read chunk by chunk.
//!
//! Two objects for each key partition. **Changes** (added, changed and rejected rows) are ordered by place:
//!
//! | part | content |
//! |---|---|
//! | header, 32 bytes | `PNCH`, version, changes, rows of a bucket, pages (u32 each), reserved (u32), end of the index (u64) |
//! | directory, 24 bytes a page | split, bucket (u32 each) that the page begins with, offset of its index, offset of its records (u64 each) |
//! | index | per bucket: split (difference), bucket (difference within a split), changes, bytes, as varints |
//! | records | kind and flags (u8), row within the bucket (varint), key (varint, bytes), row hash (u64), accepted hash (u64) if any |
//!
//! A bucket is a stretch of rows of one split: enough of them that each partition has a few of their changes, so that
//! the index stays small beside the records whatever the number of partitions. From the indexes alone `gate` knows
//! how many changes lie in a range of places, and a reader of a chunk fetches of each partition little more than the
//! chunk's own records. Of a small object all comes with the first request.
//!
//! **Removals** are ordered by key hash, and known by their number in it:
//!
//! | part | content |
//! |---|---|
//! | header, 24 bytes | `PNRM`, version, removals, pages (u32 each), length of the object (u64) |
//! | directory, 8 bytes a page | offset of every 1024th record (u64) |
//! | records | flags (u8), key (varint, bytes), accepted hash (u64) if any |

mod chunks;
mod cut;
mod index;
mod removals;
mod rows;
mod untouched;

use penstock_model::Key;
use penstock_model::change::{Change, ChangeKind, Place, Previous};

use crate::format::{Cursor, FormatError};

pub use chunks::{plan_chunks, read_chunk};
pub use cut::Cutter;
pub use index::Bucket;
pub use removals::{read_removal_count, write_removals};
pub use rows::{BucketSize, read_index, write_changes};
pub use untouched::Untouched;

/// A change, its key borrowed as canonical bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChangeRef<'a> {
    /// What happened to the key.
    pub kind: ChangeKind,
    /// The key's canonical bytes.
    pub key: &'a [u8],
    /// Where the row stands; see [`Change::place`].
    pub place: Place,
    /// The row's hash; 0 for a removal.
    pub row_hash: u64,
    /// What the destination held before.
    pub previous: Previous,
}

/// Shows kind and place only: a key is a row value.
impl std::fmt::Debug for ChangeRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChangeRef({:?} {:?})", self.kind, self.place)
    }
}

impl ChangeRef<'_> {
    /// The change with a key of its own.
    #[must_use]
    pub fn to_change(&self) -> Change {
        Change {
            kind: self.kind,
            key: Key::from_bytes(self.key.to_vec()),
            place: self.place,
            row_hash: self.row_hash,
            previous: self.previous,
        }
    }
}

impl<'a> From<&'a Change> for ChangeRef<'a> {
    fn from(change: &'a Change) -> Self {
        Self {
            kind: change.kind,
            key: change.key.as_bytes(),
            place: change.place,
            row_hash: change.row_hash,
            previous: change.previous,
        }
    }
}

const ACCEPTED: u8 = 0x10;
const MAYBE_PRESENT: u8 = 0x20;

fn flags(previous: Previous) -> u8 {
    let accepted = if previous.accepted.is_some() { ACCEPTED } else { 0 };
    let maybe_present = if previous.maybe_present { MAYBE_PRESENT } else { 0 };
    accepted | maybe_present
}

fn push_previous(out: &mut Vec<u8>, previous: Previous) {
    if let Some(accepted) = previous.accepted {
        out.extend_from_slice(&accepted.to_le_bytes());
    }
}

fn read_previous(cursor: &mut Cursor<'_>, flags: u8) -> Result<Previous, FormatError> {
    let accepted = if flags & ACCEPTED == 0 { None } else { Some(cursor.u64()?) };
    Ok(Previous { accepted, maybe_present: flags & MAYBE_PRESENT != 0 })
}

#[cfg(test)]
mod tests;
