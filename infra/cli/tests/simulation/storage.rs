//! An object store as S3 is on a bad day: slow, now and then away, and at times it has done what it says it has not.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use penstock_model::port::{Boxed, Condition, ETag, ObjectError, ObjectMeta, Objects, OpenObjects, Put};
use penstock_store::MemoryObjects;

use crate::world::Dice;

/// A story that needs more calls does not end.
const MOST_CALLS: u64 = 200_000;

/// Is told of every object that is written.
type Watch = Box<dyn Fn(&str, &[u8]) + Send>;

/// Objects in memory behind a network.
pub(crate) struct Storage {
    pub(crate) objects: Arc<MemoryObjects>,
    dice: Dice,
    /// Of a thousand calls, how many fail.
    failing: AtomicU64,
    calls: AtomicU64,
    /// Is told when there were more calls than any story needs.
    pub(crate) endless: tokio::sync::Notify,
    watch: Mutex<Option<Watch>>,
    /// The next write of each of these objects takes so long.
    late: Mutex<BTreeMap<String, Duration>>,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Storage")
    }
}

impl Storage {
    pub(crate) fn new(objects: Arc<MemoryObjects>, dice: Dice) -> Arc<Self> {
        Arc::new(Self {
            objects,
            dice,
            failing: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            endless: tokio::sync::Notify::new(),
            watch: Mutex::default(),
            late: Mutex::default(),
        })
    }

    pub(crate) fn fail(&self, per_mille: u64) {
        self.failing.store(per_mille, Ordering::Relaxed);
    }

    pub(crate) fn watch(&self, watch: Watch) {
        *self.watch.lock().unwrap() = Some(watch);
    }

    /// The next write of an object is under way for long.
    pub(crate) fn write_late(&self, key: String, after: Duration) {
        self.late.lock().unwrap().insert(key, after);
    }

    fn lateness(&self, key: &str) -> Option<Duration> {
        self.late.lock().unwrap().remove(key)
    }

    async fn travel(&self) {
        if self.calls.fetch_add(1, Ordering::Relaxed) == MOST_CALLS {
            self.endless.notify_one();
        }
        tokio::time::sleep(Duration::from_millis(self.dice.between(1, 15))).await;
    }

    fn fails(&self) -> bool {
        self.dice.per_mille(self.failing.load(Ordering::Relaxed))
    }

    async fn call(&self, key: &str, action: &'static str) -> Result<(), ObjectError> {
        self.travel().await;
        if self.fails() { Err(away(key, action)) } else { Ok(()) }
    }
}

fn away(key: &str, action: &'static str) -> ObjectError {
    let source = Box::new(std::io::Error::other("the network"));
    ObjectError::Unavailable { key: key.to_owned(), action, source }
}

impl Objects for Storage {
    fn get<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(Bytes, ETag)>, ObjectError>> {
        Box::pin(async move {
            self.call(key, "read").await?;
            self.objects.get(key).await
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        version: Option<&'a ETag>,
    ) -> Boxed<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            self.call(key, "read").await?;
            self.objects.get_range(key, range, version).await
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<ObjectMeta>, ObjectError>> {
        Box::pin(async move {
            self.call(key, "read").await?;
            self.objects.head(key).await
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<Put, ObjectError>> {
        Box::pin(async move {
            self.call(key, "written").await?;
            if let Some(after) = self.lateness(key) {
                tokio::time::sleep(after).await;
            }
            let conditional = condition != Condition::Always;
            let put = self.objects.put(key, body.clone(), condition).await?;
            if let (Put::Written(_), Some(watch)) = (&put, &*self.watch.lock().unwrap()) {
                watch(key, &body);
            }
            self.travel().await;
            match (self.fails(), conditional, &put) {
                // The client has tried again by itself, and was refused by what it had written.
                (true, true, Put::Written(_)) if self.dice.per_mille(500) => Ok(Put::Refused),
                (true, ..) => Err(away(key, "written")),
                (false, ..) => Ok(put),
            }
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<ObjectMeta>, ObjectError>> {
        Box::pin(async move {
            self.call(prefix, "listed").await?;
            self.objects.list(prefix).await
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            self.call(key, "deleted").await?;
            self.objects.delete(key).await
        })
    }

    fn bucket(&self) -> &'static str {
        "state"
    }
}

/// The one bucket that unloads lie in.
#[derive(Debug)]
pub(crate) struct Bucket(pub(crate) Arc<Storage>);

impl OpenObjects for Bucket {
    fn open(&self, _: &str) -> Result<Arc<dyn Objects>, ObjectError> {
        Ok(self.0.clone())
    }
}
