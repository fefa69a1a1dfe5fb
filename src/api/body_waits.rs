//! Waits that the body of a refusal tells, in a field or in words.

use std::time::Duration;

use serde_json::Value;

use super::json::text_or_number;
use super::times;

/// The longest wait in the fields of a value and of what is in it.
pub(super) fn delay_in_fields(value: &Value) -> Option<Duration> {
    delay_within(value, 3)
}

/// As [`delay_in_fields`], down to so many levels.
fn delay_within(value: &Value, depth: u8) -> Option<Duration> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::Object(fields) => {
            let delay = |(name, value): (&String, &Value)| {
                delay_in_field(name, value).or_else(|| delay_within(value, depth))
            };
            fields.iter().filter_map(delay).max()
        }
        Value::Array(values) => {
            let delays = values.iter().filter_map(|value| delay_within(value, depth));
            delays.max()
        }
        _ => None,
    }
}

/// A bare number is seconds, unless the name says otherwise.
fn delay_in_field(name: &str, value: &Value) -> Option<Duration> {
    const NAMES: &str = "retryafter|retryin|retrydelay|estimatedtime|waittime|cooldowntime|\
        resetafter|resetin|waitfor|wait";
    let letters = name.chars().filter(char::is_ascii_alphabetic);
    let name = letters.collect::<String>().to_ascii_lowercase();
    let unit = NAMES
        .split('|')
        .find_map(|known| name.strip_prefix(known))?;
    let text = text_or_number(value)?;
    let number = match unit {
        "" | "s" | "sec" | "secs" | "seconds" => times::seconds(&text),
        "ms" | "millis" | "milliseconds" => times::milliseconds(&text),
        _ => None,
    };
    number.or_else(|| times::duration(&text))
}

/// "Please try again in 9.816s", "Please retry in 10h17m5.72s", "retry after 37 seconds".
pub(super) fn delay_in_words(message: &str) -> Option<Duration> {
    const PHRASES: &str = "try again in |retry in |retry after |try again after |wait |wait for |\
        available in |reset in |resets in |reset after ";
    let message = message.to_ascii_lowercase();
    (PHRASES.split('|'))
        .flat_map(|phrase| message.match_indices(phrase))
        .find_map(|(at, phrase)| times::leading_duration(&message[at + phrase.len()..]))
}
