//! A bare HTTP/1.1 client: one request on one connection, and what came back until the connection ended.

use std::{collections::BTreeMap, io, net::SocketAddr};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case name.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Whether the body has the length that was promised.
    pub(crate) fn is_whole(&self) -> bool {
        self.header("content-length").is_none_or(|length| length.parse() == Ok(self.body.len()))
    }
}

/// How an exchange ended.
pub(crate) enum Exchange {
    Answered(Answer),
    /// The connection was closed before a single byte.
    Closed,
    /// The connection was reset before a single byte.
    Reset,
}

impl Exchange {
    pub(crate) fn answered(self) -> Answer {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::Closed | Self::Reset => None,
        }
        .unwrap()
    }
}

/// Sends one request and reads until the connection ends.
pub(crate) async fn exchange(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Exchange {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: twin\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes).await;
    match ended {
        Err(error) if bytes.is_empty() => {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            Exchange::Reset
        }
        Ok(_) if bytes.is_empty() => Exchange::Closed,
        Ok(_) | Err(_) => Exchange::Answered(parse(&bytes)),
    }
}

/// Posts JSON with a bearer token.
pub(crate) async fn post(addr: SocketAddr, path: &str, token: &str, body: &Value) -> Exchange {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    exchange(addr, "POST", path, &headers, &body.to_string()).await
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect();
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}
