//! The read function's entry point.

use penstock_read::{Context, handle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), penstock_lambda_kit::Error> {
    penstock_lambda_kit::run("read", Context::from_environment, handle, |context| context.state.as_ref())
        .await
}
