//! A store that holds one object, and can only be read.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use penstock_model::Timestamp;
use penstock_model::port::{Boxed, Condition, ETag, ObjectError, ObjectMeta, Objects, OpenObjects, Put};

/// The object's key.
pub const KEY: &str = "run/a.parquet";

/// The store.
#[derive(Debug, Clone)]
pub struct OneObject(Bytes);

impl OneObject {
    /// A store whose object has this body.
    pub fn of(body: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(body))
    }

    fn etag() -> ETag {
        ETag("one".to_owned())
    }

    fn meta(&self) -> ObjectMeta {
        let size = self.0.len() as u64;
        ObjectMeta { key: KEY.to_owned(), size, etag: Self::etag(), modified: Timestamp(0) }
    }
}

impl Objects for OneObject {
    fn get<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(Bytes, ETag)>, ObjectError>> {
        Box::pin(async move { Ok((key == KEY).then(|| (self.0.clone(), Self::etag()))) })
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        _version: Option<&'a ETag>,
    ) -> Boxed<'a, Result<Bytes, ObjectError>> {
        Box::pin(async move {
            if key != KEY {
                return Err(ObjectError::Missing { key: key.to_owned() });
            }
            let len = self.0.len();
            let start = usize::try_from(range.start).unwrap_or(len).min(len);
            let end = usize::try_from(range.end).unwrap_or(len).clamp(start, len);
            Ok(self.0.slice(start..end))
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<ObjectMeta>, ObjectError>> {
        Box::pin(async move { Ok((key == KEY).then(|| self.meta())) })
    }

    fn put<'a>(
        &'a self,
        _key: &'a str,
        _body: Bytes,
        _condition: Condition,
    ) -> Boxed<'a, Result<Put, ObjectError>> {
        Box::pin(async { Ok(Put::Refused) })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<ObjectMeta>, ObjectError>> {
        Box::pin(async move { Ok(KEY.starts_with(prefix).then(|| self.meta()).into_iter().collect()) })
    }

    fn delete<'a>(&'a self, _key: &'a str) -> Boxed<'a, Result<(), ObjectError>> {
        Box::pin(async { Ok(()) })
    }

    fn bucket(&self) -> &str {
        "one"
    }
}

impl OpenObjects for OneObject {
    fn open(&self, _root: &str) -> Result<Arc<dyn Objects>, ObjectError> {
        Ok(Arc::new(self.clone()))
    }
}
