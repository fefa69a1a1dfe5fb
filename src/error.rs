//! The crate's error: one opaque type with a kind, a message, facts about the request and a cause.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::binding::Times;
use crate::opaque::opaque;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request, a run or a setting failed.
///
/// A program branches on [`kind`](Error::kind), or asks [`is_transient`](Error::is_transient) and
/// its like. The message says what happened and what to do next. It does not repeat the cause, such
/// as `No such file or directory`: that is behind [`source`](StdError::source), and in `Debug`.
/// Cloning is cheap. No message holds an API key.
///
/// ```
/// use tollgate::{ErrorKind, Limiter, Rate};
///
/// let error = Limiter::builder().requests(Rate::per_second(0)).build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(!error.is_transient());
/// assert!(error.to_string().contains("rate"));
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    facts: Facts,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What is known about the failure. Each field is what the method of its name answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) settings: &'static [&'static str],
    pub(crate) status: Option<StatusCode>,
    pub(crate) code: Option<String>,
    pub(crate) quote: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) announced_limit: Option<AnnouncedLimit>,
    pub(crate) request_id: Option<String>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) body_is_cut: bool,
    pub(crate) possibly_billed: bool,
    pub(crate) stopped_run: bool,
    pub(crate) times: Times,
}

/// What kind of failure an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting cannot work: a rate of zero, a URL that is none, a missing key.
    Config,
    /// A pool's job asked for a permit of the limiter whose permit it holds. Waiting could last for
    /// ever.
    Nested,
    /// The cost is more than the limit allows in one whole period. Waiting would last for ever.
    NeverFits,
    /// Ended by a [`Cancel`](crate::Cancel), or not started because the run stopped.
    Cancelled,
    /// The deadline of a run, an item or a wait passed.
    Deadline,
    /// The job panicked. The message is the panic's.
    Panicked,
    /// The server asks for a slower pace (HTTP 429).
    RateLimited,
    /// The server says that it is overloaded (HTTP 529, and 503 with such a code).
    Overloaded,
    /// The server failed (other 5xx; 408, 409 and 425).
    Server,
    /// Nothing was sent: the host name has no address, the connection was refused, there is no
    /// route.
    Unreachable,
    /// The connection broke after something was sent. The request may have been billed.
    Network,
    /// No complete answer came within the time of one attempt. The request may have been billed.
    Timeout,
    /// The answer ended before its announced end. The request may have been billed.
    Truncated,
    /// The answer is not what the endpoint promises: not JSON, empty, a web page, a chat without
    /// `choices`.
    Malformed,
    /// A good answer, but not of the type that [`Reply::json`](crate::Reply::json) was asked for.
    WrongType,
    /// The answer is larger than the client accepts.
    BodyTooLarge,
    /// The server does not speak HTTP/1.1 correctly, or writes answers that are not quite JSON
    /// (`NaN` for a number).
    Protocol,
    /// The server's certificate is not trusted, or the first TLS handshake failed.
    Tls,
    /// The key is missing, wrong or revoked (HTTP 401).
    Auth,
    /// The account has no money left: quota, credit or a spending limit of the provider.
    Quota,
    /// The run's own budget is spent (see [`FileRun::max_cost`](crate::FileRun::max_cost)).
    Budget,
    /// The server asks for a longer wait than
    /// [`max_server_delay`](crate::Retry::max_server_delay) allows.
    ServerDelay,
    /// The server answered with a redirect. It is never followed, since it could take the key
    /// elsewhere.
    Redirect,
    /// The key may not do this (HTTP 403).
    Permission,
    /// There is no such endpoint or model (HTTP 404).
    NotFound,
    /// The request is larger than the server accepts.
    TooLarge,
    /// The provider's content filter refused the request.
    ContentFilter,
    /// The request is wrong (HTTP 400, 422 and other 4xx).
    Invalid,
    /// A line of an input file is not a request.
    InvalidLine,
    /// A file or a stream could not be read or written.
    Io,
}

impl ErrorKind {
    /// Whether the same request may succeed at another time.
    ///
    /// True for failures that pass (an overload, a broken connection) and for those that somebody
    /// can end without changing the request (a wrong key, an empty account, a full disk). So it
    /// does not mean that to try again at once would help; a client has already done that. A run
    /// over a file repeats such rows when it is run again.
    pub fn is_transient(self) -> bool {
        !matches!(
            self,
            Self::Config
                | Self::Nested
                | Self::NeverFits
                | Self::Panicked
                | Self::WrongType
                | Self::BodyTooLarge
                | Self::Protocol
                | Self::Permission
                | Self::NotFound
                | Self::TooLarge
                | Self::ContentFilter
                | Self::Invalid
                | Self::InvalidLine
        )
    }
}

/// A setting, an argument or a file is wrong.
#[cold]
pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// The error for what this flaw makes unusable, if it has one.
pub(crate) fn refuse(flaw: Option<impl Into<Cow<'static, str>>>) -> Result<()> {
    flaw.map_or(Ok(()), |flaw| Err(config(flaw)))
}

impl Error {
    /// An error of this kind. The message should say what happened and what to do next.
    ///
    /// For jobs of your own that report errors of this type.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            facts: Facts::default(),
            source: None,
        }))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The settings to change, by the names of the methods that set them (`overwrite`, `max_cost`)
    /// or of the arguments (`output`). Most errors name none. [`Display`](fmt::Display) puts them
    /// behind the message.
    pub fn settings(&self) -> &'static [&'static str] {
        self.0.facts.settings
    }

    /// The message without the settings, for a caller that names them in its own way.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether a time limit passed: that of one attempt ([`ErrorKind::Timeout`]), or the deadline
    /// of an item, a run or a wait ([`ErrorKind::Deadline`]).
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Timeout | ErrorKind::Deadline)
    }

    /// Whether the server asked for a slower pace or said that it is overloaded.
    pub fn is_rate_limited(&self) -> bool {
        matches!(self.0.kind, ErrorKind::RateLimited | ErrorKind::Overloaded)
    }

    /// Whether the same request may succeed at another time; see [`ErrorKind::is_transient`].
    pub fn is_transient(&self) -> bool {
        self.0.kind.is_transient()
    }

    /// The HTTP status of the last answer, if there was one, be it one that broke off.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.facts.status
    }

    /// The provider's own code for the failure, such as `rate_limit_exceeded`, if it gave one.
    pub fn code(&self) -> Option<&str> {
        self.0.facts.code.as_deref()
    }

    /// How many requests were sent for this item, the failed one included.
    pub fn attempts(&self) -> u32 {
        self.0.facts.attempts
    }

    /// Where the time of this item went, over all its attempts. Empty for an error that is no
    /// item's failure.
    pub fn times(&self) -> Times {
        self.0.facts.times
    }

    /// How long the server asked to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.facts.retry_after
    }

    /// The limit that the server named when it refused the request, if it did.
    pub fn announced_limit(&self) -> Option<AnnouncedLimit> {
        self.0.facts.announced_limit
    }

    /// The provider's id of the last answer, to quote to its support.
    pub fn request_id(&self) -> Option<&str> {
        self.0.facts.request_id.as_deref()
    }

    /// The start of the last answer's body, at most 64 KiB and without the API key, if there was an
    /// answer or part of one.
    pub fn body(&self) -> Option<&[u8]> {
        self.0.facts.body.as_deref()
    }

    /// Whether the body was longer than what is kept of it.
    pub(crate) fn body_is_cut(&self) -> bool {
        self.0.facts.body_is_cut
    }

    /// Whether a request was sent whose answer was lost, so that the provider may have billed it.
    pub fn possibly_billed(&self) -> bool {
        self.0.facts.possibly_billed
    }

    /// Whether this failure stopped the whole run.
    pub fn stopped_run(&self) -> bool {
        self.0.facts.stopped_run
    }

    /// The provider's own words about its refusal, printable. The message quotes them.
    pub(crate) fn quote(&self) -> Option<&str> {
        self.0.facts.quote.as_deref()
    }

    pub(crate) fn with_settings(self, settings: &'static [&'static str]) -> Self {
        self.with_facts(|facts| facts.settings = settings)
    }

    /// The same failure, told after `what`.
    pub(crate) fn behind(mut self, what: &str) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.message = format!("{what}: {}", inner.message).into();
        self
    }

    /// The same failure with more to say behind its message.
    pub(crate) fn with_more(mut self, more: &str) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.message = format!("{}; {more}", inner.message).into();
        self
    }

    /// The same failure with more facts known about it.
    pub(crate) fn with_facts(mut self, change: impl FnOnce(&mut Facts)) -> Self {
        change(&mut Arc::make_mut(&mut self.0).facts);
        self
    }

    /// The same failure with the cause behind it.
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::new(source));
        self
    }
}

/// A limit that a server has named: so many requests, or model tokens, in so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnnouncedLimit {
    /// How many.
    pub number: u64,
    /// Whether model tokens are counted, and not requests.
    pub is_tokens: bool,
    /// In how many seconds: 60 or 1.
    pub period_s: u64,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.0.facts.settings {
            [] => Ok(()),
            settings => write!(f, " (`{}`)", settings.join("`, `")),
        }
    }
}

// Without the body, which may be long.
opaque!(Error, "Error", |it|
    kind: it.kind(),
    message: it.to_string(),
    status: it.status(),
    code: it.code(),
    attempts: it.attempts(),
    source: it.0.source,
);

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.0.source.as_ref()?;
        Some(&**source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word() {
        // Results are passed by value through every layer, so a small one is cheap. Not a promise.
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }

    #[test]
    fn the_cause_is_behind_the_message_not_in_it() {
        let error = Error::new(ErrorKind::Io, "cannot write out.jsonl")
            .with_source(std::io::Error::other("disk full"));
        assert_eq!(error.to_string(), "cannot write out.jsonl");
        assert_eq!(error.source().unwrap().to_string(), "disk full");
    }

    #[test]
    fn the_settings_to_change_stand_behind_the_message() {
        let error = Error::new(ErrorKind::Config, "no record: name another, or start anew")
            .with_settings(&["output", "overwrite"]);
        let shown = "no record: name another, or start anew (`output`, `overwrite`)";
        assert_eq!(error.to_string(), shown);
        assert_eq!(error.settings(), ["output", "overwrite"]);
    }

    #[test]
    fn clones_do_not_change_each_other() {
        let first = Error::new(ErrorKind::Server, "failed");
        let second = first.clone().with_facts(|facts| facts.attempts = 3);
        assert_eq!((first.attempts(), second.attempts()), (0, 3));
    }

    #[test]
    fn predicates_follow_the_kind() {
        let error = |kind| Error::new(kind, "failed");
        assert!(error(ErrorKind::Timeout).is_timeout() && error(ErrorKind::Deadline).is_timeout());
        assert!(error(ErrorKind::Overloaded).is_rate_limited());
        assert!(error(ErrorKind::Network).is_transient());
        let invalid = error(ErrorKind::Invalid);
        assert!(!invalid.is_timeout() && !invalid.is_rate_limited() && !invalid.is_transient());
    }
}
