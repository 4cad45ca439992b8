//! The finish function's entry point.

use penstock_finish::{Context, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), penstock_lambda_kit::Error> {
    penstock_lambda_kit::run("finish", Context::from_environment, handle, |context| context.state.as_ref())
        .await
}
