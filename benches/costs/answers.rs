//! What an answer costs when it is there: its headers read for limits, its kind told by the table,
//! its usage or its error cut out of the body.
//!
//! Each is one [`Client::send`] on this thread with a transport that answers from memory, so the limiter,
//! the request's URL and a copy of the answer are in every line; [`nothing_in_it`] is the least that
//! can be had, and what the others need more is what they hold.

use divan::Bencher;
use tollgate::http::{HeaderMap, HeaderName, StatusCode};
use tollgate::{Client, HttpResponse, MemoryTransport, Reply, Request, Retry};

/// As a chat's answer has them, beside its limits.
pub(super) const USUAL: [(&str, &str); 13] = [
    ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
    ("content-type", "application/json"),
    ("connection", "keep-alive"),
    ("openai-organization", "an-organization-0123456789"),
    ("openai-processing-ms", "700"),
    ("openai-version", "2020-10-01"),
    ("x-envoy-upstream-service-time", "706"),
    ("x-request-id", "req_0123456789abcdef0123456789abcdef"),
    ("cf-cache-status", "DYNAMIC"),
    ("x-content-type-options", "nosniff"),
    ("server", "cloudflare"),
    ("cf-ray", "0123456789abcdef-FRA"),
    ("alt-svc", "h3=\":443\"; ma=86400"),
];

/// With enough left, so that nothing is to be waited for.
pub(super) const LIMITS: [(&str, &str); 6] = [
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-tokens", "1999500"),
    ("x-ratelimit-reset-tokens", "15ms"),
];

fn answer(status: u16, headers: &[&[(&str, &str)]], body: impl Into<Vec<u8>>) -> HttpResponse {
    HttpResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers: header_map(&headers.concat()),
        body: body.into(),
    }
}

/// 1.5 kB, of which 1.1 are text.
pub(super) fn chat() -> String {
    let text = "A toll gate lets one cart through at a time, and nobody waits in vain. "
        .chars()
        .cycle()
        .take(1_100)
        .collect::<String>();
    format!(
        r#"{{"id":"chatcmpl-0123456789abcdefghijklmnopqrs","object":"chat.completion","created":1760000000,"model":"a-model","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":225,"completion_tokens":275,"total_tokens":500,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_0123456789"}}"#
    )
}

fn client(answer: HttpResponse) -> Client {
    Client::builder()
        .base_url("http://127.0.0.1/v1")
        .no_auth()
        .retry(Retry::never())
        .transport(MemoryTransport::new(move |_| Ok(answer.clone())))
        .build()
        .expect("plain settings")
}

/// `expected` is the status of the error, or nothing for a success. A client for each: some answers
/// pause its limiter.
fn send(bencher: Bencher, answer: &HttpResponse, expected: Option<u16>) {
    let request = Request::from(Request::chat("a-model", "Name a river."));
    let ready = || (client(answer.clone()), Some(request.clone()));
    let outcome = |(client, request): &mut (Client, Option<Request>)| {
        request.take().map(|request| client.send(request))
    };
    let status = outcome(&mut ready()).and_then(|sent| sent.err()?.status());
    assert_eq!(status.map(|status| status.as_u16()), expected);
    bencher.with_inputs(ready).bench_refs(outcome);
}

#[divan::bench]
fn nothing_in_it(bencher: Bencher) {
    send(bencher, &answer(200, &[], r#"{"choices":[{}]}"#), None);
}

#[divan::bench]
fn chat_of_1500_bytes(bencher: Bencher) {
    send(bencher, &answer(200, &[&USUAL], chat()), None);
}

#[divan::bench]
fn chat_with_rate_limit_headers(bencher: Bencher) {
    send(bencher, &answer(200, &[&USUAL, &LIMITS], chat()), None);
}

#[divan::bench]
fn error_400(bencher: Bencher) {
    let body = r#"{"error":{"message":"Unsupported value: 'temperature' does not support 3.","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}"#;
    send(bencher, &answer(400, &[&USUAL], body), Some(400));
}

#[divan::bench]
fn error_429_with_rate_limit_headers(bencher: Bencher) {
    let body = r#"{"error":{"message":"Rate limit reached for a-model on tokens per min (TPM): Limit 2000000, Used 1999800, Requested 500. Please try again in 9ms.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;
    let wait = [("retry-after-ms", "9")];
    let headers: [&[_]; 3] = [&USUAL, &LIMITS, &wait];
    send(bencher, &answer(429, &headers, body), Some(429));
}

/// What a caller does with it: the text, out of the body that was kept as it came.
#[divan::bench]
fn text_of_a_reply(bencher: Bencher) {
    let reply = client(answer(200, &[&USUAL], chat()))
        .send(Request::chat("a-model", "Name a river."))
        .expect("an answer");
    assert!(reply.text().is_some_and(|text| text.len() == 1_100));
    bencher.bench(|| Reply::text(&reply));
}

fn header_map(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |&(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
    };
    pairs.iter().map(pair).collect()
}
