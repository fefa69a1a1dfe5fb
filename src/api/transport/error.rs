//! How a call failed, and what of it is told: never a user, a path or a query.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;

use super::HttpResponse;

/// How far an exchange got before it broke: what decides whether it may have been billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportStage {
    /// Not one byte of the request was sent.
    NothingSent,
    /// Something was sent and nothing came back. On a connection that had been used before, the
    /// server has most likely closed it as the request went out.
    Sent,
    /// The answer had begun.
    Answering,
}

/// What went wrong in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The host name has no address.
    Resolve,
    /// Refused, no route, no free port, or no answer to the connect in time.
    Connect,
    /// The certificate of one of the two, or the TLS handshake of a transport that never had one
    /// succeed; later ones that fail for other reasons are [`Connect`](Self::Connect). Once the
    /// handshake is over, a connection that TLS gives up on is [`Broken`](Self::Broken) or
    /// [`Truncated`](Self::Truncated) like any other.
    Tls,
    /// The deadline came, or the peer was silent for too long.
    Timeout,
    /// The connection was reset or closed, or what came on it was not what the server had sealed.
    Broken,
    /// The answer ended before its announced end.
    Truncated,
    /// Not HTTP/1.1.
    Protocol,
    /// The body is compressed, unasked, and cannot be decoded.
    Encoded,
    /// The body is above [`HttpRequest::max_body`](crate::HttpRequest::max_body).
    TooLarge,
    /// [`HttpRequest::cancel`](crate::HttpRequest::cancel) was aborted.
    Aborted,
    /// The request cannot be put on the wire (a bad URL or header).
    Unsendable,
    /// The proxy is not reached, closed the connection, or answered `CONNECT` with no HTTP.
    Proxy,
    /// The proxy answered `CONNECT` with this status: 407 for instance, if it wants a password.
    ProxyRefused(u16),
    /// The TLS handshake with an `https` proxy.
    ProxyTls,
}

/// An exchange without a complete answer.
#[derive(Clone, Debug)]
pub struct TransportError {
    /// What went wrong.
    pub kind: TransportErrorKind,
    /// How far it got.
    pub stage: TransportStage,
    /// What happened, in words, without keys, paths or queries.
    pub message: String,
    /// What had come of the answer, if part of its body had. That body may be as long as
    /// [`HttpRequest::max_body`](crate::HttpRequest::max_body).
    pub partial: Option<Box<HttpResponse>>,
    /// The cause, if there is one.
    pub source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// An exchange that failed so, at that stage; `message` without keys, paths or queries.
    pub fn new(
        kind: TransportErrorKind,
        stage: TransportStage,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            stage,
            message: message.into(),
            partial: None,
            source: None,
        }
    }

    /// The same, at `stage` of a call to `uri`, which went `through` a proxy if that is not empty.
    pub(super) fn at(mut self, stage: TransportStage, uri: &Uri, through: &str) -> Self {
        self.stage = stage;
        let host = uri.host().unwrap_or_default();
        let place = match through {
            "" => origin(uri),
            _ => format!("{host}:{} through {through}", port(uri)),
        };
        let end = self.end_of_what_happened();
        self.message.insert_str(end, &format!(" ({place})"));
        self
    }

    /// What is to be done about it follows in the message, behind a semicolon.
    fn end_of_what_happened(&self) -> usize {
        self.message.find("; ").unwrap_or(self.message.len())
    }
}

/// Ends a call so; ureq hands it up to [`ours`].
pub(super) fn fail(kind: TransportErrorKind, why: impl Into<String>) -> ureq::Error {
    let error = TransportError::new(kind, TransportStage::NothingSent, why);
    ureq::Error::Other(Box::new(error))
}

/// As [`fail`], with the cause, which must not hold anything secret.
pub(super) fn fail_for(
    kind: TransportErrorKind,
    why: impl Into<String>,
    cause: impl StdError + Send + Sync + 'static,
) -> ureq::Error {
    let mut error = TransportError::new(kind, TransportStage::NothingSent, why);
    error.source = Some(Arc::new(cause));
    ureq::Error::Other(Box::new(error))
}

/// What [`fail`] has made of a failure, or ureq's own error.
pub(super) fn ours(error: ureq::Error) -> Result<TransportError, ureq::Error> {
    match error {
        ureq::Error::Other(ours) => ours.downcast().map(|it| *it).map_err(ureq::Error::Other),
        error => Err(error),
    }
}

/// What it means that the connection to a proxy fails with `error`, not the one through it.
pub(super) fn blame_proxy(error: ureq::Error) -> ureq::Error {
    use TransportErrorKind::{Proxy, ProxyTls, Tls};
    match ours(error) {
        Ok(mut failure) => {
            failure.kind = if failure.kind == Tls { ProxyTls } else { Proxy };
            // The advice was about the server.
            failure.message.truncate(failure.end_of_what_happened());
            ureq::Error::Other(Box::new(failure))
        }
        Err(error) => error,
    }
}

/// The status of a proxy's answer to `CONNECT`, which ureq tells at the end of a text.
pub(super) fn proxy_status(why: &str) -> Option<u16> {
    why.rsplit('/').next()?.parse().ok()
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.source.as_deref()?)
    }
}

/// Scheme, host and port, without what may be secret: user, path and query.
pub(super) fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host_and_port}")
}

/// The port a URL means.
pub(super) fn port(uri: &Uri) -> u16 {
    let default = if is_https(uri) { 443 } else { 80 };
    uri.port_u16().unwrap_or(default)
}

pub(super) fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// The host as the resolver and TLS want it: an IPv6 address without its brackets.
pub(super) fn bare_host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_matches(['[', ']'])
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_server_and_nothing_secret() {
        let uri = Uri::from_static("https://user:pass@host.test:8443/path?key=secret");
        assert_eq!(origin(&uri), "https://host.test:8443");
        let (kind, stage) = (TransportErrorKind::Broken, TransportStage::Sent);
        let error = TransportError::new(kind, stage, "the connection broke").at(stage, &uri, "");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("host.test:8443"), "{shown}");
        assert!(!shown.contains("pass") && !shown.contains("secret") && !shown.contains("path"));
    }

    #[test]
    fn ports_are_those_of_the_scheme() {
        assert_eq!(port(&Uri::from_static("http://h/")), 80);
        assert_eq!(port(&Uri::from_static("https://h/")), 443);
        assert_eq!(port(&Uri::from_static("https://[::1]:8/")), 8);
        assert_eq!(bare_host(&Uri::from_static("https://[::1]:8/")), "::1");
    }
}
