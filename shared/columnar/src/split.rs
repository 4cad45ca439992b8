//! Cuts an unload into splits of whole row groups.

use penstock_model::unload::{Piece, PinnedUnload, Split, UnloadFile};

/// How large a split is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Rows, about.
    pub rows: u32,
    /// Bytes once unpacked, about.
    pub bytes: u64,
    /// Files, at most: each costs requests.
    pub files: u32,
}

impl Default for Sizes {
    /// One million rows: a read then holds some 30 MB of fingerprints. One GiB, however few rows that are: it is fetched
    /// and decoded in well under a minute. And 250 files: two requests one after the other for each take some 15 seconds.
    fn default() -> Self {
        Self { rows: 1_000_000, bytes: 1 << 30, files: 250 }
    }
}

/// Cuts an unload into splits of about these sizes: small files stand together, large ones are cut between row
/// groups. A row group is never cut, so a split may be larger. An unload without rows has no splits.
#[must_use]
pub fn cut(unload: &PinnedUnload, sizes: Sizes) -> Vec<Split> {
    let mut splits = Vec::new();
    let mut current = Open::default();
    for (group, bytes) in (0u32..).zip(&unload.files).flat_map(|(file, pinned)| groups(file, pinned)) {
        if !current.has_room(&group, bytes, sizes) {
            splits.extend(std::mem::take(&mut current).close());
        }
        current.take(group, bytes);
    }
    splits.extend(current.close());
    splits
}

/// The row groups of a file that have rows, each with its bytes.
fn groups(file: u32, pinned: &UnloadFile) -> impl Iterator<Item = (Piece, u64)> {
    let bytes = pinned.row_group_bytes.iter().copied().chain(std::iter::repeat(0));
    (0u32..).zip(&pinned.row_groups).zip(bytes).filter(|((_, rows), _)| **rows > 0).map(
        move |((first_row_group, rows), bytes)| {
            (Piece { file, first_row_group, row_groups: 1, rows: *rows }, bytes)
        },
    )
}

/// A split to which row groups are still added.
#[derive(Debug, Default)]
struct Open {
    pieces: Vec<Piece>,
    rows: u32,
    bytes: u64,
    files: u32,
}

impl Open {
    fn is_next_file(&self, group: &Piece) -> bool {
        self.pieces.last().is_none_or(|last| last.file != group.file)
    }

    fn has_room(&self, group: &Piece, bytes: u64, sizes: Sizes) -> bool {
        let files = self.files + u32::from(self.is_next_file(group));
        self.rows == 0
            || (self.rows.checked_add(group.rows).is_some_and(|rows| rows <= sizes.rows)
                && self.bytes.saturating_add(bytes) <= sizes.bytes
                && files <= sizes.files)
    }

    fn take(&mut self, group: Piece, bytes: u64) {
        self.files += u32::from(self.is_next_file(&group));
        self.rows += group.rows;
        self.bytes = self.bytes.saturating_add(bytes);
        match self.pieces.last_mut() {
            Some(last)
                if last.file == group.file
                    && last.first_row_group + last.row_groups == group.first_row_group =>
            {
                last.row_groups += 1;
                last.rows += group.rows;
            }
            Some(_) | None => self.pieces.push(group),
        }
    }

    fn close(self) -> Option<Split> {
        (self.rows > 0).then_some(Split { pieces: self.pieces, rows: self.rows })
    }
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
            row_group_bytes: row_groups.iter().map(|rows| u64::from(*rows) * 10).collect(),
            naive_int96: vec![],
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

    /// Only rows count.
    fn rows(rows: u32) -> Sizes {
        Sizes { rows, bytes: u64::MAX, files: u32::MAX }
    }

    fn shape(splits: &[Split]) -> Vec<Vec<(u32, u32, u32)>> {
        let piece = |p: &Piece| (p.file, p.first_row_group, p.row_groups);
        splits.iter().map(|split| split.pieces.iter().map(piece).collect()).collect()
    }

    #[test]
    fn small_files_stand_together_and_large_ones_are_cut() {
        let splits = cut(&unload(vec![vec![10], vec![0], vec![20, 70], vec![100, 30, 0, 30]]), rows(100));
        assert_eq!(shape(&splits), [vec![(0, 0, 1), (2, 0, 2)], vec![(3, 0, 1)], vec![(3, 1, 1), (3, 3, 1)]]);
    }

    #[test]
    fn wide_rows_and_many_files_are_cut_sooner() {
        let files = || unload(vec![vec![10, 10, 30], vec![5], vec![5], vec![5]]);
        let wide = cut(&files(), Sizes { rows: 1000, bytes: 200, files: 1000 });
        assert_eq!(shape(&wide), [vec![(0, 0, 2)], vec![(0, 2, 1)], vec![(1, 0, 1), (2, 0, 1), (3, 0, 1)]]);
        let many = cut(&files(), Sizes { rows: 1000, bytes: 1000, files: 2 });
        assert_eq!(shape(&many), [vec![(0, 0, 3), (1, 0, 1)], vec![(2, 0, 1), (3, 0, 1)]]);
        // A plan of an earlier version knows no bytes.
        let mut unknown = files();
        unknown.files.iter_mut().for_each(|file| file.row_group_bytes.clear());
        assert_eq!(cut(&unknown, Sizes { rows: 1000, bytes: 1, files: 1000 }).len(), 1);
    }

    #[test]
    fn no_rows_no_splits_and_no_overflow() {
        assert!(cut(&unload(vec![vec![], vec![0, 0]]), rows(100)).is_empty());
        assert_eq!(cut(&unload(vec![vec![u32::MAX, u32::MAX, 1]]), rows(u32::MAX)).len(), 3);
    }

    proptest! {
        #[test]
        fn every_row_group_with_rows_is_in_exactly_one_split(
            files in prop::collection::vec(prop::collection::vec(0u32..50, 0..6), 0..8),
            target in 1u32..200, bytes in 1u64..2000, most_files in 1u32..5,
        ) {
            let unload = unload(files);
            let mut taken = Vec::new();
            for split in cut(&unload, Sizes { rows: target, bytes, files: most_files }) {
                prop_assert!(split.rows > 0);
                let rows: u32 = split.pieces.iter().map(|piece| piece.rows).sum();
                prop_assert_eq!(rows, split.rows);
                let groups: u32 = split.pieces.iter().map(|piece| piece.row_groups).sum();
                let fits = split.rows <= target && u64::from(split.rows) * 10 <= bytes;
                prop_assert!(fits || groups == 1);
                let files: std::collections::BTreeSet<u32> = split.pieces.iter().map(|piece| piece.file).collect();
                prop_assert!(u32::try_from(files.len()).unwrap() <= most_files);
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
