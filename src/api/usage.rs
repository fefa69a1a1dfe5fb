//! How many model tokens an answer took.

use serde_json::value::RawValue;

use super::json::{count, fields, members};

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

impl Usage {
    /// Reads a `usage` object, under all the names in use. `None` if it has no count, or one that
    /// cannot be: -1 stands for "unknown" with some, and is not nothing.
    pub(crate) fn read(json: &str) -> Option<Self> {
        const NAMES: [&str; 13] = [
            "prompt_tokens",
            "input_tokens",
            "cache_creation_input_tokens",
            "cache_read_input_tokens",
            "completion_tokens",
            "output_tokens",
            "total_tokens",
            "prompt_tokens_details",
            "input_tokens_details",
            "cached_tokens",
            "completion_tokens_details",
            "output_tokens_details",
            "reasoning_tokens",
        ];
        let values = fields(json, &NAMES).ok()?.values;
        let value = |name: &str| {
            let at = NAMES.iter().position(|known| *known == name)?;
            values[at].filter(|json| json.get() != "null")
        };
        let counted = |json: Option<&RawValue>| json.map_or(Some(None), |it| count(it).map(Some));
        // Anthropic counts what its cache wrote and read beside `input_tokens`, OpenAI within
        // `prompt_tokens`; a gateway that sends both names means OpenAI's.
        let mut prompt = counted(value("prompt_tokens"))?;
        if prompt.is_none() {
            let written = counted(value("cache_creation_input_tokens"))?.unwrap_or(0);
            let read = counted(value("cache_read_input_tokens"))?.unwrap_or(0);
            prompt = counted(value("input_tokens"))?.map(|new| new + written + read);
        }
        let completion = counted(value("completion_tokens").or(value("output_tokens")))?;
        let total = counted(value("total_tokens"))?;
        prompt.or(completion).or(total)?;
        // Services that embed or rank give a total alone: there are prompts and no answers.
        let left = total.unwrap_or(0);
        let prompt_tokens = prompt.unwrap_or(left.saturating_sub(completion.unwrap_or(0)));
        let completion_tokens = completion.unwrap_or(left.saturating_sub(prompt_tokens));
        let first = |counts: [Option<&RawValue>; 4]| counts.into_iter().flatten().find_map(count);
        let within = |details, name| members(value(details), &[name])[0];
        let cached = first([
            within("prompt_tokens_details", "cached_tokens"),
            within("input_tokens_details", "cached_tokens"),
            value("cached_tokens"),
            value("cache_read_input_tokens"),
        ]);
        let reasoning = first([
            within("completion_tokens_details", "reasoning_tokens"),
            within("output_tokens_details", "reasoning_tokens"),
            value("reasoning_tokens"),
            None,
        ]);
        Some(Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens: total.unwrap_or(prompt_tokens + completion_tokens),
            cached_tokens: cached.unwrap_or(0),
            reasoning_tokens: reasoning.unwrap_or(0),
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
            // A count that cannot be makes the answer uncounted; it does not make it free.
            (r#"{"prompt_tokens":-1,"completion_tokens":12}"#, None),
            (
                r#"{"prompt_tokens":9,"completion_tokens":9223372036854775808}"#,
                None,
            ),
            (r#"{"prompt_tokens":3,"completion_tokens":2e12}"#, None),
            (r#"{"prompt_tokens":3,"total_tokens":"5"}"#, None),
            (
                r#"{"prompt_tokens":9,"completion_tokens":1,"total_tokens":-1}"#,
                None,
            ),
            (
                r#"{"input_tokens":9,"cache_read_input_tokens":-1,"output_tokens":1}"#,
                None,
            ),
            // A detail is not counted.
            (
                r#"{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":-1}}"#,
                usage(9, 1, 10, 0, 0),
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
            assert_eq!(Usage::read(json), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(usage in "[\\{\\}\\[\\]\",:a-z_0-9e+-]{0,60}") {
            let _ = Usage::read(&usage);
        }
    }
}
