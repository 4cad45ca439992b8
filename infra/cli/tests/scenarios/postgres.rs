use crate::harness::{Customer, counts, customers, postgres_project, sorted};

#[tokio::test]
async fn a_second_day_brings_exactly_its_changes_and_a_third_run_makes_no_call() {
    let (project, table) = postgres_project("on_removed: delete\n").await;
    project.unload("2026-01-01", &customers(0..3000));
    let first = project.run(&[]);
    assert_eq!(counts(&first), "read 3000, added 3000, accepted 3000", "{first}");
    assert_eq!(table.rows().await, customers(0..3000));

    // Other row order, 20 changed, 10 removed, 15 added.
    let mut next: Vec<Customer> = customers(10..3015);
    for row in next.iter_mut().take(20) {
        *row = row.clone().named("changed");
    }
    next.reverse();
    project.unload("2026-01-02", &next);
    let second = project.run(&[]);
    assert_eq!(
        counts(&second),
        "read 3005, added 15, changed 20, removed 10, unchanged 2970, accepted 45",
        "{second}"
    );
    assert_eq!(table.rows().await, sorted(next));

    let third = project.run(&[]);
    assert_eq!(
        (third["status"].as_str(), third["api"]["requests"].as_u64()),
        (Some("nothing_to_do"), Some(0)),
        "{third}"
    );
}

#[tokio::test]
async fn a_full_resync_sends_every_row_and_still_honours_removals() {
    let (project, table) = postgres_project("on_removed: delete\n").await;
    project.unload("2026-01-01", &customers(0..50));
    project.run(&[]);
    table.execute("update $table set name = 'tampered'").await;
    project.unload("2026-01-02", &customers(5..50));
    let result = project.run(&["--full"]);
    assert_eq!(counts(&result), "read 45, changed 45, removed 5, accepted 50", "{result}");
    assert_eq!(table.rows().await, customers(5..50));
}

#[tokio::test]
async fn a_removal_deletes_only_records_that_the_sync_created_unless_told_otherwise() {
    for (on_removed, left) in [("delete", vec![1]), ("{ delete: any }", vec![])] {
        let (project, table) = postgres_project(&format!("on_removed: {on_removed}\n")).await;
        table.execute("insert into $table (id, name) values (1, 'was here before')").await;
        project.unload("2026-01-01", &customers(1..4));
        project.run(&[]);
        project.unload("2026-01-02", &customers(3..4));
        let result = project.run(&[]);
        assert_eq!(result["counts"]["removed"], 2, "{result}");
        let ids: Vec<_> = table.rows().await.into_iter().filter_map(|row| row.id).collect();
        let expected: Vec<i64> = left.into_iter().chain([3]).collect();
        assert_eq!(ids, expected, "on_removed: {on_removed}");
    }
}

#[tokio::test]
async fn a_removal_can_clear_fields_and_never_brings_a_record_back() {
    let (project, table) = postgres_project("on_removed: { clear: [name] }\n").await;
    project.unload("2026-01-01", &customers(1..4));
    project.run(&[]);
    table.execute("delete from $table where id = 2").await;
    project.unload("2026-01-02", &customers(3..4));
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 1, removed 2, unchanged 1, accepted 1, skipped 1", "{result}");
    let rows: Vec<_> = table.rows().await.into_iter().map(|row| (row.id, row.name)).collect();
    assert_eq!(rows, [(Some(1), None), (Some(3), Some("Customer 3".to_owned()))]);
}

#[tokio::test]
async fn create_only_leaves_records_alone_that_exist() {
    let (project, table) = postgres_project("mode: create_only\n").await;
    table.execute("insert into $table (id, name) values (1, 'was here before')").await;
    project.unload("2026-01-01", &customers(1..4));
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 3, added 3, accepted 2, skipped 1", "{result}");
    assert_eq!(table.rows().await[0].name.as_deref(), Some("was here before"));

    project.unload("2026-01-02", &[Customer::new(1), Customer::new(2).named("changed"), Customer::new(3)]);
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 3, changed 1, unchanged 2, skipped 1", "{result}");
    assert_eq!(table.rows().await[1].name.as_deref(), Some("Customer 2"));
}

#[tokio::test]
async fn update_only_creates_nothing() {
    let (project, table) = postgres_project("mode: update_only\n").await;
    table.execute("insert into $table (id) values (2)").await;
    project.unload("2026-01-01", &customers(1..4));
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 3, added 3, accepted 1, skipped 2", "{result}");
    assert_eq!(table.rows().await, customers(2..3));
}

#[tokio::test]
async fn a_baseline_sends_nothing_and_the_next_run_sends_what_changed() {
    let (project, table) = postgres_project("first_run: baseline\n").await;
    project.unload("2026-01-01", &customers(1..4));
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 3, unchanged 3", "{result}");
    assert!(table.rows().await.is_empty());
    project.unload("2026-01-02", &[Customer::new(1), Customer::new(2).named("changed"), Customer::new(3)]);
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 3, changed 1, unchanged 2, accepted 1", "{result}");
    assert_eq!(table.rows().await, [Customer::new(2).named("changed")]);
}

#[tokio::test]
async fn a_null_leaves_a_good_value_alone_unless_the_field_says_clear() {
    for (field, expected) in [("email", Some("c1@example.com")), ("{ column: email, on_null: clear }", None)]
    {
        let (project, table) = postgres_project("").await;
        let sync = project.read("syncs/customers.yaml").replace("email: email", &format!("email: {field}"));
        project.write("syncs/customers.yaml", &sync);
        project.unload("2026-01-01", &customers(1..2));
        project.run(&[]);
        project.unload("2026-01-02", &[Customer { email: None, ..Customer::new(1) }]);
        let result = project.run(&[]);
        assert_eq!(counts(&result), "read 1, changed 1, accepted 1", "{result}");
        assert_eq!(table.rows().await[0].email.as_deref(), expected, "email: {field}");
    }
}

#[tokio::test]
async fn new_fields_go_out_as_rows_change_or_all_at_once_as_the_sync_says() {
    for (rule, expected) in
        [("from_now_on", "read 3, unchanged 3"), ("resend", "read 3, changed 3, accepted 3")]
    {
        let (project, table) = postgres_project(&format!("on_mapping_change: {rule}\n")).await;
        let whole = project.read("syncs/customers.yaml");
        project.write("syncs/customers.yaml", &whole.replace("  balance: balance\n", ""));
        project.unload("2026-01-01", &customers(1..4));
        project.run(&[]);
        project.write("syncs/customers.yaml", &whole);
        project.unload("2026-01-02", &customers(1..4));
        assert_eq!(counts(&project.run(&[])), expected, "{rule}");
        // Whichever it was, afterwards a change of the new column is seen.
        project.unload(
            "2026-01-03",
            &[Customer { balance: Some(7), ..Customer::new(1) }, Customer::new(2), Customer::new(3)],
        );
        assert_eq!(counts(&project.run(&[])), "read 3, changed 1, unchanged 2, accepted 1", "{rule}");
        assert_eq!(table.rows().await[0].balance, Some(7));
    }
}

#[tokio::test]
async fn a_sync_pointed_elsewhere_is_refused_until_the_user_decides() {
    let (project, _first) = postgres_project("").await;
    project.unload("2026-01-01", &customers(1..4));
    project.run(&[]);
    let second = crate::harness::Table::customers().await;
    project.write("syncs/customers.yaml", &crate::harness::postgres_sync(&second, ""));
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "SyncInvalid", "{result}");
    assert!(result["failure"]["message"].as_str().unwrap().contains("another object"), "{result}");
    let result = project.run(&["--full"]);
    assert_eq!(counts(&result), "read 3, changed 3, accepted 3", "{result}");
    assert_eq!(second.rows().await, customers(1..4));
}

#[tokio::test]
async fn two_runs_of_one_sync_do_not_overlap() {
    let (project, table) = postgres_project("delivery: { chunk_rows: 500 }\n").await;
    project.unload("2026-01-01", &customers(0..4000));
    let args = ["run", "syncs/customers.yaml", "--json"];
    let children: Vec<_> = (0..2)
        .map(|_| project.command(&args).stdout(std::process::Stdio::piped()).spawn().unwrap())
        .collect();
    let results: Vec<_> =
        children.into_iter().map(|child| crate::harness::json(&child.wait_with_output().unwrap())).collect();
    let mut statuses: Vec<_> = results.iter().map(|result| result["status"].as_str().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, ["nothing_to_do", "succeeded"], "{results:?}");
    assert_eq!(table.rows().await.len(), 4000);
}
