//! The layers of a connection, put together, and the seam between them and ureq.
//!
//! From below: a TCP connection, or a tunnel through a proxy; TLS on it for https; and on top what
//! tells the exchange where its connection ends and its request begins.

use std::sync::Arc;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, Transport,
};

use super::exchange::{Connecting, Exchange, current};
use super::tcp::TcpConnector;
use super::tls::Trust;

/// The layers of a connection, shared by all agents: the state of TLS among them.
#[derive(Clone, Debug)]
pub(super) struct Layers(Arc<dyn Connector<(), Out = Box<dyn Transport>>>);

impl Layers {
    #[cfg(feature = "rustls")]
    pub(super) fn new(tcp: TcpConnector, trust: Trust) -> Self {
        let buffers = Arc::clone(&tcp.buffers);
        let tls = super::tls::TlsConnector { trust, buffers };
        let proxy = ConnectProxyConnector::default();
        Self(Arc::new(Outermost(().chain(proxy).chain(tcp).chain(tls))))
    }

    #[cfg(not(feature = "rustls"))]
    pub(super) fn new(tcp: TcpConnector, Trust: Trust) -> Self {
        let proxy = ConnectProxyConnector::default();
        Self(Arc::new(Outermost(().chain(proxy).chain(tcp))))
    }
}

impl Connector<()> for Layers {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        self.0.connect(details, chained)
    }
}

/// The end of the layers that ureq sees: tells the exchange what is request and answer, and not
/// handshake.
#[derive(Debug)]
struct Outermost<T>(T);

impl<C: Connector<()>> Connector<()> for Outermost<C> {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let _connecting = Connecting::begin();
        let connected = self.0.connect(details, chained)?;
        Ok(connected.map(|transport| Box::new(Outermost(transport)) as Self::Out))
    }
}

impl<T: Transport> Transport for Outermost<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let more = self.0.await_input(timeout)?;
        if more {
            current(Exchange::answered);
        }
        Ok(more)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
