//! From an answer to one verdict per operation. Pure: no clock, no IO, no panic on any bytes.

use std::collections::HashMap;
use std::time::Duration;

use penstock_model::Timestamp;
use penstock_model::connector::{Meaning, RefusedRest, Unlisted};
use penstock_model::operation::Operation;
use penstock_model::outcome::{Outcome, SkipReason};

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
    /// Not accepted now; it may be later. If it never is, this is why.
    Again(Refusal),
    /// Not carried out, and nothing is wrong with it: another row of its request was refused.
    Resend,
    /// The answer does not tell; it may have been carried out.
    Lost(&'static str),
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
            let verdicts = row_verdicts(operation, rows, status, &extracted, Lists::All);
            let unlisted = match answer.unlisted {
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
                let named = row_verdicts(operation, rows, status, extracted, Lists::Errors);
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

/// What the lists say of each row; `None` of rows that they do not name.
fn row_verdicts(
    operation: &CompiledOperation,
    rows: &[&Operation],
    status: u16,
    extracted: &Extracted<'_>,
    lists: Lists,
) -> Vec<Option<Verdict>> {
    let mut index = RowIndex { operation, rows, ordinals: None, matches: None, folded: None, ids: None };
    let mut verdicts: Vec<Option<Verdict>> = vec![None; rows.len()];
    // Results come first; a row that is also in a list of errors was refused.
    for rule in &operation.answer.lists {
        let Some(Some(list)) = extracted.lists.get(rule.list) else { continue };
        if rule.kind == ListKind::Results && lists == Lists::Errors {
            continue;
        }
        for element in 0..list.elements {
            let verdict = element_verdict(operation, status, rule, list, element);
            for row in index.rows_of(rule, list, element) {
                let Some(cell) = verdicts.get_mut(row) else { continue };
                match rule.kind {
                    ListKind::Results if cell.is_some() => {}
                    ListKind::Results | ListKind::Errors => *cell = Some(verdict.clone()),
                }
            }
        }
    }
    verdicts
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
    if is_accepted {
        let id = rule.id.and_then(|slot| list.get(element, slot)).and_then(Found::text);
        let mut outcome = accepted(operation, status, id.map(std::borrow::Cow::into_owned));
        if let (Outcome::Accepted { created, .. }, Some(condition)) = (&mut outcome, &rule.created)
            && let Some(holds) = condition.holds(list.get(element, condition.at))
        {
            *created = Some(holds);
        }
        return Verdict::Done(outcome);
    }
    let meanings = &operation.answer.meanings;
    let refusal = rule.refusal(list, element, status, meanings);
    let meaning = meanings.of_code(&refusal.code).unwrap_or(Meaning::Rejected);
    fate(operation, status, row_fate(meaning, operation.kind), refusal)
}

/// Finds the rows of a request by what an answer echoes. Indexes are made when first needed.
struct RowIndex<'a> {
    operation: &'a CompiledOperation,
    rows: &'a [&'a Operation],
    ordinals: Option<HashMap<String, Vec<usize>>>,
    matches: Option<HashMap<String, Vec<usize>>>,
    folded: Option<HashMap<String, Vec<usize>>>,
    ids: Option<HashMap<String, Vec<usize>>>,
}

impl RowIndex<'_> {
    fn rows_of(&mut self, rule: &ListRule, list: &FoundList<'_>, element: usize) -> Vec<usize> {
        for by in &rule.by {
            let rows = self.by(*by, list, element);
            if !rows.is_empty() {
                return rows;
            }
        }
        Vec::new()
    }

    fn by(&mut self, by: CompiledBy, list: &FoundList<'_>, element: usize) -> Vec<usize> {
        let echoed = |slot| list.get(element, slot).map(Found::texts).unwrap_or_default();
        let (rows, operation) = (self.rows, self.operation);
        match by {
            // A list of another length can't be trusted to have its elements in place.
            CompiledBy::Position if list.elements == rows.len() => vec![element],
            CompiledBy::Position => Vec::new(),
            CompiledBy::Index(slot) => {
                echoed(slot).iter().filter_map(|n| n.parse().ok()).filter(|n| *n < rows.len()).collect()
            }
            CompiledBy::Ordinal(slot) => {
                let index = self.ordinals.get_or_insert_with(|| index(rows, |row| Some(row.n.to_string())));
                look_up(index, echoed(slot).iter().map(AsRef::as_ref))
            }
            CompiledBy::Id(slot) => {
                let index = self.ids.get_or_insert_with(|| index(rows, |row| row.id.clone()));
                look_up(index, echoed(slot).iter().map(AsRef::as_ref))
            }
            CompiledBy::Match(slot) => {
                let key = |row: &Operation| Some(plain(operation.match_field.value(row)?).into_owned());
                let echoed = echoed(slot);
                let exact = self.matches.get_or_insert_with(|| index(rows, key));
                let found = look_up(exact, echoed.iter().map(AsRef::as_ref));
                if !found.is_empty() {
                    return found;
                }
                // Some APIs echo e-mail addresses in lower case. Rows that become alike by it are left unnamed.
                let fold = |text: &str| text.trim().to_lowercase();
                let folded = self.folded.get_or_insert_with(|| {
                    let mut folded = index(rows, |row| key(row).map(|key| fold(&key)));
                    folded.retain(|_, rows| rows.len() == 1);
                    folded
                });
                let echoed: Vec<String> = echoed.iter().map(|text| fold(text)).collect();
                look_up(folded, echoed.iter().map(String::as_str))
            }
        }
    }
}

fn index(rows: &[&Operation], key: impl Fn(&Operation) -> Option<String>) -> HashMap<String, Vec<usize>> {
    let mut index: HashMap<String, Vec<usize>> = HashMap::with_capacity(rows.len());
    for (n, row) in rows.iter().enumerate() {
        if let Some(key) = key(row) {
            index.entry(key).or_default().push(n);
        }
    }
    index
}

fn look_up<'k>(index: &HashMap<String, Vec<usize>>, keys: impl Iterator<Item = &'k str>) -> Vec<usize> {
    keys.filter_map(|key| index.get(key)).flatten().copied().collect()
}
