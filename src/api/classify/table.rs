//! The table itself: one [`Row`] for every status that is not a success.

use crate::api::headers::text;
use std::time::Duration;

use super::Seen;
use crate::api::hints;
use crate::api::problem::Problem;
use crate::error::ErrorKind;
use crate::retry::Verdict;

/// One row: what a failure is, what is done about it, and how to tell it.
pub(super) struct Row {
    pub(super) kind: ErrorKind,
    pub(super) verdict: Verdict,
    pub(super) what: &'static str,
    pub(super) next: &'static str,
    pub(super) possibly_billed: bool,
}

/// What the answer's headers and body ask for.
#[derive(Default)]
pub(super) struct Wishes {
    /// How long to wait.
    pub(super) hint: Option<Duration>,
    /// The same from `retry-after` alone.
    header_hint: Option<Duration>,
    /// `x-should-retry`.
    should_retry: Option<bool>,
}

impl Wishes {
    pub(super) fn read(seen: &Seen<'_>, problem: &Problem) -> Self {
        let used_up = || match seen.status {
            429 => hints::exhausted(seen.headers, seen.wall, seen.cost_tokens),
            _ => None,
        };
        let should_retry = text(seen.headers, "x-should-retry").map(str::trim);
        Self {
            hint: hints::retry_after(seen.headers, problem, seen.wall).or_else(used_up),
            header_hint: hints::retry_after_header(seen.headers, seen.wall),
            should_retry: match should_retry {
                Some(value) if value.eq_ignore_ascii_case("true") => Some(true),
                Some(value) if value.eq_ignore_ascii_case("false") => Some(false),
                _ => None,
            },
        }
    }

    /// Those of a body whose headers do not belong to it.
    pub(super) fn of_body(problem: &Problem) -> Self {
        Self {
            hint: problem.delay(),
            ..Self::default()
        }
    }

    /// The wait asked for holds for everyone; without one, `otherwise`.
    fn wait_or(&self, otherwise: Verdict) -> Verdict {
        self.hint.map_or(otherwise, Verdict::PauseAll)
    }
}

impl Row {
    pub(super) fn new(
        kind: ErrorKind,
        verdict: Verdict,
        what: &'static str,
        next: &'static str,
    ) -> Self {
        Self {
            kind,
            verdict,
            what,
            next,
            possibly_billed: false,
        }
    }

    pub(super) fn possibly_billed(self) -> Self {
        Self {
            possibly_billed: true,
            ..self
        }
    }

    /// The row of an answer that is not a success.
    pub(super) fn of(status: u16, problem: &Problem, wishes: &Wishes) -> Self {
        if problem.is_out_of_money() {
            // These codes mean the same under every status they come with.
            return Self::new(
                ErrorKind::Quota,
                Verdict::Stop,
                "the quota, the credit or a spend limit is used up",
                "add credit or raise the limit, then run again",
            );
        }
        match status {
            300..400 => Self::new(
                ErrorKind::Redirect,
                Verdict::Stop,
                "the server redirects",
                "a redirect is never followed, as it could take the API key elsewhere; \
                 set the base URL to the final address",
            ),
            429 => Self::of_pace(problem, wishes),
            400..500 => Self::of_refusal(status, problem, wishes),
            500..600 => Self::of_server(status, problem, wishes),
            _ => Self::new(
                ErrorKind::Protocol,
                Verdict::Fail,
                "the server answered with a status that HTTP does not have",
                "check the base URL",
            ),
        }
    }

    fn of_refusal(status: u16, problem: &Problem, wishes: &Wishes) -> Self {
        use ErrorKind as K;
        use Verdict as V;

        let (kind, verdict, what, next) = match status {
            _ if problem.is_content_filter() => (
                K::ContentFilter,
                V::Fail,
                "the content filter refused the request",
                "change its content",
            ),
            401 => (
                K::Auth,
                V::Stop,
                "the API key was refused",
                "check that the API key is complete, active and meant for this base URL",
            ),
            // OpenRouter's budget for requests in flight is a matter of moments, and has the header.
            402 => match wishes.header_hint {
                Some(delay) => (
                    K::RateLimited,
                    V::PauseAll(delay),
                    "the budget for requests in flight is used up",
                    "retried by itself",
                ),
                None => (
                    K::Quota,
                    V::Stop,
                    "the server wants payment first",
                    "add credit, then run again",
                ),
            },
            403 => (
                K::Permission,
                V::FailOrStopIfRepeated(status),
                "not allowed",
                "check what the API key may use, and from where",
            ),
            404 => (
                K::NotFound,
                V::FailOrStopIfRepeated(status),
                "no such endpoint or model",
                "check the base URL and the model's name",
            ),
            407 => (
                K::Config,
                V::Stop,
                "the proxy wants credentials",
                "set them in the proxy's URL, or except this host with NO_PROXY",
            ),
            // It may be telling this request alone, so the others go on.
            408 | 409 | 425 => (
                K::Server,
                wishes.hint.map_or(V::Retry, V::RetryAfter),
                "the server could not take the request just now",
                "retried by itself",
            ),
            413 if problem.never_fits() => return Self::never_fits(),
            413 => (
                K::TooLarge,
                V::Fail,
                "the request is too large",
                "make it smaller",
            ),
            _ => (K::Invalid, V::Fail, "the request is wrong", "correct it"),
        };
        Self::new(kind, verdict, what, next)
    }

    fn of_pace(problem: &Problem, wishes: &Wishes) -> Self {
        if problem.never_fits() {
            return Self::never_fits();
        }
        if problem.has_no_quota() {
            return Self::new(
                ErrorKind::Quota,
                Verdict::Stop,
                "the API key has no quota for this model",
                "choose another model or plan, then run again",
            );
        }
        // LiteLLM says so while every deployment cools down, also after a backend refused its key
        // (BerriAI/litellm#2493): the attempts are charged, so that it comes to an end.
        if problem.message.contains("No deployments available") {
            return Self::new(
                ErrorKind::RateLimited,
                Verdict::Throttled,
                "the gateway has no deployment available",
                "if it stays so, check the keys of its backends",
            );
        }
        Self::new(
            ErrorKind::RateLimited,
            wishes.wait_or(Verdict::Throttled),
            "the server asks for a slower pace",
            "retried by itself; lower the rate if it happens often",
        )
    }

    fn never_fits() -> Self {
        Self::new(
            ErrorKind::TooLarge,
            Verdict::Fail,
            "the request alone is larger than the limit",
            "make it or its max_tokens smaller, or ask the provider for a higher limit",
        )
    }

    fn of_server(status: u16, problem: &Problem, wishes: &Wishes) -> Self {
        if status == 529 || problem.is_overload() {
            return Self::new(
                ErrorKind::Overloaded,
                wishes.wait_or(Verdict::Throttled),
                "the server is overloaded",
                "retried by itself",
            );
        }
        let row = Self::new(
            ErrorKind::Server,
            wishes.wait_or(Verdict::Retry),
            "the server failed",
            "retried by itself",
        );
        match status {
            // A gateway that lost the answer does not know whether there was one. Cloudflare has
            // numbers of its own for that.
            502 | 504 | 520..=524 => row.possibly_billed(),
            _ => row,
        }
    }

    /// A wait longer than is sat through is a failure of its own: the engine stops the run at it,
    /// and "retried by itself" would be wrong.
    pub(super) fn within(self, longest_wait: Option<Duration>) -> Self {
        match self.verdict {
            Verdict::PauseAll(delay) | Verdict::RetryAfter(delay)
                if longest_wait.is_some_and(|longest| delay > longest) =>
            {
                Self {
                    kind: ErrorKind::ServerDelay,
                    what: "the server asks for a longer wait than is allowed",
                    next: "run again after that time, or allow longer server delays",
                    ..self
                }
            }
            _ => self,
        }
    }

    /// What `x-should-retry` leaves of the verdict. A no is final. A yes is honoured except against
    /// money and a wrong key, and where the request itself is too large ever to be taken.
    pub(super) fn obey(self, wishes: &Wishes) -> Self {
        let verdict = match (wishes.should_retry, self.verdict) {
            (Some(false), Verdict::Stop | Verdict::FailOrStopIfRepeated(_)) => self.verdict,
            (Some(false), _) => Verdict::Fail,
            (Some(true), Verdict::Fail | Verdict::FailOrStopIfRepeated(_))
                if self.kind != ErrorKind::TooLarge =>
            {
                Verdict::Retry
            }
            (_, verdict) => verdict,
        };
        Self { verdict, ..self }
    }
}
