//! Durations, counts and rates as people type them.
//!
//! Each is a parser for clap, which puts the value and the flag's name before the message; so a
//! message says what is wanted and nothing else.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::Value;

use super::args::ShardArg;
use super::format::count;
use crate::api::times;
use crate::jsonl::MAX_BODY;
use crate::jsonl::shard::Shard;
use crate::plan::Dist;
use crate::{Column, Concurrency, Error, Fsync, Provider, Rate, Usd};

/// A duration of at most a year: `500ms`, `2s`, `1.5m`, `1h`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    times::typed(text).ok_or_else(|| {
        "give a time of at most a year, such as 500ms, 2s, 10m or 1h; a bare number is seconds"
            .to_owned()
    })
}

/// The name of a column.
pub(crate) fn column(text: &str) -> Result<Column, String> {
    let found = Column::ALL
        .into_iter()
        .find(|it| it.as_str() == text.trim());
    let names = Column::ALL.map(Column::as_str);
    found.ok_or_else(|| format!("the columns are {}", names.join(", ")))
}

/// A duration above zero.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be above zero".to_owned()),
        duration => Ok(duration),
    }
}

/// How long a store takes to answer. Whoever asks it gives up after a second.
pub(crate) fn store_round_trip(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time > Duration::from_secs(1) => {
            Err("a store that takes longer counts as gone: give 1s at most".to_owned())
        }
        time => Ok(time),
    }
}

/// Reads `word` as the value `most`, and anything else by `parse`.
pub(crate) fn most_or<T: Clone>(
    word: &'static str,
    most: T,
    parse: impl Fn(&str) -> Result<T, String> + Clone,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| match text.trim() {
        text if text == word => Ok(most.clone()),
        text => parse(text).map_err(|error| format!("{error}, or {word}")),
    }
}

/// `share=1/N`, as N.
pub(crate) fn share(text: &str) -> Result<u32, String> {
    let number = text.trim().strip_prefix("share=1/");
    let number = number.and_then(|number| number.parse().ok());
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| "give share=1/N, such as share=1/8".to_owned())
}

/// A rate that need not be whole.
pub(crate) fn rate(
    make: fn(f64) -> crate::Result<Rate>,
) -> impl Fn(&str) -> Result<Rate, String> + Clone {
    move |text| {
        let number = text.trim().parse();
        let number = number.map_err(|_| "give a number above zero, such as 10 or 0.5")?;
        make(number).map_err(|error| error.to_string())
    }
}

/// A whole number above zero, `most` at most.
pub(crate) fn up_to<T: TryFrom<u64>>(most: u64) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number: u128 = text.trim().parse().unwrap_or(0);
        let fitting = u64::try_from(number).ok().filter(|it| *it <= most);
        match fitting.and_then(|it| T::try_from(it).ok()) {
            _ if number == 0 => Err("give a whole number above zero".to_owned()),
            Some(fitting) => Ok(fitting),
            None => Err(format!("give {} at most", count(most))),
        }
    }
}

/// How many at once, 10,000 at most: a number, or a range `4-200`.
pub(crate) fn concurrency(text: &str) -> Result<Concurrency, String> {
    let number = up_to::<usize>(10_000);
    let Some((low, high)) = text.split_once('-').filter(|(low, _)| !low.is_empty()) else {
        return number(text).map(Concurrency::from);
    };
    match (number(low)?, number(high)?) {
        (low, high) if low <= high => Ok((low..=high).into()),
        _ => Err("give the lower number first, such as 4-200".to_owned()),
    }
}

/// `I/N`, or `auto`.
pub(crate) fn shard(text: &str) -> Result<ShardArg, String> {
    if text.trim() == "auto" {
        return Ok(ShardArg::Auto);
    }
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let both = text
        .split_once('/')
        .and_then(|(index, count)| Some((number(index)?, number(count)?)));
    let (index, count) = both.ok_or("give I/N, such as 0/8 for the first of eight, or auto")?;
    let shard = Shard::new(index, count).map_err(|error| error.to_string())?;
    Ok(ShardArg::Given(shard))
}

/// Model tokens a minute, a whole number.
pub(crate) fn tokens_per_minute(text: &str) -> Result<Rate, String> {
    up_to(60 * Rate::MAX_PER_SECOND)(text).map(Rate::per_minute)
}

/// How times vary.
pub(crate) fn time_dist(text: &str) -> Result<Dist, String> {
    let value = |text: &str| times::typed(text).map(|time| time.as_secs_f64());
    Dist::parse(
        text,
        value,
        "a time such as 2s, a range 1s-4s, a mean and its spread 2s~0.5, or quantiles p50=2s,p99=10s",
    )
}

/// How many model tokens there are, if that varies.
pub(crate) fn tokens_dist(text: &str) -> Result<Dist, String> {
    let value = |text: &str| text.parse::<u32>().ok().map(f64::from);
    Dist::parse(
        text,
        value,
        "a number of tokens such as 300, a range 50-800, a mean and its spread 300~0.5, or quantiles \
         p50=200,p95=900",
    )
}

/// When results are flushed to the disk. A shell can complete the words.
pub(crate) fn fsync() -> impl TypedValueParser<Value = Fsync> {
    PossibleValuesParser::new(["none", "interval", "always"]).map(|word| match &*word {
        "none" => Fsync::None,
        "always" => Fsync::Always,
        _ => Fsync::default(),
    })
}

/// Whose API it is. A shell can complete the words.
pub(crate) fn provider() -> impl TypedValueParser<Value = Provider> {
    PossibleValuesParser::new(["openai", "anthropic", "azure"]).map(|word| match &*word {
        "anthropic" => Provider::Anthropic,
        "azure" => Provider::Azure,
        _ => Provider::OpenAi,
    })
}

/// What separates the cells of a table.
pub(crate) fn delimiter(text: &str) -> Result<char, String> {
    let mut characters = text.chars();
    match (text, characters.next(), characters.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        (_, Some(one), None) if one.is_ascii() && !"\"\r\n".contains(one) => Ok(one),
        _ => Err("give one ASCII character, or tab".to_owned()),
    }
}

/// US dollars, some.
pub(crate) fn dollars(text: &str) -> Result<Usd, String> {
    match text.parse() {
        Ok(Usd::ZERO) => Err("must be above zero".to_owned()),
        amount => amount.map_err(|error: Error| error.to_string()),
    }
}

/// A size in bytes, with K, M or G for the powers of 1,024. It has an upper bound, because a later
/// run must be able to read the record of so large an answer.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let text = text.trim().trim_end_matches(['B', 'b']);
    let (number, shift) = match text.char_indices().next_back() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let size = number.trim_end().parse::<usize>().ok();
    let size = size.and_then(|size| size.checked_mul(1 << shift));
    size.filter(|size| (1..=MAX_BODY).contains(size))
        .ok_or_else(|| "give from 1 byte to 1G, such as 500000, 300K or 200M".to_owned())
}

/// A field of a request: `key=value`, the value JSON or else a string.
pub(crate) fn param(text: &str) -> Result<(String, Value), String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => (key.trim(), value),
        _ => return Err("give KEY=VALUE, such as temperature=0.2".to_owned()),
    };
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    match key {
        "model" => Err("give --model".to_owned()),
        "messages" => Err("the messages are made of INPUT: leave it out".to_owned()),
        "stream" if value != false => Err("streams are not read: leave it out".to_owned()),
        _ => Ok((key.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("2s", 2_000),
            ("2", 2_000),
            ("0.25", 250),
            ("1.5m", 90_000),
            ("10 min", 600_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in [
            "",
            "s",
            "-1",
            "1s2",
            "ms",
            "1..2",
            ".",
            "NaN",
            "inf",
            "٣",
            "9999999999999999999999h",
            "366000h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(positive_duration("0ms").is_err());
    }

    #[test]
    fn none_is_a_time_that_never_ends() {
        let duration_or_none = most_or("none", Duration::MAX, duration);
        assert_eq!(duration_or_none("none"), Ok(Duration::MAX));
        assert_eq!(duration_or_none("10m"), Ok(Duration::from_secs(600)));
        assert!(duration_or_none("never").unwrap_err().contains("none"));
    }

    #[test]
    fn never_is_a_number_that_is_not_reached() {
        let count_or_never = most_or("never", u32::MAX, up_to(u64::from(u32::MAX)));
        assert_eq!(count_or_never("never"), Ok(u32::MAX));
        assert_eq!(count_or_never("7"), Ok(7));
        for text in ["0", "-1", "none", ""] {
            assert!(
                count_or_never(text).unwrap_err().contains("never"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_whole_number_out_of_range_is_told_by_its_range() {
        let number = up_to::<u32>(10_000);
        assert_eq!((number("1"), number(" 10000 ")), (Ok(1), Ok(10_000)));
        for text in ["0", "-1", "1.5", "", "many"] {
            assert_eq!(number(text).unwrap_err(), "give a whole number above zero");
        }
        assert_eq!(number("10001").unwrap_err(), "give 10,000 at most");
        let beyond = u64::from(u32::MAX) + 1;
        assert!(up_to::<u32>(u64::MAX)(&beyond.to_string()).is_err());
    }

    #[test]
    fn how_many_at_once_is_a_number_or_a_range() {
        assert_eq!(concurrency("20"), Ok(20.into()));
        assert_eq!(concurrency(" 4 - 200"), Ok((4..=200).into()));
        for (text, what) in [
            ("0", "above zero"),
            ("0-5", "above zero"),
            ("4-", "above zero"),
            ("-4", "above zero"),
            ("4-5-6", "above zero"),
            ("4..200", "above zero"),
            ("4-10001", "10,000 at most"),
            ("200-4", "lower number first"),
        ] {
            let told = concurrency(text).unwrap_err();
            assert!(told.contains(what), "{text}: {told}");
        }
    }

    #[test]
    fn what_varies_has_the_unit_of_its_quantity() {
        assert_eq!(time_dist("2s"), Ok(Dist::constant(2.0)));
        assert_eq!(time_dist("500ms - 1m"), Ok(Dist::Even(0.5, 60.0)));
        assert_eq!(time_dist("1"), Ok(Dist::constant(1.0)));
        assert_eq!(tokens_dist("50-800"), Ok(Dist::Even(50.0, 800.0)));
        for text in ["", "soon", "-1", "2s-", "400d"] {
            let told = time_dist(text).unwrap_err();
            assert!(told.contains("p50=2s,p99=10s"), "{text}: {told}");
        }
        for text in ["", "2s", "-1", "1.5", "99999999999"] {
            let told = tokens_dist(text).unwrap_err();
            assert!(told.contains("p50=200,p95=900"), "{text}: {told}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_have_a_unit() {
        for (text, bytes) in [
            ("1", 1),
            ("300K", 300 << 10),
            ("64mb", 64 << 20),
            ("1 G", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "0",
            "",
            "K",
            "-1",
            "1.5M",
            "2G",
            "1T",
            "18446744073709551615G",
            "é",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_that_no_limiter_can_run_at_are_refused() {
        let per_second = rate(Rate::try_per_second);
        let per_minute = rate(Rate::try_per_minute);
        assert_eq!(per_second("10"), Ok(Rate::per_second(10)));
        assert_eq!(per_minute("600"), Ok(Rate::per_minute(600)));
        assert!(per_second("0.5").is_ok());
        for text in ["0", "-1", "NaN", "inf", "1e12", "", "ten"] {
            assert!(
                per_second(text).is_err() && per_minute(text).is_err(),
                "{text}"
            );
        }
        let tokens = tokens_per_minute;
        assert_eq!(tokens("200000").unwrap(), Rate::per_minute(200_000));
        assert!(tokens("60000000000").is_ok());
        for text in ["0", "-5", "1.5", "60000000001", "99999999999999999999"] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }
}
