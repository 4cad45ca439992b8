//! Which status and which code say what, according to a connector file.

use penstock_model::connector::{HttpConnector, HttpOperation, Meaning};

/// What a status means for a request of so many rows (the list at [`HttpConnector::statuses`]).
pub(super) fn of_status(
    connector: &HttpConnector,
    operation: Option<&HttpOperation>,
    row_in_path: bool,
    rows: usize,
    status: u16,
) -> Meaning {
    let own = operation.and_then(|operation| operation.statuses.get(&status));
    if let Some(meaning) = own.or_else(|| connector.statuses.get(&status)) {
        return *meaning;
    }
    match status {
        200..=299 => Meaning::Accepted,
        404 if row_in_path => Meaning::Missing,
        409 if rows == 1 => Meaning::Exists,
        400 | 409 | 413 | 422 => Meaning::Rejected,
        401 | 403 => Meaning::Unauthorized,
        429 => Meaning::Throttled,
        408 | 425 | 500..=599 => Meaning::Retry,
        _ => Meaning::Refused,
    }
}

/// The first code that means this.
pub(super) fn code_for(connector: &HttpConnector, meaning: Meaning) -> Option<&str> {
    connector.codes.iter().find(|(_, other)| **other == meaning).map(|(code, _)| code.as_str())
}

/// The statuses that an API would rather use for this, then all others that a file names.
pub(super) fn candidates(
    connector: &HttpConnector,
    operation: Option<&HttpOperation>,
    meaning: Meaning,
) -> Vec<u16> {
    let usual: &[u16] = match meaning {
        Meaning::Accepted => &[200, 202, 201],
        Meaning::Exists => &[409],
        Meaning::Missing => &[404],
        Meaning::Rejected => &[400, 422, 413],
        Meaning::Retry => &[503, 500],
        Meaning::Throttled | Meaning::Quota => &[429],
        Meaning::Unauthorized => &[401, 403],
        Meaning::Refused => &[404, 405],
    };
    let named = operation.into_iter().flat_map(|operation| &operation.statuses).chain(&connector.statuses);
    usual.iter().copied().chain(named.map(|(status, _)| *status)).collect()
}
