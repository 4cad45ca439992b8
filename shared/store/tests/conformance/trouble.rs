//! S3 when it is in trouble: each answer that it may give, between the SDK and a store that is the real thing otherwise.

use std::sync::Arc;

use bytes::Bytes;
use penstock_model::port::{Condition, Put};
use penstock_store::S3Objects;
use penstock_store::json::{Swap, get_json, swap_json};

use super::proxy::{Asked, Fate, Proxy};
use super::{Store, put};

/// The store behind a proxy.
async fn behind(decide: impl Fn(&Asked) -> Fate + Send + Sync + 'static) -> (Store, Proxy) {
    let (client, bucket) = super::s3_client().await;
    #[expect(clippy::disallowed_methods, reason = "a test's settings")]
    let store = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let proxy = Proxy::start(&store, decide).await;
    let config = client.config().to_builder().endpoint_url(proxy.address()).build();
    let objects =
        Arc::new(S3Objects::new(aws_sdk_s3::Client::from_conf(config), bucket).with_parts_of(5 << 20));
    (Store::of(objects), proxy)
}

impl Store {
    /// A store that is now and then too busy, and meets another write under way.
    pub(crate) async fn busy_s3() -> Self {
        let decide = |asked: &Asked| match asked.number {
            n if n % 20 == 0 => Fate::Refused(503, "SlowDown"),
            n if n % 7 == 0 && asked.is_conditional && asked.method == "PUT" => {
                Fate::Refused(409, "ConditionalRequestConflict")
            }
            _ => Fate::Passed,
        };
        behind(decide).await.0
    }
}

#[tokio::test]
async fn a_store_that_is_too_busy_is_asked_again() {
    let (store, proxy) = behind(|asked| match asked.number {
        1..=3 => Fate::Refused(503, "SlowDown"),
        _ => Fate::Passed,
    })
    .await;
    put(&*store.opening(0), &store.key("a"), "x").await;
    assert_eq!(proxy.asked(), 4);
}

#[tokio::test]
async fn a_conflict_is_tried_again_until_the_condition_is_decided() {
    for (condition, expected) in [(Condition::IfAbsent, true), (Condition::IfAbsent, false)] {
        let (store, proxy) = behind(|asked| match asked.method.as_str() {
            "PUT" if asked.is_conditional && asked.number <= 3 => {
                Fate::Refused(409, "ConditionalRequestConflict")
            }
            _ => Fate::Passed,
        })
        .await;
        let (objects, key) = (store.opening(0), store.key("a"));
        if !expected {
            put(&*objects, &key, "there already").await;
        }
        let written = objects.put(&key, "x".into(), condition).await.unwrap();
        assert_eq!(matches!(written, Put::Written(_)), expected, "{written:?}");
        assert_eq!(proxy.asked(), 4);
    }
}

#[tokio::test]
async fn a_swap_whose_answer_was_lost_refuses_its_own_success_and_is_a_success() {
    let (store, proxy) = behind(|asked| match asked.number {
        2 | 5 => Fate::AnswerLost,
        _ => Fate::Passed,
    })
    .await;
    let (objects, key) = (store.opening(0), store.key("pointer"));
    let first = swap_json(&*objects, &key, "nonce 1", Condition::IfAbsent).await.unwrap();
    let Swap::Swapped(etag) = first else { unreachable!("nobody else writes") };
    // The SDK sends it again, S3 refuses what it has written, and the object is read back.
    let second = swap_json(&*objects, &key, "nonce 2", Condition::IfMatch(etag.clone())).await.unwrap();
    assert!(matches!(second, Swap::Swapped(_)), "{second:?}");
    assert_eq!(proxy.asked(), 4);
    // Another's write is lost all the same, also if the answer to it is.
    let third = swap_json(&*objects, &key, "nonce 3", Condition::IfMatch(etag)).await.unwrap();
    assert_eq!(third, Swap::Lost);
    assert_eq!(get_json::<String>(&*objects, &key).await.unwrap().unwrap().0, "nonce 2");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_again() {
    let (store, proxy) = behind(|asked| match asked.number {
        2 | 3 => Fate::AnswerCut,
        _ => Fate::Passed,
    })
    .await;
    let (objects, key) = (store.opening(0), store.key("a"));
    put(&*objects, &key, "0123456789").await;
    assert_eq!(objects.get_range(&key, 2..9, None).await.unwrap(), "2345678");
    assert_eq!(proxy.asked(), 4);
}

#[tokio::test]
async fn of_a_large_object_only_the_part_that_failed_is_sent_again() {
    let (store, proxy) = behind(|asked| match asked.number {
        // Begun by the first, four parts follow, and the sixth completes it.
        3 => Fate::Refused(503, "SlowDown"),
        _ => Fate::Passed,
    })
    .await;
    let (objects, key) = (store.opening(0), store.key("large"));
    let body: Bytes = (0..(16 << 20)).map(|n: u32| (n % 251) as u8).collect();
    let written = objects.put(&key, body.clone(), Condition::IfAbsent).await.unwrap();
    assert!(matches!(written, Put::Written(_)));
    assert_eq!(proxy.asked(), 1 + 4 + 1 + 1);
    assert_eq!(objects.get(&key).await.unwrap().unwrap().0, body);
    assert_eq!(objects.put(&key, body, Condition::IfAbsent).await.unwrap(), Put::Refused);
}
