//! The real transport, carried by ureq.
//!
//! An agent of ureq's keeps connections behind one lock, and does work under it in proportion to
//! their number: 75 µs a request with 1,000 of them. So a transport has many, each for a few
//! requests at once ([`REQUESTS_PER_AGENT`]), all over the same connector.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Request;
use ureq::Agent;

use super::abort::Sockets;
use super::connector::SharedConnector;
use super::context::{self, CallContext};
use super::error::fail;
use super::proxy::{NamedProxy, Proxies};
use super::request::USER_AGENT;
use super::{
    HttpConfig, HttpRequest, HttpResponse, ProxyPolicy, Transport, TransportError,
    TransportErrorKind, TransportStage, request, response,
};
use crate::error;
use crate::opaque::opaque;

/// Requests at once through an agent.
const REQUESTS_PER_AGENT: usize = 32;
/// Agents at least, however few workers there are: others may use a client too, from threads of
/// their own. When all are full, the first takes more.
const MIN_AGENTS: usize = 64;

/// The real [`Transport`]: HTTP/1.1 over TCP and TLS, blocking, carried by
/// [ureq](https://docs.rs/ureq).
///
/// Nothing is retried or redirected here: one call is one request on the wire, byte for byte, and
/// any status is an answer. An error answer (any status but 2xx) whose body breaks off is still an
/// answer, with what came of the body.
///
/// No compression is asked for. A body that comes compressed all the same, by `gzip` or `deflate`,
/// is decompressed, unless the call has an `accept-encoding` of its own.
///
/// Connections are kept and reused. Each is looked at before it carries another request, which
/// costs three short system calls. It is not used again if the server has closed it or has sent
/// anything since its last answer, or if it has been idle for 15 s. No thread closes idle
/// connections. Those that no request uses stay open until the transport is dropped: at most as
/// many as there were requests in flight at once.
///
/// To the `log` crate goes what ureq says: at `debug` which server is asked and which connection
/// serves, at `trace` (from `ureq_proto`) all of an answer. Of a request only what frames it: no
/// key, no path, no query, no other header.
///
/// After a `fork` both processes would talk over the same connections, and threads are in one of
/// them only: make a new transport in the child.
///
/// The deadline of a [`HttpRequest`] bounds everything but a connect under way, which ends with the
/// connect timeout; an abort likewise.
pub struct HttpTransport {
    config: HttpConfig,
    sockets: Arc<Sockets>,
    proxies: Proxies,
    /// Each with the number of requests that it has under way.
    agents: Box<[(Agent, AtomicUsize)]>,
}

impl HttpTransport {
    /// A transport with no connection yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the CA file cannot be read or holds no
    /// certificate, or if there is one and the crate was built without `rustls`.
    pub fn new(config: HttpConfig) -> error::Result<Self> {
        let connector = SharedConnector::new(&config)?;
        // What is not said here, heads and limits of time, is said below ureq.
        let settings = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .allow_non_standard_methods(true)
            // No more than requests at once, in any case.
            .max_idle_connections(usize::MAX)
            .max_idle_connections_per_host(usize::MAX)
            // For proxies.
            .user_agent(USER_AGENT)
            .build();
        let agent = |_| {
            let resolver = connector.resolver.clone();
            let agent = Agent::with_parts(settings.clone(), connector.clone(), resolver);
            (agent, AtomicUsize::new(0))
        };
        let count = config.workers.div_ceil(REQUESTS_PER_AGENT);
        Ok(Self {
            agents: (0..count.max(MIN_AGENTS)).map(agent).collect(),
            proxies: Proxies::new(&config.proxy, |name| std::env::var(name).ok()),
            sockets: connector.sockets,
            config,
        })
    }

    /// Whether this transport can be asked for `url`; finds out what can be known without sending.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if it is not an absolute `http` or `https`
    /// URL or holds a user name or password, if it is `https` and the crate was built without
    /// `rustls`, or if its proxy's URL is unusable.
    pub fn check_url(&self, url: &str) -> error::Result<()> {
        let unusable = |why| error::config(why).with_settings(&["base_url"]);
        let uri = request::parse(url).map_err(unusable)?;
        let proxy = self.proxies.of(&uri);
        proxy.map(drop).map_err(|why| {
            let is_set = matches!(self.config.proxy, ProxyPolicy::Url(_));
            // The message names the variable.
            let settings: &[_] = if is_set { &["proxy"] } else { &[] };
            error::config(why.to_owned()).with_settings(settings)
        })
    }

    /// In a frame of its own, for later ones are deep.
    #[inline(never)]
    fn begin(&self, request: &HttpRequest<'_>) -> Result<Box<CallContext>, TransportError> {
        let (kind, stage) = (TransportErrorKind::Unsendable, TransportStage::NothingSent);
        let uri = request::parse(request.url);
        let uri = uri.map_err(|why| TransportError::new(kind, stage, why))?;
        request.cancel.on_abort(&self.sockets);
        Ok(CallContext::new(request, uri, &self.config))
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        let context = self.begin(request)?;
        let proxy = self.proxies.of(&context.uri);
        let mut answer = Box::new(HttpResponse::default());
        // The first that is free, so that connections are found again however many threads take
        // turns. Two that look at once may both think it free, which does no harm.
        let free = self
            .agents
            .iter()
            .find(|(_, busy)| busy.load(Ordering::Relaxed) < REQUESTS_PER_AGENT);
        let (agent, busy) = free.unwrap_or(&self.agents[0]);
        busy.fetch_add(1, Ordering::Relaxed);
        context::swap(Some(context));
        let carried = carry(agent, request, proxy, &mut answer);
        let context = context::swap(None).unwrap_or_else(CallContext::expired);
        busy.fetch_sub(1, Ordering::Relaxed);
        match carried {
            Ok(()) => Ok(*answer),
            Err(error) => Err(context.explain(error, proxy.ok().flatten(), answer)),
        }
    }
}

/// Has `agent` carry `request`, and reads the answer.
#[inline(never)]
fn carry(
    agent: &Agent,
    request: &HttpRequest<'_>,
    proxy: Result<Option<&NamedProxy>, &str>,
    answer: &mut HttpResponse,
) -> Result<(), ureq::Error> {
    use TransportErrorKind::{Proxy, Unsendable};
    context::time_left()?;
    let shown = context::with(|context| request::shown(request, &context.uri));
    let mut shown = shown.map_err(|why| fail(Unsendable, why))?;
    if let Some(proxy) = proxy.map_err(|why| fail(Proxy, why))? {
        shown = go_through(proxy, agent, *shown);
    }
    response::receive(agent.run(*shown)?, request, answer)
}

/// In a frame of its own: a request's settings are large.
#[inline(never)]
fn go_through<'a>(
    (proxy, _): &NamedProxy,
    agent: &Agent,
    request: Request<&'a [u8]>,
) -> Box<Request<&'a [u8]>> {
    let settings = agent.configure_request(request);
    Box::new(settings.proxy(Some(proxy.clone())).build())
}

opaque!(HttpTransport, "HttpTransport", |it| config: it.config);
