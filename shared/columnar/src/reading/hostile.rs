//! Files that lie: thousands of them, read in a process that may not use much memory.

use std::process::Command;
use std::sync::Arc;

use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::{
    ColumnChunkMetaDataBuilder, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use penstock_model::definition::Complete;

use super::tests::many_types;
use super::*;
use crate::canonical::row_hashes;
use crate::split::{Sizes, cut};
use crate::testing::{MemoryObjects, MemoryOpener, block_on};
use crate::unload::discover;

/// Tells the process that it is the one with little memory.
const MARK: &str = "PENSTOCK_TEST_HOSTILE";
/// What that process may map in all, in KiB: its own code and stacks take some 300 MB of it.
const MOST_KIB: &str = "1200000";

fn read(body: Vec<u8>) -> Result<usize, UnloadError> {
    let objects = MemoryObjects::new();
    objects.insert("run/a.parquet", body);
    let opener = MemoryOpener(Arc::clone(&objects));
    let found = block_on(discover(&opener, "s3://b/run/a.parquet", Complete::AsListed))?;
    let mut rows = 0;
    for split in cut(&found.unload, Sizes::default()) {
        let (columns, naive) = (&found.columns, NaiveTimestamps::Kept);
        let chosen: Vec<u32> = (0..split.rows.min(1000)).step_by(2).collect();
        let mut pages = PageLocations::default();
        for all in [true, false] {
            let wanted = if all { Rows::All } else { Rows::Chosen { numbers: &chosen, pages: &pages } };
            let source = SplitSource {
                objects: objects.as_ref(),
                unload: &found.unload,
                split: &split,
                columns,
                naive,
            };
            pages = block_on(read_split(source, wanted, |batch, _| {
                rows += row_hashes(batch, columns)?.len();
                Ok::<(), UnloadError>(())
            }))?;
        }
    }
    Ok(rows)
}

fn of(compression: Compression, dictionary: bool) -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(compression).set_dictionary_enabled(dictionary)
}

/// Texts' lengths are packed as deltas.
fn with_deltas(encoding: Encoding, version: WriterVersion) -> WriterPropertiesBuilder {
    of(Compression::UNCOMPRESSED, false)
        .set_writer_version(version)
        .set_column_encoding("text".into(), encoding)
}

fn file_and_footer(properties: WriterPropertiesBuilder) -> (Vec<u8>, ParquetMetaData) {
    let batch = many_types();
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    let footer = writer.close().unwrap();
    (body, footer)
}

/// Numbers of Thrift's compact protocol that claim a lot: five and ten bytes of a varint.
const CLAIMS: [&[u8]; 3] = [
    &[0xfe, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
];

/// Reads every file that differs from a sound one in a byte, or in a number that claims a lot. Gives how many were read
/// all the same.
fn mutations() -> (usize, usize) {
    let (mut all, mut sound) = (0, 0);
    let mut see = |body: Vec<u8>| {
        all += 1;
        match read(body) {
            Ok(_) => sound += 1,
            Err(error) => {
                let said = error.to_string();
                assert!(
                    matches!(error, UnloadError::Corrupt { .. } | UnloadError::SchemaMismatch { .. }),
                    "{said}"
                );
                assert!(said.contains("run/a.parquet"), "the file is not named: {said}");
            }
        }
    };
    for properties in [
        of(Compression::UNCOMPRESSED, true),
        of(Compression::SNAPPY, false),
        of(Compression::ZSTD(Default::default()), true),
        with_deltas(Encoding::DELTA_LENGTH_BYTE_ARRAY, WriterVersion::PARQUET_1_0),
        with_deltas(Encoding::DELTA_BYTE_ARRAY, WriterVersion::PARQUET_2_0),
    ] {
        let (body, _) = file_and_footer(properties);
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] = if at % 2 == 0 { 0xff } else { changed[at].wrapping_add(1) };
            see(changed);
            if at % 5 == 0 {
                let claim = CLAIMS[at / 5 % CLAIMS.len()];
                let mut changed = body.clone();
                changed.splice(at..(at + claim.len()).min(body.len()), claim.iter().copied());
                see(changed);
            }
        }
    }
    (all, sound)
}

#[test]
fn no_file_ends_the_process_or_takes_its_memory() {
    #[expect(
        clippy::disallowed_methods,
        reason = "the test starts itself, and has to know which of the two it is"
    )]
    let is_small = std::env::var_os(MARK).is_some();
    if is_small {
        std::panic::set_hook(Box::new(|_| {}));
        let (all, sound) = mutations();
        // Many changes are of statistics or of values: they can't be seen.
        assert!(all > 5_000 && sound < all * 9 / 10, "{sound} of {all} were read");
        return;
    }
    let name = "reading::hostile::no_file_ends_the_process_or_takes_its_memory";
    let script = format!("ulimit -v {MOST_KIB}; exec \"$0\" \"$@\"");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(MARK, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}

/// Where a footer begins.
fn footer_begin(body: &[u8]) -> usize {
    let length = body.last_chunk::<8>().unwrap();
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    body.len() - 8 - length as usize
}

/// A file whose footer says something else of its last row group.
fn retold(body: &[u8], footer: &ParquetMetaData, row_group: RowGroupMetaData) -> Vec<u8> {
    let mut groups = footer.row_groups().to_vec();
    *groups.last_mut().unwrap() = row_group;
    // Without an index, the reading path goes by the columns' places alone.
    let footer = footer.clone().into_builder().set_page_index(None).set_row_groups(groups).build();
    let mut changed = body[..footer_begin(body)].to_vec();
    ParquetMetaDataWriter::new(&mut changed, &footer)
        .with_preserve_page_index_locations(false)
        .finish()
        .unwrap();
    changed
}

/// Found by the fuzzer: the decoder set memory aside for as many texts as the lengths' header says.
#[test]
fn lengths_that_claim_to_be_more_than_their_page_has_values_are_refused() {
    // Blocks of 128 numbers in 4 lists, 2 numbers in all: the two texts that are not null.
    const HEADER: [u8; 4] = [0x80, 0x01, 4, 2];
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for (encoding, lists) in [(Encoding::DELTA_LENGTH_BYTE_ARRAY, 1), (Encoding::DELTA_BYTE_ARRAY, 2)] {
            let (body, footer) = file_and_footer(with_deltas(encoding, version));
            assert!(read(body.clone()).is_ok());
            let (start, bytes) = footer.row_group(0).column(4).byte_range();
            let [start, end] = [start, start + bytes].map(|at| usize::try_from(at).unwrap());
            let at = (start..end).filter(|at| body[*at..].starts_with(&HEADER));
            let refused = at.map(|at| {
                let mut changed = body.clone();
                // 17 thousand million.
                changed[at + 3..at + 8].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x3f]);
                read(changed).unwrap_err().to_string()
            });
            let refused: Vec<String> = refused.collect();
            assert_eq!(refused.len(), lists, "{encoding}");
            for error in refused {
                assert!(
                    error.contains("run/a.parquet") && error.contains("claims 17179869183 texts"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn a_column_that_does_not_lie_between_the_beginning_and_the_footer_is_refused() {
    let (body, footer) = file_and_footer(of(Compression::SNAPPY, true));
    let end = i64::try_from(footer_begin(&body)).unwrap();
    let beyond = i64::try_from(body.len()).unwrap() + 1;
    // As much as the writer can still add up.
    let most = i64::MAX - beyond;
    // Of the column's dictionary, of its first data page, and of its bytes.
    type Place = (Option<i64>, i64, i64);
    let with = |(dictionary, data, bytes): Place, rows: i64| {
        let group = footer.row_groups().last().unwrap();
        let mut columns = group.columns().to_vec();
        columns[1] = ColumnChunkMetaDataBuilder::from(columns[1].clone())
            .set_dictionary_page_offset(dictionary)
            .set_data_page_offset(data)
            .set_total_compressed_size(bytes)
            .build()
            .unwrap();
        let group = group.clone().into_builder().set_num_rows(rows).set_column_metadata(columns);
        retold(&body, &footer, group.build().unwrap())
    };
    let column = footer.row_groups()[0].column(1);
    let (dictionary, data) = (column.dictionary_page_offset(), column.data_page_offset());
    let bytes = column.compressed_size();
    assert!(dictionary.is_some());
    assert_eq!(read(with((dictionary, data, bytes), 3)).unwrap(), 5, "nothing else was changed");

    let lies: [(&str, Place); 9] = [
        ("it begins before the file", (None, -1, bytes)),
        ("its dictionary does", (Some(-1), data, bytes)),
        ("it begins as early as can be told", (None, i64::MIN, bytes)),
        ("it begins beyond the end", (None, beyond, 0)),
        ("its dictionary does so", (Some(beyond), data, bytes)),
        ("it has fewer bytes than none", (dictionary, data, -1)),
        ("it ends in the footer", (None, data, end - data + 1)),
        ("it ends beyond the file", (dictionary, data, beyond)),
        ("its end can't be counted", (None, most, most)),
    ];
    for (lie, place) in lies {
        let error = read(with(place, 3)).expect_err(lie);
        assert!(
            matches!(&error, UnloadError::Corrupt { file, .. } if file == "run/a.parquet"),
            "{lie}: {error}"
        );
        let (begin, bytes) = (place.0.unwrap_or(place.1), place.2);
        let said = format!("column i32 of row group 0 has {bytes} bytes from {begin} on");
        assert!(error.to_string().contains(&said), "{lie}: {error}");
        // Of no rows, nothing is fetched.
        assert_eq!(read(with(place, 0)).unwrap(), 0, "{lie}");
    }
}
