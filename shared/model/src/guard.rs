//! Limits that are checked before anything is sent.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::GuardName;
use crate::definition::{Guards, Limit};

/// What diff found in one key partition, or in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffCounts {
    /// Keys that the snapshot held (overlay included).
    pub before: u64,
    /// Rows of the unload.
    pub read: u64,
    /// Added keys.
    pub added: u64,
    /// Changed keys.
    pub changed: u64,
    /// Removed keys.
    pub removed: u64,
    /// Unchanged keys, those among them that stay rejected.
    pub unchanged: u64,
    /// Rows whose key is not unique.
    pub duplicate_keys: u64,
    /// Rows whose key is null.
    pub null_keys: u64,
    /// Rows of the next snapshot partition.
    pub snapshot_rows: u64,
    /// Overlay entries carried over.
    pub carried: u64,
    /// Of `changed`: keys to which an earlier run already meant to send this very row. It has passed the guards.
    #[serde(default)]
    pub resumed_changes: u64,
    /// Of `removed`: keys that an earlier run already meant to remove.
    #[serde(default)]
    pub resumed_removals: u64,
}

impl std::ops::AddAssign for DiffCounts {
    fn add_assign(&mut self, other: Self) {
        self.before += other.before;
        self.read += other.read;
        self.added += other.added;
        self.changed += other.changed;
        self.removed += other.removed;
        self.unchanged += other.unchanged;
        self.duplicate_keys += other.duplicate_keys;
        self.null_keys += other.null_keys;
        self.snapshot_rows += other.snapshot_rows;
        self.carried += other.carried;
        self.resumed_changes += other.resumed_changes;
        self.resumed_removals += other.resumed_removals;
    }
}

/// A guard that was exceeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tripped {
    /// Which.
    pub guard: GuardName,
    /// The figures, and how to allow it once.
    pub message: String,
}

/// Null counts of two snapshots.
#[derive(Debug, Clone, Copy)]
pub struct Nulls<'a> {
    /// Per column, at the last commit.
    pub before: &'a BTreeMap<String, u64>,
    /// Rows at the last commit.
    pub rows_before: u64,
    /// Per column, now.
    pub now: &'a BTreeMap<String, u64>,
    /// Rows now.
    pub rows_now: u64,
}

/// Every guard that the counts exceed and that `allow` does not pass over. A first run (nothing before) trips none.
#[must_use]
pub fn tripped(
    guards: &Guards,
    counts: &DiffCounts,
    nulls: Option<Nulls<'_>>,
    allow: &[GuardName],
) -> Vec<Tripped> {
    let mut tripped = Vec::new();
    if counts.before == 0 {
        return tripped;
    }
    let mut check = |guard: GuardName, limit: Option<Limit>, count: u64, what: &str| {
        let Some(limit) = limit else { return };
        if limit.is_exceeded_by(count, counts.before) && !allow.contains(&guard) {
            tripped.push(Tripped {
                guard,
                message: format!(
                    "{count} of {} rows would be {what} ({}), more than guards.{} allows ({limit}); nothing was sent. \
                     If that is right, allow it once with --allow {}",
                    counts.before,
                    share(count, counts.before),
                    name(guard),
                    name(guard),
                ),
            });
        }
    };
    // A run that died has left work that was let through before: it would keep the next one from carrying it on.
    let removed = counts.removed.saturating_sub(counts.resumed_removals);
    let changed = counts.changed.saturating_sub(counts.resumed_changes);
    check(GuardName::MaxRemoved, guards.max_removed, removed, "removed");
    check(GuardName::MaxChanged, guards.max_changed, changed, "changed");
    if let (Some(limit), Some(nulls)) = (guards.max_null_rise, nulls)
        && !allow.contains(&GuardName::MaxNullRise)
    {
        tripped.extend(null_floods(limit, nulls));
    }
    tripped
}

fn null_floods(limit: Limit, nulls: Nulls<'_>) -> Vec<Tripped> {
    let mut tripped = Vec::new();
    for (column, &now) in nulls.now {
        let Some(&before) = nulls.before.get(column) else { continue };
        // The nulls that there would be, had the share stayed the same.
        let expected = u128::from(before) * u128::from(nulls.rows_now) / u128::from(nulls.rows_before.max(1));
        let rise = now.saturating_sub(u64::try_from(expected).unwrap_or(u64::MAX));
        if limit.is_exceeded_by(rise, nulls.rows_now) {
            tripped.push(Tripped {
                guard: GuardName::MaxNullRise,
                message: format!(
                    "column {column} is null in {now} of {} rows, {rise} more than its share at the last run; \
                     guards.max_null_rise allows {limit}; nothing was sent. If that is right, allow it once with --allow max_null_rise",
                    nulls.rows_now,
                ),
            });
        }
    }
    tripped
}

/// The guard's name as users write it.
#[must_use]
pub const fn name(guard: GuardName) -> &'static str {
    match guard {
        GuardName::MaxRemoved => "max_removed",
        GuardName::MaxChanged => "max_changed",
        GuardName::MaxNullRise => "max_null_rise",
        GuardName::OlderUnload => "older_unload",
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to people with two digits")]
fn share(count: u64, total: u64) -> String {
    format!("{:.2}%", count as f64 * 100.0 / total.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(removed: u64, changed: u64) -> DiffCounts {
        DiffCounts { before: 1000, removed, changed, ..DiffCounts::default() }
    }

    #[test]
    fn a_guard_trips_above_its_limit_and_not_at_it() {
        let guards = Guards {
            max_removed: Some(Limit::Percent(2.0)),
            max_changed: Some(Limit::Rows(50)),
            max_null_rise: None,
        };
        let cases: [(u64, u64, &[GuardName], &[GuardName]); 5] = [
            (20, 50, &[], &[]),
            (21, 50, &[], &[GuardName::MaxRemoved]),
            (21, 51, &[], &[GuardName::MaxRemoved, GuardName::MaxChanged]),
            (21, 51, &[GuardName::MaxRemoved], &[GuardName::MaxChanged]),
            (0, 0, &[], &[]),
        ];
        for (removed, changed, allow, expected) in cases {
            let names: Vec<_> = tripped(&guards, &counts(removed, changed), None, allow)
                .into_iter()
                .map(|t| t.guard)
                .collect();
            assert_eq!(names, expected, "{removed} removed, {changed} changed");
        }
    }

    #[test]
    fn what_an_earlier_run_meant_to_do_is_not_counted_again() {
        let guards = Guards {
            max_removed: Some(Limit::Percent(2.0)),
            max_changed: Some(Limit::Percent(5.0)),
            max_null_rise: None,
        };
        let resumed = DiffCounts { resumed_changes: 900, resumed_removals: 300, ..counts(320, 950) };
        assert_eq!(tripped(&guards, &resumed, None, &[]), Vec::new());
        let more = DiffCounts { resumed_changes: 899, ..resumed };
        assert_eq!(tripped(&guards, &more, None, &[]).len(), 1);
    }

    #[test]
    fn the_message_says_the_figures_and_how_to_allow_it() {
        let guards = Guards { max_removed: Some(Limit::Percent(2.0)), ..Guards::default() };
        let message = tripped(&guards, &counts(25, 0), None, &[]).remove(0).message;
        for part in ["25 of 1000 rows", "2.50%", "2%", "--allow max_removed"] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
    }

    #[test]
    fn a_flood_of_nulls_is_measured_against_the_share_before() {
        let guards = Guards { max_null_rise: Some(Limit::Percent(10.0)), ..Guards::default() };
        let before = BTreeMap::from([("email".to_owned(), 100)]);
        for (now, trips) in [(200, false), (400, false), (401, true)] {
            let now = BTreeMap::from([("email".to_owned(), now)]);
            let nulls = Nulls { before: &before, rows_before: 1000, now: &now, rows_now: 2000 };
            assert_eq!(!tripped(&guards, &counts(0, 0), Some(nulls), &[]).is_empty(), trips, "{now:?}");
        }
    }
}
