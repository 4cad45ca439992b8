//! What an account was sent in a day: requests are taken out of the day's budget before they are sent, by all syncs and
//! all pushes together.

use penstock_model::port::{Clock, Condition, Objects, Random};
use penstock_model::{Failure, FailureName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::json::{self, Swap};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Swaps lost in a row before somebody should look.
const ROUNDS: u32 = 32;

/// An account's requests of one day, as `budgets/CONNECTION.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spent {
    version: u32,
    /// Days since 1970-01-01, in UTC.
    day: i64,
    requests: u64,
    /// A random word, to tell one's own write from another's.
    nonce: String,
}

/// What a budget needs from outside.
#[derive(Debug, Clone, Copy)]
pub struct Ports<'a> {
    /// The state's objects.
    pub objects: &'a dyn Objects,
    /// The time.
    pub clock: &'a dyn Clock,
    /// For the nonce.
    pub random: &'a dyn Random,
}

/// What was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many requests, for use on this day (UTC).
    Requests {
        /// How many; at least one.
        count: u32,
        /// Until when.
        until: Timestamp,
    },
    /// The day's requests are spent.
    Nothing {
        /// When there are more.
        until: Timestamp,
    },
}

/// Takes up to `wanted` requests out of the day's budget. What is taken and not used is lost, unless it is given back.
///
/// # Errors
/// `StorageUnavailable`, `ContractMismatch`.
pub async fn take(ports: Ports<'_>, key: &str, per_day: u32, wanted: u32) -> Result<Taken, Failure> {
    let mut taken = 0;
    let day = change(ports, key, |spent| {
        let left = u64::from(per_day).saturating_sub(spent);
        taken = u32::try_from(left).unwrap_or(u32::MAX).min(wanted);
        spent + u64::from(taken)
    })
    .await?;
    let until = Timestamp((day + 1) * DAY_MS);
    Ok(if taken == 0 { Taken::Nothing { until } } else { Taken::Requests { count: taken, until } })
}

/// Gives back what was taken and not used.
///
/// # Errors
/// As [`take`].
pub async fn give_back(ports: Ports<'_>, key: &str, count: u32) -> Result<(), Failure> {
    change(ports, key, |spent| spent.saturating_sub(u64::from(count))).await.map(drop)
}

/// Changes the number of requests spent today; which day that is.
async fn change(
    ports: Ports<'_>,
    key: &str,
    mut spend: impl FnMut(u64) -> u64 + Send,
) -> Result<i64, Failure> {
    for _ in 0..ROUNDS {
        let found = json::get_json::<Spent>(ports.objects, key).await?;
        let day = ports.clock.now().0.div_euclid(DAY_MS);
        let (requests, condition) = match found {
            None => (0, Condition::IfAbsent),
            Some((spent, etag)) if spent.day == day => (spent.requests, Condition::IfMatch(etag)),
            Some((_, etag)) => (0, Condition::IfMatch(etag)),
        };
        let after = spend(requests);
        if after == requests {
            return Ok(day);
        }
        let nonce = format!("{:016x}{:016x}", ports.random.next(), ports.random.next());
        let spent = Spent { version: 1, day, requests: after, nonce };
        match json::swap_json(ports.objects, key, &spent, condition).await? {
            Swap::Swapped(_) => return Ok(day),
            Swap::Lost => {}
        }
    }
    Err(Failure::new(
        FailureName::StorageUnavailable,
        format!("object {key} was changed by others {ROUNDS} times in a row"),
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use penstock_model::port::Boxed;

    use super::*;
    use crate::MemoryObjects;

    #[derive(Debug)]
    struct At(Mutex<Timestamp>);

    impl Clock for At {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }

        fn sleep(&self, _: Duration) -> Boxed<'_, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[derive(Debug, Default)]
    struct Counting(AtomicU64);

    impl Random for Counting {
        fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_day_s_requests_are_given_once_and_come_back_the_next_day() {
        let (objects, clock, random) =
            (MemoryObjects::new(), At(Mutex::new(Timestamp(DAY_MS - 1))), Counting::default());
        let ports = Ports { objects: &objects, clock: &clock, random: &random };
        let take = async |wanted| take(ports, "budgets/crm.json", 10, wanted).await.unwrap();
        let today = Timestamp(DAY_MS);
        assert_eq!(take(4).await, Taken::Requests { count: 4, until: today });
        assert_eq!(take(4).await, Taken::Requests { count: 4, until: today });
        assert_eq!(take(4).await, Taken::Requests { count: 2, until: today });
        assert_eq!(take(4).await, Taken::Nothing { until: today });
        give_back(ports, "budgets/crm.json", 1).await.unwrap();
        assert_eq!(take(4).await, Taken::Requests { count: 1, until: today });
        *clock.0.lock().unwrap() = today;
        assert_eq!(take(4).await, Taken::Requests { count: 4, until: Timestamp(2 * DAY_MS) });
    }
}
