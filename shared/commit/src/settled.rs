//! What a chunk leaves. Whoever sees it end writes it down; the commit gathers that, and looks for itself only where nobody
//! did, or where more has become known since.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use penstock_model::contract::RunRef;
use penstock_model::dead_letter::DeadLetter;
use penstock_model::layout::chunks_beginning;
use penstock_model::operation::{Chunk, ChunkRange};
use penstock_model::port::{Condition, Objects};
use penstock_model::report::{ApiUsage, Counts, Rejections};
use penstock_model::run_plan::RunPlan;
use penstock_model::settle::settle;
use penstock_model::settled::SettledChunk;
use penstock_model::snapshot::OverlayEntry;
use penstock_model::{Failure, FailureName};
use penstock_store::traces::{self, Traces};
use penstock_store::{lines, storage_failure, usage};

use crate::dead_letters::{self, Letters};
use crate::{append, chunk, identities};

/// Listings of many chunks at the same time.
const LISTINGS_AT_ONCE: usize = 2;
/// Packed objects of chunks fetched at the same time.
const FETCHES_AT_ONCE: usize = 64;

/// Writes what a chunk leaves by now, its dead letters first, and gives it.
///
/// # Errors
/// `StorageUnavailable`; `ContractMismatch` or `InvariantBroken` if an object can't be read.
pub async fn settle_chunk(
    state: &dyn Objects,
    plan: &RunPlan,
    listed: Chunk,
) -> Result<SettledChunk, Failure> {
    let keys = plan.run.keys();
    // Whatever comes after this look makes what is written here stale.
    let traces = traces::of_chunk(state, &keys, listed.chunk).await?;
    let key = keys.settled(listed.chunk);
    let settled = look(state, plan, listed, &traces, Letters::Written).await?;
    lines::put_lines(state, &key, [&settled], Condition::Always).await?;
    Ok(settled)
}

/// A chunk as a commit finds it.
#[derive(Debug)]
pub(crate) struct Found {
    chunk: Chunk,
    traces: Traces,
    /// What was written down, packed.
    settled: Option<Bytes>,
}

/// All chunks of a run, in their order.
pub(crate) fn each<'a>(
    state: &'a dyn Objects,
    run: &'a RunRef,
    chunks: &'a [Chunk],
) -> impl Stream<Item = Result<Found, Failure>> + Send + 'a {
    let listings = Chunk::together(chunks).map(move |listed| with_traces(state, run, listed));
    stream::iter(listings)
        .buffered(LISTINGS_AT_ONCE)
        .map_ok(|found| stream::iter(found.into_iter().map(Ok)))
        .try_flatten()
        .map_ok(move |(chunk, traces)| fetched(state, run, chunk, traces))
        .try_buffered(FETCHES_AT_ONCE)
}

async fn with_traces(
    state: &dyn Objects,
    run: &RunRef,
    chunks: &[Chunk],
) -> Result<Vec<(Chunk, Traces)>, Failure> {
    let Some(first) = chunks.first() else { return Ok(Vec::new()) };
    let mut traces = traces::of_chunks(state, &run.keys(), &chunks_beginning(first.chunk)).await?;
    Ok(chunks.iter().map(|chunk| (*chunk, traces.remove(&chunk.chunk).unwrap_or_default())).collect())
}

async fn fetched(state: &dyn Objects, run: &RunRef, chunk: Chunk, traces: Traces) -> Result<Found, Failure> {
    let settled = match traces.is_settled {
        true => state.get(&run.keys().settled(chunk.chunk)).await.map_err(storage_failure)?,
        false => None,
    };
    Ok(Found { chunk, traces, settled: settled.map(|(body, _)| body) })
}

impl Found {
    /// The chunk's range, and what it leaves. Writes dead letters where that has not been done and may be.
    ///
    /// # Errors
    /// As [`settle_chunk`].
    pub(crate) async fn settle(
        self,
        state: &dyn Objects,
        plan: &RunPlan,
        letters: Letters,
    ) -> Result<(ChunkRange, SettledChunk), Failure> {
        let settled = match self.as_written(plan)? {
            Some(settled) => settled,
            None => look(state, plan, self.chunk, &self.traces, letters).await?,
        };
        Ok((self.chunk.range, settled))
    }

    /// What became of its operations, and what its attempts asked of the destination. Writes nothing.
    ///
    /// # Errors
    /// As [`settle_chunk`].
    pub(crate) async fn tally(
        self,
        state: &dyn Objects,
        plan: &RunPlan,
    ) -> Result<(Counts, ApiUsage), Failure> {
        if let Some(settled) = self.as_written(plan)? {
            return Ok((settled.counts, settled.api));
        }
        let result = chunk::load(state, plan, self.chunk).await?;
        Ok((result.counts(), usage::of_chunk(state, &plan.run.keys(), self.chunk.chunk).await?))
    }

    /// What was written down of it, if that is still so; also if there is nothing to be known of it.
    fn as_written(&self, plan: &RunPlan) -> Result<Option<SettledChunk>, Failure> {
        if self.traces.version.is_none() {
            return Ok(Some(untouched(self.chunk)));
        }
        let Some(body) = &self.settled else { return Ok(None) };
        let key = plan.run.keys().settled(self.chunk.chunk);
        let holds = |it: &SettledChunk| {
            it.version == SettledChunk::VERSION && self.traces.version.as_ref() == Some(&it.traces)
        };
        match lines::decode_lines::<SettledChunk>(&key, body) {
            Ok(lines) => Ok(lines.into_iter().next().filter(holds)),
            // Written by another build, or damaged: what it was made from is all there.
            Err(failure) if failure.name == FailureName::ContractMismatch => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// What a chunk leaves of which nothing is known.
fn untouched(chunk: Chunk) -> SettledChunk {
    let (unsent, is_untouched) = match chunk.range {
        ChunkRange::Append { rows, .. } => (vec![rows], false),
        ChunkRange::Rows { .. } | ChunkRange::Removals { .. } => (Vec::new(), true),
    };
    SettledChunk {
        version: SettledChunk::VERSION,
        traces: String::new(),
        counts: Counts::default(),
        api: ApiUsage::default(),
        rejections: Vec::new(),
        overlay: Vec::new(),
        identities: Vec::new(),
        unsent,
        is_untouched,
    }
}

/// Works out what a chunk leaves from its traces, and its dead letters.
async fn look(
    state: &dyn Objects,
    plan: &RunPlan,
    listed: Chunk,
    traces: &Traces,
    letters: Letters,
) -> Result<SettledChunk, Failure> {
    let result = chunk::load(state, plan, listed).await?;
    let settled = SettledChunk {
        traces: traces.version.clone().unwrap_or_default(),
        counts: result.counts(),
        api: usage::of_chunk(state, &plan.run.keys(), listed.chunk).await?,
        unsent: append::unsent(&result),
        is_untouched: result.is_untouched(),
        ..untouched(listed)
    };
    if result.is_untouched() || (result.is_settled() && !plan.remember && !traces.has_letters) {
        return Ok(settled);
    }
    let changes = result.changes(state, plan).await?;
    let letters = match letters {
        Letters::Written => dead_letters::write(state, plan, &result, &changes, traces.has_letters).await?,
        Letters::Kept => dead_letters::of_chunk(plan, &result, &changes)?,
    };
    let mut rejections = Rejections::default();
    letters.iter().for_each(|letter| rejections.add(letter));
    let letter_of: BTreeMap<u32, &DeadLetter> = letters.iter().map(|letter| (letter.n, letter)).collect();
    let overlay = (0u32..).zip(changes.iter().zip(&result.outcomes)).filter_map(|(n, (change, outcome))| {
        let repeat = result.repeat(plan, n as usize);
        let entry =
            settle(change, outcome.as_ref(), result.reached, repeat, plan.mapping_hash, &plan.run.run)?;
        let letter = letter_of.get(&n);
        // A replay takes up what its dead letter says, also where only the answer was lost.
        Some(OverlayEntry {
            code: letter.map(|letter| letter.code.clone()).or(entry.code),
            fingerprint: letter.map(|letter| letter.fingerprint()),
            ..entry
        })
    });
    Ok(SettledChunk {
        rejections: rejections.groups(),
        overlay: overlay.collect(),
        identities: if plan.remember { identities::from_chunk(plan, &result, &changes) } else { Vec::new() },
        ..settled
    })
}
