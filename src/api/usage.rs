//! How many model tokens an answer took, and whether it is an answer at all.
//!
//! [`inspect`] reads the body of a 2xx answer once: it checks that the body is JSON, and finds the
//! usage and what `classify` needs. Only the usage is parsed into a value.

use serde::de::{Error as _, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::{fields, whole};

/// The model tokens of one answer, or of many, as the provider counts them.
///
/// Read from chat completions and embeddings (`prompt_tokens`), OpenAI's responses and Anthropic's
/// messages (`input_tokens`) alike. A count that is missing beside a total is the difference; a
/// total alone counts as the prompt's. Any other count that is missing is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens read, those from a cache included.
    pub prompt_tokens: u64,
    /// Tokens written, those of hidden reasoning included.
    pub completion_tokens: u64,
    /// The provider's total, or the sum of the two above where it gave none.
    pub total_tokens: u64,
    /// Of the prompt tokens, those read from a cache; most providers charge less for them.
    pub cached_tokens: u64,
    /// Of the completion tokens, those of hidden reasoning.
    pub reasoning_tokens: u64,
}

/// What is known of a 2xx body.
#[derive(Debug, Default)]
pub(crate) struct Inspected<'b> {
    /// The usage, where the body has a plausible one.
    pub(crate) usage: Option<Usage>,
    /// The JSON of an object's member `error`, unless it is null, false or empty.
    pub(crate) error: Option<&'b str>,
    /// Whether there is an array `choices` that is not empty.
    pub(crate) has_choices: bool,
    /// Whether the body is an object or an array: no endpoint answers with less.
    pub(crate) is_composite: bool,
}

/// Reads a 2xx body in one pass.
///
/// # Errors
/// If it is not exactly one JSON value in UTF-8.
pub(crate) fn inspect(body: &[u8]) -> Result<Inspected<'_>, serde_json::Error> {
    // The JSON parser does not check the encoding of strings that it skips, and a results file must
    // be UTF-8.
    let text = std::str::from_utf8(body).map_err(serde_json::Error::custom)?;
    let opening = text.bytes().find(|byte| !byte.is_ascii_whitespace());
    if opening != Some(b'{') {
        serde_json::from_str::<IgnoredAny>(text)?;
        return Ok(Inspected {
            is_composite: opening == Some(b'['),
            ..Inspected::default()
        });
    }
    // Taken as text, so that no depth and no odd number inside them is an error of the body.
    let [usage, error, choices] = fields(text, &["usage", "error", "choices"])?
        .values
        .map(|value| value.map(RawValue::get));
    Ok(Inspected {
        usage: usage.and_then(Usage::read),
        error: error.filter(|error| says_something(error)),
        has_choices: choices.is_some_and(|json| json.starts_with('[') && says_something(json)),
        is_composite: true,
    })
}

/// Whether a JSON value is none of null, false, and an empty string, object or array.
fn says_something(json: &str) -> bool {
    let is_empty = |open: char, close: char| {
        json.strip_prefix(open)
            .is_some_and(|rest| rest.trim_start().starts_with(close))
    };
    !(matches!(json, "null" | "false" | "\"\"") || is_empty('{', '}') || is_empty('[', ']'))
}

/// A longer `usage` is not parsed: a parsed value takes several times its text.
const LONGEST: usize = 64 << 10;

impl Usage {
    /// Reads a `usage` object, under all the names in use. `None` if it has no plausible count.
    fn read(json: &str) -> Option<Self> {
        if json.len() > LONGEST {
            return None;
        }
        let usage: Value = serde_json::from_str(json).ok()?;
        let first = |paths: &[&str]| {
            let number = |path: &&str| usage.pointer(path)?.as_f64().and_then(whole);
            paths.iter().find_map(number)
        };
        // Anthropic counts what its cache wrote and read beside `input_tokens`, OpenAI within
        // `prompt_tokens`; a gateway that sends both names means OpenAI's.
        let anthropic_prompt = || {
            let written = first(&["/cache_creation_input_tokens"]).unwrap_or(0);
            let cached = first(&["/cache_read_input_tokens"]).unwrap_or(0);
            Some(first(&["/input_tokens"])? + cached + written)
        };
        let prompt = first(&["/prompt_tokens"]).or_else(anthropic_prompt);
        let completion = first(&["/completion_tokens", "/output_tokens"]);
        let total = first(&["/total_tokens"]);
        prompt.or(completion).or(total)?;
        // Services that embed or rank give a total alone: there are prompts and no answers.
        let left = total.unwrap_or(0);
        let prompt_tokens = prompt.unwrap_or(left.saturating_sub(completion.unwrap_or(0)));
        let completion_tokens = completion.unwrap_or(left.saturating_sub(prompt_tokens));
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: total.unwrap_or(prompt_tokens + completion_tokens),
            cached_tokens: first(&[
                "/prompt_tokens_details/cached_tokens",
                "/input_tokens_details/cached_tokens",
                "/cached_tokens",
                "/cache_read_input_tokens",
            ])
            .unwrap_or(0),
            reasoning_tokens: first(&[
                "/completion_tokens_details/reasoning_tokens",
                "/output_tokens_details/reasoning_tokens",
                "/reasoning_tokens",
            ])
            .unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as what it is compared with")]
    fn usage(
        prompt: u64,
        completion: u64,
        total: u64,
        cached: u64,
        reasoning: u64,
    ) -> Option<Usage> {
        Some(Usage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: total,
            cached_tokens: cached,
            reasoning_tokens: reasoning,
        })
    }

    #[test]
    fn usage_is_read_from_every_shape() {
        for (json, expected) in [
            (
                r#"{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}"#,
                usage(9, 12, 21, 0, 0),
            ),
            (
                r#"{"prompt_tokens":90,"completion_tokens":12,"total_tokens":102,
                   "prompt_tokens_details":{"cached_tokens":64,"audio_tokens":0},
                   "completion_tokens_details":{"reasoning_tokens":8}}"#,
                usage(90, 12, 102, 64, 8),
            ),
            // Responses.
            (
                r#"{"input_tokens":36,"input_tokens_details":{"cached_tokens":4},"output_tokens":87,
                   "output_tokens_details":{"reasoning_tokens":5},"total_tokens":123}"#,
                usage(36, 87, 123, 4, 5),
            ),
            // Anthropic.
            (
                r#"{"input_tokens":10,"cache_creation_input_tokens":100,
                   "cache_read_input_tokens":1000,"output_tokens":5,"service_tier":"standard"}"#,
                usage(1110, 5, 1115, 1000, 0),
            ),
            // A gateway with both names: the cache is within prompt_tokens already.
            (
                r#"{"prompt_tokens":1110,"completion_tokens":5,"input_tokens":10,
                   "cache_read_input_tokens":1000}"#,
                usage(1110, 5, 1115, 1000, 0),
            ),
            // Embeddings.
            (
                r#"{"prompt_tokens":8,"total_tokens":8}"#,
                usage(8, 0, 8, 0, 0),
            ),
            (r#"{"total_tokens":8}"#, usage(8, 0, 8, 0, 0)),
            (
                r#"{"completion_tokens":3,"total_tokens":8}"#,
                usage(5, 3, 8, 0, 0),
            ),
            (
                r#"{"prompt_tokens":5,"total_tokens":8}"#,
                usage(5, 3, 8, 0, 0),
            ),
            (
                r#"{"prompt_tokens":9,"total_tokens":8}"#,
                usage(9, 0, 8, 0, 0),
            ),
            // Implausible counts are as good as absent.
            (
                r#"{"prompt_tokens":-1,"completion_tokens":12}"#,
                usage(0, 12, 12, 0, 0),
            ),
            (
                r#"{"prompt_tokens":3,"completion_tokens":2e12,"total_tokens":"5"}"#,
                usage(3, 0, 3, 0, 0),
            ),
            (
                r#"{"prompt_tokens":3.0,"completion_tokens":null}"#,
                usage(3, 0, 3, 0, 0),
            ),
            (
                r#"{"prompt_tokens":3,"prompt_tokens_details":null}"#,
                usage(3, 0, 3, 0, 0),
            ),
            ("{}", None),
            ("null", None),
            ("[1]", None),
            ("7", None),
            (r#"{"prompt_tokens":-1}"#, None),
            (r#"{"prompt_tokens":1e999}"#, None),
        ] {
            let body = format!(r#"{{"id":"x","usage":{json},"choices":[{{}}]}}"#);
            assert_eq!(inspect(body.as_bytes()).unwrap().usage, expected, "{json}");
        }
    }

    #[test]
    fn an_error_and_choices_are_noticed() {
        for (body, error, has_choices) in [
            (r#"{"choices":[{"index":0}]}"#, None, true),
            (r#"{"choices":[]}"#, None, false),
            (r#"{"choices":[ ]}"#, None, false),
            (r#"{"choices":null}"#, None, false),
            (r#"{"choices":"x"}"#, None, false),
            (r#"{"error":{"code":502}}"#, Some(r#"{"code":502}"#), false),
            (r#"{"error":"busy","choices":[{}]}"#, Some("\"busy\""), true),
            (r#"{"error":null}"#, None, false),
            (r#"{"error":{ }}"#, None, false),
            (r#"{"error":[]}"#, None, false),
            (r#"{"error":""}"#, None, false),
            (r#"{"error":false}"#, None, false),
            (r#"{"data":{"error":1,"choices":[1]}}"#, None, false),
            (r#"{"err\u006fr":1}"#, Some("1"), false),
        ] {
            let inspected = inspect(body.as_bytes()).unwrap();
            assert_eq!(
                (inspected.error, inspected.has_choices),
                (error, has_choices),
                "{body}"
            );
            assert!(inspected.is_composite);
        }
    }

    #[test]
    fn only_whole_json_in_utf8_passes() {
        let wrong: [&[u8]; 10] = [
            b"",
            b"  ",
            b"<html></html>",
            b"{\"a\":1",
            b"{\"a\":1}{}",
            b"{'a':1}",
            b"[1,]",
            b"{\"a\":\"\xff\"}",
            b"[\"\xc0\xaf\"]",
            b"\xef\xbb\xbf{}",
        ];
        for body in wrong {
            assert!(inspect(body).is_err(), "{}", String::from_utf8_lossy(body));
        }
        for (body, is_composite) in [
            (" [1,2] ", true),
            ("{}", true),
            ("null", false),
            ("\"ok\"", false),
            ("1", false),
        ] {
            assert_eq!(
                inspect(body.as_bytes()).unwrap().is_composite,
                is_composite,
                "{body}"
            );
        }
    }

    #[test]
    fn depth_and_odd_numbers_do_not_fail_a_body() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for name in ["usage", "error", "choices", "other"] {
            for value in [&*deep, "1e400"] {
                let body = format!(r#"{{"{name}":{value}}}"#);
                assert!(inspect(body.as_bytes()).is_ok(), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in any::<Vec<u8>>(), usage in "[\\{\\}\\[\\]\",:a-z_0-9e+-]{0,60}") {
            let _ = inspect(&body);
            let _ = inspect(format!(r#"{{"usage":{usage}}}"#).as_bytes());
            let _ = Usage::read(&usage);
        }
    }
}
