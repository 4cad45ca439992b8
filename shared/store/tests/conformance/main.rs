//! What every object store has to do, asked of each: memory, a folder, and, with the feature `s3-conformance`, the S3
//! bucket that `PENSTOCK_TEST_S3` names, as it is and when it is busy.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends where it fails")]

#[cfg(feature = "s3-conformance")]
mod proxy;
#[cfg(feature = "s3-conformance")]
mod trouble;

use std::sync::Arc;

use bytes::Bytes;
use penstock_model::port::{Condition, ETag, ObjectError, Objects, Put};
use penstock_store::{FolderObjects, MemoryObjects};

/// The store under test: several openings of one place, and a prefix that no other test uses.
struct Store {
    openings: Vec<Arc<dyn Objects>>,
    prefix: String,
    _folder: Option<tempfile::TempDir>,
}

impl Store {
    fn memory() -> Self {
        Self { openings: vec![Arc::new(MemoryObjects::new())], prefix: String::new(), _folder: None }
    }

    fn folder() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |_| Arc::new(FolderObjects::new(folder.path().join("root"))) as Arc<dyn Objects>;
        Self { openings: (0..8).map(open).collect(), prefix: String::new(), _folder: Some(folder) }
    }

    #[cfg(feature = "s3-conformance")]
    async fn s3() -> Self {
        let (client, bucket) = s3_client().await;
        Self::of(Arc::new(penstock_store::S3Objects::new(client, bucket).with_parts_of(5 << 20)))
    }

    #[cfg(feature = "s3-conformance")]
    fn of(objects: Arc<dyn Objects>) -> Self {
        let prefix = format!("conformance/{:016x}/", rand::random::<u64>());
        Self { openings: vec![objects], prefix, _folder: None }
    }

    fn opening(&self, n: usize) -> Arc<dyn Objects> {
        Arc::clone(&self.openings[n % self.openings.len()])
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// A client as the functions have it, and the bucket.
#[cfg(feature = "s3-conformance")]
async fn s3_client() -> (aws_sdk_s3::Client, String) {
    #[expect(clippy::disallowed_methods, reason = "a test's settings")]
    let bucket = std::env::var("PENSTOCK_TEST_S3").unwrap();
    (penstock_store::aws::Clients::from_profile().await.s3(), bucket)
}

macro_rules! conformance {
    ($($name:ident,)*) => {
        mod memory { $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)] async fn $name() { super::$name(super::Store::memory()).await; })* }
        mod folder { $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)] async fn $name() { super::$name(super::Store::folder()).await; })* }
        #[cfg(feature = "s3-conformance")]
        mod s3 { $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)] async fn $name() { super::$name(super::Store::s3().await).await; })* }
        #[cfg(feature = "s3-conformance")]
        mod busy_s3 { $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)] async fn $name() { super::$name(super::Store::busy_s3().await).await; })* }
    };
}

conformance! {
    gives_back_what_was_put,
    reads_ranges_of_a_version,
    answers_for_what_is_missing,
    refuses_by_condition,
    lets_one_of_many_create,
    counts_by_compare_and_swap,
    lists_by_prefix_in_order,
    lists_more_than_one_page,
    keeps_keys_inside,
    writes_a_large_object_whole_and_under_its_condition,
}

async fn put(objects: &dyn Objects, key: &str, body: &str) -> ETag {
    match objects.put(key, Bytes::copy_from_slice(body.as_bytes()), Condition::Always).await.unwrap() {
        Put::Written(etag) => etag,
        Put::Refused => unreachable!("an unconditional write was refused"),
    }
}

async fn gives_back_what_was_put(store: Store) {
    let objects = store.opening(0);
    for (name, size) in [("a/empty", 0), ("a/small", 10), ("a/just", 1 << 20), ("a/large", (1 << 20) + 1)] {
        let key = store.key(name);
        let body: Bytes = (0..size).map(|n: u32| (n % 251) as u8).collect();
        let Put::Written(etag) = objects.put(&key, body.clone(), Condition::Always).await.unwrap() else {
            unreachable!("{name} was refused")
        };
        assert_eq!(objects.get(&key).await.unwrap(), Some((body, etag.clone())), "{name}");
        let head = objects.head(&key).await.unwrap().unwrap();
        assert_eq!((head.size, &head.etag), (u64::from(size), &etag), "{name}");
        let listed = objects.list(&key).await.unwrap();
        assert_eq!(listed.len(), 1, "{name}");
        assert_eq!(
            (&listed[0].key, listed[0].size, &listed[0].etag),
            (&key, head.size, &head.etag),
            "{name}"
        );
        // S3's answer to a HEAD knows whole seconds only.
        assert_eq!(listed[0].modified.0 / 1_000, head.modified.0 / 1_000, "{name}");
    }
    let key = store.key("a/small");
    let first = objects.head(&key).await.unwrap().unwrap().etag;
    assert_ne!(put(&*objects, &key, "other").await, first);
}

async fn reads_ranges_of_a_version(store: Store) {
    let objects = store.opening(0);
    let key = store.key("ranges");
    let etag = put(&*objects, &key, "0123456789").await;
    for (range, expected) in
        [(0..4, "0123"), (4..10, "456789"), (8..20, "89"), (10..12, ""), (99..100, ""), (3..3, "")]
    {
        for version in [None, Some(&etag)] {
            let read = objects.get_range(&key, range.clone(), version).await.unwrap();
            assert_eq!(read, expected.as_bytes(), "{range:?}");
        }
    }
    put(&*objects, &key, "abcdefghij").await;
    let stale = objects.get_range(&key, 0..4, Some(&etag)).await;
    assert!(matches!(stale, Err(ObjectError::Changed { .. })), "{stale:?}");
    assert_eq!(objects.get_range(&key, 0..4, None).await.unwrap(), "abcd");
}

async fn answers_for_what_is_missing(store: Store) {
    let objects = store.opening(0);
    put(&*objects, &store.key("there/is/one"), "x").await;
    for name in ["none", "there/is", "there/is/one-more", "there/is/one/below"] {
        let key = store.key(name);
        assert_eq!(objects.get(&key).await.unwrap(), None, "{name}");
        assert_eq!(objects.head(&key).await.unwrap(), None, "{name}");
        let range = objects.get_range(&key, 0..1, None).await;
        assert!(matches!(range, Err(ObjectError::Missing { .. })), "{name}: {range:?}");
        objects.delete(&key).await.unwrap();
    }
    assert_eq!(objects.list(&store.key("nowhere/")).await.unwrap(), []);
    objects.delete(&store.key("there/is/one")).await.unwrap();
    assert_eq!(objects.list(&store.key("there/")).await.unwrap(), []);
}

async fn refuses_by_condition(store: Store) {
    let objects = store.opening(0);
    let key = store.key("swapped");
    let write = |body: &'static str, condition| objects.put(&key, Bytes::from(body), condition);
    let any = ETag("0123456789abcdef0123456789abcdef".to_owned());
    assert_eq!(write("0", Condition::IfMatch(any)).await.unwrap(), Put::Refused);
    assert_eq!(objects.get(&key).await.unwrap(), None);
    let Put::Written(first) = write("1", Condition::IfAbsent).await.unwrap() else { unreachable!("refused") };
    assert_eq!(write("2", Condition::IfAbsent).await.unwrap(), Put::Refused);
    let Put::Written(second) = write("3", Condition::IfMatch(first.clone())).await.unwrap() else {
        unreachable!("refused")
    };
    assert_eq!(write("4", Condition::IfMatch(first)).await.unwrap(), Put::Refused);
    assert_eq!(objects.get(&key).await.unwrap(), Some((Bytes::from("3"), second)));
}

async fn lets_one_of_many_create(store: Store) {
    for round in 0..20 {
        let key = store.key(&format!("created/{round}"));
        let racers = (0..8).map(|n: usize| {
            let (objects, key) = (store.opening(n), key.clone());
            tokio::spawn(
                async move { objects.put(&key, Bytes::from(n.to_string()), Condition::IfAbsent).await },
            )
        });
        let mut winners = Vec::new();
        for (n, racer) in racers.collect::<Vec<_>>().into_iter().enumerate() {
            if let Put::Written(etag) = racer.await.unwrap().unwrap() {
                winners.push((Bytes::from(n.to_string()), etag));
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(store.opening(0).get(&key).await.unwrap().as_ref(), winners.first());
    }
}

async fn counts_by_compare_and_swap(store: Store) {
    let key = store.key("counter");
    put(&*store.opening(0), &key, "0").await;
    let racers = (0..8).map(|n| {
        let (objects, key) = (store.opening(n), key.clone());
        tokio::spawn(async move {
            let mut done = 0;
            while done < 50 {
                let (body, etag) = objects.get(&key).await.unwrap().unwrap();
                let next = std::str::from_utf8(&body).unwrap().parse::<u32>().unwrap() + 1;
                let swap = objects.put(&key, Bytes::from(next.to_string()), Condition::IfMatch(etag));
                if matches!(swap.await.unwrap(), Put::Written(_)) {
                    done += 1;
                }
            }
        })
    });
    for racer in racers.collect::<Vec<_>>() {
        racer.await.unwrap();
    }
    assert_eq!(store.opening(0).get(&key).await.unwrap().unwrap().0, "400");
}

async fn lists_by_prefix_in_order(store: Store) {
    let objects = store.opening(0);
    let names =
        ["a/b/2", "a/b/10", "a/b-c", "a/b/1/x", "a/c", "ab", "a/b.d/e", "dt=2026-01-01/part 0.parquet", "é"];
    for name in names {
        put(&*objects, &store.key(name), name).await;
    }
    let cases: [(&str, &[&str]); 7] = [
        ("a/b/", &["a/b/1/x", "a/b/10", "a/b/2"]),
        ("a/b", &["a/b-c", "a/b.d/e", "a/b/1/x", "a/b/10", "a/b/2"]),
        ("a/b/1", &["a/b/1/x", "a/b/10"]),
        ("dt=2026", &["dt=2026-01-01/part 0.parquet"]),
        ("é", &["é"]),
        ("b", &[]),
        (
            "",
            &[
                "a/b-c",
                "a/b.d/e",
                "a/b/1/x",
                "a/b/10",
                "a/b/2",
                "a/c",
                "ab",
                "dt=2026-01-01/part 0.parquet",
                "é",
            ],
        ),
    ];
    for (prefix, expected) in cases {
        let listed = objects.list(&store.key(prefix)).await.unwrap();
        let listed: Vec<_> =
            listed.iter().map(|object| object.key[store.prefix.len()..].to_owned()).collect();
        assert_eq!(listed, expected, "{prefix}");
    }
    for (prefix, expected) in [("a/", &["b", "b.d"][..]), ("a/b/", &["1"]), ("nowhere/", &[])] {
        assert_eq!(objects.folders(&store.key(prefix)).await.unwrap(), expected, "{prefix}");
    }
}

async fn lists_more_than_one_page(store: Store) {
    let objects = store.opening(0);
    let keys: Vec<_> = (0..1_050).map(|n| store.key(&format!("many/{n:05}"))).collect();
    for some in keys.chunks(50) {
        let puts = some.iter().map(|key| objects.put(key, Bytes::from(key.clone()), Condition::Always));
        futures::future::try_join_all(puts).await.unwrap();
    }
    let listed = objects.list(&store.key("many/")).await.unwrap();
    assert_eq!(listed.into_iter().map(|object| object.key).collect::<Vec<_>>(), keys);
}

async fn keeps_keys_inside(store: Store) {
    let objects = store.opening(0);
    for key in ["../escaped", "a/../../escaped", "/escaped", "a//b", "a/./b", "", "a/", "a\0b"] {
        let put = objects.put(key, Bytes::from("x"), Condition::Always).await;
        assert!(matches!(put, Err(ObjectError::Unavailable { .. })), "{key:?}: {put:?}");
        assert!(objects.get(key).await.is_err(), "{key:?}");
        assert!(objects.delete(key).await.is_err(), "{key:?}");
    }
}

async fn writes_a_large_object_whole_and_under_its_condition(store: Store) {
    let (objects, key) = (store.opening(0), store.key("large"));
    // Three parts, the last of them smaller.
    let bytes =
        |seed: u32| -> Bytes { (0..(11 << 20)).map(|n: u32| (n.wrapping_mul(seed) % 251) as u8).collect() };
    let (first, second) = (bytes(7), bytes(11));
    let Put::Written(etag) = objects.put(&key, first.clone(), Condition::IfAbsent).await.unwrap() else {
        unreachable!("nobody else writes")
    };
    assert_eq!(objects.put(&key, second.clone(), Condition::IfAbsent).await.unwrap(), Put::Refused);
    assert_eq!(objects.get(&key).await.unwrap(), Some((first.clone(), etag.clone())));
    assert_eq!(objects.head(&key).await.unwrap().unwrap().size, first.len() as u64);
    let range = (5 << 20) - 3..(5 << 20) + 3;
    let read = objects.get_range(&key, range.clone(), Some(&etag)).await.unwrap();
    assert_eq!(read, first[(5 << 20) - 3..(5 << 20) + 3], "across two parts");
    let swap = |etag| objects.put(&key, second.clone(), Condition::IfMatch(etag));
    assert!(matches!(swap(etag.clone()).await.unwrap(), Put::Written(_)));
    assert_eq!(swap(etag).await.unwrap(), Put::Refused);
    assert_eq!(objects.get(&key).await.unwrap().unwrap().0, second);
}
