//! From what a request says of a row to what is asked for one record.

use std::collections::BTreeMap;

use penstock_model::{connector::ValueStyle, operation::OperationKind};
use serde_json::value::RawValue;

use super::{
    body::{Misfit, Row},
    members::{Members, plain},
    records::{Asked, joined},
};
use crate::row_error::RowError;

/// A row of a request.
pub(super) struct Taken {
    /// What to do, or why it can't be done to any record.
    pub(super) asked: Result<Asked, RowError>,
    pub(super) ordinal: Option<String>,
    pub(super) matched: Option<String>,
    pub(super) match_field: Option<String>,
}

/// Puts the parts of a row together. `keys` are the match fields, where they were told to the twin; `moves` says that the record gets
/// another key.
///
/// # Errors
/// The row contradicts itself or the connector file; its request can't be one of Penstock's.
pub(super) fn take(
    row: Row<'_>,
    kind: OperationKind,
    keys: Option<&[String]>,
    style: ValueStyle,
    moves: bool,
) -> Result<Taken, Misfit> {
    let misfit = |why| Err(Misfit { at: String::new(), why });
    let Row {
        object: _,
        match_field,
        match_value,
        id,
        ordinal,
        secret: _,
        names: _,
        other: _,
        other_id: _,
        label: _,
        matched,
        fields,
        record,
        empty_match,
    } = row;
    let names: Option<Vec<String>> = keys
        .map(<[String]>::to_vec)
        .or_else(|| match_field.clone().map(|field| vec![field]))
        .or_else(|| matched.as_ref().map(|Members(members)| members.keys().cloned().collect()));
    if let (Some(field), Some(names)) = (&match_field, &names)
        && names.as_slice() != std::slice::from_ref(field)
    {
        return misfit("the record is identified by another field than the twin's");
    }
    if let (Some(Members(members)), Some(names)) = (&matched, &names)
        && !members.keys().eq(names.iter())
    {
        return misfit("the match fields are others than the twin's");
    }
    let mut all: BTreeMap<String, &RawValue> = BTreeMap::new();
    for Members(members) in [record, fields, matched].into_iter().flatten() {
        for (name, value) in members {
            if all.get(&name).is_some_and(|other| other.get() != value.get()) {
                return misfit("a field stands twice, with two values");
            }
            all.insert(name, value);
        }
    }
    if style == ValueStyle::Text && all.values().any(|value| !value.get().starts_with('"')) {
        return misfit("every value must be a text");
    }
    let mut fields: BTreeMap<String, String> =
        all.iter().map(|(name, value)| (name.clone(), value.get().to_owned())).collect();
    if let (Some((value, json)), Some([name])) = (&match_value, names.as_deref()) {
        match all.get(name) {
            Some(known) if plain(known.get()).as_deref() != Some(value.as_str()) => {
                return misfit("the match field has two values");
            }
            Some(_) => {}
            None => {
                let json =
                    json.clone().unwrap_or_else(|| serde_json::Value::from(value.as_str()).to_string());
                fields.insert(name.clone(), json);
            }
        }
    }
    let by_fields = || -> Option<String> {
        let names = names.as_deref()?;
        let values: Vec<String> = names.iter().map(|name| plain(fields.get(name)?)).collect::<Option<_>>()?;
        joined(values)
    };
    let key = match &match_value {
        Some((value, _)) => Some(value.clone()),
        None => by_fields(),
    };
    let asked = if kind != OperationKind::Append && (empty_match || (key.is_none() && id.is_none())) {
        let message = "the match field must be a text that is not empty, or a number";
        let field = names.as_deref().and_then(<[String]>::first).cloned();
        Err(RowError { field, ..RowError::new("missing_key", message) })
    } else {
        Ok(Asked { key: key.clone(), id, fields, moves })
    };
    let match_field = match names.as_deref() {
        Some([only]) => Some(only.clone()),
        Some(_) | None => None,
    };
    Ok(Taken { asked, ordinal, matched: key, match_field })
}
