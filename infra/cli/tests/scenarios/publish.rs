use serde_json::json;

use crate::harness::{Project, customers, json as parsed};

const CONNECTION: &str =
    "connector: postgres\naddress: \"postgres://u@db.example.com/d\"\nauth: { password: { secret: db } }\n";

fn project() -> Project {
    let project = Project::new();
    project.write("connections/postgres.yaml", CONNECTION);
    sync(&project, "customers", "");
    project
}

fn sync(project: &Project, name: &str, more: &str) {
    project.write(
        &format!("syncs/{name}.yaml"),
        &format!("unload: customers\nconnection: postgres\nobject: t\nmatch: {{ id: id }}\nfields:\n  name: name\n{more}"),
    );
}

#[test]
fn a_folder_is_published_whole_and_says_what_changed() {
    let project = project();
    sync(&project, "more", "start: { after: customers }\n");
    let publish = |more: &[&str]| {
        let output = project.penstock(&[&["publish", "--state", "state"], more].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let there = |name: &str| project.path(&format!("state/definitions/{name}.json")).exists();
    let dry = publish(&["--dry-run"]);
    assert!(dry.contains("5 new would be published to ") && !there("syncs/customers"), "{dry}");
    let first = publish(&[]);
    for line in [
        "new        unload customers",
        "new        connection postgres",
        "new        connector of postgres",
        "new        sync customers",
        "new        sync more",
        "5 new published to ",
    ] {
        assert!(first.contains(line), "{line} is missing in:\n{first}");
    }
    sync(&project, "customers", "  email: email\nguards: { max_removed: 2% }\n");
    std::fs::remove_file(project.path("syncs/more.yaml")).unwrap();
    let second = publish(&[]);
    assert!(second.contains("changed    sync customers: fields.email, guards.max_removed"), "{second}");
    assert!(second.contains("left       sync more: not among these files"), "{second}");
    assert!(there("syncs/more"));
    assert!(publish(&["--prune"]).contains("removed    sync more"));
    assert!(!there("syncs/more"));
}

#[test]
fn nothing_is_published_if_anything_is_wrong() {
    let project = project();
    project.unload("2026-01-01", &customers(0..3));
    sync(&project, "bad", "  mail: no_such_column\n");
    let output = project.penstock(&["publish", "--state", "state", "--json"]);
    assert!(!output.status.success());
    let told = parsed(&output);
    assert_eq!(told["ok"], json!(false));
    assert_eq!(told["mistakes"][0]["field"], json!("fields.mail"), "{told}");
    assert_eq!(told["mistakes"][0]["line"], json!(7), "{told}");
    assert!(!project.path("state").exists());
}

#[test]
fn what_only_works_on_a_laptop_is_refused_for_a_bucket_with_file_and_line() {
    let project = project();
    project.write("connections/postgres.yaml", &CONNECTION.replace("secret: db", "secret: { env: DB }"));
    // Refused before the bucket is asked for anything.
    let mut command = project.command(&["publish", "--state", "s3://no-such-bucket"]);
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").env("AWS_REGION", "us-east-1");
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "connections/postgres.yaml:3: auth: on AWS a secret",
        "unloads/customers.yaml:1: location: on AWS an unload lies in S3",
        "nothing was published",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[test]
fn a_circle_of_syncs_and_one_that_is_not_there_are_found_by_check() {
    let project = project();
    sync(&project, "a", "start: { after: b }\n");
    sync(&project, "b", "start: { after: c }\n");
    sync(&project, "c", "start: { after: a }\n");
    sync(&project, "d", "start: { after: nobody }\n");
    let told = |file: &str| {
        let output = project.penstock(&["check", file]);
        assert!(!output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let circle = told("syncs/a.yaml");
    assert!(
        circle.contains("syncs/a.yaml:7: start.after: runs in a circle: a after b after c after a"),
        "{circle}"
    );
    let nobody = told("syncs/d.yaml");
    assert!(nobody.contains("syncs/d.yaml:7: start.after: there is no sync nobody"), "{nobody}");
}
