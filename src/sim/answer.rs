//! A ruling and its draft, put into the bytes of an HTTP/1.1 answer.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use super::endpoints::{Content, Draft};
use super::model::{Fate, Limit, Quota, Ruling};
use super::refusal::Refusal;

/// An answer ready to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The head and, unless the answer is a stream, the body: one write.
    pub(super) bytes: Vec<u8>,
    /// A stream's chunks, framed, to be sent after `bytes` one by one.
    pub(super) chunks: Vec<Vec<u8>>,
    /// Where [`Fate::Cut`] ends it: the length of `bytes`, or `chunks`, to send.
    pub(super) half: usize,
}

/// What of the exchange, beyond the request itself, shows in the answer's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    /// The answer to HEAD: all but the body.
    pub(super) head_only: bool,
    /// The connection is closed after it.
    pub(super) close: bool,
    pub(super) date: SystemTime,
}

/// Puts what `ruling` makes of `draft` into bytes.
pub(super) fn render(draft: Draft, ruling: &Ruling, framing: Framing) -> Answer {
    let mut fields = String::with_capacity(384);
    field(
        &mut fields,
        "x-request-id",
        format_args!("req_sim{:016x}", ruling.number),
    );
    if draft.metered {
        let millis = ruling.delay.as_millis();
        field(&mut fields, "openai-processing-ms", millis);
        let refused = |limit| match ruling.fate {
            Fate::Limited { by, .. } => by == limit,
            Fate::NeverFits { .. } => limit == Limit::Tokens,
            _ => false,
        };
        quota(
            &mut fields,
            "requests",
            ruling.requests,
            refused(Limit::Requests),
        );
        quota(&mut fields, "tokens", ruling.tokens, refused(Limit::Tokens));
    }
    let outcome = match ruling.fate {
        Fate::Limited { by, asked, wait } => {
            let millis = wait.as_nanos().div_ceil(1_000_000);
            field(&mut fields, "retry-after-ms", millis);
            field(&mut fields, "retry-after", millis.div_ceil(1000).max(1));
            Err(limited(by, asked, wait, ruling))
        }
        Fate::NeverFits { asked } => Err(too_large(asked, ruling)),
        Fate::Error(502) => {
            let page = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
                <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";
            return whole(502, "text/html", fields, page.as_bytes(), framing);
        }
        Fate::Error(status) => Err(failed(status)),
        Fate::Answer | Fate::Reset | Fate::Cut => draft.outcome,
    };
    match outcome {
        Ok(Content::Json(body)) => whole(200, "application/json", fields, &body, framing),
        Ok(Content::Events(events)) => stream(fields, &events, framing),
        Err(refusal) => {
            if let Some(allowed) = refusal.allow {
                // RFC 9110, section 15.5.6: a 405 says what is allowed.
                field(&mut fields, "allow", allowed);
            }
            let body = refusal.body();
            whole(refusal.status, "application/json", fields, &body, framing)
        }
    }
}

/// The answer to what is not a request at all; the connection is closed after it.
pub(super) fn not_a_request(refusal: &Refusal, date: SystemTime) -> Answer {
    let framing = Framing {
        head_only: false,
        close: true,
        date,
    };
    let (status, body) = (refusal.status, refusal.body());
    whole(status, "application/json", String::new(), &body, framing)
}

fn whole(status: u16, kind: &str, fields: String, body: &[u8], framing: Framing) -> Answer {
    let mut fields = fields;
    field(&mut fields, "content-type", kind);
    field(&mut fields, "content-length", body.len());
    let mut bytes = head(status, &fields, framing);
    let half = bytes.len() + body.len() / 2;
    if !framing.head_only {
        bytes.extend_from_slice(body);
    }
    Answer {
        status,
        half: half.min(bytes.len()),
        bytes,
        chunks: Vec::new(),
    }
}

fn stream(fields: String, events: &[Vec<u8>], framing: Framing) -> Answer {
    let mut fields = fields;
    field(
        &mut fields,
        "content-type",
        "text/event-stream; charset=utf-8",
    );
    field(&mut fields, "transfer-encoding", "chunked");
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    if !framing.head_only {
        for event in events {
            let mut chunk = format!("{:x}\r\n", event.len()).into_bytes();
            chunk.extend_from_slice(event);
            chunk.extend_from_slice(b"\r\n");
            chunks.push(chunk);
        }
        if let Some(last) = chunks.last_mut() {
            last.extend_from_slice(b"0\r\n\r\n");
        }
    }
    Answer {
        status: 200,
        bytes: head(200, &fields, framing),
        half: chunks.len() / 2,
        chunks,
    }
}

fn head(status: u16, fields: &str, framing: Framing) -> Vec<u8> {
    let date = httpdate::HttpDate::from(framing.date);
    let connection = if framing.close {
        "connection: close\r\n"
    } else {
        ""
    };
    let reason = reason(status);
    format!("HTTP/1.1 {status} {reason}\r\ndate: {date}\r\n{fields}{connection}\r\n").into_bytes()
}

fn field(fields: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing to a String does not fail.
    let _ = write!(fields, "{name}: {value}\r\n");
}

/// The three headers of one limit, as OpenAI sends them: a bucket one minute deep, and the time
/// until it is full again. Refused by this limit, nothing remains of it.
fn quota(fields: &mut String, what: &str, quota: Option<Quota>, refused: bool) {
    let Some(quota) = quota else { return };
    let remaining = if refused {
        0
    } else {
        quota.a_minute.saturating_sub(quota.used)
    };
    let reset = go_duration(quota.full_in);
    let _ = write!(
        fields,
        "x-ratelimit-limit-{what}: {}\r\nx-ratelimit-remaining-{what}: {remaining}\r\n\
         x-ratelimit-reset-{what}: {reset}\r\n",
        quota.a_minute
    );
}

fn limited(by: Limit, asked: u64, wait: Duration, ruling: &Ruling) -> Refusal {
    let (kind, per_minute, quota) = match by {
        Limit::Requests => ("requests", "requests per min (RPM)", ruling.requests),
        Limit::Tokens => ("tokens", "tokens per min (TPM)", ruling.tokens),
    };
    let (limit, used) = quota.map_or((0, 0), |quota| (quota.a_minute, quota.used));
    let message = format!(
        "Rate limit reached on {per_minute}: Limit {limit}, Used {used}, Requested {asked}. \
         Please try again in {}.",
        go_duration(wait)
    );
    Refusal::new(429, kind, message).code("rate_limit_exceeded")
}

fn too_large(asked: u64, ruling: &Ruling) -> Refusal {
    let limit = ruling.tokens.map_or(0, |quota| quota.a_minute);
    let message = format!(
        "Request too large on tokens per min (TPM): Limit {limit}, Requested {asked}. \
         The input or output tokens must be reduced in order to run successfully."
    );
    Refusal::new(429, "tokens", message).code("rate_limit_exceeded")
}

fn failed(status: u16) -> Refusal {
    if status == 503 {
        let message = "The server is currently overloaded with other requests.";
        Refusal::new(503, "server_error", message).code("server_is_overloaded")
    } else {
        let message = "The server had an error while processing your request.";
        Refusal::new(status, "server_error", message)
    }
}

/// A duration as Go prints it, to the millisecond and rounded up: `12ms`, `1.5s`, `6m0s`, `1h0m3s`.
fn go_duration(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{}", seconds % 60);
    if millis > 0 {
        let fraction = format!("{millis:03}");
        let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
    }
    text.push('s');
    text
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
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
    fn a_wait_is_announced_rounded_up() {
        let ruling = Ruling {
            number: 1,
            delay: Duration::ZERO,
            fate: Fate::Limited {
                by: Limit::Requests,
                asked: 1,
                wait: Duration::from_nanos(1_000_000_001),
            },
            requests: None,
            tokens: None,
        };
        let draft = Draft {
            outcome: Ok(Content::Json(Vec::new())),
            metered: true,
            prompt_tokens: 0,
            completion_tokens: 0,
            identity: 0,
        };
        let framing = Framing {
            head_only: false,
            close: false,
            date: SystemTime::UNIX_EPOCH,
        };
        let answer = render(draft, &ruling, framing);
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert!(text.contains("\r\nretry-after-ms: 1001\r\n"), "{text}");
        assert!(text.contains("\r\nretry-after: 2\r\n"), "{text}");
    }
}
