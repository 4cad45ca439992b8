//! From operations to a request. The template of a body is compiled once into static bytes and slots; a row's JSON is
//! spliced in as it is and never parsed into values.

use std::collections::BTreeMap;

use bytes::Bytes;
use penstock_model::connector::template::RowSlot;
use penstock_model::json::Json;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::Outcome;
use penstock_model::settle::Repeat;
use serde_json::value::RawValue;

use super::answer::CompiledAnswer;
use super::auth::IN_BODY;
use super::transport::{HeaderMap, HeaderName, HeaderValue, Method, Request};

/// One operation of a connector for one object, ready to encode and decode.
#[derive(Debug)]
pub struct CompiledOperation {
    /// What it does. A read is an update, of which a row that is missing says so; a link is a creation, which may be there
    /// already.
    pub kind: OperationKind,
    /// Whether it may be sent again after a lost answer.
    pub repeat: Repeat,
    /// The header that takes an idempotency key.
    pub idempotency_key: Option<HeaderName>,
    /// Rows per request at most.
    pub rows: usize,
    /// Bytes of a body at most.
    pub bytes: usize,
    pub(super) method: Method,
    pub(super) url: Vec<UrlPart>,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Template>,
    pub(super) needs_id: bool,
    pub(super) needs_match_value: bool,
    pub(super) match_field: MatchField,
    pub(super) answer: CompiledAnswer,
}

/// A part of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UrlPart {
    /// Percent-encoded where need be.
    Static(String),
    MatchValue,
    Id,
    /// The ids of all rows, with commas between.
    Ids,
    OtherId,
}

/// A compiled body: `head`, then `row` for each row with commas between, then `tail`.
#[derive(Debug, Default)]
pub(super) struct Template {
    pub(super) head: Vec<u8>,
    pub(super) row: Vec<Segment>,
    pub(super) tail: Vec<u8>,
    /// Whether the marks of a form stand in it.
    pub(super) is_form: bool,
    /// Whether the mark of the credential stands in it.
    pub(super) has_secret: bool,
}

/// Stands in a body where the credential comes. No JSON text holds this byte, and no percent-encoded one.
pub(super) const SECRET: u8 = 1;
/// Stands before JSON that is to be percent-encoded.
pub(super) const FORM_STARTS: u8 = 2;
/// Stands behind it.
pub(super) const FORM_ENDS: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Static(Vec<u8>),
    Slot(RowSlot),
    /// The members of a slot without their braces; after a comma if any members stand before and there are some.
    Members {
        slot: RowSlot,
        comma: bool,
    },
}

/// How to get the match field's value out of a row's match object.
#[derive(Debug, Clone, Default)]
pub(super) struct MatchField {
    /// The name of the only match field, if there is exactly one.
    pub(super) name: Option<String>,
    /// `{"name":` as a writer without white space puts it.
    pub(super) prefix: String,
}

impl MatchField {
    pub(super) fn new(name: Option<String>) -> Self {
        let quoted = name.as_deref().and_then(|name| serde_json::to_string(name).ok());
        Self { prefix: quoted.map_or_else(String::new, |quoted| format!("{{{quoted}:")), name }
    }

    /// The JSON of the match field's value.
    pub(super) fn value<'o>(&self, operation: &'o Operation) -> Option<&'o str> {
        let name = self.name.as_deref()?;
        let text = operation.matched.get();
        if let Some(rest) = text.strip_prefix(&self.prefix)
            && let Some(value) = rest.strip_suffix('}')
        {
            return Some(value.trim_ascii());
        }
        let members: BTreeMap<&str, &'o RawValue> = serde_json::from_str(text).ok()?;
        members.get(name).map(|value| value.get())
    }
}

impl CompiledOperation {
    /// What becomes of an operation that can't be sent at all: the outcome, without sending.
    #[must_use]
    pub fn unsendable(&self, operation: &Operation) -> Option<Outcome> {
        if self.needs_id && operation.id.is_none() {
            return Some(Outcome::rejected("id_unknown", "the record's id at the destination is not known"));
        }
        if self.needs_match_value
            && self.match_field.value(operation).is_none_or(|value| matches!(value, "null" | "\"\""))
        {
            return Some(Outcome::rejected("match_empty", "the match field is empty"));
        }
        if self.size_of(operation).saturating_add(self.size_around()) > self.bytes {
            let message = format!("the row takes more than the {} bytes that a request may have", self.bytes);
            return Some(Outcome::rejected("too_large", message));
        }
        None
    }

    /// The bytes that an operation adds to a body, a little more rather than less.
    #[must_use]
    pub fn size_of(&self, operation: &Operation) -> usize {
        let Some(template) = &self.body else { return 0 };
        let sizes = template.row.iter().map(|segment| match segment {
            Segment::Static(bytes) => bytes.len(),
            Segment::Slot(slot) | Segment::Members { slot, comma: _ } => match slot {
                RowSlot::Record => operation.matched.get().len() + operation.fields.get().len() + 1,
                RowSlot::Fields => operation.fields.get().len() + 1,
                RowSlot::Match | RowSlot::MatchValue | RowSlot::MatchField => {
                    operation.matched.get().len() + 1
                }
                // Escaped, a byte takes six at most.
                RowSlot::Id => operation.id.as_ref().map_or(4, |id| id.len() * 6 + 2),
                RowSlot::Key | RowSlot::OtherId => operation.key.get().len(),
                RowSlot::Ordinal => 12,
                // Compiled into the static bytes.
                RowSlot::Names | RowSlot::Secret | RowSlot::Label => 0,
            },
        });
        // Percent-encoded, a byte takes three at most.
        (sizes.sum::<usize>() + 1) * if template.is_form { 3 } else { 1 }
    }

    /// The bytes of a body without rows.
    #[must_use]
    pub fn size_around(&self) -> usize {
        self.body.as_ref().map_or(0, |template| template.head.len() + template.tail.len())
    }
}

/// Makes the request for these rows: no more than `operation.rows`, none of them [unsendable]. Without the credential.
///
/// [unsendable]: CompiledOperation::unsendable
#[must_use]
pub fn encode(operation: &CompiledOperation, rows: &[&Operation]) -> Request {
    let mut body = Vec::new();
    if let Some(template) = &operation.body {
        let size: usize = rows.iter().map(|row| operation.size_of(row)).sum();
        body.reserve(size + operation.size_around());
        body.extend_from_slice(&template.head);
        for (n, row) in rows.iter().enumerate() {
            if n > 0 {
                body.push(b',');
            }
            for segment in &template.row {
                write_segment(&mut body, segment, operation, row);
            }
        }
        body.extend_from_slice(&template.tail);
        if template.is_form {
            body = form(&body);
        }
    }
    Request {
        method: operation.method.clone(),
        url: url(operation, rows),
        headers: operation.headers.clone(),
        body: Bytes::from(body),
        pieces: None,
        shown_body: None,
    }
}

/// A body with what stands between marks percent-encoded.
fn form(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() * 2);
    for (n, part) in body.split(|byte| matches!(*byte, FORM_STARTS | FORM_ENDS)).enumerate() {
        if n % 2 == 0 {
            out.extend_from_slice(part);
        } else {
            let mut encoded = String::with_capacity(part.len() * 2);
            percent_encode_bytes(&mut encoded, part);
            out.extend_from_slice(encoded.as_bytes());
        }
    }
    out
}

/// Puts the credential into a request: a header of its own, or the body where it is asked for.
pub(super) fn put_credential(
    request: &mut Request,
    operation: &CompiledOperation,
    credential: Option<(HeaderName, HeaderValue)>,
) {
    match credential {
        Some((name, value)) if name == IN_BODY => {
            put_secret(request, operation, value.to_str().unwrap_or_default());
        }
        Some((name, value)) => drop(request.headers.insert(name, value)),
        None => {}
    }
}

fn put_secret(request: &mut Request, operation: &CompiledOperation, secret: &str) {
    let Some(template) = operation.body.as_ref().filter(|template| template.has_secret) else { return };
    let filled = |secret: &str| {
        let mut text = Vec::new();
        if template.is_form {
            let mut encoded = String::new();
            percent_encode(&mut encoded, secret);
            text.extend_from_slice(encoded.as_bytes());
        } else {
            write_text(&mut text, secret);
        }
        let parts: Vec<&[u8]> = request.body.split(|byte| *byte == SECRET).collect();
        Bytes::from(parts.join(text.as_slice()))
    };
    let (body, shown) = (filled(secret), filled("…"));
    request.body = body;
    request.shown_body = Some(shown);
}

/// Puts an idempotency key into a request's headers.
pub(super) fn put_idempotency_key(request: &mut Request, name: &HeaderName, key: &str) {
    if let Ok(value) = HeaderValue::try_from(key) {
        request.headers.insert(name.clone(), value);
    }
}

fn write_segment(body: &mut Vec<u8>, segment: &Segment, operation: &CompiledOperation, row: &Operation) {
    match segment {
        Segment::Static(bytes) => body.extend_from_slice(bytes),
        Segment::Members { slot, comma } => {
            let start = body.len();
            if *comma {
                body.push(b',');
            }
            let before = body.len();
            write_members(body, *slot, row);
            if body.len() == before {
                body.truncate(start);
            }
        }
        Segment::Slot(slot) => match slot {
            RowSlot::Record => {
                body.push(b'{');
                write_members(body, RowSlot::Record, row);
                body.push(b'}');
            }
            RowSlot::Fields => body.extend_from_slice(row.fields.get().as_bytes()),
            RowSlot::Match => body.extend_from_slice(row.matched.get().as_bytes()),
            // What a link leads to stands in place of the row's own key.
            RowSlot::Key | RowSlot::OtherId => body.extend_from_slice(row.key.get().as_bytes()),
            RowSlot::MatchValue => {
                body.extend_from_slice(operation.match_field.value(row).unwrap_or("null").as_bytes());
            }
            // Compiled into the static bytes.
            RowSlot::MatchField | RowSlot::Names | RowSlot::Secret | RowSlot::Label => {}
            RowSlot::Id => match &row.id {
                Some(id) => write_text(body, id),
                None => body.extend_from_slice(b"null"),
            },
            RowSlot::Ordinal => body.extend_from_slice(format!("\"{}\"", row.n).as_bytes()),
        },
    }
}

fn write_members(body: &mut Vec<u8>, slot: RowSlot, row: &Operation) {
    match slot {
        RowSlot::Record => {
            let (matched, fields) = (members(&row.matched), members(&row.fields));
            body.extend_from_slice(matched.as_bytes());
            if !matched.is_empty() && !fields.is_empty() {
                body.push(b',');
            }
            body.extend_from_slice(fields.as_bytes());
        }
        RowSlot::Fields => body.extend_from_slice(members(&row.fields).as_bytes()),
        RowSlot::Match => body.extend_from_slice(members(&row.matched).as_bytes()),
        // Not objects; a connector file that spreads them is refused.
        RowSlot::MatchField
        | RowSlot::MatchValue
        | RowSlot::Id
        | RowSlot::Key
        | RowSlot::Ordinal
        | RowSlot::Names
        | RowSlot::Secret
        | RowSlot::OtherId
        | RowSlot::Label => {}
    }
}

/// What stands between an object's braces; nothing if it is no object.
pub(super) fn members(object: &Json) -> &str {
    object
        .get()
        .trim_ascii()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .map_or("", str::trim_ascii)
}

pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    // Text always serialises, and a Vec takes every write.
    if serde_json::to_writer(&mut *out, text).is_err() {
        out.extend_from_slice(b"\"\"");
    }
}

fn url(operation: &CompiledOperation, rows: &[&Operation]) -> String {
    let row = rows.first();
    let mut url = String::new();
    for part in &operation.url {
        match part {
            UrlPart::Static(text) => url.push_str(text),
            UrlPart::Id => {
                if let Some(id) = row.and_then(|row| row.id.as_deref()) {
                    percent_encode(&mut url, id);
                }
            }
            UrlPart::OtherId => {
                if let Some(row) = row {
                    percent_encode(&mut url, &plain(row.key.get()));
                }
            }
            UrlPart::Ids => {
                for (n, id) in rows.iter().filter_map(|row| row.id.as_deref()).enumerate() {
                    if n > 0 {
                        url.push(',');
                    }
                    percent_encode(&mut url, id);
                }
            }
            UrlPart::MatchValue => {
                if let Some(value) = row.and_then(|row| operation.match_field.value(row)) {
                    percent_encode(&mut url, &plain(value));
                }
            }
        }
    }
    url
}

/// A JSON scalar as plain text: a text without its quotes, anything else as it stands.
pub(super) fn plain(json: &str) -> std::borrow::Cow<'_, str> {
    if json.starts_with('"') {
        serde_json::from_str::<String>(json).map_or(json.into(), Into::into)
    } else {
        json.into()
    }
}

/// Percent-encodes everything but the unreserved characters (RFC 3986 section 2.3).
pub(crate) fn percent_encode(out: &mut String, text: &str) {
    percent_encode_bytes(out, text.as_bytes());
}

fn percent_encode_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes.iter().copied() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => {
                out.push('%');
                let digits = [other >> 4, other & 15].map(|digit| char::from_digit(u32::from(digit), 16));
                out.extend(digits.into_iter().flatten().map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
}
