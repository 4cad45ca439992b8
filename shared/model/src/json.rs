//! JSON text that goes on as it was written.

use std::ops::Range;
use std::sync::Arc;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON value as text. What a function of ours has written is taken at its word: a row is looked through once,
/// by whoever writes it, and not again on its way. Its Debug form shows nothing of it.
#[derive(Clone)]
pub struct Json(Text);

#[derive(Clone)]
enum Text {
    Own(String),
    /// A stretch of a text that many values share: to set memory aside for each of a row's would cost more than to read it.
    Shared {
        text: Arc<String>,
        range: Range<usize>,
    },
}

impl Json {
    /// Text that was written as one JSON value, without white space between its parts.
    #[must_use]
    pub const fn written(text: String) -> Self {
        Self(Text::Own(text))
    }

    /// A stretch of a text, which was written as one JSON value. Of a stretch that is none, as of one that cuts a letter, nothing is left.
    #[must_use]
    pub fn shared(text: &Arc<String>, range: Range<usize>) -> Self {
        Self(Text::Shared { text: Arc::clone(text), range })
    }

    /// A value's JSON.
    ///
    /// # Errors
    /// serde_json's, if the value has none.
    pub fn of(value: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::to_string(value).map(Self::written)
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        match &self.0 {
            Text::Own(text) => text,
            Text::Shared { text, range } => text.get(range.clone()).unwrap_or_default(),
        }
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Json {}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Json")
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // serde's own words could quote the value.
        let raw: &RawValue =
            serde_json::from_str(self.get()).map_err(|_| S::Error::custom("text that is no JSON"))?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer).map_err(D::Error::custom)?;
        Ok(Self::written(Box::<str>::from(raw).into_string()))
    }
}

impl schemars::JsonSchema for Json {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Json".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        true.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_through_other_json_to_the_letter() {
        let text = r#"{"price":1.10,"id":12345678901234567890}"#;
        let json = Json::written(text.to_owned());
        let line = serde_json::to_string(&[&json]).unwrap();
        assert_eq!(line, format!("[{text}]"));
        assert_eq!(serde_json::from_str::<Vec<Json>>(&line).unwrap(), [json]);
    }

    #[test]
    fn what_is_no_json_is_not_written_and_not_quoted() {
        let failed = serde_json::to_string(&Json::written("tim@acme.com".to_owned())).unwrap_err();
        assert!(!failed.to_string().contains("tim"), "{failed}");
    }
}
