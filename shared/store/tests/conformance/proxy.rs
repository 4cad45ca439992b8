//! A proxy on loopback between the SDK and a store, which gives the answers that a store gives now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as far as faults look at it.
pub(crate) struct Asked {
    /// Which one it is, from 1.
    pub(crate) number: u64,
    pub(crate) method: String,
    /// Whether it has a condition.
    pub(crate) is_conditional: bool,
}

/// What becomes of a request.
pub(crate) enum Fate {
    /// The store answers.
    Passed,
    /// It never reaches the store: this status and error code.
    Refused(u16, &'static str),
    /// The store handles it, and the answer is lost.
    AnswerLost,
    /// The store handles it, and the answer breaks off before its last byte.
    AnswerCut,
}

type Decide = dyn Fn(&Asked) -> Fate + Send + Sync;

/// A proxy that ends with the test.
pub(crate) struct Proxy {
    address: String,
    asked: Arc<AtomicU64>,
}

impl Proxy {
    /// A proxy to a store at `http://HOST:PORT`.
    pub(crate) async fn start(store: &str, decide: impl Fn(&Asked) -> Fate + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let store: Arc<str> = store.trim_start_matches("http://").trim_end_matches('/').into();
        let (decide, asked): (Arc<Decide>, _) = (Arc::new(decide), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (store, decide, asked) = (store.clone(), decide.clone(), counted.clone());
                // A client that goes away is its own business.
                tokio::spawn(async move { drop(one_request(client, &store, &*decide, &asked).await) });
            }
        });
        Self { address, asked }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How many requests there were.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Handles the one request of a connection.
async fn one_request(
    mut client: TcpStream,
    store: &str,
    decide: &Decide,
    asked: &AtomicU64,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    let head = loop {
        if let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    let mut body = request.split_off(head + 4);
    let head = String::from_utf8_lossy(&request).into_owned();
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    if header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let length = header("content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Ok(());
        }
    }
    let asked = Asked {
        number: asked.fetch_add(1, Ordering::SeqCst) + 1,
        method: head.split(' ').next().unwrap_or_default().to_owned(),
        is_conditional: header("if-match").or_else(|| header("if-none-match")).is_some(),
    };
    let answer = match decide(&asked) {
        Fate::Refused(status, code) => {
            let body = format!("<Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
            format!(
                "HTTP/1.1 {status} Refused\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        }
        Fate::Passed => pass(store, &head, &body).await?,
        Fate::AnswerLost => {
            pass(store, &head, &body).await?;
            return Ok(());
        }
        Fate::AnswerCut => {
            let mut answer = pass(store, &head, &body).await?;
            answer.pop();
            answer
        }
    };
    client.write_all(&answer).await?;
    client.shutdown().await
}

/// The store's answer, whole. Each request has a connection of its own.
async fn pass(store: &str, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let kept = head.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        !line.is_empty() && !["connection", "expect"].contains(&name.to_ascii_lowercase().as_str())
    });
    let mut request = kept.fold(String::new(), |text, line| text + line + "\r\n");
    request.push_str("Connection: close\r\n\r\n");
    let mut store = TcpStream::connect(store).await?;
    store.write_all(request.as_bytes()).await?;
    store.write_all(body).await?;
    let mut answer = Vec::new();
    store.read_to_end(&mut answer).await?;
    Ok(answer)
}
