//! Bulk API 2.0: rows as CSV, worked on by Salesforce in its own time.
//!
//! A job goes on whatever becomes of the push that made it. So it is noted before it gets rows, and forgotten when the outcomes of its rows are
//! recorded; in between, whoever delivers the chunk takes it up: one that got no rows is aborted, one that works is waited for, one
//! that has ended is read. A job of an earlier run is aborted before anything newer is sent, else it might write old values over it.
//!
//! What says the same twice is sent again if its job is lost. Rows that are inserted are not: they are announced before the call without which
//! their job never begins, and from there on only the job itself, by its id, can tell what became of them. Its note says which they are, and its
//! results tell them by all that was sent of them. Those that it surely did not carry out are taken back and sent by the next push.

mod csv;
mod job;

use super::batch::waves;
use super::table::Table;
use super::values::Row;
use super::{Api, BULK_FROM};
use penstock_model::operation::OperationKind;

pub(super) use job::Jobs;

/// Bytes of a job's CSV at most ("Upload Job Data", Bulk API 2.0 Developer Guide: 150 MB in base64).
const MOST_BYTES: usize = 100_000_000;
/// Rows of a job at most.
const MOST_ROWS: usize = 150_000;
/// Rows of a job at most that refer to records which get locked: Salesforce works on 10,000 at a time, on the next 10,000 beside them.
const MOST_ROWS_APART: usize = 10_000;
/// After so many jobs that left rows unsettled, the rest goes by collections, which say more of each row.
const MOST_JOBS: u32 = 3;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Upsert,
    Update,
    Delete,
    Insert,
}

impl Verb {
    const ALL: [Self; 4] = [Self::Upsert, Self::Update, Self::Delete, Self::Insert];

    const fn name(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Insert => "insert",
        }
    }

    /// Whether records are told by their ids.
    const fn is_by_id(self) -> bool {
        match self {
            Self::Update | Self::Delete => true,
            Self::Upsert | Self::Insert => false,
        }
    }

    /// Whether a row that is worked on twice makes two records.
    const fn is_unsafe(self) -> bool {
        match self {
            Self::Insert => true,
            Self::Upsert | Self::Update | Self::Delete => false,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }

    /// What is done with a row.
    fn of(row: &Row) -> Self {
        match row.kind {
            OperationKind::Create if row.inserts => Self::Insert,
            OperationKind::Upsert | OperationKind::Create if row.is_by_id() => Self::Update,
            OperationKind::Upsert | OperationKind::Create => Self::Upsert,
            OperationKind::Update | OperationKind::Clear => Self::Update,
            OperationKind::Delete | OperationKind::Archive => Self::Delete,
            OperationKind::Append => Self::Insert,
        }
    }
}

/// Which way rows go.
pub(super) enum Choice {
    /// These as a job, the rest later.
    Job { verb: Verb, rows: Vec<Row>, rest: Vec<Row> },
    /// All by collections.
    Collections(Vec<Row>),
}

/// Chooses the next step for rows. `jobs` is how many jobs have left rows unsettled.
pub(super) fn choose(api: Api, rows: Vec<Row>, jobs: u32, table: &Table) -> Choice {
    let from = match api {
        Api::Collections => return Choice::Collections(rows),
        _ if jobs >= MOST_JOBS => return Choice::Collections(rows),
        Api::Auto => BULK_FROM,
        Api::Bulk => 1,
    };
    let verb_of = |row: &Row| csv::fits(row, table).then(|| Verb::of(row));
    let count = |verb: Verb| rows.iter().filter(|row| verb_of(row) == Some(verb)).count();
    let most = Verb::ALL.into_iter().max_by_key(|verb| count(*verb));
    let Some(verb) = most.filter(|verb| count(*verb) >= from) else { return Choice::Collections(rows) };
    let (fitting, mut rest): (Vec<Row>, Vec<Row>) =
        rows.into_iter().partition(|row| verb_of(row) == Some(verb));
    let mut waves = waves(fitting).into_iter();
    let mut chosen = waves.next().unwrap_or_default();
    let later = chosen.split_off(fit(&chosen, verb));
    rest.extend(later.into_iter().chain(waves.flatten()));
    Choice::Job { verb, rows: chosen, rest }
}

/// How many of these rows, from the first, fit into a job: one at least.
fn fit(rows: &[Row], verb: Verb) -> usize {
    let most = if rows.iter().any(|row| !row.parents.is_empty()) { MOST_ROWS_APART } else { MOST_ROWS };
    let columns = csv::columns(rows.iter().take(most), verb);
    let mut bytes = csv::size_of_head(&columns);
    let fits = rows.iter().take(most).take_while(|row| {
        bytes = bytes.saturating_add(csv::size(row, verb, columns.len()));
        bytes <= MOST_BYTES
    });
    fits.count().max(1).min(rows.len())
}
