//! Numbers and times as people read them: those of a bar, and what else a report has.

use std::fmt::Write as _;

pub(crate) use crate::bar::format::{
    coarse_time, count, counted, learned, per_period, rate, sharers, time,
};
use crate::{AnnouncedLimit, Learned, Rate};

/// A label and a fact a line, the facts below each other.
pub(crate) fn aligned(facts: &[(impl AsRef<str>, String)]) -> String {
    let width = facts.iter().map(|(label, _)| label.as_ref().len()).max();
    let width = width.unwrap_or_default() + 2;
    let mut text = String::new();
    for (label, fact) in facts {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:width$}{fact}", label.as_ref());
    }
    text
}

/// The lower of two limits, if there are any.
pub(crate) fn lower(one: Option<Rate>, other: Option<Rate>) -> Option<Rate> {
    let rates = one.into_iter().chain(other);
    rates.min_by(|one, other| one.units_per_second().total_cmp(&other.units_per_second()))
}

/// The flag that helps against a pause: the one that keeps to the limit which the server has named,
/// else the number at once, as long as that may be what was too much.
pub(crate) fn against_pause(
    named: Option<AnnouncedLimit>,
    rates: [Option<Rate>; 2],
    learned: &Learned,
) -> Option<String> {
    let named = named.and_then(|named| remedy(named, rates, learned));
    let at_once = learned.maybe_at_once;
    named.or_else(|| Some(format!("if that was too many at once: -c {}", at_once?)))
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
        (false, 1) => ("--rps", " a second", [requests, learned.requests, None]),
        (false, 60) => ("--rpm", " a minute", [requests, learned.requests, None]),
        (true, 60) => {
            let learned = [learned.tokens, learned.tokens_from_refusals];
            (
                "--tpm",
                " tokens a minute",
                [tokens, learned[0], learned[1]],
            )
        }
        _ => return None,
    };
    let most = limit.number as f64 / limit.period_s as f64;
    // A refusal may name one of these as tokens.
    let apart = [learned.input_tokens, learned.output_tokens];
    let apart = apart.into_iter().filter(|_| limit.is_tokens);
    let mut rates = rates.into_iter().chain(apart).flatten();
    let is_kept = rates.any(|rate| rate.units_per_second() <= most);
    let (number, counted) = (limit.number, count(limit.number));
    (!is_kept).then(|| format!("the server says {counted}{what}: {flag} {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
    }
}
