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
    /// The same; and what the table holds is kept in any case, unless that is NULL.
    Fills,
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
            same_match(shape)
        ),
    };
    let present = match shape.kind {
        // A row that holds the fields already is not written; it is there all the same.
        OperationKind::Update | OperationKind::Clear | OperationKind::Archive => {
            format!("SELECT g.n FROM given g JOIN {} AS t ON {}\nUNION ", table.sql, same_match(shape))
        }
        OperationKind::Upsert | OperationKind::Create | OperationKind::Append | OperationKind::Delete => {
            String::new()
        }
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
        (OperationKind::Upsert | OperationKind::Create, true) | (OperationKind::Append, _) => {
            accepted(Some(true))
        }
        // The first try may have created it.
        (OperationKind::Upsert, false) => accepted(if in_doubt { None } else { Some(false) }),
        (OperationKind::Create, false) => Outcome::Skipped { why: SkipReason::Exists },
        (OperationKind::Update | OperationKind::Clear | OperationKind::Archive, true) => {
            accepted(Some(false))
        }
        (OperationKind::Delete, true) => accepted(None),
        (
            OperationKind::Update | OperationKind::Clear | OperationKind::Archive | OperationKind::Delete,
            false,
        ) => Outcome::Skipped { why: SkipReason::Missing },
    }
}

/// Inserts; what is there already is updated where it differs (upsert) or left alone (create). Gives back the rows created.
fn insert_or(table: &Table, shape: &Shape<'_>, given: &str) -> String {
    let matched = list(shape.matched.iter().map(|column| identifier(&column.name)));
    // A row that was updated has been locked by this transaction, one that was inserted by nobody yet.
    let (conflict, created) = if shape.kind == OperationKind::Create || shape.fields.is_empty() {
        ("DO NOTHING".to_owned(), "true")
    } else {
        let new = |slot: &Slot<'_>| {
            let name = identifier(&slot.column.name);
            match slot.null {
                Null::Clears => format!("EXCLUDED.{name}"),
                Null::Keeps => format!("COALESCE(EXCLUDED.{name}, t.{name})"),
                Null::Fills => format!("COALESCE(t.{name}, EXCLUDED.{name})"),
            }
        };
        let set = list(
            shape.fields.iter().map(|slot| format!("{} = {}", identifier(&slot.column.name), new(slot))),
        );
        let conflict = format!("DO UPDATE SET {set}\n  WHERE {}", differs(shape, new));
        (conflict, if table.partitioned { "true" } else { "t.xmax = 0" })
    };
    let returned = list(
        shape
            .matched
            .iter()
            .enumerate()
            .map(|(place, column)| format!("t.{} AS m{}", identifier(&column.name), place + 1)),
    );
    // The ordinal is found again by the match, in the column's own type: the way it was stored.
    let same = and(shape
        .matched
        .iter()
        .enumerate()
        .map(|(place, column)| format!("w.m{0} = g.c{0}::{1}", place + 1, column.full)));
    // A partitioned table has no `xmax` to return. The statement sees the table as it was before.
    let before = if table.partitioned {
        format!("\n  AND NOT EXISTS (SELECT FROM {} AS t WHERE {})", table.sql, same_match(shape))
    } else {
        String::new()
    };
    format!(
        "WITH {given}, written AS (\n  INSERT INTO {} AS t ({})\n  SELECT {} FROM given g\n  \
         ON CONFLICT ({matched}) {conflict}\n  RETURNING {returned}, {created} AS created\n)\n\
         SELECT g.n FROM given g JOIN written w ON {same} WHERE w.created{before}",
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
        let place =
            shape.matched.len() + 1 + shape.fields.iter().position(|other| other == slot).unwrap_or_default();
        match slot.null {
            Null::Clears => format!("g.c{place}"),
            Null::Keeps => format!("COALESCE(g.c{place}, t.{})", identifier(&slot.column.name)),
            Null::Fills => format!("COALESCE(t.{}, g.c{place})", identifier(&slot.column.name)),
        }
    };
    let set =
        list(shape.fields.iter().map(|slot| format!("{} = {}", identifier(&slot.column.name), new(slot))));
    format!(
        "UPDATE {} AS t SET {set}\n  FROM given g WHERE {}\n  AND {}\n  RETURNING g.n",
        table.sql,
        same_match(shape),
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

/// That the table's row `t` has the match of the given row `g`.
fn same_match(shape: &Shape<'_>) -> String {
    and(shape
        .matched
        .iter()
        .enumerate()
        .map(|(place, column)| format!("t.{} = g.c{}", identifier(&column.name), place + 1)))
}

/// That one of the fields differs from what the table holds.
fn differs(shape: &Shape<'_>, new: impl Fn(&Slot<'_>) -> String) -> String {
    let text = |slot: &Slot<'_>, value: String| {
        if slot.column.comparable { value } else { format!("{value}::text") }
    };
    let old =
        list(shape.fields.iter().map(|slot| text(slot, format!("t.{}", identifier(&slot.column.name)))));
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
            if_empty: false,
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
                column(
                    "seen",
                    "timestamp without time zone",
                    "timestamp without time zone",
                    Base::LocalTimestamp,
                    true,
                ),
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
        insta::assert_snapshot!(seen, @r#"
        WITH given AS MATERIALIZED (
          SELECT u.n, u.c1::bigint AS c1, u.c2::character varying AS c2, u.c3::character varying AS c3, u.c4::json AS c4
          FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS u(c1, c2, c3, c4, n)
        ), written AS (
          INSERT INTO "public"."customers" AS t ("id", "tenant", "na""me", "tags")
          SELECT g.c1, g.c2, g.c3, g.c4 FROM given g
          ON CONFLICT ("id", "tenant") DO UPDATE SET "na""me" = EXCLUDED."na""me", "tags" = COALESCE(EXCLUDED."tags", t."tags")
          WHERE (t."na""me", t."tags"::text) IS DISTINCT FROM (EXCLUDED."na""me", COALESCE(EXCLUDED."tags", t."tags")::text)
          RETURNING t."id" AS m1, t."tenant" AS m2, t.xmax = 0 AS created
        )
        SELECT g.n FROM given g JOIN written w ON w.m1 = g.c1::bigint AND w.m2 = g.c2::character varying(8) WHERE w.created
        "#);
    }

    #[test]
    fn create_and_an_upsert_without_fields_leave_rows_alone() {
        let seen = statement(OperationKind::Create, &[("photo", Null::Clears)]);
        insta::assert_snapshot!(seen, @r#"
        WITH given AS MATERIALIZED (
          SELECT u.n, u.c1::bigint AS c1, u.c2::character varying AS c2, decode(u.c3, 'base64') AS c3
          FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS u(c1, c2, c3, n)
        ), written AS (
          INSERT INTO "public"."customers" AS t ("id", "tenant", "photo")
          SELECT g.c1, g.c2, g.c3 FROM given g
          ON CONFLICT ("id", "tenant") DO NOTHING
          RETURNING t."id" AS m1, t."tenant" AS m2, true AS created
        )
        SELECT g.n FROM given g JOIN written w ON w.m1 = g.c1::bigint AND w.m2 = g.c2::character varying(8) WHERE w.created
        "#);
        assert!(statement(OperationKind::Upsert, &[]).contains("DO NOTHING"));
    }

    #[test]
    fn what_is_filled_only_if_it_is_empty_stays_as_it_is() {
        let upsert = statement(OperationKind::Upsert, &[("seen", Null::Fills)]);
        assert!(upsert.contains(r#"SET "seen" = COALESCE(t."seen", EXCLUDED."seen")"#), "{upsert}");
        let update = statement(OperationKind::Update, &[("seen", Null::Fills)]);
        assert!(update.contains(r#"SET "seen" = COALESCE(t."seen", g.c3)"#), "{update}");
    }

    #[test]
    fn update_finds_rows_that_need_no_writing() {
        let seen = statement(OperationKind::Update, &[("photo", Null::Keeps), ("seen", Null::Clears)]);
        insta::assert_snapshot!(seen, @r#"
        WITH given AS MATERIALIZED (
          SELECT u.n, u.c1::bigint AS c1, u.c2::character varying AS c2, decode(u.c3, 'base64') AS c3, (u.c4::timestamp with time zone AT TIME ZONE 'UTC') AS c4
          FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS u(c1, c2, c3, c4, n)
        ), written AS (
          UPDATE "public"."customers" AS t SET "photo" = COALESCE(g.c3, t."photo"), "seen" = g.c4
          FROM given g WHERE t."id" = g.c1 AND t."tenant" = g.c2
          AND (t."photo", t."seen") IS DISTINCT FROM (COALESCE(g.c3, t."photo"), g.c4)
          RETURNING g.n
        )
        SELECT g.n FROM given g JOIN "public"."customers" AS t ON t."id" = g.c1 AND t."tenant" = g.c2
        UNION SELECT n FROM written
        "#);
        insta::assert_snapshot!(statement(OperationKind::Update, &[]), @r#"
        WITH given AS MATERIALIZED (
          SELECT u.n, u.c1::bigint AS c1, u.c2::character varying AS c2
          FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(c1, c2, n)
        )
        SELECT g.n FROM given g JOIN "public"."customers" AS t ON t."id" = g.c1 AND t."tenant" = g.c2
        "#);
    }

    #[test]
    fn delete_gives_back_what_was_there() {
        insta::assert_snapshot!(statement(OperationKind::Delete, &[]), @r#"
        WITH given AS MATERIALIZED (
          SELECT u.n, u.c1::bigint AS c1, u.c2::character varying AS c2
          FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(c1, c2, n)
        ), written AS (
          DELETE FROM "public"."customers" AS t USING given g WHERE t."id" = g.c1 AND t."tenant" = g.c2
          RETURNING g.n
        )
        SELECT n FROM written
        "#);
    }

    #[test]
    fn append_only_inserts() {
        insta::assert_snapshot!(statement(OperationKind::Append, &[("seen", Null::Clears)]), @r#"
        INSERT INTO "public"."customers" ("id", "tenant", "seen")
        SELECT u.c1::bigint, u.c2::character varying, (u.c3::timestamp with time zone AT TIME ZONE 'UTC')
        FROM unnest($1::text[], $2::text[], $3::text[]) AS u(c1, c2, c3)
        "#);
    }
}
