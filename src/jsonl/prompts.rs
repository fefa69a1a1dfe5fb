//! A field that all prompts or rows are sent with, and that the model refuses.

use http::StatusCode;

use crate::api::AttemptError;
use crate::error::Error;
use crate::retry::Verdict;

/// Makes a failure stop the run if the answer refuses one of `additions`, the fields that all
/// requests are sent with: no other row would fare better.
pub(super) fn stop_if_refused(additions: &[String], failed: &mut AttemptError) {
    let error = &failed.error;
    let body = String::from_utf8_lossy(error.body().unwrap_or_default()).to_lowercase();
    let is_refusal = matches!(
        error.status(),
        Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
    );
    let fields = additions.iter().map(String::as_str);
    let Some(field) = refused(&body, fields).filter(|_| is_refusal) else {
        return;
    };
    let message = format!("the model refuses {field}, which all requests are sent with: {error}");
    let settings: &[_] = match field {
        "max_tokens" => &["max_tokens", "param"],
        "system" => &["system"],
        _ => &["param"],
    };
    failed.verdict = Verdict::Stop;
    failed.error = Error::new(error.kind(), message)
        .with_source(error.clone())
        .with_settings(settings);
}

/// The one of `fields` that a refusal in lower case is about: the `param` it names, or else the
/// first in its text if that says of something that it is not taken.
fn refused<'f>(refusal: &str, fields: impl Iterator<Item = &'f str> + Clone) -> Option<&'f str> {
    const NOT_TAKEN: &str = "unsupported|not support|n't support|unknown|unrecognized|unexpected|\
                             not permitted|not allowed|not accept|invalid param";
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let words = refusal
        .split(|c| !is_part(c))
        .filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    // How long an answer may be depends on the prompt as well.
    if words.contains(&"context") {
        return None;
    }
    let is_param = |field: &&str| {
        words
            .windows(2)
            .any(|pair| pair == ["param", &*field.to_lowercase()])
    };
    let place = |field: &'f str| {
        let at = words.iter().position(|word| *word == field.to_lowercase());
        at.map(|at| (at, field))
    };
    fields.clone().find(is_param).or_else(|| {
        let is_taken = !NOT_TAKEN.split('|').any(|words| refusal.contains(words));
        let named = fields.filter_map(place).filter(|_| !is_taken).min();
        named.map(|(_, field)| field)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_field_is_found_and_nothing_else() {
        let fields = ["max_tokens", "n", "temperature"];
        for (refusal, field) in [
            (
                "unsupported parameter: 'max_tokens' is not supported with this model. use \
                 'max_completion_tokens' instead.",
                Some("max_tokens"),
            ),
            (
                "unsupported value: 'temperature' does not support 0.2 with this model.",
                Some("temperature"),
            ),
            ("unknown parameter: 'n'", Some("n")),
            (
                "body.temperature: extra inputs are not permitted",
                Some("temperature"),
            ),
            ("unknown parameter: 'top_k'", None),
            ("'max_completion_tokens' is not supported", None),
            ("max_tokens is too large", None),
            (
                r#"{"error":{"message":"invalid value: 'x'", "param": "n"}}"#,
                Some("n"),
            ),
            (
                r#"{"message":"the maximum context length is 4096, unsupported","param":"max_tokens"}"#,
                None,
            ),
            (
                "gpt-5 models don't support temperature=0.2",
                Some("temperature"),
            ),
            ("", None),
        ] {
            assert_eq!(refused(refusal, fields.into_iter()), field, "{refusal}");
        }
    }
}
