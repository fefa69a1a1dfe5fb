//! How a connection comes to stand: an address, TCP, perhaps a tunnel through a proxy, perhaps TLS.
//!
//! Rare work with deep frames, kept off the path every request takes: each step returns before the
//! next one begins.

use std::sync::Arc;

use ureq_proto::http::Uri;

use super::buffers::BufferPool;
use super::exchange::Exchange;
use super::fault::{Failure, bare_host, is_https};
use super::link::Link;
use super::resolver::CachingResolver;
use super::sockets::Sockets;
use super::tcp;
use super::tls::TlsConnector;
use super::tunnel::Proxy;

/// What all connections of a transport are made with.
pub(super) struct Connector {
    pub(super) sockets: Arc<Sockets>,
    pub(super) buffers: Arc<BufferPool>,
    pub(super) resolver: CachingResolver,
    pub(super) tls: TlsConnector,
}

impl Connector {
    /// Makes a connection to the server of `uri`, through `proxy` if there is one.
    #[inline(never)]
    pub(super) fn connect(
        &self,
        uri: &Uri,
        proxy: Option<&Proxy>,
        exchange: &mut Exchange<'_>,
    ) -> Result<Box<dyn Link>, Failure> {
        let Some(proxy) = proxy else {
            return self.reach(uri, exchange);
        };
        let mut link = self.reach(&proxy.uri, exchange)?;
        proxy.connect(&mut *link, uri, exchange)?;
        self.secure(link, uri, exchange)
    }

    /// Connects to the host that `uri` names itself.
    fn reach(&self, uri: &Uri, exchange: &mut Exchange<'_>) -> Result<Box<dyn Link>, Failure> {
        let addresses = self.resolver.resolve(uri, exchange.connect_by())?;
        let tcp = {
            let avoid = |address| self.resolver.avoid(uri, address);
            tcp::open(
                &addresses,
                avoid,
                uri,
                &self.sockets,
                &self.buffers,
                exchange,
            )?
        };
        let mut link: Box<dyn Link> = Box::new(tcp);
        if !link.work_for(exchange.cancel) {
            return Err(Failure::aborted());
        }
        self.secure(link, uri, exchange)
    }

    /// Puts TLS on `link` if `uri` asks for it.
    fn secure(
        &self,
        link: Box<dyn Link>,
        uri: &Uri,
        exchange: &mut Exchange<'_>,
    ) -> Result<Box<dyn Link>, Failure> {
        if !is_https(uri) {
            return Ok(link);
        }
        self.tls
            .shake_hands(link, bare_host(uri), &self.buffers, exchange)
    }
}
