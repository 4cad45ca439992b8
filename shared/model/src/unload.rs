//! An unload as one run pins it, and how it is cut into splits.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::port::ETag;
use crate::time::Timestamp;

/// A complete unload, pinned: its files can't change under a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinnedUnload {
    /// `s3://bucket` or a local folder: what the files' keys are relative to.
    pub root: String,
    /// The prefix that was chosen, for people.
    pub prefix: String,
    /// Hash over the files' keys, sizes and versions: equal means the same unload.
    pub identity: String,
    /// When its manifest or marker was written (else its newest file): order among unloads.
    pub completed_at: Timestamp,
    /// The files, in order of keys.
    pub files: Vec<UnloadFile>,
}

/// One Parquet file of an unload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnloadFile {
    /// The key below the root.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// The pinned version.
    pub etag: ETag,
    /// Rows by the file's footer.
    pub rows: u64,
    /// Rows of each row group, by the footer.
    pub row_groups: Vec<u32>,
    /// Bytes of each row group once unpacked, by the footer; none where an earlier version pinned the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row_group_bytes: Vec<u64>,
    /// Columns (lower case) that it has as INT96, which has no room for a zone, where another file has timestamps without one: here
    /// they are without one, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub naive_int96: Vec<String>,
    /// Hive partition columns from the path; `None` for the null partition.
    pub partition_values: BTreeMap<String, Option<String>>,
}

/// A slice of the unload that one `read` takes. Rows are numbered through its pieces, from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The pieces, in order.
    pub pieces: Vec<Piece>,
    /// Rows of all pieces.
    pub rows: u32,
}

/// Row groups of one file that stand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Index into [`PinnedUnload::files`].
    pub file: u32,
    /// The first row group.
    pub first_row_group: u32,
    /// How many row groups.
    pub row_groups: u32,
    /// Rows in them.
    pub rows: u32,
}

/// The logical type of a column over all files of an unload: what decides its canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ColumnType {
    /// Boolean.
    Bool,
    /// Whole numbers of any width, and decimals of scale 0.
    Int,
    /// Decimals with a fraction.
    Decimal {
        /// Digits after the point: the largest among the files, which must agree.
        scale: i8,
    },
    /// Floating point.
    Float,
    /// Text, also a Hive partition column, enumerations and JSON text.
    Text,
    /// Binary.
    Binary,
    /// A UUID, shown as lower-case text with hyphens.
    Uuid,
    /// A calendar date.
    Date,
    /// A time of day.
    Time,
    /// An instant (UTC).
    Instant,
    /// A timestamp on an unstated clock.
    Naive,
    /// A list.
    List(Box<ColumnType>),
    /// A struct, by field name in the file's order.
    Struct(Vec<(String, ColumnType)>),
    /// A map with keys of text.
    Map(Box<ColumnType>),
    /// A column that holds nothing but nulls and has no type.
    Null,
}

impl ColumnType {
    /// Whether it is or holds a timestamp without a zone.
    #[must_use]
    pub fn has_naive(&self) -> bool {
        self.clone().zoned() != *self
    }

    /// The type that it has once timestamps without a zone are taken to be of one.
    #[must_use]
    pub fn zoned(self) -> Self {
        match self {
            Self::Naive => Self::Instant,
            Self::List(element) => Self::List(Box::new(element.zoned())),
            Self::Map(value) => Self::Map(Box::new(value.zoned())),
            Self::Struct(fields) => {
                Self::Struct(fields.into_iter().map(|(name, kind)| (name, kind.zoned())).collect())
            }
            other @ (Self::Bool
            | Self::Int
            | Self::Decimal { .. }
            | Self::Float
            | Self::Text
            | Self::Binary
            | Self::Uuid
            | Self::Date
            | Self::Time
            | Self::Instant
            | Self::Null) => other,
        }
    }
}

/// In words, for people.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("a boolean"),
            Self::Int => f.write_str("a whole number"),
            Self::Decimal { scale } => write!(f, "a decimal of scale {scale}"),
            Self::Float => f.write_str("a floating-point number"),
            Self::Text => f.write_str("text"),
            Self::Binary => f.write_str("binary"),
            Self::Uuid => f.write_str("a UUID"),
            Self::Date => f.write_str("a date"),
            Self::Time => f.write_str("a time of day"),
            Self::Instant => f.write_str("a timestamp in UTC"),
            Self::Naive => f.write_str("a timestamp without zone"),
            Self::List(element) => write!(f, "a list of {element}"),
            Self::Struct(_) => f.write_str("a struct"),
            Self::Map(value) => write!(f, "a map to {value}"),
            Self::Null => f.write_str("nothing but nulls"),
        }
    }
}

/// A column as the run plan pins it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The name as written in the unload. Matching is by letters without regard to case.
    pub name: String,
    /// Its logical type.
    pub kind: ColumnType,
}
