use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use penstock_model::port::{ObjectError, Objects, OpenObjects};

use crate::{FolderObjects, S3Objects};

/// Opens `s3://bucket` and absolute folders. One root is opened once.
#[derive(Debug, Default)]
pub struct Opener {
    s3: Option<aws_sdk_s3::Client>,
    opened: Mutex<HashMap<String, Arc<dyn Objects>>>,
}

/// Why a root can't be opened.
#[derive(Debug, thiserror::Error)]
enum CantOpen {
    #[error("a root is `s3://bucket` or an absolute folder")]
    Form,
    #[error("S3 is not set up in this process")]
    NoS3,
}

impl Opener {
    /// Opens buckets with this client, and folders.
    #[must_use]
    pub fn new(s3: aws_sdk_s3::Client) -> Self {
        Self { s3: Some(s3), opened: Mutex::default() }
    }

    /// Opens folders only, without any AWS configuration.
    #[must_use]
    pub fn folders() -> Self {
        Self::default()
    }

    fn connect(&self, root: &str) -> Result<Arc<dyn Objects>, CantOpen> {
        match root.strip_prefix("s3://").map(|rest| rest.trim_end_matches('/')) {
            Some(bucket) if bucket.is_empty() || bucket.contains('/') => Err(CantOpen::Form),
            Some(bucket) => {
                let client = self.s3.clone().ok_or(CantOpen::NoS3)?;
                Ok(Arc::new(S3Objects::new(client, bucket)))
            }
            None if Path::new(root).is_absolute() => Ok(Arc::new(FolderObjects::new(root))),
            None => Err(CantOpen::Form),
        }
    }
}

impl OpenObjects for Opener {
    fn open(&self, root: &str) -> Result<Arc<dyn Objects>, ObjectError> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(objects) = opened.get(root) {
            return Ok(Arc::clone(objects));
        }
        let objects = self.connect(root).map_err(|error| ObjectError::Unavailable {
            key: root.to_owned(),
            action: "opened",
            source: Box::new(error),
        })?;
        opened.insert(root.to_owned(), Arc::clone(&objects));
        Ok(objects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_absolute_folders_once() {
        let opener = Opener::folders();
        let first = opener.open("/tmp/penstock").unwrap();
        assert!(Arc::ptr_eq(&first, &opener.open("/tmp/penstock").unwrap()));
        assert_eq!(first.bucket(), "/tmp/penstock");
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        for root in
            ["unloads/customers", "", "s3://", "s3://bucket/prefix", "https://example.com", "s3://bucket"]
        {
            assert!(Opener::folders().open(root).is_err(), "{root}");
        }
    }
}
