//! YAML with positions: a JSON value, and the line of every part of it.

use std::collections::HashMap;

use penstock_model::definition::pointer_part;
use saphyr::{LoadableYamlNode, MarkedYamlOwned, ScalarOwned, YamlDataOwned};
use serde_json::{Map, Number, Value};

/// One YAML document.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its content.
    pub value: Value,
    lines: HashMap<String, usize>,
}

/// The text is not YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotYaml {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl Document {
    /// The line (from 1) of a JSON pointer; of the nearest part above it if it does not exist.
    #[must_use]
    pub fn line(&self, pointer: &str) -> usize {
        let mut pointer = pointer;
        loop {
            if let Some(line) = self.lines.get(pointer) {
                return *line;
            }
            match pointer.rfind('/') {
                Some(at) => pointer = pointer.get(..at).unwrap_or_default(),
                None => return 1,
            }
        }
    }
}

/// Reads every document of a text.
///
/// # Errors
/// [`NotYaml`] with the line; a key that stands twice in one mapping is an error too.
pub fn parse(text: &str) -> Result<Vec<Document>, NotYaml> {
    let nodes = MarkedYamlOwned::load_from_str(text)
        .map_err(|error| NotYaml { line: error.marker().line(), message: error.info().to_owned() })?;
    nodes
        .iter()
        .map(|node| {
            let mut lines = HashMap::new();
            let value = convert(node, "", &mut lines)?;
            Ok(Document { value, lines })
        })
        .filter(|document| !matches!(document, Ok(Document { value: Value::Null, .. })))
        .collect()
}

fn convert(
    node: &MarkedYamlOwned,
    pointer: &str,
    lines: &mut HashMap<String, usize>,
) -> Result<Value, NotYaml> {
    let line = node.span.start.line();
    lines.entry(pointer.to_owned()).or_insert(line);
    let refuse = |what: &str| Err(NotYaml { line, message: what.to_owned() });
    match &node.data {
        YamlDataOwned::Value(scalar) => scalar_value(scalar).ok_or_else(|| NotYaml {
            line,
            message: "this number is neither finite nor JSON; write it in quotes".to_owned(),
        }),
        YamlDataOwned::Sequence(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| convert(item, &format!("{pointer}/{index}"), lines))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        YamlDataOwned::Mapping(members) => {
            let mut object = Map::new();
            for (key, value) in members {
                let name = match &key.data {
                    YamlDataOwned::Value(scalar) => scalar_text(scalar),
                    YamlDataOwned::Representation(..)
                    | YamlDataOwned::Sequence(_)
                    | YamlDataOwned::Mapping(_)
                    | YamlDataOwned::Tagged(..)
                    | YamlDataOwned::Alias(_)
                    | YamlDataOwned::BadValue => {
                        return refuse("a key must be a word, not a list or a mapping");
                    }
                };
                let below = format!("{pointer}/{}", pointer_part(&name));
                // A member's line is its key's: there the reader looks.
                lines.insert(below.clone(), key.span.start.line());
                object.insert(name, convert(value, &below, lines)?);
            }
            Ok(Value::Object(object))
        }
        YamlDataOwned::Tagged(..) => refuse("tags such as !name are not used here"),
        YamlDataOwned::Alias(_) | YamlDataOwned::BadValue | YamlDataOwned::Representation(..) => {
            refuse("this can't be read")
        }
    }
}

fn scalar_value(scalar: &ScalarOwned) -> Option<Value> {
    Some(match scalar {
        ScalarOwned::Null => Value::Null,
        ScalarOwned::Boolean(value) => Value::Bool(*value),
        ScalarOwned::Integer(value) => Value::Number((*value).into()),
        ScalarOwned::FloatingPoint(value) => Value::Number(Number::from_f64(value.into_inner())?),
        ScalarOwned::String(text) => Value::String(text.clone()),
    })
}

fn scalar_text(scalar: &ScalarOwned) -> String {
    match scalar {
        ScalarOwned::Null => "null".to_owned(),
        ScalarOwned::Boolean(value) => value.to_string(),
        ScalarOwned::Integer(value) => value.to_string(),
        ScalarOwned::FloatingPoint(value) => value.to_string(),
        ScalarOwned::String(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_knows_its_line() {
        let text = "# a comment\nunload: customers\nfields:\n  Email:\n    column: email\n  Tags:\n    - a\n    - b\n";
        let document = parse(text).unwrap().remove(0);
        for (pointer, line) in [
            ("", 2),
            ("/unload", 2),
            ("/fields", 3),
            ("/fields/Email", 4),
            ("/fields/Email/column", 5),
            ("/fields/Tags/1", 8),
            ("/fields/Email/missing", 4),
            ("/missing", 2),
        ] {
            assert_eq!(document.line(pointer), line, "{pointer}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error_with_its_line() {
        let error = parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(error.line, 3, "{error}");
    }

    #[test]
    fn several_documents_are_read_in_order() {
        let documents = parse("a: 1\n---\nb: 2\n").unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].line("/b"), 3);
    }
}
