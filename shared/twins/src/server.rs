//! A twin as a real HTTP server on loopback, whose connections really break.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{HeaderValue, Response, StatusCode, header::CONTENT_LENGTH},
    serve::{IncomingStream, Listener},
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::desk::{Broken, Reply, Twin};

/// Far above any vendor's limit; it only bounds a mistake.
const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;

/// A twin that listens on loopback. Dropping it stops listening; requests that are being answered go on to their
/// end.
pub struct RunningTwin<T> {
    /// The twin: ask it here.
    pub twin: T,
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl<T: Twin> RunningTwin<T> {
    /// Listens on 127.0.0.1 at `port`; 0 takes any free one. Needs a tokio runtime with IO and time.
    ///
    /// # Errors
    /// The port can't be bound.
    pub async fn start(twin: T, port: u16) -> io::Result<Self> {
        let listener = Loopback(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?);
        let addr = listener.0.local_addr()?;
        let service = router(twin.clone()).into_make_service_with_connect_info::<Line>();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let stopped = async move {
                // A dropped sender means the same as a message.
                drop(stopped.await);
            };
            if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the twin's server failed");
            }
        });
        Ok(Self { twin, addr, stop: Some(stop), server: Some(server) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it listens, as the base of a URL: `http://127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Stops listening and waits until every request under way has been answered.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            // The task neither panics nor is aborted; if it were, it would have stopped as well.
            drop(server.await);
        }
    }
}

/// The twin as a service.
pub(crate) fn router<T: Twin>(twin: T) -> Router {
    Router::new().fallback(respond::<T>).with_state(twin)
}

async fn respond<T: Twin>(State(twin): State<T>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let line = parts.extensions.get::<ConnectInfo<Line>>().map(|ConnectInfo(line)| line.clone());
    let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        return response;
    };
    let Reply { after, outcome } = {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        twin.handle(&parts.method, target, &parts.headers, &body)
    };
    if !after.is_zero() {
        tokio::time::sleep(after).await;
    }
    match outcome {
        Ok(response) => response.map(Body::from),
        Err(Broken::Reset) => broken(line, Line::RESET),
        Err(Broken::AnswerLost) => broken(line, Line::CLOSED),
        Err(Broken::Truncated { partial, full_length }) => cut_short(*partial, full_length),
    }
}

/// Breaks the line; what is returned never gets through it. Without a line the body fails at once.
fn broken(line: Option<Line>, how: u8) -> Response<Body> {
    if let Some(line) = line {
        line.0.store(how, Ordering::SeqCst);
    }
    Response::new(Body::from_stream(stream::iter([Err::<Bytes, _>(io::Error::from(
        io::ErrorKind::ConnectionReset,
    ))])))
}

/// Promises `full_length` bytes, sends fewer, and fails: the server can then only close the connection.
fn cut_short(partial: Response<Bytes>, full_length: usize) -> Response<Body> {
    let (mut parts, body) = partial.into_parts();
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(full_length));
    let end = stream::once(async {
        // The server flushes what it has when the body makes it wait; only then may the body fail.
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    Response::from_parts(parts, Body::from_stream(stream::iter([Ok(body)]).chain(end)))
}

/// The state of one connection, shared by the handler that breaks it and the socket that is broken.
#[derive(Clone, Default)]
struct Line(Arc<AtomicU8>);

impl Line {
    const OPEN: u8 = 0;
    const CLOSED: u8 = 1;
    const RESET: u8 = 2;

    /// Fails if the line is broken: the server then drops the socket.
    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            Self::OPEN => Ok(()),
            Self::RESET => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            _ => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
        }
    }
}

impl Connected<IncomingStream<'_, Loopback>> for Line {
    fn connect_info(stream: IncomingStream<'_, Loopback>) -> Self {
        stream.io().line.clone()
    }
}

struct Loopback(TcpListener);

impl Listener for Loopback {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Socket, SocketAddr) {
        let (stream, addr) = Listener::accept(&mut self.0).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not switch off Nagle's algorithm");
        }
        (Socket { stream, line: Line::default() }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct Socket {
    stream: TcpStream,
    line: Line,
}

impl Drop for Socket {
    /// Closing a socket that does not linger resets its connection.
    fn drop(&mut self) {
        if self.line.0.load(Ordering::SeqCst) == Line::RESET
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "could not reset a connection; it is closed instead");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.check()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
