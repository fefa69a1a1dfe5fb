//! Judges what came of an attempt: the table of outcomes.
//!
//! Pure: an answer or a transport error goes in, usage or a [`AttemptError`] comes out. The rows
//! follow the providers' own documents and what their official clients do; where those differ, the
//! side that neither loses a row nor pays twice wins. `rules` has the answers, `transport_error`
//! what has no answer, and `record` asks the same table about a record in a file.

mod answer;
mod record;
mod rules;
mod transport_error;

pub(crate) use answer::usage_of_failure;
pub(crate) use record::{
    RecordState, anthropic_error_type, is_answered, is_nearly_answered, judge_error, judge_message,
    judge_record, record_code,
};
pub(crate) use transport_error::classify_transport_error;

use std::time::Duration;

use super::error_body::ErrorBody;
use super::headers;
use super::json;
use super::rate_limit_headers::RetryHints;
pub(crate) use super::response::{Promise, ResponseView};
use super::usage::Usage;
use crate::error::{Error, ErrorKind};
use crate::escape::printable;
use crate::retry::Verdict;
use answer::{AnswerBody, holds_answer};
use rules::Rule;

/// A failed attempt: what to tell, and what to do.
#[derive(Clone, Debug)]
pub(crate) struct AttemptError {
    /// What happened, the provider's words made printable, and what to do next.
    pub(crate) error: Error,
    pub(crate) verdict: Verdict,
    /// The model tokens that the failed attempt used, where the answer tells.
    pub(crate) usage: Option<Usage>,
}

/// At most so many characters of a provider's text go into a message.
const MAX_QUOTE: usize = 300;
/// At most so many characters of a provider's code.
const MAX_CODE: usize = 64;
/// At most so many bytes of an unusable 2xx body are searched for something to quote.
const MAX_LOOK: usize = 4 << 10;

/// Judges a complete answer: of a success, the usage if it has one.
///
/// # Errors
/// What the failure is, and what to do about it.
pub(crate) fn classify_response(
    response: &ResponseView<'_>,
) -> Result<Option<Usage>, AttemptError> {
    if (200..300).contains(&response.status) {
        return classify_success(response);
    }
    let body = ErrorBody::read(response.body);
    let hints = RetryHints::read(response, &body);
    let rule = Rule::of(response.status, &body, &hints)
        .obey(&hints)
        .within(response.longest_wait);
    Err(failed(response, &rule, &body, &hints))
}

fn classify_success(response: &ResponseView<'_>) -> Result<Option<Usage>, AttemptError> {
    let body = &response.body[json::start(response.body)..];
    let Ok(answer) = AnswerBody::read(body) else {
        return Err(classify_unreadable(response, body));
    };
    let Err(failure) = answer.keeps(response.promise) else {
        return Ok(answer.usage());
    };
    // OpenRouter answers 200 once the model has started, even if it fails later; OpenAI's responses
    // answer 200 for a model that failed.
    let is_failure = failure.is_some();
    let mut error = failure.map_or_else(|| answer.says(), |error| *error);
    let (rule, hints) = embedded(&error, response.longest_wait);
    if is_failure || tells_why_unanswered(rule.kind) {
        return Err(failed(response, &rule, &error, &hints));
    }
    if holds_answer(body, response.promise) {
        return Err(nearly_answered(response, &error));
    }
    if error.message.is_empty() {
        error.message = String::from_utf8_lossy(start(body)).into_owned();
    }
    let text = promised(response.promise);
    Err(unusable(response, ErrorKind::Malformed, text, &error))
}

/// Judges a 2xx body that is no JSON.
fn classify_unreadable(response: &ResponseView<'_>, body: &[u8]) -> AttemptError {
    let error = ErrorBody::read(start(body));
    let malformed = |text| unusable(response, ErrorKind::Malformed, text, &error);
    if response.body.is_empty() {
        return malformed("the answer is empty; check the base URL if it stays so");
    }
    // Servers with a long queue keep the connection alive with these, and close it when they give
    // up.
    if body.is_empty() {
        let rule = Rule {
            kind: ErrorKind::Overloaded,
            verdict: Verdict::Throttled,
            text: "the server kept the connection alive and ended it without an answer, as it does \
                   when it is overloaded; a later attempt may succeed",
            possibly_billed: false,
        };
        return failed(response, &rule, &error, &RetryHints::default());
    }
    if body.starts_with(b"data:") || body.starts_with(b"event:") {
        // It was asked for, so each further attempt would be billed for the same.
        let text = "the answer is a stream of events, which is not read; \
                    leave `stream` out of the request, or turn it off at the server";
        let mut failure = unusable(response, ErrorKind::Invalid, text, &error);
        failure.verdict = Verdict::Fail;
        return failure;
    }
    if body.starts_with(b"<") {
        return malformed(
            "the answer is a web page, not JSON; \
             check the base URL, and whether a proxy or a login stands in between",
        );
    }
    if holds_answer(body, response.promise) {
        return nearly_answered(response, &error);
    }
    malformed("the answer is not JSON, or was cut short; check the base URL if it stays so")
}

/// The error of an answer in all but form. Its kind does not pass: the same request would be paid
/// for again, for the same.
fn nearly_answered(response: &ResponseView<'_>, error: &ErrorBody) -> AttemptError {
    let text = "the answer is whole, but not quite JSON (with NaN in it, for example) or wrapped in \
                something else, so it cannot be a result; a run over a file keeps its text in the \
                errors file; to ask again, correct the server first, then retry what failed for good";
    unusable(response, ErrorKind::Protocol, text, error)
}

/// The error of a 2xx answer that came, and was billed perhaps, and is of no use.
fn unusable(
    response: &ResponseView<'_>,
    kind: ErrorKind,
    text: &'static str,
    error: &ErrorBody,
) -> AttemptError {
    let rule = Rule {
        kind,
        verdict: Verdict::Unusable,
        text,
        possibly_billed: false,
    };
    let rule = rule.obey(&RetryHints::read(response, &ErrorBody::default()));
    // Retry-After means nothing on a success.
    failed(response, &rule, error, &RetryHints::default())
}

/// What is searched for something to quote.
fn start(body: &[u8]) -> &[u8] {
    body.get(..MAX_LOOK).unwrap_or(body)
}

/// What an answer without it is told.
fn promised(promise: Promise) -> &'static str {
    match promise {
        Promise::Choices => "the answer has no `choices`; check the base URL and the model",
        Promise::Embeddings => "the answer has no `data`; check the base URL and the model",
        Promise::Message => "the answer has no `content`; check the base URL and the model",
        Promise::Response => "the answer has no `output`; check the base URL and the model",
        Promise::Anything => "the answer is JSON but not an object; check the base URL",
    }
}

/// Whether a failure of this kind is believed of an answer that does not call itself an error. Of
/// any other, all that is known is that it is of no use.
fn tells_why_unanswered(kind: ErrorKind) -> bool {
    use ErrorKind as K;
    matches!(
        kind,
        K::RateLimited
            | K::Overloaded
            | K::ServerDelay
            | K::Quota
            | K::Auth
            | K::ContentFilter
            | K::TooLarge
    )
}

/// What OpenAI, Anthropic and Gemini call the statuses, and the numbers that `MiniMax` has for
/// them, for errors without one.
const STATUS_WORDS: [(u16, &str); 8] = [
    (400, "invalid_request_error|invalid_prompt"),
    (400, "context_length_exceeded|INVALID_ARGUMENT"),
    (
        401,
        "authentication_error|invalid_api_key|UNAUTHENTICATED|1004|2049",
    ),
    (403, "permission_error|PERMISSION_DENIED"),
    (404, "not_found_error|model_not_found|NOT_FOUND"),
    (413, "request_too_large"),
    (
        429,
        "rate_limit_exceeded|rate_limit_error|RESOURCE_EXHAUSTED|1002|1039|1041|2045",
    ),
    (503, "server_is_overloaded|overloaded_error|UNAVAILABLE"),
];

/// An error inside a 2xx answer counts as the status it names, in a number or in words. The headers
/// were sent for a success, so they are not read.
fn embedded(error: &ErrorBody, longest_wait: Option<Duration>) -> (Rule, RetryHints) {
    let in_words = || {
        let known = STATUS_WORDS.iter().find(|(_, words)| error.has_code(words));
        let known = known.map(|&(status, _)| status);
        let known = known.or_else(|| error.is_rate_limit().then_some(429));
        known.or_else(|| error.speaks_of_money().then_some(403))
    };
    let number = error.code_status();
    // A server that hides a refusal in a 200 often calls it 500.
    let status = number.filter(|status| *status < 500).or_else(in_words);
    let hints = RetryHints {
        delay: error.delay,
        ..RetryHints::default()
    };
    let mut rule = Rule::of(status.or(number).unwrap_or(500), error, &hints);
    // It came, whatever it says of others that did not.
    rule.possibly_billed = false;
    (rule.within(longest_wait), hints)
}

fn failed(
    response: &ResponseView<'_>,
    rule: &Rule,
    body: &ErrorBody,
    hints: &RetryHints,
) -> AttemptError {
    // The key is taken out before the cut: half of it would not be found.
    let show = |text: &str, max: usize| match response.key {
        Some(key) => printable(&key.scrub_str(text), max),
        None => printable(text, max),
    };
    let code = body.code.as_deref().map(|code| show(code, MAX_CODE));

    let detail = match (rule.kind, hints.delay) {
        (ErrorKind::Redirect, _) => headers::text(response.headers, "location")
            .map(|location| format!(" to {}", show(&origin(location), MAX_CODE))),
        (ErrorKind::ServerDelay, Some(delay)) => {
            Some(format!(", {} s", delay.as_secs_f64().ceil()))
        }
        _ => None,
    };
    let status = response.status.to_string();
    let named = code.as_deref().filter(|code| *code != status);
    let named = named.map(|code| format!(", {code}")).unwrap_or_default();
    let quote = match &*body.message {
        "" => String::new(),
        message => format!(": \"{}\"", show(message, MAX_QUOTE)),
    };
    // `what happened (HTTP 401, invalid_api_key): "the provider's words"; what to do next`
    let (what, next) = rule.text.split_once("; ").unwrap_or((rule.text, ""));
    let detail = detail.unwrap_or_default();
    let message = format!("{what}{detail} (HTTP {status}{named}){quote}; {next}");

    let error = Error::new(rule.kind, message).with_facts(|facts| {
        facts.code = code;
        facts.quote = Some(show(&body.message, MAX_QUOTE)).filter(|quote| !quote.is_empty());
        facts.retry_after = hints.delay;
        facts.possibly_billed = rule.possibly_billed;
    });
    AttemptError {
        error,
        verdict: rule.verdict,
        usage: None,
    }
}

/// Scheme and host of a redirect's target. The path and the query may hold secrets.
fn origin(location: &str) -> String {
    let Some((scheme, rest)) = location.trim().split_once("//") else {
        return "another path".to_owned();
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}//{host}")
}

#[cfg(test)]
mod tests;
