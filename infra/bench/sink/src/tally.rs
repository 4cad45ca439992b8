//! What reached the sink.

use std::collections::{HashMap, HashSet};

use crate::json::Row;

/// Counts since the last reset.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    requests: u64,
    rows: u64,
    deleted: u64,
    /// Requests whose body is not what it should be.
    pub(crate) unreadable: u64,
    in_flight: u64,
    most_in_flight: u64,
    least_members: Option<usize>,
    most_members: usize,
    /// How often each key came.
    keys: HashMap<u64, u32>,
    /// The keys of the records that are there.
    there: HashSet<u64>,
}

impl Tally {
    /// A request begins; [`Tally::end`] ends it.
    pub(crate) fn begin(&mut self) {
        self.requests += 1;
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
    }

    pub(crate) fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Forgets the counts, and keeps the records.
    pub(crate) fn count_anew(&mut self) {
        let there = std::mem::take(&mut self.there);
        *self = Self { there, ..Self::default() };
    }

    /// Takes rows; gives for each whether its record is new.
    pub(crate) fn take(&mut self, rows: &[Row]) -> Vec<bool> {
        for row in rows {
            self.rows += 1;
            *self.keys.entry(row.key).or_default() += 1;
            self.most_members = self.most_members.max(row.members);
            self.least_members = Some(self.least_members.unwrap_or(row.members).min(row.members));
        }
        rows.iter().map(|row| self.there.insert(row.key)).collect()
    }

    /// Deletes records; those that are not there count for nothing.
    pub(crate) fn delete(&mut self, rows: &[Row]) {
        self.deleted += rows.iter().filter(|row| self.there.remove(&row.key)).count() as u64;
    }

    /// All of it as a JSON object.
    pub(crate) fn report(&self) -> String {
        let repeated = self.keys.values().filter(|times| **times > 1).count();
        format!(
            r#"{{"requests":{},"most_in_flight":{},"rows":{},"distinct":{},"repeated":{repeated},"deleted":{},"unreadable":{},"least_members":{},"most_members":{}}}"#,
            self.requests,
            self.most_in_flight,
            self.rows,
            self.keys.len(),
            self.deleted,
            self.unreadable,
            self.least_members.unwrap_or_default(),
            self.most_members,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_comes_twice_is_seen() {
        let mut tally = Tally::default();
        tally.begin();
        assert_eq!(tally.take(&[Row { key: 1, members: 3 }, Row { key: 2, members: 2 }]), [true, true]);
        tally.begin();
        tally.end();
        assert_eq!(tally.take(&[Row { key: 1, members: 3 }]), [false]);
        tally.begin();
        tally.delete(&[Row { key: 2, members: 1 }, Row { key: 3, members: 1 }]);
        assert_eq!(
            tally.report(),
            r#"{"requests":3,"most_in_flight":2,"rows":3,"distinct":2,"repeated":1,"deleted":1,"unreadable":0,"least_members":2,"most_members":3}"#
        );
        tally.count_anew();
        assert_eq!(tally.take(&[Row { key: 1, members: 3 }, Row { key: 2, members: 3 }]), [false, true]);
        assert!(tally.report().contains(r#""rows":2,"distinct":2,"repeated":0"#));
    }
}
