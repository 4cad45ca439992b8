//! One attempt at writing an object: whole, or in parts if it is large.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use penstock_model::port::{Condition, ETag};

use super::{Answered, quoted, status, unquoted};
use crate::aws_error::AwsError;

/// Parts that are under way at the same time.
const PARTS_AT_ONCE: usize = 4;

/// Why S3 did not write an object.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The HTTP status, if there was an answer.
    pub(super) status: Option<u16>,
    /// The error code, if S3 gave one.
    pub(super) code: Option<String>,
    /// Whether a permission is missing.
    pub(super) is_denied: bool,
    /// In words.
    pub(super) cause: AwsError,
}

impl<E: ProvideErrorMetadata> From<SdkError<E, Answered>> for Refusal {
    fn from(error: SdkError<E, Answered>) -> Self {
        let code = error.code().map(str::to_owned);
        Self {
            status: status(&error),
            code,
            is_denied: AwsError::is_denied(&error),
            cause: AwsError::of(&error),
        }
    }
}

/// Where an object goes, and when it may be written.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) condition: &'a Condition,
}

impl Upload<'_> {
    fn if_none_match(&self) -> Option<String> {
        matches!(self.condition, Condition::IfAbsent).then(|| "*".to_owned())
    }

    fn if_match(&self) -> Option<String> {
        match self.condition {
            Condition::IfMatch(etag) => Some(quoted(etag)),
            Condition::Always | Condition::IfAbsent => None,
        }
    }

    /// Writes it in one request.
    pub(super) async fn whole(&self, body: Bytes) -> Result<ETag, Refusal> {
        let request = self.client.put_object().bucket(self.bucket).key(self.key).body(stream_of(body));
        let request = request.set_if_none_match(self.if_none_match()).set_if_match(self.if_match());
        Ok(unquoted(request.send().await?.e_tag()))
    }

    /// Writes it in parts of this many bytes, each of which is repeated on its own if it fails. The object appears whole, with the
    /// last request, and only that one has the condition. What is left of an upload that ends early is removed by the
    /// bucket's lifecycle rule: to remove it here would take a permission of its own.
    pub(super) async fn in_parts(&self, body: Bytes, part_bytes: usize) -> Result<ETag, Refusal> {
        let begun = self.client.create_multipart_upload().bucket(self.bucket).key(self.key).send().await?;
        let id = begun.upload_id();
        let starts = (0..body.len()).step_by(part_bytes);
        let parts = (1..).zip(starts).map(|(number, start)| {
            let bytes = body.slice(start..body.len().min(start + part_bytes));
            let request = self
                .client
                .upload_part()
                .bucket(self.bucket)
                .key(self.key)
                .set_upload_id(id.map(str::to_owned));
            async move {
                let sent = request.part_number(number).body(stream_of(bytes)).send().await?;
                let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag);
                Ok::<_, Refusal>(part.build())
            }
        });
        let parts: Vec<_> = stream::iter(parts).buffered(PARTS_AT_ONCE).try_collect().await?;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(self.bucket).key(self.key);
        let request = request.set_upload_id(id.map(str::to_owned)).multipart_upload(parts);
        let request = request.set_if_none_match(self.if_none_match()).set_if_match(self.if_match());
        Ok(unquoted(request.send().await?.e_tag()))
    }
}

fn stream_of(body: Bytes) -> ByteStream {
    ByteStream::new(SdkBody::from(body))
}
