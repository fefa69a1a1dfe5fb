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
    let (limit, counted, period_s) = named(message)?;
    let text = message.to_ascii_lowercase().replace(',', "");
    let used = text.split_once(" used ").and_then(|(_, used)| {
        let digits = used.split(|c: char| !c.is_ascii_digit()).next();
        digits?.parse().ok()
    });
    (counted != Counted::Requests).then(|| Announced {
        counted,
        scope: NAMED,
        limit,
        remaining: Some(limit.saturating_sub(used.unwrap_or(limit))),
        reset: None,
        window: Some(Duration::from_secs(period_s)),
    })
}

/// The limit that a refusal names, as a setting: there is none for the tokens of prompts or of
/// answers alone.
pub(super) fn announced_limit(message: &str) -> Option<AnnouncedLimit> {
    let (number, counted, period_s) = named(message)?;
    let is_one = matches!(counted, Counted::Requests | Counted::Tokens);
    is_one.then_some(AnnouncedLimit {
        number,
        is_tokens: counted == Counted::Tokens,
        period_s,
    })
}

/// `60 requests per minute`, `60 RPM`, `on tokens per min (TPM): Limit 30,000, Used ..`, `of 40,000
/// input tokens per minute`: how many, of what, and in how many seconds.
fn named(message: &str) -> Option<(u64, Counted, u64)> {
    // What may stand between a period and the number before it, or behind it.
    const COUNTED: [&str; 9] = [
        "request", "requests", "req", "calls", "token", "tokens", "api", "input", "output",
    ];
    const LIMIT: [&str; 9] = [
        "rpm", "tpm", "itpm", "otpm", "rps", "limit", "is", "of", "exceeded",
    ];
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
    let counted_before = |at: usize| match words[at.saturating_sub(2)..at] {
        ["input", word] if word.starts_with("token") => Counted::InputTokens,
        ["output", word] if word.starts_with("token") => Counted::OutputTokens,
        [.., word] if word.starts_with("token") => Counted::Tokens,
        _ => Counted::Requests,
    };
    (0..words.len()).find_map(|at| {
        let period = words.get(at + 1).copied();
        let (counted, period_s) = match (words[at], period) {
            ("rpm", _) => (Counted::Requests, 60),
            ("tpm", _) => (Counted::Tokens, 60),
            ("itpm", _) => (Counted::InputTokens, 60),
            ("otpm", _) => (Counted::OutputTokens, 60),
            ("rps", _) => (Counted::Requests, 1),
            ("per" | "a", Some("min" | "minute")) => (counted_before(at), 60),
            ("per" | "a", Some("s" | "sec" | "second")) => (counted_before(at), 1),
            _ => return None,
        };
        let mut before = words[..at].iter().rev();
        let before = before.find(|word| !COUNTED.contains(word));
        let is_other = |word: &&&str| !LIMIT.contains(word) && Some(**word) != period;
        let after = words[at + 1..].iter().find(is_other);
        let mut numbers = [before, after].into_iter().flatten();
        let number = numbers.find_map(|word| word.parse().ok().filter(|number| *number > 0))?;
        Some((number, counted, period_s))
    })
}

/// `LiteLLM`: `{'current_tpm': 1770, 'tpm_limit': inf, 'current_rpm': 59, 'rpm_limit': 60}`. Where
/// both are limited, it is not certain which one is meant.
fn in_fields(message: &str) -> Option<(u64, Counted, u64)> {
    let value = |name: &str| {
        let (_, behind) = message.split_once(name)?;
        let behind = behind.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
        let number = behind.split(|c: char| !c.is_ascii_digit()).next();
        number?.parse().ok().filter(|number| *number > 0)
    };
    match (value("rpm_limit"), value("tpm_limit")) {
        (Some(requests), None) => Some((requests, Counted::Requests, 60)),
        (None, Some(tokens)) => Some((tokens, Counted::Tokens, 60)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(limit: Option<AnnouncedLimit>) -> Option<(u64, bool, u64)> {
        limit.map(|limit| (limit.number, limit.is_tokens, limit.period_s))
    }

    #[test]
    fn what_is_left_of_a_named_limit_on_tokens_is_read_from_words() {
        let told = |message| {
            named_tokens(message).map(|it| (it.limit, it.counted, it.remaining, it.window))
        };
        let a_minute = Some(Duration::from_secs(60));
        let all = Counted::Tokens;
        let of = |limit, counted, left| Some((limit, counted, Some(left), a_minute));
        for (message, limit) in [
            (
                "Rate limit reached for m on tokens per min (TPM): Limit 30,000, Used 29,500, \
                 Requested 900. Please try again in 800ms.",
                of(30_000, all, 500),
            ),
            ("limit of 40000 tokens per minute", of(40_000, all, 0)),
            (
                "This request would exceed the rate limit for your organization (7f54-4a) of 40,000 \
                 input tokens per minute. For details, refer to: https://docs.claude.com/en/api.",
                of(40_000, Counted::InputTokens, 0),
            ),
            (
                "your rate limit of 8,000 output tokens per minute",
                of(8_000, Counted::OutputTokens, 0),
            ),
            (
                "Rate limit reached on input-tokens per min (ITPM): Limit 40000, Used 39000, \
                 Requested 2000.",
                of(40_000, Counted::InputTokens, 1_000),
            ),
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
