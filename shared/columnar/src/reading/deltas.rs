//! Pages of texts whose lengths are packed as deltas: they say within the page how many there are, and may lie.
//!
//! The decoder sets memory aside for as many. The number lies under the page's compression, so that such pages are unpacked once
//! more to see it; no warehouse writes them, some engines do. Source of the format: github.com/apache/parquet-format,
//! `Encodings.md` (DELTA_BINARY_PACKED, DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY).

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Encoding;
use parquet::column::page::Page;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

/// The column that holds this offset of the file.
pub(super) fn column_at(metadata: &ParquetMetaData, offset: u64) -> Option<&ColumnChunkMetaData> {
    // Only where there are rows have columns been checked to have a place.
    let groups = metadata.row_groups().iter().filter(|group| group.num_rows() != 0);
    groups.flat_map(|group| group.columns()).find(|column| {
        let (start, bytes) = column.byte_range();
        (start..start + bytes).contains(&offset)
    })
}

/// Checks the pages in a stretch of this column, which begins with a page.
///
/// # Errors
/// One of Parquet's that says what a page claims, or why it can't be unpacked.
pub(super) fn check(stretch: &Bytes, column: &ColumnChunkMetaData) -> Result<()> {
    let bytes = i64::try_from(stretch.len())?;
    let alone = ColumnChunkMetaData::builder(column.column_descr_ptr())
        .set_compression(column.compression())
        .set_num_values(column.num_values())
        .set_data_page_offset(0)
        .set_total_compressed_size(bytes)
        .build()?;
    let (repeated, optional) =
        (column.column_descr().max_rep_level() > 0, column.column_descr().max_def_level() > 0);
    for page in SerializedPageReader::new(Arc::new(stretch.clone()), &alone, 0, None)? {
        let page = page?;
        let values = match &page {
            Page::DataPage { buf, rep_level_encoding, def_level_encoding, .. } => {
                let levels = [(repeated, rep_level_encoding), (optional, def_level_encoding)];
                if levels.iter().any(|(are_there, encoding)| *are_there && **encoding != Encoding::RLE) {
                    let why = "its levels are packed in a way that is older than that of its texts";
                    return Err(ParquetError::General(why.to_owned()));
                }
                after_levels(buf, usize::from(repeated) + usize::from(optional))
            }
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                let levels = u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len);
                usize::try_from(levels).ok().and_then(|levels| buf.get(levels..))
            }
            Page::DictionaryPage { .. } => continue,
        };
        // What is too short for its levels the decoder refuses.
        let Some(values) = values else { continue };
        let most = u64::from(page.num_values());
        let claimed = if page.encoding() == Encoding::DELTA_LENGTH_BYTE_ARRAY {
            counts(values).0
        } else if page.encoding() == Encoding::DELTA_BYTE_ARRAY {
            // The lengths of what each text has in common with the one before, and then of the rest.
            let (first, rest) = counts(values);
            first.max(rest.map_or(0, |rest| counts(rest).0))
        } else {
            continue;
        };
        if claimed > most {
            return Err(ParquetError::General(format!("a page of {most} values claims {claimed} texts")));
        }
    }
    Ok(())
}

/// What follows the levels of a page of the first version, each of them with its length before it.
fn after_levels(mut page: &[u8], levels: usize) -> Option<&[u8]> {
    for _ in 0..levels {
        let (length, rest) = page.split_first_chunk()?;
        page = rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)?;
    }
    Some(page)
}

/// How many numbers a list of deltas claims to hold, and what follows it, if it is all there.
fn counts(bytes: &[u8]) -> (u64, Option<&[u8]>) {
    let mut rest = bytes;
    let Some([block, minis, count]) = header(&mut rest) else { return (0, None) };
    (count, after_blocks(rest, block, minis, count))
}

/// Values of a block, lists of a block, values in all; behind them stands the first value.
fn header(bytes: &mut &[u8]) -> Option<[u64; 3]> {
    let [block, minis, count, _] = [varint(bytes)?, varint(bytes)?, varint(bytes)?, varint(bytes)?];
    Some([block, minis, count])
}

fn after_blocks(mut bytes: &[u8], block: u64, minis: u64, count: u64) -> Option<&[u8]> {
    let of_mini = block.checked_div(minis)?;
    let mut left = count.saturating_sub(1);
    while left > 0 {
        varint(&mut bytes)?;
        let (widths, rest) = bytes.split_at_checked(usize::try_from(minis).ok()?)?;
        bytes = rest;
        for width in widths {
            if left > 0 {
                let packed = u64::from(*width).checked_mul(of_mini)? / 8;
                bytes = bytes.get(usize::try_from(packed).ok()?..)?;
            }
            left = left.saturating_sub(of_mini);
        }
    }
    Some(bytes)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 129 numbers: a block of 128 deltas in 4 lists, of which two are of one bit each, and then a text.
    #[test]
    fn a_list_of_deltas_is_counted_and_gone_past() {
        let mut list = vec![0x80, 0x01, 4, 0x81, 0x01, 2, 0, 1, 0, 1, 0];
        list.extend([0xff; 8]);
        list.extend(b"text");
        assert_eq!(counts(&list), (129, Some(b"text".as_slice())));
        assert_eq!(counts(&list[..16]), (129, None));
        // Widths of lists that hold nothing say nothing.
        let short = [&[0x80, 0x01, 4, 33, 2, 0, 1, 9, 9, 9][..], &[0xff; 4], b"text"].concat();
        assert_eq!(counts(&short), (33, Some(b"text".as_slice())));
        assert_eq!(counts(&[0x80, 0x01, 4, 1, 2, b'!']), (1, Some(b"!".as_slice())));
        assert_eq!(counts(&[0x80, 0x01, 0, 7, 2, b'!']), (7, None));
        assert_eq!(counts(&[0x80]), (0, None));
    }
}
