//! Which addresses a connection may lead to.
//!
//! On AWS a connection's address is what a user wrote, and the function that follows it stands inside a network: an address
//! that leads to the platform's metadata, to the function itself or into a private network is refused there, unless
//! the connection says `allow_private`. Names are resolved first, and the very addresses that were looked at are connected
//! to, so that a name can't change its mind in between.

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use penstock_model::port::Boxed;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::Transport;
use crate::http::transport::{ClientUnavailable, ReqwestTransport};

/// Finds the addresses of a host.
pub trait Resolver: Send + Sync + std::fmt::Debug {
    /// The addresses of this name, at least one.
    fn resolve(&self, host: String) -> Boxed<'_, io::Result<Vec<IpAddr>>>;
}

/// The system's own resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: String) -> Boxed<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// The connection's address leads where it may not. Names no host: a secret part may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the connection's address leads to a private, loopback or link-local address; if that is meant, write \
     allow_private: true in the connection"
)]
pub struct PrivateAddress;

impl PrivateAddress {
    /// Whether this is why a request could not be sent.
    pub(crate) fn caused(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            // An IO error passes over what it wraps.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if wrapped.is_some_and(|wrapped| wrapped.is::<Self>()) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Keeps connections from where they may not lead.
#[derive(Debug, Clone)]
pub struct Guard {
    resolver: Arc<dyn Resolver>,
    transport: Arc<dyn Transport>,
}

impl Guard {
    /// A guard that resolves names by this resolver; with an HTTP client of its own, so that no connection is shared with
    /// those who may lead anywhere.
    ///
    /// # Errors
    /// The client could not be built.
    pub fn new(resolver: Arc<dyn Resolver>) -> Result<Self, ClientUnavailable> {
        let transport = Arc::new(ReqwestTransport::guarded(resolver.clone())?);
        Ok(Self { resolver, transport })
    }

    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        self.transport.clone()
    }

    pub(crate) fn resolver(&self) -> Arc<dyn Resolver> {
        self.resolver.clone()
    }
}

/// The public addresses of a host, written as a name or as an address.
///
/// # Errors
/// [`PrivateAddress`] as the error's source if it has none but private ones; what the resolver says.
pub(crate) async fn public_addresses(resolver: &dyn Resolver, host: &str) -> io::Result<Vec<IpAddr>> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolver.resolve(host.to_owned()).await?,
    };
    let found = !addresses.is_empty();
    let public: Vec<IpAddr> = addresses.into_iter().filter(|address| is_public(*address)).collect();
    match (public.is_empty(), found) {
        (false, _) => Ok(public),
        (true, true) => Err(io::Error::new(io::ErrorKind::PermissionDenied, PrivateAddress)),
        (true, false) => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
    }
}

/// [`public_addresses`] for reqwest, which asks for names only.
#[derive(Debug)]
pub(crate) struct PublicNames(pub(crate) Arc<dyn Resolver>);

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let addresses = public_addresses(resolver.as_ref(), name.as_str()).await?;
            let sockets: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(sockets)
        })
    }
}

/// Whether the host of a URL, where it is an address and no name, is one that anybody on the internet could reach. reqwest
/// asks no resolver for those.
pub(crate) fn may_be_asked(url: &reqwest::Url) -> bool {
    // As the URL's reader has understood it: `0x7f.1` is 127.0.0.1 by now.
    let host = url.host_str().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.parse::<IpAddr>().map_or(true, is_public)
}

/// Whether an address is one that anybody on the internet could reach; see IANA's registries of special-purpose addresses.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    // RFC 6598: networks behind a provider; AWS has services of its own there.
    let is_shared = a == 100 && (64..128).contains(&b);
    let is_for_protocols = (a, b, c) == (192, 0, 0);
    let is_for_benchmarks = a == 198 && (b == 18 || b == 19);
    let is_reserved = a == 0 || a >= 240;
    !(address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || is_shared
        || is_for_protocols
        || is_for_benchmarks
        || is_reserved)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, .., seventh, eighth] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match (first, second) {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address inside.
        (0x64, 0xff9b) => third == 0 && embedded(seventh, eighth),
        (0x2002, high) => embedded(high, third),
        // What is assigned to the internet at large; unique local, link-local, loopback and multicast lie outside.
        _ => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::transport::{HeaderMap, Method, Request, Sent, TransportErrorKind};
    use crate::testing::Names;

    #[test]
    fn public_is_what_anybody_can_reach() {
        let cases = [
            ("93.184.216.34", true),
            ("100.63.255.255", true),
            ("172.32.0.1", true),
            ("2606:2800:220:1:248:1893:25c8:1946", true),
            ("::ffff:93.184.216.34", true),
            ("64:ff9b::5db8:d822", true),
            ("127.0.0.1", false),
            ("127.8.8.8", false),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("169.254.170.2", false),
            ("100.64.0.1", false),
            ("192.0.0.170", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:169.254.169.254", false),
            ("fe80::1", false),
            ("fd00:ec2::254", false),
            ("ff02::1", false),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b:1::5db8:d822", false),
            ("2002:a9fe:a9fe::", false),
        ];
        for (address, expected) in cases {
            assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn an_address_is_known_however_it_is_written() {
        let cases = [
            ("https://api.example.com/", true),
            ("http://93.184.216.34/", true),
            ("http://2130706433/", false),
            ("http://0x7f.1/", false),
            ("http://0251.0376.0251.0376/", false),
            ("http://[::1]:8080/", false),
            ("http://[::ffff:10.0.0.1]/", false),
        ];
        for (url, expected) in cases {
            assert_eq!(may_be_asked(&reqwest::Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    async fn send(guard: &Guard, url: &str) -> Result<u16, (Sent, TransportErrorKind)> {
        let (method, headers) = (Method::GET, HeaderMap::new());
        let request = Request {
            method,
            url: url.to_owned(),
            headers,
            body: Default::default(),
            pieces: None,
            shown_body: None,
        };
        let answer = guard.transport().send(request).await;
        answer.map(|answer| answer.status).map_err(|error| (error.sent, error.kind))
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_before_anything_is_sent() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = Err((Sent::SurelyNot, TransportErrorKind::Forbidden));
        for answer in ["127.0.0.1", "169.254.169.254", "10.1.2.3", "::1"] {
            let guard = Guard::new(Names::answering(&[&[answer]])).unwrap();
            assert_eq!(send(&guard, &format!("http://api.example.com:{port}/")).await, refused, "{answer}");
        }
        let guard = Guard::new(Names::answering(&[&["93.184.216.34"]])).unwrap();
        for host in ["127.0.0.1", "[::1]", "0x7f.1"] {
            assert_eq!(send(&guard, &format!("http://{host}:{port}/")).await, refused, "{host}");
        }
        // Nobody has knocked.
        let knock = std::future::poll_fn(|context| listener.poll_accept(context));
        let knocked = futures::future::select(Box::pin(knock), std::future::ready(())).await;
        assert!(matches!(knocked, futures::future::Either::Right(_)));
    }

    #[tokio::test]
    async fn what_was_looked_at_is_what_is_connected_to() {
        // A second question would be answered with an address inside.
        let names = Names::answering(&[&["10.0.0.1", "93.184.216.34"], &["127.0.0.1"]]);
        let addresses = public_addresses(names.as_ref(), "api.example.com").await.unwrap();
        assert_eq!(addresses, ["93.184.216.34".parse::<IpAddr>().unwrap()], "the private one is left out");
        let error = public_addresses(names.as_ref(), "api.example.com").await.unwrap_err();
        assert!(PrivateAddress::caused(&error), "{error}");
    }
}
