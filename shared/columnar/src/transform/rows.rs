//! Changed rows, by the sync's mode.

use arrow::record_batch::RecordBatch;
use penstock_model::change::{Change, ChangeKind, Place};
use penstock_model::dead_letter::Stage;
use penstock_model::definition::Mode;
use penstock_model::json::Json;
use penstock_model::operation::{Operation, OperationKind, RejectedRecord, SkippedRow, Transformed};
use penstock_model::outcome::SkipReason;
use penstock_model::run_plan::RunPlan;
use penstock_model::snapshot::RowRange;

use super::TransformError;
use crate::mapping::{Engines, KeyColumns, KeyRows, Mapped, Mapping, Rejection};

/// Rows of one split, fetched for a chunk.
#[derive(Debug, Clone)]
pub struct PlacedRows {
    /// The split.
    pub split: u32,
    /// Each row's number within the split, in the batch's order.
    pub numbers: Vec<u32>,
    /// The rows, with at least the columns of the mapping.
    pub batch: RecordBatch,
}

/// The rows that changes need, by split, ascending and without repeats.
pub(super) fn wanted(changes: &[Change]) -> Vec<(u32, Vec<u32>)> {
    let mut places: Vec<Place> = changes
        .iter()
        .filter(|change| match change.kind {
            ChangeKind::Added | ChangeKind::Changed => true,
            ChangeKind::Removed | ChangeKind::DuplicateKey | ChangeKind::NullKey => false,
        })
        .map(|change| change.place)
        .collect();
    places.sort_unstable();
    places.dedup();
    let mut splits: Vec<(u32, Vec<u32>)> = Vec::new();
    for place in places {
        match splits.last_mut() {
            Some((split, rows)) if *split == place.split => rows.push(place.row),
            Some(_) | None => splits.push((place.split, vec![place.row])),
        }
    }
    splits
}

/// Maps changes whose rows are at hand: one result for each, with its index as ordinal.
///
/// # Errors
/// [`TransformError`] if a row is not among `placed`, a column can't be mapped, or a key is damaged.
pub fn transform_rows(
    plan: &RunPlan,
    mapping: &Mapping,
    changes: &[Change],
    placed: &[PlacedRows],
) -> Result<Vec<Transformed>, TransformError> {
    let engines = Engines::new();
    let compiled = mapping.expressions(&engines);
    let batches = placed
        .iter()
        .map(|rows| mapping.rows(&compiled, &rows.batch, &plan.columns))
        .collect::<Result<Vec<_>, _>>()?;
    let (places, shown) = (Places::of(placed), KeyColumns::of(&plan.key_columns));
    let find = |place: Place| {
        let (batch, row) = places.find(place)?;
        Some((batches.get(batch)?, row))
    };
    (0_u32..)
        .zip(changes)
        .map(|(n, change)| {
            let key = Json::written(shown.object(&change.key)?);
            let kind = match decide(mapping.mode(), change) {
                Decision::Send(kind) => kind,
                Decision::Skip(why) => return Ok(Transformed::Skipped(SkippedRow { n, why })),
                Decision::Reject(code, message) => {
                    let (code, message) = (code.to_owned(), message.to_owned());
                    let record = RejectedRecord { n, key, stage: Stage::Diff, code, message, field: None };
                    return Ok(Transformed::Rejected(record));
                }
            };
            let Place { split, row } = change.place;
            let (rows, index) = find(change.place).ok_or(TransformError::NoSuchRow { split, row })?;
            operation(n, kind, key, rows.map(index))
        })
        .collect()
}

/// Where the rows of a chunk lie: each place's batch, and its row in that.
struct Places(Vec<(Place, usize, usize)>);

impl Places {
    fn of(placed: &[PlacedRows]) -> Self {
        let all = placed.iter().enumerate().flat_map(|(batch, rows)| {
            let places = rows.numbers.iter().enumerate();
            places.map(move |(index, row)| (Place { split: rows.split, row: *row }, batch, index))
        });
        let mut all: Vec<_> = all.collect();
        // They come in this order already.
        all.sort_by_key(|(place, ..)| *place);
        Self(all)
    }

    fn find(&self, place: Place) -> Option<(usize, usize)> {
        let found = self.0.binary_search_by_key(&place, |(place, ..)| *place).ok()?;
        self.0.get(found).map(|(_, batch, row)| (*batch, *row))
    }
}

/// What is done about a change.
enum Decision {
    Send(OperationKind),
    Skip(SkipReason),
    Reject(&'static str, &'static str),
}

fn decide(mode: Mode, change: &Change) -> Decision {
    match (change.kind, mode) {
        (ChangeKind::DuplicateKey, _) => {
            Decision::Reject("duplicate_key", "several rows share this primary key")
        }
        (ChangeKind::NullKey, _) => Decision::Reject("null_key", "a column of the primary key is null"),
        // Removals have chunks of their own.
        (ChangeKind::Removed, _) => Decision::Skip(SkipReason::NothingToSay),
        (ChangeKind::Added | ChangeKind::Changed, Mode::Upsert) => Decision::Send(OperationKind::Upsert),
        (ChangeKind::Added | ChangeKind::Changed, Mode::UpdateOnly) => Decision::Send(OperationKind::Update),
        (ChangeKind::Added | ChangeKind::Changed, Mode::Append) => Decision::Send(OperationKind::Append),
        (ChangeKind::Changed, Mode::CreateOnly) if change.previous.accepted.is_some() => {
            Decision::Skip(SkipReason::Exists)
        }
        (ChangeKind::Added | ChangeKind::Changed, Mode::CreateOnly) => Decision::Send(OperationKind::Create),
    }
}

/// Maps every row of a range to an append.
pub(super) fn append_rows(
    plan: &RunPlan,
    mapping: &Mapping,
    range: RowRange,
    placed: &[PlacedRows],
) -> Result<Vec<Transformed>, TransformError> {
    let engines = Engines::new();
    let compiled = mapping.expressions(&engines);
    let batches = placed
        .iter()
        .map(|rows| {
            let keys = KeyRows::of(&rows.batch, &plan.key_columns)?;
            Ok((mapping.rows(&compiled, &rows.batch, &plan.columns)?, keys))
        })
        .collect::<Result<Vec<_>, TransformError>>()?;
    let places = Places::of(placed);
    (0_u32..)
        .zip(range.from..range.to)
        .map(|(n, row)| {
            let place = Place { split: range.split, row };
            let found = places.find(place).and_then(|(batch, index)| Some((batches.get(batch)?, index)));
            let ((rows, keys), index) = found.ok_or(TransformError::NoSuchRow { split: range.split, row })?;
            operation(n, OperationKind::Append, Json::written(keys.object(index)), rows.map(index))
        })
        .collect()
}

fn operation(
    n: u32,
    kind: OperationKind,
    key: Json,
    mapped: Result<Mapped, Rejection>,
) -> Result<Transformed, TransformError> {
    let mapped = match mapped {
        Ok(mapped) => mapped,
        Err(Rejection { code, message, field }) => {
            let (code, field) = (code.to_owned(), Some(field));
            let record = RejectedRecord { n, key, stage: Stage::Transform, code, message, field };
            return Ok(Transformed::Rejected(record));
        }
    };
    // A record may be worth creating for its match fields alone; there is nothing to update in one.
    if kind == OperationKind::Update && !mapped.anything {
        return Ok(Transformed::Skipped(SkippedRow { n, why: SkipReason::NothingToSay }));
    }
    let (matched, fields) = (Json::written(mapped.matched), Json::written(mapped.fields));
    let asks = mapped.asks;
    Ok(Transformed::Operation(Operation { n, kind, key, matched, id: None, fields, asks }))
}
