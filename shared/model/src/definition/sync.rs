use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Field, LookupField, MatchColumn, Write};
use crate::operation::OperationKind;

/// One flow: an unload's rows to one object of a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// Its name; the file's name without `.yaml` if left out. Letters, digits, `-` and `_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The unload's name.
    pub unload: String,
    /// The connection's name.
    pub connection: String,
    /// The destination's object: `Contact`, `contacts`, `public.customers`.
    pub object: String,
    /// When it starts by itself.
    #[serde(default)]
    pub start: Start,
    /// Hours without one run that succeeded after which the sync is overdue, which is an alarm. A run that found nothing new counts; a dry one, a
    /// limited one and a replay do not. Left out: the stack's `NoRunHours` for a sync that starts by itself, and never for one that does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub overdue_after_hours: Option<u32>,
    /// The destination's fields that identify a record, and the columns that fill them: `{ email: email }`, or with the type to send, `{ external_id: { column: customer_id, type: text } }`. May be left out with `append` only.
    #[serde(default, rename = "match", skip_serializing_if = "BTreeMap::is_empty")]
    pub matched: BTreeMap<String, MatchColumn>,
    /// What may happen to records.
    #[serde(default)]
    pub mode: Mode,
    /// What the first run does.
    #[serde(default)]
    pub first_run: FirstRun,
    /// What happens to the record of a row that is gone from the unload.
    #[serde(default)]
    pub on_removed: OnRemoved,
    /// What happens to rows already sent when the fields, or the way rows are compared, change.
    #[serde(default)]
    pub on_mapping_change: OnMappingChange,
    /// The destination's fields and what fills them. Dots make nested objects: `address.city`; a number makes an array: `emails.0.value`.
    pub fields: BTreeMap<String, Field>,
    /// Limits that are checked before anything is sent.
    #[serde(default)]
    pub guards: Guards,
    /// How it is delivered.
    #[serde(default)]
    pub delivery: Delivery,
    /// Rows, and the fields that must come of them; run by `penstock check`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<MappingTest>,
}

impl Sync {
    /// For how long it may be without a run that succeeds; for ever if none. `usual` is what counts where the definition says
    /// nothing.
    #[must_use]
    pub fn overdue_after(&self, usual: Duration) -> Option<Duration> {
        const HOUR: Duration = Duration::from_secs(3_600);
        match self.overdue_after_hours {
            Some(hours) => Some(HOUR * hours),
            None => self.start.is_by_itself().then_some(usual),
        }
    }

    /// The fields that refer to other records, in the order of their names.
    pub fn lookups(&self) -> impl Iterator<Item = LookupField<'_>> {
        self.unmatched().filter_map(|(name, field)| field.lookup(name))
    }

    /// The fields that are written only if they are empty at the destination, in the order of their names. None in a
    /// mode that writes new records only: all of their fields are empty.
    pub fn if_empty(&self) -> impl Iterator<Item = &str> {
        let finds = self.mode.finds_records();
        self.unmatched()
            .filter(move |(_, field)| finds && field.details().write == Some(Write::IfEmpty))
            .map(|(name, _)| name.as_str())
    }

    /// The fields that are not sent as match.
    fn unmatched(&self) -> impl Iterator<Item = (&String, &Field)> {
        self.fields.iter().filter(|(name, _)| !self.matched.contains_key(*name))
    }

    /// Whether rows refer to other records, as far as the names tell: by a lookup, by a field of another record (`Account.Ext__c`), or by
    /// an id that is not just about who owns the record or of which kind it is.
    #[must_use]
    pub fn refers(&self) -> bool {
        self.fields.iter().any(|(name, field)| {
            let is_id = name.ends_with("Id") && !matches!(name.as_str(), "Id" | "OwnerId" | "RecordTypeId");
            is_id || name.contains('.') || field.details().lookup.is_some()
        })
    }
}

/// When a sync starts by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// As soon as a complete unload has arrived.
    #[serde(default)]
    pub on_unload: bool,
    /// With one of the template's schedules: `hourly` or `nightly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// After every run of this sync that succeeded, also one that found nothing new; not after a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Start {
    /// Whether anything starts the sync but a person.
    #[must_use]
    pub const fn is_by_itself(&self) -> bool {
        self.on_unload || self.schedule.is_some() || self.after.is_some()
    }
}

/// What may happen to records at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Records are created or updated.
    #[default]
    Upsert,
    /// Records are created; those that exist are left alone.
    CreateOnly,
    /// Records are updated; none is created.
    UpdateOnly,
    /// Every row of every new unload is added; nothing is compared.
    Append,
}

impl Mode {
    /// Whether it writes to records that are there already.
    #[must_use]
    pub const fn finds_records(self) -> bool {
        match self {
            Self::Upsert | Self::UpdateOnly => true,
            Self::CreateOnly | Self::Append => false,
        }
    }
}

/// What the first run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstRun {
    /// Sends every row.
    #[default]
    Send,
    /// Sends nothing and takes the destination to be in step with the unload.
    Baseline,
}

/// What happens to the record of a row that is gone: a word, or `{ clear: [fields] }`, or `{ delete: any }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OnRemoved {
    /// `nothing`, `delete` or `archive`.
    Word(OnRemovedWord),
    /// Empties these fields, without ever creating the record again.
    Clear {
        /// The destination's fields.
        clear: Vec<String>,
    },
    /// Deletes also records that were there before the sync.
    Delete {
        /// Which records.
        delete: Scope,
    },
    /// Archives also records that were there before the sync.
    Archive {
        /// Which records.
        archive: Scope,
    },
}

impl OnRemoved {
    /// The operation by which records of rows that are gone are dealt with; none if they stay.
    #[must_use]
    pub const fn operation(&self) -> Option<OperationKind> {
        match self {
            Self::Word(OnRemovedWord::Nothing) => None,
            Self::Word(OnRemovedWord::Delete) | Self::Delete { .. } => Some(OperationKind::Delete),
            Self::Word(OnRemovedWord::Archive) | Self::Archive { .. } => Some(OperationKind::Archive),
            Self::Clear { .. } => Some(OperationKind::Clear),
        }
    }
}

/// The plain forms of `on_removed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnRemovedWord {
    /// The record stays as it is.
    Nothing,
    /// The record is deleted, if this sync created it.
    Delete,
    /// The record is archived, if this sync created it.
    Archive,
}

/// Which records a removal may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Only those that this sync created.
    Ours,
    /// Any that it has written to.
    Any,
}

impl Default for OnRemoved {
    fn default() -> Self {
        Self::Word(OnRemovedWord::Nothing)
    }
}

/// What happens to rows already sent when the fields change, or the unload's `naive_timestamps`, or how a new version of Penstock
/// tells whether a row has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnMappingChange {
    /// Nothing: the new fields go out as rows change. After an upgrade to a version that can't compare rows with those of the last run
    /// (its release says so, and so does the run's report) rows that were delivered count as unchanged once.
    #[default]
    FromNowOn,
    /// Every row is sent again.
    Resend,
}

/// A limit: rows (`500`) or a share (`"2%"`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "LimitForm", into = "LimitForm")]
#[schemars(with = "LimitForm")]
pub enum Limit {
    /// So many rows.
    Rows(u64),
    /// So many percent.
    Percent(f64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum LimitForm {
    Rows(u64),
    Percent(#[schemars(regex(pattern = r"^[0-9]+(\.[0-9]+)?\s*%$"))] String),
}

impl TryFrom<LimitForm> for Limit {
    type Error = String;

    fn try_from(form: LimitForm) -> Result<Self, String> {
        match form {
            LimitForm::Rows(rows) => Ok(Self::Rows(rows)),
            LimitForm::Percent(text) => text
                .strip_suffix('%')
                .and_then(|number| number.trim().parse::<f64>().ok())
                .filter(|percent| (0.0..=100.0).contains(percent))
                .map(Self::Percent)
                .ok_or_else(|| {
                    format!("a limit is a number of rows or a percentage such as \"2%\", not {text:?}")
                }),
        }
    }
}

impl From<Limit> for LimitForm {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::Rows(rows) => Self::Rows(rows),
            Limit::Percent(percent) => Self::Percent(format!("{percent}%")),
        }
    }
}

impl Limit {
    /// Whether `count` out of `total` is more than the limit allows.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a percentage of 2^53 rows and more may be off by one row"
    )]
    pub fn is_exceeded_by(&self, count: u64, total: u64) -> bool {
        match self {
            Self::Rows(rows) => count > *rows,
            Self::Percent(percent) => count > 0 && count as f64 * 100.0 > percent * total as f64,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows} rows"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Limits that are checked before anything is sent. A run that exceeds one fails, and says how to allow it once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Guards {
    /// Rows removed since the snapshot, of those in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_removed: Option<Limit>,
    /// Rows changed since the snapshot, of those in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_changed: Option<Limit>,
    /// Rise of a mapped column's share of nulls, in points of percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_null_rise: Option<Limit>,
}

/// How a sync is delivered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Rejected rows, of those sent, beyond which the run counts as failed. What was accepted stays accepted. Left out: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerate_rejected: Option<Limit>,
    /// Rows that are delivered alone, before the rest: if more of them are rejected than `tolerate_rejected` allows, the rest is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub canary: Option<u32>,
    /// Rows a chunk holds at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub chunk_rows: Option<u32>,
}

/// A row and what must come of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingTest {
    /// Columns and values; columns left out are null.
    pub row: BTreeMap<String, Value>,
    /// Fields and values; fields left out are not looked at.
    pub expect: BTreeMap<String, Value>,
}
