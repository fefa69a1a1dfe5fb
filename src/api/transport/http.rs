//! The real transport: ureq, configured away from its defaults.
//!
//! ureq serves one exchange well, and thousands at once badly: its pool of connections is a mutex
//! with work proportional to what it holds. So there is one agent to every 32 workers, all over one
//! stack of connectors and one resolver, and everything that would surprise is switched off: no
//! redirects, no status as an error, no retries, no compression, no limit of a phase.

use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use ureq::{Agent, Proxy, ProxyProtocol};

use super::buffers::BufferPool;
use super::exchange::{Running, current};
use super::fault::{Failure, error_at, is_https, port};
use super::layers::Layers;
use super::proxy::{Proxies, ProxySetting};
use super::resolver::CachingResolver;
use super::sockets::Sockets;
use super::tcp::TcpConnector;
use super::tls::Trust;
use super::{Answer, Call, Fault, HttpConfig, Stage, Transport, TransportError, tls};
use crate::error::{Error, ErrorKind, Result};

/// Workers that share an agent: few enough that its lists stay short.
const LANES: usize = 32;
/// Agents at least provided for; an empty place costs nothing worth saving.
const AGENTS: usize = 64;
/// Idle connections an agent keeps. More than its workers, for those who use a client from threads
/// of their own, which all count as the first worker.
const IDLE: usize = 256;
/// Servers keep a connection for 5 s or more. One that was idle for a second is looked at before it
/// is used, so this only bounds how many are held for nothing.
const IDLE_AGE: Duration = Duration::from_secs(8);
/// What is kept of an error's body.
const ERROR_BODY: u64 = 64 * 1024;
/// How much more of it is read, and for how long, to keep the connection.
const DRAINED: u64 = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// Memory reserved for a body on the server's word alone.
const TRUSTED_LENGTH: u64 = 256 * 1024;

/// The real [`Transport`]: HTTP/1.1 over TCP and TLS, blocking.
///
/// Connections are kept and reused. Nothing is retried, redirected or decompressed here: one call
/// is one request on the wire, byte for byte, and any status is an answer. An error answer (any
/// status but 2xx) whose body breaks off is still an answer, with what came of the body.
///
/// The deadline of a [`Call`] bounds everything but a connect under way, which ends with the connect
/// timeout; an abort likewise.
pub struct HttpTransport {
    connect_timeout: Duration,
    idle_timeout: Option<Duration>,
    proxies: Proxies,
    direct: Route,
    http_proxy: Route,
    https_proxy: Route,
    sockets: Arc<Sockets>,
    layers: Layers,
    resolver: CachingResolver,
}

impl HttpTransport {
    /// A transport with no connection yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the CA file cannot be read or holds no certificate, or if there is
    /// one and the crate was built without `rustls`.
    pub fn new(config: HttpConfig) -> Result<Self> {
        let trust = Trust::new(config.ca_file.as_deref())?;
        let proxies = Proxies::new(config.proxy, |name| std::env::var(name).ok());
        let agents = config.workers.div_ceil(LANES).max(AGENTS);
        let sockets = Arc::new(Sockets::default());
        let tcp = TcpConnector {
            sockets: Arc::clone(&sockets),
            buffers: Arc::new(BufferPool::default()),
        };
        Ok(Self {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            http_proxy: Route::through(proxies.http.as_ref(), agents),
            https_proxy: Route::through(proxies.https.as_ref(), agents),
            direct: Route::through(None, agents),
            proxies,
            sockets,
            layers: Layers::new(tcp, trust),
            resolver: CachingResolver::system(),
        })
    }

    /// Whether this transport can be asked for `url`; finds out what can be known without sending.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it is not an absolute `http` or `https` URL, if it is `https` and
    /// the crate was built without `rustls`, or if its proxy's URL is unusable.
    pub fn check_url(&self, url: &str) -> Result<()> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Config, why.to_owned()));
        let Some(uri) = parse(url) else {
            return refuse("not an absolute http:// or https:// URL");
        };
        if is_https(&uri) && !tls::AVAILABLE {
            return refuse("https needs TLS: build with the feature `rustls`, or use an http URL");
        }
        match &self.route(&uri).config {
            Ok(_) => Ok(()),
            Err(why) => refuse(why),
        }
    }

    fn route(&self, uri: &Uri) -> &Route {
        if self.proxies.is_empty() {
            return &self.direct;
        }
        let (setting, route) = if is_https(uri) {
            (&self.proxies.https, &self.https_proxy)
        } else {
            (&self.proxies.http, &self.http_proxy)
        };
        let host = uri.host().unwrap_or_default();
        if setting.is_none() || self.proxies.is_direct(host, port(uri)) {
            return &self.direct;
        }
        route
    }

    fn agent(&self, uri: &Uri, lane: usize) -> std::result::Result<&Agent, TransportError> {
        let route = self.route(uri);
        let config = route
            .config
            .as_ref()
            .map_err(|why| TransportError::new(Fault::Proxy, Stage::NothingSent, why.clone()))?;
        Ok(
            route.agents[lane / LANES % route.agents.len()].get_or_init(|| {
                let (layers, resolver) = (self.layers.clone(), self.resolver.clone());
                Agent::with_parts(config.clone(), layers, resolver)
            }),
        )
    }
}

impl Transport for HttpTransport {
    fn send(&self, call: &Call<'_>) -> std::result::Result<Answer, TransportError> {
        let unsendable = |why| TransportError::new(Fault::Unsendable, Stage::NothingSent, why);
        let uri = parse(call.url)
            .ok_or_else(|| unsendable("the URL is not an absolute http:// or https:// one"))?;
        let request = request(call, &uri).map_err(unsendable)?;
        let refuse = |fault, why| Err(error_at(fault, Stage::NothingSent, why, &uri));
        if call.cancel.is_aborted() {
            return refuse(Fault::Aborted, "aborted before anything was sent");
        }
        if Instant::now() >= call.deadline {
            return refuse(Fault::Timeout, "no time was left to send anything");
        }
        let agent = self.agent(&uri, call.lane)?;
        self.sockets.watch(call.cancel);

        let running = Running::begin(call, self.connect_timeout, self.idle_timeout);
        let outcome = exchange(agent, request, call, is_https(&uri));
        let exchange = running.finish();
        outcome.map_err(|failure| {
            let error = failure.explain(exchange, &uri);
            if error.stage == Stage::SentOnReused && error.fault == Fault::Broken {
                self.sockets.distrust.store(true, Ordering::Relaxed);
            }
            error
        })
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

/// The agents that reach servers the same way.
struct Route {
    config: std::result::Result<Config, String>,
    agents: Box<[OnceLock<Agent>]>,
}

impl Route {
    fn through(proxy: Option<&ProxySetting>, agents: usize) -> Self {
        let config = match proxy {
            None => Ok(configure(None)),
            Some(setting) => usable(setting).map(|proxy| configure(Some(proxy))),
        };
        Self {
            config,
            agents: (0..agents).map(|_| OnceLock::new()).collect(),
        }
    }
}

fn configure(proxy: Option<Proxy>) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_idle_connections(IDLE)
        .max_idle_connections_per_host(IDLE)
        .max_idle_age(IDLE_AGE)
        .accept_encoding("")
        .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .proxy(proxy)
        .build()
}

/// The proxy, or what is wrong: the setting is named and not shown, for it may hold a password.
fn usable(setting: &ProxySetting) -> std::result::Result<Proxy, String> {
    let proxy = Proxy::new(&setting.url).ok();
    let spoken = proxy.filter(|proxy| match proxy.protocol() {
        ProxyProtocol::Http => true,
        ProxyProtocol::Https => tls::AVAILABLE,
        _ => false,
    });
    spoken.ok_or_else(|| {
        format!(
            "{} is not a usable proxy: give an http:// or https:// URL",
            setting.name
        )
    })
}

fn parse(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let spoken = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority()?.as_str();
    let named = uri.host().is_some_and(|host| {
        // A port that is not a number below 65,536 is dropped silently by the parser.
        !host.is_empty() && (uri.port_u16().is_some() || authority.ends_with(host))
    });
    (spoken && named).then_some(uri)
}

fn request(call: &Call<'_>, uri: &Uri) -> std::result::Result<Request<()>, &'static str> {
    let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| "not a method of HTTP")?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    for (name, value) in call.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a header's name is bad")?;
        // How long the body is, is said by whoever sends it.
        if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING {
            return Err("the body's length is not for the caller's headers to say");
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| "a header's value is bad")?;
        value.set_sensitive(true);
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

/// One request and its whole answer, on this thread's exchange.
fn exchange(
    agent: &Agent,
    request: Request<()>,
    call: &Call<'_>,
    secure: bool,
) -> std::result::Result<Answer, Failure> {
    let has_body = !call.body.is_empty()
        || matches!(
            *request.method(),
            Method::POST | Method::PUT | Method::PATCH
        );
    let response = if has_body {
        agent.run(request.map(|()| call.body))
    } else {
        agent.run(request)
    };
    let (head, body) = response.map_err(Failure::Head)?.into_parts();
    let length = body.content_length();
    let is_framed = length.is_some() || head.headers.contains_key(header::TRANSFER_ENCODING);
    let mut reader = body.into_reader();
    let body = if head.status.is_success() {
        let body = read_whole(&mut reader, length, call.max_body)?;
        // TLS says when the stream is over; without that, anybody on the way may have cut it.
        let cut = current(|exchange| exchange.peer_closed) == Some(true);
        if secure && cut && !is_framed {
            return Err(Failure::NoFarewell);
        }
        body
    } else {
        read_start(&mut reader)?
    };
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    Ok(Answer {
        status: head.status.as_u16(),
        headers,
        body,
    })
}

fn read_whole(
    reader: &mut impl Read,
    length: Option<u64>,
    most: usize,
) -> std::result::Result<Vec<u8>, Failure> {
    let most = most as u64;
    if length.is_some_and(|length| length > most) {
        return Err(Failure::TooLarge(most));
    }
    let reserved = length.unwrap_or(0).min(TRUSTED_LENGTH);
    let mut body = Vec::with_capacity(usize::try_from(reserved).unwrap_or(0));
    // One more than allowed, to tell a body that is just as long from one that is longer.
    let mut allowed = reader.take(most.saturating_add(1));
    allowed.read_to_end(&mut body).map_err(Failure::Body)?;
    if body.len() as u64 > most {
        return Err(Failure::TooLarge(most));
    }
    Ok(body)
}

/// The start of an error answer's body. Its status has been read, so whatever cuts the body short,
/// but an abort, takes nothing away from what is known.
fn read_start(reader: &mut impl Read) -> std::result::Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = reader.take(ERROR_BODY).read_to_end(&mut body);
    let aborted = current(|exchange| exchange.cancel.is_aborted()) == Some(true);
    match read {
        Err(error) if aborted => return Err(Failure::Body(error)),
        Ok(_) if body.len() as u64 == ERROR_BODY => {
            current(|exchange| exchange.hurry(DRAIN_TIME));
            // A connection that cannot be drained is not used again; nothing else depends on it.
            let _ = io::copy(&mut reader.take(DRAINED), &mut io::sink());
        }
        _ => {}
    }
    Ok(body)
}
