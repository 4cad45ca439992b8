use crate::harness::{Project, customers};

#[test]
fn every_mistake_is_named_with_file_line_and_field_at_once() {
    let project = Project::new();
    project.unload("2026-01-01", &customers(0..3));
    project.write(
        "connections/postgres.yaml",
        "connector: postgres\naddress: \"postgres://u@127.0.0.1:1/d\"\nlimits: { concurrency: 0 }\n",
    );
    project.write(
        "syncs/customers.yaml",
        "unload: customers\nconnection: postgres\nobject: t\nmatch: { id: id }\nmode: upsert\non_removed: nothing\nfields:\n  email: { expression: \"{{ mail | trim }}\" }\n  name: { expression: \"{{ name | }}\" }\n  balance: { column: balance, on_nul: clear }\nguards: { max_removed: lots }\n",
    );
    let output = project.penstock(&["check", "syncs/customers.yaml"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "connections/postgres.yaml:3: limits.concurrency: ",
        "syncs/customers.yaml:10: fields.balance.on_nul: there is no key on_nul here",
        "syncs/customers.yaml:11: guards.max_removed: ",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }

    // Once the form is right, what it says is looked at, again all at once.
    let sync =
        project.read("syncs/customers.yaml").replace("on_nul: clear", "on_null: clear").replace("lots", "2%");
    project.write("syncs/customers.yaml", &sync);
    project
        .write("connections/postgres.yaml", "connector: postgres\naddress: \"postgres://u@127.0.0.1:1/d\"\n");
    let output = project.penstock(&["check", "syncs/customers.yaml"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "syncs/customers.yaml:8: fields.email.expression: ",
        "syncs/customers.yaml:9: fields.name.expression: ",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(text.contains("mail"), "{text}");
}

#[test]
fn a_mapping_test_that_fails_shows_what_came_instead() {
    let project = Project::new();
    project.unload("2026-01-01", &customers(0..3));
    project
        .write("connections/postgres.yaml", "connector: postgres\naddress: \"postgres://u@127.0.0.1:1/d\"\n");
    project.write(
        "syncs/customers.yaml",
        "unload: customers\nconnection: postgres\nobject: t\nmatch: { id: id }\nfields:\n  email: { expression: \"{{ email | trim }}\" }\ntests:\n  - row: { id: 7, email: \" Ann@X.com \" }\n    expect: { email: ann@x.com }\n",
    );
    let output = project.penstock(&["check", "syncs/customers.yaml"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("syncs/customers.yaml:9: tests.0.expect.email") && text.contains("Ann@X.com"),
        "{text}"
    );
}

#[test]
fn the_demo_and_the_samples_are_sound() {
    let project = Project::new();
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../samples/syncs");
    let mut files: Vec<String> = std::fs::read_dir(samples)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    files.push(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/syncs/customers-to-hubspot.yaml").to_owned());
    assert!(files.len() > 3);
    for file in files {
        let output = project.penstock(&["check", &file]);
        assert!(output.status.success(), "{file}:\n{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_published_schemas_are_those_of_this_build() {
    let project = Project::new();
    for kind in ["sync", "unload", "connection", "connector"] {
        let output = project.penstock(&["schema", kind]);
        let file = format!("{}/../schema/{kind}.schema.json", env!("CARGO_MANIFEST_DIR"));
        let published = std::fs::read_to_string(&file).unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!(published, told, "run: penstock schema --write infra/schema");
    }
}

#[test]
fn the_connector_file_of_the_documentation_is_sound() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/destinations/connector-files.md");
    let text = std::fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let project = Project::new();
    project.write("connections/my-crm.yaml", blocks[0]);
    project.write("connections/crm.yaml", blocks[1]);
    let output = project.penstock(&["check", "connections/my-crm.yaml", "connections/crm.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
