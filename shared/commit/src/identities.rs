//! Ids, match values and "created by us", remembered for the connectors and removals that need them.

use std::collections::{HashMap, HashSet};

use penstock_model::change::Change;
use penstock_model::operation::{OperationKind, Transformed};
use penstock_model::outcome::Outcome;
use penstock_model::port::Objects;
use penstock_model::run_plan::RunPlan;
use penstock_model::snapshot::{Identity, SnapshotManifest};
use penstock_model::{Failure, Key};
use penstock_store::lines;

use crate::chunk::ChunkResult;

/// More files than this are merged into one at a commit.
pub(crate) const MOST_FILES: usize = 8;

/// The identities of these keys; of all keys if none are given.
///
/// # Errors
/// `StorageUnavailable`; `InvariantBroken` if a file that the manifest names is gone.
pub async fn load(
    state: &dyn Objects,
    manifest: &SnapshotManifest,
    wanted: Option<&HashSet<Key>>,
) -> Result<HashMap<Key, Identity>, Failure> {
    let mut identities = HashMap::new();
    for file in &manifest.identities {
        let found: Vec<Identity> = lines::require_lines(state, file).await?;
        for identity in
            found.into_iter().filter(|identity| wanted.is_none_or(|wanted| wanted.contains(&identity.key)))
        {
            learn(&mut identities, identity);
        }
    }
    Ok(identities)
}

/// An identity that knows nothing: we removed the record.
fn is_tombstone(identity: &Identity) -> bool {
    !identity.created && identity.id.is_none() && identity.matched.is_none()
}

/// Adds what is newly known of a record. Once ours, it stays ours until we remove it; an id is kept until another is
/// known.
pub(crate) fn learn(identities: &mut HashMap<Key, Identity>, new: Identity) {
    if is_tombstone(&new) {
        identities.insert(new.key.clone(), new);
        return;
    }
    match identities.entry(new.key.clone()) {
        std::collections::hash_map::Entry::Vacant(entry) => {
            entry.insert(new);
        }
        std::collections::hash_map::Entry::Occupied(mut entry) => {
            let known = entry.get_mut();
            known.created |= new.created;
            known.id = new.id.or(known.id.take());
            known.matched = new.matched.or(known.matched.take());
        }
    }
}

/// What a chunk's accepted operations tell of their records. A record that we removed is no longer ours.
pub(crate) fn from_chunk(plan: &RunPlan, result: &ChunkResult, changes: &[Change]) -> Vec<Identity> {
    let remembers_match = !plan.definition.match_is_key();
    let mut identities = Vec::new();
    let Some(transformed) = &result.transformed else { return identities };
    for ((line, outcome), change) in transformed.iter().zip(&result.outcomes).zip(changes) {
        let (Transformed::Operation(operation), Some(Outcome::Accepted { id, created })) = (line, outcome)
        else {
            continue;
        };
        match operation.kind {
            OperationKind::Delete | OperationKind::Archive => {
                identities.push(Identity {
                    key: change.key.clone(),
                    id: None,
                    created: false,
                    matched: None,
                });
            }
            OperationKind::Clear | OperationKind::Append => {}
            OperationKind::Upsert | OperationKind::Create | OperationKind::Update => {
                let identity = Identity {
                    key: change.key.clone(),
                    id: id.clone(),
                    created: *created == Some(true),
                    matched: remembers_match
                        .then(|| serde_json::from_str(operation.matched.get()).ok())
                        .flatten(),
                };
                // An update that told nothing of the record must not look like its removal.
                if !is_tombstone(&identity) {
                    identities.push(identity);
                }
            }
        }
    }
    identities
}
