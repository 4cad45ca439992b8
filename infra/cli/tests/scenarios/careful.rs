//! Before much is sent: one harmless call, and one row.

use penstock_twins::Twin;
use serde_json::Value;

use crate::harness::{Project, counts, customers, json, postgres_project};
use crate::hubspot::hubspot_project;

fn tested(project: &Project, file: &str) -> (bool, Value) {
    let output = project.penstock(&["test", file, "--json"]);
    (output.status.success(), json(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_proven_without_a_row() {
    let (project, running) = hubspot_project().await;
    for file in ["connections/hubspot.yaml", "syncs/customers.yaml"] {
        let (good, shown) = tested(&project, file);
        assert!(good && shown["verdict"] == "accepted", "{shown}");
        assert!(shown["request"].as_str().unwrap().contains("/contacts?limit=1"), "{shown}");
    }
    project.write("connections/token", "wrong\n");
    let (good, shown) = tested(&project, "connections/hubspot.yaml");
    assert!(!good && shown["verdict"] == "unauthorized", "{shown}");
    assert!(shown["said"].as_str().unwrap().starts_with("EXPIRED_AUTHENTICATION"), "{shown}");
    assert_eq!(running.twin.journal().applied().len(), 0);
    let plain = project.penstock(&["test", "connections/hubspot.yaml"]);
    let text = String::from_utf8(plain.stdout).unwrap();
    assert!(text.contains("hubspot: unauthorized") && !text.contains("wrong"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_asked_what_may_be_done_with_the_table() {
    let (project, table) = postgres_project("on_removed: delete\n").await;
    project.unload("2026-01-01", &customers(0..1));
    let (good, shown) = tested(&project, "connections/postgres.yaml");
    assert!(good && shown["said"].as_str().unwrap().starts_with("signed in as"), "{shown}");
    let (good, shown) = tested(&project, "syncs/customers.yaml");
    assert!(good && shown["said"].as_str().unwrap().contains(&table.name), "{shown}");
    table.execute("alter table $table drop column balance").await;
    let output = project.penstock(&["test", "syncs/customers.yaml"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("balance"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_is_sent_and_shown_and_the_others_stay_pending() {
    let (project, running) = hubspot_project().await;
    project.unload("2026-01-01", &customers(0..30));
    let shown = project.tell("run", &["--limit", "1"]);
    for part in [
        "> POST http",
        "/contacts/batch/upsert",
        "> authorization: (hidden)",
        "\"customer_id\"",
        "< 200 after",
    ] {
        assert!(shown.contains(part), "{part} is missing: {shown}");
    }
    assert!(!shown.contains("pat-test"), "{shown}");
    assert_eq!(running.twin.count("contacts"), 1);
    // What was accepted is committed; the rest waits, and is not sent twice.
    let next = project.run(&[]);
    assert_eq!(counts(&next), "read 30, added 29, unchanged 1, accepted 29", "{next}");
    assert_eq!(running.twin.count("contacts"), 30);
    assert!(running.twin.journal().writes_per_key("contacts").values().all(|writes| *writes == 1));
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_for_rows_that_are_appended() {
    let (project, table) = postgres_project("mode: append\n").await;
    project.unload("2026-01-01", &customers(0..10));
    let first = project.run(&["--limit", "2"]);
    assert_eq!(first["counts"]["accepted"], 2, "{first}");
    assert_eq!(table.rows().await.len(), 2);
    let second = project.run(&[]);
    assert_eq!(second["counts"]["accepted"], 8, "{second}");
    assert_eq!(table.rows().await.len(), 10);
}
