//! `append`: the rows to send, oldest unload first.

use penstock_model::contract::{Replay, RunRef};
use penstock_model::dead_letter::DeadLetter;
use penstock_model::operation::ChunkRange;
use penstock_model::port::Objects;
use penstock_model::run_plan::{GateDecision, RunPlan};
use penstock_model::snapshot::{LedgerEntry, RowRange, SnapshotManifest};
use penstock_model::unload::{PinnedUnload, Split};
use penstock_model::{Failure, layout};
use penstock_store::{json, lines};

/// What is left of earlier unloads, and then all of the newest, unless it was begun before.
pub(crate) fn work(
    manifest: Option<&SnapshotManifest>,
    unload: &PinnedUnload,
    splits: Vec<Split>,
    full: bool,
) -> Vec<LedgerEntry> {
    let mut work = manifest.map(|manifest| manifest.ledger.clone()).unwrap_or_default();
    let known = manifest.is_some_and(|manifest| manifest.unload.identity == unload.identity);
    if !known || full {
        let pending = splits
            .iter()
            .enumerate()
            .map(|(index, split)| RowRange {
                split: u32::try_from(index).unwrap_or(u32::MAX),
                from: 0,
                to: split.rows,
            })
            .collect();
        work.push(LedgerEntry { unload: unload.clone(), splits, pending });
    }
    work.retain(|entry| !entry.pending.is_empty());
    work
}

/// The rows of dead letters, from the unloads they came from.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub(crate) async fn replayed(
    state: &dyn Objects,
    run: &RunRef,
    replay: &Replay,
) -> Result<Vec<LedgerEntry>, Failure> {
    let prefix = run.sync_keys().dead_letters();
    let mut work: Vec<LedgerEntry> = Vec::new();
    for object in state.list(&prefix).await.map_err(penstock_store::storage_failure)? {
        let Some(from_run) = object.key.strip_prefix(&prefix).and_then(|rest| rest.split('/').next()) else {
            continue;
        };
        if replay.run.as_ref().is_some_and(|wanted| wanted != from_run) {
            continue;
        }
        let letters: Vec<DeadLetter> = lines::read_lines(state, &object.key).await?.unwrap_or_default();
        let keys = layout::RunKeys { sync: &run.sync, run: from_run };
        let plan = json::get_json::<RunPlan>(state, &keys.plan()).await?;
        let gate = json::get_json::<GateDecision>(state, &keys.gate()).await?;
        let (Some((plan, _)), Some((gate, _))) = (plan, gate) else { continue };
        let is_meant =
            |letter: &&DeadLetter| replay.means(from_run, Some(&letter.code), Some(&letter.fingerprint()));
        for letter in letters.iter().filter(is_meant) {
            let range = gate.chunks.iter().find(|chunk| chunk.chunk == letter.chunk).map(|chunk| chunk.range);
            if let Some(ChunkRange::Append { entry, rows }) = range
                && let Some(source) = plan.append.get(entry as usize)
            {
                let row = rows.from.saturating_add(letter.n);
                add_row(
                    &mut work,
                    source,
                    RowRange { split: rows.split, from: row, to: row.saturating_add(1) },
                );
            }
        }
    }
    Ok(work)
}

fn add_row(work: &mut Vec<LedgerEntry>, source: &LedgerEntry, row: RowRange) {
    let entry = work
        .iter_mut()
        .find(|entry| entry.unload.identity == source.unload.identity && entry.splits == source.splits);
    match entry {
        Some(entry) => {
            if !entry.pending.contains(&row) {
                entry.pending.push(row);
            }
        }
        None => work.push(LedgerEntry {
            unload: source.unload.clone(),
            splits: source.splits.clone(),
            pending: vec![row],
        }),
    }
}
