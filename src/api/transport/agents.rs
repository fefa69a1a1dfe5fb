//! ureq's agents: how they are set up, and which one carries a request.
//!
//! An agent keeps connections behind one lock, and does work under it in proportion to their number:
//! 75 µs a request with 1,000 of them. So a transport has many, each for [`SHARE`] requests at once,
//! all over the same connector and resolver.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::transport::{
    ConnectProxyConnector, ConnectionDetails, Connector, Either, Transport,
};

use super::abort::Sockets;
use super::buffers::BufferPool;
use super::context::{self, fail};
use super::error::{Failure, bare_host};
use super::request::USER_AGENT;
use super::resolver::CachingResolver;
use super::tls::TlsConnector;
use super::{TransportErrorKind, tcp};
use crate::sync::Mutex;

/// Requests at once through an agent.
const SHARE: usize = 32;
/// Agents at least, however few workers there are: others may use a client too, from threads of their
/// own. When all are full, more requests share one.
const AGENTS: usize = 64;
/// Servers keep a connection for 5 s or more. Each is looked at before it is used again, so this
/// only bounds how many are held for nothing.
const AGE: Duration = Duration::from_secs(8);
/// An agent has no more connections than requests at once, so it may keep them all.
const IDLE: usize = 4096;

/// The agents for one way to servers: through one proxy, or none.
pub(super) struct Agents {
    config: Config,
    connector: SharedConnector,
    agents: Box<[OnceLock<Agent>]>,
    places: Mutex<Places>,
}

/// The places of an agent's requests, numbered through all agents; the lowest is taken first, so that
/// connections are found again however many threads take turns.
#[derive(Default)]
struct Places {
    free: BinaryHeap<Reverse<usize>>,
    count: usize,
}

impl Agents {
    pub(super) fn new(
        connector: SharedConnector,
        proxy: Option<ureq::Proxy>,
        workers: usize,
    ) -> Self {
        let agents = workers.div_ceil(SHARE).max(AGENTS);
        // What is not said here, heads and limits of time, is said below ureq.
        let config = Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .max_idle_age(AGE)
            .user_agent(USER_AGENT)
            .accept("")
            .accept_encoding("")
            .build();
        Self {
            config,
            connector,
            agents: (0..agents).map(|_| OnceLock::new()).collect(),
            places: Mutex::default(),
        }
    }

    /// Has an agent `run` a request.
    pub(super) fn with<T>(&self, run: impl FnOnce(&Agent) -> T) -> T {
        let place = self.places.lock().take();
        let _returned = Returned(&self.places, place);
        run(
            self.agents[place / SHARE % self.agents.len()].get_or_init(|| {
                let connector = self.connector.clone();
                Agent::with_parts(
                    self.config.clone(),
                    connector,
                    self.connector.0.resolver.clone(),
                )
            }),
        )
    }
}

impl Places {
    fn take(&mut self) -> usize {
        if let Some(Reverse(place)) = self.free.pop() {
            return place;
        }
        self.count += 1;
        self.count - 1
    }
}

/// Gives a place back, be it in a panic.
struct Returned<'a>(&'a Mutex<Places>, usize);

impl Drop for Returned<'_> {
    fn drop(&mut self) {
        self.0.lock().free.push(Reverse(self.1));
    }
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents").finish_non_exhaustive()
    }
}

/// How all connections of a transport are made: an address, TCP, perhaps a tunnel through a proxy,
/// perhaps TLS.
#[derive(Clone)]
pub(super) struct SharedConnector(pub(super) Arc<Parts>);

/// What all connections of a transport are made with.
pub(super) struct Parts {
    pub(super) sockets: Arc<Sockets>,
    pub(super) buffers: Arc<BufferPool>,
    pub(super) resolver: CachingResolver,
    pub(super) tls: TlsConnector,
}

impl Connector for SharedConnector {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        context::connecting(|| self.0.connect(details)).map(Some)
    }
}

impl Parts {
    #[inline(never)]
    fn connect(&self, details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, ureq::Error> {
        let transport = match self.tunnel(details)? {
            Some(tunnel) => tunnel,
            None => self.open(details)?,
        };
        if details.needs_tls() {
            self.tls
                .connect(transport, bare_host(details.uri), &self.buffers)
        } else {
            Ok(transport)
        }
    }

    fn open(&self, details: &ConnectionDetails<'_>) -> Result<Box<dyn Transport>, ureq::Error> {
        let avoid = |address| self.resolver.avoid(details.uri, address);
        let (sockets, buffers) = (&self.sockets, &self.buffers);
        let tcp = tcp::open(&details.addrs, avoid, details.uri, sockets, buffers)?;
        Ok(Box::new(tcp))
    }

    /// A tunnel through the proxy, if there is one.
    fn tunnel(
        &self,
        details: &ConnectionDetails<'_>,
    ) -> Result<Option<Box<dyn Transport>>, ureq::Error> {
        if details.config.proxy().is_none() {
            return Ok(None);
        }
        context::with(|context| context.is_tunnelling = true);
        let made = ConnectProxyConnector::default().connect(details, None::<()>)?;
        context::with(|context| context.is_tunnelling = false);
        let Some(Either::B(mut tunnel)) = made else {
            return Ok(None);
        };
        // It would pass for what the server says, to a request it has not seen. What comes a moment
        // later cannot be told from that, but by TLS.
        if !tunnel.buffers().input().is_empty() || !tunnel.is_open() {
            let why = "the proxy sent more than its answer to CONNECT, or closed the connection";
            return Err(fail(Failure::new(TransportErrorKind::Proxy, why)));
        }
        Ok(Some(tunnel))
    }
}

impl fmt::Debug for SharedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConnector").finish_non_exhaustive()
    }
}
