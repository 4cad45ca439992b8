//! A Salesforce org that has what a sync writes to: its object with its fields, and the objects that it refers to.

use std::collections::BTreeMap;

use penstock_model::connector::HttpConnector;
use penstock_model::definition::{LookupField, OnRemoved, Sync};
use penstock_model::operation::Transformed;
use penstock_twins::{SalesforceKind, SalesforceSchema, SalesforceTwin, account_limits};
use serde_json::Value;

use super::account::SECRET;
use crate::definitions::check::CheckedSync;

/// Characters of a text field: as many as Salesforce's longest takes.
const LONG: usize = 131_072;
/// Characters of an external id.
const KEY: usize = 255;

/// The org. Its fields are of the kinds that the rows' values have.
pub(super) fn twin(checked: &CheckedSync, connector: &HttpConnector, rows: &[Transformed]) -> SalesforceTwin {
    let sync = &checked.sync.definition;
    let limits = checked.connection.definition.limits.or(&connector.limits);
    let (rates, daily) = account_limits(&limits);
    let mut builder = SalesforceTwin::builder().token(SECRET);
    if !rates.is_empty() {
        builder = builder.rate_limits(rates);
    }
    if let Some(daily) = daily {
        builder = builder.daily_limit(daily);
    }
    let mut others: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for lookup in sync.lookups() {
        others.entry(object_of(&lookup)).or_default().push(lookup.by.to_owned());
    }
    let own = others.remove(&sync.object).unwrap_or_default();
    builder = builder.object(&sync.object, schema(sync, own, rows));
    for (object, fields) in others {
        let schema = fields.iter().map(String::as_str).fold(SalesforceSchema::bare(), with_key);
        builder = builder.object(&object, schema);
    }
    builder.build()
}

fn with_key(schema: SalesforceSchema, field: &str) -> SalesforceSchema {
    schema.external_id(field, SalesforceKind::Text(KEY))
}

/// The sync's object. `keys` are the fields by which its own records are referred to.
fn schema(sync: &Sync, keys: Vec<String>, rows: &[Transformed]) -> SalesforceSchema {
    let cleared = match &sync.on_removed {
        OnRemoved::Clear { clear } => clear.as_slice(),
        OnRemoved::Word(_) | OnRemoved::Delete { .. } | OnRemoved::Archive { .. } => &[],
    };
    let mut schema = SalesforceSchema::bare();
    for name in sync.fields.keys().chain(cleared).filter(|name| !name.contains('.')) {
        schema = schema.with(name, kind_of(name, rows));
    }
    for lookup in sync.lookups() {
        let (field, relationship) = reference(lookup.field);
        let object = object_of(&lookup);
        schema = schema.with(&field, SalesforceKind::Reference { object, relationship });
    }
    sync.matched.keys().chain(&keys).map(String::as_str).fold(schema, with_key)
}

/// The kind of field that takes the values which rows have for it.
fn kind_of(name: &str, rows: &[Transformed]) -> SalesforceKind {
    let value = rows.iter().find_map(|row| {
        let Transformed::Operation(operation) = row else { return None };
        let if_empty = operation.asks.as_deref().and_then(|asks| asks.if_empty.as_ref());
        let of = |json: &penstock_model::json::Json| {
            let members: serde_json::Map<String, Value> = serde_json::from_str(json.get()).ok()?;
            members.get(name).filter(|value| !value.is_null()).cloned()
        };
        of(&operation.fields).or_else(|| of(if_empty?))
    });
    match value {
        Some(Value::Bool(_)) => SalesforceKind::Flag,
        Some(Value::Number(_)) => SalesforceKind::Number,
        Some(Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_)) | None => {
            SalesforceKind::Text(LONG)
        }
    }
}

/// The field and the relationship that a reference's name stands for, be it the one or the other: `AccountId` and `Account`, `Parent__c` and
/// `Parent__r`.
pub(super) fn reference(name: &str) -> (String, String) {
    if let Some(stem) = name.strip_suffix("__r").or_else(|| name.strip_suffix("__c")) {
        return (format!("{stem}__c"), format!("{stem}__r"));
    }
    let stem = name.strip_suffix("Id").filter(|stem| !stem.is_empty()).unwrap_or(name);
    (format!("{stem}Id"), stem.to_owned())
}

/// The object that a reference leads to: as the sync says, else the one that is called so.
pub(super) fn object_of(lookup: &LookupField<'_>) -> String {
    if lookup.object == lookup.field { other(lookup.field) } else { lookup.object.to_owned() }
}

fn other(name: &str) -> String {
    match reference(name) {
        (field, _) if field.ends_with("__c") => field,
        (_, relationship) if relationship == "Owner" => "User".to_owned(),
        (_, relationship) => relationship,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_known_by_either_name() {
        for (name, field, relationship, object) in [
            ("Account", "AccountId", "Account", "Account"),
            ("AccountId", "AccountId", "Account", "Account"),
            ("Owner", "OwnerId", "Owner", "User"),
            ("Parent__r", "Parent__c", "Parent__r", "Parent__c"),
            ("Parent__c", "Parent__c", "Parent__r", "Parent__c"),
            ("Id", "IdId", "Id", "Id"),
        ] {
            assert_eq!(reference(name), (field.to_owned(), relationship.to_owned()), "{name}");
            assert_eq!(other(name), object, "{name}");
        }
    }
}
