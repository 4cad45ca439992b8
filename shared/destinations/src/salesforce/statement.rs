//! Questions in SOQL. Pure.

use super::values::Cell;

/// Values of a question at most.
const MOST_VALUES: usize = 200;
/// Bytes of a question at most, percent-encoded: a URL has 16,384 in all.
const MOST_BYTES: usize = 12_000;

/// Cuts values into questions, each with those of `values` that it is about. `head` is what comes before them:
/// `SELECT Id, Ext__c FROM Contact WHERE Ext__c`.
pub(super) fn questions(head: &str, values: &[Cell]) -> Vec<String> {
    let mut questions = Vec::new();
    let mut list = String::new();
    let mut count = 0;
    for value in values {
        let value = literal(value);
        // A quote or a space takes three bytes in a URL: so does everything, to be sure.
        let is_full = count >= MOST_VALUES || (list.len() + value.len()) * 3 > MOST_BYTES;
        if is_full && count > 0 {
            questions.push(format!("{head} IN ({list})"));
            list.clear();
            count = 0;
        }
        if count > 0 {
            list.push(',');
        }
        list.push_str(&value);
        count += 1;
    }
    if count > 0 {
        questions.push(format!("{head} IN ({list})"));
    }
    questions
}

/// A value as SOQL spells it ("Quoted String Escape Sequences", SOQL and SOSL Reference).
fn literal(cell: &Cell) -> String {
    match cell {
        Cell::Literal(json) => json.clone(),
        Cell::Null | Cell::Text(_) | Cell::Record(_) | Cell::Nested(_) => {
            let mut out = String::from("'");
            for c in cell.plain().chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '\'' => out.push_str("\\'"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    c => out.push(c),
                }
            }
            out.push('\'');
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_and_cut() {
        let text = |text: &str| Cell::Text(text.to_owned());
        let asked =
            questions("SELECT Id FROM Contact WHERE Ext__c", &[text("O'Hara\\"), Cell::Literal("7".into())]);
        assert_eq!(asked, [r"SELECT Id FROM Contact WHERE Ext__c IN ('O\'Hara\\',7)"]);
        assert!(questions("x", &[]).is_empty());
        let many: Vec<Cell> = (0..450).map(|n| text(&n.to_string())).collect();
        assert_eq!(questions("x", &many).len(), 3);
        let long: Vec<Cell> = (0..10).map(|_| text(&"y".repeat(2_000))).collect();
        assert_eq!(questions("x", &long).len(), 10);
    }
}
