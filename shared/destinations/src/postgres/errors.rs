//! What an error of the database means.
//!
//! The codes are those of appendix A of PostgreSQL's manual, "PostgreSQL Error Codes".

use penstock_model::outcome::Outcome;
use penstock_model::{Failure, FailureName};
use tokio_postgres::error::DbError;

use super::table::TableName;

/// A rejected row's message is no longer than this, in bytes.
const MESSAGE_BYTES: usize = 1000;

/// What became of a statement that did not succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Its data was refused, and nothing was applied. Of several rows, one or more are at fault.
    Row(Refusal),
    /// Nothing was applied; it may be sent again.
    Again {
        /// Why.
        fault: Fault,
        /// Whether the database has too much to do.
        throttled: bool,
        /// Whether the connection is of no more use.
        reconnect: bool,
    },
    /// It was cancelled because its time was up; nothing was applied.
    TimedOut,
    /// No answer came: it may have been applied.
    Lost(Fault),
    /// The credential was refused.
    Login(Fault),
    /// The call has failed.
    Fatal(Failure),
}

/// Why a row was refused. Words and all belong to the user's data: they go into the outcome and nowhere else.
pub(super) struct Refusal {
    code: String,
    message: String,
    field: Option<String>,
}

impl Refusal {
    /// The outcome of the row at fault.
    pub(super) fn outcome(self) -> Outcome {
        Outcome::Rejected { code: self.code, message: self.message, field: self.field }
    }
}

impl std::fmt::Debug for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Refusal({})", self.code)
    }
}

/// A cause that can be shown: without values.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// An answer whose words may hold values.
    #[error("the database answered SQLSTATE {0}")]
    State(String),
    /// An answer whose words hold names only.
    #[error("the database answered SQLSTATE {code}: {words}")]
    Said {
        /// The SQLSTATE.
        code: String,
        /// The primary message.
        words: String,
    },
    /// No answer of the database.
    #[error("the connection to the database failed")]
    Connection(#[source] tokio_postgres::Error),
    /// No address of the host.
    #[error("the database's host could not be found")]
    Unknown(#[source] std::io::Error),
    /// No answer in time.
    #[error("the database did not answer in time")]
    Silent,
}

impl Fault {
    /// Its SQLSTATE, or what it is, for a log line.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::State(code) | Self::Said { code, .. } => code,
            Self::Connection(_) => "connection",
            Self::Unknown(_) => "host",
            Self::Silent => "silence",
        }
    }
}

/// What an error means for the statement that met it.
pub(super) fn classify(error: tokio_postgres::Error, table: &TableName) -> Trouble {
    match error.as_db_error() {
        Some(answer) => classify_answer(answer, table),
        None => Trouble::Lost(Fault::Connection(error)),
    }
}

fn classify_answer(answer: &DbError, table: &TableName) -> Trouble {
    let code = answer.code().code();
    let said = || Fault::Said { code: code.to_owned(), words: answer.message().to_owned() };
    let state = || Fault::State(code.to_owned());
    let again = |throttled, reconnect| Trouble::Again { fault: said_or_state(answer), throttled, reconnect };
    match code {
        "57014" => Trouble::TimedOut,
        // A row-level security policy refuses the row, not the user. `routine` does not depend on the language.
        "42501" if answer.routine() == Some("ExecWithCheckOptions") => Trouble::Row(refusal(answer)),
        "42501" => Trouble::Fatal(Failure::because(
            FailureName::DestinationUnauthorized,
            format!(
                "the database user may not do this to table {table}; it needs SELECT and, as the sync asks, \
                 INSERT, UPDATE and DELETE"
            ),
            said(),
        )),
        "3D000" => Trouble::Fatal(Failure::because(
            FailureName::SyncInvalid,
            "the database that the connection's address names does not exist",
            said(),
        )),
        "42P01" | "3F000" => Trouble::Fatal(Failure::because(
            FailureName::MappingInvalid,
            format!("table {table}, or something that its triggers use, does not exist"),
            said(),
        )),
        // The types of a statement are the catalog's own, so these come from triggers and see the row's values.
        "42804" | "42883" | "42846" => Trouble::Row(refusal(answer)),
        // 55P03: a lock. Below: 53300, too many connections; 25006, a standby for a moment after a failover.
        "40001" | "40P01" | "55P03" => again(false, false),
        _ if code.starts_with("28") => Trouble::Login(said()),
        _ if code.starts_with("53") => again(true, true),
        // Trouble of the machine, and damaged data.
        "XX001" | "XX002" => again(false, true),
        _ if ["08", "25", "57P", "58"].iter().any(|class| code.starts_with(class)) => again(false, true),
        _ if ["0A", "26", "42", "55"].iter().any(|class| code.starts_with(class)) => {
            Trouble::Fatal(Failure::because(
                FailureName::DestinationRefused,
                format!("the database refuses statements on table {table}; has the table changed meanwhile?"),
                state(),
            ))
        }
        // Data (22), constraints (23), a match twice in a statement (21), a trigger's own (P0001) and whatever else
        // a trigger may say.
        _ => Trouble::Row(refusal(answer)),
    }
}

/// The words too, where they come from the server's own state and not from a row.
fn said_or_state(answer: &DbError) -> Fault {
    let code = answer.code().code().to_owned();
    if code.starts_with("53") || code.starts_with("57P") {
        Fault::Said { code, words: answer.message().to_owned() }
    } else {
        Fault::State(code)
    }
}

/// Without the detail, which repeats the row.
fn refusal(answer: &DbError) -> Refusal {
    let message = answer.message();
    let end =
        (0..=MESSAGE_BYTES.min(message.len())).rev().find(|&end| message.is_char_boundary(end)).unwrap_or(0);
    Refusal {
        code: answer.code().code().to_owned(),
        message: message.get(..end).unwrap_or_default().to_owned(),
        field: answer.column().map(str::to_owned),
    }
}
