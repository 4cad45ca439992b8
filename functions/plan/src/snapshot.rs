//! The committed snapshot as this run may use it.

use penstock_model::contract::{GuardName, RunOptions};
use penstock_model::definition::{Mode, OnMappingChange, ResolvedSync};
use penstock_model::mapping_change::{self, CompareZone, Hashing, MappingChange, Today, compare_zone, zone};
use penstock_model::run_plan::{DiffMode, HashedColumn};
use penstock_model::snapshot::SnapshotManifest;
use penstock_model::unload::{Column, PinnedUnload};
use penstock_model::{Failure, FailureName};

/// Refuses state that belongs to another account, object or key, unless the user takes it over.
pub(crate) fn check_binding(
    definition: &ResolvedSync,
    manifest: &SnapshotManifest,
    options: &RunOptions,
) -> Result<(), Failure> {
    let binding = definition.binding();
    if manifest.binding == binding || options.adopt || options.full {
        return Ok(());
    }
    let was = &manifest.binding;
    let differences = [
        ("connector", was.connector != binding.connector),
        ("account", was.account != binding.account),
        ("object", was.object != binding.object),
        ("primary key", was.primary_key != binding.primary_key),
        ("match", was.match_fields != binding.match_fields),
    ];
    let named: Vec<_> = differences.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    Err(Failure::new(
        FailureName::SyncInvalid,
        format!(
            "sync {}: its state belongs to another {}; if the destination already holds what the state says, run with \
             --adopt, else with --full to send every row",
            definition.name,
            named.join(" and ")
        ),
    ))
}

/// Refuses an unload that is older than the committed one. S3 tells times in whole seconds.
pub(crate) fn check_age(
    name: &str,
    unload: &PinnedUnload,
    manifest: &SnapshotManifest,
    options: &RunOptions,
) -> Result<(), Failure> {
    let second = |time: penstock_model::Timestamp| time.0.div_euclid(1000);
    let older = second(unload.completed_at) < second(manifest.unload.completed_at);
    if older
        && unload.identity != manifest.unload.identity
        && !options.allow.contains(&GuardName::OlderUnload)
    {
        return Err(Failure::new(
            FailureName::UnloadMissing,
            format!(
                "sync {name}: the newest complete unload, {}, of {}, is older than the one last committed, {}, of {}; \
                 nothing was sent. If it is the right one, allow it once with --allow older_unload",
                unload.prefix,
                unload.completed_at.rfc3339(),
                manifest.unload.prefix,
                manifest.unload.completed_at.rfc3339()
            ),
        ));
    }
    Ok(())
}

/// Refuses key columns of another type than the snapshot's, or whose timestamps count as those of another zone: their keys
/// could not be compared.
pub(crate) fn check_key_columns(
    name: &str,
    columns: &[Column],
    hashing: &Hashing,
    manifest: &SnapshotManifest,
) -> Result<(), Failure> {
    let before = manifest.hashing.as_ref().filter(|before| before.naive_offset_s != hashing.naive_offset_s);
    let is_key =
        |column: &&Column| columns.iter().any(|key| key.name.to_lowercase() == column.name.to_lowercase());
    if let Some((before, column)) = before.zip(hashing.naive_columns().find(is_key)) {
        return Err(Failure::new(
            FailureName::SyncInvalid,
            format!(
                "sync {name}: the unload's naive_timestamps was {} at the last run and is {} now, and primary key column {} is a \
                 timestamp without zone, so that every key would be another one; set it as it was, or run with --full",
                zone(before.naive_offset_s),
                zone(hashing.naive_offset_s),
                column.name
            ),
        ));
    }
    for (now, before) in columns.iter().zip(&manifest.key_columns) {
        if now.kind != before.kind {
            return Err(Failure::new(
                FailureName::UnloadSchemaMismatch,
                format!(
                    "sync {name}: primary key column {} was {} in the last unload and is {} in this one; unload it \
                     in its old type, or run with --full",
                    now.name, before.kind, now.kind
                ),
            ));
        }
    }
    Ok(())
}

/// How the diff treats keys.
pub(crate) fn diff_mode(
    definition: &ResolvedSync,
    options: &RunOptions,
    snapshot: Option<&SnapshotManifest>,
    changes: &[MappingChange],
) -> DiffMode {
    use penstock_model::definition::FirstRun;
    if let Some(replay) = &options.replay {
        return DiffMode::Replay(replay.clone());
    }
    match snapshot {
        _ if options.full => DiffMode::Full,
        None => match definition.sync.first_run {
            FirstRun::Send => DiffMode::Changes,
            FirstRun::Baseline => DiffMode::Baseline,
        },
        Some(_) => match definition.sync.on_mapping_change {
            OnMappingChange::Resend if changes.iter().any(MappingChange::is_decided) => DiffMode::Full,
            OnMappingChange::FromNowOn if changes.iter().any(MappingChange::is_incomparable) => {
                DiffMode::Rebuild
            }
            OnMappingChange::Resend | OnMappingChange::FromNowOn => DiffMode::Changes,
        },
    }
}

/// What the snapshot's row hashes were made of, where that differs from today's and rows must still be comparable.
#[derive(Debug)]
pub(crate) struct Compare {
    pub(crate) columns: Vec<String>,
    pub(crate) zone: Option<CompareZone>,
}

/// See [`Compare`].
pub(crate) fn compare(
    name: &str,
    today: Today<'_>,
    available: &[Column],
    snapshot: Option<&SnapshotManifest>,
    diff: &DiffMode,
) -> Result<Option<Compare>, Failure> {
    let Some(snapshot) = snapshot else { return Ok(None) };
    let zone = compare_zone(snapshot, today.hashing);
    let is_incomparable = mapping_change::since(snapshot, today).iter().any(MappingChange::is_incomparable);
    if snapshot.hashed_columns == today.hashed_columns && zone.is_none() && !is_incomparable {
        return Ok(None);
    }
    match diff {
        DiffMode::Full | DiffMode::Rebuild => return Ok(None),
        // A replay leaves all other rows' hashes as they are: they must stay hashes of the same kind.
        DiffMode::Replay { .. } => {
            let changed = mapping_change::since(snapshot, today);
            let changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
            return Err(Failure::new(
                FailureName::SyncInvalid,
                format!(
                    "sync {name}: a replay compares rows with the last run's, and can't because of {}; run the sync once, then \
                     replay",
                    changed.join("; and of ")
                ),
            ));
        }
        DiffMode::Changes | DiffMode::Baseline => {}
    }
    let lost: Vec<_> = snapshot
        .hashed_columns
        .iter()
        .map(|column| HashedColumn::of(column).column())
        .filter(|column| !available.iter().any(|have| have.name.to_lowercase() == *column))
        .collect();
    if lost.is_empty() {
        return Ok(Some(Compare { columns: snapshot.hashed_columns.clone(), zone }));
    }
    Err(Failure::new(
        FailureName::SyncInvalid,
        format!(
            "sync {name}: its fields have changed, and the unload no longer has {}, which earlier runs compared; to send \
             every row once, run with --full",
            lost.join(", ")
        ),
    ))
}

/// Whether a run has nothing to do: the unload is the committed one, and nothing waits to be sent again.
pub(crate) fn nothing_new(
    definition: &ResolvedSync,
    unload: &PinnedUnload,
    manifest: &SnapshotManifest,
    diff: &DiffMode,
    changes: &[MappingChange],
) -> bool {
    if definition.sync.mode == Mode::Append {
        return false;
    }
    let comparable = match diff {
        DiffMode::Changes | DiffMode::Baseline => true,
        DiffMode::Full | DiffMode::Rebuild => false,
        DiffMode::Replay { .. } => return manifest.overlay.is_empty(),
    };
    comparable
        && manifest.unload.identity == unload.identity
        && !changes.iter().any(MappingChange::is_decided)
        && manifest.binding == definition.binding()
        && manifest.overlay.iter().all(|file| file.pending == 0)
}
