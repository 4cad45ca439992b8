//! The plan function's entry point.

use penstock_plan::{Context, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), penstock_lambda_kit::Error> {
    penstock_lambda_kit::run("plan", Context::from_environment, handle, |context| context.state.as_ref())
        .await
}
