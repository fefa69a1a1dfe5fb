//! The real transport, carried by ureq.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use ureq::Agent;

use super::agents::{Agents, SharedConnector};
use super::context::{self, CallContext};
use super::error::{is_https, port};
use super::proxy::{Proxies, ProxySetting};
use super::resolver::CachingResolver;
use super::tls::{self, TlsConnector};
use super::{
    HttpConfig, HttpRequest, HttpResponse, Transport, TransportError, TransportErrorKind,
    TransportStage, request, response,
};
use crate::error::{Error, ErrorKind, Result};

/// The real [`Transport`]: HTTP/1.1 over TCP and TLS, blocking, carried by [ureq](https://docs.rs/ureq).
///
/// Nothing is retried, redirected or decompressed here: one call is one request on the wire, byte
/// for byte, and any status is an answer. An error answer (any status but 2xx) whose body breaks off
/// is still an answer, with what came of the body.
///
/// Connections are kept and reused. Each is looked at before it carries another request, which costs
/// a system call (under half a microsecond): if the server has said anything on it since its last
/// answer, or closed it, it is not used again, and neither is one that has waited for 8 s. No thread
/// looks after them: connections that no request comes by, for there are fewer requests than there
/// were or none, are held until the transport is dropped, one for each request that was under way at
/// once at most.
///
/// To the `log` crate goes what ureq says: at `debug` which server is asked and which connection serves, at
/// `trace` (from `ureq_proto`) what frames an answer, and its body. Of a request only what frames it:
/// no key, no path, no query; of neither any other header.
///
/// After a `fork` both processes would talk over the same connections, and threads are in one of them
/// only: make a new transport in the child.
///
/// The deadline of a [`HttpRequest`] bounds everything but a connect under way, which ends with the
/// connect timeout; an abort likewise.
pub struct HttpTransport {
    connect_timeout: Duration,
    idle_timeout: Option<Duration>,
    connector: SharedConnector,
    proxies: Proxies,
    direct: Agents,
    http_proxy: Option<Route>,
    https_proxy: Option<Route>,
}

/// Through whom, or what is wrong with the setting that says so.
type Route = std::result::Result<Agents, String>;

impl HttpTransport {
    /// A transport with no connection yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the CA file cannot be read or holds no certificate, or if there is
    /// one and the crate was built without `rustls`.
    pub fn new(config: HttpConfig) -> Result<Self> {
        let connector = SharedConnector {
            sockets: Arc::default(),
            resolver: CachingResolver::system(),
            tls: Arc::new(TlsConnector::new(&config)?),
            login: Arc::default(),
        };
        let proxies = Proxies::new(config.proxy, |name| std::env::var(name).ok());
        let agents = |proxy, through| Agents::new(&connector, proxy, through, config.workers);
        let route = |setting: &ProxySetting| {
            let (proxy, through) = setting.parse()?;
            Ok(agents(Some(proxy), through))
        };
        Ok(Self {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            direct: agents(None, String::new()),
            http_proxy: proxies.http.as_ref().map(route),
            https_proxy: proxies.https.as_ref().map(route),
            proxies,
            connector,
        })
    }

    /// Whether this transport can be asked for `url`; finds out what can be known without sending.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is not an absolute `http` or `https` URL or holds a user name or
    /// password, if it is `https` and the crate was built without `rustls`, or if its proxy's URL is
    /// unusable.
    pub fn check_url(&self, url: &str) -> Result<()> {
        let refuse = |why: &str| Error::new(ErrorKind::Config, why.to_owned());
        let uri = request::parse(url).map_err(refuse)?;
        if is_https(&uri) && !tls::AVAILABLE {
            let why = "https needs TLS: build with the feature `rustls`, or use an http URL";
            return Err(refuse(why));
        }
        self.route(&uri).map(drop).map_err(refuse)
    }

    /// What can be done before anything is sent; in a frame of its own, for later ones are deep.
    #[inline(never)]
    fn prepare<'a>(
        &'a self,
        request: &HttpRequest<'a>,
    ) -> std::result::Result<Call<'a>, TransportError> {
        use TransportErrorKind::{Aborted, Proxy, Timeout, Unsendable};
        let stage = TransportStage::NothingSent;
        let unsendable = |why| TransportError::new(Unsendable, stage, why);
        let uri = request::parse(request.url).map_err(unsendable)?;
        let shown = request::shown(request, &uri).map_err(unsendable)?;
        let refuse = |kind, why: &str| TransportError::new(kind, stage, why).at(stage, &uri, "");
        if request.cancel.is_aborted() {
            return Err(refuse(Aborted, "aborted before anything was sent"));
        }
        if Instant::now() >= request.deadline {
            return Err(refuse(Timeout, "no time was left to send anything"));
        }
        let agents = self.route(&uri).map_err(|why| refuse(Proxy, why))?;
        request.cancel.on_abort(&self.connector.sockets);
        let head = request::head(request, &uri);
        Ok(Call {
            context: CallContext::new(request, head, self.connect_timeout, self.idle_timeout),
            uri: Box::new(uri),
            shown,
            agents,
        })
    }

    /// The agents that reach `uri`, through its proxy if it has one.
    fn route(&self, uri: &Uri) -> std::result::Result<&Agents, &str> {
        let proxy = if is_https(uri) {
            &self.https_proxy
        } else {
            &self.http_proxy
        };
        let host = uri.host().unwrap_or_default();
        match proxy {
            None => Ok(&self.direct),
            Some(_) if self.proxies.is_direct(host, port(uri)) => Ok(&self.direct),
            Some(Ok(agents)) => Ok(agents),
            Some(Err(why)) => Err(why),
        }
    }
}

/// A request that is ready to be sent.
struct Call<'a> {
    uri: Box<Uri>,
    /// What ureq sees of it.
    shown: Box<http::Request<&'a [u8]>>,
    context: Box<CallContext>,
    agents: &'a Agents,
}

/// Has `agent` carry `request`, of which it is shown `shown`, and reads the answer.
#[inline(never)]
fn carry(
    agent: &Agent,
    shown: Box<http::Request<&[u8]>>,
    request: &HttpRequest<'_>,
    answer: &mut HttpResponse,
) -> std::result::Result<(), ureq::Error> {
    response::receive(agent.run(*shown)?, request, answer)
}

/// What it means that a call of `context` to `uri` ends with `error`.
#[inline(never)]
fn explain(
    error: ureq::Error,
    context: &mut CallContext,
    uri: &Uri,
    through: &str,
) -> TransportError {
    let (stage, is_connecting) = (context.stage, context.is_connecting());
    let mut failure = if context.cancel.is_aborted() {
        // An abort makes anything fail in any way.
        TransportError::new(TransportErrorKind::Aborted, stage, "aborted")
    } else {
        let of_ureq = || TransportError::of_ureq(error, stage, is_connecting);
        context.failure.take().unwrap_or_else(of_ureq)
    };
    // Through a proxy, no address but its own is looked up here.
    let is_lost = failure.kind == TransportErrorKind::Resolve && !through.is_empty();
    if context.is_at_proxy() || is_lost {
        failure.blame_proxy();
    }
    failure.at(stage, uri, through)
}

impl Transport for HttpTransport {
    fn send(&self, request: &HttpRequest<'_>) -> std::result::Result<HttpResponse, TransportError> {
        let Call {
            uri,
            shown,
            context,
            agents,
        } = self.prepare(request)?;
        let mut answer = Box::new(HttpResponse::default());
        let carry = |agent: &Agent| carry(agent, shown, request, &mut answer);
        let (carried, mut context) = context::during(context, || agents.with(carry));
        match carried {
            Ok(()) => Ok(*answer),
            Err(error) => Err(explain(error, &mut context, &uri, &agents.through)),
        }
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}
