use std::collections::BTreeMap;

use penstock_cli::commands::twin;
use penstock_twins::{HubSpotTwin, Kind, Property, RunningTwin};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_changes_the_match_value_stays_one_contact() {
    let (project, running) = hubspot_project().await;
    let sync = project.read("syncs/customers.yaml").replace("customer_id: id", "email: email");
    project.write("syncs/customers.yaml", &sync.replace("  email: email\n  lastname", "  lastname"));
    project.unload("2026-01-01", &customers(0..10));
    let first = project.run(&[]);
    assert_eq!(counts(&first), "read 10, added 10, accepted 10", "{first}");
    let ids = || -> Vec<String> { running.twin.records("contacts").into_iter().map(|it| it.id).collect() };
    let before = ids();
    for (day, email) in [("2026-01-02", "new@example.com"), ("2026-01-03", "newer@example.com")] {
        let mut next = customers(0..10);
        next[3].email = Some(email.to_owned());
        project.unload(day, &next);
        let result = project.run(&[]);
        assert_eq!(counts(&result), "read 10, changed 1, unchanged 9, accepted 1", "{result}");
        assert_eq!(ids(), before, "no second record");
        let moved = running.twin.record("contacts", "email", email).unwrap();
        assert_eq!(moved.properties["lastname"], "Customer 3");
    }
    // The record that is archived is the one that moved.
    project.unload("2026-01-04", &customers(4..10));
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 6, removed 4, unchanged 6, accepted 4", "{result}");
    assert_eq!(running.twin.count("contacts"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_object_is_signed_in_to_by_oauth_and_labelled_and_its_new_refresh_token_is_kept() {
    let unique = || Property::new(Kind::Text).unique();
    let twin = HubSpotTwin::builder()
        .rotates_refresh_tokens()
        .property("2-4567890", "customer_ref", unique())
        .property("2-4567890", "title", Property::new(Kind::Text))
        .build();
    let running = RunningTwin::start(twin, 0).await.unwrap();
    for id in 0..12 {
        running.twin.seed("contacts", [("email", format!("c{id}@example.com").as_str())]).unwrap();
    }
    let project = Project::new();
    project.write(
        "connections/hubspot.yaml",
        &format!(
            "connector: hubspot\naddress: \"{}\"\nauth: {{ refresh_token: {{ secret: {{ file: app }} }} }}\n",
            running.address()
        ),
    );
    project.write(
        "connections/app",
        r#"{"client_id": "twin-app", "client_secret": "twin-secret", "refresh_token": "twin-refresh-0"}"#,
    );
    project.write(
        "syncs/customers.yaml",
        "unload: customers\nconnection: hubspot\nobject: 2-4567890\nmatch: { customer_ref: { column: id, type: text } }\nfields:\n  \
         title: name\n  holder:\n    lookup: { email: email }\n    object: contacts\n    \
         label: { associationCategory: USER_DEFINED, associationTypeId: 28 }\n",
    );
    for (day, rows, accepted) in [("2026-01-01", 0..10, 10), ("2026-01-02", 0..12, 2)] {
        running.twin.end_sessions();
        project.unload(day, &customers(rows));
        let result = project.run(&[]);
        assert_eq!(result["counts"]["accepted"], accepted, "{result}");
    }
    let kept: serde_json::Value = serde_json::from_str(&project.read("connections/app")).unwrap();
    assert_eq!(kept["refresh_token"], "twin-refresh-2");
    assert_eq!(running.twin.count("2-4567890"), 12);
    let record = running.twin.record("2-4567890", "customer_ref", "11").unwrap();
    let holder = running.twin.associated("2-4567890", &record.id, "contacts");
    let labels = running.twin.labels("2-4567890", &record.id, "contacts", &holder[0]);
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("USER_DEFINED".to_owned(), 28)]);
}
