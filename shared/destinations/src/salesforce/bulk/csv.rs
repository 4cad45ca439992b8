//! Rows as the CSV that a job takes, and the CSV in which it says what became of them.

use std::collections::HashMap;

use penstock_model::{Failure, FailureName};

use super::super::ID;
use super::super::table::Table;
use super::super::values::{Cell, Row};
use super::Verb;

/// What empties a field; an empty cell leaves it alone.
const CLEARS: &str = "#N/A";

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
fn cells(row: &Row, verb: Verb) -> Vec<(String, String)> {
    let mut cells = Vec::with_capacity(row.fields.len() + 2);
    if verb != Verb::Upsert {
        cells.push((ID.to_owned(), row.id.clone().unwrap_or_default()));
    }
    if verb == Verb::Delete {
        return cells;
    }
    let all = row.matched.iter().chain(&row.fields);
    for (name, cell) in all {
        match cell {
            Cell::Record(members) => {
                cells.extend(members.iter().map(|(field, cell)| (format!("{name}.{field}"), text(cell))));
            }
            Cell::Null | Cell::Text(_) | Cell::Literal(_) | Cell::Nested(_) => {
                cells.push((name.clone(), text(cell)));
            }
        }
    }
    cells
}

fn text(cell: &Cell) -> String {
    match cell.plain() {
        text if text.is_empty() => CLEARS.to_owned(),
        text => text,
    }
}

/// About how many bytes a row takes, more rather than less.
pub(super) fn size(row: &Row) -> usize {
    row.matched.iter().chain(&row.fields).map(|(_, cell)| cell.plain().len() + 8).sum::<usize>() + 24
}

/// The CSV of rows, with a line of columns first.
///
/// # Errors
/// `InvariantBroken`, which it can't.
pub(super) fn write(rows: &[Row], verb: Verb) -> Result<Vec<u8>, Failure> {
    let broken = || Failure::new(FailureName::InvariantBroken, "a row can't be written as CSV");
    let mut columns: Vec<String> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    let rows: Vec<Vec<(String, String)>> = rows.iter().map(|row| cells(row, verb)).collect();
    for (name, _) in rows.iter().flatten() {
        if !index.contains_key(name) {
            index.insert(name.clone(), columns.len());
            columns.push(name.clone());
        }
    }
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
    writer.write_record(&columns).map_err(|_| broken())?;
    for row in rows {
        let mut line = vec![String::new(); columns.len()];
        for (name, text) in row {
            if let Some(cell) = index.get(&name).and_then(|at| line.get_mut(*at)) {
                *cell = text;
            }
        }
        writer.write_record(&line).map_err(|_| broken())?;
    }
    writer.into_inner().map_err(|_| broken())
}

/// Reads a list of results: gives each row's value of the wanted columns, in their order, to `take`. A column that is not there is empty.
///
/// # Errors
/// `DestinationUnavailable` if it is no CSV to its end.
pub(super) fn read(body: &[u8], wanted: &[&str], mut take: impl FnMut(&[&str])) -> Result<(), Failure> {
    let broken = |_| Failure::new(FailureName::DestinationUnavailable, "a job's results can't be read");
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(body);
    let at: Vec<Option<usize>> = {
        let header = reader.headers().map_err(broken)?;
        wanted.iter().map(|name| header.iter().position(|column| column.eq_ignore_ascii_case(name))).collect()
    };
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(broken)? {
        let cells: Vec<&str> =
            at.iter().map(|at| at.and_then(|at| record.get(at)).unwrap_or_default()).collect();
        take(&cells);
    }
    Ok(())
}
