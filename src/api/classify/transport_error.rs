//! Judges a request without a complete answer, by what broke and how far the request had got.

use super::{AttemptError, MAX_QUOTE};
use crate::api::transport::{TransportError, TransportErrorKind, TransportStage};
use crate::error::{Error, ErrorKind};
use crate::escape::printable;
use crate::retry::Verdict;

/// Says what a transport error is, and what to do about it.
pub(crate) fn classify_transport_error(error: &TransportError) -> AttemptError {
    use ErrorKind as K;
    use TransportErrorKind as T;
    use Verdict as V;

    let nothing_sent = error.stage == TransportStage::NothingSent;
    let (kind, verdict, next) = match error.kind {
        // The proxy may be out of order for a moment. One that never lets anything through ends the
        // run, as a server that never answers does.
        T::Proxy => (
            K::Unreachable,
            V::Unreachable,
            "check the proxy's address, http:// or https://, or except this host with NO_PROXY",
        ),
        T::ProxyRefused(status) => refused_by_proxy(status),
        T::ProxyTls => (
            K::Tls,
            V::Stop,
            "if the proxy speaks no TLS, write http:// in place of https:// in its URL; a private \
             certificate is accepted if it is named as the CA file (`ca_file`)",
        ),
        // Never tried again: the server may not be the one it should be.
        T::Tls => (
            K::Tls,
            V::Stop,
            "check the base URL and this machine's clock",
        ),
        // Something answered, so each attempt may be billed: a few attempts, not all.
        T::Protocol => (
            K::Protocol,
            V::Unusable,
            "check that the base URL is that of an HTTP server",
        ),
        T::Encoded => (
            K::Protocol,
            V::Unusable,
            "the server, or a proxy before it, compresses unasked: turn that off there",
        ),
        T::TooLarge => (
            K::BodyTooLarge,
            V::Fail,
            "ask for less, or allow larger answers (`max_body`)",
        ),
        T::Aborted => (K::Cancelled, V::Fail, "run again to carry on"),
        T::Unsendable => (
            K::Invalid,
            V::Fail,
            "correct the request's path, or the headers set for it",
        ),
        T::Timeout if !nothing_sent => (
            K::Timeout,
            V::Retry,
            "a later attempt may succeed; raise the timeout if it happens often",
        ),
        T::Broken if !nothing_sent => (K::Network, V::Retry, "a later attempt may succeed"),
        T::Truncated if !nothing_sent => (K::Truncated, V::Retry, "a later attempt may succeed"),
        // As long as nothing was sent, trying again costs nothing, whatever broke.
        T::Resolve | T::Connect | T::Timeout | T::Broken | T::Truncated => (
            K::Unreachable,
            V::Unreachable,
            "check the base URL and the network",
        ),
    };
    let message = printable(&error.message, 2 * MAX_QUOTE);
    // What TLS has to say of itself is more to the point.
    let message = match error.kind {
        T::Tls | T::Connect if message.contains("; ") => message,
        T::ProxyRefused(status) => format!("{message}, HTTP {status}; {next}"),
        _ => format!("{message}; {next}"),
    };
    AttemptError {
        error: Error::new(kind, message).with_facts(|facts| facts.possibly_billed = !nothing_sent),
        verdict,
        usage: None,
    }
}

/// What it means that a proxy answers `CONNECT` with `status`. Whoever tries again with a password
/// that was refused locks an account, and what a proxy forbids it forbids every row.
fn refused_by_proxy(status: u16) -> (ErrorKind, Verdict, &'static str) {
    let (verdict, next) = match status {
        401 | 407 => (
            Verdict::Stop,
            "it wants a user name and a password, or refused those it got: write them into its URL, \
             http://user:password@host:port, percent-encoded (they are sent as Basic; no other scheme \
             is known here)",
        ),
        // Of these, some say so of a server that is gone for a moment.
        404 | 408 | 425 | 429 => (Verdict::Unreachable, GONE),
        400..=499 | 501 | 511 => (
            Verdict::Stop,
            "it may be no proxy, or one that is to allow CONNECT to this host and port first (many \
             allow port 443 alone, and CONNECT is used for http:// as well): check its address, ask \
             whoever runs it, or except this host with NO_PROXY",
        ),
        _ => (Verdict::Unreachable, GONE),
    };
    (ErrorKind::Unreachable, verdict, next)
}

const GONE: &str = "the proxy may not have reached the server: check the base URL and the proxy, or \
                    except this host with NO_PROXY";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_error_has_its_verdict() {
        use ErrorKind as K;
        use TransportErrorKind as T;
        use TransportStage::{Answering, NothingSent, Sent};
        use Verdict as V;

        let refused = |status, verdict| {
            let kind = T::ProxyRefused(status);
            (kind, NothingSent, K::Unreachable, verdict, false)
        };
        for (transport_kind, stage, kind, verdict, possibly_billed) in [
            (
                T::Resolve,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                T::Connect,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (T::Proxy, NothingSent, K::Unreachable, V::Unreachable, false),
            (T::ProxyTls, NothingSent, K::Tls, V::Stop, false),
            refused(407, V::Stop),
            refused(401, V::Stop),
            refused(403, V::Stop),
            refused(400, V::Stop),
            refused(451, V::Stop),
            refused(501, V::Stop),
            refused(511, V::Stop),
            refused(302, V::Unreachable),
            refused(404, V::Unreachable),
            refused(429, V::Unreachable),
            refused(502, V::Unreachable),
            (
                T::Timeout,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                T::Broken,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (T::Timeout, Sent, K::Timeout, V::Retry, true),
            (T::Timeout, Answering, K::Timeout, V::Retry, true),
            (T::Broken, Sent, K::Network, V::Retry, true),
            (T::Truncated, Answering, K::Truncated, V::Retry, true),
            (T::Tls, NothingSent, K::Tls, V::Stop, false),
            (T::Protocol, Answering, K::Protocol, V::Unusable, true),
            (T::Encoded, Answering, K::Protocol, V::Unusable, true),
            (T::TooLarge, Answering, K::BodyTooLarge, V::Fail, true),
            (T::Aborted, Sent, K::Cancelled, V::Fail, true),
            (T::Aborted, NothingSent, K::Cancelled, V::Fail, false),
            (T::Unsendable, NothingSent, K::Invalid, V::Fail, false),
        ] {
            let error = TransportError {
                kind: transport_kind,
                stage,
                message: "it broke\u{1b}[0m".to_owned(),
                partial: None,
                source: None,
            };
            let failure = classify_transport_error(&error);
            let found = (
                failure.error.kind(),
                failure.verdict,
                failure.error.possibly_billed(),
            );
            assert_eq!(
                found,
                (kind, verdict, possibly_billed),
                "{transport_kind:?} {stage:?}"
            );
            assert!(
                failure.error.message().starts_with("it broke\\u{1b}[0m"),
                "{}",
                failure.error.message()
            );
        }
    }
}
