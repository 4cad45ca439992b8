//! What can be wrong with a connector file beyond its syntax.

use serde_json::Value;

use super::answer::{Answer, By, Codes, Pointer, Test};
use super::http::{AuthKind, Encoding, HttpConnector, HttpOperation, Method};
use super::template::{
    BodyText, EACH, RowSlot, SPREAD, TextPart, TextSlot, body_text, holds, holds_ids, parse_text,
};
use crate::definition::{Problem, pointer_part};
use crate::operation::OperationKind;
use crate::settle::Repeat;

/// Whether placeholders for parts of a row may stand in a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// The request holds one row.
    One,
    /// The text is the same for all rows.
    None,
}

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It writes records.
    Write,
    /// It reads them.
    Read,
    /// It links them to others.
    Link,
    /// It links them to others in a way that the sync names.
    LabelledLink,
    /// It shows whether it may.
    Probe,
}

impl HttpConnector {
    /// What is wrong with it beyond its syntax: all problems at once.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Check { connector: self, purpose: Purpose::Write, problems: Vec::new() };
        check.all();
        check.problems
    }
}

struct Check<'a> {
    connector: &'a HttpConnector,
    /// What the request that is looked at is for.
    purpose: Purpose,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn all(&mut self) {
        let connector = self.connector;
        if connector.name.trim().is_empty() {
            self.add("/name", "the connector needs a name");
        }
        if let Some(address) = &connector.address
            && !(address.starts_with("https://") || address.starts_with("http://"))
        {
            self.add("/address", "the address must begin with https:// or http://");
        }
        if let Some(url) = &connector.token_url {
            if !(url.starts_with("https://") || url.starts_with("http://") || url.starts_with('/')) {
                self.add("/token_url", "give a URL that begins with https://, or a path that begins with /");
            }
            self.text("/token_url", url, Rows::None);
        }
        for name in connector.settings.keys() {
            if !matches!(TextSlot::named(name), TextSlot::Setting(_)) || name.contains(['{', '}']) {
                self.add(
                    format!("/settings/{}", pointer_part(name)),
                    "this name is taken by a placeholder of Penstock",
                );
            }
        }
        for (name, text) in &connector.headers {
            let at = format!("/headers/{}", pointer_part(name));
            self.header_name(&at, name);
            self.text(&at, text, Rows::None);
        }
        self.codes("/error/code", &connector.error.code);
        self.maybe_pointer("/error/message", connector.error.message.as_ref());
        self.statuses("/statuses", connector.statuses.keys());
        if connector.objects.is_empty() {
            self.add("/objects", "name at least one object, or * for all");
        }
        for (object, operations) in &connector.objects {
            let at = format!("/objects/{}", pointer_part(object));
            if operations.is_empty() {
                self.add(&at, "name at least one operation, such as upsert");
            }
            for (kind, operation) in operations {
                let kind = serde_json::to_value(kind).ok();
                let kind = kind.as_ref().and_then(Value::as_str).unwrap_or_default();
                self.operation(&format!("{at}/{kind}"), operation);
            }
        }
        self.purpose = Purpose::Probe;
        if let Some(probe) = &connector.probe {
            self.operation("/probe", probe);
        }
        self.purpose = Purpose::Read;
        for (object, read) in &connector.reads {
            let at = format!("/reads/{}", pointer_part(object));
            self.operation(&at, read);
            if read.answer.results.as_ref().is_none_or(|results| results.id.is_none()) {
                let message = "say where the records stand that are found, and where in each its id: a read is known by it";
                self.add(format!("{at}/answer/results"), message);
            }
        }
        self.purpose = Purpose::Link;
        for (object, link) in &connector.links {
            self.operation(&format!("/links/{}", pointer_part(object)), link);
        }
        self.purpose = Purpose::LabelledLink;
        for (object, link) in &connector.labelled_links {
            let at = format!("/labelled_links/{}", pointer_part(object));
            self.operation(&at, link);
            if !link.body.as_ref().is_some_and(|body| holds(body, RowSlot::Label)) {
                self.add(format!("{at}/body"), "say where the kind of link stands: $label");
            }
        }
        self.purpose = Purpose::Write;
        for (object, moved) in &connector.moves {
            self.moved(object, moved);
        }
    }

    /// A request by which a record gets another match value.
    fn moved(&mut self, object: &str, moved: &HttpOperation) {
        let at = format!("/moves/{}", pointer_part(object));
        self.operation(&at, moved);
        if !moved.needs_id() {
            self.add(&at, "a record whose match value changes is told by its id: $id, or {id} in the path");
        }
        let tells = [RowSlot::Record, RowSlot::Match, RowSlot::MatchValue];
        let body = moved.body.as_ref();
        if !tells.into_iter().any(|slot| body.is_some_and(|body| holds(body, slot))) {
            let message = "the record gets its new match value here: $record, $match or $match.value";
            self.add(format!("{at}/body"), message);
        }
        if moved.repeat(OperationKind::Update) == Repeat::Unsafe {
            self.add(format!("{at}/repeat"), "after a lost answer this is said again: it must be safe");
        }
        let connector = self.connector;
        let is_its = |name: &str| name == object || (object == "*" && !connector.moves.contains_key(name));
        for (name, operations) in connector.objects.iter().filter(|(name, _)| is_its(name)) {
            let upsert = operations.get(&OperationKind::Upsert);
            if upsert.is_some_and(|it| it.answer.results.as_ref().is_none_or(|results| results.id.is_none()))
            {
                let at = format!("/objects/{}/upsert/answer/results", pointer_part(name));
                self.add(
                    at,
                    "say where the record's id stands: moves write to records by the ids that are told here",
                );
            }
        }
    }

    fn operation(&mut self, at: &str, operation: &HttpOperation) {
        let rows = if operation.batch.rows > 1 { Rows::None } else { Rows::One };
        let path_at = format!("{at}/path");
        if !operation.path.starts_with('/') {
            self.add(&path_at, "a path begins with /");
        }
        self.text(&path_at, &operation.path, rows);
        if operation.batch.rows == 0 {
            self.add(format!("{at}/batch/rows"), "a request holds at least one row");
        }
        let mut each = 0;
        match &operation.body {
            Some(body) => {
                if operation.method == Method::Get {
                    self.add(format!("{at}/body"), "a GET request has no body");
                }
                self.body(&format!("{at}/body"), body, rows, &mut each);
                if operation.encoding == Encoding::Form && (!body.is_object() || body.get(EACH).is_some()) {
                    self.add(format!("{at}/body"), "a form has fields: its body is an object");
                }
            }
            None if rows == Rows::None && !holds_ids(&operation.path) => {
                self.add(
                    format!("{at}/body"),
                    "a request of several rows needs a body with $each, or {ids} in its path",
                );
            }
            None => {}
        }
        if operation.body.is_some() && rows == Rows::None && each == 0 {
            self.add(format!("{at}/body"), "a request of several rows needs {\"$each\": …} in its body");
        }
        if each > 1 {
            self.add(format!("{at}/body"), "$each may stand in a body once");
        }
        if let Some(name) = &operation.idempotency_key {
            self.header_name(&format!("{at}/idempotency_key"), name);
        }
        self.statuses(&format!("{at}/statuses"), operation.statuses.keys());
        self.answer(&format!("{at}/answer"), &operation.answer);
    }

    fn body(&mut self, at: &str, body: &Value, rows: Rows, each: &mut usize) {
        match body {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => match body_text(text) {
                Err(message) => self.add(at, message),
                Ok(BodyText::Text(text)) => self.text(at, text, Rows::None),
                Ok(BodyText::Slot(slot)) => self.slot(at, slot, rows),
            },
            Value::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.body(&format!("{at}/{n}"), item, rows, each);
                }
            }
            Value::Object(members) => match members.get(EACH) {
                Some(element) => {
                    *each += 1;
                    if members.len() > 1 {
                        self.add(at, "$each stands alone in its object");
                    }
                    let mut within = 0;
                    self.body(&format!("{at}/{EACH}"), element, Rows::One, &mut within);
                    if within > 0 {
                        self.add(at, "$each may not stand within $each");
                    }
                }
                None => {
                    for (name, member) in members {
                        let at = format!("{at}/{}", pointer_part(name));
                        if name == SPREAD {
                            self.spread(&at, member, rows);
                        } else {
                            self.body(&at, member, rows, each);
                        }
                    }
                }
            },
        }
    }

    fn slot(&mut self, at: &str, slot: RowSlot, rows: Rows) {
        let known = match slot {
            RowSlot::Secret => true,
            RowSlot::Match | RowSlot::MatchField | RowSlot::MatchValue | RowSlot::Ordinal => {
                self.purpose != Purpose::Probe
            }
            RowSlot::Id => matches!(self.purpose, Purpose::Write | Purpose::Link | Purpose::LabelledLink),
            RowSlot::Label => self.purpose == Purpose::LabelledLink,
            RowSlot::Record | RowSlot::Fields | RowSlot::Key => self.purpose == Purpose::Write,
            RowSlot::Names => self.purpose == Purpose::Read,
            RowSlot::OtherId => matches!(self.purpose, Purpose::Link | Purpose::LabelledLink),
        };
        if slot == RowSlot::Secret && !self.connector.auth.contains(&AuthKind::Body) {
            self.add(at, "list body under auth: only then is there a $secret");
        }
        if !known {
            let message = match self.purpose {
                Purpose::Write => {
                    "there is no such thing where records are written: $names stands in reads, $other.id in links"
                }
                Purpose::Read => {
                    "a read knows of a row only its match: $match, $match.field, $match.value, $ordinal, and $names"
                }
                Purpose::Probe => "a probe is about no row: only $secret stands in it",
                Purpose::Link | Purpose::LabelledLink => {
                    "a link knows of a row only $id, $other.id, $match, $match.field, $match.value and $ordinal; $label stands in labelled_links"
                }
            };
            self.add(at, message);
        } else if rows == Rows::None && !slot.is_shared() {
            self.add(at, "this differs from row to row: it must stand within $each");
        }
    }

    fn spread(&mut self, at: &str, member: &Value, rows: Rows) {
        match member.as_str().map(body_text) {
            Some(Ok(BodyText::Slot(slot @ (RowSlot::Record | RowSlot::Fields | RowSlot::Match)))) => {
                self.slot(at, slot, rows);
            }
            Some(Ok(BodyText::Slot(_) | BodyText::Text(_)) | Err(_)) | None => {
                self.add(at, "only $record, $fields and $match have members to put here");
            }
        }
    }

    fn answer(&mut self, at: &str, answer: &Answer) {
        if let Some(results) = &answer.results {
            let at = format!("{at}/results");
            self.pointer(&format!("{at}/at"), &results.at);
            self.by(&format!("{at}/by"), &results.by);
            self.test(&format!("{at}/accepted"), results.accepted.as_ref());
            self.test(&format!("{at}/created"), results.created.as_ref());
            self.maybe_pointer(&format!("{at}/id"), results.id.as_ref());
            self.maybe_pointer(&format!("{at}/fields"), results.fields.as_ref());
            if results.fields.is_some() && self.purpose != Purpose::Read {
                self.add(format!("{at}/fields"), "only a read tells of fields");
            }
            self.codes(&format!("{at}/code"), &results.code);
            self.maybe_pointer(&format!("{at}/message"), results.message.as_ref());
            self.maybe_pointer(&format!("{at}/field"), results.field.as_ref());
        }
        for (n, errors) in answer.errors.iter().enumerate() {
            let at = format!("{at}/errors/{n}");
            self.pointer(&format!("{at}/at"), &errors.at);
            self.by(&format!("{at}/by"), &errors.by);
            if errors.by.contains(&By::Position) {
                self.add(
                    format!("{at}/by"),
                    "a list of errors has no element for rows without one: position can't tell the row",
                );
            }
            self.codes(&format!("{at}/code"), &errors.code);
            self.maybe_pointer(&format!("{at}/message"), errors.message.as_ref());
            self.maybe_pointer(&format!("{at}/field"), errors.field.as_ref());
        }
        self.test(&format!("{at}/proof"), answer.proof.as_ref());
    }

    fn by(&mut self, at: &str, by: &[By]) {
        if by.is_empty() {
            self.add(at, "say how an element tells its row");
        }
        for (n, by) in by.iter().enumerate() {
            match by {
                By::Position => {}
                By::Index(pointer) | By::Ordinal(pointer) | By::Match(pointer) | By::Id(pointer) => {
                    self.pointer(&format!("{at}/{n}"), pointer);
                }
            }
        }
    }

    fn test(&mut self, at: &str, test: Option<&Test>) {
        if let Some(test) = test {
            self.pointer(&format!("{at}/at"), &test.at);
            if test.is.iter().any(|value| value.is_object() || value.is_array() || value.is_null()) {
                self.add(format!("{at}/is"), "only texts, numbers and booleans can be compared");
            }
        }
    }

    fn codes(&mut self, at: &str, codes: &Codes) {
        for pointer in &codes.0 {
            self.pointer(at, pointer);
        }
    }

    fn maybe_pointer(&mut self, at: &str, pointer: Option<&Pointer>) {
        if let Some(pointer) = pointer {
            self.pointer(at, pointer);
        }
    }

    fn pointer(&mut self, at: &str, Pointer(text): &Pointer) {
        if !(text.is_empty() || text.starts_with('/')) {
            self.add(at, "a pointer is empty or begins with /");
        }
        self.text(at, text, Rows::None);
    }

    fn text(&mut self, at: &str, text: &str, rows: Rows) {
        let parts = match parse_text(text) {
            Ok(parts) => parts,
            Err(message) => return self.add(at, message),
        };
        for part in parts {
            let TextPart::Placeholder(name) = part else { continue };
            match TextSlot::named(&name) {
                TextSlot::Object | TextSlot::MatchField => {}
                TextSlot::Other | TextSlot::OtherId
                    if !matches!(self.purpose, Purpose::Link | Purpose::LabelledLink) =>
                {
                    self.add(at, format!("{{{name}}} stands in links only"));
                }
                TextSlot::Other => {}
                TextSlot::MatchValue | TextSlot::Id if self.purpose == Purpose::Probe => {
                    self.add(at, format!("a probe is about no row: {{{name}}} can't stand in it"));
                }
                TextSlot::MatchValue | TextSlot::Id | TextSlot::OtherId => {
                    if rows == Rows::None {
                        self.add(
                            at,
                            format!("{{{name}}} may stand in the path of a request of one row only"),
                        );
                    }
                }
                TextSlot::Ids => {
                    if !at.ends_with("/path") {
                        self.add(at, "{ids} may stand in the path of a request only");
                    }
                }
                TextSlot::Setting(name) => {
                    if !self.connector.settings.contains_key(name) {
                        self.add(at, format!("there is no setting {name}: list it under settings"));
                    }
                }
            }
        }
    }

    fn header_name(&mut self, at: &str, name: &str) {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(is_token) {
            self.add(at, "this is not a header's name");
        }
    }

    fn statuses<'a>(&mut self, at: &str, statuses: impl Iterator<Item = &'a u16>) {
        for status in statuses {
            if !(100..=599).contains(status) {
                self.add(format!("{at}/{status}"), "an HTTP status is a number from 100 to 599");
            }
        }
    }

    fn add(&mut self, at: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::at(at, message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(file: Value) -> Vec<String> {
        let connector: HttpConnector = serde_json::from_value(file).unwrap();
        connector.validate().into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn a_small_file_is_right() {
        let file = json!({"name": "crm", "objects": {"*": {"upsert": {"method": "PUT", "path": "/{object}/{match.value}", "body": "$record"}}}});
        assert_eq!(problems(file), Vec::<String>::new());
    }

    #[test]
    fn every_mistake_is_pointed_at() {
        let upsert = |operation: Value| json!({"name": "crm", "objects": {"*": {"upsert": operation}}});
        for (file, pointers) in [
            (json!({"name": " ", "address": "crm", "objects": {}}), vec!["/name", "/address", "/objects"]),
            (
                json!({"name": "crm", "settings": {"id": {}}, "objects": {"a/b": {}}}),
                vec!["/settings/id", "/objects/a~1b"],
            ),
            (
                upsert(json!({"method": "POST", "path": "x", "batch": {"rows": 2}})),
                vec!["/objects/*/upsert/path", "/objects/*/upsert/body"],
            ),
            (
                upsert(json!({"method": "POST", "path": "/{nope}", "body": "$nope"})),
                vec!["/objects/*/upsert/path", "/objects/*/upsert/body"],
            ),
            (
                upsert(
                    json!({"method": "POST", "path": "/{id}", "batch": {"rows": 2}, "body": {"$each": "$record"}}),
                ),
                vec!["/objects/*/upsert/path"],
            ),
            (
                upsert(
                    json!({"method": "POST", "path": "/", "batch": {"rows": 2}, "body": {"a": {"$each": "$record"}, "b": "$id", "c": {"$each": {"...": "$id"}}}}),
                ),
                vec![
                    "/objects/*/upsert/body/b",
                    "/objects/*/upsert/body/c/$each/...",
                    "/objects/*/upsert/body",
                ],
            ),
            (
                upsert(
                    json!({"method": "GET", "path": "/", "body": {}, "statuses": {"700": "retry"}, "idempotency_key": "a b",
                    "answer": {"errors": [{"at": "errors", "by": ["position"]}], "proof": {"at": "/ok", "is": [null]}}}),
                ),
                vec![
                    "/objects/*/upsert/body",
                    "/objects/*/upsert/idempotency_key",
                    "/objects/*/upsert/statuses/700",
                    "/objects/*/upsert/answer/errors/0/at",
                    "/objects/*/upsert/answer/errors/0/by",
                    "/objects/*/upsert/answer/proof/is",
                ],
            ),
            (
                json!({"name": "crm", "objects": {"*": {"upsert": {"method": "PUT", "path": "/{match.value}", "body": "$label"}}},
                    "labelled_links": {"*": {"method": "POST", "path": "/{id}/{other.id}", "body": {"kind": "$other.id"}}},
                    "moves": {"*": {"method": "PUT", "path": "/x", "body": "$fields", "repeat": "unsafe"}}}),
                vec![
                    "/objects/*/upsert/body",
                    "/labelled_links/*/body",
                    "/moves/*",
                    "/moves/*/body",
                    "/moves/*/repeat",
                    "/objects/*/upsert/answer/results",
                ],
            ),
        ] {
            assert_eq!(problems(file.clone()), pointers, "{file}");
        }
    }
}
