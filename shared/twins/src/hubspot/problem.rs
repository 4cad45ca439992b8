//! HubSpot's two forms of saying no: for a whole request and for one row.

use axum::http::{Response, StatusCode};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::desk::json_response;

/// HubSpot's `category` of an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Category {
    Validation,
    Conflict,
    NotFound,
}

impl Category {
    fn name(self) -> &'static str {
        match self {
            Self::Validation => "VALIDATION_ERROR",
            Self::Conflict => "CONFLICT",
            Self::NotFound => "OBJECT_NOT_FOUND",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Validation => StatusCode::BAD_REQUEST,
            Self::Conflict => StatusCode::CONFLICT,
            Self::NotFound => StatusCode::NOT_FOUND,
        }
    }
}

/// Why a request or a row is not accepted.
pub(super) struct Problem {
    pub(super) category: Category,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self { category: Category::Validation, message: message.into() }
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self { category: Category::Conflict, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { category: Category::NotFound, message: message.into() }
    }

    /// The answer that refuses a whole request.
    pub(super) fn response(&self, request_number: u64) -> Response<Bytes> {
        let (status, category) = (self.category.status(), self.category.name());
        refused(status, category, &self.message, request_number)
    }

    /// The entry in a batch answer's `errors`. `context` names the row.
    pub(super) fn row(&self, context: Map<String, Value>) -> Value {
        json!({
            "status": "error", "category": self.category.name(), "message": self.message,
            "context": context, "errors": [], "links": {},
        })
    }
}

/// An answer that refuses a whole request.
pub(super) fn refused(
    status: StatusCode,
    category: &str,
    message: &str,
    request_number: u64,
) -> Response<Bytes> {
    let body = json!({
        "status": "error", "message": message, "category": category,
        "correlationId": correlation_id(request_number),
    });
    json_response(status, &body)
}

/// The answer to a request above a limit (HubSpot developer docs, "API usage guidelines and limits").
pub(super) fn over_limit(policy: &str, limit: &str, request_number: u64) -> Response<Bytes> {
    let body = json!({
        "status": "error", "message": format!("You have reached your {limit} limit."),
        "errorType": "RATE_LIMIT", "policyName": policy, "correlationId": correlation_id(request_number),
    });
    json_response(StatusCode::TOO_MANY_REQUESTS, &body)
}

fn correlation_id(request_number: u64) -> String {
    format!("aeb5f871-7f07-4993-8000-{request_number:012x}")
}
