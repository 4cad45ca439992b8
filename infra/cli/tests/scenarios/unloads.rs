use crate::harness::{counts, customers, postgres_project, write_customers};

#[tokio::test]
async fn no_complete_unload_is_an_error_and_never_a_removal_of_everything() {
    let (project, table) = postgres_project("on_removed: delete\n").await;
    assert_eq!(project.run(&[])["failure"]["name"], "UnloadMissing");
    project.unload("2026-01-01", &customers(0..10));
    project.run(&[]);
    std::fs::remove_dir_all(project.path("unloads/data")).unwrap();
    assert_eq!(project.run(&[])["failure"]["name"], "UnloadMissing");
    assert_eq!(table.rows().await.len(), 10);
}

#[tokio::test]
async fn an_unload_still_being_written_is_not_taken() {
    let (project, table) = postgres_project("").await;
    project.unload("2026-01-01", &customers(0..10));
    let writing = project.path("unloads/data/dt=2026-01-02");
    std::fs::create_dir_all(&writing).unwrap();
    write_customers(&writing.join("part-00000.parquet"), &customers(0..5));
    assert_eq!(counts(&project.run(&[])), "read 10, added 10, accepted 10");
    assert_eq!(table.rows().await.len(), 10);
}

#[tokio::test]
async fn an_unload_without_rows_removes_everything_only_past_the_guard() {
    let (project, table) = postgres_project("on_removed: delete\nguards: { max_removed: 50% }\n").await;
    project.unload("2026-01-01", &customers(0..10));
    project.run(&[]);
    project.unload("2026-01-02", &[]);
    assert_eq!(project.run(&[])["failure"]["name"], "GuardTripped");
    assert_eq!(table.rows().await.len(), 10);
    assert_eq!(counts(&project.run(&["--allow", "max_removed"])), "removed 10, accepted 10");
    assert!(table.rows().await.is_empty());
}

#[tokio::test]
async fn an_older_unload_than_the_committed_one_is_refused() {
    let (project, table) = postgres_project("").await;
    project.unload("2026-01-02", &customers(0..10));
    project.run(&[]);
    project.unload("2026-01-01", &customers(0..3));
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    for name in ["part-00000.parquet", "_SUCCESS"] {
        let path = project.path("unloads/data/dt=2026-01-01").join(name);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    let folder = project.path("unloads/data/dt=2026-01-01").display().to_string();
    let result = project.run(&["--unload", &folder]);
    assert_eq!(result["failure"]["name"], "UnloadMissing", "{result}");
    assert!(result["failure"]["message"].as_str().unwrap().contains("--allow older_unload"), "{result}");
    assert_eq!(table.rows().await.len(), 10);
    assert_eq!(project.run(&["--unload", &folder, "--allow", "older_unload"])["counts"]["read"], 3);
}

#[tokio::test]
async fn a_damaged_file_is_named_and_nothing_is_sent() {
    let (project, table) = postgres_project("").await;
    project.unload("2026-01-01", &customers(0..10));
    let file = project.path("unloads/data/dt=2026-01-01/part-00000.parquet");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 30]).unwrap();
    let result = project.run(&[]);
    assert_eq!(result["failure"]["name"], "UnloadCorrupt", "{result}");
    assert!(result["failure"]["message"].as_str().unwrap().contains("part-00000.parquet"), "{result}");
    assert!(table.rows().await.is_empty());
}

#[tokio::test]
async fn a_mapped_column_that_is_gone_is_named_and_nothing_is_sent() {
    let (project, _table) = postgres_project("").await;
    project.unload("2026-01-01", &customers(0..10));
    let sync = project.read("syncs/customers.yaml").replace("  name: name", "  name: full_name");
    project.write("syncs/customers.yaml", &sync);
    let result = project.run(&[]);
    assert_eq!(result["status"], "failed");
    let message = result["failure"]["message"].as_str().unwrap();
    assert!(message.contains("full_name") && message.contains("customers.yaml:7"), "{message}");
}
