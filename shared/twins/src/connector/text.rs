//! Texts of a connector file read backwards: which part of a path, header or body text stands for what.

use std::collections::BTreeMap;

use penstock_model::connector::template::{TextPart, TextSlot, parse_text};

/// What a text can tell beside what is the same in every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Capture {
    Object,
    MatchField,
    MatchValue,
    Id,
    Other,
    OtherId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Fixed(String),
    Capture(Capture),
}

/// A text with its settings filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextPattern {
    parts: Vec<Part>,
    /// Whether what stands for a placeholder is percent-encoded, as in paths.
    encoded: bool,
}

/// What a text told.
pub(super) type Captures = Vec<(Capture, String)>;

impl TextPattern {
    /// Compiles a text whose placeholders stand as they are.
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub(super) fn plain(text: &str, settings: &BTreeMap<String, String>) -> Result<Self, String> {
        Self::compile(text, settings, false)
    }

    /// Compiles a path, whose placeholders are percent-encoded.
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub(super) fn path(text: &str, settings: &BTreeMap<String, String>) -> Result<Self, String> {
        Self::compile(text, settings, true)
    }

    fn compile(text: &str, settings: &BTreeMap<String, String>, encoded: bool) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        for part in parse_text(text)? {
            let fixed = match part {
                TextPart::Literal(text) => text,
                TextPart::Placeholder(name) => match TextSlot::named(&name) {
                    TextSlot::Object => {
                        parts.push(Part::Capture(Capture::Object));
                        continue;
                    }
                    TextSlot::MatchField => {
                        parts.push(Part::Capture(Capture::MatchField));
                        continue;
                    }
                    TextSlot::MatchValue => {
                        parts.push(Part::Capture(Capture::MatchValue));
                        continue;
                    }
                    TextSlot::Id => {
                        parts.push(Part::Capture(Capture::Id));
                        continue;
                    }
                    TextSlot::Other => {
                        parts.push(Part::Capture(Capture::Other));
                        continue;
                    }
                    TextSlot::OtherId => {
                        parts.push(Part::Capture(Capture::OtherId));
                        continue;
                    }
                    TextSlot::Ids => {
                        return Err(
                            "a twin does not take apart the ids of several records in a path".to_owned()
                        );
                    }
                    TextSlot::Setting(setting) => {
                        let value = settings.get(setting).ok_or_else(|| {
                            format!("the setting {setting} has no default and is not given")
                        })?;
                        if encoded { percent_encode(value) } else { value.clone() }
                    }
                },
            };
            match parts.last_mut() {
                Some(Part::Fixed(before)) => before.push_str(&fixed),
                Some(Part::Capture(_)) | None => parts.push(Part::Fixed(fixed)),
            }
        }
        Ok(Self { parts, encoded })
    }

    /// Whether it has a placeholder for this.
    pub(super) fn tells(&self, capture: Capture) -> bool {
        self.parts.contains(&Part::Capture(capture))
    }

    /// What the placeholders stand for in `text`; nothing if it does not fit.
    pub(super) fn read(&self, text: &str) -> Option<Captures> {
        let mut captures = Vec::new();
        fit(&self.parts, text, self.encoded, &mut captures).then_some(captures)
    }
}

/// Tries every end of a placeholder, longest first.
fn fit(parts: &[Part], text: &str, encoded: bool, captures: &mut Captures) -> bool {
    let Some((part, rest)) = parts.split_first() else { return text.is_empty() };
    match part {
        Part::Fixed(fixed) => {
            text.strip_prefix(fixed.as_str()).is_some_and(|text| fit(rest, text, encoded, captures))
        }
        Part::Capture(capture) => {
            let longest =
                if encoded { text.find(|c| !is_encoded(c)).unwrap_or(text.len()) } else { text.len() };
            let ends = (1..=longest).rev().filter(|end| text.is_char_boundary(*end));
            for end in ends {
                let (value, after) = text.split_at(end);
                let value = if encoded { percent_decode(value) } else { Some(value.to_owned()) };
                let Some(value) = value else { continue };
                captures.push((*capture, value));
                if fit(rest, after, encoded, captures) {
                    return true;
                }
                captures.pop();
            }
            false
        }
    }
}

fn is_encoded(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~%".contains(c)
}

/// Percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The text behind percent-encoding; nothing if it is not right.
pub(super) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_backwards() {
        let settings = BTreeMap::from([("version".to_owned(), "v 2".to_owned())]);
        let check = |template: &str, path: &str, expected: Option<&[&str]>| {
            let read = TextPattern::path(template, &settings).unwrap().read(path);
            let values = read.map(|it| it.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
            let expected = expected.map(|it| it.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
            assert_eq!(values, expected, "{template} and {path}");
        };
        check("/{version}/{object}/batch", "/v%202/people/batch", Some(&["people"]));
        check("/{version}/{object}/batch", "/v2/people/batch", None);
        check("/{object}/batch", "/a/b/batch", None);
        check("/{object}/batch", "//batch", None);
        check("/{object}/{match.value}", "/people/a%40x.com", Some(&["people", "a@x.com"]));
        check("/{object}/{match.value}.json", "/people/a.json.json", Some(&["people", "a.json"]));
        check("/engage?strict=1", "/engage?strict=1", Some(&[]));
        check("/engage?strict=1", "/engage", None);
        check("/a/{id}", "/a/%ZZ", None);
        check("/a/{id}", "/a/1?b", None);
        assert!(TextPattern::path("/{nope}", &settings).is_err());
    }
}
