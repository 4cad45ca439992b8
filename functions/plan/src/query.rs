//! An unload that the warehouse makes for this run: pinned first, read once it is there.

use penstock_columnar::unload::Discovered;
use penstock_model::contract::{RunOptions, RunRef};
use penstock_model::definition::{Complete, ResolvedSync};
use penstock_model::port::Objects;
use penstock_model::snapshot::SnapshotManifest;
use penstock_model::unload::PinnedUnload;
use penstock_model::warehouse::{PinnedQuery, UnloadAttempt, UnloadOutcome};
use penstock_model::{Failure, FailureName};
use penstock_store::{json, unloads};

/// Where the run's unload lies.
#[derive(Debug)]
pub(crate) enum Source {
    /// Here, and this tells that it is complete.
    At(String, Complete),
    /// The warehouse has to be asked for it first; what it is asked is pinned.
    ToBeMade,
    /// The statement's own result says that there are no rows, and the warehouse writes nothing then.
    Empty(Box<UnloadAttempt>),
}

/// Finds out where the run's unload lies. A query is run once a run: not for an unload that the starter names, nor for a
/// replay, which takes the newest there is.
///
/// # Errors
/// `SyncInvalid` if the query can't be run as it is written; `StorageUnavailable`, `ContractMismatch`.
pub(crate) async fn source(
    state: &dyn Objects,
    definition: &ResolvedSync,
    options: &RunOptions,
    run: &RunRef,
) -> Result<Source, Failure> {
    let unload = &definition.unload;
    if let Some(location) = &options.unload {
        // Whoever names an unload by hand vouches for it.
        return Ok(Source::At(location.clone(), Complete::AsListed));
    }
    let newest = || {
        let (location, complete) = unload.place();
        Ok(Source::At(location, complete))
    };
    let Some(query) = &unload.query else { return newest() };
    let problems = query.problems(&unload.location);
    if !problems.is_empty() {
        let list: Vec<_> =
            problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
        let message = format!("unload {}: {}", definition.sync.unload, list.join("; "));
        return Err(Failure::new(FailureName::SyncInvalid, message));
    }
    if options.replay.is_some() {
        return newest();
    }
    match unloads::last(state, &run.keys()).await? {
        Some((attempt @ UnloadAttempt { outcome: UnloadOutcome::Finished { rows: Some(0), .. }, .. }, _)) => {
            Ok(Source::Empty(Box::new(attempt)))
        }
        Some((UnloadAttempt { outcome: UnloadOutcome::Finished { .. }, prefix, .. }, _)) => {
            Ok(Source::At(prefix, Complete::RedshiftManifest))
        }
        Some((UnloadAttempt { outcome: UnloadOutcome::Submitted | UnloadOutcome::Failed, .. }, _)) | None => {
            let (query, location) = (query.clone(), unload.folder());
            let pinned = PinnedQuery { version: PinnedQuery::VERSION, query, location };
            let body = serde_json::to_vec(&pinned).map_err(|error| {
                Failure::because(FailureName::InvariantBroken, "a query has no JSON form", error)
            })?;
            json::put_once(state, &run.keys().query(), body.into()).await?;
            Ok(Source::ToBeMade)
        }
    }
}

/// An unload without files. Its key columns are those of the snapshot, whose every row is gone; without a snapshot there is
/// nothing to compare it with.
pub(crate) fn empty(attempt: &UnloadAttempt, manifest: &SnapshotManifest) -> Discovered {
    let bucket_end = attempt.prefix.match_indices('/').nth(2).map_or(attempt.prefix.len(), |(at, _)| at);
    let completed_at = match attempt.outcome {
        UnloadOutcome::Finished { at, .. } => at,
        UnloadOutcome::Submitted | UnloadOutcome::Failed => attempt.submitted_at,
    };
    let unload = PinnedUnload {
        root: attempt.prefix.get(..bucket_end).unwrap_or_default().to_owned(),
        prefix: attempt.prefix.clone(),
        // One empty unload is like another.
        identity: "empty".to_owned(),
        completed_at,
        files: Vec::new(),
    };
    Discovered { unload, columns: manifest.key_columns.clone(), unusable: Vec::new() }
}
