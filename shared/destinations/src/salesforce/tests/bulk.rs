//! Many rows, by jobs.

use penstock_twins::{JobState, JobWait, RowError, SalesforceTwin};

use super::*;

fn builder() -> SalesforceTwinBuilder {
    SalesforceTwin::builder()
}

/// How many requests went to a path that ends so.
fn requests(twin: &SalesforceTwin, end: &str) -> u64 {
    let journal = twin.journal();
    journal
        .requests_by_path()
        .iter()
        .filter(|((path, _), _)| path.ends_with(end))
        .map(|(_, count)| count)
        .sum()
}

#[tokio::test(start_paused = true)]
async fn many_rows_go_as_one_job() {
    let org = Org::new(builder(), &json!({}));
    let memory = org.deliver(&contacts(2_500), true).await;
    tally_is(&memory, &[("created", 2_500)]);
    assert_eq!(org.twin.count("Contact"), 2_500);
    assert!(org.twin.jobs().is_empty(), "it is deleted when it is read");
    assert!(memory.jobs.lock().unwrap().is_empty(), "and forgotten");
    // A description; the job made, filled, closed; three looks; accepted rows; deleted.
    assert_eq!(org.twin.journal().requests(), 9);
    let memory = org.deliver(&contacts(1_999), true).await;
    tally_is(&memory, &[("updated", 1_999)]);
    assert_eq!(requests(&org.twin, "/batches"), 1, "fewer go by collections");
}

#[tokio::test(start_paused = true)]
async fn a_long_job_is_waited_for_by_the_state_machine_with_or_without_a_cursor() {
    for keeps in [true, false] {
        let hour = JobWait::Time(30 * MINUTE);
        let org = Org::new(builder().job_times(hour, hour), &json!({}));
        let memory = org.deliver(&contacts(3_000), keeps).await;
        tally_is(&memory, &[("created", 3_000)]);
        assert_eq!(requests(&org.twin, "/batches"), 1, "nothing is sent twice");
        let looks = memory.usage().requests;
        assert!(looks < if keeps { 60 } else { 700 }, "{looks}");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_fail_are_told_apart_and_those_that_are_locked_are_sent_again() {
    let locked = std::sync::Mutex::new(40);
    let builder = builder().refuse_rows(move |_, row| {
        let mut left = locked.lock().unwrap();
        let is_locked = row.get("LastName").is_some_and(|name| name.ends_with('7')) && *left > 0;
        *left -= i32::from(is_locked);
        is_locked.then(|| RowError::new("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access"))
    });
    let org = Org::new(
        builder,
        &json!({"sync": {"fields": {"LastName": "x", "Email": "x", "Interests__c": "x", "Phone": "x"}}}),
    );
    let mut rows = contacts(2_500);
    rows[3] = contact(3, OperationKind::Upsert, "c3", &json!({"LastName": "x", "Email": "a:b -- c"}));
    rows[5] = contact(
        5,
        OperationKind::Upsert,
        "c5",
        &json!({"LastName": "a \"quoted\", long\nname", "Phone": ""}),
    );
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("created", 2_499), ("rejected INVALID_EMAIL_ADDRESS", 1)]);
    assert_eq!(
        org.twin.record("Contact", "External_Id__c", "c4"),
        None.or(org.twin.record("Contact", "External_Id__c", "c4"))
    );
    assert_eq!(
        org.twin.record("Contact", "External_Id__c", "c5").unwrap()["LastName"],
        "a \"quoted\", long\nname"
    );
    assert_eq!(requests(&org.twin, "/batches"), 1, "the few that were locked go by collections");
}

#[tokio::test(start_paused = true)]
async fn rows_that_a_job_did_not_look_at_are_sent_again() {
    let org = Org::new(builder().fail_job(1, 2_100), &json!({}));
    let memory = org.deliver(&contacts(5_000), true).await;
    tally_is(&memory, &[("created", 5_000)]);
    assert_eq!(requests(&org.twin, "/batches"), 2);
    let writes = org.twin.journal().writes_per_key("Contact");
    assert!(writes.values().all(|times| *times == 1), "none is written twice");
}

#[tokio::test(start_paused = true)]
async fn updates_and_deletions_go_as_jobs_by_id() {
    use OperationKind::{Delete, Update};
    let more = json!({"sync": {"mode": "update_only", "on_removed": {"delete": "any"}}});
    let org = Org::new(builder(), &more);
    for n in 0..2_200 {
        let key = format!("c{n}");
        org.twin.seed("Contact", [("External_Id__c", key.as_str()), ("LastName", "old"), ("Phone", "1")]);
    }
    let rows: Vec<Operation> =
        (0..2_300).map(|n| contact(n, Update, format!("c{n}"), &json!({"LastName": "new"}))).collect();
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("skipped Missing", 100), ("updated", 2_200)]);
    let record = org.twin.record("Contact", "External_Id__c", "c7").unwrap();
    assert_eq!((record["LastName"].as_str(), record["Phone"].as_str()), ("new", "1"));
    let rows: Vec<Operation> = (0..2_200).map(|n| contact(n, Delete, format!("c{n}"), &json!({}))).collect();
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("accepted", 2_200)]);
    assert_eq!(org.twin.count("Contact"), 0);
    assert_eq!(requests(&org.twin, "/batches"), 2);
}

#[tokio::test(start_paused = true)]
async fn references_and_emptied_fields_travel_in_csv_too() {
    let account = json!({"lookup": {"External_Id__c": "a"}});
    let more = json!({
        "sync": {"fields": {"LastName": "x", "Account": account, "Birthdate": "x"}},
        "connection": {"settings": {"api": "bulk"}},
    });
    let org = Org::new(builder(), &more);
    let id = org.twin.seed("Account", [("External_Id__c", "a1"), ("Name", "Acme")]);
    let before = [
        ("External_Id__c", "c1"),
        ("LastName", "x"),
        ("Birthdate", "1990-01-01"),
        ("AccountId", id.as_str()),
    ];
    org.twin.seed("Contact", before);
    let rows = [
        contact(
            0,
            OperationKind::Upsert,
            "c0",
            &json!({"LastName": "x", "Account": {"External_Id__c": "a1"}}),
        ),
        contact(
            1,
            OperationKind::Upsert,
            "c1",
            &json!({"LastName": "y", "Account": null, "Birthdate": null}),
        ),
        contact(
            2,
            OperationKind::Upsert,
            "c2",
            &json!({"LastName": "x", "Account": {"External_Id__c": "no"}}),
        ),
    ];
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("created", 1), ("rejected INVALID_FIELD", 1), ("updated", 1)]);
    assert_eq!(org.twin.record("Contact", "External_Id__c", "c0").unwrap()["AccountId"], id);
    let cleared = org.twin.record("Contact", "External_Id__c", "c1").unwrap();
    assert_eq!(cleared.keys().collect::<Vec<_>>(), ["External_Id__c", "LastName"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_a_dead_push_has_left_is_taken_up_as_it_is_found() {
    // Dies at each of its requests in turn: none of their answers comes back, nor those of any other.
    for dies_at in 2..9 {
        let org = Org::new(builder(), &json!({}));
        org.twin.set_faults(script(json!([{"when": {"from": dies_at}, "what": "answer_lost"}])));
        let (rest, first) = org.push(&contacts(2_500), None, Vec::new(), Duration::from_secs(15)).await;
        assert!(!matches!(rest, Ok(Rest::Nothing)), "{dies_at}: {rest:?}");
        org.twin.set_faults(Script::default());
        let settled = first.outcomes();
        let (left, jobs) = left(&contacts(2_500), &first);
        let (rest, second) = org.push(&left, None, jobs, 5 * MINUTE).await;
        assert_eq!(rest.unwrap(), Rest::Nothing, "{dies_at}");
        assert_eq!(settled.len() + second.outcomes().len(), 2_500, "{dies_at}");
        assert_eq!(org.twin.count("Contact"), 2_500, "{dies_at}");
        let writes = org.twin.journal().writes_per_key("Contact");
        assert!(writes.values().all(|times| *times == 1), "{dies_at}: a row was written twice");
        let running = org.twin.jobs().iter().filter(|job| job.state != JobState::Open).count();
        assert_eq!(running, 0, "{dies_at}: {:?}", org.twin.jobs());
        assert!(second.jobs.lock().unwrap().is_empty(), "{dies_at}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_of_an_earlier_run_has_ended_before_anything_newer_is_sent() {
    let day = JobWait::Time(24 * 60 * MINUTE);
    let org = Org::new(builder().job_times(day, day), &json!({}));
    let (rest, first) = org.push(&contacts(2_500), None, Vec::new(), 5 * MINUTE).await;
    assert!(matches!(rest, Ok(Rest::Paused { .. })), "{rest:?}");
    let job = first.jobs.lock().unwrap().keys().next().cloned().unwrap();
    let newer = [contact(0, OperationKind::Upsert, "c0", &json!({"LastName": "newer"}))];
    let (rest, second) = org.push(&newer, None, vec![noted(&job, JobMaker::EarlierRun)], 5 * MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert!(second.jobs.lock().unwrap().is_empty() && org.twin.jobs().is_empty());
    tokio::time::sleep(100 * 60 * MINUTE).await;
    assert_eq!(org.twin.count("Contact"), 1);
    assert_eq!(org.twin.record("Contact", "External_Id__c", "c0").unwrap()["LastName"], "newer");
    // One that vanished is forgotten.
    let vanished = vec![noted("7500", JobMaker::EarlierRun), noted("7501", JobMaker::ThisChunk)];
    let (rest, third) = org.push(&newer, None, vanished, MINUTE).await;
    assert_eq!(rest.unwrap(), Rest::Nothing);
    assert!(third.jobs.lock().unwrap().is_empty());
}

/// Every fault that a twin can play, one in every four requests.
#[tokio::test(start_paused = true)]
async fn no_fault_loses_a_row() {
    for (name, what) in faults().into_iter().chain([("unauthorized", json!("unauthorized"))]) {
        for keeps in [true, false] {
            let rules = script(json!([{"when": {"every": 4, "path_contains": "jobs"}, "what": what}]));
            let org =
                Org::new(builder().faults(rules), &json!({"connection": {"settings": {"api": "bulk"}}}));
            let memory = org.deliver(&contacts(300), keeps).await;
            let tally = memory.tally();
            let accepted: usize = ["created", "updated"].iter().filter_map(|word| tally.get(*word)).sum();
            assert_eq!(accepted, 300, "{name}: {tally:?}");
            assert_eq!(org.twin.count("Contact"), 300, "{name}");
        }
    }
}
