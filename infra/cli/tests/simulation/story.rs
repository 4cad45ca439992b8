//! A story: days of one table, its runs, and everything that happens to them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use penstock_cli::engine::{Engine, Event, Observer, Progress, Start, StateMachine, Status};
use penstock_cli::local::{Functions, Platform};
use penstock_destinations::Parts;
use penstock_model::contract::{Replay, RunOptions, StartRequest};
use penstock_model::layout::SyncKeys;
use penstock_model::lease::Lease;
use penstock_model::port::Clock;
use penstock_model::snapshot::{Pointer, SnapshotManifest};
use penstock_plan::Sizes;
use penstock_store::MemoryObjects;
use penstock_twins::{BatchTwinBuilder, Script, Twin};

use crate::destination::Destination;
use crate::laws::{self, Commit};
use crate::platform::Lambda;
use crate::setting::{SYNC, Setting};
use crate::storage::{Bucket, Storage};
use crate::table::Table;
use crate::world::{Dice, Known, OneToken, TurnedClock};

const STATE_MACHINE: &str = include_str!("../../../sync.asl.json");

/// How a run ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) run: String,
    pub(crate) progress: Progress,
}

impl Ended {
    /// In a word: `succeeded`, `cancelled`, or the failure's name.
    pub(crate) fn how(&self) -> String {
        match &self.progress.status {
            Status::Succeeded { .. } => "succeeded".to_owned(),
            Status::Running => "cancelled".to_owned(),
            Status::TimedOut => "timed out".to_owned(),
            Status::Failed(failure) => self.progress.root_failure().unwrap_or(failure).error.clone(),
        }
    }

    pub(crate) fn succeeded(&self) -> bool {
        matches!(self.progress.status, Status::Succeeded { .. })
    }
}

/// The name of a story's n-th run, from 1.
pub(crate) fn run_name(number: u32) -> String {
    format!("r{number:03}")
}

/// Everything of one story.
pub(crate) struct Story {
    pub(crate) dice: Dice,
    pub(crate) setting: Setting,
    pub(crate) table: Table,
    pub(crate) state: Arc<MemoryObjects>,
    pub(crate) unloads: Arc<MemoryObjects>,
    pub(crate) destination: Destination,
    pub(crate) commits: Arc<Mutex<Vec<Commit>>>,
    pub(crate) lambda: Arc<Lambda>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) storage: Arc<Storage>,
    machine: StateMachine,
    clock: Arc<dyn Clock>,
    known: Arc<Known>,
    pub(crate) runs: u32,
    told: Arc<Mutex<Vec<String>>>,
    /// Runs that were taken over though nobody had stopped them.
    pub(crate) robbed: Arc<Mutex<Vec<String>>>,
    began: tokio::time::Instant,
}

impl Story {
    pub(crate) async fn new(dice: Dice, setting: Setting) -> Self {
        let twin = setting.twin();
        Self::at(dice, setting, twin).await
    }

    /// A story whose destination takes so many requests a day.
    pub(crate) async fn with_quota(dice: Dice, setting: Setting, requests: u64) -> Self {
        let twin = setting.twin().daily_limit(requests);
        Self::at(dice, setting, twin).await
    }

    async fn at(dice: Dice, setting: Setting, twin: BatchTwinBuilder) -> Self {
        let clock: Arc<dyn Clock> = TurnedClock::new();
        let state = Arc::new(MemoryObjects::with_clock(clock.clone()));
        let unloads = Arc::new(MemoryObjects::with_clock(clock.clone()));
        let storage = Storage::new(state.clone(), dice.clone());
        let destination = Destination::new(twin, dice.clone());
        let known = Arc::new(Known::default());
        let platform = Platform {
            state: storage.clone(),
            unloads: Arc::new(Bucket(Storage::new(unloads.clone(), dice.clone()))),
            warehouse: Arc::new(penstock_cli::local::NoWarehouse),
            executions: known.clone(),
            parts: Parts {
                clock: clock.clone(),
                random: Arc::new(dice.clone()),
                secrets: Arc::new(OneToken),
                transport: Arc::new(destination.clone()),
                known: Arc::default(),
            },
            sizes: Sizes {
                split: penstock_columnar::split::Sizes { rows: 17, ..Default::default() },
                partition_rows: 12,
                read_concurrency: 3,
                diff_concurrency: 3,
            },
        };
        let functions = Arc::new(Functions::new(&platform));
        let lambda = Lambda::new(functions.clone(), dice.clone());
        lambda.mishaps(setting.mishaps);
        storage.fail(setting.storage);
        setting.publish(&state).await;
        let mut table = Table::new(dice.clone());
        table.grows_only = setting.mode == "append";
        let story = Self {
            dice,
            setting,
            table,
            state,
            unloads,
            destination,
            commits: Arc::default(),
            lambda,
            functions,
            storage,
            machine: StateMachine::parse(STATE_MACHINE).unwrap(),
            clock,
            known,
            runs: 0,
            told: Arc::default(),
            robbed: Arc::default(),
            began: tokio::time::Instant::now(),
        };
        story.watch_commits();
        story
    }

    /// Notes what the destination holds whenever the pointer is swapped.
    fn watch_commits(&self) {
        let (commits, destination, state) =
            (self.commits.clone(), self.destination.clone(), self.state.clone());
        let (told, began) = (self.told.clone(), self.began);
        self.storage.watch(Box::new(move |key, body| {
            let keys = SyncKeys { sync: SYNC };
            let at = began.elapsed().as_millis();
            if key == keys.lease() {
                let lease: Lease = serde_json::from_slice(body).unwrap();
                let what = if lease.released { "gave back" } else { "holds" };
                let line = format!(
                    "{at:>9} {} {what} lease {}, {:?} unfinished",
                    lease.run, lease.fence, lease.unfinished
                );
                told.lock().unwrap().push(line);
            }
            if key != keys.pointer() {
                return;
            }
            let pointer: Pointer = serde_json::from_slice(body).unwrap();
            let claimed =
                || told.lock().unwrap().push(format!("{at:>9} {} claimed the pointer", pointer.run));
            let Some(manifest) = &pointer.manifest else { return claimed() };
            let (manifest, _) = penstock_store::json::get_json::<SnapshotManifest>(&*state, manifest)
                .now_or_never()
                .unwrap()
                .unwrap()
                .unwrap();
            if manifest.run != pointer.run {
                return claimed();
            }
            let snapshot = laws::committed(&state, &manifest);
            told.lock().unwrap().push(format!("{at:>9} {} committed", pointer.run));
            let records = destination.records();
            commits.lock().unwrap().push(Commit { pointer, manifest, snapshot, records });
        }));
    }

    pub(crate) fn tell(&self, line: &str) {
        let at = self.began.elapsed().as_millis();
        self.told.lock().unwrap().push(format!("{at:>9} {line}"));
    }

    pub(crate) fn told(&self) -> String {
        self.told.lock().unwrap().join("\n")
    }

    /// A day passes, and the warehouse unloads.
    pub(crate) async fn unload(&mut self) {
        self.table.pass_a_day();
        self.unload_as_it_is().await;
    }

    /// The warehouse unloads.
    pub(crate) async fn unload_as_it_is(&mut self) {
        // Times of unloads are told apart by whole seconds.
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.unload_now().await;
    }

    /// The warehouse unloads at this very moment.
    pub(crate) async fn unload_now(&mut self) {
        self.table.unload(&self.unloads).await;
        let rows = self.table.unloads.values().next_back().map_or(0, Vec::len);
        self.tell(&format!("unload {} with {rows} rows", self.table.unloads.len() - 1));
    }

    fn engine(&self) -> Engine {
        Engine::new(
            self.machine.clone(),
            self.lambda.clone(),
            self.functions.clone(),
            self.clock.clone(),
            Arc::new(self.dice.clone()),
        )
    }

    /// Begins a run; it goes on by itself until it ends or is cancelled.
    pub(crate) fn run(&mut self, options: RunOptions, cancel_after: Option<Duration>) -> Run {
        self.runs += 1;
        let run = run_name(self.runs);
        let request = StartRequest { sync: SYNC.to_owned(), environment: None, options, trigger: None };
        let input = serde_json::to_value(&request).unwrap();
        self.known.begin(&run, None);
        let start = Start { id: run.clone(), name: run.clone(), input };
        let engine = self.engine();
        let course = async move |keeper: Arc<Keeper>| engine.start(start, &*keeper).await;
        self.under_way(run, "begins", cancel_after, course)
    }

    /// Carries on a run that has failed or was cancelled.
    pub(crate) fn redrive(&mut self, ended: &Ended, cancel_after: Option<Duration>) -> Run {
        let progress = ended.progress.clone();
        self.known.begin(&ended.run, Some(self.clock.now()));
        let engine = self.engine();
        let course = async move |keeper: Arc<Keeper>| engine.redrive(progress, &*keeper).await.unwrap();
        self.under_way(ended.run.clone(), "is redriven", cancel_after, course)
    }

    fn under_way<Course>(
        &self,
        run: String,
        how: &str,
        cancel_after: Option<Duration>,
        course: impl FnOnce(Arc<Keeper>) -> Course,
    ) -> Run
    where
        Course: Future<Output = Progress> + Send + 'static,
    {
        let cancelled = cancel_after.map(|after| format!(", cancelled after {} ms", after.as_millis()));
        self.tell(&format!("{run} {how}{}", cancelled.unwrap_or_default()));
        let keeper = Arc::new(Keeper::default());
        let (course, known) = (course(keeper.clone()), self.known.clone());
        let (told, began, state) = (self.told.clone(), self.began, self.state.clone());
        let (robbed, is_new) = (self.robbed.clone(), how == "begins");
        Run(tokio::spawn(async move {
            let ended = match cancel_after {
                None => Some(course.await),
                Some(after) => tokio::time::timeout(after, course).await.ok(),
            };
            known.end(&run);
            let progress = ended.or_else(|| keeper.0.lock().unwrap().take());
            let ended = progress.map(|progress| Ended { run: run.clone(), progress });
            let how = ended.as_ref().map_or("was cancelled before it began".to_owned(), Ended::how);
            if is_new && how == "Superseded" {
                robbed.lock().unwrap().push(run.clone());
            }
            let at = began.elapsed().as_millis();
            let report = laws::report(&state, &run);
            told.lock().unwrap().push(format!("{at:>9} {run}: {how}{report}"));
            ended
        }))
    }

    /// From now on nothing goes wrong, and what still goes on comes to its end.
    pub(crate) async fn calm_down(&mut self) {
        self.lambda.mishaps(0);
        self.storage.fail(0);
        self.destination.twin.set_faults(Script::default());
        tokio::time::sleep(Duration::from_secs(1_800)).await;
        self.tell("all is calm");
    }

    /// One run after another until there is nothing to do; how each ended.
    pub(crate) async fn settle(&mut self) -> Vec<String> {
        let mut hows = Vec::new();
        for _ in 0..4 {
            let ended = self.run(RunOptions::default(), None).end().await.unwrap();
            let nothing = ended.progress.exited.iter().any(|exited| exited.state == "Skipped");
            hows.push(if nothing { "nothing to do".to_owned() } else { ended.how() });
            if nothing || !ended.succeeded() {
                break;
            }
        }
        hows
    }

    pub(crate) fn replay() -> RunOptions {
        RunOptions { replay: Some(Replay::default()), ..RunOptions::default() }
    }
}

/// A run under way.
pub(crate) struct Run(tokio::task::JoinHandle<Option<Ended>>);

impl Run {
    /// How it ended; nothing if it was cancelled before its first state.
    pub(crate) async fn end(self) -> Option<Ended> {
        self.0.await.unwrap()
    }
}

/// Keeps what a redrive needs.
#[derive(Debug, Default)]
struct Keeper(Mutex<Option<Progress>>);

impl Observer for Keeper {
    fn event(&self, _: Event<'_>) {}

    fn progress(&self, progress: &Progress) {
        *self.0.lock().unwrap() = Some(progress.clone());
    }
}
