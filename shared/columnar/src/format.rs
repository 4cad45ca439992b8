//! The bytes of Penstock's own objects: writing them, reading them by ranges, and what may be wrong with them.

use std::ops::Range;

use bytes::Bytes;
use penstock_model::port::{ObjectError, Objects};
use penstock_model::{Failure, FailureName};

/// One of Penstock's own objects can't be read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The object's bytes are not what its format says.
    #[error("object {key} is damaged at offset {offset}: {what}")]
    Damaged {
        /// The object's key.
        key: String,
        /// Where reading stopped, in bytes from the object's start.
        offset: u64,
        /// What was found to be wrong.
        what: &'static str,
    },
    /// The object was written in a format that this build does not know.
    #[error("object {key} is of format {found}, and this build reads format {known}")]
    Version {
        /// The object's key.
        key: String,
        /// The format found.
        found: u32,
        /// The format that this build reads.
        known: u32,
    },
    /// A Parquet object can't be read or written.
    #[error("object {key} can't be handled as Parquet")]
    Parquet {
        /// The object's key; what is being written has none yet.
        key: String,
        /// Why.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// The object could not be fetched.
    #[error(transparent)]
    Objects(#[from] ObjectError),
}

impl FormatError {
    /// The failure name for the run.
    #[must_use]
    pub const fn name(&self) -> FailureName {
        match self {
            Self::Damaged { .. } | Self::Parquet { .. } => FailureName::InvariantBroken,
            Self::Version { .. } => FailureName::ContractMismatch,
            Self::Objects(error) => error.name(),
        }
    }

    /// The failure where only one chunk is concerned: damage then costs that chunk and not the run.
    #[must_use]
    pub fn of_chunk(self) -> Failure {
        let name = match &self {
            Self::Damaged { .. } | Self::Parquet { .. } => FailureName::ChunkUnreadable,
            Self::Version { .. } | Self::Objects(_) => self.name(),
        };
        Failure::because(name, "a chunk's changes can't be read", self)
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        Self::because(error.name(), "state of the sync can't be read", error)
    }
}

/// Appends a number in seven-bit groups, the lowest first.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// A position as a number of the formats.
pub(crate) const fn wide(len: usize) -> u64 {
    len as u64
}

/// A count as a number of the formats. No object of ours holds as many things as would not fit.
pub(crate) fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Reads a stretch of an object from front to back.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    key: &'a str,
    base: u64,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// `bytes` stand at `base` in the object `key`.
    pub(crate) const fn new(key: &'a str, base: u64, bytes: &'a [u8]) -> Self {
        Self { key, base, bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn damaged(&self, what: &'static str) -> FormatError {
        damaged(self.key, self.base + wide(self.at), what)
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let block = self
            .at
            .checked_add(len)
            .and_then(|end| self.bytes.get(self.at..end))
            .ok_or_else(|| self.damaged("it ends early"))?;
        self.at += len;
        Ok(block)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let block = self.take(N)?;
        block.try_into().map_err(|_| self.damaged("it ends early"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(|| self.damaged("it ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        // Most numbers are as short as that.
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            Some(_) | None => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0u64;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        for (byte, shift) in rest.iter().zip((0..64).step_by(7)) {
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.damaged(if self.is_at_end() { "it ends early" } else { "a number is too long" }))
    }

    #[inline]
    pub(crate) fn varint_u32(&mut self) -> Result<u32, FormatError> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.damaged("a number is too large"))
    }

    /// As many bytes as the number before them says.
    pub(crate) fn block(&mut self) -> Result<&'a [u8], FormatError> {
        let len = self.varint()?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// The format's mark and version.
    pub(crate) fn expect_format(&mut self, magic: [u8; 4], known: u32) -> Result<(), FormatError> {
        if self.array()? != magic {
            return Err(self.damaged("it is not of this kind"));
        }
        let found = self.u32()?;
        if found == known {
            Ok(())
        } else {
            Err(FormatError::Version { key: self.key.to_owned(), found, known })
        }
    }
}

pub(crate) fn damaged(key: &str, offset: u64, what: &'static str) -> FormatError {
    FormatError::Damaged { key: key.to_owned(), offset, what }
}

/// An object's bytes of this range.
pub(crate) async fn read_range(
    objects: &dyn Objects,
    key: &str,
    range: Range<u64>,
) -> Result<Bytes, FormatError> {
    let asked = range.end.saturating_sub(range.start);
    if asked == 0 {
        return Ok(Bytes::new());
    }
    let start = range.start;
    let bytes = objects.get_range(key, range, None).await?;
    if wide(bytes.len()) < asked {
        return Err(damaged(key, start + wide(bytes.len()), "it ends early"));
    }
    Ok(bytes)
}

/// A whole object.
pub(crate) async fn read_whole(objects: &dyn Objects, key: &str) -> Result<Bytes, FormatError> {
    let found = objects.get(key).await?;
    let (bytes, _) = found.ok_or_else(|| ObjectError::Missing { key: key.to_owned() })?;
    Ok(bytes)
}

/// An object whose beginning has been fetched: what lies in it costs no further request.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    objects: &'a dyn Objects,
    key: &'a str,
    head: Bytes,
}

impl<'a> Opened<'a> {
    /// Fetches the first `head` bytes, or all there are.
    pub(crate) async fn open(objects: &'a dyn Objects, key: &'a str, head: u64) -> Result<Self, FormatError> {
        let head = objects.get_range(key, 0..head, None).await?;
        Ok(Self { objects, key, head })
    }

    pub(crate) const fn key(&self) -> &'a str {
        self.key
    }

    pub(crate) fn head(&self) -> &Bytes {
        &self.head
    }

    /// The bytes of a range, from the beginning at hand or from the store.
    pub(crate) async fn range(&self, range: Range<u64>) -> Result<Bytes, FormatError> {
        let at_hand = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        match at_hand {
            Some((start, end)) if start <= end && end <= self.head.len() => Ok(self.head.slice(start..end)),
            Some(_) | None => read_range(self.objects, self.key, range).await,
        }
    }
}
