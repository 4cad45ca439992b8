//! Added, changed and rejected rows of one key partition.

use bytes::Bytes;
use penstock_model::change::{Change, ChangeKind, Place};
use penstock_model::port::Objects;

use super::index::{self, Bucket, Directory, HEAD};
use super::{ChangeRef, flags, push_previous, read_previous};
use crate::format::{Cursor, FormatError, Opened, damaged, push_varint, wide};

const KIND: u8 = 0x0f;

/// How many rows of a split make a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSize(u32);

impl BucketSize {
    /// The size for so many key partitions: 16 rows of each, at most 8192 rows in all.
    #[must_use]
    pub fn of(partitions: u32) -> Self {
        Self(partitions.saturating_mul(16).clamp(16, 8192))
    }

    /// The bucket of a row.
    #[must_use]
    pub const fn bucket(self, row: u32) -> u32 {
        row / self.0
    }

    /// The first place of a bucket.
    #[must_use]
    pub const fn start(self, split: u32, bucket: u32) -> Place {
        Place { split, row: bucket.saturating_mul(self.0) }
    }

    /// The place after a bucket's last row.
    #[must_use]
    pub const fn end(self, split: u32, bucket: u32) -> Place {
        self.start(split, bucket.saturating_add(1))
    }
}

/// The object of one partition's changes, which must be ordered by place and hold no removals. `partitions` is the
/// run's number of key partitions.
#[must_use]
pub fn write_changes(changes: &[ChangeRef<'_>], partitions: u32) -> Bytes {
    debug_assert!(changes.is_sorted_by_key(|change| change.place), "changes are ordered by place");
    let size = BucketSize::of(partitions);
    let mut records = Vec::with_capacity(changes.len() * 24);
    let mut buckets = Vec::new();
    let same = |a: &ChangeRef<'_>, b: &ChangeRef<'_>| {
        (a.place.split, size.bucket(a.place.row)) == (b.place.split, size.bucket(b.place.row))
    };
    for bucket in changes.chunk_by(same) {
        let Some(first) = bucket.first() else { continue };
        let (split, number) = (first.place.split, size.bucket(first.place.row));
        let offset = records.len();
        for change in bucket {
            push_record(&mut records, change, size.start(split, number).row);
        }
        buckets.push(Bucket {
            split,
            bucket: number,
            changes: crate::format::narrow(bucket.len()),
            offset: wide(offset),
            len: wide(records.len() - offset),
        });
    }
    let mut out = index::write(&buckets, changes.len(), size.0);
    out.append(&mut records);
    Bytes::from(out)
}

fn push_record(out: &mut Vec<u8>, change: &ChangeRef<'_>, first_row: u32) {
    let kind = match change.kind {
        ChangeKind::Added => 0,
        ChangeKind::Changed => 1,
        ChangeKind::DuplicateKey => 2,
        ChangeKind::NullKey => 3,
        // Removals have an object of their own; read back, this one is damage.
        ChangeKind::Removed => KIND,
    };
    out.push(kind | flags(change.previous));
    push_varint(out, u64::from(change.place.row - first_row));
    push_varint(out, wide(change.key.len()));
    out.extend_from_slice(change.key);
    out.extend_from_slice(&change.row_hash.to_le_bytes());
    push_previous(out, change.previous);
}

fn read_record<'a>(cursor: &mut Cursor<'a>, start: Place) -> Result<ChangeRef<'a>, FormatError> {
    let head = cursor.u8()?;
    let kind = match head & KIND {
        0 => ChangeKind::Added,
        1 => ChangeKind::Changed,
        2 => ChangeKind::DuplicateKey,
        3 => ChangeKind::NullKey,
        _ => return Err(cursor.damaged("a change is of no known kind")),
    };
    let row =
        start.row.checked_add(cursor.varint_u32()?).ok_or_else(|| cursor.damaged("a row is impossible"))?;
    let key = cursor.block()?;
    let row_hash = cursor.u64()?;
    let previous = read_previous(cursor, head)?;
    Ok(ChangeRef { kind, key, place: Place { split: start.split, row }, row_hash, previous })
}

/// Every bucket of one partition's changes.
///
/// # Errors
/// [`FormatError`] if the object is missing or damaged.
pub async fn read_index(
    objects: &dyn Objects,
    key: &str,
    size: BucketSize,
) -> Result<Vec<Bucket>, FormatError> {
    let object = Opened::open(objects, key, HEAD).await?;
    let directory = open_directory(&object, size).await?;
    let last = Place { split: u32::MAX, row: u32::MAX };
    directory.buckets(&object, Place { split: 0, row: 0 }, last).await
}

async fn open_directory(object: &Opened<'_>, size: BucketSize) -> Result<Directory, FormatError> {
    let directory = Directory::read(object).await?;
    if directory.bucket_rows == size.0 {
        Ok(directory)
    } else {
        Err(damaged(object.key(), 0, "its buckets are of another size"))
    }
}

/// One partition's changes from `from` up to (not with) `to`, ordered by place.
pub(super) async fn read_between(
    objects: &dyn Objects,
    key: &str,
    size: BucketSize,
    from: Place,
    to: Place,
) -> Result<Vec<Change>, FormatError> {
    let mut changes = Vec::new();
    visit_between(objects, key, size, from, to, |change| changes.push(change.to_change())).await?;
    Ok(changes)
}

/// Shows one partition's changes from `from` up to (not with) `to`, ordered by place.
pub(super) async fn visit_between(
    objects: &dyn Objects,
    key: &str,
    size: BucketSize,
    from: Place,
    to: Place,
    mut each: impl FnMut(&ChangeRef<'_>),
) -> Result<(), FormatError> {
    let object = Opened::open(objects, key, HEAD).await?;
    let buckets = open_directory(&object, size).await?.buckets(&object, from, to).await?;
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else { return Ok(()) };
    let end =
        last.offset.checked_add(last.len).ok_or_else(|| damaged(key, 0, "an index entry is impossible"))?;
    let records = object.range(first.offset..end).await?;
    let mut cursor = Cursor::new(key, first.offset, &records);
    for bucket in buckets {
        let start = size.start(bucket.split, bucket.bucket);
        for _ in 0..bucket.changes {
            let change = read_record(&mut cursor, start)?;
            if from <= change.place && change.place < to {
                each(&change);
            }
        }
    }
    if cursor.is_at_end() { Ok(()) } else { Err(cursor.damaged("a bucket holds more than its index says")) }
}
