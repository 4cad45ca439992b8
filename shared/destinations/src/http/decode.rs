//! From an answer to one verdict per operation. Pure: no clock, no IO, no panic on any bytes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::connector::{Meaning, RefusedRest, Unlisted};
use penstock_model::operation::Operation;
use penstock_model::outcome::{Outcome, SkipReason};
use penstock_model::settle::Repeat;

pub use super::answer::Refusal;
use super::answer::{CompiledBy, ListKind, ListRule, RowFate, row_fate};
use super::encode::{CompiledOperation, plain};
use super::extract::{Extracted, Found, FoundList};
use super::retry::retry_after;
use super::transport::HeaderMap;

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// One verdict per operation of the request, in its order.
    Rows(Vec<Verdict>),
    /// Several rows were refused together and none was named: halve them.
    Halve,
    /// Too many requests. Nothing was carried out.
    Throttled {
        /// How long to wait, if the destination says so.
        after: Option<Duration>,
    },
    /// The destination can't at the moment. It may have been carried out.
    Unavailable {
        /// How long to wait, if the destination says so.
        after: Option<Duration>,
    },
    /// The credential is refused. Nothing was carried out.
    Unauthorized,
    /// The quota is used up. Nothing was carried out.
    QuotaExhausted {
        /// How long to wait, if the destination says so.
        after: Option<Duration>,
    },
    /// Refused in a way that no row is to blame for.
    Refused,
}

/// What an answer says of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Decided.
    Done(Outcome),
    /// Of a read: there is such a record.
    Found(FoundRecord),
    /// Not accepted now; it may be later. If it never is, this is why.
    Again(Refusal),
    /// Not carried out, and nothing is wrong with it: another row of its request was refused.
    Resend,
    /// The answer does not tell; it may have been carried out.
    Lost(&'static str),
}

/// What a read tells of a record. Its Debug form shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundRecord {
    /// Its id.
    pub id: String,
    /// Whether the API gives ids as numbers.
    pub id_is_number: bool,
    /// Of each field that was asked for, in their order: whether it is empty.
    pub empty: Vec<bool>,
}

impl std::fmt::Debug for FoundRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FoundRecord")
    }
}

/// Reads an answer to the request that was encoded from these rows. Gives exactly one verdict per row, whatever the
/// answer holds; never [`Decoded::Halve`] for a row alone. `now` is only for `Retry-After` dates without a `Date`.
#[must_use]
pub fn decode(
    operation: &CompiledOperation,
    rows: &[&Operation],
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Decoded {
    let answer = &operation.answer;
    let by_status = answer.meanings.of_status(status, rows.len());
    if by_status == Meaning::Accepted && is_page(headers) {
        return all(rows, &Verdict::Lost("the answer is a page for people, as gateways give it"));
    }
    if by_status == Meaning::Accepted && !answer.needs_body {
        return all(rows, &Verdict::Done(accepted(operation, status, None)));
    }
    let extracted = answer.shape.extract(body).ok();
    if by_status == Meaning::Accepted {
        let Some(extracted) = extracted else {
            return all(rows, &Verdict::Lost("the answer's body can't be read"));
        };
        let proven =
            answer.proof.as_ref().is_none_or(|proof| proof.holds(extracted.get(proof.at)) == Some(true));
        if proven {
            let Named { verdicts, of_nobody } = row_verdicts(operation, rows, status, &extracted, Lists::All);
            if let Some(error) = of_nobody.filter(|_| verdicts.iter().any(Option::is_none)) {
                return told_of_nobody(operation, rows, verdicts, error);
            }
            // What a list of records does not name is not there; but the list has to be.
            let listed = answer.lists.iter().any(|rule| {
                rule.kind == ListKind::Results && matches!(extracted.lists.get(rule.list), Some(Some(_)))
            });
            let unlisted = match answer.unlisted {
                Unlisted::Accepted | Unlisted::Unknown if answer.reads => {
                    if listed {
                        Verdict::Done(Outcome::Skipped { why: SkipReason::Missing })
                    } else {
                        Verdict::Lost("the answer has no list of records")
                    }
                }
                Unlisted::Accepted => Verdict::Done(accepted(operation, status, None)),
                Unlisted::Unknown => Verdict::Lost("the answer does not name the row"),
            };
            return Decoded::Rows(
                verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(|| unlisted.clone())).collect(),
            );
        }
        let (Some(code), refusal) = answer.whole_refusal(Some(&extracted), status) else {
            return all(rows, &Verdict::Lost("the answer's body does not tell of the rows"));
        };
        let meaning = answer.meanings.of_code(&code).unwrap_or(Meaning::Rejected);
        return whole(operation, rows, status, meaning, refusal, Some(&extracted), retry_after(headers, now));
    }
    let (code, refusal) = answer.whole_refusal(extracted.as_ref(), status);
    let meaning = code.and_then(|code| answer.meanings.of_code(&code)).unwrap_or(by_status);
    whole(operation, rows, status, meaning, refusal, extracted.as_ref(), retry_after(headers, now))
}

/// Whether an answer is an HTML page: no API gives one, so something in between does.
fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().get(..9).is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"))
}

/// A request that failed, or succeeded, as a whole.
fn whole(
    operation: &CompiledOperation,
    rows: &[&Operation],
    status: u16,
    meaning: Meaning,
    refusal: Refusal,
    extracted: Option<&Extracted<'_>>,
    after: Option<Duration>,
) -> Decoded {
    match meaning {
        Meaning::Accepted => all(rows, &Verdict::Done(accepted(operation, status, None))),
        Meaning::Throttled => Decoded::Throttled { after },
        Meaning::Retry => Decoded::Unavailable { after },
        Meaning::Unauthorized => Decoded::Unauthorized,
        Meaning::Quota => Decoded::QuotaExhausted { after },
        Meaning::Refused => Decoded::Refused,
        Meaning::Rejected | Meaning::Exists | Meaning::Missing => {
            if let Some(extracted) = extracted {
                let named = row_verdicts(operation, rows, status, extracted, Lists::Errors).verdicts;
                if named.iter().any(Option::is_some) {
                    let rest = match operation.answer.refused_rest {
                        RefusedRest::Resend => Verdict::Resend,
                        RefusedRest::Accepted => Verdict::Done(accepted(operation, status, None)),
                    };
                    return Decoded::Rows(
                        named.into_iter().map(|it| it.unwrap_or_else(|| rest.clone())).collect(),
                    );
                }
            }
            if rows.len() > 1 {
                return Decoded::Halve;
            }
            all(rows, &fate(operation, status, row_fate(meaning, operation.kind), refusal))
        }
    }
}

fn all(rows: &[&Operation], verdict: &Verdict) -> Decoded {
    Decoded::Rows(vec![verdict.clone(); rows.len()])
}

fn accepted(operation: &CompiledOperation, status: u16, id: Option<String>) -> Outcome {
    let created = operation.answer.created_statuses.contains(&status).then_some(true);
    Outcome::Accepted { id, created }
}

fn fate(operation: &CompiledOperation, status: u16, fate: RowFate, refusal: Refusal) -> Verdict {
    let Refusal { code, message, field } = refusal;
    match fate {
        RowFate::Accepted => Verdict::Done(accepted(operation, status, None)),
        RowFate::SkippedExists => Verdict::Done(Outcome::Skipped { why: SkipReason::Exists }),
        RowFate::SkippedMissing => Verdict::Done(Outcome::Skipped { why: SkipReason::Missing }),
        RowFate::Rejected => Verdict::Done(Outcome::Rejected { code, message, field }),
        RowFate::Again => Verdict::Again(Refusal { code, message, field }),
    }
}

/// Which lists of an answer are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    All,
    Errors,
}

/// A success with an error that tells of no row. Of a row alone it tells; several are sent again in halves, where that is safe.
fn told_of_nobody(
    operation: &CompiledOperation,
    rows: &[&Operation],
    verdicts: Vec<Option<Verdict>>,
    error: Verdict,
) -> Decoded {
    let rest = match (rows.len(), operation.repeat) {
        (1, _) => error,
        (_, Repeat::Safe) => return Decoded::Halve,
        (_, Repeat::Unsafe) => Verdict::Lost("the answer has an error that tells of no row"),
    };
    Decoded::Rows(verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(|| rest.clone())).collect())
}

/// What lists say of rows.
struct Named {
    /// By row; `None` of rows that they do not name.
    verdicts: Vec<Option<Verdict>>,
    /// What an error says that names no row of the request, if there is one.
    of_nobody: Option<Verdict>,
}

/// What the lists say of each row.
fn row_verdicts(
    operation: &CompiledOperation,
    rows: &[&Operation],
    status: u16,
    extracted: &Extracted<'_>,
    lists: Lists,
) -> Named {
    let mut index = RowIndex { operation, rows, ordinals: None, matches: None, folded: None, ids: None };
    let mut verdicts: Vec<Option<Verdict>> = vec![None; rows.len()];
    let mut of_nobody = None;
    // Results come first; a row that is also in a list of errors was refused.
    for rule in &operation.answer.lists {
        let Some(Some(list)) = extracted.lists.get(rule.list) else { continue };
        if rule.kind == ListKind::Results && lists == Lists::Errors {
            continue;
        }
        let mut named = Vec::new();
        for element in 0..list.elements {
            index.rows_of(rule, list, element, &mut named);
            if rule.kind == ListKind::Errors && named.is_empty() {
                of_nobody.get_or_insert_with(|| element_verdict(operation, status, rule, list, element));
            }
            let is_open = |row: &usize| match (rule.kind, verdicts.get(*row)) {
                (ListKind::Results, Some(cell)) => cell.is_none(),
                (ListKind::Errors, Some(_)) => true,
                (ListKind::Results | ListKind::Errors, None) => false,
            };
            named.retain(is_open);
            let Some((last, others)) = named.split_last() else { continue };
            let verdict = element_verdict(operation, status, rule, list, element);
            for row in others {
                if let Some(cell) = verdicts.get_mut(*row) {
                    *cell = Some(verdict.clone());
                }
            }
            if let Some(cell) = verdicts.get_mut(*last) {
                *cell = Some(verdict);
            }
        }
    }
    Named { verdicts, of_nobody }
}

fn element_verdict(
    operation: &CompiledOperation,
    status: u16,
    rule: &ListRule,
    list: &FoundList<'_>,
    element: usize,
) -> Verdict {
    let is_accepted = match (rule.kind, &rule.accepted) {
        (ListKind::Errors, _) => false,
        (ListKind::Results, None) => true,
        (ListKind::Results, Some(condition)) => {
            condition.holds(list.get(element, condition.at)) == Some(true)
        }
    };
    if is_accepted && operation.answer.reads {
        let id = rule.id.and_then(|slot| list.get(element, slot));
        let Some(text) = id.and_then(Found::text) else {
            return Verdict::Lost("the answer has a record without an id");
        };
        return Verdict::Found(FoundRecord {
            id: text.into_owned(),
            id_is_number: matches!(id, Some(Found::Number(_))),
            empty: rule
                .values
                .iter()
                .map(|slot| list.get(element, *slot).is_none_or(Found::is_empty))
                .collect(),
        });
    }
    if is_accepted {
        let id = rule.id.and_then(|slot| list.get(element, slot)).and_then(Found::text);
        let mut outcome = accepted(operation, status, id.map(Cow::into_owned));
        if let (Outcome::Accepted { created, .. }, Some(condition)) = (&mut outcome, &rule.created)
            && let Some(holds) = condition.holds(list.get(element, condition.at))
        {
            *created = Some(holds);
        }
        return Verdict::Done(outcome);
    }
    let refusal = rule.refusal(list, element, status, &operation.answer.meanings);
    refused(operation, status, refusal)
}

/// What becomes of a row that was refused so.
fn refused(operation: &CompiledOperation, status: u16, refusal: Refusal) -> Verdict {
    let meaning = operation.answer.meanings.of_code(&refusal.code).unwrap_or(Meaning::Rejected);
    fate(operation, status, row_fate(meaning, operation.kind), refusal)
}

/// What becomes of a row that is said to be refused elsewhere than in an answer to its request.
pub(super) fn told_refused(
    operation: &CompiledOperation,
    code: &str,
    message: &str,
    field: Option<&str>,
) -> Verdict {
    refused(operation, 200, Refusal::cut(code, message, field))
}

/// The rows that have the same key in a request. Mostly one.
struct Alike {
    first: usize,
    others: Vec<usize>,
}

impl Alike {
    fn push_into(&self, found: &mut Vec<usize>) {
        found.push(self.first);
        found.extend_from_slice(&self.others);
    }
}

type Index<'a> = HashMap<Cow<'a, str>, Alike>;

/// Finds the rows of a request by what an answer echoes. Indexes are made when first needed.
struct RowIndex<'a> {
    operation: &'a CompiledOperation,
    rows: &'a [&'a Operation],
    ordinals: Option<Index<'a>>,
    matches: Option<Index<'a>>,
    folded: Option<Index<'a>>,
    ids: Option<Index<'a>>,
}

impl RowIndex<'_> {
    /// Puts the rows that an element names into `found`, in place of what was there.
    fn rows_of(&mut self, rule: &ListRule, list: &FoundList<'_>, element: usize, found: &mut Vec<usize>) {
        found.clear();
        for by in &rule.by {
            self.by(*by, list, element, found);
            if !found.is_empty() {
                return;
            }
        }
    }

    fn by(&mut self, by: CompiledBy, list: &FoundList<'_>, element: usize, found: &mut Vec<usize>) {
        let echoed = |slot| list.get(element, slot).into_iter().flat_map(Found::texts);
        let (rows, operation) = (self.rows, self.operation);
        match by {
            // A list of another length can't be trusted to have its elements in place.
            CompiledBy::Position if list.elements == rows.len() => found.push(element),
            CompiledBy::Position => {}
            CompiledBy::Index(slot) => {
                found
                    .extend(echoed(slot).filter_map(|n| n.parse::<usize>().ok()).filter(|n| *n < rows.len()));
            }
            CompiledBy::Ordinal(slot) => {
                let number = |row: &Operation| Some(row.n.to_string().into());
                look_up(self.ordinals.get_or_insert_with(|| index(rows, number)), echoed(slot), found);
            }
            CompiledBy::Id(slot) => {
                let id = |row: &'_ Operation| row.id.clone().map(Cow::Owned);
                look_up(self.ids.get_or_insert_with(|| index(rows, id)), echoed(slot), found);
            }
            CompiledBy::Match(slot) => {
                look_up(self.matches.get_or_insert_with(|| by_match(operation, rows)), echoed(slot), found);
                if !found.is_empty() {
                    return;
                }
                // Some APIs echo e-mail addresses in lower case. Rows that become alike by it are left unnamed.
                let fold = |text: &str| text.trim().to_lowercase();
                let folded = self.folded.get_or_insert_with(|| {
                    let mut folded = Index::new();
                    for (n, row) in rows.iter().enumerate() {
                        if let Some(value) = operation.match_field.value(row) {
                            add(&mut folded, fold(&plain(value)).into(), n);
                        }
                    }
                    folded.retain(|_, alike| alike.others.is_empty());
                    folded
                });
                look_up(folded, echoed(slot).map(|text| fold(&text).into()), found);
            }
        }
    }
}

fn by_match<'a>(operation: &CompiledOperation, rows: &[&'a Operation]) -> Index<'a> {
    index(rows, |row| operation.match_field.value(row).map(plain))
}

fn index<'a>(rows: &[&'a Operation], key: impl Fn(&'a Operation) -> Option<Cow<'a, str>>) -> Index<'a> {
    let mut index = Index::with_capacity(rows.len());
    for (n, row) in rows.iter().enumerate() {
        if let Some(key) = key(row) {
            add(&mut index, key, n);
        }
    }
    index
}

fn add<'a>(index: &mut Index<'a>, key: Cow<'a, str>, row: usize) {
    match index.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(Alike { first: row, others: Vec::new() });
        }
        Entry::Occupied(mut entry) => entry.get_mut().others.push(row),
    }
}

fn look_up<'k>(index: &Index<'_>, keys: impl Iterator<Item = Cow<'k, str>>, found: &mut Vec<usize>) {
    for key in keys {
        if let Some(alike) = index.get(key.as_ref()) {
            alike.push_into(found);
        }
    }
}
