//! The real transport: HTTP/1.1, blocking, on connections that are kept.
//!
//! Nothing surprises: no redirects, no status as an error, no retries, no compression.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq_proto::client::Call as Protocol;
use ureq_proto::client::state::SendRequest;
use ureq_proto::http::Uri;

use super::connect::Connector;
use super::exchange::Exchange;
use super::fault::{Failure, error_at, is_https, port};
use super::idle::Idle;
use super::link::Link;
use super::proxy::{Proxies, ProxySetting};
use super::request::{self, parse};
use super::resolver::CachingResolver;
use super::tls::{self, TlsConnector};
use super::tunnel::Proxy;
use super::{
    HttpConfig, HttpRequest, HttpResponse, Transport, TransportError, TransportErrorKind,
    TransportStage, answer,
};
use crate::error::{Error, ErrorKind, Result};

/// Idle connections kept for a server, however few workers there are: others may use a client too,
/// from threads of their own.
const IDLE: usize = 2048;

/// The real [`Transport`]: HTTP/1.1 over TCP and TLS, blocking.
///
/// Nothing is retried, redirected or decompressed here: one call is one request on the wire, byte
/// for byte, and any status is an answer. An error answer (any status but 2xx) whose body breaks off
/// is still an answer, with what came of the body.
///
/// Connections are kept and reused. Each is looked at before it carries another request, which costs
/// a system call (under half a microsecond): if the server has said anything on it since its last
/// answer, or closed it, it is not used again. One that has waited for 8 s is closed when the next one
/// comes to wait, whichever server's that is. No thread looks after them: a transport that nobody uses
/// holds what it held, one for each request that was under way at once, until it is dropped.
///
/// To the [`log`] goes, at `trace` and from `ureq_proto`, what frames the messages, and the bodies of
/// answers; no key, no path, no query and no other header.
///
/// After a `fork` both processes would talk over the same connections, and threads are in one of them
/// only: make a new transport in the child.
///
/// The deadline of a [`HttpRequest`] bounds everything but a connect under way, which ends with the connect
/// timeout; an abort likewise.
pub struct HttpTransport {
    connect_timeout: Duration,
    idle_timeout: Option<Duration>,
    proxies: Proxies,
    http_proxy: Route,
    https_proxy: Route,
    connector: Connector,
    idle: Idle,
}

/// Through whom, or what is wrong with the setting that says so.
type Route = std::result::Result<Option<Proxy>, String>;

impl HttpTransport {
    /// A transport with no connection yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the CA file cannot be read or holds no certificate, or if there is
    /// one and the crate was built without `rustls`.
    pub fn new(config: HttpConfig) -> Result<Self> {
        let tls = TlsConnector::new(config.ca_file.as_deref())?;
        let proxies = Proxies::new(config.proxy, |name| std::env::var(name).ok());
        let route = |setting: &Option<ProxySetting>| setting.as_ref().map(Proxy::new).transpose();
        Ok(Self {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            http_proxy: route(&proxies.http),
            https_proxy: route(&proxies.https),
            proxies,
            connector: Connector {
                sockets: Arc::default(),
                buffers: Arc::default(),
                resolver: CachingResolver::system(),
                tls,
            },
            idle: Idle::new(config.workers.max(IDLE)),
        })
    }

    /// Whether this transport can be asked for `url`; finds out what can be known without sending.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is not an absolute `http` or `https` URL or holds a user name or
    /// password, if it is `https` and the crate was built without `rustls`, or if its proxy's URL is
    /// unusable.
    pub fn check_url(&self, url: &str) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Config, why.to_owned()));
        let uri = match parse(url) {
            Ok(uri) => uri,
            Err(why) => return refuse(why),
        };
        if is_https(&uri) && !tls::AVAILABLE {
            return refuse("https needs TLS: build with the feature `rustls`, or use an http URL");
        }
        match self.proxy(&uri) {
            Ok(_) => Ok(()),
            Err(why) => refuse(why),
        }
    }

    /// The proxy that `uri` is reached through.
    fn proxy(&self, uri: &Uri) -> std::result::Result<Option<&Proxy>, &str> {
        let route = if is_https(uri) {
            &self.https_proxy
        } else {
            &self.http_proxy
        };
        let host = uri.host().unwrap_or_default();
        match route {
            Ok(None) => Ok(None),
            _ if self.proxies.is_direct(host, port(uri)) => Ok(None),
            Ok(Some(proxy)) => Ok(Some(proxy)),
            Err(why) => Err(why),
        }
    }

    /// One request and its whole answer.
    fn exchange(
        &self,
        request: Box<Protocol<SendRequest>>,
        call: &HttpRequest<'_>,
        uri: &Uri,
        proxy: Option<&Proxy>,
        exchange: &mut Exchange<'_>,
    ) -> std::result::Result<HttpResponse, Failure> {
        let mut link = self.link(uri, proxy, exchange)?;
        let buffers = &self.connector.buffers;
        let reply = request::send(request, call, uri, &mut *link, exchange, buffers)?;
        let mut answer = HttpResponse::default();
        let keep = answer::receive(reply, call, &mut answer, &mut *link, exchange)?;
        if keep && !exchange.deaf && link.rest() && link.input().is_empty() {
            self.idle.put(uri, link);
        }
        Ok(answer)
    }

    /// A connection to the server of `uri`, used before or new.
    fn link(
        &self,
        uri: &Uri,
        proxy: Option<&Proxy>,
        exchange: &mut Exchange<'_>,
    ) -> std::result::Result<Box<dyn Link>, Failure> {
        let Some(mut link) = self.idle.take(uri) else {
            return exchange.connecting(|exchange| self.connector.connect(uri, proxy, exchange));
        };
        exchange.on_reused = true;
        if link.work_for(exchange.cancel) {
            Ok(link)
        } else {
            Err(Failure::aborted())
        }
    }
}

/// `failure` in the terms of the seam.
#[inline(never)]
fn explain(failure: Failure, exchange: &Exchange<'_>, uri: &Uri) -> TransportError {
    // An abort makes anything fail in any way.
    let failure = if exchange.cancel.is_aborted() {
        Failure::aborted()
    } else {
        failure
    };
    failure.at(exchange.stage, uri)
}

impl Transport for HttpTransport {
    fn send(&self, call: &HttpRequest<'_>) -> std::result::Result<HttpResponse, TransportError> {
        let unsendable = |why| {
            TransportError::new(
                TransportErrorKind::Unsendable,
                TransportStage::NothingSent,
                why,
            )
        };
        let uri = parse(call.url).map_err(unsendable)?;
        let request = request::request(call, &uri).map_err(unsendable)?;
        let refuse = |fault, why| Err(error_at(fault, TransportStage::NothingSent, why, &uri));
        if call.cancel.is_aborted() {
            return refuse(
                TransportErrorKind::Aborted,
                "aborted before anything was sent",
            );
        }
        if Instant::now() >= call.deadline {
            return refuse(
                TransportErrorKind::Timeout,
                "no time was left to send anything",
            );
        }
        let proxy = self.proxy(&uri).map_err(|why| {
            TransportError::new(TransportErrorKind::Proxy, TransportStage::NothingSent, why)
        })?;
        self.connector.sockets.watch(call.cancel);

        let mut exchange = Exchange::new(call, self.connect_timeout, self.idle_timeout);
        self.exchange(request, call, &uri, proxy, &mut exchange)
            .map_err(|failure| explain(failure, &exchange, &uri))
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
