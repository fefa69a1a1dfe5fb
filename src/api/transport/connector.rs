//! How a connection is made: an address, TCP, perhaps a tunnel through a proxy, perhaps TLS.

use std::sync::Arc;

use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, Either, Transport,
};

use super::abort::Sockets;
use super::connection::{Connection, without_waiting};
use super::context;
use super::error::{blame_proxy, fail};
use super::login::Login;
use super::resolver::CachingResolver;
use super::tcp;
use super::tls::TlsConnector;
use super::{HttpConfig, TransportErrorKind};
use crate::error;

/// Makes all connections of a transport.
#[derive(Clone, Debug)]
pub(super) struct SharedConnector {
    pub(super) sockets: Arc<Sockets>,
    pub(super) resolver: CachingResolver,
    tls: Arc<TlsConnector>,
    login: Arc<Login>,
}

impl SharedConnector {
    pub(super) fn new(config: &HttpConfig) -> error::Result<Self> {
        Ok(Self {
            sockets: Arc::default(),
            resolver: CachingResolver::system(),
            tls: Arc::new(TlsConnector::new(config)?),
            login: Arc::default(),
        })
    }

    #[inline(never)]
    fn open(&self, details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, ureq::Error> {
        let addresses = self.resolver.addresses(details.uri)?;
        let tcp = tcp::connect(&addresses, &self.sockets)?;
        if let Some(answered) = tcp.peer() {
            self.resolver.note_answer(details.uri, &addresses, answered);
        }
        Ok(Box::new(tcp))
    }
}

impl Connector for SharedConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        context::with(|context| context.connecting += 1);
        let mut inner = match details.config.proxy() {
            Some(_) => self.login.log_in(|| tunnel(details))?,
            None => self.open(details)?,
        };
        if details.needs_tls() {
            inner = self.tls.connect(inner, details)?;
        }
        context::with(|context| context.connecting -= 1);
        // A connection to a proxy is for what is put on it.
        if context::with(|context| context.connecting > 0) {
            return Ok(Some(inner));
        }
        let awaits_head = false;
        Ok(Some(Box::new(Connection { inner, awaits_head })))
    }
}

/// A tunnel through the proxy, unless something has come through it unasked: that would pass for
/// what the server says, to a request it has not seen. What comes a moment later cannot be told
/// from that, but by TLS.
#[inline(never)]
fn tunnel(details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, ureq::Error> {
    let tunnel = ConnectProxyConnector::default().connect(details, None::<()>);
    let Some(Either::B(mut tunnel)) = tunnel.map_err(blame_proxy)? else {
        return Err(ureq::Error::ConnectionFailed);
    };
    let is_silent = tunnel.buffers().input().is_empty();
    if let (true, Err(ureq::Error::Timeout(_))) = (is_silent, tunnel.await_input(without_waiting()))
    {
        return Ok(tunnel);
    }
    let why = "the proxy sent more than its answer to CONNECT, or closed the connection";
    Err(fail(TransportErrorKind::Proxy, why))
}
