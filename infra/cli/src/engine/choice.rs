//! Choice rules.

use serde_json::Value;

use super::path::Path;

/// One rule's condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A text equals this one.
    StringEquals(Path, String),
    /// A number equals this one.
    NumericEquals(Path, f64),
    /// A number is greater than this one.
    NumericGreaterThan(Path, f64),
    /// A boolean equals this one.
    BooleanEquals(Path, bool),
    /// Whether the path leads somewhere.
    IsPresent(Path, bool),
    /// All of these hold; the first that does not ends the look.
    And(Vec<Condition>),
}

impl Condition {
    /// Whether the condition holds. A value of another type than the one compared with is simply not equal.
    ///
    /// The error is the first path that leads nowhere.
    pub(super) fn holds(&self, input: &Value, context: &Value) -> Result<bool, &Path> {
        let at = |path| Path::find(path, input, context).ok_or(path);
        match self {
            Self::StringEquals(path, text) => Ok(at(path)?.as_str() == Some(text)),
            Self::NumericEquals(path, number) => Ok(at(path)?.as_f64() == Some(*number)),
            Self::NumericGreaterThan(path, number) => {
                Ok(at(path)?.as_f64().is_some_and(|found| found > *number))
            }
            Self::BooleanEquals(path, expected) => Ok(at(path)?.as_bool() == Some(*expected)),
            Self::IsPresent(path, expected) => Ok(path.find(input, context).is_some() == *expected),
            Self::And(conditions) => {
                for condition in conditions {
                    if !condition.holds(input, context)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_hold_or_not() {
        let input = json!({"text": "a", "n": 2, "f": 2.5, "yes": true, "nothing": null});
        let path = |name: &str| Path::parse(&format!("$.{name}")).unwrap();
        let present = |name: &str| Condition::IsPresent(path(name), true);
        let table = [
            (Condition::StringEquals(path("text"), "a".into()), Ok(true)),
            (Condition::StringEquals(path("text"), "b".into()), Ok(false)),
            (Condition::StringEquals(path("n"), "2".into()), Ok(false)),
            (Condition::StringEquals(path("missing"), "a".into()), Err("$.missing")),
            (Condition::NumericEquals(path("n"), 2.0), Ok(true)),
            (Condition::NumericEquals(path("text"), 2.0), Ok(false)),
            (Condition::NumericGreaterThan(path("f"), 2.0), Ok(true)),
            (Condition::NumericGreaterThan(path("n"), 2.0), Ok(false)),
            (Condition::BooleanEquals(path("yes"), true), Ok(true)),
            (Condition::BooleanEquals(path("yes"), false), Ok(false)),
            (present("nothing"), Ok(true)),
            (present("missing"), Ok(false)),
            (Condition::IsPresent(path("missing"), false), Ok(true)),
            (
                Condition::And(vec![present("missing"), Condition::NumericEquals(path("missing"), 1.0)]),
                Ok(false),
            ),
            (Condition::And(vec![present("n"), Condition::NumericEquals(path("n"), 2.0)]), Ok(true)),
        ];
        for (condition, expected) in table {
            let held = condition.holds(&input, &Value::Null).map_err(Path::as_str);
            assert_eq!(held, expected, "{condition:?}");
        }
    }
}
