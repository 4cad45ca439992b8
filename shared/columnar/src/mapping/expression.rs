//! Jinja expressions over a row's columns.
//!
//! A template that is one `{{ expression }}` gives a value of its own type; any other gives text. Where Jinja would
//! let a null become the word `None`, a null stays one:
//!
//! - filters for text and numbers give a null for a null (`{{ email | trim | lower }}`);
//! - `default` replaces a null, and `join` leaves nulls out;
//! - between other text a null is nothing, and text that comes out blank is a null;
//! - an expression that can't be worked out because a column it names is null gives a null.
//!
//! Decimals are floating point here, so that they can be compared and calculated with; one that a float can't hold to
//! its last digit is refused rather than rounded.

use std::borrow::Cow;

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, escape_formatter, filters};

use super::cells::{Cell, Cells};
use super::convert::{Digits, Refusal};
use super::scan::{self, Scan};
use super::value::push_plain;

pub(super) const FAILED: Refusal = Refusal { code: "expression_failed", what: "could not be worked out" };
const UNDEFINED: Refusal = Refusal { code: "expression_failed", what: "names a part that the value does not have" };
const TOO_LONG: Refusal =
    Refusal { code: "expression_failed", what: "uses a decimal with more digits than an expression can calculate with" };

/// Filters that give a null for a null.
fn null_in_null_out() -> [(&'static str, Value); 17] {
    [
        ("lower", Value::from_function(filters::lower)),
        ("upper", Value::from_function(filters::upper)),
        ("title", Value::from_function(filters::title)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("replace", Value::from_function(filters::replace)),
        ("trim", Value::from_function(filters::trim)),
        ("split", Value::from_function(filters::split)),
        ("lines", Value::from_function(filters::lines)),
        ("round", Value::from_function(filters::round)),
        ("abs", Value::from_function(filters::abs)),
        ("int", Value::from_function(filters::int)),
        ("float", Value::from_function(filters::float)),
        ("string", Value::from_function(filters::string)),
        ("length", Value::from_function(filters::length)),
        ("count", Value::from_function(filters::length)),
        ("first", Value::from_function(filters::first)),
        ("last", Value::from_function(filters::last)),
    ]
}

/// The Jinja environment: no files, no debugging, and nulls as said above.
pub(super) fn engine<'s>() -> Environment<'s> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.remove_global("debug");
    engine.set_formatter(|out, state, value| {
        if value.is_none() {
            Ok(())
        } else if value.kind() == ValueKind::Bool {
            escape_formatter(out, state, &Value::from(if value.is_true() { "true" } else { "false" }))
        } else {
            escape_formatter(out, state, value)
        }
    });
    for (name, filter) in null_in_null_out() {
        engine.add_filter(name, move |state: &mut State, args: Rest<Value>| -> Result<Value, Error> {
            // Whoever gives `int` or `float` a default wants it.
            let has_default = matches!(name, "int" | "float") && args.len() > 1;
            match args.first() {
                Some(value) if value.is_none() && !has_default => Ok(Value::from(())),
                Some(_) | None => filter.call(state, &args),
            }
        });
    }
    let format = Value::from_function(filters::format);
    engine.add_filter("format", move |state: &mut State, args: Rest<Value>| -> Result<Value, Error> {
        if args.iter().any(Value::is_none) { Ok(Value::from(())) } else { format.call(state, &args) }
    });
    let join = Value::from_function(filters::join);
    engine.add_filter("join", move |state: &mut State, args: Rest<Value>| -> Result<Value, Error> {
        let mut args = args.0;
        if let Some(list) = args.first_mut() {
            if list.is_none() {
                return Ok(Value::from(()));
            }
            if list.kind() == ValueKind::Seq {
                *list = list.try_iter()?.filter(|item| !item.is_none()).collect();
            }
        }
        join.call(state, &args)
    });
    for name in ["default", "d"] {
        let default = Value::from_function(filters::default);
        engine.add_filter(name, move |state: &mut State, args: Rest<Value>| -> Result<Value, Error> {
            let mut args = args.0;
            if let Some(value) = args.first_mut()
                && value.is_none()
            {
                *value = Value::UNDEFINED;
            }
            default.call(state, &args)
        });
    }
    engine
}

/// A checked expression as the mapping keeps it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The template's text.
    template: String,
    /// What stands between the braces, if that is all there is.
    lone: Option<String>,
    /// The names it uses, as written.
    pub(super) names: Vec<String>,
}

impl Source {
    /// Checks an expression's syntax, filters and tests. Whether its names are columns is for the caller to say.
    ///
    /// # Errors
    /// Everything that is wrong with it, in words.
    pub(super) fn check(template: &str) -> Result<Self, Vec<String>> {
        let engine = engine();
        let Scan { lone, filters, tests, problems } = scan::scan(template);
        let mut source = Self { template: template.to_owned(), lone, names: Vec::new() };
        let mut names: Vec<String> = match source.compile(&engine) {
            Ok(compiled) => compiled.names().into_iter().collect(),
            Err(error) => {
                let detail = error.detail().map(str::to_owned).unwrap_or_else(|| error.kind().to_string());
                return Err(vec![format!("the expression is not valid Jinja: {detail}")]);
            }
        };
        names.retain(|name| !engine.globals().any(|(global, _)| global == name));
        names.sort();
        let known = |expression: &str, name: &str| {
            engine
                .compile_expression(expression)
                .and_then(|test| test.eval(minijinja::context! { name }))
                .is_ok_and(|value| value.is_true())
        };
        let mut problems = problems;
        problems.extend(
            filters.iter().filter(|name| !known("name is filter", name)).map(|name| format!("there is no filter `{name}`")),
        );
        problems.extend(
            tests.iter().filter(|name| !known("name is test", name)).map(|name| format!("there is no test `{name}`")),
        );
        source.names = names;
        if problems.is_empty() { Ok(source) } else { Err(problems) }
    }

    /// Compiles it for a stretch of rows.
    ///
    /// # Errors
    /// Jinja's error; none after [`Source::check`].
    pub(super) fn compile<'e, 's>(&'s self, engine: &'e Environment<'s>) -> Result<Compiled<'e, 's>, Error> {
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
    fn names(&self) -> std::collections::HashSet<String> {
        match self {
            Self::Value(expression) => expression.undeclared_variables(false),
            Self::Text(template) => template.undeclared_variables(false),
        }
    }

    /// Evaluates it over a row's values by name.
    ///
    /// # Errors
    /// [`Refusal`] if it can't be worked out although no column it names is null.
    pub(super) fn evaluate(&self, row: usize, columns: &[(&str, &Cells)]) -> Result<Cell<'static>, Refusal> {
        let mut any_null = false;
        let mut context = Vec::with_capacity(columns.len());
        for (name, cells) in columns {
            let cell = cells.at(row);
            any_null |= matches!(cell, Cell::Null);
            context.push((*name, jinja_value(&cell)?));
        }
        let context = Value::from_pairs(context);
        let result = match self {
            Self::Value(expression) => expression.eval(context).map_err(|error| refusal(&error)).and_then(|value| cell_of(&value)),
            Self::Text(template) => template.render(context).map_err(|error| refusal(&error)).map(|text| {
                if text.trim().is_empty() { Cell::Null } else { Cell::Text(Cow::Owned(text)) }
            }),
        };
        match result {
            Err(_) if any_null => Ok(Cell::Null),
            result => result,
        }
    }
}

fn refusal(error: &Error) -> Refusal {
    if error.kind() == ErrorKind::UndefinedError { UNDEFINED } else { FAILED }
}

/// A column's value as Jinja sees it.
fn jinja_value(cell: &Cell<'_>) -> Result<Value, Refusal> {
    Ok(match cell {
        Cell::Null => Value::from(()),
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
        Cell::Bytes(_) | Cell::Uuid(_) | Cell::Date(_) | Cell::Time(..) | Cell::Instant(..) | Cell::Naive(..) => {
            let mut text = String::new();
            push_plain(&mut text, cell);
            Value::from(text)
        }
        Cell::List(items, rows) => {
            let items: Result<Vec<Value>, Refusal> = rows.clone().map(|row| jinja_value(&items.at(row))).collect();
            Value::from(items?)
        }
        Cell::Struct(fields, row) => {
            let mut pairs = Vec::with_capacity(fields.len());
            for field in *fields {
                pairs.push((field.name.clone(), jinja_value(&field.cells.at(*row))?));
            }
            Value::from_pairs(pairs)
        }
        Cell::Map(keys, values, rows) => {
            let mut pairs = Vec::with_capacity(rows.len());
            for row in rows.clone() {
                let mut key = String::new();
                push_plain(&mut key, &keys.at(row));
                pairs.push((key, jinja_value(&values.at(row))?));
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
        ValueKind::None => Cell::Null,
        ValueKind::Undefined => return Err(UNDEFINED),
        ValueKind::Bool => Cell::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => {
            i128::try_from(value.clone()).map_or_else(|_| Cell::Number(value.to_string()), Cell::Int)
        }
        ValueKind::Number => Cell::Float(f64::try_from(value.clone()).map_err(|_| FAILED)?),
        ValueKind::String => Cell::Text(Cow::Owned(value.as_str().unwrap_or_default().to_owned())),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            Cell::Json(serde_json::to_string(value).map_err(|_| FAILED)?)
        }
        ValueKind::Bytes | ValueKind::Plain | ValueKind::Invalid => return Err(FAILED),
        // The list of kinds may grow.
        _ => return Err(FAILED),
    })
}
