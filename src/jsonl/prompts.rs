//! A field that all prompts are sent with, and that the model refuses.

use http::StatusCode;

use crate::api::{AttemptError, Chat};
use crate::error::Error;
use crate::retry::Verdict;

/// Makes a failure stop the run if the answer refuses a field that all prompts are sent with: no
/// other row would fare better.
pub(super) fn stop_if_refused(template: &Chat, failed: &mut AttemptError) {
    let error = &failed.error;
    let body = String::from_utf8_lossy(error.body().unwrap_or_default()).to_lowercase();
    let is_refusal = matches!(
        error.status(),
        Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
    );
    let Some(field) = refused(&body, template.additions()).filter(|_| is_refusal) else {
        return;
    };
    let message = format!("the model takes no such {field} as all prompts are sent with: {error}");
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

/// The one of `fields` that a refusal in lower case is about: the `param` it names, or else the first
/// in its text if that says of something that it is not taken.
fn refused<'f>(refusal: &str, fields: impl Iterator<Item = &'f str> + Clone) -> Option<&'f str> {
    const WORDS: [&str; 10] = [
        "unsupported",
        "not support",
        "n't support",
        "unknown",
        "unrecognized",
        "unexpected",
        "not permitted",
        "not allowed",
        "not accept",
        "invalid param",
    ];
    // How long an answer may be depends on the prompt as well.
    let is_of_row = refusal.contains("context");
    let compact: String = refusal.split_whitespace().collect();
    let is_param =
        |field: &&str| compact.contains(&format!("\"param\":\"{}\"", field.to_lowercase()));
    if let Some(field) = fields.clone().find(is_param).filter(|_| !is_of_row) {
        return Some(field);
    }
    if is_of_row || !WORDS.iter().any(|word| refusal.contains(word)) {
        return None;
    }
    let named = fields.filter_map(|field| Some((position(refusal, field)?, field)));
    named.min().map(|(_, field)| field)
}

/// Where `text` has `name` as a word of its own.
fn position(text: &str, name: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let name = name.to_lowercase();
    let mut places = text.match_indices(&*name).map(|(at, _)| at);
    places
        .find(|&at| !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part))
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
