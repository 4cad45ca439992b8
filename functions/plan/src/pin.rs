//! Everything a run needs to know, looked up once and pinned.

use penstock_columnar::canonical::HASH_VERSION;
use penstock_columnar::mapping::Mapping;
use penstock_columnar::{split, unload};
use penstock_model::contract::{PlanRequest, RunRef};
use penstock_model::definition::{Mode, OnRemoved, OnRemovedWord, Problem, ResolvedSync, Scope};
use penstock_model::mapping_change::{self, Hashing, Today};
use penstock_model::operation::OperationKind;
use penstock_model::run_plan::{HashedColumn, RunPlan};
use penstock_model::unload::{Column, ColumnType};
use penstock_model::{Failure, FailureName};

use crate::query::{self, Source};
use crate::{Context, append, definitions, snapshot};

/// What pinning found.
#[derive(Debug)]
pub(crate) enum Pinned {
    /// There is something to do.
    Work(Box<RunPlan>),
    /// The warehouse has to unload before anything can be pinned.
    Unload,
    /// The unload is the committed one, and nothing waits.
    NothingNew {
        /// Its prefix.
        unload: String,
    },
}

/// Pins definitions, unload, snapshot, splits and partitions.
///
/// # Errors
/// What is wrong with the definitions or the unload, by name.
pub(crate) async fn pin(context: &Context, request: &PlanRequest, run: &RunRef) -> Result<Pinned, Failure> {
    let options = &request.request.options;
    let definition = definitions::resolve(context.state.as_ref(), request).await?;
    let name = definition.name.as_str();
    let current = penstock_commit::load_current(context.state.as_ref(), name).await?;
    let (manifest, pointer) = current.map_or((None, None), |current| (current.manifest, Some(current.etag)));
    let source = query::source(context.state.as_ref(), &definition, options, run).await?;
    let found = match (source, &manifest) {
        (Source::ToBeMade, _) => return Ok(Pinned::Unload),
        (Source::At(location, complete), _) => {
            unload::discover(context.unloads.as_ref(), &location, complete).await?
        }
        (Source::Empty(attempt), Some(manifest)) => query::empty(&attempt, manifest),
        // Nothing was ever sent, and nothing is to be.
        (Source::Empty(attempt), None) => return Ok(Pinned::NothingNew { unload: attempt.prefix }),
    };
    let capabilities = definition.capabilities();
    let compile = |columns: Option<&[Column]>| {
        Mapping::compile(&definition.sync, columns, &capabilities)
            .map_err(|problems| invalid(name, &problems))
    };
    // What files disagree on is nothing to a sync that does not use it.
    found.check(compile(None)?.columns().iter().chain(&definition.unload.primary_key))?;
    let is_empty = found.unload.files.is_empty();
    let naive = unload::NaiveTimestamps::parse(definition.unload.naive_timestamps.as_deref())?;
    let stated = found.columns;
    let columns = unload::with_zone(stated.clone(), definition.unload.naive_timestamps.as_deref())?;
    let mapping = compile((!is_empty).then_some(&columns))?;
    let mapping_hash = mapping.hash();
    let key_columns = key_columns(&definition, &columns)?;
    let known = (!is_empty).then_some(columns.as_slice());
    let hashed_columns = hashed_columns(&definition, known, mapping.columns())?;
    let hashing = Hashing {
        version: HASH_VERSION,
        naive_offset_s: naive.zone_s(),
        columns: used_columns(&stated, &hashed_columns, &key_columns, None),
    };

    if let Some(manifest) = &manifest {
        snapshot::check_binding(&definition, manifest, options)?;
        snapshot::check_age(name, &found.unload, manifest, options)?;
        if !options.full {
            snapshot::check_key_columns(name, &key_columns, &hashing, manifest)?;
        }
    }
    let today = Today { mapping_hash, hashed_columns: &hashed_columns, hashing: &hashing };
    let changes = manifest.as_ref().map_or_else(Vec::new, |manifest| mapping_change::since(manifest, today));
    let diff = snapshot::diff_mode(&definition, options, manifest.as_ref(), &changes);
    let is_nothing = match &manifest {
        Some(manifest) => snapshot::nothing_new(&definition, &found.unload, manifest, &diff, &changes),
        // Nothing was ever delivered, so that nothing was rejected.
        None => options.replay.is_some(),
    };
    let nothing_new = || Pinned::NothingNew { unload: found.unload.prefix.clone() };
    if is_nothing {
        return Ok(nothing_new());
    }
    // Keys of another primary key, or of another type, can't be compared with today's.
    let comparable = |manifest: &penstock_model::snapshot::SnapshotManifest| {
        manifest.binding.primary_key == definition.binding().primary_key
            && snapshot::check_key_columns(name, &key_columns, &hashing, manifest).is_ok()
    };
    let manifest = manifest.filter(comparable);
    if options.replay.is_some() && manifest.is_none() {
        return Err(Failure::new(
            FailureName::SyncInvalid,
            format!("sync {name}: its primary key has changed since its last run; run it once, then replay"),
        ));
    }

    // Without rows there is nothing whose hash could differ.
    let compared = manifest.as_ref().filter(|_| !is_empty);
    let compare = snapshot::compare(name, today, &columns, compared, &diff)?;
    let (compare_columns, compare_zone) = compare.map_or((None, None), |by| (Some(by.columns), by.zone));

    let splits = split::cut(&found.unload, context.sizes.split);
    let append = match (definition.sync.mode, &options.replay) {
        (Mode::Append, Some(replay)) => append::replayed(context.state.as_ref(), run, replay).await?,
        (Mode::Append, None) => append::work(manifest.as_ref(), &found.unload, splits.clone(), options.full),
        (Mode::Upsert | Mode::CreateOnly | Mode::UpdateOnly, _) => Vec::new(),
    };
    if definition.sync.mode == Mode::Append && append.is_empty() {
        return Ok(nothing_new());
    }
    let used = used_columns(&columns, &hashed_columns, &key_columns, compare_columns.as_deref());
    Ok(Pinned::Work(Box::new(RunPlan {
        version: RunPlan::VERSION,
        run: run.clone(),
        execution: request.execution.clone(),
        started_at: context.clock.now(),
        options: options.clone(),
        mapping_hash,
        partitions: partitions(context, &found.unload, manifest.as_ref()),
        remember: remembers(&definition),
        unload: found.unload,
        columns: used,
        key_columns,
        hashed_columns,
        compare_columns,
        hashing: Some(hashing),
        compare_zone,
        splits,
        snapshot: manifest,
        pointer,
        diff,
        append,
        definition,
    })))
}

fn invalid(name: &str, problems: &[Problem]) -> Failure {
    let list: Vec<_> =
        problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
    Failure::new(FailureName::MappingInvalid, format!("sync {name}: {}", list.join("; ")))
}

fn key_columns(definition: &ResolvedSync, columns: &[Column]) -> Result<Vec<Column>, Failure> {
    definition
        .unload
        .primary_key
        .iter()
        .map(|key| {
            columns.iter().find(|column| column.name.eq_ignore_ascii_case(key)).cloned().ok_or_else(|| {
                Failure::new(
                    FailureName::MappingInvalid,
                    format!(
                        "unload {}: primary_key names column {key}, which the unload lacks",
                        definition.sync.unload
                    ),
                )
            })
        })
        .collect()
}

/// The mapped columns, those of JSON text marked as such.
fn hashed_columns(
    definition: &ResolvedSync,
    columns: Option<&[Column]>,
    mapped: &[String],
) -> Result<Vec<String>, Failure> {
    let json = &definition.unload.json_columns;
    for (name, columns) in json.iter().flat_map(|name| columns.map(|columns| (name, columns))) {
        let found = columns.iter().find(|column| column.name.to_lowercase() == name.to_lowercase());
        if !found.is_some_and(|column| matches!(column.kind, ColumnType::Text | ColumnType::Null)) {
            let what = if found.is_some() { "is not text" } else { "the unload lacks" };
            let unload = &definition.sync.unload;
            return Err(Failure::new(
                FailureName::MappingInvalid,
                format!("unload {unload}: json_columns names column {name}, which {what}"),
            ));
        }
    }
    let is_json = |mapped: &String| json.iter().any(|name| name.to_lowercase() == *mapped);
    let mut hashed: Vec<String> = mapped
        .iter()
        .map(|name| {
            let hashed = if is_json(name) { HashedColumn::Json(name) } else { HashedColumn::Value(name) };
            hashed.to_string()
        })
        .collect();
    hashed.sort_unstable();
    hashed.dedup();
    Ok(hashed)
}

fn used_columns(
    columns: &[Column],
    hashed: &[String],
    keys: &[Column],
    compared: Option<&[String]>,
) -> Vec<Column> {
    let used = |column: &Column| {
        let name = column.name.to_lowercase();
        let is_among = |names: &[String]| names.iter().any(|other| HashedColumn::of(other).column() == name);
        is_among(hashed)
            || compared.is_some_and(is_among)
            || keys.iter().any(|key| key.name.eq_ignore_ascii_case(&column.name))
    };
    columns.iter().filter(|column| used(column)).cloned().collect()
}

/// Key partitions: a power of two, so that a snapshot of another count can be read by range of hashes.
fn partitions(
    context: &Context,
    unload: &penstock_model::unload::PinnedUnload,
    manifest: Option<&penstock_model::snapshot::SnapshotManifest>,
) -> u32 {
    let rows: u64 = unload.files.iter().map(|file| file.rows).sum();
    let rows = rows.max(manifest.map_or(0, |manifest| manifest.rows));
    let wanted = rows.div_ceil(u64::from(context.sizes.partition_rows)).max(1);
    u32::try_from(wanted.next_power_of_two()).unwrap_or(1 << 16).min(1 << 16)
}

/// Whether more than the key is needed of records: for removals an id, a match value, or to know that it is ours; for upserts the id,
/// where a match value may change and the destination then finds the record by that.
fn remembers(definition: &ResolvedSync) -> bool {
    let capabilities = definition.capabilities();
    if definition.sync.mode == Mode::Upsert && capabilities.follows_id && !definition.match_is_key() {
        return true;
    }
    let kind = match &definition.sync.on_removed {
        OnRemoved::Word(OnRemovedWord::Nothing) => return false,
        OnRemoved::Word(OnRemovedWord::Delete | OnRemovedWord::Archive)
        | OnRemoved::Delete { delete: Scope::Ours }
        | OnRemoved::Archive { archive: Scope::Ours } => return true,
        OnRemoved::Delete { delete: Scope::Any } => OperationKind::Delete,
        OnRemoved::Archive { archive: Scope::Any } => OperationKind::Archive,
        OnRemoved::Clear { .. } => OperationKind::Clear,
    };
    let needs_id = capabilities.operations.get(&kind).is_some_and(|capability| capability.needs_id);
    needs_id || !definition.match_is_key()
}
