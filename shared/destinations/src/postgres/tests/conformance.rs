//! The suite that every destination passes.

use std::sync::Arc;

use penstock_model::operation::{Operation, OperationKind};
use penstock_model::port::{Boxed, Clock};
use serde_json::json;

use super::support::Bench;
use crate::conformance::{Account, conforms};
use crate::destination::Destination;
use crate::testing::operation;

impl Account for Bench {
    fn destination(&self) -> Arc<dyn Destination> {
        self.open(&["id"], &["text"])
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as _
    }

    fn operation(&self, n: u32, kind: OperationKind, key: u32, text: &str) -> Operation {
        operation(n, kind, &json!({"id": key}), &json!({"text": text}))
    }

    fn bad(&self, n: u32, key: u32) -> Operation {
        operation(n, OperationKind::Upsert, &json!({"id": key}), &json!({"text": "too long for it"}))
    }

    fn stored(&self, key: u32) -> Boxed<'_, Option<String>> {
        Box::pin(
            async move { self.lines(&format!("SELECT text FROM customers WHERE id = {key}")).await.pop() },
        )
    }
}

#[tokio::test]
async fn it_keeps_to_what_every_destination_keeps_to() {
    conforms(&Bench::new("conformance", "id int PRIMARY KEY, text varchar(10)").await).await;
}
