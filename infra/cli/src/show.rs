//! What a person sees of a run, and what a program gets.

use penstock_model::mapping_change::MappingChange;
use penstock_model::report::{ApiUsage, Counts, RunReport, RunStatus};
use serde::Serialize;

use crate::complaints::Complaint;

/// The one object that `--json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunResult {
    /// How the run ended.
    pub status: RunStatus,
    /// The run; empty if it never began.
    pub run_id: String,
    /// Why it failed.
    pub failure: Option<FailureShown>,
    /// Whether `penstock redrive` can carry it on once the cause is mended.
    pub redrivable: bool,
    /// What of mapping and hashing had changed since the run before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mapping_changes: Vec<MappingChange>,
    /// What most rejected rows complain of, most frequent first.
    pub rejections: Vec<Complaint>,
    /// Rows.
    pub counts: Counts,
    /// Calls.
    pub api: ApiUsage,
    /// How long it took.
    pub duration_ms: u64,
}

/// A failure, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureShown {
    /// The failure's name.
    pub name: String,
    /// What failed and what to do.
    pub message: String,
}

impl RunResult {
    /// So many kinds of rejections are shown at once.
    pub const MOST_REJECTIONS: usize = 3;

    /// The result of a run that has a report.
    #[must_use]
    pub fn of(report: &RunReport, failure: Option<FailureShown>, duration_ms: u64) -> Self {
        Self {
            status: if failure.is_some() { RunStatus::Failed } else { report.status },
            run_id: report.run.clone(),
            failure,
            // What has a report is committed.
            redrivable: false,
            mapping_changes: report.mapping_changes.clone(),
            rejections: Vec::new(),
            counts: report.counts,
            api: report.api,
            duration_ms,
        }
    }

    /// The result of what never became a run.
    #[must_use]
    pub fn not_begun(name: &str, message: String) -> Self {
        Self {
            status: RunStatus::Failed,
            run_id: String::new(),
            failure: Some(FailureShown { name: name.to_owned(), message }),
            redrivable: false,
            mapping_changes: Vec::new(),
            rejections: Vec::new(),
            counts: Counts::default(),
            api: ApiUsage::default(),
            duration_ms: 0,
        }
    }

    /// Whether the process ends with 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        match self.status {
            RunStatus::Succeeded | RunStatus::SucceededWithRejections | RunStatus::NothingToDo => {
                self.failure.is_none()
            }
            RunStatus::Failed => false,
        }
    }

    /// The result for a person.
    #[must_use]
    pub fn plain(&self) -> String {
        let headline = match self.status {
            RunStatus::Succeeded => "succeeded",
            RunStatus::SucceededWithRejections => "succeeded, with rejected rows",
            RunStatus::NothingToDo => "nothing to do: the destination has been told of this unload",
            RunStatus::Failed => "failed",
        };
        // What never became a run has nothing to count.
        if let (true, Some(failure)) = (self.run_id.is_empty(), &self.failure) {
            return format!("{headline}: {}\n{}\n", failure.name, failure.message);
        }
        let (counts, api) = (&self.counts, &self.api);
        let mut lines = vec![
            format!("{headline}  (run {}, {})", self.run_id, seconds(self.duration_ms)),
            format!(
                "  rows        {} read: {} added, {} changed, {} removed, {} unchanged",
                counts.read, counts.added, counts.changed, counts.removed, counts.unchanged
            ),
            format!(
                "  operations  {} accepted, {} skipped, {} rejected, {} unknown",
                counts.accepted, counts.skipped, counts.rejected, counts.unknown
            ),
            format!(
                "  API         {} calls, {} throttled, {} retried",
                api.requests, api.throttled, api.retried
            ),
        ];
        if let Some(account) = &api.account {
            lines.push(format!("  account     {} of {} calls used, by all", account.used, account.allowed));
        }
        if let Some(failure) = &self.failure {
            lines.push(format!("  failure     {}: {}", failure.name, failure.message));
        }
        let changes = self.mapping_changes.iter();
        lines.extend(changes.map(|change| format!("  changed     {change}")));
        lines.extend(self.rejections.iter().map(|rejection| format!("  rejected    {}", rejection.line())));
        lines.join("\n") + "\n"
    }
}

/// The head and the rows in columns as wide as their widest cell; the last column is not filled up.
#[must_use]
pub fn table<const N: usize>(head: &[String; N], rows: &[[String; N]]) -> Vec<String> {
    let all = || std::iter::once(head).chain(rows);
    let width = |n: usize| all().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|n| width(n).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    all().map(line).collect()
}

/// Milliseconds as seconds for people.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_the_members_that_are_documented() {
        let result = RunResult::not_begun("SyncInvalid", "bad".to_owned());
        insta::assert_json_snapshot!(result, @r###"
        {
          "status": "failed",
          "run_id": "",
          "failure": {
            "name": "SyncInvalid",
            "message": "bad"
          },
          "redrivable": false,
          "rejections": [],
          "counts": {
            "read": 0,
            "added": 0,
            "changed": 0,
            "removed": 0,
            "unchanged": 0,
            "accepted": 0,
            "skipped": 0,
            "rejected": 0,
            "unknown": 0
          },
          "api": {
            "requests": 0,
            "throttled": 0,
            "retried": 0
          },
          "duration_ms": 0
        }
        "###);
    }
}
