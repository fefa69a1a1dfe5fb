//! Answers that are wrong, and what the server is asked after them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tollgate::{ErrorKind, Request};

use crate::support::faultd::{Faultd, Reply};
use crate::*;

const PAGE: &str = "<!doctype html><title>Sign in</title><p>Please sign in to the network.</p>";

#[test]
fn unusable_successes_are_asked_for_three_times() {
    for (what, fault) in [
        ("empty", Reply::status(200)),
        ("no content", Reply::status(204)),
        (
            "a page",
            Reply::status(200)
                .header("content-type", "text/html")
                .body(PAGE),
        ),
        ("cut short", Reply::json("{\"choices\":[{\"message\":")),
        ("noise", Reply::json([0xff_u8; 300])),
    ] {
        let server = Faultd::replies([fault]);
        let client = client_with(&server, |builder| builder.retry(quick().max_attempts(20)));
        let error = failure(&client);
        assert_eq!(error.kind(), ErrorKind::Malformed, "{what}: {error:?}");
        assert_eq!((server.count(), error.attempts()), (3, 3), "{what}");
    }
}

#[test]
fn server_errors_are_tried_to_the_end_and_quoted_in_part() {
    for status in [500, 502, 503, 504] {
        let page = format!(
            "<title>\u{1b}[31m{status}</title>{}",
            "sorry ".repeat(50_000)
        );
        let server = Faultd::replies([Reply::status(status).body(page)]);
        let error = failure(&client(&server));
        assert_eq!(error.status().map(Into::into), Some(status));
        assert_eq!((server.count(), error.attempts()), (3, 3));
        assert_eq!(error.body().unwrap().len(), 64 << 10);
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
}

#[test]
fn refusals_are_final() {
    for (status, kind) in [
        (400, ErrorKind::Invalid),
        (403, ErrorKind::Permission),
        (404, ErrorKind::NotFound),
        (413, ErrorKind::TooLarge),
        (422, ErrorKind::Invalid),
    ] {
        let server = Faultd::replies([Reply::error(status, "x", "x", "no")]);
        let error = failure(&client(&server));
        assert_eq!((error.kind(), error.attempts()), (kind, 1));
        assert_eq!(server.count(), 1);
        assert!(!error.stopped_run());
    }
}

#[test]
fn a_wrong_key_is_shown_to_nobody() {
    let server = Faultd::script(|seen| {
        let key = seen.header("authorization").unwrap().to_owned();
        Reply::error(
            401,
            "invalid_request_error",
            "invalid_api_key",
            &format!("Wrong: {key}"),
        )
    });
    let error = failure(&client(&server));
    assert_eq!((error.kind(), server.count()), (ErrorKind::Auth, 1));
    assert!(error.stopped_run());
    let body = String::from_utf8_lossy(error.body().unwrap()).into_owned();
    assert!(!format!("{error} {error:?} {body}").contains(KEY));
    assert!(body.contains("[redacted]"), "it was there: {body}");
}

#[test]
fn a_redirect_is_not_followed_and_the_key_stays_here() {
    let target = Faultd::replies([Reply::ok_chat("stolen")]);
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/v1/chat/completions?from=here", target.url());
        let server = Faultd::replies([Reply::status(status).header("location", &location)]);
        let error = failure(&client(&server));
        assert_eq!(error.kind(), ErrorKind::Redirect);
        assert!(error.stopped_run());
        assert_eq!(server.count(), 1);
        let message = error.to_string();
        assert!(message.contains(&target.url()), "{message}");
        assert!(!message.contains("from=here"), "{message}");
    }
    assert_eq!((target.connections(), target.count()), (0, 0));
}

#[test]
fn an_early_refusal_of_a_long_upload_is_heard() {
    let server = Faultd::at_head(|_| Reply::error(413, "x", "request_too_large", "too long"));
    let client = client(&server);
    let body = format!("{{\"input\":\"{}\"}}", "x".repeat(8 << 20));
    let error = client
        .send(Request::post("/v1/embeddings", body))
        .unwrap_err();
    // The reset that follows may overtake the answer: then it is a broken connection, tried again.
    assert!(
        matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Network),
        "{error:?}"
    );
    assert!(server.count() <= 3);
}

#[test]
fn a_body_above_the_limit_is_not_taken_in() {
    for reply in [
        Reply::json(format!("\"{}\"", "x".repeat(200_000))),
        Reply::json(format!("\"{}\"", "x".repeat(200_000))).chunked(1_000),
        Reply::json(format!("\"{}\"", "x".repeat(200_000))).without_length(),
        // A lie of a terabyte, and nothing behind it.
        Reply::json("{}")
            .content_length("1099511627776")
            .then_hold(),
    ] {
        let server = Faultd::replies([reply]);
        let client = client_with(&server, |builder| builder.max_body(100_000));
        let error = failure(&client);
        assert_eq!(error.kind(), ErrorKind::BodyTooLarge, "{error:?}");
        assert_eq!(server.count(), 1, "asking again would not make it smaller");
    }
}

#[test]
fn statuses_that_nobody_knows_fail_the_row() {
    for status in [600, 999] {
        let server = Faultd::replies([Reply::status(status)]);
        let error = failure(&client(&server));
        assert_eq!((error.kind(), server.count()), (ErrorKind::Protocol, 1));
    }
}

#[test]
fn hostile_heads_end_in_an_error() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-h: 1\r\n".repeat(10_000));
    let large = format!("HTTP/1.1 200 OK\r\nx-h: {}\r\n\r\n", "y".repeat(100_000));
    for head in [
        many.into_bytes(),
        large.into_bytes(),
        b"HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n{}".to_vec(),
        b"\r\n\r\n\r\n".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&head[..head.len().min(60)]).into_owned();
        let server = Faultd::replies([Reply::raw(head)]);
        let error = failure(&client(&server));
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Protocol
                    | ErrorKind::Truncated
                    | ErrorKind::Network
                    | ErrorKind::BodyTooLarge
                    | ErrorKind::Malformed
            ),
            "{shown:?}: {error:?}"
        );
        assert!(server.count() <= 3, "{shown:?}");
    }
}

#[test]
fn one_bad_row_takes_no_other_down() {
    let server = Faultd::script(|seen| {
        let body = seen.json();
        let prompt = body["messages"][0]["content"].as_str().unwrap();
        match prompt.trim_start_matches("prompt ").parse::<u32>().unwrap() % 10 {
            3 => Reply::error(400, "x", "x", "no"),
            5 => Reply::reset(),
            7 => Reply::ok_chat("x").half_body(),
            _ => Reply::ok_chat(prompt),
        }
    });
    let client = client_with(&server, |builder| builder.concurrency(8));
    let prompts = prompts(100);
    let results = client.chat_all("m", &prompts);
    for (n, (prompt, result)) in prompts.iter().zip(&results).enumerate() {
        match (n % 10, result) {
            (3, Err(error)) => assert_eq!(error.kind(), ErrorKind::Invalid),
            (5, Err(error)) => assert_eq!(error.kind(), ErrorKind::Network),
            (7, Err(error)) => assert_eq!(error.kind(), ErrorKind::Truncated),
            (3 | 5 | 7, Ok(_)) => panic!("{n} succeeded"),
            (_, result) => {
                assert_eq!(result.as_ref().unwrap().text().as_ref(), Some(prompt));
            }
        }
    }
    assert_eq!(server.count(), 70 + 10 + 2 * 30);
}

#[test]
fn faults_of_every_kind_at_once_lose_no_row() {
    // Each row meets two of them, each another two, and is then answered.
    let calls: Vec<AtomicUsize> = (0..120).map(|_| AtomicUsize::new(0)).collect();
    let server = Faultd::script(move |seen| {
        let body = seen.json();
        let prompt = body["messages"][0]["content"].as_str().unwrap();
        let n: usize = prompt.trim_start_matches("prompt ").parse().unwrap();
        let call = calls[n].fetch_add(1, Ordering::SeqCst);
        match (call, (n + call) % 6) {
            (0 | 1, 0) => Reply::reset(),
            (0 | 1, 1) => Reply::close(),
            (0 | 1, 2) => Reply::ok_chat("x").half_body(),
            (0 | 1, 3) => Reply::status(502).body(PAGE),
            (0 | 1, 4) => Reply::status(429).header("retry-after-ms", "1"),
            (0 | 1, _) => Reply::status(200).body(PAGE),
            _ => Reply::ok_chat(prompt),
        }
    });
    let client = client_with(&server, |builder| {
        builder.concurrency(16).retry(quick().max_attempts(4))
    });
    let prompts = prompts(120);
    for (prompt, result) in prompts.iter().zip(client.chat_all("m", &prompts)) {
        let reply = result.unwrap_or_else(|error| panic!("{prompt}: {error:?}"));
        assert_eq!((reply.text().as_ref(), reply.attempts()), (Some(prompt), 3));
    }
    assert_eq!(server.count(), 360);
}
