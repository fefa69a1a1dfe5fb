//! The settings of a client, and their checks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue};

use super::client::Client;
use super::endpoint::Endpoint;
use super::estimate::{Counting, Estimates};
use super::key::ApiKey;
use super::path::check_base_url;
use super::provider::Provider;
use super::transport::{HttpConfig, HttpTransport, ProxyPolicy, Transport};
use crate::clock::Clock;
use crate::error::{Error, Result, config};
use crate::limit::{Concurrency, Limiter, LimiterBuilder, Rate};
use crate::opaque::opaque;
use crate::pool::Pool;
use crate::retry::Retry;
use crate::shared::Shared;
use crate::sync::Mutex;

/// Settings of a [`Client`]; see [`Client::builder`].
///
/// Of a setting that is given twice, the last counts. Two settings of which one would be without
/// effect are an error of [`build`](ClientBuilder::build).
#[must_use = "a builder does nothing until `build`"]
#[derive(Clone)]
pub struct ClientBuilder {
    provider: Provider,
    from_env: bool,
    base_url: Option<String>,
    key: Option<Result<ApiKey>>,
    headers: Vec<(String, String)>,
    limits: LimiterBuilder,
    limiter: Option<Limiter>,
    retry: Retry,
    timeout: Duration,
    max_body: usize,
    http: HttpConfig,
    insecure_http: bool,
    transport: Option<Arc<dyn Transport>>,
    warmup: u64,
    hedge: bool,
    /// The settings that were given.
    given: Vec<&'static str>,
}

/// Pairs of settings of which one would be without effect.
const CONFLICTS: &[[&str; 2]] = &[
    ["limiter", "concurrency"],
    ["limiter", "requests_per_second"],
    ["limiter", "requests_per_minute"],
    ["limiter", "request_rate"],
    ["limiter", "burst"],
    ["limiter", "tokens_per_minute"],
    ["limiter", "clock"],
    ["limiter", "shared"],
    ["transport", "connect_timeout"],
    ["transport", "ca_file"],
    ["transport", "client_cert"],
    ["transport", "client_key"],
    ["transport", "proxy"],
    ["api_key", "no_auth"],
    ["request_rate", "requests_per_second"],
    ["request_rate", "requests_per_minute"],
    ["requests_per_second", "requests_per_minute"],
];

impl Client {
    /// Starts with the defaults. `OpenAI` needs a key, and any other server its base URL as well.
    /// Nothing is read from the environment unless [`from_env`](ClientBuilder::from_env) is called.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            provider: Provider::OpenAi,
            from_env: false,
            base_url: None,
            key: None,
            headers: Vec::new(),
            limits: Limiter::builder().concurrency(20),
            limiter: None,
            retry: Retry::new(),
            timeout: Duration::from_secs(600),
            max_body: 64 << 20,
            http: HttpConfig::new(),
            insecure_http: false,
            transport: None,
            warmup: 0,
            hedge: false,
            given: Vec::new(),
        }
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

/// Makes a method of each row, which changes the builder and notes that it was called.
macro_rules! methods {
    ($(
        $(#[$doc:meta])*
        $name:ident($($arg:ident: $given:ty),*) = |$builder:ident| $change:expr;
    )*) => {
        impl ClientBuilder {$(
            $(#[$doc])*
            pub fn $name(self, $($arg: $given),*) -> Self {
                let mut $builder = self;
                $change;
                $builder.given.push(stringify!($name));
                $builder
            }
        )*}
    };
}

methods! {
    /// Whose API it is. This sets how the key is sent, and the base URL where none is given.
    /// Default: [`Provider::OpenAi`].
    provider(provider: Provider) = |it| it.provider = provider;

    /// As [`provider`](Self::provider), and takes from the environment what the provider's own
    /// tools take from it: the key, the base URL, the organisation. A key or a base URL that is set
    /// on the builder is used in its place, in whatever order they are called.
    from_env(provider: Provider) = |it| (it.provider, it.from_env) = (provider, true);

    /// The root that paths are joined to, with the provider's path: `https://api.example.com/v1`. A
    /// query, such as Azure's `?api-version=…`, goes behind each path. Default: the provider's own;
    /// Azure has none.
    base_url(url: impl Into<String>) = |it| it.base_url = Some(url.into());

    /// The API key. It is kept out of every message, log and `Debug`.
    api_key(key: impl AsRef<str>) = |it| it.key = Some(ApiKey::new(key));

    /// Sends no key, for servers that want none.
    no_auth() = |it| it.key = None;

    /// A header of every request. It replaces one of the same name that is sent otherwise, such as
    /// `content-type: application/json`. The header that holds the key cannot be set as well, nor
    /// those that are the client's own: `content-length`, `transfer-encoding` and `expect`. Where
    /// the name tells of a secret (`authorization`, `cookie`, or one with key, token, secret or
    /// password in it), the value is kept out of errors and logs as the key is.
    header(name: impl Into<String>, value: impl Into<String>) =
        |it| it.headers.push((name.into(), value.into()));

    /// How many requests may be in flight at once, 10,000 at most: a number, or a range such as
    /// `4..=200` in which the client finds the number. Default: 20.
    concurrency(permits: impl Into<Concurrency>) = |it| it.limits = it.limits.concurrency(permits);

    /// At most this many requests in a second. Default: no limit. For a rate that is not whole, see
    /// [`request_rate`](Self::request_rate).
    requests_per_second(requests: u64) =
        |it| it.limits = it.limits.requests(Rate::per_second(requests));

    /// At most this many requests in a minute, spread evenly over it. Default: no limit.
    requests_per_minute(requests: u64) =
        |it| it.limits = it.limits.requests(Rate::per_minute(requests));

    /// At most this rate of requests. Default: no limit.
    request_rate(rate: Rate) = |it| it.limits = it.limits.requests(rate);

    /// How many requests may start at once after an idle time. Default: one second's worth of the
    /// rate, at least 1. It needs a rate of requests.
    burst(requests: u64) = |it| it.limits = it.limits.burst(requests);

    /// At most this many model tokens in a minute, prompts and answers together. Each request is
    /// estimated from its text, `max_tokens` and what earlier answers took. The usage in its answer
    /// then replaces the estimate. Default: no limit. For another period or burst, make a
    /// [`limiter`](Self::limiter).
    tokens_per_minute(tokens: u64) =
        |it| it.limits = it.limits.tokens(Rate::per_minute(tokens));

    /// The clock of the limiter, the retries and the deadlines. Default: the machine's.
    clock(clock: Clock) = |it| it.limits = it.limits.clock(clock);

    /// Shares the rates with other processes: they are then those of all of these together. A pause
    /// of one process holds for all, and so does a limit that the provider announces to one. The
    /// concurrency stays this client's own. [`LimiterBuilder::shared`] says more. Default: shared
    /// with nobody.
    shared(shared: Shared) = |it| it.limits = it.limits.shared(shared);

    /// A limiter that others use too, with its own limits and clock. It must have a
    /// [`concurrency`](crate::LimiterBuilder::concurrency). Default: one of this client's own, with
    /// the limits that are set here.
    limiter(limiter: Limiter) = |it| it.limiter = Some(limiter);

    /// Sends the first `requests` of each run alone, and the others when these have succeeded or
    /// failed. A provider that caches the beginnings of prompts has them in its cache by then.
    /// Default: 0, no request waits for another.
    ///
    /// A request that is tried again has not ended. A request that cannot be sent does not count.
    warmup(requests: u64) = |it| it.warmup = requests;

    /// Sends a request a second time when its answer takes longer than 95 % of all, and takes the
    /// answer that comes first (Dean and Barroso, *The Tail at Scale*, 2013). The other attempt is
    /// cut off and may be billed all the same. Default: no.
    ///
    /// This is done in runs over many requests only, and only when nothing else is to be sent and
    /// the limits have room. A request has one second attempt at most, and a run at most one for 20
    /// requests. [Limits](crate::_guide::limits#hedging) has the rules.
    hedge(hedge: bool) = |it| it.hedge = hedge;

    /// How failed requests are tried again. Default: [`Retry::new`].
    retry(retry: Retry) = |it| it.retry = retry;

    /// The longest one attempt may take, connecting included. Default: 600 s, as in the official
    /// clients: a long answer takes minutes.
    timeout(timeout: Duration) = |it| it.timeout = timeout;

    /// The largest answer to accept, in decoded bytes. Default: 64 MiB.
    max_body(bytes: usize) = |it| it.max_body = bytes;

    /// The longest a new connection may take: address, TCP, proxy and TLS together. Default: 10 s.
    connect_timeout(timeout: Duration) = |it| it.http = it.http.connect_timeout(timeout);

    /// Trusts the certificates in this PEM file, and no others; a server's own self-signed
    /// certificate will do.
    ca_file(path: impl Into<PathBuf>) = |it| it.http = it.http.ca_file(path);

    /// Shows the certificate in this PEM file to servers that ask for one (mutual TLS). Its key may
    /// be in the same file, or is given to [`client_key`](Self::client_key).
    client_cert(path: impl Into<PathBuf>) = |it| it.http = it.http.client_cert(path);

    /// The private key of [`client_cert`](Self::client_cert), in PEM and without a passphrase. It
    /// is kept out of every message, log and `Debug`.
    client_key(path: impl Into<PathBuf>) = |it| it.http = it.http.client_key(path);

    /// Which proxy is used. Default: what the environment says (`HTTPS_PROXY`, `HTTP_PROXY`,
    /// `ALL_PROXY`, `NO_PROXY`); never for this machine itself.
    proxy(proxy: ProxyPolicy) = |it| it.http = it.http.proxy(proxy);

    /// Allows plain `http` to another machine, where everyone on the way can read the key.
    allow_insecure_http() = |it| it.insecure_http = true;

    /// What carries the requests. Default: an [`HttpTransport`], HTTP over TCP and TLS.
    transport(transport: impl Transport + 'static) = |it| it.transport = Some(Arc::new(transport));
}

impl ClientBuilder {
    /// Makes the client. Sends nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), with what to do about it, for
    /// - a missing or unusable key;
    /// - a base URL that is missing, has no scheme, holds a user name, or points to another machine
    ///   over plain `http`, and for `https` without a TLS feature;
    /// - limits, retries, times, a header, a certificate or its key that cannot be used;
    /// - [`hedge`](Self::hedge) where no second attempt could be made;
    /// - two settings of which one would be without effect, such as a [`limiter`](Self::limiter)
    ///   beside limits, or a [`transport`](Self::transport) beside a proxy. The message and
    ///   [`Error::settings`](crate::Error::settings) name both.
    pub fn build(self) -> Result<Client> {
        let is_given = |setting| self.given.contains(setting);
        if let Some(pair) = CONFLICTS.iter().find(|pair| pair.iter().all(is_given)) {
            let what = "of two settings one would be without effect: leave one out";
            return Err(config(what).with_settings(pair));
        }
        let base_url = self.resolve_base_url()?;
        if self.timeout.is_zero() {
            let what = "a timeout of 0 leaves no time to send anything: give more";
            return Err(config(what).with_settings(&["timeout"]));
        }
        if self.http.connect_timeout.is_zero() {
            let what = "a connect timeout of 0 leaves no time to connect: give more";
            return Err(config(what).with_settings(&["connect_timeout"]));
        }
        if self.max_body == 0 {
            let what = "a limit of 0 bytes leaves no room for an answer: give more";
            return Err(config(what).with_settings(&["max_body"]));
        }
        let key = self.resolve_key()?;
        let headers = self.resolve_headers(key.as_ref())?;
        let limiter = match self.limiter {
            Some(limiter) => limiter,
            None => (self.limits.build()).map_err(|error| in_own_words(error, &self.given))?,
        };
        if self.hedge && limiter.concurrency() == 1 {
            let what =
                "a second attempt needs a place beside the first: allow two requests at once";
            return Err(config(what).with_settings(&["hedge", "concurrency"]));
        }
        if self.hedge && self.retry.max_attempts <= 1 {
            let what = "a request that is attempted once has no second attempt: leave one out";
            return Err(config(what).with_settings(&["hedge", "max_attempts"]));
        }
        let mut pool = Pool::from_limiter(limiter.clone())?.with_retry(self.retry.checked()?);
        pool.settings.warmup = self.warmup;
        pool.settings.hedge = self.hedge;
        let transport = if let Some(transport) = self.transport {
            transport
        } else {
            let http = HttpTransport::new(self.http.workers(limiter.concurrency()))?;
            http.check_url(&base_url)?;
            Arc::new(http)
        };
        let counting = Counting::of(self.provider, &base_url);
        Ok(Client::new(
            pool,
            Endpoint {
                base_url,
                key: ApiKey::with_headers(key.map(|(key, _)| key), &self.headers),
                headers,
                timeout: self.timeout,
                max_body: self.max_body,
                transport,
                limiter,
                retry: self.retry,
                counting,
                estimates: Mutex::new(Estimates::new(counting)),
                always_learns: AtomicBool::new(false),
            },
        ))
    }

    fn resolve_base_url(&self) -> Result<String> {
        let check = |url: &str| check_base_url(url, self.insecure_http);
        if let Some(url) = &self.base_url {
            check(url).map_err(|error| match error.settings() {
                [] => error.with_settings(&["base_url"]),
                _ => error,
            })?;
            return Ok(url.clone());
        }
        if self.from_env
            && let Some((variable, url)) = self.provider.base_url_from_env()
        {
            check(&url).map_err(|error| error.behind(variable))?;
            return Ok(url);
        }
        let url = self.provider.default_base_url().ok_or_else(|| {
            let what = "no base URL: give one, since this provider has another for each customer";
            config(what).with_settings(&["base_url"])
        })?;
        Ok(url.to_owned())
    }

    /// The key, and whether it must be sent as a bearer token.
    fn resolve_key(&self) -> Result<Option<(ApiKey, bool)>> {
        if let Some(key) = &self.key {
            let named = |error: Error| error.with_settings(&["api_key"]);
            return Ok(Some((key.clone().map_err(named)?, false)));
        }
        if self.given.contains(&"no_auth") {
            return Ok(None);
        }
        if self.from_env
            && let Some(found) = self.provider.key_from_env()?
        {
            return Ok(Some(found));
        }
        let what = format!(
            "no API key: give one, set {} and call from_env, or send none to a server that wants none",
            self.provider.key_variable()
        );
        Err(config(what).with_settings(&["api_key", "no_auth"]))
    }

    /// The headers of every request. One that cannot be sent is refused here: it would fail every
    /// request.
    fn resolve_headers(&self, key: Option<&(ApiKey, bool)>) -> Result<Vec<(String, String)>> {
        let json = "application/json";
        let mut headers = vec![
            ("accept".to_owned(), json.to_owned()),
            ("content-type".to_owned(), json.to_owned()),
        ];
        let key = key.map(|(key, is_bearer)| self.provider.key_header(key, *is_bearer));
        let of_provider = self.provider.headers(self.from_env);
        for (name, value) in of_provider.iter().chain(&self.headers) {
            let is_visible = HeaderValue::from_str(value).is_ok_and(|it| it.to_str().is_ok());
            let (Ok(header), true) = (HeaderName::try_from(name), is_visible) else {
                let what = format!(
                    "the header {name:?} cannot be sent: a name is letters, digits and hyphens, and a \
                     value is printable ASCII"
                );
                return Err(config(what).with_settings(&["header"]));
            };
            // They say where the body ends and when it is sent, for which the client answers.
            if [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].contains(&header) {
                let what = format!("the header {name:?} is the client's own: leave it out");
                return Err(config(what).with_settings(&["header"]));
            }
            if key
                .as_ref()
                .is_some_and(|(name, _)| header == name.as_str())
            {
                let what = format!("the header {name:?} is the API key's: leave one of them out");
                return Err(config(what).with_settings(&["api_key", "header"]));
            }
            headers.retain(|(other, _)| header != other.as_str());
            headers.push((header.as_str().to_owned(), value.clone()));
        }
        headers.extend(key);
        Ok(headers)
    }
}

/// The limiter's error, with the names that its settings have here.
fn in_own_words(error: Error, given: &[&str]) -> Error {
    const RATES: [&[&str]; 3] = [
        &["requests_per_second"],
        &["requests_per_minute"],
        &["request_rate"],
    ];
    let settings = match error.settings() {
        ["requests"] => (RATES.into_iter().find(|rate| given.contains(&rate[0]))).unwrap_or(&[]),
        ["requests", "burst"] => &["request_rate", "burst"],
        ["tokens"] => &["tokens_per_minute"],
        settings => settings,
    };
    error.with_settings(settings)
}

opaque!(ClientBuilder, "ClientBuilder",
    |it| provider: it.provider, base_url: it.base_url, has_key: it.key.is_some());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

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
        assert!(error.to_string().contains("call from_env"), "not read yet");
    }

    #[test]
    fn no_time_and_no_room_at_all_are_refused() {
        let error = Client::builder().no_auth().timeout(Duration::ZERO).build();
        assert_eq!(error.unwrap_err().settings(), ["timeout"]);
        let error = (Client::builder().no_auth()).connect_timeout(Duration::ZERO);
        assert_eq!(error.build().unwrap_err().settings(), ["connect_timeout"]);
        let error = Client::builder().no_auth().max_body(0).build();
        assert_eq!(error.unwrap_err().settings(), ["max_body"]);
    }

    #[test]
    fn unsendable_headers_are_refused() {
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a", "x\r\ny: z"),
            ("a", "\0"),
            ("a", "é"),
            ("Content-Length", "7"),
            ("transfer-encoding", "chunked"),
            ("Expect", "100-continue"),
        ] {
            let builder = Client::builder().no_auth().header(name, value);
            assert!(builder.build().is_err(), "{name:?}: {value:?}");
        }
    }
}
