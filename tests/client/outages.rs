//! Servers that are down, for a moment, for minutes, or for ever: rows are not paid for it.

use std::sync::Mutex;

use tollgate::{ErrorKind, Request, Retry, TransportError, TransportErrorKind, TransportStage};

use crate::bench::*;

#[test]
fn five_minutes_of_503_lose_no_row_and_cost_few_requests() {
    let bench = bench(|ask| {
        if ask.at < secs(300) {
            error(503, "unavailable", "down")
        } else {
            says(&ask.prompt())
        }
    });
    let prompts = prompts(2_000);
    let replies = bench.run(|client| client.chat_all("m", &prompts));
    for (prompt, reply) in prompts.iter().zip(&replies) {
        assert_eq!(reply.as_ref().unwrap().text().as_deref(), Some(&**prompt));
    }
    let during = bench.times().iter().filter(|at| **at < secs(300)).count();
    // Two seconds of normal backoff for those that were met by it, and then a probe at a time.
    assert!(during <= 400, "{during} requests in the outage");
    assert_eq!(bench.count(), during + 2_000);
}

#[test]
fn lucky_waits_lose_no_row_before_the_outage_is_noticed() {
    for seed in 0..8 {
        let quick = Retry::new().seed(seed).initial_backoff(ms(5));
        let bench = bench_with(
            |builder| builder.retry(quick),
            |ask| match ask.at {
                at if at < secs(30) => error(500, "x", "boom"),
                _ => says("ok"),
            },
        );
        let replies = bench.run(|client| client.chat_all("m", &prompts(60)));
        assert!(replies.iter().all(Result::is_ok), "seed {seed}");
    }
}

#[test]
fn an_outage_in_the_middle_loses_nothing_either() {
    let bench = bench_with(
        |builder| builder.requests_per_second(50),
        |ask| {
            if (secs(5)..secs(65)).contains(&ask.at) {
                error(502, "bad_gateway", "down")
            } else {
                says("ok")
            }
        },
    );
    let replies = bench.run(|client| client.chat_all("m", &prompts(1_000)));
    assert!(replies.iter().all(Result::is_ok));
    let late = bench
        .times()
        .iter()
        .filter(|at| (secs(10)..secs(65)).contains(*at))
        .count();
    assert!(late <= 8, "{late} requests after it was noticed");
}

#[test]
fn a_server_that_starts_twenty_seconds_late_costs_nothing() {
    let bench = bench_with(
        |builder| builder.retry(Retry::new().max_attempts(1)),
        |ask| {
            if ask.at < secs(20) {
                refused()
            } else {
                says("ok")
            }
        },
    );
    let replies = bench.run(|client| client.chat_all("m", &prompts(500)));
    for reply in &replies {
        assert_eq!(reply.as_ref().unwrap().attempts(), 1, "what was sent");
    }
    assert_eq!(bench.progress().attempts, 500);
    // The row that probes has waited for seconds: the breaker's waits are in the account.
    assert!(
        bench.progress().backoff >= secs(15),
        "{:?}",
        bench.progress()
    );
    // What was on its way when it was noticed, and probes at 1, 3, 7 and 15 s.
    let refusals = bench.count() - 500;
    assert!((5..=20 + 4).contains(&refusals), "{refusals}");
}

#[test]
fn a_server_that_never_answers_ends_the_run_after_two_minutes() {
    for fault in [
        TransportErrorKind::Connect,
        TransportErrorKind::Resolve,
        TransportErrorKind::Proxy,
        TransportErrorKind::Timeout,
    ] {
        let bench = bench(move |_| {
            Err(TransportError::new(
                fault,
                TransportStage::NothingSent,
                "nobody there",
            ))
        });
        let results = bench.run(|client| client.chat_all("m", &prompts(200)));
        let (stoppers, rest): (Vec<_>, Vec<_>) = results
            .iter()
            .map(|result| result.as_ref().unwrap_err())
            .partition(|error| error.stopped_run());
        assert_eq!(stoppers.len(), 1);
        assert_eq!(stoppers[0].kind(), ErrorKind::Unreachable);
        assert_eq!(stoppers[0].attempts(), 0, "nothing was ever sent");
        assert!(
            rest.iter()
                .all(|error| error.kind() == ErrorKind::Cancelled)
        );
        let after = bench.time.elapsed();
        assert!(after >= secs(120) && after <= secs(200), "{after:?}");
        assert!(bench.count() <= 20 + 8, "{} tries", bench.count());
        assert_eq!(bench.progress().attempts, 0);
    }
}

#[test]
fn one_call_to_a_server_that_never_answers_ends_as_well() {
    let bench = bench(|_| refused());
    let error = bench
        .run(|client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(bench.time.elapsed() <= secs(200));
}

#[test]
fn a_deadline_is_kept_in_an_outage() {
    // Probes would go at 1, 3, 7, 15, 31 s: the call must not sleep on to the next of them.
    for answer in [refused as fn() -> Outcome, || error(503, "down", "down")] {
        let bench = bench(move |_| answer());
        let client = bench.client.clone().with_deadline(secs(20));
        let results = bench.run_on(&client, |client| client.chat_all("m", &prompts(200)));
        assert!(bench.time.elapsed() <= secs(20), "{:?}", bench.time);
        for result in &results {
            let kind = result.as_ref().unwrap_err().kind();
            assert_eq!(kind, ErrorKind::Deadline);
        }
    }
}

#[test]
fn an_items_own_deadline_is_kept_in_an_outage() {
    let bench = bench_with(
        |builder| builder.retry(Retry::new().item_deadline(Some(secs(20)))),
        |_| refused(),
    );
    let error = bench
        .run(|client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(bench.time.elapsed() <= secs(20), "{:?}", bench.time);
}

#[test]
fn a_row_that_cannot_be_sent_says_nothing_about_the_server() {
    // Every other path is refused here, before the wire: if that counted as an answer, the run
    // would never find out that nobody is there.
    let bench = bench(|_| refused());
    let requests: Vec<Request> = (0..200)
        .map(|n| Request::post(if n % 2 == 0 { "/v1/x" } else { "/v1/../x" }, "{}"))
        .collect();
    let results = bench.run(|client| client.send_all(&requests));
    let stopped = results
        .iter()
        .filter_map(|result| result.as_ref().err())
        .any(|error| error.stopped_run() && error.kind() == ErrorKind::Unreachable);
    assert!(stopped);
    assert!(bench.count() <= 20 + 8, "{} tries", bench.count());
    assert!(bench.time.elapsed() <= secs(200));
}

#[test]
fn one_failure_in_ten_is_absorbed() {
    // By prompt and attempt, so that it does not depend on who comes first.
    let tries: Mutex<std::collections::HashMap<String, u64>> = Mutex::default();
    let bench = bench(move |ask| {
        let prompt = ask.prompt();
        let attempt = {
            let mut tries = tries.lock().unwrap();
            let attempt = tries.entry(prompt.clone()).or_default();
            *attempt += 1;
            *attempt
        };
        let number: u64 = prompt["prompt ".len()..].parse().unwrap();
        let draw = (number * 31 + attempt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        if draw.is_multiple_of(10) {
            error(500, "server_error", "hiccup")
        } else {
            says("ok")
        }
    });
    let replies = bench.run(|client| client.chat_all("m", &prompts(10_000)));
    assert!(replies.iter().all(Result::is_ok));
    let retries = bench.count() - 10_000;
    assert!((1_000..=1_250).contains(&retries), "{retries}");
    assert_eq!(bench.progress().retries, retries as u64);
}

#[test]
fn broken_exchanges_are_retried_and_counted_as_perhaps_paid() {
    for (fault, kind) in [
        (TransportErrorKind::Broken, ErrorKind::Network),
        (TransportErrorKind::Truncated, ErrorKind::Truncated),
        (TransportErrorKind::Timeout, ErrorKind::Timeout),
    ] {
        let broken = move || {
            Err(TransportError::new(
                fault,
                TransportStage::Answering,
                "it broke",
            ))
        };
        let bench = bench(move |ask| if ask.index == 0 { broken() } else { says("ok") });
        let reply = bench.run(|client| client.chat("m", "hi").send()).unwrap();
        assert_eq!(reply.attempts(), 2);
        assert_eq!(bench.progress().possibly_billed, 1);

        let bench = bench_with(|b| b.retry(Retry::never()), move |_| broken());
        let error = bench
            .run(|client| client.chat("m", "hi").send())
            .unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, 1));
        assert!(error.possibly_billed());
    }
}

#[test]
fn garbage_on_the_wire_is_tried_three_times() {
    let bench = bench(|_| {
        let what = "the answer is not HTTP/1.1";
        Err(TransportError::new(
            TransportErrorKind::Protocol,
            TransportStage::Answering,
            what,
        ))
    });
    let error = bench
        .run(|client| client.chat("m", "hi").send())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(bench.count(), 3);
}

#[test]
fn half_the_answers_429_for_half_a_minute_make_no_herd() {
    // 429s with a hint, for every second request: those who waited come back one by one.
    let bench = bench_with(
        |builder| builder.concurrency(64).requests_per_second(100).burst(10),
        |ask| {
            if ask.at < secs(30) && ask.index % 2 == 1 {
                with(
                    error(429, "rate_limit_exceeded", "slow"),
                    &[("retry-after", "1")],
                )
            } else {
                says("ok")
            }
        },
    );
    let replies = bench.run(|client| client.chat_all("m", &prompts(600)));
    assert!(replies.iter().all(Result::is_ok));
    let times = bench.times();
    for (n, start) in times.iter().enumerate() {
        let within = times[n..]
            .iter()
            .take_while(|at| **at < *start + ms(100))
            .count();
        // What the limiter may let through, and a few that were late to look at the clock.
        assert!(within <= 10 + 10 + 10, "{within} in 100 ms from {start:?}");
    }
}

/// A server that lets so many through a minute, counted from the start, and says no more than no.
fn by_the_minute(requests: usize) -> impl Fn(&Ask<'_>) -> Outcome + Send + Sync {
    let windows = Mutex::new(std::collections::HashMap::<u64, usize>::new());
    move |ask| {
        let mut windows = windows.lock().unwrap();
        let used = windows.entry(ask.at.as_secs() / 60).or_default();
        *used += 1;
        if *used <= requests {
            says(&ask.prompt())
        } else {
            let what = "No deployments available for selected model.";
            error(429, "429", what)
        }
    }
}

#[test]
fn refusals_without_a_hint_cost_no_row_whatever_the_window() {
    for (rows, per_minute) in [(45, 30), (120, 60), (5, 4)] {
        let bench = bench(by_the_minute(per_minute));
        let replies = bench.run(|client| client.chat_all("m", &prompts(rows)));
        assert!(replies.iter().all(Result::is_ok), "{rows} rows");
        assert!(bench.time.elapsed() >= secs(60));
        let refused = bench.count() - rows;
        assert!(refused <= 300, "{refused} refusals for {rows} rows");
    }
}

#[test]
fn a_server_that_only_refuses_is_given_up_after_ten_minutes_and_no_row_before() {
    for rows in [1, 3, 200] {
        for (status, code) in [(429, "rate_limit_exceeded"), (503, "overloaded_error")] {
            let bench = bench(move |_| error(status, code, "no"));
            let results = bench.run(|client| client.chat_all("m", &prompts(rows)));
            assert!(bench.time.elapsed() >= secs(600), "{rows} rows");
            assert!(bench.time.elapsed() <= secs(800), "{:?}", bench.time);
            let errors = results.into_iter().map(Result::unwrap_err);
            let (stopped, rest): (Vec<_>, Vec<_>) = errors.partition(tollgate::Error::stopped_run);
            assert_eq!(stopped.len(), 1, "{rows} rows");
            assert!(
                rest.iter()
                    .all(|error| error.kind() == ErrorKind::Cancelled)
            );
        }
    }
}

#[test]
fn refusals_after_a_success_are_waited_out_for_an_hour() {
    let bench = bench(|ask| {
        if ask.index == 0 || ask.at >= secs(3_600) {
            says("ok")
        } else {
            error(429, "429", "no")
        }
    });
    let replies = bench.run(|client| client.chat_all("m", &prompts(30)));
    assert!(replies.iter().all(Result::is_ok));
    assert!(bench.count() <= 300, "{} requests", bench.count());
}

#[test]
fn a_server_that_loads_its_model_or_is_down_loses_no_row_of_a_few() {
    for rows in [1, 2, 3, 9] {
        for (status, what) in [(503, "Loading model"), (502, "Bad Gateway"), (503, "no")] {
            if rows == 1 && what != "Loading model" {
                continue; // It may be the row.
            }
            let bench = bench(move |ask| {
                if ask.at < secs(40) {
                    error(status, "unavailable", what)
                } else {
                    says("ok")
                }
            });
            let replies = bench.run(|client| client.chat_all("m", &prompts(rows)));
            let all_ok = replies.iter().all(Result::is_ok);
            assert!(all_ok, "{rows} rows, {status} {what}: {replies:?}");
        }
    }
}

#[test]
fn an_outage_lasts_until_the_deadline_with_a_last_probe() {
    for end in [3, 20, 100] {
        for answer in [refused as fn() -> Outcome, || error(503, "down", "down")] {
            let bench = bench(move |_| answer());
            let client = bench.client.clone().with_deadline(secs(end));
            let results = bench.run_on(&client, |client| client.chat_all("m", &prompts(200)));
            assert_eq!(bench.time.elapsed(), secs(end));
            let last = *bench.times().last().unwrap();
            assert!(last >= secs(end - 1), "the last probe at {last:?} of {end}");
            for result in &results {
                assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::Deadline);
            }
        }
    }
}
