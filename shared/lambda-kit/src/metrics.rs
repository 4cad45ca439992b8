//! Metrics in CloudWatch's Embedded Metric Format: a log line that CloudWatch also reads as metrics.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
//!
//! The crate for it, `metrics_cloudwatch_embedded`, is a registry of a whole process that gathers over time, keeps every
//! label it has seen and writes one set of dimensions a line. A run's figures are known at once, are told once, and are
//! wanted by sync and in sum; one line of JSON does that.

use std::io::Write as _;

use penstock_model::Timestamp;
use serde_json::{Map, Value, json};

/// The namespace of all metrics.
pub const NAMESPACE: &str = "Penstock";

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Milliseconds => "Milliseconds",
        }
    }
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, as alarms and dashboards know it.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// How many.
    pub value: u64,
}

/// Where metrics go: to standard output, which is the function's log, or nowhere.
#[derive(Debug, Clone)]
pub struct Metrics {
    stack: Option<String>,
}

impl Metrics {
    /// Metrics of this stack.
    #[must_use]
    pub fn of(stack: impl Into<String>) -> Self {
        Self { stack: Some(stack.into()) }
    }

    /// Metrics that are told to nobody, as on a laptop.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { stack: None }
    }

    /// Tells the figures of a run: by stack, and by stack and sync. The run stands beside them and is no dimension, since
    /// CloudWatch keeps, and charges for, each value of one.
    pub fn tell(&self, at: Timestamp, sync: &str, run: &str, metrics: &[Metric]) {
        self.write(at, &[&["stack"], &["stack", "sync"]], &[("sync", sync), ("run", run)], metrics);
    }

    /// Tells figures of the whole stack.
    pub fn tell_of_stack(&self, at: Timestamp, metrics: &[Metric]) {
        self.write(at, &[&["stack"]], &[], metrics);
    }

    fn write(&self, at: Timestamp, dimensions: &[&[&str]], about: &[(&str, &str)], metrics: &[Metric]) {
        let Some(stack) = &self.stack else { return };
        let line = line(stack, at, dimensions, about, metrics);
        // A line that can't be written can't be logged either.
        let mut out = std::io::stdout().lock();
        drop(out.write_all(line.as_bytes()));
    }
}

fn line(
    stack: &str,
    at: Timestamp,
    dimensions: &[&[&str]],
    about: &[(&str, &str)],
    metrics: &[Metric],
) -> String {
    let definitions: Vec<Value> =
        metrics.iter().map(|metric| json!({ "Name": metric.name, "Unit": metric.unit.name() })).collect();
    let mut members = Map::new();
    let directions = json!({
        "Timestamp": at.0,
        "CloudWatchMetrics": [{
            "Namespace": NAMESPACE,
            "Dimensions": dimensions,
            "Metrics": definitions,
        }],
    });
    members.insert("_aws".to_owned(), directions);
    for (name, value) in std::iter::once(&("stack", stack)).chain(about) {
        members.insert((*name).to_owned(), (*value).into());
    }
    members.extend(metrics.iter().map(|metric| (metric.name.to_owned(), metric.value.into())));
    format!("{}\n", Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_cloudwatch_reads() {
        let metrics = [
            Metric { name: "RowsAccepted", unit: Unit::Count, value: 7 },
            Metric { name: "Duration", unit: Unit::Milliseconds, value: 1_250 },
        ];
        let at = Timestamp(1_795_403_565_000);
        let about = [("sync", "customers"), ("run", "r1")];
        let told = line("penstock", at, &[&["stack"], &["stack", "sync"]], &about, &metrics);
        assert_eq!(told.matches('\n').count(), 1);
        let told: Value = serde_json::from_str(&told).unwrap();
        let expected = json!({
            "_aws": {
                "Timestamp": 1_795_403_565_000_i64,
                "CloudWatchMetrics": [{
                    "Namespace": "Penstock",
                    "Dimensions": [["stack"], ["stack", "sync"]],
                    "Metrics": [
                        { "Name": "RowsAccepted", "Unit": "Count" },
                        { "Name": "Duration", "Unit": "Milliseconds" },
                    ],
                }],
            },
            "stack": "penstock", "sync": "customers", "run": "r1", "RowsAccepted": 7, "Duration": 1_250,
        });
        assert_eq!(told, expected);
    }
}
