//! Associations between records (HubSpot developer docs, "Associations": batch create, batch create default).

use std::collections::BTreeSet;

use axum::http::{Response, StatusCode};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{HubSpot, batch::MAX_INPUTS, problem::Problem};
use crate::desk::{Request, json_response};

/// An association as it is seen from one of its records: object and id, the other's object and id. Both directions are kept.
pub(super) type Association = (String, u64, String, u64);

/// The category and the id of an association's type.
pub(super) type Label = (String, u32);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    from: Id,
    to: Id,
    #[serde(default)]
    types: Vec<AssociationType>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AssociationType {
    association_category: String,
    association_type_id: u32,
}

/// The ids of `other` records that a record is associated with.
pub(super) fn of<'a>(
    associations: &'a BTreeSet<Association>,
    (object, id): (&'a str, u64),
    other: &'a str,
) -> impl Iterator<Item = u64> + use<'a> {
    associations
        .iter()
        .filter(move |it| (it.0.as_str(), it.1, it.2.as_str()) == (object, id, other))
        .map(|it| it.3)
}

/// Answers a batch of associations from records of one object to those of another. `typed`: each names its types.
pub(super) fn respond(
    hubspot: &mut HubSpot,
    from: &str,
    to: &str,
    typed: bool,
    request: &Request<'_>,
) -> Response<Bytes> {
    for name in [from, to] {
        if !hubspot.objects.contains_key(name) {
            return Problem::validation(format!("Unable to infer object type from: {name}"))
                .response(request.number);
        }
    }
    let batch: Batch = match serde_json::from_slice(request.body) {
        Ok(batch) => batch,
        Err(error) => {
            return Problem::validation(format!("Invalid input JSON: {error}")).response(request.number);
        }
    };
    if let Some(message) = wrong(&batch, typed) {
        return Problem::validation(message).response(request.number);
    }
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for (position, input) in batch.inputs.iter().enumerate() {
        let there = |object: &str, id: &str| {
            let id = id.parse::<u64>().ok()?;
            hubspot.objects.get(object)?.get(id).map(|_| id)
        };
        let (own, other) = (there(from, &input.from.id), there(to, &input.to.id));
        let (Some(own), Some(other)) = (own, other) else {
            errors.push(missing(input).row(context(input)));
            continue;
        };
        if let Some(error) = request.refused_row(position) {
            errors.push(Problem::validation(error.message).row(context(input)));
            continue;
        }
        let forth = (from.to_owned(), own, to.to_owned(), other);
        let back = (to.to_owned(), other, from.to_owned(), own);
        hubspot
            .labels
            .entry(forth.clone())
            .or_default()
            .extend(input.types.iter().map(|it| (it.association_category.clone(), it.association_type_id)));
        hubspot.associations.extend([forth, back]);
        if typed {
            // A pair of records is told once, with the names of its labels.
            let labels: Vec<String> =
                input.types.iter().map(|it| it.association_type_id.to_string()).collect();
            results.push(json!({
                "fromObjectTypeId": from, "fromObjectId": own.to_string(),
                "toObjectTypeId": to, "toObjectId": other.to_string(), "labels": labels,
            }));
            continue;
        }
        // Both directions are told.
        for (one, two) in [(own, other), (other, own)] {
            results.push(json!({
                "from": {"id": one.to_string()}, "to": {"id": two.to_string()},
                "associationSpec": {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1},
            }));
        }
    }
    hubspot.order(&mut results);
    let now = request.now.rfc3339();
    let mut body = json!({"status": "COMPLETE", "startedAt": now, "completedAt": now, "results": results});
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    if let Some(body) = body.as_object_mut().filter(|_| !errors.is_empty()) {
        body.insert("numErrors".to_owned(), json!(errors.len()));
        body.insert("errors".to_owned(), Value::Array(errors));
    }
    json_response(status, &body)
}

/// What fails the whole batch.
fn wrong(batch: &Batch, typed: bool) -> Option<String> {
    if batch.inputs.is_empty() {
        return Some("The batch has no inputs".to_owned());
    }
    if batch.inputs.len() > MAX_INPUTS {
        return Some(format!("The maximum number of inputs supported in a batch request is {MAX_INPUTS}."));
    }
    let mistyped = |input: &&Input| {
        let known = ["HUBSPOT_DEFINED", "USER_DEFINED", "INTEGRATOR_DEFINED"];
        let right = |it: &AssociationType| {
            known.contains(&it.association_category.as_str()) && it.association_type_id > 0
        };
        input.types.is_empty() == typed || !input.types.iter().all(right)
    };
    batch.inputs.iter().find(mistyped).map(|_| "The association types are not valid".to_owned())
}

fn missing(input: &Input) -> Problem {
    Problem::not_found(format!(
        "No association of {} with {}: an object does not exist",
        input.from.id, input.to.id
    ))
}

fn context(input: &Input) -> Map<String, Value> {
    Map::from_iter([
        ("fromObjectId".to_owned(), json!([input.from.id])),
        ("toObjectId".to_owned(), json!([input.to.id])),
    ])
}
