//! Requests and answers as they go over the wire, for the person who asked to see them. Credentials are left out.

use std::sync::Arc;
use std::time::Duration;

use penstock_destinations::Transport;
use penstock_destinations::http::transport::{HeaderMap, Request, Response, TransportError};
use penstock_model::port::{Boxed, Clock};

/// A body is shown up to so many characters.
const MOST: usize = 20_000;

/// Where exchanges are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sink {
    /// Standard output.
    Output,
    /// Standard error: standard output is a program's.
    Errors,
}

impl Sink {
    fn show(self, text: &str) {
        match self {
            Self::Output => println!("{text}"),
            Self::Errors => eprintln!("{text}"),
        }
    }
}

/// Shows what another transport carries.
#[derive(Debug)]
pub(super) struct ShownTransport {
    inner: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    sink: Sink,
}

impl ShownTransport {
    pub(super) fn new(inner: Arc<dyn Transport>, clock: Arc<dyn Clock>, sink: Sink) -> Self {
        Self { inner, clock, sink }
    }
}

impl Transport for ShownTransport {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, TransportError>> {
        self.sink.show(&request_shown(&request));
        Box::pin(async move {
            let began = self.clock.now();
            let answer = self.inner.send(request).await;
            let shown = match &answer {
                Ok(answer) => answer_shown(answer, began.until(self.clock.now())),
                Err(error) => format!("< {error}"),
            };
            self.sink.show(&shown);
            answer
        })
    }
}

fn request_shown(request: &Request) -> String {
    let mut lines = vec![format!("> {} {}", request.method, request.url)];
    lines.extend(headers_shown(&request.headers, ">"));
    let whole = request.whole_body();
    lines.extend(body_shown(request.shown_body.as_ref().unwrap_or(&whole)));
    lines.join("\n")
}

fn answer_shown(answer: &Response, after: Duration) -> String {
    let mut lines = vec![format!("< {} after {} ms", answer.status, after.as_millis())];
    lines.extend(headers_shown(&answer.headers, "<"));
    lines.extend(body_shown(&answer.body));
    lines.push(String::new());
    lines.join("\n")
}

fn headers_shown<'a>(headers: &'a HeaderMap, mark: &'a str) -> impl Iterator<Item = String> + 'a {
    headers.iter().map(move |(name, value)| {
        let secret = value.is_sensitive() || name == "set-cookie" || name == "authorization";
        let value = if secret { "(hidden)" } else { value.to_str().unwrap_or("(not a text)") };
        format!("{mark} {name}: {value}")
    })
}

fn body_shown(body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(body);
    let shown: String = text.chars().take(MOST).collect();
    let more = if shown.len() < text.len() { format!(" … ({} bytes)", body.len()) } else { String::new() };
    Some(format!("{shown}{more}"))
}
