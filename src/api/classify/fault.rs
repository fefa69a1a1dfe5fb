//! The rows of the table without an answer: what broke, and how far the exchange had got.

use super::{Failure, MAX_QUOTE};
use crate::api::transport::{TransportError, TransportErrorKind, TransportStage};
use crate::error::ErrorKind;
use crate::escape::printable;
use crate::retry::Verdict;

/// Judges an exchange without a complete answer.
pub(crate) fn classify_fault(error: &TransportError) -> Failure {
    use ErrorKind as K;
    use Verdict as V;

    let nothing_sent = error.stage == TransportStage::NothingSent;
    let (kind, verdict, next) = match error.fault {
        TransportErrorKind::Resolve => (
            K::Unreachable,
            V::Unreachable,
            "check the base URL's host name and the network",
        ),
        TransportErrorKind::Connect => (
            K::Unreachable,
            V::Unreachable,
            "check the base URL and the network",
        ),
        // It may be this proxy or just now; a proxy that never lets anything through ends the run
        // as a server that never answers does.
        TransportErrorKind::Proxy => (
            K::Unreachable,
            V::Unreachable,
            "check the proxy's address and credentials, or except this host with NO_PROXY",
        ),
        // As long as nothing was sent, trying again costs nothing, whatever broke.
        TransportErrorKind::Timeout
        | TransportErrorKind::Broken
        | TransportErrorKind::Truncated
            if nothing_sent =>
        {
            (
                K::Unreachable,
                V::Unreachable,
                "check the base URL and the network",
            )
        }
        TransportErrorKind::Timeout => (
            K::Timeout,
            V::Retry,
            "retried by itself; raise the timeout if it happens often",
        ),
        TransportErrorKind::Broken => (K::Network, V::Retry, "retried by itself"),
        TransportErrorKind::Truncated => (K::Truncated, V::Retry, "retried by itself"),
        // Never retried: what is on the other side may not be who it should be.
        TransportErrorKind::Tls => (
            K::Tls,
            V::Stop,
            "check the base URL and the clock; a private certificate is accepted if it is named as a CA file",
        ),
        // Something answered, so it may have been paid for: a few tries, not all.
        TransportErrorKind::Protocol => (
            K::Protocol,
            V::Unusable,
            "check that the base URL is that of an HTTP server",
        ),
        TransportErrorKind::TooLarge => (
            K::BodyTooLarge,
            V::Fail,
            "ask for less, or raise the limit on bodies",
        ),
        TransportErrorKind::Aborted => (K::Cancelled, V::Fail, "run again to carry on"),
        TransportErrorKind::Unsendable => (
            K::Invalid,
            V::Fail,
            "correct the request's path, or the headers set for it",
        ),
    };
    Failure {
        kind,
        verdict,
        code: None,
        message: format!("{}; {next}", printable(&error.message, MAX_QUOTE)),
        retry_after: None,
        possibly_billed: !nothing_sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_verdict() {
        use ErrorKind as K;
        use TransportStage::{Answering, NothingSent, Sent, SentOnReused};
        use Verdict as V;

        for (fault, stage, kind, verdict, possibly_billed) in [
            (
                TransportErrorKind::Resolve,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                TransportErrorKind::Connect,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                TransportErrorKind::Proxy,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                TransportErrorKind::Timeout,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                TransportErrorKind::Broken,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                TransportErrorKind::Timeout,
                Sent,
                K::Timeout,
                V::Retry,
                true,
            ),
            (
                TransportErrorKind::Timeout,
                Answering,
                K::Timeout,
                V::Retry,
                true,
            ),
            (
                TransportErrorKind::Broken,
                SentOnReused,
                K::Network,
                V::Retry,
                true,
            ),
            (TransportErrorKind::Broken, Sent, K::Network, V::Retry, true),
            (
                TransportErrorKind::Truncated,
                Answering,
                K::Truncated,
                V::Retry,
                true,
            ),
            (TransportErrorKind::Tls, NothingSent, K::Tls, V::Stop, false),
            (
                TransportErrorKind::Protocol,
                Answering,
                K::Protocol,
                V::Unusable,
                true,
            ),
            (
                TransportErrorKind::TooLarge,
                Answering,
                K::BodyTooLarge,
                V::Fail,
                true,
            ),
            (
                TransportErrorKind::Aborted,
                Sent,
                K::Cancelled,
                V::Fail,
                true,
            ),
            (
                TransportErrorKind::Aborted,
                NothingSent,
                K::Cancelled,
                V::Fail,
                false,
            ),
            (
                TransportErrorKind::Unsendable,
                NothingSent,
                K::Invalid,
                V::Fail,
                false,
            ),
        ] {
            let error = TransportError {
                fault,
                stage,
                message: "it broke\u{1b}[0m".to_owned(),
                source: None,
            };
            let failure = classify_fault(&error);
            let found = (failure.kind, failure.verdict, failure.possibly_billed);
            assert_eq!(
                found,
                (kind, verdict, possibly_billed),
                "{fault:?} {stage:?}"
            );
            assert!(
                failure.message.starts_with("it broke\\u{1b}[0m; "),
                "{}",
                failure.message
            );
        }
    }
}
