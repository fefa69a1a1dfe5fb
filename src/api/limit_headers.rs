//! What an answer's headers say of the provider's limits, in every dialect in use.
//!
//! A name is read by its words: `x-ratelimit-limit-requests` (OpenAI, Azure, Groq, vLLM's
//! gateways), `anthropic-ratelimit-input-tokens-remaining`, `x-ratelimit-limit-tokens-minute`
//! (Mistral, Cerebras), `X-RateLimit-Reset` (OpenRouter) and `ratelimit-limit` (the IETF drafts up
//! to 7). A name with a word that is not known here means something else. `RateLimit` and
//! `RateLimit-Policy` are structured (draft-ietf-httpapi-ratelimit-headers).
//!
//! A value that cannot be, such as -1, 0 or words, says nothing.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::headers::text;
use super::times;
use crate::limit::{Announced, Counted, Rate, Reset};

/// The server's time, by which its times are meant, or else this machine's.
pub(super) fn now(headers: &HeaderMap, wall: SystemTime) -> SystemTime {
    text(headers, "date")
        .and_then(|date| httpdate::parse_http_date(date.trim()).ok())
        .unwrap_or(wall)
}

/// The limits of which an answer tells.
#[derive(Debug, Default)]
pub(super) struct Limits {
    found: Vec<Found>,
    /// Windows that are told by the number that is allowed in them.
    policies: Vec<(u64, Duration)>,
    /// How many values made no sense.
    pub(super) ignored: u64,
}

/// What is told of one limit.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// `None` where no name says it. Then it is requests, and all of them come back at the reset.
    pub(super) counted: Option<Counted>,
    /// Tells limits apart.
    scope: u64,
    /// As it is named.
    window: Option<Duration>,
    pub(super) limit: Option<u64>,
    pub(super) remaining: Option<u64>,
    pub(super) reset: Option<Reset>,
    seen: [bool; 3],
    /// A header is there twice: nobody knows which counts.
    is_doubled: bool,
}

/// How the names begin that are read here.
pub(super) const BEGINNINGS: [&str; 3] = ["x-ratelimit-", "anthropic-ratelimit-", "ratelimit"];

/// A larger limit cannot be meant: no limiter keeps to so much in a minute.
const MOST: u64 = 60 * Rate::MAX_PER_SECOND;

#[derive(Clone, Copy)]
enum What {
    Limit,
    Remaining,
    Reset,
}

impl Limits {
    /// Reads `headers`. `wall` is this machine's time, for answers without a `Date`.
    pub(super) fn read(headers: &HeaderMap, wall: SystemTime) -> Self {
        let mut limits = Self::default();
        let mut date = None;
        for (name, value) in headers {
            // Most headers are others, and most answers have none of these.
            if !BEGINNINGS.iter().any(|it| name.as_str().starts_with(it)) {
                continue;
            }
            // Go writes half a millisecond as `500µs`.
            let value = str::from_utf8(value.as_bytes()).unwrap_or_default();
            let now = *date.get_or_insert_with(|| now(headers, wall));
            if matches!(name.as_str(), "ratelimit-limit" | "ratelimit-policy") {
                limits.policies.extend(value.split(',').filter_map(policy));
            }
            if matches!(name.as_str(), "ratelimit" | "ratelimit-policy") {
                for (scope, params) in items(value) {
                    limits.add_item(scope, params, now);
                }
            } else if let Some((what, limit)) = words(name.as_str()) {
                limits.set(limit, what, value, now);
            }
        }
        limits
    }

    /// Those that are certain.
    fn told(&self) -> impl Iterator<Item = &Found> {
        self.found.iter().filter(|limit| !limit.is_doubled)
    }

    /// What the limiter is told.
    pub(super) fn announced(&self) -> Vec<Announced> {
        let window = |limit: &Found| {
            let number = limit.limit.filter(|_| limit.counted.is_none());
            let policy = self.policies.iter().find(|(of, _)| Some(*of) == number);
            policy.map(|(_, window)| *window)
        };
        let announced = |limit: &Found| {
            Some(Announced {
                counted: limit.counted.unwrap_or(Counted::Requests),
                scope: limit.scope,
                limit: limit.limit?,
                remaining: limit.remaining,
                reset: limit.reset,
                window: limit.window.or_else(|| window(limit)),
            })
        };
        self.told().filter_map(announced).collect()
    }

    /// Those whose window no name tells.
    pub(super) fn without_window(&self) -> impl Iterator<Item = &Found> {
        self.told().filter(|limit| limit.window.is_none())
    }

    /// The limit with the scope of `new`, which is added if there is none.
    fn of(&mut self, new: Found) -> &mut Found {
        let known = self.found.iter().position(|it| it.scope == new.scope);
        let at = known.unwrap_or_else(|| {
            self.found.push(new);
            self.found.len() - 1
        });
        &mut self.found[at]
    }

    /// Takes a value, or counts that it makes no sense.
    fn set(&mut self, limit: Found, what: What, value: &str, now: SystemTime) {
        let limit = self.of(limit);
        let is_second = std::mem::replace(&mut limit.seen[what as usize], true);
        limit.is_doubled |= is_second;
        // The IETF's limit may name policies behind the number: `100, 100;w=60`.
        let number = value.split([';', ',']).next();
        let number = number.and_then(|number| number.trim().parse().ok());
        let makes_sense = match what {
            What::Limit => {
                limit.limit = number.filter(|limit| (1..=MOST).contains(limit));
                limit.limit.is_some()
            }
            What::Remaining => {
                limit.remaining = number;
                number.is_some()
            }
            What::Reset => {
                limit.reset = read_reset(value, now);
                limit.reset.is_some()
            }
        };
        self.ignored += u64::from(is_second || !makes_sense);
    }

    /// Takes an item of `RateLimit` or `RateLimit-Policy`.
    fn add_item(&mut self, scope: u64, params: &str, now: SystemTime) {
        let named = |name: &str| {
            let mut params = params.split([';', ',']).map(str::trim);
            params.find_map(|param| param.strip_prefix(name))
        };
        let counted = match named("qu=") {
            // `RateLimit` does not repeat the unit of its policy.
            None => None,
            Some("\"requests\"") => Some(Counted::Requests),
            Some("\"tokens\"") => Some(Counted::Tokens),
            Some(_) => return,
        };
        let new = || Found {
            scope,
            ..Found::default()
        };
        for (names, what) in [
            (["q=", "limit="], What::Limit),
            (["r=", "remaining="], What::Remaining),
            (["t=", "reset="], What::Reset),
        ] {
            if let Some(value) = names.iter().find_map(|name| named(name)) {
                self.set(new(), what, value, now);
            }
        }
        let limit = self.of(new());
        limit.counted = counted.or(limit.counted);
        if let Some(seconds) = named("w=").and_then(|seconds| seconds.parse().ok()) {
            limit.window = window(seconds);
        }
    }
}

/// What a header is about, by the words of its name: the field, and of which limit. A limit is told
/// by the other words.
fn words(name: &str) -> Option<(What, Found)> {
    const DAY: u64 = 86_400;
    let (mut what, mut counted, mut part, mut seconds) = (None, None, None, None);
    let mut others = Vec::new();
    for word in name.split('-') {
        match word {
            "limit" => what = Some(What::Limit),
            "remaining" => what = Some(What::Remaining),
            "reset" => what = Some(What::Reset),
            _ => others.push(word),
        }
        match word {
            "limit" | "remaining" | "reset" | "x" | "anthropic" | "ratelimit" | "project" => {}
            "requests" | "request" | "req" => counted = Some(Counted::Requests),
            "tokens" | "token" => counted = Some(Counted::Tokens),
            "input" => part = Some(Counted::InputTokens),
            "output" => part = Some(Counted::OutputTokens),
            "second" => seconds = Some(1),
            "minute" => seconds = Some(60),
            "hour" => seconds = Some(3_600),
            "day" => seconds = Some(DAY),
            "month" => seconds = Some(31 * DAY),
            _ => return None,
        }
    }
    let limit = Found {
        counted: match (counted, part) {
            (Some(Counted::Tokens), Some(part)) => Some(part),
            (counted, None) => counted,
            _ => return None,
        },
        scope: scope(&others),
        window: seconds.and_then(window),
        ..Found::default()
    };
    Some((what?, limit))
}

/// The items of `RateLimit` or `RateLimit-Policy`, such as `"burst";q=100;w=60` or
/// `"burst";r=50;t=30`: what tells them apart, and their parameters.
fn items(value: &str) -> impl Iterator<Item = (u64, &str)> {
    // Up to draft 6 it was one item without a name: `limit=100, remaining=50, reset=5`.
    let unnamed = value.trim_start().starts_with("limit=");
    let separator = if unnamed { '\0' } else { ',' };
    value.split(separator).filter_map(move |item| {
        let item = item.trim();
        let (name, params) = match item.strip_prefix('"') {
            _ if unnamed => ("", item),
            Some(rest) => rest.split_once('"')?,
            // A number without a name is that of a limit: see `policy`.
            None => return None,
        };
        Some((scope(&["item", name]), params))
    })
}

/// The number that is allowed in a window, and the window: `100;w=60`.
fn policy(item: &str) -> Option<(u64, Duration)> {
    let (number, params) = item.split_once(';')?;
    let seconds = params
        .split(';')
        .find_map(|it| it.trim().strip_prefix("w="));
    let window = window(seconds?.parse().ok()?)?;
    Some((number.trim().parse().ok()?, window))
}

fn scope(words: &[&str]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(words)
}

fn window(seconds: u64) -> Option<Duration> {
    const LONGEST: u64 = 366 * 86_400;
    (1..=LONGEST)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

/// A reset, with how coarse it is: to the second, unless it says more. A date is compared with
/// another.
fn read_reset(value: &str, now: SystemTime) -> Option<Reset> {
    let after = times::until_reset(value, now)?;
    let is_date = value.contains('T')
        || value
            .trim()
            .parse::<f64>()
            .is_ok_and(|number| number >= 1e9);
    let is_fine = value.contains('.') || value.trim_end().ends_with("ms");
    let grain = match (is_date, is_fine) {
        (true, _) => Duration::from_secs(2),
        (false, true) => Duration::from_millis(1),
        (false, false) => Duration::from_secs(1),
    };
    Some(Reset { after, grain })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::api::headers::tests::map;

    /// Fri, 20 Nov 2026 12:00:00 GMT
    fn noon() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_176_000)
    }

    fn read(headers: &HeaderMap, wall: SystemTime) -> (Vec<Announced>, u64) {
        let limits = Limits::read(headers, wall);
        (limits.announced(), limits.ignored)
    }

    fn announced(pairs: &[(&str, &str)]) -> Vec<Announced> {
        read(&map(pairs.iter().copied()), noon()).0
    }

    /// What is counted, the limit, what remains, the reset in milliseconds, the window in seconds.
    type Line = (Counted, u64, Option<u64>, Option<u128>, Option<u64>);

    fn lines(pairs: &[(&str, &str)]) -> Vec<Line> {
        let announced = announced(pairs).into_iter();
        let mut lines: Vec<Line> = announced
            .map(|it| {
                let reset = it.reset.map(|reset| reset.after.as_millis());
                let window = it.window.map(|window| window.as_secs());
                (it.counted, it.limit, it.remaining, reset, window)
            })
            .collect();
        // A map has no order.
        lines.sort_by_key(|line| (line.1, line.2));
        lines
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn every_dialect_is_read() {
        use Counted::{InputTokens, OutputTokens, Requests, Tokens};
        for (who, pairs, expected) in [
            (
                "OpenAI, with its project's tokens",
                &[
                    ("x-ratelimit-limit-requests", "500"),
                    ("x-ratelimit-remaining-requests", "499"),
                    ("x-ratelimit-reset-requests", "120ms"),
                    ("x-ratelimit-limit-tokens", "200000"),
                    ("x-ratelimit-remaining-tokens", "199000"),
                    ("x-ratelimit-reset-tokens", "1m0.3s"),
                    ("x-ratelimit-limit-project-tokens", "1000000"),
                    ("x-ratelimit-remaining-project-tokens", "990000"),
                    ("x-ratelimit-reset-project-tokens", "3s"),
                ][..],
                &[
                    (Requests, 500, Some(499), Some(120), None),
                    (Tokens, 200_000, Some(199_000), Some(60_300), None),
                    (Tokens, 1_000_000, Some(990_000), Some(3_000), None),
                ][..],
            ),
            (
                "Azure: bare seconds, and -1 for unknown",
                &[
                    ("x-ratelimit-limit-requests", "60"),
                    ("x-ratelimit-remaining-requests", "-1"),
                    ("x-ratelimit-reset-requests", "12"),
                    ("x-ratelimit-limit-tokens", "-1"),
                    ("x-ratelimit-remaining-tokens", "-1"),
                    ("x-ratelimit-reset-tokens", "0"),
                ],
                &[(Requests, 60, None, Some(12_000), None)],
            ),
            (
                "Anthropic: dates, compared with the answer's own",
                &[
                    ("date", "Thu, 19 Nov 2026 12:00:00 GMT"),
                    ("anthropic-ratelimit-requests-limit", "50"),
                    ("anthropic-ratelimit-requests-remaining", "49"),
                    ("anthropic-ratelimit-requests-reset", "2026-11-19T12:00:02Z"),
                    ("anthropic-ratelimit-input-tokens-limit", "40000"),
                    ("anthropic-ratelimit-input-tokens-remaining", "39000"),
                    (
                        "anthropic-ratelimit-input-tokens-reset",
                        "2026-11-19T11:59:59Z",
                    ),
                    ("anthropic-ratelimit-output-tokens-limit", "8000"),
                    ("anthropic-priority-input-tokens-limit", "9"),
                    ("anthropic-ratelimit-unified-status", "allowed"),
                ],
                &[
                    (Requests, 50, Some(49), Some(2_000), None),
                    (OutputTokens, 8_000, None, None, None),
                    (InputTokens, 40_000, Some(39_000), Some(0), None),
                ],
            ),
            (
                "OpenRouter: no suffix, milliseconds since 1970",
                &[
                    ("X-RateLimit-Limit", "20"),
                    ("X-RateLimit-Remaining", "19"),
                    ("X-RateLimit-Reset", "1795176060000"),
                ],
                &[(Requests, 20, Some(19), Some(60_000), None)],
            ),
            (
                "Mistral and Cerebras name the window",
                &[
                    ("x-ratelimit-limit-req-minute", "300"),
                    ("x-ratelimit-remaining-req-minute", "299"),
                    ("x-ratelimit-limit-tokens-minute", "60000"),
                    ("x-ratelimit-limit-requests-day", "14400"),
                ],
                &[
                    (Requests, 300, Some(299), None, Some(60)),
                    (Requests, 14_400, None, None, Some(86_400)),
                    (Tokens, 60_000, None, None, Some(60)),
                ],
            ),
            (
                "the IETF's drafts up to 7",
                &[
                    ("RateLimit-Limit", "100, 100;w=10, 1000;w=3600"),
                    ("RateLimit-Remaining", "50"),
                    ("RateLimit-Reset", "5"),
                ],
                &[(Requests, 100, Some(50), Some(5_000), Some(10))],
            ),
            (
                "and draft 6",
                &[("RateLimit", "limit=100, remaining=50, reset=5")],
                &[(Requests, 100, Some(50), Some(5_000), None)],
            ),
            (
                "the same with its policy, as express-rate-limit sends it",
                &[
                    ("RateLimit-Policy", "100;w=900"),
                    ("RateLimit", "limit=100, remaining=50, reset=5"),
                ],
                &[(Requests, 100, Some(50), Some(5_000), Some(900))],
            ),
            (
                "and draft 5, with the policy in a header of its own",
                &[
                    ("RateLimit-Policy", "1000;w=3600, 10; w=1"),
                    ("RateLimit-Limit", "10"),
                    ("RateLimit-Remaining", "9"),
                    ("x-ratelimit-limit-requests", "1000"),
                ],
                &[
                    (Requests, 10, Some(9), None, Some(1)),
                    (Requests, 1_000, None, None, None),
                ],
            ),
            (
                "Go's microseconds, which are not ASCII",
                &[
                    ("x-ratelimit-limit-requests", "9"),
                    ("x-ratelimit-reset-requests", "1500µs"),
                ],
                &[(Requests, 9, None, Some(1), None)],
            ),
            (
                "and those since 8, whatever is counted",
                &[
                    (
                        "RateLimit-Policy",
                        r#""burst";q=100;w=60, "daily";q=1000;w=86400, "size";q=9;qu="content-bytes", "out";q=7;qu="tokens""#,
                    ),
                    ("RateLimit", r#""burst";r=50;t=30, "out";r=1"#),
                ],
                &[
                    (Tokens, 7, Some(1), None, None),
                    (Requests, 100, Some(50), Some(30_000), Some(60)),
                    (Requests, 1_000, None, None, Some(86_400)),
                ],
            ),
            (
                "seconds since 1970",
                &[
                    ("x-ratelimit-limit", "9"),
                    ("x-ratelimit-reset", "1795176009"),
                ],
                &[(Requests, 9, None, Some(9_000), None)],
            ),
            (
                "others",
                &[("date", "x"), ("x-ratelimit-type", "tokens")],
                &[],
            ),
            (
                "a gateway's note of another's",
                &[("llm_provider-x-ratelimit-limit-requests", "9")],
                &[],
            ),
        ] {
            assert_eq!(lines(pairs), expected, "{who}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_ignored_and_counted() {
        for value in [
            "",
            "-1",
            "0",
            "abc",
            "1.5",
            "\u{663}",
            "18446744073709551615",
            "99999999999999999999",
        ] {
            let pairs = [("x-ratelimit-limit-requests", value)];
            let (found, ignored) = read(&map(pairs), noon());
            assert_eq!((found, ignored), (Vec::new(), 1), "{value}");
        }
        for reset in ["soon", "-6m", "NaN", "inf", "1e300", "-1"] {
            let pairs = [("x-ratelimit-limit", "5"), ("x-ratelimit-reset", reset)];
            let (found, ignored) = read(&map(pairs), noon());
            assert_eq!((found[0].reset, ignored), (None, 1), "{reset}");
        }
        let doubled = [("x-ratelimit-limit", "5"), ("X-RateLimit-Limit", "6")];
        assert_eq!(read(&map(doubled), noon()), (Vec::new(), 1));
    }

    proptest! {
        #[test]
        fn no_headers_make_it_panic(
            value in any::<String>(), near in "[-0-9a-z;=\", TZ:.]{0,40}", name in "[-a-z]{0,20}",
        ) {
            for value in [&value, &near] {
                let mut headers = HeaderMap::new();
                let Ok(value) = http::HeaderValue::from_str(value) else { continue };
                for name in [
                    "ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-reset",
                    "x-ratelimit-remaining", &format!("x-ratelimit-{name}"),
                ] {
                    headers.append(name.parse::<http::HeaderName>().unwrap(), value.clone());
                }
                read(&headers, noon());
            }
        }
    }
}
