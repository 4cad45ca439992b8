//! Operations of one shape as one SQL statement.
//!
//! Every column is one parameter of type `text[]`, so a statement's text depends on the shape alone and never holds a
//! value. Except for an append, a statement gives back ordinals (from 1) of the rows it was given; what that
//! says of a row depends on the operation ([`answer`]).

use penstock_model::operation::OperationKind;
use penstock_model::outcome::{Outcome, SkipReason};

use super::table::{Column, Table, identifier};
use super::values::{Base, Spelling};

/// What the rows of one statement have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape<'a> {
    /// What to do.
    pub(super) kind: OperationKind,
    /// The match, by column name.
    pub(super) matched: Vec<&'a Column>,
    /// The fields, by column name.
    pub(super) fields: Vec<Slot<'a>>,
}

/// A field of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot<'a> {
    /// Its column.
    pub(super) column: &'a Column,
    /// What NULL stands for.
    pub(super) null: Null,
}

/// What NULL stands for in a field's parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Null {
    /// The field is emptied.
    Clears,
    /// The row does not have the field: what the table holds is kept.
    Keeps,
}

/// The statement for a shape. Its parameters are the match columns, then the fields.
pub(super) fn sql(table: &Table, shape: &Shape<'_>) -> String {
    let given = given(shape);
    let written = match shape.kind {
        OperationKind::Upsert | OperationKind::Create => return insert_or(table, shape, &given),
        OperationKind::Append => return append(table, shape),
        OperationKind::Update | OperationKind::Clear | OperationKind::Archive => update(table, shape),
        OperationKind::Delete => format!(
            "DELETE FROM {} AS t USING given g WHERE {}\n  RETURNING g.n",
            table.sql,
            same_match(shape, "t")
        ),
    };
    let present = match shape.kind {
        // A row that holds the fields already is not written; it is there all the same.
        OperationKind::Update | OperationKind::Clear | OperationKind::Archive => format!(
            "SELECT g.n FROM given g JOIN {} AS t ON {}\nUNION ",
            table.sql,
            same_match(shape, "t")
        ),
        OperationKind::Upsert | OperationKind::Create | OperationKind::Append | OperationKind::Delete => String::new(),
    };
    if written.is_empty() {
        return format!("WITH {given}\n{}", present.trim_end_matches("\nUNION "));
    }
    format!("WITH {given}, written AS (\n  {written}\n)\n{present}SELECT n FROM written")
}

/// What the statement's answer says of one row: whether its ordinal came back. `in_doubt` says that the statement was
/// sent before and its answer was lost.
pub(super) fn answer(kind: OperationKind, came_back: bool, in_doubt: bool) -> Outcome {
    let accepted = |created| Outcome::Accepted { id: None, created };
    match (kind, came_back) {
        (OperationKind::Upsert | OperationKind::Create, true) | (OperationKind::Append, _) => accepted(Some(true)),
        // The first try may have created it.
        (OperationKind::Upsert, false) => accepted(if in_doubt { None } else { Some(false) }),
        (OperationKind::Create, false) => Outcome::Skipped { why: SkipReason::Exists },
        (OperationKind::Update | OperationKind::Clear | OperationKind::Archive, true) => accepted(Some(false)),
        (OperationKind::Delete, true) => accepted(None),
        (OperationKind::Update | OperationKind::Clear | OperationKind::Archive | OperationKind::Delete, false) => {
            Outcome::Skipped { why: SkipReason::Missing }
        }
    }
}

/// Inserts; what is there already is updated where it differs (upsert) or left alone (create). Gives back the rows created.
fn insert_or(table: &Table, shape: &Shape<'_>, given: &str) -> String {
    let matched = list(shape.matched.iter().map(|column| identifier(&column.name)));
    let conflict = if shape.kind == OperationKind::Create || shape.fields.is_empty() {
        "DO NOTHING".to_owned()
    } else {
        let new = |slot: &Slot<'_>| {
            let name = identifier(&slot.column.name);
            match slot.null {
                Null::Clears => format!("EXCLUDED.{name}"),
                Null::Keeps => format!("COALESCE(EXCLUDED.{name}, t.{name})"),
            }
        };
        let set = list(shape.fields.iter().map(|slot| format!("{} = {}", identifier(&slot.column.name), new(slot))));
        format!("DO UPDATE SET {set}\n  WHERE {}", differs(shape, new))
    };
    let returned = list(
        shape.matched.iter().enumerate().map(|(place, column)| format!("t.{} AS m{}", identifier(&column.name), place + 1)),
    );
    // The ordinal is found again by the match, in the column's own type: the way it was stored.
    let same = and(
        shape.matched.iter().enumerate().map(|(place, column)| format!("w.m{0} = g.c{0}::{1}", place + 1, column.full)),
    );
    format!(
        "WITH {given}, written AS (\n  INSERT INTO {} AS t ({})\n  SELECT {} FROM given g\n  \
         ON CONFLICT ({matched}) {conflict}\n  RETURNING {returned}, t.xmax = 0 AS created\n)\n\
         SELECT g.n FROM given g JOIN written w ON {same} WHERE w.created",
        table.sql,
        list(columns(shape).map(|column| identifier(&column.name))),
        list(columns(shape).enumerate().map(|(place, _)| format!("g.c{}", place + 1))),
    )
}

fn append(table: &Table, shape: &Shape<'_>) -> String {
    format!(
        "INSERT INTO {} ({})\nSELECT {}\nFROM unnest({}) AS u({})",
        table.sql,
        list(columns(shape).map(|column| identifier(&column.name))),
        list(columns(shape).enumerate().map(|(place, column)| cast(column, &format!("u.c{}", place + 1)))),
        list(columns(shape).enumerate().map(|(place, _)| format!("${}::text[]", place + 1))),
        list(columns(shape).enumerate().map(|(place, _)| format!("c{}", place + 1))),
    )
}

/// Updates what differs; nothing if there are no fields.
fn update(table: &Table, shape: &Shape<'_>) -> String {
    if shape.fields.is_empty() {
        return String::new();
    }
    let new = |slot: &Slot<'_>| {
        let place = shape.matched.len() + 1 + shape.fields.iter().position(|other| other == slot).unwrap_or_default();
        match slot.null {
            Null::Clears => format!("g.c{place}"),
            Null::Keeps => format!("COALESCE(g.c{place}, t.{})", identifier(&slot.column.name)),
        }
    };
    let set = list(shape.fields.iter().map(|slot| format!("{} = {}", identifier(&slot.column.name), new(slot))));
    format!(
        "UPDATE {} AS t SET {set}\n  FROM given g WHERE {}\n  AND {}\n  RETURNING g.n",
        table.sql,
        same_match(shape, "t"),
        differs(shape, new)
    )
}

/// `given`: the rows of the parameters, numbered, in the columns' types.
fn given(shape: &Shape<'_>) -> String {
    let names = columns(shape).enumerate().map(|(place, _)| format!("c{}", place + 1));
    let parameters = columns(shape).enumerate().map(|(place, _)| format!("${}::text[]", place + 1));
    let casts = columns(shape)
        .enumerate()
        .map(|(place, column)| format!("{} AS c{}", cast(column, &format!("u.c{}", place + 1)), place + 1));
    format!(
        "given AS MATERIALIZED (\n  SELECT u.n, {}\n  FROM unnest({}) WITH ORDINALITY AS u({}, n)\n)",
        list(casts),
        list(parameters),
        list(names)
    )
}

fn columns<'s>(shape: &'s Shape<'_>) -> impl Iterator<Item = &'s Column> {
    shape.matched.iter().copied().chain(shape.fields.iter().map(|slot| slot.column))
}

/// A text in a column's type.
fn cast(column: &Column, text: &str) -> String {
    match column.spelling {
        Spelling { base: Base::Bytes, array: false } => format!("decode({text}, 'base64')"),
        // The session's zone is UTC: a text without a zone stays as it is, one with an offset is turned to UTC instead
        // of losing its offset.
        Spelling { base: Base::LocalTimestamp, array: false } => {
            format!("({text}::timestamp with time zone AT TIME ZONE 'UTC')")
        }
        Spelling { base: Base::Json | Base::Plain, array: false } | Spelling { array: true, .. } => {
            format!("{text}::{}", column.plain)
        }
    }
}

/// That a table's row has the match of a given one.
fn same_match(shape: &Shape<'_>, table: &str) -> String {
    and(
        shape
            .matched
            .iter()
            .enumerate()
            .map(|(place, column)| format!("{table}.{} = g.c{}", identifier(&column.name), place + 1)),
    )
}

/// That one of the fields differs from what the table holds.
fn differs(shape: &Shape<'_>, new: impl Fn(&Slot<'_>) -> String) -> String {
    let text = |slot: &Slot<'_>, value: String| if slot.column.comparable { value } else { format!("{value}::text") };
    let old = list(shape.fields.iter().map(|slot| text(slot, format!("t.{}", identifier(&slot.column.name)))));
    let new = list(shape.fields.iter().map(|slot| text(slot, new(slot))));
    format!("({old}) IS DISTINCT FROM ({new})")
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn and(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, plain: &str, full: &str, base: Base, comparable: bool) -> Column {
        Column {
            name: name.into(),
            plain: plain.into(),
            full: full.into(),
            spelling: Spelling { base, array: false },
            comparable,
            has_default: false,
            writable: true,
        }
    }

    fn statement(kind: OperationKind, fields: &[(&str, Null)]) -> String {
        let table = Table::of(
            r#""public"."customers""#,
            vec![
                column("id", "bigint", "bigint", Base::Plain, true),
                column("tenant", "character varying", "character varying(8)", Base::Plain, true),
                column("na\"me", "character varying", "character varying(40)", Base::Plain, true),
                column("photo", "bytea", "bytea", Base::Bytes, true),
                column("seen", "timestamp without time zone", "timestamp without time zone", Base::LocalTimestamp, true),
                column("tags", "json", "json", Base::Json, false),
            ],
            &[],
        );
        let matched = ["id", "tenant"].map(|name| table.column(name).unwrap()).to_vec();
        let fields =
            fields.iter().map(|&(name, null)| Slot { column: table.column(name).unwrap(), null }).collect();
        sql(&table, &Shape { kind, matched, fields })
    }

    #[test]
    fn upsert_writes_what_differs_and_gives_back_what_it_created() {
        let seen = statement(OperationKind::Upsert, &[("na\"me", Null::Clears), ("tags", Null::Keeps)]);
        insta::assert_snapshot!(seen, @"");
    }

    #[test]
    fn create_and_an_upsert_without_fields_leave_rows_alone() {
        let seen = statement(OperationKind::Create, &[("photo", Null::Clears)]);
        insta::assert_snapshot!(seen, @"");
        assert!(statement(OperationKind::Upsert, &[]).contains("DO NOTHING"));
    }

    #[test]
    fn update_finds_rows_that_need_no_writing() {
        let seen = statement(OperationKind::Update, &[("photo", Null::Keeps), ("seen", Null::Clears)]);
        insta::assert_snapshot!(seen, @"");
        insta::assert_snapshot!(statement(OperationKind::Update, &[]), @"");
    }

    #[test]
    fn delete_gives_back_what_was_there() {
        insta::assert_snapshot!(statement(OperationKind::Delete, &[]), @"");
    }

    #[test]
    fn append_only_inserts() {
        insta::assert_snapshot!(statement(OperationKind::Append, &[("seen", Null::Clears)]), @"");
    }
}
