//! What a rehearsal has shown: every row of the unload, held against the twin's records and the dead letters.

use std::collections::{BTreeMap, HashMap};

use penstock_model::dead_letter::DeadLetter;
use penstock_model::definition::{Mode, Sync};
use penstock_model::operation::{Operation, Transformed};
use penstock_model::report::RunStatus;
use penstock_twins::{ConnectorRecord, Ended};
use serde::Serialize;
use serde_json::Value;

use super::held::{Account, HeldRecord, Simulated};
use crate::local::Finished;
use crate::show::FailureShown;

/// How many keys of lost rows are named.
const NAMED: usize = 5;

/// One run of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct RunShown {
    pub(super) status: RunStatus,
    pub(super) failure: Option<FailureShown>,
    pub(super) requests: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) unknown: u64,
    /// What the next run is to send again; nothing if the run did not come so far.
    pub(super) pending: Option<u64>,
}

impl RunShown {
    pub(super) fn of(finished: &Finished, requests: u64, pending: Option<u64>) -> Self {
        let counts = &finished.result.counts;
        Self {
            status: finished.result.status,
            failure: finished.result.failure.clone(),
            requests,
            accepted: counts.accepted,
            rejected: counts.rejected,
            unknown: counts.unknown,
            pending,
        }
    }

    /// Whether it left nothing to send.
    pub(super) fn is_last(&self) -> bool {
        match self.status {
            RunStatus::NothingToDo => true,
            RunStatus::Succeeded | RunStatus::SucceededWithRejections => self.pending == Some(0),
            RunStatus::Failed => false,
        }
    }
}

/// Dead letters of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct DeadShown {
    code: String,
    rows: u64,
}

/// A rate limit, and how near the busiest stretch came to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LimitShown {
    within_s: u64,
    allowed: u32,
    /// Requests in the busiest stretch of that length, refused ones included.
    most: u64,
}

impl LimitShown {
    fn is_kept(&self) -> bool {
        self.most <= u64::from(self.allowed)
    }
}

/// The one object that `--json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Whether nothing was lost, duplicated, or sent above a limit.
    good: bool,
    /// Whether the last run left nothing to send. If not, rows count as lost that a later run may still deliver.
    done: bool,
    runs: Vec<RunShown>,
    /// Rows of the unload.
    rows: u64,
    /// Rows whose record at the twin is what they are mapped to.
    arrived: u64,
    /// Of those, rows that are dead letters too: they arrived by a request whose answer was lost, and nobody could know.
    arrived_dead: u64,
    /// Rows that share their record with another row, whose values it has.
    overwritten: u64,
    /// Rows that had nothing to say, or whose record was there already.
    skipped: u64,
    /// Rows that are kept as dead letters.
    dead_letters: Vec<DeadShown>,
    /// Rows that are neither at the twin nor among the dead letters.
    lost: u64,
    /// The first of their keys.
    lost_keys: Vec<Value>,
    /// Records that are at the twin more often than rows say.
    duplicated: u64,
    /// Writes that repeated an earlier one of the same record, which does no harm.
    repeated: u64,
    requests: u64,
    throttled: u64,
    limits: Vec<LimitShown>,
}

/// What became of one row.
enum Fate {
    Arrived,
    Overwritten,
    Skipped,
    Lost,
}

impl Verdict {
    /// Compares what rows are mapped to with what the twin holds.
    pub(super) fn of(
        sync: &Sync,
        account: &Account,
        rows: Vec<Transformed>,
        letters: &[DeadLetter],
        runs: Vec<RunShown>,
    ) -> Self {
        let codes: HashMap<String, &str> =
            letters.iter().map(|letter| (comparable(letter.key.get()), letter.code.as_str())).collect();
        let mut held = Held::new(sync, account, &rows);
        let mut verdict = Self::empty(&account.twin, runs);
        let mut dead: BTreeMap<String, u64> = BTreeMap::new();
        verdict.rows = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        for row in &rows {
            let (key, fate) = match row {
                Transformed::Operation(operation) => (Some(&operation.key), held.fate(operation)),
                Transformed::Rejected(rejected) => (Some(&rejected.key), Fate::Lost),
                Transformed::Skipped(_) => (None, Fate::Skipped),
            };
            let code = key.and_then(|key| codes.get(&comparable(key.get())).copied());
            match (fate, code) {
                (Fate::Arrived, code) => {
                    verdict.arrived += 1;
                    verdict.arrived_dead += u64::from(code.is_some());
                }
                (_, Some(code)) => *dead.entry(code.to_owned()).or_default() += 1,
                (Fate::Overwritten, None) => verdict.overwritten += 1,
                (Fate::Skipped, None) => verdict.skipped += 1,
                (Fate::Lost, None) => {
                    verdict.lost += 1;
                    let key = key.and_then(|key| serde_json::from_str(key.get()).ok());
                    verdict.lost_keys.extend(key.filter(|_| verdict.lost_keys.len() < NAMED));
                }
            }
        }
        verdict.dead_letters = dead.into_iter().map(|(code, rows)| DeadShown { code, rows }).collect();
        verdict.duplicated = held.duplicated();
        verdict.repeated = held.repeated();
        verdict.good =
            verdict.lost == 0 && verdict.duplicated == 0 && verdict.limits.iter().all(LimitShown::is_kept);
        verdict
    }

    fn empty(twin: &Simulated, runs: Vec<RunShown>) -> Self {
        let journal = twin.journal();
        let limits = twin.limits().into_iter().map(|limit| LimitShown {
            within_s: limit.within.as_secs(),
            allowed: limit.requests,
            most: u64::try_from(journal.most_requests_within(limit.within)).unwrap_or(u64::MAX),
        });
        Self {
            good: false,
            done: runs.last().is_some_and(RunShown::is_last),
            runs,
            rows: 0,
            arrived: 0,
            arrived_dead: 0,
            overwritten: 0,
            skipped: 0,
            dead_letters: Vec::new(),
            lost: 0,
            lost_keys: Vec::new(),
            duplicated: 0,
            repeated: 0,
            requests: journal.requests(),
            throttled: journal.requests_ended(Ended::Answered(429)),
            limits: limits.collect(),
        }
    }

    /// Whether the process ends with 0.
    pub(super) const fn is_good(&self) -> bool {
        self.good
    }

    fn headline(&self) -> String {
        if self.good {
            return "nothing lost, nothing twice, no limit exceeded".to_owned();
        }
        let mut reasons = Vec::new();
        if !self.done {
            reasons.push(format!("after {} runs not everything is delivered", self.runs.len()));
        } else if self.lost > 0 {
            reasons.push(format!("{} rows are lost", self.lost));
        }
        if self.duplicated > 0 {
            reasons.push(format!("{} records came twice", self.duplicated));
        }
        if self.limits.iter().any(|limit| !limit.is_kept()) {
            reasons.push("a limit was exceeded".to_owned());
        }
        format!("NOT GOOD: {}", reasons.join(", "))
    }

    /// The verdict for a person.
    pub(super) fn plain(&self) -> String {
        let mut lines = vec![self.headline()];
        for (n, run) in (1..).zip(&self.runs) {
            let pending = run.pending.map_or("an unknown number".to_owned(), |pending| pending.to_string());
            lines.push(format!(
                "  run {n:<8} {} requests: {} accepted, {} rejected, {} unknown; {pending} pending",
                run.requests, run.accepted, run.rejected, run.unknown
            ));
            if let Some(failure) = &run.failure {
                lines.push(format!("               failed: {}: {}", failure.name, failure.message));
            }
        }
        let dead_too = match self.arrived_dead {
            0 => String::new(),
            some => format!(" ({some} of them are dead letters too: their answer was lost)"),
        };
        lines.push(format!("  rows         {} in the unload", self.rows));
        lines.push(format!("  arrived      {}, value for value{dead_too}", self.arrived));
        for (count, what) in [
            (self.overwritten, "overwritten  {} share a record with another row, whose values it has"),
            (self.skipped, "skipped      {} had nothing to say, or their record was there"),
        ] {
            if count > 0 {
                lines.push(format!("  {}", what.replace("{}", &count.to_string())));
            }
        }
        for dead in &self.dead_letters {
            lines.push(format!("  dead letters {} × {}", dead.rows, dead.code));
        }
        let lost = if self.done { "LOST" } else { "undelivered" };
        lines.push(format!("  {lost:<12} {}", self.lost));
        for key in &self.lost_keys {
            lines.push(format!("               {key}"));
        }
        lines.push(format!("  duplicated   {}", self.duplicated));
        lines.push(format!(
            "  repeated     {} writes of a record that was written already, harmless",
            self.repeated
        ));
        lines.push(format!("  requests     {}, {} throttled", self.requests, self.throttled));
        for limit in &self.limits {
            lines.push(format!(
                "  limit        {} in {} s; at most {} were sent in that time",
                limit.allowed, limit.within_s, limit.most
            ));
        }
        lines.join("\n") + "\n"
    }
}

/// JSON without differences in white space or order.
fn comparable(json: &str) -> String {
    serde_json::from_str::<Value>(json).map_or_else(|_| json.to_owned(), |value| value.to_string())
}

/// What the account holds, to be compared with rows.
struct Held<'a> {
    sync: &'a Sync,
    account: &'a Account,
    /// By match value.
    records: HashMap<String, HeldRecord>,
    /// Appended records by their content: how many there are, and how many rows say so.
    appended: HashMap<String, (u64, u64)>,
    /// How many rows are about a record.
    sharing: HashMap<String, u64>,
}

impl<'a> Held<'a> {
    fn new(sync: &'a Sync, account: &'a Account, rows: &[Transformed]) -> Self {
        let records = account.records(sync).into_iter().map(|record| (record.key.clone(), record));
        let mut appended: HashMap<String, (u64, u64)> = HashMap::new();
        for content in account.appended(sync) {
            appended.entry(content).or_default().0 += 1;
        }
        let mut sharing: HashMap<String, u64> = HashMap::new();
        for row in rows {
            if let Transformed::Operation(operation) = row
                && let Some(key) = ConnectorRecord::key_of(operation.matched.get())
            {
                *sharing.entry(key).or_default() += 1;
            }
        }
        Self { sync, account, records: records.collect(), appended, sharing }
    }

    fn fate(&mut self, operation: &Operation) -> Fate {
        if self.sync.mode == Mode::Append {
            for content in self.account.contents(self.sync, operation) {
                if let Some((held, wanted)) = self.appended.get_mut(&content) {
                    *wanted += 1;
                    return if *wanted <= *held { Fate::Arrived } else { Fate::Lost };
                }
            }
            return Fate::Lost;
        }
        let Some(key) = ConnectorRecord::key_of(operation.matched.get()) else { return Fate::Lost };
        let shared = self.sharing.get(&key).is_some_and(|rows| *rows > 1);
        let expected = self.account.expected(self.sync, operation);
        match self.records.get(&key) {
            Some(record) if self.account.holds(record, &expected) => Fate::Arrived,
            Some(_) if shared => Fate::Overwritten,
            Some(_) | None => Fate::Lost,
        }
    }

    /// Appended records beyond those that rows say.
    fn duplicated(&self) -> u64 {
        if self.sync.mode != Mode::Append {
            return 0;
        }
        self.appended.values().map(|(held, wanted)| held.saturating_sub(*wanted)).sum()
    }

    /// Writes of a record beyond one for each row about it.
    fn repeated(&self) -> u64 {
        if self.sync.mode == Mode::Append {
            return 0;
        }
        // A write may be noted under the record's id.
        let by_id: HashMap<&String, &String> =
            self.records.values().map(|record| (&record.id, &record.key)).collect();
        let mut writes: HashMap<&String, u64> = HashMap::new();
        let noted = self.account.twin.journal().writes_per_key(&self.sync.object);
        for (key, count) in &noted {
            *writes.entry(self.account.key_of_write(key, &by_id)).or_default() += count;
        }
        let rows = |key: &String| self.sharing.get(key).copied().unwrap_or_default();
        writes.into_iter().map(|(key, writes)| writes.saturating_sub(rows(key))).sum()
    }
}
