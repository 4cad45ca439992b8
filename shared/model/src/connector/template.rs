//! The placeholders of connector files: in texts (`{object}`) and in bodies (`$record`).

use serde_json::Value;

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextPart {
    /// As it stands.
    Literal(String),
    /// The name between braces.
    Placeholder(String),
}

/// Takes a text apart.
///
/// # Errors
/// A brace without its partner, in words.
pub fn parse_text(text: &str) -> Result<Vec<TextPart>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '{' | '}' if rest.peek() == Some(&c) => {
                rest.next();
                literal.push(c);
            }
            '{' => {
                let mut name = String::new();
                loop {
                    match rest.next() {
                        Some('}') => break,
                        Some('{') | None => {
                            return Err("a brace is opened and not closed; a literal one is doubled".into());
                        }
                        Some(c) => name.push(c),
                    }
                }
                if !literal.is_empty() {
                    parts.push(TextPart::Literal(std::mem::take(&mut literal)));
                }
                parts.push(TextPart::Placeholder(name));
            }
            '}' => return Err("a brace is closed and was not opened; a literal one is doubled".into()),
            c => literal.push(c),
        }
    }
    if !literal.is_empty() {
        parts.push(TextPart::Literal(literal));
    }
    Ok(parts)
}

/// What a placeholder in a text stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextSlot<'a> {
    /// The object's name.
    Object,
    /// The name of the only match field.
    MatchField,
    /// The value of the only match field; only where a request holds one row.
    MatchValue,
    /// The record's id at the destination; only where a request holds one row.
    Id,
    /// The ids of all records of the request, with commas between; in paths only.
    Ids,
    /// The object of the record that is linked to; only in links.
    Other,
    /// The id of the record that is linked to; only in links of one row per request.
    OtherId,
    /// The setting of this name.
    Setting(&'a str),
}

impl<'a> TextSlot<'a> {
    /// Reads a placeholder's name.
    #[must_use]
    pub fn named(name: &'a str) -> Self {
        match name {
            "object" => Self::Object,
            "match.field" => Self::MatchField,
            "match.value" => Self::MatchValue,
            "id" => Self::Id,
            "ids" => Self::Ids,
            "other" => Self::Other,
            "other.id" => Self::OtherId,
            setting => Self::Setting(setting),
        }
    }
}

/// A part of a row, where a body's text names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowSlot {
    /// `$record`: match fields and fields in one object.
    Record,
    /// `$fields`: the fields without the match fields.
    Fields,
    /// `$match`: the match fields.
    Match,
    /// `$match.field`: the name of the only match field.
    MatchField,
    /// `$match.value`: the value of the only match field.
    MatchValue,
    /// `$id`: the record's id at the destination.
    Id,
    /// `$key`: the unload's primary key.
    Key,
    /// `$ordinal`: a text that is unique within the request.
    Ordinal,
    /// `$secret`: the credential.
    Secret,
    /// `$names`: the names of the fields that a read asks for, its match fields among them.
    Names,
    /// `$other.id`: the id of the record that is linked to.
    OtherId,
    /// `$label`: the kind of link.
    Label,
}

impl RowSlot {
    /// Whether it is the same for all rows of a request.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        match self {
            Self::MatchField | Self::Names | Self::Secret | Self::Label => true,
            Self::Record
            | Self::Fields
            | Self::Match
            | Self::MatchValue
            | Self::Id
            | Self::Key
            | Self::Ordinal
            | Self::OtherId => false,
        }
    }
}

/// What a text of a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyText<'a> {
    /// A part of the row.
    Slot(RowSlot),
    /// A text that may hold placeholders in braces.
    Text(&'a str),
}

/// The key of an object that becomes a list with one element per row.
pub const EACH: &str = "$each";
/// The key of a member whose value's members are put among the others.
pub const SPREAD: &str = "...";

/// Reads a text of a body.
///
/// # Errors
/// A name after a dollar sign that means nothing, in words.
pub fn body_text(text: &str) -> Result<BodyText<'_>, String> {
    Ok(match text {
        "$record" => BodyText::Slot(RowSlot::Record),
        "$fields" => BodyText::Slot(RowSlot::Fields),
        "$match" => BodyText::Slot(RowSlot::Match),
        "$match.field" => BodyText::Slot(RowSlot::MatchField),
        "$match.value" => BodyText::Slot(RowSlot::MatchValue),
        "$id" => BodyText::Slot(RowSlot::Id),
        "$key" => BodyText::Slot(RowSlot::Key),
        "$ordinal" => BodyText::Slot(RowSlot::Ordinal),
        "$secret" => BodyText::Slot(RowSlot::Secret),
        "$names" => BodyText::Slot(RowSlot::Names),
        "$other.id" => BodyText::Slot(RowSlot::OtherId),
        "$label" => BodyText::Slot(RowSlot::Label),
        other => match other.strip_prefix('$') {
            Some(literal) if literal.starts_with('$') => BodyText::Text(literal),
            Some(_) => {
                return Err(format!(
                    "{other} is not a part of a row; there are $record, $fields, $match, $match.field, $match.value, $id, $key, \
                     $ordinal, $secret, $names, $other.id and $label, and a literal dollar sign at the start is doubled"
                ));
            }
            None => BodyText::Text(other),
        },
    })
}

/// Whether a path holds the ids of all records of its request.
pub(super) fn holds_ids(path: &str) -> bool {
    parse_text(path).is_ok_and(|parts| {
        let is_ids = |part: &TextPart| {
            matches!(part, TextPart::Placeholder(name) if TextSlot::named(name) == TextSlot::Ids)
        };
        parts.iter().any(is_ids)
    })
}

/// Whether a slot stands in a body.
#[must_use]
pub fn holds(body: &Value, slot: RowSlot) -> bool {
    match body {
        Value::String(text) => body_text(text) == Ok(BodyText::Slot(slot)),
        Value::Array(items) => items.iter().any(|item| holds(item, slot)),
        Value::Object(members) => members.values().any(|member| holds(member, slot)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a path or a body holds the record's id.
pub(super) fn uses_id(path: &str, body: Option<&Value>) -> bool {
    let is_id = |name: &str| matches!(TextSlot::named(name), TextSlot::Id | TextSlot::Ids);
    let in_path = parse_text(path).is_ok_and(|parts| {
        parts.iter().any(|part| matches!(part, TextPart::Placeholder(name) if is_id(name)))
    });
    in_path || body.is_some_and(|body| holds(body, RowSlot::Id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_apart() {
        let literal = |text: &str| TextPart::Literal(text.into());
        let placeholder = |text: &str| TextPart::Placeholder(text.into());
        for (text, parts) in [
            ("", vec![]),
            ("/a", vec![literal("/a")]),
            (
                "/{object}/{version}",
                vec![literal("/"), placeholder("object"), literal("/"), placeholder("version")],
            ),
            ("{{a}}", vec![literal("{a}")]),
            ("{{{a}}}", vec![literal("{"), placeholder("a"), literal("}")]),
        ] {
            assert_eq!(parse_text(text), Ok(parts), "{text}");
        }
        for text in ["{", "}", "{a", "a}", "{a{b}"] {
            assert!(parse_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn body_texts_are_slots_or_texts() {
        assert_eq!(body_text("$id"), Ok(BodyText::Slot(RowSlot::Id)));
        assert_eq!(body_text("$$id"), Ok(BodyText::Text("$id")));
        assert_eq!(body_text("id"), Ok(BodyText::Text("id")));
        assert!(body_text("$ids").is_err());
    }
}
