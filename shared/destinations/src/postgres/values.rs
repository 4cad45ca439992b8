//! One operation as columns and texts that PostgreSQL's input functions read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use penstock_model::json::Json;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::Outcome;
use serde_json::value::RawValue;

use super::table::{Column, Table};

/// PostgreSQL reads arrays of up to this many dimensions.
const DIMENSIONS: u32 = 6;

/// How a column's values are spelt as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelling {
    /// The type, or the type of the elements.
    pub(super) base: Base,
    /// Whether the column is an array.
    pub(super) array: bool,
}

/// Types whose text is not simply the value's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// `json` and `jsonb`: JSON text.
    Json,
    /// `bytea`: base64.
    Bytes,
    /// `timestamp` without a zone: kept in UTC.
    LocalTimestamp,
    /// Everything else.
    Plain,
}

/// An operation, its values ready to be sent.
#[derive(Clone)]
pub(super) struct Row<'a> {
    /// The ordinal.
    pub(super) n: u32,
    /// What to do.
    pub(super) kind: OperationKind,
    /// The match, by column name.
    pub(super) matched: Vec<(&'a Column, Cow<'a, str>)>,
    /// The fields without the match, by column name; `None` is NULL.
    pub(super) fields: Vec<(&'a Column, Option<Cow<'a, str>>)>,
}

impl Row<'_> {
    /// The field's text; `None` both if it is NULL and if it is absent.
    pub(super) fn field(&self, column: &Column) -> Option<&str> {
        let at = self.fields.binary_search_by(|(other, _)| other.name.cmp(&column.name)).ok()?;
        self.fields.get(at)?.1.as_deref()
    }

    /// The size of all its texts in bytes.
    pub(super) fn bytes(&self) -> usize {
        let matched: usize = self.matched.iter().map(|(_, text)| text.len()).sum();
        let fields: usize =
            self.fields.iter().filter_map(|(_, text)| text.as_ref()).map(|text| text.len()).sum();
        matched + fields
    }
}

/// Why an operation is not ready to be sent.
pub(super) enum Unready {
    /// The row is rejected.
    Rejected(Outcome),
    /// It names columns that the table lacks.
    UnknownColumns(BTreeSet<String>),
    /// It is not made of objects.
    Unreadable,
}

/// Reads an operation against the table's columns.
pub(super) fn read<'a>(operation: &'a Operation, table: &'a Table) -> Result<Row<'a>, Unready> {
    let object = |raw: &'a Json| -> Result<BTreeMap<String, &'a RawValue>, Unready> {
        serde_json::from_str(raw.get()).map_err(|_| Unready::Unreadable)
    };
    let match_values = object(&operation.matched)?;
    let mut field_values = match operation.kind {
        OperationKind::Delete => BTreeMap::new(),
        OperationKind::Upsert
        | OperationKind::Create
        | OperationKind::Update
        | OperationKind::Archive
        | OperationKind::Clear
        | OperationKind::Append => object(&operation.fields)?,
    };
    if let Some(if_empty) = operation.asks.as_ref().and_then(|asks| asks.if_empty.as_ref()) {
        field_values.extend(object(if_empty)?);
    }
    field_values.retain(|name, _| !match_values.contains_key(name));

    let unknown: BTreeSet<String> = match_values
        .keys()
        .chain(field_values.keys())
        .filter(|name| table.column(name).is_none())
        .cloned()
        .collect();
    if !unknown.is_empty() {
        return Err(Unready::UnknownColumns(unknown));
    }

    let mut matched = Vec::with_capacity(match_values.len());
    for (name, value) in match_values {
        let Some(column) = table.column(&name) else { continue };
        let Some(text) = text(value, column)? else {
            return Err(reject(column, "null_match", "a match field is null: no record can be found by it"));
        };
        matched.push((column, text));
    }
    if matched.is_empty() && operation.kind != OperationKind::Append {
        return Err(Unready::Rejected(Outcome::rejected("null_match", "the operation has no match fields")));
    }
    let mut fields = Vec::with_capacity(field_values.len());
    for (name, value) in field_values {
        let Some(column) = table.column(&name) else { continue };
        fields.push((column, text(value, column)?));
    }
    Ok(Row { n: operation.n, kind: operation.kind, matched, fields })
}

fn reject(column: &Column, code: &str, message: &str) -> Unready {
    Unready::Rejected(Outcome::Rejected {
        code: code.to_owned(),
        message: message.to_owned(),
        field: Some(column.name.clone()),
    })
}

/// A value's text for a column; `None` is NULL.
fn text<'a>(value: &'a RawValue, column: &Column) -> Result<Option<Cow<'a, str>>, Unready> {
    spell(value.get(), column.spelling).map_err(|unfit| {
        reject(column, "value_unfit", &format!("{} (the column's type is {})", unfit.words(), column.full))
    })
}

/// Why a JSON value can't be spelt for a type. Holds no part of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfit {
    Nested,
    BrokenText,
    BrokenBase64,
    TooDeep,
}

impl Unfit {
    const fn words(self) -> &'static str {
        match self {
            Self::Nested => "an object or a list needs a json, jsonb or array column",
            Self::BrokenText => "the text holds half of a surrogate pair",
            Self::BrokenBase64 => "the bytes are not base64",
            Self::TooDeep => "a list has more than six dimensions",
        }
    }
}

fn spell(json: &str, spelling: Spelling) -> Result<Option<Cow<'_, str>>, Unfit> {
    match json.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => {
            let text = unquote(json)?;
            // A list that travelled as JSON text; PostgreSQL's own spelling begins with a brace.
            if spelling.array
                && text.starts_with('[')
                && serde_json::from_str::<Vec<&RawValue>>(&text).is_ok()
            {
                return array(&text, spelling.base, DIMENSIONS).map(|literal| Some(literal.into()));
            }
            Ok(Some(text))
        }
        Some(b'[') if spelling.array => {
            array(json, spelling.base, DIMENSIONS).map(|literal| Some(literal.into()))
        }
        Some(b'[' | b'{') => match spelling {
            Spelling { base: Base::Json, array: false } => Ok(Some(json.into())),
            Spelling { .. } => Err(Unfit::Nested),
        },
        // Numbers and booleans are spelt alike.
        Some(_) | None => Ok(Some(json.into())),
    }
}

/// A JSON string's content; borrowed if nothing is escaped.
fn unquote(json: &str) -> Result<Cow<'_, str>, Unfit> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(plain.into()),
        Some(_) | None => serde_json::from_str::<String>(json).map(Cow::Owned).map_err(|_| Unfit::BrokenText),
    }
}

/// A JSON list as PostgreSQL's array literal.
fn array(json: &str, base: Base, dimensions: u32) -> Result<String, Unfit> {
    let Some(deeper) = dimensions.checked_sub(1) else { return Err(Unfit::TooDeep) };
    let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(|_| Unfit::BrokenText)?;
    let mut literal = String::with_capacity(json.len() + 2);
    literal.push('{');
    for (place, element) in elements.iter().enumerate() {
        if place > 0 {
            literal.push(',');
        }
        let element = element.get();
        match (element.as_bytes().first(), base) {
            (Some(b'n'), _) => literal.push_str("NULL"),
            (_, Base::Json) => quote(element, &mut literal),
            (Some(b'['), Base::Bytes | Base::LocalTimestamp | Base::Plain) => {
                literal.push_str(&array(element, base, deeper)?);
            }
            (Some(b'{'), Base::Bytes | Base::LocalTimestamp | Base::Plain) => return Err(Unfit::Nested),
            (Some(b'"'), Base::Bytes) => {
                let bytes = STANDARD.decode(unquote(element)?.as_bytes()).map_err(|_| Unfit::BrokenBase64)?;
                literal.push_str("\"\\\\x");
                for byte in bytes {
                    literal.push_str(&format!("{byte:02x}"));
                }
                literal.push('"');
            }
            (Some(b'"'), Base::LocalTimestamp | Base::Plain) => quote(&unquote(element)?, &mut literal),
            (Some(_) | None, Base::Bytes | Base::LocalTimestamp | Base::Plain) => literal.push_str(element),
        }
    }
    literal.push('}');
    Ok(literal)
}

fn quote(text: &str, literal: &mut String) {
    literal.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            literal.push('\\');
        }
        literal.push(character);
    }
    literal.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case<'a> = (&'a str, Spelling, Result<Option<&'a str>, Unfit>);

    #[test]
    fn values_are_spelt_for_their_column() {
        let plain = Spelling { base: Base::Plain, array: false };
        let json = Spelling { base: Base::Json, array: false };
        let list = Spelling { base: Base::Plain, array: true };
        let jsons = Spelling { base: Base::Json, array: true };
        let bytes = Spelling { base: Base::Bytes, array: true };
        let deep = format!("{}1{}", "[".repeat(7), "]".repeat(7));
        let cases: &[Case<'_>] = &[
            ("null", plain, Ok(None)),
            ("null", json, Ok(None)),
            ("9007199254740993", plain, Ok(Some("9007199254740993"))),
            ("123456789012345678.90", plain, Ok(Some("123456789012345678.90"))),
            ("true", plain, Ok(Some("true"))),
            (r#""plain""#, plain, Ok(Some("plain"))),
            (r#""a\"b\\c\u00e9""#, plain, Ok(Some("a\"b\\cé"))),
            (r#""\ud800""#, plain, Err(Unfit::BrokenText)),
            (r#"{"a":1}"#, plain, Err(Unfit::Nested)),
            ("[1]", plain, Err(Unfit::Nested)),
            (r#"{"a":1}"#, json, Ok(Some(r#"{"a":1}"#))),
            ("[1,2]", json, Ok(Some("[1,2]"))),
            (r#""{\"a\":1}""#, json, Ok(Some(r#"{"a":1}"#))),
            (r#"["a","b \"c\\", null, 7, true]"#, list, Ok(Some(r#"{"a","b \"c\\",NULL,7,true}"#))),
            ("[[1,2],[3,4]]", list, Ok(Some("{{1,2},{3,4}}"))),
            ("[]", list, Ok(Some("{}"))),
            (r#""[\"a\"]""#, list, Ok(Some(r#"{"a"}"#))),
            (r#""{a,b}""#, list, Ok(Some("{a,b}"))),
            (r#"[{"a":1}]"#, list, Err(Unfit::Nested)),
            (r#"[{"a":1},"b",[2]]"#, jsons, Ok(Some(r#"{"{\"a\":1}","\"b\"","[2]"}"#))),
            (r#"["AP8="]"#, bytes, Ok(Some(r#"{"\\x00ff"}"#))),
            (r#"["A"]"#, bytes, Err(Unfit::BrokenBase64)),
            (&deep, list, Err(Unfit::TooDeep)),
        ];
        for (value, spelling, expected) in cases {
            let seen = spell(value, *spelling);
            assert_eq!(
                seen.as_ref().map(Option::as_deref),
                expected.as_ref().map(|text| *text),
                "{value} {spelling:?}"
            );
        }
    }
}
