//! What a run's invocations left of their figures.

use penstock_model::Failure;
use penstock_model::layout::RunKeys;
use penstock_model::port::Objects;
use penstock_model::work::{Invoked, Work, WorkByFunction};

use crate::storage_failure;

/// The work of all invocations of a run that have told of it, by function.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn total(objects: &dyn Objects, keys: &RunKeys<'_>) -> Result<WorkByFunction, Failure> {
    let prefix = keys.all_work();
    let mut total = WorkByFunction::new();
    for object in objects.list(&prefix).await.map_err(storage_failure)? {
        if let Some(invoked) = object.key.strip_prefix(&prefix).and_then(Invoked::parse) {
            *total.entry(invoked.function.clone()).or_default() += invoked.work();
        }
    }
    Ok(total)
}

/// The same with what the invocation that asks has used itself: it tells of that when it ends. `own` is none where nobody is
/// charged.
///
/// # Errors
/// `StorageUnavailable`.
pub async fn total_with(
    objects: &dyn Objects,
    keys: &RunKeys<'_>,
    function: &str,
    own: Option<Work>,
) -> Result<WorkByFunction, Failure> {
    let mut total = total(objects, keys).await?;
    if let Some(own) = own {
        *total.entry(function.to_owned()).or_default() += own;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use penstock_model::port::Condition;
    use penstock_model::work::Requests;

    use super::*;
    use crate::MemoryObjects;

    #[tokio::test]
    async fn invocations_are_added_up_by_function() {
        let objects = MemoryObjects::new();
        let keys = RunKeys { sync: "s", run: "r" };
        for name in ["push.a.1024MB.10ms.1r.2w", "push.b.1024MB.20ms.3r.4w", "read.c.512MB.1ms.0r.0w", "else"]
        {
            objects.put(&keys.work(name), bytes::Bytes::new(), Condition::Always).await.unwrap();
        }
        let total = total(&objects, &keys).await.unwrap();
        let requests = Requests { reads: 4, writes: 6 };
        assert_eq!(total["push"], Work { invocations: 2, mb_ms: 30_720, requests });
        assert_eq!(total["read"].mb_ms, 512);
        assert_eq!(total.len(), 2);
        let own = Work { invocations: 1, mb_ms: 88, requests };
        let with = total_with(&objects, &keys, "read", Some(own)).await.unwrap();
        assert_eq!((with["read"].invocations, with["read"].mb_ms, with["push"]), (2, 600, total["push"]));
        assert_eq!(total_with(&objects, &keys, "read", None).await.unwrap(), total);
    }
}
