//! CSV (RFC 4180) with a chosen delimiter and line end.

/// How a job's CSV is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) delimiter: char,
    pub(super) line_end: &'static str,
}

/// Reads every line, the first with the columns among them.
///
/// # Errors
/// What is wrong, in words that hold no value.
pub(super) fn read(text: &str, style: Style) -> Result<Vec<Vec<String>>, String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut cells = Vec::new();
        loop {
            let (cell, after) =
                cell(rest, style).map_err(|what| format!("line {}: {what}", lines.len() + 1))?;
            cells.push(cell);
            rest = after;
            if let Some(next) = rest.strip_prefix(style.delimiter) {
                rest = next;
            } else if let Some(next) = rest.strip_prefix(style.line_end) {
                rest = next;
                break;
            } else if rest.is_empty() {
                break;
            } else {
                return Err(format!("line {}: the line end is not the one of the job", lines.len() + 1));
            }
        }
        lines.push(cells);
    }
    Ok(lines)
}

/// The first cell and what comes after it.
fn cell(text: &str, style: Style) -> Result<(String, &str), &'static str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let ends = |c: char| c == style.delimiter || matches!(c, '\r' | '\n');
        let end = text.find(ends).unwrap_or(text.len());
        let (cell, rest) = text.split_at(end);
        if cell.contains('"') {
            return Err("a quote stands within a cell that is not quoted");
        }
        return Ok((cell.to_owned(), rest));
    };
    let mut cell = String::new();
    let mut rest = quoted;
    loop {
        let Some((before, after)) = rest.split_once('"') else { return Err("a quote is not closed") };
        cell.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                cell.push('"');
                rest = after;
            }
            None => return Ok((cell, after)),
        }
    }
}

/// Writes lines, every cell in quotes.
pub(super) fn write<'a>(lines: impl Iterator<Item = Vec<&'a str>>, style: Style) -> String {
    let mut text = String::new();
    for line in lines {
        for (n, cell) in line.iter().enumerate() {
            if n > 0 {
                text.push(style.delimiter);
            }
            text.push('"');
            text.push_str(&cell.replace('"', "\"\""));
            text.push('"');
        }
        text.push_str(style.line_end);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LF: Style = Style { delimiter: ',', line_end: "\n" };

    #[test]
    fn lines_are_read_as_they_are_meant() {
        let check =
            |text: &str, expected: &[&[&str]]| assert_eq!(read(text, LF).unwrap(), expected, "{text:?}");
        check("", &[]);
        check("a,b\n1,\n", &[&["a", "b"], &["1", ""]]);
        check("a\n\"x,\"\"y\"\"\nz\"", &[&["a"], &["x,\"y\"\nz"]]);
        let tabs = Style { delimiter: '\t', line_end: "\r\n" };
        assert_eq!(read("a\tb\r\n1,\t2\r\n", tabs).unwrap(), [["a", "b"], ["1,", "2"]]);
        for (text, what) in [
            ("a\r\nb\r\n", "line 1: the line end"),
            ("a\n\"b", "not closed"),
            ("a\nb\"c\n", "not quoted"),
            ("\"a\"b\n", "line end"),
        ] {
            assert!(read(text, LF).unwrap_err().contains(what), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(lines in prop::collection::vec(prop::collection::vec("[a\",\r\n;é]{0,6}", 1..4), 0..5)) {
            for style in [LF, Style { delimiter: ';', line_end: "\r\n" }] {
                let text = write(lines.iter().map(|line| line.iter().map(String::as_str).collect()), style);
                prop_assert_eq!(read(&text, style).unwrap(), lines.clone());
            }
        }
    }
}
