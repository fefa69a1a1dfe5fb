//! Waits that the body of a refusal tells, in a field or in words.

use std::time::Duration;

use serde_json::Value;

use super::times;

/// How deep in an answer a field may name a wait.
const DEPTH: u8 = 3;

/// The longest wait in the fields of a value and of what is in it. A bare number is seconds, unless
/// the name says otherwise.
pub(super) fn delay_in_fields(value: &Value) -> Option<Duration> {
    delay_within(value, DEPTH)
}

fn delay_within(value: &Value, depth: u8) -> Option<Duration> {
    const NAMES: &str = "retryafter|retryin|retrydelay|estimatedtime|waittime|cooldowntime|\
        resetafter|resetin|waitfor|wait";
    if depth == 0 {
        return None;
    }
    let wait = |(name, value): (&String, &Value)| {
        let letters = name.chars().filter(char::is_ascii_alphabetic);
        let name: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
        let unit = NAMES.split('|').find_map(|known| name.strip_prefix(known));
        let Some(unit) = unit else {
            return delay_within(value, depth - 1);
        };
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            inner => return delay_within(inner, depth - 1),
        };
        match unit {
            "" | "s" | "sec" | "secs" | "seconds" => times::seconds(&text),
            "ms" | "millis" | "milliseconds" => times::milliseconds(&text),
            _ => None,
        }
        .or_else(|| times::duration(&text))
    };
    match value {
        Value::Object(fields) => fields.iter().filter_map(wait).max(),
        Value::Array(values) => {
            let inner = values
                .iter()
                .filter_map(|value| delay_within(value, depth - 1));
            inner.max()
        }
        _ => None,
    }
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
