use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What fills a field: a column's name, or details.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Field {
    /// The column of this name, as it is.
    Column(String),
    /// Anything more: exactly one of `column`, `expression`, `constant` and `lookup`, and how to treat it.
    Details(Box<FieldDetails>),
}

/// What fills a match field: a column's name, or the column and the type to send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MatchColumn {
    /// The column of this name, as it is.
    Column(String),
    /// The column, and the type to send: `{ column: customer_id, type: text }`.
    Details(MatchDetails),
}

/// A match field's column and type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchDetails {
    /// The column that fills the match field.
    pub column: String,
    /// The type to send, as for fields: `text`, for an API that takes a number for no id. Left out, the column's own type is kept. A list or an object can't identify a record: there is no `json` here.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl MatchColumn {
    /// The column's name.
    #[must_use]
    pub fn column(&self) -> &str {
        match self {
            Self::Column(column) | Self::Details(MatchDetails { column, .. }) => column,
        }
    }

    /// The type to send, if the sync names one.
    #[must_use]
    pub fn to(&self) -> Option<&str> {
        match self {
            Self::Column(_) => None,
            Self::Details(details) => details.to.as_deref(),
        }
    }
}

/// A field's source and treatment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldDetails {
    /// The column that fills the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// A Jinja expression over the row's columns, such as `{{ email | trim | lower }}`. Strict: a column that the unload lacks is an error at plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Always this value: text, number, boolean, list or object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constant: Option<Value>,
    /// A reference to another record by one of its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Lookup>,
    /// With `lookup`: the other record's object, where the field's own name does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// With `lookup`: what to do if there is no such record. Left out, the row is rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_missing: Option<OnMissing>,
    /// With `lookup`, where the destination links records in several ways: which one, in its own words. HubSpot's associations: `{ associationCategory: USER_DEFINED, associationTypeId: 28 }`. Left out, the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Value>,
    /// The type to send: `text`, `integer`, `number`, `decimal(p,s)`, `boolean`, `date`, `timestamp`, or `json` (parse JSON text and send it nested). Left out, the column's own type is kept.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What a null does. `skip` leaves the destination's value alone; `clear` empties it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_null: Option<OnNull>,
    /// When to write the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write: Option<Write>,
}

/// A reference by one of another object's fields, and the column that holds its value: `{ External_Id__c: account_id }`.
pub type Lookup = std::collections::BTreeMap<String, String>;

/// What to do with a row whose reference leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// Reject the row.
    #[default]
    Reject,
    /// Send the row without the field.
    Skip,
    /// Send the row with the field empty.
    Null,
}

/// What a null does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNull {
    /// The field is not sent: a null never wipes a good value.
    #[default]
    Skip,
    /// The field is emptied at the destination.
    Clear,
}

/// When to write a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Whenever the row is sent.
    #[default]
    Always,
    /// Only if the destination's field is empty.
    IfEmpty,
}

/// A field that refers to another record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupField<'a> {
    /// The field's name.
    pub field: &'a str,
    /// The other record's object: as the sync says, else the field's name.
    pub object: &'a str,
    /// The field of the other record that holds the value.
    pub by: &'a str,
    /// What to do if there is no such record.
    pub on_missing: OnMissing,
    /// The kind of link, if the sync names one.
    pub label: Option<&'a Value>,
}

impl Field {
    /// The field as a reference, if it is one.
    pub(super) fn lookup<'a>(&'a self, field: &'a str) -> Option<LookupField<'a>> {
        let Self::Details(details) = self else { return None };
        let by = details.lookup.as_ref()?.keys().next()?;
        let object = details.object.as_deref().unwrap_or(field);
        let (on_missing, label) = (details.on_missing.unwrap_or_default(), details.label.as_ref());
        Some(LookupField { field, object, by, on_missing, label })
    }

    /// The field with all details written out.
    #[must_use]
    pub fn details(&self) -> FieldDetails {
        match self {
            Self::Column(column) => FieldDetails { column: Some(column.clone()), ..FieldDetails::default() },
            Self::Details(details) => (**details).clone(),
        }
    }
}
