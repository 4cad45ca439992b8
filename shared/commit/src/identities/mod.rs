//! Ids, match values and "created by us", remembered for the connectors and removals that need them.
//!
//! They lie in layers, each ordered by key hash; what a later layer says of a key counts. A commit adds a layer, and
//! merges those that have become many, a stretch of each at a time: memory does not grow with them.

mod layers;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use penstock_model::change::Change;
use penstock_model::operation::{OperationKind, Transformed};
use penstock_model::outcome::Outcome;
use penstock_model::port::Objects;
use penstock_model::run_plan::RunPlan;
use penstock_model::snapshot::{Identity, SnapshotManifest};
use penstock_model::{Failure, Key};
use penstock_store::line_stream::LineReader;
use penstock_store::storage_failure;

use crate::chunk::ChunkResult;

pub(crate) use layers::IdentityLayers;

/// The identities of these keys. Only files that can hold one of them are read, a stretch at a time.
///
/// # Errors
/// `StorageUnavailable`; `InvariantBroken` if a file that the manifest names is gone.
pub async fn load(
    state: &dyn Objects,
    manifest: &SnapshotManifest,
    wanted: &HashSet<Key>,
) -> Result<HashMap<Key, Identity>, Failure> {
    let mut hashes: Vec<u64> = wanted.iter().map(|key| first_half(key.hash())).collect();
    hashes.sort_unstable();
    let mut identities = HashMap::new();
    for file in manifest.layers().iter().flat_map(|layer| &layer.files) {
        let first = hashes.partition_point(|hash| *hash < file.first);
        if hashes.get(first).is_none_or(|hash| *hash > file.last) {
            continue;
        }
        let mut lines: LineReader<'_, Identity> = LineReader::open(state, &file.key).await?;
        while let Some(identity) = lines.next().await? {
            if wanted.contains(&identity.key) {
                learn(&mut identities, identity);
            }
        }
    }
    Ok(identities)
}

/// Removes files that neither this manifest nor the one that the run started from names, of runs before it: merged ones, and those
/// of commits that came to nothing.
///
/// # Errors
/// `StorageUnavailable`.
pub(crate) async fn sweep(
    state: &dyn Objects,
    plan: &RunPlan,
    manifest: &SnapshotManifest,
) -> Result<(), Failure> {
    let named: HashSet<String> = std::iter::once(manifest)
        .chain(&plan.snapshot)
        .flat_map(SnapshotManifest::layers)
        .flat_map(|layer| layer.files)
        .map(|file| file.key)
        .collect();
    let ours = format!("{}{}", plan.run.sync_keys().identities(), plan.run.generation());
    // Names sort as the runs took the lease.
    let all = state.list(&plan.run.sync_keys().identities()).await.map_err(storage_failure)?;
    for object in all.iter().filter(|object| object.key < ours && !named.contains(&object.key)) {
        state.delete(&object.key).await.map_err(storage_failure)?;
    }
    Ok(())
}

/// The first half of a key's hash.
fn first_half(hash: u128) -> u64 {
    u64::try_from(hash >> 64).unwrap_or(u64::MAX)
}

/// An identity that knows nothing: we removed the record.
fn is_tombstone(identity: &Identity) -> bool {
    !identity.created && identity.id.is_none() && identity.matched.is_none()
}

/// Adds what is newly known of a record. Once ours, it stays ours until we remove it; an id is kept until another is
/// known.
fn learn(identities: &mut HashMap<Key, Identity>, new: Identity) {
    if is_tombstone(&new) {
        identities.insert(new.key.clone(), new);
        return;
    }
    match identities.entry(new.key.clone()) {
        Entry::Vacant(entry) => {
            entry.insert(new);
        }
        Entry::Occupied(mut entry) => {
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
