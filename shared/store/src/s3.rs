mod upload;

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::primitives::DateTime;
use bytes::Bytes;
use penstock_model::Timestamp;
use penstock_model::port::{Boxed, Condition, ETag, ObjectError, ObjectMeta, Objects, Put};
use penstock_model::work::Requests;

use self::upload::Upload;
use crate::aws_error::AwsError;
use crate::counted::Counted;
use crate::version;

/// A body that breaks off is asked for again; the SDK repeats only what fails before the body begins.
const READS: u32 = 4;
/// S3 answers 409 to a conditional write that meets another one under way; it asks to be tried again.
const WRITES: u32 = 6;
/// An object larger than this is written in parts of this size: an attempt at one has its own time, and is repeated alone. S3 takes
/// 10,000 parts of 5 MiB to 5 GiB ("Amazon S3 multipart upload limits").
const PART_BYTES: usize = 32 << 20;

/// Objects in an S3 bucket. The caller needs `s3:ListBucket`: without it S3 answers 403 for what is missing.
///
/// Versions are S3's ETags, without the quotes.
#[derive(Debug, Clone)]
pub struct S3Objects {
    client: Client,
    bucket: String,
    part_bytes: usize,
    counted: Counted,
}

enum Body {
    Whole(Bytes, ETag),
    Missing,
    Changed,
    BeyondEnd,
}

impl S3Objects {
    /// The objects of a bucket.
    #[must_use]
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self::counted(client, bucket, Counted::default())
    }

    /// The objects of a bucket, by a client whose requests are counted here.
    pub(crate) fn counted(client: Client, bucket: impl Into<String>, counted: Counted) -> Self {
        Self { client, bucket: bucket.into(), part_bytes: PART_BYTES, counted }
    }

    /// The same, with another size of the parts of large objects: at least 5 MiB on AWS.
    #[must_use]
    pub fn with_parts_of(self, part_bytes: usize) -> Self {
        Self { part_bytes, ..self }
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        version: Option<&ETag>,
    ) -> Result<Body, ObjectError> {
        let mut attempt = 1;
        loop {
            let answer = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .key(key)
                .set_range(range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end - 1)))
                .set_if_match(version.map(quoted))
                .send()
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return self.refused_read(key, &error),
            };
            match collect(answer).await {
                Ok(body) => return Ok(body),
                Err(error) if attempt == READS => return Err(unavailable(key, Tried::Read, error)),
                Err(error) => {
                    tracing::warn!(key, attempt, %error, "an object's body broke off; reading it again");
                }
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    async fn write(&self, key: &str, body: Bytes, condition: &Condition) -> Result<Put, ObjectError> {
        let mut attempt = 1;
        loop {
            let upload = Upload { client: &self.client, bucket: &self.bucket, key, condition };
            let written = if body.len() > self.part_bytes {
                upload.in_parts(body.clone(), self.part_bytes).await
            } else {
                upload.whole(body.clone()).await
            };
            let refusal = match written {
                Ok(etag) => return Ok(Put::Written(etag)),
                Err(refusal) => refusal,
            };
            match (refusal.status, condition) {
                (Some(412), _) => return Ok(Put::Refused),
                // There is nothing that could match.
                (Some(404), Condition::IfMatch(_)) if refusal.code.as_deref() == Some("NoSuchKey") => {
                    return Ok(Put::Refused);
                }
                (Some(409), Condition::IfAbsent | Condition::IfMatch(_)) if attempt < WRITES => {}
                _ if refusal.is_denied => return Err(self.denied(key, Tried::Write, refusal.cause)),
                _ => return Err(unavailable(key, Tried::Write, refusal.cause)),
            }
            pause(attempt).await;
            attempt += 1;
        }
    }

    async fn list_all(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        let mut pages =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.refused(prefix, Tried::List, &error))?;
            found.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| {
                Some(ObjectMeta {
                    key: object.key?,
                    size: object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    etag: unquoted(object.e_tag.as_deref()),
                    modified: timestamp(object.last_modified.as_ref()),
                })
            }));
        }
        Ok(found)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).delimiter("/");
        let mut pages = list.into_paginator().send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.refused(prefix, Tried::List, &error))?;
            names.extend(page.common_prefixes.unwrap_or_default().into_iter().filter_map(|folder| {
                let folder = folder.prefix?;
                Some(folder.strip_prefix(prefix)?.trim_end_matches('/').to_owned())
            }));
        }
        // S3 goes by what follows the name too: a dot comes before a slash.
        names.sort_unstable();
        Ok(names)
    }
}

/// What S3 refuses.
impl S3Objects {
    fn refused_read(
        &self,
        key: &str,
        error: &SdkError<GetObjectError, Answered>,
    ) -> Result<Body, ObjectError> {
        if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) {
            return Ok(Body::Missing);
        }
        match status(error) {
            Some(412) => Ok(Body::Changed),
            Some(416) => Ok(Body::BeyondEnd),
            _ => Err(self.refused(key, Tried::Read, error)),
        }
    }

    fn refused<E: ProvideErrorMetadata>(
        &self,
        key: &str,
        tried: Tried,
        error: &SdkError<E, Answered>,
    ) -> ObjectError {
        let source = AwsError::of(error);
        if AwsError::is_denied(error) {
            self.denied(key, tried, source)
        } else {
            unavailable(key, tried, source)
        }
    }

    /// Says which permission to grant, on which prefix.
    fn denied(&self, key: &str, tried: Tried, source: AwsError) -> ObjectError {
        let (bucket, folder) = (&self.bucket, key.rsplit_once('/').map_or("", |(folder, _)| folder));
        let on = format!("on {bucket}/{folder}{}*", if folder.is_empty() { "" } else { "/" });
        let (permission, of_key) = match tried {
            // Without the second, S3 says the same of an object that is not there.
            Tried::Read => (format!("s3:GetObject {on} and s3:ListBucket on {bucket}"), Some("kms:Decrypt")),
            Tried::Write => (format!("s3:PutObject {on}"), Some("kms:GenerateDataKey and kms:Decrypt")),
            Tried::List => (format!("s3:ListBucket on {bucket}"), None),
            Tried::Delete => (format!("s3:DeleteObject {on}"), None),
        };
        let of_key = of_key.map_or(String::new(), |of_key| {
            format!(", and {of_key} where the bucket is encrypted with a key of yours")
        });
        let help = format!("grant {permission} to the function's role{of_key}");
        ObjectError::Denied { key: key.to_owned(), action: tried.word(), help, source: Box::new(source) }
    }
}

impl Objects for S3Objects {
    fn get<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(Bytes, ETag)>, ObjectError>> {
        Box::pin(async move {
            version::check_key(key, "read")?;
            Ok(match self.read(key, None, None).await? {
                Body::Whole(body, etag) => Some((body, etag)),
                Body::Missing | Body::Changed | Body::BeyondEnd => None,
            })
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
            let empty = range.is_empty();
            // HTTP has no empty range, so that one byte is asked for to learn whether the object is there.
            let range = if empty { range.start..range.start.saturating_add(1) } else { range };
            match self.read(key, Some(range), version).await? {
                Body::Whole(body, _) => Ok(if empty { Bytes::new() } else { body }),
                Body::BeyondEnd => Ok(Bytes::new()),
                Body::Missing => Err(ObjectError::Missing { key: key.to_owned() }),
                Body::Changed => Err(ObjectError::Changed { key: key.to_owned() }),
            }
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<ObjectMeta>, ObjectError>> {
        Box::pin(async move {
            version::check_key(key, "read")?;
            match self.client.head_object().bucket(&self.bucket).key(key).send().await {
                Ok(head) => Ok(Some(ObjectMeta {
                    key: key.to_owned(),
                    size: head.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    etag: unquoted(head.e_tag()),
                    modified: timestamp(head.last_modified()),
                })),
                Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
                Err(error) => Err(self.refused(key, Tried::Read, &error)),
            }
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
            self.write(key, body, &condition).await
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<ObjectMeta>, ObjectError>> {
        Box::pin(self.list_all(prefix))
    }

    fn folders<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<String>, ObjectError>> {
        Box::pin(self.list_folders(prefix))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), ObjectError>> {
        Box::pin(async move {
            version::check_key(key, "deleted")?;
            let answer = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
            answer.map(drop).map_err(|error| self.refused(key, Tried::Delete, &error))
        })
    }

    fn requests(&self) -> Requests {
        self.counted.so_far()
    }

    fn bucket(&self) -> &str {
        &self.bucket
    }
}

async fn collect(answer: GetObjectOutput) -> Result<Body, AwsError> {
    let etag = unquoted(answer.e_tag());
    let body = answer.body.collect().await.map_err(|error| AwsError::while_reading(&error))?;
    Ok(Body::Whole(body.into_bytes(), etag))
}

type Answered = aws_sdk_s3::config::http::HttpResponse;

fn status<E>(error: &SdkError<E, Answered>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}

/// What was tried with an object, or with those below a prefix.
#[derive(Clone, Copy)]
enum Tried {
    Read,
    Write,
    List,
    Delete,
}

impl Tried {
    /// As a participle.
    const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "written",
            Self::List => "listed",
            Self::Delete => "deleted",
        }
    }
}

fn unavailable(key: &str, tried: Tried, source: AwsError) -> ObjectError {
    ObjectError::Unavailable { key: key.to_owned(), action: tried.word(), source: Box::new(source) }
}

/// Waits before the attempt after this one: 0.1 s, doubling, up to half as long again by chance.
async fn pause(attempt: u32) {
    let base = Duration::from_millis(100 * (1 << attempt.min(6)) / 2);
    tokio::time::sleep(base.mul_f64(1.0 + rand::random::<f64>() / 2.0)).await;
}

fn quoted(etag: &ETag) -> String {
    format!("\"{}\"", etag.0)
}

fn unquoted(etag: Option<&str>) -> ETag {
    ETag(etag.unwrap_or_default().trim_matches('"').to_owned())
}

fn timestamp(time: Option<&DateTime>) -> Timestamp {
    Timestamp(time.and_then(|time| time.to_millis().ok()).unwrap_or(0))
}
