//! Where pages stand in files that do not say so themselves.
//!
//! Many writers leave out Parquet's offset index. Without it, who wants some rows of a row group has to fetch whole columns of
//! it: of a million rows in chunks of ten thousand, a hundred times. `read` goes past every page's header anyway; what it
//! sees is kept, one object a split, and `transform` fetches the pages that it needs.
//!
//! | part | content |
//! |---|---|
//! | header | `PNPG`, version (u32), columns (varint) |
//! | a column | file, row group, leaf column, offset of its first data page, pages; for each page its bytes with header, and its rows (varints) |
//!
//! Columns of one page are left out, and repeated ones, whose pages do not say how many rows they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parquet::file::metadata::page_index::PageIndexBuilder;
use parquet::file::metadata::{OffsetIndexBuilder, ParquetMetaData};

use super::pages;
use crate::format::{Cursor, FormatError, push_varint, wide};

const MAGIC: [u8; 4] = *b"PNPG";
const VERSION: u32 = 1;

/// The places of the data pages of a split's columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageLocations {
    columns: Vec<ColumnPages>,
}

/// The data pages of one column of one row group; each begins where the one before ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ColumnPages {
    file: u32,
    row_group: u32,
    leaf: u32,
    /// Of the first page, in bytes from the file's beginning.
    offset: u64,
    pages: Vec<PageSize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageSize {
    /// With its header.
    pub(super) bytes: u32,
    pub(super) rows: u32,
}

impl PageLocations {
    /// Whether nothing is known, so that nothing needs to be kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.columns.append(&mut other.columns);
    }

    /// The object that keeps them.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        push_varint(&mut out, wide(self.columns.len()));
        for ColumnPages { file, row_group, leaf, offset, pages } in &self.columns {
            let numbers = [u64::from(*file), u64::from(*row_group), u64::from(*leaf), *offset];
            numbers.into_iter().chain([wide(pages.len())]).for_each(|number| push_varint(&mut out, number));
            for PageSize { bytes, rows } in pages {
                push_varint(&mut out, u64::from(*bytes));
                push_varint(&mut out, u64::from(*rows));
            }
        }
        Bytes::from(out)
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave; `key` is the object's, for the error.
    ///
    /// # Errors
    /// [`FormatError`] if the object is damaged or of another version.
    pub fn from_bytes(key: &str, body: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor::new(key, 0, body);
        cursor.expect_format(MAGIC, VERSION)?;
        let mut columns = Vec::new();
        for _ in 0..cursor.varint()? {
            let (file, row_group, leaf) = (cursor.varint_u32()?, cursor.varint_u32()?, cursor.varint_u32()?);
            let (offset, count) = (cursor.varint()?, cursor.varint()?);
            let mut pages = Vec::new();
            for _ in 0..count {
                pages.push(PageSize { bytes: cursor.varint_u32()?, rows: cursor.varint_u32()? });
            }
            columns.push(ColumnPages { file, row_group, leaf, offset, pages });
        }
        if cursor.is_at_end() {
            Ok(Self { columns })
        } else {
            Err(cursor.damaged("it goes on after its end"))
        }
    }

    /// A file's metadata with what is known of its pages, unless the file says it itself.
    pub(super) fn add_to(&self, metadata: ParquetMetaData, file: u32) -> ParquetMetaData {
        let mut known = self.columns.iter().filter(|column| column.file == file).peekable();
        if known.peek().is_none() || metadata.page_index().is_some_and(|index| index.has_offset_indexes()) {
            return metadata;
        }
        let leaves = metadata.file_metadata().schema_descr().num_columns();
        let mut index = PageIndexBuilder::default();
        index.allocate_offset_indexes(metadata.num_row_groups(), leaves);
        for column in known {
            let mut builder = OffsetIndexBuilder::new();
            let mut offset = column.offset;
            for page in &column.pages {
                builder.append_row_count(i64::from(page.rows));
                let place = (i64::try_from(offset), i32::try_from(page.bytes));
                builder.append_offset_and_size(place.0.unwrap_or(i64::MAX), place.1.unwrap_or(i32::MAX));
                offset = offset.saturating_add(u64::from(page.bytes));
            }
            index.put_offset_index(builder.build(), column.row_group as usize, column.leaf as usize);
        }
        metadata.into_builder().set_page_index(Some(Arc::new(index.build()))).build()
    }
}

/// The columns of a piece's row groups whose pages are to be located, by where they begin.
#[derive(Debug, Default)]
pub(super) struct Unlocated {
    columns: BTreeMap<u64, UnlocatedColumn>,
    located: PageLocations,
}

#[derive(Debug)]
struct UnlocatedColumn {
    file: u32,
    row_group: u32,
    leaf: u32,
    rows: u64,
}

impl Unlocated {
    /// The flat columns of these row groups; none if the file locates its pages itself.
    pub(super) fn new(metadata: &ParquetMetaData, file: u32, row_groups: std::ops::Range<usize>) -> Self {
        let mut columns = BTreeMap::new();
        for (row_group, group) in (0u32..).zip(metadata.row_groups()) {
            if !row_groups.contains(&(row_group as usize)) {
                continue;
            }
            // Without rows nothing of it is fetched, and its columns need not have a place.
            let Some(rows) = u64::try_from(group.num_rows()).ok().filter(|rows| *rows > 0) else { continue };
            for (leaf, column) in (0u32..).zip(group.columns()) {
                if column.offset_index_offset().is_some() {
                    return Self::default();
                }
                if column.column_descr().max_rep_level() == 0 {
                    let found = UnlocatedColumn { file, row_group, leaf, rows };
                    columns.insert(column.byte_range().0, found);
                }
            }
        }
        Self { columns, located: PageLocations::default() }
    }

    /// Looks at bytes that begin at `start` in the file: a whole column of a row group, if it is one of these.
    pub(super) fn look_at(&mut self, start: u64, bytes: &[u8]) {
        let Some(column) = self.columns.remove(&start) else { return };
        let Some((dictionary, pages)) = pages::sizes(bytes, column.rows) else { return };
        if pages.len() > 1 {
            let UnlocatedColumn { file, row_group, leaf, .. } = column;
            let offset = start.saturating_add(dictionary);
            self.located.columns.push(ColumnPages { file, row_group, leaf, offset, pages });
        }
    }

    pub(super) fn located(self) -> PageLocations {
        self.located
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn locations() -> impl Strategy<Value = PageLocations> {
        let page = (any::<u32>(), any::<u32>()).prop_map(|(bytes, rows)| PageSize { bytes, rows });
        let pages = prop::collection::vec(page, 0..5);
        let column = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u64>(), pages).prop_map(
            |(file, row_group, leaf, offset, pages)| ColumnPages { file, row_group, leaf, offset, pages },
        );
        prop::collection::vec(column, 0..5).prop_map(|columns| PageLocations { columns })
    }

    proptest! {
        #[test]
        fn what_was_kept_is_read(locations in locations(), cut in any::<prop::sample::Index>()) {
            let bytes = locations.to_bytes();
            prop_assert_eq!(&PageLocations::from_bytes("k", &bytes).unwrap(), &locations);
            let cut = cut.index(bytes.len());
            prop_assert!(PageLocations::from_bytes("k", &bytes[..cut]).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>()) {
            let mut body = PageLocations::default().to_bytes()[..8].to_vec();
            body.extend(bytes);
            drop(PageLocations::from_bytes("k", &body));
        }
    }
}
