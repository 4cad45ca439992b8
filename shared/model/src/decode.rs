//! Reading JSON that another version, or a person, may have written: what is wrong is said without its values.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// Why a document can't be read. Holds the place and the kind of fault, never a value of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    path: String,
    line: usize,
    column: usize,
    what: String,
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, line {} column {}", self.what, self.path, self.line, self.column)
    }
}

impl std::error::Error for Undecodable {}

/// Decodes a document.
///
/// # Errors
/// [`Undecodable`], with the path of the member at fault.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, Undecodable> {
    // The path costs time, so that it is only looked for once something is known to be wrong.
    match serde_json::from_slice(json) {
        Ok(value) => Ok(value),
        Err(error) => Err(explain::<T>(json, &error)),
    }
}

/// Decodes a document that is known to be text: it is not looked through for bad UTF-8 once more.
///
/// # Errors
/// [`Undecodable`], with the path of the member at fault.
pub fn decode_text<T: DeserializeOwned>(json: &str) -> Result<T, Undecodable> {
    serde_json::from_str(json).map_err(|error| explain::<T>(json.as_bytes(), &error))
}

fn explain<T: DeserializeOwned>(json: &[u8], error: &serde_json::Error) -> Undecodable {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let path = serde_path_to_error::deserialize::<_, T>(&mut deserializer)
        .err()
        .map(|error| error.path().to_string())
        // `?` stands for a member whose name was not read to its end.
        .map(|path| path.trim_end_matches('?').trim_end_matches('.').to_owned())
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "the top".to_owned());
    Undecodable { path, line: error.line(), column: error.column(), what: describe(error) }
}

/// serde's own words quote the offending value, but for these two, which name members only.
fn describe(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => {
            let text = error.to_string();
            let names_members = text.starts_with("missing field `") || text.starts_with("unknown field `");
            let words = text.split(" at line ").next().filter(|_| names_members);
            words.unwrap_or("a value of another kind than expected").to_owned()
        }
        Category::Syntax => "broken JSON".to_owned(),
        Category::Eof => "JSON that ends too early".to_owned(),
        Category::Io => "unreadable JSON".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::ReadRequest;

    #[test]
    fn says_where_and_what_without_the_value() {
        let run = r#"{"sync":"s","run":"r","fence":1}"#;
        let cases = [
            (format!(r#"{{"contract":1,"run":{run}}}"#), "missing field `split` at the top"),
            (
                format!(r#"{{"contract":1,"run":{run},"split":1,"new":"tim@acme.com"}}"#),
                "unknown field `new`, expected one of `contract`, `run`, `split` at new",
            ),
            (
                r#"{"contract":1,"run":{"sync":"s","run":"r","fence":"tim@acme.com"}}"#.to_owned(),
                "a value of another kind than expected at run.fence",
            ),
            (r#"{"contract":1"#.to_owned(), "JSON that ends too early at the top"),
            ("tim@acme.com".to_owned(), "broken JSON at the top"),
        ];
        for (json, expected) in cases {
            let text = decode::<ReadRequest>(json.as_bytes()).unwrap_err().to_string();
            assert_eq!(decode_text::<ReadRequest>(&json).unwrap_err().to_string(), text);
            assert!(text.starts_with(expected), "{text} does not start with {expected}");
            assert!(!text.contains("tim"), "{text}");
        }
    }
}
