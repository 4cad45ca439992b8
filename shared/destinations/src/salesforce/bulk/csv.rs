//! Rows as the CSV that a job takes, and the CSV in which it says what became of them. Neither is held as a whole.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use penstock_model::{Failure, FailureName};

use super::super::ID;
use super::super::table::Table;
use super::super::values::{Cell, Row};
use super::Verb;
use crate::http::transport::{Pieces, Taker};

/// What empties a field; an empty cell leaves it alone.
const CLEARS: &str = "#N/A";
/// Rows that are written as one piece of a body.
const ROWS_OF_A_PIECE: usize = 500;
/// What columns are called that Salesforce adds to those that were sent.
const ADDED: &str = "sf__";

/// Whether all that a row says can be said in CSV: there is no way to write the text `#N/A`, and none for a list. A reference is emptied by its
/// own field, which can't be a column beside one of the record that other rows refer to.
pub(super) fn fits(row: &Row, table: &Table) -> bool {
    fn cell_fits(cell: &Cell) -> bool {
        match cell {
            Cell::Null | Cell::Literal(_) => true,
            Cell::Text(text) => text != CLEARS,
            Cell::Record(members) => members.iter().all(|(_, cell)| cell_fits(cell)),
            Cell::Nested(_) => false,
        }
    }
    row.matched.iter().chain(&row.fields).all(|(name, cell)| {
        let empties_reference =
            *cell == Cell::Null && table.column(name).is_some_and(|column| !column.refers_to.is_empty());
        cell_fits(cell) && !empties_reference
    })
}

/// The cells of a row by column, in the row's order.
fn cells(row: &Row, verb: Verb) -> Vec<(Cow<'_, str>, &str)> {
    let mut cells = Vec::with_capacity(row.fields.len() + 2);
    if verb.is_by_id() {
        cells.push((Cow::Borrowed(ID), row.id.as_deref().unwrap_or_default()));
    }
    if verb == Verb::Delete {
        return cells;
    }
    for (name, cell) in row.matched.iter().chain(&row.fields) {
        match cell {
            Cell::Record(members) => {
                let member = |(field, cell)| (Cow::Owned(format!("{name}.{field}")), text(cell));
                cells.extend(members.iter().map(|(field, cell)| member((field, cell))));
            }
            Cell::Null | Cell::Text(_) | Cell::Literal(_) | Cell::Nested(_) => {
                cells.push((Cow::Borrowed(name.as_str()), text(cell)));
            }
        }
    }
    cells
}

fn text(cell: &Cell) -> &str {
    match cell.as_text() {
        "" => CLEARS,
        text => text,
    }
}

/// The columns of rows, each once, in the order in which they come.
pub(super) fn columns<'r>(rows: impl Iterator<Item = &'r Row>, verb: Verb) -> Vec<String> {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut columns = Vec::new();
    for row in rows {
        for (name, _) in cells(row, verb) {
            if !seen.contains(name.as_ref()) {
                seen.insert(name.clone().into_owned());
                columns.push(name.into_owned());
            }
        }
    }
    columns
}

/// The bytes of a cell at most, with the comma or line end after it: every quote may be doubled.
fn most_of(text: &str) -> usize {
    text.len() + text.bytes().filter(|byte| *byte == b'"').count() + 3
}

/// The bytes of the line of columns at most.
pub(super) fn size_of_head(columns: &[String]) -> usize {
    columns.iter().map(|name| most_of(name)).sum()
}

/// The bytes of a row's line at most, among so many columns.
pub(super) fn size(row: &Row, verb: Verb, columns: usize) -> usize {
    cells(row, verb).iter().map(|(_, text)| most_of(text)).sum::<usize>() + columns + 3
}

/// The CSV of a job's rows, with a line of columns first: made whenever it is sent, piece by piece.
pub(super) struct Sheet {
    rows: Arc<Vec<Row>>,
    verb: Verb,
    columns: Vec<String>,
    /// By column: its place.
    places: HashMap<String, usize>,
    length: u64,
}

impl Sheet {
    pub(super) fn new(rows: Arc<Vec<Row>>, verb: Verb) -> Self {
        let columns = columns(rows.iter(), verb);
        let places = columns.iter().cloned().zip(0..).collect();
        let mut sheet = Self { rows, verb, columns, places, length: 0 };
        let lengths = (0..).map_while(|number| sheet.piece(number)).map(|piece| piece.len());
        sheet.length = lengths.sum::<usize>().try_into().unwrap_or(u64::MAX);
        sheet
    }

    /// Lines of these rows, after the line of columns if `number` says that they are the first.
    fn lines(&self, number: usize, rows: &[Row]) -> Result<Vec<u8>, csv::Error> {
        let mut writer =
            csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
        if number == 0 {
            writer.write_record(&self.columns)?;
        }
        for row in rows {
            let mut line = vec![""; self.columns.len()];
            for (name, text) in cells(row, self.verb) {
                if let Some(cell) = self.places.get(name.as_ref()).and_then(|at| line.get_mut(*at)) {
                    *cell = text;
                }
            }
            writer.write_record(&line)?;
        }
        writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))
    }
}

impl Pieces for Sheet {
    fn length(&self) -> u64 {
        self.length
    }

    fn piece(&self, number: usize) -> Option<Bytes> {
        let from = number.checked_mul(ROWS_OF_A_PIECE).filter(|from| *from < self.rows.len())?;
        let to = from.saturating_add(ROWS_OF_A_PIECE).min(self.rows.len());
        // Memory takes every write: a body that ended here would be one that is cut, which no destination takes.
        self.lines(number, self.rows.get(from..to)?).ok().map(Bytes::from)
    }
}

/// What tells lines of the same content: the same for the same texts in the same columns, in whatever order, empty ones left out.
fn print<'c>(cells: impl Iterator<Item = (&'c str, &'c str)>) -> String {
    let one = |(name, text): (&str, &str)| {
        let mut hasher = DefaultHasher::new();
        (name.to_lowercase(), text).hash(&mut hasher);
        hasher.finish()
    };
    let sum = cells.filter(|(_, text)| !text.is_empty()).map(one).fold(0_u64, u64::wrapping_add);
    format!("{sum:016x}")
}

/// What a list of results tells a row by that has no key: all that was sent of it.
pub(super) fn content(row: &Row, verb: Verb) -> String {
    print(cells(row, verb).iter().map(|(name, text)| (name.as_ref(), *text)))
}

/// How a line of results tells its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToldBy {
    /// By a column that was sent.
    Column(String),
    /// By all of them: see [`content`].
    Content,
}

/// A line of results. What a list does not tell is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) created: String,
    pub(super) error: String,
}

/// A list of results, read as it comes.
#[derive(Debug)]
pub(super) struct Results {
    by: ToldBy,
    /// A column that the list has if it is one.
    needs: String,
    head: Option<Vec<String>>,
    told: Vec<Told>,
    /// What came since the last whole line.
    rest: Vec<u8>,
    /// Whether it ends within quotes.
    quoted: bool,
    broken: bool,
}

impl Results {
    pub(super) fn new(by: ToldBy, needs: &str) -> Self {
        Self {
            by,
            needs: needs.to_owned(),
            head: None,
            told: Vec::new(),
            rest: Vec::new(),
            quoted: false,
            broken: false,
        }
    }

    /// What all lines have told.
    ///
    /// # Errors
    /// `DestinationUnavailable` if it is no such list to its end.
    pub(super) fn finish(mut self) -> Result<Vec<Told>, Failure> {
        let rest = std::mem::take(&mut self.rest);
        self.read(&rest);
        if self.broken || self.quoted {
            return Err(Failure::new(FailureName::DestinationUnavailable, "a job's results can't be read"));
        }
        Ok(self.told)
    }

    /// Reads whole lines.
    fn read(&mut self, lines: &[u8]) {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(lines);
        let mut line = csv::StringRecord::new();
        loop {
            match reader.read_record(&mut line) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
            let Some(head) = &self.head else {
                let head: Vec<String> = line.iter().map(str::to_lowercase).collect();
                self.broken |= !head.contains(&self.needs.to_lowercase());
                self.head = Some(head);
                continue;
            };
            let cell = |column: &str| {
                let at = head.iter().position(|name| name.eq_ignore_ascii_case(column));
                at.and_then(|at| line.get(at)).unwrap_or_default().to_owned()
            };
            let sent =
                head.iter().map(String::as_str).zip(line.iter()).filter(|(name, _)| !name.starts_with(ADDED));
            let key = match &self.by {
                ToldBy::Column(column) => cell(column),
                ToldBy::Content => print(sent),
            };
            let told =
                Told { key, id: cell("sf__Id"), created: cell("sf__Created"), error: cell("sf__Error") };
            self.told.push(told);
        }
    }
}

impl Taker for Results {
    fn begin(&mut self) {
        *self = Self::new(self.by.clone(), &self.needs);
    }

    fn take(&mut self, piece: &[u8]) {
        let mut end = None;
        for (at, byte) in piece.iter().enumerate() {
            match byte {
                // A quote that is doubled opens again what it has closed.
                b'"' => self.quoted = !self.quoted,
                b'\n' if !self.quoted => end = Some(at + 1),
                _ => {}
            }
        }
        let (whole, rest) = piece.split_at(end.unwrap_or_default());
        if !whole.is_empty() {
            let mut lines = std::mem::take(&mut self.rest);
            lines.extend_from_slice(whole);
            self.read(&lines);
        }
        self.rest.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use penstock_model::json::Json;
    use penstock_model::operation::OperationKind;
    use proptest::prelude::*;

    use super::*;

    fn row(n: u32, fields: &[(u8, String)]) -> Row {
        let mut seen = BTreeSet::new();
        let fields = fields.iter().filter(|(column, _)| seen.insert(*column));
        Row {
            n,
            kind: OperationKind::Append,
            key: Json::written("{}".into()),
            id: None,
            matched: None,
            fields: fields.map(|(column, text)| (format!("C{column}"), Cell::Text(text.clone()))).collect(),
            if_empty: Vec::new(),
            lookups: Vec::new(),
            parents: Vec::new(),
            moved: false,
            inserts: false,
        }
    }

    fn sheet_of(given: &[Vec<(u8, String)>]) -> (Sheet, Vec<u8>) {
        let rows: Vec<Row> = given.iter().zip(0..).map(|(fields, n)| row(n, fields)).collect();
        let sheet = Sheet::new(Arc::new(rows), Verb::Insert);
        let whole = (0..).map_while(|number| sheet.piece(number)).flatten().collect();
        (sheet, whole)
    }

    proptest! {
        #[test]
        fn a_sheet_says_how_long_it_is_and_what_it_says_of_rows_is_told_by_their_content(
            given in prop::collection::vec(prop::collection::vec((0_u8..4, "[a\",\r\n;é]{0,6}"), 1..4), 1..1_300),
            cut in 1_usize..400,
        ) {
            let (sheet, whole) = sheet_of(&given);
            prop_assert_eq!(whole.len() as u64, sheet.length());
            let columns = sheet.columns.clone();
            let most: usize = sheet.rows.iter().map(|row| size(row, Verb::Insert, columns.len())).sum();
            prop_assert!(whole.len() <= most + size_of_head(&columns));
            let mut results = Results::new(ToldBy::Content, &columns[0]);
            results.take(b"not this\n");
            results.begin();
            for piece in whole.chunks(cut) {
                results.take(piece);
            }
            let told = results.finish().unwrap();
            let keys: Vec<String> = told.into_iter().map(|told| told.key).collect();
            let expected: Vec<String> = sheet.rows.iter().map(|row| content(row, Verb::Insert)).collect();
            prop_assert_eq!(keys, expected);
        }
    }

    #[test]
    fn a_list_that_is_none_is_not_taken_for_one() {
        for (text, is_list) in [
            ("", true),
            ("\"sf__Id\",\"sf__Created\",\"C1\"\n", true),
            ("\"sf__Id\",\"C1\"\n\"1\",\"a", false),
            ("<html><body>soon</body></html>", false),
            ("{\"message\":\"done\"}", false),
        ] {
            let mut results = Results::new(ToldBy::Content, "sf__Id");
            results.take(text.as_bytes());
            assert_eq!(results.finish().is_ok(), is_list, "{text}");
        }
    }

    #[test]
    fn lines_are_told_by_content_whatever_the_order_of_columns() {
        let mut results = Results::new(ToldBy::Content, "sf__id");
        results.take(b"sf__Id,C2,C1\n0031,b,a\n");
        let told = results.finish().unwrap();
        assert_eq!(told[0].key, content(&row(0, &[(1, "a".into()), (2, "b".into())]), Verb::Insert));
        assert_ne!(told[0].key, content(&row(0, &[(1, "b".into()), (2, "a".into())]), Verb::Insert));
        assert_eq!(told[0].id, "0031");
    }
}
