//! The table: one [`Rule`] for every status that is not a success. The first row that matches
//! counts.

use std::time::Duration;

use crate::api::error_body::ErrorBody;
use crate::api::rate_limit_headers::RetryHints;
use crate::error::ErrorKind;
use crate::retry::Verdict;

/// What a failure is, what is done about it, and how to tell it.
pub(super) struct Rule {
    pub(super) kind: ErrorKind,
    pub(super) verdict: Verdict,
    /// What happened, and after a semicolon what to do about it.
    pub(super) text: &'static str,
    pub(super) possibly_billed: bool,
}

impl Rule {
    /// The rule for an answer that is not a success.
    #[expect(clippy::too_many_lines, reason = "a table is as long as its rows")]
    pub(super) fn of(status: u16, body: &ErrorBody, hints: &RetryHints) -> Self {
        use ErrorKind as K;
        use Verdict as V;

        let message = &body.message;
        // A wait that is asked for holds for everyone.
        let pause_or = |otherwise| hints.delay.map_or(otherwise, V::PauseAll);
        let (kind, verdict, text) = match status {
            // These codes mean the same under every status they come with.
            _ if body.is_out_of_money() => (K::Quota, V::Stop, OUT_OF_MONEY),
            300..400 => (
                K::Redirect,
                V::Stop,
                "the server redirects; a redirect is never followed, as it could take the API key \
                 elsewhere: set the base URL to the final address",
            ),
            413 | 429 if body.never_fits() => NEVER_FITS,
            // Only words: a few rows say it before the run stops.
            400 | 403..=406 | 410..=412 | 414..=424 | 426..=499
                if hints.delay.is_none() && body.speaks_of_money() && !body.is_content_filter() =>
            {
                let verdict = if status == 429 { V::Throttled } else { V::Fail };
                (K::Quota, verdict, OUT_OF_MONEY)
            }
            429 => (
                K::RateLimited,
                pause_or(V::Throttled),
                "the server asks for a slower pace; a later attempt may succeed, but if it happens \
                 often, lower the rate or, at a gateway, see whether its backends refuse their keys",
            ),
            400..500 if body.is_content_filter() => (
                K::ContentFilter,
                V::Fail,
                "the content filter refused the request; change its content",
            ),
            // nginx and Go.
            400 if message.ends_with("HTTPS port") || message.ends_with("HTTPS server.") => (
                K::Config,
                V::Stop,
                "the server expects TLS on this port; use https:// in the base URL",
            ),
            // Gemini, and LiteLLM without a database, refuse a key with 400.
            400 if body.is_wrong_key() => WRONG_KEY,
            401 => WRONG_KEY,
            // OpenRouter's budget for requests in flight is free again in moments; it sends the
            // header.
            402 => match hints.header_delay {
                Some(delay) => (
                    K::RateLimited,
                    V::PauseAll(delay),
                    "the budget for requests in flight is used up; a later attempt may succeed",
                ),
                None => (
                    K::Quota,
                    V::Stop,
                    "the server wants payment first; add credit, then run again",
                ),
            },
            403 => (
                K::Permission,
                V::FailOrStopIfRepeated(status),
                "the API key may not do this; check what it may use, and from where",
            ),
            404 => (
                K::NotFound,
                V::FailOrStopIfRepeated(status),
                "there is no such endpoint or model; check the base URL and the model's name",
            ),
            407 => (
                K::Config,
                V::Stop,
                "the proxy wants credentials; \
                 set them in the proxy's URL, or except this host with NO_PROXY",
            ),
            // It may concern this request alone, so the others go on.
            408 | 409 | 425 => (
                K::Server,
                hints.delay.map_or(V::Retry, V::RetryAfter),
                "the server could not take the request just now; a later attempt may succeed",
            ),
            413 => (
                K::TooLarge,
                V::Fail,
                "the request is too large; make it smaller",
            ),
            // Groq: the model's slip, and another answer may be without it.
            400 if body.has_code("json_validate_failed|tool_use_failed") => (
                K::Malformed,
                V::Unusable,
                "the model's answer is not in the form that was asked for; \
                 a later attempt may succeed",
            ),
            400..500 => (K::Invalid, V::Fail, "the request is wrong; correct it"),
            501 => (
                K::NotFound,
                V::Fail,
                "the server does not offer this; check the endpoint, and how the server was started",
            ),
            // new-api and one-api say 503 to a model that nobody has set up
            // (QuantumNous/new-api#6310).
            500..600 if body.has_code("model_not_found") => (
                K::Server,
                pause_or(V::FailOrStopIfRepeated(status)),
                "the gateway has no server for this model; \
                 check the model's name, and what the gateway is set up for",
            ),
            500..600 if status == 529 || body.is_overload() => (
                K::Overloaded,
                pause_or(V::Throttled),
                "the server is overloaded or not ready; a later attempt may succeed",
            ),
            // Only words, here too.
            500..600 if hints.delay.is_none() && body.lacks_money() => {
                (K::Quota, V::Retry, OUT_OF_MONEY)
            }
            500..600 => (
                K::Server,
                pause_or(V::Retry),
                "the server failed; a later attempt may succeed",
            ),
            _ => (
                K::Protocol,
                V::Fail,
                "the server answered with a status that HTTP does not have; check the base URL",
            ),
        };
        Self {
            kind,
            verdict,
            text,
            // A gateway that lost the connection does not know whether there was an answer. 520 to
            // 524 are Cloudflare's.
            possibly_billed: kind == K::Server && matches!(status, 502 | 504 | 520..=524),
        }
    }

    /// A wait longer than is allowed is a failure of its own: the engine stops the run at it, and
    /// "a later attempt may succeed" would be wrong.
    pub(super) fn within(self, longest_wait: Option<Duration>) -> Self {
        match self.verdict {
            Verdict::PauseAll(delay) | Verdict::RetryAfter(delay)
                if longest_wait.is_some_and(|longest| delay > longest) =>
            {
                Self {
                    kind: ErrorKind::ServerDelay,
                    text: "the server asks for a longer wait than is allowed; \
                           run again after that time, or allow longer ones (`max_server_delay`)",
                    ..self
                }
            }
            _ => self,
        }
    }

    /// What `x-should-retry` leaves of the verdict. A no is final. A yes is honoured except against
    /// money and a wrong key, and where the request itself is too large ever to be taken.
    pub(super) fn obey(self, hints: &RetryHints) -> Self {
        let verdict = match (hints.should_retry, self.verdict) {
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

const OUT_OF_MONEY: &str = "the quota, the credit or a spend limit is used up; \
                            add credit or raise the limit, then run again";

const WRONG_KEY: (ErrorKind, Verdict, &str) = (
    ErrorKind::Auth,
    Verdict::Stop,
    "the API key was refused; check that it is complete, active and meant for this base URL",
);

const NEVER_FITS: (ErrorKind, Verdict, &str) = (
    ErrorKind::TooLarge,
    Verdict::Fail,
    "the request alone is larger than the limit; \
     make it or its max_tokens smaller, or ask the provider for a higher limit",
);
