use penstock_model::port::{Boxed, Warehouse, WarehouseError};
use penstock_model::warehouse::{Statement, StatementState};

/// No warehouse: unloads lie in folders, where none could write.
#[derive(Debug, Clone, Copy)]
pub struct NoWarehouse;

impl NoWarehouse {
    fn refusal() -> WarehouseError {
        let why = "a warehouse unloads to S3 only; name an unload that is there with --unload";
        WarehouseError::Refused { source: Box::new(std::io::Error::other(why)) }
    }
}

impl Warehouse for NoWarehouse {
    fn submit<'a>(&'a self, _: &'a Statement) -> Boxed<'a, Result<String, WarehouseError>> {
        Box::pin(std::future::ready(Err(Self::refusal())))
    }

    fn look<'a>(&'a self, _: &'a str) -> Boxed<'a, Result<StatementState, WarehouseError>> {
        Box::pin(std::future::ready(Err(Self::refusal())))
    }
}
