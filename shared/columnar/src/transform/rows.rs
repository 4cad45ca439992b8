//! Changed rows, by the sync's mode.

use std::ops::Range;
use std::sync::Arc;

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
use crate::mapping::{Engines, KeyColumns, KeyRows, Mapped, Mapping, Rejection, Rows};

/// Rows of one split, fetched for a chunk.
#[derive(Debug, Clone)]
pub(super) struct PlacedRows {
    /// The split.
    pub(super) split: u32,
    /// Each row's number within the split, in the batch's order.
    pub(super) numbers: Vec<u32>,
    /// The rows, with at least the columns of the mapping.
    pub(super) batch: RecordBatch,
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
pub(super) fn changed_rows<E: From<TransformError>>(
    plan: &RunPlan,
    mapping: &Mapping,
    changes: &[Change],
    placed: &[PlacedRows],
    each: impl FnMut(Vec<Transformed>) -> Result<(), E>,
) -> Result<(), E> {
    let engines = Engines::new();
    let compiled = mapping.expressions(&engines);
    let batches = placed
        .iter()
        .map(|rows| Ok(mapping.rows(&compiled, &rows.batch, &plan.columns)?))
        .collect::<Result<Vec<_>, TransformError>>()?;
    let (places, shown) = (Places::of(placed), KeyColumns::of(&plan.key_columns));
    let find = |place: Place| {
        let (batch, row) = places.find(place)?;
        Some((batches.get(batch)?, row))
    };
    let draft = |text: &mut String, (n, change): (u32, &Change)| {
        let start = text.len();
        shown.push(text, &change.key)?;
        let key = start..text.len();
        let kind = match decide(mapping.mode(), change) {
            Decision::Send(kind) => kind,
            Decision::Skip(why) => return Ok(Draft::Skipped(SkippedRow { n, why })),
            Decision::Reject(code, message) => {
                let (code, message) = (code.to_owned(), message.to_owned());
                let key = shown_key(text, key);
                let record = RejectedRecord { n, key, stage: Stage::Diff, code, message, field: None };
                return Ok(Draft::Rejected(record));
            }
        };
        let Place { split, row } = change.place;
        let (rows, index) = find(change.place).ok_or(TransformError::NoSuchRow { split, row })?;
        Ok(operation(n, kind, text, key, rows, index))
    };
    in_texts((0..).zip(changes), draft, each)
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
pub(super) fn append_rows<E: From<TransformError>>(
    plan: &RunPlan,
    mapping: &Mapping,
    range: RowRange,
    placed: &[PlacedRows],
    each: impl FnMut(Vec<Transformed>) -> Result<(), E>,
) -> Result<(), E> {
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
    let draft = |text: &mut String, (n, row): (u32, u32)| {
        let place = Place { split: range.split, row };
        let found = places.find(place).and_then(|(batch, index)| Some((batches.get(batch)?, index)));
        let ((rows, keys), index) = found.ok_or(TransformError::NoSuchRow { split: range.split, row })?;
        let start = text.len();
        keys.push(text, index);
        let key = start..text.len();
        Ok(operation(n, OperationKind::Append, text, key, rows, index))
    };
    in_texts((0..).zip(range.from..range.to), draft, each)
}

/// How many rows share a text and are handed on together: few enough to be written and packed while they are near at hand.
const ROWS_OF_A_TEXT: usize = 256;

/// What comes of a row whose parts lie in a text that is still being written.
enum Draft {
    Operation { n: u32, kind: OperationKind, key: Range<usize>, mapped: Mapped },
    Rejected(RejectedRecord),
    Skipped(SkippedRow),
}

/// Drafts row after row, and hands on what each comes to once the text that it shares with others is whole.
fn in_texts<R, E: From<TransformError>>(
    rows: impl Iterator<Item = R>,
    mut draft: impl FnMut(&mut String, R) -> Result<Draft, TransformError>,
    mut each: impl FnMut(Vec<Transformed>) -> Result<(), E>,
) -> Result<(), E> {
    let mut rows = rows.peekable();
    let (mut drafts, mut text) = (Vec::with_capacity(ROWS_OF_A_TEXT), String::new());
    while rows.peek().is_some() {
        for row in rows.by_ref().take(ROWS_OF_A_TEXT) {
            drafts.push(draft(&mut text, row)?);
        }
        let room = text.len();
        let shared = Arc::new(std::mem::replace(&mut text, String::with_capacity(room)));
        let finished = drafts.drain(..).map(|draft| match draft {
            Draft::Operation { n, kind, key, mapped: Mapped { matched, fields, asks, .. } } => {
                let part = |range| Json::shared(&shared, range);
                let (key, matched, fields) = (part(key), part(matched), part(fields));
                Transformed::Operation(Operation { n, kind, key, matched, id: None, fields, asks })
            }
            Draft::Rejected(record) => Transformed::Rejected(record),
            Draft::Skipped(row) => Transformed::Skipped(row),
        });
        each(finished.collect())?;
    }
    Ok(())
}

/// A key that was written to a text, for a record of its own.
fn shown_key(text: &str, key: Range<usize>) -> Json {
    Json::written(text.get(key).unwrap_or_default().to_owned())
}

/// Maps a row to an operation; `key` is where its key stands in the text.
fn operation(
    n: u32,
    kind: OperationKind,
    text: &mut String,
    key: Range<usize>,
    rows: &Rows<'_, '_, '_>,
    index: usize,
) -> Draft {
    match rows.map(index, text) {
        Ok(mapped) if kind == OperationKind::Update && !mapped.anything => {
            // A record may be worth creating for its match fields alone; there is nothing to update in one.
            Draft::Skipped(SkippedRow { n, why: SkipReason::NothingToSay })
        }
        Ok(mapped) => Draft::Operation { n, kind, key, mapped },
        Err(Rejection { code, message, field }) => {
            let (code, field, key) = (code.to_owned(), Some(field), shown_key(text, key));
            Draft::Rejected(RejectedRecord { n, key, stage: Stage::Transform, code, message, field })
        }
    }
}
