//! One bundle, two engines: each scenario is told once and runs on the laptop's engine, and, with `infra/test.sh aws`, as the
//! deployed bundle through the AWS API. README.md says what differs between the two.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on must fail"
)]

#[cfg(feature = "deployed")]
mod deployed;
#[cfg(feature = "deployed")]
mod deployed_only;
mod engine;
#[path = "../scenarios/harness.rs"]
#[expect(dead_code, reason = "its project is another's")]
mod harness;
mod laptop;
mod said;
mod scenarios;

/// Each scenario on both engines, and what it may not leave behind. A laptop's clock runs this many times as fast as the
/// machine's: more than once where a scenario waits.
macro_rules! on_both {
    ($($scenario:ident: $times:literal),* $(,)?) => {
        mod on_a_laptop {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                let laptop = crate::laptop::Laptop::new(stringify!($scenario), $times);
                crate::scenarios::$scenario(&laptop).await;
                crate::said::says_no_value_and_no_secret(&laptop).await;
            })*
        }

        #[cfg(feature = "deployed")]
        mod as_deployed {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                let stack = crate::deployed::Stack::new(stringify!($scenario)).await;
                crate::scenarios::$scenario(&stack).await;
                crate::said::says_no_value_and_no_secret(&stack).await;
            })*
        }
    };
}

on_both!(
    an_event_that_concerns_no_sync_is_refused_by_name: 1,
    a_chunk_that_kills_its_workers_becomes_dead_letters: 20,
    a_failed_run_is_carried_on_by_the_next: 1,
    a_manifest_that_is_told_of_twice_starts_its_syncs_once: 1,
    a_schedule_starts_the_syncs_that_name_it: 1,
    a_secret_that_rotates_in_mid_run_is_fetched_anew: 1,
    a_sync_follows_the_runs_of_another_that_succeed: 1,
    a_sync_without_a_run_that_succeeds_is_overdue: 1,
    a_throttled_run_waits_and_goes_on: 20,
    fifty_thousand_rows_reach_a_table: 1,
    fifty_thousand_rows_reach_an_http_api: 1,
    rows_refused_with_their_values_become_dead_letters: 1,
);
