//! What a run costs the platform: each invocation leaves an empty object with its figures in the key, so that a listing
//! adds them up and nothing is read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Requests to the object store, as they are charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// GET and HEAD.
    pub reads: u64,
    /// PUT and LIST; dearer.
    pub writes: u64,
}

impl Requests {
    /// Those since an earlier count.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            reads: self.reads.saturating_sub(earlier.reads),
            writes: self.writes.saturating_sub(earlier.writes),
        }
    }
}

/// What one function did for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// How often it was invoked.
    pub invocations: u64,
    /// Memory times duration, in MB × ms: 1,024,000 are a GB-second.
    pub mb_ms: u64,
    /// Requests to the object store.
    pub requests: Requests,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.invocations += other.invocations;
        self.mb_ms += other.mb_ms;
        self.requests.reads += other.requests.reads;
        self.requests.writes += other.requests.writes;
    }
}

/// A run's work by function.
pub type WorkByFunction = BTreeMap<String, Work>;

/// One invocation's figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoked {
    /// The function.
    pub function: String,
    /// The invocation's id: it tells invocations apart and means nothing else.
    pub id: String,
    /// What its memory is, in MB.
    pub memory_mb: u64,
    /// How long it took.
    pub ms: u64,
    /// What it asked of the object store.
    pub requests: Requests,
}

impl Invoked {
    /// The figures as the last part of a key.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { function, id, memory_mb, ms, requests } = self;
        format!("{function}.{id}.{memory_mb}MB.{ms}ms.{}r.{}w", requests.reads, requests.writes)
    }

    /// Reads [`Self::name`]; none if it is something else.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let (function, id) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let mut figure = |unit: &str| parts.next()?.strip_suffix(unit)?.parse::<u64>().ok();
        let (memory_mb, ms) = (figure("MB")?, figure("ms")?);
        let requests = Requests { reads: figure("r")?, writes: figure("w")? };
        Some(Self { function, id, memory_mb, ms, requests })
    }

    /// What it adds to the run's work.
    #[must_use]
    pub fn work(&self) -> Work {
        Work { invocations: 1, mb_ms: self.memory_mb.saturating_mul(self.ms), requests: self.requests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_travel_in_a_name() {
        let requests = Requests { reads: 12, writes: 3 };
        let invoked = Invoked {
            function: "dead-letter".to_owned(),
            id: "5f1c-0d3e".to_owned(),
            memory_mb: 1_024,
            ms: 250,
            requests,
        };
        assert_eq!(invoked.name(), "dead-letter.5f1c-0d3e.1024MB.250ms.12r.3w");
        assert_eq!(Invoked::parse(&invoked.name()), Some(invoked.clone()));
        assert_eq!(invoked.work(), Work { invocations: 1, mb_ms: 256_000, requests });
        for other in
            ["", "push", "push.a.1024MB.250ms.12r", "push.a.1024.250ms.12r.3w", "push.a.xMB.1ms.1r.1w"]
        {
            assert_eq!(Invoked::parse(other), None, "{other}");
        }
    }
}
