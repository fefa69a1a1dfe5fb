//! The limit that a server names when it refuses a request, in words or in headers.
//!
//! Only a limit whose period is certain is read: it is told to the user as a setting to copy.

use std::iter;
use std::time::SystemTime;

use http::HeaderMap;

use super::headers::only;
use super::times;
use crate::error::AnnouncedLimit;

/// The limit that `message` names, else that of the headers.
pub(super) fn announced_limit(
    headers: &HeaderMap,
    message: &str,
    wall: SystemTime,
) -> Option<AnnouncedLimit> {
    in_words(message).or_else(|| in_headers(headers, wall))
}

/// `60 requests per minute`, `60 RPM`, `on tokens per min (TPM): Limit 30,000, Used ..`.
fn in_words(message: &str) -> Option<AnnouncedLimit> {
    const COUNTED: [&str; 8] = [
        "request", "requests", "req", "call", "calls", "token", "tokens", "api",
    ];
    const BEFORE_A_NUMBER: [&str; 7] = ["rpm", "tpm", "rps", "limit", "is", "of", "exceeded"];
    let text = message.to_ascii_lowercase().replace('/', " / ");
    // 30,000 is one number.
    let text = text.replace(',', "");
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '/'))
        .filter(|word| !word.is_empty())
        .collect();
    let number = |word: &&str| word.parse().ok().filter(|number| *number > 0);
    (0..words.len()).find_map(|at| {
        let (is_tokens, period_s, next) = match (words[at], words.get(at + 1).copied()) {
            ("rpm", _) => (false, 60, at + 1),
            ("tpm", _) => (true, 60, at + 1),
            ("rps", _) => (false, 1, at + 1),
            ("per" | "/" | "a" | "each", Some(period)) => {
                let seconds = match period {
                    "min" | "minute" => 60,
                    "s" | "sec" | "second" => 1,
                    _ => return None,
                };
                let counted = at.checked_sub(1).map(|before| words[before]);
                (
                    counted.is_some_and(|word| word.starts_with("token")),
                    seconds,
                    at + 2,
                )
            }
            _ => return None,
        };
        let before = words[..at].iter().rev();
        let before = before.skip_while(|word| COUNTED.contains(word)).take(1);
        let mut after = words[next..].iter();
        let after =
            iter::from_fn(|| after.next()).skip_while(|word| BEFORE_A_NUMBER.contains(word));
        let number = after.take(1).chain(before).find_map(number)?;
        Some(AnnouncedLimit {
            number,
            is_tokens,
            period_s,
        })
    })
}

/// Of the headers of OpenAI and Anthropic, a limit of which nothing remains. The time until it is full
/// tells its period: Groq counts requests a day under the same name.
fn in_headers(headers: &HeaderMap, wall: SystemTime) -> Option<AnnouncedLimit> {
    const A_MINUTE: u64 = 60;
    [
        ("x-ratelimit-", "-requests", false),
        ("anthropic-ratelimit-requests-", "", false),
        ("x-ratelimit-", "-tokens", true),
        ("anthropic-ratelimit-tokens-", "", true),
    ]
    .into_iter()
    .find_map(|(before, after, is_tokens)| {
        let value = |what: &str| only(headers, &format!("{before}{what}{after}"));
        let number = value("limit")?
            .trim()
            .parse()
            .ok()
            .filter(|number| *number > 0)?;
        let is_used_up = value("remaining").is_none_or(|left| left.trim() == "0");
        let reset = value("reset").and_then(|reset| times::until_reset(reset, wall));
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
