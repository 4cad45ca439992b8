//! What a simulated account holds, in terms of the sync's rows.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use penstock_model::definition::{Mode, Sync};
use penstock_model::json::Json;
use penstock_model::operation::{Operation, Transformed};
use penstock_twins::{ConnectorRecord, ConnectorTwin, Journal, RateLimit, SalesforceTwin, Script, Twin};
use serde_json::{Value, json};

use super::org;

/// A simulated account, and the records that rows refer to.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) twin: Simulated,
    referred: Referred,
}

/// What is simulated.
#[derive(Clone)]
pub(super) enum Simulated {
    /// An API, by its connector file.
    File(ConnectorTwin),
    /// A Salesforce org.
    Salesforce(SalesforceTwin),
}

/// The ids of records that rows refer to, by object, field and value. All of them are there.
pub(super) type Referred = HashMap<(String, String, String), String>;

/// A record of the sync's object.
pub(super) struct HeldRecord {
    /// Its match value.
    pub(super) key: String,
    pub(super) id: String,
    fields: BTreeMap<String, String>,
    /// The ids of records that it is linked to.
    links: BTreeSet<String>,
}

/// What a row says of its record.
pub(super) struct Expected {
    fields: BTreeMap<String, String>,
    /// Those of an org's fields that are sent as numbers: 10.10 may be kept as 10.1.
    numbers: BTreeSet<String>,
    links: BTreeSet<String>,
}

impl Simulated {
    pub(super) fn journal(&self) -> Journal {
        match self {
            Self::File(twin) => twin.journal(),
            Self::Salesforce(twin) => twin.journal(),
        }
    }

    pub(super) fn limits(&self) -> Vec<RateLimit> {
        match self {
            Self::File(twin) => twin.limits(),
            Self::Salesforce(twin) => twin.limits(),
        }
    }

    fn set_faults(&self, script: Script) {
        match self {
            Self::File(twin) => twin.set_faults(script),
            Self::Salesforce(twin) => twin.set_faults(script),
        }
    }

    /// The records that a row refers to: object, field and value, by the field's name in the sync.
    fn references(&self, sync: &Sync, operation: &Operation) -> Vec<(String, (String, String, String))> {
        let asked = operation.asks.as_deref().and_then(|asks| asks.lookups.as_ref());
        let asked = asked.map(texts).unwrap_or_default();
        let mut found = Vec::new();
        for lookup in sync.lookups() {
            if let Some(value) = asked.get(lookup.field).filter(|value| !value.is_empty()) {
                let object = match self {
                    Self::Salesforce(_) => org::object_of(&lookup),
                    Self::File(_) => lookup.object.to_owned(),
                };
                found.push((lookup.field.to_owned(), (object, lookup.by.to_owned(), value.clone())));
            }
        }
        found
    }

    /// Puts a record into an object, whose field `by` has this value. Gives its id.
    fn seed(&self, object: &str, by: &str, value: &str) -> String {
        match self {
            Self::File(twin) => twin.seed(object, value, &json!({ by: value })),
            Self::Salesforce(twin) => twin.seed(object, [(by, value)]),
        }
    }
}

impl Account {
    /// The account with what rows need to find there: the records that they refer to, and of a sync that only updates, their own.
    pub(super) fn of(twin: Simulated, sync: &Sync, rows: &[Transformed], script: Script) -> Self {
        let mut referred = Referred::new();
        let operations = rows.iter().filter_map(|row| match row {
            Transformed::Operation(operation) => Some(operation),
            Transformed::Rejected(_) | Transformed::Skipped(_) => None,
        });
        for operation in operations {
            for (_, key) in twin.references(sync, operation) {
                if let Entry::Vacant(entry) = referred.entry(key) {
                    let (object, by, value) = entry.key();
                    let id = twin.seed(object, by, value);
                    entry.insert(id);
                }
            }
            if sync.mode != Mode::UpdateOnly {
                continue;
            }
            match (&twin, ConnectorRecord::key_of(operation.matched.get()), sync.matched.keys().next()) {
                (Simulated::File(twin), Some(key), _) => drop(twin.seed(&sync.object, &key, &json!({}))),
                (Simulated::Salesforce(_), Some(key), Some(field)) => {
                    drop(twin.seed(&sync.object, field, &key));
                }
                (_, _, _) => {}
            }
        }
        twin.set_faults(script);
        Self { twin, referred }
    }

    /// The records of the sync's object, but for those that were appended to an API that keeps these apart.
    pub(super) fn records(&self, sync: &Sync) -> Vec<HeldRecord> {
        match &self.twin {
            Simulated::File(twin) => {
                let links =
                    |id: &str| twin.links(&sync.object, id).into_iter().map(|(_, other)| other).collect();
                let held = |record: ConnectorRecord| HeldRecord {
                    links: links(&record.id),
                    key: record.key,
                    id: record.id,
                    fields: record.fields,
                };
                twin.records(&sync.object).into_iter().map(held).collect()
            }
            Simulated::Salesforce(twin) => {
                let field = sync.matched.keys().next().map(String::as_str).unwrap_or_default();
                let held = |(id, fields): (String, BTreeMap<String, String>)| HeldRecord {
                    key: fields.get(field).cloned().unwrap_or_default(),
                    id,
                    fields,
                    links: BTreeSet::new(),
                };
                twin.records(&sync.object).into_iter().map(held).collect()
            }
        }
    }

    /// The contents of appended records.
    pub(super) fn appended(&self, sync: &Sync) -> Vec<String> {
        match &self.twin {
            Simulated::File(twin) => {
                twin.appended(&sync.object).iter().map(|it| content(&it.fields)).collect()
            }
            Simulated::Salesforce(twin) => {
                let records = twin.records(&sync.object).into_values();
                records.map(|fields| content(&with_numbers_alike(fields))).collect()
            }
        }
    }

    /// The contents that an appended row may have: an API may be sent the match fields with the others or not at all.
    pub(super) fn contents(&self, sync: &Sync, operation: &Operation) -> Vec<String> {
        let fields = self.expected(sync, operation).fields;
        let mut whole: BTreeMap<String, String> = match &self.twin {
            Simulated::File(_) => ConnectorRecord::fields_of(operation.matched.get()),
            Simulated::Salesforce(_) => texts(&operation.matched),
        };
        whole.extend(fields.clone());
        let mut contents = vec![whole, fields];
        if let Simulated::Salesforce(_) = &self.twin {
            // What is empty is not there.
            for fields in &mut contents {
                fields.retain(|_, text| !text.is_empty());
                *fields = with_numbers_alike(std::mem::take(fields));
            }
        }
        contents.iter().map(content).collect()
    }

    /// What a row says of its record.
    pub(super) fn expected(&self, sync: &Sync, operation: &Operation) -> Expected {
        let asks = operation.asks.as_deref();
        let if_empty = asks.and_then(|asks| asks.if_empty.as_ref());
        let mut links = BTreeSet::new();
        let mut fields = match &self.twin {
            Simulated::File(_) => {
                let mut fields = ConnectorRecord::fields_of(operation.fields.get());
                fields.extend(if_empty.into_iter().flat_map(|json| ConnectorRecord::fields_of(json.get())));
                fields
            }
            Simulated::Salesforce(_) => {
                let mut fields = texts(&operation.fields);
                fields.extend(if_empty.into_iter().flat_map(texts));
                fields
            }
        };
        for (name, key) in self.twin.references(sync, operation) {
            let Some(id) = self.referred.get(&key) else { continue };
            match &self.twin {
                Simulated::Salesforce(_) => {
                    let (field, relationship) = org::reference(&name);
                    fields.remove(&relationship);
                    fields.insert(field, id.clone());
                }
                Simulated::File(twin) if twin.links_records(&sync.object) => drop(links.insert(id.clone())),
                Simulated::File(_) => drop(fields.insert(name, json!(id).to_string())),
            }
        }
        let numbers = match &self.twin {
            Simulated::File(_) => BTreeSet::new(),
            Simulated::Salesforce(_) => {
                numbers(&operation.fields).chain(if_empty.into_iter().flat_map(numbers)).collect()
            }
        };
        Expected { fields, numbers, links }
    }

    /// The match value of the record that a write is noted of: an org notes some by the record's id.
    pub(super) fn key_of_write<'k>(
        &self,
        noted: &'k String,
        by_id: &HashMap<&'k String, &'k String>,
    ) -> &'k String {
        match &self.twin {
            Simulated::File(_) => noted,
            Simulated::Salesforce(_) => by_id.get(noted).copied().unwrap_or(noted),
        }
    }

    /// Whether a record is as a row says.
    pub(super) fn holds(&self, record: &HeldRecord, expected: &Expected) -> bool {
        let is_held = |(name, wanted): (&String, &String)| match &self.twin {
            Simulated::File(_) => record.fields.get(name) == Some(wanted),
            Simulated::Salesforce(_) => {
                let held = record.fields.get(name).map_or("", String::as_str);
                held == wanted || (expected.numbers.contains(name) && alike(held) == alike(wanted))
            }
        };
        expected.fields.iter().all(is_held) && expected.links.is_subset(&record.links)
    }
}

/// The members of a JSON object as an org keeps them: texts, and what is empty as an empty one. References are left out.
pub(super) fn texts(json: &Json) -> BTreeMap<String, String> {
    let members: serde_json::Map<String, Value> = serde_json::from_str(json.get()).unwrap_or_default();
    members.into_iter().filter_map(|(name, value)| Some((name, plain(&value)?))).collect()
}

/// The names of those members of a JSON object that are numbers.
fn numbers(json: &Json) -> impl Iterator<Item = String> + use<> {
    let members: serde_json::Map<String, Value> = serde_json::from_str(json.get()).unwrap_or_default();
    members.into_iter().filter(|(_, value)| value.is_number()).map(|(name, _)| name)
}

/// A number without regard to how it is written; anything else as it is.
fn alike(text: &str) -> String {
    text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| number.to_string())
}

fn with_numbers_alike(fields: BTreeMap<String, String>) -> BTreeMap<String, String> {
    fields.into_iter().map(|(name, text)| (name, alike(&text))).collect()
}

/// A value as text; nothing for a list or an object.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn content(fields: &BTreeMap<String, String>) -> String {
    serde_json::to_string(fields).unwrap_or_default()
}
