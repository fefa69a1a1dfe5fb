//! Judges what came of an attempt: the table of outcomes.
//!
//! Pure: an answer or a transport error goes in, usage or a [`AttemptError`] comes out. The rows
//! follow the providers' own documents and what their official clients do; where those differ, the
//! side that neither loses a row nor pays twice wins. `rules` has the answers, `transport_error` what
//! has no answer, and `record` asks the same table about a record in a file.

mod record;
mod rules;
mod transport_error;

pub(crate) use record::{is_transient_record, record_code};
pub(crate) use transport_error::classify_transport_error;

use super::error_body::ErrorBody;
use super::headers;
use super::rate_limit_headers::RetryHints;
pub(crate) use super::response::ResponseView;
use super::usage::{self, Usage};
use crate::error::{Error, ErrorKind};
use crate::escape::printable;
use crate::retry::Verdict;
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
    let start = response.body.trim_ascii_start();
    // It was asked for, so each further attempt would be billed for the same.
    let is_stream = [&b"data:"[..], b"event:", b":"]
        .iter()
        .any(|field| start.starts_with(field));
    let text = match usage::inspect(response.body) {
        Ok(answer) if answer.is_composite => {
            return match answer.error {
                // OpenRouter answers 200 once the model has started, even if it fails later; OpenAI's
                // responses answer 200 for a model that failed.
                Some(error) if !answer.has_choices => Err(classify_embedded(response, error)),
                _ => Ok(answer.usage),
            };
        }
        Ok(_) => "the answer is JSON but not an object; check the base URL",
        Err(_) if response.body.is_empty() => {
            "the answer is empty; check the base URL if it stays so"
        }
        Err(_) if is_stream => {
            "the answer is a stream of events, which is not read; leave `stream` out of the request"
        }
        Err(_) if start.starts_with(b"<") => {
            "the answer is a web page, not JSON; \
             check the base URL, and whether a proxy or a login stands in between"
        }
        Err(_) => "the answer is not JSON, or was cut short; check the base URL if it stays so",
    };
    let (kind, verdict) = if is_stream {
        (ErrorKind::Invalid, Verdict::Fail)
    } else {
        (ErrorKind::Malformed, Verdict::Unusable)
    };
    let rule = Rule {
        kind,
        verdict,
        text,
        possibly_billed: false,
    };
    let rule = rule.obey(&RetryHints::read(response, &ErrorBody::default()));
    let start = response.body.get(..MAX_LOOK).unwrap_or(response.body);
    // Retry-After means nothing on a success.
    let hints = RetryHints::default();
    Err(failed(response, &rule, &ErrorBody::read(start), &hints))
}

/// What OpenAI, Anthropic and Gemini call the statuses, for errors without one.
const STATUS_WORDS: &[(u16, &[&str])] = &[
    (400, &["invalid_request_error", "invalid_prompt"]),
    (400, &["context_length_exceeded", "INVALID_ARGUMENT"]),
    (401, &["authentication_error", "invalid_api_key"]),
    (401, &["UNAUTHENTICATED"]),
    (403, &["permission_error", "PERMISSION_DENIED"]),
    (404, &["not_found_error", "model_not_found", "NOT_FOUND"]),
    (413, &["request_too_large"]),
    (429, &["rate_limit_exceeded", "rate_limit_error"]),
    (429, &["RESOURCE_EXHAUSTED"]),
    (503, &["server_is_overloaded", "overloaded_error"]),
    (503, &["UNAVAILABLE"]),
];

/// An error inside a 2xx answer counts as the status it names. The headers were sent for a success,
/// so they are not read.
fn classify_embedded(response: &ResponseView<'_>, error: &str) -> AttemptError {
    let body = ErrorBody::read_error(error);
    let named = || STATUS_WORDS.iter().find(|(_, words)| body.has_code(words));
    let status = body
        .code_status()
        .or_else(|| named().map(|&(status, _)| status))
        .unwrap_or(500);
    let hints = RetryHints {
        delay: body.delay(),
        ..RetryHints::default()
    };
    let mut rule = Rule::of(status, &body, &hints).within(response.longest_wait);
    // It came, whatever it says of others that did not.
    rule.possibly_billed = false;
    failed(response, &rule, &body, &hints)
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
