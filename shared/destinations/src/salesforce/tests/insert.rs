//! Rows that are inserted: none may become two records, whatever becomes of the push or its job.

use std::collections::BTreeMap;

use penstock_twins::{JobWait, RowError, SalesforceTwin};

use super::*;

/// Events: nothing identifies them, and some say the same.
fn events(count: u32) -> Vec<Operation> {
    let event = |n: u32| {
        let fields = json!({"LastName": format!("Name {}", n / 2), "Phone": if n.is_multiple_of(3) { json!(null) } else { json!("1, \"x\"") }});
        operation(n, OperationKind::Append, &json!({}), &fields)
    };
    (0..count).map(event).collect()
}

/// How often each content is said by operations, and is held by the org.
fn contents(org: &Org, operations: &[Operation]) -> BTreeMap<(String, String), (usize, usize)> {
    let mut contents: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    for operation in operations {
        let fields: Value = serde_json::from_str(operation.fields.get()).unwrap();
        let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        contents.entry((text("LastName"), text("Phone"))).or_default().0 += 1;
    }
    for record in org.twin.records("Contact").into_values() {
        let text = |name: &str| record.get(name).cloned().unwrap_or_default();
        contents.entry((text("LastName"), text("Phone"))).or_default().1 += 1;
    }
    contents
}

fn org(builder: SalesforceTwinBuilder) -> Org {
    let more = json!({"sync": {"mode": "append", "match": {}, "fields": {"LastName": "x", "Phone": "y"}}});
    Org::new(builder, &more)
}

fn requests(twin: &SalesforceTwin, end: &str) -> u64 {
    let journal = twin.journal();
    let ends = |((path, _), _): &(&(String, penstock_twins::Ended), &u64)| path.ends_with(end);
    journal.requests_by_path().iter().filter(ends).map(|(_, count)| count).sum()
}

#[tokio::test(start_paused = true)]
async fn many_rows_are_inserted_by_one_job_and_told_by_their_content() {
    let org = org(SalesforceTwin::builder());
    let memory = org.deliver(&events(2_500), true).await;
    tally_is(&memory, &[("created", 2_500)]);
    assert!(contents(&org, &events(2_500)).values().all(|(said, held)| said == held));
    assert_eq!((requests(&org.twin, "/batches"), requests(&org.twin, "/composite/sobjects")), (1, 0));
    assert_eq!(memory.intents.lock().unwrap().len(), 2_500, "announced once");
    assert!(memory.jobs.lock().unwrap().is_empty() && org.twin.jobs().is_empty());
    let memory = org.deliver(&events(300), true).await;
    tally_is(&memory, &[("created", 300)]);
    assert_eq!(requests(&org.twin, "/batches"), 1, "few go by collections");
}

#[tokio::test(start_paused = true)]
async fn a_long_job_is_waited_for_and_read_back_by_its_id() {
    for keeps in [true, false] {
        let hour = JobWait::Time(30 * MINUTE);
        let org = org(SalesforceTwin::builder().job_times(hour, hour));
        let memory = org.deliver(&events(3_000), keeps).await;
        tally_is(&memory, &[("created", 3_000)]);
        assert_eq!(org.twin.count("Contact"), 3_000);
        assert_eq!(requests(&org.twin, "/batches"), 1, "nothing is sent twice");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_request_a_push_dies_at_no_row_is_inserted_twice_and_none_is_lost() {
    for what in ["answer_lost", "reset"] {
        for dies_at in 2..10 {
            let org = org(SalesforceTwin::builder());
            org.twin.set_faults(script(json!([{"when": {"from": dies_at}, "what": what}])));
            let (rest, first) = org.push(&events(2_500), None, Vec::new(), Duration::from_secs(15)).await;
            assert!(!matches!(rest, Ok(Rest::Nothing)), "{what} {dies_at}: {rest:?}");
            org.twin.set_faults(Script::default());
            org.go_on(&events(2_500), &first, false).await;
            let tally = first.tally();
            assert_eq!(tally.get("created"), Some(&2_500), "{what} {dies_at}: {tally:?}");
            assert!(
                contents(&org, &events(2_500)).values().all(|(said, held)| said == held),
                "{what} {dies_at}"
            );
            assert!(first.doubtful().is_empty(), "{what} {dies_at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_were_locked_or_not_looked_at_are_taken_back_and_sent_by_the_next_push() {
    let locked = std::sync::Mutex::new(25);
    let builder = SalesforceTwin::builder().fail_job(1, 2_100).refuse_rows(move |_, row| {
        let mut left = locked.lock().unwrap();
        let is_locked = row.get("LastName").is_some_and(|name| name.ends_with('7')) && *left > 0;
        *left -= i32::from(is_locked);
        is_locked.then(|| RowError::new("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access"))
    });
    let org = org(builder);
    let mut rows = events(2_500);
    rows[9] = operation(9, OperationKind::Append, &json!({}), &json!({"Phone": "without a name"}));
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("created", 2_499), ("rejected REQUIRED_FIELD_MISSING", 1)]);
    assert_eq!(org.twin.count("Contact"), 2_499);
    assert_eq!(memory.withdrawn.lock().unwrap().len(), 425, "400 not looked at, 25 locked");
    assert_eq!(requests(&org.twin, "/batches"), 1, "the rest is few");
}

#[tokio::test(start_paused = true)]
async fn rows_whose_job_has_vanished_are_unknown_and_not_sent_again() {
    let day = JobWait::Time(24 * 60 * MINUTE);
    let org = org(SalesforceTwin::builder().job_times(day, day));
    let (rest, first) = org.push(&events(2_500), None, Vec::new(), 5 * MINUTE).await;
    assert!(matches!(rest, Ok(Rest::Paused { .. })), "{rest:?}");
    org.twin.set_faults(script(
        json!([{"when": {"path_contains": "jobs/ingest/"}, "what": {"status": {"code": 404}}}]),
    ));
    org.go_on(&events(2_500), &first, true).await;
    tally_is(&first, &[("unknown", 2_500)]);
    assert_eq!(requests(&org.twin, "/batches"), 1);
    assert!(first.jobs.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_fault_makes_two_records_of_a_row() {
    for (name, what) in faults() {
        for keeps in [true, false] {
            let rules = script(json!([{"when": {"every": 4, "path_contains": "jobs"}, "what": what}]));
            let mut org = org(SalesforceTwin::builder().faults(rules));
            org.definition.connection.settings.insert("api".to_owned(), "bulk".to_owned());
            let memory = org.deliver(&events(300), keeps).await;
            assert_eq!(memory.tally().get("created"), Some(&300), "{name}: {:?}", memory.tally());
            assert!(contents(&org, &events(300)).values().all(|(said, held)| said == held), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_only_created_by_a_field_that_is_no_external_id() {
    let more = json!({"sync": {"mode": "create_only", "match": {"Email": "email"}}});
    for (count, jobs) in [(300, 0), (2_400, 1)] {
        let org = Org::new(SalesforceTwin::builder(), &more);
        org.twin.seed("Contact", [("Email", "u7@example.com"), ("LastName", "old")]);
        let rows: Vec<Operation> = (0..count)
            .map(|n| {
                let matched = json!({"Email": format!("u{n}@example.com")});
                operation(n, OperationKind::Create, &matched, &json!({"LastName": "new"}))
            })
            .collect();
        let made = usize::try_from(count).unwrap() - 1;
        for again in [false, true] {
            let memory = org.deliver(&rows, true).await;
            if again {
                tally_is(&memory, &[("skipped Exists", made + 1)]);
            } else {
                tally_is(&memory, &[("created", made), ("skipped Exists", 1)]);
            }
            assert_eq!(org.twin.count("Contact"), made + 1);
        }
        assert_eq!(requests(&org.twin, "/batches"), jobs);
        assert_eq!(org.twin.record("Contact", "Email", "u7@example.com").unwrap()["LastName"], "old");
    }
}
