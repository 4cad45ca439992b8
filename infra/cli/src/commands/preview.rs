//! `penstock preview`.

use std::process::ExitCode;

use penstock_columnar::mapping::Mapping;
use penstock_columnar::{split, transform, unload};
use penstock_model::contract::{RunOptions, RunRef};
use penstock_model::definition::{Complete, ResolvedSync};
use penstock_model::operation::Transformed;
use penstock_model::port::OpenObjects;
use penstock_model::run_plan::{DiffMode, RunPlan};
use penstock_model::snapshot::{LedgerEntry, RowRange};
use penstock_model::unload::{Column, PinnedUnload};
use penstock_model::{Failure, FailureName, Timestamp};
use serde_json::json;

use super::run::absolute;
use super::{checked_sync, listed, opener};
use crate::args;
use crate::definitions::check::CheckedSync;

/// Prints the first rows as they would be sent, one JSON object a line.
///
/// # Errors
/// Mistakes in the definitions; what is wrong with the unload.
pub async fn preview(args: args::Preview) -> anyhow::Result<ExitCode> {
    let checked = match checked_sync(&args.sync, args.unload.as_deref()).await {
        Ok(checked) => checked,
        Err(mistakes) => anyhow::bail!("{}", listed(&mistakes)),
    };
    for line in mapped(&checked, args.unload.as_deref(), args.rows).await? {
        println!("{}", shown(line));
    }
    Ok(ExitCode::SUCCESS)
}

/// The rows that are read at a time.
const ROWS: u32 = 50_000;

/// The first rows of a sync's unload, or of the one at `unload`, as a run would map them.
///
/// # Errors
/// What is wrong with the unload or with the mapping.
pub(super) async fn mapped(
    checked: &CheckedSync,
    unload: Option<&str>,
    rows: u32,
) -> anyhow::Result<Vec<Transformed>> {
    let definition = &checked.unload.definition;
    let (location, complete) = match unload {
        Some(location) => (absolute(location)?, Complete::AsListed),
        None => (
            crate::definitions::check::absolute(&checked.unload.file, &definition.location),
            definition.complete,
        ),
    };
    let unloads = opener(&[&location]).await;
    let found = unload::discover(&unloads, &location, complete).await.map_err(Failure::from)?;
    let columns =
        unload::with_zone(found.columns, definition.naive_timestamps.as_deref()).map_err(Failure::from)?;
    let plan = plan(checked, found.unload, columns);
    let capabilities = plan.definition.capabilities();
    let mapping =
        Mapping::compile(&plan.definition.sync, Some(&plan.columns), &capabilities).map_err(|problems| {
            let words: Vec<_> =
                problems.iter().map(|problem| checked.sync.mistake(problem).to_string()).collect();
            Failure::new(FailureName::MappingInvalid, words.join("\n"))
        })?;
    let objects = unloads.open(&plan.unload.root)?;
    let mut left = rows;
    let mut mapped = Vec::new();
    for work in &plan.append {
        for range in &work.pending {
            let end = range.to.min(left);
            left -= end;
            for from in (0..end).step_by(usize::try_from(ROWS)?) {
                let range = RowRange { from, to: from.saturating_add(ROWS).min(end), ..*range };
                let each = |lines: Vec<Transformed>| {
                    mapped.extend(lines);
                    Ok::<_, Failure>(())
                };
                transform::append(objects.as_ref(), &plan, &mapping, work, range, each).await?;
            }
        }
    }
    Ok(mapped)
}

/// A plan that appends the whole unload: what maps its rows is what a run would use.
fn plan(checked: &CheckedSync, unload: PinnedUnload, columns: Vec<Column>) -> RunPlan {
    let keys = &checked.unload.definition.primary_key;
    let key_columns =
        columns.iter().filter(|column| keys.iter().any(|key| key.eq_ignore_ascii_case(&column.name)));
    let key_columns: Vec<Column> = key_columns.cloned().collect();
    let splits = split::cut(&unload, split::Sizes { rows: u32::MAX, bytes: u64::MAX, files: u32::MAX });
    let pending =
        (0u32..).zip(&splits).map(|(split, cut)| RowRange { split, from: 0, to: cut.rows }).collect();
    let append = vec![LedgerEntry { unload: unload.clone(), splits: splits.clone(), pending }];
    let definition = ResolvedSync {
        name: checked.sync.name.clone(),
        sync: checked.sync.definition.clone(),
        unload: checked.unload.definition.clone(),
        connection: checked.connection.definition.clone(),
        connector: checked.connector.clone(),
        environment: None,
        address: String::new(),
    };
    RunPlan {
        version: RunPlan::VERSION,
        run: RunRef { sync: checked.sync.name.clone(), run: "preview".to_owned(), fence: 0 },
        execution: String::new(),
        started_at: Timestamp(0),
        options: RunOptions::default(),
        definition,
        mapping_hash: 0,
        unload,
        columns,
        key_columns,
        hashed_columns: Vec::new(),
        compare_columns: None,
        hashing: None,
        compare_zone: None,
        splits,
        partitions: 1,
        snapshot: None,
        pointer: None,
        diff: DiffMode::Baseline,
        append,
        remember: false,
    }
}

fn shown(line: Transformed) -> serde_json::Value {
    match line {
        Transformed::Operation(operation) => {
            let mut shown = json!({ "match": operation.matched, "fields": operation.fields });
            if let (Some(asks), Some(shown)) = (operation.asks, shown.as_object_mut()) {
                shown.insert("asks".to_owned(), json!(asks));
            }
            shown
        }
        Transformed::Rejected(rejected) => {
            json!({ "rejected": { "code": rejected.code, "message": rejected.message, "field": rejected.field } })
        }
        Transformed::Skipped(skipped) => json!({ "skipped": skipped.why }),
    }
}
