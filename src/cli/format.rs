//! Numbers and times as people read them.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{HumanCount, HumanFloatCount};

use crate::{AnnouncedLimit, Learned, Rate};

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `3 retries`, `1 retry`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A label and a fact a line, the facts below each other.
pub(crate) fn aligned(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(label, _)| label.len()).max();
    let width = width.unwrap_or_default() + 2;
    let mut text = String::new();
    for (label, fact) in facts {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{label:width$}{fact}");
    }
    text
}

/// The flag that keeps to a limit which the server has named, in words. `None` if the run keeps to
/// it, because it was told to by `rates` of requests and model tokens, or because it has learned
/// to.
pub(crate) fn remedy(
    limit: AnnouncedLimit,
    [requests, tokens]: [Option<Rate>; 2],
    learned: &Learned,
) -> Option<String> {
    let (flag, what, rates) = match (limit.is_tokens, limit.period_s) {
        (false, 1) => ("--rps", " a second", [requests, learned.requests]),
        (false, 60) => ("--rpm", " a minute", [requests, learned.requests]),
        (true, 60) => ("--tpm", " tokens a minute", [tokens, learned.tokens]),
        _ => return None,
    };
    let most = limit.number as f64 / limit.period_s as f64;
    let mut rates = rates.into_iter().flatten();
    let is_kept = rates.any(|rate| rate.units_per_second() <= most);
    let (number, counted) = (limit.number, count(limit.number));
    (!is_kept).then(|| format!("the server says {counted}{what}: {flag} {number}"))
}

/// A rate: `0.25`, `9.8`, `1,234`.
pub(crate) fn rate(number: f64) -> String {
    if number >= 99.95 {
        HumanFloatCount(number.round()).to_string()
    } else if number >= 0.995 || number <= 0.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

/// A time, to two units at most: `0.52 s`, `42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 9.995 {
        return format!("{seconds:.2} s");
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    coarse_time(time)
}

/// As [`time`], in whole seconds: for what changes while it is read.
pub(crate) fn coarse_time(time: Duration) -> String {
    // Rounded to whole seconds before it is taken apart: 59.9 s is a minute, not 60 s.
    let seconds = time
        .as_secs()
        .saturating_add(u64::from(time.subsec_nanos() >= 500_000_000));
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => {
            let days = count(seconds / 86_400);
            format!("{days} d {:02} h", seconds / 3_600 % 24)
        }
    }
}

/// A limit: `500/min`, `90,000 tokens/min`, or what was measured, `1.5/s`.
pub(crate) fn per_period(limit: Rate, what: &str) -> String {
    let period = match limit.period().as_secs() {
        1 => "s",
        60 => "min",
        3_600 => "h",
        86_400 => "day",
        _ => return format!("{}{what}/s", rate(limit.units_per_second())),
    };
    format!("{}{what}/{period}", count(limit.units()))
}

/// What was learned of limits: `3 at once learned from refusals, 500/min and 90,000 tokens/min
/// learned from headers`.
pub(crate) fn learned(learned: &Learned) -> Option<String> {
    let limits = [
        learned.requests.map(|rate| per_period(rate, "")),
        learned.tokens.map(|rate| per_period(rate, " tokens")),
    ];
    let refused = [
        learned
            .at_once
            .map(|it| format!("{} at once", count(it as u64))),
        learned.from_refusals.map(|it| per_period(it, "")),
    ];
    let told = |limits: [Option<String>; 2], from: &str| {
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        (!limits.is_empty()).then(|| format!("{} learned from {from}", limits.join(" and ")))
    };
    let told = [told(refused, "refusals"), told(limits, "headers")];
    let told: Vec<String> = told.into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(counted(1, "retry", "retries"), "1 retry");
        assert_eq!(counted(2_000, "retry", "retries"), "2,000 retries");
    }

    #[test]
    fn rates_have_two_digits_or_more() {
        for (number, text) in [
            (0.0, "0.0"),
            (0.25, "0.25"),
            (0.999, "1.0"),
            (9.84, "9.8"),
            (99.96, "100"),
            (1_234.4, "1,234"),
        ] {
            assert_eq!(rate(number), text);
        }
    }

    #[test]
    fn times_have_two_units() {
        for (milliseconds, text) in [
            (0, "0.00 s"),
            (520, "0.52 s"),
            (9_999, "10.0 s"),
            (42_000, "42.0 s"),
            (59_990, "1 min 00 s"),
            (185_000, "3 min 05 s"),
            (7_620_000, "2 h 07 min"),
            (273_600_000, "3 d 04 h"),
        ] {
            assert_eq!(time(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(coarse_time(Duration::from_millis(42_400)), "42 s");
        // Nothing overflows.
        assert!(coarse_time(Duration::MAX).contains(" d "));
    }
}
