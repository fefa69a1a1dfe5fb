//! The limit that a server names when it refuses a request, in words or in headers.
//!
//! Only a limit whose period is certain is read: it is told to the user as a setting to copy.

use std::time::SystemTime;

use http::HeaderMap;

use super::limit_headers::{now, plain};
use super::times;
use crate::error::AnnouncedLimit;
use crate::limit::Counted;

/// The limit that `message` names, else that of the headers.
pub(super) fn announced_limit(
    headers: &HeaderMap,
    message: &str,
    wall: SystemTime,
) -> Option<AnnouncedLimit> {
    if message.contains("rpm_limit") {
        return in_fields(message);
    }
    in_words(message).or_else(|| in_headers(headers, wall))
}

/// `LiteLLM`: `{'current_tpm': 1770, 'tpm_limit': inf, 'current_rpm': 59, 'rpm_limit': 60}`. Where
/// both are limited, it is not certain which one is meant.
fn in_fields(message: &str) -> Option<AnnouncedLimit> {
    let value = |name: &str| {
        let (_, behind) = message.split_once(name)?;
        let number = behind.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let end = number.find(|c: char| !c.is_ascii_digit());
        positive(&number[..end.unwrap_or(number.len())])
    };
    let (number, is_tokens) = match (value("rpm_limit"), value("tpm_limit")) {
        (Some(requests), None) => (requests, false),
        (None, Some(tokens)) => (tokens, true),
        _ => return None,
    };
    Some(AnnouncedLimit {
        number,
        is_tokens,
        period_s: 60,
    })
}

/// `60 requests per minute`, `60 RPM`, `on tokens per min (TPM): Limit 30,000, Used ..`.
fn in_words(message: &str) -> Option<AnnouncedLimit> {
    // What may stand between a period and the number before it, or behind it.
    const COUNTED: [&str; 7] = [
        "request", "requests", "req", "calls", "token", "tokens", "api",
    ];
    const LIMIT: [&str; 7] = ["rpm", "tpm", "rps", "limit", "is", "of", "exceeded"];
    // 30,000 is one number.
    let text = message
        .to_ascii_lowercase()
        .replace(',', "")
        .replace('/', " per ");
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    (0..words.len()).find_map(|at| {
        let (counted, period) = (at.checked_sub(1), words.get(at + 1).copied());
        let counted = counted.map_or("", |before| words[before]);
        let (is_tokens, period_s) = match (words[at], period) {
            ("rpm", _) => (false, 60),
            ("tpm", _) => (true, 60),
            ("rps", _) => (false, 1),
            ("per" | "a", Some("min" | "minute")) => (counted.starts_with("token"), 60),
            ("per" | "a", Some("s" | "sec" | "second")) => (counted.starts_with("token"), 1),
            _ => return None,
        };
        let mut before = words[..at].iter().rev();
        let before = before.find(|word| !COUNTED.contains(word));
        let is_other = |word: &&&str| !LIMIT.contains(word) && Some(**word) != period;
        let after = words[at + 1..].iter().find(is_other);
        let number = [before, after].into_iter().flatten().find_map(positive)?;
        Some(AnnouncedLimit {
            number,
            is_tokens,
            period_s,
        })
    })
}

fn positive(number: &(impl AsRef<str> + ?Sized)) -> Option<u64> {
    let number = number.as_ref().trim().parse().ok()?;
    (number > 0).then_some(number)
}

/// Of the headers of OpenAI and Anthropic, a limit of which nothing remains. The time until it is
/// full tells its period: Groq counts requests a day under the same name.
fn in_headers(headers: &HeaderMap, wall: SystemTime) -> Option<AnnouncedLimit> {
    const A_MINUTE: u64 = 60;
    let mut found = plain(headers);
    found.retain(|limit| !limit.is_doubled && limit.window.is_none());
    // Of several the one on requests.
    found.sort_by_key(|limit| limit.counted == Some(Counted::Tokens));
    found.iter().find_map(|limit| {
        let is_tokens = match limit.counted? {
            Counted::Requests => false,
            Counted::Tokens => true,
            Counted::InputTokens | Counted::OutputTokens => return None,
        };
        let number = positive(limit.limit?)?;
        let is_used_up = limit.remaining.is_none_or(|left| left.trim() == "0");
        let reset = limit.reset;
        let reset = reset.and_then(|reset| times::until_reset(reset, now(headers, wall)));
        // A second more: the server rounds.
        let is_soon = reset.is_none_or(|reset| reset.as_secs() <= A_MINUTE + 1);
        (is_used_up && is_soon).then_some(AnnouncedLimit {
            number,
            is_tokens,
            period_s: A_MINUTE,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::{HeaderName, HeaderValue};

    use super::*;

    fn told(limit: Option<AnnouncedLimit>) -> Option<(u64, bool, u64)> {
        limit.map(|limit| (limit.number, limit.is_tokens, limit.period_s))
    }

    #[test]
    fn a_limit_is_read_from_words() {
        for (message, limit) in [
            (
                "Rate limit reached: 60 requests per minute",
                Some((60, false, 60)),
            ),
            ("Too many requests, 60 RPM allowed", Some((60, false, 60))),
            (
                "You exceeded 60 RPM. 5 more are waiting",
                Some((60, false, 60)),
            ),
            ("You may send 60/min.", Some((60, false, 60))),
            ("limit of 5 requests / second", Some((5, false, 1))),
            ("rpm limit: 60", Some((60, false, 60))),
            (
                "Rate limit reached for gpt-4 in organization org-12 on requests per min (RPM): Limit 3, \
                 Used 3, Requested 1. Please try again in 20s.",
                Some((3, false, 60)),
            ),
            (
                "Rate limit reached for m on tokens per min (TPM): Limit 30,000, Used 29000.",
                Some((30_000, true, 60)),
            ),
            ("your rate limit of 40,000 input tokens per minute", None),
            ("limit of 40000 tokens per minute", Some((40_000, true, 60))),
            ("Please try again in 1 minute", None),
            ("try again in a minute", None),
            ("0 requests per minute", None),
            ("100 requests per day", None),
            ("", None),
        ] {
            assert_eq!(told(in_words(message)), limit, "{message}");
        }
    }

    #[test]
    fn what_is_used_is_not_taken_for_the_limit() {
        for (fields, limit) in [
            (
                "'current_tpm': 1770, 'tpm_limit': inf, 'current_rpm': 59, 'rpm_limit': 60",
                Some((60, false, 60)),
            ),
            (
                "'current_tpm': 60, 'tpm_limit': 40, 'current_rpm': 2, 'rpm_limit': inf",
                Some((40, true, 60)),
            ),
            (
                "'current_tpm': 60, 'tpm_limit': 40, 'current_rpm': 2, 'rpm_limit': 2",
                None,
            ),
        ] {
            let message = format!(
                "No deployments available for selected model. Deployments={{'45e2': {{{fields}}}}}"
            );
            let found = announced_limit(&HeaderMap::new(), &message, UNIX_EPOCH);
            assert_eq!(told(found), limit, "{message}");
        }
    }

    #[test]
    fn a_limit_is_read_from_headers_where_its_period_is_certain() {
        for (named, limit) in [
            (
                &[("x-ratelimit-limit-requests", "60")][..],
                Some((60, false, 60)),
            ),
            (
                &[
                    ("x-ratelimit-limit-requests", "60"),
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "58s"),
                ],
                Some((60, false, 60)),
            ),
            // Groq's, a day.
            (
                &[
                    ("x-ratelimit-limit-requests", "14400"),
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "23h12m"),
                ],
                None,
            ),
            (
                &[
                    ("x-ratelimit-limit-requests", "500"),
                    ("x-ratelimit-remaining-requests", "499"),
                    ("x-ratelimit-limit-tokens", "30000"),
                    ("x-ratelimit-remaining-tokens", "0"),
                ],
                Some((30_000, true, 60)),
            ),
            (
                &[
                    ("anthropic-ratelimit-requests-limit", "50"),
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", "1970-01-01T00:00:41Z"),
                ],
                Some((50, false, 60)),
            ),
            (&[("x-ratelimit-limit", "60")], None),
            (&[("x-ratelimit-limit-requests", "many")], None),
        ] {
            let headers = named.iter().map(|&(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            let headers = headers.collect();
            assert_eq!(told(in_headers(&headers, UNIX_EPOCH)), limit, "{named:?}");
        }
    }
}
