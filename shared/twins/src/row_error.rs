//! Why a twin refuses a row.

use serde::Serialize;

/// Why one record is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowError {
    /// A word for programs, such as `missing_key`, `exists`, `not_found`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The field at fault, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl RowError {
    /// An error of the whole record.
    pub fn new(code: &str, message: &str) -> Self {
        Self { code: code.to_owned(), message: message.to_owned(), field: None }
    }

    /// An error of one field.
    pub fn of_field(code: &str, message: &str, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..Self::new(code, message) }
    }
}
