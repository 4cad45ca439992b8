//! An unload of one file of any bytes: whatever they are, reading it ends in rows or in an error that names the file.
//!
//! What is looked for: a panic, an abort, memory that grows with what the bytes claim, an endless loop, an error without the
//! file's name. `infra/test.sh fuzz` runs it.

#![no_main]

mod one_object;

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use futures::executor::block_on;
use libfuzzer_sys::fuzz_target;
use one_object::{KEY, OneObject};
use penstock_columnar::canonical;
use penstock_columnar::reading::{PageLocations, Rows, SplitSource, read_split};
use penstock_columnar::split::{Sizes, cut};
use penstock_columnar::unload::{NaiveTimestamps, UnloadError, discover, with_zone};
use penstock_model::definition::Complete;
use penstock_model::unload::{Column, ColumnType};

/// Timestamps without a zone are shifted, so that this is tried, too.
const ZONE: &str = "+01:00";
/// Every third row of so many is fetched on its own, as `transform` does.
const MOST_CHOSEN: u32 = 1_000;

static HOOK: Once = Once::new();

thread_local! {
    /// The latest panic: where it was, what it said, and who had called. Found out about each, but written out only if it leaves.
    static PANIC: Cell<Option<(String, Backtrace)>> = const { Cell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    // A decoder may panic: the reading path catches it. libFuzzer's own hook would end the process before.
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            PANIC.set(Some((info.to_string(), Backtrace::force_capture())))
        }));
    });
    match catch_unwind(AssertUnwindSafe(|| read(data))) {
        Ok(Ok(())) => {}
        Ok(Err(UnloadError::Corrupt { file, .. })) if file == KEY => {}
        Ok(Err(error @ UnloadError::SchemaMismatch { .. })) if error.to_string().contains(KEY) => {}
        Ok(Err(error)) => ended(&format!("not an error that a file may cause, or not named: {error}")),
        Err(_) => {
            if let Some((panic, calls)) = PANIC.take() {
                eprintln!("{panic}\n{calls}");
            }
            ended("a panic has left the reading path")
        }
    }
});

fn ended(why: &str) -> ! {
    eprintln!("{why}");
    std::process::abort();
}

fn read(data: &[u8]) -> Result<(), UnloadError> {
    let opener = OneObject::of(data);
    let found = block_on(discover(&opener, &format!("s3://b/{KEY}"), Complete::AsListed))?;
    let columns = with_zone(found.columns, Some(ZONE))?;
    let naive = NaiveTimestamps::parse(Some(ZONE))?;
    let json: Vec<&Column> = columns.iter().filter(|column| column.kind == ColumnType::Text).collect();
    for split in cut(&found.unload, Sizes::default()) {
        let chosen: Vec<u32> = (0..split.rows.min(MOST_CHOSEN)).step_by(3).collect();
        // Some rows are found by what reading all of them has told of the pages.
        let mut pages = PageLocations::default();
        for all in [true, false] {
            let wanted = if all { Rows::All } else { Rows::Chosen { numbers: &chosen, pages: &pages } };
            let source = SplitSource {
                objects: &opener,
                unload: &found.unload,
                split: &split,
                columns: &columns,
                naive,
            };
            pages = block_on(read_split(source, wanted, |batch, rows| {
                let mut hashes = canonical::row_hashes(batch, &columns)?;
                assert_eq!(hashes.len(), rows.len());
                for column in &json {
                    canonical::add_json_column(&mut hashes, batch, column)?;
                }
                // Nested columns can't be keys; any other can.
                for column in &columns {
                    if let Ok(keys) = canonical::keys(batch, std::slice::from_ref(column)) {
                        assert_eq!(keys.iter().count(), rows.len());
                    }
                }
                assert!(canonical::null_counts(batch).values().all(|nulls| *nulls <= rows.len() as u64));
                Ok::<(), UnloadError>(())
            }))?;
        }
    }
    Ok(())
}
