//! From what happened to what is to be done: the table of outcomes.
//!
//! Pure: an answer or a transport fault goes in, a [`Judgement`] comes out. The rows follow the
//! providers' own documents and what their official clients do; where those differ, the side that
//! neither loses a row nor pays twice wins. `table` has the rows of answers and `fault` those without
//! one; `record` asks the same table about a record in a file.

mod fault;
mod record;
mod table;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

pub(crate) use fault::classify_fault;
pub(crate) use record::{passing, record_code};

use table::{Row, Wishes};

use http::HeaderMap;

use super::headers;
use super::key::ApiKey;
use super::problem::Problem;
use super::usage::{self, Usage};
use crate::error::ErrorKind;
use crate::escape::printable;
use crate::retry::Verdict;

/// One answer, as classification sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The key the request was sent with: some providers repeat it, and messages quote them.
    pub(crate) key: Option<&'a ApiKey>,
    /// Our own time, for answers without a `Date`.
    pub(crate) wall: SystemTime,
    /// The model tokens the request was reserved at, to know how long to wait for so many.
    pub(crate) cost_tokens: u64,
    /// The longest wait that is sat through; a longer one is told as such. `None`: any.
    pub(crate) longest_wait: Option<Duration>,
}

/// What an outcome amounts to.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// An answer to keep.
    Success(Option<Usage>),
    /// Anything else.
    Failure(Box<Failure>),
}

/// A failed attempt: what to tell, and what to do.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) verdict: Verdict,
    /// The provider's own code.
    pub(crate) code: Option<String>,
    /// For people: what happened, the provider's words made printable, and what to do next.
    pub(crate) message: String,
    /// The wait the server asked for, whatever the verdict makes of it.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the provider may have billed an answer that was lost.
    pub(crate) possibly_billed: bool,
}

/// At most so many characters of a provider's text go into a message.
const MAX_QUOTE: usize = 300;
/// A longer code is not a code.
const MAX_CODE: usize = 64;
/// How much of an unusable 2xx body is looked at for something to quote, in bytes.
const MAX_LOOK: usize = 4 << 10;

/// Judges a complete answer.
pub(crate) fn classify_answer(seen: &Seen<'_>) -> Judgement {
    let failure = if (200..300).contains(&seen.status) {
        match judge_success(seen) {
            Ok(usage) => return Judgement::Success(usage),
            Err(failure) => failure,
        }
    } else {
        let problem = Problem::read(seen.body);
        let wishes = Wishes::read(seen, &problem);
        let row = Row::of(seen.status, &problem, &wishes)
            .obey(&wishes)
            .within(seen.longest_wait);
        failure(seen, &row, &problem, &wishes)
    };
    Judgement::Failure(Box::new(failure))
}

fn judge_success(seen: &Seen<'_>) -> Result<Option<Usage>, Failure> {
    let (what, next) = match usage::inspect(seen.body) {
        Ok(answer) if answer.is_composite => {
            return match answer.error {
                // OpenRouter answers 200 once the model has started, whatever happens then; OpenAI's
                // responses do for a model that failed.
                Some(error) if !answer.has_choices => Err(judge_embedded(seen, error)),
                _ => Ok(answer.usage),
            };
        }
        Ok(_) => ("the answer is JSON but not an object", "check the base URL"),
        Err(_) if seen.body.is_empty() => {
            ("the answer is empty", "check the base URL if it stays so")
        }
        Err(_) if seen.body.trim_ascii_start().starts_with(b"<") => (
            "the answer is a web page, not JSON",
            "check the base URL, and whether a proxy or a login stands in between",
        ),
        Err(_) => (
            "the answer is not JSON, or was cut short",
            "check the base URL if it stays so",
        ),
    };
    let row = Row::new(ErrorKind::Malformed, Verdict::Unusable, what, next).possibly_billed();
    let row = row.obey(&Wishes::read(seen, &Problem::default()));
    let problem = Problem::read(seen.body.get(..MAX_LOOK).unwrap_or(seen.body));
    // Retry-After means nothing on a success.
    Err(failure(seen, &row, &problem, &Wishes::default()))
}

/// An error inside a 2xx answer counts as the status it names. The headers belong to the success it
/// was going to be, so they are not asked.
fn judge_embedded(seen: &Seen<'_>, error: &str) -> Failure {
    /// OpenAI's, Anthropic's and Gemini's words for the statuses they did not send.
    const WORDS: &[(u16, &[&str])] = &[
        (
            400,
            &[
                "invalid_request_error",
                "invalid_prompt",
                "context_length_exceeded",
                "INVALID_ARGUMENT",
            ],
        ),
        (
            401,
            &["authentication_error", "invalid_api_key", "UNAUTHENTICATED"],
        ),
        (403, &["permission_error", "PERMISSION_DENIED"]),
        (404, &["not_found_error", "model_not_found", "NOT_FOUND"]),
        (413, &["request_too_large"]),
        (
            429,
            &[
                "rate_limit_exceeded",
                "rate_limit_error",
                "RESOURCE_EXHAUSTED",
            ],
        ),
        (
            503,
            &["server_is_overloaded", "overloaded_error", "UNAVAILABLE"],
        ),
    ];
    let problem = Problem::read_error(error);
    let named = || WORDS.iter().find(|(_, words)| problem.has_code(words));
    let status = problem
        .code_status()
        .or_else(|| named().map(|&(status, _)| status))
        .unwrap_or(500);
    let wishes = Wishes::of_body(&problem);
    let row = Row::of(status, &problem, &wishes)
        .possibly_billed()
        .within(seen.longest_wait);
    failure(seen, &row, &problem, &wishes)
}

fn failure(seen: &Seen<'_>, row: &Row, problem: &Problem, wishes: &Wishes) -> Failure {
    // Scrubbed before it is cut: half a key would not be found.
    let show = |text: &str, max: usize| match seen.key {
        Some(key) => printable(&key.scrub_str(text), max),
        None => printable(text, max),
    };
    let code = problem.code.as_deref().map(|code| show(code, MAX_CODE));

    // `what happened (HTTP 401, invalid_api_key): "the provider's words"; what to do next`
    let mut message = row.what.to_owned();
    if row.kind == ErrorKind::Redirect
        && let Some(location) = headers::text(seen.headers, "location")
    {
        message += " to ";
        message += &show(&origin(location), MAX_CODE);
    }
    // Writing to a String cannot fail.
    if row.kind == ErrorKind::ServerDelay
        && let Some(delay) = wishes.hint
    {
        let _ = write!(message, ", {} s", delay.as_secs_f64().ceil());
    }
    let _ = write!(message, " (HTTP {}", seen.status);
    match &code {
        Some(code) if *code != seen.status.to_string() => {
            let _ = write!(message, ", {code}");
        }
        _ => {}
    }
    message += ")";
    if !problem.message.is_empty() {
        let _ = write!(message, ": \"{}\"", show(&problem.message, MAX_QUOTE));
    }
    message += "; ";
    message += row.next;

    Failure {
        kind: row.kind,
        verdict: row.verdict,
        code,
        message,
        retry_after: wishes.hint,
        possibly_billed: row.possibly_billed,
    }
}

/// Scheme and host of a redirect's target: a path or a query may hold what is nobody's business.
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
