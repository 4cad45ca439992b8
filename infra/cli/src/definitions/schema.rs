//! JSON Schemas of what users write, and checking a document against one: every mistake at once.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use penstock_model::connector::HttpConnector;
use penstock_model::definition::{Connection, Problem, Sync, Unload};
use serde_json::Value;

/// The kinds of definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `unloads/*.yaml`.
    Unload,
    /// `connections/*.yaml`.
    Connection,
    /// `syncs/*.yaml`.
    Sync,
    /// A connector file.
    Connector,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Unload, Self::Connection, Self::Sync, Self::Connector];

    /// The kind's name in files and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unload => "unload",
            Self::Connection => "connection",
            Self::Sync => "sync",
            Self::Connector => "connector",
        }
    }

    /// The kind of a document by the members that only it has.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        let has = |member: &str| value.get(member).is_some();
        if has("fields") || (has("unload") && has("connection")) {
            Some(Self::Sync)
        } else if has("location") || has("primary_key") {
            Some(Self::Unload)
        } else if has("objects") {
            Some(Self::Connector)
        } else if has("connector") {
            Some(Self::Connection)
        } else {
            None
        }
    }

    /// The kind's JSON Schema.
    #[must_use]
    pub fn schema(self) -> Value {
        let schema = match self {
            Self::Unload => schemars::schema_for!(Unload),
            Self::Connection => schemars::schema_for!(Connection),
            Self::Sync => schemars::schema_for!(Sync),
            Self::Connector => schemars::schema_for!(HttpConnector),
        };
        schema.to_value()
    }
}

/// Everything in `value` that its kind's schema does not allow.
#[must_use]
pub fn problems(kind: Kind, value: &Value) -> Vec<Problem> {
    let schema = kind.schema();
    match jsonschema::validator_for(&schema) {
        Ok(validator) => {
            let mut problems: Vec<Problem> =
                validator.iter_errors(value).flat_map(|error| explain(&error)).collect();
            problems.dedup();
            problems
        }
        Err(error) => vec![Problem::at("", format!("the {} schema is broken: {error}", kind.name()))],
    }
}

/// One schema error as problems in the user's words.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a validator's list: what our schemas don't use keeps the validator's own words"
)]
fn explain(error: &ValidationError<'_>) -> Vec<Problem> {
    let pointer = error.instance_path().as_str().to_owned();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected
            .iter()
            .map(|name| {
                let below = format!("{pointer}/{}", penstock_model::definition::pointer_part(name));
                Problem::at(below, format!("there is no key {name} here"))
            })
            .collect(),
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![Problem::at(pointer, format!("the key {name} is missing"))]
        }
        ValidationErrorKind::Enum { options } => {
            let words: Vec<_> = options.as_array().into_iter().flatten().map(plain).collect();
            vec![Problem::at(pointer, format!("must be one of: {}", words.join(", ")))]
        }
        ValidationErrorKind::Pattern { pattern } => {
            vec![Problem::at(pointer, format!("does not have the form that is asked for here, {pattern}"))]
        }
        // Of several forms, the one that fits best is the one that was meant.
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            best(&pointer, context)
        }
        _ => vec![Problem::at(pointer, error.masked().to_string())],
    }
}

/// The mistakes of the form that was most likely meant: the one whose mistakes lie deepest; else the choices.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a validator's list, of which three kinds tell which form was meant"
)]
fn best(pointer: &str, forms: &[Vec<ValidationError<'static>>]) -> Vec<Problem> {
    let depth = |form: &Vec<ValidationError<'static>>| {
        form.iter()
            .map(|error| match error.kind() {
                // Not even of this kind of value: surely not what was meant.
                ValidationErrorKind::Type { .. } if error.instance_path().as_str() == pointer => 0,
                ValidationErrorKind::Required { .. } if error.instance_path().as_str() == pointer => 1,
                _ => 2 + error.instance_path().as_str().len(),
            })
            .min()
            .unwrap_or(0)
    };
    let constants: Vec<_> = forms
        .iter()
        .flatten()
        .filter_map(|error| match error.kind() {
            ValidationErrorKind::Constant { expected_value } if error.instance_path().as_str() == pointer => {
                Some(plain(expected_value))
            }
            _ => None,
        })
        .collect();
    if constants.len() == forms.len() {
        return vec![Problem::at(pointer, format!("must be one of: {}", constants.join(", ")))];
    }
    match forms.iter().max_by_key(|form| depth(form)) {
        Some(form) if depth(form) > 0 => form.iter().flat_map(explain).collect(),
        _ => {
            let kinds: Vec<_> = forms.iter().flatten().map(|error| error.masked().to_string()).collect();
            vec![Problem::at(pointer, kinds.join("; or "))]
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
