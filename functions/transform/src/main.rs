//! The transform function's entry point.

use penstock_transform::{Context, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), penstock_lambda_kit::Error> {
    penstock_lambda_kit::run("transform", Context::from_environment, handle, |context| context.state.as_ref())
        .await
}
