//! The texts of a connector file, filled for one sync.

use std::collections::BTreeMap;

use penstock_model::connector::Pointer;
use penstock_model::connector::template::{TextPart, TextSlot, parse_text};
use penstock_model::definition::pointer_part;
use serde_json::Value;

/// What the texts of a connector file are filled with.
#[derive(Clone)]
pub(super) struct Texts<'a> {
    pub(super) settings: BTreeMap<String, String>,
    pub(super) object: &'a str,
    /// The only match field, if there is exactly one.
    pub(super) match_field: Option<String>,
    /// Whether any text needs it.
    pub(super) wants_match_field: bool,
    /// Of a link: the object of the record that is linked to.
    pub(super) other: Option<&'a str>,
    /// Of a read: the fields that are asked for.
    pub(super) names: Option<Vec<String>>,
    /// Of a labelled link: its kind.
    pub(super) label: Option<&'a Value>,
}

/// A part of a text, filled as far as it is the same for all rows.
pub(super) enum Filled {
    Literal(String),
    Value(String),
    MatchValue,
    Id,
    Ids,
    OtherId,
}

impl Texts<'_> {
    pub(super) fn parts(&mut self, text: &str) -> Result<Vec<Filled>, String> {
        let mut filled = Vec::new();
        for part in parse_text(text)? {
            filled.push(match part {
                TextPart::Literal(text) => Filled::Literal(text),
                TextPart::Placeholder(name) => match TextSlot::named(&name) {
                    TextSlot::Object => Filled::Value(self.object.to_owned()),
                    TextSlot::MatchField => Filled::Value(self.the_match_field()),
                    TextSlot::MatchValue => {
                        self.wants_match_field = true;
                        Filled::MatchValue
                    }
                    TextSlot::Id => Filled::Id,
                    TextSlot::Ids => Filled::Ids,
                    TextSlot::Other => Filled::Value(self.other.unwrap_or_default().to_owned()),
                    TextSlot::OtherId => Filled::OtherId,
                    TextSlot::Setting(name) => {
                        Filled::Value(self.settings.get(name).cloned().unwrap_or_default())
                    }
                },
            });
        }
        Ok(filled)
    }

    pub(super) fn the_match_field(&mut self) -> String {
        self.wants_match_field = true;
        self.match_field.clone().unwrap_or_default()
    }

    pub(super) fn text(&mut self, text: &str) -> Result<String, String> {
        self.fill(text, |out, value| out.push_str(value))
    }

    pub(super) fn pointer(&mut self, Pointer(text): &Pointer) -> Result<String, String> {
        self.fill(text, |out, value| out.push_str(&pointer_part(value)))
    }

    fn fill(&mut self, text: &str, put: impl Fn(&mut String, &str)) -> Result<String, String> {
        let mut out = String::new();
        for part in self.parts(text)? {
            match part {
                Filled::Literal(text) => out.push_str(&text),
                Filled::Value(value) => put(&mut out, &value),
                Filled::MatchValue | Filled::Id | Filled::Ids | Filled::OtherId => {
                    return Err(format!("{text} differs from row to row"));
                }
            }
        }
        Ok(out)
    }
}
