//! A ruling and its draft, put into the bytes of an HTTP/1.1 answer.

use std::fmt::{Display, Write as _};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use httpdate::HttpDate;
use serde_json::Value;

use super::api_error::ApiError;
use super::endpoints::{Content, Draft};
use super::gauge::{Limit, Quota};
use super::manners::{Dialect, Hints};
use super::model::{Fate, Ruling};
use super::spec::SimSpec;
use crate::api::times::to_rfc3339;

/// An answer ready to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// What is written, piece by piece: head and body in one, or a stream's events with the head
    /// before the first. Half of it if the ruling is [`Fate::Cut`], none if it is [`Fate::Reset`].
    pub(super) pieces: Vec<Vec<u8>>,
}

const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

/// Puts what `ruling` makes of `draft` into bytes. The answer to HEAD is all but the body; `close`
/// says that the connection is closed after it.
pub(super) fn render(
    draft: Draft,
    ruling: &Ruling,
    date: SystemTime,
    spec: &SimSpec,
    head_only: bool,
    close: bool,
) -> Answer {
    let outcome = match ruling.fate {
        Fate::Limited { by, asked, wait } => Err(limited(by, asked, wait, &ruling.quotas, spec)),
        Fate::TooMany { status: 429, .. } => Err(too_many()),
        Fate::TooMany { status, .. } | Fate::Error(status) => {
            Err(server_error(status, draft.anthropic))
        }
        Fate::Answer | Fate::Reset | Fate::Cut => draft.outcome,
    };
    let request_id = format!("req_sim{:016x}", ruling.number);
    let (status, allow) = match &outcome {
        Ok(_) => (200, None),
        Err(error) => (error.status, error.allow),
    };
    let json = |body: Value| ("application/json", vec![body.to_string().into_bytes()]);
    let is_stream = matches!(outcome, Ok(Content::Events(_)));
    let (content_type, mut pieces) = match outcome {
        Ok(Content::Json(body)) => json(body),
        Ok(Content::Events(events)) => ("text/event-stream; charset=utf-8", chunks(&events)),
        Err(error) if error.status == 502 => ("text/html", vec![BAD_GATEWAY.into()]),
        Err(error) if spec.dialect == Dialect::Gemini && !draft.anthropic => json(
            error.gemini_body(
                ruling
                    .fate
                    .wait()
                    .and_then(|wait| retry_delay(wait, spec.hints)),
            ),
        ),
        Err(error) => json(error.body(draft.anthropic, &request_id)),
    };

    // Displayed with its reason phrase.
    let status_line = StatusCode::from_u16(status).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {status_line}\r\n");
    head.reserve(1024);
    let mut field = |name: &str, value: &dyn Display| {
        // Writing to a String does not fail.
        let _ = write!(head, "{name}: {value}\r\n");
    };
    field("date", &HttpDate::from(date));
    let id = if draft.anthropic { "" } else { "x-" };
    field(&format!("{id}request-id"), &request_id);
    for quota in &ruling.quotas {
        let mut quota = *quota;
        if matches!(ruling.fate, Fate::Limited { by, .. } if by == quota.limit) {
            quota.used = quota.most;
        }
        if spec.dialect == Dialect::Groq && quota.limit == Limit::Requests {
            quota = of_a_day(&quota, ruling.number);
        }
        announce(spec.dialect, &quota, date, &mut field);
    }
    if let Some(wait) = ruling.fate.wait()
        && spec.dialect != Dialect::Gemini
    {
        let millis = wait.as_nanos().div_ceil(1_000_000);
        if spec.hints == Hints::Exact {
            field("retry-after-ms", &millis);
        }
        if matches!(spec.hints, Hints::Exact | Hints::Seconds) {
            field("retry-after", &millis.div_ceil(1000).max(1));
        }
    }
    if let Some(methods) = allow {
        // RFC 9110, section 15.5.6: a 405 says what is allowed.
        field("allow", &methods);
    }
    field("content-type", &content_type);
    if is_stream {
        field("transfer-encoding", &"chunked");
    } else {
        field("content-length", &pieces[0].len());
    }
    if close {
        field("connection", &"close");
    }
    head.push_str("\r\n");
    match ruling.fate {
        Fate::Cut if is_stream => pieces.truncate(pieces.len() / 2),
        Fate::Cut => {
            let half = pieces[0].len() / 2;
            pieces[0].truncate(half);
        }
        _ => {}
    }
    if head_only {
        pieces = vec![Vec::new()];
    }
    pieces[0].splice(..0, head.into_bytes());
    if ruling.fate == Fate::Reset {
        pieces.clear();
    }
    Answer { status, pieces }
}

/// Each event as a chunk, and the end of the body with the last.
fn chunks(events: &[String]) -> Vec<Vec<u8>> {
    let chunk = |event: &String| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes();
    let mut chunks: Vec<Vec<u8>> = events.iter().map(chunk).collect();
    if let Some(last) = chunks.last_mut() {
        last.extend(b"0\r\n\r\n");
    }
    chunks
}

/// Tells of one limit as a provider of this dialect does. `OpenAI`'s is a bucket one minute deep,
/// and the time until it is full again.
fn announce(
    dialect: Dialect,
    quota: &Quota,
    date: SystemTime,
    field: &mut impl FnMut(&str, &dyn Display),
) {
    let is_apart = matches!(quota.limit, Limit::InputTokens | Limit::OutputTokens);
    if is_apart && dialect != Dialect::Anthropic {
        return;
    }
    let (name, _) = quota.limit.names();
    let (most, full_in) = (quota.most, quota.full_in);
    let remaining = most.saturating_sub(quota.used);
    let at = date + full_in;
    let (header, reset) = match dialect {
        Dialect::OpenAi | Dialect::Groq => (format!("x-ratelimit-*-{name}"), go_duration(full_in)),
        Dialect::Azure => (
            format!("x-ratelimit-*-{name}"),
            full_in.as_secs().to_string(),
        ),
        // In whole seconds.
        Dialect::Anthropic => (
            format!("anthropic-ratelimit-{name}-*"),
            format!("{}Z", &to_rfc3339(at)[..19]),
        ),
        Dialect::OpenRouter if quota.limit == Limit::Requests => {
            let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH);
            let millis = since_1970.unwrap_or_default().as_millis();
            ("x-ratelimit-*".to_owned(), millis.to_string())
        }
        Dialect::Ietf => {
            let window = quota.period.as_secs();
            let policy = format!("\"{name}\";q={most};w={window};qu=\"{name}\"");
            field("ratelimit-policy", &policy);
            let left = format!("\"{name}\";r={remaining};t={}", full_in.as_secs());
            field("ratelimit", &left);
            return;
        }
        Dialect::OpenRouter | Dialect::Gemini | Dialect::Silent => return,
    };
    field(&header.replace('*', "limit"), &most);
    field(&header.replace('*', "remaining"), &remaining);
    field(&header.replace('*', "reset"), &reset);
}

/// What is left of a day's requests, when so many have come.
fn of_a_day(quota: &Quota, came: u64) -> Quota {
    const MINUTES: u64 = 1_440;
    let most = quota.most * 60 / quota.period.as_secs().max(1) * MINUTES;
    let each = Duration::from_secs(86_400).div_f64(most as f64);
    Quota {
        most,
        used: came,
        full_in: each.mul_f64(came as f64),
        ..*quota
    }
}

fn limited(
    by: Limit,
    asked: u64,
    wait: Option<Duration>,
    quotas: &[Quota],
    spec: &SimSpec,
) -> ApiError {
    let (name, short) = by.names();
    let quota = quotas.iter().find(|quota| quota.limit == by);
    // Without a limit it is a stray refusal.
    let numbers = quota.map(|quota| {
        let (limit, used) = (quota.most, quota.used);
        let period = match quota.period.as_secs() {
            1 => "sec".to_owned(),
            60 => format!("min ({short})"),
            seconds => format!("{seconds} s"),
        };
        format!(" per {period}: Limit {limit}, Used {used}, Requested {asked}")
    });
    let numbers = numbers.unwrap_or_default();
    let message = match (wait, spec.hints) {
        (Some(wait), hints) if spec.dialect == Dialect::Gemini => of_gemini(by, quota, wait, hints),
        (None, _) => format!(
            "Request too large on {name}{numbers}. \
             The input or output tokens must be reduced in order to run successfully."
        ),
        (Some(wait), Hints::Exact | Hints::Words) => {
            let wait = go_duration(wait);
            format!("Rate limit reached on {name}{numbers}. Please try again in {wait}.")
        }
        (Some(_), _) => format!("Rate limit reached on {name}{numbers}."),
    };
    ApiError::new(429, name, message).code("rate_limit_exceeded")
}

/// In the words of Gemini.
fn of_gemini(by: Limit, quota: Option<&Quota>, wait: Duration, hints: Hints) -> String {
    let counted = match by {
        Limit::Requests => "requests",
        Limit::Tokens | Limit::InputTokens => "input_token_count",
        Limit::OutputTokens => "output_token_count",
    };
    let metric = format!("generativelanguage.googleapis.com/generate_content_{counted}");
    let wait = match hints {
        Hints::Exact | Hints::Words => format!("\nPlease retry in {}.", go_duration(wait)),
        Hints::Seconds | Hints::Silent => String::new(),
    };
    // A limit of 0 would say that the key may not use this model at all.
    let limit = quota.map_or_else(String::new, |quota| format!(", limit: {}", quota.most));
    format!(
        "You exceeded your current quota, please check your plan and billing details.\n\
         * Quota exceeded for metric: {metric}{limit}{wait}"
    )
}

/// The wait in Gemini's `RetryInfo`.
fn retry_delay(wait: Duration, hints: Hints) -> Option<String> {
    let millis = wait.as_nanos().div_ceil(1_000_000);
    match hints {
        Hints::Exact => Some(format!("{}s", millis as f64 / 1e3)),
        Hints::Seconds => Some(format!("{}s", millis.div_ceil(1_000).max(1))),
        Hints::Words | Hints::Silent => None,
    }
}

/// In the words of `LiteLLM`, which do not say which of the limits it is.
fn too_many() -> ApiError {
    let message = "Rate Limit Handler for rate limit type = key. Crossed TPM / RPM / Max Parallel \
                   Request Limit.";
    ApiError::new(429, "requests", message).code("rate_limit_exceeded")
}

fn server_error(status: u16, anthropic: bool) -> ApiError {
    if status == 503 {
        let message = "The server is currently overloaded with other requests.";
        let status = if anthropic { 529 } else { 503 };
        return ApiError::new(status, "server_error", message).code("server_is_overloaded");
    }
    let message = "The server had an error while processing your request.";
    ApiError::new(status, "server_error", message)
}

/// A duration as Go prints it, to the millisecond and rounded up: `12ms`, `1.5s`, `6m0s`, `1h0m3s`.
fn go_duration(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = (millis % 60_000) as f64 / 1000.0;
    match millis {
        1..1000 => format!("{millis}ms"),
        _ if hours > 0 => format!("{hours}h{minutes}m{seconds}s"),
        _ if minutes > 0 => format!("{minutes}m{seconds}s"),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ms"),
            (12_000_000, "12ms"),
            (999_000_001, "1s"),
            (1_500_000_000, "1.5s"),
            (7_660_000_000, "7.66s"),
            (60_000_000_000, "1m0s"),
            (360_000_000_000, "6m0s"),
            (3_603_000_000_000, "1h0m3s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn tokens_apart_are_announced_in_anthropics_headers_alone() {
        let quota = Quota {
            limit: Limit::InputTokens,
            most: 600,
            period: Duration::from_secs(60),
            used: 20,
            full_in: Duration::from_millis(2_500),
        };
        let told = |dialect| {
            let mut lines = Vec::new();
            let mut field =
                |name: &str, value: &dyn Display| lines.push(format!("{name}: {value}"));
            announce(dialect, &quota, SystemTime::UNIX_EPOCH, &mut field);
            lines
        };
        let expected = [
            "limit: 600",
            "remaining: 580",
            "reset: 1970-01-01T00:00:02Z",
        ];
        let expected = expected.map(|line| format!("anthropic-ratelimit-input-tokens-{line}"));
        assert_eq!(told(Dialect::Anthropic), expected);
        for dialect in [
            Dialect::OpenAi,
            Dialect::Azure,
            Dialect::Groq,
            Dialect::Ietf,
        ] {
            assert_eq!(told(dialect), [""; 0]);
        }
    }

    /// A refusal of a provider that allows 600 requests a minute, as it is told in this spec.
    fn refusal(spec: &str) -> String {
        refusal_in(60, spec)
    }

    /// As [`refusal`], for 600 requests in so many seconds.
    fn refusal_in(seconds: u64, spec: &str) -> String {
        let ruling = Ruling {
            number: 1_200,
            delay: Duration::ZERO,
            fate: Fate::Limited {
                by: Limit::Requests,
                asked: 1,
                wait: Some(Duration::from_nanos(1_000_000_001)),
            },
            takes_place: false,
            quotas: vec![Quota {
                limit: Limit::Requests,
                most: 600,
                period: Duration::from_secs(seconds),
                used: 20,
                full_in: Duration::from_millis(2_500),
            }],
        };
        let draft = Draft {
            metered: true,
            ..Draft::free(Ok(Content::Json(Value::Null)), false)
        };
        let spec = spec.parse().unwrap();
        let answer = render(draft, &ruling, SystemTime::UNIX_EPOCH, &spec, false, false);
        String::from_utf8_lossy(&answer.pieces[0]).into_owned()
    }

    #[test]
    fn a_wait_is_announced_rounded_up() {
        let text = refusal("");
        assert!(text.contains("\r\nretry-after-ms: 1001\r\n"), "{text}");
        assert!(text.contains("\r\nretry-after: 2\r\n"), "{text}");
    }

    #[test]
    fn gemini_tells_a_wait_in_the_body_alone() {
        for (hints, delay, words) in [
            ("ms", Some("1.001s"), "\nPlease retry in 1.001s."),
            ("s", Some("2s"), ""),
            ("words", None, "\nPlease retry in 1.001s."),
            ("none", None, ""),
        ] {
            let text = refusal(&format!("headers=gemini,hints={hints}"));
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
            assert!(
                !head.contains("retry") && !head.contains("ratelimit"),
                "{head}"
            );
            let body: Value = serde_json::from_str(body).unwrap();
            let error = &body[0]["error"];
            assert_eq!(
                (&error["code"], &error["status"]),
                (&429.into(), &"RESOURCE_EXHAUSTED".into())
            );
            let message = error["message"].as_str().unwrap();
            let quota = "generativelanguage.googleapis.com/generate_content_requests, limit: 600";
            assert!(message.ends_with(&format!("{quota}{words}")), "{message}");
            let details = delay.map(|delay| {
                let kind = "type.googleapis.com/google.rpc.RetryInfo";
                serde_json::json!([{"@type": kind, "retryDelay": delay}])
            });
            assert_eq!(error.get("details").cloned(), details, "{hints}");
        }
    }

    #[test]
    fn each_provider_tells_of_its_limits_in_its_own_way() {
        let name = |what: &str| format!("\r\nx-ratelimit-{what}-requests: ");
        for (spec, told) in [
            ("headers=openai", ["600", "0", "2.5s"]),
            ("headers=azure", ["600", "0", "2"]),
            ("headers=groq", ["864000", "862800", "2m0s"]),
        ] {
            let text = refusal(spec);
            for (what, value) in ["limit", "remaining", "reset"].into_iter().zip(told) {
                let line = format!("{}{value}\r\n", name(what));
                assert!(text.contains(&line), "{spec}: {line:?} in {text}");
            }
        }
        for (seconds, words) in [(1, "sec"), (60, "min (RPM)"), (2, "2 s")] {
            let words = format!("on requests per {words}: Limit 600, Used 20, Requested 1.");
            let text = refusal_in(seconds, "");
            assert!(text.contains(&words), "{words} in {text}");
        }
        let text = refusal("headers=none,hints=words");
        assert!(text.contains("Please try again in 1.001s."), "{text}");
        assert!(!text.contains("retry-after"), "{text}");
    }
}
