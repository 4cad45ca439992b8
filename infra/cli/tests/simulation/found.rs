//! What the simulation has found, each as a story of its own.

use std::time::Duration;

use penstock_commit::{Ports, commit};
use penstock_model::FailureName;
use penstock_model::contract::RunOptions;
use penstock_model::layout::{RunKeys, SyncKeys};
use penstock_model::outcome::{Outcome, ReceiptLine};
use penstock_model::port::{Condition, Objects as _};
use penstock_model::report::RunStatus;
use penstock_model::run_plan::RunPlan;
use penstock_store::{json, lines, reports};
use penstock_twins::{RateLimit, RowErrors};
use serde_json::json;

use crate::laws;
use crate::setting::{SYNC, Setting};
use crate::story::{Story, run_name};
use crate::world::{Dice, TurnedClock};

/// A setting in which nothing is left to chance but times.
fn plain(mode: &'static str) -> Setting {
    Setting {
        mode,
        on_removed: if mode == "upsert" { json!({ "delete": "any" }) } else { json!("nothing") },
        row_errors: RowErrors::UnderOk,
        rows_per_request: 3,
        idempotent_append: false,
        limit: None,
        per_day: None,
        limits: json!({ "concurrency": 2, "requests_in_flight": 2 }),
        delivery: json!({ "chunk_rows": 4 }),
        mishaps: 0,
        storage: 0,
        faults: json!([]),
        replays: false,
    }
}

fn told<T>(setting: Setting, tell: impl AsyncFnOnce(&mut Story) -> T) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut story = Story::new(Dice::new(7), setting).await;
        tell(&mut story).await
    })
}

/// Everything is calm, and no law is broken.
async fn ends_well(story: &mut Story) {
    story.calm_down().await;
    let hows = story.settle().await;
    let mut broken = laws::always(story);
    broken.extend(laws::at_rest(story, &hows));
    assert!(broken.is_empty(), "{}\n{}", story.told(), broken.join("\n"));
}

async fn reported(story: &Story, run: &str) -> RunStatus {
    reports::of_run(&*story.state, &RunKeys { sync: SYNC, run }).await.unwrap().unwrap().status
}

async fn run(story: &mut Story) -> String {
    story.run(RunOptions::default(), None).end().await.unwrap().how()
}

/// Its lease was asked for before it left a trace: the run that took over saw neither an attempt nor a deadline, and
/// both sent.
#[test]
fn a_push_that_begins_while_its_run_is_taken_over_sends_nothing() {
    for cancel_ms in (150..700).step_by(7) {
        told(plain("append"), async |story| {
            story.table.add(6);
            story.unload_as_it_is().await;
            story.run(RunOptions::default(), Some(Duration::from_millis(cancel_ms))).end().await;
            run(story).await;
            ends_well(story).await;
        });
    }
}

/// Neither saw the other's attempt, and both sent.
#[test]
fn two_pushes_that_begin_together_do_not_both_send() {
    for seed in 0..40 {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut story = Story::new(Dice::new(seed), plain("append")).await;
            story.lambda.always_twice("PushFunction");
            story.table.add(12);
            story.unload_as_it_is().await;
            run(&mut story).await;
            ends_well(&mut story).await;
        });
    }
}

/// It committed the unload as delivered, and nothing of it was ever sent.
#[test]
fn a_replay_before_the_first_run_is_nothing() {
    told(plain("upsert"), async |story| {
        story.table.add(5);
        story.unload_as_it_is().await;
        let replayed = story.run(Story::replay(), None).end().await.unwrap();
        assert!(replayed.succeeded());
        ends_well(story).await;
        assert_eq!(story.destination.records().len(), 5);
    });
}

/// The rows of a run that had died were forgotten.
#[test]
fn a_replay_leaves_an_append_s_unsent_rows_where_they_are() {
    told(plain("append"), async |story| {
        story.table.add(3);
        story.table.spoil(1);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        story.table.clear();
        story.table.add(9);
        story.unload_as_it_is().await;
        story.run(RunOptions::default(), Some(Duration::from_millis(420))).end().await;
        story.run(Story::replay(), None).end().await;
        ends_well(story).await;
        assert_eq!(story.destination.appended().len(), 2 + 9);
    });
}

/// Each push began with a burst of its own.
#[test]
fn many_small_chunks_keep_to_the_limits_together() {
    let limit = RateLimit::new(6, Duration::from_secs(1));
    let setting = Setting {
        limit: Some(limit),
        limits: json!({ "concurrency": 2, "requests_in_flight": 3, "requests_per_second": 6 }),
        delivery: json!({ "chunk_rows": 1 }),
        ..plain("upsert")
    };
    told(setting, async |story| {
        story.table.add(40);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        ends_well(story).await;
        assert_eq!(laws::when_calm(story), Vec::<String>::new());
    });
}

/// Each push began to halve anew, and had no time to come to an end.
#[test]
fn halving_goes_on_from_push_to_push() {
    let setting = Setting {
        row_errors: RowErrors::WholeBatch,
        rows_per_request: 16,
        limit: Some(RateLimit::new(3, Duration::from_secs(10))),
        limits: json!({ "concurrency": 1, "requests_in_flight": 1, "requests_per_10_seconds": 3 }),
        delivery: json!({ "chunk_rows": 16 }),
        ..plain("upsert")
    };
    told(setting, async |story| {
        story.table.add(16);
        story.table.spoil(11);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        ends_well(story).await;
        assert_eq!(story.destination.records().len(), 15);
    });
}

/// A learned pace that was slower than a push is long began anew with each push.
#[test]
fn a_destination_that_wants_to_be_asked_rarely_is_asked_in_the_end() {
    let setting = Setting {
        faults: json!([{ "when": { "from": 2, "until": 12 }, "what": { "status": { "code": 429 } } }]),
        limits: json!({ "concurrency": 1, "requests_in_flight": 1, "requests_per_10_seconds": 4 }),
        limit: Some(RateLimit::new(4, Duration::from_secs(10))),
        ..plain("upsert")
    };
    told(setting, async |story| {
        story.table.add(12);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        ends_well(story).await;
    });
}

/// An entry that waited for a key that is not unique any more made every run begin again.
#[test]
fn what_waits_for_a_key_that_is_not_unique_does_not_keep_runs_busy() {
    told(plain("upsert"), async |story| {
        story.table.add(8);
        story.unload_as_it_is().await;
        story.run(RunOptions::default(), Some(Duration::from_millis(420))).end().await;
        story.table.repeat_all();
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        assert_eq!(story.settle().await, ["nothing to do"]);
    });
}

/// The state machine saw each death followed by a push that had to wait: it never counted to three.
#[test]
fn a_chunk_that_kills_its_function_becomes_dead_letters_and_the_others_arrive() {
    told(plain("upsert"), async |story| {
        story.table.add(12);
        story.destination.kills(&[2, 3]);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        let codes: Vec<String> =
            laws::dead_letters(&story.state).into_iter().map(|letter| letter.code).collect();
        assert!(codes.len() < 12 && codes.iter().all(|code| code == "ChunkPoisoned"), "{codes:?}");
        let records = story.destination.records();
        // What a dying push had sent may have arrived.
        assert!(records.len() >= 12 - codes.len() && !records.contains_key(&2) && !records.contains_key(&3));
        story.destination.kills(&[]);
        ends_well(story).await;
    });
}

#[test]
fn many_chunks_that_kill_their_function_stop_the_run() {
    told(plain("upsert"), async |story| {
        story.table.add(40);
        story.destination.kills(&(1..=40).collect::<Vec<i64>>());
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "TooManyChunksFailed");
        assert!(story.destination.records().is_empty());
        story.destination.kills(&[]);
        assert_eq!(run(story).await, "succeeded");
        let replayed = story.run(Story::replay(), None).end().await.unwrap();
        assert!(replayed.succeeded());
        assert_eq!(story.destination.records().len(), 40);
    });
}

/// An invocation that comes after its run's end found its lease still held.
#[test]
fn a_push_that_comes_after_its_run_s_end_sends_nothing() {
    told(plain("append"), async |story| {
        story.lambda.always_late("PushFunction", Duration::from_secs(60));
        story.table.add(6);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        story.table.clear();
        story.table.add(6);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        ends_well(story).await;
        assert_eq!(story.destination.appended().len(), 12);
    });
}

/// A quota that is gone for the day failed the run; now it waits for the next one, and asks rarely.
#[test]
fn a_run_without_quota_waits_for_the_next_day() {
    let setting = Setting {
        limits: json!({ "concurrency": 2, "requests_in_flight": 1 }),
        delivery: json!({ "chunk_rows": 12 }),
        ..plain("upsert")
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut story = Story::with_quota(Dice::new(7), setting, 4).await;
        story.table.add(24);
        story.unload_as_it_is().await;
        let began = tokio::time::Instant::now();
        assert_eq!(run(&mut story).await, "succeeded");
        let hours = began.elapsed().as_secs_f64() / 3_600.0;
        // It began a few seconds after midnight.
        assert!((23.9..25.0).contains(&hours), "{hours} hours");
        assert_eq!(story.destination.records().len(), 24);
        let refused = laws::requests(&story) - 8;
        assert!(refused <= 4, "{refused} requests were refused");
        ends_well(&mut story).await;
    });
}

/// Two plans of one run saw different unloads, and the one wrote the items of the other's.
#[test]
fn two_plans_of_one_run_are_one_plan() {
    for after_ms in (0..160).step_by(5) {
        told(plain("upsert"), async |story| {
            story.lambda.always_twice("PlanFunction");
            story.table.add(3);
            story.unload_as_it_is().await;
            let run = story.run(RunOptions::default(), None);
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            story.table.add(90);
            story.unload_now().await;
            assert_eq!(run.end().await.unwrap().how(), "succeeded", "{}", story.told());
            ends_well(story).await;
        });
    }
}

/// Its run had sent nothing, so that the takeover left the pointer alone; then the late swap came in, and the run that
/// had taken over lost its own.
#[test]
fn a_finish_that_comes_after_its_run_was_taken_over_commits_nothing() {
    let mut claimed = 0;
    for cancel_ms in (200..700).step_by(7) {
        told(plain("upsert"), async |story| {
            story.table.add(3);
            story.unload_as_it_is().await;
            assert_eq!(run(story).await, "succeeded");
            // The same rows once more: nothing to send, and yet a run that finishes.
            story.unload_as_it_is().await;
            story.storage.write_late(SyncKeys { sync: SYNC }.pointer(), Duration::from_secs(20));
            story.run(RunOptions::default(), Some(Duration::from_millis(cancel_ms))).end().await;
            story.unload_as_it_is().await;
            let how = run(story).await;
            assert!(["succeeded", "nothing to do"].contains(&how.as_str()), "{how}\n{}", story.told());
            claimed += u32::from(story.told().contains("claimed the pointer"));
            ends_well(story).await;
        });
    }
    assert!(claimed > 0);
}

/// Plan came twice after a takeover: one invocation saw no plan of the dead run and pinned the pointer, the other saw the
/// plan, which had come late, and moved the pointer to shut that run out. What the new run delivered was then committed by
/// the one after it only, and it was told that it had been folded into itself.
#[test]
fn a_plan_that_comes_twice_leaves_the_pointer_as_it_has_pinned_it() {
    let mut late = 0;
    for late_ms in (40..160).step_by(2) {
        told(plain("upsert"), async |story| {
            let keys = SyncKeys { sync: SYNC };
            story.table.add(3);
            story.unload_as_it_is().await;
            assert_eq!(run(story).await, "succeeded");
            story.table.add(3);
            story.unload_as_it_is().await;
            let dead = RunKeys { sync: SYNC, run: &run_name(story.runs + 1) }.plan();
            story.storage.write_late(dead.clone(), Duration::from_millis(late_ms));
            story.run(RunOptions::default(), Some(Duration::from_millis(100))).end().await;
            late += u32::from(story.state.get(&dead).await.unwrap().is_none());
            story.storage.write_late(keys.pointer(), Duration::from_millis(200));
            story.lambda.always_twice("PlanFunction");
            let run = story.run(RunOptions::default(), None);
            // It has taken the lease; to forget the dead run takes it longer.
            tokio::time::sleep(Duration::from_millis(35)).await;
            story.storage.write_late(keys.lease(), Duration::from_millis(100));
            assert_eq!(run.end().await.unwrap().how(), "succeeded", "{}", story.told());
            ends_well(story).await;
        });
    }
    assert!(late > 0);
}

/// A run that was looked at again after a later one had gone on took the dead letter away, and nothing made up for it.
#[test]
fn a_dead_letter_that_a_snapshot_rests_on_stays() {
    told(plain("append"), async |story| {
        story.table.add(3);
        story.table.spoil(1);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        let letters = laws::dead_letters(&story.state);
        let [letter] = letters.as_slice() else { panic!("one row was bad") };
        // An attempt that wakes late has something else to say of the row.
        let keys = RunKeys { sync: SYNC, run: &run_name(1) };
        let line = ReceiptLine { n: letter.n, outcome: Outcome::Accepted { id: None, created: None } };
        let receipt = keys.receipt(letter.chunk, "late", 0);
        lines::put_lines(&*story.state, &receipt, [&line], Condition::Always).await.unwrap();
        let plan: RunPlan = json::require_json(&*story.state, &keys.plan()).await.unwrap();
        let (state, clock, dice) = (story.state.clone(), TurnedClock::new(), Dice::new(8));
        let ports = Ports { state: &*state, clock: &*clock, random: &dice };
        commit(ports, &plan).await.unwrap();
        assert_eq!(laws::dead_letters(&story.state).len(), 1, "its own snapshot");

        story.table.clear();
        story.table.add(3);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        assert_eq!(commit(ports, &plan).await.unwrap_err().name, FailureName::Superseded);
        assert_eq!(laws::dead_letters(&story.state).len(), 1, "one that follows it");
    });
}

/// Its plan had found nothing new, and reported that, once nobody waited for it any more; redriven, it sent rows, and finish went by the
/// report.
#[test]
fn a_run_that_is_redriven_once_there_is_something_to_do_commits_it() {
    told(plain("append"), async |story| {
        story.table.add(3);
        story.unload_as_it_is().await;
        assert_eq!(run(story).await, "succeeded");
        let cancelled = story.run(RunOptions::default(), Some(Duration::from_millis(3))).end().await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(reported(story, &cancelled.run).await, RunStatus::NothingToDo);
        story.table.clear();
        story.table.add(4);
        story.unload_as_it_is().await;
        assert_eq!(story.redrive(&cancelled, None).end().await.unwrap().how(), "succeeded");
        assert_eq!(reported(story, &cancelled.run).await, RunStatus::Succeeded);
        assert_eq!(run(story).await, "succeeded");
        ends_well(story).await;
        assert_eq!(story.destination.appended().len(), 3 + 4);
    });
}
