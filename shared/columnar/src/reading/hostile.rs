//! Files that lie: thousands of them, read in a process that may not use much memory.

use std::process::Command;
use std::sync::Arc;

use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
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

fn file(compression: Compression, dictionary: bool) -> Vec<u8> {
    let batch = many_types();
    let properties =
        WriterProperties::builder().set_compression(compression).set_dictionary_enabled(dictionary);
    let mut body = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut body, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    body
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
