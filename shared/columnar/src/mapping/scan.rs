//! What can be seen of a template without running it: Jinja looks filters and tests up only when a row gets there.

/// What a template consists of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// The expression, if the template is nothing but `{{ expression }}`.
    pub(super) lone: Option<String>,
    /// Names of filters.
    pub(super) filters: Vec<String>,
    /// Names of tests.
    pub(super) tests: Vec<String>,
    /// Whether anything is sliced.
    pub(super) sliced: bool,
    /// The expression or template with its slices spelt otherwise, for finding the names it uses: Jinja's own search
    /// passes over what is sliced (minijinja 3.1, `find_undeclared`).
    pub(super) for_names: String,
    /// What would do harm unseen.
    pub(super) problems: Vec<String>,
}

/// A part of the code between a template's braces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text,
    Sign(char),
}

/// Looks a template over. One with bad syntax gives whatever could be seen of it.
pub(super) fn scan(template: &str) -> Scan {
    let mut scan = Scan::default();
    let trimmed = template.trim();
    let mut rest = trimmed;
    while let Some(start) = rest.find('{') {
        let (lead, tail) = rest.split_at(start);
        scan.for_names.push_str(lead);
        let Some(kind) = tail.chars().nth(1).filter(|kind| matches!(kind, '{' | '%' | '#')) else {
            scan.for_names.push('{');
            rest = tail.get(1..).unwrap_or_default();
            continue;
        };
        let inside = tail.get(2..).unwrap_or_default();
        if kind == '#' {
            rest = inside.split_once("#}").map_or("", |(_, after)| after);
            continue;
        }
        let (length, tokens) = code(inside, if kind == '{' { "}}" } else { "%}" });
        let after = inside.get(length + 2..).unwrap_or_default();
        let closed = length < inside.len();
        if closed && kind == '{' && lead.is_empty() && after.is_empty() && rest.len() == trimmed.len() {
            let expression = inside.get(..length).unwrap_or_default();
            let expression = expression.strip_prefix(['-', '+']).unwrap_or(expression);
            let expression = expression.strip_suffix(['-', '+']).unwrap_or(expression).trim().to_owned();
            scan.for_names = without_slices(&expression);
            scan.sliced = scan.for_names != expression;
            scan.lone = Some(expression);
        } else {
            scan.for_names.push_str(tail.get(..2).unwrap_or_default());
            let code = inside.get(..length).unwrap_or_default();
            let unsliced = without_slices(code);
            scan.sliced |= unsliced != code;
            scan.for_names.push_str(&unsliced);
            scan.for_names.push_str(inside.get(length..inside.len() - after.len()).unwrap_or_default());
        }
        scan.look(&tokens);
        rest = after;
    }
    scan.for_names.push_str(rest);
    scan
}

/// Code whose slices (`a[b:c]`) have become subscripts that name the same things (`a[b~0~c]`).
fn without_slices(code: &str) -> String {
    let mut out = String::with_capacity(code.len() + 8);
    let mut open = Vec::new();
    let mut characters = code.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' | '\'' => {
                out.push(character);
                out.push_str(&string_rest(&mut characters, character));
                continue;
            }
            '[' | '{' | '(' => open.push(character),
            ']' | '}' | ')' => {
                open.pop();
            }
            ':' if open.last() == Some(&'[') => {
                out.push_str(if out.trim_end().ends_with('[') { "0~0" } else { "~0" });
                let next = characters.as_str().trim_start().chars().next();
                if !matches!(next, Some(']' | ':')) {
                    out.push('~');
                }
                continue;
            }
            _ => {}
        }
        out.push(character);
    }
    out
}

/// The rest of a quoted text with its closing quote.
fn string_rest(characters: &mut std::str::Chars<'_>, quote: char) -> String {
    let mut rest = String::new();
    while let Some(next) = characters.next() {
        rest.push(next);
        if next == '\\' {
            rest.extend(characters.next());
        } else if next == quote {
            break;
        }
    }
    rest
}

impl Scan {
    fn look(&mut self, tokens: &[Token]) {
        if let [Token::Word(set), Token::Word(name), value @ ..] =
            tokens.strip_prefix(&[Token::Sign('-')]).unwrap_or(tokens)
            && set == "set"
            && value.contains(&Token::Word(name.clone()))
        {
            self.problems.push(format!("`set {name}` uses its own name: give the result another one"));
        }
        let mut before: Option<&Token> = None;
        for (index, token) in tokens.iter().enumerate() {
            let following = |ahead: usize| tokens.get(index + ahead);
            let object = index.checked_sub(2).and_then(|index| tokens.get(index));
            match (before, token) {
                (Some(Token::Sign('|')), Token::Word(name)) => self.filters.push(name.clone()),
                (_, Token::Word(word)) if word == "is" => {
                    let negated = matches!(following(1), Some(Token::Word(not)) if not == "not");
                    if let Some(Token::Word(name)) = following(if negated { 2 } else { 1 }) {
                        self.tests.push(name.clone());
                    }
                }
                (Some(Token::Sign('.')), Token::Word(name))
                    if following(1) == Some(&Token::Sign('('))
                        && object != Some(&Token::Word("loop".to_owned())) =>
                {
                    self.problems
                        .push(format!("values have no method `{name}()`: use a filter, such as `| {name}`"));
                }
                (Some(Token::Sign('=')), Token::Word(none))
                    if matches!(none.as_str(), "none" | "None")
                        && matches!(object, Some(Token::Sign('=' | '!'))) =>
                {
                    self.problems
                        .push("nothing compares with none: write `is none` or `is not none`".to_owned());
                }
                (_, Token::Word(_) | Token::Text | Token::Sign(_)) => {}
            }
            before = Some(token);
        }
    }
}

/// The tokens up to `end`, and how many bytes they take.
fn code(text: &str, end: &str) -> (usize, Vec<Token>) {
    let mut tokens = Vec::new();
    let mut characters = text.char_indices().peekable();
    let mut depth = 0_usize;
    while let Some((index, character)) = characters.next() {
        if depth == 0 && text.get(index..).is_some_and(|rest| rest.starts_with(end)) {
            return (index, tokens);
        }
        match character {
            '"' | '\'' => {
                while let Some((_, next)) = characters.next() {
                    if next == '\\' {
                        characters.next();
                    } else if next == character {
                        break;
                    }
                }
                tokens.push(Token::Text);
            }
            letter if letter == '_' || letter.is_alphanumeric() => {
                let mut word = String::from(letter);
                while let Some((_, next)) =
                    characters.next_if(|(_, next)| *next == '_' || next.is_alphanumeric())
                {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            sign => {
                match sign {
                    '{' => depth += 1,
                    '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if !sign.is_whitespace() {
                    tokens.push(Token::Sign(sign));
                }
            }
        }
    }
    (text.len(), tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_expression_is_told_from_text() {
        let cases = [
            ("{{ email | trim }}", Some("email | trim")),
            (" {{- a -}} ", Some("a")),
            ("{{ -a }}", Some("-a")),
            ("{{ {'a': {'b': 1}} }}", Some("{'a': {'b': 1}}")),
            ("{{ '}}' }}", Some("'}}'")),
            ("{{ a }}{{ b }}", None),
            ("{{ a }} x", None),
            ("x", None),
            ("{% if a %}b{% endif %}", None),
            ("{# note #}{{ a }}", None),
            ("{{ a", None),
        ];
        for (template, lone) in cases {
            assert_eq!(scan(template).lone.as_deref(), lone, "{template}");
        }
    }

    #[test]
    fn slices_are_spelt_otherwise() {
        let cases = [
            ("{{ a[:4] }}", "a[0~0~4]"),
            ("{{ a[b:] }}", "a[b~0]"),
            ("{{ a[b:c:d] }}", "a[b~0~c~0~d]"),
            ("{{ a[::-1] }}", "a[0~0~0~-1]"),
            ("{{ a[ : ] }}", "a[ 0~0 ]"),
            ("{{ {'x:': a[':'], 'y': b[{'k': 1}['k']:]} }}", "{'x:': a[':'], 'y': b[{'k': 1}['k']~0]}"),
            (
                "it's {{ a[:2] }} {x: [1:2]} {# it's #}{% if b[1:] %}",
                "it's {{ a[0~0~2] }} {x: [1:2]} {% if b[1~0] %}",
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(scan(template).for_names, expected, "{template}");
            assert!(scan(template).sliced, "{template}");
        }
        assert!(!scan("{{ {'a': [1]} }} [1:2] {# [1:2] #}").sliced);
    }

    #[test]
    fn filters_tests_and_traps_are_seen() {
        let seen = scan(
            "{{ a | trim|lower }} | x == none {% if b is not none and c is defined %}{{ 'a | b == none' }}{% endif %}",
        );
        assert_eq!(seen.filters, ["trim", "lower"]);
        assert_eq!(seen.tests, ["none", "defined"]);
        assert!(seen.problems.is_empty());
        assert_eq!(scan("{{ 1 if a == none else 2 if b != None else 3 }}").problems.len(), 2);
        assert_eq!(scan("{{ a | int(default=none) }}").problems.len(), 0);
        assert_eq!(scan("{{ a.strip() }}").problems.len(), 1);
        assert_eq!(scan("{{ a.b }}{{ (a.b) }}").problems.len(), 0);
        assert_eq!(scan("{% for x in a %}{{ loop.cycle('a') }}{% endfor %}").problems.len(), 0);
        assert_eq!(scan("{% set a = b | trim %}{{ a }}").problems.len(), 0);
        assert_eq!(scan("{%- set a = a | trim %}{{ a }}").problems.len(), 1);
        for broken in ["{{ a", "{%", "{{", "{# ", "{{ 'x", "}}", "{{ 'x\\"] {
            scan(broken);
        }
    }
}
