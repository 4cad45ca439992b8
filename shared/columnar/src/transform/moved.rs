//! Rows whose match value is another than the one under which their record was last written.

use std::collections::HashMap;

use penstock_model::Key;
use penstock_model::change::Change;
use penstock_model::operation::{OperationKind, Transformed};
use penstock_model::snapshot::Identity;
use serde_json::{Map, Value};

/// Gives upserts of such rows the remembered id of their record: the destination then writes to that, where the match value alone would
/// lead to another record or create a second one. `transformed` is what became of `changes`, one for one.
pub fn moved<S: std::hash::BuildHasher>(
    transformed: &mut [Transformed],
    changes: &[Change],
    identities: &HashMap<Key, Identity, S>,
) {
    for (line, change) in transformed.iter_mut().zip(changes) {
        let Transformed::Operation(operation) = line else { continue };
        if operation.kind != OperationKind::Upsert {
            continue;
        }
        let Some(Identity { id: Some(id), matched: Some(before), .. }) = identities.get(&change.key) else {
            continue;
        };
        // Compared as values: one of them may have been read and written again since.
        let is_same = serde_json::from_str::<Map<String, Value>>(operation.matched.get())
            .is_ok_and(|now| now == *before);
        if !is_same {
            operation.id = Some(id.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::change::{ChangeKind, Place, Previous};
    use penstock_model::json::Json;
    use penstock_model::key::KeyValue;
    use penstock_model::operation::Operation;
    use serde_json::json;

    use super::*;

    fn change(key: i128) -> Change {
        Change {
            kind: ChangeKind::Changed,
            key: Key::of(&[KeyValue::Int(key)]),
            place: Place { split: 0, row: 0 },
            row_hash: 1,
            previous: Previous { accepted: None, maybe_present: true },
        }
    }

    #[test]
    fn only_an_upsert_under_another_match_value_gets_the_remembered_id() {
        let identity = |key: i128, id: Option<&str>, email: Option<&str>| Identity {
            key: Key::of(&[KeyValue::Int(key)]),
            id: id.map(str::to_owned),
            created: false,
            matched: email.map(|email| json!({ "email": email }).as_object().unwrap().clone()),
        };
        let known = [
            identity(1, Some("r1"), Some("a@x")),
            identity(2, Some("r2"), Some("b@x")),
            identity(3, None, Some("c@x")),
            identity(4, Some("r4"), None),
            identity(5, Some("r5"), Some("e@x")),
        ];
        let known: HashMap<Key, Identity> = known.into_iter().map(|it| (it.key.clone(), it)).collect();
        let operation = |n: u32, kind: OperationKind, email: &str| {
            Transformed::Operation(Operation {
                n,
                kind,
                key: Json::written("{}".into()),
                matched: Json::written(format!(r#"{{"email":"{email}"}}"#)),
                id: None,
                fields: Json::written("{}".into()),
                asks: None,
            })
        };
        let mut lines = [
            operation(0, OperationKind::Upsert, "a@x"),
            operation(1, OperationKind::Upsert, "new@x"),
            operation(2, OperationKind::Upsert, "new@x"),
            operation(3, OperationKind::Upsert, "new@x"),
            operation(4, OperationKind::Update, "new@x"),
            operation(5, OperationKind::Upsert, "new@x"),
        ];
        let changes: Vec<Change> = [1, 2, 3, 4, 5, 6].map(change).into();
        moved(&mut lines, &changes, &known);
        let ids: Vec<Option<&str>> = lines
            .iter()
            .map(|line| match line {
                Transformed::Operation(operation) => operation.id.as_deref(),
                Transformed::Rejected(_) | Transformed::Skipped(_) => None,
            })
            .collect();
        assert_eq!(ids, [None, Some("r2"), None, None, None, None]);
    }
}
