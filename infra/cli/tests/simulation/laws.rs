//! What has to hold, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use futures::FutureExt as _;
use penstock_columnar::overlay::read_waiting;
use penstock_columnar::snapshot::read_partition;
use penstock_model::dead_letter::DeadLetter;
use penstock_model::json::Json;
use penstock_model::key::{Key, KeyValue};
use penstock_model::layout::{self, RunKeys, SyncKeys};
use penstock_model::operation::Transformed;
use penstock_model::outcome::Outcome;
use penstock_model::port::Objects;
use penstock_model::run_plan::GateDecision;
use penstock_model::snapshot::{OverlayEntry, Pointer, SnapshotManifest};
use penstock_store::{MemoryObjects, json, lines, operations, receipts, reports};
use penstock_twins::{Action, Ended, Twin};

use crate::setting::SYNC;
use crate::story::{Story, run_name};
use crate::table::Row;

/// The committed snapshot, as far as it claims that the destination agrees.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The canonical keys.
    keys: BTreeSet<Vec<u8>>,
    overlay: Vec<OverlayEntry>,
}

/// A commit, and what the destination held at that moment.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) pointer: Pointer,
    pub(crate) manifest: SnapshotManifest,
    pub(crate) snapshot: Snapshot,
    pub(crate) records: BTreeMap<i64, Row>,
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("objects in memory are there at once")
}

/// Reads a committed snapshot.
pub(crate) fn committed(state: &MemoryObjects, manifest: &SnapshotManifest) -> Snapshot {
    let rows = at_once(read_partition(state, manifest, 0, 1)).unwrap();
    let mut overlay = Vec::new();
    for file in &manifest.overlay {
        let entries: Vec<OverlayEntry> = if layout::is_waiting(&file.key) {
            let (body, _) = at_once(state.get(&file.key)).unwrap().expect("the manifest names it");
            read_waiting(&file.key, &body).unwrap()
        } else {
            at_once(lines::require_lines(state, &file.key)).unwrap()
        };
        overlay.extend(entries);
    }
    Snapshot { keys: rows.iter().map(|row| row.key.to_vec()).collect(), overlay }
}

/// What a run reported, in a line.
pub(crate) fn report(state: &MemoryObjects, run: &str) -> String {
    match at_once(reports::of_run(state, &RunKeys { sync: SYNC, run })).unwrap() {
        Some(report) => format!(", {:?}: {:?} {:?}", report.status, report.counts, report.api),
        None => String::new(),
    }
}

/// Every dead letter that there is.
pub(crate) fn dead_letters(state: &MemoryObjects) -> Vec<DeadLetter> {
    let prefix = SyncKeys { sync: SYNC }.dead_letters();
    let mut letters = Vec::new();
    for object in at_once(state.list(&prefix)).unwrap() {
        let found: Vec<DeadLetter> = at_once(lines::require_lines(state, &object.key)).unwrap();
        letters.extend(found);
    }
    letters
}

/// How many requests the destination has seen.
pub(crate) fn requests(story: &Story) -> u64 {
    story.destination.twin.journal().requests()
}

fn key(id: i64) -> Vec<u8> {
    Key::of(&[KeyValue::Int(id.into())]).as_bytes().to_vec()
}

/// The rows of an unload that have a key of their own.
fn tidy(rows: &[Row]) -> BTreeMap<i64, &Row> {
    let mut counts: BTreeMap<i64, u32> = BTreeMap::new();
    for id in rows.iter().filter_map(|row| row.id) {
        *counts.entry(id).or_default() += 1;
    }
    let single = |row: &&Row| row.id.is_some_and(|id| counts[&id] == 1);
    rows.iter().filter(single).map(|row| (row.id.unwrap(), row)).collect()
}

/// Laws that hold at every moment; every breach in words.
pub(crate) fn always(story: &Story) -> Vec<String> {
    let mut broken = Vec::new();
    older_never_overwrites_newer(story, &mut broken);
    the_snapshot_never_says_more(story, &mut broken);
    fences_rise(story, &mut broken);
    limits_are_kept(story, &mut broken);
    nothing_contradicts_itself(story, &mut broken);
    receipts_are_true(story, &mut broken);
    rejections_are_true(story, &mut broken);
    for run in story.robbed.lock().unwrap().iter() {
        broken.push(format!("{run} was taken over while it ran"));
    }
    if story.setting.mode == "append" && !story.setting.replays {
        appended_once(story, &mut broken);
    }
    broken
}

fn older_never_overwrites_newer(story: &Story, broken: &mut Vec<String>) {
    if story.setting.mode == "append" {
        return;
    }
    let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
    for told in story.destination.history() {
        let Some(row) = told.row.filter(|row| row.version > 0) else { continue };
        let newest = newest.entry(told.id).or_insert(row.version);
        if row.version < *newest {
            broken.push(format!(
                "request {} wrote version {} of {} over version {newest}",
                told.request, row.version, told.id
            ));
        }
        *newest = row.version.max(*newest);
    }
}

fn the_snapshot_never_says_more(story: &Story, broken: &mut Vec<String>) {
    let ids: BTreeSet<i64> = story.table.unloads.values().flatten().filter_map(|row| row.id).collect();
    for commit in story.commits.lock().unwrap().iter() {
        let run = &commit.pointer.run;
        let rows = tidy(&story.table.unloads[&commit.manifest.unload.prefix]);
        let doubtful: BTreeSet<&[u8]> =
            commit.snapshot.overlay.iter().map(|entry| entry.key.as_bytes()).collect();
        for &id in &ids {
            let key = key(id);
            if doubtful.contains(key.as_slice()) {
                continue;
            }
            let (held, claimed) = (commit.records.get(&id), commit.snapshot.keys.contains(&key));
            match (claimed, rows.get(&id), held) {
                (true, _, None) => {
                    broken.push(format!("{run} committed {id}, which the destination does not hold"));
                }
                // A replay sends the newest rows and leaves the others as they were.
                (true, Some(row), Some(held))
                    if story.setting.mode == "upsert" && held.version < row.version =>
                {
                    broken.push(format!(
                        "{run} committed version {} of {id}, and the destination holds {}",
                        row.version, held.version
                    ));
                }
                (false, _, Some(_)) if story.setting.deletes() => {
                    broken.push(format!("{run} committed that {id} is gone, and the destination holds it"));
                }
                (true | false, ..) => {}
            }
        }
    }
}

fn fences_rise(story: &Story, broken: &mut Vec<String>) {
    let commits = story.commits.lock().unwrap();
    for pair in commits.windows(2) {
        let (before, after) = (&pair[0].pointer, &pair[1].pointer);
        if after.fence <= before.fence {
            broken.push(format!("{} committed after {}, whose fence is higher", after.run, before.run));
        }
    }
}

fn limits_are_kept(story: &Story, broken: &mut Vec<String>) {
    let in_a_day = story.destination.most_in_a_day();
    if let Some(per_day) = story.setting.per_day.filter(|per_day| in_a_day > *per_day) {
        broken.push(format!("{in_a_day} requests in a day, and {per_day} are allowed"));
    }
    let Some(limit) = story.setting.limit else { return };
    let most = story.destination.twin.journal().most_requests_within(limit.within);
    if most > limit.requests as usize {
        broken.push(format!("{most} requests within {:?}, and {} are allowed", limit.within, limit.requests));
    }
}

fn nothing_contradicts_itself(story: &Story, broken: &mut Vec<String>) {
    for (name, cause) in story.lambda.failures() {
        if ["InvariantBroken", "ChunkUnreadable", "ContractMismatch", "DestinationRefused"]
            .contains(&name.as_str())
        {
            broken.push(format!("a function failed with {name}: {cause}"));
        }
    }
}

fn appended_once(story: &Story, broken: &mut Vec<String>) {
    let mut times: BTreeMap<Row, u32> = BTreeMap::new();
    for row in story.destination.appended() {
        *times.entry(row).or_default() += 1;
    }
    for (row, times) in times.into_iter().filter(|(_, times)| *times > 1) {
        broken.push(format!("{:?} was appended {times} times", row.id));
    }
}

/// What the receipts say was accepted was carried out.
fn receipts_are_true(story: &Story, broken: &mut Vec<String>) {
    let told: BTreeSet<(i64, i64)> = story
        .destination
        .history()
        .iter()
        .map(|told| (told.id, told.row.as_ref().map_or(0, |row| row.version)))
        .collect();
    for number in 1..=story.runs {
        let run = run_name(number);
        let keys = RunKeys { sync: SYNC, run: &run };
        let Some((gate, _)) = at_once(json::get_json::<GateDecision>(&*story.state, &keys.gate())).unwrap()
        else {
            continue;
        };
        for chunk in gate.chunks {
            let lines: Vec<Transformed> =
                at_once(operations::read(&*story.state, &keys.operations(chunk.chunk)))
                    .unwrap()
                    .unwrap_or_default();
            let witnessed = at_once(receipts::load(&*story.state, &keys, chunk.chunk)).unwrap();
            for (n, outcome) in witnessed.outcomes {
                // A chunk that could not be mapped has receipts and no operations.
                let (Outcome::Accepted { .. }, Some(Transformed::Operation(operation))) =
                    (outcome, lines.get(n as usize))
                else {
                    continue;
                };
                let of = |text: &str, name: &str| {
                    serde_json::from_str::<serde_json::Value>(text).unwrap()[name].as_i64()
                };
                let Some(id) = of(operation.key.get(), "id") else { continue };
                let version = of(operation.fields.get(), "version").unwrap_or(0);
                if !told.contains(&(id, version)) {
                    broken.push(format!(
                        "{run} says that version {version} of {id} was accepted, and it never arrived"
                    ));
                }
            }
        }
    }
}

/// The destination's own reasons are given for the rows only that it refuses.
fn rejections_are_true(story: &Story, broken: &mut Vec<String>) {
    // There a record that exists is a reason, and a destination that refuses whole batches has one word for all.
    if story.setting.mode == "create_only" {
        return;
    }
    for letter in dead_letters(&story.state) {
        // Emptying a record that is not there is refused by the same word.
        let is_row = letter.fields.as_ref().is_some_and(|fields| fields.get().contains("\"version\""));
        let is_bad = letter.fields.as_ref().is_some_and(|fields| fields.get().contains("\"bad\":true"));
        if ["invalid", "batch_refused"].contains(&letter.code.as_str()) && is_row && !is_bad {
            broken.push(format!(
                "{} is a dead letter ({}), and nothing is wrong with it",
                letter.key.get(),
                letter.code
            ));
        }
    }
}

/// Laws that hold once all is calm and healthy runs have found nothing more to do.
pub(crate) fn at_rest(story: &Story, hows: &[String]) -> Vec<String> {
    let mut broken = Vec::new();
    if hows.last().is_none_or(|how| how != "nothing to do") {
        broken.push(format!("healthy runs did not come to rest: {}", hows.join(", ")));
    }
    for told in story.destination.history() {
        story.tell(&format!("{told:?}"));
    }
    for letter in dead_letters(&story.state) {
        story.tell(&format!(
            "dead letter of {} in {}: {} {:?}",
            letter.key.get(),
            letter.run,
            letter.code,
            letter.fields.as_ref().map(Json::get)
        ));
    }
    match story.setting.mode {
        "append" => every_row_was_appended(story, &mut broken),
        _ => every_row_is_there(story, &mut broken),
    }
    broken
}

/// The rows of dead letters, as id and version; version 0 where a letter holds no payload.
fn rejected(story: &Story) -> BTreeSet<(i64, i64)> {
    let id_of = |text: &str| {
        let key: serde_json::Value = serde_json::from_str(text).unwrap();
        key["id"].as_i64()
    };
    dead_letters(&story.state)
        .iter()
        .filter_map(|letter| {
            let version = letter.fields.as_ref().and_then(|fields| {
                let fields: serde_json::Value = serde_json::from_str(fields.get()).unwrap();
                fields["version"].as_i64()
            });
            Some((id_of(letter.key.get())?, version.unwrap_or(0)))
        })
        .collect()
}

fn every_row_is_there(story: &Story, broken: &mut Vec<String>) {
    let Some(newest) = story.table.unloads.values().next_back() else { return };
    let (rows, records, rejected) = (tidy(newest), story.destination.records(), rejected(story));
    let is_rejected =
        |id: i64, version: i64| rejected.contains(&(id, version)) || rejected.contains(&(id, 0));
    for (&id, &row) in &rows {
        match records.get(&id) {
            Some(held) if held == row => {}
            // It was there first.
            Some(_) if story.setting.mode == "create_only" => {}
            Some(_) | None if is_rejected(id, row.version) => {}
            Some(held) => {
                broken.push(format!(
                    "{id} is at version {}, the destination holds {}",
                    row.version, held.version
                ));
            }
            None => broken.push(format!(
                "version {} of {id}{} is lost",
                row.version,
                if row.bad { " (which is bad)" } else { "" }
            )),
        }
    }
    let all: BTreeSet<i64> = newest.iter().filter_map(|row| row.id).collect();
    if story.setting.deletes() {
        for id in records.keys().filter(|id| !all.contains(id) && !is_rejected(**id, 0)) {
            broken.push(format!("{id} is gone from the table, and still at the destination"));
        }
    }
}

fn every_row_was_appended(story: &Story, broken: &mut Vec<String>) {
    let appended: BTreeSet<Row> = story.destination.appended().into_iter().collect();
    let rejected = rejected(story);
    // A run takes the newest unload; those that came between two runs are passed over.
    let taken: BTreeSet<String> =
        story.commits.lock().unwrap().iter().map(|commit| commit.manifest.unload.prefix.clone()).collect();
    for row in taken.iter().flat_map(|prefix| &story.table.unloads[prefix]) {
        let Some(id) = row.id else { continue };
        let is_rejected = rejected.contains(&(id, row.version)) || rejected.contains(&(id, 0));
        if !appended.contains(row) && !is_rejected {
            broken.push(format!("version {} of {id} was never appended", row.version));
        }
    }
}

/// Laws of a story in which nothing went wrong: every change is sent once.
pub(crate) fn when_calm(story: &Story) -> Vec<String> {
    let mut told: BTreeMap<(i64, i64), u32> = BTreeMap::new();
    let mut broken = Vec::new();
    for it in story.destination.history() {
        match it.row {
            Some(row) if row.version > 0 => *told.entry((it.id, row.version)).or_default() += 1,
            // A removal of a record that is not there says something twice.
            Some(_) | None if it.action == Action::Unchanged && story.setting.deletes() => {
                broken.push(format!("{} was removed though it was not there", it.id));
            }
            Some(_) | None => {}
        }
    }
    for ((id, version), times) in told.into_iter().filter(|(_, times)| *times > 1) {
        broken.push(format!("version {version} of {id} was sent {times} times though nothing went wrong"));
    }
    if story.setting.deletes_ours() {
        let newest = story.table.unloads.values().next_back();
        let all: BTreeSet<i64> = newest.into_iter().flatten().filter_map(|row| row.id).collect();
        for id in story.destination.records().keys().filter(|id| !all.contains(id)) {
            broken.push(format!("{id} is ours and gone from the table, and still at the destination"));
        }
    }
    let throttled = story.destination.twin.journal().requests_ended(Ended::Answered(429));
    if throttled > 0 {
        broken.push(format!("{throttled} requests were refused for coming too fast"));
    }
    broken
}
