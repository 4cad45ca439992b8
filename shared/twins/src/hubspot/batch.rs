//! The batch calls: what is checked before anything is written, and what is written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use axum::http::{Response, StatusCode};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    HubSpot, InvalidRows,
    objects::{HubSpotRecord, Object},
    problem::{Category, Problem},
    properties::{Invalid, OBJECT_ID},
};
use crate::{
    desk::{Request, empty, json_response},
    journal::{Action, Applied, Journal},
};

/// HubSpot's limit on the inputs of a batch.
pub(super) const MAX_INPUTS: usize = 100;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Upsert,
    Create,
    Update,
    Archive,
    Read,
}

impl Call {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "upsert" => Some(Self::Upsert),
            "create" => Some(Self::Create),
            "update" => Some(Self::Update),
            "archive" => Some(Self::Archive),
            "read" => Some(Self::Read),
            _ => None,
        }
    }

    /// The status of an answer in which every row succeeded, and of one with row errors.
    fn statuses(self) -> (StatusCode, StatusCode) {
        match self {
            Self::Upsert => (StatusCode::OK, StatusCode::OK),
            Self::Create => (StatusCode::CREATED, StatusCode::MULTI_STATUS),
            Self::Update | Self::Read => (StatusCode::OK, StatusCode::MULTI_STATUS),
            Self::Archive => (StatusCode::NO_CONTENT, StatusCode::MULTI_STATUS),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Batch {
    inputs: Vec<Input>,
    /// `batch/read` has its key here and not with each input.
    id_property: Option<String>,
    #[serde(default)]
    properties: Vec<String>,
}

/// One input. Every property value must be a JSON string: HubSpot's own form is a map of strings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    id: Option<String>,
    id_property: Option<String>,
    #[serde(default)]
    properties: BTreeMap<String, String>,
    object_write_trace_id: Option<String>,
}

/// The record that an input is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Existing(u64),
    /// To be created; the number is the input's position.
    New(usize),
}

impl Input {
    fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    fn key_property(&self) -> &str {
        self.id_property.as_deref().unwrap_or(OBJECT_ID)
    }

    /// What names this row in an error.
    fn context(&self, category: Category) -> Map<String, Value> {
        let mut context = Map::new();
        if let Some(trace) = &self.object_write_trace_id {
            context.insert("objectWriteTraceId".to_owned(), json!([trace]));
        }
        if category == Category::NotFound {
            context.insert("ids".to_owned(), json!([self.id()]));
        }
        context
    }
}

/// Answers a batch call on the object named `name`.
pub(super) fn respond(
    hubspot: &mut HubSpot,
    name: &str,
    call: Call,
    request: &Request<'_>,
    journal: &mut Journal,
) -> Response<Bytes> {
    let Some(object) = hubspot.objects.get(name) else {
        return Problem::validation(format!("Unable to infer object type from: {name}"))
            .response(request.number);
    };
    let batch = match parse(request.body).and_then(|batch| check(object, call, &batch).map(|()| batch)) {
        Ok(batch) => batch,
        Err(problem) => return problem.response(request.number),
    };
    let mut outcome = match call {
        Call::Read => read(object, &batch),
        Call::Archive => {
            archive(hubspot, name, &batch, request, journal);
            return empty(StatusCode::NO_CONTENT);
        }
        Call::Upsert | Call::Create | Call::Update => {
            let mut plan = plan(object, call, &batch.inputs);
            for (position, planned) in plan.iter_mut().enumerate() {
                if let Some(error) = request.refused_row(position) {
                    *planned = Err(Problem::validation(error.message));
                }
            }
            if let Some(problem) = whole_batch_problem(&plan, &batch.inputs, hubspot.invalid_rows) {
                return problem.response(request.number);
            }
            write(hubspot, name, call, &batch.inputs, plan, request, journal)
        }
    };
    hubspot.order(&mut outcome.results);
    outcome.response(call, &request.now.rfc3339())
}

fn parse(body: &[u8]) -> Result<Batch, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::validation(format!("Invalid input JSON: {error}")))
}

/// Checks that fail a whole batch, whatever else is in it.
fn check(object: &Object, call: Call, batch: &Batch) -> Result<(), Problem> {
    let Batch { inputs, id_property, properties: _ } = batch;
    let fail = |message: String| Err(Problem::validation(message));
    if inputs.is_empty() {
        return fail("The batch has no inputs".to_owned());
    }
    if inputs.len() > MAX_INPUTS {
        return fail(format!("The maximum number of inputs supported in a batch request is {MAX_INPUTS}."));
    }
    let mut traces = HashSet::new();
    if let Some(twice) = inputs
        .iter()
        .filter_map(|input| input.object_write_trace_id.as_ref())
        .find(|trace| !traces.insert(*trace))
    {
        return fail(format!("objectWriteTraceId values must be unique within a batch, found {twice} twice"));
    }
    let mut ids = HashSet::new();
    for (position, input) in inputs.iter().enumerate() {
        let key = match call {
            Call::Read => id_property.as_deref().unwrap_or(OBJECT_ID),
            Call::Upsert | Call::Create | Call::Update | Call::Archive => input.key_property(),
        };
        match call {
            Call::Create if input.id.is_some() => {
                return fail(format!("inputs[{position}]: a record to be created has no id"));
            }
            Call::Create => continue,
            Call::Upsert if input.id_property.is_none() => {
                return fail(format!("inputs[{position}]: idProperty is required"));
            }
            Call::Upsert if !object.schema.is_writable_key(key) => return fail(not_unique(key)),
            Call::Upsert | Call::Update | Call::Archive | Call::Read => {}
        }
        if input.id().is_empty() {
            return fail(format!("inputs[{position}]: id is required"));
        }
        if !object.schema.is_unique(key) {
            return fail(not_unique(key));
        }
        if !ids.insert((key, object.schema.normal(key, input.id()))) && call != Call::Read {
            return fail(format!("Duplicate IDs found in batch input: [{}]. IDs must be unique", input.id()));
        }
    }
    let unwritable: Vec<Invalid> = inputs
        .iter()
        .flat_map(|input| input.properties.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter_map(|name| object.schema.unwritable(name))
        .collect();
    if unwritable.is_empty() { Ok(()) } else { fail(Invalid::message(&unwritable)) }
}

fn not_unique(property: &str) -> String {
    format!("Property \"{property}\" is not a unique property; idProperty must have unique values")
}

/// Finds out for each input which record it is about, or why it can't be written. Nothing is written yet, so that
/// a batch can still be refused as a whole.
fn plan(object: &Object, call: Call, inputs: &[Input]) -> Vec<Result<Target, Problem>> {
    let mut claimed: HashMap<(String, String), Target> = HashMap::new();
    inputs
        .iter()
        .enumerate()
        .map(|(position, input)| {
            let target = target(object, call, position, input)?;
            let properties = with_key(object, call, target, input);
            let invalid: Vec<Invalid> =
                properties.iter().filter_map(|(name, value)| object.schema.invalid(name, value)).collect();
            if !invalid.is_empty() {
                return Err(Problem::validation(Invalid::message(&invalid)));
            }
            let claims: Vec<_> = object
                .schema
                .unique_among(&properties)
                .map(|(name, value)| (name.clone(), object.schema.normal(name, value)))
                .collect();
            for claim in &claims {
                let owner = object.find(&claim.0, &claim.1).map(Target::Existing);
                if let Some(owner) = owner.or_else(|| claimed.get(claim).copied())
                    && owner != target
                {
                    return Err(Problem::conflict(match owner {
                        Target::Existing(id) => format!("Object already exists. Existing ID: {id}"),
                        Target::New(_) => {
                            format!("Another input of the batch has the same value of \"{}\"", claim.0)
                        }
                    }));
                }
            }
            claimed.extend(claims.into_iter().map(|claim| (claim, target)));
            Ok(target)
        })
        .collect()
}

fn target(object: &Object, call: Call, position: usize, input: &Input) -> Result<Target, Problem> {
    if call == Call::Create {
        return Ok(Target::New(position));
    }
    match object.find(input.key_property(), input.id()) {
        Some(id) => Ok(Target::Existing(id)),
        None if call == Call::Upsert => Ok(Target::New(position)),
        None => Err(missing()),
    }
}

fn missing() -> Problem {
    Problem::not_found(
        "Could not get some objects, they may be deleted or not exist. Check that ids are valid.",
    )
}

/// The properties to write: a record that an upsert creates gets its key as well.
fn with_key(object: &Object, call: Call, target: Target, input: &Input) -> BTreeMap<String, String> {
    let mut properties = input.properties.clone();
    if call == Call::Upsert && matches!(target, Target::New(_)) {
        let key = input.key_property();
        properties.entry(key.to_owned()).or_insert_with(|| object.schema.normal(key, input.id()));
    }
    properties
}

/// The problem that fails the whole batch: one that can't be said of its row alone.
fn whole_batch_problem<'a>(
    plan: &'a [Result<Target, Problem>],
    inputs: &[Input],
    invalid_rows: InvalidRows,
) -> Option<&'a Problem> {
    plan.iter().zip(inputs).find_map(|(planned, input)| {
        let problem = planned.as_ref().err()?;
        let own = problem.category == Category::NotFound
            || (invalid_rows == InvalidRows::Reported && input.object_write_trace_id.is_some());
        (!own).then_some(problem)
    })
}

#[derive(Default)]
struct BatchOutcome {
    results: Vec<Value>,
    errors: Vec<Value>,
}

impl BatchOutcome {
    fn response(self, call: Call, now: &str) -> Response<Bytes> {
        let (all_well, with_errors) = call.statuses();
        let mut body =
            json!({"status": "COMPLETE", "startedAt": now, "completedAt": now, "results": self.results});
        if self.errors.is_empty() {
            return json_response(all_well, &body);
        }
        if let Some(body) = body.as_object_mut() {
            body.insert("numErrors".to_owned(), json!(self.errors.len()));
            body.insert("errors".to_owned(), Value::Array(self.errors));
        }
        json_response(with_errors, &body)
    }
}

fn write(
    hubspot: &mut HubSpot,
    name: &str,
    call: Call,
    inputs: &[Input],
    plan: Vec<Result<Target, Problem>>,
    request: &Request<'_>,
    journal: &mut Journal,
) -> BatchOutcome {
    let mut outcome = BatchOutcome::default();
    let now = request.now.rfc3339();
    for (input, planned) in inputs.iter().zip(plan) {
        let target = match planned {
            Ok(target) => target,
            Err(problem) => {
                outcome.errors.push(problem.row(input.context(problem.category)));
                continue;
            }
        };
        let new_id = hubspot.next_id;
        let Some(object) = hubspot.objects.get_mut(name) else { break };
        let properties = with_key(object, call, target, input);
        let (id, new) = match target {
            Target::Existing(id) => (id, false),
            Target::New(_) => {
                hubspot.next_id += 1;
                object.create(new_id, &now);
                (new_id, true)
            }
        };
        let written = object.write(id, &properties, &now);
        let (Some(written), Some(record)) = (written, object.get(id)) else { continue };
        let first_unique = || object.schema.unique_among(&properties).next().map(|(_, value)| value.clone());
        let key = input.id.clone().or_else(first_unique).unwrap_or_else(|| record.id.clone());
        journal.apply(Applied {
            sequence: 0,
            request: request.number,
            object: name.to_owned(),
            action: if new { Action::Created } else { written },
            key,
            id: record.id.clone(),
            at: request.now.since_start,
        });
        let shown = properties.iter().map(|(name, value)| {
            let value = record.properties.get(name).unwrap_or(value);
            (name.clone(), json!(value))
        });
        let mut result = shown_record(record, shown);
        if call == Call::Upsert {
            result.insert("new".to_owned(), json!(new));
        }
        if let Some(trace) = &input.object_write_trace_id {
            result.insert("objectWriteTraceId".to_owned(), json!(trace));
        }
        outcome.results.push(Value::Object(result));
    }
    outcome
}

fn shown_record(
    record: &HubSpotRecord,
    properties: impl Iterator<Item = (String, Value)>,
) -> Map<String, Value> {
    let mut shown: Map<String, Value> = properties.collect();
    shown.insert(OBJECT_ID.to_owned(), json!(record.id));
    shown.insert("createdate".to_owned(), json!(record.created_at));
    shown.insert("lastmodifieddate".to_owned(), json!(record.updated_at));
    let mut result = Map::new();
    result.insert("id".to_owned(), json!(record.id));
    result.insert("properties".to_owned(), Value::Object(shown));
    result.insert("createdAt".to_owned(), json!(record.created_at));
    result.insert("updatedAt".to_owned(), json!(record.updated_at));
    result.insert("archived".to_owned(), json!(false));
    result
}

fn read(object: &Object, batch: &Batch) -> BatchOutcome {
    let mut outcome = BatchOutcome::default();
    let key = batch.id_property.as_deref().unwrap_or(OBJECT_ID);
    let wanted = if batch.properties.is_empty() { object.schema.shown() } else { &batch.properties };
    let mut missing_ids = Vec::new();
    for input in &batch.inputs {
        match object.find(key, input.id()).and_then(|id| object.get(id)) {
            Some(record) => {
                let shown = wanted.iter().map(|name| (name.clone(), json!(record.properties.get(name))));
                outcome.results.push(Value::Object(shown_record(record, shown)));
            }
            None => missing_ids.push(json!(input.id())),
        }
    }
    if !missing_ids.is_empty() {
        let context = Map::from_iter([("ids".to_owned(), Value::Array(missing_ids))]);
        outcome.errors.push(missing().row(context));
    }
    outcome
}

/// Archives what is there. HubSpot says nothing about ids that are not.
fn archive(hubspot: &mut HubSpot, name: &str, batch: &Batch, request: &Request<'_>, journal: &mut Journal) {
    let Some(object) = hubspot.objects.get_mut(name) else { return };
    for input in &batch.inputs {
        let gone = object.find(OBJECT_ID, input.id()).is_some_and(|id| object.archive(id));
        journal.apply(Applied {
            sequence: 0,
            request: request.number,
            object: name.to_owned(),
            action: if gone { Action::Deleted } else { Action::Unchanged },
            key: input.id().to_owned(),
            id: input.id().to_owned(),
            at: request.now.since_start,
        });
    }
}
