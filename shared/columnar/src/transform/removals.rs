//! Rows that are gone.

use std::collections::HashMap;

use penstock_model::Key;
use penstock_model::change::Change;
use penstock_model::dead_letter::Stage;
use penstock_model::definition::Scope;
use penstock_model::json::Json;
use penstock_model::operation::{Operation, RejectedRecord, SkippedRow, Transformed};
use penstock_model::outcome::SkipReason;
use penstock_model::run_plan::RunPlan;
use penstock_model::snapshot::Identity;

use super::TransformError;
use crate::mapping::{KeyColumns, Mapping, Removal, match_from_key};

/// Maps a chunk of removals: one result for each, with its index as ordinal. `identities` holds what is remembered
/// of their records.
///
/// A record that this sync did not create is left alone, unless the sync says otherwise. One that may be touched but
/// can't be named any more, since its id or match values were never learnt, is rejected, so that somebody sees it.
///
/// # Errors
/// [`TransformError::Key`] if a key is damaged.
pub fn removals<S: std::hash::BuildHasher>(
    plan: &RunPlan,
    mapping: &Mapping,
    changes: &[Change],
    identities: &HashMap<Key, Identity, S>,
) -> Result<Vec<Transformed>, TransformError> {
    (0_u32..)
        .zip(changes)
        .map(|(n, change)| match mapping.removal() {
            None => Ok(Transformed::Skipped(SkippedRow { n, why: SkipReason::NothingToSay })),
            Some(removal) => one(plan, mapping, removal, n, &change.key, identities.get(&change.key)),
        })
        .collect()
}

fn one(
    plan: &RunPlan,
    mapping: &Mapping,
    removal: &Removal,
    n: u32,
    key: &Key,
    identity: Option<&Identity>,
) -> Result<Transformed, TransformError> {
    if removal.scope == Scope::Ours && !identity.is_some_and(|identity| identity.created) {
        return Ok(Transformed::Skipped(SkippedRow { n, why: SkipReason::NotOurs }));
    }
    let shown = Json::written(KeyColumns::of(&plan.key_columns).object(key)?);
    let reject = |code: &str, message: &str, key| {
        let (code, message) = (code.to_owned(), message.to_owned());
        Ok(Transformed::Rejected(RejectedRecord {
            n,
            key,
            stage: Stage::Transform,
            code,
            message,
            field: None,
        }))
    };
    let id = identity.and_then(|identity| identity.id.clone());
    if removal.needs_id && id.is_none() {
        return reject("id_unknown", "the record's id at the destination was never learnt", shown);
    }
    let matched = match match_from_key(mapping, key, &plan.key_columns)? {
        Some(matched) => Some(matched),
        None => match identity.and_then(|identity| identity.matched.as_ref()) {
            Some(matched) => Some(serde_json::to_string(matched).map_err(TransformError::NotJson)?),
            // The id alone will do.
            None => id.is_some().then(|| "{}".to_owned()),
        },
    };
    let Some(matched) = matched else {
        return reject("match_unknown", "the record's match values were not kept", shown);
    };
    Ok(Transformed::Operation(Operation {
        n,
        kind: removal.kind,
        key: shown,
        matched: Json::written(matched),
        id,
        fields: Json::written(removal.fields.clone()),
        asks: None,
    }))
}
