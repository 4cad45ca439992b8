//! The state machine's JSON as it is written: the fields that are known, before their meaning is checked.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Machine {
    #[serde(rename = "Comment")]
    pub(super) _comment: Option<String>,
    pub(super) start_at: String,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) states: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Task {
    #[serde(rename = "Comment")]
    pub(super) _comment: Option<String>,
    pub(super) resource: String,
    pub(super) parameters: Invocation,
    pub(super) result_selector: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    pub(super) result_path: Option<Option<String>>,
    pub(super) timeout_seconds: u64,
    #[serde(default)]
    pub(super) retry: Vec<Retrier>,
    #[serde(default)]
    pub(super) catch: Vec<Catcher>,
    pub(super) next: Option<String>,
    pub(super) end: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Invocation {
    pub(super) function_name: String,
    pub(super) payload: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Map {
    #[serde(rename = "Comment")]
    pub(super) _comment: Option<String>,
    pub(super) label: Option<String>,
    pub(super) item_reader: ItemReader,
    pub(super) item_selector: Option<Value>,
    pub(super) max_concurrency: Option<u64>,
    pub(super) max_concurrency_path: Option<String>,
    pub(super) tolerated_failure_count: Option<u64>,
    pub(super) tolerated_failure_percentage: Option<f64>,
    pub(super) item_processor: ItemProcessor,
    pub(super) result_writer: ResultWriter,
    #[serde(default, deserialize_with = "present")]
    pub(super) result_path: Option<Option<String>>,
    #[serde(default)]
    pub(super) retry: Vec<Retrier>,
    #[serde(default)]
    pub(super) catch: Vec<Catcher>,
    pub(super) next: Option<String>,
    pub(super) end: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct ItemReader {
    pub(super) resource: String,
    pub(super) reader_config: ReaderConfig,
    pub(super) parameters: ReaderParameters,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct ReaderConfig {
    pub(super) input_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReaderParameters {
    #[serde(rename = "Bucket.$")]
    pub(super) bucket: String,
    #[serde(rename = "Key.$")]
    pub(super) key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct ItemProcessor {
    pub(super) processor_config: ProcessorConfig,
    pub(super) start_at: String,
    pub(super) states: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct ProcessorConfig {
    pub(super) mode: String,
    pub(super) execution_type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct ResultWriter {
    pub(super) resource: String,
    #[serde(rename = "Parameters")]
    pub(super) _parameters: WriterParameters,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriterParameters {
    #[serde(rename = "Bucket")]
    pub(super) _bucket: String,
    #[serde(rename = "Prefix")]
    pub(super) _prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Choice {
    #[serde(rename = "Comment")]
    pub(super) _comment: Option<String>,
    pub(super) choices: Vec<Rule>,
    pub(super) default: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Rule {
    #[serde(rename = "Comment")]
    pub(super) _comment: Option<String>,
    pub(super) variable: Option<String>,
    pub(super) string_equals: Option<String>,
    pub(super) numeric_equals: Option<f64>,
    pub(super) numeric_greater_than: Option<f64>,
    pub(super) boolean_equals: Option<bool>,
    pub(super) is_present: Option<bool>,
    pub(super) and: Option<Vec<Rule>>,
    pub(super) next: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Wait {
    #[serde(rename = "Comment")]
    pub(super) _comment: Option<String>,
    pub(super) seconds: Option<u64>,
    pub(super) seconds_path: Option<String>,
    pub(super) next: Option<String>,
    pub(super) end: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Succeed {
    #[serde(rename = "Comment")]
    pub(super) _comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Fail {
    #[serde(rename = "Comment")]
    pub(super) _comment: Option<String>,
    pub(super) error: Option<String>,
    pub(super) error_path: Option<String>,
    pub(super) cause: Option<String>,
    pub(super) cause_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Retrier {
    pub(super) error_equals: Vec<String>,
    pub(super) interval_seconds: Option<u64>,
    pub(super) max_attempts: Option<u32>,
    pub(super) backoff_rate: Option<f64>,
    pub(super) max_delay_seconds: Option<u64>,
    pub(super) jitter_strategy: Option<JitterStrategy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum JitterStrategy {
    None,
    Full,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Catcher {
    pub(super) error_equals: Vec<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) result_path: Option<Option<String>>,
    pub(super) next: String,
}

/// Tells `null` (`Some(None)`) from a field that is not there (`None`, by `default`).
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// Reads `text`, in which no object may hold a name twice: JSON readers would silently keep the last.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    UniqueNames.deserialize(&mut deserializer)?;
    deserializer.end()?;
    serde_json::from_str(text)
}

struct UniqueNames;

impl<'de> DeserializeSeed<'de> for UniqueNames {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueNames {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(format_args!("`{name}` is given twice")));
            }
            names.insert(name);
            fields.next_value_seed(Self)?;
        }
        Ok(())
    }
}
