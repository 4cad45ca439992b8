//! An HTTP server for benchmarks: reads every body whole, counts rows, and knows for each key how often it came.
//!
//! Prints its address, and ends when its input ends. A thread per connection and nothing but the standard library: it must
//! cost less than what is measured.
//!
//! | request | answer |
//! |---|---|
//! | `POST /{ms}/batch` with `{"records": [{"order_id": 1, …}, …]}` | after so many ms, `{"results": [{"id": "1", "new": true}, …]}` |
//! | `POST /{ms}/row` with `{"order_id": 1, …}` | after so many ms, `{"id": "1", "new": true}` |
//! | `POST /{ms}/delete` with `{"records": [{"order_id": 1}, …]}` | as for a batch |
//! | `POST /reset` | forgets everything |
//! | `POST /count` | forgets the counts, keeps the records |
//! | `GET /report` | what came since |

mod http;
mod json;
mod tally;

use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use http::{Connection, Request};
use tally::Tally;

/// The field that tells rows apart.
const KEY: &str = "order_id";

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("http://{}", listener.local_addr()?);
    let tally = Arc::new(Mutex::new(Tally::default()));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tally = Arc::clone(&tally);
            // A connection that breaks is its client's to complain of.
            thread::spawn(move || drop(serve(stream, &tally)));
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn serve(stream: TcpStream, tally: &Mutex<Tally>) -> io::Result<()> {
    let mut connection = Connection::new(stream)?;
    while let Some(request) = connection.next_request()? {
        let (status, body) = respond(&request, tally);
        connection.answer(status, &body)?;
    }
    Ok(())
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn respond(request: &Request<'_>, tally: &Mutex<Tally>) -> (u16, String) {
    let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    match (request.method, path.as_slice()) {
        ("POST", ["reset"]) => {
            *lock(tally) = Tally::default();
            (200, "{}".to_owned())
        }
        ("POST", ["count"]) => {
            lock(tally).count_anew();
            (200, "{}".to_owned())
        }
        ("GET", ["report"]) => (200, lock(tally).report()),
        ("POST", [delay, what @ ("batch" | "row" | "delete")]) => {
            let Ok(delay) = delay.parse() else { return (404, "{}".to_owned()) };
            let rows = if *what == "row" {
                json::row(request.body, KEY).map(|row| vec![row])
            } else {
                json::records(request.body, KEY)
            };
            let Some(rows) = rows else {
                lock(tally).unreadable += 1;
                return (400, r#"{"error":{"code":"unreadable"}}"#.to_owned());
            };
            let new = {
                let mut tally = lock(tally);
                tally.begin();
                if *what == "delete" {
                    tally.delete(&rows);
                    vec![false; rows.len()]
                } else {
                    tally.take(&rows)
                }
            };
            if delay > 0 {
                thread::sleep(Duration::from_millis(delay));
            }
            lock(tally).end();
            (200, answer(*what == "row", &rows, &new))
        }
        _ => (404, "{}".to_owned()),
    }
}

fn answer(alone: bool, rows: &[json::Row], new: &[bool]) -> String {
    let one = |(row, new): (&json::Row, &bool)| format!(r#"{{"id":"{}","new":{new}}}"#, row.key);
    let all: Vec<String> = rows.iter().zip(new).map(one).collect();
    let all = all.join(",");
    if alone { all } else { format!(r#"{{"results":[{all}]}}"#) }
}
