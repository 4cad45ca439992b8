//! What publishing changes, and the change itself: all of it or nothing.

use bytes::Bytes;
use penstock_model::definition::pointer_part;
use penstock_model::layout;
use penstock_model::port::{Condition, ETag, Objects, Put};
use penstock_store::storage_failure;
use serde_json::{Value, json};

use crate::definitions::published::{KINDS, Published};

/// So many places of a definition that differ are named.
const MOST_PLACES: usize = 6;

/// What becomes of one definition.
#[derive(Debug)]
pub(super) struct Change {
    kind: &'static str,
    name: String,
    key: String,
    /// What is there now.
    before: Option<(Bytes, ETag)>,
    /// What is to be there.
    after: Option<Value>,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    New,
    /// Where it differs.
    Changed(Vec<String>),
    Unchanged,
    Removed,
    /// It is there, is not among the files, and stays.
    Left,
}

/// What becomes of all of them, in the order in which it is done.
#[derive(Debug)]
pub(super) struct Changes(Vec<Change>);

impl Changes {
    /// Compares what is to be published with what is there. With `prune`, what is not among the files is removed.
    ///
    /// # Errors
    /// If the objects can't be read.
    pub(super) async fn find(
        objects: &dyn Objects,
        published: Vec<Published>,
        prune: bool,
    ) -> anyhow::Result<Self> {
        let mut changes = Vec::new();
        for definition in &published {
            let key = definition.key();
            let before = objects.get(&key).await.map_err(storage_failure)?;
            let what = match &before {
                None => What::New,
                Some((body, _)) => match serde_json::from_slice::<Value>(body) {
                    Ok(there) if there == definition.definition => What::Unchanged,
                    Ok(there) => What::Changed(differences(&there, &definition.definition)),
                    Err(_) => What::Changed(Vec::new()),
                },
            };
            let after = Some(definition.definition.clone());
            changes.push(Change {
                kind: definition.kind,
                name: definition.name.clone(),
                key,
                before,
                after,
                what,
            });
        }
        // Syncs first: no sync is left without what it refers to.
        for kind in KINDS.into_iter().rev() {
            for object in objects.list(&layout::definitions(kind)).await.map_err(storage_failure)? {
                let name = object.key.strip_prefix(&layout::definitions(kind));
                let Some(name) = name.and_then(|rest| rest.strip_suffix(".json")) else { continue };
                if published.iter().any(|kept| kept.kind == kind && kept.name == name) {
                    continue;
                }
                let before = objects.get(&object.key).await.map_err(storage_failure)?;
                let what = if prune { What::Removed } else { What::Left };
                let (name, key) = (name.to_owned(), object.key);
                changes.push(Change { kind, name, key, before, after: None, what });
            }
        }
        Ok(Self(changes))
    }

    /// Carries the changes out. If one fails, those before it are taken back.
    ///
    /// # Errors
    /// If an object can't be written, or was changed by somebody else since it was compared.
    pub(super) async fn apply(&self, objects: &dyn Objects) -> anyhow::Result<()> {
        let mut done: Vec<(&Change, Option<ETag>)> = Vec::new();
        for change in &self.0 {
            let refused = match change.carry_out(objects).await {
                Ok(Some(written)) => {
                    done.push((change, written));
                    continue;
                }
                Ok(None) => continue,
                Err(refused) => refused,
            };
            let mut left = Vec::new();
            for (change, written) in done.iter().rev() {
                if change.take_back(objects, written.as_ref()).await.is_err() {
                    left.push(change.key.as_str());
                }
            }
            let kept = if left.is_empty() {
                "nothing was published".to_owned()
            } else {
                format!("{} could not be taken back", left.join(", "))
            };
            return Err(refused.context(format!("{kept}; publish again")));
        }
        Ok(())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Change> {
        self.0.iter()
    }

    /// A line for each definition.
    pub(super) fn shown(&self) -> String {
        self.0.iter().map(|change| change.line() + "\n").collect()
    }

    /// How many of which kind, in words.
    pub(super) fn summary(&self) -> String {
        let count = |is: fn(&What) -> bool| self.0.iter().filter(|change| is(&change.what)).count();
        let counts = [
            (count(|what| matches!(what, What::New)), "new"),
            (count(|what| matches!(what, What::Changed(_))), "changed"),
            (count(|what| matches!(what, What::Unchanged)), "unchanged"),
            (count(|what| matches!(what, What::Removed)), "removed"),
        ];
        let told: Vec<_> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        if told.is_empty() { "no definitions".to_owned() } else { told.join(", ") }
    }
}

impl Change {
    /// The version written, if any; the outer none if there was nothing to do.
    async fn carry_out(&self, objects: &dyn Objects) -> anyhow::Result<Option<Option<ETag>>> {
        let condition = match &self.before {
            Some((_, etag)) => Condition::IfMatch(etag.clone()),
            None => Condition::IfAbsent,
        };
        match (&self.what, &self.after) {
            (What::New | What::Changed(_), Some(definition)) => {
                let body = Bytes::from(serde_json::to_vec(definition)?);
                match objects.put(&self.key, body, condition).await.map_err(storage_failure)? {
                    Put::Written(etag) => Ok(Some(Some(etag))),
                    Put::Refused => anyhow::bail!("{} was changed by somebody else meanwhile", self.key),
                }
            }
            (What::Removed, _) => {
                objects.delete(&self.key).await.map_err(storage_failure)?;
                Ok(Some(None))
            }
            (What::New | What::Changed(_) | What::Unchanged | What::Left, _) => Ok(None),
        }
    }

    async fn take_back(&self, objects: &dyn Objects, written: Option<&ETag>) -> anyhow::Result<()> {
        match &self.before {
            Some((body, _)) => {
                let condition = written.map_or(Condition::IfAbsent, |etag| Condition::IfMatch(etag.clone()));
                objects.put(&self.key, body.clone(), condition).await.map_err(storage_failure)?;
            }
            None => objects.delete(&self.key).await.map_err(storage_failure)?,
        }
        Ok(())
    }

    fn line(&self) -> String {
        let what = match self.kind {
            "unloads" => format!("unload {}", self.name),
            "connections" => format!("connection {}", self.name),
            "connectors" => format!("connector of {}", self.name),
            _ => format!("sync {}", self.name),
        };
        match &self.what {
            What::Changed(places) if !places.is_empty() => {
                format!("{:<10} {what}: {}", self.word(), places.join(", "))
            }
            What::Left => format!("{:<10} {what}: not among these files; --prune removes it", self.word()),
            What::New | What::Changed(_) | What::Unchanged | What::Removed => {
                format!("{:<10} {what}", self.word())
            }
        }
    }

    fn word(&self) -> &'static str {
        match self.what {
            What::New => "new",
            What::Changed(_) => "changed",
            What::Unchanged => "unchanged",
            What::Removed => "removed",
            What::Left => "left",
        }
    }

    pub(super) fn as_json(&self) -> Value {
        let places: &[String] = match &self.what {
            What::Changed(places) => places,
            What::New | What::Unchanged | What::Removed | What::Left => &[],
        };
        json!({ "kind": self.kind, "name": self.name, "change": self.word(), "at": places })
    }
}

/// Where two definitions differ: paths of dots, two deep.
fn differences(before: &Value, after: &Value) -> Vec<String> {
    let mut places = Vec::new();
    differ(before, after, &mut Vec::new(), &mut places);
    if places.len() > MOST_PLACES {
        let more = places.len() - MOST_PLACES;
        places.truncate(MOST_PLACES);
        places.push(format!("and {more} more"));
    }
    places
}

fn differ(before: &Value, after: &Value, path: &mut Vec<String>, places: &mut Vec<String>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(before), Value::Object(after)) if path.len() < 2 => {
            let absent = Value::Null;
            let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                path.push(pointer_part(name));
                let [before, after] = [before, after].map(|members| members.get(name).unwrap_or(&absent));
                differ(before, after, path, places);
                path.pop();
            }
        }
        _ => places.push(path.join(".")),
    }
}

#[cfg(test)]
mod tests {
    use penstock_store::MemoryObjects;

    use super::*;

    fn published(kind: &'static str, name: &str, definition: Value) -> Published {
        Published { kind, name: name.to_owned(), definition }
    }

    async fn there(objects: &MemoryObjects) -> Vec<String> {
        let listed = objects.list("definitions/").await.unwrap();
        listed.into_iter().map(|object| object.key).collect()
    }

    #[tokio::test]
    async fn what_changes_is_told_and_done_and_the_rest_left_alone() {
        let objects = MemoryObjects::new();
        let first = || {
            vec![
                published("unloads", "u", json!({ "location": "s3://b/u/" })),
                published("syncs", "a", json!({ "fields": { "x": "x" }, "mode": "upsert" })),
                published("syncs", "b", json!({ "fields": { "y": "y" } })),
            ]
        };
        let changes = Changes::find(&objects, first(), false).await.unwrap();
        assert_eq!(changes.summary(), "3 new");
        changes.apply(&objects).await.unwrap();
        let second = vec![
            published("unloads", "u", json!({ "location": "s3://b/u/" })),
            published("syncs", "a", json!({ "fields": { "x": "z" }, "mode": "append" })),
        ];
        for (prune, last, keys) in [
            (false, "left       sync b: not among these files; --prune removes it", 3),
            (true, "removed    sync b", 2),
        ] {
            let changes = Changes::find(&objects, second.clone(), prune).await.unwrap();
            let first = if prune { "unchanged  sync a" } else { "changed    sync a: fields.x, mode" };
            assert_eq!(changes.shown(), format!("unchanged  unload u\n{first}\n{last}\n"));
            changes.apply(&objects).await.unwrap();
            assert_eq!(there(&objects).await.len(), keys);
        }
    }

    #[tokio::test]
    async fn who_is_overtaken_leaves_everything_as_it_was() {
        let objects = MemoryObjects::new();
        let old = Bytes::from_static(b"{\"location\":\"s3://b/old/\"}");
        objects.put("definitions/unloads/u.json", old.clone(), Condition::Always).await.unwrap();
        let wanted = vec![
            published("unloads", "u", json!({ "location": "s3://b/new/" })),
            published("unloads", "v", json!({ "location": "s3://b/v/" })),
            published("syncs", "a", json!({ "fields": {} })),
        ];
        let changes = Changes::find(&objects, wanted, false).await.unwrap();
        let theirs = Bytes::from_static(b"{}");
        objects.put("definitions/syncs/a.json", theirs.clone(), Condition::Always).await.unwrap();
        let error = format!("{:#}", changes.apply(&objects).await.unwrap_err());
        assert!(
            error.starts_with("nothing was published; publish again: definitions/syncs/a.json"),
            "{error}"
        );
        let kept = async |key: &str| objects.get(key).await.unwrap().map(|(body, _)| body);
        assert_eq!(kept("definitions/unloads/u.json").await, Some(old));
        assert_eq!(kept("definitions/unloads/v.json").await, None);
        assert_eq!(kept("definitions/syncs/a.json").await, Some(theirs));
    }
}
