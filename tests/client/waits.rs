//! Waits: those a server asks for, in every form, and our own where it does not.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::json;
use tollgate::{ErrorKind, Monitor, Retry};

use crate::bench::*;

/// The first answer, and then success; at what times the requests of one call came.
fn times_after(first: impl Fn() -> Outcome + Send + Sync + 'static) -> Vec<Duration> {
    let bench = bench(move |ask| if ask.index == 0 { first() } else { says("ok") });
    let reply = bench.run(|client| client.chat("m", "hi").send()).unwrap();
    assert_eq!(reply.attempts(), 2);
    bench.times()
}

fn limited() -> Outcome {
    error(429, "rate_limit_exceeded", "slow down")
}

#[test]
fn retry_after_holds_every_worker() {
    let watched = Arc::new(OnceLock::<Monitor>::new());
    let monitor = Arc::clone(&watched);
    let bench = bench(move |ask| {
        if ask.index == 0 {
            return with(limited(), &[("retry-after", "2")]);
        }
        // As over a wire: whoever is on the way with it comes back after it.
        while ask.at < secs(2)
            && monitor
                .get()
                .is_none_or(|monitor| monitor.snapshot().throttled == 0)
        {
            std::thread::yield_now();
        }
        says("ok")
    });
    watched.set(bench.monitor.clone()).unwrap();
    let replies = bench.run(|client| client.chat_all("m", &prompts(300)));
    let retried: Vec<u32> = replies
        .iter()
        .map(|reply| reply.as_ref().unwrap().attempts())
        .filter(|attempts| *attempts > 1)
        .collect();
    assert_eq!(retried, [2]);
    // Whoever was on the way when it came is at 0, at most all places; the rest in its time.
    let (early, late): (Vec<_>, Vec<_>) = bench.times().into_iter().partition(Duration::is_zero);
    assert!(early.len() <= 20, "{} went on", early.len());
    assert!(late.iter().all(|at| *at >= secs(2)), "{late:?}");
}

#[test]
fn after_a_wait_requests_come_one_by_one() {
    let bench = bench(|ask| {
        if ask.at < secs(2) {
            with(limited(), &[("retry-after", "2")])
        } else {
            says("ok")
        }
    });
    let replies = bench.run(|client| client.chat_all("m", &prompts(60)));
    assert!(replies.iter().all(Result::is_ok));
    let mut late: Vec<_> = bench.times();
    late.retain(|at| *at >= secs(2));
    assert!(late.len() >= 60);
    // Places for 20 are filled over a second, one at a time.
    for (before, at) in (0..20).zip(&late) {
        assert!(*at >= secs(2) + ms(50) * before, "{late:?}");
    }
}

/// How often each prompt was sent, to a server that lets one in a second and refuses the others with
/// `retry-after: 1`.
fn attempts_at_one_a_second(rows: usize) -> Vec<usize> {
    let free_at = Mutex::new(Duration::ZERO);
    let bench = bench(move |ask| {
        let mut free_at = free_at.lock().unwrap();
        if ask.at < *free_at {
            return with(limited(), &[("retry-after", "1")]);
        }
        *free_at = ask.at + secs(1);
        says("ok")
    });
    let replies = bench.run(|client| client.chat_all("m", &prompts(rows)));
    assert!(replies.iter().all(Result::is_ok));
    let mut sent = vec![0; rows];
    for seen in bench.seen() {
        let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        let prompt = body["messages"][0]["content"].as_str().unwrap();
        sent[prompt["prompt ".len()..].parse::<usize>().unwrap()] += 1;
    }
    sent
}

#[test]
fn what_was_refused_goes_before_anything_new() {
    let sent = attempts_at_one_a_second(400);
    assert!(sent.iter().all(|sent| *sent <= 5), "{sent:?}");
}

#[test]
fn milliseconds_come_first_and_jitter_only_adds() {
    let hints = [("retry-after", "60"), ("retry-after-ms", "250")];
    let times = times_after(move || with(limited(), &hints));
    let wait = times[1].saturating_sub(times[0]);
    // A tenth of jitter; a place in twenty of the gentle second after a wait.
    assert!(wait >= ms(250) && wait <= ms(250 + 25 + 50), "{wait:?}");
}

#[test]
fn one_place_waits_no_longer_than_asked() {
    let bench = bench_with(
        |builder| builder.concurrency(1),
        |ask| match ask.index {
            0 => with(limited(), &[("retry-after-ms", "250")]),
            _ => says("ok"),
        },
    );
    bench.run(|client| client.chat("m", "hi").send()).unwrap();
    let wait = bench.times()[1];
    assert!(wait >= ms(250) && wait <= ms(275), "{wait:?}");
}

#[test]
fn dates_are_read_by_the_servers_clock() {
    // The bench's clock starts with 2026; the server's is an hour behind.
    let dated = [
        ("date", "Wed, 31 Dec 2025 23:00:00 GMT"),
        ("retry-after", "Wed, 31 Dec 2025 23:00:03 GMT"),
    ];
    let times = times_after(move || with(limited(), &dated));
    assert!(times[1] >= secs(3) && times[1] <= ms(3_350), "{times:?}");

    let own = [("retry-after", "Thu, 01 Jan 2026 00:00:03 GMT")];
    let times = times_after(move || with(limited(), &own));
    assert!(times[1] >= secs(3) && times[1] <= ms(3_350), "{times:?}");
}

#[test]
fn a_hint_that_makes_no_sense_leaves_the_backoff() {
    let long = "9".repeat(8 << 10);
    for hint in [
        "",
        "-5",
        "0",
        "NaN",
        "inf",
        "1e309",
        "9999999999999999999",
        "\u{663}",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "soon",
        &long,
    ] {
        let hint = hint.to_owned();
        let bench = bench(move |_| with(limited(), &[("retry-after", &hint)]));
        let error = bench
            .run(|client| client.chat("m", "hi").send())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        // Nothing is charged to it: it is held, and after ten minutes without a success it stops.
        assert!(error.stopped_run());
        assert!(bench.time.elapsed() >= secs(600), "{:?}", bench.time);
        assert!(bench.count() <= 25, "{} requests", bench.count());
        let waits: Vec<_> = bench
            .times()
            .windows(2)
            .map(|w| w[1].saturating_sub(w[0]))
            .collect();
        for wait in &waits {
            assert!(*wait <= secs(60), "{waits:?}");
        }
        assert!(waits.iter().any(|wait| !wait.is_zero()));
    }
}

#[test]
fn waits_that_are_asked_for_are_not_charged_and_are_not_endless() {
    let bench = bench_with(
        |builder| builder.retry(Retry::new().max_attempts(2)),
        |_| with(limited(), &[("retry-after", "1")]),
    );
    let error = bench
        .run(|client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!((bench.count(), error.attempts()), (51, 51));
    assert_eq!(bench.progress().throttled, 51);
}

#[test]
fn a_hint_beyond_what_is_waited_for_stops_the_run_and_says_so() {
    let bench = bench(|_| with(limited(), &[("retry-after", "86400")]));
    let results = bench.run(|client| client.chat_all("m", &prompts(300)));
    assert_eq!(bench.time.elapsed(), secs(0), "not slept");
    assert!(bench.count() <= 20, "{} sent", bench.count());
    let stopper = results[0].as_ref().unwrap_err();
    assert_eq!(stopper.kind(), ErrorKind::ServerDelay);
    assert_eq!(stopper.retry_after(), Some(secs(86_400)));
    assert!(stopper.stopped_run());
    assert!(stopper.to_string().contains("86400 s"), "{stopper}");
    assert!(!stopper.to_string().contains("tried again"));
    let last = results[299].as_ref().unwrap_err();
    assert_eq!(last.kind(), ErrorKind::Cancelled);
    assert!(!last.stopped_run());
}

#[test]
fn any_hint_is_waited_for_if_the_policy_says_so() {
    let bench = bench_with(
        |builder| builder.retry(Retry::new().max_server_delay(None)),
        |ask| match ask.index {
            0 => with(limited(), &[("retry-after", "86400")]),
            _ => says("ok"),
        },
    );
    bench.run(|client| client.chat("m", "hi").send()).unwrap();
    assert!(bench.times()[1] >= secs(86_400));
}

#[test]
fn a_deadline_before_the_hint_fails_at_once() {
    let bench = bench(|_| with(limited(), &[("retry-after", "60")]));
    let client = bench.client.clone().with_deadline(secs(30));
    let error = bench
        .run_on(&client, |client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert_eq!(error.attempts(), 1);
    assert_eq!(bench.time.elapsed(), secs(0), "it does not sit it out");
    let last = std::error::Error::source(&error).unwrap().to_string();
    assert!(last.contains("slower pace"), "{last}");
}

#[test]
fn nothing_left_after_a_success_holds_the_next_request() {
    // Six minutes to full at 1,000 tokens: 18 s for the 50 that the next one is reserved at.
    for (headers, longer, shorter) in [
        (
            &[
                ("x-ratelimit-limit-tokens", "1000"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ][..],
            secs(18),
            secs(20),
        ),
        (
            &[
                ("x-ratelimit-limit-requests", "60"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "1m0s"),
            ],
            secs(1),
            secs(3),
        ),
        (
            // Within a minute: the window may slide, so the next request goes in its turn.
            &[
                ("x-ratelimit-limit", "20"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "1767225630000"),
            ],
            secs(3),
            secs(4),
        ),
        (
            // The end of a longer window, by the clock, in milliseconds: 2026-01-01 00:05:00.
            &[
                ("x-ratelimit-limit", "20"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "1767225900000"),
            ],
            secs(300),
            // And a twentieth of an hour.
            secs(490),
        ),
    ] {
        let bench = bench_with(
            |builder| builder.tokens_per_minute(600_000).concurrency(1),
            move |ask| match ask.index {
                0 => with(says("ok"), headers),
                _ => says("ok"),
            },
        );
        let requests = [0, 1].map(|_| {
            let request: tollgate::Request = tollgate::Request::chat("m", "hi").into();
            request.reserve_tokens(50)
        });
        let replies = bench.run(|client| client.send_all(&requests));
        assert!(replies.iter().all(Result::is_ok));
        let second = bench.times()[1];
        assert!(second >= longer && second <= shorter, "{second:?}");
    }
}

#[test]
fn limit_headers_that_make_no_sense_hold_nobody() {
    for value in ["-1", "abc", "", "1e9", "\u{660}"] {
        let bench = bench(move |_| {
            with(
                says("ok"),
                &[
                    ("x-ratelimit-limit-requests", value),
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1m0s"),
                    ("x-ratelimit-limit-tokens", value),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "1m0s"),
                ],
            )
        });
        let replies = bench.run(|client| client.chat_all("m", &prompts(50)));
        assert!(replies.iter().all(Result::is_ok));
        assert_eq!(bench.time.elapsed(), secs(0), "{value:?}");
    }
}

#[test]
fn a_body_can_ask_for_a_wait() {
    // Gemini's shape: an array, and the delay in its details.
    let body = json!([{"error": {
        "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Resource has been exhausted.",
        "details": [{
            "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "46s",
        }],
    }}]);
    let times = times_after(move || Ok(answer(429, &body)));
    assert!(times[1] >= secs(46) && times[1] <= secs(51), "{times:?}");
}

#[test]
fn a_budget_in_flight_is_waited_for_and_an_empty_purse_is_not() {
    let times = times_after(|| {
        with(
            error(402, "payment_required", "in-flight budget"),
            &[("retry-after", "3")],
        )
    });
    assert!(times[1] >= secs(3));
}

#[test]
fn overload_and_conflicts_pass_by_themselves() {
    for (status, code) in [
        (529, "overloaded_error"),
        (503, "server_is_overloaded"),
        (500, "server_error"),
        (502, "bad_gateway"),
        (504, "gateway_timeout"),
        (408, "timeout"),
        (409, "conflict"),
        (425, "too_early"),
    ] {
        let times = times_after(move || error(status, code, "not now"));
        assert!(times[1] <= times[0] + secs(1), "{status}: {times:?}");
    }
}

#[test]
fn an_error_inside_a_success_is_none() {
    let body = json!({"error": {"code": 502, "message": "Provider returned error"}});
    let times = times_after(move || Ok(answer(200, &body)));
    assert_eq!(times.len(), 2);
}

#[test]
fn an_attempt_has_its_timeout_or_what_the_deadline_leaves_of_it() {
    let bench = bench_with(
        |builder| builder.timeout(secs(10)),
        |ask| {
            assert_eq!(ask.left, secs(10).min(secs(30).saturating_sub(ask.at)));
            with(limited(), &[("retry-after", "8")])
        },
    );
    let client = bench.client.clone().with_deadline(secs(30));
    let error = bench
        .run_on(&client, |client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
    // The last of them had less than its timeout.
    assert!(
        bench.times().iter().any(|at| *at > secs(20)),
        "{:?}",
        bench.times()
    );
}
