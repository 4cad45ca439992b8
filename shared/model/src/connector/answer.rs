use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A JSON pointer (RFC 6901) into an answer: `/results/0/id`; the empty text is the whole. May hold `{match.field}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Pointer(#[schemars(regex(pattern = r"^(/.*)?$"))] pub String);

/// Where an error code stands: one pointer, or several of which the first with a value counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(from = "CodesForm", into = "CodesForm")]
#[schemars(with = "CodesForm")]
pub struct Codes(pub Vec<Pointer>);

impl Codes {
    /// Whether no pointer is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum CodesForm {
    One(Pointer),
    Several(Vec<Pointer>),
}

impl From<CodesForm> for Codes {
    fn from(form: CodesForm) -> Self {
        match form {
            CodesForm::One(pointer) => Self(vec![pointer]),
            CodesForm::Several(pointers) => Self(pointers),
        }
    }
}

impl From<Codes> for CodesForm {
    fn from(codes: Codes) -> Self {
        match <[Pointer; 1]>::try_from(codes.0) {
            Ok([pointer]) => Self::One(pointer),
            Err(pointers) => Self::Several(pointers),
        }
    }
}

/// Where an answer tells what became of each row. A success status alone says nothing of rows if `results` or `errors`
/// are given: a body that can't be read leaves them unknown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The list with what came of rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Results>,
    /// Lists of rows that were refused. They are also read if the request failed as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Errors>,
    /// What must hold for the answer to be one at all, such as `{ at: /message, is: [success] }`. If it doesn't, the code under the
    /// connector's `error` tells what happened, and without one the rows are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Test>,
    /// What became of rows that the answer does not name. Left out: `unknown` with `results`, else `accepted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<Unlisted>,
    /// What became of the other rows if a request was refused as a whole and names some.
    #[serde(default)]
    pub refused_rest: RefusedRest,
    /// Statuses that say that the records were created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created_statuses: Vec<u16>,
}

/// A list with what came of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Where the list stands. An object there counts as a list of one. The pointers below start at an element.
    pub at: Pointer,
    /// How an element tells its row; of several ways, the first that leads to one counts.
    pub by: Vec<By>,
    /// What holds for a row that was accepted; left out, every row of the list was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Test>,
    /// What holds for a record that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Test>,
    /// The record's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Pointer>,
    /// Of a read: the object that holds the record's fields. The empty pointer, if they stand in the element itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Pointer>,
    /// The error code of a row that was not accepted.
    #[serde(default, skip_serializing_if = "Codes::is_empty")]
    pub code: Codes,
    /// The words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Pointer>,
    /// The field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Pointer>,
}

/// A list of rows that were refused. One that tells of no row of the request makes it be sent again in halves, where that is safe, until
/// the row is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// Where the list stands. An object there counts as a list of one. The pointers below start at an element; an element may
    /// be a plain text or number, to which the empty pointer leads.
    pub at: Pointer,
    /// How an element tells its row, or rows; of several ways, the first that leads to one counts.
    pub by: Vec<By>,
    /// Whether an object stands there in place of a list: its members' names are the fields at fault, and what they hold tells the rows
    /// (Amplitude).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_field: bool,
    /// The error code.
    #[serde(default, skip_serializing_if = "Codes::is_empty")]
    pub code: Codes,
    /// The error code of all rows of the list, where they have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_code: Option<String>,
    /// The words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Pointer>,
    /// The field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Pointer>,
}

/// How an element of a list tells its row. What a pointer leads to may be a text, a number, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// By its position: the list has one element per row, in the request's order.
    Position,
    /// By the row's number in the request, from 0.
    Index(Pointer),
    /// By the `$ordinal` that the request held.
    Ordinal(Pointer),
    /// By the match field's value.
    Match(Pointer),
    /// By the record's id.
    Id(Pointer),
}

/// A condition on a value of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Where the value stands.
    pub at: Pointer,
    /// The texts, numbers or booleans of which it must be one. Left out, it must be there and neither `false` nor null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub is: Vec<Value>,
}

/// What became of rows that an answer does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// They were accepted.
    Accepted,
    /// Nobody knows: they are sent again if that is safe.
    Unknown,
}

/// What became of the other rows of a request that was refused and names some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusedRest {
    /// Nothing: they are sent again without the bad ones.
    #[default]
    Resend,
    /// They were accepted all the same (Mixpanel).
    Accepted,
}

impl Answer {
    /// What became of rows that the answer does not name.
    #[must_use]
    pub const fn unlisted(&self) -> Unlisted {
        match (self.unlisted, &self.results) {
            (Some(unlisted), _) => unlisted,
            (None, Some(_)) => Unlisted::Unknown,
            (None, None) => Unlisted::Accepted,
        }
    }

    /// Whether the body has to be read to know what became of the rows.
    #[must_use]
    pub const fn needs_body(&self) -> bool {
        self.results.is_some() || !self.errors.is_empty() || self.proof.is_some()
    }
}
