//! What a person sees of a run, and what a program gets.

use penstock_model::report::{ApiUsage, Counts, RunReport, RunStatus};
use serde::Serialize;

/// The one object that `--json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunResult {
    /// How the run ended.
    pub status: RunStatus,
    /// The run; empty if it never began.
    pub run_id: String,
    /// Why it failed.
    pub failure: Option<FailureShown>,
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
    /// The result of a run that has a report.
    #[must_use]
    pub fn of(report: &RunReport, failure: Option<FailureShown>, duration_ms: u64) -> Self {
        Self {
            status: if failure.is_some() { RunStatus::Failed } else { report.status },
            run_id: report.run.clone(),
            failure,
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
        if let Some(failure) = &self.failure {
            lines.push(format!("  failure     {}: {}", failure.name, failure.message));
        }
        lines.join("\n") + "\n"
    }
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
