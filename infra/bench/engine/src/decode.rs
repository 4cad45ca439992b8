//! Decoding alone.

use penstock_columnar::reading::{Rows, SplitSource, read_split};
use penstock_columnar::unload::{NaiveTimestamps, UnloadError};
use penstock_model::Failure;
use penstock_model::contract::GateRequest;
use penstock_model::port::{Objects, OpenObjects};
use penstock_store::plans;
use serde::Serialize;

/// What was decoded.
#[derive(Debug, Serialize)]
pub(crate) struct Decoded {
    rows: u64,
    columns: usize,
}

/// Decodes all splits of a plan, with all columns that the run uses.
pub(crate) async fn decode(
    request: GateRequest,
    state: &dyn Objects,
    unloads: &dyn OpenObjects,
) -> Result<Decoded, Failure> {
    let plan = plans::load(state, &request.run).await?;
    let objects = unloads.open(&plan.unload.root).map_err(penstock_store::storage_failure)?;
    let naive = NaiveTimestamps::parse(plan.definition.unload.naive_timestamps.as_deref())?;
    let mut rows = 0;
    for split in &plan.splits {
        let source = SplitSource {
            objects: objects.as_ref(),
            unload: &plan.unload,
            split,
            columns: &plan.columns,
            naive,
        };
        read_split(source, Rows::All, |batch, _| {
            rows += batch.num_rows() as u64;
            Ok::<(), UnloadError>(())
        })
        .await?;
    }
    Ok(Decoded { rows, columns: plan.columns.len() })
}
