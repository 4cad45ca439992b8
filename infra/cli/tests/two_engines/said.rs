//! What a scenario uses, and that neither a log nor a payload says any of it: "no row value, credential or response body in a
//! log, an error, a metric or a state-machine payload".

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use crate::engine::Engine;
use crate::harness::Customer;

/// The shortest text that is looked for: a shorter one stands in a log by chance.
const SHORTEST: usize = 12;

/// Every cell and every secret of a scenario, by length.
#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<BTreeMap<usize, HashSet<Vec<u8>>>>);

impl Used {
    /// A row that some unload holds.
    pub(crate) fn row(&self, row: &Customer) {
        let Customer { id, email, name, balance } = row;
        for cell in [id.map(|id| id.to_string()), email.clone(), name.clone()].into_iter().flatten() {
            self.text(&cell);
        }
        if let Some(cents) = balance {
            self.text(&cents.to_string());
            self.text(&format!("{}.{:02}", cents / 100, cents % 100));
        }
    }

    /// A secret, or another text that nobody else writes.
    pub(crate) fn text(&self, text: &str) {
        assert!(text.len() >= SHORTEST, "{text} may stand in a log by chance; use something longer");
        self.0.lock().unwrap().entry(text.len()).or_default().insert(text.as_bytes().to_vec());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().values().map(HashSet::len).sum()
    }

    /// The first of them that stands in this text, with what stands around it.
    fn found_in(&self, text: &str) -> Option<String> {
        self.0.lock().unwrap().iter().find_map(|(length, used)| {
            let at = text.as_bytes().windows(*length).position(|window| used.contains(window))?;
            let around = &text.as_bytes()[at.saturating_sub(400)..text.len().min(at + length + 100)];
            Some(String::from_utf8_lossy(around).into_owned())
        })
    }
}

/// Looks for everything that the scenario has used in everything that its engine has said.
pub(crate) async fn says_no_value_and_no_secret(engine: &dyn Engine) {
    let said = engine.said().await;
    assert!(!said.logs.is_empty() && !said.payloads.is_empty(), "the engine has said nothing");
    for (what, text) in [("log", &said.logs), ("state machine", &said.payloads)] {
        if let Some(found) = engine.used().found_in(text) {
            panic!("the {what} holds what only rows and secrets hold: … {found} …");
        }
    }
}

#[test]
fn a_cell_or_a_secret_is_found_wherever_it_stands() {
    let used = Used::default();
    used.row(&Customer::new(crate::scenarios::FIRST_ID));
    used.text("a secret of ours");
    assert_eq!(used.len(), 6);
    for said in [
        "{\"id\":4815162300000000}",
        "c4815162300000000@example.com",
        "key (name)=(Customer 4815162300000000) exists",
        "balance 4863313923000000.00 is too high",
        "486331392300000000",
        "Bearer a secret of ours",
    ] {
        assert!(used.found_in(said).is_some(), "{said}");
    }
    assert_eq!(used.found_in("c4815162300000001@example.com: a secret of yours"), None);
}
