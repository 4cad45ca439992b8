//! What an object's fields are, and which values they take.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::jobs::process::{CLEARS, JobRecord, Object};
use crate::row_error::RowError;

const ID: &str = "Id";

/// The kind of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SalesforceKind {
    /// Text of at most so many characters.
    Text(usize),
    /// An e-mail address.
    Email,
    /// A number.
    Number,
    /// True or false.
    Flag,
    /// A day.
    Date,
    /// A moment.
    Moment,
    /// One of these words; restricted.
    Choice(Vec<String>),
    /// Several words, with semicolons between.
    Choices,
    /// A record of this object, under this name of the relationship.
    Reference {
        /// The other object.
        object: String,
        /// The name of the relationship: `Account`, `Parent__r`.
        relationship: String,
    },
}

/// A field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: String,
    kind: SalesforceKind,
    external_id: bool,
    required: bool,
}

/// The fields of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    fields: Vec<Field>,
}

/// A value that is not of its field's kind: the whole request can't be read.
pub(super) struct Unreadable(pub(super) String);

impl Schema {
    /// An object without fields but `Id`.
    #[must_use]
    pub fn bare() -> Self {
        Self::default()
    }

    /// With a further field, or another in its place.
    #[must_use]
    pub fn with(mut self, name: &str, kind: SalesforceKind) -> Self {
        self.fields.retain(|field| field.name != name);
        self.fields.push(Field { name: name.to_owned(), kind, external_id: false, required: false });
        self
    }

    /// With a further field that identifies a record.
    #[must_use]
    pub fn external_id(self, name: &str, kind: SalesforceKind) -> Self {
        let mut schema = self.with(name, kind);
        schema
            .fields
            .iter_mut()
            .filter(|field| field.name == name)
            .for_each(|field| field.external_id = true);
        schema
    }

    /// With a further field that every record has.
    #[must_use]
    pub fn required(self, name: &str, kind: SalesforceKind) -> Self {
        let mut schema = self.with(name, kind);
        schema.fields.iter_mut().filter(|field| field.name == name).for_each(|field| field.required = true);
        schema
    }

    /// The accounts of an org, with some fields of its own.
    #[must_use]
    pub fn accounts() -> Self {
        use SalesforceKind::{Number, Text};
        Self::bare()
            .required("Name", Text(255))
            .with("Industry", Text(255))
            .with("Phone", Text(40))
            .with("NumberOfEmployees", Number)
            .external_id("External_Id__c", Text(64))
    }

    /// The contacts of an org, with some fields of its own.
    #[must_use]
    pub fn contacts() -> Self {
        use SalesforceKind::{Choice, Choices, Date, Email, Flag, Moment, Number, Reference, Text};
        let segments = ["new", "regular", "loyal"].map(str::to_owned).to_vec();
        let account = Reference { object: "Account".to_owned(), relationship: "Account".to_owned() };
        let owner = Reference { object: "User".to_owned(), relationship: "Owner".to_owned() };
        Self::bare()
            .required("LastName", Text(80))
            .with("FirstName", Text(40))
            .with("Email", Email)
            .with("Phone", Text(40))
            .with("Birthdate", Date)
            .with("AccountId", account)
            .with("OwnerId", owner)
            .external_id("External_Id__c", Text(64))
            .external_id("Customer_Number__c", Number)
            .with("Segment__c", Choice(segments))
            .with("Interests__c", Choices)
            .with("Lifetime_Value__c", Number)
            .with("Order_Count__c", Number)
            .with("Last_Order__c", Moment)
            .with("Newsletter__c", Flag)
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name))
    }

    /// The field behind a relationship, and the other object.
    fn relationship(&self, name: &str) -> Option<(&Field, &str)> {
        self.fields.iter().find_map(|field| {
            let SalesforceKind::Reference { object, relationship } = &field.kind else { return None };
            relationship.eq_ignore_ascii_case(name).then_some((field, object.as_str()))
        })
    }

    pub(super) fn external_ids(&self) -> Vec<String> {
        self.fields.iter().filter(|field| field.external_id).map(|field| field.name.clone()).collect()
    }

    pub(super) fn required_fields(&self) -> Vec<String> {
        self.fields.iter().filter(|field| field.required).map(|field| field.name.clone()).collect()
    }

    pub(super) fn is_external_id(&self, name: &str) -> bool {
        self.field(name).is_some_and(|field| field.external_id)
    }

    /// Whether a CSV may have this column.
    pub(crate) fn knows(&self, column: &str, schemas: &BTreeMap<String, Self>) -> bool {
        match column.split_once('.') {
            None => column == ID || self.field(column).is_some(),
            Some((relationship, by)) => self
                .relationship(relationship)
                .and_then(|(_, object)| schemas.get(object))
                .is_some_and(|other| other.is_external_id(by)),
        }
    }

    /// A reference that a CSV gives by its own field and by one of the other record.
    pub(crate) fn named_twice(&self, columns: &[String]) -> Option<&str> {
        let relationships = columns.iter().filter_map(|column| column.split_once('.'));
        let fields = relationships.filter_map(|(relationship, _)| self.relationship(relationship));
        fields
            .map(|(field, _)| field.name.as_str())
            .find(|field| columns.iter().any(|column| column == field))
    }

    /// A row of a CSV with its references resolved.
    ///
    /// # Errors
    /// Why the row is refused.
    pub(crate) fn read_cells(
        &self,
        row: JobRecord,
        objects: &BTreeMap<String, Object>,
    ) -> Result<JobRecord, RowError> {
        let mut read = JobRecord::new();
        for (column, text) in row {
            match column.split_once('.') {
                Some(_) if text.is_empty() => {}
                Some((relationship, by)) => {
                    let (field, id) = self.refer(relationship, by, &text, objects)?;
                    read.insert(field, id);
                }
                None => {
                    if !text.is_empty() && text != CLEARS {
                        self.check(&column, &text, objects)?;
                    }
                    read.insert(column, text);
                }
            }
        }
        Ok(read)
    }

    /// A record of a JSON request as a row, its references resolved: what is emptied is `#N/A`.
    pub(super) fn read_json(
        &self,
        object: &str,
        members: &serde_json::Map<String, Value>,
        objects: &BTreeMap<String, Object>,
    ) -> Result<Result<JobRecord, RowError>, Unreadable> {
        let mut read = JobRecord::new();
        let mut refused = None;
        for (name, value) in members.iter().filter(|(name, _)| *name != "attributes") {
            if name.eq_ignore_ascii_case(ID) {
                let Value::String(id) = value else { return Err(not("id", value)) };
                read.insert(ID.to_owned(), id.clone());
                continue;
            }
            if let (Some(_), Value::Object(by)) = (self.relationship(name), value) {
                let by: Vec<_> = by.iter().filter(|(name, _)| *name != "attributes").collect();
                let [(field, key)] = by.as_slice() else {
                    return Err(Unreadable(format!("{name} must hold one field of the other record")));
                };
                match self.refer(name, field, &text(key), objects) {
                    Ok((field, id)) => drop(read.insert(field, id)),
                    Err(error) => refused = refused.or(Some(error)),
                }
                continue;
            }
            let Some(field) = self.field(name) else {
                return Err(Unreadable(format!("No such column '{name}' on sobject of type {object}")));
            };
            let cell = if value.is_null() { String::new() } else { field.kind.read(value)? };
            let cell = if cell.is_empty() { CLEARS.to_owned() } else { cell };
            if cell != CLEARS
                && let Err(error) = self.check(&field.name, &cell, objects)
            {
                refused = refused.or(Some(error));
            }
            read.insert(field.name.clone(), cell);
        }
        Ok(match refused {
            Some(error) => Err(error),
            None => Ok(read),
        })
    }

    /// The field and the id that a reference by a field of the other record stands for.
    fn refer(
        &self,
        relationship: &str,
        by: &str,
        key: &str,
        objects: &BTreeMap<String, Object>,
    ) -> Result<(String, String), RowError> {
        let Some((field, object)) = self.relationship(relationship) else {
            return Err(RowError::new("INVALID_FIELD", &format!("no relationship {relationship}")));
        };
        let id = objects.get(object).and_then(|records| records.find(by, key));
        let id = id.ok_or_else(|| {
            let message =
                format!("Foreign key external ID: {key} not found for field {by} in entity {object}");
            RowError::new("INVALID_FIELD", &message)
        })?;
        Ok((field.name.clone(), id.to_owned()))
    }

    /// Whether a field takes a value.
    fn check(&self, name: &str, text: &str, objects: &BTreeMap<String, Object>) -> Result<(), RowError> {
        let Some(field) = self.field(name) else { return Ok(()) };
        let is_sound = match &field.kind {
            SalesforceKind::Text(most) => text.chars().count() <= *most,
            SalesforceKind::Email => is_email(text),
            SalesforceKind::Choice(words) => words.iter().any(|word| word == text),
            SalesforceKind::Choices => true,
            SalesforceKind::Number => text.parse::<f64>().is_ok(),
            SalesforceKind::Flag => matches!(text, "true" | "false"),
            SalesforceKind::Date => is_date(text),
            SalesforceKind::Moment => is_moment(text),
            SalesforceKind::Reference { object, .. } => {
                objects.get(object).is_some_and(|all| all.records.contains_key(text))
            }
        };
        if is_sound {
            return Ok(());
        }
        let (code, what) = match &field.kind {
            SalesforceKind::Text(_) => ("STRING_TOO_LONG", "data value too large"),
            SalesforceKind::Email => ("INVALID_EMAIL_ADDRESS", "invalid email address"),
            SalesforceKind::Choice(_) | SalesforceKind::Choices => {
                ("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", "bad value for restricted picklist field")
            }
            SalesforceKind::Number | SalesforceKind::Flag | SalesforceKind::Date | SalesforceKind::Moment => {
                ("INVALID_TYPE_ON_FIELD_IN_RECORD", "value not of required type")
            }
            SalesforceKind::Reference { .. } => ("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id"),
        };
        Err(RowError::of_field(code, &format!("{name}: {what}"), &field.name))
    }

    /// The object as `describe` shows it.
    pub(super) fn describe(&self, name: &str) -> Value {
        let id = json!({"name": ID, "type": "id", "externalId": false, "idLookup": true, "nillable": false,
            "createable": false, "updateable": false, "referenceTo": [], "relationshipName": null});
        let fields = self.fields.iter().map(|field| {
            let (kind, to, relationship) = field.kind.described();
            json!({"name": field.name, "type": kind, "externalId": field.external_id, "idLookup": field.external_id,
                "nillable": !field.required, "createable": true, "updateable": true, "referenceTo": to,
                "relationshipName": relationship})
        });
        json!({"name": name, "createable": true, "updateable": true, "deletable": true,
            "fields": std::iter::once(id).chain(fields).collect::<Vec<_>>()})
    }

    /// A stored value as a question is answered with it.
    pub(super) fn shown(&self, name: &str, text: Option<&str>) -> Value {
        let Some(text) = text else { return Value::Null };
        match self.field(name).map(|field| &field.kind) {
            Some(SalesforceKind::Number) => text.parse::<f64>().map_or(Value::Null, |number| json!(number)),
            Some(SalesforceKind::Flag) => json!(text == "true"),
            Some(_) | None => json!(text),
        }
    }

    /// The field's own spelling of a name; `Id` too.
    pub(super) fn name_of(&self, name: &str) -> Option<String> {
        if name.eq_ignore_ascii_case(ID) {
            return Some(ID.to_owned());
        }
        self.field(name).map(|field| field.name.clone())
    }
}

impl SalesforceKind {
    /// A JSON value as the text that is stored. Salesforce reads numbers and flags out of texts, and nothing else.
    fn read(&self, value: &Value) -> Result<String, Unreadable> {
        match (self, value) {
            (_, Value::Array(_) | Value::Object(_)) => Err(not(self.word(), value)),
            (Self::Number, Value::Number(number)) => Ok(number.to_string()),
            (Self::Number, Value::String(text)) if text.is_empty() || text.parse::<f64>().is_ok() => {
                Ok(text.clone())
            }
            (Self::Flag, Value::Bool(flag)) => Ok(flag.to_string()),
            (Self::Flag, Value::String(text)) if matches!(text.as_str(), "true" | "false") => {
                Ok(text.clone())
            }
            (Self::Number | Self::Flag, _) => Err(not(self.word(), value)),
            (Self::Moment, Value::String(text)) if !is_moment(text) => Err(not("datetime", value)),
            (Self::Date, Value::String(text))
                if text.parse::<jiff::civil::Date>().is_err() || text.len() != 10 =>
            {
                Err(not("date", value))
            }
            (_, Value::String(text)) => Ok(text.clone()),
            (_, Value::Null | Value::Bool(_) | Value::Number(_)) => Err(not(self.word(), value)),
        }
    }

    const fn word(&self) -> &'static str {
        match self {
            Self::Number => "double",
            Self::Flag => "boolean",
            Self::Date => "date",
            Self::Moment => "datetime",
            Self::Text(_) | Self::Email | Self::Choice(_) | Self::Choices | Self::Reference { .. } => {
                "string"
            }
        }
    }

    fn described(&self) -> (&'static str, Vec<&str>, Option<&str>) {
        match self {
            Self::Text(_) => ("string", Vec::new(), None),
            Self::Email => ("email", Vec::new(), None),
            Self::Number => ("double", Vec::new(), None),
            Self::Flag => ("boolean", Vec::new(), None),
            Self::Date => ("date", Vec::new(), None),
            Self::Moment => ("datetime", Vec::new(), None),
            Self::Choice(_) => ("picklist", Vec::new(), None),
            Self::Choices => ("multipicklist", Vec::new(), None),
            Self::Reference { object, relationship } => ("reference", vec![object], Some(relationship)),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// The token's name as Salesforce's parser has it, never the value.
fn not(wanted: &str, value: &Value) -> Unreadable {
    let token = match value {
        Value::Null => "VALUE_NULL",
        Value::Bool(true) => "VALUE_TRUE",
        Value::Bool(false) => "VALUE_FALSE",
        Value::Number(number) if number.is_f64() => "VALUE_NUMBER_FLOAT",
        Value::Number(_) => "VALUE_NUMBER_INT",
        Value::String(_) => "VALUE_STRING",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    };
    Unreadable(format!(
        "Cannot deserialize instance of {wanted} from {token} value or request may be missing a required field"
    ))
}

fn is_email(text: &str) -> bool {
    let sound = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
    text.split_once('@')
        .is_some_and(|(name, host)| sound(name) && sound(host) && !host.contains('@') && host.contains('.'))
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

/// RFC 3339 with a zone, and no more than three digits of a fraction.
fn is_moment(text: &str) -> bool {
    let digits =
        text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    digits <= 3 && text.contains('T') && text.parse::<jiff::Timestamp>().is_ok()
}
