use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Customer, customers, postgres_project, sorted};

/// Kills a run at several moments of its delivery; the next run always ends with the destination in step.
#[tokio::test]
async fn a_run_that_is_killed_is_carried_on_by_the_next() {
    let more = "on_removed: delete\ndelivery: { chunk_rows: 300 }\n";
    let (project, table) = postgres_project(more).await;
    // Each row takes a little time, so that kills fall into the delivery.
    table
        .execute(
            "create function slow_$table() returns trigger language plpgsql as $$ begin perform pg_sleep(0.0004); return new; end $$;
             create trigger slow before insert or update on $table for each row execute function slow_$table()",
        )
        .await;
    project.unload("2026-01-01", &customers(0..3000));
    assert_eq!(project.run(&[])["status"], "succeeded");
    for (round, delay_ms) in [150, 350, 600, 900].into_iter().enumerate() {
        let name = format!("round {round}");
        let mut next: Vec<Customer> = customers(100..3100).into_iter().map(|row| row.named(&name)).collect();
        next.truncate(2900 + round);
        project.unload(&format!("2026-02-{:02}", round + 1), &next);
        let mut child = project
            .command(&["run", "syncs/customers.yaml", "--json"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let result = project.run(&[]);
        assert_ne!(result["status"], "failed", "{result}");
        assert_eq!(table.rows().await, sorted(next), "killed after {delay_ms} ms");
    }
}
