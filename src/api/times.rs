//! The ways providers write a time or a delay, read into `Duration` and `SystemTime`.
//!
//! Everything here comes from the network: what makes no sense is `None`, and nothing panics or
//! overflows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A longer delay is a mistake: no server asks for more than a leap year.
const MAX_DELAY: Duration = Duration::from_secs(366 * 86_400);

/// Seconds, whole or not: `2`, `0.25`. Not negative, not `NaN` or `inf`, at most 366 days.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    delay(number(text)?)
}

/// As [`seconds`], in milliseconds.
pub(crate) fn milliseconds(text: &str) -> Option<Duration> {
    delay(number(text)? / 1e3)
}

/// What is left, at `now`, until a reset in any of the formats in use: an RFC 3339 time
/// (Anthropic), a Go duration such as `6m0s` (OpenAI, Groq), or a bare number that its size tells
/// apart: milliseconds since 1970 (OpenRouter), seconds since 1970, or seconds from now (Azure).
/// A moment that has passed is zero.
pub(crate) fn until_reset(text: &str, now: SystemTime) -> Option<Duration> {
    if let Some(moment) = rfc3339(text) {
        return until(moment, now);
    }
    if let Some(delay) = duration(text) {
        return Some(delay);
    }
    let number = number(text)?;
    if number >= 1e12 {
        until(since_epoch(number / 1e3)?, now)
    } else if number >= 1e9 {
        until(since_epoch(number)?, now)
    } else {
        delay(number)
    }
}

/// From `now` to `moment`; zero if it has passed, none if it is more than 366 days away.
pub(crate) fn until(moment: SystemTime, now: SystemTime) -> Option<Duration> {
    let left = moment.duration_since(now).unwrap_or_default();
    (left <= MAX_DELAY).then_some(left)
}

/// A duration and nothing else: `12ms`, `1h2m3.5s`, `37 seconds`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (delay, rest) = components(text.trim())?;
    rest.is_empty().then_some(delay)
}

/// As [`duration`], as a person types it: a bare number is seconds.
#[cfg(feature = "sim")]
pub(crate) fn typed(text: &str) -> Option<Duration> {
    duration(text).or_else(|| seconds(text))
}

/// The duration a sentence goes on with: `9.816s. Visit ...`, `37 seconds.`. A number without a
/// unit is not one: it might be a year.
pub(crate) fn leading_duration(text: &str) -> Option<Duration> {
    components(text.trim_start()).map(|(delay, _)| delay)
}

/// One or more numbers with units at the start of `text`, and the rest.
fn components(text: &str) -> Option<(Duration, &str)> {
    let mut rest = text;
    let mut total = None;
    while let Some((seconds, after)) = component(rest) {
        total = Some(total.unwrap_or(0.0) + seconds);
        rest = after;
    }
    Some((delay(total?)?, rest))
}

/// One number and its unit, in seconds. The whole word is the unit, so `ms` is never `m`.
fn component(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_start_matches(' ');
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(0);
    let (value, rest) = text.split_at(digits);
    let rest = rest.strip_prefix(' ').unwrap_or(rest);
    let letters = rest
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    let unit = match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Some((number(value)? * unit, rest))
}

/// A number. `parse` accepts `inf` and `NaN`; those who use the number refuse them.
fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok()
}

fn delay(seconds: f64) -> Option<Duration> {
    // An error where `from_secs_f64` panics: negative, infinite, not a number.
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|delay| *delay <= MAX_DELAY)
}

fn since_epoch(seconds: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// The months of an HTTP date.
const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// A time as in RFC 3339, to the millisecond: `2026-11-20T18:34:11.250Z`. Its calendar is that of
/// HTTP dates, which end in the year 9999.
pub(crate) fn to_rfc3339(time: SystemTime) -> String {
    // `Fri, 20 Nov 2026 18:34:11 GMT`
    let date = httpdate::fmt_http_date(time);
    let month = MONTHS.find(&date[8..11]).unwrap_or_default() / 3 + 1;
    let (year, day, clock) = (&date[12..16], &date[5..7], &date[17..25]);
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().subsec_millis();
    format!("{year}-{month:02}-{day}T{clock}.{millis:03}Z")
}

/// A time as in RFC 3339, section 5.6: `2026-11-20T18:34:11Z`, `2026-11-20t18:34:11.25+01:00`.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let parts = (text.get(4..5)?, text.get(7..8)?, text.get(10..11)?);
    if !matches!(parts, ("-", "-", "T" | "t" | " ")) {
        return None;
    }
    let (year, day, clock) = (text.get(..4)?, text.get(8..10)?, text.get(11..19)?);
    let month = 3 * text.get(5..7)?.parse::<usize>().ok()?.checked_sub(1)?;
    let month = MONTHS.get(month..month + 3)?;
    // A date is refused with any other weekday than its own.
    let on = |weekday| format!("{weekday}, {day} {month} {year} {clock} GMT");
    let whole = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
        .iter()
        .find_map(|weekday| httpdate::parse_http_date(&on(weekday)).ok())?;

    let rest = text.get(19..)?;
    let (fraction, zone) = rest.split_at(rest.find(['Z', 'z', '+', '-'])?);
    let fraction = match fraction.as_bytes() {
        [] => 0.0,
        [b'.', b'0'..=b'9', ..] => number(fraction)?,
        _ => return None,
    };
    let moment = whole.checked_add(Duration::try_from_secs_f64(fraction).ok()?)?;
    match zone.split_at(1) {
        ("Z" | "z", "") => Some(moment),
        ("+", zone) => moment.checked_sub(offset(zone)?),
        ("-", zone) => moment.checked_add(offset(zone)?),
        _ => None,
    }
}

/// `18:34`, as far from `00:00`.
fn offset(zone: &str) -> Option<Duration> {
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let is_time = hours < 24 && minutes < 60;
    is_time.then(|| Duration::from_secs(hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as what it is compared with")]
    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn seconds_are_plain_finite_numbers() {
        for (text, expected) in [
            ("2", ms(2_000)),
            (" 0.25 ", ms(250)),
            ("0", ms(0)),
            ("1e2", ms(100_000)),
            ("31622400", ms(31_622_400_000)),
            ("31622401", None),
            ("", None),
            (" ", None),
            ("-5", None),
            ("NaN", None),
            ("inf", None),
            ("infinity", None),
            ("1e309", None),
            ("9999999999999999999", None),
            ("٣", None),
            ("2s", None),
            ("0x10", None),
            ("1,5", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        assert_eq!(seconds(&"9".repeat(8192)), None);
        assert_eq!(milliseconds("250.5"), Some(Duration::from_micros(250_500)));
        assert_eq!(milliseconds("-1"), None);
    }

    #[test]
    fn durations_are_read_unit_by_unit() {
        for (text, expected) in [
            ("12ms", ms(12)),
            ("1s", ms(1_000)),
            ("6m0s", ms(360_000)),
            ("1h2m3s", ms(3_723_000)),
            ("1m30.5s", ms(90_500)),
            ("2m59.56s", ms(179_560)),
            ("10h17m5.72s", ms(37_025_720)),
            ("1500us", Some(Duration::from_micros(1_500))),
            ("1500µs", Some(Duration::from_micros(1_500))),
            ("1500μs", Some(Duration::from_micros(1_500))),
            ("7ns", Some(Duration::from_nanos(7))),
            (".5s", ms(500)),
            ("0s", ms(0)),
            ("37 seconds", ms(37_000)),
            ("2 minutes 5 seconds", ms(125_000)),
            ("1d", ms(86_400_000)),
            ("", None),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("5 parsecs", None),
            ("5s!", None),
            ("infs", None),
            ("9999999d", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn a_sentence_may_go_on_after_a_duration() {
        for (text, expected) in [
            ("9.816s. Visit https://example.com", ms(9_816)),
            ("20ms.", ms(20)),
            (" 37 seconds. To increase", ms(37_000)),
            ("6m0s", ms(360_000)),
            ("1h or 5 tries", ms(3_600_000)),
            ("a few minutes", None),
            ("2026-11-20", None),
            ("5.", None),
        ] {
            assert_eq!(leading_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn rfc3339_times_are_validated() {
        let at = |secs: u64, nanos: u32| Some(UNIX_EPOCH + Duration::new(secs, nanos));
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", at(0, 0)),
            ("2026-11-20T18:34:11Z", at(1_795_199_651, 0)),
            ("2026-11-20t18:34:11z", at(1_795_199_651, 0)),
            ("2026-11-20 18:34:11.25Z", at(1_795_199_651, 250_000_000)),
            ("2026-11-20T19:34:11+01:00", at(1_795_199_651, 0)),
            ("2026-11-20T12:04:11-06:30", at(1_795_199_651, 0)),
            ("2000-02-29T00:00:00Z", at(951_782_400, 0)),
            ("9999-12-31T23:59:59Z", at(253_402_300_799, 0)),
            ("1969-12-31T23:59:59Z", None),
            ("1900-02-29T00:00:00Z", None),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-04-31T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T00:60:00Z", None),
            ("2026-01-01T00:00:61Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00+24:00", None),
            ("2026-01-01T00:00:00+0100", None),
            ("+026-01-01T00:00:00Z", None),
            ("2026/01/01T00:00:00Z", None),
            ("2026-01-01T00:00:0٣Z", None),
        ] {
            assert_eq!(rfc3339(text), expected, "{text}");
        }
    }

    #[test]
    fn resets_mean_the_same_in_every_format() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_199_651);
        for text in [
            "2026-11-20T18:40:11Z",
            "6m0s",
            "360",
            "360.0",
            "1795200011",
            "1795200011000",
        ] {
            assert_eq!(until_reset(text, now), ms(360_000), "{text}");
        }
        // A second before the answer's own date, as seen from a full bucket.
        for text in [
            "2026-11-20T18:34:10Z",
            "0",
            "0s",
            "1795199650",
            "1795199650000",
        ] {
            assert_eq!(until_reset(text, now), ms(0), "{text}");
        }
        for text in [
            "",
            "-1",
            "NaN",
            "inf",
            "abc",
            "1e400",
            "9999-01-01T00:00:00Z",
            "1e17",
            "99999999",
        ] {
            assert_eq!(until_reset(text, now), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in any::<String>(), near in "[-0-9TZtz:.+ hmsuµn]{0,40}") {
            let now = UNIX_EPOCH + Duration::from_secs(1_795_199_651);
            for text in [&*text, &*near] {
                for delay in [
                    seconds(text), milliseconds(text), duration(text), leading_duration(text),
                    until_reset(text, now),
                ].into_iter().flatten() {
                    prop_assert!(delay <= MAX_DELAY);
                }
                let _ = rfc3339(text);
            }
        }

        #[test]
        fn rfc3339_is_the_inverse_of_writing(secs in 0u64..253_402_300_799) {
            let moment = UNIX_EPOCH + Duration::from_secs(secs);
            // HTTP dates, by which it is written, are the independent witness of the calendar.
            prop_assert_eq!(rfc3339(&to_rfc3339(moment)), Some(moment));
        }
    }
}
