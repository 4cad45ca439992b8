//! How the operations of a delivery that ask something stand: which step each takes next, and what was answered so far.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use penstock_model::connector::ValueStyle;
use penstock_model::definition::OnMissing;
use penstock_model::json::Json;
use penstock_model::operation::{Operation, OperationKind};
use penstock_model::outcome::{Outcome, SkipReason};

use super::HttpDestination;
use super::ask::{CompiledAsks, by_field, is_emptying};
use super::decode::FoundRecord;
use super::encode::members;

/// What a batch of requests is for. Later steps come first, so that what has begun is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Finds the records that a field refers to; the field's number among the look-ups.
    LookUp(usize),
    /// Writes to records by their ids, which gives them their new match values.
    Move,
    /// Reads the records themselves.
    Read,
    /// Writes them.
    Write(OperationKind),
    /// Links them to those that a field refers to.
    Link(usize),
}

impl Step {
    /// Its requests, for messages.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::LookUp(_) => "requests that look records up",
            Self::Move => "requests that write to records by their ids",
            Self::Read => "requests that read records",
            Self::Write(OperationKind::Upsert) => "upsert requests",
            Self::Write(OperationKind::Create) => "create requests",
            Self::Write(OperationKind::Update) => "update requests",
            Self::Write(OperationKind::Delete) => "delete requests",
            Self::Write(OperationKind::Archive) => "archive requests",
            Self::Write(OperationKind::Clear) => "clear requests",
            Self::Write(OperationKind::Append) => "append requests",
            Self::Link(_) => "requests that link records",
        }
    }
}

/// The rows of requests that are not a chunk's operations as they came. They are written once and then only read, by any
/// number of requests under way.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// By look-up: the keys that are asked for, each once, as operations that match by them.
    keys: Vec<Vec<Operation>>,
    /// By position: operations with the fields that turned out to be due.
    rewritten: Vec<OnceLock<Operation>>,
    /// By look-up and position: what links the record, its own id and the other's as key.
    links: Vec<Vec<OnceLock<Operation>>>,
    /// By position: what gives a record its new match value.
    moved: Vec<OnceLock<Operation>>,
}

/// Whether the record of an operation is to be written to by its id: it was last written under another match value.
pub(super) fn is_moved(operation: &Operation) -> bool {
    operation.kind == OperationKind::Upsert && operation.id.is_some()
}

impl Asked {
    /// Collects what these operations ask for.
    pub(super) fn of(destination: &HttpDestination, operations: &[Operation]) -> Self {
        let asks = &destination.asks;
        let blank = || operations.iter().map(|_| OnceLock::new()).collect::<Vec<_>>();
        let moves = destination.moved.is_some() && operations.iter().any(is_moved);
        let moved = if moves { blank() } else { Vec::new() };
        let asks_something = |operation: &Operation| operation.asks.is_some() || destination.finds(operation);
        if asks.is_empty() || !operations.iter().any(asks_something) {
            return Self { moved, ..Self::default() };
        }
        let mut keys: Vec<Vec<Operation>> = Vec::new();
        for lookup in &asks.lookups {
            let mut distinct = BTreeMap::new();
            for operation in operations {
                let lookups = by_field(operation.asks.as_ref().and_then(|asks| asks.lookups.as_ref()));
                if let Some(value) = lookups.get(&lookup.field).map(|raw| raw.get())
                    && !is_emptying(value)
                {
                    distinct.entry(value.to_owned()).or_insert(operation.n);
                }
            }
            let by = serde_json::to_string(&lookup.by).unwrap_or_default();
            let key = |(n, value): (u32, &String)| Operation {
                n,
                matched: Json::written(format!("{{{by}:{value}}}")),
                ..nobody()
            };
            keys.push((0..).zip(distinct.keys()).map(key).collect());
        }
        Self { rewritten: blank(), links: keys.iter().map(|_| blank()).collect(), keys, moved }
    }

    /// The row that a batch of this step has at this index: a key's number for look-ups, else an operation's position.
    pub(super) fn row<'a>(
        &'a self,
        operations: &'a [Operation],
        step: Step,
        index: usize,
    ) -> Option<&'a Operation> {
        match step {
            Step::LookUp(lookup) => self.keys.get(lookup)?.get(index),
            Step::Read => operations.get(index),
            Step::Move => self.moved.get(index)?.get(),
            Step::Write(_) => match self.rewritten.get(index).and_then(OnceLock::get) {
                Some(rewritten) => Some(rewritten),
                None => operations.get(index),
            },
            Step::Link(lookup) => self.links.get(lookup)?.get(index)?.get(),
        }
    }
}

/// A row of which nothing is said, for requests that are about none.
pub(super) fn nobody() -> Operation {
    let nothing = || Json::written("{}".to_owned());
    Operation {
        n: 0,
        kind: OperationKind::Update,
        key: nothing(),
        matched: nothing(),
        id: None,
        fields: nothing(),
        asks: None,
    }
}

/// What was learnt of a step's row, other than its outcome.
#[derive(Debug)]
pub(super) enum Learnt {
    /// There is such a record.
    Found(FoundRecord),
    /// There is none.
    Missing,
    /// It has its new match value.
    Moved,
    /// It could not be read, or linked, and never will be.
    Refused(Outcome),
    /// It was written, and is still to be linked.
    Written { id: Option<String>, created: Option<bool> },
    /// It was linked.
    Linked,
}

/// What keys lead to, each with the number of its look-up; nothing for a record that is missing and may be.
type FoundKeys = Vec<(usize, Option<FoundRecord>)>;

/// What comes next for an operation.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing before other answers have come.
    Wait,
    /// This step, with the row at this index.
    Send(Step, usize),
    /// It is done.
    Done(Outcome),
}

/// How one operation stands.
#[derive(Debug, Default)]
struct Way {
    /// The keys that it looks up: the field's number and the key's.
    keys: Vec<(usize, usize)>,
    /// Whether its record has to be read: for what it holds, or for its id.
    reads: bool,
    /// Whether it is not told which of an update and a creation it is before that.
    decides: bool,
    /// Whether there is nothing to do if there is no such record.
    needs_record: bool,
    /// Whether its record is still to get its new match value, and so to be written to by its id.
    moves: bool,
    /// What the record holds, once it was read; none if there is no record.
    read: Option<Option<FoundRecord>>,
    /// Id and whether it was created, once it was written.
    written: Option<(Option<String>, Option<bool>)>,
    /// The links that are still to be made: the field's number and the other record's id.
    links: Vec<(usize, String)>,
    refused: Option<Outcome>,
    /// Whether its outcome was given out.
    over: bool,
}

/// Whether an operation has nothing to do to a record that is there if no field is left to write.
fn is_about_fields(operation: &Operation) -> bool {
    match operation.kind {
        OperationKind::Upsert | OperationKind::Create | OperationKind::Update => true,
        OperationKind::Delete | OperationKind::Archive | OperationKind::Clear | OperationKind::Append => {
            false
        }
    }
}

/// How all operations stand that ask something.
#[derive(Debug)]
pub(super) struct Ways<'a> {
    asks: &'a CompiledAsks,
    asked: &'a Asked,
    operations: &'a [Operation],
    style: ValueStyle,
    ways: HashMap<usize, Way>,
    /// By look-up and key: who waits for it, and the answer.
    keys: Vec<Vec<KeyState>>,
}

#[derive(Debug, Default)]
struct KeyState {
    waiting: Vec<usize>,
    answer: Option<Learnt>,
}

impl<'a> Ways<'a> {
    pub(super) fn new(
        destination: &'a HttpDestination,
        asked: &'a Asked,
        operations: &'a [Operation],
    ) -> Self {
        let (asks, style) = (&destination.asks, destination.values);
        let mut ways = Self { asks, asked, operations, style, ways: HashMap::new(), keys: Vec::new() };
        let mut numbers: Vec<HashMap<&str, usize>> = Vec::new();
        for keys in &asked.keys {
            ways.keys.push(keys.iter().map(|_| KeyState::default()).collect());
            numbers.push((keys.iter().map(|key| key.matched.get())).zip(0..).collect());
        }
        for (position, operation) in operations.iter().enumerate() {
            let own = operation.asks.as_deref().filter(|_| !asks.is_empty());
            let moves = !asked.moved.is_empty() && is_moved(operation);
            let finds = destination.finds(operation);
            if own.is_none() && !moves && !finds {
                continue;
            }
            let lookups = by_field(own.and_then(|own| own.lookups.as_ref()));
            let fills_in = own.is_some_and(|own| own.if_empty.is_some()) && asks.read.is_some();
            let decides = finds && !destination.operations.contains_key(&operation.kind);
            let needs_record = (finds && !decides) || operation.kind == OperationKind::Update;
            let mut way = Way { reads: fills_in || finds, decides, needs_record, moves, ..Way::default() };
            for (number, lookup) in asks.lookups.iter().enumerate() {
                let Some(value) = lookups.get(&lookup.field) else { continue };
                let by = serde_json::to_string(&lookup.by).unwrap_or_default();
                let matched = format!("{{{by}:{}}}", value.get());
                let key = numbers.get(number).and_then(|numbers| numbers.get(matched.as_str()));
                way.keys.extend(key.map(|key| (number, *key)));
            }
            for (number, key) in &way.keys {
                if let Some(state) = ways.keys.get_mut(*number).and_then(|keys| keys.get_mut(*key)) {
                    state.waiting.push(position);
                }
            }
            ways.ways.insert(position, way);
        }
        ways
    }

    /// The keys that have to be asked for: each field's number and the key's.
    pub(super) fn all_keys(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let counts: Vec<usize> = self.keys.iter().map(Vec::len).collect();
        counts.into_iter().enumerate().flat_map(|(number, count)| (0..count).map(move |key| (number, key)))
    }

    /// Takes what was learnt; gives the positions of the operations that may go on.
    pub(super) fn learn(&mut self, step: Step, index: usize, learnt: Learnt) -> Vec<usize> {
        if let Step::LookUp(number) = step {
            let state = self.keys.get_mut(number).and_then(|keys| keys.get_mut(index));
            let Some(state) = state else { return Vec::new() };
            state.answer = Some(learnt);
            return state.waiting.clone();
        }
        let Some(way) = self.ways.get_mut(&index) else { return Vec::new() };
        match (learnt, step) {
            (Learnt::Found(record), _) => way.read = Some(Some(record)),
            (Learnt::Missing, Step::Read) => way.read = Some(None),
            // Its record is not there any more: then the row is one as any other.
            (Learnt::Missing | Learnt::Moved, Step::Move) => way.moves = false,
            (Learnt::Missing, _) => {
                let outcome =
                    Outcome::rejected("link_missing", "one of the two records to be linked is not there");
                way.refused = Some(outcome);
            }
            (Learnt::Refused(outcome), _) => way.refused = Some(outcome),
            (Learnt::Written { id, created }, _) => way.written = Some((id, created)),
            (Learnt::Linked, _) => drop(way.links.pop()),
            (Learnt::Moved, _) => {}
        }
        vec![index]
    }

    /// What comes next for the operation at this position.
    pub(super) fn next(&mut self, position: usize) -> Next {
        let (Some(mut way), Some(operation)) = (self.ways.remove(&position), self.operations.get(position))
        else {
            return Next::Wait;
        };
        // A key's answer may come when another one has decided already.
        let next = if way.over { Next::Wait } else { self.next_of(&mut way, position, operation) };
        way.over |= matches!(next, Next::Done(_));
        self.ways.insert(position, way);
        next
    }

    fn next_of(&self, way: &mut Way, position: usize, operation: &Operation) -> Next {
        if let Some(outcome) = &way.refused {
            return Next::Done(outcome.clone());
        }
        if way.written.is_none() {
            let found = match self.found(way) {
                Ok(Some(found)) => found,
                Ok(None) => return Next::Wait,
                Err(outcome) => return Next::Done(outcome),
            };
            let read = match &way.read {
                // What the record holds can be asked for by its new match value once it has that.
                None if way.reads && way.moves => {
                    let fields = Json::written("{}".to_owned());
                    return self.moved(position, Operation { fields, asks: None, ..operation.clone() });
                }
                None if way.reads => return Next::Send(Step::Read, position),
                None => None,
                Some(None) if way.needs_record => {
                    return Next::Done(Outcome::Skipped { why: SkipReason::Missing });
                }
                Some(read) => read.as_ref(),
            };
            let fields = self.fields(operation, &found, read);
            let links = found.into_iter().filter(|(number, _)| self.is_link(*number));
            way.links = links.filter_map(|(number, other)| Some((number, other?.id))).collect();
            match read {
                // The record holds all that the row has to say.
                Some(record) if fields == "{}" && is_about_fields(operation) => {
                    if way.links.is_empty() {
                        return Next::Done(Outcome::Skipped { why: SkipReason::NothingToSay });
                    }
                    way.written = Some((Some(record.id.clone()), Some(false)));
                }
                Some(_) | None => {
                    let kind = match (way.decides, read) {
                        (false, _) => operation.kind,
                        (true, Some(_)) => OperationKind::Update,
                        (true, None) => OperationKind::Create,
                    };
                    let id = operation.id.clone().or_else(|| Some(read?.id.clone()));
                    let fields = Json::written(fields);
                    let rewritten = Operation { kind, id, fields, asks: None, ..operation.clone() };
                    if way.moves {
                        return self.moved(position, rewritten);
                    }
                    if let Some(cell) = self.asked.rewritten.get(position) {
                        cell.get_or_init(|| rewritten);
                    }
                    return Next::Send(Step::Write(kind), position);
                }
            }
        }
        self.linked(way, position, operation)
    }

    /// Gives the record of the operation at this position its new match value, with these fields.
    fn moved(&self, position: usize, operation: Operation) -> Next {
        if let Some(cell) = self.asked.moved.get(position) {
            cell.get_or_init(|| operation);
        }
        Next::Send(Step::Move, position)
    }

    /// The next link of a record that was written, or the outcome.
    fn linked(&self, way: &Way, position: usize, operation: &Operation) -> Next {
        let (id, created) = way.written.clone().unwrap_or_default();
        let Some((number, other)) = way.links.last() else {
            return Next::Done(Outcome::Accepted { id, created });
        };
        let id = id.or_else(|| Some(way.read.as_ref()?.as_ref()?.id.clone()));
        let link = Operation {
            key: Json::of(other).unwrap_or_else(|_| Json::written("null".to_owned())),
            id,
            fields: Json::written("{}".to_owned()),
            kind: OperationKind::Create,
            asks: None,
            ..operation.clone()
        };
        if let Some(cell) = self.asked.links.get(*number).and_then(|links| links.get(position)) {
            cell.get_or_init(|| link);
        }
        Next::Send(Step::Link(*number), position)
    }

    fn is_link(&self, number: usize) -> bool {
        self.asks.lookups.get(number).is_some_and(|lookup| lookup.link.is_some())
    }

    /// What the keys of an operation lead to, once all are answered.
    fn found(&self, way: &Way) -> Result<Option<FoundKeys>, Outcome> {
        let mut found = Vec::with_capacity(way.keys.len());
        for (number, key) in &way.keys {
            let state = self.keys.get(*number).and_then(|keys| keys.get(*key));
            let (Some(state), Some(lookup)) = (state, self.asks.lookups.get(*number)) else { continue };
            let field = || Some(lookup.field.clone());
            match (&state.answer, lookup.on_missing) {
                (None, _) => return Ok(None),
                (Some(Learnt::Found(record)), _) => found.push((*number, Some(record.clone()))),
                (Some(Learnt::Refused(Outcome::Rejected { code, message, .. })), _) => {
                    let (code, message) = (code.clone(), message.clone());
                    return Err(Outcome::Rejected { code, message, field: field() });
                }
                (Some(Learnt::Refused(outcome)), _) => return Err(outcome.clone()),
                (
                    Some(Learnt::Missing | Learnt::Linked | Learnt::Moved | Learnt::Written { .. }),
                    OnMissing::Reject,
                ) => {
                    let message = format!("there is no record of {} with this {}", lookup.object, lookup.by);
                    let code = "lookup_missing".to_owned();
                    return Err(Outcome::Rejected { code, message, field: field() });
                }
                (
                    Some(Learnt::Missing | Learnt::Linked | Learnt::Moved | Learnt::Written { .. }),
                    OnMissing::Skip,
                ) => {}
                (
                    Some(Learnt::Missing | Learnt::Linked | Learnt::Moved | Learnt::Written { .. }),
                    OnMissing::Null,
                ) => {
                    found.push((*number, None));
                }
            }
        }
        Ok(Some(found))
    }

    /// The fields to write, by what was found and read.
    fn fields(
        &self,
        operation: &Operation,
        found: &[(usize, Option<FoundRecord>)],
        read: Option<&FoundRecord>,
    ) -> String {
        let mut parts: Vec<String> = vec![members(&operation.fields).to_owned()];
        let Some(own) = &operation.asks else { return operation.fields.get().to_owned() };
        let member =
            |name: &str, json: &str| format!("{}:{json}", serde_json::to_string(name).unwrap_or_default());
        for (name, value) in by_field(own.if_empty.as_ref()) {
            let place = self.asks.names.iter().position(|other| *other == name);
            let empty = read
                .is_none_or(|read| place.and_then(|place| read.empty.get(place)).is_none_or(|empty| *empty));
            if empty {
                parts.push(member(&name, value.get()));
            }
        }
        let null = match self.style {
            ValueStyle::Json => "null",
            ValueStyle::Text => "\"\"",
        };
        for (number, record) in found.iter().filter(|(number, _)| !self.is_link(*number)) {
            let Some(lookup) = self.asks.lookups.get(*number) else { continue };
            let value = match record {
                None => null.to_owned(),
                Some(record) if record.id_is_number && self.style == ValueStyle::Json => record.id.clone(),
                Some(record) => serde_json::to_string(&record.id).unwrap_or_default(),
            };
            parts.push(member(&lookup.field, &value));
        }
        // What is emptied was not looked up.
        for (name, value) in by_field(own.lookups.as_ref()) {
            let is_link =
                self.asks.lookups.iter().any(|lookup| lookup.field == name && lookup.link.is_some());
            if is_emptying(value.get()) && !is_link {
                parts.push(member(&name, null));
            }
        }
        parts.retain(|part| !part.is_empty());
        format!("{{{}}}", parts.join(","))
    }
}
