//! From what ureq says to what happened: every error becomes a [`Fault`] at a [`Stage`].
//!
//! ureq's errors mix causes up: a refused certificate, a keep-alive race and a reset all arrive as
//! `Io`. So the layer that failed is believed first, then the type of the error, and only then its
//! kind.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use ureq::Error;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

use super::exchange::Exchange;
use super::{Fault, Stage, TransportError};

/// How an exchange failed, as seen from above ureq.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no whole head.
    Head(Error),
    /// The head is there and the body is not.
    Body(io::Error),
    /// The body has more than this many bytes.
    TooLarge(u64),
    /// The connection ended without TLS's farewell, and nothing else tells where the body ends.
    NoFarewell,
}

impl Failure {
    /// The failure in the terms of the seam.
    pub(super) fn explain(self, exchange: Option<Exchange>, uri: &Uri) -> TransportError {
        let (stage, noted, aborted) = match exchange {
            Some(exchange) => {
                let aborted = exchange.cancel.is_aborted();
                (exchange.stage, exchange.noted, aborted)
            }
            None => (Stage::Sent, None, false),
        };
        let in_body = !matches!(self, Self::Head(_));
        let error = match self {
            Self::Head(error) => error,
            // Unwraps the errors that ureq packed into an I/O error for `Read`.
            Self::Body(error) => Error::from(error),
            Self::TooLarge(most) => {
                let message = format!("the answer's body is larger than {most} bytes");
                return error_at(Fault::TooLarge, stage, &message, uri);
            }
            Self::NoFarewell => {
                let message = "the answer ended without the end of the TLS connection";
                return error_at(Fault::Truncated, stage, message, uri);
            }
        };
        let (fault, message) = if aborted {
            (Fault::Aborted, "aborted".into())
        } else if let Some((fault, message)) = noted {
            match fault {
                Fault::Broken if in_body => (
                    Fault::Truncated,
                    "the connection broke within the answer".into(),
                ),
                _ => (fault, message),
            }
        } else {
            let (fault, message) = judge(&error, stage);
            (fault, message.to_owned())
        };
        let mut failure = error_at(fault, stage, &message, uri);
        failure.source = cause(error);
        failure
    }
}

fn judge(error: &Error, stage: Stage) -> (Fault, &'static str) {
    match error {
        Error::Io(error) => match (error.kind(), stage) {
            (ErrorKind::UnexpectedEof, Stage::Answering) => {
                (Fault::Truncated, "the answer ended before its end")
            }
            (ErrorKind::UnexpectedEof, _) => (
                Fault::Broken,
                "the server closed the connection without an answer",
            ),
            _ => (Fault::Broken, "the connection broke"),
        },
        Error::Timeout(_) => (Fault::Timeout, "no whole answer in time"),
        Error::HostNotFound => (Fault::Resolve, "the host has no address"),
        Error::ConnectionFailed => (Fault::Connect, "cannot connect"),
        Error::ConnectProxyFailed(_) | Error::InvalidProxyUrl => {
            (Fault::Proxy, "the proxy refused the connection")
        }
        Error::Http(_) | Error::BadUri(_) => (Fault::Unsendable, "the request cannot be sent"),
        // ureq's word for a request it cannot put together is the same.
        Error::Protocol(_) if stage == Stage::NothingSent => {
            (Fault::Unsendable, "the request cannot be sent")
        }
        Error::LargeResponseHeader(..) => (Fault::Protocol, "the answer's head is too large"),
        Error::TlsRequired => (Fault::Tls, "this build cannot speak https"),
        _ => (Fault::Protocol, "the answer is not HTTP/1.1"),
    }
}

/// The cause, where it says more than the message and can hold neither key nor path.
fn cause(error: Error) -> Option<Arc<dyn StdError + Send + Sync>> {
    match error {
        Error::Io(error) => Some(Arc::new(error)),
        Error::Http(_) | Error::BadUri(_) | Error::RequireHttpsOnly(_) => None,
        error => Some(Arc::new(error)),
    }
}

pub(super) fn error_at(fault: Fault, stage: Stage, message: &str, uri: &Uri) -> TransportError {
    let origin = origin(uri);
    let message = if message.contains(&origin) {
        message.to_owned()
    } else {
        format!("{message} ({origin})")
    };
    TransportError::new(fault, stage, message)
}

/// Scheme, host and port, without what may be secret: user, path and query.
pub(super) fn origin(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    let host = uri.host().unwrap_or_default();
    match uri.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

/// The port a URL means.
pub(super) fn port(uri: &Uri) -> u16 {
    let default = if is_https(uri) { 443 } else { 80 };
    uri.port_u16().unwrap_or(default)
}

pub(super) fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_server_and_nothing_secret() {
        let uri = Uri::from_static("https://user:pass@host.test:8443/path?key=secret");
        assert_eq!(origin(&uri), "https://host.test:8443");
        let failure = Failure::Head(Error::BadUri(uri.to_string()));
        let error = failure.explain(None, &uri);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("pass") && !shown.contains("secret") && !shown.contains("path"));
    }

    #[test]
    fn ports_are_those_of_the_scheme() {
        assert_eq!(port(&Uri::from_static("http://h/")), 80);
        assert_eq!(port(&Uri::from_static("https://h/")), 443);
        assert_eq!(port(&Uri::from_static("https://[::1]:8/")), 8);
    }
}
