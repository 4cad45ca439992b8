//! A chunk's operations as `transform` leaves them for `push`: a line for each change, its parts divided by tabs, the
//! whole packed by zstd.
//!
//! ```text
//! upsert <tab> 0 <tab> {"customer_id":7} <tab> {"email":"a@x"} <tab> <tab> {"name":"Ann"}    kind, n, key, match, id, fields
//!                                      … <tab> {"phone":"123"} <tab> {"company":"acme"}      if empty, look-ups: only if there are any
//! rejected <tab> {"n":1,"key":{"customer_id":8},"stage":"transform", …}
//! skipped <tab> {"n":2,"why":"exists"}
//! ```
//!
//! JSON without white space between its parts holds neither a tab nor a line's end, so that a line is cut where they stand: no row is
//! parsed between its mapping and its request. A tenth of a first run's time went into that.

use std::io::Read as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use penstock_model::decode::decode_text;
use penstock_model::json::Json;
use penstock_model::operation::{Asks, Operation, OperationKind, SkippedRow, Transformed};
use penstock_model::port::{Condition, Objects, Put};
use penstock_model::{Failure, FailureName};
use serde::Serialize;

use crate::failure::{storage_failure, unreadable};
use crate::lines::{Packer, not_packed};

/// Faster than zstd's regular levels, for a fifth more bytes: an operation is read once, soon after.
const LEVEL: i32 = -3;
/// Bytes of lines that are packed or unpacked at a time: a chunk's text as a whole, of some megabytes, would be fresh memory each time.
const STRETCH: usize = 64 * 1024;
const REJECTED: &str = "rejected";
const SKIPPED: &str = "skipped";

/// Packs a chunk's operations as they come, and writes them once they are all there.
#[must_use]
pub struct Writer<'a> {
    key: &'a str,
    packer: Packer,
    text: Vec<u8>,
    rows: u32,
}

impl<'a> Writer<'a> {
    /// For the object of this key.
    ///
    /// # Errors
    /// `InvariantBroken` if zstd can't be set up.
    pub fn new(key: &'a str) -> Result<Self, Failure> {
        let (packer, text) = (Packer::new(key, LEVEL)?, Vec::with_capacity(2 * STRETCH));
        Ok(Self { key, packer, text, rows: 0 })
    }

    /// Adds rows, in the order of their changes.
    ///
    /// # Errors
    /// `InvariantBroken` if a row was not mapped to JSON on one line.
    pub fn add(&mut self, rows: &[Transformed]) -> Result<(), Failure> {
        for row in rows {
            match row {
                Transformed::Operation(operation) => push_operation(&mut self.text, operation)?,
                Transformed::Rejected(rejected) => push_other(&mut self.text, REJECTED, rejected)?,
                Transformed::Skipped(skipped) => push_other(&mut self.text, SKIPPED, skipped)?,
            }
            self.text.push(b'\n');
            self.rows += 1;
            if self.text.len() >= STRETCH {
                self.packer.add(&self.text)?;
                self.text.clear();
            }
        }
        Ok(())
    }

    /// How many rows there are by now.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.rows
    }

    /// Writes the object, unless it is there already: operations follow from the chunk.
    ///
    /// # Errors
    /// `StorageUnavailable`.
    pub async fn put(self, objects: &dyn Objects) -> Result<(), Failure> {
        let key = self.key;
        let body = self.finish()?;
        match objects.put(key, body, Condition::IfAbsent).await.map_err(storage_failure)? {
            Put::Written(_) | Put::Refused => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Bytes, Failure> {
        self.packer.add(&self.text)?;
        self.packer.finish()
    }
}

impl std::fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({} rows)", self.rows)
    }
}

/// Reads a chunk's operations; `None` if there are none yet.
///
/// # Errors
/// As [`read_each`].
pub async fn read(objects: &dyn Objects, key: &str) -> Result<Option<Vec<Transformed>>, Failure> {
    let mut rows = Vec::new();
    Ok(read_each(objects, key, |row| rows.push(row)).await?.then_some(rows))
}

/// Shows a chunk's operations to `each`, in their order; false if there are none yet.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch`, with the line's number, if a line is not what this version writes.
pub async fn read_each(
    objects: &dyn Objects,
    key: &str,
    each: impl FnMut(Transformed),
) -> Result<bool, Failure> {
    let Some((body, _)) = objects.get(key).await.map_err(storage_failure)? else { return Ok(false) };
    decode(key, &body, each)?;
    Ok(true)
}

fn push_operation(text: &mut Vec<u8>, operation: &Operation) -> Result<(), Failure> {
    let Operation { n, kind, key, matched, id, fields, asks } = operation;
    text.extend_from_slice(kind.name().as_bytes());
    text.push(b'\t');
    push_json(text, n)?;
    push_part(text, key)?;
    push_part(text, matched)?;
    text.push(b'\t');
    if let Some(id) = id {
        push_json(text, id)?;
    }
    push_part(text, fields)?;
    let Some(asks) = asks else { return Ok(()) };
    for part in [&asks.if_empty, &asks.lookups] {
        match part {
            Some(part) => push_part(text, part)?,
            None => text.push(b'\t'),
        }
    }
    Ok(())
}

fn push_part(text: &mut Vec<u8>, json: &Json) -> Result<(), Failure> {
    let part = json.get().as_bytes();
    // Without branches many bytes are looked at together.
    if !part.iter().fold(true, |fits, byte| fits & (*byte >= 0x20)) {
        return Err(Failure::new(FailureName::InvariantBroken, "an operation does not fit into a line"));
    }
    text.push(b'\t');
    text.extend_from_slice(part);
    Ok(())
}

fn push_other(text: &mut Vec<u8>, what: &str, value: &impl Serialize) -> Result<(), Failure> {
    text.extend_from_slice(what.as_bytes());
    text.push(b'\t');
    push_json(text, value)
}

fn push_json(text: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(text, value)
        .map_err(|_| Failure::new(FailureName::InvariantBroken, "an operation has no JSON form"))
}

fn decode(key: &str, body: &[u8], mut each: impl FnMut(Transformed)) -> Result<(), Failure> {
    let failed = |line: usize| {
        let message = format!("object {key} (line {line}) is not what this version can read");
        Failure::new(FailureName::ContractMismatch, message)
    };
    let mut unpacked =
        zstd::stream::read::Decoder::with_buffer(body).map_err(|error| not_packed(key, error))?;
    let (mut rows, mut rest, mut ended) = (0, Vec::new(), false);
    while !ended {
        let mut text = Vec::with_capacity(rest.len() + STRETCH);
        text.append(&mut rest);
        // A stretch ends with a line, however long that is.
        while !ended {
            let from = text.len();
            let read = unpacked.by_ref().take(STRETCH as u64).read_to_end(&mut text);
            ended = read.map_err(|error| not_packed(key, error))? < STRETCH;
            let new = text.get(from..).unwrap_or_default();
            if let Some(last) = new.iter().rposition(|byte| *byte == b'\n').filter(|_| !ended) {
                rest = text.split_off(from + last + 1);
                break;
            }
        }
        let stretch = Arc::new(String::from_utf8(text).map_err(|error| {
            let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            failed(rows + valid.iter().filter(|byte| **byte == b'\n').count() + 1)
        })?);
        let mut start = 0;
        for line in stretch.lines() {
            rows += 1;
            each(decode_line(key, rows, line, (&stretch, start))?.ok_or_else(|| failed(rows))?);
            start += line.len() + 1;
        }
    }
    Ok(())
}

/// `None` if a part is missing or of another kind. `place` is the text that the line is of, and where it begins there.
fn decode_line(
    key: &str,
    number: usize,
    line: &str,
    place: (&Arc<String>, usize),
) -> Result<Option<Transformed>, Failure> {
    let Some((what, rest)) = line.split_once('\t') else { return Ok(None) };
    let failed = |cause| unreadable(&format!("{key} (line {number})"), cause);
    match what {
        REJECTED => decode_text(rest).map(|rejected| Some(Transformed::Rejected(rejected))).map_err(failed),
        SKIPPED => {
            decode_text::<SkippedRow>(rest).map(|skipped| Some(Transformed::Skipped(skipped))).map_err(failed)
        }
        kind => Ok(OperationKind::from_name(kind)
            .and_then(|kind| decode_operation(kind, rest, (place.0, place.1 + what.len() + 1)))
            .map(Transformed::Operation)),
    }
}

fn decode_operation(
    kind: OperationKind,
    rest: &str,
    (text, start): (&Arc<String>, usize),
) -> Option<Operation> {
    let mut at = start;
    let mut parts = rest.split('\t').map(|part| {
        let range = at..at + part.len();
        at = range.end + 1;
        (part, range)
    });
    let n = parts.next()?.0.parse().ok()?;
    let json = |(part, range): (&str, Range<usize>)| (!part.is_empty()).then(|| Json::shared(text, range));
    let (key, matched) = (json(parts.next()?)?, json(parts.next()?)?);
    let id = match parts.next()?.0 {
        "" => None,
        id => Some(serde_json::from_str(id).ok()?),
    };
    let fields = json(parts.next()?)?;
    let asks = match parts.next() {
        None => None,
        Some(if_empty) => Some(Box::new(Asks { if_empty: json(if_empty), lookups: json(parts.next()?) })),
    };
    parts.next().is_none().then_some(Operation { n, kind, key, matched, id, fields, asks })
}

#[cfg(test)]
mod tests {
    use penstock_model::dead_letter::Stage;
    use penstock_model::operation::RejectedRecord;
    use penstock_model::outcome::SkipReason;
    use proptest::prelude::*;

    use super::*;
    use crate::MemoryObjects;

    const KEY: &str = "operations/000007.tsv.zst";

    fn json(text: &str) -> Json {
        Json::of(&serde_json::json!({ "text": text })).unwrap()
    }

    fn words(row: &Transformed) -> String {
        match row {
            Transformed::Operation(Operation { n, kind, key, matched, id, fields, asks }) => {
                let asks = asks.as_ref().map(|asks| serde_json::to_string(asks).unwrap());
                format!("{n} {kind:?} {} {} {id:?} {} {asks:?}", key.get(), matched.get(), fields.get())
            }
            Transformed::Rejected(rejected) => serde_json::to_string(rejected).unwrap(),
            Transformed::Skipped(skipped) => serde_json::to_string(skipped).unwrap(),
        }
    }

    fn row(n: u32, choice: u8, text: &str, id: Option<String>) -> Transformed {
        let kind = match choice {
            0 => {
                let (code, message) = ("match_empty".to_owned(), text.to_owned());
                let field = id;
                return Transformed::Rejected(RejectedRecord {
                    n,
                    key: json(text),
                    stage: Stage::Diff,
                    code,
                    message,
                    field,
                });
            }
            1 => return Transformed::Skipped(SkippedRow { n, why: SkipReason::Exists }),
            2 => OperationKind::Upsert,
            3 => OperationKind::Create,
            4 => OperationKind::Update,
            5 => OperationKind::Delete,
            6 => OperationKind::Archive,
            7 => OperationKind::Clear,
            _ => OperationKind::Append,
        };
        Transformed::Operation(Operation {
            n,
            kind,
            key: json(text),
            matched: json("m"),
            id,
            fields: json(text),
            asks: match n % 4 {
                0 => None,
                1 => Some(Asks { if_empty: Some(json("e")), lookups: None }),
                2 => Some(Asks { if_empty: None, lookups: Some(json("l")) }),
                _ => Some(Asks { if_empty: Some(json("e")), lookups: Some(json(text)) }),
            }
            .map(Box::new),
        })
    }

    fn written_and_read(rows: &[Transformed]) -> Vec<Transformed> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let objects = MemoryObjects::default();
            let mut writer = Writer::new(KEY).unwrap();
            writer.add(rows).unwrap();
            writer.put(&objects).await.unwrap();
            read(&objects, KEY).await.unwrap().unwrap()
        })
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(rows in prop::collection::vec((any::<u32>(), 0..9_u8, any::<String>(), any::<Option<String>>()), 0..20)) {
            let rows: Vec<_> = rows.into_iter().map(|(n, choice, text, id)| row(n, choice, &text, id)).collect();
            let read = written_and_read(&rows);
            prop_assert_eq!(read.iter().map(words).collect::<Vec<_>>(), rows.iter().map(words).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_line_it_can_t_read_is_named_without_its_content() {
        let good = "upsert\t0\t{}\t{}\t\t{}\n";
        for bad in [
            "upsert\t1\t{}\t{}\t\t{}\ttim@acme.com",
            "upsert\t1\t{}\t{}\t\t{}\t\t\ttim@acme.com",
            "upsert\t1\t{}\t{}\t\t",
            "upsert\ttim@acme.com\t{}\t{}\t\t{}",
            "merge\t1\t{}\t{}\t\t{\"email\":\"tim@acme.com\"}",
            "rejected\t{\"n\":\"tim@acme.com\"}",
            "tim@acme.com",
        ] {
            let mut packer = Packer::new(KEY, LEVEL).unwrap();
            packer.add(format!("{good}{bad}\n").as_bytes()).unwrap();
            let body = packer.finish().unwrap();
            let failure = decode(KEY, &body, drop).err().unwrap();
            assert_eq!(failure.name, FailureName::ContractMismatch, "{bad}");
            let message = failure.full_message();
            assert!(message.contains("000007.tsv.zst (line 2)") && !message.contains("tim"), "{message}");
        }
    }

    #[test]
    fn lines_are_whole_wherever_a_stretch_ends() {
        // The longest line is longer than two stretches.
        for length in [10, 1_000, STRETCH / 2 - 40, STRETCH, 2 * STRETCH + 7] {
            let rows: Vec<_> = (0..200).map(|n| row(n, 2, &"ä".repeat(length / 2), None)).collect();
            let read = written_and_read(&rows);
            assert!(read.iter().map(words).eq(rows.iter().map(words)), "{length}");
        }
    }

    #[test]
    fn what_is_no_text_is_named_by_its_line() {
        let mut packer = Packer::new(KEY, LEVEL).unwrap();
        packer.add(b"upsert\t0\t{}\t{}\t\t{}\nupsert\t1\t{}\t{}\t\t{\"a\":\"\xff\"}\n").unwrap();
        let failure = decode(KEY, &packer.finish().unwrap(), drop).unwrap_err();
        assert_eq!(failure.name, FailureName::ContractMismatch);
        assert!(failure.full_message().contains("000007.tsv.zst (line 2)"), "{}", failure.full_message());
    }

    #[test]
    fn a_row_that_would_break_a_line_is_not_written() {
        let mut broken = row(0, 2, "", None);
        if let Transformed::Operation(operation) = &mut broken {
            operation.fields = Json::written("{\n}".to_owned());
        }
        assert_eq!(Writer::new(KEY).unwrap().add(&[broken]).unwrap_err().name, FailureName::InvariantBroken);
    }
}
