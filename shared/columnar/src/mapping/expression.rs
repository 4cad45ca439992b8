//! Jinja expressions over a row's columns.
//!
//! A template that is one `{{ expression }}` gives a value of its own type; any other gives text. Jinja alone would turn
//! nulls into the word `None`, an empty list or the least of all numbers; here, as in SQL, what is made of a null is a null,
//! unless the expression says otherwise:
//!
//! - `{{ plan | default('free') }}`, `{{ nickname or first_name }}`, `{{ 'x' if email is none else 'y' }}`;
//! - `join`, `min`, `max` and `sum` leave nulls out: `{{ [first_name, last_name] | join(' ') }}`;
//! - a list's item or a map's entry that is not there is a null;
//! - beside a slice (`{{ phone[:3] }}`), `or` and `if` make a null of a null, too.
//!
//! Decimals are floating point here, so that they can be compared and calculated with; one that a float can't hold to
//! its last digit is refused rather than rounded.

use std::borrow::Cow;
use std::collections::HashSet;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, escape_formatter, filters};

use super::cells::{Cell, Cells};
use super::convert::{Digits, Refusal};
use super::json::{key_of, push_text};
use super::scan::{self, Scan};
use super::value::{push_json, push_plain};

pub(super) const FAILED: Refusal = Refusal { code: "expression_failed", what: "could not be worked out" };
const TOO_LONG: Refusal = Refusal {
    code: "expression_failed",
    what: "uses a decimal with more digits than an expression can calculate with",
};

fn is_null(value: &Value) -> bool {
    value.is_undefined() || value.is_none()
}

/// The Jinja environments that expressions are compiled in.
pub(crate) struct Engines<'s> {
    usual: Environment<'s>,
    sliced: Environment<'s>,
}

impl Engines<'_> {
    /// No files, no debugging, and a null column is an undefined one: whatever uses it fails, and a failure over a null
    /// is a null. Names that are no columns have been found before any row is read.
    pub(crate) fn new() -> Self {
        Self {
            // Under `Strict`, `x or y` would fail.
            usual: engine(UndefinedBehavior::SemiStrict),
            // Only under `Strict` can't an undefined value be sliced (minijinja 3.1): it would be an empty list.
            sliced: engine(UndefinedBehavior::Strict),
        }
    }
}

fn engine<'s>(undefined: UndefinedBehavior) -> Environment<'s> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(undefined);
    engine.remove_global("debug");
    engine.add_test("none", is_null);
    engine.set_formatter(|out, state, value| {
        if is_null(value) {
            Ok(())
        } else if value.kind() == ValueKind::Bool {
            escape_formatter(out, state, &Value::from(if value.is_true() { "true" } else { "false" }))
        } else {
            escape_formatter(out, state, value)
        }
    });
    add_filters(&mut engine);
    engine
}

/// A filter's arguments, named ones among them.
type Arguments = Rest<ValueOrKwargs>;

/// Filters that would make something of a null.
fn add_filters(engine: &mut Environment<'_>) {
    let strict = [
        ("length", Value::from_function(filters::length)),
        ("count", Value::from_function(filters::length)),
        ("bool", Value::from_function(filters::bool)),
        ("list", Value::from_function(filters::list)),
        ("round", Value::from_function(filters::round)),
        ("tojson", Value::from_function(filters::tojson)),
        ("format", Value::from_function(filters::format)),
        ("replace", Value::from_function(filters::replace)),
    ];
    for (name, filter) in strict {
        engine.add_filter(name, move |state: &mut State, args: Arguments| -> Result<Value, Error> {
            let args = args.into_values();
            if args.iter().any(is_null) {
                return Err(Error::from(ErrorKind::UndefinedError));
            }
            filter.call(state, &args)
        });
    }
    let defaulted =
        [("int", Value::from_function(filters::int)), ("float", Value::from_function(filters::float))];
    for (name, filter) in defaulted {
        engine.add_filter(name, move |state: &mut State, args: Arguments| -> Result<Value, Error> {
            match args.into_values().as_slice() {
                [value] if is_null(value) => Err(Error::from(ErrorKind::UndefinedError)),
                [value, rest @ ..] if is_null(value) => {
                    let mut args = vec![Value::from(())];
                    args.extend_from_slice(rest);
                    filter.call(state, &args)
                }
                args => filter.call(state, args),
            }
        });
    }
    let without_nulls = [
        ("join", Value::from_function(filters::join)),
        ("min", Value::from_function(filters::min)),
        ("max", Value::from_function(filters::max)),
        ("sum", Value::from_function(filters::sum)),
    ];
    for (name, filter) in without_nulls {
        engine.add_filter(name, move |state: &mut State, args: Arguments| -> Result<Value, Error> {
            let mut args = args.into_values();
            if let Some(list) = args.first_mut() {
                if is_null(list) {
                    return Err(Error::from(ErrorKind::UndefinedError));
                }
                if list.kind() == ValueKind::Seq {
                    *list = list.try_iter()?.filter(|item| !is_null(item)).collect();
                }
            }
            filter.call(state, &args)
        });
    }
}

/// A checked expression as the mapping keeps it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The template's text.
    template: String,
    /// What stands between the braces, if that is all there is.
    lone: Option<String>,
    /// Whether it slices anything.
    sliced: bool,
    /// The names it uses, as written.
    pub(super) names: Vec<String>,
    /// The same with the parts of values that are named: `address.city`.
    pub(super) paths: Vec<String>,
}

impl Source {
    /// Checks an expression's syntax, filters and tests. Whether its names are columns is for the caller to say.
    ///
    /// # Errors
    /// Everything that is wrong with it, in words.
    pub(super) fn check(template: &str) -> Result<Self, Vec<String>> {
        let engines = Engines::new();
        let engine = &engines.usual;
        let Scan { lone, filters, tests, sliced, for_names, problems } = scan::scan(template);
        let part = |template, lone| Self { template, lone, sliced, names: Vec::new(), paths: Vec::new() };
        let named = if lone.is_some() { part(String::new(), Some(for_names)) } else { part(for_names, None) };
        let mut source = part(template.to_owned(), lone);
        let compiled = source.compile(&engines).and_then(|_| named.compile(&engines)).map_err(|error| {
            let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            vec![format!("the expression is not valid Jinja: {detail}")]
        })?;
        let globals: HashSet<&str> = engine.globals().map(|(name, _)| name).collect();
        let names = |nested| {
            let mut names: Vec<String> = compiled.names(nested).into_iter().collect();
            names.retain(|name| !globals.contains(name.as_str()));
            names.sort();
            names
        };
        (source.names, source.paths) = (names(false), names(true));
        let known = |expression: &str, name: &str| {
            engine
                .compile_expression(expression)
                .and_then(|test| test.eval(minijinja::context! { name }))
                .is_ok_and(|value| value.is_true())
        };
        let mut problems = problems;
        problems.extend(
            filters
                .iter()
                .filter(|name| !known("name is filter", name))
                .map(|name| format!("there is no filter `{name}`")),
        );
        problems.extend(
            tests
                .iter()
                .filter(|name| !known("name is test", name))
                .map(|name| format!("there is no test `{name}`")),
        );
        if problems.is_empty() { Ok(source) } else { Err(problems) }
    }

    /// Compiles it for a stretch of rows.
    ///
    /// # Errors
    /// Jinja's error; none after [`Source::check`].
    pub(super) fn compile<'e, 's>(&'s self, engines: &'e Engines<'s>) -> Result<Compiled<'e, 's>, Error> {
        let engine = if self.sliced { &engines.sliced } else { &engines.usual };
        Ok(match &self.lone {
            Some(expression) => Compiled::Value(engine.compile_expression(expression)?),
            None => Compiled::Text(engine.template_from_str(&self.template)?),
        })
    }
}

/// An expression ready to be evaluated.
pub(super) enum Compiled<'e, 's> {
    /// Gives a value.
    Value(minijinja::Expression<'e, 's>),
    /// Gives text.
    Text(minijinja::Template<'e, 's>),
}

impl Compiled<'_, '_> {
    fn names(&self, nested: bool) -> HashSet<String> {
        match self {
            Self::Value(expression) => expression.undeclared_variables(nested),
            Self::Text(template) => template.undeclared_variables(nested),
        }
    }

    /// Evaluates it over a row's values by name.
    ///
    /// # Errors
    /// [`Refusal`] if it can't be worked out, and no null is to blame.
    pub(super) fn evaluate(&self, row: usize, columns: &[(&str, &Cells)]) -> Result<Cell<'static>, Refusal> {
        let mut any_null = false;
        let mut context = Vec::with_capacity(columns.len());
        for (name, cells) in columns {
            context.push((*name, jinja_value(&cells.at(row), &mut any_null)?));
        }
        let context = Value::from_pairs(context);
        let result = match self {
            Self::Value(expression) => expression.eval(context),
            Self::Text(template) => template.render(context).map(Value::from),
        };
        match result {
            Ok(value) => cell_of(&value),
            Err(error) if any_null || error.kind() == ErrorKind::UndefinedError => Ok(Cell::Null),
            Err(_) => Err(FAILED),
        }
    }
}

/// A column's value as Jinja sees it.
fn jinja_value(cell: &Cell<'_>, any_null: &mut bool) -> Result<Value, Refusal> {
    Ok(match cell {
        Cell::Null => {
            *any_null = true;
            Value::UNDEFINED
        }
        Cell::Bool(value) => Value::from(*value),
        Cell::Int(value) => i64::try_from(*value).map_or_else(|_| Value::from(*value), Value::from),
        Cell::Float32(value) => Value::from(widened(*value)),
        Cell::Float(value) => Value::from(*value),
        Cell::Text(text) => Value::from(text.as_ref()),
        Cell::Decimal(..) | Cell::Number(_) => {
            let mut text = String::new();
            push_plain(&mut text, cell);
            decimal_value(&text)?
        }
        Cell::Json(text) => serde_json::from_str::<Value>(text).map_err(|_| FAILED)?,
        Cell::Bytes(_)
        | Cell::Uuid(_)
        | Cell::Date(_)
        | Cell::Time(..)
        | Cell::Instant(..)
        | Cell::Naive(..) => {
            let mut text = String::new();
            push_plain(&mut text, cell);
            Value::from(text)
        }
        Cell::List(items, rows) => {
            let values: Result<Vec<Value>, Refusal> =
                rows.clone().map(|row| jinja_value(&items.at(row), any_null)).collect();
            Value::from(values?)
        }
        Cell::Struct(fields, row) => {
            let mut pairs = Vec::with_capacity(fields.len());
            for field in *fields {
                pairs.push((field.name.clone(), jinja_value(&field.cells.at(*row), any_null)?));
            }
            Value::from_pairs(pairs)
        }
        Cell::Map(keys, values, rows) => {
            let mut pairs = Vec::with_capacity(rows.len());
            for row in rows.clone() {
                let mut key = String::new();
                push_plain(&mut key, &keys.at(row));
                pairs.push((key, jinja_value(&values.at(row), any_null)?));
            }
            Value::from_pairs(pairs)
        }
    })
}

/// The double that shows the same digits as a single does.
fn widened(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// A decimal as a whole number, or as a float of the same digits.
fn decimal_value(text: &str) -> Result<Value, Refusal> {
    let digits = Digits::parse(text).ok_or(TOO_LONG)?.text(0);
    if let Ok(whole) = digits.parse::<i128>() {
        return Ok(i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from));
    }
    let float: f64 = digits.parse().map_err(|_| TOO_LONG)?;
    if float.to_string() == digits { Ok(Value::from(float)) } else { Err(TOO_LONG) }
}

/// What an expression gave.
fn cell_of(value: &Value) -> Result<Cell<'static>, Refusal> {
    Ok(match value.kind() {
        ValueKind::None | ValueKind::Undefined => Cell::Null,
        ValueKind::Bool => Cell::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => {
            i128::try_from(value.clone()).map_or_else(|_| Cell::Number(value.to_string()), Cell::Int)
        }
        ValueKind::Number => Cell::Float(f64::try_from(value.clone()).map_err(|_| FAILED)?),
        ValueKind::String => Cell::Text(Cow::Owned(value.as_str().unwrap_or_default().to_owned())),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            let mut json = String::new();
            push_result(&mut json, value, 0)?;
            Cell::Json(json)
        }
        ValueKind::Bytes | ValueKind::Plain | ValueKind::Invalid => return Err(FAILED),
        // The list of kinds may grow.
        _ => return Err(FAILED),
    })
}

/// How deep lists and maps of a result may be nested.
const DEEPEST: usize = 100;

/// Appends a result as JSON.
fn push_result(out: &mut String, value: &Value, depth: usize) -> Result<(), Refusal> {
    let items = |value: &Value| value.try_iter().map_err(|_| FAILED);
    if depth > DEEPEST {
        return Err(FAILED);
    }
    if value.kind() == ValueKind::Map {
        out.push('{');
        for (index, name) in items(value)?.enumerate() {
            if index > 0 {
                out.push(',');
            }
            match name.as_str() {
                Some(name) => out.push_str(&key_of(name)),
                None => out.push_str(&key_of(&name.to_string())),
            }
            push_result(out, &value.get_item(&name).map_err(|_| FAILED)?, depth + 1)?;
        }
        out.push('}');
    } else if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        out.push('[');
        for (index, item) in items(value)?.enumerate() {
            if index > 0 {
                out.push(',');
            }
            push_result(out, &item, depth + 1)?;
        }
        out.push(']');
    } else if let Some(text) = value.as_str() {
        push_text(out, text);
    } else {
        push_json(out, &cell_of(value)?);
    }
    Ok(())
}
