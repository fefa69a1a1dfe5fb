//! The table, row by row.

#![expect(clippy::too_many_lines, reason = "a table is as long as its rows")]

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::api::key::ApiKey;
use ErrorKind as K;
use Verdict as V;

fn judge(status: u16, pairs: &[(&str, &str)], body: &str) -> Result<Option<Usage>, AttemptError> {
    judge_at("/v1/unknown", status, pairs, body)
}

fn judge_at(
    path: &str,
    status: u16,
    pairs: &[(&str, &str)],
    body: &str,
) -> Result<Option<Usage>, AttemptError> {
    classify_response(&ResponseView {
        promise: Promise::of(path),
        status,
        headers: &headers::tests::map(pairs.iter().copied()),
        body: body.as_bytes(),
        key: None,
        wall: UNIX_EPOCH,
        cost_tokens: 10,
        longest_wait: None,
    })
}

#[track_caller]
fn fails(status: u16, pairs: &[(&str, &str)], body: &str) -> AttemptError {
    judge(status, pairs, body).expect_err(body)
}

fn error(code: &str, message: &str) -> String {
    format!(r#"{{"error":{{"message":"{message}","type":"t","param":null,"code":"{code}"}}}}"#)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Status, headers and body of an answer; what it is, and what is done.
type Case<'a> = (u16, &'a [(&'a str, &'a str)], &'a str, K, V);

/// Asserts the kind and the verdict of each row.
#[track_caller]
fn table(rows: &[Case<'_>]) {
    for (status, pairs, body, kind, verdict) in rows {
        let failure = fails(*status, pairs, body);
        let found = (failure.error.kind(), failure.verdict);
        assert_eq!(found, (*kind, *verdict), "{status} {pairs:?} {body}");
    }
}

const AFTER_2: &[(&str, &str)] = &[("retry-after", "2")];

#[test]
fn success() {
    for body in [
        r#"{"choices":[{"message":{"content":"hi"}}]}"#,
        r#"{"choices":[{"message":{"content":null,"tool_calls":[]}}]}"#,
        r#"{"choices":[{"finish_reason":"content_filter","message":{"content":""}}]}"#,
        r#"{"choices":[{"content_filter_result":{"error":{"code":"content_filter_error"}}}]}"#,
        r#"{"choices":[{}],"error":{"code":502}}"#,
        r#"{"output":[],"error":null}"#,
        r#"{"data":[{"embedding":[0.1]}]}"#,
        "{}",
        "[]",
    ] {
        for status in [200, 201, 202] {
            assert!(
                matches!(judge(status, &[], body), Ok(None)),
                "{status} {body}"
            );
        }
    }
    // Retry-After and x-should-retry mean nothing on a success.
    let pairs = [("retry-after", "60"), ("x-should-retry", "false")];
    let body = r#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let Ok(Some(usage)) = judge(200, &pairs, body) else {
        panic!("a success with its usage");
    };
    assert_eq!(usage.total_tokens, 3);
}

#[test]
fn a_success_without_an_answer_is_tried_again_a_little() {
    for (status, body, said) in [
        (200, "", "empty"),
        (204, "", "empty"),
        (200, r#"{"choices":[{"message":{"con"#, "cut short"),
        (200, "<html><title>Log in</title></html>", "web page"),
        (200, "<html><title>Log in</title></html>", "\"Log in\""),
        (200, "OK", "not JSON"),
        (200, "null", "not an object"),
        (200, "\"hi\"", "not an object"),
        (200, "{} {}", "not JSON"),
    ] {
        let failure = fails(status, &[], body);
        assert_eq!(
            (failure.error.kind(), failure.verdict),
            (K::Malformed, V::Unusable),
            "{body}"
        );
        assert!(!failure.error.possibly_billed() && failure.error.retry_after().is_none());
        assert!(
            failure.error.message().contains(said),
            "{}",
            failure.error.message()
        );
    }
    let refused = fails(200, &[("x-should-retry", "false")], "");
    assert_eq!(
        (refused.error.kind(), refused.verdict),
        (K::Malformed, V::Fail)
    );
}

#[test]
fn a_stream_of_events_is_not_asked_for_again() {
    for body in [
        "data: {}\n\n",
        ": a comment\n\ndata: {}\n\n",
        "event: ping\ndata: {}\n\n",
    ] {
        let failure = fails(200, &[], body);
        assert_eq!(
            (failure.error.kind(), failure.verdict),
            (K::Invalid, V::Fail)
        );
        assert!(!failure.error.possibly_billed());
        assert!(
            failure.error.message().contains("stream"),
            "{}",
            failure.error.message()
        );
    }
}

#[test]
fn an_error_inside_a_success_counts_as_what_it_names() {
    table(&[
        (
            200,
            &[],
            r#"{"error":{"code":502,"message":"m"}}"#,
            K::Server,
            V::Retry,
        ),
        (
            200,
            &[],
            r#"{"error":{"code":"503","message":"overloaded"},"choices":[]}"#,
            K::Overloaded,
            V::Throttled,
        ),
        (
            200,
            &[],
            r#"{"error":{"code":429,"message":"m"},"choices":null}"#,
            K::RateLimited,
            V::Throttled,
        ),
        (
            200,
            &[],
            r#"{"error":{"code":429,"message":"try again in 3s"}}"#,
            K::RateLimited,
            V::PauseAll(secs(3)),
        ),
        // The headers were sent before it went wrong.
        (
            200,
            AFTER_2,
            r#"{"error":{"code":429,"message":"m"}}"#,
            K::RateLimited,
            V::Throttled,
        ),
        (
            200,
            &[("x-should-retry", "false")],
            r#"{"error":{"code":502}}"#,
            K::Server,
            V::Retry,
        ),
        (
            200,
            &[],
            r#"{"error":{"code":400,"message":"m"}}"#,
            K::Invalid,
            V::Fail,
        ),
        (
            200,
            &[],
            r#"{"error":{"code":401,"message":"m"}}"#,
            K::Auth,
            V::Stop,
        ),
        (
            200,
            &[],
            r#"{"error":{"code":402,"message":"m"}}"#,
            K::Quota,
            V::Stop,
        ),
        (
            200,
            &[],
            r#"{"error":{"code":"insufficient_quota"}}"#,
            K::Quota,
            V::Stop,
        ),
        (
            200,
            &[],
            r#"{"status":"failed","error":{"code":"server_error","message":"m"}}"#,
            K::Server,
            V::Retry,
        ),
        (
            200,
            &[],
            r#"{"error":{"code":"rate_limit_exceeded"}}"#,
            K::RateLimited,
            V::Throttled,
        ),
        (
            200,
            &[],
            r#"{"error":{"code":"invalid_prompt"}}"#,
            K::Invalid,
            V::Fail,
        ),
        (
            200,
            &[],
            r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
            K::Overloaded,
            V::Throttled,
        ),
        (
            200,
            &[],
            r#"{"type":"error","error":{"type":"not_found_error","message":"m"}}"#,
            K::NotFound,
            V::FailOrStopIfRepeated(404),
        ),
        // A code that is no status of a failure says nothing.
        (200, &[], r#"{"error":{"code":200}}"#, K::Server, V::Retry),
        (200, &[], r#"{"error":{"code":-1}}"#, K::Server, V::Retry),
        (
            200,
            &[],
            r#"{"error":"something broke"}"#,
            K::Server,
            V::Retry,
        ),
        (200, &[], r#"{"error":true}"#, K::Server, V::Retry),
    ]);
    let failure = fails(200, &[], r#"{"error":{"code":502,"message":"Upstream"}}"#);
    // The answer came: nothing was lost on the way.
    assert!(!failure.error.possibly_billed());
    assert_eq!(failure.error.code(), Some("502"));
    assert!(
        failure
            .error
            .message()
            .contains("HTTP 200, 502): \"Upstream\""),
        "{}",
        failure.error.message()
    );
}

#[test]
fn json_that_is_no_answer_is_read_like_an_error() {
    let chat = "/v1/chat/completions";
    let choice = |choice: &str| format!(r#"{{"choices":[{choice}],"usage":{{"total_tokens":9}}}}"#);
    let upstream = choice(
        r#"{"finish_reason":"error","error":{"code":502,"message":"Upstream provider went away"},
            "message":{"content":"The answer is 4"}}"#,
    );
    let limited = choice(r#"{"error":{"code":429,"message":"m"},"message":{"content":"The"}}"#);
    let stopped = choice(r#"{"finish_reason":"error","message":{"content":"The"}}"#);
    let crowded = choice(r#"{"finish_reason":"insufficient_system_resource","message":{}}"#);
    for (path, body, kind, verdict) in [
        (chat, &*upstream, K::Server, V::Retry),
        (chat, &limited, K::RateLimited, V::Throttled),
        (chat, &stopped, K::Server, V::Retry),
        (chat, &crowded, K::Overloaded, V::Throttled),
        (
            chat,
            r#"{"choices":[{}],"error":{"code":502}}"#,
            K::Server,
            V::Retry,
        ),
        (
            chat,
            r#"{"id":"1","choices":null,"base_resp":{"status_code":1002,"status_msg":"rate limit"}}"#,
            K::RateLimited,
            V::Throttled,
        ),
        (
            chat,
            r#"{"choices":null,"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#,
            K::Quota,
            V::Stop,
        ),
        (
            chat,
            r#"{"choices":null,"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#,
            K::Auth,
            V::Stop,
        ),
        (
            chat,
            r#"{"choices":null,"base_resp":{"status_code":1013,"status_msg":"internal"}}"#,
            K::Malformed,
            V::Unusable,
        ),
        (
            chat,
            r#"{"id":null,"choices":null,"model":"m"}"#,
            K::Malformed,
            V::Unusable,
        ),
        (
            chat,
            r#"{"code":500,"msg":"404 NOT_FOUND","success":false}"#,
            K::Malformed,
            V::Unusable,
        ),
        (
            chat,
            r#"{"code":500,"msg":"Too many requests"}"#,
            K::RateLimited,
            V::Throttled,
        ),
        (
            chat,
            r#"{"message":"Too many requests, try again in 3s","__type":"ThrottlingException"}"#,
            K::RateLimited,
            V::PauseAll(secs(3)),
        ),
        (
            chat,
            r#"{"detail":"upstream timed out"}"#,
            K::Malformed,
            V::Unusable,
        ),
        (chat, "{}", K::Malformed, V::Unusable),
        (chat, "[]", K::Malformed, V::Unusable),
        (chat, "null", K::Malformed, V::Unusable),
        (
            chat,
            r#"[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]"#,
            K::RateLimited,
            V::Throttled,
        ),
        (
            chat,
            r#"{"errors":[{"message":"capacity"}],"success":false}"#,
            K::Overloaded,
            V::Throttled,
        ),
        (
            chat,
            r#"{"code":500,"msg":"Insufficient balance, please recharge","data":null}"#,
            K::Quota,
            V::Fail,
        ),
        (
            chat,
            r#"{"status":429,"title":"Too Many"}"#,
            K::RateLimited,
            V::Throttled,
        ),
        (
            "/v1/embeddings",
            r#"{"object":"list","data":[]}"#,
            K::Malformed,
            V::Unusable,
        ),
        (
            "/v1/messages",
            r#"{"type":"message","content":[],"stop_reason":null}"#,
            K::Malformed,
            V::Unusable,
        ),
        (
            "/v1/responses",
            r#"{"status":"failed","output":[{}],"error":null}"#,
            K::Server,
            V::Retry,
        ),
        (
            "/v1/responses",
            r#"{"status":"completed","output":[]}"#,
            K::Malformed,
            V::Unusable,
        ),
    ] {
        let failure = judge_at(path, 200, &[], body).expect_err(body);
        let found = (failure.error.kind(), failure.verdict);
        assert_eq!(found, (kind, verdict), "{body}");
    }
    let said = |body| judge_at(chat, 200, &[], body).unwrap_err().error;
    assert!(said(&upstream).to_string().contains("went away"));
    assert!(said(r#"{"id":null}"#).to_string().contains("no `choices`"));
    assert!(
        said(r#"{"id":null}"#)
            .to_string()
            .contains(r#""{"id":null}""#)
    );
    // It came, so it was not lost on the way.
    assert!(!said("{}").possibly_billed() && !said(&upstream).possibly_billed());
}

#[test]
fn a_connection_kept_alive_for_nothing_is_an_overload() {
    for body in ["\n\n\n", "   ", ": PROCESSING\n\n: PROCESSING\n\n"] {
        let failure = fails(200, AFTER_2, body);
        let found = (failure.error.kind(), failure.verdict);
        assert_eq!(found, (K::Overloaded, V::Throttled), "{body:?}");
        assert!(!failure.error.possibly_billed());
    }
    let answer = ": PROCESSING\n\n\u{feff}{\"choices\":[{}]}";
    assert!(judge_at("/v1/completions", 200, &[], answer).is_ok());
}

#[test]
fn an_answer_in_all_but_form_is_not_one_that_passes() {
    let chat = "/v1/chat/completions";
    for (body, kind) in [
        (r#"{"choices":[{"logprobs":NaN}]}"#, K::Protocol),
        (r#"{"choices":[{"logprobs":[-Infinity,]}],}"#, K::Protocol),
        ("{'choices': [{'message': {'content': None}}]}", K::Protocol),
        ("{\"choices\":[{\"text\":\"a\nb\"}]}", K::Protocol),
        (r#""{\"choices\":[{\"text\":\"x\"}]}""#, K::Protocol),
        (r#"[{"choices":[{"text":"x"}]}]"#, K::Protocol),
        ("Notice: x in y.php\n{\"choices\":[{}]}", K::Protocol),
        ("Notice: it's y.php\n{\"choices\":[{}]}", K::Protocol),
        (r#"{"choices":[{}]}{"choices":[{}]}"#, K::Protocol),
        ("{\"choices\":[{}]}\0", K::Protocol),
        (r#"{"choices":[],"x":NaN}"#, K::Malformed),
        (r#"{"id":1}{"choices":[{}]}"#, K::Malformed),
        (r#"the proxy says {"a":1}"#, K::Malformed),
        (r#"{"choices":[{"logprobs":NaN"#, K::Malformed),
        ("<html>NaN</html>", K::Malformed),
    ] {
        let failure = judge_at(chat, 200, &[], body).expect_err(body);
        let found = (failure.error.kind(), failure.verdict);
        assert_eq!(found, (kind, V::Unusable), "{body}");
    }
}

#[test]
fn pace() {
    let reached = "Rate limit reached (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 9.816s.";
    let used_up = [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "6m0s"),
    ];
    table(&[
        (429, &[], "", K::RateLimited, V::Throttled),
        (
            429,
            &[],
            &error("rate_limit_exceeded", "m"),
            K::RateLimited,
            V::Throttled,
        ),
        (
            429,
            &[],
            &error("rate_limit_exceeded", reached),
            K::RateLimited,
            V::PauseAll(Duration::from_millis(9_816)),
        ),
        (429, AFTER_2, "", K::RateLimited, V::PauseAll(secs(2))),
        (
            429,
            AFTER_2,
            &error("rate_limit_exceeded", reached),
            K::RateLimited,
            V::PauseAll(secs(2)),
        ),
        (
            429,
            &[("retry-after-ms", "250"), ("retry-after", "60")],
            "",
            K::RateLimited,
            V::PauseAll(Duration::from_millis(250)),
        ),
        (
            429,
            &[("retry-after", "86400")],
            "",
            K::RateLimited,
            V::PauseAll(secs(86_400)),
        ),
        (
            429,
            &[],
            &error("429", "Please retry after 37 seconds."),
            K::RateLimited,
            V::PauseAll(secs(37)),
        ),
        (
            429,
            &[],
            &error("429", "Please retry after 86400 seconds."),
            K::RateLimited,
            V::PauseAll(secs(86_400)),
        ),
        (429, &used_up, "", K::RateLimited, V::PauseAll(secs(6))),
        (
            429,
            &[("retry-after", "0")],
            "",
            K::RateLimited,
            V::Throttled,
        ),
        (
            429,
            &[("retry-after", "soon")],
            "",
            K::RateLimited,
            V::Throttled,
        ),
        (
            429,
            &[("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT")],
            "",
            K::RateLimited,
            V::Throttled,
        ),
        (
            429,
            &[],
            &error("slow_down", "m"),
            K::RateLimited,
            V::Throttled,
        ),
        (
            429,
            &[],
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#,
            K::RateLimited,
            V::Throttled,
        ),
        (
            429,
            &[],
            &error("resource_unavailable", "m"),
            K::RateLimited,
            V::Throttled,
        ),
        (
            429,
            &[],
            r#"[{"error":{"code":429,"message":"Quota exceeded, limit: 20","status":"RESOURCE_EXHAUSTED",
                "details":[{"@type":"x.RetryInfo","retryDelay":"46s"}]}}]"#,
            K::RateLimited,
            V::PauseAll(secs(46)),
        ),
        // OpenRouter repeats the headers of a free model in the body: 60 s after 1970 began.
        (
            429,
            &[],
            r#"{"error":{"code":429,"message":"m","metadata":{"headers":{"X-RateLimit-Limit":"20","X-RateLimit-Remaining":"0","X-RateLimit-Reset":"60"}}}}"#,
            K::RateLimited,
            V::PauseAll(secs(60)),
        ),
        (
            503,
            &[],
            r#"{"error":{"code":503,"message":"m","metadata":{"headers":{"Retry-After":7}}}}"#,
            K::Server,
            V::PauseAll(secs(7)),
        ),
        // The longest of what is told, in a header or a field of any name.
        (
            429,
            &[("retry-after", "2, 4")],
            "",
            K::RateLimited,
            V::PauseAll(secs(4)),
        ),
        (
            429,
            &[("llm_provider-retry-after", "60")],
            "",
            K::RateLimited,
            V::PauseAll(secs(60)),
        ),
        (
            429,
            &[("llm_provider-retry-after", "60")],
            &error("429", "No deployments available for selected model."),
            K::RateLimited,
            V::PauseAll(secs(60)),
        ),
        // A refusal without a hint, whatever its words: a gateway's bad key hides behind it.
        (
            429,
            &[],
            &error("429", "No deployments available, try again in 5 seconds"),
            K::RateLimited,
            V::Throttled,
        ),
        (402, AFTER_2, "", K::RateLimited, V::PauseAll(secs(2))),
    ]);
}

#[test]
fn never_fits() {
    let large = "Request too large for m on tokens per min (TPM): Limit 30000, Requested 36278. It must be reduced.";
    table(&[
        (
            429,
            &[],
            &error("rate_limit_exceeded", large),
            K::TooLarge,
            V::Fail,
        ),
        (
            429,
            AFTER_2,
            &error("rate_limit_exceeded", large),
            K::TooLarge,
            V::Fail,
        ),
        (
            413,
            &[],
            &error("rate_limit_exceeded", "(TPM): Limit 8000, Requested 10098"),
            K::TooLarge,
            V::Fail,
        ),
        (
            413,
            &[],
            "<html><title>413 Request Entity Too Large</title>",
            K::TooLarge,
            V::Fail,
        ),
        (413, &[("x-should-retry", "true")], "", K::TooLarge, V::Fail),
    ]);
    let groq = error("rate_limit_exceeded", "(TPM): Limit 8000, Requested 10098");
    let message = fails(413, &[], &groq).error.message().to_owned();
    assert!(message.contains("larger than the limit"), "{message}");
}

#[test]
fn money() {
    for code in [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    ] {
        let as_code = error(code, "m");
        let as_type = format!(r#"{{"error":{{"message":"m","type":"{code}","code":null}}}}"#);
        for body in [&as_code, &as_type] {
            for pairs in [&[][..], AFTER_2, &[("x-should-retry", "true")]] {
                for status in [429, 400, 403, 402, 503] {
                    let failure = fails(status, pairs, body);
                    assert_eq!(
                        (failure.error.kind(), failure.verdict),
                        (K::Quota, V::Stop),
                        "{status} {body}"
                    );
                }
            }
        }
    }
    let anthropic = |kind: &str, message: &str, code: &str| {
        format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}",
               "details":{{"error_code":"{code}"}}}},"request_id":"req_1"}}"#
        )
    };
    table(&[
        (402, &[], "", K::Quota, V::Stop),
        (402, &[("retry-after", "0")], "", K::Quota, V::Stop),
        (402, &[("x-should-retry", "true")], "", K::Quota, V::Stop),
        (
            429,
            &[],
            &anthropic("rate_limit_error", "m", "enforced_spend_limit_reached"),
            K::Quota,
            V::Stop,
        ),
        (
            400,
            &[],
            &anthropic(
                "invalid_request_error",
                "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
                "",
            ),
            K::Quota,
            V::Stop,
        ),
        // The same words in a quoted request are only words.
        (
            400,
            &[],
            &anthropic(
                "invalid_request_error",
                "bad text: 'You have reached your specified API usage limits'",
                "",
            ),
            K::Invalid,
            V::Fail,
        ),
        (
            429,
            AFTER_2,
            r#"[{"error":{"code":429,"message":"Quota exceeded for metric x, limit: 0\nPlease retry in 10h17m5.72s.","status":"RESOURCE_EXHAUSTED"}}]"#,
            K::Quota,
            V::Stop,
        ),
    ]);
}

#[test]
fn words_about_money_are_no_proof_and_none_where_a_wait_is_told() {
    let grok = r#"{"code":"Some resource has been exhausted","error":"Your team t has used all available credits or reached its monthly spending limit"}"#;
    let raw = r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"insufficient credits\"}}"}}}"#;
    let plan = "You exceeded your current quota, please check your plan and billing details.";
    table(&[
        (429, &[], grok, K::Quota, V::Throttled),
        (403, &[], grok, K::Quota, V::Fail),
        (400, &[], raw, K::Quota, V::Fail),
        (
            412,
            &[],
            &error(
                "PRECONDITION_FAILED",
                "Account a is suspended: the monthly spending limit",
            ),
            K::Quota,
            V::Fail,
        ),
        (429, &[], &error("429", plan), K::Quota, V::Throttled),
        // A proof: a code, or a type.
        (
            429,
            &[],
            &error("1113", "Insufficient balance. Please recharge."),
            K::Quota,
            V::Stop,
        ),
        (
            400,
            &[],
            &error("Arrearage", "Access denied"),
            K::Quota,
            V::Stop,
        ),
        (
            429,
            &[],
            r#"{"error":{"message":"m","type":"exceeded_current_quota_error"}}"#,
            K::Quota,
            V::Stop,
        ),
        // An ordinary refusal for a minute.
        (
            429,
            AFTER_2,
            &error("429", plan),
            K::RateLimited,
            V::PauseAll(secs(2)),
        ),
        (
            429,
            &[],
            &error("429", &format!("{plan} Please retry in 46s.")),
            K::RateLimited,
            V::PauseAll(secs(46)),
        ),
        // What has a reason of its own.
        (
            400,
            &[],
            &error("content_filter", "credits"),
            K::ContentFilter,
            V::Fail,
        ),
        (413, &[], &error("", "see billing"), K::TooLarge, V::Fail),
        (
            503,
            &[],
            &error("", "Insufficient credits. Recharge your account"),
            K::Quota,
            V::Retry,
        ),
        (
            503,
            AFTER_2,
            &error("", "Insufficient credits. Recharge your account"),
            K::Server,
            V::PauseAll(secs(2)),
        ),
        (
            429,
            &[],
            r#"{"error":{"message":"m","type":"usage_limit_reached"}}"#,
            K::Quota,
            V::Throttled,
        ),
        (
            429,
            &[],
            &error("", "usage limit per minute"),
            K::RateLimited,
            V::Throttled,
        ),
        (
            503,
            &[],
            &error("", "the billing service is down"),
            K::Server,
            V::Retry,
        ),
        (
            500,
            &[],
            &error("", "could not read the balance: timeout"),
            K::Server,
            V::Retry,
        ),
    ]);
}

#[test]
fn auth_and_permission() {
    table(&[
        (401, &[], &error("invalid_api_key", "m"), K::Auth, V::Stop),
        (
            401,
            AFTER_2,
            r#"{"error":"Unauthorized"}"#,
            K::Auth,
            V::Stop,
        ),
        (401, &[("x-should-retry", "true")], "", K::Auth, V::Stop),
        (
            503,
            &[],
            r#"{"error":{"code":"model_not_found","message":"No available channel for model m under group default (distributor)","type":"new_api_error"}}"#,
            K::Server,
            V::FailOrStopIfRepeated(503),
        ),
        // LiteLLM without a database, and Gemini.
        (
            400,
            &[],
            r#"{"error":{"message":"No connected db.","type":"no_db_connection","param":null,"code":"400"}}"#,
            K::Auth,
            V::Stop,
        ),
        (
            400,
            &[],
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
            K::Auth,
            V::Stop,
        ),
        (
            400,
            &[],
            &error("c", "the text \\\"API key not valid\\\" is refused"),
            K::Invalid,
            V::Fail,
        ),
        (
            403,
            &[],
            &error("unsupported_country_region_territory", "m"),
            K::Permission,
            V::FailOrStopIfRepeated(403),
        ),
        (
            403,
            &[("x-should-retry", "false")],
            "",
            K::Permission,
            V::FailOrStopIfRepeated(403),
        ),
        (
            403,
            &[],
            r#"{"error":{"code":403,"message":"m","metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#,
            K::ContentFilter,
            V::Fail,
        ),
        (
            404,
            &[],
            &error("model_not_found", "m"),
            K::NotFound,
            V::FailOrStopIfRepeated(404),
        ),
        (407, &[], "", K::Config, V::Stop),
    ]);
    let message = fails(
        401,
        &[],
        &error("invalid_api_key", "Incorrect API key provided"),
    )
    .error
    .message()
    .to_owned();
    assert!(
        message.starts_with("the API key was refused (HTTP 401, invalid_api_key): \"Incorrect"),
        "{message}"
    );
}

#[test]
fn overload_and_transient_failures() {
    let html = format!(
        "<html><title>502 Bad Gateway</title>{}</html>",
        "x".repeat(60_000)
    );
    table(&[
        // The limits of nginx and of uvicorn.
        (
            503,
            &[],
            "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n</html>",
            K::Overloaded,
            V::Throttled,
        ),
        (503, &[], "Service Unavailable", K::Overloaded, V::Throttled),
        (
            529,
            &[],
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            K::Overloaded,
            V::Throttled,
        ),
        (529, AFTER_2, "", K::Overloaded, V::PauseAll(secs(2))),
        (
            503,
            &[],
            &error("server_is_overloaded", "m"),
            K::Overloaded,
            V::Throttled,
        ),
        (
            503,
            &[],
            &error("slow_down", "m"),
            K::Overloaded,
            V::Throttled,
        ),
        (
            503,
            AFTER_2,
            &error("server_is_overloaded", "m"),
            K::Overloaded,
            V::PauseAll(secs(2)),
        ),
        (
            503,
            &[],
            r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#,
            K::Overloaded,
            V::Throttled,
        ),
        (
            500,
            &[],
            r#"[{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}]"#,
            K::Overloaded,
            V::Throttled,
        ),
        (
            503,
            &[],
            r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#,
            K::Overloaded,
            V::Throttled,
        ),
        (
            503,
            &[],
            r#"{"error":"Model m is currently loading","estimated_time":23.07}"#,
            K::Overloaded,
            V::PauseAll(Duration::from_millis(23_070)),
        ),
        (503, &[], "", K::Server, V::Retry),
        (503, AFTER_2, "", K::Server, V::PauseAll(secs(2))),
        (500, AFTER_2, "", K::Server, V::PauseAll(secs(2))),
        (500, &[], &error("server_error", "m"), K::Server, V::Retry),
        (500, &[], &html, K::Server, V::Retry),
        (502, &[], &html, K::Server, V::Retry),
        (504, &[], "", K::Server, V::Retry),
        (524, &[], "", K::Server, V::Retry),
        (599, &[], "", K::Server, V::Retry),
        (408, &[], "", K::Server, V::Retry),
        (409, &[], "", K::Server, V::Retry),
        (425, &[], "", K::Server, V::Retry),
        (425, AFTER_2, "", K::Server, V::RetryAfter(secs(2))),
    ]);
    for (status, possibly_billed) in [
        (500, false),
        (502, true),
        (503, false),
        (504, true),
        (524, true),
        (429, false),
        (400, false),
    ] {
        assert_eq!(
            fails(status, &[], "").error.possibly_billed(),
            possibly_billed,
            "{status}"
        );
    }
}

#[test]
fn permanent_failures_of_a_row() {
    table(&[
        (
            400,
            &[],
            &error("context_length_exceeded", "m"),
            K::Invalid,
            V::Fail,
        ),
        (400, AFTER_2, "", K::Invalid, V::Fail),
        (501, &[], "", K::NotFound, V::Fail),
        (
            501,
            &[],
            &error("501", "This server does not support embeddings"),
            K::NotFound,
            V::Fail,
        ),
        (405, &[], "", K::Invalid, V::Fail),
        (411, &[], "", K::Invalid, V::Fail),
        (415, &[], "", K::Invalid, V::Fail),
        (418, &[], "", K::Invalid, V::Fail),
        (
            422,
            &[],
            r#"{"detail":[{"msg":"field required"}]}"#,
            K::Invalid,
            V::Fail,
        ),
        (
            400,
            &[],
            &error("content_filter", "m"),
            K::ContentFilter,
            V::Fail,
        ),
        (
            400,
            &[],
            &error("content_policy_violation", "m"),
            K::ContentFilter,
            V::Fail,
        ),
        (
            400,
            &[],
            r#"{"error":{"code":"400","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
            K::ContentFilter,
            V::Fail,
        ),
        (0, &[], "", K::Protocol, V::Fail),
        (100, &[], "", K::Protocol, V::Fail),
        (103, &[], "", K::Protocol, V::Fail),
        (199, &[], "", K::Protocol, V::Fail),
        (600, &[], "", K::Protocol, V::Fail),
        (999, &[], "", K::Protocol, V::Fail),
        (65_535, &[], "", K::Protocol, V::Fail),
    ]);
}

#[test]
fn a_slip_of_the_model_is_tried_again_a_little() {
    for code in ["json_validate_failed", "tool_use_failed"] {
        let failure = fails(400, &[], &error(code, "Failed to generate JSON"));
        let found = (failure.error.kind(), failure.verdict);
        assert_eq!(found, (K::Malformed, V::Unusable), "{code}");
    }
}

#[test]
fn redirects_stop_and_show_only_the_host() {
    for status in [300, 301, 302, 303, 304, 307, 308, 399] {
        let failure = fails(
            status,
            &[
                (
                    "location",
                    "https://user:pw@evil.example:8443/path?key=secret#x",
                ),
                ("x-should-retry", "true"),
            ],
            "",
        );
        assert_eq!(
            (failure.error.kind(), failure.verdict),
            (K::Redirect, V::Stop),
            "{status}"
        );
        assert!(
            failure
                .error
                .message()
                .starts_with("the server redirects to https://evil.example:8443 (HTTP"),
            "{}",
            failure.error.message()
        );
        assert!(
            !failure.error.message().contains("secret") && !failure.error.message().contains("pw"),
            "{}",
            failure.error.message()
        );
    }
    assert!(
        fails(302, &[("location", "/login?key=secret")], "")
            .error
            .message()
            .contains("redirects to another path (")
    );
    assert!(
        fails(302, &[], "")
            .error
            .message()
            .contains("redirects (HTTP 302)")
    );
}

#[test]
fn x_should_retry_is_obeyed() {
    let no: &[(&str, &str)] = &[("X-Should-Retry", "false"), ("retry-after", "2")];
    let yes: &[(&str, &str)] = &[("x-should-retry", " True ")];
    table(&[
        (503, no, "", K::Server, V::Fail),
        (429, no, "", K::RateLimited, V::Fail),
        (529, no, "", K::Overloaded, V::Fail),
        (408, no, "", K::Server, V::Fail),
        (401, no, "", K::Auth, V::Stop),
        (400, yes, "", K::Invalid, V::Retry),
        (403, yes, "", K::Permission, V::Retry),
        (404, yes, "", K::NotFound, V::Retry),
        (429, yes, "", K::RateLimited, V::Throttled),
        (503, yes, "", K::Server, V::Retry),
        (401, yes, "", K::Auth, V::Stop),
        (402, yes, "", K::Quota, V::Stop),
        (400, &[("x-should-retry", "maybe")], "", K::Invalid, V::Fail),
    ]);
}

#[test]
fn messages_are_printable_and_bounded() {
    let hostile = "\\u001b]52;c;aGk=\\u0007 \\u202egnp.exe\\n";
    let body = error(&hostile.repeat(100), &hostile.repeat(1000));
    for status in [400, 401, 429, 500, 200] {
        let failure = fails(status, &[("location", "http://\u{202e}[0m/")], &body);
        assert!(
            failure.error.message().contains("\\u{1b}]52;c;aGk=\\u{7}"),
            "{}",
            failure.error.message()
        );
        for text in [
            &failure.error.message(),
            failure.error.code().as_ref().unwrap(),
        ] {
            assert!(
                !text.chars().any(|c| c.is_control() || c == '\u{202e}'),
                "{text}"
            );
        }
        assert!(
            failure.error.message().chars().count() < 700,
            "{}",
            failure.error.message()
        );
    }
    let page = fails(502, &[], "<html><title>502 Bad Gateway</title></html>")
        .error
        .message()
        .to_owned();
    assert!(page.contains("\"502 Bad Gateway\""), "{page}");
}

#[test]
fn a_key_that_is_echoed_is_scrubbed_before_the_text_is_cut() {
    let key = ApiKey::new("sk-0123456789abcdef").unwrap();
    // The key straddles the place where the quote is cut.
    for padding in [0, 280, 290, 299] {
        let echo = format!("{}{}", ".".repeat(padding), key.expose());
        for (status, body) in [
            (401, error(&echo, &echo)),
            (401, error(key.expose(), &echo)),
            (401, echo.clone()),
            (200, echo.clone()),
            (
                200,
                format!(
                    r#"{{"error":{{"code":"{}","message":"{echo}"}}}}"#,
                    key.expose()
                ),
            ),
            (302, echo.clone()),
        ] {
            let Err(failure) = classify_response(&ResponseView {
                promise: Promise::Anything,
                status,
                headers: &headers::tests::map([("location", format!("https://{}/", key.expose()))]),
                body: body.as_bytes(),
                key: Some(&key),
                wall: UNIX_EPOCH,
                cost_tokens: 0,
                longest_wait: None,
            }) else {
                panic!("{status} {body} is no success");
            };
            let shown = format!("{failure:?}");
            assert!(!shown.contains("sk-0"), "{shown}");
        }
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(
        status in any::<u16>(), bytes in any::<Vec<u8>>(),
        json in "[\\{\\}\\[\\]\",:a-z0-9 ]{0,80}",
        path in "/(chat/completions|embeddings|messages|responses|x)",
        name in "(retry-after|retry-after-ms|date|location|x-should-retry)", value in any::<String>(),
    ) {
        let Ok(value) = http::HeaderValue::from_str(&value) else { return Ok(()) };
        let Ok(name) = name.parse::<http::HeaderName>() else { return Ok(()) };
        let headers: http::HeaderMap = [(name, value)].into_iter().collect();
        for body in [&bytes[..], json.as_bytes(), format!(r#"{{"error":{json}}}"#).as_bytes()] {
            let seen = ResponseView { promise: Promise::of(&path), status, headers: &headers, body, key: None, wall: UNIX_EPOCH, cost_tokens: 1, longest_wait: None };
            if let Err(failure) = classify_response(&seen) {
                prop_assert!(!failure.error.message().chars().any(char::is_control));
                prop_assert!(!matches!(failure.verdict, V::PauseAll(Duration::ZERO)));
            } else {
                prop_assert!((200..300).contains(&status));
            }
        }
    }
}
