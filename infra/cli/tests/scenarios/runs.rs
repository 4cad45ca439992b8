use penstock_twins::{Fault, Rule, Script, Twin, When};
use serde_json::Value;

use crate::harness::{customers, postgres_project};
use crate::hubspot::hubspot_project;

fn told(runs: &Value) -> Vec<(String, Value, Value, Value)> {
    let run = |run: &Value| {
        let status = run["status"].as_str().unwrap().to_owned();
        (status, run["failure"].clone(), run["counts"]["accepted"].clone(), run["pending"].clone())
    };
    runs.as_array().unwrap().iter().map(run).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_newest_first_with_what_became_of_them() {
    let (project, running) = hubspot_project().await;
    let connection = project.read("connections/hubspot.yaml");
    project.write("connections/hubspot.yaml", &format!("{connection}limits: {{ concurrency: 1 }}\n"));
    let sync = project.read("syncs/customers.yaml");
    project.write("syncs/customers.yaml", &format!("{sync}delivery: {{ chunk_rows: 100 }}\n"));
    assert_eq!(project.ask("runs", &[]), Value::Array(Vec::new()));
    project.run(&[]);
    let mut rows = customers(0..250);
    rows[3].email = Some("not an address".to_owned());
    project.unload("2026-01-01", &rows);
    project.run(&["--dry-run"]);
    let when = When { from: 3.try_into().ok(), ..When::default() };
    running.twin.set_faults(Script::new(vec![Rule { when, what: Fault::Unauthorized }]).unwrap());
    let failed = project.run(&[]);
    let held = running.twin.count("contacts");
    let left = 249 - held;
    let first_three = [
        ("failed".to_owned(), "DestinationUnauthorized".into(), held.into(), left.into()),
        ("succeeded".to_owned(), Value::Null, 0.into(), 0.into()),
        ("failed".to_owned(), "UnloadMissing".into(), 0.into(), 0.into()),
    ];
    let runs = project.ask("runs", &[]);
    assert_eq!(told(&runs), first_three, "{runs}");
    assert_eq!(runs[0]["api"]["requests"], failed["api"]["requests"]);
    assert_eq!((&runs[1]["dry_run"], &runs[0]["counts"]["rejected"]), (&true.into(), &1.into()), "{runs}");

    running.twin.set_faults(Script::default());
    let next = project.run(&[]);
    project.run(&[]);
    let runs = project.ask("runs", &[]);
    let expected = [
        ("nothing_to_do".to_owned(), Value::Null, 0.into(), 0.into()),
        ("succeeded".to_owned(), Value::Null, left.into(), 0.into()),
        ("folded".to_owned(), "DestinationUnauthorized".into(), held.into(), left.into()),
    ];
    assert_eq!(told(&runs)[..3], expected, "{runs}");
    assert_eq!(runs[2]["folded_into"], next["run_id"]);
    assert!(runs[2]["ended_at"].as_i64() >= runs[2]["started_at"].as_i64(), "{runs}");

    // What the objects say alone, as in a bucket: the failures before the plan are the platform's.
    std::fs::remove_dir_all(project.path(".penstock/executions")).unwrap();
    let runs = project.ask("runs", &[]);
    assert_eq!(told(&runs)[..3], expected, "{runs}");
    assert_eq!(runs.as_array().unwrap().len(), 4);

    let text = project.tell("runs", &[]);
    let into = next["run_id"].as_str().unwrap();
    for part in ["accepted", "nothing to do", "(dry run)", &format!("folded into {into}")] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[tokio::test]
async fn a_run_whose_rows_were_rejected_says_so_in_the_list() {
    let (project, table) = postgres_project("delivery: { tolerate_rejected: 10% }\n").await;
    table.execute("alter table $table add constraint small check (id < 8)").await;
    project.unload("2026-01-01", &customers(0..10));
    project.run(&[]);
    let runs = project.ask("runs", &[]);
    assert_eq!(told(&runs), [("failed".to_owned(), "RejectedTooMany".into(), 8.into(), 0.into())], "{runs}");
}
