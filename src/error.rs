//! The crate's error: one opaque type with a kind, the facts around it and its cause.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a request, a run or a setting failed.
///
/// [`kind`](Error::kind) is what a program branches on. The message says what happened in this
/// layer and what to do next; the cause, where there is one, is behind
/// [`source`](StdError::source). Cloning is cheap. No message holds an API key.
///
/// ```
/// use tollgate::{ErrorKind, Limiter, Rate};
///
/// let error = Limiter::builder().requests(Rate::per_second(0)).build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(error.to_string().contains("rate"));
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    settings: &'static [&'static str],
    status: Option<StatusCode>,
    code: Option<String>,
    attempts: u32,
    retry_after: Option<Duration>,
    request_id: Option<String>,
    body: Option<Vec<u8>>,
    possibly_billed: bool,
    stopped_run: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What kind of failure an [`Error`] is.
///
/// [`is_transient`](ErrorKind::is_transient) says whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is wrong: a rate of zero, an unusable URL, a missing key.
    Config,
    /// A run or an acquire inside a job that already holds a permit of the same limiter.
    Nested,
    /// The cost is more than the limit allows in one whole period; it would wait for ever.
    NeverFits,
    /// Stopped by [`Cancel`](crate::Cancel), or by the end of the run, before it was done.
    Cancelled,
    /// The deadline came first.
    Deadline,
    /// The job panicked; the message is the panic's.
    Panicked,
    /// The server asks for a slower pace (HTTP 429).
    RateLimited,
    /// The server is overloaded (503 `server_is_overloaded`, 529).
    Overloaded,
    /// The server failed (5xx, 408, 409, 425).
    Server,
    /// Nothing was sent: no address, refused, no route.
    Unreachable,
    /// The connection broke after something was sent; the request may have been billed.
    Network,
    /// No complete answer within the attempt's time; the request may have been billed.
    Timeout,
    /// The answer ended early.
    Truncated,
    /// The answer is not what the endpoint promises: not JSON, empty, an HTML page.
    Malformed,
    /// The answer is larger than the limit on bodies.
    BodyTooLarge,
    /// The peer does not speak HTTP/1.1 correctly.
    Protocol,
    /// The certificate, or the first TLS handshake, was refused.
    Tls,
    /// The key is missing, wrong or not allowed (401).
    Auth,
    /// The money is out: quota, credit or a spend limit. Never retried.
    Quota,
    /// The budget of the run is spent (see [`FileRun::max_cost`](crate::FileRun::max_cost)).
    Budget,
    /// The server asks for a wait longer than the policy allows.
    ServerDelay,
    /// The server answered with a redirect, which is never followed.
    Redirect,
    /// Not allowed for this request (403).
    Permission,
    /// No such endpoint or model (404).
    NotFound,
    /// The request is larger than the server will ever take.
    TooLarge,
    /// The provider's content filter refused the request.
    ContentFilter,
    /// The request is wrong in itself (400, 422 and the like).
    Invalid,
    /// A line of an input file is not a request.
    InvalidLine,
    /// A file or stream could not be read or written.
    Io,
}

impl ErrorKind {
    /// Whether the same request may succeed later: a rerun repeats such failures.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Cancelled
            | Self::Deadline
            | Self::RateLimited
            | Self::Overloaded
            | Self::Server
            | Self::Unreachable
            | Self::Network
            | Self::Timeout
            | Self::Truncated
            | Self::Malformed
            | Self::Tls
            | Self::Auth
            | Self::Quota
            | Self::Budget
            | Self::ServerDelay
            | Self::Redirect
            | Self::Io => true,
            Self::Config
            | Self::Nested
            | Self::NeverFits
            | Self::Panicked
            | Self::BodyTooLarge
            | Self::Protocol
            | Self::Permission
            | Self::NotFound
            | Self::TooLarge
            | Self::ContentFilter
            | Self::Invalid
            | Self::InvalidLine => false,
        }
    }
}

impl Error {
    /// An error of `kind`; the message says what is wrong and what to do next.
    ///
    /// Public so that a job of your own can report in the crate's terms.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            settings: &[],
            status: None,
            code: None,
            attempts: 0,
            retry_after: None,
            request_id: None,
            body: None,
            possibly_billed: false,
            stopped_run: false,
            source: None,
        }))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The settings to change, by the names of the builder methods that set them (`overwrite`,
    /// `max_cost`). Most errors name none. [`Display`](fmt::Display) puts them behind the message.
    pub fn settings(&self) -> &'static [&'static str] {
        self.0.settings
    }

    /// The message without the settings, for a caller that names them in its own way.
    #[cfg(feature = "cli")]
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The HTTP status of the last answer, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.0.status
    }

    /// The provider's own code for the failure (`rate_limit_exceeded`), if it gave one.
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// How many requests were sent for this item, this failure's included.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// How long the server asked to wait, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The provider's id of the last answer, to quote to its support.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The start of the last answer's body (at most 2 KiB, keys scrubbed), if there was an answer.
    pub fn body(&self) -> Option<&[u8]> {
        self.0.body.as_deref()
    }

    /// Whether the provider may have billed a request whose answer was lost.
    pub fn possibly_billed(&self) -> bool {
        self.0.possibly_billed
    }

    /// Whether this failure stopped the whole run.
    pub fn stopped_run(&self) -> bool {
        self.0.stopped_run
    }

    pub(crate) fn with_settings(self, settings: &'static [&'static str]) -> Self {
        self.with(|inner| inner.settings = settings)
    }

    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        self.with(|inner| inner.status = Some(status))
    }

    pub(crate) fn with_code(self, code: Option<String>) -> Self {
        self.with(|inner| inner.code = code)
    }

    pub(crate) fn with_attempts(self, attempts: u32) -> Self {
        self.with(|inner| inner.attempts = attempts)
    }

    pub(crate) fn with_retry_after(self, delay: Option<Duration>) -> Self {
        self.with(|inner| inner.retry_after = delay)
    }

    pub(crate) fn with_request_id(self, id: Option<String>) -> Self {
        self.with(|inner| inner.request_id = id)
    }

    pub(crate) fn with_body(self, body: Vec<u8>) -> Self {
        self.with(|inner| inner.body = Some(body))
    }

    pub(crate) fn with_possibly_billed(self, maybe: bool) -> Self {
        self.with(|inner| inner.possibly_billed = maybe)
    }

    pub(crate) fn with_stopped_run(self) -> Self {
        self.with(|inner| inner.stopped_run = true)
    }

    /// The same failure with the cause behind it.
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.source = Some(Arc::new(source)))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.0.settings {
            [] => Ok(()),
            settings => write!(f, " (`{}`)", settings.join("`, `")),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug
            .field("kind", &self.0.kind)
            .field("message", &self.0.message);
        if !self.0.settings.is_empty() {
            debug.field("settings", &self.0.settings);
        }
        if let Some(status) = self.0.status {
            debug.field("status", &status);
        }
        if let Some(code) = &self.0.code {
            debug.field("code", code);
        }
        if self.0.attempts > 0 {
            debug.field("attempts", &self.0.attempts);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word() {
        // Results travel by value through every layer; this is a speed bump, not a law.
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
        let second = first.clone().with_attempts(3);
        assert_eq!((first.attempts(), second.attempts()), (0, 3));
    }
}
