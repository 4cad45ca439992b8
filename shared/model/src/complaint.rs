//! What a rejection complains of, without the values it complains about: its error fingerprint.
//!
//! A thousand rows that are refused with the same sentence about different values have one fingerprint; two
//! different sentences under one code have two.

use xxhash_rust::xxh3::xxh3_64;

use crate::dead_letter::Stage;

/// Stands for one value or several in a row.
const VALUE: &str = "?";
/// A word of so many characters or more is an identifier and not a word of any language.
const LONGEST_WORD: usize = 32;
/// Opening and closing quotes.
const QUOTES: &[(char, char)] =
    &[('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’'), ('«', '»'), ('„', '“')];

/// The error fingerprint of a rejection: 16 hex digits that follow from stage, code, field and the words of the
/// message. Stable across builds: it stands in dead letters, overlays and reports.
#[must_use]
pub fn fingerprint(stage: Stage, code: &str, field: Option<&str>, message: &str) -> String {
    let stage = match stage {
        Stage::Diff => "diff",
        Stage::Transform => "transform",
        Stage::Push => "push",
    };
    let mut text = String::new();
    for part in [stage, code, field.unwrap_or("\u{1}"), &words(message)] {
        text.push_str(part);
        text.push('\0');
    }
    format!("{:016x}", xxh3_64(text.as_bytes()))
}

/// The words of a message with a `?` for each value: what stands in quotes (but for constants), holds a digit or an `@`, or is longer
/// than any word. Punctuation is left out, and several values in a row count as one, so that lists of different
/// lengths are the same.
fn words(message: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        let before = message.get(..message.len() - rest.len()).and_then(|before| before.chars().next_back());
        let length = quoted(rest, before);
        let (word, length) = match length {
            Some(length) => (rest.get(..length).and_then(constant).or(Some(VALUE)), length),
            None if is_of_word(first) => {
                let length = run(rest);
                (rest.get(..length).and_then(word), length)
            }
            None => (None, first.len_utf8()),
        };
        if let Some(word) = word
            && (word != VALUE || words.last() != Some(&VALUE))
        {
            words.push(word);
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    words.join(" ")
}

/// The length of the quotation that a text begins with, quotes included. An apostrophe within a word is no quote, and
/// a quote that is never closed is punctuation.
fn quoted(text: &str, before: Option<char>) -> Option<usize> {
    let mut chars = text.char_indices();
    let (_, first) = chars.next()?;
    let (_, close) = QUOTES.iter().find(|(open, _)| *open == first)?;
    if before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    let mut escaped = false;
    while let Some((at, c)) = chars.next() {
        let ends = c == *close && !escaped && !chars.clone().next().is_some_and(|(_, c)| c.is_alphanumeric());
        if ends {
            return Some(at + c.len_utf8());
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// What stands in the quotes, if it is a name of the kind that APIs put into their messages: `INVALID_EMAIL`.
fn constant(quoted: &str) -> Option<&str> {
    let name = quoted.trim_matches(|c| QUOTES.iter().any(|(open, close)| c == *open || c == *close));
    let is_name = name.contains('_')
        && name.contains(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    (is_name && name.len() < LONGEST_WORD).then_some(name)
}

/// Whether a character belongs to a word, a number, an address, a date or an identifier.
fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || "_-+.@:/%#$€£".contains(c)
}

/// The length of the word, number, … that a text begins with. An apostrophe belongs to it between letters.
fn run(text: &str) -> usize {
    let mut before = ' ';
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map_or(' ', |(_, after)| *after);
        let is_apostrophe = matches!(c, '\'' | '’') && before.is_alphanumeric() && after.is_alphanumeric();
        if !is_of_word(c) && !is_apostrophe {
            return at;
        }
        before = c;
    }
    text.len()
}

/// A word without the punctuation at its ends, or [`VALUE`]; nothing if it is punctuation only.
fn word(run: &str) -> Option<&str> {
    let is_value = run.contains('@') || run.chars().any(char::is_numeric);
    let word = run.trim_matches(|c: char| !c.is_alphanumeric());
    if word.is_empty() {
        None
    } else if is_value || word.chars().count() >= LONGEST_WORD {
        Some(VALUE)
    } else {
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_taken_out_of_messages() {
        let cases = [
            ("", ""),
            ("no such record", "no such record"),
            ("Property \"email\" is not valid: 'ann@x.com'", "Property ? is not valid ?"),
            ("ann.o'neill+x@mail.example.com can't be reached.", "? can't be reached"),
            ("value too long for type character varying(20)", "value too long for type character varying ?"),
            ("-12.50 € is below 0", "? is below ?"),
            ("must be one of [1, 2, 3]", "must be one of ?"),
            ("must be one of 'a', 'b'", "must be one of ?"),
            ("'O'Brien' and “Ann” and «Bo»", "? and ? and ?"),
            (r#"said "a \"b\" c" twice"#, "said ? twice"),
            ("an \"unclosed quote", "an unclosed quote"),
            ("6f1c2b1e-9d5a-4c1b-8f43-0a1b2c3d4e5f exists", "? exists"),
            ("id abcdefghijklmnopqrstuvwxyzabcdefgh is taken", "id ? is taken"),
            ("due 2026-11-22T03:00:00Z; late", "due ? late"),
            ("straße und größe", "straße und größe"),
            (
                r#"not valid: [{"isValid":false,"message":"ann@x is not","error":"INVALID_EMAIL"}]"#,
                "not valid ? false ? INVALID_EMAIL",
            ),
            ("status:'on hold', name='Ann B'", "status ? name ?"),
            (r#"not "_" but "A_B""#, "not ? but A_B"),
        ];
        for (message, expected) in cases {
            assert_eq!(words(message), expected, "{message}");
        }
    }

    /// These stand in state that outlives a build: a change here is a change of format.
    #[test]
    fn fingerprints_are_the_same_in_every_build() {
        let cases = [
            (Stage::Push, "INVALID_EMAIL", Some("email"), "ann@x is not valid", "b6e065c8dec9095a"),
            (Stage::Transform, "null_match", None, "match field id is null", "269b345ab778f8ca"),
            (Stage::Diff, "duplicate_key", None, "2 rows have this key", "a1832293ff20da98"),
        ];
        let found = cases.map(|(stage, code, field, message, _)| fingerprint(stage, code, field, message));
        assert_eq!(found, cases.map(|(.., expected)| expected));
    }

    #[test]
    fn stage_code_and_field_tell_complaints_apart() {
        let mut all: Vec<String> = Vec::new();
        for stage in [Stage::Diff, Stage::Transform, Stage::Push] {
            for code in ["a", "b", "a\0"] {
                for field in [None, Some("a"), Some("b"), Some("")] {
                    all.push(fingerprint(stage, code, field, "is wrong"));
                }
            }
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    fn a_word() -> impl Strategy<Value = String> {
        "[a-zäß]{1,12}"
    }

    fn a_value() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<f32>()
                .prop_filter("NaN and infinity are words", |n| n.is_finite())
                .prop_map(|n| format!("{n}")),
            "[a-z.+]{1,8}@[a-z]{1,8}\\.(com|org)",
            "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9]{12}",
            "[A-Za-z0-9]{3}[0-9]{3}[A-Za-z0-9]{9}",
            "[A-Za-z]{32,60}",
            "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:00Z",
            "\"[^\"\\\\]{0,20}\"",
            "'[^'\\\\]{0,20}'",
            "“[^”\\\\]{0,20}”",
        ]
        .prop_filter("a constant is a word", |value| constant(value).is_none())
    }

    /// A sentence: words, with values between some of them.
    fn sentence(words: &[String], values: &[Option<String>]) -> String {
        let mut parts = Vec::new();
        for (word, value) in words.iter().zip(values) {
            parts.push(word.clone());
            parts.extend(value.clone());
        }
        parts.join(" ")
    }

    proptest! {
        #[test]
        fn other_values_do_not_change_it_and_other_words_do(
            parts in prop::collection::vec((a_word(), prop::option::of((a_value(), a_value()))), 1..8),
            at in any::<prop::sample::Index>(),
            other in a_word(),
        ) {
            let said: Vec<String> = parts.iter().map(|(word, _)| word.clone()).collect();
            let first: Vec<_> = parts.iter().map(|(_, values)| values.as_ref().map(|(a, _)| a.clone())).collect();
            let second: Vec<_> = parts.iter().map(|(_, values)| values.as_ref().map(|(_, b)| b.clone())).collect();
            let of = |message: &str| fingerprint(Stage::Push, "BAD", None, message);
            prop_assert_eq!(of(&sentence(&said, &first)), of(&sentence(&said, &second)));

            let mut changed = said.clone();
            let at = at.index(changed.len());
            prop_assume!(changed[at] != other);
            changed[at] = other;
            prop_assert_ne!(of(&sentence(&said, &first)), of(&sentence(&changed, &first)));
        }

        #[test]
        fn any_text_has_one(message in any::<String>()) {
            prop_assert_eq!(fingerprint(Stage::Push, "BAD", None, &message).len(), 16);
        }
    }
}
