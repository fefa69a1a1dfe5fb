//! Numbers and times as people read them.

use std::time::Duration;

use crate::{Learned, Rate};

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

fn grouped(digits: &str) -> String {
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups = groups.map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// `3 retries`, `1 retry`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A rate: `0.25`, `9.8`, `1,234`.
pub(crate) fn rate(number: f64) -> String {
    if number >= 99.95 {
        grouped(&format!("{number:.0}"))
    } else if number >= 0.995 || number <= 0.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

/// A time, to two units at most: `0.52 s`, `42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`.
#[cfg(feature = "cli")]
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

/// A time in whole seconds, to two units at most: `less than 1 s`, `42 s`, `3 min 05 s`,
/// `2 h 07 min`, `3 d 04 h`.
pub(crate) fn coarse_time(time: Duration) -> String {
    // Rounded to whole seconds before it is taken apart: 59.9 s is a minute, not 60 s.
    let seconds = time
        .as_secs()
        .saturating_add(u64::from(time.subsec_nanos() >= 500_000_000));
    match seconds {
        0 if !time.is_zero() => "less than 1 s".to_owned(),
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
        (learned.input_tokens).map(|rate| per_period(rate, " input tokens")),
        (learned.output_tokens).map(|rate| per_period(rate, " output tokens")),
    ];
    let at_once = |number: Option<usize>| number.map(|it| format!("{} at once", count(it as u64)));
    let maybe = at_once(learned.maybe_at_once);
    let rate = learned.from_refusals.map(|it| per_period(it, ""));
    let either = match (rate, maybe) {
        (Some(rate), Some(maybe)) => Some(format!("{rate} or {maybe}")),
        (None, Some(maybe)) => Some(format!("maybe {maybe}")),
        (rate, None) => rate,
    };
    let refused = [
        at_once(learned.at_once),
        either,
        (learned.tokens_from_refusals).map(|it| per_period(it, " tokens")),
    ];
    let told = |limits: &[Option<String>], from: &str| {
        let limits: Vec<&str> = limits.iter().flatten().map(String::as_str).collect();
        let (last, others) = limits.split_last()?;
        let others = others.join(", ");
        let and = if others.is_empty() { "" } else { " and " };
        Some(format!("{others}{and}{last} learned from {from}"))
    };
    let told = [told(&refused, "refusals"), told(&limits, "headers")];
    let told: Vec<String> = told.into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// How many other processes share the limits, of so many in all, if any do.
pub(crate) fn sharers(processes: u64) -> Option<String> {
    let others = processes.checked_sub(1).filter(|others| *others > 0)?;
    let others = counted(others, "other process", "other processes");
    Some(format!("shared with {others}"))
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
    fn whole_seconds_overflow_nowhere() {
        assert_eq!(coarse_time(Duration::ZERO), "0 s");
        assert_eq!(coarse_time(Duration::from_millis(300)), "less than 1 s");
        assert_eq!(coarse_time(Duration::from_millis(42_400)), "42 s");
        assert!(coarse_time(Duration::MAX).contains(" d "));
    }
}
