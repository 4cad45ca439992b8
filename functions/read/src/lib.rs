//! One split → fingerprints, partitioned by key hash. Repeating it costs nobody anything.

use std::sync::Arc;

use penstock_columnar::read;
use penstock_lambda_kit::Invocation;
use penstock_model::contract::{CONTRACT, ReadRequest, ReadResponse};
use penstock_model::failure::{Failure, FailureName};
use penstock_model::port::{Condition, Objects, OpenObjects};
use penstock_model::run_plan::SplitCounts;
use penstock_store::{json, plans};

/// What read needs from outside.
#[derive(Debug, Clone)]
pub struct Context {
    /// Definitions, state and runs.
    pub state: Arc<dyn Objects>,
    /// Where unloads lie.
    pub unloads: Arc<dyn OpenObjects>,
}

impl Context {
    /// The context on AWS. Reads the environment variables named in this function's README.
    ///
    /// # Errors
    /// A message that names the variable that is missing.
    pub async fn from_environment() -> Result<Self, Failure> {
        let settings = penstock_lambda_kit::settings::Settings::from_environment();
        let aws = penstock_store::aws::Clients::from_environment();
        Ok(Self { state: aws.objects(settings.required("PENSTOCK_BUCKET")?), unloads: aws.opener() })
    }
}

/// Reads one split.
///
/// # Errors
/// `UnloadCorrupt` if a file is damaged or has changed since it was pinned; `StorageUnavailable`.
pub async fn handle(
    request: ReadRequest,
    _: &Invocation,
    context: &Context,
) -> Result<ReadResponse, Failure> {
    let state = context.state.as_ref();
    let plan = plans::load(state, &request.run).await?;
    let keys = plan.run.keys();
    let counts_key = keys.split_counts(request.split);
    // Done before: the counts are written last.
    if let Some((counts, _)) = json::get_json::<SplitCounts>(state, &counts_key).await? {
        return Ok(ReadResponse { contract: CONTRACT, rows: counts.rows });
    }
    let unload = context.unloads.open(&plan.unload.root).map_err(penstock_store::storage_failure)?;
    let split = read::read_split_fingerprints(unload.as_ref(), &plan, request.split).await?;
    let counts = SplitCounts { rows: split.rows, null_counts: split.null_counts };
    if counts.rows != u64::from(plan.splits.get(request.split as usize).map_or(0, |split| split.rows)) {
        return Err(Failure::new(
            FailureName::UnloadCorrupt,
            format!(
                "split {} holds {} rows, not as many as its files' footers say",
                request.split, counts.rows
            ),
        ));
    }
    if let Some(pages) = split.pages {
        json::put_once(state, &keys.pages(request.split), pages).await?;
    }
    json::put_once(state, &keys.fingerprints(request.split), split.fingerprints).await?;
    json::put_json(state, &counts_key, &counts, Condition::Always).await?;
    Ok(ReadResponse { contract: CONTRACT, rows: counts.rows })
}
