//! Warm-up: the first requests go alone, and the others when these have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tollgate::{ErrorKind, Request};

use crate::bench::*;

#[test]
fn the_others_wait_until_the_first_has_been_tried_again() {
    let bench = bench_with(
        |builder| builder.warmup(1),
        |ask| match ask.index {
            0 => error(500, "server_error", "try again"),
            _ => says("ok"),
        },
    );
    let replies = bench.run(|client| client.chat_all("m", &prompts(30)));
    assert!(replies.iter().all(Result::is_ok));
    let times = bench.times();
    assert_eq!(times.len(), 31);
    assert!(times[0].is_zero() && times[1] > Duration::ZERO);
    assert!(times[1..].iter().all(|at| *at >= times[1]), "{times:?}");
    assert_eq!(replies[0].as_ref().unwrap().attempts(), 2);
}

#[test]
fn so_many_go_at_once_and_the_others_when_all_of_these_have_ended() {
    let (begun, ended) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let done = Arc::clone(&ended);
    let bench = bench_with(
        |builder| builder.warmup(3),
        move |ask| {
            begun.fetch_add(1, Ordering::SeqCst);
            if ask.index >= 3 {
                assert_eq!(done.load(Ordering::SeqCst), 3);
                return says("ok");
            }
            while begun.load(Ordering::SeqCst) < 3 {
                std::thread::yield_now();
            }
            done.fetch_add(1, Ordering::SeqCst);
            match ask.index {
                1 => error(400, "invalid", "no"),
                _ => says("ok"),
            }
        },
    );
    let mut failed = 0;
    bench
        .run(|client| {
            let requests = prompts(20).into_iter();
            client.for_each(requests.map(|text| Request::chat("m", text)), |outcome| {
                failed += usize::from(outcome.result.is_err());
            })
        })
        .unwrap();
    assert_eq!(
        (failed, bench.count()),
        (1, 20),
        "a panic is a failure, too"
    );
}

#[test]
fn an_outage_at_the_start_is_waited_out() {
    let bench = bench_with(
        |builder| builder.warmup(2),
        |ask| {
            if ask.at < secs(40) {
                refused()
            } else {
                says("ok")
            }
        },
    );
    let replies = bench.run(|client| client.chat_all("m", &prompts(50)));
    assert!(replies.iter().all(Result::is_ok));
}

#[test]
fn what_cannot_be_sent_warms_nothing() {
    let ended = AtomicUsize::new(0);
    let bench = bench_with(
        |builder| builder.warmup(1),
        move |ask| {
            if ask.index > 0 {
                assert_eq!(ended.load(Ordering::SeqCst), 1);
            } else {
                std::thread::sleep(ms(20));
                ended.fetch_add(1, Ordering::SeqCst);
            }
            says("ok")
        },
    );
    let request = |n| match n {
        0 | 1 => Request::post("//elsewhere", "{}"),
        _ => Request::chat("m", "hi").into(),
    };
    let replies = bench.run(|client| client.send_all((0..20).map(request)));
    let failed = replies.iter().filter_map(|reply| reply.as_ref().err());
    let failed: Vec<_> = failed.map(tollgate::Error::kind).collect();
    assert_eq!(failed, [ErrorKind::Invalid; 2]);
}

#[test]
fn a_cancel_ends_a_run_whose_first_request_waits() {
    let bench = bench_with(
        |builder| builder.warmup(1),
        |_| with(error(429, "slow", "slow down"), &[("retry-after", "60")]),
    );
    let (cancel, monitor) = (bench.cancel.clone(), bench.monitor.clone());
    let replies = bench.run(|client| {
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while monitor.snapshot().attempts == 0 {
                    std::thread::yield_now();
                }
                cancel.cancel();
            });
            client.chat_all("m", &prompts(9))
        })
    });
    let cancelled = |reply: &tollgate::Result<_>| {
        reply.as_ref().err().map(tollgate::Error::kind) == Some(ErrorKind::Cancelled)
    };
    assert!(replies.iter().all(cancelled), "{replies:?}");
    assert!(bench.count() < 9);
}
