//! JSON lines of objects that need not fit into memory: written and read a stretch at a time.

use std::io::Write;
use std::marker::PhantomData;

use bytes::Bytes;
use penstock_model::decode::decode;
use penstock_model::port::Objects;
use penstock_model::{Failure, FailureName};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{gone, storage_failure, unreadable};
use crate::lines::{LEVEL, Packer, not_packed};

/// Text that is packed at a time.
const STRETCH: usize = 64 * 1024;
/// What a reader fetches at a time.
const FETCH_BYTES: u64 = 256 * 1024;

/// Writes lines into the body of one object.
pub struct LineWriter {
    packer: Packer,
    text: Vec<u8>,
    added: usize,
}

/// Shows how much there is: lines are row values.
impl std::fmt::Debug for LineWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LineWriter({} bytes)", self.added)
    }
}

impl LineWriter {
    /// For the object of this key, which ends in `.zst`.
    ///
    /// # Errors
    /// `InvariantBroken` if zstd can't be set up.
    pub fn new(key: &str) -> Result<Self, Failure> {
        Ok(Self { packer: Packer::new(key, LEVEL)?, text: Vec::with_capacity(2 * STRETCH), added: 0 })
    }

    /// Bytes of text so far, before they are packed.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.added
    }

    /// Adds a line.
    ///
    /// # Errors
    /// `InvariantBroken` if the value has no JSON form.
    pub fn push<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        let before = self.text.len();
        serde_json::to_writer(&mut self.text, value)
            .map_err(|_| Failure::new(FailureName::InvariantBroken, "a line has no JSON form"))?;
        self.text.push(b'\n');
        self.added += self.text.len() - before;
        if self.text.len() >= STRETCH { self.pack() } else { Ok(()) }
    }

    fn pack(&mut self) -> Result<(), Failure> {
        self.packer.add(&self.text)?;
        self.text.clear();
        Ok(())
    }

    /// The object's body.
    ///
    /// # Errors
    /// `InvariantBroken` if it can't be packed.
    pub fn finish(mut self) -> Result<Bytes, Failure> {
        self.pack()?;
        self.packer.finish()
    }
}

/// Reads the lines of one object in order. Holds some megabytes, however large the object is.
pub struct LineReader<'a, T> {
    objects: &'a dyn Objects,
    key: String,
    /// Bytes fetched, of so many.
    at: u64,
    size: u64,
    decoder: zstd::stream::write::Decoder<'static, Vec<u8>>,
    text: Vec<u8>,
    /// Where in `text` the next line begins.
    next: usize,
    lines: usize,
    values: PhantomData<fn() -> T>,
}

/// Shows where it is: lines are row values.
impl<T> std::fmt::Debug for LineReader<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LineReader({}, line {})", self.key, self.lines)
    }
}

impl<'a, T: DeserializeOwned> LineReader<'a, T> {
    /// Opens an object that has to be there.
    ///
    /// # Errors
    /// `StorageUnavailable`; `InvariantBroken` if there is no such object.
    pub async fn open(objects: &'a dyn Objects, key: &str) -> Result<Self, Failure> {
        let meta = objects.head(key).await.map_err(storage_failure)?.ok_or_else(|| gone(key))?;
        let decoder = zstd::stream::write::Decoder::new(Vec::new()).map_err(|error| {
            Failure::because(FailureName::InvariantBroken, "there is no decoder of zstd", error)
        })?;
        let (key, text) = (key.to_owned(), Vec::new());
        Ok(Self {
            objects,
            key,
            at: 0,
            size: meta.size,
            decoder,
            text,
            next: 0,
            lines: 0,
            values: PhantomData,
        })
    }

    /// The next line; `None` after the last.
    ///
    /// # Errors
    /// `StorageUnavailable`; `ContractMismatch`, with the line's number, if a line does not hold a `T`.
    pub async fn next(&mut self) -> Result<Option<T>, Failure> {
        loop {
            let rest = self.text.get(self.next..).unwrap_or_default();
            let end = rest.iter().position(|byte| *byte == b'\n');
            let is_last = self.at >= self.size;
            let line = match end {
                Some(end) => rest.get(..end).unwrap_or_default(),
                None if is_last && rest.is_empty() => return Ok(None),
                None if is_last => rest,
                None => {
                    self.fetch().await?;
                    continue;
                }
            };
            self.next += line.len() + 1;
            self.lines += 1;
            if line.is_empty() {
                continue;
            }
            let failed = |cause| unreadable(&format!("{} (line {})", self.key, self.lines), cause);
            return decode(line).map(Some).map_err(failed);
        }
    }

    async fn fetch(&mut self) -> Result<(), Failure> {
        let end = self.size.min(self.at + FETCH_BYTES);
        let packed = self.objects.get_range(&self.key, self.at..end, None).await.map_err(storage_failure)?;
        let is_short = packed.len() as u64 != end - self.at;
        self.at = end;
        let unpacked = self.decoder.write_all(&packed).and_then(|()| self.decoder.flush());
        let unpacked = if is_short { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { unpacked };
        unpacked.map_err(|error| not_packed(&self.key, error))?;
        self.text.drain(..self.next.min(self.text.len()));
        self.next = 0;
        self.text.append(self.decoder.get_mut());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::port::Condition;
    use proptest::prelude::*;

    use super::*;
    use crate::MemoryObjects;
    use crate::lines::{decode_lines, encode_lines};

    const KEY: &str = "a.jsonl.zst";

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn read(body: Bytes) -> Result<Vec<(u64, String)>, Failure> {
        block_on(async {
            let objects = MemoryObjects::default();
            objects.put(KEY, body, Condition::Always).await.unwrap();
            let mut reader = LineReader::open(&objects, KEY).await?;
            let mut lines = Vec::new();
            while let Some(line) = reader.next().await? {
                lines.push(line);
            }
            Ok(lines)
        })
    }

    fn written(lines: &[(u64, String)]) -> Bytes {
        let mut writer = LineWriter::new(KEY).unwrap();
        lines.iter().for_each(|line| writer.push(line).unwrap());
        writer.finish().unwrap()
    }

    proptest! {
        #[test]
        fn reads_what_it_and_the_other_wrote(lines in prop::collection::vec((any::<u64>(), ".*"), 0..20)) {
            prop_assert_eq!(&read(written(&lines)).unwrap(), &lines);
            prop_assert_eq!(&read(encode_lines(KEY, &lines).unwrap()).unwrap(), &lines);
            prop_assert_eq!(&decode_lines::<(u64, String)>(KEY, &written(&lines)).unwrap(), &lines);
        }
    }

    #[test]
    fn more_than_a_fetch_is_read_in_order() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state
        };
        let lines: Vec<(u64, String)> = (0..200_000).map(|_| (random(), format!("{:x}", random()))).collect();
        let body = written(&lines);
        assert!(body.len() as u64 > 2 * FETCH_BYTES, "{}", body.len());
        assert_eq!(read(body.clone()).unwrap(), lines);
        assert_eq!(decode_lines::<(u64, String)>(KEY, &body).unwrap(), lines);
    }

    #[test]
    fn what_is_damaged_is_named() {
        let failure = read(Bytes::from_static(b"no zstd")).unwrap_err();
        assert_eq!(failure.name, FailureName::ContractMismatch);
        assert!(failure.message.contains(KEY), "{}", failure.message);
        let mut writer = LineWriter::new(KEY).unwrap();
        writer.push(&(1, "a")).unwrap();
        writer.push(&("ann@x.com", 2)).unwrap();
        let failure = read(writer.finish().unwrap()).unwrap_err().full_message();
        assert!(failure.contains("line 2") && !failure.contains("ann"), "{failure}");
    }
}
