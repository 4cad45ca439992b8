use penstock_twins::{Fault, HubSpotTwin, Rule, RunningTwin, Script, Twin, When};
use serde_json::Value;

use crate::harness::{Project, Table, counts, customers, postgres_project};
use crate::hubspot::hubspot_project;

/// A trigger that refuses rows in two ways under one code.
async fn with_two_complaints() -> (Project, Table) {
    let (project, table) = postgres_project("").await;
    table
        .execute(
            "create function pick_$table() returns trigger language plpgsql as $$ begin
               if new.id % 5 = 0 then raise exception 'customer % is on hold', new.id; end if;
               if new.id % 7 = 0 then raise exception 'balance \"%\" is too high', new.balance; end if;
               return new;
             end $$;
             create trigger pick before insert or update on $table for each row execute function pick_$table()",
        )
        .await;
    project.unload("2026-01-01", &customers(1..22));
    (project, table)
}

fn letters(project: &Project, more: &[&str]) -> Vec<Value> {
    let args: Vec<&str> =
        ["dead-letters", "syncs/customers.yaml", "--json"].into_iter().chain(more.iter().copied()).collect();
    let output = project.penstock(&args);
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn rejections_that_say_the_same_count_as_one_and_can_be_replayed_alone() {
    let (project, table) = with_two_complaints().await;
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 21, added 21, accepted 14, rejected 7", "{result}");
    // 5, 10, 15, 20 and 7, 14, 21.
    let shown = result["rejections"].as_array().unwrap();
    let rows: Vec<_> =
        shown.iter().map(|one| (one["rows"].as_u64(), one["keys"][0]["id"].as_i64())).collect();
    assert_eq!(rows, [(Some(4), Some(5)), (Some(3), Some(7))], "{result}");
    let fingerprint = |n: usize| shown[n]["fingerprint"].as_str().unwrap();

    // The report tells them apart too, without a message.
    let run = result["run_id"].as_str().unwrap();
    let report: Value =
        serde_json::from_str(&project.read(&format!(".penstock/runs/customers/{run}/report.json"))).unwrap();
    let counted: Vec<_> = report["rejections"].as_array().unwrap().iter().collect();
    assert_eq!(counted.len(), 2, "{report}");
    for (n, count) in counted.iter().enumerate() {
        assert_eq!((&count["fingerprint"], &count["rows"]), (&shown[n]["fingerprint"], &shown[n]["rows"]));
        assert_eq!((&count["stage"], &count["code"]), (&"push".into(), &"P0001".into()), "{report}");
    }
    assert!(!report.to_string().contains("on hold"), "{report}");

    let text = project.tell("dead-letters", &[]);
    for part in ["customer 5 is on hold", "{\"id\":5}, {\"id\":10}, {\"id\":15}, …", fingerprint(1), "P0001"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(!text.contains("customer 10"), "one example is enough:\n{text}");
    assert_eq!(letters(&project, &["--fingerprint", fingerprint(1)]).len(), 3);
    assert_eq!(letters(&project, &["--code", "P0001"]).len(), 7);
    assert!(letters(&project, &["--code", "P0002"]).is_empty());

    table.execute("drop trigger pick on $table").await;
    let result = project.ask("replay", &["--fingerprint", fingerprint(1)]);
    assert_eq!(result["counts"]["accepted"], 3, "{result}");
    let held: Vec<_> = table.rows().await.into_iter().filter_map(|row| row.id).collect();
    assert!(held.contains(&7) && held.contains(&21) && !held.contains(&5), "{held:?}");
    let result = project.ask("replay", &["--fingerprint", fingerprint(0)]);
    assert_eq!(result["counts"]["accepted"], 4, "{result}");
    assert_eq!(table.rows().await, customers(1..22));
}

#[tokio::test]
async fn an_append_can_be_replayed_by_what_its_letters_say_also_letters_of_an_earlier_build() {
    let (project, table) = with_two_complaints().await;
    let sync = project.read("syncs/customers.yaml").replace("match: { id: id }\n", "mode: append\n");
    project.write("syncs/customers.yaml", &sync.replace("fields:\n", "fields:\n  id: id\n"));
    let result = project.run(&[]);
    assert_eq!(counts(&result), "read 21, added 21, accepted 14, rejected 7", "{result}");
    let fingerprint = result["rejections"][1]["fingerprint"].as_str().unwrap();

    let file =
        format!(".penstock/dead-letters/customers/{}/000000.jsonl", result["run_id"].as_str().unwrap());
    let old: String = project
        .read(&file)
        .lines()
        .map(|line| {
            let mut letter: Value = serde_json::from_str(line).unwrap();
            assert!(letter.as_object_mut().unwrap().remove("fingerprint").is_some());
            format!("{letter}\n")
        })
        .collect();
    project.write(&file, &old);
    assert_eq!(letters(&project, &["--fingerprint", fingerprint]).len(), 3);

    table.execute("drop trigger pick on $table").await;
    let result = project.ask("replay", &["--fingerprint", fingerprint]);
    assert_eq!(result["counts"]["accepted"], 3, "{result}");
}

/// A run of three chunks, rows 3, 7 and 250 of which HubSpot refuses, that fails in its second chunk.
async fn failed_in_its_second_chunk() -> (Project, RunningTwin<HubSpotTwin>, Value) {
    let (project, running) = hubspot_project().await;
    let connection = project.read("connections/hubspot.yaml");
    project.write("connections/hubspot.yaml", &format!("{connection}limits: {{ concurrency: 1 }}\n"));
    let sync = project.read("syncs/customers.yaml");
    project.write("syncs/customers.yaml", &format!("{sync}delivery: {{ chunk_rows: 100 }}\n"));
    let mut rows = customers(0..300);
    for bad in [3, 7, 250] {
        rows[bad].email = Some("not an address".to_owned());
    }
    project.unload("2026-01-01", &rows);
    let when = When { from: 3.try_into().ok(), ..When::default() };
    running.twin.set_faults(Script::new(vec![Rule { when, what: Fault::Unauthorized }]).unwrap());
    let failed = project.run(&[]);
    assert_eq!(failed["failure"]["name"], "DestinationUnauthorized", "{failed}");
    let held = running.twin.count("contacts");
    assert_eq!(counts(&failed), format!("read 300, added 300, accepted {held}, rejected 2"), "{failed}");
    running.twin.set_faults(Script::default());
    (project, running, failed)
}

/// The ids of the rows that are dead letters.
fn refused(project: &Project) -> Vec<i64> {
    letters(project, &[]).iter().map(|letter| letter["key"]["id"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letters_of_a_failed_run_are_there_at_once_and_only_once_after_its_redrive() {
    let (project, _running, failed) = failed_in_its_second_chunk().await;
    let run = failed["run_id"].as_str().unwrap();
    assert_eq!(failed["rejections"][0]["rows"], 2, "{failed}");
    assert_eq!(refused(&project), [3, 7]);
    let folder = project.path(".penstock/dead-letters/customers").join(run);
    let written = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(written, 1, "the chunk that ended has its own; to look leaves nothing behind");

    let result = project.ask("redrive", &[]);
    assert_eq!(counts(&result), "read 300, added 300, accepted 297, rejected 3", "{result}");
    assert_eq!(refused(&project), [3, 7, 250]);
    let text = project.tell("dead-letters", &[]);
    assert!(text.contains("VALIDATION_ERROR") && text.contains(run), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_once_its_chunk_has_ended_counts() {
    for late in [vec![3], vec![3, 7]] {
        let (project, _running, failed) = failed_in_its_second_chunk().await;
        let at = format!(
            ".penstock/runs/customers/{}/receipts/000000/late/000000.jsonl",
            failed["run_id"].as_str().unwrap()
        );
        let accepted: String =
            late.iter().map(|n| format!("{{\"n\":{n},\"outcome\":{{\"accepted\":{{}}}}}}\n")).collect();
        project.write(&at, &accepted);
        let result = project.ask("redrive", &[]);
        let rejected: Vec<i64> = [3, 7, 250].into_iter().filter(|id| !late.contains(id)).collect();
        let (accepted, count) = (300 - rejected.len(), rejected.len());
        assert_eq!(
            counts(&result),
            format!("read 300, added 300, accepted {accepted}, rejected {count}"),
            "{result}"
        );
        assert_eq!(refused(&project), rejected);
    }
}
