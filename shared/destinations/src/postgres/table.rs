//! The table as the database's own catalog describes it.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join3;
use penstock_model::definition::Problem;
use penstock_model::operation::OperationKind;
use penstock_model::{Failure, FailureName};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row as Line};

use super::Mapped;
use super::errors::{Trouble, classify};
use super::values::{Base, Spelling};

/// A table's name as the sync gives it: `customers` or `public.customers`. Each part stands for itself, upper and
/// lower case alike; a part with a dot in it is written in double quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableName {
    parts: Vec<String>,
}

impl TableName {
    /// Reads a sync's `object`.
    pub(super) fn parse(object: &str) -> Result<Self, Problem> {
        let problem = || {
            Problem::at(
                "/object",
                format!(
                    "{object:?} is no table: write it as table or schema.table, a part with a dot in double quotes"
                ),
            )
        };
        let mut parts = Vec::new();
        let mut rest = object;
        loop {
            let part = if let Some(quoted) = rest.strip_prefix('"') {
                let (part, after) = quoted.split_once('"').ok_or_else(problem)?;
                rest = after;
                part
            } else {
                let (part, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
                rest = after;
                part
            };
            if part.is_empty() || part.contains(['\0', '"']) {
                return Err(problem());
            }
            parts.push(part.to_owned());
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if rest.is_empty() => break,
                None => return Err(problem()),
            }
        }
        if parts.len() > 2 { Err(problem()) } else { Ok(Self { parts }) }
    }

    /// The name for SQL.
    fn sql(&self) -> String {
        self.parts.iter().map(|part| identifier(part)).collect::<Vec<_>>().join(".")
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parts.join("."))
    }
}

/// A name quoted for SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What Penstock knows of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name.
    pub(super) name: String,
    /// Its type without a length, a domain's base type, as SQL. Values are cast to it and no further: a cast to
    /// `varchar(3)` cuts a longer text off, where the assignment to the column refuses it.
    pub(super) plain: String,
    /// Its type in full, as SQL.
    pub(super) full: String,
    /// How its values are spelt.
    pub(super) spelling: Spelling,
    /// Whether `=` of its type tells different values apart; others are compared as text.
    pub(super) comparable: bool,
    /// Whether a row that leaves it out gets something other than NULL.
    pub(super) has_default: bool,
    /// Whether it takes the values given to it: neither generated nor an identity that is always the database's.
    pub(super) writable: bool,
    /// Whether the sync writes it only where it is NULL.
    pub(super) if_empty: bool,
}

/// A table, its columns and what is unique in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// The name as the sync gives it, for people.
    pub(super) name: String,
    /// The qualified name, for SQL.
    pub(super) sql: String,
    /// Whether it only gathers partitions.
    pub(super) partitioned: bool,
    columns: BTreeMap<String, Column>,
    unique: Vec<BTreeSet<String>>,
}

const FIND: &str = "\
SELECT n.nspname::text, c.relname::text, c.relkind = 'p' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
WHERE c.oid = to_regclass($1)";

/// The columns. A domain is followed to the type it is made of; a type's name counts only in `pg_catalog`.
const COLUMNS: &str = "\
WITH RECURSIVE base AS (
  SELECT a.attnum, y.oid AS typ, y.typtype, y.typbasetype, y.typdefault IS NOT NULL AS defaulted
  FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
  WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, y.oid, y.typtype, y.typbasetype, b.defaulted OR y.typdefault IS NOT NULL
  FROM base b JOIN pg_type y ON y.oid = b.typbasetype WHERE b.typtype = 'd'
)
SELECT a.attname::text,
  format_type(b.typ, -1),
  format_type(a.atttypid, a.atttypmod),
  CASE WHEN y.typnamespace = 'pg_catalog'::regnamespace THEN y.typname::text ELSE '' END,
  CASE WHEN e.typnamespace = 'pg_catalog'::regnamespace THEN e.typname::text ELSE '' END,
  y.typcategory = 'A',
  a.atthasdef OR a.attidentity <> '' OR b.defaulted,
  a.attgenerated = '' AND a.attidentity <> 'a'
FROM base b
JOIN pg_attribute a ON a.attrelid = to_regclass($1) AND a.attnum = b.attnum
JOIN pg_type y ON y.oid = b.typ
LEFT JOIN pg_type e ON e.oid = y.typelem
WHERE b.typtype <> 'd'";

/// The column sets that `ON CONFLICT (…)` can name.
const UNIQUE: &str = "\
SELECT array_agg(a.attname::text)
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indimmediate AND i.indisvalid
  AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid";

impl Table {
    /// Asks the catalog. `if_empty` names the columns that the sync writes only where they are NULL.
    pub(super) async fn read(
        client: &Client,
        name: &TableName,
        if_empty: &BTreeSet<String>,
    ) -> Result<Self, Trouble> {
        let sql = name.sql();
        let ask = |query: &'static str| {
            let sql = &sql;
            async move { client.query_typed(query, &[(sql, Type::TEXT)]).await }
        };
        let (found, columns, unique) = join3(ask(FIND), ask(COLUMNS), ask(UNIQUE)).await;
        let failed = |error| classify(error, name);
        let (found, columns, unique) =
            (found.map_err(failed)?, columns.map_err(failed)?, unique.map_err(failed)?);

        let Some(found) = found.first() else {
            return Err(Trouble::Fatal(Failure::new(
                FailureName::MappingInvalid,
                format!(
                    "there is no table {name} in the database, or the user may not see it; \
                     upper and lower case in its name count"
                ),
            )));
        };
        let schema: String = found.try_get(0).map_err(failed)?;
        let relation: String = found.try_get(1).map_err(failed)?;
        Ok(Self {
            name: name.to_string(),
            sql: format!("{}.{}", identifier(&schema), identifier(&relation)),
            partitioned: found.try_get(2).map_err(failed)?,
            columns: columns
                .iter()
                .map(|line| {
                    let column = column(line)?;
                    let if_empty = if_empty.contains(&column.name);
                    Ok((column.name.clone(), Column { if_empty, ..column }))
                })
                .collect::<Result<_, tokio_postgres::Error>>()
                .map_err(failed)?,
            unique: unique
                .iter()
                .map(|line| line.try_get::<_, Vec<String>>(0).map(BTreeSet::from_iter))
                .collect::<Result<_, _>>()
                .map_err(failed)?,
        })
    }

    /// A table made of parts.
    #[cfg(test)]
    pub(super) fn of(sql: &str, columns: Vec<Column>, unique: &[&[&str]]) -> Self {
        Self {
            name: "customers".to_owned(),
            sql: sql.to_owned(),
            partitioned: false,
            columns: columns.into_iter().map(|column| (column.name.clone(), column)).collect(),
            unique: unique
                .iter()
                .map(|columns| columns.iter().map(|&name| name.to_owned()).collect())
                .collect(),
        }
    }

    /// The column of this name.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.get(name)
    }

    /// That the sync's fields fit the table, as far as operations of these kinds need it.
    ///
    /// # Errors
    /// `MappingInvalid`, naming the columns or the index that is lacking.
    pub(super) fn check(&self, mapped: &Mapped, kinds: &BTreeSet<OperationKind>) -> Result<(), Failure> {
        let named: BTreeSet<&String> = mapped.matched.union(&mapped.fields).collect();
        let unknown: BTreeSet<String> =
            named.iter().filter(|name| self.column(name).is_none()).map(|name| (*name).clone()).collect();
        if !unknown.is_empty() {
            return Err(self.lacks(&unknown));
        }
        let creates = kinds.iter().any(|kind| match kind {
            OperationKind::Upsert | OperationKind::Create | OperationKind::Append => true,
            OperationKind::Update | OperationKind::Delete | OperationKind::Archive | OperationKind::Clear => {
                false
            }
        });
        let written = mapped.fields.iter().chain(mapped.matched.iter().filter(|_| creates));
        let fixed: Vec<String> = written
            .filter(|name| self.column(name).is_some_and(|column| !column.writable))
            .map(|name| identifier(name))
            .collect();
        if !fixed.is_empty() {
            return Err(self.invalid(&format!(
                "the database itself fills {} of table {}: take them out of the sync's fields",
                fixed.join(", "),
                self.name
            )));
        }
        let flat: Vec<String> = mapped
            .nested
            .iter()
            .filter_map(|name| self.column(name))
            .filter(|column| column.spelling.base != Base::Json && !column.spelling.array)
            .map(|column| format!("{} ({})", identifier(&column.name), column.full))
            .collect();
        if !flat.is_empty() {
            return Err(self.invalid(&format!(
                "columns {} of table {} can't be filled by dotted field names: that needs json, jsonb or an array",
                flat.join(", "),
                self.name
            )));
        }
        let conflicts = kinds.contains(&OperationKind::Upsert) || kinds.contains(&OperationKind::Create);
        if conflicts && !self.unique.contains(&mapped.matched) {
            let columns = mapped.matched.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ");
            return Err(self.invalid(&format!(
                "table {} has no unique index on exactly the match fields; create one: \
                 CREATE UNIQUE INDEX ON {} ({columns})",
                self.name, self.sql
            )));
        }
        Ok(())
    }

    /// The failure for columns that are not there.
    pub(super) fn lacks(&self, unknown: &BTreeSet<String>) -> Failure {
        let names = unknown.iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ");
        let has = self.columns.keys().map(|name| identifier(name)).collect::<Vec<_>>().join(", ");
        self.invalid(&format!("table {} has no columns {names}; it has {has}", self.name))
    }

    fn invalid(&self, message: &str) -> Failure {
        Failure::new(FailureName::MappingInvalid, message)
    }
}

fn column(line: &Line) -> Result<Column, tokio_postgres::Error> {
    let own: String = line.try_get(3)?;
    let element: String = line.try_get(4)?;
    let array: bool = line.try_get(5)?;
    let base = match if array { element.as_str() } else { own.as_str() } {
        "json" | "jsonb" => Base::Json,
        "bytea" => Base::Bytes,
        "timestamp" => Base::LocalTimestamp,
        _ => Base::Plain,
    };
    Ok(Column {
        name: line.try_get(0)?,
        plain: line.try_get(1)?,
        full: line.try_get(2)?,
        spelling: Spelling { base, array },
        comparable: matches!(
            own.as_str(),
            "bool"
                | "int2"
                | "int4"
                | "int8"
                | "float4"
                | "float8"
                | "numeric"
                | "text"
                | "varchar"
                | "bytea"
                | "uuid"
                | "date"
                | "time"
                | "timestamp"
                | "timestamptz"
                | "jsonb"
        ),
        has_default: line.try_get(6)?,
        writable: line.try_get(7)?,
        if_empty: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_taken_by_the_letter() {
        let cases = [
            ("customers", Some(r#""customers""#)),
            ("public.Customers", Some(r#""public"."Customers""#)),
            (r#"public."a.b""#, Some(r#""public"."a.b""#)),
            (r#""a.b"."c""#, Some(r#""a.b"."c""#)),
            ("x; DROP TABLE y", Some(r#""x; DROP TABLE y""#)),
            (r#"x" y"#, None),
            ("", None),
            ("a.", None),
            (".a", None),
            ("a.b.c", None),
            (r#""a"b"#, None),
            (r#""a"#, None),
        ];
        for (object, expected) in cases {
            assert_eq!(TableName::parse(object).ok().map(|name| name.sql()).as_deref(), expected, "{object}");
        }
    }
}
