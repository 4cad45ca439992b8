use crate::harness::{counts, customers, postgres_project};

#[tokio::test]
async fn every_row_of_each_new_unload_is_added_once() {
    let (project, table) = postgres_project("mode: append\n").await;
    let sync = project
        .read("syncs/customers.yaml")
        .replace("match: { id: id }\n", "")
        .replace("fields:\n", "fields:\n  id: id\n");
    project.write("syncs/customers.yaml", &sync);
    project.unload("2026-01-01", &customers(0..10));
    let first = project.run(&[]);
    assert_eq!(counts(&first), "read 10, added 10, accepted 10", "{first}");
    assert_eq!(project.run(&[])["status"], "nothing_to_do");
    project.unload("2026-01-02", &customers(10..15));
    assert_eq!(counts(&project.run(&[])), "read 5, added 5, accepted 5");
    assert_eq!(table.rows().await, customers(0..15));
}

#[tokio::test]
async fn a_refused_row_of_an_append_can_be_replayed() {
    let (project, table) = postgres_project("mode: append\n").await;
    let sync = project
        .read("syncs/customers.yaml")
        .replace("match: { id: id }\n", "")
        .replace("fields:\n", "fields:\n  id: id\n");
    project.write("syncs/customers.yaml", &sync);
    table.execute("alter table $table add constraint small check (id < 8)").await;
    project.unload("2026-01-01", &customers(0..10));
    assert_eq!(counts(&project.run(&[])), "read 10, added 10, accepted 8, rejected 2");
    table.execute("alter table $table drop constraint small").await;
    let result = crate::harness::json(&project.penstock(&["replay", "syncs/customers.yaml", "--json"]));
    assert_eq!(result["counts"]["accepted"], 2, "{result}");
    assert_eq!(table.rows().await, customers(0..10));
}
