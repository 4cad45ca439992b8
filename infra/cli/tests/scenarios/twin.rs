//! Syncs against simulators: rehearsed in process, and served by hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::{Project, customers, json};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/faults.yaml");

/// An API of events that takes five rows a request and recognises none that it had before.
const EVENTS: &str = "name: Events\naddress: https://events.example\nauth: [bearer]\nlimits: { requests_per_second: 10 }\nobjects:
  events:
    append:
      method: POST
      path: /events
      batch: { rows: 5 }
      body: { events: { $each: $record } }
      answer: { proof: { at: /taken } }\n";

fn fields() -> &'static str {
    "fields:\n  email: email\n  firstname: name\n"
}

/// Customers to HubSpot; the credential is nowhere.
fn hubspot_project() -> Project {
    let project = Project::new();
    project.write("connections/hubspot.yaml", "connector: hubspot\nauth: { bearer: { secret: nowhere } }\n");
    let sync = "unload: customers\nconnection: hubspot\nobject: contacts\nmatch: { customer_id: id }\n";
    project.write("syncs/customers.yaml", &format!("{sync}{}delivery: {{ chunk_rows: 500 }}\n", fields()));
    project.unload("2026-01-01", &customers(0..2_000));
    project
}

/// Customers appended to an API as this connector file describes it.
fn events_project(connector: &str) -> Project {
    let project = Project::new();
    project.write(
        "connections/events.yaml",
        "connector: ./events-api.yaml\nauth: { bearer: { secret: nowhere } }\n",
    );
    project.write("connections/events-api.yaml", connector);
    let sync = "unload: customers\nconnection: events\nobject: events\nmode: append\n";
    project.write("syncs/customers.yaml", &format!("{sync}{}", fields()));
    project.unload("2026-01-01", &customers(0..20));
    project
}

fn rehearse(project: &Project, faults: &str) -> (Value, Output) {
    let faults = match faults {
        "none" => "none".to_owned(),
        file if file == SAMPLE => file.to_owned(),
        rules => {
            project.write("faults.yaml", rules);
            "faults.yaml".to_owned()
        }
    };
    let output = project.penstock(&["run", "syncs/customers.yaml", "--twin", &faults, "--json"]);
    (json(&output), output)
}

fn count(verdict: &Value, name: &str) -> u64 {
    verdict[name].as_u64().unwrap_or_else(|| panic!("{name} is no number in {verdict}"))
}

fn dead(verdict: &Value) -> u64 {
    verdict["dead_letters"].as_array().unwrap().iter().map(|dead| dead["rows"].as_u64().unwrap()).sum()
}

#[test]
fn a_sync_is_rehearsed_without_faults() {
    let project = hubspot_project();
    let (verdict, output) = rehearse(&project, "none");
    assert!(output.status.success(), "{verdict}");
    assert_eq!((count(&verdict, "rows"), count(&verdict, "arrived")), (2_000, 2_000), "{verdict}");
    assert!(count(&verdict, "requests") >= 20 && count(&verdict, "repeated") == 0, "{verdict}");
    assert_eq!(verdict["runs"].as_array().unwrap().len(), 1);
    assert!(!project.path(".penstock").exists(), "the user's state is left alone");
}

#[test]
fn the_sample_faults_lose_nothing() {
    let project = hubspot_project();
    let (verdict, output) = rehearse(&project, SAMPLE);
    assert!(output.status.success(), "{verdict}");
    assert_eq!((count(&verdict, "lost"), count(&verdict, "duplicated")), (0, 0), "{verdict}");
    assert_eq!(count(&verdict, "arrived") + dead(&verdict), 2_000, "{verdict}");
    // A refused row is at the twin as well if an earlier request brought it whose answer was lost.
    let refused = dead(&verdict) + count(&verdict, "arrived_dead");
    assert!(refused > 0 && count(&verdict, "repeated") > 0, "the faults had their chance: {verdict}");
    assert_eq!(verdict["runs"].as_array().unwrap().len(), 1, "a run waits for the next day: {verdict}");
    // Each of its four chunks asks every half hour, with one request.
    assert!((5..=220).contains(&count(&verdict, "throttled")), "{verdict}");
    let plain = project.penstock(&["run", "syncs/customers.yaml", "--twin", SAMPLE]);
    let text = String::from_utf8(plain.stdout).unwrap();
    assert!(text.starts_with("nothing lost, nothing twice, no limit exceeded\n"), "{text}");
    assert!(text.contains("LOST         0") && text.contains("limit        190 in 10 s"), "{text}");
}

/// Customers to Salesforce, with an account that each belongs to and a phone number that is only filled in.
fn salesforce_project(more: &str) -> Project {
    let project = Project::new();
    project.write(
        "connections/salesforce.yaml",
        "connector: salesforce\naddress: https://acme.my.salesforce.com\nauth: { client_credentials: { secret: nowhere } }\n",
    );
    let sync = "unload: customers\nconnection: salesforce\nobject: Contact\nmatch: { External_Id__c: id }\nfields:\n  LastName: name\n  \
                Balance__c: { column: balance, type: number }\n  Phone: { column: email, write: if_empty }\n  Account: { lookup: { Ext__c: email } }\n  \
                Region__c: { lookup: { Code__c: name }, object: Region__c, on_missing: \"null\" }\n";
    project.write("syncs/customers.yaml", &format!("{sync}{more}"));
    project.unload("2026-01-01", &customers(0..2_500));
    project
}

#[test]
fn a_sync_to_salesforce_is_rehearsed_with_its_references_and_what_it_fills_in() {
    // By a bulk job; by collections; records that are only updated.
    for (more, path) in [
        ("", "jobs/ingest"),
        ("delivery: { chunk_rows: 500 }\n", "composite"),
        ("mode: update_only\ndelivery: { chunk_rows: 500 }\n", "composite"),
    ] {
        let project = salesforce_project(more);
        for faults in ["none", SAMPLE] {
            let (verdict, output) = rehearse(&project, faults);
            assert!(output.status.success(), "{path} {faults}: {verdict}");
            assert_eq!((count(&verdict, "lost"), count(&verdict, "duplicated")), (0, 0), "{verdict}");
            let arrived = count(&verdict, "arrived");
            assert_eq!(arrived + dead(&verdict), 2_500, "{path} {faults}: {verdict}");
            assert!(faults == SAMPLE || arrived == 2_500, "{path} {faults}: {verdict}");
        }
    }
}

#[test]
fn appends_to_salesforce_are_rehearsed_and_none_comes_twice() {
    let project = salesforce_project("");
    let sync = "unload: customers\nconnection: salesforce\nobject: Visit__c\nmode: append\nfields:\n  Who__c: email\n  Amount__c: balance\n";
    project.write("syncs/customers.yaml", sync);
    for faults in ["none", SAMPLE, "- { when: { every: 3 }, what: answer_lost }\n"] {
        let (verdict, output) = rehearse(&project, faults);
        assert!(output.status.success(), "{faults}: {verdict}");
        assert_eq!((count(&verdict, "lost"), count(&verdict, "duplicated")), (0, 0), "{verdict}");
        assert_eq!(count(&verdict, "arrived") + dead(&verdict), 2_500, "{faults}: {verdict}");
    }
}

#[test]
fn references_of_any_api_are_rehearsed_with_records_that_are_there() {
    let project = hubspot_project();
    let more = "  phone: { column: email, write: if_empty }\n  companies: { lookup: { domain: email } }\n";
    let sync = project.read("syncs/customers.yaml").replace("delivery:", &format!("{more}delivery:"));
    project.write("syncs/customers.yaml", &sync);
    for faults in ["none", SAMPLE] {
        let (verdict, output) = rehearse(&project, faults);
        assert!(output.status.success(), "{faults}: {verdict}");
        assert_eq!(count(&verdict, "lost"), 0, "{verdict}");
        assert_eq!(count(&verdict, "arrived") + dead(&verdict), 2_000, "{faults}: {verdict}");
    }
}

#[test]
fn an_append_whose_answer_is_lost_is_a_dead_letter_and_not_sent_again() {
    let (verdict, output) = rehearse(
        &events_project(EVENTS),
        "- { when: { nth: 2 }, what: answer_lost }\n- { when: { nth: 3 }, what: reset }\n",
    );
    assert!(output.status.success(), "{verdict}");
    assert_eq!((count(&verdict, "lost"), count(&verdict, "duplicated")), (0, 0), "{verdict}");
    assert_eq!(count(&verdict, "arrived"), 15, "{verdict}");
    assert_eq!(count(&verdict, "arrived_dead"), 5, "those of the lost answer: {verdict}");
    assert_eq!(dead(&verdict), 5, "those of the broken connection: {verdict}");
}

/// A connector file that is wrong about its API is found out before anything real is sent.
#[test]
fn a_file_that_calls_an_append_repeatable_sends_it_twice() {
    let wrong = EVENTS.replace("      answer:", "      repeat: safe\n      answer:");
    let (verdict, output) = rehearse(&events_project(&wrong), "- { when: { nth: 2 }, what: answer_lost }\n");
    assert_eq!(output.status.code(), Some(1), "{verdict}");
    assert_eq!((count(&verdict, "lost"), count(&verdict, "duplicated")), (0, 5), "{verdict}");
}

#[test]
fn a_file_that_takes_an_outage_for_success_loses_rows() {
    let wrong = EVENTS
        .replace("objects:", "statuses: { 503: accepted }\nobjects:")
        .replace("      answer: { proof: { at: /taken } }", "");
    let project = events_project(&wrong);
    let (verdict, output) = rehearse(&project, "- { when: { nth: 2 }, what: { status: { code: 503 } } }\n");
    assert_eq!(output.status.code(), Some(1), "{verdict}");
    assert_eq!((count(&verdict, "lost"), count(&verdict, "arrived")), (5, 15), "{verdict}");
    assert_eq!(verdict["lost_keys"].as_array().unwrap().len(), 5);
    let plain = project.penstock(&["run", "syncs/customers.yaml", "--twin", "faults.yaml"]);
    assert!(String::from_utf8(plain.stdout).unwrap().starts_with("NOT GOOD: 5 rows are lost\n"));
}

#[test]
fn an_outage_without_end_is_told_as_such() {
    let project = hubspot_project();
    project.write("faults.yaml", "- what: { status: { code: 500 } }\n");
    let output = project.penstock(&["run", "syncs/customers.yaml", "--twin", "faults.yaml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("NOT GOOD: after 20 runs not everything is delivered\n"), "{text}");
    assert!(text.contains("failed: DestinationUnavailable") && text.contains("undelivered  2000"), "{text}");
}

#[test]
fn what_can_not_be_rehearsed_is_said_in_words() {
    let project = hubspot_project();
    project.write("connections/database.yaml", "connector: postgres\naddress: postgres://ann@localhost/db\n");
    let sync = "unload: customers\nconnection: database\nobject: customers\nmatch: { id: id }\n";
    project.write("syncs/to-database.yaml", &format!("{sync}{}", fields()));
    project.write("faults.yaml", "- what: reset\n- what: { status: { code: 700 } }\n");
    for (args, words) in [
        (["run", "syncs/to-database.yaml", "--twin", "none"], "PostgreSQL has no twin"),
        (["run", "syncs/customers.yaml", "--twin", "faults.yaml"], "faults.yaml:2: 1.what.status.code: "),
        (["run", "syncs/customers.yaml", "--twin", "nowhere.yaml"], "nowhere.yaml:1: can't be read"),
        (["twin", "hubspot", "--faults", "faults.yaml"], "faults.yaml:2: 1.what.status.code: "),
        (["twin", "syncs/customers.yaml", "--port", "0"], "holds no connector"),
        (["twin", "marketo", "--port", "0"], "there is no twin marketo"),
    ] {
        let output = project.penstock(&args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(words), "{said} should say {words}");
    }
}

/// Serves a twin, posts to it, ends it with Ctrl-C, and gives the answer's status and what the twin told at its end.
fn served(project: &Project, args: &[&str], path: &str, body: &str) -> (u16, String) {
    let mut child = project.command(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap().to_owned();
    for words in ["it asks for: Authorization: Bearer t0", "Ctrl-C"] {
        line.clear();
        output.read_line(&mut line).unwrap();
        assert!(line.contains(words), "{line}");
    }
    let mut stream = TcpStream::connect(&address).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: twin\r\nconnection: close\r\nauthorization: Bearer t0\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let mut told = String::new();
    output.read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), told)
}

#[test]
fn every_twin_is_served_by_hand_and_tells_what_it_saw() {
    let project = events_project(EVENTS);
    project.write("faults.yaml", "- { when: { nth: 2 }, what: reset }\n");
    let (status, told) = served(
        &project,
        &["twin", "connections/events-api.yaml", "--token", "t0", "--faults", "faults.yaml"],
        "/events",
        r#"{"events": [{"email": "a"}, {"email": "b"}]}"#,
    );
    assert_eq!(status, 200);
    for line in ["1 requests", "1 /events: answered with 200", "2 writes", "2 events: appended", "2 records"]
    {
        assert!(told.contains(line), "{told} should say {line}");
    }
    let (status, told) = served(
        &project,
        &["twin", "batch", "--key", "email", "--token", "t0"],
        "/people/upsert",
        r#"{"email": "a"}"#,
    );
    assert!(status == 200 && told.contains("1 people: created"), "{status} {told}");
    let job = r#"{"object": "Contact", "operation": "insert"}"#;
    let (status, told) =
        served(&project, &["twin", "jobs", "--token", "t0"], "/services/data/v67.0/jobs/ingest", job);
    assert!(status == 200 && told.contains("0 writes"), "{status} {told}");
    let (status, told) =
        served(&project, &["twin", "hubspot", "--token", "t0"], "/crm/v3/objects/contacts/batch/read", "{}");
    assert!(status == 400 && told.contains("1 requests"), "{status} {told}");
}
