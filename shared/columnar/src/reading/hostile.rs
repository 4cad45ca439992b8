//! Files that lie: thousands of them, read in a process that may not use much memory.

use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::{
    ColumnChunkMetaDataBuilder, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use penstock_model::definition::Complete;

use super::tests::many_types;
use super::*;
use crate::canonical::row_hashes;
use crate::split::{Sizes, cut};
use crate::testing::{MemoryObjects, MemoryOpener, block_on, varint};
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

fn file(compression: Compression, dictionary: bool) -> Vec<u8> {
    file_and_footer(compression, dictionary).0
}

fn file_and_footer(compression: Compression, dictionary: bool) -> (Vec<u8>, ParquetMetaData) {
    let batch = many_types();
    let properties =
        WriterProperties::builder().set_compression(compression).set_dictionary_enabled(dictionary);
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
    for (compression, dictionary) in [
        (Compression::UNCOMPRESSED, true),
        (Compression::SNAPPY, false),
        (Compression::ZSTD(Default::default()), true),
    ] {
        let body = file(compression, dictionary);
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

/// What stands before the differences of lengths in the files below: blocks of 128 in four parts, and the count of two.
const LENGTHS: &[u8] = &[0x80, 0x01, 0x04, 0x02];

/// Texts whose lengths are stored as differences, of which the pages claim to have billions: also inside of what Snappy has
/// compressed, which leaves short bytes as they are. Gives how many such claims were refused.
fn claimed_lengths() -> usize {
    let text = many_types();
    let text = text.project(&[text.schema().index_of("text").unwrap()]).unwrap();
    let mut refused = 0;
    for encoding in [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
            for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
                let properties = WriterProperties::builder()
                    .set_compression(compression)
                    .set_writer_version(version)
                    .set_dictionary_enabled(false)
                    .set_encoding(encoding);
                let mut body = Vec::new();
                let mut writer =
                    ArrowWriter::try_new(&mut body, text.schema(), Some(properties.build())).unwrap();
                writer.write(&text).unwrap();
                writer.close().unwrap();
                assert!(read(body.clone()).is_ok(), "{encoding}, {compression}, {version:?}");
                let places = body.windows(LENGTHS.len()).enumerate().filter(|(_, found)| *found == LENGTHS);
                let places: Vec<usize> = places.map(|(at, _)| at + LENGTHS.len() - 1).collect();
                for at in places {
                    for claim in CLAIMS {
                        let mut changed = body.clone();
                        changed.splice(at..at + claim.len(), claim.iter().copied());
                        let error = read(changed).unwrap_err();
                        assert!(error.to_string().contains("run/a.parquet"), "{error}");
                        refused += 1;
                    }
                }
            }
        }
    }
    refused
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
        // Of twelve counts in eight files, Snappy leaves nine as they are.
        assert_eq!(claimed_lengths(), 9 * CLAIMS.len());
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

fn refused(result: Result<usize, UnloadError>, said: &str, lie: &str) {
    let error = result.expect_err(lie);
    let is_named = matches!(&error, UnloadError::Corrupt { file, .. } if file == "run/a.parquet");
    assert!(is_named && error.to_string().contains(said), "{lie}: {error}");
}

#[test]
fn a_column_that_does_not_lie_between_the_beginning_and_the_footer_is_refused() {
    let (body, footer) = file_and_footer(Compression::SNAPPY, true);
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
        let (begin, bytes) = (place.0.unwrap_or(place.1), place.2);
        let said = format!("column i32 of row group 0 has {bytes} bytes from {begin} on");
        refused(read(with(place, 3)), &said, lie);
        // Of no rows, nothing is fetched.
        assert_eq!(read(with(place, 0)).unwrap(), 0, "{lie}");
    }
}

#[test]
fn a_page_header_that_the_decoder_may_take_for_another_one_is_refused() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None);
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    let footer = writer.close().unwrap();
    // The magic, the page's type, and its size once unpacked: 24 bytes.
    assert_eq!(body[4..8], [0x15, 0x00, 0x15, 0x30]);
    let with = |header: &[u8]| {
        let mut changed = body.clone();
        changed.splice(4..8, header.iter().copied());
        let group = footer.row_groups()[0].clone();
        let column = group.column(0).clone();
        let bytes = column.compressed_size() + i64::try_from(header.len()).unwrap() - 4;
        let column = column.into_builder().set_total_compressed_size(bytes).build().unwrap();
        let group = group.into_builder().set_column_metadata(vec![column]).build().unwrap();
        read(retold(&changed, &footer, group))
    };
    assert_eq!(with(&[0x15, 0x00, 0x15, 0x30]).unwrap(), 5, "nothing else was changed");
    let lies: [(&str, &[u8]); 3] = [
        (
            "a size of 33 bits, of which the decoder drops one: 2 GB are left",
            b"\x15\x00\x15\x80\x80\x80\x80\x2f",
        ),
        ("a size that is called a byte, where the decoder reads a number", b"\x15\x00\x13\x30"),
        (
            "a list of two billion booleans in no bytes, which the decoder counts",
            b"\x15\x00\x15\x30\xe9\xf1\xff\xff\xff\xff\x07",
        ),
    ];
    for (lie, header) in lies {
        refused(with(header), "has a header that can't be read", lie);
    }
}

/// A node of a schema: a group if it has children, else a number of 32 bits.
fn node(name: &str, children: u64) -> Vec<u8> {
    let mut bytes = if children == 0 { vec![0x15, 0x02, 0x25, 0x00, 0x18] } else { vec![0x35, 0x00, 0x18] };
    bytes.extend(varint(name.len() as u64));
    bytes.extend(name.bytes());
    if children > 0 {
        bytes.push(0x15);
        bytes.extend(varint(children * 2));
    }
    bytes.push(0);
    bytes
}

/// A list of so many structures.
fn structures(count: usize) -> Vec<u8> {
    [vec![0xfc], varint(count as u64)].concat()
}

/// A file of no rows with this schema, and something more after the fields of its footer.
fn with_footer(nodes: &[Vec<u8>], more: &[u8]) -> Vec<u8> {
    let schema = [structures(nodes.len()), nodes.concat()].concat();
    let footer = [b"\x15\x02\x19", schema.as_slice(), b"\x16\x00\x19\x0c", more, b"\x00"].concat();
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    [b"PAR1", footer.as_slice(), &length, b"PAR1"].concat()
}

/// To the decoder, booleans are minutes; children and nesting end the process; the rest is memory.
#[test]
fn a_footer_that_claims_more_than_there_is_is_refused_at_once() {
    let plain = |more: &[u8]| with_footer(&[node("m", 1), node("id", 0)], more);
    assert_eq!(read(plain(b"")).unwrap(), 0);
    assert_eq!(read(plain(b"\xf9\x01\x00")).unwrap(), 0, "an unknown field is left out");

    let unclear = "a field of its footer can't be read for certain";
    let booleans = b"\xf9\x01\xf1\xff\xff\xff\xff\x07";
    refused(read(plain(booleans)), unclear, "two billion booleans in no bytes");
    let hidden = [b"\x58\x08".as_slice(), booleans].concat();
    assert_eq!(read(plain(&hidden)).unwrap(), 0, "the same bytes in a block");
    let hidden = [b"\x2c\x10".as_slice(), booleans].concat();
    refused(read(plain(&hidden)), unclear, "a structure to us, and a text to the decoder");
    refused(
        read(plain(b"\x06\x8c\x80\x08\x00")),
        unclear,
        "a field of 17 bits, of which the decoder drops one",
    );

    let [whole, mut other] = [node("m", 1), node("g", 5)];
    let count = other.len() - 3;
    other[count..].copy_from_slice(&[0x1c, 0, 0]);
    refused(read(with_footer(&[whole, other], b"")), unclear, "a structure where the count of children is");
    let children = with_footer(&[node("m", 1), node("g", (1 << 31) - 1), node("id", 0)], b"");
    refused(read(children), "a group of 2147483647 columns, and 1 after it", "memory for all of them");

    let nested = |levels: usize| {
        let mut nodes = vec![node("g", 1); levels];
        nodes.push(node("id", 0));
        with_footer(&nodes, b"")
    };
    assert_eq!(read(nested(60)).unwrap(), 0);
    refused(read(nested(100_000)), "nests columns deeper than 64 levels", "as deep as no stack is");

    let leaves = 40_000;
    let mut nodes = vec![node("m", 1), node(&"g".repeat(4_000), leaves)];
    nodes.extend((0..leaves).map(|_| node("", 0)));
    refused(
        read(with_footer(&nodes, b"")),
        "the paths of its columns take more than",
        "160 MB of names in 400 KB",
    );

    let mut nodes = vec![node("m", 200_000)];
    nodes.extend((0..200_000).map(|_| node("", 0)));
    refused(read(with_footer(&nodes, b"")), "more than 131072 columns and groups", "a wide table");

    let mut pairs = b"\x19".to_vec();
    pairs.extend(structures(2_000_000));
    pairs.resize(pairs.len() + 2_000_000, 0);
    refused(read(plain(&pairs)), "more than 1048576 columns in its row groups", "a byte each");
}
