//! Reads the body of an error answer, whichever shape it has.
//!
//! There is no agreed shape: an object or a bare string under `error`, a flat object, an array
//! (Gemini), a nested `details` (Anthropic, Gemini), `metadata` (OpenRouter), HTML from a proxy.
//! [`ErrorBody::read`] accepts them all. What a body means is in `error_meaning`, so that
//! `classify` stays a table.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::body_waits::{delay_in_fields, delay_in_words};
use super::json::{LONGEST_PARSED, at, says, text_or_number};

/// What one error body tells; empty where it tells nothing.
#[derive(Debug, Default)]
pub(crate) struct ErrorBody {
    /// Its message as it came: escape it before showing it.
    pub(crate) message: String,
    /// `code`, a number or a word, as it came.
    pub(crate) code: Option<String>,
    /// All that names its kind: the code, `type`, Gemini's `status`, more exact codes further in,
    /// and those of an error that it quotes.
    pub(crate) codes: Vec<String>,
    /// The longest wait that it tells, in a field or in words.
    pub(super) delay: Option<Duration>,
    /// Headers of the provider behind a gateway, which repeats them (OpenRouter).
    pub(super) headers: Option<Box<HeaderMap>>,
}

impl ErrorBody {
    /// Reads the body of an error answer.
    pub(crate) fn read(body: &[u8]) -> Self {
        Self::of_text(&String::from_utf8_lossy(body))
    }

    fn of_text(text: &str) -> Self {
        let text = text.trim().trim_start_matches('\u{feff}');
        if let Some(value) = parsed(text) {
            return Self::of_body(&value);
        }
        let title = text.starts_with('<').then(|| html_title(text));
        let message = title.map_or(text, Option::unwrap_or_default);
        Self {
            message: message.to_owned(),
            delay: delay_in_words(message),
            ..Self::default()
        }
    }

    /// Reads the JSON of an `error` member.
    pub(crate) fn read_error(json: &str) -> Self {
        parsed(json).map_or_else(Self::default, |error| Self::of_error(&error))
    }

    /// The error that ends an answer with this code and no word more.
    pub(crate) fn of_code(code: &str) -> Self {
        Self {
            code: Some(code.to_owned()),
            codes: vec![code.to_owned()],
            ..Self::default()
        }
    }

    fn of_body(body: &Value) -> Self {
        // Gemini wraps the object in an array.
        let body = body.get(0).unwrap_or(body);
        let mut found = match (body, body.get("error").filter(|error| says(error))) {
            // A results file may keep a body that is not JSON, or was cut, as a string.
            (Value::String(text), _) => Self::of_text(text),
            // The code may stand beside a bare message.
            (_, Some(Value::String(message))) => Self {
                message: message.clone(),
                ..Self::of_error(body)
            },
            (_, Some(error @ (Value::Object(_) | Value::Array(_)))) => Self::of_body(error),
            _ => Self::of_error(body),
        };
        found.delay = found.delay.max(delay_in_fields(body));
        if !found.message.is_empty() || found.code.is_some() {
            return found;
        }
        let inner = at(body, WRAPPERS).find(|inner| inner.is_object());
        inner.map_or(found, Self::of_body)
    }

    fn of_error(error: &Value) -> Self {
        let code = |paths: &str| at(error, paths).find_map(text_or_number);
        let text = |paths: &str| at(error, paths).find_map(Value::as_str);
        let message = text(MESSAGES).unwrap_or_default();
        // FastAPI names the field that is wrong beside what is wrong with it.
        let place = error.pointer("/detail/0/loc").and_then(Value::as_array);
        let place: Vec<String> = place
            .into_iter()
            .flatten()
            .filter_map(text_or_number)
            .collect();
        let message = match place.join(".") {
            place if place.is_empty() => message.to_owned(),
            place => format!("{place}: {message}"),
        };
        // What a gateway was told itself: in a field, or within its message.
        let quoted = text(NESTED);
        let braces = message.find('{').zip(message.rfind('}'));
        let within = braces.and_then(|(start, end)| parsed(message.get(start..=end)?));
        let nested = match quoted {
            Some(text) => Self::of_text(text),
            None => within.map_or_else(Self::default, |json| Self::of_body(&json)),
        };
        let is_json = message.starts_with(['{', '[']);
        let delay = delay_in_fields(error).max(delay_in_words(&message));
        let mut codes: Vec<String> = at(error, CODES).filter_map(text_or_number).collect();
        codes.extend(at(error, KINDS).filter_map(text_or_number));
        codes.extend(at(error, MODERATION).map(|_| "content_filter".to_owned()));
        codes.extend(nested.codes);
        Self {
            message: match (message, nested.message) {
                (outer, inner) if inner.is_empty() => outer,
                (outer, inner) if is_json || outer.is_empty() => inner,
                (outer, inner) if quoted.is_some() => format!("{outer}: {inner}"),
                // It is shown already.
                (outer, _) => outer,
            },
            code: code(CODES),
            codes,
            delay: delay.max(nested.delay),
            headers: quoted_headers(error).map(Box::new),
        }
    }

    /// Whether any of its codes is one of `words`, which stand between bars.
    pub(crate) fn has_code(&self, words: &str) -> bool {
        let is_one = |code: &String| words.split('|').any(|word| code.eq_ignore_ascii_case(word));
        self.codes.iter().any(is_one)
    }

    /// A code that is an HTTP status (OpenRouter, Gemini, Azure's `"429"`).
    pub(crate) fn code_status(&self) -> Option<u16> {
        let mut numbers = self.codes.iter().filter_map(|code| code.parse().ok());
        numbers.find(|status| (400..600).contains(status))
    }
}

/// Where the message of an error is, under all the names in use. The first place is the error
/// itself, if it is a string.
const MESSAGES: &str = "|/message|/msg|/detail|/detail/0/msg|/errors/0/message|/errors/0|\
    /error_description|/status_msg|/error_msg|/errmsg|/Message|/faultstring|/title";

/// Where its code is.
const CODES: &str = "/code|/status_code|/error_code|/errcode|/Code|/errors/0/code";

/// Where more of its kind is: its type, and codes further in.
const KINDS: &str = "/type|/status|/__type|/details/error_code|/innererror/code";

/// Members that hold the error where there is no `error`: of `MiniMax`, `FastAPI`, Apigee and
/// Tencent.
const WRAPPERS: &str = "/base_resp|/detail|/fault|/Response/Error";

/// Where a gateway keeps what the provider behind it has answered (OpenRouter, others).
const NESTED: &str = "/metadata/raw|/details|/raw|/body";

/// Where `OpenRouter` says what its moderation has found.
const MODERATION: &str = "/metadata/reasons|/metadata/flagged_input";

fn parsed(json: &str) -> Option<Value> {
    let is_short = json.len() <= LONGEST_PARSED;
    is_short.then(|| serde_json::from_str(json).ok()).flatten()
}

fn quoted_headers(error: &Value) -> Option<HeaderMap> {
    let headers = error.pointer("/metadata/headers")?.as_object()?;
    let header = |(name, value): (&String, &Value)| {
        Some((
            name.parse::<HeaderName>().ok()?,
            text_or_number(value)?.parse().ok()?,
        ))
    };
    Some(headers.iter().filter_map(header).collect())
}

/// The text of a page's title, which says more than its first tags.
fn html_title(page: &str) -> Option<&str> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    page.get(start..end).map(str::trim)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(body: &str) -> ErrorBody {
        ErrorBody::read(body.as_bytes())
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table is as long as its rows")]
    fn every_shape_gives_its_message_and_codes() {
        let cases: &[(&str, &str, Option<&str>)] = &[
            (
                r#"{"error":{"message":"Wrong","type":"invalid_request_error","param":null,"code":"bad"}}"#,
                "Wrong",
                Some("bad"),
            ),
            (
                r#"{"error":{"message":"Wrong","type":"x","code":null}}"#,
                "Wrong",
                None,
            ),
            (
                r#"{"error":{"message":"Slow","code":"429"}}"#,
                "Slow",
                Some("429"),
            ),
            (
                r#"{"error":{"message":"Down","code":502,"metadata":{}}}"#,
                "Down",
                Some("502"),
            ),
            (
                r#"[{"error":{"code":429,"message":"Used","status":"RESOURCE_EXHAUSTED"}}]"#,
                "Used",
                Some("429"),
            ),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Over"},"request_id":"r"}"#,
                "Over",
                None,
            ),
            (r#"{"error":"Unauthorized"}"#, "Unauthorized", None),
            (
                r#"{"error":"Unauthorized","code":"no_key"}"#,
                "Unauthorized",
                Some("no_key"),
            ),
            (
                r#"{"object":"error","message":"Flat","type":"BadRequest","code":40303}"#,
                "Flat",
                Some("40303"),
            ),
            (r#"{"error":null,"message":"Flat"}"#, "Flat", None),
            (r#"{"detail":"Not Found"}"#, "Not Found", None),
            (
                r#"{"detail":[{"msg":"field required","loc":["body","n",0]}]}"#,
                "body.n.0: field required",
                None,
            ),
            (
                r#"{"errors":[{"message":"cf","code":3040}]}"#,
                "cf",
                Some("3040"),
            ),
            (r#"{"errors":["cf"]}"#, "cf", None),
            (r#"{"error":{},"message":"Flat"}"#, "Flat", None),
            (r#"{"error":true,"message":"Flat"}"#, "Flat", None),
            (
                r#"{"code":500,"msg":"404 NOT_FOUND"}"#,
                "404 NOT_FOUND",
                Some("500"),
            ),
            (r#"{"error_code":18,"error_msg":"qps"}"#, "qps", Some("18")),
            (
                r#"{"id":"1","choices":null,"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#,
                "rate limit",
                Some("1002"),
            ),
            (
                r#"{"detail":{"error":{"message":"deep","code":"c"}}}"#,
                "deep",
                Some("c"),
            ),
            (
                r#"{"error":{"error":{"message":"vLLM","code":400}}}"#,
                "vLLM",
                Some("400"),
            ),
            (
                r#"{"Response":{"Error":{"Code":"LimitExceeded","Message":"m"},"RequestId":"r"}}"#,
                "m",
                Some("LimitExceeded"),
            ),
            (
                r#""{\"error\":{\"message\":\"Kept\",\"code\":\"c\"}}""#,
                "Kept",
                Some("c"),
            ),
            (r#""just text""#, "just text", None),
            ("upstream connect error", "upstream connect error", None),
            (
                "<!DOCTYPE html><HTML><head><Title lang=en> 502 Bad Gateway </title>",
                "502 Bad Gateway",
                None,
            ),
            ("<html><body>no title</body>", "", None),
            (
                r#"{"error":{"message":"cut of"#,
                r#"{"error":{"message":"cut of"#,
                None,
            ),
            ("", "", None),
            ("null", "", None),
            ("[]", "", None),
            ("{}", "", None),
            ("7", "", None),
            (r#"{"error":[1,2]}"#, "", None),
            (
                r#"{"error":{"message":{"nested":1},"code":{"a":1}}}"#,
                "",
                None,
            ),
            (r#"{"error":{"code":""}}"#, "", None),
        ];
        for (body, message, code) in cases {
            let problem = read(body);
            assert_eq!(problem.message, *message, "{body}");
            assert_eq!(problem.code.as_deref(), *code, "{body}");
        }
    }

    #[test]
    fn codes_are_compared_without_case() {
        for code in [
            "insufficient_quota",
            "INSUFFICIENT_QUOTA",
            "Insufficient_Quota",
        ] {
            assert!(read(&format!(r#"{{"error":{{"code":"{code}"}}}}"#)).is_out_of_money());
        }
        assert!(!read(r#"{"error":{"code":"insufficient_quota_x"}}"#).is_out_of_money());
    }

    #[test]
    fn codes_further_in_are_found() {
        assert!(
            read(
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"m",
            "details":{"error_code":"enforced_spend_limit_reached"}}}"#
            )
            .is_out_of_money()
        );
        assert!(
            read(
                r#"{"error":{"code":"400","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#
            )
            .is_content_filter()
        );
        assert!(
            read(r#"{"error":{"code":403,"message":"m","metadata":{"reasons":["x"]}}}"#)
                .is_content_filter()
        );
        assert!(
            !read(r#"{"error":{"code":403,"message":"m","metadata":{"provider":"x"}}}"#)
                .is_content_filter()
        );
    }

    #[test]
    fn a_delay_is_found_in_fields_and_words() {
        let words = |text: &str| read(text).delay;
        for (text, expected) in [
            (
                "Rate limit reached. Please try again in 9.816s. Visit https://x",
                Some(9_816),
            ),
            ("Please try again in 20ms.", Some(20)),
            ("Please try again in 6m0s.", Some(360_000)),
            ("Please retry in 10h17m5.72s.", Some(37_025_720)),
            ("Please retry after 37 seconds.", Some(37_000)),
            (
                "Rate limited. Please wait 20 seconds before the next",
                Some(20_000),
            ),
            ("Wait for 2s", Some(2_000)),
            ("The model is available in 1 minute", Some(60_000)),
            ("the limit resets in 3m", Some(180_000)),
            ("please wait a while", None),
            ("PLEASE RETRY AFTER 86400 SECONDS", Some(86_400_000)),
            ("try again in a moment, or try again in 2s", Some(2_000)),
            ("try again in a few minutes", None),
            ("retry after 2026", None),
            ("try again in -5s", None),
            ("try again in 99999999999999999999s", None),
            ("try again in ", None),
            ("", None),
        ] {
            assert_eq!(words(text), expected.map(Duration::from_millis), "{text}");
        }
        let gemini = |delay: &str, message: &str| {
            read(&format!(
                r#"[{{"error":{{"code":429,"message":"{message}","details":[
                {{"@type":"type.googleapis.com/google.rpc.Help"}},
                {{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{delay}}}]}}}}]"#
            ))
            .delay
        };
        assert_eq!(gemini("\"46s\"", ""), Some(Duration::from_secs(46)));
        assert_eq!(
            gemini("\"46s\"", "Please retry in 46.5s."),
            Some(Duration::from_millis(46_500))
        );
        assert_eq!(gemini("46", ""), Some(Duration::from_secs(46)));
        assert_eq!(gemini("\"-46s\"", ""), None);
    }

    #[test]
    fn a_delay_is_found_under_every_name_and_beside_the_error() {
        for (body, expected) in [
            (
                r#"{"error":"Model m is currently loading","estimated_time":23.07}"#,
                23_070,
            ),
            (r#"{"error":{"message":"m"},"retry_after":7}"#, 7_000),
            (r#"{"error":{"message":"m","retry_after_ms":250}}"#, 250),
            (r#"{"error":{"message":"m","retryAfter":"3"}}"#, 3_000),
            (
                r#"{"error":{"message":"m","retry-after-seconds":"1.5"}}"#,
                1_500,
            ),
            (
                r#"{"error":{"message":"m","metadata":{"retry_after":"2m"}}}"#,
                120_000,
            ),
            (
                r#"{"message":"m","details":[{"retry_in":9},{"retryDelay":"4s"}]}"#,
                9_000,
            ),
            (
                r#"{"error":{"message":"m","details":{"retry_after":6}}}"#,
                6_000,
            ),
            (
                r#"{"error":{"message":"m"},"limits":[{"reset_in":5}]}"#,
                5_000,
            ),
            (
                r#"{"error":{"message":"m","metadata":{"raw":"{\"error\":{\"retry_after\":8}}"}}}"#,
                8_000,
            ),
        ] {
            assert_eq!(
                read(body).delay,
                Some(Duration::from_millis(expected)),
                "{body}"
            );
        }
        for body in [
            r#"{"error":{"message":"m","retry_after":"soon"}}"#,
            r#"{"error":{"message":"m","retry_after":-4}}"#,
            r#"{"error":{"message":"m","retry_after":1767225600}}"#,
            r#"{"error":{"message":"m","retry_after_policy":3}}"#,
            r#"{"error":{"message":"m","retry_after":{"seconds":3}}}"#,
        ] {
            assert_eq!(read(body).delay, None, "{body}");
        }
    }

    #[test]
    fn words_about_money_are_told_from_words_that_hold_them() {
        for text in [
            "Your team t has used all available credits or reached its monthly spending limit",
            "Insufficient balance or no resource package. Please recharge.",
            "Account a is suspended, possibly due to reaching the monthly spending limit or failure \
             to pay past invoices",
            "Access denied, please make sure your account is in good standing: Past Due",
            "Check your plan and BILLING details",
            "Insufficient credit",
            "No deployments available - crossed budget: Exceeded budget for provider openai: 5.4e-05 >= 5e-05",
            "Budget has been exceeded! Current cost: 10.5, Max budget: 10.0",
            "用户余额不足",
            "ExceededBudget: User=x over budget. Spend=1.1, Budget=1.0",
            "Usage limit exceeded for virtual key",
            "You've reached your usage limit.",
            "FailedOperation.ResourcePackExhausted",
            "token quota is not enough, token remain quota: $0.01",
            "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys",
            "Your top-up is needed",
        ] {
            let body = ErrorBody {
                message: text.into(),
                ..ErrorBody::default()
            };
            assert!(body.speaks_of_money(), "{text}");
        }
        for text in [
            "The load balancer has no healthy upstream",
            "unbalanced parentheses",
            "Rate limit reached. See https://platform.openai.com/account/billing or /balance",
            "a credit card number was found",
            "thinking.budget_tokens: must be below max_tokens",
            "usage limit per minute",
            "Usage limit: 20 requests/minute",
            "Rate limit exceeded: free-models-per-min. Add 10 credits to unlock more",
            "Resource has been exhausted (e.g. check quota).",
            "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model",
            "stop upstream",
            "",
        ] {
            let body = ErrorBody {
                message: text.into(),
                ..ErrorBody::default()
            };
            assert!(!body.speaks_of_money(), "{text}");
        }
        let quoted = format!("invalid text: {}billing", "x ".repeat(300));
        let body = ErrorBody {
            message: quoted,
            ..ErrorBody::default()
        };
        assert!(!body.speaks_of_money());
    }

    #[test]
    fn what_stands_in_nested_json_is_shown_and_judged() {
        for (body, message) in [
            (
                r#"{"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"{\"error\":{\"message\":\"No credits\",\"code\":\"insufficient_quota\"}}"}}}"#,
                "Provider returned error: No credits",
            ),
            (
                r#"{"error":{"message":"{\"error\":{\"message\":\"No credits\",\"type\":\"insufficient_quota\"}}"}}"#,
                "No credits",
            ),
            (
                r#"{"error":{"message":"Upstream","details":"{\"code\":\"insufficient_quota\",\"message\":\"No credits\"}"}}"#,
                "Upstream: No credits",
            ),
        ] {
            let read = read(body);
            assert_eq!(read.message, message, "{body}");
            assert!(read.is_out_of_money(), "{body}");
        }
        let sentence = r#"{"error":{"message":"litellm.RateLimitError: x - {\"error\":{\"code\":429,\"status\":\"insufficient_quota\",\"details\":[{\"retryDelay\":\"36s\"}]}}. Model m","code":"429"}}"#;
        let found = read(sentence);
        assert!(found.message.starts_with("litellm.RateLimitError: x - {"));
        assert!(found.is_out_of_money());
        assert_eq!(found.delay, Some(Duration::from_secs(36)));
        let plain =
            r#"{"error":{"message":"Provider returned error","metadata":{"raw":"it is down"}}}"#;
        assert_eq!(read(plain).message, "Provider returned error: it is down");
    }

    #[test]
    fn a_request_above_the_limit_is_told_from_a_full_window() {
        let never_fits = |text: &str| {
            ErrorBody {
                message: text.into(),
                ..ErrorBody::default()
            }
            .never_fits()
        };
        for text in [
            "Request too large for gpt-4 in organization org-x on tokens per min (TPM): Limit 30000, \
             Requested 36278. The input or output tokens must be reduced in order to run successfully.",
            "on tokens per minute (TPM): Limit 8000, Requested 10098, please reduce your message size",
            "Limit: 30,000, Used 0, Requested: 36,278",
            "Request too large.",
        ] {
            assert!(never_fits(text), "{text}");
        }
        for text in [
            "Rate limit reached for gpt-4 on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000.",
            "Limit 30000, Requested 30000",
            "Limit 3, Requested 99999999999999999999999",
            "Rate limit reached: Limit: 3 / min.",
            "Requested 5",
            "",
        ] {
            assert!(!never_fits(text), "{text}");
        }
    }

    #[test]
    fn no_quota_is_told_from_a_used_one() {
        let has_no_quota = |text: &str| {
            ErrorBody {
                message: text.into(),
                ..ErrorBody::default()
            }
            .has_no_quota()
        };
        for text in [
            "You exceeded your current quota. * Quota exceeded for metric: free_tier_requests, limit: 0",
            "Quota exceeded, limit: 0, model: gemini-pro",
            "Quota exceeded, limit: 20\nQuota exceeded, limit: 0\nPlease retry in 10h",
            "Quota exceeded, limit: 0. Please retry",
        ] {
            assert!(has_no_quota(text), "{text}");
        }
        for text in [
            "Quota exceeded, limit: 20",
            "Quota exceeded, limit: 0.5",
            "Quota exceeded, limit: 05",
            "limit: 0",
            "",
        ] {
            assert!(!has_no_quota(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(
            bytes in any::<Vec<u8>>(),
            text in any::<String>(),
            json in "[\\{\\}\\[\\]\",:a-z0-9 ]{0,80}",
            words in "(limit|requested|limit: 0|quota|try again in |retry after |<title>|</title>|[ :,.0-9sm漢]|İ){0,12}",
        ) {
            for body in [&bytes[..], text.as_bytes(), json.as_bytes(), words.as_bytes()] {
                let problem = ErrorBody::read(body);
                let _ = (problem.delay, problem.never_fits(), problem.has_no_quota(), problem.code_status());
                let _ = (problem.is_out_of_money(), problem.is_overload(), problem.is_content_filter());
            }
            let _ = ErrorBody::read_error(&json);
        }
    }
}
