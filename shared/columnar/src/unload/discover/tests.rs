use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use bytes::Bytes;
use penstock_model::port::{Boxed, Condition, ETag, ObjectError, Put};
use penstock_model::unload::ColumnType;
use penstock_model::{Failure, FailureName};

use super::*;
use crate::testing::{MemoryObjects, MemoryOpener, block_on, parquet_file};

fn ids(rows: i64) -> Vec<u8> {
    let array: ArrayRef = Arc::new((0..rows).collect::<Int64Array>());
    parquet_file(&[RecordBatch::try_from_iter([("id", array)]).unwrap()], 100)
}

pub(super) fn column(name: &str, array: ArrayRef) -> Vec<u8> {
    parquet_file(&[RecordBatch::try_from_iter([(name, array)]).unwrap()], 100)
}

fn found(
    objects: &Arc<MemoryObjects>,
    location: &str,
    complete: Complete,
) -> Result<Discovered, UnloadError> {
    block_on(discover(&MemoryOpener(Arc::clone(objects)), location, complete))
}

pub(super) fn any(objects: &Arc<MemoryObjects>) -> Result<Discovered, UnloadError> {
    found(objects, "s3://b/run/", Complete::Any)
}

fn keys(found: &Discovered) -> Vec<&str> {
    found.unload.files.iter().map(|file| file.key.as_str()).collect()
}

pub(super) fn refused(result: Result<Discovered, UnloadError>, name: FailureName, hints: &[&str]) {
    let failure: Failure = result.unwrap_err().into();
    let text = failure.full_message();
    assert_eq!(failure.name, name, "{text}");
    for hint in hints {
        assert!(text.contains(hint), "{text} does not say {hint}");
    }
}

#[test]
fn a_marker_makes_an_unload_complete() {
    let objects = MemoryObjects::new();
    objects.insert("run/b-without-extension", ids(250));
    objects.insert("run/a.parquet", ids(0));
    for key in [
        "run/.a.parquet.crc",
        "run/_temporary/0/x",
        "run/_started_1",
        "run/sub/",
        "run/empty",
        "run/manifest",
    ] {
        objects.insert(key, if key.ends_with('/') || key.ends_with("empty") { "" } else { "junk" });
    }
    refused(
        found(&objects, "s3://b/run/", Complete::SuccessMarker),
        FailureName::UnloadMissing,
        &["_SUCCESS", "s3://b/run/"],
    );
    objects.insert("run/_SUCCESS", "");
    let found = found(&objects, "s3://b/run", Complete::SuccessMarker).unwrap();
    assert_eq!(keys(&found), ["run/a.parquet", "run/b-without-extension"]);
    assert_eq!(found.unload.files[1].row_groups, [100, 100, 50]);
    assert_eq!(found.unload.files[1].rows, 250);
    assert_eq!(found.unload.root, "s3://b");
    assert_eq!(found.unload.prefix, "s3://b/run/");
    assert_eq!(found.columns, [Column { name: "id".to_owned(), kind: ColumnType::Int }]);
}

#[test]
fn nothing_is_never_taken_for_an_empty_result() {
    let objects = MemoryObjects::new();
    refused(any(&objects), FailureName::UnloadMissing, &["nothing was found", "s3://b/run/"]);
    objects.insert("run/a.parquet", ids(1));
    refused(any(&objects), FailureName::UnloadMissing, &["manifest", "_SUCCESS", "1 object"]);
    let objects = MemoryObjects::new();
    objects.insert("run/_SUCCESS", "{}");
    refused(any(&objects), FailureName::UnloadMissing, &["no files"]);
    objects.insert("run/_delta_log/0.json", "{}");
    refused(any(&objects), FailureName::UnloadMissing, &["Delta"]);
}

#[test]
fn a_manifest_is_verified() {
    let (a, b) = (ids(10), ids(20));
    let (a_len, b_len) = (a.len(), b.len());
    let entry = |name: &str, bytes: usize, rows: u64| {
        format!(r#"{{"url":"s3://b/run/{name}","meta":{{"content_length":{bytes},"record_count":{rows}}}}}"#)
    };
    let manifest = |entries: &[String], total_bytes: usize, total_rows: u64| {
        let entries = entries.join(",");
        format!(
            r#"{{"entries":[{entries}],"meta":{{"content_length":{total_bytes},"record_count":{total_rows}}}}}"#
        )
    };
    let total = a_len + b_len;
    let good = [entry("0000_part_00.parquet", a_len, 10), entry("0001_part_00.parquet", b_len, 20)];
    let cases = [
        (manifest(&good, total, 30), Ok(())),
        (r#"{"entries":[{"url":"s3://b/run/0000_part_00.parquet","mandatory":true}]}"#.to_owned(), Ok(())),
        (manifest(&good, total + 1, 30), Err("bytes in all")),
        (manifest(&good, total, 31), Err("rows in all")),
        (manifest(&[entry("0000_part_00.parquet", a_len + 1, 10)], a_len, 10), Err("0000_part_00")),
        (manifest(&[entry("0000_part_00.parquet", a_len, 11)], a_len, 11), Err("10 rows")),
        (manifest(&[entry("0002_part_00.parquet", 1, 1)], 1, 1), Err("0002_part_00")),
        (manifest(&[good[0].clone(), good[0].clone()], total, 30), Err("twice")),
        ("{".to_owned(), Err("run/manifest")),
    ];
    for (body, expected) in cases {
        let objects = MemoryObjects::new();
        objects.insert("run/0000_part_00.parquet", a.clone());
        objects.insert("run/0001_part_00.parquet", b.clone());
        objects.insert("run/stale_part_00.parquet", "of an earlier run");
        objects.insert("run/manifest", body.clone());
        match expected {
            Ok(()) => {
                let found = any(&objects).unwrap();
                assert!(found.unload.files.iter().all(|file| !file.key.contains("stale")), "{body}");
            }
            Err(hint) => refused(any(&objects), FailureName::UnloadCorrupt, &[hint]),
        }
    }
}

#[test]
fn a_manifest_may_stand_for_no_rows_or_be_of_a_name_prefix() {
    let objects = MemoryObjects::new();
    objects.insert(
        "run/manifest",
        r#"{"entries":[],"schema":{"elements":[{"name":"id","type":{"base":"bigint"}}]}}"#,
    );
    let empty = any(&objects).unwrap();
    assert!(empty.unload.files.is_empty());
    assert_eq!(empty.columns[0].kind, ColumnType::Int);
    objects.insert("run/manifest", r#"{"entries":[]}"#);
    refused(any(&objects), FailureName::UnloadMissing, &["no files"]);

    objects.insert("venue_0000_part_00.parquet", ids(1));
    objects.insert("venue_manifest", r#"{"entries":[{"url":"s3://b/venue_0000_part_00.parquet"}]}"#);
    assert_eq!(
        keys(&found(&objects, "s3://b/venue_", Complete::Any).unwrap()),
        ["venue_0000_part_00.parquet"]
    );
}

#[test]
fn an_unload_that_is_written_again_is_not_complete() {
    let objects = MemoryObjects::new();
    objects.insert("run/_SUCCESS", "");
    objects.insert("run/a.parquet", ids(1));
    assert!(any(&objects).is_ok(), "a copied folder may have its marker first");
    objects.set_modified("run/a.parquet", Timestamp(10_000_000));
    refused(any(&objects), FailureName::UnloadMissing, &["written again", "run/a.parquet"]);
}

#[test]
fn the_newest_complete_prefix_wins() {
    let objects = MemoryObjects::new();
    for day in ["dt=1", "dt=3", "dt=2"] {
        objects.insert(&format!("c/{day}/x=1/a.parquet"), ids(1));
        objects.insert(&format!("c/{day}/_SUCCESS"), "");
    }
    objects.insert("c/dt=9/a.parquet", ids(1));
    objects.insert("c/other/_SUCCESS", "");
    let found = found(&objects, "s3://b/c/dt=*/", Complete::Any).unwrap();
    assert_eq!(keys(&found), ["c/dt=2/x=1/a.parquet"], "the last to be completed");
    assert_eq!(found.unload.prefix, "s3://b/c/dt=2/");
    let names: Vec<_> = found.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["id", "x"]);
}

#[test]
fn one_file_is_complete_by_itself_and_a_listing_only_by_request() {
    let objects = MemoryObjects::new();
    objects.insert("run/a.parquet", ids(1));
    objects.insert("run/b.parquet", ids(1));
    assert_eq!(keys(&found(&objects, "s3://b/run/a.parquet", Complete::Any).unwrap()), ["run/a.parquet"]);
    let newest = found(&objects, "s3://b/run/*.parquet", Complete::Any).unwrap();
    assert_eq!(keys(&newest), ["run/b.parquet"]);
    let listed = found(&objects, "s3://b/run/", Complete::AsListed).unwrap();
    assert_eq!(keys(&listed), ["run/a.parquet", "run/b.parquet"]);
    refused(found(&objects, "s3://b/none/", Complete::AsListed), FailureName::UnloadMissing, &["nothing"]);
    refused(found(&objects, "run/a", Complete::Any), FailureName::SyncInvalid, &["run/a"]);
}

#[test]
fn what_is_not_sound_parquet_is_refused_by_name() {
    let sound = ids(250);
    let encrypted = [&sound[..sound.len() - 4], b"PARE"].concat();
    let cases: [(&str, Vec<u8>); 6] = [
        ("encrypted", encrypted),
        ("not a Parquet", b"id,name\n1,Ann and some more text\n".to_vec()),
        ("not a Parquet", sound[..sound.len() / 2].to_vec()),
        ("too short", b"PAR1".to_vec()),
        ("bad", b"PAR1garbagegarbage\xff\xff\xff\x00PAR1".to_vec()),
        ("bad", [&vec![b'x'; 100_000][..], b"\xff\xff\xff\x7fPAR1"].concat()),
    ];
    for (hint, body) in cases {
        let objects = MemoryObjects::new();
        objects.insert("run/good", sound.clone());
        objects.insert("run/bad", body);
        objects.insert("run/_SUCCESS", "");
        refused(any(&objects), FailureName::UnloadCorrupt, &["run/bad", hint]);
    }
}

#[test]
fn partitions_of_the_path_are_columns() {
    let objects = MemoryObjects::new();
    objects.insert("run/plan=a%2Fb/a.parquet", ids(1));
    objects.insert("run/plan=__HIVE_DEFAULT_PARTITION__/a.parquet", ids(1));
    objects.insert("run/__NULL__/a.parquet", ids(1));
    objects.insert("run/_SUCCESS", "");
    let found = any(&objects).unwrap();
    let values: Vec<_> =
        found.unload.files.iter().map(|file| file.partition_values["plan"].as_deref()).collect();
    assert_eq!(values, [None, None, Some("a/b")]);
    assert_eq!(found.columns[1], Column { name: "plan".to_owned(), kind: ColumnType::Text });
}

#[test]
fn the_identity_follows_the_files() {
    let objects = MemoryObjects::new();
    objects.insert("run/a", ids(1));
    objects.insert("run/_SUCCESS", "");
    let first = any(&objects).unwrap().unload.identity;
    assert_eq!(any(&objects).unwrap().unload.identity, first);
    assert_eq!(first.len(), 32);
    objects.insert("run/a", ids(1));
    assert_ne!(any(&objects).unwrap().unload.identity, first, "another version");
}

#[test]
fn a_small_file_costs_one_read_and_its_future_may_move() {
    let objects = MemoryObjects::new();
    objects.insert("run/a", ids(250));
    let opener = MemoryOpener(Arc::clone(&objects));
    let future = discover(&opener, "s3://b/run/a", Complete::Any);
    fn movable<F: Send>(future: F) -> F {
        future
    }
    block_on(movable(future)).unwrap();
    assert_eq!(objects.take_reads().len(), 1);
}

/// Answers every range only once it was asked again, so that reads are in flight at the same time; counts them.
#[derive(Debug, Default)]
struct InFlight {
    now: AtomicUsize,
    most: AtomicUsize,
    reads: AtomicUsize,
}

#[derive(Debug)]
struct Slow {
    objects: Arc<MemoryObjects>,
    seen: InFlight,
}

impl Objects for Slow {
    fn get<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(Bytes, ETag)>, ObjectError>> {
        self.objects.get(key)
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: std::ops::Range<u64>,
        version: Option<&'a ETag>,
    ) -> Boxed<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            let now = self.seen.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.seen.most.fetch_max(now, Ordering::Relaxed);
            self.seen.reads.fetch_add(1, Ordering::Relaxed);
            let mut is_first = true;
            std::future::poll_fn(|context| {
                if std::mem::take(&mut is_first) {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            let bytes = self.objects.get_range(key, range, version).await;
            self.seen.now.fetch_sub(1, Ordering::Relaxed);
            bytes
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<ObjectMeta>, ObjectError>> {
        self.objects.head(key)
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<Put, ObjectError>> {
        self.objects.put(key, body, condition)
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<ObjectMeta>, ObjectError>> {
        self.objects.list(prefix)
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), ObjectError>> {
        self.objects.delete(key)
    }

    fn bucket(&self) -> &str {
        self.objects.bucket()
    }
}

#[derive(Debug)]
struct SlowOpener(Arc<Slow>);

impl OpenObjects for SlowOpener {
    fn open(&self, _: &str) -> Result<Arc<dyn Objects>, ObjectError> {
        let objects: Arc<dyn Objects> = self.0.clone();
        Ok(objects)
    }
}

#[test]
fn five_thousand_small_files_cost_a_request_each_many_at_a_time_and_few_splits() {
    let objects = MemoryObjects::new();
    let body = Bytes::from(ids(20));
    for file in 0..5_000 {
        objects.insert(&format!("run/{file:05}.parquet"), body.clone());
    }
    let slow = Arc::new(Slow { objects, seen: InFlight::default() });
    let found =
        block_on(discover(&SlowOpener(Arc::clone(&slow)), "s3://b/run/", Complete::AsListed)).unwrap();
    assert_eq!(found.unload.files.len(), 5_000);
    assert_eq!(slow.seen.reads.load(Ordering::Relaxed), 5_000);
    let most = slow.seen.most.load(Ordering::Relaxed);
    assert_eq!(most, FOOTERS_IN_FLIGHT, "footers are fetched side by side, and no more than that");

    let splits = crate::split::cut(&found.unload, crate::split::Sizes::default());
    assert_eq!(splits.len(), 20, "250 files each");
    let source = crate::reading::SplitSource {
        objects: slow.as_ref(),
        unload: &found.unload,
        split: &splits[0],
        columns: &found.columns,
        naive: crate::unload::NaiveTimestamps::Kept,
    };
    slow.seen.reads.store(0, Ordering::Relaxed);
    slow.seen.most.store(0, Ordering::Relaxed);
    let mut rows = 0;
    block_on(crate::reading::read_split(source, crate::reading::Rows::All, |batch, _| {
        rows += batch.num_rows();
        Ok::<(), UnloadError>(())
    }))
    .unwrap();
    assert_eq!(rows, 250 * 20);
    assert!(slow.seen.reads.load(Ordering::Relaxed) <= 500, "two requests a file");
    assert!((2..=16).contains(&slow.seen.most.load(Ordering::Relaxed)), "footers are fetched ahead");
}
