//! `penstock cost`.

use std::process::ExitCode;

use penstock_model::cost::{Architecture, Cost, PRICES, Usage, money};
use penstock_model::layout::SyncKeys;
use penstock_model::report::RunSummary;
use penstock_store::work;
use serde_json::json;

use super::deployed::sync_of;
use super::place;
use crate::args;
use crate::forecast::{Assumptions, forecast};
use crate::show::table;

/// The loads that are reckoned if no other is named.
const LOADS: [f64; 3] = [1e7, 1e8, 1e9];

/// Shows what runs cost by their own figures, and what loads would cost by arithmetic.
///
/// # Errors
/// If the state can't be read, or the run is none of the sync's.
pub async fn cost(args: args::Cost) -> anyhow::Result<ExitCode> {
    let mut assumptions = Assumptions::default();
    let mut measured = Vec::new();
    let mut architecture = Architecture::default();
    if let Some(sync) = &args.sync {
        let sync = sync_of(sync)?;
        let place = match &args.stack {
            Some(name) => place::stack(name).await?,
            None => place::folder(&args.state)?,
        };
        let mut runs = penstock_commit::list_runs(place.objects(), &sync).await?;
        if let Some(wanted) = &args.run {
            runs.retain(|run| run.run == *wanted);
            anyhow::ensure!(!runs.is_empty(), "sync {sync} has no run {wanted} here");
        }
        if let Some(newest) = runs.first() {
            assumptions = like(newest, assumptions);
        }
        let architecture_of = |run: &RunSummary| run.cost.as_ref().map(|cost| cost.architecture);
        architecture = runs.iter().find_map(architecture_of).unwrap_or_default();
        for run in runs {
            // Its report lacks what came after it, and one of an unfinished run lacks everything.
            let keys = SyncKeys { sync: &sync };
            let found = work::total(place.objects(), &keys.run(&run.run)).await?;
            let cost = Cost::of(&found, architecture_of(&run).unwrap_or(architecture));
            measured.extend(cost.map(|cost| (run.run, cost)));
        }
        if measured.is_empty() && !args.json {
            println!("no run here has left figures: only functions on AWS do");
        }
    }
    assumptions.changed = args.changed.map_or(assumptions.changed, |percent| percent / 100.0);
    assumptions.answer_ms = args.answer_ms.unwrap_or(assumptions.answer_ms);
    let loads: Vec<(f64, Usage)> = match (args.rows_per_day, &args.run) {
        (Some(rows), _) => vec![rows],
        (None, Some(_)) => Vec::new(),
        (None, None) => LOADS.to_vec(),
    }
    .into_iter()
    .map(|rows| (rows, forecast(rows, &assumptions)))
    .collect();
    if args.json {
        let runs: Vec<_> = measured.iter().map(|(run, cost)| json!({ "run": run, "cost": cost })).collect();
        let loads: Vec<_> = loads
            .iter()
            .map(|(rows, usage)| {
                let dollars = usage.dollars(&PRICES, architecture);
                json!({ "rows_per_day": rows, "cost": { "usage": usage, "dollars": dollars } })
            })
            .collect();
        println!(
            "{}",
            json!({
                "prices": PRICES.date, "region": PRICES.region, "architecture": architecture, "runs": runs, "loads": loads,
                "assumptions": assumptions.lines(),
            })
        );
        return Ok(ExitCode::SUCCESS);
    }
    for (run, cost) in &measured {
        println!("{run}: {}", cost.line());
    }
    if !loads.is_empty() {
        print!("{}", reckoned(&loads, &assumptions, architecture));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a run of this sync says of its load.
#[expect(clippy::cast_precision_loss, reason = "shares of rows, shown with a few digits")]
fn like(run: &RunSummary, assumptions: Assumptions) -> Assumptions {
    let counts = &run.counts;
    let changes = counts.added + counts.changed + counts.removed;
    let mut like = assumptions;
    // A first run says nothing of a day.
    if counts.read > 0 && counts.unchanged > 0 {
        like.changed = changes as f64 / counts.read as f64;
    }
    if run.api.requests > 0 && counts.accepted > 0 {
        like.rows_per_request = counts.accepted as f64 / run.api.requests as f64;
    }
    like
}

fn reckoned(loads: &[(f64, Usage)], assumptions: &Assumptions, architecture: Architecture) -> String {
    let head =
        ["rows a day", "GB-s", "S3 reads", "S3 writes", "transitions", "a day", "30 days"].map(str::to_owned);
    let rows: Vec<[String; 7]> = loads
        .iter()
        .map(|(rows, usage)| {
            let dollars = usage.dollars(&PRICES, architecture);
            [
                format!("{rows:.0}"),
                format!("{:.0}", usage.gb_seconds),
                usage.requests.reads.to_string(),
                usage.requests.writes.to_string(),
                usage.transitions.to_string(),
                money(dollars),
                money(dollars * 30.0),
            ]
        })
        .collect();
    let mut text = String::new();
    for line in table(&head, &rows) {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&format!(
        "reckoned, not measured, at list prices of {} ({}, {}); assumed:\n",
        PRICES.date,
        PRICES.region,
        architecture.as_str()
    ));
    for line in assumptions.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text
}
