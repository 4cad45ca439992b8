//! What a run tells people and programs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cost::Cost;
use crate::dead_letter::{DeadLetter, Stage};
use crate::failure::FailureName;
use crate::mapping_change::MappingChange;
use crate::outcome::Outcome;
use crate::time::Timestamp;
use crate::work::WorkByFunction;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Everything was accepted.
    Succeeded,
    /// Some rows were rejected, no more than the sync tolerates.
    SucceededWithRejections,
    /// There was nothing new.
    NothingToDo,
    /// It failed.
    Failed,
}

impl RunStatus {
    /// Whether the run has done what it should, also if that was nothing.
    #[must_use]
    pub const fn is_success(self) -> bool {
        match self {
            Self::Succeeded | Self::SucceededWithRejections | Self::NothingToDo => true,
            Self::Failed => false,
        }
    }
}

/// Counts of rows. `read` = `added` + `changed` + `unchanged` + rows rejected by diff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Rows of the unload.
    pub read: u64,
    /// Keys that the destination was not told of.
    pub added: u64,
    /// Keys whose row differs.
    pub changed: u64,
    /// Keys that are gone.
    pub removed: u64,
    /// Keys whose row is the same.
    pub unchanged: u64,
    /// Operations accepted.
    pub accepted: u64,
    /// Operations that had nothing to do.
    pub skipped: u64,
    /// Rows that could not be mapped or were refused.
    pub rejected: u64,
    /// Operations whose answer was lost.
    pub unknown: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self { read, added, changed, removed, unchanged, accepted, skipped, rejected, unknown } = other;
        self.read += read;
        self.added += added;
        self.changed += changed;
        self.removed += removed;
        self.unchanged += unchanged;
        self.accepted += accepted;
        self.skipped += skipped;
        self.rejected += rejected;
        self.unknown += unknown;
    }
}

impl Counts {
    /// Adds one outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Accepted { .. } => &mut self.accepted,
            Outcome::Skipped { .. } => &mut self.skipped,
            Outcome::Unknown { .. } => &mut self.unknown,
            Outcome::Rejected { .. } | Outcome::DeadLettered { .. } => &mut self.rejected,
        };
        *count += 1;
    }
}

/// Calls to the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiUsage {
    /// Requests sent (for a database: statements).
    pub requests: u64,
    /// Answers that said "too many".
    pub throttled: u64,
    /// Requests sent again.
    pub retried: u64,
    /// What the destination said last of the account's whole use, by everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountUse>,
}

/// How much of an account's requests is used, as the destination counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountUse {
    /// Requests that count at the moment: of the last 24 hours, say.
    pub used: u64,
    /// Requests that are allowed.
    pub allowed: u64,
}

impl AccountUse {
    /// Reads `used/allowed`, as in `api-usage=18/15000`. Of several, as Salesforce gives them for several apps, the first counts.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let first = text.split([',', ';']).next()?;
        let (used, allowed) = first.rsplit('=').next()?.trim().split_once('/')?;
        Some(Self { used: used.parse().ok()?, allowed: allowed.parse().ok()? })
    }
}

impl std::ops::AddAssign for ApiUsage {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.throttled += other.throttled;
        self.retried += other.retried;
        // Answers come in any order, and the use only grows within a run.
        self.account = match (self.account, other.account) {
            (Some(one), Some(two)) => Some(if two.used > one.used { two } else { one }),
            (one, two) => one.or(two),
        };
    }
}

/// Dead letters that say the same. Never holds a message: that may hold values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectionCount {
    /// What they complain of: the [error fingerprint](crate::complaint::fingerprint). Empty for the rest (see
    /// [`Rejections::counts`]), and in reports of earlier builds.
    #[serde(default)]
    pub fingerprint: String,
    /// Where they were rejected; none for the rest.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// The code.
    pub code: String,
    /// The field at fault, where known.
    pub field: Option<String>,
    /// How many.
    pub rows: u64,
}

/// Counts dead letters by what they complain of.
#[derive(Debug, Clone, Default)]
pub struct Rejections(BTreeMap<(Stage, String, Option<String>, String), u64>);

impl Rejections {
    /// So many groups are told apart; a report must stay small whatever a destination says.
    pub const MOST_GROUPS: usize = 50;
    /// The code under which the rest is summed.
    pub const REST: &'static str = "other";

    /// Adds one dead letter.
    pub fn add(&mut self, letter: &DeadLetter) {
        let group = (letter.stage, letter.code.clone(), letter.field.clone(), letter.fingerprint());
        *self.0.entry(group).or_default() += 1;
    }

    /// Adds a group; one without a stage is a rest that can't be told apart, and is passed over.
    pub fn add_group(&mut self, group: RejectionCount) {
        let RejectionCount { fingerprint, stage, code, field, rows } = group;
        if let Some(stage) = stage {
            *self.0.entry((stage, code, field, fingerprint)).or_default() += rows;
        }
    }

    /// Every group.
    #[must_use]
    pub fn groups(self) -> Vec<RejectionCount> {
        let group = |((stage, code, field, fingerprint), rows)| RejectionCount {
            fingerprint,
            stage: Some(stage),
            code,
            field,
            rows,
        };
        self.0.into_iter().map(group).collect()
    }

    /// The [`Rejections::MOST_GROUPS`] most frequent groups, most frequent first, and then the rest as one of code
    /// [`Rejections::REST`], without stage and fingerprint.
    #[must_use]
    pub fn counts(self) -> Vec<RejectionCount> {
        let mut counts = self.groups();
        // A stable sort: groups of the same size keep the order of their names.
        counts.sort_by_key(|count| std::cmp::Reverse(count.rows));
        let rest = counts.split_off(counts.len().min(Self::MOST_GROUPS));
        if !rest.is_empty() {
            let rows = rest.iter().map(|count| count.rows).sum();
            let (fingerprint, code) = (String::new(), Self::REST.to_owned());
            counts.push(RejectionCount { fingerprint, stage: None, code, field: None, rows });
        }
        counts
    }
}

/// The report of a run, as `runs/SYNC/RUN/report.json`. Holds no row value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// Format version.
    pub version: u32,
    /// The sync.
    pub sync: String,
    /// The run.
    pub run: String,
    /// How it ended.
    pub status: RunStatus,
    /// Whether nothing was sent on purpose.
    pub dry_run: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Rows.
    pub counts: Counts,
    /// Calls.
    pub api: ApiUsage,
    /// What the run's invocations did by now, by function; nothing on a laptop. Of the invocation that writes the report it has what
    /// came before: what follows is the writing itself, the lease that is given back, and its figures.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub work: WorkByFunction,
    /// What that costs; nothing on a laptop, and in reports of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Dead letters by what they complain of, most frequent first; see [`Rejections::counts`].
    pub rejections: Vec<RejectionCount>,
    /// Overlay entries that the next run sends again.
    pub pending: u64,
    /// What of mapping and hashing had changed since the run before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping_changes: Vec<MappingChange>,
    /// Null counts per mapped column.
    pub null_counts: BTreeMap<String, u64>,
    /// Where the unload lay.
    pub unload: String,
    /// Runs that had died and were folded into this one.
    pub folded: Vec<String>,
    /// The run that committed what this one, which had died, achieved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folded_into: Option<String>,
}

/// A sync's last run that succeeded and was no dry one, no replay and no limited one, as `state/SYNC/succeeded.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LastSuccess {
    /// Format version.
    pub version: u32,
    /// The run.
    pub run: String,
    /// When it ended.
    pub at: Timestamp,
}

impl LastSuccess {
    /// The format version that this build writes.
    pub const VERSION: u32 = 1;
}

/// How a run stands, as far as its objects say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStanding {
    /// It runs; only the platform can tell.
    Running,
    /// It has no report: it runs, or it has failed and no later run has folded it yet.
    Unfinished,
    /// Everything was accepted.
    Succeeded,
    /// Some rows were rejected, no more than the sync tolerates.
    SucceededWithRejections,
    /// There was nothing new.
    NothingToDo,
    /// It failed.
    Failed,
    /// It failed, and a later run committed what it achieved.
    Folded,
}

/// One line of a sync's list of runs. Holds no row value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSummary {
    /// The run.
    pub run: String,
    /// How it stands.
    pub status: RunStanding,
    /// The failure's name, where it failed and that is known.
    pub failure: Option<String>,
    /// The run that it was folded into.
    pub folded_into: Option<String>,
    /// Whether nothing was sent on purpose.
    pub dry_run: bool,
    /// When it started, where it came so far as to say.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Rows; for an unfinished run what its receipts say by now.
    pub counts: Counts,
    /// Rows that are sent again: by the next run, or for an unfinished run by a redrive.
    pub pending: u64,
    /// Calls.
    pub api: ApiUsage,
    /// What it cost, as its report says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

impl From<RunReport> for RunSummary {
    fn from(report: RunReport) -> Self {
        let status = match (report.status, &report.folded_into) {
            (RunStatus::Succeeded, _) => RunStanding::Succeeded,
            (RunStatus::SucceededWithRejections, _) => RunStanding::SucceededWithRejections,
            (RunStatus::NothingToDo, _) => RunStanding::NothingToDo,
            (RunStatus::Failed, None) => RunStanding::Failed,
            (RunStatus::Failed, Some(_)) => RunStanding::Folded,
        };
        // Finish reports but one failure; the reports of others are written by who folds them.
        let failure = (status == RunStanding::Failed).then(|| FailureName::RejectedTooMany.to_string());
        Self {
            run: report.run,
            status,
            failure,
            folded_into: report.folded_into,
            dry_run: report.dry_run,
            started_at: Some(report.started_at),
            ended_at: Some(report.ended_at),
            counts: report.counts,
            pending: report.pending,
            api: report.api,
            cost: report.cost,
        }
    }
}

impl RunReport {
    /// The format version that this build writes.
    pub const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn letter(code: &str, message: &str) -> DeadLetter {
        let letter = json!({
            "version": 1, "run": "r", "chunk": 0, "n": 0, "key": {}, "stage": "push", "code": code,
            "message": message, "attempts": 1
        });
        serde_json::from_str(&letter.to_string()).unwrap()
    }

    #[test]
    fn the_most_frequent_complaints_are_told_apart_and_the_rest_is_summed() {
        let mut rejections = Rejections::default();
        for (n, word) in ('a'..='z').flat_map(|a| ['x', 'y', 'z'].map(|b| format!("{a}{b}"))).enumerate() {
            for row in 0..=n {
                rejections.add(&letter("BAD", &format!("{word} of row {row}")));
            }
        }
        let counts = rejections.counts();
        let rows: Vec<u64> = counts.iter().map(|count| count.rows).collect();
        // 78 complaints of 1 to 78 rows.
        let expected: Vec<u64> = (29..=78).rev().chain([(1..=28).sum()]).collect();
        assert_eq!(rows, expected);
        let rest = counts.last().unwrap();
        assert_eq!((rest.code.as_str(), rest.stage, rest.fingerprint.as_str()), ("other", None, ""));
    }

    #[test]
    fn an_accounts_use_is_read_and_the_highest_counts() {
        let check = |text: &str, expected: Option<(u64, u64)>| {
            let read = AccountUse::read(text).map(|it| (it.used, it.allowed));
            assert_eq!(read, expected, "{text}");
        };
        check("api-usage=18/15000", Some((18, 15_000)));
        check("api-usage=25/5000; per-app-api-usage=17/250(appName=sample)", Some((25, 5_000)));
        check("3/4", Some((3, 4)));
        check("api-usage=18", None);
        let usage =
            |used| ApiUsage { account: AccountUse::read(&format!("{used}/9")), ..ApiUsage::default() };
        let mut sum = ApiUsage::default();
        for used in [3, 7, 5] {
            sum += usage(used);
        }
        assert_eq!(sum.account, Some(AccountUse { used: 7, allowed: 9 }));
        let old: ApiUsage = serde_json::from_str(r#"{"requests":1,"throttled":0,"retried":0}"#).unwrap();
        assert_eq!(old.account, None);
    }

    #[test]
    fn what_earlier_builds_wrote_can_be_read() {
        let count: RejectionCount =
            serde_json::from_value(json!({ "code": "BAD", "field": null, "rows": 3 })).unwrap();
        assert_eq!((count.stage, count.fingerprint.as_str()), (None, ""));
        let without = letter("BAD", "row 7 is bad");
        let with = DeadLetter { fingerprint: without.fingerprint(), ..letter("BAD", "row 8 is bad") };
        assert_eq!(without.fingerprint(), with.fingerprint());
        assert_eq!(with.fingerprint(), letter("BAD", "row 8 is bad").fingerprint());
        let replay: crate::contract::Replay = serde_json::from_value(json!({ "code": "BAD" })).unwrap();
        assert_eq!(replay.fingerprint, None);
        let mode: crate::run_plan::DiffMode =
            serde_json::from_value(json!({ "replay": { "run": null, "code": "BAD" } })).unwrap();
        assert!(matches!(mode, crate::run_plan::DiffMode::Replay(replay) if replay.fingerprint.is_none()));
        let entry: crate::snapshot::OverlayEntry = serde_json::from_value(json!({
            "key": crate::Key::of(&[crate::key::KeyValue::Int(7)]), "accepted": null, "maybe_present": false,
            "intended": { "send": { "row_hash": 1 } }, "disposition": "rejected", "mapping_hash": 1, "run": "r"
        }))
        .unwrap();
        assert_eq!(entry.fingerprint, None);
    }
}
