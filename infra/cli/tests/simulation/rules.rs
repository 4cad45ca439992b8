//! The rules of the protocol, each with the line that keeps it. `infra/test.sh rules` takes them out one at a time, and
//! the simulation has to find what is lost without them.

use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    rule: String,
    file: String,
    take: String,
    put: String,
}

/// Otherwise a rule would be taken out of nothing, and nobody would notice.
#[test]
fn every_rule_is_where_the_list_says() {
    let rules: Vec<Rule> = serde_json::from_str(include_str!("rules.json")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for Rule { rule, file, take, put } in rules {
        let code = std::fs::read_to_string(root.join(&file)).unwrap();
        assert_eq!(code.matches(&take).count(), 1, "{rule}: {file} does not hold the line once:\n{take}");
        assert_ne!(take, put, "{rule}");
    }
}
