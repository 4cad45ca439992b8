//! Few rows, by collections.

use penstock_model::FailureName;
use penstock_model::json::Json;
use penstock_model::operation::Asks;
use penstock_model::report::AccountUse;
use penstock_twins::{Ended, RateLimit, RowError, SalesforceTwin};

use super::*;
use crate::testing::word;

fn org() -> Org {
    Org::new(SalesforceTwin::builder(), &json!({}))
}

#[tokio::test(start_paused = true)]
async fn rows_are_upserted_by_their_external_id_two_hundred_at_a_time() {
    let org = org();
    let memory = org.deliver(&contacts(450), true).await;
    tally_is(&memory, &[("created", 450)]);
    // A description, and three requests.
    assert_eq!(org.twin.journal().requests(), 4);
    let memory = org.deliver(&contacts(450), true).await;
    tally_is(&memory, &[("updated", 450)]);
    assert_eq!(org.twin.journal().requests(), 7, "the description is kept");
    assert_eq!(org.twin.count("Contact"), 450);
}

#[tokio::test(start_paused = true)]
async fn values_are_spelt_as_their_fields_want_them() {
    let fields = json!({"sync": {"fields": {
        "LastName": "x", "Phone": "x", "Lifetime_Value__c": "x", "Order_Count__c": "x", "Newsletter__c": "x",
        "Last_Order__c": "x", "Interests__c": "x", "Birthdate": "x"
    }}});
    let org = Org::new(SalesforceTwin::builder(), &fields);
    let row = json!({
        "LastName": 7, "Phone": "", "Lifetime_Value__c": "12.50", "Order_Count__c": 3, "Newsletter__c": "true",
        "Last_Order__c": "2026-01-31T12:00:00.123456Z", "Interests__c": ["skiing", "tea"], "Birthdate": "1990-02-28"
    });
    let memory = org.deliver(&[contact(0, OperationKind::Upsert, 7, &row)], true).await;
    tally_is(&memory, &[("created", 1)]);
    let record = org.twin.record("Contact", "External_Id__c", "7").unwrap();
    let expected = json!({
        "External_Id__c": "7", "LastName": "7", "Lifetime_Value__c": "12.5", "Order_Count__c": "3",
        "Newsletter__c": "true", "Last_Order__c": "2026-01-31T12:00:00.123Z", "Interests__c": "skiing;tea",
        "Birthdate": "1990-02-28"
    });
    assert_eq!(serde_json::to_value(record).unwrap(), expected);
    let row = json!({"Birthdate": null, "Interests__c": null, "LastName": "Ann"});
    org.deliver(&[contact(0, OperationKind::Upsert, 7, &row)], true).await;
    let record = org.twin.record("Contact", "External_Id__c", "7").unwrap();
    assert!(!record.contains_key("Birthdate") && record["LastName"] == "Ann");
}

#[tokio::test(start_paused = true)]
async fn a_field_that_the_object_lacks_stops_the_run_before_anything_is_sent() {
    let org = Org::new(
        SalesforceTwin::builder(),
        &json!({"sync": {"fields": {"LastName": "x", "Lastnam__c": "x"}}}),
    );
    let (rest, memory) = org.push(&contacts(3), None, Vec::new(), MINUTE).await;
    let failure = rest.unwrap_err();
    assert_eq!(failure.name, FailureName::MappingInvalid);
    assert!(failure.message.contains("Contact has no field Lastnam__c"), "{}", failure.message);
    assert!(memory.outcomes().is_empty());
    let org = Org::new(SalesforceTwin::builder(), &json!({"sync": {"object": "Contract"}}));
    let (rest, _) = org.push(&contacts(3), None, Vec::new(), MINUTE).await;
    assert_eq!(rest.unwrap_err().name, FailureName::DestinationRefused);
}

#[tokio::test(start_paused = true)]
async fn bad_rows_stand_alone_whether_salesforce_names_them_or_can_not_read_the_request() {
    let fields = json!({"sync": {"fields": {"LastName": "x", "Email": "x", "Lifetime_Value__c": "x"}}});
    let org = Org::new(SalesforceTwin::builder(), &fields);
    let mut rows = contacts(200);
    rows[7] = contact(7, OperationKind::Upsert, "c7", &json!({"LastName": "x", "Email": "no address"}));
    // No number: Salesforce's parser refuses the whole request.
    rows[20] =
        contact(20, OperationKind::Upsert, "c20", &json!({"LastName": "x", "Lifetime_Value__c": "much"}));
    rows[30] = contact(30, OperationKind::Upsert, Value::Null, &json!({"LastName": "x"}));
    rows[40] = contact(40, OperationKind::Upsert, "c40", &json!({}));
    let memory = org.deliver(&rows, true).await;
    tally_is(
        &memory,
        &[
            ("created", 196),
            ("rejected INVALID_EMAIL_ADDRESS", 1),
            ("rejected JSON_PARSER_ERROR", 1),
            ("rejected REQUIRED_FIELD_MISSING", 1),
            ("rejected match_empty", 1),
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn records_that_are_only_updated_or_only_created_are_looked_up_first() {
    use OperationKind::{Clear, Create, Delete, Update};
    let both = json!({"sync": {"mode": "update_only", "on_removed": {"clear": ["LastName"]}}});
    let org = Org::new(SalesforceTwin::builder().page(2), &both);
    for key in ["A", "O'Hara\\", "twice", "twice"] {
        org.twin.seed("Contact", [("External_Id__c", key), ("LastName", "old"), ("Phone", "1")]);
    }
    let named = |name: &str| json!({"LastName": name});
    let rows = [
        // Salesforce compares texts without case.
        contact(0, Update, "a", &named("new")),
        contact(1, Update, "O'Hara\\", &named("new")),
        contact(2, Update, "nobody", &named("new")),
        contact(3, Update, "twice", &named("new")),
    ];
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("accepted", 2), ("rejected DUPLICATE_EXTERNAL_ID", 1), ("skipped Missing", 1)]);
    assert_eq!(org.twin.record("Contact", "External_Id__c", "A").unwrap()["LastName"], "new");
    assert_eq!(org.twin.count("Contact"), 4);

    let org = Org::new(
        SalesforceTwin::builder(),
        &json!({"sync": {"mode": "create_only", "on_removed": {"delete": "any"}}}),
    );
    let there = org.twin.seed("Contact", [("External_Id__c", "a"), ("LastName", "old")]);
    let rows = [contact(0, Create, "a", &named("new")), contact(1, Create, "b", &named("new"))];
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("created", 1), ("skipped Exists", 1)]);
    assert_eq!(org.twin.records("Contact")[&there]["LastName"], "old");
    // By a remembered id, by a look-up, and of a record that is gone.
    let mut rows = [
        contact(0, Delete, "x", &json!({})),
        contact(1, Delete, "b", &json!({})),
        contact(2, Delete, "c", &json!({})),
        contact(3, Delete, "y", &json!({})),
    ];
    rows[0].id = Some(there);
    rows[3].id = Some("003000000000000AAA".to_owned());
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("accepted", 2), ("skipped Missing", 2)]);
    assert_eq!(org.twin.count("Contact"), 0);

    let org = Org::new(SalesforceTwin::builder(), &both);
    org.twin.seed("Contact", [("External_Id__c", "a"), ("LastName", "old")]);
    let rows = [
        contact(0, Clear, "a", &json!({"LastName": null})),
        contact(1, Clear, "b", &json!({"LastName": null})),
    ];
    let memory = org.deliver(&rows, true).await;
    // The field is required: that the record is not created is what counts here.
    tally_is(&memory, &[("rejected REQUIRED_FIELD_MISSING", 1), ("skipped Missing", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_match_value_has_changed_stays_one_record() {
    let org = org();
    let id = org.twin.seed("Contact", [("External_Id__c", "old"), ("LastName", "x"), ("Phone", "1")]);
    let mut moved = contact(0, OperationKind::Upsert, "new", &json!({"LastName": "Ann"}));
    moved.id = Some(id.clone());
    let mut gone = contact(1, OperationKind::Upsert, "other", &json!({"LastName": "Bob"}));
    gone.id = Some("003000000000009ZZZ".to_owned());
    let memory = org
        .deliver(&[moved, gone, contact(2, OperationKind::Upsert, "third", &json!({"LastName": "Cy"}))], true)
        .await;
    assert_eq!(word(&memory.outcomes()[&0]), "accepted");
    tally_is(&memory, &[("accepted", 1), ("created", 2)]);
    let records = org.twin.records("Contact");
    assert_eq!(records.len(), 3);
    assert_eq!((records[&id]["External_Id__c"].as_str(), records[&id]["Phone"].as_str()), ("new", "1"));
}

#[tokio::test(start_paused = true)]
async fn two_rows_with_one_match_value_are_sent_one_after_the_other() {
    let org = org();
    let rows = [("k", "first"), ("K", "second"), ("k", "third"), ("l", "other")];
    let rows: Vec<Operation> = (0..)
        .zip(rows)
        .map(|(n, (key, name))| {
            contact(n, OperationKind::Upsert, key.to_lowercase(), &json!({"LastName": name}))
        })
        .collect();
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("created", 2), ("updated", 2)]);
    assert_eq!(org.twin.record("Contact", "External_Id__c", "k").unwrap()["LastName"], "third");
}

#[tokio::test(start_paused = true)]
async fn rows_that_share_a_parent_are_never_under_way_at_the_same_time() {
    let more = json!({
        "sync": {"fields": {"LastName": "x", "Account": {"lookup": {"External_Id__c": "a"}}}},
        "connection": {"limits": {"rows_per_request": 10, "requests_in_flight": 8}},
    });
    let org = Org::new(SalesforceTwin::builder().takes(Duration::from_millis(300)), &more);
    for n in 0..5 {
        let key = format!("a{n}");
        org.twin.seed("Account", [("External_Id__c", key.as_str()), ("Name", "x")]);
    }
    let rows: Vec<Operation> = (0..300)
        .map(|n| {
            let fields = json!({"LastName": "x", "Account": {"External_Id__c": format!("a{}", n % 5)}});
            contact(n, OperationKind::Upsert, format!("c{n}"), &fields)
        })
        .collect();
    let memory = org.deliver(&rows, true).await;
    // Else a lock would have failed some, which would have been sent again.
    tally_is(&memory, &[("created", 300)]);
    assert_eq!(memory.usage().retried, 0);
    let record = org.twin.record("Contact", "External_Id__c", "c7").unwrap();
    assert_eq!(org.twin.records("Account")[&record["AccountId"]]["External_Id__c"], "a2");
}

#[tokio::test(start_paused = true)]
async fn a_locked_row_is_sent_again_and_a_reference_that_leads_nowhere_is_the_rows_matter() {
    let locked = std::sync::Mutex::new(3);
    let builder = SalesforceTwin::builder().refuse_rows(move |_, row| {
        let mut left = locked.lock().unwrap();
        let is_locked = row.get("External_Id__c").is_some_and(|key| key == "c1") && *left > 0;
        *left -= i32::from(is_locked);
        is_locked.then(|| RowError::new("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access"))
    });
    let more = json!({"sync": {"fields": {"LastName": "x", "Account": {"lookup": {"External_Id__c": "a"}}}}});
    let org = Org::new(builder, &more);
    let mut rows = contacts(3);
    rows[2] = contact(
        2,
        OperationKind::Upsert,
        "c2",
        &json!({"LastName": "x", "Account": {"External_Id__c": "no"}}),
    );
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("created", 2), ("rejected INVALID_FIELD", 1)]);
    assert_eq!(memory.usage().retried, 3);
}

#[tokio::test(start_paused = true)]
async fn a_used_up_day_parks_the_push_and_the_accounts_use_is_told() {
    let org = Org::new(SalesforceTwin::builder().daily_limit(3), &json!({}));
    let (rest, memory) = org.push(&contacts(600), None, Vec::new(), 5 * MINUTE).await;
    let Ok(Rest::Paused { resume_after, .. }) = rest else { panic!("{rest:?}") };
    assert!(resume_after >= 20 * MINUTE, "{resume_after:?}");
    tally_is(&memory, &[("created", 400)]);
    assert_eq!(memory.usage().account, Some(AccountUse { used: 3, allowed: 3 }));
    assert_eq!(org.twin.journal().requests_ended(Ended::Answered(403)), 1);
    // The next push finds it before a single row.
    let (rest, memory) = org.push(&contacts(600)[400..], None, Vec::new(), 5 * MINUTE).await;
    assert!(matches!(rest, Ok(Rest::Paused { .. })), "{rest:?}");
    assert!(memory.outcomes().is_empty());
    tokio::time::sleep(24 * 60 * MINUTE).await;
    let memory = org.deliver(&contacts(600)[400..], true).await;
    tally_is(&memory, &[("created", 200)]);
}

#[tokio::test(start_paused = true)]
async fn rows_without_a_key_are_added() {
    let more = json!({"sync": {"mode": "append", "match": {}}});
    let org = Org::new(SalesforceTwin::builder(), &more);
    let rows: Vec<Operation> = (0..250)
        .map(|n| operation(n, OperationKind::Append, &json!({}), &json!({"LastName": format!("n{n}")})))
        .collect();
    let memory = org.deliver(&rows, true).await;
    tally_is(&memory, &[("created", 250)]);
    assert_eq!(org.twin.count("Contact"), 250);
    // What can't be sent twice was announced.
    assert_eq!(memory.intents.lock().unwrap().len(), 250);
}

fn asking(mut operation: Operation, if_empty: &Value, lookups: &Value) -> Operation {
    let json = |value: &Value| (!value.is_null()).then(|| Json::of(value).unwrap());
    operation.asks = Some(Box::new(Asks { if_empty: json(if_empty), lookups: json(lookups) }));
    operation
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_written_only_if_empty_is_asked_for_first() {
    let fields = json!({"LastName": "x", "Phone": {"column": "p", "write": "if_empty"}});
    for mode in ["upsert", "update_only"] {
        let org = Org::new(SalesforceTwin::builder(), &json!({"sync": {"fields": fields, "mode": mode}}));
        org.twin.seed("Contact", [("External_Id__c", "full"), ("LastName", "x"), ("Phone", "1")]);
        org.twin.seed("Contact", [("External_Id__c", "empty"), ("LastName", "x")]);
        let kind = if mode == "upsert" { OperationKind::Upsert } else { OperationKind::Update };
        let rows: Vec<Operation> = (0..)
            .zip(["full", "empty", "new"])
            .map(|(n, key)| {
                let fields = if key == "full" { json!({}) } else { json!({"LastName": "y"}) };
                asking(contact(n, kind, key, &fields), &json!({"Phone": 7}), &Value::Null)
            })
            .collect();
        let memory = org.deliver(&rows, true).await;
        let phone = |key: &str| {
            org.twin.record("Contact", "External_Id__c", key).and_then(|it| it.get("Phone").cloned())
        };
        assert_eq!(phone("full").as_deref(), Some("1"), "{mode}");
        assert_eq!(phone("empty").as_deref(), Some("7"), "{mode}");
        if kind == OperationKind::Upsert {
            tally_is(&memory, &[("created", 1), ("updated", 2)]);
            assert_eq!(phone("new").as_deref(), Some("7"));
        } else {
            tally_is(&memory, &[("accepted", 1), ("skipped Missing", 1), ("skipped NothingToSay", 1)]);
        }
        // A description, a question, a request.
        assert_eq!(org.twin.journal().requests(), 3, "{mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reference_that_leads_nowhere_does_to_its_row_what_the_sync_says() {
    for (on_missing, account_of_second) in [("reject", None), ("skip", Some(true)), ("null", Some(false))] {
        let lookup = json!({"lookup": {"External_Id__c": "a"}, "on_missing": on_missing});
        let org = Org::new(
            SalesforceTwin::builder(),
            &json!({"sync": {"fields": {"LastName": "x", "Account": lookup}}}),
        );
        let id = org.twin.seed("Account", [("External_Id__c", "a1"), ("Name", "Acme")]);
        for key in ["c0", "c1", "c2"] {
            org.twin
                .seed("Contact", [("External_Id__c", key), ("LastName", "x"), ("AccountId", id.as_str())]);
        }
        let rows: Vec<Operation> = (0..)
            .zip([json!("a1"), json!("gone"), Value::Null])
            .map(|(n, key)| {
                let row = contact(n, OperationKind::Upsert, format!("c{n}"), &json!({"LastName": "y"}));
                asking(row, &Value::Null, &json!({"Account": key}))
            })
            .collect();
        let memory = org.deliver(&rows, true).await;
        let has =
            |key: &str| org.twin.record("Contact", "External_Id__c", key).unwrap().contains_key("AccountId");
        assert!(has("c0") && !has("c2"), "{on_missing}");
        match account_of_second {
            None => tally_is(&memory, &[("rejected INVALID_FIELD", 1), ("updated", 2)]),
            Some(kept) => {
                tally_is(&memory, &[("updated", 3)]);
                assert_eq!(has("c1"), kept, "{on_missing}");
            }
        }
    }
}

/// Every fault that a twin can play, one in every three requests.
#[tokio::test(start_paused = true)]
async fn no_fault_loses_a_row() {
    let unreadable = ["wrong_json", "not_json"].map(|name| (name, json!(name)));
    for (name, what) in faults().into_iter().chain(unreadable) {
        let rules = script(json!([{"when": {"every": 3, "path_contains": "composite"}, "what": what}]));
        let builder = SalesforceTwin::builder().rate_limit(RateLimit::UNLIMITED).faults(rules);
        let org = Org::new(builder, &json!({"connection": {"limits": {"rows_per_request": 10}}}));
        let memory = org.deliver(&contacts(200), true).await;
        let tally = memory.tally();
        let accepted: usize = ["created", "updated"].iter().filter_map(|word| tally.get(*word)).sum();
        assert_eq!(accepted, 200, "{name}: {tally:?}");
        assert_eq!(org.twin.count("Contact"), 200, "{name}");
    }
}
