//! The limit that a server names in the words of a refusal.
//!
//! Only a limit whose period is certain is read: it is told to the user as a setting to copy. To a
//! limit on model tokens the limiter keeps by itself, if no header announces one.

use std::time::Duration;

use crate::error::AnnouncedLimit;
use crate::limit::{Announced, Counted, NAMED};

/// Whether a refusal says that it is about model tokens, and about nothing else.
pub(super) fn names_tokens(message: &str) -> bool {
    const TOKENS: [&str; 4] = ["tokens per ", "token rate limit", "(tpm)", "(tpd)"];
    const REQUESTS: [&str; 3] = ["requests per ", "request rate limit", "rpm"];
    let text = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|words| text.contains(words));
    has(&TOKENS) && !has(&REQUESTS)
}

/// The limit on model tokens that a refusal names, for the limiter to keep to. Less of it is left
/// than was asked for.
pub(super) fn named_tokens(message: &str) -> Option<Announced> {
    let named = announced_limit(message).filter(|it| it.is_tokens)?;
    let text = message.to_ascii_lowercase().replace(',', "");
    let used = text.split_once(" used ").and_then(|(_, used)| {
        let digits = used.split(|c: char| !c.is_ascii_digit()).next();
        digits?.parse().ok()
    });
    Some(Announced {
        counted: Counted::Tokens,
        scope: NAMED,
        limit: named.number,
        remaining: Some(named.number.saturating_sub(used.unwrap_or(named.number))),
        reset: None,
        window: Some(Duration::from_secs(named.period_s)),
    })
}

/// `60 requests per minute`, `60 RPM`, `on tokens per min (TPM): Limit 30,000, Used ..`.
pub(super) fn announced_limit(message: &str) -> Option<AnnouncedLimit> {
    // What may stand between a period and the number before it, or behind it.
    const COUNTED: [&str; 7] = [
        "request", "requests", "req", "calls", "token", "tokens", "api",
    ];
    const LIMIT: [&str; 7] = ["rpm", "tpm", "rps", "limit", "is", "of", "exceeded"];
    if message.contains("rpm_limit") {
        return in_fields(message);
    }
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
        let mut numbers = [before, after].into_iter().flatten();
        let number = numbers.find_map(|word| word.parse().ok().filter(|number| *number > 0))?;
        Some(AnnouncedLimit {
            number,
            is_tokens,
            period_s,
        })
    })
}

/// `LiteLLM`: `{'current_tpm': 1770, 'tpm_limit': inf, 'current_rpm': 59, 'rpm_limit': 60}`. Where
/// both are limited, it is not certain which one is meant.
fn in_fields(message: &str) -> Option<AnnouncedLimit> {
    let value = |name: &str| {
        let (_, behind) = message.split_once(name)?;
        let behind = behind.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let number = behind.split(|c: char| !c.is_ascii_digit()).next();
        number?.parse().ok().filter(|number| *number > 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(limit: Option<AnnouncedLimit>) -> Option<(u64, bool, u64)> {
        limit.map(|limit| (limit.number, limit.is_tokens, limit.period_s))
    }

    #[test]
    fn what_is_left_of_a_named_limit_on_tokens_is_read_from_words() {
        let told = |message| named_tokens(message).map(|it| (it.limit, it.remaining, it.window));
        let of_a_minute = |limit, left| Some((limit, Some(left), Some(Duration::from_secs(60))));
        for (message, limit) in [
            (
                "Rate limit reached for m on tokens per min (TPM): Limit 30,000, Used 29,500, \
                 Requested 900. Please try again in 800ms.",
                of_a_minute(30_000, 500),
            ),
            ("limit of 40000 tokens per minute", of_a_minute(40_000, 0)),
            (
                "on requests per min (RPM): Limit 3, Used 3, Requested 1.",
                None,
            ),
            ("on tokens per day (TPD): Limit 200000, Used 199000", None),
        ] {
            assert_eq!(told(message), limit, "{message}");
        }
    }

    #[test]
    fn a_refusal_names_tokens_or_it_may_be_about_requests() {
        for (message, expected) in [
            ("Rate limit reached on tokens per min (TPM): Limit 3", true),
            ("your rate limit of 40,000 input tokens per minute", true),
            (
                "exceeded token rate limit of your current OpenAI S0 pricing tier",
                true,
            ),
            ("Crossed TPM / RPM / Max Parallel Request Limit.", false),
            ("requests per min (RPM): Limit 3", false),
            ("40 requests per minute or 50,000 tokens per minute", false),
            ("Too many requests", false),
        ] {
            assert_eq!(names_tokens(message), expected, "{message}");
        }
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
            (
                "No deployments available. Deployments={'45e2': {'current_tpm': 1770, \
                 'tpm_limit': inf, 'current_rpm': 59, 'rpm_limit': 60}}",
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
            ("", None),
        ] {
            assert_eq!(told(announced_limit(message)), limit, "{message}");
        }
    }
}
