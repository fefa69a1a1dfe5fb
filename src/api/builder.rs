//! The settings of a client, and their checks.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::cost::TypicalOutput;
use super::endpoint::Endpoint;
use super::key::ApiKey;
use super::path::check_base_url;
use super::provider::Provider;
use super::transport::{HttpConfig, HttpTransport, ProxyPolicy, Transport};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::{Limiter, LimiterBuilder, Rate};
use crate::pool::Pool;
use crate::retry::Retry;
use crate::sync::Mutex;

/// Settings of a [`Client`]; see [`Client::builder`].
#[must_use = "a builder does nothing until `build`"]
#[derive(Clone)]
pub struct ClientBuilder {
    provider: Provider,
    base_url: Option<String>,
    key: Key,
    bearer: bool,
    headers: Vec<(String, String)>,
    limits: LimiterBuilder,
    limiter: Option<Limiter>,
    concurrency: usize,
    retry: Retry,
    timeout: Duration,
    connect_timeout: Duration,
    max_body: usize,
    ca_file: Option<PathBuf>,
    proxy: ProxyPolicy,
    insecure_http: bool,
    transport: Option<Arc<dyn Transport>>,
    failed: Option<Error>,
}

#[derive(Clone)]
enum Key {
    Missing,
    None,
    Given(ApiKey),
}

impl Client {
    /// Starts a client; a base URL and a key are all it needs.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// A client of `OpenAI`, or of what `OPENAI_BASE_URL` names, with the key in `OPENAI_API_KEY`
    /// and the default settings. [`ClientBuilder::from_env`] does it for other providers and
    /// settings.
    ///
    /// # Errors
    /// As [`ClientBuilder::build`].
    pub fn from_env() -> Result<Self> {
        Self::builder().from_env(Provider::OpenAi).build()
    }
}

impl ClientBuilder {
    fn new() -> Self {
        Self {
            provider: Provider::OpenAi,
            base_url: None,
            key: Key::Missing,
            bearer: false,
            headers: Vec::new(),
            limits: Limiter::builder(),
            limiter: None,
            concurrency: 20,
            retry: Retry::new(),
            timeout: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(10),
            max_body: 64 << 20,
            ca_file: None,
            proxy: ProxyPolicy::default(),
            insecure_http: false,
            transport: None,
            failed: None,
        }
    }

    /// Takes from the environment what the provider's own tools take from it: the key, the base
    /// URL, the organisation. What is set on the builder itself comes first.
    pub fn from_env(mut self, provider: Provider) -> Self {
        self.provider = provider;
        if self.base_url.is_none() {
            self.base_url = provider.base_url_from_env().map(|(_, url)| url);
        }
        if let Key::Missing = self.key {
            match provider.key_from_env() {
                Ok(Some((key, bearer))) => (self.key, self.bearer) = (Key::Given(key), bearer),
                Ok(None) => {}
                Err(error) => self.failed = Some(error),
            }
        }
        self.headers.extend(provider.headers(true));
        self
    }

    /// How the key is sent, and the base URL where none is given. Default:
    /// [`Provider::OpenAi`].
    pub fn provider(mut self, provider: Provider) -> Self {
        self.provider = provider;
        self.headers.extend(provider.headers(false));
        self
    }

    /// The root that paths are joined to, with the provider's path: `https://api.example.com/v1`.
    /// Default: the provider's own.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The API key. It is kept out of every message, log and `Debug`.
    pub fn api_key(mut self, key: impl AsRef<str>) -> Self {
        match ApiKey::new(key) {
            Ok(key) => self.key = Key::Given(key),
            Err(error) => self.failed = Some(error),
        }
        self
    }

    /// Sends no key, for servers that want none.
    pub fn no_auth(mut self) -> Self {
        self.key = Key::None;
        self
    }

    /// Adds a header to every request.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How many requests may be in flight at once. Default: 20.
    pub fn concurrency(mut self, places: usize) -> Self {
        self.concurrency = places;
        self
    }

    /// At most this many requests in a second. Default: no limit.
    pub fn requests_per_second(self, requests: u64) -> Self {
        self.request_rate(Rate::per_second(requests))
    }

    /// At most this many requests in a minute, spread over it. Default: no limit.
    pub fn requests_per_minute(self, requests: u64) -> Self {
        self.request_rate(Rate::per_minute(requests))
    }

    /// At most this rate of requests. Default: no limit.
    pub fn request_rate(mut self, rate: Rate) -> Self {
        self.limits = self.limits.requests(rate);
        self
    }

    /// How many requests may go at once after an idle spell. Default: one second's worth.
    pub fn burst(mut self, requests: u64) -> Self {
        self.limits = self.limits.burst(requests);
        self
    }

    /// At most this many model tokens in a minute, prompts and answers together. Each request is
    /// estimated from its text and `max_tokens`, and settled by the usage in its answer. Default:
    /// no limit.
    pub fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.limits = self.limits.tokens(Rate::per_minute(tokens));
        self
    }

    /// A limiter that others use too, in place of all limits above.
    pub fn limiter(mut self, limiter: Limiter) -> Self {
        self.limiter = Some(limiter);
        self
    }

    /// How failed requests are tried again. Default: [`Retry::new`].
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The longest one attempt may take, connecting included. Default: 600 s, as in the official
    /// clients: a long answer takes minutes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest a connect may take. Default: 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The largest answer to accept, in decoded bytes. Default: 64 MiB.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Trusts the certificates in this PEM file, and no others; a server's own self-signed
    /// certificate will do.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Through which proxy. Default: what the environment says (`HTTPS_PROXY`, `HTTP_PROXY`,
    /// `ALL_PROXY`, `NO_PROXY`); never for this machine itself.
    pub fn proxy(mut self, proxy: ProxyPolicy) -> Self {
        self.proxy = proxy;
        self
    }

    /// Allows plain `http` to another machine, where everyone on the way can read the key.
    pub fn allow_insecure_http(mut self) -> Self {
        self.insecure_http = true;
        self
    }

    /// The clock of the gate, the retries and the deadlines. Default: the machine's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.limits = self.limits.clock(clock);
        self
    }

    /// What carries the requests, in place of HTTP over TCP and TLS. The settings for connecting,
    /// certificates and proxies are then without effect.
    pub fn transport(mut self, transport: impl Transport + 'static) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Makes the client. Sends nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], with what to do about it, for a missing or unusable key; a base URL
    /// that is missing, has no scheme, holds a user name or points to another machine over plain
    /// `http`; `https` without a TLS feature; unusable limits or retries; an unusable CA file.
    pub fn build(self) -> Result<Client> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let base_url = self
            .base_url
            .as_deref()
            .or(self.provider.default_base_url())
            .ok_or_else(|| config("no base URL: this provider has one for each customer"))?;
        check_base_url(base_url, self.insecure_http)?;
        let key = match self.key {
            Key::Given(key) => Some(key),
            Key::None => None,
            Key::Missing => {
                return Err(config(format!(
                    "no API key: set {}, give one to api_key, or say no_auth for a server that \
                     wants none",
                    self.provider.key_variable()
                )));
            }
        };
        let pool = match self.limiter {
            Some(limiter) => Pool::from_limiter(limiter),
            None => Pool::from_limiter(self.limits.concurrency(self.concurrency).build()?),
        }?
        .with_retry(self.retry.checked()?);
        let transport = if let Some(transport) = self.transport {
            transport
        } else {
            let mut http = HttpConfig::new()
                .connect_timeout(self.connect_timeout)
                .proxy(self.proxy)
                .workers(pool.limiter().concurrency());
            if let Some(path) = self.ca_file {
                http = http.ca_file(path);
            }
            let http = HttpTransport::new(http)?;
            http.check_url(base_url)?;
            Arc::new(http)
        };
        let mut headers = vec![
            ("accept".to_owned(), "application/json".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        headers.extend(self.headers);
        if let Some(key) = &key {
            headers.push(self.provider.key_header(key, self.bearer));
        }
        check_headers(&headers)?;
        let limiter = pool.limiter().clone();
        Ok(Client::new(
            pool,
            Endpoint {
                base_url: base_url.to_owned(),
                key,
                headers,
                timeout: self.timeout,
                max_body: self.max_body,
                transport,
                limiter,
                retry: self.retry,
                typical: Mutex::new(TypicalOutput::new()),
            },
        ))
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("provider", &self.provider)
            .field("base_url", &self.base_url)
            .field("has_key", &matches!(self.key, Key::Given(_)))
            .finish_non_exhaustive()
    }
}

#[cold]
fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// A header that cannot be sent would fail every request, one by one.
fn check_headers(headers: &[(String, String)]) -> Result<()> {
    for (name, value) in headers {
        let token = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        let printable = value
            .bytes()
            .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        if !token || !printable {
            return Err(config(format!(
                "the header {name:?} has a name or value that cannot be sent"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_no_debug() {
        let builder = Client::builder().api_key("sk-a-very-secret-key");
        assert!(!format!("{builder:?}").contains("secret"));
        let client = builder.base_url("http://127.0.0.1:1").build().unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }

    #[test]
    fn a_missing_key_names_the_variable_and_the_way_out() {
        let error = Client::builder().build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("OPENAI_API_KEY"));
        assert!(error.to_string().contains("no_auth"));
    }

    #[test]
    fn unsendable_headers_are_refused() {
        for (name, value) in [("", "x"), ("a b", "x"), ("a", "x\r\ny: z"), ("a", "\0")] {
            let builder = Client::builder().no_auth().header(name, value);
            assert!(builder.build().is_err(), "{name:?}: {value:?}");
        }
    }
}
