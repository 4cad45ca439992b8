//! Just enough JSON to count rows: every byte is looked at, nothing is kept but keys.

/// A row of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its key.
    pub(crate) key: u64,
    /// How many members it has.
    pub(crate) members: usize,
}

/// Deeper than any body of a benchmark.
const DEEPEST: usize = 32;

/// The rows of `{"records": [row, …]}`. `None` if the body is not that.
pub(crate) fn records(body: &[u8], key: &str) -> Option<Vec<Row>> {
    let mut text = Text { rest: body };
    let mut rows = None;
    text.members(|text, name| {
        if name != b"records" {
            return text.skip(0);
        }
        let mut found = Vec::new();
        text.elements(|text| {
            found.push(text.row(key)?);
            Some(())
        })?;
        rows = Some(found);
        Some(())
    })?;
    text.end()?;
    rows
}

/// The row of a body that is one. `None` if it is none.
pub(crate) fn row(body: &[u8], key: &str) -> Option<Row> {
    let mut text = Text { rest: body };
    let row = text.row(key)?;
    text.end()?;
    Some(row)
}

struct Text<'a> {
    rest: &'a [u8],
}

impl<'a> Text<'a> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn end(&mut self) -> Option<()> {
        self.blank();
        self.rest.is_empty().then_some(())
    }

    fn peek(&mut self) -> Option<u8> {
        self.blank();
        self.rest.first().copied()
    }

    fn sign(&mut self, sign: u8) -> Option<()> {
        self.blank();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        (*first == sign).then_some(())
    }

    /// A text without its quotes, still escaped.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        self.sign(b'"')?;
        let mut escaped = false;
        let length = self.rest.iter().position(|byte| {
            let ends = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            ends
        })?;
        let text = self.rest.get(..length)?;
        self.rest = self.rest.get(length + 1..)?;
        Some(text)
    }

    /// A number, `true`, `false` or `null`.
    fn word(&mut self) -> Option<&'a [u8]> {
        self.blank();
        let ends = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"+-.".contains(byte);
        let length = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn members(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.sign(b'{')?;
        if self.peek()? == b'}' {
            return self.sign(b'}');
        }
        loop {
            let name = self.quoted()?;
            self.sign(b':')?;
            member(self, name)?;
            if self.peek()? == b'}' {
                return self.sign(b'}');
            }
            self.sign(b',')?;
        }
    }

    fn elements(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.sign(b'[')?;
        if self.peek()? == b']' {
            return self.sign(b']');
        }
        loop {
            element(self)?;
            if self.peek()? == b']' {
                return self.sign(b']');
            }
            self.sign(b',')?;
        }
    }

    fn skip(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match self.peek()? {
            b'"' => self.quoted().map(drop),
            b'{' => self.members(|text, _| text.skip(depth + 1)),
            b'[' => self.elements(|text| text.skip(depth + 1)),
            _ => self.word().map(drop),
        }
    }

    fn row(&mut self, key: &str) -> Option<Row> {
        let (mut found, mut members) = (None, 0);
        self.members(|text, name| {
            members += 1;
            if name != key.as_bytes() {
                return text.skip(0);
            }
            let value = if text.peek()? == b'"' { text.quoted()? } else { text.word()? };
            found = std::str::from_utf8(value).ok()?.parse().ok();
            Some(())
        })?;
        Some(Row { key: found?, members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_by_their_key() {
        let row = |key, members| Row { key, members };
        let cases: [(&str, Option<Vec<Row>>); 9] = [
            (
                r#"{"records":[{"id":1,"a":"x"}, {"b":{"id":9},"id":"2","c":[1,"]"]}]}"#,
                Some(vec![row(1, 2), row(2, 3)]),
            ),
            (
                "{ \"other\" : null, \"records\" : [ { \"id\" : 3, \"a\" : \"\\\"}\\\\\" } ] } \n",
                Some(vec![row(3, 2)]),
            ),
            (r#"{"records":[]}"#, Some(vec![])),
            (r#"{"records":[{"a":1}]}"#, None),
            (r#"{"records":[{"id":-1}]}"#, None),
            (r#"{"records":[{"id":1}]"#, None),
            (r#"{"records":[{"id":1}]}x"#, None),
            (r#"{"rows":[{"id":1}]}"#, None),
            ("", None),
        ];
        for (body, expected) in cases {
            assert_eq!(records(body.as_bytes(), "id"), expected, "{body}");
        }
        assert_eq!(super::row(br#"{"id":7,"a":-1.5e+3}"#, "id"), Some(row(7, 2)));
    }
}
