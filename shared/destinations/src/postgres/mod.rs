//! PostgreSQL, version 12 and later.
//!
//! Operations become set-based statements of up to a thousand rows: every column travels as one `text[]` and is cast
//! to the column's own type, which is read from the database's catalog. A statement that is refused for its data is
//! halved until the rows at fault stand alone. Each statement is a transaction with a timeout, so that nothing is
//! applied after the push's deadline.
//!
//! From operations to outcomes: `values` reads one operation against the `table`, `batch` puts operations of one shape
//! together, `statement` spells them in SQL, the lanes of `deliver` send them, and `errors` says what an answer means.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use penstock_model::Failure;
use penstock_model::definition::{Problem, ResolvedSync};
use penstock_model::port::{Boxed, Clock, Random, Secrets};

use crate::Parts;
use crate::destination::{Destination, Rest, Work};
use crate::reach::Resolver;

mod batch;
mod connect;
mod deliver;
mod errors;
mod lane;
mod pace;
mod probe;
mod statement;
mod table;
mod values;

#[cfg(test)]
mod tests;

use connect::Door;
use pace::Pace;
pub(crate) use probe::probe;
use table::TableName;

/// Rows of a statement, if the connection says nothing else.
const ROWS_PER_STATEMENT: u32 = 1000;
/// Connections of one push, if the connection says nothing else.
const CONNECTIONS: u32 = 2;

/// Opens a table of a PostgreSQL database as a destination. Nothing is connected before the first delivery.
///
/// With `public_only` it may lie at public addresses only, by this resolver's word.
///
/// `width` is how many chunks of the run are delivered at the same time: each takes that share of the account's limits.
///
/// # Errors
/// `SyncInvalid` if address, sign-in or table name can't be what they are meant to be; see [`check`].
pub fn open(
    definition: &ResolvedSync,
    parts: Parts,
    public_only: Option<Arc<dyn Resolver>>,
    width: u32,
) -> Result<Arc<dyn Destination>, Failure> {
    let Parts { clock, random, secrets, transport: _, known: _ } = parts;
    let (door, table) = door_and_table(definition, secrets, public_only)
        .map_err(|problems| crate::invalid(definition, &problems))?;
    let limits = &definition.connection.limits;
    Ok(Arc::new(PostgresDestination {
        door,
        table,
        mapped: Mapped::of(definition),
        rows_per_statement: limits.rows_per_request.unwrap_or(ROWS_PER_STATEMENT).max(1),
        connections: limits.requests_in_flight.unwrap_or(CONNECTIONS).max(1),
        answer_timeout: limits.answer_timeout_s.map(|seconds| Duration::from_secs(u64::from(seconds))),
        pace: Pace::new(limits, NonZeroU32::new(width).unwrap_or(NonZeroU32::MIN)),
        clock,
        random,
    }))
}

/// What is wrong with a sync into PostgreSQL, as far as it can be told without the database. Empty if [`open`] would
/// succeed.
#[must_use]
pub fn check(definition: &ResolvedSync) -> Vec<Problem> {
    let address = connect::parse_address(&definition.address).err();
    let sign_in = connect::check_auth(&definition.connection.auth).err();
    let roots = connect::check_roots(definition).err();
    let table = TableName::parse(&definition.sync.object).err();
    [address, sign_in, roots, table].into_iter().flatten().collect()
}

fn door_and_table(
    definition: &ResolvedSync,
    secrets: Arc<dyn Secrets>,
    public_only: Option<Arc<dyn Resolver>>,
) -> Result<(Door, TableName), Vec<Problem>> {
    let problems = check(definition);
    if !problems.is_empty() {
        return Err(problems);
    }
    let one = |problem| vec![problem];
    Ok((
        Door::new(definition, secrets, public_only).map_err(one)?,
        TableName::parse(&definition.sync.object).map_err(one)?,
    ))
}

/// One table of one database.
struct PostgresDestination {
    door: Door,
    table: TableName,
    mapped: Mapped,
    rows_per_statement: u32,
    connections: u32,
    answer_timeout: Option<Duration>,
    pace: Pace,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// The table's columns that the sync names.
#[derive(Debug)]
struct Mapped {
    /// Those that identify a row.
    matched: BTreeSet<String>,
    /// Those that are written.
    fields: BTreeSet<String>,
    /// Those of them that are filled in parts, by dotted names.
    nested: BTreeSet<String>,
    /// Those of them that are written only where they are NULL.
    if_empty: BTreeSet<String>,
}

impl Mapped {
    fn of(definition: &ResolvedSync) -> Self {
        let column = |field: &String| field.split('.').next().unwrap_or_default().to_owned();
        Self {
            matched: definition.sync.matched.keys().cloned().collect(),
            fields: definition.sync.fields.keys().map(column).collect(),
            nested: definition.sync.fields.keys().filter(|field| field.contains('.')).map(column).collect(),
            if_empty: definition.sync.if_empty().map(str::to_owned).collect(),
        }
    }
}

impl std::fmt::Debug for PostgresDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresDestination({})", self.table)
    }
}

impl Destination for PostgresDestination {
    fn deliver<'a>(&'a self, work: Work<'a>) -> Boxed<'a, Result<Rest, Failure>> {
        Box::pin(deliver::deliver(self, work))
    }
}
