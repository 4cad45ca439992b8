//! Which rows share a statement, and in which order statements follow each other.

use std::collections::{BTreeMap, HashMap};

use penstock_model::operation::OperationKind;

use super::statement::{Null, Shape, Slot};
use super::values::Row;

/// Rows of one statement.
pub(super) struct Batch<'a> {
    /// What they have in common.
    pub(super) shape: Shape<'a>,
    /// The rows, in order.
    pub(super) rows: Vec<&'a Row<'a>>,
}

/// Splits rows so that no wave holds two rows of one match; the order of those is that of the waves. Within a wave the
/// order does not matter: a statement may hold a match once only, and statements may go out side by side.
pub(super) fn waves<'a>(rows: &'a [Row<'a>]) -> Vec<Vec<&'a Row<'a>>> {
    let mut seen: HashMap<Vec<(&str, &str)>, usize> = HashMap::with_capacity(rows.len());
    let mut waves: Vec<Vec<&Row<'_>>> = Vec::new();
    for row in rows {
        let wave = if row.kind == OperationKind::Append {
            0
        } else {
            let identity = row.matched.iter().map(|(column, text)| (column.name.as_str(), &**text)).collect();
            let times = seen.entry(identity).or_default();
            *times += 1;
            *times - 1
        };
        while waves.len() <= wave {
            waves.push(Vec::new());
        }
        if let Some(wave) = waves.get_mut(wave) {
            wave.push(row);
        }
    }
    waves
}

/// Puts the rows of a wave together by shape, at most `rows_at_most` to a batch and about `bytes_at_most` of text.
pub(super) fn batches<'a>(wave: &[&'a Row<'a>], rows_at_most: usize, bytes_at_most: usize) -> Vec<Batch<'a>> {
    let mut by_match: BTreeMap<(OperationKind, Vec<&str>), Vec<&'a Row<'a>>> = BTreeMap::new();
    for &row in wave {
        let columns = row.matched.iter().map(|(column, _)| column.name.as_str()).collect();
        by_match.entry((row.kind, columns)).or_default().push(row);
    }
    let mut batches = Vec::new();
    for rows in by_match.into_values() {
        for (shape, rows) in shapes(rows) {
            let mut batch = Batch { shape: shape.clone(), rows: Vec::new() };
            let mut bytes = 0;
            for row in rows {
                let size = row.bytes();
                if !batch.rows.is_empty()
                    && (batch.rows.len() >= rows_at_most || bytes + size > bytes_at_most)
                {
                    let full =
                        std::mem::replace(&mut batch, Batch { shape: shape.clone(), rows: Vec::new() });
                    batches.push(full);
                    bytes = 0;
                }
                bytes += size;
                batch.rows.push(row);
            }
            batches.push(batch);
        }
    }
    batches
}

/// The shapes of rows of one kind and match.
///
/// Rows seldom have the same fields, since a null is left out unless the sync says that it clears. If that made a
/// statement each, ten columns that may be null could make a thousand. So a field that some rows lack and none clears
/// goes into all of them, its NULL standing for "keep": that is what a row without the field does, too, as long
/// as the column has no default.
fn shapes<'a>(rows: Vec<&'a Row<'a>>) -> Vec<(Shape<'a>, Vec<&'a Row<'a>>)> {
    struct Use<'a> {
        slot: Slot<'a>,
        rows: usize,
        clears: bool,
        /// Whether rows without the field can share a statement with those that have it.
        shared: bool,
    }
    let Some(first) = rows.first() else { return Vec::new() };
    let (kind, total) = (first.kind, rows.len());
    let matched: Vec<_> = first.matched.iter().map(|(column, _)| *column).collect();
    let mut fields: BTreeMap<&str, Use<'a>> = BTreeMap::new();
    for row in &rows {
        for (column, text) in &row.fields {
            let used = fields.entry(&column.name).or_insert(Use {
                slot: Slot { column, null: Null::Clears },
                rows: 0,
                clears: false,
                shared: false,
            });
            used.rows += 1;
            used.clears |= text.is_none();
        }
    }
    for used in fields.values_mut() {
        used.shared = used.rows < total && !used.clears && !used.slot.column.has_default;
        used.slot.null = match (used.slot.column.if_empty, used.shared) {
            (true, _) => Null::Fills,
            (false, true) => Null::Keeps,
            (false, false) => Null::Clears,
        };
    }
    let mut shapes: BTreeMap<Vec<&str>, (Shape<'a>, Vec<&'a Row<'a>>)> = BTreeMap::new();
    for row in rows {
        let has =
            |name: &&str| row.fields.binary_search_by(|(column, _)| column.name.as_str().cmp(name)).is_ok();
        let own = fields.iter().filter(|(name, used)| used.shared || has(name));
        let names: Vec<&str> = own.clone().map(|(name, _)| *name).collect();
        let new =
            || Shape { kind, matched: matched.clone(), fields: own.map(|(_, used)| used.slot).collect() };
        shapes.entry(names).or_insert_with(|| (new(), Vec::new())).1.push(row);
    }
    shapes.into_values().collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::super::table::Column;
    use super::super::values::{Base, Spelling};
    use super::*;

    fn column(name: &str, has_default: bool) -> Column {
        Column {
            name: name.into(),
            plain: "text".into(),
            full: "text".into(),
            spelling: Spelling { base: Base::Plain, array: false },
            comparable: true,
            has_default,
            writable: true,
            if_empty: false,
        }
    }

    /// `None`: the row lacks the field; `Some(None)`: it clears it.
    type Fields = [Option<Option<u8>>; 3];

    fn rows<'a>(columns: &'a [Column; 4], given: &[(u8, bool, Fields)]) -> Vec<Row<'a>> {
        let [id, fields @ ..] = columns;
        given
            .iter()
            .zip(0..)
            .map(|((key, delete, values), n)| Row {
                n,
                kind: if *delete { OperationKind::Delete } else { OperationKind::Upsert },
                matched: vec![(id, Cow::Owned(key.to_string()))],
                fields: fields
                    .iter()
                    .zip(values)
                    .filter(|_| !delete)
                    .filter_map(|(column, value)| {
                        Some((column, (*value)?.map(|v| Cow::Owned(v.to_string()))))
                    })
                    .collect(),
            })
            .collect()
    }

    fn four() -> [Column; 4] {
        [column("id", false), column("a", false), column("b", false), column("c", true)]
    }

    #[test]
    fn rows_that_lack_fields_share_a_statement_unless_that_would_change_what_they_say() {
        let columns = four();
        let one = Some(Some(1));
        let clear = Some(None);
        let cases: &[(&[Fields], usize)] = &[
            (&[[one, one, one], [one, one, one]], 1),
            (&[[one, None, one], [None, one, one]], 1),
            // A null that clears, beside a row that lacks the field.
            (&[[one, clear, one], [one, None, one]], 2),
            // A default, which a row that lacks the field gets when it is created.
            (&[[one, one, one], [one, one, None]], 2),
            (&[[None, None, None]], 1),
        ];
        for (fields, expected) in cases {
            let given: Vec<_> = fields.iter().zip(0..).map(|(fields, key)| (key, false, *fields)).collect();
            let rows = rows(&columns, &given);
            let wave: Vec<_> = rows.iter().collect();
            assert_eq!(batches(&wave, 1000, 1 << 20).len(), *expected, "{fields:?}");
        }
    }

    proptest! {
        #[test]
        fn batching_is_a_partition_that_keeps_every_match_in_order(
            given in prop::collection::vec((0u8..6, any::<bool>(), any::<[Option<Option<u8>>; 3]>()), 0..60),
            rows_at_most in 1usize..9,
        ) {
            let columns = four();
            let rows = rows(&columns, &given);
            let mut sent: Vec<u32> = Vec::new();
            for wave in waves(&rows) {
                let mut keys: Vec<_> = wave.iter().map(|row| row.matched[0].1.clone()).collect();
                keys.sort();
                keys.dedup();
                prop_assert_eq!(keys.len(), wave.len());
                for batch in batches(&wave, rows_at_most, 4) {
                    prop_assert!(!batch.rows.is_empty() && batch.rows.len() <= rows_at_most);
                    for row in &batch.rows {
                        prop_assert_eq!(row.kind, batch.shape.kind);
                        for (column, text) in &row.fields {
                            let slot = batch.shape.fields.iter().find(|slot| slot.column == *column);
                            prop_assert!(slot.is_some_and(|slot| text.is_some() || slot.null == Null::Clears));
                        }
                        for slot in &batch.shape.fields {
                            let has = row.fields.iter().any(|(column, _)| *column == slot.column);
                            prop_assert!(has || (slot.null == Null::Keeps && !slot.column.has_default));
                        }
                    }
                    sent.extend(batch.rows.iter().map(|row| row.n));
                }
            }
            let mut sorted = sent.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..).take(rows.len()).collect::<Vec<u32>>());
            let key = |n: &u32| given[*n as usize].0;
            for one in 0..6 {
                let of_key: Vec<_> = sent.iter().copied().filter(|n| key(n) == one).collect();
                prop_assert!(of_key.is_sorted());
            }
        }
    }
}
