//! Stories from seeds.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use penstock_model::contract::RunOptions;

use crate::laws;
use crate::setting::Setting;
use crate::story::{Ended, Run, Story};
use crate::world::Dice;

/// A story that was told to its end.
#[derive(Debug)]
struct Told {
    seed: u64,
    /// The laws that it broke.
    broken: Vec<String>,
    /// All that happened.
    told: String,
}

/// What a story came to, for the tally.
#[derive(Debug, Default)]
struct Tally {
    hows: BTreeMap<String, u64>,
}

/// Tells the story of a seed.
fn tell(seed: u64, tally: &Mutex<Tally>) -> Told {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let dice = Dice::new(seed);
        let is_calm = dice.per_mille(150);
        let setting = if is_calm { Setting::calm(&dice) } else { Setting::rough(&dice) };
        let mut story = Story::new(dice.clone(), setting).await;
        story.tell(&format!("{:?}", story.setting));
        story.table.untidy = dice.per_mille(300);
        let storage = story.storage.clone();
        let broken = tokio::select! {
            biased;
            () = storage.endless.notified() => vec!["the story does not end".to_owned()],
            broken = to_the_end(&mut story, is_calm, tally) => broken,
        };
        Told { seed, broken, told: story.told() }
    })
}

/// Tells it to its end; the laws that it broke.
async fn to_the_end(story: &mut Story, is_calm: bool, tally: &Mutex<Tally>) -> Vec<String> {
    let hows = if is_calm { calm_days(story).await } else { rough_days(story).await };
    for how in hows {
        *tally.lock().unwrap().hows.entry(how).or_default() += 1;
    }
    story.calm_down().await;
    let hows = story.settle().await;
    let mut broken = laws::always(story);
    broken.extend(laws::at_rest(story, &hows));
    if is_calm {
        broken.extend(laws::when_calm(story));
    }
    broken
}

async fn calm_days(story: &mut Story) -> Vec<String> {
    let mut hows = Vec::new();
    for _ in 0..story.dice.between(1, 3) {
        story.unload().await;
        hows.push(story.run(RunOptions::default(), None).end().await.unwrap().how());
    }
    hows
}

async fn rough_days(story: &mut Story) -> Vec<String> {
    let dice = story.dice.clone();
    let cancel = |chance| {
        dice.per_mille(chance).then(|| {
            let longest = dice.one_of(&[300, 3_000, 60_000]);
            Duration::from_millis(dice.between(0, longest))
        })
    };
    let mut hows = Vec::new();
    let mut failed: Vec<Ended> = Vec::new();
    let mut under_way: Vec<Run> = Vec::new();
    for _ in 0..dice.between(1, 4) {
        if dice.per_mille(900) || story.table.unloads.is_empty() {
            story.unload().await;
        }
        for _ in 0..dice.between(1, 3) {
            let run = match dice.between(0, 9) {
                0 | 1 if !failed.is_empty() => {
                    let ended = failed.remove(0);
                    story.redrive(&ended, cancel(200))
                }
                2 if story.setting.replays => story.run(Story::replay(), cancel(200)),
                _ => story.run(RunOptions::default(), cancel(250)),
            };
            under_way.push(run);
            if dice.per_mille(700) {
                for run in under_way.drain(..) {
                    let Some(ended) = run.end().await else { continue };
                    hows.push(ended.how());
                    if !ended.succeeded() {
                        failed.push(ended);
                    }
                }
            } else {
                tokio::time::sleep(Duration::from_millis(dice.between(0, 30_000))).await;
            }
        }
    }
    for run in under_way {
        hows.extend(run.end().await.map(|ended| ended.how()));
    }
    hows
}

/// Tells the stories of these seeds, on every processor, until so many have broken a law.
fn tell_all(seeds: std::ops::Range<u64>, most_breaches: usize) {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let (breaches, tally) = (Mutex::new(Vec::new()), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let told = tell(seed, &tally);
                    if !told.broken.is_empty() {
                        let mut breaches = breaches.lock().unwrap();
                        breaches.push(told);
                        stop.store(breaches.len() >= most_breaches, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let hows = tally.into_inner().unwrap().hows;
    println!("runs ended: {hows:?}");
    let mut breaches = breaches.into_inner().unwrap();
    breaches.sort_by_key(|breach| breach.seed);
    for Told { seed, broken, .. } in breaches.iter().skip(1) {
        println!("seed {seed}: {}", broken.join("; "));
    }
    let Some(Told { seed, broken, told }) = breaches.first() else { return };
    panic!("seed {seed} broke a law:\n{told}\n\n{}\n(again: PENSTOCK_SEED={seed})", broken.join("\n"));
}

fn number(variable: &str) -> Option<u64> {
    std::env::vars().find_map(|(name, value)| (name == variable).then(|| value.parse().unwrap()))
}

/// `PENSTOCK_SEED` tells one story; `PENSTOCK_SEEDS` says how many are told.
#[test]
fn no_story_breaks_a_law() {
    let seeds = match number("PENSTOCK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PENSTOCK_SEEDS").unwrap_or(3_000),
    };
    let most_breaches = number("PENSTOCK_BREACHES").unwrap_or(1);
    tell_all(seeds, usize::try_from(most_breaches).unwrap());
}

/// Otherwise a breach could not be looked into.
#[test]
fn a_seed_tells_the_same_story_again() {
    for seed in 0..40 {
        let tally = Mutex::default();
        assert_eq!(tell(seed, &tally).told, tell(seed, &tally).told, "seed {seed}");
    }
}
