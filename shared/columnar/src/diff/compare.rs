//! The merge of the three inputs, key by key.

use std::cmp::Ordering;

use penstock_model::Key;
use penstock_model::change::{Change, ChangeKind, Place, Previous, REMOVED};
use penstock_model::contract::Replay;
use penstock_model::run_plan::DiffMode;
use penstock_model::snapshot::{Disposition, Intended, OverlayEntry};

use super::{DiffInput, DiffOutput, Removals, Rules};
use crate::changes::ChangeRef;
use crate::fingerprint::FingerprintRef;
use crate::format::{FormatError, narrow};
use crate::overlay::OverlayRef;
use crate::snapshot::SnapshotRow;

pub(super) fn compare<'a>(
    input: &'a DiffInput,
    rules: Rules<'_>,
    next: &mut impl FnMut(SnapshotRow<'_>),
) -> Result<DiffOutput<'a>, FormatError> {
    let mut differ = Differ { rules, next, output: DiffOutput::default() };
    let mut rows = input.current.refs();
    let mut row = rows.next();
    let mut snapshot = input.snapshot.cursor()?;
    let mut overlay = input.overlay.refs().peekable();
    loop {
        // Nearly every key is in both of these, and is compared once.
        let (today, before) = (row.map(|row| At(row.prefix, row.key)), snapshot.head());
        let known = before.map(|(prefix, row)| At(prefix, row.key));
        let order = match (today, known) {
            (Some(today), Some(known)) => today.cmp(&known),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let first_of_both = if order.is_le() { today } else { known };
        let entry = overlay.peek().map(|(prefix, entry)| At(*prefix, entry.key));
        let at = match (first_of_both, entry) {
            (Some(of_both), Some(entry)) => of_both.min(entry),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => break,
        };
        let is_of_both = entry.is_none() || first_of_both == Some(at);
        let before = before.filter(|_| is_of_both && order.is_ge());
        let mut known = Known { key: at.1, snapshot: before.map(|(_, row)| row), overlay: None };
        while let Some((_, entry)) = overlay.next_if(|(prefix, entry)| at.is(*prefix, entry.key)) {
            known.overlay = Some(entry);
        }
        let first = row.filter(|_| is_of_both && order.is_le());
        if first.is_some() {
            row = rows.next();
        }
        let second = row.filter(|row| first.is_some() && at.is(row.prefix, row.key));
        differ.key(first, second, known);
        if second.is_some() {
            row = rows.next();
            while let Some(another) = row.filter(|row| at.is(row.prefix, row.key)) {
                differ.reject_one_of_several(another);
                row = rows.next();
            }
        }
        if before.is_some() {
            snapshot.advance()?;
        }
    }
    Ok(differ.output)
}

/// A key in the order of the inputs: the first half of its hash, then its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At<'a>(u64, &'a [u8]);

impl At<'_> {
    fn is(&self, prefix: u64, key: &[u8]) -> bool {
        self.0 == prefix && self.1 == key
    }
}

/// What is known of one key from before.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    key: &'a [u8],
    snapshot: Option<SnapshotRow<'a>>,
    overlay: Option<OverlayRef<'a>>,
}

impl Known<'_> {
    fn previous(&self) -> Previous {
        match self.overlay {
            Some(entry) => entry.previous,
            None => Previous { accepted: self.snapshot.map(|row| row.row_hash), maybe_present: false },
        }
    }

    /// Whether an earlier run meant to do this very thing, and could not.
    fn waits_for(&self, is_this: impl Fn(Intended) -> bool) -> bool {
        self.overlay.is_some_and(|entry| {
            let is_waiting = match entry.disposition {
                Disposition::Pending => true,
                Disposition::Rejected | Disposition::Unrepeatable => false,
            };
            is_waiting && is_this(entry.intended)
        })
    }

    /// Whether the destination has the record, or may have it.
    fn is_present(&self) -> bool {
        let Previous { accepted, maybe_present } = self.previous();
        accepted.is_some() || maybe_present
    }
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The destination is in step, or taken to be.
    InStep,
    /// What is known stays as it is.
    Stays,
    /// The destination is told.
    Told,
}

/// A row's hash by the columns that what is known was computed over, and by today's.
#[derive(Debug, Clone, Copy)]
struct Hashes {
    compare: u64,
    today: u64,
}

impl Hashes {
    /// The same row's hash by today's columns; a hash of any other row is no row's of today either way.
    const fn renew(self, hash: u64) -> u64 {
        if hash == self.compare { self.today } else { hash }
    }
}

struct Differ<'a, 'r, F> {
    rules: Rules<'r>,
    /// Takes the next snapshot's rows.
    next: &'r mut F,
    output: DiffOutput<'a>,
}

impl<'a, F: FnMut(SnapshotRow<'_>)> Differ<'a, '_, F> {
    /// One key: its first two rows, and what is known of it.
    fn key(
        &mut self,
        first: Option<FingerprintRef<'a>>,
        second: Option<FingerprintRef<'a>>,
        known: Known<'_>,
    ) {
        self.output.counts.before += u64::from(known.is_present());
        let Some(first) = first else { return self.gone(known) };
        if first.has_null {
            self.reject(ChangeKind::NullKey, first);
        } else if second.is_none() {
            return self.one(first, known);
        } else {
            self.reject(ChangeKind::DuplicateKey, first);
            self.keep(known, None);
        }
        if let Some(second) = second {
            self.reject_one_of_several(second);
        }
    }

    fn reject_one_of_several(&mut self, row: FingerprintRef<'a>) {
        self.reject(if row.has_null { ChangeKind::NullKey } else { ChangeKind::DuplicateKey }, row);
    }

    fn reject(&mut self, kind: ChangeKind, row: FingerprintRef<'a>) {
        let counts = &mut self.output.counts;
        counts.read += 1;
        match kind {
            ChangeKind::NullKey => counts.null_keys += 1,
            ChangeKind::DuplicateKey | ChangeKind::Added | ChangeKind::Changed | ChangeKind::Removed => {
                counts.duplicate_keys += 1;
            }
        }
        match self.rules.mode {
            // They were rejected by the run before, and are not what a replay is about.
            DiffMode::Replay { .. } => {}
            DiffMode::Changes | DiffMode::Full | DiffMode::Baseline | DiffMode::Rebuild => {
                self.change(kind, row, Previous::default());
            }
        }
    }

    fn one(&mut self, row: FingerprintRef<'a>, known: Known<'_>) {
        self.output.counts.read += 1;
        let hashes = Hashes { compare: row.compare_hash.unwrap_or(row.row_hash), today: row.row_hash };
        match self.verdict_on_row(hashes.compare, &known) {
            Verdict::InStep => {
                self.output.counts.unchanged += 1;
                self.remember(row);
            }
            Verdict::Stays => {
                self.output.counts.unchanged += 1;
                self.keep(known, Some(hashes));
            }
            Verdict::Told => {
                let kind = if known.is_present() { ChangeKind::Changed } else { ChangeKind::Added };
                match kind {
                    ChangeKind::Added => self.output.counts.added += 1,
                    ChangeKind::Changed
                    | ChangeKind::Removed
                    | ChangeKind::DuplicateKey
                    | ChangeKind::NullKey => {
                        let is_rebuilt = *self.rules.mode == DiffMode::Rebuild;
                        // What waits can't be compared then: whatever the row is now, it was let through before.
                        let same = |row_hash| is_rebuilt || row_hash == hashes.compare;
                        let resumes = known.waits_for(|intended| match intended {
                            Intended::Send { row_hash } => same(row_hash),
                            Intended::Remove => false,
                        });
                        self.output.counts.changed += 1;
                        self.output.counts.resumed_changes += u64::from(resumes);
                    }
                }
                self.change(kind, row, known.previous());
                self.remember(row);
            }
        }
    }

    fn verdict_on_row(&self, compare: u64, known: &Known<'_>) -> Verdict {
        match self.rules.mode {
            DiffMode::Baseline => Verdict::InStep,
            DiffMode::Full => Verdict::Told,
            DiffMode::Replay(replay) => replayed(known, replay),
            DiffMode::Rebuild => rebuilt(known),
            DiffMode::Changes => {
                let in_step = Previous { accepted: Some(compare), maybe_present: false };
                let same = Intended::Send { row_hash: compare };
                if known.previous() == in_step {
                    Verdict::InStep
                } else if known.overlay.is_some_and(|entry| entry.intended == same && self.rests(&entry)) {
                    Verdict::Stays
                } else {
                    Verdict::Told
                }
            }
        }
    }

    fn gone(&mut self, known: Known<'_>) {
        let verdict = match self.rules.mode {
            DiffMode::Baseline => Verdict::InStep,
            DiffMode::Full => Verdict::Told,
            DiffMode::Replay(replay) => replayed(&known, replay),
            DiffMode::Changes | DiffMode::Rebuild => {
                let stays = |entry: OverlayRef<'_>| entry.intended == Intended::Remove && self.rests(&entry);
                if known.overlay.is_some_and(stays) { Verdict::Stays } else { Verdict::Told }
            }
        };
        match verdict {
            Verdict::InStep => {}
            Verdict::Stays => self.keep(known, None),
            Verdict::Told if known.is_present() => self.remove(known),
            // The destination never had it: there is nothing to remove, or to remember.
            Verdict::Told => {}
        }
    }

    /// Whether an entry is left alone as long as its row does not change.
    fn rests(&self, entry: &OverlayRef<'_>) -> bool {
        match entry.disposition {
            Disposition::Pending => false,
            Disposition::Rejected => entry.mapping_hash == self.rules.mapping_hash,
            // Another mapping does not make it safe to say it twice.
            Disposition::Unrepeatable => true,
        }
    }

    fn show_next(&mut self, row: SnapshotRow<'_>) {
        self.output.counts.snapshot_rows += 1;
        (self.next)(row);
    }

    /// The next snapshot has the row as it is today.
    fn remember(&mut self, row: FingerprintRef<'a>) {
        self.show_next(SnapshotRow { key: row.key, row_hash: row.row_hash });
    }

    /// What is known of a key stays, by today's columns where the row at hand tells how.
    fn keep(&mut self, known: Known<'_>, hashes: Option<Hashes>) {
        let renew = |hash| hashes.map_or(hash, |hashes| hashes.renew(hash));
        if let Some(row) = known.snapshot {
            self.show_next(SnapshotRow { row_hash: renew(row.row_hash), ..row });
        }
        if let Some(entry) = known.overlay {
            // In a rebuild today's row is taken to be the one that was meant, so that its next change is seen.
            let meant = |row_hash| match hashes.filter(|_| *self.rules.mode == DiffMode::Rebuild) {
                Some(hashes) => hashes.today,
                None => renew(row_hash),
            };
            let intended = match entry.intended {
                Intended::Send { row_hash } => Intended::Send { row_hash: meant(row_hash) },
                Intended::Remove => Intended::Remove,
            };
            let accepted = entry.previous.accepted.map(renew);
            self.output.carried.push(OverlayEntry { intended, accepted, ..entry.to_entry() });
        }
    }

    fn change(&mut self, kind: ChangeKind, row: FingerprintRef<'a>, previous: Previous) {
        self.output.changes.push(ChangeRef {
            kind,
            key: row.key,
            place: row.place,
            row_hash: row.row_hash,
            previous,
        });
    }

    fn remove(&mut self, known: Known<'_>) {
        self.output.counts.removed += 1;
        self.output.counts.resumed_removals +=
            u64::from(known.waits_for(|intended| intended == Intended::Remove));
        match self.rules.removals {
            Removals::CountOnly => {}
            Removals::Emit => {
                let row = narrow(self.output.removals.len());
                self.output.removals.push(Change {
                    kind: ChangeKind::Removed,
                    key: Key::from_bytes(known.key.to_vec()),
                    place: Place { split: REMOVED, row },
                    row_hash: 0,
                    previous: known.previous(),
                });
            }
        }
    }
}

/// What becomes of a row that can't be compared with what is known of its key.
fn rebuilt(known: &Known<'_>) -> Verdict {
    let Some(entry) = known.overlay else {
        return if known.is_present() { Verdict::InStep } else { Verdict::Told };
    };
    match (entry.disposition, entry.intended) {
        // It may have been carried out, and nobody can tell whether the row has changed since.
        (Disposition::Unrepeatable, Intended::Send { .. }) => Verdict::Stays,
        (Disposition::Unrepeatable, Intended::Remove) | (Disposition::Pending | Disposition::Rejected, _) => {
            Verdict::Told
        }
    }
}

/// Whether a replay takes the key up: it was rejected, and is meant.
fn replayed(known: &Known<'_>, replay: &Replay) -> Verdict {
    let is_meant = |entry: OverlayRef<'_>| {
        let is_rejected = match entry.disposition {
            Disposition::Pending => false,
            Disposition::Rejected | Disposition::Unrepeatable => true,
        };
        is_rejected && replay.means(entry.run, entry.code, entry.fingerprint)
    };
    if known.overlay.is_some_and(is_meant) { Verdict::Told } else { Verdict::Stays }
}
