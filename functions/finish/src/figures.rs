//! A run's figures as metrics.

use penstock_lambda_kit::metrics::{Metric, Unit};
use penstock_model::report::RunReport;

/// What CloudWatch is told of a run that has ended. Alarms of the template go by these names.
pub(crate) fn metrics(report: &RunReport) -> Vec<Metric> {
    let (counts, api) = (&report.counts, &report.api);
    let count = |name, value| Metric { name, unit: Unit::Count, value };
    let took = report.started_at.until(report.ended_at).as_millis();
    vec![
        count("RowsRead", counts.read),
        count("RowsAccepted", counts.accepted),
        count("RowsSkipped", counts.skipped),
        // Each of them is a dead letter.
        count("RowsRejected", counts.rejected),
        count("RowsUnknown", counts.unknown),
        count("RowsPending", report.pending),
        count("Requests", api.requests),
        count("Throttled", api.throttled),
        count("Retried", api.retried),
        Metric { name: "Duration", unit: Unit::Milliseconds, value: u64::try_from(took).unwrap_or(u64::MAX) },
    ]
}
