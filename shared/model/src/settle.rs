//! From a change and what became of it to what the next run must know. The heart of "nothing is lost".

use crate::change::{Change, ChangeKind, Previous};
use crate::outcome::Outcome;
use crate::snapshot::{Disposition, Intended, OverlayEntry};

/// Whether a push ever began on the chunk, so that a change without a receipt may have been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkReached {
    /// No push began: nothing of it was sent.
    Never,
    /// A push began: what has no receipt may have been sent.
    Attempted,
}

/// Whether an operation may be sent again when its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It says the same twice: an upsert by key, a deletion.
    Safe,
    /// It would be done twice: an append, a create without a key.
    Unsafe,
}

/// The overlay entry that a change leaves behind; `None` if snapshot and destination agree on the key.
///
/// `outcome` is the merged outcome of all attempts, or what transform decided; `None` if there is no witness. The
/// entry's error fingerprint is left to whoever knows the dead letter.
#[must_use]
pub fn settle(
    change: &Change,
    outcome: Option<&Outcome>,
    reached: ChunkReached,
    repeat: Repeat,
    mapping_hash: u64,
    run: &str,
) -> Option<OverlayEntry> {
    let intended = match change.kind {
        ChangeKind::Added | ChangeKind::Changed => Intended::Send { row_hash: change.row_hash },
        ChangeKind::Removed => Intended::Remove,
        // Diff has carried over what was known of the key.
        ChangeKind::DuplicateKey | ChangeKind::NullKey => return None,
    };
    let entry = |previous: Previous, disposition: Disposition, code: Option<&str>| {
        Some(OverlayEntry {
            key: change.key.clone(),
            accepted: previous.accepted,
            maybe_present: previous.maybe_present,
            intended,
            disposition,
            mapping_hash,
            run: run.to_owned(),
            code: code.map(str::to_owned),
            fingerprint: None,
        })
    };
    let in_doubt = Previous { accepted: None, maybe_present: true };
    let repeatable = match repeat {
        Repeat::Safe => Disposition::Pending,
        Repeat::Unsafe => Disposition::Unrepeatable,
    };
    match outcome {
        Some(Outcome::Accepted { .. } | Outcome::Skipped { .. }) => None,
        Some(Outcome::Rejected { code, .. }) => entry(change.previous, Disposition::Rejected, Some(code)),
        Some(Outcome::DeadLettered { why }) => entry(in_doubt, Disposition::Rejected, Some(why)),
        Some(Outcome::Unknown { .. }) => entry(in_doubt, repeatable, None),
        None => match reached {
            ChunkReached::Never => entry(change.previous, Disposition::Pending, None),
            // What can't be repeated has an intent, and an intent without a receipt arrives here as unknown:
            // without one it was not sent.
            ChunkReached::Attempted => match repeat {
                Repeat::Safe => entry(in_doubt, Disposition::Pending, None),
                Repeat::Unsafe => entry(change.previous, Disposition::Pending, None),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use crate::change::Place;
    use crate::key::KeyValue;
    use crate::outcome::SkipReason;

    fn change(kind: ChangeKind) -> Change {
        Change {
            kind,
            key: Key::of(&[KeyValue::Int(7)]),
            place: Place { split: 0, row: 0 },
            row_hash: 2,
            previous: Previous { accepted: Some(1), maybe_present: false },
        }
    }

    #[test]
    fn what_a_change_leaves_behind() {
        use ChunkReached::{Attempted, Never};
        use Disposition::{Pending, Rejected, Unrepeatable};
        use Repeat::{Safe, Unsafe};
        let unknown = || Some(Outcome::Unknown { why: "timeout".into() });
        let cases = [
            (Some(Outcome::accepted()), Attempted, Safe, None),
            (Some(Outcome::Skipped { why: SkipReason::Missing }), Attempted, Safe, None),
            (Some(Outcome::rejected("BAD", "bad")), Attempted, Safe, Some((Some(1), false, Rejected))),
            (unknown(), Attempted, Safe, Some((None, true, Pending))),
            (unknown(), Attempted, Unsafe, Some((None, true, Unrepeatable))),
            (None, Never, Safe, Some((Some(1), false, Pending))),
            (None, Attempted, Safe, Some((None, true, Pending))),
            (None, Attempted, Unsafe, Some((Some(1), false, Pending))),
            (
                Some(Outcome::DeadLettered { why: "Sandbox.Timedout".into() }),
                Attempted,
                Safe,
                Some((None, true, Rejected)),
            ),
        ];
        for (outcome, reached, repeat, expected) in cases {
            for kind in [ChangeKind::Changed, ChangeKind::Removed] {
                let entry = settle(&change(kind), outcome.as_ref(), reached, repeat, 9, "r1");
                let seen = entry.map(|e| (e.accepted, e.maybe_present, e.disposition));
                assert_eq!(seen, expected, "{outcome:?} {reached:?} {repeat:?} {kind:?}");
            }
        }
    }
}
