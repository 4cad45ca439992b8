//! Which syncs have had no run that succeeded for too long.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use penstock_lambda_kit::metrics::{Metric, Metrics, Unit};
use penstock_model::port::Objects;
use penstock_model::{Failure, Timestamp};
use penstock_store::successes;

use crate::published::{AT_ONCE, PublishedSync, published};

/// A sync whose last success is too long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Overdue {
    sync: String,
    /// Its last run that succeeded; none if none ever has.
    last_run: Option<String>,
    /// Since then, or since the sync was published.
    age: Duration,
    allowed: Duration,
}

/// Looks at every published sync, tells of each that is overdue, and gives their names. `usual` is the age that is allowed
/// where a definition says nothing.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub(crate) async fn look(
    state: &dyn Objects,
    metrics: &Metrics,
    now: Timestamp,
    usual: Duration,
) -> Result<Vec<String>, Failure> {
    let syncs = published(state).await?;
    let checked = syncs.len();
    let looked = stream::iter(syncs).map(|sync| look_at(state, sync, now, usual)).buffered(AT_ONCE);
    let found: Vec<Option<Overdue>> = looked.try_collect().await?;
    let overdue: Vec<Overdue> = found.into_iter().flatten().collect();
    for Overdue { sync, last_run, age, allowed } in &overdue {
        tracing::error!(
            sync,
            last_run,
            age_h = hours(*age),
            allowed_h = hours(*allowed),
            "sync is overdue: none of its runs has succeeded for too long"
        );
    }
    let count = u64::try_from(overdue.len()).unwrap_or(u64::MAX);
    metrics.tell_of_stack(now, &[Metric { name: "OverdueSyncs", unit: Unit::Count, value: count }]);
    tracing::info!(checked, overdue = count, "looked for overdue syncs");
    Ok(overdue.into_iter().map(|overdue| overdue.sync).collect())
}

async fn look_at(
    state: &dyn Objects,
    PublishedSync { name, sync, at }: PublishedSync,
    now: Timestamp,
    usual: Duration,
) -> Result<Option<Overdue>, Failure> {
    let Some(allowed) = sync.overdue_after(usual) else { return Ok(None) };
    let success = successes::last(state, &name).await?;
    let age = success.as_ref().map_or(at, |success| success.at).until(now);
    let last_run = success.map(|success| success.run);
    Ok((age > allowed).then_some(Overdue { sync: name, last_run, age, allowed }))
}

fn hours(duration: Duration) -> u64 {
    duration.as_secs() / 3_600
}
