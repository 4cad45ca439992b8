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
mod scenarios;

/// Each scenario on both engines.
macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod on_a_laptop {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                crate::scenarios::$scenario(&crate::laptop::Laptop::new(stringify!($scenario))).await;
            })*
        }

        #[cfg(feature = "deployed")]
        mod as_deployed {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                let stack = crate::deployed::Stack::new(stringify!($scenario)).await;
                crate::scenarios::$scenario(&stack).await;
                stack.says_no_secret_and_no_value().await;
            })*
        }
    };
}

on_both!(
    an_event_that_concerns_no_sync_is_refused_by_name,
    a_failed_run_is_carried_on_by_the_next,
    a_manifest_that_is_told_of_twice_starts_its_syncs_once,
    a_schedule_starts_the_syncs_that_name_it,
    a_secret_that_rotates_in_mid_run_is_fetched_anew,
    a_throttled_run_waits_and_goes_on,
    fifty_thousand_rows_reach_a_table,
    fifty_thousand_rows_reach_an_http_api,
);
