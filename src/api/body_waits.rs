//! Waits that the body of a refusal tells, in a field or in words.

use std::time::Duration;

use serde_json::Value;

use super::times;

/// The longest wait in the fields of an object. A bare number is seconds, unless the name says
/// otherwise.
pub(super) fn delay_in_fields(object: &Value) -> Option<Duration> {
    const NAMES: [&str; 7] = [
        "retryafter",
        "retryin",
        "retrydelay",
        "estimatedtime",
        "waittime",
        "cooldowntime",
        "resetafter",
    ];
    let wait = |(name, value): (&String, &Value)| {
        let letters = name.chars().filter(char::is_ascii_alphabetic);
        let name: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
        let unit = NAMES.iter().find_map(|known| name.strip_prefix(known))?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        match unit {
            "" | "s" | "sec" | "secs" | "seconds" => times::seconds(&text),
            "ms" | "millis" | "milliseconds" => times::milliseconds(&text),
            _ => None,
        }
        .or_else(|| times::duration(&text))
    };
    object.as_object()?.iter().filter_map(wait).max()
}

/// "Please try again in 9.816s", "Please retry in 10h17m5.72s", "retry after 37 seconds".
pub(super) fn delay_in_words(message: &str) -> Option<Duration> {
    let message = message.to_ascii_lowercase();
    [
        "try again in ",
        "retry in ",
        "retry after ",
        "try again after ",
    ]
    .iter()
    .flat_map(|phrase| message.match_indices(phrase))
    .find_map(|(at, phrase)| times::leading_duration(&message[at + phrase.len()..]))
}
