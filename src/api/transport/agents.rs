//! ureq's agents: how they are set up, and which one carries a request.
//!
//! An agent keeps connections behind one lock, and does work under it in proportion to their
//! number: 75 µs a request with 1,000 of them. So a transport has many, each for a few requests at
//! once ([`REQUESTS_PER_AGENT`]), all over the same connector and resolver.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ureq::Agent;
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, Either, Transport,
};

use super::TransportErrorKind;
use super::abort::Sockets;
use super::connection::Connection;
use super::context::{self, fail};
use super::error::bare_host;
use super::login::Login;
use super::request::USER_AGENT;
use super::resolver::CachingResolver;
use super::tcp::{self, Tcp};
use super::tls::TlsConnector;

/// Requests at once through an agent.
const REQUESTS_PER_AGENT: usize = 32;
/// Agents at least, however few workers there are: others may use a client too, from threads of
/// their own. When all are full, the first takes more.
const MIN_AGENTS: usize = 64;
/// Servers keep a connection for 5 s or more. Each is looked at before it is used again, so this
/// only bounds how many are held for nothing.
const MAX_IDLE_AGE: Duration = Duration::from_secs(8);

/// The agents for one way to servers: through one proxy, or none.
pub(super) struct Agents {
    slots: Box<[Slot]>,
    /// The proxy, for messages; empty if there is none.
    pub(super) through: String,
}

/// An agent, and how many requests it has under way.
struct Slot {
    agent: Agent,
    busy: AtomicUsize,
}

impl Agents {
    pub(super) fn new(
        mut connector: SharedConnector,
        proxy: Option<ureq::Proxy>,
        through: String,
        workers: usize,
    ) -> Self {
        // What is not said here, heads and limits of time, is said below ureq.
        let config = Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            // No more than requests at once, in any case.
            .max_idle_connections(usize::MAX)
            .max_idle_connections_per_host(usize::MAX)
            .max_idle_age(MAX_IDLE_AGE)
            .user_agent(USER_AGENT)
            .accept("")
            .accept_encoding("")
            .build();
        // Each proxy has a password of its own.
        connector.login = Arc::default();
        let resolver = &connector.resolver;
        let slot = |_| Slot {
            agent: Agent::with_parts(config.clone(), connector.clone(), resolver.clone()),
            busy: AtomicUsize::new(0),
        };
        let count = workers.div_ceil(REQUESTS_PER_AGENT).max(MIN_AGENTS);
        let slots = (0..count).map(slot).collect();
        Self { slots, through }
    }

    /// Has the first agent that is free `run` a request: so that connections are found again
    /// however many threads take turns.
    pub(super) fn with<T>(&self, run: impl FnOnce(&Agent) -> T) -> T {
        // Two that look at once may both think it free, which does no harm.
        let is_free = |slot: &&Slot| slot.busy.load(Ordering::Relaxed) < REQUESTS_PER_AGENT;
        let slot = self.slots.iter().find(is_free).unwrap_or(&self.slots[0]);
        slot.busy.fetch_add(1, Ordering::Relaxed);
        let answer = run(&slot.agent);
        slot.busy.fetch_sub(1, Ordering::Relaxed);
        answer
    }
}

/// How all connections of a transport are made: an address, TCP, perhaps a tunnel through a proxy,
/// perhaps TLS.
#[derive(Clone, Debug)]
pub(super) struct SharedConnector {
    pub(super) sockets: Arc<Sockets>,
    pub(super) resolver: CachingResolver,
    pub(super) tls: Arc<TlsConnector>,
    pub(super) login: Arc<Login>,
}

impl Connector for SharedConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let (inner, is_within) = context::connecting(|| self.make(details))?;
        // A connection to a proxy is for what is put on it.
        Ok(Some(if is_within {
            inner
        } else {
            Box::new(Connection { inner })
        }))
    }
}

impl SharedConnector {
    fn make(&self, details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, ureq::Error> {
        let transport = match details.config.proxy() {
            Some(proxy) if proxy.username().is_some() => self.login.log_in(|| tunnel(details))?,
            Some(_) => tunnel(details)?,
            None => self.open(details)?,
        };
        if !details.needs_tls() {
            return Ok(transport);
        }
        let host = bare_host(details.uri);
        self.tls.connect(transport, host)
    }

    #[inline(never)]
    fn open(&self, details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, ureq::Error> {
        let avoid = |address| self.resolver.avoid(details.uri, address);
        let stream = tcp::connect(&details.addrs, avoid, details.uri)?;
        Ok(Box::new(Tcp::new(self.sockets.adopt(stream))))
    }
}

/// A tunnel through the proxy, unless something has come through it unasked: that would pass for
/// what the server says, to a request it has not seen. What comes a moment later cannot be told
/// from that, but by TLS.
#[inline(never)]
fn tunnel(details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, ureq::Error> {
    let tunnel = ConnectProxyConnector::default().connect(details, None::<()>)?;
    let Some(Either::B(mut tunnel)) = tunnel else {
        return Err(ureq::Error::ConnectionFailed);
    };
    if tunnel.buffers().input().is_empty() && tunnel.is_open() {
        return Ok(tunnel);
    }
    let why = "the proxy sent more than its answer to CONNECT, or closed the connection";
    Err(fail(TransportErrorKind::Proxy, why))
}
