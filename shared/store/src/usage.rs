//! What a run asked of the destination's API.

use penstock_model::Failure;
use penstock_model::layout::RunKeys;
use penstock_model::operation::ChunkId;
use penstock_model::port::Objects;
use penstock_model::report::ApiUsage;

use crate::json::read_below;

/// The API usage of all attempts at one chunk.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn of_chunk(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    chunk: ChunkId,
) -> Result<ApiUsage, Failure> {
    let mut total = ApiUsage::default();
    for (_, usage) in read_below::<ApiUsage>(objects, &keys.api_usages(chunk)).await? {
        total += usage;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use penstock_model::port::Condition;

    use super::*;
    use crate::{MemoryObjects, json};

    #[tokio::test]
    async fn adds_up_every_attempt_at_the_chunk() {
        let objects = MemoryObjects::new();
        let keys = RunKeys { sync: "s", run: "r" };
        let usage = ApiUsage { requests: 10, throttled: 2, retried: 1, ..ApiUsage::default() };
        let other = RunKeys { sync: "s", run: "r2" };
        for key in [
            keys.api_usage(1, "a"),
            keys.api_usage(1, "b"),
            keys.api_usage(2, "c"),
            other.api_usage(1, "d"),
            keys.api_usage(11, "e"),
        ] {
            json::put_json(&objects, &key, &usage, Condition::Always).await.unwrap();
        }
        let sum = ApiUsage { requests: 20, throttled: 4, retried: 2, ..ApiUsage::default() };
        assert_eq!(of_chunk(&objects, &keys, 1).await.unwrap(), sum);
        assert_eq!(of_chunk(&objects, &keys, 3).await.unwrap(), ApiUsage::default());
    }
}
