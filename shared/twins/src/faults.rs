//! Scripted faults: when a twin misbehaves, and how.

use std::{num::NonZeroU64, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An ordered list of [`Rule`]s. For each request the first rule that holds decides; without one the request is
/// handled as usual.
///
/// Reads from any serde format as a list of rules:
///
/// ```
/// let script: penstock_twins::Script = serde_json::from_str(r#"[
///   {"when": {"nth": 3}, "what": {"status": {"code": 429, "retry_after": {"seconds": 2}}}},
///   {"when": {"path_contains": "upsert", "chance": 0.1, "seed": 7}, "what": "answer_lost"},
///   {"when": {"from": 10, "until": 20}, "what": {"slow": {"ms": 250}}}
/// ]"#).unwrap();
/// assert_eq!(script.rules().len(), 3);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Rule>", into = "Vec<Rule>")]
pub struct Script(Vec<Rule>);

/// One fault and the requests it befalls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests; every one, if nothing is given.
    #[serde(default)]
    pub when: When,
    /// What happens to them.
    pub what: Fault,
}

/// The conditions of a [`Rule`]; all that are given must hold.
///
/// Each rule counts for itself the requests whose path it matches, from 1: with `path_contains: upsert` and
/// `nth: 3` it is the third upsert that is meant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Only requests whose path contains this text.
    pub path_contains: Option<String>,
    /// Only the nth request.
    pub nth: Option<NonZeroU64>,
    /// Every nth request.
    pub every: Option<NonZeroU64>,
    /// Not before this request.
    pub from: Option<NonZeroU64>,
    /// Not after this request.
    pub until: Option<NonZeroU64>,
    /// With this probability, 0 to 1; the draws follow from `seed`.
    pub chance: Option<f64>,
    /// Seed of `chance`.
    pub seed: u64,
    /// At most so many times.
    pub times: Option<u64>,
    /// Only when this many seconds have passed since the twin's start.
    pub after_s: Option<u64>,
    /// Only until this many seconds have passed since the twin's start.
    pub before_s: Option<u64>,
}

/// What goes wrong. A write is *applied* only where it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An error status without handling the request, in the API's own form.
    Status {
        /// The status, 400 to 599.
        code: u16,
        /// The `Retry-After` header; none if not given.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
    },
    /// 401, whatever the credential.
    Unauthorized,
    /// The API's answer for a used-up daily quota; only to this request.
    QuotaGone,
    /// The day's quota is used up: this request and all others until the twin's next day get the API's answer for it.
    DayUsedUp {
        /// Whether they are told with `Retry-After` when the next day begins.
        #[serde(default)]
        retry_after: bool,
    },
    /// The request is handled, but some of its rows are refused as the API refuses a row.
    RefuseRows {
        /// Every nth row of the request, from its first on; every one if left out.
        #[serde(default = "each")]
        every: NonZeroU64,
        /// The error code.
        code: String,
        /// The words.
        #[serde(default = "refused_by_script")]
        message: String,
        /// The field at fault.
        #[serde(default)]
        field: Option<String>,
    },
    /// The request is handled and applied; its answer is held back.
    Slow {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// The TCP connection is reset before the request is handled.
    Reset,
    /// The request is handled and applied; the connection is closed without an answer.
    AnswerLost,
    /// The request is handled and applied; the connection is closed in the middle of the answer's body. An answer
    /// whose body is too short to be cut is lost.
    Truncated,
    /// The request is handled and applied; a 200 follows whose JSON says nothing about it.
    WrongJson,
    /// A 200 with an HTML page, as a proxy gives it; the request is not handled.
    NotJson,
}

const fn each() -> NonZeroU64 {
    NonZeroU64::MIN
}

fn refused_by_script() -> String {
    "the fault script refuses this row".to_owned()
}

/// The two forms of `Retry-After` (RFC 9110 section 10.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// A number of seconds.
    Seconds(u64),
    /// An HTTP date this many seconds ahead of the twin's wall clock; the answer also has a `Date` header.
    DateInSeconds(u64),
}

/// A script that can't be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScriptError {
    /// A probability outside of 0 to 1.
    #[error("rule {rule} of the fault script: chance is not between 0 and 1")]
    Chance {
        /// Position of the rule, from 1.
        rule: usize,
    },
    /// A status that is no error.
    #[error("rule {rule} of the fault script: {code} is not an error status (400 to 599)")]
    Status {
        /// Position of the rule, from 1.
        rule: usize,
        /// The status given.
        code: u16,
    },
}

impl ScriptError {
    /// What is wrong, as a JSON pointer into the list of rules.
    pub fn pointer(&self) -> String {
        match self {
            Self::Chance { rule } => format!("/{}/when/chance", rule.saturating_sub(1)),
            Self::Status { rule, .. } => format!("/{}/what/status/code", rule.saturating_sub(1)),
        }
    }
}

impl Script {
    /// Takes the rules in order of precedence.
    ///
    /// # Errors
    /// A probability outside of 0 to 1, or a status outside of 400 to 599.
    pub fn new(rules: Vec<Rule>) -> Result<Self, ScriptError> {
        for (rule, Rule { when, what }) in (1..).zip(&rules) {
            if when.chance.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
                return Err(ScriptError::Chance { rule });
            }
            if let Fault::Status { code, .. } = what
                && !(400..=599).contains(code)
            {
                return Err(ScriptError::Status { rule, code: *code });
            }
        }
        Ok(Self(rules))
    }

    /// The rules in order of precedence.
    pub fn rules(&self) -> &[Rule] {
        &self.0
    }
}

impl TryFrom<Vec<Rule>> for Script {
    type Error = ScriptError;

    fn try_from(rules: Vec<Rule>) -> Result<Self, ScriptError> {
        Self::new(rules)
    }
}

impl From<Script> for Vec<Rule> {
    fn from(script: Script) -> Self {
        script.0
    }
}

/// A script being played: remembers what each rule has seen.
#[derive(Default)]
pub(crate) struct Faults(Vec<PlayedRule>);

struct PlayedRule {
    rule: Rule,
    draws: StdRng,
    seen: u64,
    fired: u64,
}

impl Faults {
    pub(crate) fn new(script: Script) -> Self {
        let played =
            |rule: Rule| PlayedRule { draws: StdRng::seed_from_u64(rule.when.seed), rule, seen: 0, fired: 0 };
        Self(script.0.into_iter().map(played).collect())
    }

    /// What befalls the next request, which goes to `path`, so long after the twin's start.
    pub(crate) fn next(&mut self, path: &str, since_start: Duration) -> Option<Fault> {
        let mut fault = None;
        // Every rule counts and draws for each request, so that a rule's course doesn't depend on those before it.
        for played in &mut self.0 {
            if played.holds(path, since_start) && fault.is_none() {
                played.fired += 1;
                fault = Some(played.rule.what.clone());
            }
        }
        fault
    }
}

impl PlayedRule {
    fn holds(&mut self, path: &str, since_start: Duration) -> bool {
        let When { path_contains, nth, every, from, until, chance, seed: _, times, after_s, before_s } =
            &self.rule.when;
        if path_contains.as_ref().is_some_and(|part| !path.contains(part.as_str())) {
            return false;
        }
        self.seen += 1;
        let seen = self.seen;
        let drawn = chance.is_none_or(|chance| self.draws.random_bool(chance));
        drawn
            && nth.is_none_or(|nth| seen == nth.get())
            && every.is_none_or(|every| seen.is_multiple_of(every.get()))
            && from.is_none_or(|from| seen >= from.get())
            && until.is_none_or(|until| seen <= until.get())
            && times.is_none_or(|times| self.fired < times)
            && after_s.is_none_or(|after| since_start >= Duration::from_secs(after))
            && before_s.is_none_or(|before| since_start < Duration::from_secs(before))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The numbers of the requests that a rule with `when` befalls, out of `count` alternating upserts and reads.
    fn befallen(when: &serde_json::Value, count: u64) -> Vec<u64> {
        let script: Script = serde_json::from_value(json!([{"when": when, "what": "reset"}])).unwrap();
        let mut faults = Faults::new(script);
        let path = |number: u64| if number % 2 == 1 { "/contacts/upsert" } else { "/contacts/read" };
        (1..=count)
            .filter(|number| faults.next(path(*number), Duration::from_secs(*number)).is_some())
            .collect()
    }

    #[test]
    fn conditions() {
        let check = |when: serde_json::Value, expected: &[u64]| {
            assert_eq!(befallen(&when, 8), expected, "{when}");
        };
        check(json!({}), &[1, 2, 3, 4, 5, 6, 7, 8]);
        check(json!({"nth": 3}), &[3]);
        check(json!({"every": 3}), &[3, 6]);
        check(json!({"from": 3, "until": 5}), &[3, 4, 5]);
        check(json!({"from": 7}), &[7, 8]);
        check(json!({"times": 2}), &[1, 2]);
        check(json!({"path_contains": "read"}), &[2, 4, 6, 8]);
        check(json!({"path_contains": "read", "nth": 2}), &[4]);
        check(json!({"path_contains": "read", "every": 2, "times": 1}), &[4]);
        // Request n comes n seconds after the start.
        check(json!({"after_s": 6}), &[6, 7, 8]);
        check(json!({"after_s": 3, "before_s": 5}), &[3, 4]);
        check(json!({"chance": 0.0}), &[]);
        check(json!({"chance": 1.0, "until": 2}), &[1, 2]);
    }

    #[test]
    fn chance_follows_from_its_seed() {
        let once = befallen(&json!({"chance": 0.3, "seed": 7}), 1_000);
        assert!((200..400).contains(&once.len()), "{}", once.len());
        assert_eq!(once, befallen(&json!({"chance": 0.3, "seed": 7}), 1_000));
        assert_ne!(once, befallen(&json!({"chance": 0.3, "seed": 8}), 1_000));
    }

    #[test]
    fn the_first_rule_that_holds_decides_and_all_count() {
        let script: Script = serde_json::from_value(json!([
            {"when": {"nth": 1}, "what": "reset"},
            {"when": {"until": 2}, "what": "answer_lost"},
        ]))
        .unwrap();
        let mut faults = Faults::new(script);
        assert_eq!(faults.next("/", Duration::ZERO), Some(Fault::Reset));
        assert_eq!(faults.next("/", Duration::ZERO), Some(Fault::AnswerLost));
        assert_eq!(faults.next("/", Duration::ZERO), None);
    }

    #[test]
    fn every_fault_reads_back_as_written() {
        let rules = json!([
            {"what": {"status": {"code": 429, "retry_after": {"seconds": 2}}}},
            {"what": {"status": {"code": 429, "retry_after": {"date_in_seconds": 2}}}},
            {"what": {"status": {"code": 503}}},
            {"what": {"slow": {"ms": 5}}},
            {"what": "unauthorized"}, {"what": "quota_gone"}, {"what": "reset"}, {"what": "answer_lost"},
            {"what": "truncated"}, {"what": "wrong_json"}, {"what": "not_json"},
            {"what": {"day_used_up": {"retry_after": true}}}, {"what": {"day_used_up": {}}},
            {"what": {"refuse_rows": {"every": 3, "code": "bad", "field": "email"}}},
        ]);
        let script: Script = serde_json::from_value(rules).unwrap();
        assert_eq!(script.rules().len(), 14);
        let again: Script = serde_json::from_str(&serde_json::to_string(&script).unwrap()).unwrap();
        assert_eq!(again, script);
    }

    #[test]
    fn what_can_not_be_played_is_refused() {
        for (rules, reason) in [
            (json!([{"what": "reset"}, {"when": {"chance": 1.5}, "what": "reset"}]), "rule 2"),
            (json!([{"what": {"status": {"code": 200}}}]), "200 is not an error status"),
            (json!([{"when": {"every": 0}, "what": "reset"}]), "nonzero"),
            (json!([{"when": {"evry": 2}, "what": "reset"}]), "unknown field"),
            (json!([{"what": "explode"}]), "unknown variant"),
        ] {
            let error = serde_json::from_value::<Script>(rules).unwrap_err().to_string();
            assert!(error.contains(reason), "{error} should contain {reason}");
        }
    }
}
