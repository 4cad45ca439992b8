//! Small files of every kind that is read: each compression, page version and encoding, and the layouts of older writers.
//! A fuzzer starts from them (`infra/test.sh fuzz`).

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder, WriterVersion};
use penstock_model::definition::Complete;

use super::tests::{int96_file, many_types};
use super::writers::{Leaf, Values, legacy_file};
use super::*;
use crate::canonical::row_hashes;
use crate::split::{Sizes, cut};
use crate::testing::{MemoryObjects, MemoryOpener, block_on};
use crate::unload::discover;

/// Names the folder into which they are written for a fuzzer; without it they are only read.
const FOLDER: &str = "PENSTOCK_TEST_SEEDS";

fn written(batch: &RecordBatch, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    body
}

/// Files by name.
fn files() -> Vec<(String, Vec<u8>)> {
    let many = many_types();
    let builder = WriterProperties::builder;
    let mut files = Vec::new();
    for (name, compression) in [
        ("plain", Compression::UNCOMPRESSED),
        ("snappy", Compression::SNAPPY),
        ("zstd", Compression::ZSTD(Default::default())),
        ("gzip", Compression::GZIP(Default::default())),
        ("lz4", Compression::LZ4_RAW),
    ] {
        for (version, writer) in [("v1", WriterVersion::PARQUET_1_0), ("v2", WriterVersion::PARQUET_2_0)] {
            let properties = builder().set_compression(compression).set_writer_version(writer);
            files.push((format!("{name}-{version}"), written(&many, properties)));
        }
    }
    let pieces = builder()
        .set_max_row_group_row_count(Some(2))
        .set_data_page_row_count_limit(1)
        .set_write_batch_size(1)
        .set_dictionary_enabled(false);
    files.push(("pieces".to_owned(), written(&many, pieces)));

    // One column in each encoding, so that little has to be changed to come to its decoder.
    for (column, encodings) in [
        ("i32", [Encoding::DELTA_BINARY_PACKED, Encoding::BYTE_STREAM_SPLIT]),
        ("text", [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY]),
        ("Bool", [Encoding::RLE, Encoding::PLAIN]),
    ] {
        let one = many.project(&[many.schema().index_of(column).unwrap()]).unwrap();
        for encoding in encodings {
            let properties = builder().set_dictionary_enabled(false).set_encoding(encoding);
            files.push((format!("{column}-{encoding}"), written(&one, properties)));
        }
    }
    let texts = [Some(r#"{"b": [1, 2.50, null], "a": {"c": "d"}}"#), None, Some("no JSON"), Some("1e3")];
    let json: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let words: ArrayRef =
        Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("a"), Some("b"), Some("a"), None]));
    let batch = RecordBatch::try_from_iter([("json", json), ("words", words)]).unwrap();
    files.push(("texts".to_owned(), written(&batch, builder())));
    files.push(("int96".to_owned(), int96_file(&[Some(42_949_672), None])));

    let definition = &[3, 3, 1, 3];
    let leaf = Leaf { values: Values::Ints(&[1, 2, 3]), definition, repetition: &[0, 1, 0, 0] };
    let bag =
        "message m { optional group tags (LIST) { repeated group bag { optional int32 array_element; } } }";
    files.push(("legacy-list".to_owned(), legacy_file(bag, &[leaf])));
    let keys =
        Leaf { values: Values::Texts(&["a", "b", "c"]), definition: &[2, 2, 2], repetition: &[0, 1, 0] };
    let values = Leaf { values: Values::Texts(&["1", "2"]), definition: &[3, 3, 2], repetition: &[0, 1, 0] };
    let map = "message m { optional group m (MAP) { repeated group map { required binary key (UTF8); \
               optional binary value (UTF8); } } }";
    files.push(("legacy-map".to_owned(), legacy_file(map, &[keys, values])));
    files
}

#[test]
fn every_kind_of_file_is_read() {
    for (name, body) in files() {
        assert!(body.len() < 16 * 1024, "{name} has {} bytes", body.len());
        let objects = MemoryObjects::new();
        objects.insert("run/a.parquet", body.clone());
        let opener = MemoryOpener(Arc::clone(&objects));
        let found = block_on(discover(&opener, "s3://b/run/a.parquet", Complete::AsListed)).unwrap();
        let mut rows = 0;
        for split in cut(&found.unload, Sizes::default()) {
            let (columns, naive) = (&found.columns, NaiveTimestamps::Kept);
            let source = SplitSource {
                objects: objects.as_ref(),
                unload: &found.unload,
                split: &split,
                columns,
                naive,
            };
            block_on(read_split(source, Rows::All, |batch, _| {
                rows += row_hashes(batch, columns)?.len();
                Ok::<(), UnloadError>(())
            }))
            .unwrap();
        }
        assert!(rows > 0, "{name} has no rows");
        #[expect(clippy::disallowed_methods, reason = "who starts the fuzzer says where it looks for files")]
        if let Some(folder) = std::env::var_os(FOLDER) {
            std::fs::write(std::path::Path::new(&folder).join(name), body).unwrap();
        }
    }
}
