//! Which rows may travel together, and in which order.

use std::collections::HashMap;

use super::values::Row;

/// Rows in waves: none has a match value twice, and rows with the same one come in their order. Within a wave, rows that refer to the same
/// record stand side by side, so that they travel in one request more often than not.
pub(super) fn waves(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut waves: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        let wave = match row.match_key() {
            None => 0,
            Some(key) => {
                let next = seen.entry(key).or_default();
                *next += 1;
                *next - 1
            }
        };
        while waves.len() <= wave {
            waves.push(Vec::new());
        }
        if let Some(wave) = waves.get_mut(wave) {
            wave.push(row);
        }
    }
    for wave in &mut waves {
        // A stable sort: rows without a parent stay in their order, before all others.
        wave.sort_by(|one, other| one.parents.cmp(&other.parents));
    }
    waves
}

#[cfg(test)]
mod tests {
    use penstock_model::json::Json;
    use penstock_model::operation::OperationKind;
    use proptest::prelude::*;

    use super::super::values::Cell;
    use super::*;

    fn row(n: u32, key: u8, parent: Option<u64>) -> Row {
        Row {
            n,
            kind: OperationKind::Upsert,
            key: Json::written("{}".into()),
            id: None,
            matched: Some((
                "Ext__c".into(),
                Cell::Text(if n.is_multiple_of(2) { "k" } else { "K" }.to_owned() + &key.to_string()),
            )),
            fields: Vec::new(),
            if_empty: Vec::new(),
            lookups: Vec::new(),
            parents: parent.into_iter().collect(),
            moved: false,
            inserts: false,
        }
    }

    proptest! {
        #[test]
        fn waves_are_a_partition_that_keeps_every_match_in_order(
            given in prop::collection::vec((0u8..6, prop::option::of(0u64..4)), 0..60),
        ) {
            let rows: Vec<Row> = given.iter().zip(0..).map(|((key, parent), n)| row(n, *key, *parent)).collect();
            let waves = waves(rows);
            let mut sent: Vec<u32> = Vec::new();
            for wave in &waves {
                prop_assert!(!wave.is_empty());
                let mut keys: Vec<_> = wave.iter().filter_map(Row::match_key).collect();
                keys.sort();
                keys.dedup();
                prop_assert_eq!(keys.len(), wave.len());
                let parents: Vec<_> = wave.iter().map(|row| row.parents.clone()).collect();
                prop_assert!(parents.is_sorted());
                sent.extend(wave.iter().map(|row| row.n));
            }
            for key in 0..6 {
                let of_key: Vec<_> = sent.iter().copied().filter(|n| given[*n as usize].0 == key).collect();
                prop_assert!(of_key.is_sorted());
            }
            sent.sort_unstable();
            prop_assert_eq!(sent, (0..).take(given.len()).collect::<Vec<u32>>());
        }
    }
}
