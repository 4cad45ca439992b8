//! A file's footer: fetched with as few requests as possible, and checked before it is believed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::DecodeResult;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataPushDecoder,
    ParquetStatisticsPolicy, RowGroupMetaData,
};
use penstock_model::port::{ETag, Objects};

use super::{UnloadError, claims};

/// The end of a file that is fetched first: nearly every footer is smaller.
const TAIL_BYTES: u64 = 64 * 1024;
/// The largest footer that is decoded: beyond it a file is taken to be hostile.
const MAX_FOOTER_BYTES: u64 = 64 * 1024 * 1024;
/// Magic, length of the footer, magic.
const SMALLEST_FILE_BYTES: u64 = 12;
/// Bytes of the footer's length and of the magic, which follow it.
const TRAILER: usize = 8;
const MAGIC: &[u8] = b"PAR1";
const MAGIC_ENCRYPTED: &[u8] = b"PARE";

/// Runs a decoder. A panic of it is the file's fault; its message is dropped, since it may quote a value.
pub(crate) fn decoded<T>(
    file: &str,
    decode: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<T, UnloadError> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(|error| UnloadError::decoding(file, &error)),
        Err(_) => Err(UnloadError::corrupt(file, "the decoder gave up on it")),
    }
}

/// Where pages stand is needed only to skip some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// The places of pages are left out.
    Unlocated,
    /// The places of pages are fetched if the file has them.
    Located,
}

/// Fetches and decodes the footer of one version of a file. What it says of where columns lie can be relied on.
pub(crate) async fn fetch(
    objects: &dyn Objects,
    file: &str,
    size: u64,
    etag: &ETag,
    pages: Pages,
) -> Result<ParquetMetaData, UnloadError> {
    if size < SMALLEST_FILE_BYTES {
        return Err(UnloadError::corrupt(file, format!("with {size} bytes it is too short for Parquet")));
    }
    let (end, footer) = end_of(objects, file, size, etag).await?;
    let begin = size.saturating_sub((footer.len() + TRAILER) as u64);
    claims::check(&footer).map_err(|why| UnloadError::corrupt(file, why))?;
    let policy = match pages {
        Pages::Unlocated => PageIndexPolicy::Skip,
        Pages::Located => PageIndexPolicy::Optional,
    };
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let place = size.saturating_sub(end.len() as u64)..size;
    let mut decoder = decoded(file, || {
        let mut decoder = ParquetMetaDataPushDecoder::try_new(size)?
            .with_page_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(policy)
            .with_metadata_options(Some(options.into()));
        decoder.push_ranges(vec![place], vec![end])?;
        Ok(decoder)
    })?;
    loop {
        match decoded(file, || decoder.try_decode())? {
            DecodeResult::Data(metadata) => {
                check_places(file, &metadata, begin)?;
                return Ok(metadata);
            }
            DecodeResult::Finished => return Err(UnloadError::corrupt(file, "its footer has no end")),
            DecodeResult::NeedsData(ranges) => {
                let wanted: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
                if wanted > MAX_FOOTER_BYTES {
                    return Err(UnloadError::corrupt(
                        file,
                        format!("the places of its pages claim {wanted} bytes"),
                    ));
                }
                let mut parts = Vec::with_capacity(ranges.len());
                for wanted in &ranges {
                    parts.push(range(objects, file, wanted.clone(), etag).await?);
                }
                decoded(file, || decoder.push_ranges(ranges, parts))?;
            }
        }
    }
}

/// A file's last bytes, in which the places of pages often are as well, and of these the footer's.
async fn end_of(
    objects: &dyn Objects,
    file: &str,
    size: u64,
    etag: &ETag,
) -> Result<(Bytes, Bytes), UnloadError> {
    let start = size.saturating_sub(TAIL_BYTES);
    let tail = range(objects, file, start..size, etag).await?;
    check_magic(file, &tail, start == 0)?;
    let claimed = match *tail {
        [.., a, b, c, d, _, _, _, _] => u64::from(u32::from_le_bytes([a, b, c, d])),
        _ => 0,
    };
    let begin = size.checked_sub(claimed + TRAILER as u64).filter(|_| claimed <= MAX_FOOTER_BYTES);
    let claims = || UnloadError::corrupt(file, format!("its footer claims {claimed} bytes"));
    let begin = begin.ok_or_else(claims)?;
    let end = if begin < start {
        let before = range(objects, file, begin..start, etag).await?;
        Bytes::from([before, tail].concat())
    } else {
        tail
    };
    // As much lies in memory.
    let footer = usize::try_from(claimed).ok().and_then(|claimed| {
        let until = end.len().checked_sub(TRAILER)?;
        Some(end.slice(until.checked_sub(claimed)?..until))
    });
    Ok((end, footer.ok_or_else(claims)?))
}

/// Exactly these bytes of exactly this version.
pub(crate) async fn range(
    objects: &dyn Objects,
    file: &str,
    range: std::ops::Range<u64>,
    etag: &ETag,
) -> Result<Bytes, UnloadError> {
    let wanted = range.end.saturating_sub(range.start);
    let bytes =
        objects.get_range(file, range, Some(etag)).await.map_err(|error| UnloadError::pinned(file, error))?;
    if bytes.len() as u64 == wanted { Ok(bytes) } else { Err(UnloadError::corrupt(file, "it ends early")) }
}

fn check_magic(file: &str, tail: &[u8], is_whole: bool) -> Result<(), UnloadError> {
    if tail.ends_with(MAGIC_ENCRYPTED) {
        return Err(UnloadError::corrupt(file, "it is encrypted"));
    }
    if !tail.ends_with(MAGIC) || (is_whole && !tail.starts_with(MAGIC)) {
        return Err(UnloadError::corrupt(file, "it is not a Parquet file, or was cut short"));
    }
    Ok(())
}

/// Every column has to lie between the file's beginning and its footer, whether somebody wants it or not: Parquet's `byte_range`,
/// which the reading path and the decoder ask, panics if not. A row group without rows is left out: nothing of it is ever
/// fetched, and its columns may have no place at all.
fn check_places(file: &str, metadata: &ParquetMetaData, end: u64) -> Result<(), UnloadError> {
    for (at, group) in metadata.row_groups().iter().enumerate().filter(|(_, group)| group.num_rows() != 0) {
        for column in group.columns() {
            // As `byte_range` has it: where the dictionary is, if there is one.
            let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            let bytes = column.compressed_size();
            let is_within = match (u64::try_from(start), u64::try_from(bytes)) {
                (Ok(start), Ok(bytes)) => start.checked_add(bytes).is_some_and(|until| until <= end),
                (Err(_), _) | (_, Err(_)) => false,
            };
            if !is_within {
                let path = column.column_path().string();
                let why = format!(
                    "its footer says that column {path} of row group {at} has {bytes} bytes from {start} on, but columns lie \
                     between 0 and {end}"
                );
                return Err(UnloadError::corrupt(file, why));
            }
        }
    }
    Ok(())
}

/// The rows of each row group, once they agree with the file's total and are packed in a way that is read.
pub(crate) fn row_groups(file: &str, metadata: &ParquetMetaData) -> Result<Vec<u32>, UnloadError> {
    readable(file, metadata)?;
    let rows: Option<Vec<u32>> =
        metadata.row_groups().iter().map(|group| u32::try_from(group.num_rows()).ok()).collect();
    let rows = rows.ok_or_else(|| UnloadError::corrupt(file, "a row group claims an impossible count"))?;
    let total: u64 = rows.iter().map(|rows| u64::from(*rows)).sum();
    if u64::try_from(metadata.file_metadata().num_rows()) != Ok(total) {
        return Err(UnloadError::corrupt(file, "its row groups do not add up to its count of rows"));
    }
    Ok(rows)
}

/// LZO has no decoder here (Snowflake writes it if asked to), and Brotli's is larger than all others together, for files that
/// no warehouse writes.
fn readable(file: &str, metadata: &ParquetMetaData) -> Result<(), UnloadError> {
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    for column in columns {
        let codec = match column.compression() {
            Compression::LZO => "LZO",
            Compression::BROTLI(_) => "Brotli",
            Compression::UNCOMPRESSED
            | Compression::SNAPPY
            | Compression::GZIP(_)
            | Compression::LZ4
            | Compression::ZSTD(_)
            | Compression::LZ4_RAW => continue,
        };
        let why = format!(
            "it is compressed with {codec}, which is not read: unload it with Snappy, Zstandard or gzip"
        );
        return Err(UnloadError::corrupt(file, why));
    }
    Ok(())
}

/// The bytes of each row group once unpacked, as far as the footer can be believed.
pub(crate) fn row_group_bytes(metadata: &ParquetMetaData) -> Vec<u64> {
    let unpacked = |group: &RowGroupMetaData| {
        let columns = group.columns().iter().map(|column| {
            let larger = column.uncompressed_size().max(column.compressed_size());
            u64::try_from(larger).unwrap_or(0)
        });
        columns.fold(0, u64::saturating_add)
    };
    metadata.row_groups().iter().map(unpacked).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::basic::BrotliLevel;
    use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData};
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    #[test]
    fn what_no_decoder_unpacks_is_named_with_what_to_do() {
        let schema = parse_message_type("message m { optional int32 a; optional int32 b; }").unwrap();
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(schema)));
        let packed = |codec: Compression| {
            let columns = [Compression::SNAPPY, codec].into_iter().zip(schema.columns());
            let columns = columns.map(|(codec, column)| {
                ColumnChunkMetaData::builder(column.clone()).set_compression(codec).build().unwrap()
            });
            let group = RowGroupMetaData::builder(schema.clone())
                .set_num_rows(7)
                .set_column_metadata(columns.collect())
                .build()
                .unwrap();
            let file = FileMetaData::new(1, 7, None, None, schema.clone(), None);
            row_groups("a.parquet", &ParquetMetaData::new(file, vec![group]))
        };
        for read in [Compression::UNCOMPRESSED, Compression::LZ4, Compression::LZ4_RAW] {
            assert_eq!(packed(read).unwrap(), [7]);
        }
        for (codec, name) in
            [(Compression::LZO, "LZO"), (Compression::BROTLI(BrotliLevel::default()), "Brotli")]
        {
            let error = packed(codec).unwrap_err();
            assert_eq!(error.name(), penstock_model::FailureName::UnloadCorrupt);
            assert_eq!(
                error.to_string(),
                format!(
                    "file a.parquet of the unload can't be used: it is compressed with {name}, which is not read: unload it \
                     with Snappy, Zstandard or gzip"
                )
            );
        }
    }
}
