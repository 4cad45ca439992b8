//! Which properties an object has, and which values they take.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use serde_json::{Value, json};

/// HubSpot's limit on a text property, in characters.
const MAX_TEXT_CHARS: usize = 65_536;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// The id of a record among its properties.
pub(super) const OBJECT_ID: &str = "hs_object_id";

/// What a property's values look like. They are always sent as JSON strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text up to 65,536 characters.
    Text,
    /// An e-mail address; kept in lower case.
    Email,
    /// A decimal number.
    Number,
    /// `2026-01-31`, or midnight UTC in milliseconds since 1970.
    Date,
    /// RFC 3339, or milliseconds since 1970.
    DateTime,
    /// `true` or `false`.
    Flag,
    /// One of these.
    Choice(Vec<String>),
    /// Any of these, with semicolons between them.
    Choices(Vec<String>),
}

/// One property of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    kind: Kind,
    unique: bool,
    read_only: bool,
}

impl Property {
    /// A property that can be written and whose values may repeat.
    pub fn new(kind: Kind) -> Self {
        Self { kind, unique: false, read_only: false }
    }

    /// Its values may not repeat, so that it can serve as `idProperty`.
    pub fn unique(mut self) -> Self {
        self.unique = true;
        self
    }

    /// HubSpot sets it; writing it fails.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}

/// The properties of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    properties: BTreeMap<String, Property>,
    shown: Vec<String>,
}

/// Why a property or its value is not acceptable, as HubSpot says it.
pub(super) struct Invalid {
    error: &'static str,
    name: String,
    message: String,
}

impl Invalid {
    fn new(error: &'static str, name: &str, message: String) -> Self {
        Self { error, name: name.to_owned(), message }
    }

    /// HubSpot puts the list of what is wrong into the message, as JSON.
    pub(super) fn message(list: &[Self]) -> String {
        let list: Vec<Value> = list
            .iter()
            .map(|Self { error, name, message }| {
                json!({
                    "isValid": false, "message": message, "error": error, "name": name,
                    "localizedErrorMessage": message,
                })
            })
            .collect();
        format!("Property values were not valid: {}", Value::Array(list))
    }
}

impl Schema {
    /// Only what every object has: `hs_object_id`, `createdate`, `lastmodifieddate` and `hubspot_owner_id`.
    pub fn bare() -> Self {
        let own = |kind| Property::new(kind).read_only();
        Self { properties: BTreeMap::new(), shown: Vec::new() }
            .with(OBJECT_ID, own(Kind::Number).unique())
            .with("createdate", own(Kind::DateTime))
            .with("lastmodifieddate", own(Kind::DateTime))
            .with("hubspot_owner_id", Property::new(Kind::Text))
    }

    /// The common standard properties of contacts; `email` is unique.
    pub fn contacts() -> Self {
        let texts = "firstname lastname salutation phone mobilephone fax company jobtitle website address city \
                     state zip country industry job_function message date_of_birth degree gender \
                     field_of_study relationship_status school seniority start_date work_email \
                     hs_language twitterhandle";
        Self::bare()
            .with("email", Property::new(Kind::Email).unique())
            .with_all(texts, &Kind::Text)
            .with_all("annualrevenue numemployees", &Kind::Text)
            .with_all("closedate", &Kind::DateTime)
            .with("lifecyclestage", Property::new(stages()))
            .with(
                "hs_lead_status",
                choice(
                    "NEW OPEN IN_PROGRESS OPEN_DEAL UNQUALIFIED ATTEMPTED_TO_CONTACT CONNECTED BAD_TIMING",
                ),
            )
            .showing("email firstname lastname")
    }

    /// The common standard properties of companies; none that can be written is unique.
    pub fn companies() -> Self {
        let texts = "name domain description phone website address address2 city state zip country timezone \
                     industry type about_us founded_year linkedin_company_page twitterhandle";
        Self::bare()
            .with_all(texts, &Kind::Text)
            .with_all("annualrevenue numberofemployees", &Kind::Number)
            .with("is_public", Property::new(Kind::Flag))
            .with("closedate", Property::new(Kind::DateTime))
            .with("lifecyclestage", Property::new(stages()))
            .showing("name domain")
    }

    /// The common standard properties of deals; none that can be written is unique.
    pub fn deals() -> Self {
        Self::bare()
            .with_all("dealname dealstage pipeline dealtype description", &Kind::Text)
            .with("amount", Property::new(Kind::Number))
            .with("closedate", Property::new(Kind::DateTime))
            .showing("dealname amount closedate pipeline dealstage")
    }

    /// The common standard properties of tickets; none that can be written is unique.
    pub fn tickets() -> Self {
        Self::bare()
            .with_all("subject content hs_pipeline hs_pipeline_stage", &Kind::Text)
            .with("hs_ticket_priority", choice("LOW MEDIUM HIGH URGENT"))
            .showing("subject content hs_pipeline hs_pipeline_stage")
    }

    /// Adds or replaces a property.
    pub fn with(mut self, name: &str, property: Property) -> Self {
        self.properties.insert(name.to_owned(), property);
        self
    }

    fn with_all(self, names: &str, kind: &Kind) -> Self {
        names.split_whitespace().fold(self, |schema, name| schema.with(name, Property::new(kind.clone())))
    }

    fn showing(mut self, names: &str) -> Self {
        self.shown = names.split_whitespace().map(str::to_owned).collect();
        self
    }

    /// The properties that `batch/read` gives if it is not asked for any.
    pub(super) fn shown(&self) -> &[String] {
        &self.shown
    }

    /// Whether a record can be found by this property.
    pub(super) fn is_unique(&self, name: &str) -> bool {
        self.properties.get(name).is_some_and(|property| property.unique)
    }

    /// Whether records can be made with this property as their key.
    pub(super) fn is_writable_key(&self, name: &str) -> bool {
        self.properties.get(name).is_some_and(|property| property.unique && !property.read_only)
    }

    /// What is wrong with writing a property at all, whatever its value: that fails a whole batch.
    pub(super) fn unwritable(&self, name: &str) -> Option<Invalid> {
        match self.properties.get(name) {
            None => Some(Invalid::new(
                "PROPERTY_DOESNT_EXIST",
                name,
                format!("Property \"{name}\" does not exist"),
            )),
            Some(property) if property.read_only => Some(Invalid::new(
                "READ_ONLY_VALUE",
                name,
                format!("\"{name}\" is a read only property; its value cannot be set."),
            )),
            Some(_) => None,
        }
    }

    /// What is wrong with a value; nothing for the empty string, which clears.
    pub(super) fn invalid(&self, name: &str, value: &str) -> Option<Invalid> {
        let kind = &self.properties.get(name)?.kind;
        if value.is_empty() {
            return None;
        }
        let said = |error, what: &str| Some(Invalid::new(error, name, what.to_owned()));
        match kind {
            Kind::Text if value.chars().count() > MAX_TEXT_CHARS => {
                said("INVALID_LENGTH", "the value is longer than 65536 characters")
            }
            Kind::Email if !is_email(value) => {
                said("INVALID_EMAIL", &format!("Email address {value} is invalid"))
            }
            Kind::Number if !is_number(value) => {
                said("INVALID_DOUBLE", &format!("{value} was not a valid number."))
            }
            Kind::Date if !is_date(value) => said("INVALID_DATE", &format!("{value} was not a valid date.")),
            Kind::DateTime if !is_date_time(value) => {
                said("INVALID_LONG", &format!("{value} was not a valid long."))
            }
            Kind::Flag if !matches!(value, "true" | "false") => {
                said("INVALID_OPTION", &format!("{value} was not one of the allowed options: [true, false]"))
            }
            Kind::Choice(options) if !options.iter().any(|option| option == value) => {
                said("INVALID_OPTION", &format!("{value} was not one of the allowed options"))
            }
            Kind::Choices(options)
                if !value
                    .split(';')
                    .filter(|chosen| !chosen.is_empty())
                    .all(|chosen| options.iter().any(|option| option == chosen)) =>
            {
                said("INVALID_OPTION", &format!("{value} was not one of the allowed options"))
            }
            Kind::Text
            | Kind::Email
            | Kind::Number
            | Kind::Date
            | Kind::DateTime
            | Kind::Flag
            | Kind::Choice(_)
            | Kind::Choices(_) => None,
        }
    }

    /// The properties as `/crm/properties` tells of them.
    pub(super) fn described(&self) -> Value {
        let described = self.properties.iter().map(|(name, property)| {
            let (kind, field) = match &property.kind {
                Kind::Text | Kind::Email => ("string", "text"),
                Kind::Number => ("number", "number"),
                Kind::Date => ("date", "date"),
                Kind::DateTime => ("datetime", "date"),
                Kind::Flag => ("bool", "booleancheckbox"),
                Kind::Choice(_) => ("enumeration", "select"),
                Kind::Choices(_) => ("enumeration", "checkbox"),
            };
            let options = match &property.kind {
                Kind::Choice(options) | Kind::Choices(options) => options.as_slice(),
                Kind::Text | Kind::Email | Kind::Number | Kind::Date | Kind::DateTime | Kind::Flag => &[],
            };
            let options: Vec<Value> =
                options.iter().map(|option| json!({"label": option, "value": option})).collect();
            json!({
                "name": name, "label": name, "type": kind, "fieldType": field, "options": options,
                "hasUniqueValue": property.unique,
                "modificationMetadata": {"readOnlyValue": property.read_only, "archivable": true},
            })
        });
        json!({"results": described.collect::<Vec<_>>()})
    }

    /// A value as HubSpot keeps and compares it.
    pub(super) fn normal(&self, name: &str, value: &str) -> String {
        match self.properties.get(name) {
            Some(property) if property.kind == Kind::Email => value.trim().to_lowercase(),
            _ => value.to_owned(),
        }
    }

    /// The unique properties among `properties` that have a value.
    pub(super) fn unique_among<'a>(
        &'a self,
        properties: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a String, &'a String)> {
        properties.iter().filter(|(name, value)| !value.is_empty() && self.is_unique(name))
    }
}

fn choice(options: &str) -> Property {
    Property::new(Kind::Choice(options.split_whitespace().map(str::to_owned).collect()))
}

fn stages() -> Kind {
    let stages =
        "subscriber lead marketingqualifiedlead salesqualifiedlead opportunity customer evangelist other";
    Kind::Choice(stages.split_whitespace().map(str::to_owned).collect())
}

fn is_email(value: &str) -> bool {
    let Some((local, domain)) = value.trim().split_once('@') else { return false };
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-') && !label.starts_with('-')
    };
    !local.is_empty()
        && !local.contains(|c: char| c.is_whitespace() || c == ',')
        && domain.contains('.')
        && domain.split('.').all(label)
}

fn is_number(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'))
        && value.parse::<f64>().is_ok_and(f64::is_finite)
}

fn is_date(value: &str) -> bool {
    match value.parse::<i64>() {
        Ok(ms) => ms % DAY_MS == 0,
        Err(_) => value.len() == 10 && value.parse::<Date>().is_ok(),
    }
}

fn is_date_time(value: &str) -> bool {
    value.parse::<i64>().is_ok() || value.parse::<Timestamp>().is_ok() || is_date(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let one_of = Kind::Choice(vec!["a".to_owned(), "b".to_owned()]);
        for (kind, good, bad) in [
            (
                Kind::Email,
                vec!["a@b.co", "A.b+c@x-y.example.com"],
                vec!["a", "a@", "@b.co", "a@b", "a b@c.de", "a@b..c"],
            ),
            (Kind::Number, vec!["1", "-2.50", ".5", "1e3"], vec!["1,5", "x", "inf", "NaN", " 1"]),
            (
                Kind::Date,
                vec!["2026-01-31", "0", "86400000"],
                vec!["2026-02-30", "31.1.2026", "86400001", "2026-01-31T00:00:00Z"],
            ),
            (
                Kind::DateTime,
                vec!["2026-01-31T10:00:00.5Z", "2026-01-31", "1767225600123"],
                vec!["noon", "2026-01-31 25:00"],
            ),
            (Kind::Flag, vec!["true", "false"], vec!["TRUE", "1", "yes"]),
            (one_of, vec!["a", "b"], vec!["A", "c", "a;b"]),
            (
                Kind::Choices(vec!["a".to_owned(), "b".to_owned()]),
                vec!["a", "a;b", ";a;b"],
                vec!["a,b", "a;c", "[\"a\"]"],
            ),
            (Kind::Text, vec!["anything"], vec![]),
        ] {
            let schema = Schema::bare().with("p", Property::new(kind.clone()));
            assert!(schema.invalid("p", "").is_none(), "{kind:?} can be cleared");
            for value in good {
                assert!(schema.invalid("p", value).is_none(), "{kind:?} takes {value}");
            }
            for value in bad {
                assert!(schema.invalid("p", value).is_some(), "{kind:?} does not take {value}");
            }
        }
        let schema = Schema::contacts();
        assert!(schema.invalid("city", &"x".repeat(MAX_TEXT_CHARS + 1)).is_some());
        assert!(schema.invalid("city", &"ü".repeat(MAX_TEXT_CHARS)).is_none());
    }

    #[test]
    fn keys() {
        let contacts = Schema::contacts().with("ref", Property::new(Kind::Text).unique());
        assert!(contacts.is_writable_key("email") && contacts.is_writable_key("ref"));
        assert!(!contacts.is_writable_key("phone") && !contacts.is_writable_key(OBJECT_ID));
        assert!(contacts.is_unique(OBJECT_ID));
        assert!(!Schema::companies().is_writable_key("domain"));
    }
}
