//! A sync's own tests: a row, and the fields that must come of it.

use penstock_model::definition::{MappingTest, Problem, pointer_part};
use serde_json::Value;

use super::cells::Cells;
use super::row::Rows;
use super::{Engines, Mapping};

impl Mapping {
    /// Runs the tests of the sync that this mapping was compiled from. Columns that a row leaves out are null; fields
    /// that are not expected are not looked at; an expected null means that the field is not sent, or emptied.
    ///
    /// Gives every difference, with a pointer such as `/tests/0/expect/Email`. The messages show values: they are the
    /// user's own samples.
    #[must_use]
    pub fn run_tests(&self, tests: &[MappingTest]) -> Vec<Problem> {
        let engines = Engines::new();
        let compiled = self.expressions(&engines);
        let mut problems = Vec::new();
        for (number, test) in tests.iter().enumerate() {
            let sample = |wanted: &String| {
                let found = test.row.iter().find(|(name, _)| name.to_lowercase() == *wanted);
                Cells::sample(found.map_or(Value::Null, |(_, value)| value.clone()))
            };
            let rows = Rows {
                mapping: self,
                expressions: &compiled,
                cells: self.columns.iter().map(sample).collect(),
            };
            for name in test.row.keys().filter(|name| !self.columns.contains(&name.to_lowercase())) {
                problems.push(Problem::at(
                    format!("/tests/{number}/row/{}", pointer_part(name)),
                    format!("no field and no match uses the column `{name}`"),
                ));
            }
            for (name, expected) in &test.expect {
                if let Some(message) = rows.difference(name, expected) {
                    problems
                        .push(Problem::at(format!("/tests/{number}/expect/{}", pointer_part(name)), message));
                }
            }
        }
        problems
    }
}

impl Rows<'_, '_, '_> {
    /// How a field of the sample row differs from what is expected; `None` if it does not.
    fn difference(&self, name: &str, expected: &Value) -> Option<String> {
        let mut json = String::new();
        if let Some(index) = self.mapping.matched.iter().position(|field| field.name == name) {
            if let Err(rejection) = self.push_match_of(&mut json, index, 0) {
                return Some(format!("expected {expected}, but the row is rejected: {}", rejection.message));
            }
        } else if let Some(index) = self.mapping.fields.iter().position(|field| field.name == name) {
            if let Err(rejection) = self.push_field(&mut json, index, 0) {
                return Some(format!("expected {expected}, but the row is rejected: {}", rejection.message));
            }
        } else {
            return Some(format!("`{name}` is none of the sync's fields"));
        }
        if json.is_empty() {
            return (!expected.is_null())
                .then(|| format!("expected {expected}, but the field is not sent: it is null"));
        }
        let got: Value = serde_json::from_str(&json).unwrap_or_default();
        let emptied = expected.is_null() && got == "";
        (!emptied && !same(expected, &got)).then(|| format!("expected {expected}, got {json}"))
    }
}

/// Equal as JSON, where `1` and `1.0` are the same number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
        }
        (
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
            _,
        ) => one == other,
    }
}
