//! Fault scripts, read with the place of every mistake.

use std::path::Path;

use penstock_model::definition::pointer_part;
use penstock_twins::{Rule, Script};
use serde_path_to_error::Segment;

use crate::definitions::Mistake;
use crate::definitions::yaml;

/// Reads a fault script: a YAML list of rules.
///
/// # Errors
/// The first mistake, with file, line and field.
pub(super) fn read(file: &Path) -> Result<Script, Mistake> {
    let wrong = |line: usize, field: String, message: String| Mistake {
        file: file.to_owned(),
        line,
        field: field.trim_start_matches('/').replace('/', "."),
        message,
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| wrong(1, String::new(), format!("can't be read: {error}")))?;
    let mut documents = yaml::parse(&text)
        .map_err(|error| wrong(error.line, String::new(), format!("not YAML: {}", error.message)))?;
    let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
        return Err(wrong(1, String::new(), "holds no list of faults".to_owned()));
    };
    let rules: Vec<Rule> = serde_path_to_error::deserialize(&document.value).map_err(|error| {
        let pointer: String = error.path().iter().map(pointer_of).collect();
        wrong(document.line(&pointer), pointer, error.inner().to_string())
    })?;
    Script::new(rules)
        .map_err(|error| wrong(document.line(&error.pointer()), error.pointer(), error.to_string()))
}

fn pointer_of(segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", pointer_part(key)),
        Segment::Enum { variant } => format!("/{}", pointer_part(variant)),
        Segment::Unknown => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_file_line_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("faults.yaml");
        for (text, expected) in [
            ("- { what: reset }\n- what: explode\n", "faults.yaml:2: 1.what"),
            ("- what: reset\n  when:\n    evry: 2\n", "faults.yaml:3: 0.when.evry: unknown field"),
            ("- what: reset\n  when: { every: 0 }\n", "faults.yaml:2: 0.when.every: "),
            ("- what: reset\n  when:\n    chance: 2.5\n", "faults.yaml:3: 0.when.chance: "),
            ("- what:\n    status: { code: 200 }\n", "faults.yaml:2: 0.what.status.code: "),
            ("what: reset\n", "faults.yaml:1: "),
            ("- what: [\n", "not YAML"),
            ("", "holds no list"),
        ] {
            std::fs::write(&file, text).unwrap();
            let mistake = read(&file).unwrap_err().to_string();
            assert!(mistake.contains(expected), "{mistake} should contain {expected}");
        }
        std::fs::write(&file, "- { when: { nth: 3 }, what: answer_lost }\n").unwrap();
        assert_eq!(read(&file).unwrap().rules().len(), 1);
        assert!(read(&folder.path().join("none.yaml")).is_err());
    }
}
