//! The real transport, carried by ureq.

use std::sync::Arc;
use std::time::Instant;

use http::Uri;
use ureq::Agent;

use super::abort::Sockets;
use super::agents::{Agents, SharedConnector};
use super::context::{self, CallContext, fail};
use super::error::{is_https, port};
use super::proxy::{Proxies, ProxySetting};
use super::resolver::CachingResolver;
use super::tls::TlsConnector;
use super::{
    HttpConfig, HttpRequest, HttpResponse, Transport, TransportError, TransportErrorKind,
    TransportStage, request, response,
};
use crate::error;
use crate::opaque::opaque;

/// The real [`Transport`]: HTTP/1.1 over TCP and TLS, blocking, carried by
/// [ureq](https://docs.rs/ureq).
///
/// Nothing is retried, redirected or decompressed here: one call is one request on the wire, byte
/// for byte, and any status is an answer. An error answer (any status but 2xx) whose body breaks
/// off is still an answer, with what came of the body.
///
/// Connections are kept and reused. Each is looked at before it carries another request, which
/// costs a system call (under half a microsecond): if the server has said anything on it since its
/// last answer, or closed it, it is not used again, and neither is one that has waited for 8 s. No
/// thread looks after them: connections that no request comes by, for there are fewer requests than
/// there were or none, are held until the transport is dropped, one for each request that was under
/// way at once at most.
///
/// To the `log` crate goes what ureq says: at `debug` which server is asked and which connection
/// serves, at `trace` (from `ureq_proto`) what frames an answer, and its body. Of a request only
/// what frames it: no key, no path, no query; of neither any other header.
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
    direct: Agents,
    http_proxy: Option<Route>,
    https_proxy: Option<Route>,
}

/// The agents that go through a proxy, or what is wrong with the proxy's setting.
type Route = Result<Agents, String>;

impl HttpTransport {
    /// A transport with no connection yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the CA file cannot be read or holds no
    /// certificate, or if there is one and the crate was built without `rustls`.
    pub fn new(config: HttpConfig) -> error::Result<Self> {
        let connector = SharedConnector {
            sockets: Arc::default(),
            resolver: CachingResolver::system(),
            tls: Arc::new(TlsConnector::new(&config)?),
            login: Arc::default(),
        };
        let agents = |proxy, name| Agents::new(connector.clone(), proxy, name, config.workers);
        let route = |setting: &ProxySetting| {
            let (proxy, name) = setting.parse()?;
            Ok(agents(Some(proxy), name))
        };
        let proxies = Proxies::new(&config.proxy, |name| std::env::var(name).ok());
        Ok(Self {
            direct: agents(None, String::new()),
            http_proxy: proxies.http.as_ref().map(route),
            https_proxy: proxies.https.as_ref().map(route),
            proxies,
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
        let uri = request::parse(url).map_err(error::config)?;
        self.route(&uri)
            .map_err(|why| error::config(why.to_owned()))?;
        Ok(())
    }

    /// What can be done before a connection is looked for; in a frame of its own, for later ones
    /// are deep.
    #[inline(never)]
    fn prepare(
        &self,
        request: &HttpRequest<'_>,
    ) -> Result<(Box<CallContext>, &Agents), TransportError> {
        use TransportErrorKind::{Aborted, Proxy, Timeout, Unsendable};
        let stage = TransportStage::NothingSent;
        let uri = request::parse(request.url);
        let uri = uri.map_err(|why| TransportError::new(Unsendable, stage, why))?;
        let refuse = |kind, why: &str| TransportError::new(kind, stage, why).at(stage, &uri, "");
        if request.cancel.is_aborted() {
            return Err(refuse(Aborted, "aborted before anything was sent"));
        }
        if Instant::now() >= request.deadline {
            return Err(refuse(Timeout, "no time was left to send anything"));
        }
        let agents = self.route(&uri).map_err(|why| refuse(Proxy, why))?;
        request.cancel.on_abort(&self.sockets);
        Ok((CallContext::new(request, uri, &self.config), agents))
    }

    /// The agents that reach `uri`, through its proxy if it has one.
    fn route(&self, uri: &Uri) -> Result<&Agents, &str> {
        let proxy = if is_https(uri) {
            &self.https_proxy
        } else {
            &self.http_proxy
        };
        let host = uri.host().unwrap_or_default();
        match proxy {
            Some(_) if self.proxies.is_direct(host, port(uri)) => Ok(&self.direct),
            Some(Ok(agents)) => Ok(agents),
            Some(Err(why)) => Err(why),
            None => Ok(&self.direct),
        }
    }
}

/// Has `agent` carry `request`, and reads the answer.
#[inline(never)]
fn carry(
    agent: &Agent,
    request: &HttpRequest<'_>,
    answer: &mut HttpResponse,
) -> Result<(), ureq::Error> {
    let shown = context::with(|context| request::shown(request, &context.uri));
    let shown = shown.map_err(|why| fail(TransportErrorKind::Unsendable, why))?;
    response::receive(agent.run(*shown)?, request, answer)
}

impl Transport for HttpTransport {
    fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        let (context, agents) = self.prepare(request)?;
        let mut answer = Box::new(HttpResponse::default());
        let carry = |agent: &Agent| carry(agent, request, &mut answer);
        match context::during(context, || agents.with(carry)) {
            (Ok(()), _) => Ok(*answer),
            (Err(error), context) => Err(context.explain(error, &agents.through, answer)),
        }
    }
}

opaque!(HttpTransport, "HttpTransport", |it| config: it.config);
