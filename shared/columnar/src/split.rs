//! Cuts an unload into splits of whole row groups.

use penstock_model::unload::{Piece, PinnedUnload, Split};

/// Cuts an unload into splits of about `target_rows` rows: small files stand together, large ones are cut between row
/// groups. A row group is never cut, so a split may be larger. An unload without rows has no splits.
#[must_use]
pub fn cut(unload: &PinnedUnload, target_rows: u32) -> Vec<Split> {
    let mut splits = Vec::new();
    let mut current = Split { pieces: Vec::new(), rows: 0 };
    let groups = (0u32..).zip(&unload.files).flat_map(|(file, pinned)| {
        (0u32..).zip(&pinned.row_groups).map(move |(group, rows)| Piece {
            file,
            first_row_group: group,
            row_groups: 1,
            rows: *rows,
        })
    });
    for group in groups.filter(|group| group.rows > 0) {
        let fits = current.rows.checked_add(group.rows).is_some_and(|rows| rows <= target_rows);
        if !fits && current.rows > 0 {
            splits.push(std::mem::replace(&mut current, Split { pieces: Vec::new(), rows: 0 }));
        }
        current.rows += group.rows;
        match current.pieces.last_mut() {
            Some(last)
                if last.file == group.file
                    && last.first_row_group + last.row_groups == group.first_row_group =>
            {
                last.row_groups += 1;
                last.rows += group.rows;
            }
            Some(_) | None => current.pieces.push(group),
        }
    }
    if current.rows > 0 {
        splits.push(current);
    }
    splits
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use penstock_model::Timestamp;
    use penstock_model::port::ETag;
    use penstock_model::unload::UnloadFile;
    use proptest::prelude::*;

    use super::*;

    fn unload(files: Vec<Vec<u32>>) -> PinnedUnload {
        let files = files.into_iter().enumerate().map(|(at, row_groups)| UnloadFile {
            key: format!("{at:05}"),
            size: 1,
            etag: ETag(String::new()),
            rows: row_groups.iter().map(|rows| u64::from(*rows)).sum(),
            row_groups,
            partition_values: BTreeMap::new(),
        });
        PinnedUnload {
            root: String::new(),
            prefix: String::new(),
            identity: String::new(),
            completed_at: Timestamp(0),
            files: files.collect(),
        }
    }

    #[test]
    fn small_files_stand_together_and_large_ones_are_cut() {
        let splits = cut(&unload(vec![vec![10], vec![0], vec![20, 70], vec![100, 30, 0, 30]]), 100);
        let shape: Vec<Vec<(u32, u32, u32)>> = splits
            .iter()
            .map(|split| split.pieces.iter().map(|p| (p.file, p.first_row_group, p.row_groups)).collect())
            .collect();
        assert_eq!(shape, [vec![(0, 0, 1), (2, 0, 2)], vec![(3, 0, 1)], vec![(3, 1, 1), (3, 3, 1)]]);
    }

    #[test]
    fn no_rows_no_splits_and_no_overflow() {
        assert!(cut(&unload(vec![vec![], vec![0, 0]]), 100).is_empty());
        assert_eq!(cut(&unload(vec![vec![u32::MAX, u32::MAX, 1]]), u32::MAX).len(), 3);
    }

    proptest! {
        #[test]
        fn every_row_group_with_rows_is_in_exactly_one_split(
            files in prop::collection::vec(prop::collection::vec(0u32..50, 0..6), 0..8),
            target in 1u32..200,
        ) {
            let unload = unload(files);
            let mut taken = Vec::new();
            for split in cut(&unload, target) {
                prop_assert!(split.rows > 0);
                let rows: u32 = split.pieces.iter().map(|piece| piece.rows).sum();
                prop_assert_eq!(rows, split.rows);
                let groups: u32 = split.pieces.iter().map(|piece| piece.row_groups).sum();
                prop_assert!(split.rows <= target || groups == 1);
                for piece in split.pieces {
                    for group in piece.first_row_group..piece.first_row_group + piece.row_groups {
                        taken.push((piece.file as usize, group as usize));
                    }
                }
            }
            let expected: Vec<(usize, usize)> = unload.files.iter().enumerate().flat_map(|(at, file)| {
                file.row_groups.iter().enumerate().filter(|(_, rows)| **rows > 0).map(move |(group, _)| (at, group))
            }).collect();
            prop_assert_eq!(taken, expected);
        }
    }
}
