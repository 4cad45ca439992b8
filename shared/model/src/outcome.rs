//! What became of an operation, and how the witnesses of several attempts are merged.

use serde::{Deserialize, Serialize};

/// Why the destination was told nothing, or had nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// `create_only`: the record is there already.
    Exists,
    /// `update_only`, or a removal: there is no such record.
    Missing,
    /// No field has anything to say.
    NothingToSay,
    /// A removal of a record that somebody else created.
    NotOurs,
}

/// What became of one operation.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The destination took it.
    Accepted {
        /// The record's id at the destination, where it said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Whether the record was created, where the destination said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        created: Option<bool>,
    },
    /// Nothing had to be done.
    Skipped {
        /// Why.
        why: SkipReason,
    },
    /// The request left and no answer came back: it may have been carried out.
    Unknown {
        /// What happened to the answer, without any of its content.
        why: String,
    },
    /// The destination, or the mapping, refused the row.
    Rejected {
        /// The destination's code for it, or Penstock's.
        code: String,
        /// The destination's words, or Penstock's.
        message: String,
        /// The field at fault, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        field: Option<String>,
    },
    /// The chunk failed for good and its rows became dead letters.
    DeadLettered {
        /// The chunk's failure name.
        why: String,
    },
}

impl Outcome {
    /// Accepted, with nothing known of the record.
    #[must_use]
    pub const fn accepted() -> Self {
        Self::Accepted { id: None, created: None }
    }

    /// Rejected, with a code and words.
    pub fn rejected(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Rejected { code: code.into(), message: message.into(), field: None }
    }

    /// Which witness counts: accepted > skipped > unknown > rejected > dead-lettered.
    const fn weight(&self) -> u8 {
        match self {
            Self::Accepted { .. } => 4,
            Self::Skipped { .. } => 3,
            Self::Unknown { .. } => 2,
            Self::Rejected { .. } => 1,
            Self::DeadLettered { .. } => 0,
        }
    }

    /// The outcome that counts when two attempts saw different things. An acceptance that knows the
    /// record's id, or that it created it, counts more than one that does not.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Accepted { id, created }, Self::Accepted { id: other_id, created: other_created }) => {
                Self::Accepted {
                    id: id.or(other_id),
                    // Whoever created it first is right: a second attempt finds its own record there.
                    created: match (created, other_created) {
                        (Some(true), _) | (_, Some(true)) => Some(true),
                        (first, second) => first.or(second),
                    },
                }
            }
            (first, second) => {
                if second.weight() > first.weight() {
                    second
                } else {
                    first
                }
            }
        }
    }

    /// Whether the operation needs no further attempt within this run.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Accepted { .. }
            | Self::Skipped { .. }
            | Self::Rejected { .. }
            | Self::DeadLettered { .. } => true,
            Self::Unknown { .. } => false,
        }
    }
}

/// Shows the kind of outcome only: ids, codes and messages may carry row values.
impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Accepted { .. } => "Accepted",
            Self::Skipped { .. } => "Skipped",
            Self::Unknown { .. } => "Unknown",
            Self::Rejected { .. } => "Rejected",
            Self::DeadLettered { .. } => "DeadLettered",
        })
    }
}

/// One line of a receipt: the outcome of the operation with this ordinal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptLine {
    /// The operation's ordinal within its chunk.
    pub n: u32,
    /// What became of it.
    pub outcome: Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_prefers_the_stronger_witness_in_either_order() {
        let by_weight = [
            Outcome::DeadLettered { why: "x".into() },
            Outcome::rejected("x", "y"),
            Outcome::Unknown { why: "x".into() },
            Outcome::Skipped { why: SkipReason::Exists },
            Outcome::accepted(),
        ];
        for (i, weak) in by_weight.iter().enumerate() {
            for strong in by_weight.iter().skip(i) {
                assert_eq!(weak.clone().merge(strong.clone()), *strong);
                assert_eq!(strong.clone().merge(weak.clone()), *strong);
            }
        }
    }

    #[test]
    fn a_second_attempt_does_not_make_our_record_somebody_elses() {
        let first = Outcome::Accepted { id: None, created: Some(true) };
        let second = Outcome::Accepted { id: Some("7".into()), created: Some(false) };
        let merged = Outcome::Accepted { id: Some("7".into()), created: Some(true) };
        assert_eq!(first.clone().merge(second.clone()), merged);
        assert_eq!(second.merge(first), merged);
    }
}
