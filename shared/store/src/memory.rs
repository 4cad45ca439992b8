use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use penstock_model::Timestamp;
use penstock_model::port::{Boxed, Clock, Condition, ETag, ObjectError, ObjectMeta, Objects, Put};

use crate::version;

/// Objects that live as long as the process: for tests and simulations.
#[derive(Debug, Default)]
pub struct MemoryObjects {
    state: Mutex<State>,
    clock: Option<Arc<dyn Clock>>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Stored>,
    writes: i64,
}

struct Stored {
    body: Bytes,
    etag: ETag,
    modified: Timestamp,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({} bytes)", self.body.len())
    }
}

impl MemoryObjects {
    /// An empty store. Its objects' times count the writes, in milliseconds since 1970.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store whose objects carry the times of this clock.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), clock: Some(clock) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, key: &str) -> Option<(Bytes, ETag)> {
        self.state().objects.get(key).map(|stored| (stored.body.clone(), stored.etag.clone()))
    }

    fn write(&self, key: &str, body: Bytes, condition: &Condition) -> Put {
        let mut state = self.state();
        let present = state.objects.get(key).map(|stored| &stored.etag);
        let holds = match condition {
            Condition::Always => true,
            Condition::IfAbsent => present.is_none(),
            Condition::IfMatch(etag) => present == Some(etag),
        };
        if !holds {
            return Put::Refused;
        }
        state.writes += 1;
        let modified = self.clock.as_ref().map_or(Timestamp(state.writes), |clock| clock.now());
        let etag = version::of_content(&body);
        state.objects.insert(key.to_owned(), Stored { body, etag: etag.clone(), modified });
        Put::Written(etag)
    }
}

fn meta(key: &str, stored: &Stored) -> ObjectMeta {
    ObjectMeta {
        key: key.to_owned(),
        size: stored.body.len() as u64,
        etag: stored.etag.clone(),
        modified: stored.modified,
    }
}

impl Objects for MemoryObjects {
    fn get<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(Bytes, ETag)>, ObjectError>> {
        Box::pin(async move {
            version::check_key(key, "read")?;
            Ok(self.read(key))
        })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        version: Option<&'a ETag>,
    ) -> Boxed<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            version::check_key(key, "read")?;
            let (body, etag) = self.read(key).ok_or_else(|| ObjectError::Missing { key: key.to_owned() })?;
            if version.is_some_and(|version| *version != etag) {
                return Err(ObjectError::Changed { key: key.to_owned() });
            }
            let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
            let (start, end) = (bound(range.start), bound(range.end));
            Ok(if start < end { body.slice(start..end) } else { Bytes::new() })
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<ObjectMeta>, ObjectError>> {
        Box::pin(async move {
            version::check_key(key, "read")?;
            Ok(self.state().objects.get(key).map(|stored| meta(key, stored)))
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<Put, ObjectError>> {
        Box::pin(async move {
            version::check_key(key, "written")?;
            Ok(self.write(key, body, &condition))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<ObjectMeta>, ObjectError>> {
        Box::pin(async move {
            let state = self.state();
            let from_prefix = state.objects.range(prefix.to_owned()..);
            Ok(from_prefix
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(key, stored)| meta(key, stored))
                .collect())
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            version::check_key(key, "deleted")?;
            self.state().objects.remove(key);
            Ok(())
        })
    }

    fn bucket(&self) -> &str {
        "memory"
    }
}
