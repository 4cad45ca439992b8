use serde_json::{Value, json};

use crate::harness::{Project, json as parsed};

fn told(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn loads_are_reckoned_with_what_is_assumed() {
    let project = Project::new();
    let text = told(&project.penstock(&["cost"]));
    for part in ["10000000 ", "100000000 ", "1000000000 ", "us-east-1", "1.00 % of the rows change"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    let one = told(&project.penstock(&["cost", "--rows-per-day", "5_000_000", "--changed", "3"]));
    assert!(one.contains("5000000 ") && one.contains("3.00 % of the rows change"), "{one}");
    assert!(!project.penstock(&["cost", "--rows-per-day", "many"]).status.success());
}

#[test]
fn a_run_costs_what_its_invocations_left() {
    let project = Project::new();
    project.write(
        "syncs/customers.yaml",
        "unload: customers\nconnection: crm\nobject: t\nmatch: { id: id }\nfields: { name: name }\n",
    );
    let none = json!({ "read": 0, "added": 0, "changed": 0, "removed": 0, "unchanged": 0, "accepted": 0, "skipped": 0, "rejected": 0, "unknown": 0 });
    let report = json!({
        "version": 1, "sync": "customers", "run": "r1", "status": "succeeded", "dry_run": false, "started_at": 0,
        "ended_at": 1, "counts": none, "api": { "requests": 0, "throttled": 0, "retried": 0 }, "rejections": [],
        "pending": 0, "null_counts": {}, "unload": "s3://b/u/", "folded": [],
    });
    project.write(".penstock/runs/customers/r1/report.json", &report.to_string());
    project.write(".penstock/runs/customers/r1/work/push.a.1024MB.60000ms.30r.20w", "");
    project.write(".penstock/runs/customers/r1/work/push.b.1024MB.40000ms.30r.20w", "");
    let result: Value = parsed(&project.penstock(&["cost", "syncs/customers.yaml", "--run", "r1", "--json"]));
    let usage = &result["runs"][0]["cost"]["usage"];
    let expected = json!({
        "invocations": 2, "gb_seconds": 100.0, "requests": { "reads": 60, "writes": 40 }, "transitions": 7,
    });
    assert_eq!(usage, &expected);
    assert!(result["runs"][0]["cost"]["dollars"].as_f64().unwrap() > 0.001);
    let unknown = project.penstock(&["cost", "syncs/customers.yaml", "--run", "r2"]);
    assert!(!unknown.status.success());
}
