//! The overlay of one key partition, as diff looks it up; and the object of entries that merely wait.
//!
//! A run that was cancelled leaves most of its changes as they were: nothing of them was sent, and nothing more is to be
//! said than that they wait. As JSON lines half a first sync of 100 million rows would be gigabytes; here an entry takes
//! its key and 10 to 18 bytes, both stored and in memory.
//!
//! | part | content |
//! |---|---|
//! | header | `PNOW`, version, entries (u32 each), mapping hash (u64), run (varint, text) |
//! | records | flags (u8), key (varint, bytes), intended row hash (u64) unless it is a removal, accepted hash (u64) if any |

use bytes::Bytes;
use penstock_model::Key;
use penstock_model::change::{ChangeKind, Previous};
use penstock_model::run_plan::partition_of;
use penstock_model::snapshot::{Disposition, Intended, OverlayEntry};
use xxhash_rust::xxh3::xxh3_128;

use crate::changes::ChangeRef;
use crate::format::{Cursor, FormatError, narrow, push_varint, wide};
use crate::key_order::{self, Ordered};

const MAGIC: [u8; 4] = *b"PNOW";
const VERSION: u32 = 1;
const ENTRIES_AT: usize = 8;
const REMOVE: u8 = 0x01;
const ACCEPTED: u8 = 0x10;
const MAYBE_PRESENT: u8 = 0x20;

/// Writes the object of entries that wait: changes of one run of which nothing was sent.
#[derive(Debug)]
pub struct WaitingWriter {
    body: Vec<u8>,
    entries: u32,
}

impl WaitingWriter {
    /// For changes that this run meant to send under this mapping.
    #[must_use]
    pub fn new(mapping_hash: u64, run: &str) -> Self {
        let mut body = Vec::new();
        body.extend_from_slice(&MAGIC);
        body.extend_from_slice(&VERSION.to_le_bytes());
        body.extend_from_slice(&0u32.to_le_bytes());
        body.extend_from_slice(&mapping_hash.to_le_bytes());
        push_varint(&mut body, wide(run.len()));
        body.extend_from_slice(run.as_bytes());
        Self { body, entries: 0 }
    }

    /// Takes a change. Rows that diff rejected leave no entry: what was known of their keys was carried over.
    pub fn push(&mut self, change: &ChangeRef<'_>) {
        let remove = match change.kind {
            ChangeKind::Added | ChangeKind::Changed => 0,
            ChangeKind::Removed => REMOVE,
            ChangeKind::DuplicateKey | ChangeKind::NullKey => return,
        };
        let accepted = if change.previous.accepted.is_some() { ACCEPTED } else { 0 };
        let maybe = if change.previous.maybe_present { MAYBE_PRESENT } else { 0 };
        self.body.push(remove | accepted | maybe);
        push_varint(&mut self.body, wide(change.key.len()));
        self.body.extend_from_slice(change.key);
        if remove == 0 {
            self.body.extend_from_slice(&change.row_hash.to_le_bytes());
        }
        if let Some(accepted) = change.previous.accepted {
            self.body.extend_from_slice(&accepted.to_le_bytes());
        }
        self.entries += 1;
    }

    /// How many entries there are.
    #[must_use]
    pub const fn entries(&self) -> u32 {
        self.entries
    }

    /// The object.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let place = self.body.iter_mut().skip(ENTRIES_AT);
        place.zip(self.entries.to_le_bytes()).for_each(|(place, byte)| *place = byte);
        Bytes::from(self.body)
    }
}

/// The overlay of one key partition, to be looked up in the order of keys.
#[derive(Default)]
pub struct Overlay {
    entries: Vec<OverlayEntry>,
    waiting: Vec<Waiting>,
    rows: Vec<Row>,
}

/// Shows how many there are: keys are row values.
impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Overlay({})", self.rows.len())
    }
}

/// One object of entries that wait.
struct Waiting {
    key: String,
    body: Bytes,
    mapping_hash: u64,
    run: String,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// The first half of the key hash.
    prefix: u64,
    /// 0: one of `entries`; else the number of the object, from 1.
    source: u32,
    /// The number in `entries`, or where the record stands in its object.
    at: u32,
}

impl Ordered for Row {
    fn prefix(&self) -> u64 {
        self.prefix
    }
}

/// One entry, borrowed. See [`OverlayEntry`].
#[derive(Clone, Copy)]
pub(crate) struct OverlayRef<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) previous: Previous,
    pub(crate) intended: Intended,
    pub(crate) disposition: Disposition,
    pub(crate) mapping_hash: u64,
    pub(crate) run: &'a str,
    pub(crate) code: Option<&'a str>,
    pub(crate) fingerprint: Option<&'a str>,
}

/// Shows what is to be done: a key is a row value.
impl std::fmt::Debug for OverlayRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OverlayRef({:?} {:?})", self.intended, self.disposition)
    }
}

impl OverlayRef<'_> {
    pub(crate) fn to_entry(self) -> OverlayEntry {
        OverlayEntry {
            key: Key::from_bytes(self.key.to_vec()),
            accepted: self.previous.accepted,
            maybe_present: self.previous.maybe_present,
            intended: self.intended,
            disposition: self.disposition,
            mapping_hash: self.mapping_hash,
            run: self.run.to_owned(),
            code: self.code.map(str::to_owned),
            fingerprint: self.fingerprint.map(str::to_owned),
        }
    }
}

impl<'a> From<&'a OverlayEntry> for OverlayRef<'a> {
    fn from(entry: &'a OverlayEntry) -> Self {
        Self {
            key: entry.key.as_bytes(),
            previous: entry.previous(),
            intended: entry.intended,
            disposition: entry.disposition,
            mapping_hash: entry.mapping_hash,
            run: &entry.run,
            code: entry.code.as_deref(),
            fingerprint: entry.fingerprint.as_deref(),
        }
    }
}

impl From<Vec<OverlayEntry>> for Overlay {
    fn from(entries: Vec<OverlayEntry>) -> Self {
        let mut overlay = Self::default();
        overlay.extend(entries);
        overlay
    }
}

impl Overlay {
    /// Adds entries, in any order.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = OverlayEntry>) {
        for entry in entries {
            let at = narrow(self.entries.len());
            self.rows.push(Row { prefix: key_order::prefix(entry.key.hash()), source: 0, at });
            self.entries.push(entry);
        }
    }

    /// Adds the entries of an object (`key` is its own, for errors) whose keys are of this partition of `partitions`.
    ///
    /// # Errors
    /// [`FormatError`] if the object is damaged or of another version.
    pub fn add_waiting(
        &mut self,
        key: &str,
        body: Bytes,
        partition: u32,
        partitions: u32,
    ) -> Result<(), FormatError> {
        let source = narrow(self.waiting.len()).saturating_add(1);
        let mut cursor = Cursor::new(key, 0, &body);
        let (entries, mapping_hash, run) = read_header(&mut cursor)?;
        let run = run.to_owned();
        for _ in 0..entries {
            let at = u32::try_from(cursor.at()).map_err(|_| cursor.damaged("it is too large"))?;
            let hash = xxh3_128(read_record(&mut cursor, mapping_hash, "")?.key);
            if partition_of(hash, partitions) == partition {
                self.rows.push(Row { prefix: key_order::prefix(hash), source, at });
            }
        }
        if !cursor.is_at_end() {
            return Err(cursor.damaged("it holds more than its header says"));
        }
        self.waiting.push(Waiting { key: key.to_owned(), body, mapping_hash, run });
        Ok(())
    }

    /// Puts the entries of one of `partitions` in the order of keys.
    pub(crate) fn sort(&mut self, partitions: u32) {
        let rows = std::mem::take(&mut self.rows);
        let key = |row: &Row| self.get(*row).map(|entry| entry.key);
        self.rows = key_order::sorted(rows, partitions, |a, b| key(a).cmp(&key(b)));
    }

    /// The entries with the first halves of their key hashes, in order once they are sorted.
    pub(crate) fn refs(&self) -> impl Iterator<Item = (u64, OverlayRef<'_>)> {
        self.rows.iter().filter_map(|row| Some((row.prefix, self.get(*row)?)))
    }

    fn get(&self, row: Row) -> Option<OverlayRef<'_>> {
        let Some(source) = row.source.checked_sub(1) else {
            return self.entries.get(row.at as usize).map(OverlayRef::from);
        };
        let Waiting { key, body, mapping_hash, run } = self.waiting.get(source as usize)?;
        let mut cursor = Cursor::new(key, u64::from(row.at), body.get(row.at as usize..)?);
        // It was read once, and is the same.
        read_record(&mut cursor, *mapping_hash, run).ok()
    }
}

/// How many entries wait in an object, and every one of them.
///
/// # Errors
/// [`FormatError`] if the object is damaged or of another version.
pub fn read_waiting(key: &str, body: &[u8]) -> Result<Vec<OverlayEntry>, FormatError> {
    let mut cursor = Cursor::new(key, 0, body);
    let (entries, mapping_hash, run) = read_header(&mut cursor)?;
    (0..entries).map(|_| Ok(read_record(&mut cursor, mapping_hash, run)?.to_entry())).collect()
}

fn read_header<'a>(cursor: &mut Cursor<'a>) -> Result<(u32, u64, &'a str), FormatError> {
    cursor.expect_format(MAGIC, VERSION)?;
    let (entries, mapping_hash) = (cursor.u32()?, cursor.u64()?);
    let run = std::str::from_utf8(cursor.block()?).map_err(|_| cursor.damaged("a run's name is no text"))?;
    Ok((entries, mapping_hash, run))
}

fn read_record<'a>(
    cursor: &mut Cursor<'a>,
    mapping_hash: u64,
    run: &'a str,
) -> Result<OverlayRef<'a>, FormatError> {
    let flags = cursor.u8()?;
    let key = cursor.block()?;
    let intended =
        if flags & REMOVE == 0 { Intended::Send { row_hash: cursor.u64()? } } else { Intended::Remove };
    let accepted = if flags & ACCEPTED == 0 { None } else { Some(cursor.u64()?) };
    Ok(OverlayRef {
        key,
        previous: Previous { accepted, maybe_present: flags & MAYBE_PRESENT != 0 },
        intended,
        disposition: Disposition::Pending,
        mapping_hash,
        run,
        code: None,
        fingerprint: None,
    })
}

#[cfg(test)]
mod tests {
    use penstock_model::change::{Change, Place};
    use penstock_model::key::KeyValue;
    use penstock_model::settle::{ChunkReached, Repeat, settle};
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        let kind = prop_oneof![
            Just(ChangeKind::Added),
            Just(ChangeKind::Changed),
            Just(ChangeKind::Removed),
            Just(ChangeKind::DuplicateKey),
            Just(ChangeKind::NullKey),
        ];
        (kind, any::<i64>(), any::<u64>(), any::<Option<u64>>(), any::<bool>()).prop_map(
            |(kind, key, row_hash, accepted, maybe_present)| Change {
                kind,
                key: Key::of(&[KeyValue::Int(key.into())]),
                place: Place { split: 0, row: 0 },
                row_hash: if kind == ChangeKind::Removed { 0 } else { row_hash },
                previous: Previous { accepted, maybe_present },
            },
        )
    }

    fn written(changes: &[Change]) -> Bytes {
        let mut writer = WaitingWriter::new(7, "r1");
        changes.iter().for_each(|change| writer.push(&ChangeRef::from(change)));
        writer.finish()
    }

    proptest! {
        #[test]
        fn what_waits_is_what_settling_a_change_that_was_never_sent_leaves(
            changes in prop::collection::vec(change(), 0..40), bits in 0u32..3,
        ) {
            let body = written(&changes);
            let expected: Vec<OverlayEntry> = changes
                .iter()
                .filter_map(|change| settle(change, None, ChunkReached::Never, Repeat::Safe, 7, "r1"))
                .collect();
            prop_assert_eq!(&read_waiting("w", &body).unwrap(), &expected);

            let partitions = 1 << bits;
            let mut found = Vec::new();
            for partition in 0..partitions {
                let mut overlay = Overlay::default();
                overlay.add_waiting("w", body.clone(), partition, partitions).unwrap();
                overlay.sort(partitions);
                found.extend(overlay.refs().map(|(_, entry)| entry.to_entry()));
            }
            let mut expected = expected;
            let order = |entry: &OverlayEntry| (entry.key.hash() >> 64, entry.key.clone(), format!("{entry:?}"));
            expected.sort_by_key(order);
            found.sort_by_key(order);
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn damage_is_an_error_or_harmless_but_no_panic(
            changes in prop::collection::vec(change(), 0..20), at in any::<prop::sample::Index>(), byte: u8,
        ) {
            let mut body = written(&changes).to_vec();
            let at = at.index(body.len());
            body[at] = byte;
            let mut overlay = Overlay::default();
            if overlay.add_waiting("w", Bytes::from(body), 0, 1).is_ok() {
                overlay.sort(1);
                prop_assert_eq!(overlay.refs().count(), overlay.rows.len());
            }
        }
    }

    #[test]
    fn an_object_of_another_version_or_kind_is_named() {
        let mut body = written(&[]).to_vec();
        body[4] = 2;
        let error = read_waiting("w", &body).unwrap_err();
        assert!(matches!(error, FormatError::Version { found: 2, known: 1, .. }), "{error}");
        let error = read_waiting("w", b"{\"key\":1}").unwrap_err();
        assert!(error.to_string().starts_with("object w is damaged"), "{error}");
    }
}
