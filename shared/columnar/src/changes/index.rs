//! The index of a changes object: header, directory of pages, buckets.

use std::ops::Range;

use bytes::Bytes;
use penstock_model::change::Place;

use crate::format::{Cursor, FormatError, Opened, narrow, push_varint, wide};

const MAGIC: [u8; 4] = *b"PNCH";
const VERSION: u32 = 1;
pub(super) const HEADER: u64 = 32;
pub(super) const PAGE: u64 = 24;
/// Buckets of a page.
const PAGE_BUCKETS: usize = 256;
/// What is fetched first: of a small object, all of it.
pub(super) const HEAD: u64 = 32 * 1024;

/// The changes of one stretch of rows in one key partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// The split.
    pub split: u32,
    /// Which stretch of the split's rows, from 0.
    pub bucket: u32,
    /// Changes in it.
    pub changes: u32,
    /// Where its records begin.
    pub(super) offset: u64,
    /// Bytes of its records.
    pub(super) len: u64,
}

/// Header, directory and index of an object with these buckets, whose offsets count from the first record.
pub(super) fn write(buckets: &[Bucket], changes: usize, bucket_rows: u32) -> Vec<u8> {
    let pages = buckets.chunks(PAGE_BUCKETS);
    let first_index = HEADER + PAGE * wide(pages.len());
    let mut index = Vec::new();
    let mut directory = Vec::new();
    for page in pages.clone() {
        if let Some(first) = page.first() {
            directory.push((first.split, first.bucket, first_index + wide(index.len()), first.offset));
        }
        let (mut split, mut bucket) = (0, 0);
        for entry in page {
            if entry.split != split {
                bucket = 0;
            }
            push_varint(&mut index, u64::from(entry.split - split));
            push_varint(&mut index, u64::from(entry.bucket - bucket));
            push_varint(&mut index, u64::from(entry.changes));
            push_varint(&mut index, entry.len);
            (split, bucket) = (entry.split, entry.bucket);
        }
    }
    let end = first_index + wide(index.len());
    let mut out = Vec::with_capacity(usize::try_from(end).unwrap_or(0));
    out.extend_from_slice(&MAGIC);
    for number in [VERSION, narrow(changes), bucket_rows, narrow(pages.len()), 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&end.to_le_bytes());
    for (split, bucket, index_at, records_at) in directory {
        out.extend_from_slice(&split.to_le_bytes());
        out.extend_from_slice(&bucket.to_le_bytes());
        out.extend_from_slice(&index_at.to_le_bytes());
        out.extend_from_slice(&(end + records_at).to_le_bytes());
    }
    out.extend_from_slice(&index);
    out
}

/// What stands before the index.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) bucket_rows: u32,
    end: u64,
    pages: Vec<Page>,
}

#[derive(Debug, Clone, Copy)]
struct Page {
    split: u32,
    bucket: u32,
    index_at: u64,
    records_at: u64,
}

impl Directory {
    pub(super) async fn read(object: &Opened<'_>) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(object.key(), 0, object.head());
        cursor.expect_format(MAGIC, VERSION)?;
        let (_changes, bucket_rows, pages, _reserved) =
            (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let end = cursor.u64()?;
        let first_index = HEADER + PAGE * u64::from(pages);
        if bucket_rows == 0 || end < first_index {
            return Err(cursor.damaged("a header is impossible"));
        }
        let bytes = object.range(HEADER..first_index).await?;
        let mut cursor = Cursor::new(object.key(), HEADER, &bytes);
        let pages = (0..pages)
            .map(|_| {
                let (split, bucket) = (cursor.u32()?, cursor.u32()?);
                Ok(Page { split, bucket, index_at: cursor.u64()?, records_at: cursor.u64()? })
            })
            .collect::<Result<_, FormatError>>()?;
        Ok(Self { bucket_rows, end, pages })
    }

    /// The buckets that have rows from `from` up to (not with) `to`.
    pub(super) async fn buckets(
        &self,
        object: &Opened<'_>,
        from: Place,
        to: Place,
    ) -> Result<Vec<Bucket>, FormatError> {
        let first = (from.split, from.row / self.bucket_rows);
        // The first page may begin before `first`; the one before it that begins after can't hold it.
        let begin = self.pages.partition_point(|page| (page.split, page.bucket) <= first).saturating_sub(1);
        let end = self.pages.partition_point(|page| self.start(page.split, page.bucket) < to);
        let mut found = Vec::new();
        let Some(pages) = self.pages.get(begin..end).filter(|pages| !pages.is_empty()) else {
            return Ok(found);
        };
        let index_end = self.pages.get(end).map_or(self.end, |page| page.index_at);
        let index_at = pages.first().map_or(index_end, |page| page.index_at);
        let bytes = object.range(index_at..index_end).await?;
        let next = pages.iter().skip(1).map(|page| page.index_at).chain([index_end]);
        for (page, next) in pages.iter().zip(next) {
            let block = slice(&bytes, page.index_at.wrapping_sub(index_at)..next.wrapping_sub(index_at));
            let mut cursor = Cursor::new(object.key(), page.index_at, block);
            read_page(&mut cursor, page.records_at, |bucket| {
                let place = (bucket.split, bucket.bucket);
                if place >= first && self.start(bucket.split, bucket.bucket) < to {
                    found.push(bucket);
                }
            })?;
        }
        Ok(found)
    }

    fn start(&self, split: u32, bucket: u32) -> Place {
        Place { split, row: bucket.saturating_mul(self.bucket_rows) }
    }
}

fn slice(bytes: &Bytes, range: Range<u64>) -> &[u8] {
    let start = usize::try_from(range.start).unwrap_or(usize::MAX);
    let end = usize::try_from(range.end).unwrap_or(usize::MAX);
    bytes.get(start..end).unwrap_or_default()
}

fn read_page(
    cursor: &mut Cursor<'_>,
    records_at: u64,
    mut see: impl FnMut(Bucket),
) -> Result<(), FormatError> {
    let (mut split, mut bucket, mut offset) = (0u32, 0u32, records_at);
    if cursor.is_at_end() {
        return Err(cursor.damaged("a page of the index is empty"));
    }
    while !cursor.is_at_end() {
        let step = cursor.varint_u32()?;
        if step != 0 {
            bucket = 0;
        }
        let impossible = |cursor: &Cursor<'_>| cursor.damaged("an index entry is impossible");
        split = split.checked_add(step).ok_or_else(|| impossible(cursor))?;
        bucket = bucket.checked_add(cursor.varint_u32()?).ok_or_else(|| impossible(cursor))?;
        let (changes, len) = (cursor.varint_u32()?, cursor.varint()?);
        see(Bucket { split, bucket, changes, offset, len });
        offset = offset.checked_add(len).ok_or_else(|| impossible(cursor))?;
    }
    Ok(())
}
