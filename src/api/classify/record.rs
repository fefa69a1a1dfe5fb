//! Judges a record in a file, which is all that a later run knows of a row.
//!
//! A run that resumes treats its own records like those of any tool that writes the OpenAI batch
//! format.

use std::time::UNIX_EPOCH;

use super::answer::AnswerBody;
use super::{Promise, ResponseView, classify_response, embedded};
use crate::api::error_body::ErrorBody;
use crate::error::{Error, ErrorKind};
use crate::retry::Verdict;
use http::HeaderMap;

/// What a record says of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordState {
    /// Answered.
    Done,
    /// Answered if its endpoint is unknown. No endpoint that is known gives such an answer.
    Unsure,
    /// Failed for a reason that may pass: a resume repeats the row.
    Transient,
    /// Failed for good.
    Permanent,
}

/// Judges a record like an answer without headers.
///
/// `status` and `body` are the record's `response`, as far as it has one. `error_code` is the
/// `code` of its `error`, empty where that has none; without an error it is `None`. What stops a
/// run (a wrong key, no money, a redirect) may pass, because somebody can put it right. Without a
/// status the `error_code` decides; one that is not of [`record_code`]'s counts as transient,
/// because one request more is a smaller loss than a row that is never asked again.
pub(crate) fn judge_record(
    status: Option<u16>,
    body: &[u8],
    error_code: Option<&str>,
) -> RecordState {
    let is_success = status.is_none_or(|status| (200..300).contains(&status));
    if is_success && error_code.is_none() {
        match AnswerBody::read(body) {
            Ok(answer) if is_known_answer(&answer) => return RecordState::Done,
            // A refusal has no status either, and an object with something else in it.
            Ok(answer) if status.is_some() && answer.keeps(Promise::Anything).is_ok() => {
                return RecordState::Unsure;
            }
            _ => {}
        }
    }
    let code_passes = !matches!(error_code, Some(INVALID_REQUEST_LINE | REJECTED));
    let response = ResponseView {
        status: status.unwrap_or(200),
        headers: &HeaderMap::new(),
        body,
        key: None,
        promise: Promise::Anything,
        wall: UNIX_EPOCH,
        cost_tokens: 0,
        longest_wait: None,
    };
    match (status, classify_response(&response)) {
        // An answer in all but form stays failed, whatever it is called.
        (Some(_), Err(failed)) if is_success && error_code.is_some() => {
            RecordState::of(code_passes && failed.error.kind() != ErrorKind::Protocol)
        }
        (Some(_), Err(failed)) => RecordState::of(passes(failed.error.kind(), failed.verdict)),
        _ => RecordState::of(code_passes),
    }
}

/// Whether the `body` in the `response` of a record is an answer, whatever its endpoint. Fast, as
/// it is asked of each record.
pub(crate) fn is_answered(response: &str) -> bool {
    AnswerBody::of_response(response).is_some_and(|body| is_known_answer(&body))
}

fn is_known_answer(body: &AnswerBody<'_>) -> bool {
    let keeps = |promise: &Promise| body.keeps(*promise).is_ok();
    Promise::KNOWN.iter().any(keeps)
}

/// Judges the message of a row that succeeded in Anthropic's form.
pub(crate) fn judge_message(message: &[u8]) -> RecordState {
    let answer = AnswerBody::read(message);
    if answer.is_ok_and(|answer| answer.keeps(Promise::Message).is_ok()) {
        RecordState::Done
    } else {
        RecordState::Transient
    }
}

/// Judges an error without a status, by its words.
pub(crate) fn judge_error(error: &[u8]) -> RecordState {
    let (rule, _) = embedded(&ErrorBody::read(error), None);
    RecordState::of(passes(rule.kind, rule.verdict))
}

impl RecordState {
    fn of(passes: bool) -> Self {
        if passes {
            Self::Transient
        } else {
            Self::Permanent
        }
    }
}

fn passes(kind: ErrorKind, verdict: Verdict) -> bool {
    kind.is_transient() || verdict == Verdict::Stop
}

/// Whether the error is that of an answer in all but form, such as one with `NaN` in it. It was
/// paid for, so its row stays failed, with the text, until somebody asks for it again.
pub(crate) fn is_nearly_answered(error: &Error) -> bool {
    let is_success = error.status().is_some_and(|status| status.is_success());
    is_success && error.kind() == ErrorKind::Protocol && !error.possibly_billed()
}

const INVALID_REQUEST_LINE: &str = "invalid_request_line";
/// The line is fine; the client's own settings, or the way the server speaks, are not.
const REJECTED: &str = "rejected";

/// The `error.code` of a record without an answer that can be used, from the closed list of the
/// results format: `timeout`, `connection_error`, `invalid_response`, `rejected` and
/// `invalid_request_line`. `is_answered` says that there was an answer, with a 2xx. A row that was
/// cancelled, or that stopped the run, gets no record.
///
/// [`judge_record`] says of every record what [`ErrorKind::is_transient`] says of its error.
pub(crate) fn record_code(kind: ErrorKind, is_answered: bool) -> &'static str {
    match kind {
        ErrorKind::Timeout | ErrorKind::Deadline => "timeout",
        ErrorKind::Malformed | ErrorKind::Truncated => "invalid_response",
        ErrorKind::Network => "connection_error",
        kind if kind.is_transient() && is_answered => "invalid_response",
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

/// Anthropic's type of an error with this status. Its types are a closed list, and typed readers
/// refuse any other.
pub(crate) fn anthropic_error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        408 | 504 => "timeout_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
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
            K::WrongType,
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
            for status in [None, Some(200)] {
                let code = record_code(kind, status.is_some());
                assert_eq!(
                    judge_record(status, b"", Some(code)),
                    RecordState::of(kind.is_transient()),
                    "{kind:?} {code}"
                );
            }
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
            (Some(408), "", None, true),
            (Some(413), "", None, false),
            (Some(422), "", None, false),
            (Some(302), "", None, true),
            (Some(999), "", None, false),
            // A 2xx that was no answer.
            (Some(200), "<html>login</html>", None, true),
            (Some(200), "<html>login</html>", Some("x"), true),
            (Some(200), "<html>login</html>", Some("rejected"), false),
            (Some(200), "null", None, true),
            (Some(200), "", None, true),
            (Some(200), "[1", None, true),
            (Some(200), r#"{"error":{"code":502}}"#, None, true),
            (Some(200), r#"{"error":{"code":400}}"#, None, false),
            (Some(200), r#"{"choices":[{"x":NaN}]}"#, None, false),
            (Some(200), r#"{"choices":[{"x":NaN}]}"#, Some("x"), false),
            (Some(200), r#"{"choices":[{}]}"#, Some(""), true),
            (None, r#"{"detail":"m"}"#, None, true),
            // A body that was cut and kept as a text.
            (
                Some(429),
                r#"{"error":{"code":"insufficient_quota","mess"#,
                None,
                true,
            ),
        ] {
            assert_eq!(
                judge_record(status, body.as_bytes(), code),
                RecordState::of(expected),
                "{status:?} {body} {code:?}"
            );
        }
    }

    #[test]
    fn an_answer_is_done_and_what_only_an_unknown_endpoint_says_is_not_sure() {
        use RecordState::{Done, Permanent, Transient, Unsure};
        for (status, body, state) in [
            (Some(200), r#"{"choices":[{}]}"#, Done),
            (None, r#"{"choices":[{}]}"#, Done),
            (Some(200), r#"{"data":[{}],"error":{}}"#, Done),
            (Some(201), r#"{"output":[{}]}"#, Done),
            (Some(200), r#"{"content":[],"stop_reason":"x"}"#, Done),
            (Some(200), "{}", Unsure),
            (Some(200), "[]", Unsure),
            (Some(200), r#"{"detail":"upstream timed out"}"#, Unsure),
            (Some(200), r#"{"choices":[{"error":{"code":502}}]}"#, Unsure),
            (None, "{}", Transient),
            (Some(200), "{\"choices\"", Transient),
            (Some(400), r#"{"choices":[{}]}"#, Permanent),
        ] {
            let found = judge_record(status, body.as_bytes(), None);
            assert_eq!(found, state, "{status:?} {body}");
        }
        assert_eq!(judge_message(br#"{"content":[{}]}"#), Done);
        assert_eq!(judge_message(b"{}"), Transient);
    }

    #[test]
    fn an_error_of_anthropics_is_judged_by_its_words() {
        for (kind, message, passes) in [
            ("invalid_request_error", "bad", false),
            (
                "invalid_request_error",
                "Your credit balance is too low",
                true,
            ),
            ("not_found_error", "m", false),
            ("permission_error", "m", false),
            ("request_too_large", "m", false),
            ("billing_error", "m", true),
            ("authentication_error", "m", true),
            ("rate_limit_error", "m", true),
            ("overloaded_error", "m", true),
            ("api_error", "m", true),
            ("timeout_error", "m", true),
        ] {
            let inner = format!(r#"{{"type":"{kind}","message":"{message}"}}"#);
            let whole = format!(r#"{{"type":"error","error":{inner}}}"#);
            for json in [&inner, &whole] {
                assert_eq!(
                    judge_error(json.as_bytes()),
                    RecordState::of(passes),
                    "{json}"
                );
            }
        }
        assert_eq!(judge_error(b""), RecordState::Transient);
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(status in any::<Option<u16>>(), body in any::<Vec<u8>>(), code in any::<Option<String>>()) {
            judge_record(status, &body, code.as_deref());
        }
    }
}
