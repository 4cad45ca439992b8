//! What carries a request to the destination: reqwest, or a twin in the same process.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use penstock_model::port::Boxed;
pub use reqwest::Method;
pub use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::reach::{PrivateAddress, PublicNames, Resolver, may_be_asked};

/// The largest answer that is read, after decompression. Far above any vendor's; it bounds memory.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than the idle limits of usual load balancers (60 s), so that a connection is rarely closed under a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// A request, complete with its credential. Its Debug form shows method and size only: paths may hold row values.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: String,
    /// All headers but those that the transport adds by itself (`host`, `content-length`, `accept-encoding`).
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Bytes,
    /// In place of `body`, one that is made while it is sent.
    pub pieces: Option<Arc<dyn Pieces>>,
    /// The body as it may be shown, without the credential, where that stands in it.
    pub shown_body: Option<Bytes>,
}

impl Request {
    /// The bytes of the body.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.pieces.as_ref().map_or(self.body.len().try_into().unwrap_or(u64::MAX), |pieces| pieces.length())
    }

    /// The body, put together if it comes in pieces. For a twin in the same process.
    #[must_use]
    pub fn whole_body(&self) -> Bytes {
        match &self.pieces {
            None => self.body.clone(),
            Some(pieces) => (0..).map_while(|number| pieces.piece(number)).flatten().collect(),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} with {} bytes)", self.method, self.length())
    }
}

/// A body that is too large to be held: made piece by piece, anew whenever it is sent.
pub trait Pieces: Send + Sync {
    /// The bytes of all pieces together.
    fn length(&self) -> u64;

    /// The piece of this number, from 0; none after the last.
    fn piece(&self, number: usize) -> Option<Bytes>;
}

/// Takes an answer that is too large to be held, as it comes.
pub trait Taker: Send {
    /// An answer begins. What came before it, of one that broke, is worth nothing.
    fn begin(&mut self);

    /// The next bytes of its body.
    fn take(&mut self, piece: &[u8]);
}

/// An answer, read to its end. Its Debug form shows status and size only.
#[derive(Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Bytes,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} with {} bytes)", self.status, self.body.len())
    }
}

/// Whether a request may have reached the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Not one byte of it left: it can be sent again.
    SurelyNot,
    /// It may have been carried out.
    Maybe,
}

/// What went wrong on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// No connection: name not found, refused, TLS handshake failed.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke before the answer's end.
    Broken,
    /// The answer is too large, or can't be decompressed.
    Unreadable,
    /// The request can't be formed, such as for an address that is no URL.
    Invalid,
    /// The connection's address leads where it may not; see [`crate::reach`].
    Forbidden,
}

/// A request that got no whole answer. Names no URL and no content.
#[derive(Debug, thiserror::Error)]
#[error("{}", match kind {
    TransportErrorKind::Connect => "no connection to the destination",
    TransportErrorKind::Timeout => "no answer in time",
    TransportErrorKind::Broken => "the connection broke before the answer's end",
    TransportErrorKind::Unreadable => "the answer could not be read",
    TransportErrorKind::Invalid => "the request could not be formed",
    TransportErrorKind::Forbidden => "the request may not go there",
})]
pub struct TransportError {
    /// Whether it may have been carried out.
    pub sent: Sent,
    /// What happened.
    pub kind: TransportErrorKind,
    /// Why.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// Sends requests, one answer each. Follows no redirect and retries nothing.
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends a request and reads its answer to the end. The caller bounds the time by dropping the future.
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, TransportError>>;

    /// As [`send`](Self::send), but gives the body of a success to `taker` as it comes: that of the response is empty then.
    fn send_into<'a>(
        &'a self,
        request: Request,
        taker: &'a mut dyn Taker,
    ) -> Boxed<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            let mut answer = self.send(request).await?;
            if (200..300).contains(&answer.status) {
                taker.take(&std::mem::take(&mut answer.body));
            }
            Ok(answer)
        })
    }
}

/// HTTP/1.1 with pooled connections; TLS by rustls with ring and the bundled Mozilla roots.
#[derive(Debug, Clone)]
pub struct ReqwestTransport {
    client: reqwest::Client,
    /// Whether it leads to public addresses only.
    guarded: bool,
}

/// The HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client could not be built")]
pub struct ClientUnavailable(#[source] Box<dyn Error + Send + Sync>);

impl ReqwestTransport {
    /// Builds the client; once per process, so that connections are shared.
    ///
    /// # Errors
    /// The TLS configuration was refused.
    pub fn new() -> Result<Self, ClientUnavailable> {
        Ok(Self { client: builder()?.build().map_err(unavailable)?, guarded: false })
    }

    /// A client that leads to public addresses only, by this resolver's word and without a proxy, which would resolve names
    /// by itself.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn guarded(resolver: Arc<dyn Resolver>) -> Result<Self, ClientUnavailable> {
        let guarded = builder()?.no_proxy().dns_resolver(Arc::new(PublicNames(resolver)));
        Ok(Self { client: guarded.build().map_err(unavailable)?, guarded: true })
    }
}

/// A [`ReqwestTransport`] that is built when it is first needed: most processes never lead to an address inside.
#[derive(Debug, Default)]
pub struct Deferred(OnceLock<ReqwestTransport>);

impl Deferred {
    fn built(&self) -> Result<&ReqwestTransport, TransportError> {
        let broken = |source: Option<Box<dyn Error + Send + Sync>>| TransportError {
            sent: Sent::SurelyNot,
            kind: TransportErrorKind::Invalid,
            source,
        };
        if self.0.get().is_none() {
            let built = ReqwestTransport::new().map_err(|error| broken(Some(Box::new(error))))?;
            // Another may have built one meanwhile: that is the one then.
            drop(self.0.set(built));
        }
        self.0.get().ok_or_else(|| broken(None))
    }
}

impl Transport for Deferred {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, TransportError>> {
        match self.built() {
            Ok(built) => built.send(request),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn send_into<'a>(
        &'a self,
        request: Request,
        taker: &'a mut dyn Taker,
    ) -> Boxed<'a, Result<Response, TransportError>> {
        match self.built() {
            Ok(built) => built.send_into(request, taker),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> ClientUnavailable {
    ClientUnavailable(error.into())
}

fn builder() -> Result<reqwest::ClientBuilder, ClientUnavailable> {
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unavailable)?
        .with_root_certificates(
            webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect::<rustls::RootCertStore>(),
        )
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        // One layer retries: deliver.
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_nodelay(true)
        .user_agent(concat!("penstock/", env!("CARGO_PKG_VERSION"))))
}

impl ReqwestTransport {
    /// Sends a request; the answer's body is still to come.
    async fn start(&self, request: Request) -> Result<reqwest::Response, TransportError> {
        let Request { method, url, headers, body, pieces, shown_body: _ } = request;
        if self.guarded && reqwest::Url::parse(&url).is_ok_and(|url| !may_be_asked(&url)) {
            let (sent, kind) = (Sent::SurelyNot, TransportErrorKind::Forbidden);
            return Err(TransportError { sent, kind, source: Some(Box::new(PrivateAddress)) });
        }
        let body = match pieces {
            None => reqwest::Body::from(body),
            Some(pieces) => reqwest::Body::wrap(PieceByPiece { left: pieces.length(), next: 0, pieces }),
        };
        self.client.request(method, url).headers(headers).body(body).send().await.map_err(explain)
    }
}

impl Transport for ReqwestTransport {
    fn send(&self, request: Request) -> Boxed<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let mut answer = self.start(request).await?;
            let status = answer.status().as_u16();
            let headers = std::mem::take(answer.headers_mut());
            Ok(Response { status, headers, body: whole(&mut answer).await? })
        })
    }

    fn send_into<'a>(
        &'a self,
        request: Request,
        taker: &'a mut dyn Taker,
    ) -> Boxed<'a, Result<Response, TransportError>> {
        Box::pin(async move {
            let mut answer = self.start(request).await?;
            let status = answer.status().as_u16();
            let headers = std::mem::take(answer.headers_mut());
            if !(200..300).contains(&status) {
                return Ok(Response { status, headers, body: whole(&mut answer).await? });
            }
            while let Some(piece) = answer.chunk().await.map_err(explain)? {
                taker.take(&piece);
            }
            Ok(Response { status, headers, body: Bytes::new() })
        })
    }
}

/// An answer's body to its end.
async fn whole(answer: &mut reqwest::Response) -> Result<Bytes, TransportError> {
    let mut body = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(explain)? {
        if body.len().saturating_add(piece.len()) > MAX_ANSWER_BYTES {
            let kind = TransportErrorKind::Unreadable;
            return Err(TransportError { sent: Sent::Maybe, kind, source: None });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// A body that is made while it is sent. Its length is told beforehand: some servers take no other.
struct PieceByPiece {
    pieces: Arc<dyn Pieces>,
    next: usize,
    left: u64,
}

impl http_body::Body for PieceByPiece {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        let Some(piece) = self.pieces.piece(self.next) else { return Poll::Ready(None) };
        self.next += 1;
        self.left = self.left.saturating_sub(piece.len().try_into().unwrap_or(u64::MAX));
        Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

fn explain(error: reqwest::Error) -> TransportError {
    let (sent, kind) = if PrivateAddress::caused(&error) {
        (Sent::SurelyNot, TransportErrorKind::Forbidden)
    } else if error.is_builder() {
        (Sent::SurelyNot, TransportErrorKind::Invalid)
    } else if error.is_connect() {
        (Sent::SurelyNot, TransportErrorKind::Connect)
    } else if error.is_timeout() {
        (Sent::Maybe, TransportErrorKind::Timeout)
    } else if error.is_decode() {
        (Sent::Maybe, TransportErrorKind::Unreadable)
    } else {
        (Sent::Maybe, TransportErrorKind::Broken)
    };
    // The URL may hold a row's key.
    TransportError { sent, kind, source: Some(Box::new(error.without_url())) }
}
