//! What has to be asked before a row can be written, and linked after: fields that are written only if they are empty, and
//! fields that refer to other records.

use std::collections::BTreeMap;

use penstock_model::connector::{HttpConnector, HttpOperation};
use penstock_model::definition::{LookupField, Mode, OnMissing, OnNull, Problem, ResolvedSync, pointer_part};
use penstock_model::operation::OperationKind;
use penstock_model::settle::Repeat;

use super::compile::compile_operation;
use super::encode::CompiledOperation;
use super::texts::Texts;

/// What a sync's fields ask of the destination. Nothing, in most syncs.
#[derive(Debug, Default)]
pub(super) struct CompiledAsks {
    /// How the record itself is read, if any field is written only if it is empty.
    pub(super) read: Option<CompiledOperation>,
    /// The fields that a read asks for, in the order in which its answer tells of them.
    pub(super) names: Vec<String>,
    /// The fields that refer to other records.
    pub(super) lookups: Vec<CompiledLookup>,
}

impl CompiledAsks {
    /// Whether nothing is asked.
    pub(super) fn is_empty(&self) -> bool {
        self.read.is_none() && self.lookups.is_empty()
    }

    /// Whether any field becomes a link.
    pub(super) fn has_links(&self) -> bool {
        self.lookups.iter().any(|lookup| lookup.link.is_some())
    }
}

/// A field that refers to another record.
#[derive(Debug)]
pub(super) struct CompiledLookup {
    /// The field's name.
    pub(super) field: String,
    /// The other record's object.
    pub(super) object: String,
    /// The other record's field.
    pub(super) by: String,
    pub(super) on_missing: OnMissing,
    /// How the other record is found.
    pub(super) read: CompiledOperation,
    /// How the record is linked to it; without it the other's id becomes the field's value.
    pub(super) link: Option<CompiledOperation>,
}

/// Compiles what the sync's fields ask for; what the connector can't do is added to `problems`.
pub(super) fn compile(
    definition: &ResolvedSync,
    connector: &HttpConnector,
    address: &str,
    texts: &Texts<'_>,
    problems: &mut Vec<Problem>,
) -> CompiledAsks {
    let mut compiler = Compiler { definition, connector, address, texts, problems };
    CompiledAsks { read: compiler.own_read(), names: compiler.names(), lookups: compiler.lookups() }
}

struct Compiler<'a> {
    definition: &'a ResolvedSync,
    connector: &'a HttpConnector,
    address: &'a str,
    /// Those of the sync's own object.
    texts: &'a Texts<'a>,
    problems: &'a mut Vec<Problem>,
}

impl Compiler<'_> {
    /// The fields that the record itself is asked for: the match fields as well, by which answers tell the row.
    fn names(&self) -> Vec<String> {
        let sync = &self.definition.sync;
        sync.matched.keys().cloned().chain(sync.if_empty().map(str::to_owned)).collect()
    }

    /// Whether any operation of the sync has to find its record before it is sent.
    fn finds(&self) -> bool {
        let sync = &self.definition.sync;
        let written = match sync.mode {
            Mode::Upsert => OperationKind::Upsert,
            Mode::CreateOnly => OperationKind::Create,
            Mode::UpdateOnly => OperationKind::Update,
            Mode::Append => OperationKind::Append,
        };
        let needs_id = |kind: OperationKind| {
            let operations = self.connector.operations(&sync.object);
            operations.and_then(|operations| operations.get(&kind)).is_some_and(HttpOperation::needs_id)
        };
        (written == OperationKind::Upsert && self.connector.finds_first(&sync.object))
            || needs_id(written)
            || sync.on_removed.operation().is_some_and(needs_id)
    }

    fn own_read(&mut self) -> Option<CompiledOperation> {
        let sync = &self.definition.sync;
        let Some(first) = sync.if_empty().next() else {
            let read = self.connector.read(&sync.object).filter(|_| self.finds())?;
            let texts = Texts { names: Some(self.names()), ..self.texts.clone() };
            return self.operation(OperationKind::Update, read, texts);
        };
        let can = self.connector.capabilities(&sync.object).is_some_and(|can| can.if_empty);
        let Some(read) = self.connector.read(&sync.object).filter(|_| can) else {
            let message = format!(
                "the connector {} can't tell whether a field of {} is empty: it has no read that tells of fields",
                self.connector.name, sync.object
            );
            self.problems.push(Problem::at(format!("/sync/fields/{}/write", pointer_part(first)), message));
            return None;
        };
        let texts = Texts { names: Some(self.names()), ..self.texts.clone() };
        self.operation(OperationKind::Update, read, texts)
    }

    fn lookups(&mut self) -> Vec<CompiledLookup> {
        let sync = &self.definition.sync;
        sync.lookups().filter_map(|lookup| self.lookup(&lookup)).collect()
    }

    fn lookup(&mut self, lookup: &LookupField<'_>) -> Option<CompiledLookup> {
        let at = format!("/sync/fields/{}", pointer_part(lookup.field));
        let Some(read) = self.connector.read(lookup.object) else {
            let message = format!(
                "the connector {} can't look {} up: it has no read for that object",
                self.connector.name, lookup.object
            );
            self.problems.push(Problem::at(format!("{at}/lookup"), message));
            return None;
        };
        let texts = Texts {
            object: lookup.object,
            match_field: Some(lookup.by.to_owned()),
            names: Some(vec![lookup.by.to_owned()]),
            ..self.texts.clone()
        };
        let read = self.operation(OperationKind::Update, read, texts);
        let object = &self.definition.sync.object;
        let link = match lookup.label {
            None => self.connector.link(object),
            Some(_) => match self.connector.labelled_link(object) {
                Some(link) => Some(link),
                None => {
                    let message = format!(
                        "the connector {} links records in one way only: leave it out",
                        self.connector.name
                    );
                    self.problems.push(Problem::at(format!("{at}/label"), message));
                    return None;
                }
            },
        };
        let link = match link {
            Some(link) => Some(self.link(lookup, link, &at)?),
            None => None,
        };
        Some(CompiledLookup {
            field: lookup.field.to_owned(),
            object: lookup.object.to_owned(),
            by: lookup.by.to_owned(),
            on_missing: lookup.on_missing,
            read: read?,
            link,
        })
    }

    fn link(
        &mut self,
        lookup: &LookupField<'_>,
        link: &HttpOperation,
        at: &str,
    ) -> Option<CompiledOperation> {
        let (sync, before) = (&self.definition.sync, self.problems.len());
        let name = &self.connector.name;
        let mut add = |at: String, message: String| self.problems.push(Problem::at(at, message));
        if !sync.mode.finds_records() {
            let message = format!(
                "{name} links records by a request of its own, which may be repeated with the record's: that needs mode upsert or \
                 update_only"
            );
            add(format!("{at}/lookup"), message);
        }
        if lookup.on_missing == OnMissing::Null {
            let message =
                format!("{name} links records, and a link can't be emptied: on_missing is reject or skip");
            add(format!("{at}/on_missing"), message);
        }
        if sync.fields.get(lookup.field).and_then(|field| field.details().on_null) == Some(OnNull::Clear) {
            let message = format!("{name} links records, and a link can't be emptied: leave on_null out");
            add(format!("{at}/on_null"), message);
        }
        let writes = [OperationKind::Upsert, OperationKind::Update]
            .into_iter()
            .filter_map(|kind| Some((kind, self.connector.operations(&sync.object)?.get(&kind)?)));
        for (kind, write) in writes {
            let tells_id = write.answer.results.as_ref().is_some_and(|results| results.id.is_some());
            if link.needs_id() && !tells_id {
                add(
                    "/connector/links".to_owned(),
                    format!(
                        "a link needs the record's id, and the answer of {} does not tell it",
                        kind.name()
                    ),
                );
            }
            if write.repeat(kind) == Repeat::Unsafe {
                add(
                    "/connector/links".to_owned(),
                    format!("before a link the record may be written twice, and {} may not", kind.name()),
                );
            }
        }
        if self.problems.len() > before {
            return None;
        }
        let texts = Texts { other: Some(lookup.object), label: lookup.label, ..self.texts.clone() };
        self.operation(OperationKind::Create, link, texts)
    }

    fn operation(
        &mut self,
        kind: OperationKind,
        operation: &HttpOperation,
        mut texts: Texts<'_>,
    ) -> Option<CompiledOperation> {
        texts.wants_match_field = false;
        let limits = &self.definition.connection.limits;
        // It may be sent twice, whatever it is compiled as.
        let compiled = compile_operation(kind, operation, self.connector, limits, self.address, &mut texts);
        if texts.wants_match_field && texts.match_field.is_none() {
            let message =
                format!("{} finds records by exactly one field: match must name one", self.connector.name);
            self.problems.push(Problem::at("/sync/match", message));
            return None;
        }
        match compiled {
            Ok(compiled) => {
                Some(CompiledOperation { repeat: Repeat::Safe, idempotency_key: None, ..compiled })
            }
            Err(message) => {
                self.problems.push(Problem::at("/connector", message));
                None
            }
        }
    }
}

/// The members of an object of asks, by field; none if it is no object.
pub(super) fn by_field(
    json: Option<&penstock_model::json::Json>,
) -> BTreeMap<String, &serde_json::value::RawValue> {
    json.and_then(|json| serde_json::from_str(json.get()).ok()).unwrap_or_default()
}

/// Whether a value of an operation says that the field is to be emptied, in either style.
pub(super) fn is_emptying(json: &str) -> bool {
    matches!(json, "null" | "\"\"")
}
