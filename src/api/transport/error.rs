//! How a call failed, and what of it is told: never a user, a path or a query.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;

use super::{TransportError, TransportErrorKind, TransportStage};

/// A call that failed, as the layer that saw it fail says it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: TransportErrorKind,
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Failure {
    pub(super) fn new(kind: TransportErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(super) fn aborted() -> Self {
        Self::new(TransportErrorKind::Aborted, "aborted")
    }

    /// With its cause, which must not hold anything secret.
    pub(super) fn because(self, source: impl StdError + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Arc::new(source)),
            ..self
        }
    }

    /// What a broken connection means once the head of an answer has come.
    pub(super) fn within_the_answer(self) -> Self {
        match self.kind {
            TransportErrorKind::Broken => Self {
                kind: TransportErrorKind::Truncated,
                message: "the connection broke within the answer".into(),
                ..self
            },
            _ => self,
        }
    }

    /// The failure in the terms of the seam.
    pub(super) fn at(self, stage: TransportStage, uri: &Uri) -> TransportError {
        let origin = origin(uri);
        let message = if self.message.contains(&origin) {
            self.message.into_owned()
        } else {
            format!("{} ({origin})", self.message)
        };
        TransportError {
            source: self.source,
            ..TransportError::new(self.kind, stage, message)
        }
    }
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

/// The host as the resolver and TLS want it: an IPv6 address without its brackets.
pub(super) fn bare_host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_server_and_nothing_secret() {
        let uri = Uri::from_static("https://user:pass@host.test:8443/path?key=secret");
        assert_eq!(origin(&uri), "https://host.test:8443");
        let failure = Failure::new(TransportErrorKind::Broken, "the connection broke");
        let error = failure.at(TransportStage::Sent, &uri);
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
