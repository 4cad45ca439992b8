//! A body's template read backwards: the rows that a body holds, or in what it does not fit.

use std::collections::BTreeMap;

use penstock_model::connector::template::{BodyText, EACH, RowSlot, SPREAD, body_text};
use serde_json::{Value, value::RawValue};

use super::{
    members::Members,
    text::{Capture, Captures, TextPattern},
};

/// A body's template.
#[derive(Debug)]
pub(super) enum Pattern {
    /// Null, a boolean or a number.
    Same(Value),
    Text(TextPattern),
    Slot(RowSlot),
    List(Vec<Pattern>),
    Each(Box<Pattern>),
    Object {
        members: BTreeMap<String, Pattern>,
        spread: Option<RowSlot>,
    },
}

/// What a request says of one row.
#[derive(Clone, Default)]
pub(super) struct Row<'a> {
    pub(super) object: Option<String>,
    pub(super) match_field: Option<String>,
    /// As plain text, and as JSON where it was sent as such.
    pub(super) match_value: Option<(String, Option<String>)>,
    pub(super) id: Option<String>,
    pub(super) ordinal: Option<String>,
    /// The credential.
    pub(super) secret: Option<String>,
    /// Of a read: the fields that are asked for.
    pub(super) names: Option<Vec<String>>,
    /// Of a link: the object and the id of the record that is linked to.
    pub(super) other: Option<String>,
    pub(super) other_id: Option<String>,
    /// The kind of link, as JSON.
    pub(super) label: Option<String>,
    pub(super) matched: Option<Members<'a>>,
    pub(super) fields: Option<Members<'a>>,
    pub(super) record: Option<Members<'a>>,
    /// The match field stands in the request with a value that identifies nothing.
    pub(super) empty_match: bool,
}

/// In what a body does not fit its template: where, and why. Names no value.
pub(super) struct Misfit {
    pub(super) at: String,
    pub(super) why: &'static str,
}

impl Pattern {
    /// Compiles a template.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn compile(template: &Value, settings: &BTreeMap<String, String>) -> Result<Self, String> {
        Ok(match template {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Same(template.clone()),
            Value::String(text) => match body_text(text)? {
                BodyText::Slot(slot) => Self::Slot(slot),
                BodyText::Text(text) => Self::Text(TextPattern::plain(text, settings)?),
            },
            Value::Array(items) => {
                Self::List(items.iter().map(|item| Self::compile(item, settings)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                if let Some(element) = members.get(EACH) {
                    return Ok(Self::Each(Box::new(Self::compile(element, settings)?)));
                }
                let mut compiled = BTreeMap::new();
                let mut spread = None;
                for (name, member) in members {
                    if name == SPREAD {
                        let slot = member.as_str().map(body_text).transpose()?;
                        let Some(BodyText::Slot(slot)) = slot else {
                            return Err("only parts of a row have members to put here".to_owned());
                        };
                        spread = Some(slot);
                    } else {
                        compiled.insert(name.clone(), Self::compile(member, settings)?);
                    }
                }
                Self::Object { members: compiled, spread }
            }
        })
    }

    /// How much of it is the same in every body: of two that a body fits, the one with more is meant.
    pub(super) fn fixed(&self) -> usize {
        match self {
            Self::Same(_) | Self::Text(_) => 1,
            Self::Slot(_) => 0,
            Self::List(items) => items.iter().map(Self::fixed).sum(),
            Self::Each(element) => element.fixed(),
            Self::Object { members, spread: _ } => members.values().map(|member| member.fixed() + 1).sum(),
        }
    }

    /// Whether a slot stands anywhere in it.
    pub(super) fn has(&self, slot: RowSlot) -> bool {
        match self {
            Self::Same(_) | Self::Text(_) => false,
            Self::Slot(own) => *own == slot,
            Self::List(items) => items.iter().any(|item| item.has(slot)),
            Self::Each(element) => element.has(slot),
            Self::Object { members, spread } => {
                *spread == Some(slot) || members.values().any(|member| member.has(slot))
            }
        }
    }

    /// The JSON that a form's fields make: each as its member of the template has it. Nothing if it is no form, or names a field twice.
    pub(super) fn of_form(&self, body: &[u8]) -> Option<String> {
        let Self::Object { members, spread: None } = self else { return None };
        let mut json = serde_json::Map::new();
        for field in std::str::from_utf8(body).ok()?.split('&') {
            let (name, value) = field.split_once('=')?;
            let (name, value) = (decoded(name)?, decoded(value)?);
            let is_text = match members.get(&name) {
                Some(Self::Text(_) | Self::Slot(RowSlot::MatchField | RowSlot::Secret)) => true,
                Some(Self::Same(_) | Self::Slot(_) | Self::List(_) | Self::Each(_) | Self::Object { .. })
                | None => false,
            };
            let value = if is_text { Value::String(value) } else { serde_json::from_str(&value).ok()? };
            if json.insert(name, value).is_some() {
                return None;
            }
        }
        Some(Value::Object(json).to_string())
    }

    /// The rows of a body; what stands outside of the rows is said of each. `shared` is what the path has told.
    ///
    /// # Errors
    /// The body does not fit.
    pub(super) fn rows<'a>(&self, body: &'a RawValue, shared: Row<'a>) -> Result<Vec<Row<'a>>, Misfit> {
        let mut reading = Reading { shared, rows: None };
        reading.value(self, body, "", None)?;
        let Reading { shared, rows } = reading;
        let Some(rows) = rows else { return Ok(vec![shared]) };
        let with_shared = |mut row: Row<'a>| {
            row.names = row.names.or_else(|| shared.names.clone());
            row.secret = row.secret.or_else(|| shared.secret.clone());
            for (own, shared) in [
                (&mut row.object, &shared.object),
                (&mut row.match_field, &shared.match_field),
                (&mut row.other, &shared.other),
            ] {
                match (&own, shared) {
                    (Some(one), Some(other)) if *one != *other => {
                        return Err(Misfit {
                            at: String::new(),
                            why: "the row says otherwise than its request",
                        });
                    }
                    (None, Some(shared)) => *own = Some(shared.clone()),
                    (Some(_), _) | (None, None) => {}
                }
            }
            Ok(row)
        };
        rows.into_iter().map(with_shared).collect()
    }
}

struct Reading<'a> {
    shared: Row<'a>,
    rows: Option<Vec<Row<'a>>>,
}

impl<'a> Reading<'a> {
    /// Reads one value. Within `$each`, `row` is the element's row.
    fn value(
        &mut self,
        pattern: &Pattern,
        raw: &'a RawValue,
        at: &str,
        row: Option<&mut Row<'a>>,
    ) -> Result<(), Misfit> {
        let misfit = |why| Err(Misfit { at: at.to_owned(), why });
        match pattern {
            Pattern::Same(value) => match serde_json::from_str::<Value>(raw.get()) {
                Ok(given) if given == *value => Ok(()),
                Ok(_) | Err(_) => misfit("this is always the same, and is another here"),
            },
            Pattern::Text(text) => {
                let Ok(given) = serde_json::from_str::<String>(raw.get()) else {
                    return misfit("this must be a text");
                };
                let Some(captures) = text.read(&given) else { return misfit("this text is another here") };
                row.unwrap_or(&mut self.shared).learn(captures, at)
            }
            Pattern::Slot(slot) => row.unwrap_or(&mut self.shared).slot(*slot, raw, at),
            Pattern::List(items) => {
                let Ok(given) = serde_json::from_str::<Vec<&'a RawValue>>(raw.get()) else {
                    return misfit("this must be a list");
                };
                if given.len() != items.len() {
                    return misfit("this list has another length here");
                }
                let mut row = row;
                for (n, (item, given)) in items.iter().zip(given).enumerate() {
                    self.value(item, given, &format!("{at}/{n}"), row.as_deref_mut())?;
                }
                Ok(())
            }
            Pattern::Each(element) => {
                let Ok(given) = serde_json::from_str::<Vec<&'a RawValue>>(raw.get()) else {
                    return misfit("this must be a list with one element for each row");
                };
                let mut rows = Vec::with_capacity(given.len());
                for (n, given) in given.into_iter().enumerate() {
                    let mut row = Row::default();
                    self.value(element, given, &format!("{at}/{n}"), Some(&mut row))?;
                    rows.push(row);
                }
                self.rows = Some(rows);
                Ok(())
            }
            Pattern::Object { members, spread } => {
                let Some(Members(mut given)) = Members::read(raw) else {
                    return misfit("this must be an object in which no member stands twice");
                };
                let mut row = row;
                for (name, member) in members {
                    let Some(given) = given.remove(name) else { return misfit("a member is missing") };
                    self.value(member, given, &format!("{at}/{name}"), row.as_deref_mut())?;
                }
                match spread {
                    Some(slot) => row.unwrap_or(&mut self.shared).members(*slot, Members(given), at),
                    None if given.is_empty() => Ok(()),
                    None => misfit("there is a member that the connector file does not name"),
                }
            }
        }
    }
}

impl<'a> Row<'a> {
    /// Takes what a text has told.
    pub(super) fn learn(&mut self, captures: Captures, at: &str) -> Result<(), Misfit> {
        for (capture, text) in captures {
            let place = match capture {
                Capture::Object => &mut self.object,
                Capture::MatchField => &mut self.match_field,
                Capture::Id => &mut self.id,
                Capture::Other => &mut self.other,
                Capture::OtherId => &mut self.other_id,
                Capture::MatchValue => {
                    let known = self.match_value.get_or_insert_with(|| (text.clone(), None));
                    if known.0 != text {
                        return Err(twice(at));
                    }
                    continue;
                }
            };
            set(place, text, at)?;
        }
        Ok(())
    }

    fn slot(&mut self, slot: RowSlot, raw: &'a RawValue, at: &str) -> Result<(), Misfit> {
        let text = || {
            serde_json::from_str::<String>(raw.get())
                .map_err(|_| Misfit { at: at.to_owned(), why: "this must be a text" })
        };
        match slot {
            RowSlot::Record | RowSlot::Fields | RowSlot::Match => {
                let members = Members::read(raw).ok_or_else(|| Misfit {
                    at: at.to_owned(),
                    why: "this must be an object in which no member stands twice",
                })?;
                self.members(slot, members, at)
            }
            RowSlot::MatchField => set(&mut self.match_field, text()?, at),
            RowSlot::Id => set(&mut self.id, text()?, at),
            RowSlot::Ordinal => set(&mut self.ordinal, text()?, at),
            RowSlot::OtherId => set(&mut self.other_id, text()?, at),
            RowSlot::Secret => set(&mut self.secret, text()?, at),
            RowSlot::Label => set(&mut self.label, raw.get().to_owned(), at),
            RowSlot::Names => {
                let names = serde_json::from_str(raw.get())
                    .map_err(|_| Misfit { at: at.to_owned(), why: "this must be a list of names" })?;
                self.names = Some(names);
                Ok(())
            }
            RowSlot::MatchValue => {
                let json = raw.get().to_owned();
                let Some(value) = super::members::plain(&json) else {
                    self.empty_match = true;
                    return Ok(());
                };
                match &self.match_value {
                    Some((known, _)) if *known != value => Err(twice(at)),
                    Some(_) | None => {
                        self.match_value = Some((value, Some(json)));
                        Ok(())
                    }
                }
            }
            RowSlot::Key => match Members::read(raw) {
                Some(_) => Ok(()),
                None => Err(Misfit { at: at.to_owned(), why: "this must be an object" }),
            },
        }
    }

    fn members(&mut self, slot: RowSlot, members: Members<'a>, at: &str) -> Result<(), Misfit> {
        let place = match slot {
            RowSlot::Record => &mut self.record,
            RowSlot::Fields => &mut self.fields,
            RowSlot::Match => &mut self.matched,
            RowSlot::MatchField
            | RowSlot::MatchValue
            | RowSlot::Id
            | RowSlot::Key
            | RowSlot::Ordinal
            | RowSlot::Names
            | RowSlot::Secret
            | RowSlot::OtherId
            | RowSlot::Label => {
                return Err(Misfit { at: at.to_owned(), why: "this has no members" });
            }
        };
        *place = Some(members);
        Ok(())
    }
}

fn set(place: &mut Option<String>, text: String, at: &str) -> Result<(), Misfit> {
    if place.as_ref().is_some_and(|known| *known != text) {
        return Err(twice(at));
    }
    *place = Some(text);
    Ok(())
}

fn twice(at: &str) -> Misfit {
    Misfit { at: at.to_owned(), why: "this says otherwise than another part of the request" }
}

/// A name or value of a form (URL Standard, section 5.1).
fn decoded(text: &str) -> Option<String> {
    super::text::percent_decode(&text.replace('+', " "))
}
