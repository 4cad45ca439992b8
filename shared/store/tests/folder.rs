//! What only a folder can get wrong.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::os::unix::fs::symlink;

use bytes::Bytes;
use penstock_model::port::{Condition, Objects as _};
use penstock_store::FolderObjects;

async fn keys(objects: &FolderObjects, prefix: &str) -> Vec<String> {
    objects.list(prefix).await.unwrap().into_iter().map(|object| object.key).collect()
}

#[tokio::test]
async fn half_written_objects_and_locks_are_not_objects() {
    let folder = tempfile::tempdir().unwrap();
    let objects = FolderObjects::new(folder.path());
    objects.put("a/b", Bytes::from("x"), Condition::Always).await.unwrap();
    std::fs::write(folder.path().join("a/.penstock-tmp-0123"), "half").unwrap();
    assert_eq!(keys(&objects, "").await, ["a/b"]);
    assert!(objects.get("a/.penstock-tmp-0123").await.is_err());
    let left: Vec<_> = std::fs::read_dir(folder.path().join("a")).unwrap().collect();
    assert_eq!(left.len(), 2, "a write leaves nothing beside its object");
}

#[tokio::test]
async fn a_refused_write_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let objects = FolderObjects::new(folder.path());
    objects.put("a/b", Bytes::from("x"), Condition::IfAbsent).await.unwrap();
    objects.put("a/b", Bytes::from("y"), Condition::IfAbsent).await.unwrap();
    objects.put("a/c/d", Bytes::from("y"), Condition::Always).await.unwrap();
    objects.put("a/c", Bytes::from("y"), Condition::Always).await.unwrap_err();
    objects.put("a/c", Bytes::from("y"), Condition::IfAbsent).await.unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path().join("a")).unwrap().count(), 2);
    assert_eq!(keys(&objects, "").await, ["a/b", "a/c/d"]);
}

#[tokio::test]
async fn follows_links_and_says_where_they_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir_all(folder.path().join("elsewhere/day")).unwrap();
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(folder.path().join("elsewhere/day/part"), "x").unwrap();
    symlink("../elsewhere", root.join("linked")).unwrap();
    let objects = FolderObjects::new(&root);
    assert_eq!(keys(&objects, "").await, ["linked/day/part"]);

    symlink(&root, root.join("loop")).unwrap();
    assert!(objects.list("").await.is_err(), "an endless walk is an error");
    assert_eq!(keys(&objects, "linked/").await, ["linked/day/part"]);
    std::fs::remove_file(root.join("loop")).unwrap();

    symlink("../gone", root.join("part")).unwrap();
    assert!(objects.list("").await.is_err(), "a part of the unload may be missing");
}
