//! The rules of an answer, compiled: which values are wanted, and what they mean.

use std::collections::HashMap;

use penstock_model::connector::{
    Answer, By, Codes, ErrorBody, Errors, Meaning, Pointer, RefusedRest, Results, Test, Unlisted,
};
use penstock_model::definition::pointer_part;
use penstock_model::operation::OperationKind;
use serde_json::Value;

use super::extract::{Extracted, Found, FoundList, Place, Shape};

/// What statuses and codes mean.
#[derive(Debug)]
pub(super) struct Meanings {
    pub(super) statuses: HashMap<u16, Meaning>,
    pub(super) codes: HashMap<String, Meaning>,
    /// Whether the path names the row.
    pub(super) row_in_path: bool,
}

impl Meanings {
    /// What a status means for a request of so many rows.
    pub(super) fn of_status(&self, status: u16, rows: usize) -> Meaning {
        if let Some(meaning) = self.statuses.get(&status) {
            return *meaning;
        }
        match status {
            200..=299 => Meaning::Accepted,
            404 if self.row_in_path => Meaning::Missing,
            409 if rows == 1 => Meaning::Exists,
            400 | 409 | 413 | 422 => Meaning::Rejected,
            401 | 403 => Meaning::Unauthorized,
            429 => Meaning::Throttled,
            408 | 425 | 500..=599 => Meaning::Retry,
            _ => Meaning::Refused,
        }
    }

    /// What a code means: as it is listed, else as the longest beginning of it that is listed with a star.
    pub(super) fn of_code(&self, code: &str) -> Option<Meaning> {
        self.codes.get(code).copied().or_else(|| {
            let begins = |(listed, _): &(&String, &Meaning)| {
                listed.strip_suffix('*').is_some_and(|it| code.starts_with(it))
            };
            let longest = self.codes.iter().filter(begins).max_by_key(|(listed, _)| listed.len());
            longest.map(|(_, meaning)| *meaning)
        })
    }
}

#[derive(Debug)]
pub(super) struct CompiledAnswer {
    pub(super) shape: Shape,
    pub(super) needs_body: bool,
    /// Whether it tells what there is, not what became of rows.
    pub(super) reads: bool,
    pub(super) lists: Vec<ListRule>,
    pub(super) proof: Option<Condition<Place>>,
    pub(super) unlisted: Unlisted,
    pub(super) refused_rest: RefusedRest,
    pub(super) created_statuses: Vec<u16>,
    pub(super) meanings: Meanings,
    code: Vec<Place>,
    message: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListKind {
    Results,
    Errors,
}

/// How the elements of a list are read.
#[derive(Debug)]
pub(super) struct ListRule {
    pub(super) kind: ListKind,
    pub(super) list: usize,
    pub(super) by: Vec<CompiledBy>,
    pub(super) accepted: Option<Condition<usize>>,
    pub(super) created: Option<Condition<usize>>,
    pub(super) id: Option<usize>,
    /// Of a read: the values of the fields that are asked for, in their order.
    pub(super) values: Vec<usize>,
    code: Vec<usize>,
    fixed_code: Option<String>,
    message: Option<usize>,
    field: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum CompiledBy {
    Position,
    Index(usize),
    Ordinal(usize),
    Match(usize),
    Id(usize),
}

/// A test on the value at a place.
#[derive(Debug)]
pub(super) struct Condition<P> {
    pub(super) at: P,
    is: Vec<Value>,
}

impl<P> Condition<P> {
    /// Whether it holds; `None` if there is no value.
    pub(super) fn holds(&self, found: Option<&Found<'_>>) -> Option<bool> {
        let found = found?;
        if self.is.is_empty() {
            return Some(!matches!(found, Found::Null | Found::Boolean(false)));
        }
        Some(self.is.iter().any(|wanted| match (wanted, found) {
            (Value::Bool(wanted), Found::Boolean(found)) => wanted == found,
            (Value::String(wanted), found) => found.text().is_some_and(|found| found == wanted.as_str()),
            (Value::Number(wanted), found) => found.text().is_some_and(|found| found == wanted.to_string()),
            _ => false,
        }))
    }
}

/// Why a row, or a request, was not accepted, in the destination's words.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The destination's code, or `http_` and the status.
    pub code: String,
    /// Its words.
    pub message: String,
    /// The field at fault, where it says so.
    pub field: Option<String>,
}

impl Refusal {
    /// One whose parts are no longer than they may be.
    pub(super) fn cut(code: &str, message: &str, field: Option<&str>) -> Self {
        Self {
            code: cut(code, CODE_CHARS),
            message: cut(message, MESSAGE_CHARS),
            field: field.map(|field| cut(field, CODE_CHARS)),
        }
    }
}

/// Shows nothing: codes and messages may carry row values.
impl std::fmt::Debug for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refusal")
    }
}

const CODE_CHARS: usize = 100;
const MESSAGE_CHARS: usize = 500;

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

type Fill<'a> = &'a mut dyn FnMut(&Pointer) -> Result<String, String>;

impl CompiledAnswer {
    /// Compiles the rules; `fill` replaces the placeholders of a pointer. `names` are the fields that a read asks for.
    ///
    /// # Errors
    /// Pointers that can't be read in one pass, in words.
    pub(super) fn compile(
        answer: &Answer,
        error: &ErrorBody,
        meanings: Meanings,
        names: Option<&[String]>,
        fill: Fill<'_>,
    ) -> Result<Self, String> {
        let mut shape = Shape::default();
        let mut lists = Vec::new();
        if let Some(results) = &answer.results {
            lists.push(results_rule(results, names.unwrap_or_default(), &mut shape, fill)?);
        }
        for errors in &answer.errors {
            lists.push(errors_rule(errors, &mut shape, fill)?);
        }
        let mut code = Vec::new();
        for pointer in &error.code.0 {
            code.push(shape.single(&fill(pointer)?));
        }
        let message =
            error.message.as_ref().map(&mut *fill).transpose()?.map(|pointer| shape.single(&pointer));
        let proof = match &answer.proof {
            Some(test) => Some(Condition { at: shape.single(&fill(&test.at)?), is: test.is.clone() }),
            None => None,
        };
        Ok(Self {
            shape,
            needs_body: answer.needs_body(),
            reads: names.is_some(),
            lists,
            proof,
            unlisted: answer.unlisted(),
            refused_rest: answer.refused_rest,
            created_statuses: answer.created_statuses.clone(),
            meanings,
            code,
            message,
        })
    }

    /// What a request that failed as a whole says: the code that means something, or the first, and the words.
    pub(super) fn whole_refusal(
        &self,
        extracted: Option<&Extracted<'_>>,
        status: u16,
    ) -> (Option<String>, Refusal) {
        let codes: Vec<String> = extracted
            .into_iter()
            .flat_map(|extracted| self.code.iter().filter_map(|place| extracted.get(*place)?.text()))
            .map(|code| cut(&code, CODE_CHARS))
            .collect();
        let known = codes.iter().find(|code| self.meanings.of_code(code).is_some());
        let code = known.or(codes.first()).cloned();
        let message = extracted.and_then(|extracted| extracted.get(self.message?)?.text());
        let message = match message {
            Some(message) => cut(&message, MESSAGE_CHARS),
            None => format!("the destination answered with status {status}"),
        };
        let refusal =
            Refusal { code: code.clone().unwrap_or_else(|| format!("http_{status}")), message, field: None };
        (code, refusal)
    }
}

impl CompiledAnswer {
    /// What the body of an answer says that refuses a whole request: code and words. For the person who asked; nothing if it says nothing.
    pub(super) fn refusal_of(&self, status: u16, body: &[u8]) -> Option<String> {
        let extracted = self.shape.extract(body).ok()?;
        let (code, refusal) = self.whole_refusal(Some(&extracted), status);
        let words = extracted.get(self.message?).and_then(Found::text).map(|_| refusal.message);
        match (code, words) {
            (Some(code), Some(words)) => Some(format!("{code}: {words}")),
            (code, words) => code.or(words),
        }
    }

    /// What the code in the body of an answer means, whatever its status; nothing if it has none that is listed.
    pub(super) fn meaning_of(&self, status: u16, body: &[u8]) -> Option<Meaning> {
        let extracted = self.shape.extract(body).ok()?;
        self.meanings.of_code(&self.whole_refusal(Some(&extracted), status).0?)
    }
}

impl ListRule {
    /// What an element says of a row that was not accepted.
    pub(super) fn refusal(
        &self,
        list: &FoundList<'_>,
        element: usize,
        status: u16,
        meanings: &Meanings,
    ) -> Refusal {
        let text =
            |slot: usize, chars| list.get(element, slot).and_then(Found::text).map(|text| cut(&text, chars));
        let codes: Vec<String> = self.code.iter().filter_map(|slot| text(*slot, CODE_CHARS)).collect();
        let known = codes.iter().find(|code| meanings.of_code(code).is_some());
        let code = known.or(codes.first()).cloned().or_else(|| self.fixed_code.clone());
        Refusal {
            code: code.unwrap_or_else(|| format!("http_{status}")),
            message: self
                .message
                .and_then(|slot| text(slot, MESSAGE_CHARS))
                .unwrap_or_else(|| "the destination refused the row".to_owned()),
            field: self.field.and_then(|slot| text(slot, CODE_CHARS)),
        }
    }
}

fn results_rule(
    results: &Results,
    names: &[String],
    shape: &mut Shape,
    fill: Fill<'_>,
) -> Result<ListRule, String> {
    let list = shape.list(&fill(&results.at)?)?;
    let condition = |test: &Option<Test>, shape: &mut Shape, fill: Fill<'_>| -> Result<_, String> {
        let Some(test) = test else { return Ok(None) };
        Ok(Some(Condition { at: shape.in_list(list, &fill(&test.at)?), is: test.is.clone() }))
    };
    let mut values = Vec::new();
    if let Some(fields) = &results.fields {
        let fields = fill(fields)?;
        values.extend(
            names.iter().map(|name| shape.in_list(list, &format!("{fields}/{}", pointer_part(name)))),
        );
    }
    Ok(ListRule {
        kind: ListKind::Results,
        list,
        by: by_rules(&results.by, list, shape, fill)?,
        accepted: condition(&results.accepted, shape, fill)?,
        created: condition(&results.created, shape, fill)?,
        id: slot(results.id.as_ref(), list, shape, fill)?,
        values,
        code: code_slots(&results.code, list, shape, fill)?,
        fixed_code: None,
        message: slot(results.message.as_ref(), list, shape, fill)?,
        field: slot(results.field.as_ref(), list, shape, fill)?,
    })
}

fn errors_rule(errors: &Errors, shape: &mut Shape, fill: Fill<'_>) -> Result<ListRule, String> {
    let list = shape.list(&fill(&errors.at)?)?;
    Ok(ListRule {
        kind: ListKind::Errors,
        list,
        by: by_rules(&errors.by, list, shape, fill)?,
        accepted: None,
        created: None,
        id: None,
        values: Vec::new(),
        code: code_slots(&errors.code, list, shape, fill)?,
        fixed_code: errors.fixed_code.clone(),
        message: slot(errors.message.as_ref(), list, shape, fill)?,
        field: if errors.by_field {
            Some(shape.by_member(list))
        } else {
            slot(errors.field.as_ref(), list, shape, fill)?
        },
    })
}

fn by_rules(by: &[By], list: usize, shape: &mut Shape, fill: Fill<'_>) -> Result<Vec<CompiledBy>, String> {
    let mut compiled = Vec::new();
    for by in by {
        compiled.push(match by {
            By::Position => CompiledBy::Position,
            By::Index(pointer) => CompiledBy::Index(shape.in_list(list, &fill(pointer)?)),
            By::Ordinal(pointer) => CompiledBy::Ordinal(shape.in_list(list, &fill(pointer)?)),
            By::Match(pointer) => CompiledBy::Match(shape.in_list(list, &fill(pointer)?)),
            By::Id(pointer) => CompiledBy::Id(shape.in_list(list, &fill(pointer)?)),
        });
    }
    Ok(compiled)
}

fn code_slots(codes: &Codes, list: usize, shape: &mut Shape, fill: Fill<'_>) -> Result<Vec<usize>, String> {
    let mut slots = Vec::new();
    for pointer in &codes.0 {
        slots.push(shape.in_list(list, &fill(pointer)?));
    }
    Ok(slots)
}

fn slot(
    pointer: Option<&Pointer>,
    list: usize,
    shape: &mut Shape,
    fill: Fill<'_>,
) -> Result<Option<usize>, String> {
    let Some(pointer) = pointer else { return Ok(None) };
    Ok(Some(shape.in_list(list, &fill(pointer)?)))
}

/// What a meaning does to a row of an operation of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowFate {
    Accepted,
    SkippedExists,
    SkippedMissing,
    Rejected,
    Again,
}

/// What becomes of a row whose code or status means this.
pub(super) const fn row_fate(meaning: Meaning, kind: OperationKind) -> RowFate {
    match (meaning, kind) {
        (Meaning::Accepted, _) => RowFate::Accepted,
        (Meaning::Exists, OperationKind::Create) => RowFate::SkippedExists,
        (
            Meaning::Missing,
            OperationKind::Update | OperationKind::Clear | OperationKind::Delete | OperationKind::Archive,
        ) => RowFate::SkippedMissing,
        (Meaning::Exists | Meaning::Missing, _)
        // Said of one row among others, these are the row's matter.
        | (Meaning::Rejected | Meaning::Refused | Meaning::Unauthorized, _) => RowFate::Rejected,
        (Meaning::Retry | Meaning::Throttled | Meaning::Quota, _) => RowFate::Again,
    }
}
