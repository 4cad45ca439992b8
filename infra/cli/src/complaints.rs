//! Dead letters, read and grouped by what they complain of.

use std::collections::BTreeMap;

use penstock_model::Failure;
use penstock_model::dead_letter::{DeadLetter, Stage};
use penstock_model::json::Json;
use penstock_model::layout::{RunKeys, SyncKeys};
use penstock_model::port::Objects;
use penstock_store::{lines, storage_failure};
use serde::Serialize;

/// So many keys are shown of each group.
const MOST_KEYS: usize = 3;

/// Which dead letters are meant.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only those with this code.
    pub code: Option<String>,
    /// Only those with this error fingerprint.
    pub fingerprint: Option<String>,
}

/// Dead letters that say the same.
#[derive(Debug, Clone, Serialize)]
pub struct Complaint {
    /// The error fingerprint.
    pub fingerprint: String,
    /// How many.
    pub rows: u64,
    /// Where they were rejected.
    pub stage: Stage,
    /// The code.
    pub code: String,
    /// The field at fault.
    pub field: Option<String>,
    /// What the first of them says; the others may say it of other values.
    pub message: String,
    /// The first keys.
    pub keys: Vec<Json>,
    /// The newest run that has some.
    pub run: String,
}

/// Groups of dead letters.
#[derive(Debug, Default)]
pub struct Complaints(BTreeMap<String, Complaint>);

impl Selection {
    fn holds(&self, letter: &DeadLetter) -> bool {
        self.code.as_ref().is_none_or(|code| *code == letter.code)
            && self.fingerprint.as_ref().is_none_or(|wanted| *wanted == letter.fingerprint())
    }
}

impl PartialEq for Complaint {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.rows == other.rows && self.run == other.run
    }
}

impl Eq for Complaint {}

impl Complaint {
    /// It in one line, for a person.
    #[must_use]
    pub fn line(&self) -> String {
        let field = self.field.as_deref().map_or(String::new(), |field| format!(", field {field}"));
        let example = self.keys.first().map_or(String::new(), |key| format!(", as {}", key.get()));
        let stage = stage(self.stage);
        format!("{} × {} {} ({stage}{field}){example}", self.rows, self.fingerprint, self.code)
    }
}

impl Complaints {
    /// Groups the dead letters of a sync that are meant, of one run or of all. See [`each`].
    ///
    /// # Errors
    /// As [`each`].
    pub async fn read(
        state: &dyn Objects,
        sync: &str,
        run: Option<&str>,
        selection: &Selection,
    ) -> Result<Self, Failure> {
        let mut complaints = Self::default();
        each(state, sync, run, selection, |letter| complaints.add(letter)).await?;
        Ok(complaints)
    }

    fn add(&mut self, letter: DeadLetter) {
        let fingerprint = letter.fingerprint();
        let complaint = self.0.entry(fingerprint.clone()).or_insert_with(|| Complaint {
            fingerprint,
            rows: 0,
            stage: letter.stage,
            code: letter.code,
            field: letter.field,
            message: letter.message,
            keys: Vec::new(),
            run: letter.run.clone(),
        });
        complaint.rows += 1;
        complaint.run = letter.run;
        if complaint.keys.len() < MOST_KEYS {
            complaint.keys.push(letter.key);
        }
    }

    /// All groups, most frequent first.
    #[must_use]
    pub fn by_frequency(self) -> Vec<Complaint> {
        let mut all: Vec<_> = self.0.into_values().collect();
        all.sort_by(|a, b| b.rows.cmp(&a.rows).then_with(|| a.fingerprint.cmp(&b.fingerprint)));
        all
    }

    /// The most frequent groups.
    #[must_use]
    pub fn first(self, most: usize) -> Vec<Complaint> {
        let mut all = self.by_frequency();
        all.truncate(most);
        all
    }
}

/// A stage, for people.
#[must_use]
pub const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Diff => "diff",
        Stage::Transform => "transform",
        Stage::Push => "push",
    }
}

/// Hands over every dead letter of a sync that is meant, of one run or of all, the oldest run first. Of a run that has
/// failed, or is under way, and is not committed yet they are worked out from its receipts: nothing is written, so that a
/// redrive or a takeover finds what it would have found.
///
/// # Errors
/// `StorageUnavailable`, or `ContractMismatch` if an object was written by a later version.
pub async fn each(
    state: &dyn Objects,
    sync: &str,
    run: Option<&str>,
    selection: &Selection,
    mut take: impl FnMut(DeadLetter),
) -> Result<(), Failure> {
    let keys = SyncKeys { sync };
    let runs = match run {
        Some(run) => vec![run.to_owned()],
        None => {
            let mut runs = state.folders(&keys.dead_letters()).await.map_err(storage_failure)?;
            runs.extend(state.folders(&keys.runs()).await.map_err(storage_failure)?);
            runs.sort_unstable();
            runs.dedup();
            runs
        }
    };
    for run in runs {
        let of_run = RunKeys { sync, run: &run };
        let uncommitted = penstock_commit::uncommitted_chunks(state, &of_run).await?;
        match uncommitted {
            Some((plan, chunks)) => {
                for chunk in chunks {
                    let letters = penstock_commit::known_dead_letters(state, &plan, chunk).await?;
                    letters.into_iter().filter(|letter| selection.holds(letter)).for_each(&mut take);
                }
            }
            None => {
                for object in state.list(&of_run.all_dead_letters()).await.map_err(storage_failure)? {
                    let letters: Option<Vec<DeadLetter>> = lines::read_lines(state, &object.key).await?;
                    let meant = letters.into_iter().flatten().filter(|letter| selection.holds(letter));
                    meant.for_each(&mut take);
                }
            }
        }
    }
    Ok(())
}
