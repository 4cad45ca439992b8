//! What Salesforce's words for a row mean.

use penstock_model::outcome::{Outcome, SkipReason};

/// Codes for a record that is not there any more, of an update by its remembered id.
const GONE: &[&str] = &["INVALID_CROSS_REFERENCE_KEY", "NOT_FOUND", "MALFORMED_ID", "ENTITY_IS_DELETED"];

/// Whether an update by a remembered id found no such record.
pub(super) fn is_gone(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Skipped { why } => *why == SkipReason::Missing,
        Outcome::Rejected { code, .. } => GONE.contains(&code.as_str()),
        Outcome::Accepted { .. } | Outcome::Unknown { .. } | Outcome::DeadLettered { .. } => false,
    }
}

/// The error of a row of a job, taken apart: `STATUS_CODE:message:field list --`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowError<'a> {
    pub(super) code: &'a str,
    pub(super) message: &'a str,
    pub(super) field: Option<&'a str>,
}

impl<'a> RowError<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let Some((code, rest)) = text.split_once(':') else {
            return Self { code: text.trim(), message: "the destination refused the row", field: None };
        };
        let (message, field) = match rest.rsplit_once(':') {
            Some((message, fields)) if fields.trim_end().ends_with("--") => {
                let fields = fields.trim_end().trim_end_matches('-').trim();
                (message, fields.split(',').next().map(str::trim).filter(|field| !field.is_empty()))
            }
            Some(_) | None => (rest, None),
        };
        Self { code: code.trim(), message: message.trim(), field }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_row_error_comes_apart() {
        for (text, code, message, field) in [
            (
                "REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --",
                "REQUIRED_FIELD_MISSING",
                "Required fields are missing: [LastName]",
                Some("LastName"),
            ),
            (
                "INVALID_EMAIL_ADDRESS:Email: invalid: a:b:Email, Name --",
                "INVALID_EMAIL_ADDRESS",
                "Email: invalid: a:b",
                Some("Email"),
            ),
            ("ENTITY_IS_DELETED:entity is deleted:--", "ENTITY_IS_DELETED", "entity is deleted", None),
            (
                "UNABLE_TO_LOCK_ROW:unable to obtain exclusive access: --",
                "UNABLE_TO_LOCK_ROW",
                "unable to obtain exclusive access",
                None,
            ),
            ("INVALID_FIELD:at 12:30", "INVALID_FIELD", "at 12:30", None),
            ("STRANGE", "STRANGE", "the destination refused the row", None),
        ] {
            assert_eq!(RowError::read(text), RowError { code, message, field }, "{text}");
        }
    }
}
