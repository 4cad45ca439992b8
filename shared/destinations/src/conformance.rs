//! What every destination has to keep to. Each destination's tests run it on an account of their own.

use std::sync::Arc;
use std::time::Duration;

use penstock_model::FailureName;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::port::{Boxed, Clock};

use crate::destination::{Destination, Rest, Work};
use crate::testing::Memory;

/// An account that is empty at first, and what the suite has to know of it.
pub(crate) trait Account: Sync {
    /// A destination on the account's object, opened anew.
    fn destination(&self) -> Arc<dyn Destination>;
    /// The clock that the destination has.
    fn clock(&self) -> Arc<dyn Clock>;
    /// An operation on the record with this key that writes this text into its one field.
    fn operation(&self, n: u32, kind: OperationKind, key: u32, text: &str) -> Operation;
    /// An upsert that the destination refuses for what is in the row.
    fn bad(&self, n: u32, key: u32) -> Operation;
    /// The text in the field of the record with this key.
    fn stored(&self, key: u32) -> Boxed<'_, Option<String>>;
}

async fn deliver(account: &dyn Account, operations: Vec<Operation>) -> Memory {
    let (memory, count) = (Memory::default(), operations.len());
    let until = account.clock().now().plus(Duration::from_secs(60));
    let work = Work { operations, cursor: None, jobs: Vec::new(), until, witness: &memory };
    let rest = account.destination().deliver(work).await.unwrap();
    assert_eq!(rest, Rest::Nothing);
    assert_eq!(memory.outcomes().len(), count, "one outcome per operation");
    memory
}

fn tally(memory: &Memory) -> Vec<(String, usize)> {
    memory.tally().into_iter().collect()
}

fn count_of(memory: &Memory, words: &[&str]) -> usize {
    memory.tally().iter().filter(|(word, _)| words.contains(&word.as_str())).map(|(_, count)| count).sum()
}

const ACCEPTED: &[&str] = &["accepted", "created", "updated"];

/// Runs the whole suite.
pub(crate) async fn conforms(account: &dyn Account) {
    nothing_is_sent_for_nothing(account).await;
    nothing_is_sent_when_the_time_is_up(account).await;
    nothing_is_sent_when_fenced(account).await;
    everything_arrives_and_may_be_said_twice(account).await;
    a_bad_row_stands_alone(account).await;
    modes_leave_other_records_alone(account).await;
}

async fn nothing_is_sent_for_nothing(account: &dyn Account) {
    let memory = deliver(account, Vec::new()).await;
    assert_eq!(memory.usage().requests, 0);
}

async fn nothing_is_sent_when_the_time_is_up(account: &dyn Account) {
    let memory = Memory::default();
    let operations = vec![account.operation(0, OperationKind::Upsert, 1, "late")];
    let work =
        Work { operations, cursor: None, jobs: Vec::new(), until: account.clock().now(), witness: &memory };
    let rest = account.destination().deliver(work).await.unwrap();
    assert!(matches!(rest, Rest::Paused { .. }), "{rest:?}");
    assert!(memory.outcomes().is_empty());
    assert_eq!(account.stored(1).await, None);
}

async fn nothing_is_sent_when_fenced(account: &dyn Account) {
    let memory = Memory::fenced_after(0);
    let operations = vec![account.operation(0, OperationKind::Upsert, 1, "fenced")];
    let until = account.clock().now().plus(Duration::from_secs(60));
    let work = Work { operations, cursor: None, jobs: Vec::new(), until, witness: &memory };
    let failure = account.destination().deliver(work).await.unwrap_err();
    assert_eq!(failure.name, FailureName::Superseded);
    assert!(memory.outcomes().is_empty());
    assert_eq!(account.stored(1).await, None);
}

async fn everything_arrives_and_may_be_said_twice(account: &dyn Account) {
    // Ordinals neither begin at nought nor are they without gaps.
    let operations: Vec<Operation> = (1..=250)
        .map(|key| account.operation(key * 3, OperationKind::Upsert, key, &format!("text {key}")))
        .collect();
    for _ in 0..2 {
        let memory = deliver(account, operations.clone()).await;
        assert_eq!(count_of(&memory, ACCEPTED), 250, "{:?}", tally(&memory));
        assert!(memory.outcomes().keys().all(|n| n % 3 == 0 && (3..=750).contains(n)));
        for key in [1, 2, 249, 250] {
            assert_eq!(account.stored(key).await, Some(format!("text {key}")));
        }
    }
}

async fn a_bad_row_stands_alone(account: &dyn Account) {
    let operations = (1..=50).map(|key| match key {
        17 => account.bad(key, key),
        _ => account.operation(key, OperationKind::Upsert, key, "second"),
    });
    let memory = deliver(account, operations.collect()).await;
    assert_eq!(count_of(&memory, ACCEPTED), 49, "{:?}", tally(&memory));
    assert!(crate::testing::word(&memory.outcomes()[&17]).starts_with("rejected"));
    assert_eq!(account.stored(16).await.as_deref(), Some("second"));
    assert_eq!(account.stored(17).await.as_deref(), Some("text 17"));
}

async fn modes_leave_other_records_alone(account: &dyn Account) {
    let create = |n, key| account.operation(n, OperationKind::Create, key, "created");
    let memory = deliver(account, vec![create(0, 1), create(1, 900)]).await;
    assert_eq!(crate::testing::word(&memory.outcomes()[&0]), "skipped Exists");
    assert_eq!(count_of(&memory, ACCEPTED), 1, "{:?}", tally(&memory));
    assert_eq!(account.stored(1).await.as_deref(), Some("second"));
    assert_eq!(account.stored(900).await.as_deref(), Some("created"));

    let update = |n, key| account.operation(n, OperationKind::Update, key, "updated");
    let memory = deliver(account, vec![update(0, 900), update(1, 901)]).await;
    assert_eq!(crate::testing::word(&memory.outcomes()[&1]), "skipped Missing");
    assert_eq!(count_of(&memory, ACCEPTED), 1, "{:?}", tally(&memory));
    assert_eq!(account.stored(900).await.as_deref(), Some("updated"));
    assert_eq!(account.stored(901).await, None);
}
