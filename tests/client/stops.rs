//! What cannot succeed: rows that fail by themselves, runs that stop, and calls that are called off.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::json;
use tollgate::http::StatusCode;
use tollgate::{
    ErrorKind, HttpResponse, Request, Result, Retry, TransportError, TransportErrorKind,
    TransportStage,
};

use crate::bench::*;

/// Lets nobody through until so many have come, or there is nothing more to wait for.
struct Rendezvous {
    here: Mutex<usize>,
    all: Condvar,
    wanted: usize,
}

impl Rendezvous {
    fn new(wanted: usize) -> Self {
        Self {
            here: Mutex::new(0),
            all: Condvar::new(),
            wanted,
        }
    }

    fn meet(&self) {
        let mut here = self.here.lock().unwrap();
        *here += 1;
        self.all.notify_all();
        let patience = Duration::from_secs(600);
        let met = self
            .all
            .wait_timeout_while(here, patience, |here| *here < self.wanted);
        let (_here, outcome) = met.unwrap();
        assert!(!outcome.timed_out(), "the run never had so many in flight");
    }
}

/// What a run of 64 at once made of 1,000 prompts, all answered alike once 64 were in flight.
fn stopped_by(answer: impl Fn() -> Outcome + Send + Sync + 'static) -> (Vec<ErrorKind>, usize) {
    let rendezvous = Rendezvous::new(64);
    let bench = bench_with(
        |builder| builder.concurrency(64),
        move |_| {
            rendezvous.meet();
            answer()
        },
    );
    let results = bench.run(|client| client.chat_all("m", &prompts(1_000)));
    assert_eq!(bench.time.elapsed(), secs(0), "nothing is retried");
    let errors: Vec<_> = results.into_iter().map(Result::unwrap_err).collect();
    for error in &errors {
        assert_eq!(error.stopped_run(), error.kind() != ErrorKind::Cancelled);
    }
    let progress = bench.progress();
    assert_eq!(progress.done(), 1_000);
    assert_eq!(progress.failed, bench.count() as u64);
    (
        errors.iter().map(tollgate::Error::kind).collect(),
        bench.count(),
    )
}

#[test]
fn a_wrong_key_is_asked_with_no_more_than_what_is_in_flight() {
    // Again and again: the 65th would get through a gap of microseconds.
    for _ in 0..20 {
        let (kinds, sent) = stopped_by(|| error(401, "invalid_api_key", "Incorrect API key"));
        assert_eq!(sent, 64);
        let refused = kinds
            .iter()
            .filter(|kind| **kind == ErrorKind::Auth)
            .count();
        assert_eq!(refused, 64);
        assert_eq!(kinds[999], ErrorKind::Cancelled);
    }
}

#[test]
fn money_that_is_out_stops_the_run_in_every_form() {
    for (status, code) in [
        (402, "payment_required"),
        (429, "insufficient_quota"),
        (429, "billing_hard_limit_reached"),
        (429, "project_spend_limit_exceeded"),
        (403, "billing_not_active"),
    ] {
        let (kinds, sent) = stopped_by(move || error(status, code, "no more"));
        assert_eq!(sent, 64, "{code}");
        assert!(kinds.contains(&ErrorKind::Quota), "{code}");
    }
    let limits = "You have reached your specified API usage limits. You will regain access later.";
    let (kinds, _) = stopped_by(move || error(400, "invalid_request_error", limits));
    assert!(kinds.contains(&ErrorKind::Quota));
    let none = "You exceeded your current quota. Quota exceeded for metric: free_tier, limit: 0";
    let (kinds, _) = stopped_by(move || error(429, "RESOURCE_EXHAUSTED", none));
    assert!(kinds.contains(&ErrorKind::Quota));
}

#[test]
fn a_redirect_a_certificate_and_too_long_a_wait_stop_the_run() {
    let (kinds, sent) = stopped_by(|| {
        with(
            Ok(HttpResponse {
                status: StatusCode::TEMPORARY_REDIRECT,
                ..HttpResponse::default()
            }),
            &[("location", "https://elsewhere.example/secret?x=y")],
        )
    });
    assert_eq!(sent, 64);
    assert!(kinds.contains(&ErrorKind::Redirect));

    let (kinds, sent) = stopped_by(|| {
        let what = "the TLS handshake failed";
        Err(TransportError::new(
            TransportErrorKind::Tls,
            TransportStage::NothingSent,
            what,
        ))
    });
    assert_eq!(sent, 64);
    assert!(kinds.contains(&ErrorKind::Tls));

    let (kinds, sent) = stopped_by(|| with(error(503, "busy", "busy"), &[("retry-after", "7200")]));
    assert_eq!(sent, 64);
    assert!(kinds.contains(&ErrorKind::ServerDelay));
}

#[test]
fn a_redirects_target_is_named_by_its_host_alone() {
    let bench = bench(|_| {
        with(
            error(301, "moved", ""),
            &[(
                "location",
                "https://user:pass@elsewhere.example/secret?key=1",
            )],
        )
    });
    let error = bench
        .run(|client| client.chat("m", "hi").send())
        .unwrap_err();
    let message = error.to_string();
    assert!(message.contains("https://elsewhere.example"), "{message}");
    assert!(!message.contains("secret") && !message.contains("pass"));
    assert_eq!(bench.count(), 1);
}

#[test]
fn ten_alike_with_no_success_before_stop_the_run() {
    for status in [403, 404] {
        let bench = bench_with(
            |builder| builder.concurrency(1),
            move |_| error(status, "no", "not here"),
        );
        let results = bench.run(|client| client.chat_all("m", &prompts(100)));
        assert_eq!(bench.count(), 10);
        let stopper = results[9].as_ref().unwrap_err();
        assert_eq!(stopper.status().map(Into::into), Some(status));
        assert!(stopper.stopped_run());
        assert!(!results[8].as_ref().unwrap_err().stopped_run());
        let rest = results[10].as_ref().unwrap_err();
        assert_eq!(rest.kind(), ErrorKind::Cancelled);
    }
}

#[test]
fn refusals_are_rows_once_anything_has_succeeded() {
    let bench = bench_with(
        |builder| builder.concurrency(1),
        |ask| match ask.index {
            0 => says("ok"),
            _ => error(404, "model_not_found", "no such model"),
        },
    );
    let results = bench.run(|client| client.chat_all("m", &prompts(50)));
    assert_eq!(bench.count(), 50);
    for result in &results[1..] {
        assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn refusals_that_differ_are_not_alike() {
    let bench = bench_with(
        |builder| builder.concurrency(1),
        |ask| error([403, 404][ask.index / 9 % 2], "no", "no"),
    );
    let results = bench.run(|client| client.chat_all("m", &prompts(54)));
    assert_eq!(bench.count(), 54);
    assert!(results.iter().all(Result::is_err));
}

#[test]
fn a_row_that_is_wrong_in_itself_fails_alone_and_once() {
    let bench = bench_with(
        |builder| builder.concurrency(1),
        |ask| match ask.prompt().as_str() {
            "prompt 3" => error(400, "context_length_exceeded", "too long"),
            "prompt 5" => error(413, "request_too_large", "too large"),
            "prompt 7" => error(422, "unprocessable", "what"),
            "prompt 9" => error(400, "content_filter", "filtered"),
            "prompt 11" => error(
                429,
                "rate_limit_exceeded",
                "Request too large for m on tokens per min (TPM): Limit 30000, Requested 36278.",
            ),
            "prompt 13" => Ok(HttpResponse {
                status: StatusCode::from_u16(999).unwrap(),
                ..HttpResponse::default()
            }),
            "prompt 15" => Err(TransportError::new(
                TransportErrorKind::TooLarge,
                TransportStage::Answering,
                "the answer's body is larger than 10 bytes",
            )),
            prompt => says(prompt),
        },
    );
    let results = bench.run(|client| client.chat_all("m", &prompts(20)));
    assert_eq!(bench.count(), 20, "each is sent once");
    assert_eq!(bench.time.elapsed(), secs(0), "and nobody waits");
    for (index, kind) in [
        (3, ErrorKind::Invalid),
        (5, ErrorKind::TooLarge),
        (7, ErrorKind::Invalid),
        (9, ErrorKind::ContentFilter),
        (11, ErrorKind::TooLarge),
        (13, ErrorKind::Protocol),
        (15, ErrorKind::BodyTooLarge),
    ] {
        let error = results[index].as_ref().unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{index}");
        assert!(!error.stopped_run());
    }
    let good = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(good, 13);
}

#[test]
fn answers_that_are_no_failure_are_kept_as_they_are() {
    for body in [
        json!({"choices": [{"message": {"content": "hi"}}], "error": {"message": ""}}),
        json!({"choices": [{"message": {"content": null, "tool_calls": [{"id": "c"}]}}]}),
        json!({"choices": [{"message": {"content": "cut"}, "finish_reason": "content_filter"}]}),
    ] {
        let bytes = body.to_string();
        let bench = bench(move |_| Ok(answer(200, &body)));
        let reply = bench.run(|client| client.chat("m", "hi").send()).unwrap();
        assert_eq!(reply.body(), bytes.as_bytes());
        assert_eq!(bench.count(), 1);
    }
}

#[test]
fn an_unusable_answer_is_asked_for_twice_more_and_no_oftener() {
    for body in [
        "",
        "<html>Please log in</html>",
        "{\"choices\":[{\"message\":{\"content\":\"cut of",
        "[1,2]garbage",
        "\"a string\"",
        "\u{0}\u{0}",
    ] {
        let bench = bench_with(
            |builder| builder.retry(Retry::new().max_attempts(50)),
            move |_| {
                Ok(HttpResponse {
                    body: body.as_bytes().to_vec(),
                    ..HttpResponse::default()
                })
            },
        );
        let error = bench
            .run(|client| client.chat("m", "hi").send())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{body:?}");
        assert_eq!((bench.count(), error.attempts()), (3, 3), "{body:?}");
        assert!(!error.possibly_billed(), "it came");
        assert_eq!(error.body(), Some(body.as_bytes()));
    }
}

#[test]
fn x_should_retry_is_obeyed_but_not_against_money_or_auth() {
    let count_of = |status: u16, wish: &'static str| {
        let bench = bench(move |_| with(error(status, "x", "x"), &[("x-should-retry", wish)]));
        let error = bench
            .run(|client| client.chat("m", "hi").send())
            .unwrap_err();
        (bench.count(), error.stopped_run())
    };
    assert_eq!(count_of(503, "false"), (1, false));
    assert_eq!(count_of(429, "false"), (1, false));
    assert_eq!(count_of(400, "true"), (6, false));
    assert_eq!(count_of(401, "true"), (1, true));
    assert_eq!(count_of(402, "true"), (1, true));
}

#[test]
fn a_panic_below_the_client_is_one_failed_row() {
    let bench = bench(|ask| {
        assert!(ask.prompt() != "prompt 7", "not this one");
        says("ok")
    });
    let results = bench.run(|client| client.chat_all("m", &prompts(40)));
    let error = results[7].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    assert!(error.to_string().contains("not this one"));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 39);
    assert_eq!(bench.client.limiter().in_flight(), 0);
}

#[test]
fn a_call_of_the_same_client_inside_a_call_is_refused_at_once() {
    let inner = Arc::new(Mutex::new(None));
    let (client, kinds) = (Arc::clone(&inner), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&kinds);
    let bench = bench_with(
        |builder| builder.concurrency(1),
        move |_| {
            let client: tollgate::Client = client.lock().unwrap().clone().unwrap();
            let kind = client.chat("m", "inner").send().unwrap_err().kind();
            let all = client.chat_all("m", &["a", "b"]);
            let lazy = client
                .for_each([Request::chat("m", "c")], |_| ())
                .unwrap_err();
            let mut log = log.lock().unwrap();
            log.push(kind);
            log.extend(all.iter().map(|result| result.as_ref().unwrap_err().kind()));
            log.push(lazy.kind());
            says("outer")
        },
    );
    *inner.lock().unwrap() = Some(bench.client.clone());
    bench.run(|client| client.chat("m", "hi").send()).unwrap();
    assert_eq!(*kinds.lock().unwrap(), [ErrorKind::Nested; 4]);
    assert_eq!(bench.count(), 1);
    // The client holds its transport, which holds the client.
    *inner.lock().unwrap() = None;
}

#[test]
fn a_cancel_finishes_what_is_in_flight_and_begins_nothing() {
    let rendezvous = Rendezvous::new(8);
    let cancel = tollgate::Cancel::new();
    let raised = cancel.clone();
    let bench = bench_with(
        |builder| builder.concurrency(8),
        move |_| {
            rendezvous.meet();
            raised.cancel();
            says("ok")
        },
    );
    let client = bench.client.clone().with_cancel(&cancel);
    let results = bench.run_on(&client, |client| client.chat_all("m", &prompts(100)));
    assert_eq!(bench.count(), 8);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 8);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Cancelled, 0));
    }
    assert_eq!(bench.progress().abandoned, 92);
}

#[test]
fn a_cancel_ends_a_backoff_at_once_and_keeps_the_last_failure() {
    let cancel = tollgate::Cancel::new();
    let bench = bench(|_| with(error(429, "slow", "slow"), &[("retry-after", "60")]));
    let client = bench.client.clone().with_cancel(&cancel);
    let error = std::thread::scope(|scope| {
        let call = scope.spawn(|| client.chat("m", "hi").send());
        bench.time.wait_parked(1);
        cancel.cancel();
        call.join().unwrap().unwrap_err()
    });
    assert_eq!(bench.time.elapsed(), secs(0));
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Cancelled, 1));
    let last = std::error::Error::source(&error).unwrap().to_string();
    assert!(last.contains("slower pace"), "{last}");
}

#[test]
fn an_aborted_request_is_not_a_failed_one() {
    let abort = tollgate::Cancel::new();
    let raised = abort.clone();
    let aborted = AtomicUsize::new(0);
    let bench = bench_with(
        |builder| builder.concurrency(4),
        move |_| {
            raised.abort();
            aborted.fetch_add(1, Ordering::SeqCst);
            Err(TransportError::new(
                TransportErrorKind::Aborted,
                TransportStage::Sent,
                "aborted",
            ))
        },
    );
    let client = bench.client.clone().with_cancel(&abort);
    let results = bench.run_on(&client, |client| client.chat_all("m", &prompts(50)));
    assert!(bench.count() <= 4);
    for result in &results {
        assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::Cancelled);
    }
    let progress = bench.progress();
    assert_eq!((progress.abandoned, progress.failed), (50, 0));

    // The flag is the call's; the client itself is as good as new.
    assert_eq!(bench.client.limiter().in_flight(), 0);
}

#[test]
fn a_call_under_a_raised_flag_sends_nothing() {
    let bench = bench(|_| says("ok"));
    bench.cancel.cancel();
    let error = bench
        .run(|client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(bench.count(), 0);
}

#[test]
fn a_run_that_was_stopped_stops_no_other() {
    let bench = bench(|ask| match ask.index {
        0 => error(401, "invalid_api_key", "not yet active"),
        _ => says("ok"),
    });
    let first = bench.run(|client| client.chat("m", "hi").send());
    assert!(first.unwrap_err().stopped_run());
    let second = bench.run(|client| client.chat("m", "hi").send());
    assert_eq!(second.unwrap().text().as_deref(), Some("ok"));
    assert!(
        !bench.cancel.is_cancelled(),
        "the caller's flag is the caller's"
    );
}
