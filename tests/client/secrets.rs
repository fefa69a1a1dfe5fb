//! The key, and what else must not come out; how much of a server's words does.

use std::error::Error as _;
use std::fmt::Write as _;

use serde_json::json;
use tollgate::http::StatusCode;
use tollgate::{
    Client, ErrorKind, HttpResponse, TransportError, TransportErrorKind, TransportStage,
};

use crate::bench::*;

/// How much of a body is kept.
const KEPT: usize = 64 << 10;

/// Everything that can be printed of an error, its causes and its body.
fn shown(error: &tollgate::Error) -> String {
    let mut all = format!("{error} {error:?} {error:#?} {:?}", error.code());
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(all, " {error} {error:?}").unwrap();
        cause = error.source();
    }
    all += &String::from_utf8_lossy(error.body().unwrap_or_default());
    all += error.request_id().unwrap_or_default();
    all
}

#[test]
fn the_key_is_in_nothing_that_prints() {
    let bench = bench(|_| says("ok"));
    assert!(!format!("{:?} {:#?}", bench.client, bench.client).contains(KEY));
    let builder = Client::builder().api_key(KEY);
    assert!(!format!("{builder:?}").contains(KEY));
    let reply = bench.run(|client| client.chat("m", "hi").send()).unwrap();
    assert!(!format!("{reply:?}").contains(KEY));
    assert!(!format!("{:?}", bench.client.chat("m", "hi")).contains(KEY));
}

#[test]
fn a_key_that_a_refusal_repeats_is_scrubbed() {
    let words = format!("Incorrect API key provided: {KEY}. \u{1b}]52;c;aGk=\u{7}\u{202e}");
    let bench = bench(move |_| {
        with(
            Ok(answer(
                401,
                &json!({"error": {
                    "message": words,
                    "code": format!("bad {KEY}"),
                    "type": "invalid_request_error",
                }}),
            )),
            &[("x-request-id", &format!("req_{KEY}"))],
        )
    });
    let error = bench
        .run(|client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.status()),
        (ErrorKind::Auth, Some(StatusCode::UNAUTHORIZED))
    );
    assert_eq!(error.request_id(), Some("req_[redacted]"));
    let shown = shown(&error);
    assert!(!shown.contains(KEY), "{shown}");
    assert!(error.to_string().contains("[redacted]"), "{error}");
    // What a terminal would obey is spelled out.
    assert!(!error.to_string().contains(['\u{1b}', '\u{7}', '\u{202e}']));
}

/// A record of a run over a file has it.
#[test]
fn a_key_that_an_answers_id_repeats_is_scrubbed() {
    for name in ["x-request-id", "request-id", "apim-request-id"] {
        let bench = bench(move |_| with(says("ok"), &[(name, &format!("req_{KEY}"))]));
        let reply = bench.run(|client| client.chat("m", "hi").send()).unwrap();
        assert_eq!(reply.request_id(), Some("req_[redacted]"));
        assert_eq!(reply.header(name), Some("req_[redacted]"));
    }
}

#[test]
fn a_key_at_the_edge_of_what_is_kept_is_scrubbed_before_the_cut() {
    for shift in 0..KEY.len() {
        let padding = "x".repeat(KEPT - shift);
        let body = format!("{padding}{KEY}{}", "y".repeat(4096));
        let bench = bench(move |_| {
            Ok(HttpResponse {
                status: StatusCode::BAD_REQUEST,
                body: body.clone().into_bytes(),
                ..HttpResponse::default()
            })
        });
        let error = bench
            .run(|client| client.chat("m", "hi").send())
            .unwrap_err();
        let kept = error.body().unwrap();
        assert!(kept.len() <= KEPT);
        let kept = String::from_utf8_lossy(kept);
        let start = &KEY[..shift.min(4)];
        assert!(shift < 4 || !kept.contains(start), "{shift}: {kept}");
    }
}

#[test]
fn of_a_large_error_body_64_kib_are_kept_and_little_is_quoted() {
    let page = format!(
        "<html><title>502 Bad Gateway</title>{}</html>",
        "<p>sorry</p>".repeat(25_000)
    );
    let bench = bench(move |_| {
        Ok(HttpResponse {
            status: StatusCode::BAD_GATEWAY,
            body: page.clone().into_bytes(),
            ..HttpResponse::default()
        })
    });
    let error = bench
        .run(|client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
    assert_eq!(error.body().unwrap().len(), KEPT);
    assert!(error.to_string().len() < 1024, "{error}");
    assert!(error.to_string().contains("502 Bad Gateway"), "{error}");
    assert_eq!(bench.count(), 6, "a server's failure is retried");
}

#[test]
fn a_broken_exchange_names_the_server_and_its_cause() {
    let bench = bench(|_| {
        let mut broken = TransportError::new(
            TransportErrorKind::Broken,
            TransportStage::Sent,
            "the connection broke",
        );
        broken.source = Some(std::sync::Arc::new(std::io::Error::other("reset by peer")));
        Err(broken)
    });
    let error = bench
        .run(|client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.possibly_billed());
    assert_eq!(error.attempts(), 6);
    assert!(shown(&error).contains("reset by peer"));
    assert_eq!(
        bench.progress().possibly_billed,
        1,
        "one item, however often it was sent"
    );
}
