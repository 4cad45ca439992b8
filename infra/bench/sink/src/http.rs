//! HTTP/1.1 as benchmark clients speak it: kept-alive connections, bodies with a `Content-Length`.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

/// Larger than any request of a benchmark.
const MOST_BYTES: usize = 64 << 20;

/// A client's connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read.
    filled: usize,
    /// Bytes of the buffer that the last request took.
    used: usize,
}

/// A request, with its whole body.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 64 << 10], filled: 0, used: 0 })
    }

    /// The next request; `None` if the client has closed the connection between two.
    pub(crate) fn next_request(&mut self) -> io::Result<Option<Request<'_>>> {
        self.buffer.copy_within(self.used..self.filled, 0);
        self.filled -= self.used;
        self.used = 0;
        let head = loop {
            let read = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if self.read_more()? == 0 {
                return if self.filled == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let length = content_length(self.buffer.get(..head).unwrap_or_default())?;
        while self.filled < head + length {
            if self.read_more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.used = head + length;
        let line = self.buffer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let mut words = std::str::from_utf8(line).map_err(io::Error::other)?.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        Ok(Some(Request { method, path, body: self.buffer.get(head..head + length).unwrap_or_default() }))
    }

    fn read_more(&mut self) -> io::Result<usize> {
        if self.filled == self.buffer.len() {
            if self.filled > MOST_BYTES {
                return Err(io::Error::other("the request is too large"));
            }
            self.buffer.resize(self.filled * 2, 0);
        }
        let read = self.stream.read(self.buffer.get_mut(self.filled..).unwrap_or_default())?;
        self.filled += read;
        Ok(read)
    }

    pub(crate) fn answer(&mut self, status: u16, body: &str) -> io::Result<()> {
        let answer = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(answer.as_bytes())
    }
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    let head = std::str::from_utf8(head).map_err(io::Error::other)?;
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::Error::other("only bodies with a Content-Length are read"));
        }
        if name.eq_ignore_ascii_case("content-length") {
            return value.trim().parse().map_err(io::Error::other);
        }
    }
    Ok(0)
}
