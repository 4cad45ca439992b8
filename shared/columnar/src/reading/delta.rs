//! How many texts a page says that it has, where it stores their lengths as differences (`DELTA_LENGTH_BYTE_ARRAY` and
//! `DELTA_BYTE_ARRAY`): the decoder sets memory aside for that number, which no page header states.
//!
//! It stands before the values, inside of what is compressed: such pages are unpacked to look at it. Source of the format:
//! github.com/apache/parquet-format, `Encodings.md`, "Delta Encoding".

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::thrift::Reader;

/// Checks the pages in some bytes that begin at `start` in the file, whichever of these row groups' columns they are of: a footer
/// may give the same bytes to several.
///
/// # Errors
/// If a page claims more values than its header does, or can't be unpacked.
pub(super) fn check(row_groups: &[RowGroupMetaData], start: u64, bytes: &Bytes) -> Result<(), ParquetError> {
    let columns = row_groups.iter().filter(|group| group.num_rows() > 0).flat_map(RowGroupMetaData::columns);
    let mut seen = Vec::new();
    for column in columns {
        let (begin, len) = column.byte_range();
        let levels = Levels::of(column);
        let read_as = (column.compression(), levels);
        if start < begin || start - begin >= len || seen.contains(&read_as) {
            continue;
        }
        seen.push(read_as);
        let len = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let alone = column
            .clone()
            .into_builder()
            .set_dictionary_page_offset(None)
            .set_data_page_offset(0)
            .set_total_compressed_size(len)
            .build()?;
        let mut pages = SerializedPageReader::new(Arc::new(bytes.clone()), &alone, 0, None)?;
        while let Some(page) = pages.get_next_page()? {
            let claimed = claimed(&page, levels);
            if claimed > u64::from(page.num_values()) {
                return Err(ParquetError::General(format!("a page of it claims {claimed} values")));
            }
        }
    }
    Ok(())
}

/// The largest repetition and definition level of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Levels {
    repetition: i16,
    definition: i16,
}

impl Levels {
    fn of(column: &ColumnChunkMetaData) -> Self {
        let column = column.column_descr();
        Self { repetition: column.max_rep_level(), definition: column.max_def_level() }
    }
}

/// The most values that a page's own values claim to be; none if they do not say it. What can't be read claims nothing: the decoder
/// comes no further, either.
fn claimed(page: &Page, levels: Levels) -> u64 {
    let counts = if page.encoding() == Encoding::DELTA_LENGTH_BYTE_ARRAY {
        1
    } else if page.encoding() == Encoding::DELTA_BYTE_ARRAY {
        // Of the prefixes' lengths, and of the lengths of what follows them.
        2
    } else {
        return 0;
    };
    let mut most = 0;
    let mut values = values(page, levels);
    for _ in 0..counts {
        let Some(bytes) = values else { break };
        let mut reader = Reader(bytes);
        let Some(header) = Header::read(&mut reader) else { break };
        most = header.count.max(most);
        values = header.skip(reader);
    }
    most
}

/// What follows a page's levels.
fn values(page: &Page, levels: Levels) -> Option<&[u8]> {
    match page {
        Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
            let mut rest: &[u8] = buf;
            for (largest, encoding) in
                [(levels.repetition, *rep_level_encoding), (levels.definition, *def_level_encoding)]
            {
                if largest > 0 {
                    rest = rest.get(level_bytes(rest, largest, encoding, *num_values)?..)?;
                }
            }
            Some(rest)
        }
        Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
            buf.get(usize::try_from(def_levels_byte_len.checked_add(*rep_levels_byte_len)?).ok()?..)
        }
        Page::DictionaryPage { .. } => None,
    }
}

fn level_bytes(levels: &[u8], largest: i16, encoding: Encoding, values: u32) -> Option<usize> {
    if encoding == Encoding::RLE {
        let len = levels.first_chunk::<4>().map(|len| u32::from_le_bytes(*len))?;
        return usize::try_from(len).ok()?.checked_add(4);
    }
    // Levels of the oldest writers: so many bits each.
    let bits = u64::from(16 - largest.leading_zeros());
    usize::try_from((u64::from(values) * bits).div_ceil(8)).ok()
}

/// What stands before integers that are stored as differences.
struct Header {
    miniblocks: u64,
    miniblock_values: u64,
    count: u64,
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (block_values, miniblocks, count) = (reader.varint()?, reader.varint()?, reader.varint()?);
        reader.varint()?;
        Some(Self { miniblocks, miniblock_values: block_values.checked_div(miniblocks)?, count })
    }

    /// What follows the integers.
    fn skip<'a>(&self, mut reader: Reader<'a>) -> Option<&'a [u8]> {
        let mut left = self.count.saturating_sub(1);
        while left > 0 {
            reader.varint()?;
            let (widths, packed) = reader.0.split_at_checked(usize::try_from(self.miniblocks).ok()?)?;
            reader = Reader(packed);
            for width in widths {
                if left > 0 {
                    reader.jump(u64::from(*width).checked_mul(self.miniblock_values)? / 8)?;
                }
                left = left.saturating_sub(self.miniblock_values);
            }
        }
        Some(reader.0)
    }
}
