use crate::harness::{Customer, counts, customers, postgres_project};

#[tokio::test]
async fn a_guard_trips_before_anything_is_sent_and_can_be_allowed_once() {
    let (project, table) =
        postgres_project("on_removed: delete\nguards: { max_removed: 10%, max_changed: 3 }\n").await;
    project.unload("2026-01-01", &customers(0..100));
    project.run(&[]);

    let mut next = customers(20..100);
    for row in next.iter_mut().take(4) {
        *row = row.clone().named("changed");
    }
    project.unload("2026-01-02", &next);
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "GuardTripped", "{result}");
    let message = result["failure"]["message"].as_str().unwrap();
    for part in ["20 of 100 rows would be removed", "4 of 100 rows would be changed", "--allow max_removed"] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    assert_eq!(result["api"]["requests"], 0);
    assert_eq!(table.rows().await, customers(0..100));

    let result = project.run(&["--allow", "max_removed", "--allow", "max_changed"]);
    assert_eq!(counts(&result), "read 80, changed 4, removed 20, unchanged 76, accepted 24", "{result}");
    assert_eq!(table.rows().await, next);
}

#[tokio::test]
async fn a_flood_of_nulls_is_stopped() {
    let (project, table) = postgres_project("guards: { max_null_rise: 10% }\n").await;
    project.unload("2026-01-01", &customers(0..20));
    project.run(&[]);
    let next: Vec<_> = customers(0..20).into_iter().map(|row| Customer { email: None, ..row }).collect();
    project.unload("2026-01-02", &next);
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "GuardTripped", "{result}");
    assert!(result["failure"]["message"].as_str().unwrap().contains("email"), "{result}");
    assert_eq!(table.rows().await, customers(0..20));
}

#[tokio::test]
async fn a_dry_run_counts_and_sends_nothing() {
    let (project, table) = postgres_project("").await;
    project.unload("2026-01-01", &customers(0..20));
    let result = project.run(&["--dry-run"]);
    assert_eq!(counts(&result), "read 20, added 20", "{result}");
    assert!(table.rows().await.is_empty());
    assert_eq!(counts(&project.run(&[])), "read 20, added 20, accepted 20");
}

#[tokio::test]
async fn a_canary_that_is_rejected_keeps_the_rest_at_home() {
    let (project, table) = postgres_project("delivery: { canary: 10, tolerate_rejected: 20% }\n").await;
    table.execute("alter table $table add constraint small check (id >= 5)").await;
    project.unload("2026-01-01", &customers(0..200));
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "RejectedTooMany", "{result}");
    assert_eq!(counts(&result), "read 200, added 200, accepted 5, rejected 5", "{result}");
    assert_eq!(table.rows().await, customers(5..10));
    let letters = project.penstock(&["dead-letters", "syncs/customers.yaml", "--json"]);
    assert_eq!(String::from_utf8(letters.stdout).unwrap().lines().count(), 5);

    table.execute("alter table $table drop constraint small").await;
    let result = project.run(&[]);
    assert_eq!(result["counts"]["accepted"], 190, "{result}");
    assert_eq!(table.rows().await, customers(5..200));
}
