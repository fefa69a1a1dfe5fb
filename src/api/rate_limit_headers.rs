//! How long the server asks this client to wait, read from an answer's headers and body.
//!
//! [`RetryHints`] has the wait after a refusal. [`exhausted_window`] says whether a window is used
//! up, which a success may tell as well. A value that makes no sense is ignored: the client's own
//! backoff is the better guess.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use super::error_body::ErrorBody;
use super::headers::text;
use super::limit_headers::{Found, Limits, now};
use super::response::ResponseView;
use super::times;
use crate::limit::Counted;

/// The limiter spreads a limit over a window of up to a minute. Dates in whole seconds may make a
/// minute look longer.
const ABOUT_A_MINUTE: Duration = Duration::from_secs(62);

/// What an answer asks for.
#[derive(Debug, Default)]
pub(super) struct RetryHints {
    /// How long to wait: `retry-after-ms`, else `retry-after`, else what the body says, else when
    /// an exhausted limit has room again. A body may repeat headers, too.
    ///
    /// The order is that of the OpenAI and Anthropic SDKs. A delay of zero and a date that has
    /// passed are no hint: obeyed to the letter they would make a loop without a pause, where the
    /// normal backoff makes a short one.
    pub(super) delay: Option<Duration>,
    /// The delay in `retry-after-ms` or `retry-after` alone.
    pub(super) header_delay: Option<Duration>,
    /// `x-should-retry`.
    pub(super) should_retry: Option<bool>,
}

impl RetryHints {
    /// The hints of an answer that is no success.
    pub(super) fn read(response: &ResponseView<'_>, body: &ErrorBody) -> Self {
        let headers = response.headers;
        let header_delay = retry_after(headers, response.wall);
        let quoted = body.headers.as_deref();
        let used_up = || match response.status {
            429 => exhausted(headers, response)
                .or_else(|| exhausted(quoted?, response))
                .or_else(|| longest(headers, "x-ratelimit-reset-after", times::seconds)),
            _ => None,
        };
        let should_retry = text(headers, "x-should-retry").map(str::trim);
        let should_retry = should_retry.and_then(|value| value.to_ascii_lowercase().parse().ok());
        if names_places(headers) {
            // LiteLLM asks for its whole window. A place is free as soon as another request is
            // done.
            return Self {
                should_retry,
                ..Self::default()
            };
        }
        // LiteLLM names a few seconds while every deployment cools down, also after a backend
        // refused its key (BerriAI/litellm#2493): they would be waited for row by row. As a refusal
        // without a hint it comes to an end.
        let is_told = !body.message.contains("No deployments available");
        Self {
            delay: header_delay
                .or_else(|| positive(body.delay.filter(|_| is_told)))
                .or_else(|| retry_after(quoted?, response.wall))
                .or_else(used_up),
            header_delay,
            should_retry,
        }
    }
}

/// Whether a refusal says that it is about the number of requests at once, as LiteLLM's do.
pub(super) fn names_places(headers: &HeaderMap) -> bool {
    text(headers, "rate_limit_type") == Some("max_parallel_requests")
}

/// The delay in `retry-after-ms`, else in `retry-after`. LiteLLM passes on those of the provider
/// behind it with a prefix, which count where it has none of its own.
fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let in_milliseconds = |value: &str| times::milliseconds(value).or(times::duration(value));
    let in_seconds_or_by_date = |value: &str| {
        let date = || {
            let date = httpdate::parse_http_date(value.trim()).ok();
            times::until(date.or(times::rfc3339(value))?, now(headers, wall))
        };
        let seconds = times::seconds(value).or(times::duration(value));
        seconds.or_else(date)
    };
    let named = |name| longest(headers, name, in_milliseconds);
    let dated = |name| longest(headers, name, in_seconds_or_by_date);
    named("retry-after-ms")
        .or_else(|| dated("retry-after"))
        .or_else(|| named("llm_provider-retry-after-ms"))
        .or_else(|| dated("llm_provider-retry-after"))
}

/// The longest delay that can be read under a name: it may stand there more than once, and more
/// than one in a line.
fn longest(
    headers: &HeaderMap,
    name: &str,
    read: impl Fn(&str) -> Option<Duration>,
) -> Option<Duration> {
    let values = headers.get_all(name).into_iter();
    let delays = values.filter_map(|value| {
        let value = value.to_str().ok()?.trim().trim_matches('"');
        // A date has a comma of its own.
        read(value).or_else(|| value.split([',', ';']).filter_map(&read).max())
    });
    positive(delays.max())
}

/// How long until there is room again, if the headers say that nothing remains of a limit: for one
/// request, or for as many model tokens as were reserved. The longest, where several are used up.
///
/// The reset of OpenAI, Anthropic and all who copy their names is the time until the limit is
/// *full* again. Such a limit refills all the time, so one unit needs only that unit's share of the
/// time. The names without a suffix (OpenRouter, the IETF draft) tell the end of a fixed window:
/// nothing refills before it, so it is waited for in full.
///
/// A missing, doubled, negative or unreadable number says nothing about the limit.
fn exhausted(headers: &HeaderMap, response: &ResponseView<'_>) -> Option<Duration> {
    longest_wait(&Limits::read(headers, response.wall), |limit, reset| {
        let units = match limit.counted {
            None => return Some(reset),
            Some(Counted::Requests) => 1,
            Some(_) => response.cost_tokens.max(1),
        };
        share(reset, units, limit.limit?)
    })
}

/// As [`exhausted`], for windows alone.
///
/// The limiter follows what refills all the time by itself, and also a window of up to a minute.
/// Such a window may slide, and then a request is let in long before the reset. So the next request
/// goes when its turn comes, and only its refusal makes everyone wait.
pub(super) fn exhausted_window(limits: &Limits) -> Option<Duration> {
    longest_wait(limits, |limit, reset| {
        let is_spread = limit.limit.is_some() && reset <= ABOUT_A_MINUTE;
        (limit.counted.is_none() && !is_spread).then_some(reset)
    })
}

/// The longest of the waits that `wait` makes of used up limits and their resets.
fn longest_wait(
    limits: &Limits,
    wait: impl Fn(&Found, Duration) -> Option<Duration>,
) -> Option<Duration> {
    let used_up = limits.without_window().filter(|it| it.remaining == Some(0));
    positive(used_up.filter_map(|it| wait(it, it.reset?.after)).max())
}

/// The share of the time to full that `units` of `limit` take, rounded up: never early.
fn share(to_full: Duration, units: u64, limit: u64) -> Option<Duration> {
    // At most 366 days in nanoseconds (55 bits) times 64 bits.
    let nanos = (to_full.as_nanos() * u128::from(units.min(limit))).div_ceil(u128::from(limit));
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

fn positive(delay: Option<Duration>) -> Option<Duration> {
    delay.filter(|delay| !delay.is_zero())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::super::response::Promise;
    use super::*;

    const NOON: u64 = 1_795_176_000; // Fri, 20 Nov 2026 12:00:00 GMT

    fn wall() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOON)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as what it is compared with")]
    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    fn view<'a>(
        headers: &'a HeaderMap,
        body: &'a [u8],
        wall: SystemTime,
        cost_tokens: u64,
    ) -> ResponseView<'a> {
        ResponseView {
            status: 503,
            headers,
            body,
            key: None,
            promise: Promise::Anything,
            wall,
            cost_tokens,
            longest_wait: None,
        }
    }

    fn delay(headers: &HeaderMap, body: &[u8], wall: SystemTime) -> Option<Duration> {
        RetryHints::read(&view(headers, body, wall, 1), &ErrorBody::read(body)).delay
    }

    fn after(pairs: &[(&str, &str)]) -> Option<Duration> {
        let headers = crate::api::headers::tests::map(pairs.iter().copied());
        delay(&headers, &[], wall())
    }

    #[test]
    fn a_refusal_of_so_many_at_once_asks_for_no_wait() {
        let refusal = |of| after(&[("retry-after", "60"), ("rate_limit_type", of)]);
        assert_eq!(refusal("max_parallel_requests"), None);
        assert_eq!(refusal("requests"), ms(60_000));
    }

    #[test]
    fn the_sources_are_asked_in_order() {
        let body = br#"{"error":{"message":"Please try again in 9s."}}"#;
        for (pairs, expected) in [
            (
                &[("retry-after-ms", "250"), ("retry-after", "60")][..],
                ms(250),
            ),
            (&[("retry-after", "60")], ms(60_000)),
            (&[("Retry-After", "0.5")], ms(500)),
            (&[], ms(9_000)),
            // A hint that is none leaves the question to the next source.
            (
                &[("retry-after-ms", "NaN"), ("retry-after", "60")],
                ms(60_000),
            ),
            (
                &[("retry-after-ms", "0"), ("retry-after", "soon")],
                ms(9_000),
            ),
        ] {
            let headers = crate::api::headers::tests::map(pairs.iter().copied());
            assert_eq!(delay(&headers, body, wall()), expected, "{pairs:?}");
        }
    }

    #[test]
    fn dates_are_read_by_the_clock_of_the_answer() {
        let on_time = "Fri, 20 Nov 2026 12:00:03 GMT";
        assert_eq!(after(&[("retry-after", on_time)]), ms(3_000));
        assert_eq!(
            after(&[
                ("retry-after", on_time),
                ("date", "Fri, 20 Nov 2026 12:00:00 GMT")
            ]),
            ms(3_000)
        );
        // The server's clock is an hour behind, or ahead.
        for (date, retry) in [
            (
                "Fri, 20 Nov 2026 11:00:00 GMT",
                "Fri, 20 Nov 2026 11:00:03 GMT",
            ),
            (
                "Fri, 20 Nov 2026 13:00:00 GMT",
                "Fri, 20 Nov 2026 13:00:03 GMT",
            ),
            (
                "Fri, 20 Nov 2026 13:00:00 GMT",
                "Friday, 20-Nov-26 13:00:03 GMT",
            ),
        ] {
            assert_eq!(after(&[("date", date), ("retry-after", retry)]), ms(3_000));
        }
        // An unusable date leaves our own clock.
        assert_eq!(
            after(&[("date", "yesterday"), ("retry-after", on_time)]),
            ms(3_000)
        );
        // Past, now, absurdly far.
        for date in [
            "Fri, 20 Nov 2026 11:59:59 GMT",
            "Fri, 20 Nov 2026 12:00:00 GMT",
            "Fri, 20 Nov 2099 12:00:00 GMT",
        ] {
            assert_eq!(after(&[("retry-after", date)]), None, "{date}");
        }
    }

    #[test]
    fn of_several_delays_the_longest_that_can_be_read_counts() {
        for (pairs, expected) in [
            (&[("retry-after", "2, 4")][..], ms(4_000)),
            (&[("retry-after", "4,soon,2")], ms(4_000)),
            (&[("retry-after", "2s")], ms(2_000)),
            (&[("retry-after", "\"2\"")], ms(2_000)),
            (&[("retry-after", "2; by the minute")], ms(2_000)),
            (&[("retry-after", "1m30s")], ms(90_000)),
            (&[("retry-after", "30 seconds")], ms(30_000)),
            (&[("retry-after", "2026-11-20T12:00:05Z")], ms(5_000)),
            (&[("retry-after", "1"), ("retry-after", "3")], ms(3_000)),
            (&[("retry-after", "soon"), ("retry-after", "3")], ms(3_000)),
            (
                &[
                    ("retry-after", "1"),
                    ("retry-after", "Fri, 20 Nov 2026 12:00:09 GMT"),
                ],
                ms(9_000),
            ),
            (&[("retry-after-ms", "250, 500")], ms(500)),
            (&[("retry-after-ms", "250ms")], ms(250)),
            (&[("llm_provider-retry-after", "60")], ms(60_000)),
            (&[("llm_provider-retry-after-ms", "70")], ms(70)),
            // The gateway's own comes first.
            (
                &[("llm_provider-retry-after", "60"), ("retry-after", "5")],
                ms(5_000),
            ),
            (&[("retry-after", ",")], None),
            (&[("retry-after", "0, 0")], None),
        ] {
            assert_eq!(after(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn garbage_is_no_hint() {
        let long = "9".repeat(8192);
        for value in [
            "",
            " ",
            "0",
            "-5",
            "NaN",
            "inf",
            "1e309",
            "1e-300",
            "9999999999999999999",
            "٣",
            "soon",
            &long,
        ] {
            assert_eq!(after(&[("retry-after", value)]), None, "{value}");
            assert_eq!(after(&[("retry-after-ms", value)]), None, "{value}");
        }
        // Far, but meant: what to do about it is policy.
        assert_eq!(after(&[("retry-after", "86400")]), ms(86_400_000));
    }

    fn used_up(pairs: &[(&str, &str)], cost: u64) -> Option<Duration> {
        let headers = crate::api::headers::tests::map(pairs.iter().copied());
        exhausted(&headers, &view(&headers, &[], wall(), cost))
    }

    #[test]
    fn a_time_to_full_is_waited_for_in_part_whatever_its_format() {
        for (reset, expected) in [
            ("6m0s", 36_000),
            ("360", 36_000),
            ("2026-11-20T12:06:00Z", 36_000),
            ("1795176360000", 36_000),
            ("20ms", 2),
            ("1m30.5s", 9_050),
        ] {
            for (limit, remaining, name) in [
                (
                    "x-ratelimit-limit-tokens",
                    "x-ratelimit-remaining-tokens",
                    "x-ratelimit-reset-tokens",
                ),
                (
                    "x-ratelimit-limit-project-tokens",
                    "x-ratelimit-remaining-project-tokens",
                    "x-ratelimit-reset-project-tokens",
                ),
                (
                    "anthropic-ratelimit-tokens-limit",
                    "anthropic-ratelimit-tokens-remaining",
                    "anthropic-ratelimit-tokens-reset",
                ),
                (
                    "anthropic-ratelimit-input-tokens-limit",
                    "anthropic-ratelimit-input-tokens-remaining",
                    "anthropic-ratelimit-input-tokens-reset",
                ),
                (
                    "anthropic-ratelimit-output-tokens-limit",
                    "anthropic-ratelimit-output-tokens-remaining",
                    "anthropic-ratelimit-output-tokens-reset",
                ),
            ] {
                let pairs = [(limit, "40000"), (remaining, "0"), (name, reset)];
                assert_eq!(used_up(&pairs, 4_000), ms(expected), "{name}: {reset}");
            }
            for (limit, remaining, name) in [
                (
                    "x-ratelimit-limit-requests",
                    "x-ratelimit-remaining-requests",
                    "x-ratelimit-reset-requests",
                ),
                (
                    "anthropic-ratelimit-requests-limit",
                    "anthropic-ratelimit-requests-remaining",
                    "anthropic-ratelimit-requests-reset",
                ),
            ] {
                let pairs = [(limit, "10"), (remaining, "0"), (name, reset)];
                assert_eq!(used_up(&pairs, 4_000), ms(expected), "{name}: {reset}");
            }
        }
    }

    #[test]
    fn the_end_of_a_window_is_waited_for_in_full() {
        for (limit, remaining, reset) in [
            (
                "x-ratelimit-limit",
                "x-ratelimit-remaining",
                "x-ratelimit-reset",
            ),
            ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
        ] {
            for value in [
                "360",
                "1795176360",
                "1795176360000",
                "6m0s",
                "2026-11-20T12:06:00Z",
            ] {
                assert_eq!(
                    used_up(&[(limit, "20"), (remaining, "0"), (reset, value)], 1),
                    ms(360_000)
                );
                assert_eq!(used_up(&[(remaining, "0"), (reset, value)], 1), ms(360_000));
                assert_eq!(used_up(&[(remaining, "1"), (reset, value)], 1), None);
            }
        }
    }

    #[test]
    fn limits_that_say_nothing_are_left_alone() {
        let with = |limit, remaining, reset| {
            used_up(
                &[
                    ("x-ratelimit-limit-requests", limit),
                    ("x-ratelimit-remaining-requests", remaining),
                    ("x-ratelimit-reset-requests", reset),
                ],
                1,
            )
        };
        assert_eq!(with("60", "0", "6m0s"), ms(6_000));
        for (limit, remaining, reset) in [
            ("60", "1", "6m0s"),
            ("-1", "-1", "0"),
            ("60", "-1", "6m0s"),
            ("-1", "0", "6m0s"),
            ("0", "0", "6m0s"),
            ("abc", "0", "6m0s"),
            ("60", "abc", "6m0s"),
            ("60", "0", "abc"),
            ("60", "0", "0s"),
            ("60", "0", "-6m"),
            ("60", "0.0", "6m0s"),
            ("99999999999999999999", "0", "6m0s"),
            ("60", "0", "2020-01-01T00:00:00Z"),
        ] {
            assert_eq!(
                with(limit, remaining, reset),
                None,
                "{limit} {remaining} {reset}"
            );
        }
        assert_eq!(used_up(&[], 1), None);
        assert_eq!(used_up(&[("x-ratelimit-remaining-requests", "0")], 1), None);
        // Which of two is meant?
        let doubled = [
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "0"),
            ("X-RateLimit-Remaining-Requests", "5"),
            ("x-ratelimit-reset-requests", "6m0s"),
        ];
        assert_eq!(used_up(&doubled, 1), None);
        assert_eq!(
            used_up(&[&doubled[..2], &doubled[3..]].concat(), 1),
            ms(6_000)
        );
    }

    #[test]
    fn the_longest_wait_wins_and_no_cost_waits_beyond_full() {
        let pairs = [
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m0s"),
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "1m0s"),
        ];
        assert_eq!(used_up(&pairs, 500), ms(30_000));
        assert_eq!(used_up(&pairs, 0), ms(1_000));
        // A third of a second, rounded so that it is never early.
        let third = [
            ("x-ratelimit-limit-requests", "3"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1s"),
        ];
        assert_eq!(used_up(&third, 1), Some(Duration::from_nanos(333_333_334)));
        assert_eq!(used_up(&pairs, u64::MAX), ms(60_000));
    }

    #[test]
    fn a_reset_is_read_by_the_clock_of_the_answer() {
        for (date, reset) in [
            ("Sat, 21 Nov 2026 12:00:00 GMT", "2026-11-21T12:01:00Z"),
            ("Thu, 19 Nov 2026 12:00:00 GMT", "2026-11-19T12:01:00Z"),
        ] {
            let pairs = [
                ("date", date),
                ("anthropic-ratelimit-requests-limit", "60"),
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-requests-reset", reset),
            ];
            assert_eq!(used_up(&pairs, 1), ms(1_000));
        }
    }

    proptest! {
        #[test]
        fn no_headers_make_it_panic(
            date in any::<String>(), value in any::<String>(), near in "[-0-9TZGM,: a-zA-Z.]{0,40}",
            cost in any::<u64>(), limit in any::<u64>(),
        ) {
            let limit = limit.to_string();
            for value in [&value, &near] {
                let mut headers = HeaderMap::new();
                let mut push = |name: &str, value: &str| {
                    if let Ok(value) = http::HeaderValue::from_str(value) {
                        headers.append(name.parse::<http::HeaderName>().unwrap(), value);
                    }
                };
                for name in ["retry-after-ms", "retry-after"] {
                    push(name, value);
                }
                push("date", &date);
                for (before, after) in [
                    ("x-ratelimit-", "-requests"),
                    ("x-ratelimit-", "-tokens"),
                    ("anthropic-ratelimit-input-tokens-", ""),
                    ("ratelimit-", ""),
                ] {
                    push(&format!("{before}limit{after}"), &limit);
                    push(&format!("{before}remaining{after}"), "0");
                    push(&format!("{before}reset{after}"), value);
                }
                for wall in [UNIX_EPOCH, wall()] {
                    prop_assert_ne!(delay(&headers, &[], wall), Some(Duration::ZERO));
                    let response = view(&headers, &[], wall, cost);
                    prop_assert_ne!(exhausted(&headers, &response), Some(Duration::ZERO));
                }
            }
        }
    }
}
