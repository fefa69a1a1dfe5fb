//! Judges a record in a file, which is all that a later run knows of a row.
//!
//! A run that resumes treats its own records like those of any tool that writes the OpenAI batch
//! format.

use std::time::UNIX_EPOCH;

use super::{Promise, ResponseView, classify_response};
use crate::error::ErrorKind;
use crate::retry::Verdict;
use http::HeaderMap;

/// Whether a failed row's record is of a failure that may pass, so that a resume repeats the row.
///
/// `status` and `body` are the record's `response`, if it has one: they are judged like an answer
/// without headers. What stops a run (a wrong key, no money, a redirect) may pass, because somebody
/// can put it right. Without a response the `error.code` decides; a code that is not one of
/// [`record_code`]'s counts as transient, because one request more is a smaller loss than a row that
/// is never asked again.
pub(crate) fn is_transient_record(
    status: Option<u16>,
    body: &[u8],
    error_code: Option<&str>,
) -> bool {
    let Some(status) = status else {
        return !matches!(error_code, Some(INVALID_REQUEST_LINE | REJECTED));
    };
    let response = ResponseView {
        status,
        headers: &HeaderMap::new(),
        body,
        key: None,
        promise: Promise::Anything,
        wall: UNIX_EPOCH,
        cost_tokens: 0,
        longest_wait: None,
    };
    classify_response(&response)
        .is_err_and(|failed| failed.error.is_transient() || failed.verdict == Verdict::Stop)
}

const INVALID_REQUEST_LINE: &str = "invalid_request_line";
/// The line is fine; the client's own settings, or the way the server speaks, are not.
const REJECTED: &str = "rejected";

/// The `error.code` of a record without an HTTP answer, from the closed list of the results format:
/// `timeout`, `connection_error`, `invalid_response`, `rejected` and `invalid_request_line`. A
/// row that was cancelled, or that stopped the run, gets no record.
///
/// [`is_transient_record`] says of every record what [`ErrorKind::is_transient`] says of its error.
pub(crate) fn record_code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Timeout | ErrorKind::Deadline => "timeout",
        ErrorKind::Malformed | ErrorKind::Truncated => "invalid_response",
        kind if kind.is_transient() => "connection_error",
        ErrorKind::Permission
        | ErrorKind::NotFound
        | ErrorKind::TooLarge
        | ErrorKind::ContentFilter
        | ErrorKind::Invalid
        | ErrorKind::InvalidLine => INVALID_REQUEST_LINE,
        _ => REJECTED,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_and_its_error_agree() {
        use ErrorKind as K;
        for kind in [
            K::Config,
            K::Nested,
            K::NeverFits,
            K::Cancelled,
            K::Deadline,
            K::Panicked,
            K::RateLimited,
            K::Overloaded,
            K::Server,
            K::Unreachable,
            K::Network,
            K::Timeout,
            K::Truncated,
            K::Malformed,
            K::BodyTooLarge,
            K::Protocol,
            K::Tls,
            K::Auth,
            K::Quota,
            K::Budget,
            K::ServerDelay,
            K::Redirect,
            K::Permission,
            K::NotFound,
            K::TooLarge,
            K::ContentFilter,
            K::Invalid,
            K::InvalidLine,
            K::Io,
        ] {
            let code = record_code(kind);
            assert_eq!(
                is_transient_record(None, b"", Some(code)),
                kind.is_transient(),
                "{kind:?} {code}"
            );
        }
    }

    #[test]
    fn records_of_any_tool_are_decided_alike() {
        for (status, body, code, expected) in [
            (None, "", Some("timeout"), true),
            (None, "", Some("connection_error"), true),
            (None, "", Some("batch_expired"), true),
            (None, "", Some("invalid_request_line"), false),
            (None, "", Some("batch_cancelled"), true),
            (None, "", None, true),
            (Some(500), "null", None, true),
            (Some(503), r#"{"error":{"message":"m"}}"#, Some("x"), true),
            (
                Some(429),
                r#"{"error":{"code":"rate_limit_exceeded"}}"#,
                None,
                true,
            ),
            (
                Some(429),
                r#"{"error":{"message":"Request too large. Limit 3, Requested 4"}}"#,
                None,
                false,
            ),
            (
                Some(429),
                r#"{"error":{"code":"insufficient_quota"}}"#,
                None,
                true,
            ),
            (
                Some(400),
                r#"{"error":{"message":"Your credit balance is too low"}}"#,
                None,
                true,
            ),
            (Some(400), "null", None, false),
            (
                Some(400),
                r#"{"error":{"code":"content_filter"}}"#,
                None,
                false,
            ),
            (Some(401), "", None, true),
            (Some(402), "", None, true),
            (Some(403), "", None, false),
            (Some(404), "", None, false),
            (Some(407), "", None, true),
            (Some(408), "", None, true),
            (Some(413), "", None, false),
            (Some(422), "", None, false),
            (Some(302), "", None, true),
            (Some(999), "", None, false),
            (Some(0), "", None, false),
            // A 2xx that was no answer: kept as a string, or not at all.
            (Some(200), r#""<html>login</html>""#, None, true),
            (Some(200), "null", None, true),
            (Some(200), "", None, true),
            (Some(200), r#"{"error":{"code":502}}"#, None, true),
            (Some(200), r#"{"error":{"code":400}}"#, None, false),
            (Some(200), r#"{"choices":[{}]}"#, None, false),
            // A body that was cut and kept as a string.
            (
                Some(429),
                r#""{\"error\":{\"code\":\"insufficient_quota\",\"mess""#,
                None,
                true,
            ),
        ] {
            assert_eq!(
                is_transient_record(status, body.as_bytes(), code),
                expected,
                "{status:?} {body} {code:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(status in any::<Option<u16>>(), body in any::<Vec<u8>>(), code in any::<Option<String>>()) {
            is_transient_record(status, &body, code.as_deref());
        }
    }
}
