//! From the body of a connector file to static bytes and slots.

use penstock_model::connector::Encoding;
use penstock_model::connector::template::{BodyText, EACH, RowSlot, SPREAD, body_text, holds};
use serde_json::Value;

use super::encode::{FORM_ENDS, FORM_STARTS, SECRET, Segment, Template, percent_encode, write_text};
use super::texts::Texts;

/// Compiles a body's template.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn template(body: &Value, encoding: Encoding, texts: &mut Texts<'_>) -> Result<Template, String> {
    let mut writer = Writer { done: Vec::new(), open: Vec::new(), each: None };
    match encoding {
        Encoding::Json => writer.value(body, texts)?,
        Encoding::Form => writer.form(body, texts)?,
    }
    writer.flush();
    let (is_form, has_secret) = (encoding == Encoding::Form, holds(body, RowSlot::Secret));
    Ok(match writer.each {
        None => Template { head: Vec::new(), row: writer.done, tail: Vec::new(), is_form, has_secret },
        // Validation lets no slot stand outside of the element: what is before and after it is static.
        Some((from, to)) => {
            let part = |range: &[Segment]| -> Vec<u8> {
                range
                    .iter()
                    .flat_map(|segment| match segment {
                        Segment::Static(bytes) => bytes.clone(),
                        Segment::Slot(_) | Segment::Members { .. } => Vec::new(),
                    })
                    .collect()
            };
            Template {
                head: part(writer.done.get(..from).unwrap_or_default()),
                row: writer.done.get(from..to).unwrap_or_default().to_vec(),
                tail: part(writer.done.get(to..).unwrap_or_default()),
                is_form,
                has_secret,
            }
        }
    })
}

/// Writes a body's JSON into segments.
struct Writer {
    done: Vec<Segment>,
    open: Vec<u8>,
    /// The segments of the element that is repeated.
    each: Option<(usize, usize)>,
}

impl Writer {
    fn flush(&mut self) {
        if !self.open.is_empty() {
            self.done.push(Segment::Static(std::mem::take(&mut self.open)));
        }
    }

    fn push(&mut self, segment: Segment) {
        self.flush();
        self.done.push(segment);
    }

    /// The fields of a form: texts as they are, anything else as JSON between marks.
    fn form(&mut self, body: &Value, texts: &mut Texts<'_>) -> Result<(), String> {
        let members = body.as_object().into_iter().flatten();
        for (n, (name, member)) in members.enumerate() {
            let mut plain = String::from(if n > 0 { "&" } else { "" });
            percent_encode(&mut plain, name);
            plain.push('=');
            let text = member.as_str().map(body_text).transpose()?;
            match text {
                Some(BodyText::Text(text)) => percent_encode(&mut plain, &texts.text(text)?),
                Some(BodyText::Slot(RowSlot::MatchField)) => {
                    percent_encode(&mut plain, &texts.the_match_field());
                }
                Some(BodyText::Slot(RowSlot::Secret)) => plain.push(char::from(SECRET)),
                Some(BodyText::Slot(_)) | None => {
                    self.open.extend_from_slice(plain.as_bytes());
                    self.open.push(FORM_STARTS);
                    self.value(member, texts)?;
                    self.open.push(FORM_ENDS);
                    continue;
                }
            }
            self.open.extend_from_slice(plain.as_bytes());
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, texts: &mut Texts<'_>) -> Result<(), String> {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                self.open.extend_from_slice(value.to_string().as_bytes());
            }
            Value::String(text) => match body_text(text)? {
                BodyText::Text(text) => write_text(&mut self.open, &texts.text(text)?),
                BodyText::Slot(RowSlot::MatchField) => write_text(&mut self.open, &texts.the_match_field()),
                BodyText::Slot(RowSlot::Secret) => self.open.push(SECRET),
                BodyText::Slot(RowSlot::Names) => {
                    let names = Value::from(texts.names.clone().unwrap_or_default());
                    self.open.extend_from_slice(names.to_string().as_bytes());
                }
                BodyText::Slot(RowSlot::Label) => {
                    let label = texts.label.cloned().unwrap_or_default();
                    self.open.extend_from_slice(label.to_string().as_bytes());
                }
                BodyText::Slot(slot) => {
                    texts.wants_match_field |= slot == RowSlot::MatchValue;
                    self.push(Segment::Slot(slot));
                }
            },
            Value::Array(items) => {
                self.open.push(b'[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        self.open.push(b',');
                    }
                    self.value(item, texts)?;
                }
                self.open.push(b']');
            }
            Value::Object(members) => match members.get(EACH) {
                Some(element) => {
                    self.open.push(b'[');
                    self.flush();
                    let from = self.done.len();
                    self.value(element, texts)?;
                    self.flush();
                    self.each = Some((from, self.done.len()));
                    self.open.push(b']');
                }
                None => {
                    self.open.push(b'{');
                    let mut first = true;
                    for (name, member) in members.iter().filter(|(name, _)| *name != SPREAD) {
                        if !std::mem::take(&mut first) {
                            self.open.push(b',');
                        }
                        write_text(&mut self.open, name);
                        self.open.push(b':');
                        self.value(member, texts)?;
                    }
                    if let Some(Value::String(text)) = members.get(SPREAD)
                        && let BodyText::Slot(slot) = body_text(text)?
                    {
                        self.push(Segment::Members { slot, comma: !first });
                    }
                    self.open.push(b'}');
                }
            },
        }
        Ok(())
    }
}
