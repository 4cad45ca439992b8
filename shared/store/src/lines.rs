//! JSON lines: one value a line, compressed with zstd if the key ends in `.zst`.

use std::io::Write;

use bytes::Bytes;
use penstock_model::decode::{decode, decode_text};
use penstock_model::port::{Condition, Objects, Put};
use penstock_model::{Failure, FailureName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zstd::zstd_safe::CParameter;

use crate::failure::{gone, storage_failure, unreadable};

/// zstd's fastest regular level: lines are read back once or twice, by functions that wait for nothing else.
pub(crate) const LEVEL: i32 = 1;
/// How far back a stretch may repeat what was said, as a power of two: lines repeat each other's names, and soon.
const WINDOW_LOG: u32 = 17;
/// Objects that say they unpack to no more than this are unpacked in one go.
const AT_ONCE: u64 = 1 << 30;

/// The lines of some values, uncompressed. The same values always give the same bytes.
///
/// # Errors
/// `InvariantBroken` if a value has no JSON form.
pub fn to_lines<T: Serialize>(values: impl IntoIterator<Item = T>) -> Result<Bytes, Failure> {
    let mut text = Vec::new();
    for value in values {
        serde_json::to_writer(&mut text, &value)
            .map_err(|_| Failure::new(FailureName::InvariantBroken, "a line has no JSON form"))?;
        text.push(b'\n');
    }
    Ok(Bytes::from(text))
}

/// The lines of some values as they are stored under this key.
///
/// # Errors
/// `InvariantBroken` if a value has no JSON form.
pub fn encode_lines<T: Serialize>(key: &str, values: impl IntoIterator<Item = T>) -> Result<Bytes, Failure> {
    let text = to_lines(values)?;
    if !is_compressed(key) {
        return Ok(text);
    }
    zstd::bulk::compress(&text, LEVEL).map(Bytes::from).map_err(|error| not_compressed(key, error))
}

/// Writes values as JSON lines under a condition. One that does not hold is no failure: lines follow from their
/// key, or the key is the writer's own, so that what is there already is as good.
///
/// # Errors
/// `StorageUnavailable`; `InvariantBroken` if a value has no JSON form.
pub async fn put_lines<T: Serialize>(
    objects: &dyn Objects,
    key: &str,
    values: impl IntoIterator<Item = T>,
    condition: Condition,
) -> Result<(), Failure> {
    let body = encode_lines(key, values)?;
    match objects.put(key, body, condition).await.map_err(storage_failure)? {
        Put::Written(_) | Put::Refused => Ok(()),
    }
}

/// Reads JSON lines; `None` if there is no such object.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch`, with the line's number, if a line does not hold a `T`.
pub async fn read_lines<T: DeserializeOwned>(
    objects: &dyn Objects,
    key: &str,
) -> Result<Option<Vec<T>>, Failure> {
    let Some((body, _)) = objects.get(key).await.map_err(storage_failure)? else { return Ok(None) };
    decode_lines(key, &body).map(Some)
}

/// Reads JSON lines that have to be there.
///
/// # Errors
/// As [`read_lines`]; `InvariantBroken` if there is no such object.
pub async fn require_lines<T: DeserializeOwned>(objects: &dyn Objects, key: &str) -> Result<Vec<T>, Failure> {
    read_lines(objects, key).await?.ok_or_else(|| gone(key))
}

/// Reads JSON lines from an object's bytes.
///
/// # Errors
/// `ContractMismatch`, with the line's number, if a line does not hold a `T`.
pub fn decode_lines<T: DeserializeOwned>(key: &str, body: &[u8]) -> Result<Vec<T>, Failure> {
    let unpacked;
    let text = if is_compressed(key) {
        unpacked = unpack(key, body)?;
        unpacked.as_slice()
    } else {
        body
    };
    let failed = |index: usize, cause| unreadable(&format!("{key} (line {})", index + 1), cause);
    match std::str::from_utf8(text) {
        Ok(text) => (0..)
            .zip(text.split('\n'))
            .filter(|(_, line)| !line.is_empty())
            .map(|(index, line)| decode_text(line).map_err(|cause| failed(index, cause)))
            .collect(),
        // Some line is no text: the decoder says which.
        Err(_) => (0..)
            .zip(text.split(|byte| *byte == b'\n'))
            .filter(|(_, line)| !line.is_empty())
            .map(|(index, line)| decode(line).map_err(|cause| failed(index, cause)))
            .collect(),
    }
}

/// Packs an object's text by zstd, a stretch at a time.
pub(crate) struct Packer {
    key: String,
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
}

impl Packer {
    /// For the object of this key.
    pub(crate) fn new(key: &str, level: i32) -> Result<Self, Failure> {
        let started = zstd::stream::write::Encoder::new(Vec::new(), level).and_then(|mut encoder| {
            encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
            Ok(Self { key: key.to_owned(), encoder })
        });
        started.map_err(|error| not_compressed(key, error))
    }

    pub(crate) fn add(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.encoder.write_all(text).map_err(|error| not_compressed(&self.key, error))
    }

    /// The object.
    pub(crate) fn finish(self) -> Result<Bytes, Failure> {
        self.encoder.finish().map(Bytes::from).map_err(|error| not_compressed(&self.key, error))
    }
}

fn not_compressed(key: &str, error: std::io::Error) -> Failure {
    Failure::because(FailureName::InvariantBroken, format!("object {key} can't be compressed"), error)
}

/// An object's text as it was before it was packed.
fn unpack(key: &str, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let unpacked = match zstd::zstd_safe::get_frame_content_size(body) {
        Ok(Some(size @ ..=AT_ONCE)) => zstd::bulk::decompress(body, usize::try_from(size).unwrap_or(0)),
        // Written a stretch at a time or by something else, or damaged: then this says so.
        Ok(Some(_) | None) | Err(_) => zstd::stream::decode_all(body),
    };
    unpacked.map_err(|error| not_packed(key, error))
}

/// What the object of this key holds was not packed by zstd.
pub(crate) fn not_packed(key: &str, error: std::io::Error) -> Failure {
    let message = format!("object {key} is not what this version can read");
    Failure::because(FailureName::ContractMismatch, message, error)
}

fn is_compressed(key: &str) -> bool {
    key.ends_with(".zst")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Line {
        n: u32,
        fields: Box<RawValue>,
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(values in prop::collection::vec((any::<u32>(), ".*"), 0..20), zst: bool) {
            let key = if zst { "a.jsonl.zst" } else { "a.jsonl" };
            let body = encode_lines(key, &values).unwrap();
            prop_assert_eq!(&body, &encode_lines(key, &values).unwrap());
            prop_assert_eq!(decode_lines::<(u32, String)>(key, &body).unwrap(), values);
        }
    }

    #[test]
    fn keeps_raw_values_to_the_letter() {
        let text = br#"{"n":1,"fields":{"price":1.10, "id":12345678901234567890}}"#;
        let lines: Vec<Line> = decode_lines("a.jsonl", text).unwrap();
        assert_eq!(lines[0].fields.get(), r#"{"price":1.10, "id":12345678901234567890}"#);
    }

    #[test]
    fn a_line_it_can_t_read_is_named_without_its_content() {
        let text = b"{\"n\":1,\"fields\":{}}\n{\"n\":\"tim@acme.com\",\"fields\":{}}\n";
        let failure = decode_lines::<Line>("a.jsonl", text).err().unwrap();
        assert_eq!(failure.name, FailureName::ContractMismatch);
        let message = failure.full_message();
        assert!(message.contains("object a.jsonl (line 2)") && message.contains("at n"), "{message}");
        assert!(!message.contains("tim"), "{message}");
        assert_eq!(decode_lines::<Line>("a.zst", text).err().unwrap().name, FailureName::ContractMismatch);
    }
}
