//! Reference paths, result paths and payload templates.

use serde_json::{Map, Value};

/// A reference path: names one place in a state's input (`$.a.b`) or in the context object (`$$.a.b`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
    root: Root,
    steps: Vec<String>,
}

/// What a path starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Root {
    Input,
    Context,
}

impl Path {
    /// Parses dotted names only; the error says what is wrong with `text`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (root, rest) = match (text.strip_prefix("$$"), text.strip_prefix('$')) {
            (Some(rest), _) => (Root::Context, rest),
            (None, Some(rest)) => (Root::Input, rest),
            (None, None) => {
                return Err(format!("`{text}` is no reference path; intrinsic functions are not used"));
            }
        };
        let steps = match rest.strip_prefix('.') {
            Some(names) => names.split('.').map(str::to_owned).collect(),
            None if rest.is_empty() => Vec::new(),
            None => return Err(format!("`{text}` is no reference path of dotted names")),
        };
        let named =
            |step: &String| !step.is_empty() && step.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !steps.iter().all(named) {
            return Err(format!("`{text}` is no reference path of dotted names"));
        }
        Ok(Self { text: text.to_owned(), root, steps })
    }

    /// The path as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names after `$$`, if the path points into the context object.
    pub(super) fn context_steps(&self) -> Option<&[String]> {
        match self.root {
            Root::Context => Some(&self.steps),
            Root::Input => None,
        }
    }

    /// The value at this path, if there is one; a null is one.
    pub(super) fn find<'a>(&self, input: &'a Value, context: &'a Value) -> Option<&'a Value> {
        let start = match self.root {
            Root::Input => input,
            Root::Context => context,
        };
        self.steps.iter().try_fold(start, |value, step| value.get(step))
    }
}

/// Where a result goes in a state's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultPath {
    /// `null`: the result is dropped, the input goes on.
    Discard,
    /// The result replaces what stands at these names; `$` (no name) replaces the input.
    Place(Vec<String>),
}

impl ResultPath {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let path = Path::parse(text)?;
        match path.root {
            Root::Input => Ok(Self::Place(path.steps)),
            Root::Context => Err(format!("`{text}` points into the context object, which is read only")),
        }
    }

    /// The state's output: `input` with `result` in its place, objects made on the way as needed.
    ///
    /// `None` if something on the way is there and is no object.
    pub(super) fn place(&self, mut input: Value, result: Value) -> Option<Value> {
        let steps = match self {
            Self::Discard => return Some(input),
            Self::Place(steps) => steps,
        };
        let mut place = &mut input;
        for step in steps {
            place = match place {
                Value::Object(fields) => {
                    fields.entry(step.as_str()).or_insert_with(|| Value::Object(Map::new()))
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    return None;
                }
            };
        }
        *place = result;
        Some(input)
    }
}

/// A payload template: JSON in which `"name.$": path` stands for `"name": value at path`.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// Taken as it stands.
    Literal(Value),
    /// The value at a path.
    Path(Path),
    /// An object of templates, in order of names.
    Object(Vec<(String, Template)>),
}

impl Template {
    pub(super) fn parse(value: Value) -> Result<Self, String> {
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Array(items) if items.iter().any(has_path) => {
                return Err("a path inside an array is not used".to_owned());
            }
            literal @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => {
                return Ok(Self::Literal(literal));
            }
        };
        let mut parsed: Vec<(String, Self)> = Vec::new();
        for (name, value) in fields {
            let (name, template) = match (name.strip_suffix(".$"), value) {
                (Some(bare), Value::String(path)) => (
                    bare.to_owned(),
                    Path::parse(&path).map(Self::Path).map_err(|reason| format!("{name}: {reason}"))?,
                ),
                (Some(_), _) => return Err(format!("{name}: must hold a reference path")),
                (None, value) => {
                    let template = Self::parse(value).map_err(|reason| format!("{name}: {reason}"))?;
                    (name, template)
                }
            };
            if parsed.iter().any(|(other, _)| *other == name) {
                return Err(format!("{name}: given twice"));
            }
            parsed.push((name, template));
        }
        Ok(Self::Object(parsed))
    }

    /// Every path in the template.
    pub(super) fn paths(&self) -> Vec<&Path> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Path(path) => vec![path],
            Self::Object(fields) => fields.iter().flat_map(|(_, template)| template.paths()).collect(),
        }
    }

    /// The template with its paths filled in; the error is the first path that leads nowhere.
    pub(super) fn fill<'a>(&'a self, input: &Value, context: &Value) -> Result<Value, &'a Path> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Path(path) => path.find(input, context).cloned().ok_or(path),
            Self::Object(fields) => fields
                .iter()
                .map(|(name, template)| Ok((name.clone(), template.fill(input, context)?)))
                .collect::<Result<Map<_, _>, _>>()
                .map(Value::Object),
        }
    }
}

fn has_path(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| name.ends_with(".$") || has_path(value)),
        Value::Array(items) => items.iter().any(has_path),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_is_dotted_names_or_refused() {
        for good in ["$", "$$", "$.a", "$.a.b_c.d1", "$$.Execution.Name"] {
            assert_eq!(Path::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "a", "$a", "$.", "$..a", "$.a.", "$.a[0]", "$.a[*]", "$['a']", "States.UUID()", "$.a b"]
        {
            assert!(Path::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_finds_nulls_and_misses_what_is_not_there() {
        let input = json!({"a": {"b": null, "n": 1}});
        let context = json!({"State": {"Name": "S"}});
        let find = |path: &str| Path::parse(path).unwrap().find(&input, &context).cloned();
        assert_eq!(find("$.a.b"), Some(Value::Null));
        assert_eq!(find("$$.State.Name"), Some(json!("S")));
        assert_eq!(find("$.a.n.deeper"), None);
        assert_eq!(find("$.c"), None);
        assert_eq!(find("$"), Some(input.clone()));
    }

    #[test]
    fn a_result_goes_where_its_path_says() {
        let place = |path: Option<&str>, input: Value| {
            path.map_or(ResultPath::Discard, |path| ResultPath::parse(path).unwrap()).place(input, json!(7))
        };
        assert_eq!(place(None, json!({"a": 1})), Some(json!({"a": 1})));
        assert_eq!(place(Some("$"), json!({"a": 1})), Some(json!(7)));
        assert_eq!(place(Some("$.a"), json!({"a": 1})), Some(json!({"a": 7})));
        assert_eq!(place(Some("$.b.c"), json!({"a": 1})), Some(json!({"a": 1, "b": {"c": 7}})));
        assert_eq!(place(Some("$.a.c"), json!({"a": 1})), None);
        assert!(ResultPath::parse("$$.State").is_err());
    }

    #[test]
    fn a_template_is_filled() {
        let template = Template::parse(
            json!({"contract": 1, "deep": {"run.$": "$$.Execution.Name"}, "all.$": "$", "list": [1]}),
        )
        .unwrap();
        let context = json!({"Execution": {"Name": "r"}});
        assert_eq!(
            template.fill(&json!({"x": 2}), &context),
            Ok(json!({"contract": 1, "deep": {"run": "r"}, "all": {"x": 2}, "list": [1]}))
        );
        assert_eq!(template.fill(&json!({}), &json!({})).unwrap_err().as_str(), "$$.Execution.Name");
    }

    #[test]
    fn a_template_that_is_not_used_here_is_refused_by_name() {
        for (template, says) in [
            (json!({"a.$": "States.Format('{}', $.b)"}), "a.$: `States.Format"),
            (json!({"a": {"b.$": 1}}), "a: b.$: must hold a reference path"),
            (json!({"a": 1, "a.$": "$.b"}), "a: given twice"),
            (json!({"a": [{"b.$": "$.c"}]}), "a: a path inside an array"),
        ] {
            let reason = Template::parse(template).unwrap_err();
            assert!(reason.contains(says), "{reason}");
        }
    }

    proptest! {
        #[test]
        fn what_was_placed_is_found(steps in prop::collection::vec("[a-z]{1,3}", 0..4), result in 0..9) {
            let text = steps.iter().fold("$".to_owned(), |text, step| text + "." + step);
            let output = ResultPath::parse(&text).unwrap().place(json!({}), json!(result)).unwrap();
            prop_assert_eq!(Path::parse(&text).unwrap().find(&output, &Value::Null), Some(&json!(result)));
        }
    }
}
