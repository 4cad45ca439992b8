use crate::harness::{Customer, counts, customers, postgres_project};

fn dead_letters(project: &crate::harness::Project) -> Vec<serde_json::Value> {
    let output = project.penstock(&["dead-letters", "syncs/customers.yaml", "--json"]);
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn rows_with_null_and_duplicate_keys_are_rejected_by_name_and_the_rest_goes_out() {
    let (project, table) = postgres_project("").await;
    let mut rows = customers(0..10);
    rows.push(Customer { id: None, ..Customer::new(99) });
    rows.push(Customer::new(3).named("a second 3"));
    project.unload("2026-01-01", &rows);
    let result = project.run(&[]);
    assert_eq!(result["status"], "succeeded_with_rejections", "{result}");
    assert_eq!(counts(&result), "read 12, added 9, accepted 9, rejected 3", "{result}");
    let mut codes: Vec<_> =
        dead_letters(&project).iter().map(|letter| letter["code"].as_str().unwrap().to_owned()).collect();
    codes.sort();
    assert_eq!(codes, ["duplicate_key", "duplicate_key", "null_key"]);
    assert!(!table.rows().await.iter().any(|row| row.id == Some(3)));
}

#[tokio::test]
async fn a_key_that_becomes_duplicate_is_neither_changed_nor_removed() {
    let (project, table) = postgres_project("on_removed: delete\n").await;
    project.unload("2026-01-01", &customers(1..4));
    project.run(&[]);
    project.unload(
        "2026-01-02",
        &[Customer::new(1), Customer::new(2), Customer::new(2).named("twin"), Customer::new(3)],
    );
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 4, unchanged 2, rejected 2", "{result}");
    assert_eq!(table.rows().await, customers(1..4));
    project.unload("2026-01-03", &[Customer::new(1), Customer::new(2).named("mended"), Customer::new(3)]);
    assert_eq!(counts(&project.run(&[])), "read 3, changed 1, unchanged 2, accepted 1");
}

#[tokio::test]
async fn a_refused_row_becomes_a_dead_letter_and_is_sent_again_only_by_replay_or_when_it_changes() {
    let (project, table) = postgres_project("").await;
    table.execute("alter table $table add constraint short check (length(name) < 20)").await;
    let long = Customer::new(5).named("a name that is much too long");
    let mut rows = customers(0..5);
    rows.push(long.clone());
    project.unload("2026-01-01", &rows);
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 6, added 6, accepted 5, rejected 1", "{result}");
    let letters = dead_letters(&project);
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (&letters[0]["key"]["id"], &letters[0]["code"]),
        (&serde_json::json!(5), &serde_json::json!("23514"))
    );
    assert_eq!(letters[0]["fields"]["name"], "a name that is much too long");

    // The same row again: still refused, so not sent.
    rows.push(Customer::new(6));
    project.unload("2026-01-02", &rows);
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 7, added 1, unchanged 6, accepted 1", "{result}");

    // The table takes it now: a replay sends it, and nothing else.
    table.execute("alter table $table drop constraint short").await;
    let output = project.penstock(&["replay", "syncs/customers.yaml", "--json"]);
    let result = crate::harness::json(&output);
    assert_eq!(result["counts"]["accepted"], 1, "{result}");
    assert_eq!(table.rows().await.len(), 7);
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
}

#[tokio::test]
async fn a_refused_row_is_sent_again_once_it_is_mended() {
    let (project, table) = postgres_project("").await;
    table.execute("alter table $table add constraint short check (length(name) < 20)").await;
    project.unload("2026-01-01", &[Customer::new(1).named("a name that is much too long")]);
    assert_eq!(counts(&project.run(&[])), "read 1, added 1, rejected 1");
    project.unload("2026-01-02", &customers(1..2));
    assert_eq!(counts(&project.run(&[])), "read 1, added 1, accepted 1");
    assert_eq!(table.rows().await, customers(1..2));
}

#[tokio::test]
async fn more_rejected_rows_than_tolerated_fail_the_run_and_keep_what_was_accepted() {
    let (project, table) = postgres_project("delivery: { tolerate_rejected: 10% }\n").await;
    table.execute("alter table $table add constraint small check (id < 8)").await;
    project.unload("2026-01-01", &customers(0..10));
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "RejectedTooMany", "{result}");
    assert_eq!(counts(&result), "read 10, added 10, accepted 8, rejected 2", "{result}");
    assert_eq!(table.rows().await, customers(0..8));

    // A replay of them is not measured by the same rule: it sends nothing else.
    let result = crate::harness::json(&project.penstock(&["replay", "syncs/customers.yaml", "--json"]));
    assert_eq!(result["status"], "succeeded_with_rejections", "{result}");
    assert_eq!(counts(&result), "read 10, added 2, unchanged 8, rejected 2", "{result}");
}
