//! The rows of the table without an answer: what broke, and how far the exchange had got.

use super::{Failure, MAX_QUOTE};
use crate::api::transport::{Fault, Stage, TransportError};
use crate::error::ErrorKind;
use crate::escape::printable;
use crate::retry::Verdict;

/// Judges an exchange without a complete answer.
pub(crate) fn classify_fault(error: &TransportError) -> Failure {
    use ErrorKind as K;
    use Verdict as V;

    let nothing_sent = error.stage == Stage::NothingSent;
    let (kind, verdict, next) = match error.fault {
        Fault::Resolve => (
            K::Unreachable,
            V::Unreachable,
            "check the base URL's host name and the network",
        ),
        Fault::Connect => (
            K::Unreachable,
            V::Unreachable,
            "check the base URL and the network",
        ),
        // It may be this proxy or just now; a proxy that never lets anything through ends the run
        // as a server that never answers does.
        Fault::Proxy => (
            K::Unreachable,
            V::Unreachable,
            "check the proxy's address and credentials, or except this host with NO_PROXY",
        ),
        // As long as nothing was sent, trying again costs nothing, whatever broke.
        Fault::Timeout | Fault::Broken | Fault::Truncated if nothing_sent => (
            K::Unreachable,
            V::Unreachable,
            "check the base URL and the network",
        ),
        Fault::Timeout => (
            K::Timeout,
            V::Retry,
            "retried by itself; raise the timeout if it happens often",
        ),
        Fault::Broken => (K::Network, V::Retry, "retried by itself"),
        Fault::Truncated => (K::Truncated, V::Retry, "retried by itself"),
        // Never retried: what is on the other side may not be who it should be.
        Fault::Tls => (
            K::Tls,
            V::Stop,
            "check the base URL and the clock; a private certificate is accepted if it is named as a CA file",
        ),
        // Something answered, so it may have been paid for: a few tries, not all.
        Fault::Protocol => (
            K::Protocol,
            V::Unusable,
            "check that the base URL is that of an HTTP server",
        ),
        Fault::TooLarge => (
            K::BodyTooLarge,
            V::Fail,
            "ask for less, or raise the limit on bodies",
        ),
        Fault::Aborted => (K::Cancelled, V::Fail, "run again to carry on"),
        Fault::Unsendable => (
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
        maybe_billed: !nothing_sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_verdict() {
        use ErrorKind as K;
        use Stage::{Answering, NothingSent, Sent, SentOnReused};
        use Verdict as V;

        for (fault, stage, kind, verdict, maybe_billed) in [
            (
                Fault::Resolve,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                Fault::Connect,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                Fault::Proxy,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                Fault::Timeout,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (
                Fault::Broken,
                NothingSent,
                K::Unreachable,
                V::Unreachable,
                false,
            ),
            (Fault::Timeout, Sent, K::Timeout, V::Retry, true),
            (Fault::Timeout, Answering, K::Timeout, V::Retry, true),
            (Fault::Broken, SentOnReused, K::Network, V::Retry, true),
            (Fault::Broken, Sent, K::Network, V::Retry, true),
            (Fault::Truncated, Answering, K::Truncated, V::Retry, true),
            (Fault::Tls, NothingSent, K::Tls, V::Stop, false),
            (Fault::Protocol, Answering, K::Protocol, V::Unusable, true),
            (Fault::TooLarge, Answering, K::BodyTooLarge, V::Fail, true),
            (Fault::Aborted, Sent, K::Cancelled, V::Fail, true),
            (Fault::Aborted, NothingSent, K::Cancelled, V::Fail, false),
            (Fault::Unsendable, NothingSent, K::Invalid, V::Fail, false),
        ] {
            let error = TransportError {
                fault,
                stage,
                message: "it broke\u{1b}[0m".to_owned(),
                source: None,
            };
            let failure = classify_fault(&error);
            let found = (failure.kind, failure.verdict, failure.maybe_billed);
            assert_eq!(found, (kind, verdict, maybe_billed), "{fault:?} {stage:?}");
            assert!(
                failure.message.starts_with("it broke\\u{1b}[0m; "),
                "{}",
                failure.message
            );
        }
    }
}
