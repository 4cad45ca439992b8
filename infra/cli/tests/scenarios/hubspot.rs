use std::collections::BTreeMap;

use penstock_cli::commands::twin;
use penstock_twins::{HubSpotTwin, RunningTwin};

use crate::harness::{Customer, Project, counts, customers};

pub(crate) async fn hubspot_project() -> (Project, RunningTwin<HubSpotTwin>) {
    let project = Project::new();
    let running = RunningTwin::start(twin::hubspot("pat-test"), 0).await.unwrap();
    project.write(
        "connections/hubspot.yaml",
        &format!(
            "connector: hubspot\naddress: \"{}\"\nauth: {{ bearer: {{ secret: {{ file: token }} }} }}\n",
            running.address()
        ),
    );
    project.write("connections/token", "pat-test\n");
    project.write(
        "syncs/customers.yaml",
        "unload: customers\nconnection: hubspot\nobject: contacts\nmatch: { customer_id: id }\non_removed: archive\n\
         fields:\n  email: email\n  lastname: name\n  lifetime_value: balance\n",
    );
    (project, running)
}

fn contacts(running: &RunningTwin<HubSpotTwin>) -> BTreeMap<String, String> {
    running
        .twin
        .records("contacts")
        .into_iter()
        .map(|record| (record.properties["customer_id"].clone(), record.properties["lastname"].clone()))
        .collect()
}

fn expected(rows: &[Customer]) -> BTreeMap<String, String> {
    rows.iter().map(|row| (row.id.unwrap().to_string(), row.name.clone().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_days_of_customers_arrive_and_removed_ones_are_archived_by_their_ids() {
    let (project, running) = hubspot_project().await;
    project.unload("2026-01-01", &customers(0..450));
    let first = project.run(&[]);
    assert_eq!(counts(&first), "read 450, added 450, accepted 450", "{first}");
    assert_eq!(first["api"]["requests"], 5, "{first}");
    assert_eq!(contacts(&running), expected(&customers(0..450)));

    let mut next = customers(7..460);
    next[0] = next[0].clone().named("changed");
    project.unload("2026-01-02", &next);
    let second = project.run(&[]);
    assert_eq!(
        counts(&second),
        "read 453, added 10, changed 1, removed 7, unchanged 442, accepted 18",
        "{second}"
    );
    assert_eq!(contacts(&running), expected(&next));
    assert_eq!(running.twin.archived("contacts").len(), 7);
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_row_does_not_hide_in_its_batch() {
    let (project, running) = hubspot_project().await;
    let mut rows = customers(0..150);
    rows[42].email = Some("not an address".to_owned());
    project.unload("2026-01-01", &rows);
    let result = project.run(&[]);
    assert_eq!(result["status"], "succeeded_with_rejections", "{result}");
    assert_eq!(counts(&result), "read 150, added 150, accepted 149, rejected 1", "{result}");
    assert_eq!(running.twin.count("contacts"), 149);
    let letters = project.penstock(&["dead-letters", "syncs/customers.yaml", "--json"]);
    let letter: serde_json::Value = serde_json::from_slice(&letters.stdout).unwrap();
    assert_eq!(letter["key"]["id"], 42, "{letter}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_fails_the_run_by_name_and_the_next_run_delivers() {
    let (project, running) = hubspot_project().await;
    project.write("connections/token", "wrong\n");
    project.unload("2026-01-01", &customers(0..10));
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "DestinationUnauthorized", "{result}");
    project.write("connections/token", "pat-test\n");
    let result = project.run(&[]);
    // The refused attempt has left it open whether the destination knows the rows: they count as changed.
    assert_eq!(counts(&result), "read 10, changed 10, accepted 10", "{result}");
    assert_eq!(running.twin.count("contacts"), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_shows_mapped_records_and_sends_nothing() {
    let (project, running) = hubspot_project().await;
    project.unload("2026-01-01", &customers(0..10));
    let output = project.penstock(&["preview", "syncs/customers.yaml", "--rows", "2"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["match"]["customer_id"], "1");
    assert_eq!(records[1]["fields"]["lifetime_value"], "1.01");
    assert_eq!(running.twin.count("contacts"), 0);
}
