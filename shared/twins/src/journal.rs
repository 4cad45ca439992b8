//! What reached a twin and what it did: the source of the answers to a test's questions.

use std::{collections::BTreeMap, fmt, time::Duration};

use tokio::time::Instant;

use crate::window::most_within;

/// What a twin saw and applied so far. A snapshot: it does not change when the twin goes on.
#[derive(Clone, Default)]
pub struct Journal {
    arrivals: Vec<Instant>,
    ended: BTreeMap<(String, Ended), u64>,
    applied: Vec<Applied>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// With an answer of this status.
    Answered(u16),
    /// By a reset before it was handled.
    Reset,
    /// Handled, its answer lost.
    AnswerLost,
    /// Handled, its answer cut short.
    Truncated,
}

/// What an accepted operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A record is new.
    Created,
    /// A record has other values than before.
    Updated,
    /// A record was written with the values it had, or one that is not there was deleted.
    Unchanged,
    /// A record is gone.
    Deleted,
    /// A record was added without regard to its key.
    Appended,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "answered with {status}"),
            Self::Reset => f.write_str("reset before it was handled"),
            Self::AnswerLost => f.write_str("handled, the answer lost"),
            Self::Truncated => f.write_str("handled, the answer cut short"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
            Self::Appended => "appended",
        })
    }
}

/// One accepted operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Position among all accepted operations, from 1.
    pub sequence: u64,
    /// Number of the request that carried it, from 1.
    pub request: u64,
    /// The object it went to.
    pub object: String,
    /// What it did.
    pub action: Action,
    /// The key by which it was sent.
    pub key: String,
    /// The twin's id of the record.
    pub id: String,
    /// When, since the twin's start.
    pub at: Duration,
}

/// How many accepted operations did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`Action::Created`]
    pub created: u64,
    /// [`Action::Updated`]
    pub updated: u64,
    /// [`Action::Unchanged`]
    pub unchanged: u64,
    /// [`Action::Deleted`]
    pub deleted: u64,
    /// [`Action::Appended`]
    pub appended: u64,
}

impl Journal {
    /// How many requests arrived, however they ended.
    pub fn requests(&self) -> u64 {
        u64::try_from(self.arrivals.len()).unwrap_or(u64::MAX)
    }

    /// How many requests to which path ended how.
    pub fn requests_by_path(&self) -> &BTreeMap<(String, Ended), u64> {
        &self.ended
    }

    /// How many requests ended like this.
    pub fn requests_ended(&self, how: Ended) -> u64 {
        self.ended.iter().filter(|((_, ended), _)| *ended == how).map(|(_, count)| count).sum()
    }

    /// How many requests arrived in the busiest stretch of this length, refused ones included.
    pub fn most_requests_within(&self, length: Duration) -> usize {
        most_within(&self.arrivals, length)
    }

    /// The accepted operations, in the order in which they were applied.
    pub fn applied(&self) -> &[Applied] {
        &self.applied
    }

    /// How many accepted operations on `object` did what.
    pub fn counts(&self, object: &str) -> Counts {
        let mut counts = Counts::default();
        for applied in self.on(object) {
            let count = match applied.action {
                Action::Created => &mut counts.created,
                Action::Updated => &mut counts.updated,
                Action::Unchanged => &mut counts.unchanged,
                Action::Deleted => &mut counts.deleted,
                Action::Appended => &mut counts.appended,
            };
            *count += 1;
        }
        counts
    }

    /// How often each key of `object` was accepted: more than once is a duplicate delivery, or a later change.
    pub fn writes_per_key(&self, object: &str) -> BTreeMap<String, u64> {
        let mut writes = BTreeMap::new();
        for applied in self.on(object) {
            *writes.entry(applied.key.clone()).or_insert(0) += 1;
        }
        writes
    }

    fn on<'a>(&'a self, object: &'a str) -> impl Iterator<Item = &'a Applied> {
        self.applied.iter().filter(move |applied| applied.object == object)
    }

    /// Notes an arrival and gives its number, from 1.
    pub(crate) fn arrived(&mut self, at: Instant) -> u64 {
        self.arrivals.push(at);
        self.requests()
    }

    pub(crate) fn ended(&mut self, path: &str, how: Ended) {
        *self.ended.entry((path.to_owned(), how)).or_insert(0) += 1;
    }

    /// Notes an accepted operation; its `sequence` is set here.
    pub(crate) fn apply(&mut self, mut applied: Applied) {
        applied.sequence = u64::try_from(self.applied.len()).unwrap_or(u64::MAX).saturating_add(1);
        self.applied.push(applied);
    }
}
