//! Removals of one key partition.

use bytes::Bytes;
use penstock_model::change::{Change, ChangeKind, Place, REMOVED};
use penstock_model::port::Objects;

use super::{ChangeRef, flags, push_previous, read_previous};
use crate::format::{Cursor, FormatError, Opened, damaged, narrow, push_varint, wide};

const MAGIC: [u8; 4] = *b"PNRM";
const VERSION: u32 = 1;
const HEADER: u64 = 24;
/// Removals of a page.
const PAGE_REMOVALS: usize = 1024;
const HEAD: u64 = 32 * 1024;

/// The object of one partition's removals, which must be ordered by key hash.
#[must_use]
pub fn write_removals<'a>(removals: impl ExactSizeIterator<Item = ChangeRef<'a>>) -> Bytes {
    let count = removals.len();
    let pages = count.div_ceil(PAGE_REMOVALS);
    let first = HEADER + 8 * wide(pages);
    let mut records = Vec::with_capacity(count * 16);
    let mut directory = Vec::with_capacity(pages * 8);
    for (number, removal) in removals.enumerate() {
        if number % PAGE_REMOVALS == 0 {
            directory.extend_from_slice(&(first + wide(records.len())).to_le_bytes());
        }
        records.push(flags(removal.previous));
        push_varint(&mut records, wide(removal.key.len()));
        records.extend_from_slice(removal.key);
        push_previous(&mut records, removal.previous);
    }
    let mut out = Vec::with_capacity(directory.len() + records.len() + 32);
    out.extend_from_slice(&MAGIC);
    for number in [VERSION, narrow(count), narrow(pages)] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&(first + wide(records.len())).to_le_bytes());
    out.append(&mut directory);
    out.append(&mut records);
    Bytes::from(out)
}

/// What stands in front.
#[derive(Debug, Clone, Copy)]
struct Header {
    removals: u32,
    pages: u32,
    end: u64,
}

fn read_header(object: &Opened<'_>) -> Result<Header, FormatError> {
    let mut cursor = Cursor::new(object.key(), 0, object.head());
    cursor.expect_format(MAGIC, VERSION)?;
    let header = Header { removals: cursor.u32()?, pages: cursor.u32()?, end: cursor.u64()? };
    if header.removals.div_ceil(narrow(PAGE_REMOVALS)) == header.pages {
        Ok(header)
    } else {
        Err(cursor.damaged("a header is impossible"))
    }
}

/// How many removals the object holds.
///
/// # Errors
/// [`FormatError`] if the object is missing or damaged.
pub async fn read_removal_count(objects: &dyn Objects, key: &str) -> Result<u32, FormatError> {
    let object = Opened::open(objects, key, HEADER).await?;
    Ok(read_header(&object)?.removals)
}

/// The removals `from..to` by their number.
pub(super) async fn read_between(
    objects: &dyn Objects,
    key: &str,
    from: u32,
    to: u32,
) -> Result<Vec<Change>, FormatError> {
    let mut removals = Vec::new();
    visit_between(objects, key, from, to, |removal| removals.push(removal.to_change())).await?;
    Ok(removals)
}

/// Shows the removals `from..to` by their number.
pub(super) async fn visit_between(
    objects: &dyn Objects,
    key: &str,
    from: u32,
    to: u32,
    mut each: impl FnMut(&ChangeRef<'_>),
) -> Result<(), FormatError> {
    let object = Opened::open(objects, key, HEAD).await?;
    let header = read_header(&object)?;
    if from >= to {
        return Ok(());
    }
    if to > header.removals {
        return Err(damaged(key, 8, "it holds fewer removals than its chunks"));
    }
    let page_removals = narrow(PAGE_REMOVALS);
    let page = from / page_removals;
    let after = to.div_ceil(page_removals);
    let start = page_offset(&object, page).await?;
    let end = if after >= header.pages { header.end } else { page_offset(&object, after).await? };
    let records = object.range(start..end).await?;
    let mut cursor = Cursor::new(key, start, &records);
    for number in page * page_removals..to {
        let flags = cursor.u8()?;
        let key = cursor.block()?;
        let previous = read_previous(&mut cursor, flags)?;
        if number >= from {
            let place = Place { split: REMOVED, row: number };
            each(&ChangeRef { kind: ChangeKind::Removed, key, place, row_hash: 0, previous });
        }
    }
    Ok(())
}

async fn page_offset(object: &Opened<'_>, page: u32) -> Result<u64, FormatError> {
    let at = HEADER + 8 * u64::from(page);
    let bytes = object.range(at..at + 8).await?;
    Cursor::new(object.key(), at, &bytes).u64()
}
