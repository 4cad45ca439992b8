//! Every object's key.
//!
//! Three kinds of lifetime, told apart by the first part of a key, since a bucket's lifecycle rules go by
//! prefix: `definitions/`, `state/` and `budgets/` are never aged out, `runs/` once no redrive can need it, `dead-letters/`
//! when the user says so.

use crate::operation::ChunkId;

/// A published definition. `kind` is `syncs`, `unloads`, `connections` or `connectors`.
#[must_use]
pub fn definition(kind: &str, name: &str) -> String {
    format!("definitions/{kind}/{name}.json")
}

/// All published definitions of a kind.
#[must_use]
pub fn definitions(kind: &str) -> String {
    format!("definitions/{kind}/")
}

/// How the key of an object ends whose overlay entries only wait.
const WAITING: &str = ".waiting.bin";

/// One file of identities, by how its commit's keys begin (see [`SyncKeys::identities_of`]).
#[must_use]
pub fn identity_file(prefix: &str, number: u32) -> String {
    format!("{prefix}{number:05}.jsonl.zst")
}

/// Whether an overlay's object holds entries that only wait, in a format of their own, and no JSON lines.
#[must_use]
pub fn is_waiting(key: &str) -> bool {
    key.ends_with(WAITING)
}

/// What an account was sent today. Changed by compare-and-swap, by all syncs of the connection.
#[must_use]
pub fn budget(connection: &str, environment: Option<&str>) -> String {
    match environment {
        Some(environment) => format!("budgets/{connection}@{environment}.json"),
        None => format!("budgets/{connection}.json"),
    }
}

/// A chunk's name in keys.
#[must_use]
pub fn chunk_name(chunk: ChunkId) -> String {
    format!("{chunk:06}")
}

/// How the names of chunks begin that are looked at together with this one.
#[must_use]
pub fn chunks_beginning(chunk: ChunkId) -> String {
    format!("{:03}", chunk / CHUNKS_TOGETHER)
}

/// So many chunks have a beginning in common.
pub const CHUNKS_TOGETHER: u32 = 1_000;

/// The chunk with whose name this begins: what stands in a key behind [`RunKeys::traces`] and the like.
#[must_use]
pub fn chunk_of(rest: &str) -> Option<ChunkId> {
    rest.split(['/', '.']).next()?.parse().ok()
}

/// Keys of one sync that outlive its runs.
#[derive(Debug, Clone)]
pub struct SyncKeys<'a> {
    /// The sync's name.
    pub sync: &'a str,
}

impl SyncKeys<'_> {
    /// The lease: who may send for this sync. Changed by compare-and-swap.
    #[must_use]
    pub fn lease(&self) -> String {
        format!("state/{}/lease.json", self.sync)
    }

    /// The pointer to the committed snapshot's manifest. Changed by compare-and-swap.
    #[must_use]
    pub fn pointer(&self) -> String {
        format!("state/{}/current.json", self.sync)
    }

    /// The sync's last run that succeeded.
    #[must_use]
    pub fn last_success(&self) -> String {
        format!("state/{}/succeeded.json", self.sync)
    }

    /// All jobs at the destination that may not have ended: the name is the run, the chunk and the job.
    #[must_use]
    pub fn jobs(&self) -> String {
        format!("state/{}/jobs/", self.sync)
    }

    /// A job at the destination that works on rows of a run's chunk.
    #[must_use]
    pub fn job(&self, run: &str, chunk: ChunkId, job: &str) -> String {
        format!("{}{run}/{}/{job}.json", self.jobs(), chunk_name(chunk))
    }

    /// All snapshots, committed or not.
    #[must_use]
    pub fn snapshots(&self) -> String {
        format!("state/{}/snapshots/", self.sync)
    }

    /// The snapshot manifest that a commit of this run names. `generation` is [`RunRef::generation`](crate::contract::RunRef::generation). The nonce is the committer's: finish and a takeover
    /// may both commit a run, and neither may overwrite what the other's manifest names.
    #[must_use]
    pub fn manifest(&self, generation: &str, nonce: &str) -> String {
        format!("state/{}/snapshots/{generation}/manifest-{nonce}.json", self.sync)
    }

    /// A snapshot partition, written by `diff` as a candidate and named by the manifest once committed.
    #[must_use]
    pub fn snapshot_partition(&self, generation: &str, partition: u32) -> String {
        format!("state/{}/snapshots/{generation}/part-{partition:05}.parquet", self.sync)
    }

    /// Overlay entries of one key partition (JSON lines, zstd). A commit writes them a piece at a time.
    #[must_use]
    pub fn overlay_partition(&self, generation: &str, nonce: &str, partition: u32, piece: u32) -> String {
        let folder = format!("state/{}/snapshots/{generation}", self.sync);
        format!("{folder}/overlay-{nonce}-{partition:05}-{piece}.jsonl.zst")
    }

    /// Overlay entries of one key partition of which nothing was sent, so that they only wait; see [`is_waiting`].
    #[must_use]
    pub fn waiting_partition(&self, generation: &str, nonce: &str, partition: u32) -> String {
        format!("state/{}/snapshots/{generation}/overlay-{nonce}-{partition:05}{WAITING}", self.sync)
    }

    /// What all runs learned of records' identities.
    #[must_use]
    pub fn identities(&self) -> String {
        format!("state/{}/identity/", self.sync)
    }

    /// What one commit of a run learned of records' identities, or merged: how the keys of its files begin; see
    /// [`identity_file`].
    #[must_use]
    pub fn identities_of(&self, generation: &str, nonce: &str) -> String {
        format!("state/{}/identity/{generation}-{nonce}-", self.sync)
    }

    /// All runs of the sync.
    #[must_use]
    pub fn runs(&self) -> String {
        format!("runs/{}/", self.sync)
    }

    /// All dead letters of the sync.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        format!("dead-letters/{}/", self.sync)
    }

    /// The keys of one run.
    #[must_use]
    pub fn run<'b>(&'b self, run: &'b str) -> RunKeys<'b> {
        RunKeys { sync: self.sync, run }
    }
}

/// Keys of one run.
#[derive(Debug, Clone)]
pub struct RunKeys<'a> {
    /// The sync's name.
    pub sync: &'a str,
    /// The run's id.
    pub run: &'a str,
}

impl RunKeys<'_> {
    fn at(&self, rest: &str) -> String {
        format!("runs/{}/{}/{rest}", self.sync, self.run)
    }

    /// The pinned plan.
    #[must_use]
    pub fn plan(&self) -> String {
        self.at("plan.json")
    }

    /// The query that the warehouse unloads for this run.
    #[must_use]
    pub fn query(&self) -> String {
        self.at("query.json")
    }

    /// The attempts at unloading it.
    #[must_use]
    pub fn unloads(&self) -> String {
        self.at("unloads/")
    }

    /// One attempt at unloading it.
    #[must_use]
    pub fn unload(&self, attempt: u32) -> String {
        format!("{}{attempt:05}.json", self.unloads())
    }

    /// The items of the Read Map.
    #[must_use]
    pub fn splits(&self) -> String {
        self.at("splits.json")
    }

    /// The items of the Diff Map.
    #[must_use]
    pub fn partitions(&self) -> String {
        self.at("partitions.json")
    }

    /// One split's fingerprints.
    #[must_use]
    pub fn fingerprints(&self, split: u32) -> String {
        self.at(&format!("fingerprints/{split:05}.bin"))
    }

    /// Where the pages of one split's columns stand, if its files do not say so.
    #[must_use]
    pub fn pages(&self, split: u32) -> String {
        self.at(&format!("fingerprints/{split:05}.pages.bin"))
    }

    /// One split's counts (rows, null counts).
    #[must_use]
    pub fn split_counts(&self, split: u32) -> String {
        self.at(&format!("fingerprints/{split:05}.json"))
    }

    /// One key partition's added, changed and rejected rows, by place.
    #[must_use]
    pub fn changes(&self, partition: u32) -> String {
        self.at(&format!("changes/{partition:05}.bin"))
    }

    /// One key partition's removals, by key hash.
    #[must_use]
    pub fn removals(&self, partition: u32) -> String {
        self.at(&format!("changes/{partition:05}.removals.bin"))
    }

    /// One key partition's counts.
    #[must_use]
    pub fn diff_counts(&self, partition: u32) -> String {
        self.at(&format!("changes/{partition:05}.json"))
    }

    /// Overlay entries that `diff` carries over unchanged into the next snapshot (JSON lines, zstd).
    #[must_use]
    pub fn carried_overlay(&self, partition: u32) -> String {
        self.at(&format!("changes/{partition:05}.overlay.jsonl.zst"))
    }

    /// Gate's decision: totals and every chunk.
    #[must_use]
    pub fn gate(&self) -> String {
        self.at("gate.json")
    }

    /// Gate's chunks again, in parts, so that whoever works on one need not read all: the part that this one is in.
    #[must_use]
    pub fn part_of_chunks(&self, chunk: ChunkId) -> String {
        self.at(&format!("chunks/{}.json", chunks_beginning(chunk)))
    }

    /// The items of the Deliver Map: all chunks, or the canary alone.
    #[must_use]
    pub fn chunks(&self) -> String {
        self.at("chunks.json")
    }

    /// The items of the second Deliver Map: what follows the canary.
    #[must_use]
    pub fn chunks_after_canary(&self) -> String {
        self.at("chunks-after-canary.json")
    }

    /// One chunk's operations, rejected and skipped rows (tab-separated lines, zstd).
    #[must_use]
    pub fn operations(&self, chunk: ChunkId) -> String {
        self.at(&format!("operations/{}.tsv.zst", chunk_name(chunk)))
    }

    /// Everything the attempts at one chunk have witnessed.
    #[must_use]
    pub fn receipts(&self, chunk: ChunkId) -> String {
        self.at(&format!("receipts/{}/", chunk_name(chunk)))
    }

    /// One receipt: the attempt is in the key, so that no writer can overwrite another's.
    #[must_use]
    pub fn receipt(&self, chunk: ChunkId, attempt: &str, sequence: u32) -> String {
        format!("{}{attempt}/{sequence:06}.jsonl", self.receipts(chunk))
    }

    /// The intents of the attempts at one chunk.
    #[must_use]
    pub fn intents(&self, chunk: ChunkId) -> String {
        self.at(&format!("intents/{}/", chunk_name(chunk)))
    }

    /// One intent: ordinals that are about to be sent and can't be sent twice.
    #[must_use]
    pub fn intent(&self, chunk: ChunkId, attempt: &str, sequence: u32) -> String {
        format!("{}{attempt}/{sequence:06}.json", self.intents(chunk))
    }

    /// What the attempts at one chunk have taken back of their intents.
    #[must_use]
    pub fn withdrawals(&self, chunk: ChunkId) -> String {
        self.at(&format!("withdrawals/{}/", chunk_name(chunk)))
    }

    /// One withdrawal: ordinals that were announced, surely not carried out, and not sent again by the attempt.
    #[must_use]
    pub fn withdrawal(&self, chunk: ChunkId, attempt: &str, sequence: u32) -> String {
        format!("{}{attempt}/{sequence:06}.json", self.withdrawals(chunk))
    }

    /// Every attempt of every chunk.
    #[must_use]
    pub fn all_attempts(&self) -> String {
        self.at("attempts/")
    }

    /// The attempts at one chunk.
    #[must_use]
    pub fn attempts(&self, chunk: ChunkId) -> String {
        self.at(&format!("attempts/{}/", chunk_name(chunk)))
    }

    /// Where everything lies that tells what became of chunks: their operations, and what the attempts at them have left. Below each
    /// prefix a chunk's name comes next.
    #[must_use]
    pub fn traces(&self) -> [String; 5] {
        ["operations/", "attempts/", "intents/", "withdrawals/", "receipts/"].map(|folder| self.at(folder))
    }

    /// What every chunk leaves.
    #[must_use]
    pub fn all_settled(&self) -> String {
        self.at("settled/")
    }

    /// What one chunk leaves: a [`SettledChunk`](crate::settled::SettledChunk).
    #[must_use]
    pub fn settled(&self, chunk: ChunkId) -> String {
        format!("{}{}.jsonl.zst", self.all_settled(), chunk_name(chunk))
    }

    /// One attempt's deadline.
    #[must_use]
    pub fn attempt(&self, chunk: ChunkId, attempt: &str) -> String {
        format!("{}{attempt}.json", self.attempts(chunk))
    }

    /// The API usage of the attempts at one chunk.
    #[must_use]
    pub fn api_usages(&self, chunk: ChunkId) -> String {
        self.at(&format!("usage/{}/", chunk_name(chunk)))
    }

    /// API calls, throttles and retries of one attempt.
    #[must_use]
    pub fn api_usage(&self, chunk: ChunkId, attempt: &str) -> String {
        format!("{}{attempt}.json", self.api_usages(chunk))
    }

    /// What every invocation of the run cost.
    #[must_use]
    pub fn all_work(&self) -> String {
        self.at("work/")
    }

    /// What one invocation cost; its figures are the name.
    #[must_use]
    pub fn work(&self, name: &str) -> String {
        format!("{}{name}", self.all_work())
    }

    /// The chunks that failed for good.
    #[must_use]
    pub fn failed_chunks(&self) -> String {
        self.at("failed-chunks/")
    }

    /// One chunk that failed for good.
    #[must_use]
    pub fn failed_chunk(&self, chunk: ChunkId) -> String {
        format!("{}{}.json", self.failed_chunks(), chunk_name(chunk))
    }

    /// The marker that stops every push of the run.
    #[must_use]
    pub fn abort(&self) -> String {
        self.at("abort.json")
    }

    /// The run's report.
    #[must_use]
    pub fn report(&self) -> String {
        self.at("report.json")
    }

    /// The dead letters of all chunks.
    #[must_use]
    pub fn all_dead_letters(&self) -> String {
        format!("dead-letters/{}/{}/", self.sync, self.run)
    }

    /// One chunk's dead letters (JSON lines).
    #[must_use]
    pub fn dead_letters(&self, chunk: ChunkId) -> String {
        format!("{}{}.jsonl", self.all_dead_letters(), chunk_name(chunk))
    }
}
