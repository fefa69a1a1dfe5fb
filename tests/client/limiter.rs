//! The limiter under a client: what a request reserves, what it turns out to take, and who shares it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use tollgate::{
    Client, ErrorKind, Limiter, MemoryTransport, Monitor, Rate, Request, Retry, TransportError,
    TransportErrorKind, TransportStage, Verdict,
};

use crate::bench::*;

fn reserving(tokens: u64) -> Request {
    Request::from(Request::chat("m", "hi")).reserve_tokens(tokens)
}

#[test]
fn what_an_answer_says_it_took_settles_the_estimate() {
    // A thousand a second; reserved at 1,000, used 100: ten go where the estimate allows one.
    let bench = bench_with(
        |builder| builder.tokens_per_minute(60_000).concurrency(1),
        |_| Ok(answer(200, &chat("ok", 100))),
    );
    let requests: Vec<Request> = (0..40).map(|_| reserving(1_000)).collect();
    let replies = bench.run(|client| client.send_all(&requests));
    assert!(replies.iter().all(Result::is_ok));
    let end = *bench.times().last().unwrap();
    // 39 × 100 used before the last, which itself needs its 1,000 to be there.
    assert!(end >= ms(3_900) && end <= ms(3_910), "{end:?}");
    assert_eq!(bench.progress().tokens, 4_000);
}

#[test]
fn tokens_that_the_provider_does_not_count_are_given_back() {
    // Groq does not count what it reads from a cache: 900 of these 1,000.
    let mut cached = chat("ok", 1_000);
    cached["usage"]["prompt_tokens_details"] = json!({"cached_tokens": 900});
    for (base_url, between) in [
        ("https://api.groq.com/openai/v1", ms(100)),
        ("https://api.example.com/v1", ms(1_000)),
    ] {
        let answered = cached.clone();
        let bench = bench_with(
            |builder| {
                let builder = builder.base_url(base_url).tokens_per_minute(60_000);
                builder.concurrency(1)
            },
            move |_| Ok(answer(200, &answered)),
        );
        let requests: Vec<Request> = (0..3).map(|_| reserving(1_000)).collect();
        bench.run(|client| client.send_all(&requests));
        assert_eq!(bench.times(), [0, 1, 2].map(|n| n * between), "{base_url}");
        assert_eq!(bench.progress().tokens, 3_000, "{base_url}");
    }
}

#[test]
fn usage_above_the_estimate_is_owed() {
    let bench = bench_with(
        |builder| builder.tokens_per_minute(60_000).concurrency(1),
        |_| Ok(answer(200, &chat("ok", 5_000))),
    );
    let requests: Vec<Request> = (0..3).map(|_| reserving(10)).collect();
    bench.run(|client| client.send_all(&requests));
    let times = bench.times();
    assert!(times[1] == ms(4_010) && times[2] == ms(9_010), "{times:?}");
}

#[test]
fn failures_keep_their_estimate_and_what_was_not_admitted_gives_it_back() {
    let requests = [reserving(1_000), reserving(1_000)];
    let timed_out = || {
        let (kind, stage) = (TransportErrorKind::Timeout, TransportStage::Sent);
        Err(TransportError::new(kind, stage, "no answer"))
    };
    let paid = || {
        Ok(answer(
            500,
            &json!({"error": "broke off", "usage": {"total_tokens": 100}}),
        ))
    };
    for (what, failure, second) in [
        (
            "a failure",
            (|| error(500, "bad", "bad")) as fn() -> Outcome,
            secs(1),
        ),
        ("one in the end", || error(408, "bad", "bad"), secs(1)),
        ("no answer", timed_out, secs(1)),
        ("one that says what it took", paid, ms(100)),
        ("a wrong request", || error(400, "bad", "bad"), secs(0)),
        ("another", || error(422, "bad", "bad"), secs(0)),
    ] {
        let bench = bench_with(
            |builder| {
                let once = Retry::new().max_attempts(1);
                builder.tokens_per_minute(60_000).concurrency(1).retry(once)
            },
            move |_| failure(),
        );
        bench.run(|client| client.send_all(&requests));
        assert_eq!(bench.times(), [secs(0), second], "{what}");
    }

    // A refusal owes nothing. The bucket is empty when the pause ends, and full a second later.
    let bench = bench_with(
        |builder| builder.tokens_per_minute(60_000).concurrency(1),
        |ask| match ask.index {
            0 => with(error(429, "slow", "slow"), &[("retry-after", "5")]),
            _ => says("ok"),
        },
    );
    bench.run(|client| client.send(reserving(3_000))).unwrap();
    assert_eq!(bench.times(), [secs(0), secs(6)]);

    let bench = bench_with(
        |builder| builder.tokens_per_minute(60_000).concurrency(1),
        |ask| if ask.index < 3 { refused() } else { says("ok") },
    );
    bench.run(|client| client.send(reserving(1_000))).unwrap();
    assert_eq!(
        bench.times(),
        [secs(0), secs(1), secs(3), secs(7)],
        "the probes' own spacing and no more"
    );
}

#[test]
fn the_estimate_counts_the_prompt_and_what_may_be_written() {
    // 400 bytes of prompt are about a hundred tokens, and 500 may follow: two fit in 1,200.
    let bench = bench_with(
        |builder| builder.tokens_per_minute(72_000).concurrency(8),
        |_| Ok(answer(200, &serde_json::json!({"choices": [{}]}))),
    );
    let prompt = "word".repeat(100);
    let requests: Vec<Request> = (0..4)
        .map(|_| Request::chat("m", prompt.as_str()).max_tokens(500).into())
        .collect();
    bench.run(|client| client.send_all(&requests));
    let at_once = bench.times().iter().filter(|at| **at == ms(0)).count();
    assert!((1..=2).contains(&at_once), "{:?}", bench.times());
    let end = *bench.times().last().unwrap();
    assert!(end >= ms(900) && end <= ms(1_500), "{end:?}");
}

#[test]
fn what_sets_no_limit_to_itself_is_reserved_at_what_others_wrote() {
    let bench = bench_with(
        |builder| builder.tokens_per_minute(60_000).concurrency(1),
        |_| says("ok"),
    );
    // A thousand at once: of an unknown length only one may begin before its answer is there, and
    // the first of them says that five is usual.
    bench.run(|client| client.chat_all("m", &prompts(30)));
    assert_eq!(bench.time.elapsed(), secs(0));

    let silent = bench_with(
        |builder| builder.tokens_per_minute(60_000).concurrency(1),
        |_| Ok(answer(200, &serde_json::json!({"data": []}))),
    );
    silent.run(|client| client.chat_all("m", &prompts(3)));
    assert!(silent.time.elapsed() >= ms(500), "nobody said how much");
    let before = silent.time.elapsed();
    let embeddings = [0; 3].map(|_| Request::post("/v1/embeddings", r#"{"input":"word"}"#));
    silent.run(|client| client.send_all(&embeddings));
    assert!(
        silent.time.elapsed() <= before + secs(1),
        "nothing is written"
    );
}

#[test]
fn a_request_that_never_fits_fails_unsent_and_blocks_nobody() {
    let bench = bench_with(
        |builder| builder.tokens_per_minute(6_000).concurrency(1),
        |_| says("ok"),
    );
    let requests = [reserving(10), reserving(6_001), reserving(10)];
    let results = bench.run(|client| client.send_all(&requests));
    let error = results[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::NeverFits, 0));
    assert!(error.to_string().contains("6001"), "{error}");
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(bench.count(), 2);
    let progress = bench.progress();
    assert_eq!((progress.failed, progress.succeeded), (1, 2));
}

#[test]
fn every_attempt_passes_the_limiter() {
    let bench = bench_with(
        |builder| {
            let retry = Retry::new().max_attempts(50);
            builder.requests_per_second(10).burst(1).retry(retry)
        },
        |ask| {
            if ask.index % 3 == 0 {
                error(500, "x", "x")
            } else {
                says("ok")
            }
        },
    );
    let replies = bench.run(|client| client.chat_all("m", &prompts(100)));
    assert!(replies.iter().all(Result::is_ok));
    let times = bench.times();
    assert!(times.len() > 130);
    for (before, at) in (0..).zip(&times) {
        assert!(*at >= ms(100) * before, "{times:?}");
    }
}

#[test]
fn never_more_in_flight_than_allowed() {
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, most) = (Arc::clone(&now), Arc::clone(&peak));
    let bench = bench_with(
        |builder| builder.concurrency(7),
        move |_| {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(ms(1));
            inside.fetch_sub(1, Ordering::SeqCst);
            says("ok")
        },
    );
    bench.run(|client| client.chat_all("m", &prompts(300)));
    assert_eq!(peak.load(Ordering::SeqCst), 7);
    assert_eq!(now.load(Ordering::SeqCst), 0);
    assert!(bench.progress().threads_peak <= 7);
}

#[test]
fn two_clients_on_one_limiter_keep_within_it_together() {
    let time = tollgate::VirtualClock::new();
    let start = time.clock().now();
    let limiter = Limiter::builder()
        .requests(Rate::per_second(10))
        .burst(5)
        .concurrency(4)
        .clock(time.clock())
        .build()
        .unwrap();
    let (monitor, seen) = (Monitor::new(), Arc::new(Mutex::new(Vec::new())));
    let client = |name: &'static str| {
        let (log, clock) = (Arc::clone(&seen), time.clock());
        Client::builder()
            .base_url("http://127.0.0.1:9/v1")
            .api_key(KEY)
            .limiter(limiter.clone())
            .transport(MemoryTransport::new(move |_| {
                log.lock().unwrap().push((clock.now() - start, name));
                says(name)
            }))
            .build()
            .unwrap()
            .with_monitor(&monitor)
    };
    let (one, other) = (client("one"), client("other"));
    // Time stands still until every run that is not through stands at the limiter.
    let going = AtomicUsize::new(2);
    let all = |client: &Client| {
        let replies = client.chat_all("m", &prompts(50));
        going.fetch_sub(1, Ordering::SeqCst);
        replies
    };
    let ready = || limiter.waiting() >= going.load(Ordering::SeqCst);
    let (left, right) = drive_when(&time, &monitor, ready, || {
        thread::scope(|scope| {
            let left = scope.spawn(|| all(&one));
            let right = all(&other);
            (left.join().unwrap(), right)
        })
    });
    assert!(
        left.iter()
            .all(|r| r.as_ref().unwrap().text().unwrap() == "one")
    );
    assert!(
        right
            .iter()
            .all(|r| r.as_ref().unwrap().text().unwrap() == "other")
    );
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 100);
    for (before, (at, _)) in (0..).zip(seen.iter()) {
        assert!(*at + ms(400) >= ms(100) * before, "{seen:?}");
    }
    assert!(seen.last().unwrap().0 >= ms(9_500));
    // Served in turn once both stand there: neither waits for the other's end.
    let last = |name| seen.iter().rposition(|(_, who)| *who == name).unwrap();
    assert!(last("one").min(last("other")) >= 80, "{seen:?}");
}

#[test]
fn a_pause_by_one_client_holds_the_other() {
    let bench = bench(|ask| match ask.index {
        0 => with(error(429, "x", "x"), &[("retry-after", "5")]),
        _ => says("ok"),
    });
    let clone = bench.client.clone();
    bench.run(|client| {
        thread::scope(|scope| {
            scope.spawn(|| client.chat("m", "one").send().unwrap());
            while bench.count() == 0 || client.limiter().in_flight() > 0 {
                thread::yield_now();
            }
            clone.chat("m", "two").send().unwrap();
        });
    });
    let times = bench.times();
    assert!(times[1..].iter().all(|at| *at >= secs(5)), "{times:?}");
}

#[cfg(feature = "parallel")]
#[test]
fn a_call_from_inside_a_rayon_task_works() {
    use rayon::prelude::*;

    let bench = bench_with(
        |builder| builder.concurrency(2),
        |ask| {
            if ask.index % 5 == 0 {
                error(500, "x", "x")
            } else {
                says(&ask.prompt())
            }
        },
    );
    // More tasks than rayon has threads, each a whole run, over one client's two places.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let answered: Vec<usize> = bench.run(|client| {
        pool.install(|| {
            (0..16)
                .into_par_iter()
                .map(|_| {
                    let replies = client.chat_all("m", &prompts(10));
                    replies.iter().filter(|reply| reply.is_ok()).count()
                })
                .collect()
        })
    });
    assert_eq!(answered, [10; 16]);
}

#[test]
fn a_closure_and_a_client_share_a_limiter() {
    let bench = bench_with(
        |builder| builder.requests_per_second(10).burst(1),
        |_| says("ok"),
    );
    let pool = tollgate::Pool::from_limiter(bench.client.limiter().clone())
        .unwrap()
        .with_monitor(&bench.monitor);
    bench.run(|client| {
        client.chat_all("m", &prompts(5));
        pool.try_map(&[(); 5], |()| Ok::<_, ()>(()), |()| Verdict::Fail)
    });
    assert!(bench.time.elapsed() >= ms(900), "{:?}", bench.time);
}
