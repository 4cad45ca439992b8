//! A distributed Map: a child execution for each item.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use penstock_model::port::Boxed;
use serde_json::{Value, json};

use super::ItemsAt;
use super::definition::{Concurrency, Map};
use super::execution::{Entry, Place, Run, fill, within_limit};
use super::observer::Event;
use super::path::Path;
use super::progress::{MapProgress, Position, StateFailure};
use super::retry::{EXCEED_TOLERATED_FAILURE_THRESHOLD, ITEM_READER_FAILED, RUNTIME};

/// A child that has yet to end well.
struct Child {
    index: u32,
    position: Position,
    entry: Entry,
}

impl Run<'_> {
    /// Runs every child that has not ended well. When more fail than are tolerated, those that still run are
    /// dropped, as a failed Map Run aborts them.
    pub(super) fn map<'r>(
        &'r self,
        state: &'r str,
        map: &'r Map,
        input: &'r Value,
        context: &'r Value,
        entry: Entry,
    ) -> Boxed<'r, Result<(), StateFailure>> {
        // Boxed, since a child walks through states as the execution itself does.
        Box::pin(async move {
            let place = Place { child: None, state };
            let items = self.items(&place, map, input, context).await?;
            let total = items.len();
            let width = match &map.concurrency {
                Concurrency::Fixed(width) => *width,
                Concurrency::At(path) => self.count_at(&place, path, input, context)?,
            };
            let width = match usize::try_from(width).unwrap_or(usize::MAX) {
                0 => usize::MAX,
                width => width,
            };
            let mut pending = self.pending(state, map, input, context, items, entry)?.into_iter();
            let mut running = FuturesUnordered::new();
            let mut failed = 0;
            loop {
                running
                    .extend(pending.by_ref().take(width - running.len()).map(|child| self.child(map, child)));
                let Some((index, result)) = running.next().await else { return Ok(()) };
                let failure = result.err();
                self.update(|progress| progress.ended(index, failure.clone()));
                let Some(failure) = failure else {
                    self.observer.event(Event::ChildSucceeded { state, index });
                    continue;
                };
                self.observer.event(Event::ChildFailed { state, index, failure: &failure });
                failed += 1;
                if map.exceeded(failed, total) {
                    let cause =
                        format!("{failed} of {total} children failed, the last with {}", failure.error);
                    return Err(StateFailure::new(EXCEED_TOLERATED_FAILURE_THRESHOLD, cause));
                }
            }
        })
    }

    fn child<'r>(&'r self, map: &'r Map, child: Child) -> Boxed<'r, (u32, Result<Value, StateFailure>)> {
        let Child { index, position, entry } = child;
        Box::pin(async move { (index, self.walk(&map.workflow, Some(index), position, entry).await) })
    }

    async fn items(
        &self,
        place: &Place<'_>,
        map: &Map,
        input: &Value,
        context: &Value,
    ) -> Result<Vec<Value>, StateFailure> {
        let text = |path: &Path| {
            let value = path.find(input, context).ok_or_else(|| StateFailure::nowhere(place.state, path))?;
            let text = value.as_str().map(str::to_owned);
            text.ok_or_else(|| {
                StateFailure::new(RUNTIME, format!("state {}: {} is no text", place.state, path.as_str()))
            })
        };
        let at = ItemsAt { bucket: text(&map.bucket)?, key: text(&map.key)? };
        let items = self.engine.items.read(&at).await;
        items.map_err(|error| {
            StateFailure::new(ITEM_READER_FAILED, format!("{}/{}: {error}", at.bucket, at.key))
        })
    }

    /// The children that have yet to end well, those of a redriven Map where they stopped.
    fn pending(
        &self,
        state: &str,
        map: &Map,
        input: &Value,
        context: &Value,
        items: Vec<Value>,
        entry: Entry,
    ) -> Result<Vec<Child>, StateFailure> {
        let total = u32::try_from(items.len())
            .map_err(|_| StateFailure::new(ITEM_READER_FAILED, "more items than a Map can have"))?;
        let before = match entry {
            Entry::Redriven => self.progress().map.clone(),
            Entry::First => None,
        };
        let before = before.unwrap_or_else(|| MapProgress::new(state, total));
        if before.items != total {
            let cause =
                format!("there are {total} items, and there were {} before the redrive", before.items);
            return Err(StateFailure::new(ITEM_READER_FAILED, cause));
        }
        let remaining = (0..).zip(items).filter(|(index, _)| !before.succeeded.contains(index));
        let pending = remaining.map(|(index, item)| {
            let (position, entry) = match before.children.get(&index) {
                Some(position) => (position.clone(), Entry::Redriven),
                None => {
                    let input = child_input(state, map, input, context, index, item)?;
                    (Position::at(&map.workflow.start_at, input), Entry::First)
                }
            };
            Ok(Child { index, position, entry })
        });
        let pending = pending.collect::<Result<Vec<_>, _>>()?;
        let remaining = u32::try_from(pending.len()).unwrap_or(total);
        self.update(|progress| progress.map = Some(before));
        self.observer.event(Event::MapStarted { state, items: total, remaining });
        Ok(pending)
    }
}

fn child_input(
    state: &str,
    map: &Map,
    input: &Value,
    context: &Value,
    index: u32,
    item: Value,
) -> Result<Value, StateFailure> {
    let Some(selector) = &map.item_selector else { return Ok(item) };
    let mut context = context.clone();
    if let Value::Object(fields) = &mut context {
        fields.insert("Map".to_owned(), json!({ "Item": { "Index": index, "Value": item } }));
    }
    let input = fill(state, selector, input, &context)?;
    within_limit(state, "ItemSelector's result", &input)?;
    Ok(input)
}

impl Map {
    /// Whether more children failed than are tolerated. Either threshold alone fails the Map; without any, the
    /// first failure does.
    fn exceeded(&self, failed: usize, total: usize) -> bool {
        let over_count = |tolerated: u64| u64::try_from(failed).unwrap_or(u64::MAX) > tolerated;
        // Exact far beyond the number of items a Map can have.
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let over_share = |tolerated: f64| failed as f64 * 100.0 > tolerated * total as f64;
        match (self.tolerated_count, self.tolerated_percentage) {
            (None, None) => failed > 0,
            (count, percentage) => count.is_some_and(over_count) || percentage.is_some_and(over_share),
        }
    }
}
