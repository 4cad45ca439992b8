//! What a push tells the next one. A hint, which may get lost: outcomes are in the receipts.

use serde::{Deserialize, Serialize};

use super::pace::KeptPace;

/// A cursor has less than a kilobyte; so many parts fit into it beside the pace.
const MOST_PARTS: usize = 32;

/// The cursor of an HTTP destination, as JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    /// The pace.
    pub(super) pace: KeptPace,
    /// Ranges of ordinals that are sent each by itself: parts of batches that were refused as a whole. Without them a
    /// push that is short, or slow, would begin to halve anew each time.
    pub(super) apart: Vec<(u32, u32)>,
    /// Whether the quota was used up: then one request is enough to learn that it still is.
    #[serde(default)]
    pub(super) probe: bool,
}

impl Cursor {
    /// Reads a cursor; one that can't be read says nothing.
    pub(super) fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// A cursor with as many of the parts as fit.
    pub(super) fn new(pace: KeptPace, mut apart: Vec<(u32, u32)>, probe: bool) -> Self {
        apart.sort_unstable();
        apart.truncate(MOST_PARTS);
        Self { pace, apart, probe }
    }

    /// As the state machine carries it.
    pub(super) fn write(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Which part an ordinal belongs to.
    pub(super) fn part_of(&self, ordinal: u32) -> Option<usize> {
        self.apart.iter().position(|(from, to)| (*from..=*to).contains(&ordinal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stays_short_and_reads_back() {
        let apart: Vec<(u32, u32)> = (0..500).map(|n| (n * 1_000_000, n * 1_000_000 + 99)).collect();
        let cursor = Cursor::new(KeptPace::default(), apart, true);
        let text = cursor.write().unwrap();
        assert!(text.len() <= 950, "{} bytes", text.len());
        assert_eq!(Cursor::read(Some(&text)), cursor);
        assert_eq!((cursor.part_of(1_000_050), cursor.part_of(1_000_100)), (Some(1), None));
    }

    #[test]
    fn what_can_not_be_read_says_nothing() {
        for text in [None, Some(""), Some("7501x"), Some("{\"other\": 1}")] {
            assert_eq!(Cursor::read(text), Cursor::default(), "{text:?}");
        }
    }
}
