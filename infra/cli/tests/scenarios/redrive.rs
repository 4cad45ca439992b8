use std::process::{Child, Stdio};

use penstock_twins::{Fault, HubSpotTwin, Rule, RunningTwin, Script, Twin, When};
use serde_json::Value;

use crate::harness::{Customer, Project, Table, counts, customers, eventually, postgres_project};
use crate::hubspot::hubspot_project;

/// Five chunks, one after the other, and a credential that is refused from the third request on.
async fn half_delivered() -> (Project, RunningTwin<HubSpotTwin>, Value) {
    let (project, running) = hubspot_project().await;
    let connection = project.read("connections/hubspot.yaml");
    project.write("connections/hubspot.yaml", &format!("{connection}limits: {{ concurrency: 1 }}\n"));
    let sync = project.read("syncs/customers.yaml");
    project.write("syncs/customers.yaml", &format!("{sync}delivery: {{ chunk_rows: 100 }}\n"));
    project.unload("2026-01-01", &customers(0..450));
    let when = When { from: 3.try_into().ok(), ..When::default() };
    running.twin.set_faults(Script::new(vec![Rule { when, what: Fault::Unauthorized }]).unwrap());
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "DestinationUnauthorized", "{result}");
    assert!((1..450).contains(&running.twin.count("contacts")), "{result}");
    (project, running, result)
}

/// The account has another token now, and so has the project.
fn mend(project: &Project, running: &RunningTwin<HubSpotTwin>) {
    running.twin.set_faults(Script::default());
    running.twin.replace_token("pat-new");
    project.write("connections/token", "pat-new\n");
}

fn refused(project: &Project, more: &[&str]) -> (String, String) {
    let result = project.ask("redrive", more);
    let text = |member: &str| result["failure"][member].as_str().unwrap_or_default().to_owned();
    (text("name"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_sends_what_was_not_accepted_once_the_credential_is_mended() {
    let (project, running, failed) = half_delivered().await;
    let before = running.twin.count("contacts");
    assert_eq!(counts(&failed), format!("read 450, added 450, accepted {before}"), "{failed}");
    assert_eq!(failed["redrivable"], true, "{failed}");

    // Nothing is mended: it fails as before, and no row goes out.
    running.twin.set_faults(Script::default());
    running.twin.replace_token("pat-new");
    let again = project.ask("redrive", &[]);
    assert_eq!(again["failure"]["name"], "DestinationUnauthorized", "{again}");
    assert_eq!(running.twin.count("contacts"), before);

    mend(&project, &running);
    let result = project.ask("redrive", &[]);
    assert_eq!(result["status"], "succeeded", "{result}");
    assert_eq!(result["run_id"], failed["run_id"]);
    assert_eq!(counts(&result), "read 450, added 450, accepted 450", "{result}");
    let writes = running.twin.journal().writes_per_key("contacts");
    assert_eq!(writes.len(), 450);
    assert!(
        writes.values().all(|&times| times == 1),
        "a row that was accepted is not sent again: {writes:?}"
    );
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_a_redrive_can_carry_on_says_how() {
    let (project, running, failed) = half_delivered().await;
    let run = failed["run_id"].as_str().unwrap();
    let command = format!("penstock redrive syncs/customers.yaml --state .penstock --run {run}");
    let text = project.tell("redrive", &[]);
    assert!(text.contains(&command), "{command} is missing in:\n{text}");
    mend(&project, &running);
    let text = project.tell("redrive", &["--run", run]);
    assert!(text.starts_with("succeeded") && !text.contains("redrive"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_folded_into_a_later_one_is_not_redriven() {
    let (project, running, failed) = half_delivered().await;
    mend(&project, &running);
    let next = project.run(&[]);
    assert_eq!(next["status"], "succeeded", "{next}");
    let requests = running.twin.journal().requests();

    let (old, by) = (failed["run_id"].as_str().unwrap(), next["run_id"].as_str().unwrap());
    let (name, message) = refused(&project, &["--run", old]);
    assert_eq!(name, "Superseded", "{message}");
    assert!(message.contains(&format!("run {old} was folded into run {by}")), "{message}");
    // The newest has succeeded.
    let (name, message) = refused(&project, &[]);
    assert_eq!(name, "ExecutionNotRedrivable", "{message}");
    assert!(message.contains(by), "{message}");
    assert_eq!(running.twin.journal().requests(), requests, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redrive_goes_by_the_definitions_that_were_pinned_and_says_so() {
    let (project, running, failed) = half_delivered().await;
    mend(&project, &running);
    let sync = project.read("syncs/customers.yaml");
    project.write("syncs/customers.yaml", &sync.replace("lastname: name", "firstname: name"));
    let (name, message) = refused(&project, &[]);
    assert_eq!(name, "DefinitionsChanged", "{message}");
    for part in ["the sync changed", failed["run_id"].as_str().unwrap(), "what plan pinned", "--pinned"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    let result = project.ask("redrive", &["--pinned"]);
    assert_eq!(counts(&result), "read 450, added 450, accepted 450", "{result}");
    let with_lastname = |record: &penstock_twins::HubSpotRecord| record.properties.contains_key("lastname");
    assert!(running.twin.records("contacts").iter().all(with_lastname));
}

#[tokio::test]
async fn what_can_not_be_redriven_is_refused_by_name() {
    let (project, table) = postgres_project("delivery: { tolerate_rejected: 10% }\n").await;
    let (name, message) = refused(&project, &[]);
    assert_eq!(name, "ExecutionDoesNotExist", "{message}");
    table.execute("alter table $table add constraint small check (id < 8)").await;
    project.unload("2026-01-01", &customers(0..10));
    let result = project.run(&[]);
    assert_eq!(
        (&result["failure"]["name"], &result["redrivable"]),
        (&"RejectedTooMany".into(), &false.into())
    );
    let (name, message) = refused(&project, &[]);
    assert_eq!(name, "RejectedTooMany", "{message}");
    assert!(message.contains("penstock replay"), "{message}");
    for run in ["20260101T000000-00000000", "../lease", ""] {
        let (name, message) = refused(&project, &["--run", run]);
        assert_eq!(name, "ExecutionDoesNotExist", "{message}");
    }
    assert_eq!(table.rows().await, customers(0..8));
}

#[tokio::test]
async fn a_run_that_failed_before_it_was_planned_is_planned_by_its_redrive() {
    let (project, table) = postgres_project("").await;
    let failed = project.run(&[]);
    assert_eq!(failed["failure"]["name"], "UnloadMissing", "{failed}");
    project.unload("2026-01-01", &customers(0..10));
    let result = project.ask("redrive", &[]);
    assert_eq!(counts(&result), "read 10, added 10, accepted 10", "{result}");
    assert_eq!(result["run_id"], failed["run_id"]);
    assert_eq!(table.rows().await, customers(0..10));
}

/// A run whose process is killed once the table holds some rows; each takes a little time.
async fn killed(project: &Project, table: &Table, rows: usize) {
    table
        .execute(
            "create function slow_$table() returns trigger language plpgsql as $$ begin perform pg_sleep(0.002); return new; end $$;
             create trigger slow before insert or update on $table for each row execute function slow_$table()",
        )
        .await;
    let mut child = quietly(project, "run");
    eventually(async || (table.rows().await.len() >= rows).then_some(())).await;
    child.kill().unwrap();
    child.wait().unwrap();
}

fn quietly(project: &Project, command: &str) -> Child {
    project
        .command(&[command, "syncs/customers.yaml", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn newest(project: &Project) -> Value {
    project.ask("runs", &[])[0].clone()
}

#[tokio::test]
async fn a_killed_run_is_carried_on_by_one_of_two_redrives() {
    let (project, table) = postgres_project("delivery: { chunk_rows: 200 }\n").await;
    let rows: Vec<Customer> = customers(0..1500);
    project.unload("2026-01-01", &rows);
    killed(&project, &table, 400).await;
    let run = newest(&project);
    assert_eq!(
        (run["status"].as_str(), run["failure"].as_str()),
        (Some("unfinished"), Some("killed")),
        "{run}"
    );

    let first = quietly(&project, "redrive");
    eventually(async || (newest(&project)["status"] == "running").then_some(())).await;
    let (name, message) = refused(&project, &[]);
    assert_eq!(name, "RunInProgress", "{message}");
    assert!(message.contains(run["run"].as_str().unwrap()), "{message}");

    let result = crate::harness::json(&first.wait_with_output().unwrap());
    assert_eq!(counts(&result), "read 1500, added 1500, accepted 1500", "{result}");
    assert_eq!(result["run_id"], run["run"]);
    assert_eq!(table.rows().await, rows);
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
}
