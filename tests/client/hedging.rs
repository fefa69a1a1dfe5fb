//! Hedging: a second attempt beside one that takes too long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tollgate::{
    Client, ErrorKind, HttpRequest, Request, Retry, TransportError, TransportErrorKind,
    TransportStage,
};

use crate::bench::*;

/// Waits, as on the wire, until this attempt is cut off.
fn stalls(call: &HttpRequest<'_>) -> Outcome {
    while !call.cancel.is_aborted() {
        thread::yield_now();
    }
    Err(TransportError::new(
        TransportErrorKind::Aborted,
        TransportStage::Sent,
        "aborted",
    ))
}

/// A bench with hedging, whose provider answers all but the first prompt at once. What the first is
/// answered depends on its attempt, from 0, and on how often it has been asked so far.
fn bench_of_one(
    first: impl Fn(usize, &AtomicUsize, &HttpRequest<'_>) -> Outcome + Send + Sync + 'static,
) -> Bench {
    let asked = AtomicUsize::new(0);
    bench_with(
        |builder| builder.hedge(true),
        move |ask| {
            if ask.prompt() == "prompt 0" {
                return first(asked.fetch_add(1, Ordering::SeqCst), &asked, ask.call);
            }
            // So that the first attempt comes before its copy.
            wait_for(&asked, 1);
            says("others")
        },
    )
}

fn wait_for(asked: &AtomicUsize, attempts: usize) {
    while asked.load(Ordering::SeqCst) < attempts {
        thread::yield_now();
    }
}

/// What became of the first prompt: its answer, or the kind of its error, and its attempts.
type First = (Result<String, ErrorKind>, u32);

/// Sends 60 prompts.
fn run(bench: &Bench) -> First {
    let first = Mutex::new(None);
    let asks = prompts(60).into_iter();
    let asks = asks.map(|text| Request::chat("m", text));
    bench
        .run(|client: &Client| {
            client.for_each(asks, |outcome| {
                if outcome.index == 0 {
                    let attempts = match &outcome.result {
                        Ok(reply) => reply.attempts(),
                        Err(error) => error.attempts(),
                    };
                    assert_eq!(attempts, outcome.attempts);
                    let text = |reply: tollgate::Reply| reply.text().unwrap();
                    let result = outcome.result.map(text).map_err(|error| error.kind());
                    let other = first.lock().unwrap().replace((result, attempts));
                    assert_eq!(other, None, "delivered once");
                }
            })
        })
        .unwrap();
    assert_eq!(bench.client.limiter().in_flight(), 0);
    let first = first.lock().unwrap().take();
    first.unwrap()
}

fn answered(text: &str, attempts: u32) -> First {
    (Ok(text.to_owned()), attempts)
}

#[test]
fn the_answer_of_a_copy_is_taken_and_the_first_attempt_is_cut_off() {
    let bench = bench_of_one(|attempt, _, call| match attempt {
        0 => stalls(call),
        _ => says("copy"),
    });
    assert_eq!(run(&bench), answered("copy", 2));
    let progress = bench.progress();
    assert_eq!((progress.succeeded, progress.retries), (60, 0));
    assert!(progress.attempts <= 60 + progress.hedges, "{progress:?}");
    assert!((1..=3).contains(&progress.hedges), "{progress:?}");
    assert!(progress.hedges_won >= 1, "{progress:?}");
    // The answer of the attempt that was cut off is not lost: nobody asks for it again.
    assert_eq!(progress.possibly_billed, 0);
    assert!(progress.hedges_cut >= 1, "{progress:?}");
}

#[test]
fn a_copy_that_is_slower_still_is_cut_off() {
    let bench = bench_of_one(|attempt, asked, call| match attempt {
        0 => {
            wait_for(asked, 2);
            says("first")
        }
        _ => stalls(call),
    });
    assert_eq!(run(&bench), answered("first", 2));
    // On a slow machine another prompt gets a copy too, and either of the two may be first.
    let progress = bench.progress();
    assert!(progress.hedges_won < progress.hedges, "{progress:?}");
}

#[test]
fn where_one_fails_the_other_goes_on_alone() {
    for failing in [0, 1] {
        let failed = AtomicUsize::new(0);
        let bench = bench_of_one(move |attempt, asked, _| {
            wait_for(asked, 2);
            if attempt == failing {
                failed.store(1, Ordering::SeqCst);
                return error(400, "invalid", "no");
            }
            wait_for(&failed, 1);
            says("the other")
        });
        assert_eq!(run(&bench), answered("the other", 2), "{failing}");
        assert_eq!(bench.progress().failed, 0);
    }
}

#[test]
fn two_that_fail_are_one_failure_and_no_further_copy_is_sent() {
    let bench = bench_of_one(|attempt, asked, _| {
        if attempt < 2 {
            wait_for(asked, 2);
        }
        error(500, "server_error", "try again")
    });
    // Six that count, of which one was two.
    assert_eq!(run(&bench), (Err(ErrorKind::Server), 7));
    assert_eq!(bench.progress().retries, 5);
}

#[test]
fn where_both_succeed_one_is_delivered_and_the_tokens_of_both_are_counted() {
    let bench = bench_of_one(|attempt, asked, _| {
        if attempt < 2 {
            wait_for(asked, 2);
        }
        says("either")
    });
    assert_eq!(run(&bench), answered("either", 2));
    let progress = bench.progress();
    assert_eq!(progress.tokens, 15 * progress.attempts);
}

#[test]
fn an_answer_that_stops_the_run_is_not_waited_out() {
    let bench = bench_of_one(|attempt, _, call| match attempt {
        0 => stalls(call),
        _ => error(401, "invalid_api_key", "no such key"),
    });
    let (result, attempts) = run(&bench);
    assert_eq!((result, attempts), (Err(ErrorKind::Auth), 2));
}

/// The others cannot be delivered before the first, so nothing is pulled any more at some time.
#[test]
fn a_run_in_order_does_not_wait_behind_one_for_long() {
    let bench = bench_of_one(|attempt, _, call| match attempt {
        0 => stalls(call),
        _ => says("copy"),
    });
    let asks = (0..1_500).map(|n| Request::chat("m", format!("prompt {n}")));
    let texts: Vec<_> = bench.run(|client| {
        let outcomes = client.in_order(asks).unwrap();
        let text = |outcome: tollgate::Outcome<_, tollgate::Reply, _>| {
            outcome.result.unwrap().text().unwrap()
        };
        outcomes.map(text).collect()
    });
    assert_eq!(texts.len(), 1_500);
    assert!(texts[0] == "copy" && texts[1..].iter().all(|text| text == "others"));
}

#[test]
fn an_abort_ends_both() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let bench = bench_of_one(move |_, _, call| {
        counter.fetch_add(1, Ordering::SeqCst);
        stalls(call)
    });
    let first = thread::scope(|scope| {
        scope.spawn(|| {
            wait_for(&asked, 2);
            bench.cancel.abort();
        });
        run(&bench)
    });
    assert_eq!(first.0, Err(ErrorKind::Cancelled));
}

#[test]
fn nothing_is_hedged_unasked_nor_without_a_place_nor_without_a_second_attempt() {
    let bench = bench(|_| says("ok"));
    bench.run(|client| client.chat_all("m", &prompts(100)));
    assert_eq!((bench.count(), bench.progress().hedges), (100, 0));
    for (builder, setting) in [
        (Client::builder().concurrency(1), "concurrency"),
        (Client::builder().retry(Retry::never()), "max_attempts"),
    ] {
        let error = builder.no_auth().hedge(true).build().unwrap_err();
        assert_eq!(error.settings(), ["hedge", setting]);
    }
}
