//! From what happened to what is to be done: the table of outcomes.
//!
//! Pure: an answer or a transport fault goes in, a [`Judgement`] comes out. The rows follow the
//! providers' own documents and what their official clients do; where those differ, the side that
//! neither loses a row nor pays twice wins. `fault` has the rows without an answer, `record` asks the
//! same table about a record in a file.

mod fault;
mod record;

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

pub(crate) use fault::classify_fault;
pub(crate) use record::{passing, record_code};

use super::headers::Headers;
use super::hints;
use super::problem::Problem;
use super::usage::{self, Usage};
use crate::error::ErrorKind;
use crate::escape::printable;
use crate::retry::Verdict;

/// One answer, as classification sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a Headers,
    /// The body; of an error answer with the key already scrubbed, for it is quoted and cut here.
    pub(crate) body: &'a [u8],
    /// Our own time, for answers without a `Date`.
    pub(crate) wall: SystemTime,
    /// The model tokens the request was reserved at, to know how long to wait for so many.
    pub(crate) cost_tokens: u64,
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
    pub(crate) maybe_billed: bool,
}

/// At most so much of a provider's text goes into a message.
const MAX_QUOTE: usize = 300;

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
        let row = row(seen.status, &problem, &wishes);
        let verdict = obey(wishes.should_retry, &row);
        failure(
            Row { verdict, ..row },
            &format!("HTTP {}", seen.status),
            problem,
            &wishes,
        )
    };
    Judgement::Failure(Box::new(failure))
}

fn judge_success(seen: &Seen<'_>) -> Result<Option<Usage>, Failure> {
    let unusable = |what, next| {
        let row = Row::new(ErrorKind::Malformed, Verdict::Unusable, what, next).maybe_billed();
        let wishes = Wishes::read(seen, &Problem::default());
        let verdict = obey(wishes.should_retry, &row);
        let mut problem = Problem::read(seen.body.get(..4096).unwrap_or(seen.body));
        problem.code = None;
        let row = Row { verdict, ..row };
        failure(
            row,
            &format!("HTTP {}", seen.status),
            problem,
            &Wishes::default(),
        )
    };
    if seen.body.is_empty() {
        return Err(unusable(
            "the answer is empty",
            "check the base URL if it stays so",
        ));
    }
    let inspected = match usage::inspect(seen.body) {
        Ok(inspected) if inspected.is_composite => inspected,
        _ if seen.body.trim_ascii_start().starts_with(b"<") => {
            return Err(unusable(
                "the answer is a web page, not JSON",
                "check the base URL, and whether a proxy or a login stands in between",
            ));
        }
        Ok(_) => {
            return Err(unusable(
                "the answer is JSON but not an object",
                "check the base URL",
            ));
        }
        Err(_) => {
            return Err(unusable(
                "the answer is not JSON, or was cut short",
                "check the base URL if it stays so",
            ));
        }
    };
    match inspected.error {
        // OpenRouter answers 200 once the model has started, whatever happens then; OpenAI's
        // responses do for a model that failed.
        Some(error) if !inspected.has_choices => Err(judge_embedded(seen.status, error)),
        _ => Ok(inspected.usage),
    }
}

/// An error inside a 2xx answer counts as the status it names. The headers belong to the success it
/// was going to be, so they are not asked.
fn judge_embedded(status: u16, error: &str) -> Failure {
    let problem = Problem::read_error(error);
    let inner = problem.code_status().unwrap_or_else(|| {
        // OpenAI's, Anthropic's and Gemini's words for the statuses they did not send.
        const WORDS: &[(u16, &[&str])] = &[
            (
                429,
                &[
                    "rate_limit_exceeded",
                    "rate_limit_error",
                    "RESOURCE_EXHAUSTED",
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
                400,
                &[
                    "invalid_request_error",
                    "invalid_prompt",
                    "context_length_exceeded",
                    "INVALID_ARGUMENT",
                ],
            ),
            (
                503,
                &["server_is_overloaded", "overloaded_error", "UNAVAILABLE"],
            ),
        ];
        let named = WORDS.iter().find(|(_, words)| problem.has_code(words));
        named.map_or(500, |&(status, _)| status)
    });
    let wishes = Wishes {
        hint: problem.delay(),
        ..Wishes::default()
    };
    let row = row(inner, &problem, &wishes).maybe_billed();
    failure(
        row,
        &format!("HTTP {status} with an error inside"),
        problem,
        &wishes,
    )
}

/// What the answer's headers and body ask for.
#[derive(Default)]
struct Wishes {
    /// How long to wait.
    hint: Option<Duration>,
    /// The same from `retry-after` alone.
    header_hint: Option<Duration>,
    /// `x-should-retry`.
    should_retry: Option<bool>,
    /// `location`.
    location: Option<String>,
}

impl Wishes {
    fn read(seen: &Seen<'_>, problem: &Problem) -> Self {
        let used_up = || match seen.status {
            429 => hints::exhausted(seen.headers, seen.wall, seen.cost_tokens),
            _ => None,
        };
        let should_retry = seen.headers.get("x-should-retry").map(str::trim);
        Self {
            hint: hints::retry_after(seen.headers, problem, seen.wall).or_else(used_up),
            header_hint: hints::retry_after_header(seen.headers, seen.wall),
            should_retry: match should_retry {
                Some(value) if value.eq_ignore_ascii_case("true") => Some(true),
                Some(value) if value.eq_ignore_ascii_case("false") => Some(false),
                _ => None,
            },
            location: seen.headers.get("location").map(origin),
        }
    }

    /// The wait asked for holds for everyone; without one, `otherwise`.
    fn wait_or(&self, otherwise: Verdict) -> Verdict {
        self.hint.map_or(otherwise, Verdict::Wait)
    }
}

/// One row of the table.
struct Row {
    kind: ErrorKind,
    verdict: Verdict,
    what: &'static str,
    next: &'static str,
    maybe_billed: bool,
}

impl Row {
    fn new(kind: ErrorKind, verdict: Verdict, what: &'static str, next: &'static str) -> Self {
        Self {
            kind,
            verdict,
            what,
            next,
            maybe_billed: false,
        }
    }

    fn maybe_billed(self) -> Self {
        Self {
            maybe_billed: true,
            ..self
        }
    }
}

/// The table, for every status that is not a success.
fn row(status: u16, problem: &Problem, wishes: &Wishes) -> Row {
    use ErrorKind as K;
    use Verdict as V;

    // Some codes mean the same under every status they come with.
    if problem.is_out_of_money() {
        return Row::new(
            K::Quota,
            V::Stop,
            "the quota, the credit or a spend limit is used up",
            "add credit or raise the limit, then run again",
        );
    }
    if (400..500).contains(&status) && problem.is_content_filter() {
        return Row::new(
            K::ContentFilter,
            V::Fail,
            "the content filter refused the request",
            "change its content",
        );
    }
    match status {
        300..400 => Row::new(
            K::Redirect,
            V::Stop,
            "the server redirects",
            "a redirect is never followed, since it would carry the API key elsewhere; set the base URL to the final address",
        ),
        401 => Row::new(
            K::Auth,
            V::Stop,
            "the API key was refused",
            "check that the API key is complete, active and meant for this base URL",
        ),
        // OpenRouter's budget for requests in flight is a matter of moments, and has the header.
        402 => match wishes.header_hint {
            Some(delay) => Row::new(
                K::RateLimited,
                V::Wait(delay),
                "the budget for requests in flight is used up",
                "retried by itself",
            ),
            None => Row::new(
                K::Quota,
                V::Stop,
                "the server wants payment first",
                "add credit, then run again",
            ),
        },
        403 => Row::new(
            K::Permission,
            V::FailAlike(status),
            "not allowed",
            "check what the API key may use, and from where",
        ),
        404 => Row::new(
            K::NotFound,
            V::FailAlike(status),
            "no such endpoint or model",
            "check the base URL and the model's name",
        ),
        407 => Row::new(
            K::Config,
            V::Stop,
            "the proxy wants credentials",
            "set them in the proxy's URL, or except this host with NO_PROXY",
        ),
        // The server may be telling this client alone, so the others go on.
        408 | 409 | 425 => Row::new(
            K::Server,
            wishes.hint.map_or(V::Retry, V::WaitAlone),
            "the server could not take the request just now",
            "retried by itself",
        ),
        413 | 429 if problem.never_fits() => Row::new(
            K::TooLarge,
            V::Fail,
            "the request alone is larger than the limit",
            "make it or its max_tokens smaller, or ask the provider for a higher limit",
        ),
        413 => Row::new(
            K::TooLarge,
            V::Fail,
            "the request is too large",
            "make it smaller",
        ),
        429 if problem.has_no_quota() => Row::new(
            K::Quota,
            V::Stop,
            "the API key has no quota for this model",
            "choose another model or plan, then run again",
        ),
        // LiteLLM says so while every deployment cools down, also after a backend refused its key
        // (BerriAI/litellm#2493): the attempts are charged, so that it comes to an end.
        429 if problem.message.contains("No deployments available") => Row::new(
            K::RateLimited,
            V::Throttled,
            "the gateway has no deployment available",
            "if it stays so, check the keys of its backends",
        ),
        429 => Row::new(
            K::RateLimited,
            wishes.wait_or(V::Throttled),
            "the server asks for a slower pace",
            "retried by itself; lower the rate if it happens often",
        ),
        400..500 => Row::new(K::Invalid, V::Fail, "the request is wrong", "correct it"),
        529 => overloaded(wishes),
        500..600 if problem.is_overload() => overloaded(wishes),
        // A gateway that lost the answer cannot know whether there was one.
        502 | 504 | 520..=524 => Row::new(
            K::Server,
            wishes.wait_or(V::Retry),
            "the gateway got no answer",
            "retried by itself",
        )
        .maybe_billed(),
        500..600 => Row::new(
            K::Server,
            wishes.wait_or(V::Retry),
            "the server failed",
            "retried by itself",
        ),
        _ => Row::new(
            K::Protocol,
            V::Fail,
            "the server answered with a status that HTTP does not have",
            "check the base URL",
        ),
    }
}

fn overloaded(wishes: &Wishes) -> Row {
    Row::new(
        ErrorKind::Overloaded,
        wishes.wait_or(Verdict::Throttled),
        "the server is overloaded",
        "retried by itself",
    )
}

/// What `x-should-retry` leaves of a row's verdict. A refusal is final. A request to retry is
/// honoured except where it would go on against money or a wrong key, or where the row's own figures
/// show that the request never fits.
fn obey(should_retry: Option<bool>, row: &Row) -> Verdict {
    match (should_retry, row.verdict) {
        (_, Verdict::Stop) => Verdict::Stop,
        (Some(false), Verdict::FailAlike(status)) => Verdict::FailAlike(status),
        (Some(false), _) => Verdict::Fail,
        (Some(true), Verdict::Fail | Verdict::FailAlike(_)) if row.kind != ErrorKind::TooLarge => {
            Verdict::Retry
        }
        (_, verdict) => verdict,
    }
}

fn failure(row: Row, status: &str, problem: Problem, wishes: &Wishes) -> Failure {
    Failure {
        kind: row.kind,
        verdict: row.verdict,
        message: message(&row, status, &problem, wishes),
        code: problem.code,
        retry_after: wishes.hint,
        maybe_billed: row.maybe_billed,
    }
}

/// `what happened (HTTP 401, invalid_api_key): "the provider's words"; what to do next`.
fn message(row: &Row, status: &str, problem: &Problem, wishes: &Wishes) -> String {
    let mut message = row.what.to_owned();
    if let (ErrorKind::Redirect, Some(location)) = (row.kind, &wishes.location) {
        message.push_str(" to ");
        message.push_str(location);
    }
    // Writing to a String cannot fail.
    let _ = write!(message, " ({status}");
    if let Some(code) = problem
        .code
        .as_deref()
        .filter(|code| !status.ends_with(code))
    {
        let _ = write!(message, ", {code}");
    }
    message.push(')');
    if !problem.message.is_empty() {
        let _ = write!(message, ": \"{}\"", printable(&problem.message, MAX_QUOTE));
    }
    let _ = write!(message, "; {}", row.next);
    message
}

/// Scheme and host of a redirect's target: a path or a query may hold what is nobody's business.
fn origin(location: &str) -> String {
    let Some((scheme, rest)) = location.trim().split_once("//") else {
        return "another path".to_owned();
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    printable(&format!("{scheme}//{host}"), 100)
}

#[cfg(test)]
mod tests;
