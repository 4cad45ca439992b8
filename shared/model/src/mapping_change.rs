//! Why rows count as changed although the warehouse's values are the same: other fields, or another way to hash rows.
//!
//! A snapshot says how its hashes were made. Where a run makes them in another way, that is treated like a change of the
//! fields (`on_mapping_change`), and named by guard and report: it never looks as if everything had changed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::run_plan::HashedColumn;
use crate::snapshot::SnapshotManifest;
use crate::unload::{Column, ColumnType};

/// How row hashes are made, beside the columns that they cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hashing {
    /// The version of the canonical forms and of the hash.
    pub version: u32,
    /// The zone that timestamps without one are of (the unload's `naive_timestamps`), as seconds east of UTC; none if they
    /// stay without.
    pub naive_offset_s: Option<i32>,
    /// The hashed columns and the key's, with the types that the files state: `naive_timestamps` is not applied to them.
    pub columns: Vec<Column>,
}

impl Hashing {
    /// The version of hashes that were made before it was recorded.
    pub const FIRST_VERSION: u32 = 1;

    /// The columns that have timestamps without a zone.
    pub fn naive_columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.kind.has_naive())
    }
}

/// Timestamps without zone as a snapshot's row hashes took them, where today's take them otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareZone {
    /// The zone that they were of, as [`Hashing::naive_offset_s`].
    pub naive_offset_s: Option<i32>,
    /// The compared columns that have such timestamps, as [`Hashing::columns`].
    pub columns: Vec<Column>,
}

/// A column whose logical type has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedType {
    /// Its name.
    pub name: String,
    /// Its type at the last commit.
    pub was: ColumnType,
    /// Its type now.
    pub is: ColumnType,
}

/// One reason. Names columns, never a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum MappingChange {
    /// The sync's fields, match or mode are others.
    Fields,
    /// The unload's `naive_timestamps` is another one, so that these mapped columns hold other instants.
    NaiveTimestamps {
        /// Seconds east of UTC at the last commit; none for timestamps that stayed without zone.
        was: Option<i32>,
        /// The same now.
        is: Option<i32>,
        /// The columns' names.
        columns: Vec<String>,
    },
    /// This version of Penstock hashes rows in another way: the snapshot's hashes say nothing of today's rows.
    HashVersion {
        /// The version of the snapshot.
        was: u32,
        /// Today's.
        is: u32,
    },
    /// The unload's `json_columns` are others. Rows are compared by both, and nothing is sent for it.
    JsonColumns {
        /// The mapped columns that came or went.
        columns: Vec<String>,
    },
    /// The warehouse gives mapped columns other types than at the last run: their values differ for that alone.
    ColumnTypes {
        /// The columns.
        columns: Vec<ChangedType>,
    },
}

impl MappingChange {
    /// Whether `on_mapping_change` decides what becomes of rows that have not changed: what is sent for them may differ.
    #[must_use]
    pub const fn is_decided(&self) -> bool {
        match self {
            Self::Fields | Self::NaiveTimestamps { .. } | Self::HashVersion { .. } => true,
            Self::JsonColumns { .. } | Self::ColumnTypes { .. } => false,
        }
    }

    /// Whether the snapshot's row hashes can't be compared with today's in any way.
    #[must_use]
    pub const fn is_incomparable(&self) -> bool {
        match self {
            Self::HashVersion { .. } => true,
            Self::Fields
            | Self::NaiveTimestamps { .. }
            | Self::JsonColumns { .. }
            | Self::ColumnTypes { .. } => false,
        }
    }
}

impl fmt::Display for MappingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields => f.write_str("the sync's fields, which have changed since its last run"),
            Self::NaiveTimestamps { was, is, columns } => write!(
                f,
                "the unload's naive_timestamps, which was {} at the last run and is {} now: it counts for {}",
                zone(*was),
                zone(*is),
                columns.join(", ")
            ),
            Self::HashVersion { was, is } => write!(
                f,
                "this version of Penstock, which hashes rows by version {is} where the last run did by version {was}: which \
                 rows have changed since can't be told"
            ),
            Self::JsonColumns { columns } => {
                write!(f, "the unload's json_columns, which have changed for {}", columns.join(", "))
            }
            Self::ColumnTypes { columns } => {
                let named: Vec<String> = columns
                    .iter()
                    .map(|column| format!("{} was {} and is {}", column.name, column.was, column.is))
                    .collect();
                write!(f, "the types of columns, which have changed since the last run: {}", named.join(", "))
            }
        }
    }
}

/// A zone as `naive_timestamps` says it.
#[must_use]
pub fn zone(offset_s: Option<i32>) -> String {
    match offset_s {
        None => "left out".to_owned(),
        Some(0) => "UTC".to_owned(),
        Some(offset_s) => {
            let minutes = offset_s.unsigned_abs() / 60;
            let sign = if offset_s < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    }
}

/// What a run hashes by.
#[derive(Debug, Clone, Copy)]
pub struct Today<'a> {
    /// Hash of fields, match and mode.
    pub mapping_hash: u64,
    /// The columns that row hashes cover, as [`HashedColumn`] writes them.
    pub hashed_columns: &'a [String],
    /// How they are made.
    pub hashing: &'a Hashing,
}

/// What has changed since a snapshot was committed. Of one that does not say how it was hashed, the zone is taken to be today's
/// and the version the first.
#[must_use]
pub fn since(snapshot: &SnapshotManifest, today: Today<'_>) -> Vec<MappingChange> {
    let mut changes = Vec::new();
    let (now, before) = (today.hashing, snapshot.hashing.as_ref());
    if snapshot.mapping_hash != today.mapping_hash {
        changes.push(MappingChange::Fields);
    }
    let version = before.map_or(Hashing::FIRST_VERSION, |before| before.version);
    if version != now.version {
        changes.push(MappingChange::HashVersion { was: version, is: now.version });
    }
    if let Some(zone) = compare_zone(snapshot, now) {
        let columns = zone.columns.into_iter().map(|column| column.name).collect();
        changes.push(MappingChange::NaiveTimestamps {
            was: zone.naive_offset_s,
            is: now.naive_offset_s,
            columns,
        });
    }
    let columns = json_changes(&snapshot.hashed_columns, today.hashed_columns);
    if !columns.is_empty() {
        changes.push(MappingChange::JsonColumns { columns });
    }
    let columns = before.map_or_else(Vec::new, |before| type_changes(before, now));
    if !columns.is_empty() {
        changes.push(MappingChange::ColumnTypes { columns });
    }
    changes
}

/// The columns of a snapshot's hashes whose timestamps counted as those of another zone.
#[must_use]
pub fn compare_zone(snapshot: &SnapshotManifest, now: &Hashing) -> Option<CompareZone> {
    let before = snapshot.hashing.as_ref().filter(|before| before.naive_offset_s != now.naive_offset_s)?;
    let is_compared = |column: &&Column| {
        let name = column.name.to_lowercase();
        snapshot.hashed_columns.iter().any(|hashed| HashedColumn::of(hashed).column() == name)
    };
    let columns: Vec<Column> = now.naive_columns().filter(is_compared).cloned().collect();
    (!columns.is_empty()).then_some(CompareZone { naive_offset_s: before.naive_offset_s, columns })
}

/// Columns that are hashed on both days, by value on one and as JSON on the other.
fn json_changes(before: &[String], now: &[String]) -> Vec<String> {
    let differs = |name: &&String| {
        let column = HashedColumn::of(name);
        before.iter().any(|other| {
            let other = HashedColumn::of(other);
            other.column() == column.column() && other != column
        })
    };
    now.iter().filter(differs).map(|name| HashedColumn::of(name).column().to_owned()).collect()
}

fn type_changes(before: &Hashing, now: &Hashing) -> Vec<ChangedType> {
    // A change of the zone is a reason of its own: what files say is compared as if it were the same.
    let zoned = |kind: &ColumnType| match now.naive_offset_s {
        Some(_) => kind.clone().zoned(),
        None => kind.clone(),
    };
    let changed = |column: &Column| {
        let lower = column.name.to_lowercase();
        let was = before.columns.iter().find(|other| other.name.to_lowercase() == lower)?;
        let (was, is) = (zoned(&was.kind), zoned(&column.kind));
        (!alike(&was, &is)).then(|| ChangedType { name: column.name.clone(), was, is })
    };
    now.columns.iter().filter_map(changed).collect()
}

/// Whether equal values of two types have the same canonical form.
fn alike(a: &ColumnType, b: &ColumnType) -> bool {
    match (a, b) {
        (ColumnType::Null, _)
        | (_, ColumnType::Null)
        | (ColumnType::Int | ColumnType::Decimal { .. }, ColumnType::Int | ColumnType::Decimal { .. })
        | (ColumnType::Text | ColumnType::Uuid, ColumnType::Text | ColumnType::Uuid) => true,
        (ColumnType::List(a), ColumnType::List(b)) | (ColumnType::Map(a), ColumnType::Map(b)) => alike(a, b),
        (ColumnType::Struct(a), ColumnType::Struct(b)) => {
            let has_alike = |(name, kind): &(String, ColumnType)| {
                let lower = name.to_lowercase();
                b.iter().any(|(other, theirs)| other.to_lowercase() == lower && alike(kind, theirs))
            };
            a.len() == b.len() && a.iter().all(has_alike)
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn column(name: &str, kind: ColumnType) -> Column {
        Column { name: name.to_owned(), kind }
    }

    fn hashing(naive_offset_s: Option<i32>) -> Hashing {
        let columns = vec![column("ID", ColumnType::Int), column("At", ColumnType::Naive)];
        Hashing { version: 1, naive_offset_s, columns }
    }

    fn manifest(hashing: Option<Hashing>) -> SnapshotManifest {
        let text = json!({
            "version": 1, "sync": "s", "run": "r", "generation": "g",
            "binding": {
                "connector": "c", "account": "a", "object": "o", "primary_key": ["id"], "match_fields": []
            },
            "unload": { "identity": "u", "prefix": "p", "completed_at": 0 },
            "key_columns": [], "hashed_columns": ["at", "id"], "mapping_hash": 7, "partitions": [],
            "overlay": [], "identities": [], "null_counts": {}, "rows": 0, "ledger": [], "committed_at": 0
        });
        SnapshotManifest { hashing, ..serde_json::from_value(text).unwrap() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn changes(before: Option<Hashing>, now: &Hashing, hashed: &[&str], mapping_hash: u64) -> Vec<String> {
        let hashed_columns = names(hashed);
        let today = Today { mapping_hash, hashed_columns: &hashed_columns, hashing: now };
        since(&manifest(before), today).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_reason_is_found_and_named() {
        let check =
            |before: Option<Hashing>, now: Hashing, hashed: &[&str], mapping_hash: u64, expected: &[&str]| {
                let found = changes(before, &now, hashed, mapping_hash);
                let fits = found.len() == expected.len()
                    && found.iter().zip(expected).all(|(found, expected)| found.contains(expected));
                assert!(fits, "{found:?} is not {expected:?}");
            };
        let (same, same_columns) = (hashing(Some(0)), ["at", "id"]);
        check(Some(same.clone()), same.clone(), &same_columns, 7, &[]);
        check(Some(same.clone()), same.clone(), &same_columns, 8, &["the sync's fields"]);
        check(
            Some(same.clone()),
            hashing(Some(-12_600)),
            &same_columns,
            7,
            &["was UTC at the last run and is -03:30 now: it counts for At"],
        );
        check(
            Some(hashing(None)),
            same.clone(),
            &same_columns,
            7,
            &["was left out at the last run and is UTC"],
        );
        check(
            Some(same.clone()),
            Hashing { version: 2, ..same.clone() },
            &same_columns,
            7,
            &["by version 2 where the last run did by version 1"],
        );
        check(
            Some(same.clone()),
            same.clone(),
            &["id", "json:at"],
            7,
            &["json_columns, which have changed for at"],
        );
        let text = Hashing { columns: vec![column("id", ColumnType::Text)], ..same.clone() };
        check(Some(same.clone()), text, &same_columns, 7, &["id was a whole number and is text"]);
    }

    #[test]
    fn what_makes_no_difference_is_no_reason() {
        let same = hashing(Some(0));
        // A snapshot of an earlier version says nothing of it.
        assert_eq!(changes(None, &same, &["at", "id"], 7), Vec::<String>::new());
        // No timestamp without zone among the columns.
        let without = |naive_offset_s| Hashing {
            naive_offset_s,
            columns: vec![column("id", ColumnType::Int), column("at", ColumnType::Instant)],
            version: 1,
        };
        assert_eq!(changes(Some(without(Some(0))), &without(None), &["at", "id"], 7), Vec::<String>::new());
        // The same values in other types.
        let scale = Hashing { columns: vec![column("id", ColumnType::Decimal { scale: 2 })], ..same.clone() };
        assert_eq!(changes(Some(same.clone()), &scale, &["at", "id"], 7), Vec::<String>::new());
        let instant = Hashing { columns: vec![column("at", ColumnType::Instant)], ..same.clone() };
        assert_eq!(changes(Some(same), &instant, &["at", "id"], 7), Vec::<String>::new());
    }

    #[test]
    fn a_change_of_a_newer_version_than_the_first_is_seen_in_an_old_snapshot() {
        let now = Hashing { version: 2, ..hashing(None) };
        let hashed_columns = names(&["at", "id"]);
        let today = Today { mapping_hash: 7, hashed_columns: &hashed_columns, hashing: &now };
        assert_eq!(since(&manifest(None), today), [MappingChange::HashVersion { was: 1, is: 2 }]);
    }
}
