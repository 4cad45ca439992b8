//! The questions in SOQL that the twin understands: `SELECT a,b FROM Object [WHERE c IN (…) | c = …]`.

use serde_json::{Map, Value, json};

use super::schema::Schema;
use crate::jobs::process::Object;

/// A question, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) fields: Vec<String>,
    pub(super) object: String,
    /// A field and the values of which it must be one.
    pub(super) filter: Option<(String, Vec<String>)>,
}

/// Reads a question.
///
/// # Errors
/// What is not understood, in words.
pub(super) fn read(text: &str) -> Result<Question, String> {
    let mut words = Words(text.trim());
    words.keyword("SELECT")?;
    let mut fields = vec![words.name()?];
    while words.sign(',') {
        fields.push(words.name()?);
    }
    words.keyword("FROM")?;
    let object = words.name()?;
    let mut filter = None;
    if words.keyword("WHERE").is_ok() {
        let field = words.name()?;
        let values = if words.sign('=') {
            vec![words.value()?]
        } else {
            words.keyword("IN")?;
            if !words.sign('(') {
                return Err("a list begins with (".to_owned());
            }
            let mut values = vec![words.value()?];
            while words.sign(',') {
                values.push(words.value()?);
            }
            if !words.sign(')') {
                return Err("a list ends with )".to_owned());
            }
            values
        };
        filter = Some((field, values));
    }
    if words.0.is_empty() {
        Ok(Question { fields, object, filter })
    } else {
        Err("unexpected token".to_owned())
    }
}

struct Words<'a>(&'a str);

impl Words<'_> {
    fn keyword(&mut self, word: &str) -> Result<(), String> {
        let is_it = self.0.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if !is_it {
            return Err(format!("{word} is missing"));
        }
        self.0 = self.0.get(word.len()..).unwrap_or_default().trim_start();
        Ok(())
    }

    fn name(&mut self) -> Result<String, String> {
        let end = self.0.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        if name.is_empty() {
            return Err("a name is missing".to_owned());
        }
        self.0 = rest.trim_start();
        Ok(name.to_owned())
    }

    fn sign(&mut self, sign: char) -> bool {
        match self.0.strip_prefix(sign) {
            Some(rest) => {
                self.0 = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn value(&mut self) -> Result<String, String> {
        let Some(quoted) = self.0.strip_prefix('\'') else {
            let end = self.0.find([',', ')', ' ']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest.trim_start();
            let is_plain = value.parse::<f64>().is_ok() || matches!(value, "true" | "false" | "null");
            return if is_plain { Ok(value.to_owned()) } else { Err("a value is missing".to_owned()) };
        };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\'' => {
                    self.0 = quoted.get(at + 1..).unwrap_or_default().trim_start();
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, c)) => value.push(c),
                    None => break,
                },
                c => value.push(c),
            }
        }
        Err("a text is not closed".to_owned())
    }
}

/// The records that a question is answered with.
///
/// # Errors
/// A field that the object does not have.
pub(super) fn answer(question: &Question, schema: &Schema, records: &Object) -> Result<Vec<Value>, String> {
    let known = |name: &String| {
        schema.name_of(name).ok_or_else(|| format!("No such column '{name}' on entity '{}'", question.object))
    };
    let fields: Vec<String> = question.fields.iter().map(known).collect::<Result<_, _>>()?;
    let filter = match &question.filter {
        None => None,
        Some((field, values)) => Some((known(field)?, values)),
    };
    let mut found = Vec::new();
    for (id, record) in &records.records {
        let value =
            |name: &str| if name == "Id" { Some(id.as_str()) } else { record.get(name).map(String::as_str) };
        let fits = filter.as_ref().is_none_or(|(field, values)| {
            // Salesforce compares texts without case.
            value(field).is_some_and(|own| values.iter().any(|wanted| wanted.eq_ignore_ascii_case(own)))
        });
        if !fits {
            continue;
        }
        let mut shown = Map::new();
        let url = format!("/services/data/v67.0/sobjects/{}/{id}", question.object);
        shown.insert("attributes".to_owned(), json!({"type": question.object, "url": url}));
        for field in &fields {
            shown.insert(field.clone(), schema.shown(field, value(field)));
        }
        found.push(Value::Object(shown));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_come_apart() {
        let check = |text: &str, fields: &[&str], filter: Option<(&str, &[&str])>| {
            let question = read(text).unwrap();
            assert_eq!(question.fields, fields, "{text}");
            let filter = filter.map(|(field, values)| {
                (field.to_owned(), values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>())
            });
            assert_eq!(question.filter, filter, "{text}");
        };
        check("SELECT Id FROM Contact", &["Id"], None);
        check(
            "select Id, Ext__c from Contact where Ext__c in ('a', 'O\\'H', 7)",
            &["Id", "Ext__c"],
            Some(("Ext__c", &["a", "O'H", "7"])),
        );
        check("SELECT Id FROM Contact WHERE Name = 'x'", &["Id"], Some(("Name", &["x"])));
        for wrong in [
            "",
            "SELECT FROM x",
            "SELECT Id FROM x WHERE y IN ('a'",
            "SELECT Id FROM x LIMIT 1",
            "SELECT Id FROM x WHERE y = z",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
