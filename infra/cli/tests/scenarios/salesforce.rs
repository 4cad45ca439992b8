//! Salesforce: first by bulk jobs, then by collections, signed in to by OAuth.

use std::collections::BTreeMap;

use penstock_twins::{JobWait, RunningTwin, SalesforceTwin, SalesforceTwinBuilder, Twin};
use serde_json::json;

use crate::harness::{Customer, Project, counts, customers};

const CLIENT: &str = r#"{"client_id": "twin-app", "client_secret": "twin-secret"}"#;

async fn salesforce_project(builder: SalesforceTwinBuilder) -> (Project, RunningTwin<SalesforceTwin>) {
    let project = Project::new();
    let running = builder.job_times(JobWait::Polls(0), JobWait::Polls(0)).start().await.unwrap();
    connect(&project, &running, "client_credentials", CLIENT);
    project.write(
        "syncs/customers.yaml",
        "unload: customers\nconnection: salesforce\nobject: Contact\nmatch: { External_Id__c: id }\non_removed: delete\n\
         fields:\n  Email: email\n  LastName: name\n  Lifetime_Value__c: balance\n",
    );
    (project, running)
}

fn connect(project: &Project, running: &RunningTwin<SalesforceTwin>, auth: &str, secret: &str) {
    let address = running.address();
    project.write(
        "connections/salesforce.yaml",
        &format!("connector: salesforce\naddress: \"{address}\"\nauth: {{ {auth}: {{ secret: {{ file: org }} }} }}\n"),
    );
    project.write("connections/org", secret);
}

/// The contacts' names by external id.
fn contacts(running: &RunningTwin<SalesforceTwin>) -> BTreeMap<String, String> {
    let records = running.twin.records("Contact");
    records
        .into_values()
        .map(|record| (record["External_Id__c"].clone(), record["LastName"].clone()))
        .collect()
}

fn expected(rows: &[Customer]) -> BTreeMap<String, String> {
    rows.iter().map(|row| (row.id.unwrap().to_string(), row.name.clone().unwrap())).collect()
}

fn requests(running: &RunningTwin<SalesforceTwin>, part: &str) -> u64 {
    let journal = running.twin.journal();
    journal
        .requests_by_path()
        .iter()
        .filter(|((path, _), _)| path.contains(part))
        .map(|(_, count)| count)
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_day_goes_as_a_bulk_job_the_next_by_collections_and_removed_rows_by_their_ids() {
    let (project, running) = salesforce_project(SalesforceTwin::builder().daily_limit(15_000)).await;
    project.unload("2026-01-01", &customers(0..2_500));
    let first = project.run(&[]);
    assert_eq!(counts(&first), "read 2500, added 2500, accepted 2500", "{first}");
    assert_eq!(contacts(&running), expected(&customers(0..2_500)));
    assert_eq!((requests(&running, "/batches"), requests(&running, "/composite/")), (1, 0));
    assert!(running.twin.jobs().is_empty());
    assert_eq!(first["api"]["account"], json!({"used": 8, "allowed": 15_000}), "{first}");

    let mut next = customers(7..2_520);
    next[0] = next[0].clone().named("changed");
    next[1].email = Some("no address".to_owned());
    project.unload("2026-01-02", &next);
    let second = project.run(&[]);
    assert_eq!(
        counts(&second),
        "read 2513, added 20, changed 2, removed 7, unchanged 2491, accepted 28, rejected 1",
        "{second}"
    );
    assert_eq!(contacts(&running), expected(&next));
    assert_eq!(requests(&running, "/batches"), 1, "so few go by collections");
    let letters = project.penstock(&["dead-letters", "syncs/customers.yaml", "--json"]);
    let letter: serde_json::Value = serde_json::from_slice(&letters.stdout).unwrap();
    assert_eq!(
        (&letter["key"]["id"], &letter["code"]),
        (&json!(8), &json!("INVALID_EMAIL_ADDRESS")),
        "{letter}"
    );
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_changes_the_match_value_stays_one_record() {
    let (project, running) = salesforce_project(SalesforceTwin::builder()).await;
    let sync = project.read("syncs/customers.yaml").replace("External_Id__c: id", "External_Id__c: email");
    project.write("syncs/customers.yaml", &sync.replace("  Email: email\n", "  Phone: email\n"));
    project.unload("2026-01-01", &customers(0..10));
    let first = project.run(&[]);
    assert_eq!(counts(&first), "read 10, added 10, accepted 10", "{first}");
    let ids: Vec<String> = running.twin.records("Contact").into_keys().collect();
    for (day, email) in [("2026-01-02", "new@example.com"), ("2026-01-03", "newer@example.com")] {
        let mut next = customers(0..10);
        next[3].email = Some(email.to_owned());
        project.unload(day, &next);
        let result = project.run(&[]);
        assert_eq!(counts(&result), "read 10, changed 1, unchanged 9, accepted 1", "{result}");
        let records = running.twin.records("Contact");
        assert_eq!(records.keys().cloned().collect::<Vec<_>>(), ids, "no second record");
        assert_eq!(
            running.twin.record("Contact", "External_Id__c", email).unwrap()["LastName"],
            "Customer 3"
        );
    }
    // The record that is removed is the one that moved.
    project.unload("2026-01-04", &customers(4..10));
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 6, removed 4, unchanged 6, accepted 4", "{result}");
    assert_eq!(running.twin.count("Contact"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_refresh_token_is_in_the_secret_before_the_next_run_needs_it() {
    let (project, running) = salesforce_project(SalesforceTwin::builder().rotates_refresh_tokens()).await;
    let secret =
        r#"{"client_id": "twin-app", "client_secret": "twin-secret", "refresh_token": "twin-refresh-0"}"#;
    connect(&project, &running, "refresh_token", secret);
    for (day, rows) in [("2026-01-01", 0..10), ("2026-01-02", 0..12)] {
        running.twin.end_sessions();
        project.unload(day, &customers(rows));
        assert_eq!(project.run(&[])["status"], "succeeded");
    }
    let kept: serde_json::Value = serde_json::from_str(&project.read("connections/org")).unwrap();
    assert_eq!(kept["refresh_token"], "twin-refresh-2");
    assert_eq!(running.twin.count("Contact"), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_fails_the_run_by_name_and_shows_nothing_of_it() {
    let (project, running) = salesforce_project(SalesforceTwin::builder()).await;
    connect(
        &project,
        &running,
        "client_credentials",
        r#"{"client_id": "twin-app", "client_secret": "s3cr3t"}"#,
    );
    project.unload("2026-01-01", &customers(0..10));
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "DestinationUnauthorized", "{result}");
    assert!(
        result.to_string().contains("invalid_client") && !result.to_string().contains("s3cr3t"),
        "{result}"
    );
    assert_eq!(requests(&running, "/composite/"), 0);
}

/// A used-up day is waited for, at no cost, and the run goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_quota_parks_the_run_until_there_is_more() {
    for (rows, path) in [(600, "/composite/sobjects"), (2_500, "/jobs/ingest")] {
        let project = Project::new();
        project.write(
            "connections/salesforce.yaml",
            "connector: salesforce\naddress: https://acme.my.salesforce.com\nauth: { bearer: { secret: nowhere } }\n",
        );
        project.write(
            "syncs/customers.yaml",
            "unload: customers\nconnection: salesforce\nobject: Contact\nmatch: { External_Id__c: id }\nfields:\n  LastName: name\n",
        );
        project.unload("2026-01-01", &customers(0..rows));
        // REQUEST_LIMIT_EXCEEDED from the third request on, until the org's next day; nothing says when that is.
        project
            .write("faults.yaml", "- { when: { nth: 3 }, what: { day_used_up: { retry_after: false } } }\n");
        let output = project.penstock(&["run", "syncs/customers.yaml", "--twin", "faults.yaml", "--json"]);
        let verdict = crate::harness::json(&output);
        assert!(output.status.success(), "{verdict}");
        assert_eq!(verdict["arrived"], rows, "{path}: {verdict}");
        let runs = verdict["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "one run waits for the next day: {verdict}");
        assert_eq!(runs[0]["failure"], serde_json::Value::Null, "{verdict}");
        // Asked again every hour, or half-hour, with one request.
        assert!((30..=120).contains(&verdict["requests"].as_u64().unwrap()), "{path}: {verdict}");
    }
}
