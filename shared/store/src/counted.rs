use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use penstock_model::work::Requests;

/// Counts what a client sends to S3, repeats included, as it is charged for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Counted {
    /// Requests so far.
    pub(crate) fn so_far(&self) -> Requests {
        Requests {
            reads: self.0.reads.load(Ordering::Relaxed),
            writes: self.0.writes.load(Ordering::Relaxed),
        }
    }
}

impl Intercept for Counted {
    fn name(&self) -> &'static str {
        "Counted"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let count = match request.method() {
            // A listing is a GET, and charged for as a PUT.
            "GET" | "HEAD" if !request.uri().contains("list-type=2") => &self.0.reads,
            // Not charged for.
            "DELETE" => return Ok(()),
            _ => &self.0.writes,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
