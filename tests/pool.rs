//! The pool as its users see it: order, isolation, bounds, cancel, threads.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tollgate::{
    Binding, Cancel, Cost, ErrorKind, Event, Failure, Limiter, Monitor, Pool, Progress, Rate,
    Retry, Verdict, VirtualClock,
};

fn pool(concurrency: usize) -> Pool {
    Pool::new(concurrency).unwrap()
}

#[test]
fn results_come_in_the_order_of_the_input() {
    let items: Vec<u64> = (0..5_000).collect();
    let results = pool(16).map(&items, |n| n * 2);
    let results: Vec<u64> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(results, items.iter().map(|n| n * 2).collect::<Vec<_>>());
}

#[test]
fn an_empty_input_gives_an_empty_result() {
    assert!(pool(4).map(&[] as &[u8], |n| *n).is_empty());
    pool(4)
        .task(|_: &u8, _| Ok::<(), ()>(()))
        .for_each(Vec::new(), |_| panic!("no item, no outcome"))
        .unwrap();
}

#[test]
fn a_panicking_job_is_one_failed_item() {
    let items: Vec<u32> = (0..100).collect();
    let results = pool(8).map(&items, |n| {
        assert!(n % 10 != 3, "no threes: {n}");
        *n
    });
    for (item, result) in items.iter().zip(results) {
        if item % 10 == 3 {
            assert_eq!(result.unwrap_err().message(), format!("no threes: {item}"));
        } else {
            assert_eq!(result.unwrap(), *item);
        }
    }
}

#[test]
fn never_more_at_once_than_allowed() {
    let (now, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let items = vec![(); 300];
    let monitor = Monitor::new();
    pool(7).with_monitor(&monitor).map(&items, |()| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
        now.fetch_sub(1, Ordering::SeqCst);
    });
    assert_eq!(peak.load(Ordering::SeqCst), 7);
    assert_eq!(monitor.snapshot().in_flight_peak, 7);
    assert_eq!(monitor.snapshot().threads, 0, "all gone at the end");
}

#[test]
fn retries_until_it_works_and_counts_them() {
    let tries: Vec<AtomicUsize> = (0..50).map(|_| AtomicUsize::new(0)).collect();
    let monitor = Monitor::new();
    let quick = Retry::new()
        .initial_backoff(Duration::from_millis(1))
        .max_attempts(4);
    let results = pool(5).with_retry(quick).with_monitor(&monitor).try_map(
        &tries,
        |tries| match tries.fetch_add(1, Ordering::SeqCst) {
            0..3 => Err("not yet"),
            tries => Ok(tries),
        },
        |_| Verdict::Retry,
    );
    assert!(results.iter().all(|result| matches!(result, Ok(3))));
    let seen = monitor.snapshot();
    assert_eq!(
        (seen.attempts, seen.retries, seen.succeeded),
        (200, 150, 50)
    );
    assert_eq!(seen.backing_off, 0);
}

#[test]
fn gives_up_after_the_attempts_and_hands_the_last_error_over() {
    let results = pool(2)
        .with_retry(
            Retry::new()
                .initial_backoff(Duration::from_millis(1))
                .max_attempts(2),
        )
        .try_map(&[1, 2, 3], |n| Err::<(), _>(n * 10), |_| Verdict::Retry);
    let errors: Vec<i32> = results
        .into_iter()
        .map(|result| match result {
            Err(Failure::Job(error)) => error,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(errors, [10, 20, 30]);
}

#[test]
fn a_stop_ends_the_run_and_every_item_still_has_an_outcome() {
    let items: Vec<u32> = (0..1_000).collect();
    let worked = AtomicUsize::new(0);
    let results = pool(4).try_map(
        &items,
        |n| {
            worked.fetch_add(1, Ordering::SeqCst);
            if *n == 10 {
                return Err("the money is out");
            }
            // The thread that stops the run may be held up by the machine.
            if *n > 10 {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(*n)
        },
        |_| Verdict::Stop,
    );
    assert_eq!(results.len(), 1_000);
    assert!(matches!(results[10], Err(Failure::Job("the money is out"))));
    assert!(
        worked.load(Ordering::SeqCst) < 1_000,
        "what is new is left after it"
    );
    match &results[999] {
        Err(Failure::NotCompleted { reason, .. }) => {
            assert_eq!(reason.kind(), ErrorKind::Cancelled);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cancel_from_another_thread_ends_a_run_that_waits_at_the_limiter() {
    let cancel = Cancel::new();
    let limiter = Limiter::builder()
        .concurrency(4)
        .requests(Rate::per_hour(1))
        .build()
        .unwrap();
    let pool = Pool::from_limiter(limiter).unwrap().with_cancel(&cancel);
    let worked = AtomicUsize::new(0);
    let results = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            pool.try_map(
                &[0; 100],
                |_| {
                    worked.fetch_add(1, Ordering::SeqCst);
                    cancel.cancel();
                    Ok::<(), ()>(())
                },
                |()| Verdict::Fail,
            )
        });
        run.join().unwrap()
    });
    assert_eq!(worked.load(Ordering::SeqCst), 1);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(results.len(), 100);
}

#[test]
fn a_run_inside_its_own_job_is_refused_and_one_of_another_pool_is_not() {
    let (outer, other) = (pool(1), pool(1));
    let results = outer.try_map(
        &[()],
        |()| {
            let inner = outer.try_map(&[()], |()| Ok::<(), ()>(()), |()| Verdict::Fail);
            let Err(Failure::NotCompleted { reason, .. }) = &inner[0] else {
                panic!("{inner:?}")
            };
            assert_eq!(reason.kind(), ErrorKind::Nested);
            let kind = outer
                .limiter()
                .acquire(tollgate::Cost::ONE)
                .unwrap_err()
                .kind();
            assert_eq!(kind, ErrorKind::Nested);
            let fine = other.map(&[1], |n| n + 1);
            Ok::<_, ()>(fine[0].clone().unwrap())
        },
        |()| Verdict::Fail,
    );
    assert_eq!(*results[0].as_ref().unwrap(), 2);
    let nested = outer.map(&[()], |()| outer.map(&[()], |()| ()).len());
    assert!(nested[0].as_ref().unwrap_err().message().contains("permit"));
}

#[test]
fn a_lazy_input_is_pulled_no_further_than_the_window() {
    let pulled = AtomicUsize::new(0);
    let mut most_ahead = 0;
    let mut taken = 0;
    pool(4)
        .task(|n: &i32, _| Ok::<i32, ()>(*n))
        .for_each(
            (0..10_000).inspect(|_| {
                pulled.fetch_add(1, Ordering::SeqCst);
            }),
            |_| {
                most_ahead = most_ahead.max(pulled.load(Ordering::SeqCst) - taken);
                taken += 1;
            },
        )
        .unwrap();
    assert_eq!(taken, 10_000);
    // The outcome in hand has left the window, so that one more may have been pulled for it.
    assert!(most_ahead <= 1024 + 1, "{most_ahead}");
}

#[test]
fn outcomes_as_completed_end_when_the_input_does() {
    let indices: HashSet<u64> = pool(8)
        .task(|n: &u64, _| Ok::<_, ()>(*n))
        .as_completed(0..2_000)
        .unwrap()
        .map(|done| {
            assert_eq!(done.input, Some(done.index));
            assert_eq!(done.result.unwrap(), done.index);
            done.index
        })
        .collect();
    assert_eq!(indices.len(), 2_000);
}

#[test]
fn dropping_the_outcomes_stops_an_endless_input() {
    let pulled = std::sync::Arc::new(AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&pulled);
    let outcomes = pool(4)
        .task(|n: &u64, _| Ok::<_, ()>(*n))
        .as_completed((0..).inspect(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        }))
        .unwrap();
    assert_eq!(outcomes.take(10).count(), 10);
    assert!(pulled.load(Ordering::SeqCst) <= 10 + 1024 + 1);
}

#[test]
fn no_job_begins_after_the_outcomes_are_dropped() {
    static DROPPED: AtomicBool = AtomicBool::new(false);
    static LATE: AtomicUsize = AtomicUsize::new(0);
    let monitor = Monitor::new();
    let mut outcomes = pool(2)
        .with_monitor(&monitor)
        .task(|_: &u64, _| {
            if DROPPED.load(Ordering::SeqCst) {
                LATE.fetch_add(1, Ordering::SeqCst);
            }
            Ok::<_, ()>(())
        })
        .as_completed(0..1_000)
        .unwrap();
    let _three = (outcomes.next(), outcomes.next(), outcomes.next());
    drop(outcomes);
    DROPPED.store(true, Ordering::SeqCst);
    while monitor.snapshot().threads > 0 {
        std::thread::yield_now();
    }
    // A thread may have been between its look at the flag and its job: one each at the most.
    assert!(LATE.load(Ordering::SeqCst) <= 2);
}

#[test]
fn a_panic_in_the_input_is_the_last_outcome() {
    let outcomes = Mutex::new(Vec::new());
    pool(4)
        .task(|n: &i32, _| Ok::<i32, ()>(*n))
        .for_each(
            (0..).inspect(|n| assert!(*n < 5, "the input is torn")),
            |done| outcomes.lock().unwrap().push(done),
        )
        .unwrap();
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|done| done.index);
    assert_eq!(outcomes.len(), 6);
    match &outcomes[5].result {
        Err(Failure::Panicked(panicked)) => assert_eq!(panicked.message(), "the input is torn"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_in_the_consumer_ends_the_run_and_comes_out_here() {
    let caught = std::panic::catch_unwind(|| {
        pool(4)
            .task(|n: &u64, _| Ok::<u64, ()>(*n))
            .for_each(0.., |done| assert!(done.index != 100, "enough"))
    });
    assert!(caught.is_err());
}

#[test]
fn a_slow_consumer_holds_threads_but_no_permits() {
    let pool = pool(4);
    let limiter = pool.limiter().clone();
    let mut seen = 0;
    pool.task(|n: &i32, _| Ok::<i32, ()>(*n))
        .for_each(0..200, |_| {
            seen += 1;
            if seen == 1 {
                // With nobody taking outcomes everything comes to rest, and nothing is held.
                while limiter.in_flight() > 0 {
                    std::thread::yield_now();
                }
            }
        })
        .unwrap();
    assert_eq!(seen, 200);
}

#[test]
fn an_item_that_backs_off_holds_neither_thread_nor_permit() {
    let time = VirtualClock::new();
    let limiter = Limiter::builder()
        .concurrency(1)
        .clock(time.clock())
        .build()
        .unwrap();
    let order = Mutex::new(Vec::new());
    let failed_once = AtomicBool::new(false);
    let pool = Pool::from_limiter(limiter)
        .unwrap()
        .with_retry(Retry::new().max_server_delay(None));
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            pool.try_map(
                &[0, 1, 2],
                |n| {
                    order.lock().unwrap().push(*n);
                    if *n == 0 && !failed_once.swap(true, Ordering::SeqCst) {
                        return Err(());
                    }
                    Ok(())
                },
                |()| Verdict::RetryAfter(Duration::from_secs(3_600)),
            )
        });
        time.wait_parked(1);
        assert_eq!(
            *order.lock().unwrap(),
            [0, 1, 2],
            "with one thread and one place"
        );
        time.advance(Duration::from_secs(3_599));
        assert_eq!(*order.lock().unwrap(), [0, 1, 2], "not before it is due");
        time.wait_parked(1);
        // The hint and up to 5 s more.
        time.advance(Duration::from_secs(6));
        let results = run.join().unwrap();
        assert!(results.iter().all(Result::is_ok));
    });
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 0]);
}

#[test]
fn a_wait_that_one_run_does_not_allow_holds_nobody_else() {
    let pool = pool(1);
    let limiter = pool.limiter().clone();
    let day = Duration::from_secs(86_400);
    let results = pool.try_map(&[0, 1], |_| Err::<(), _>(()), |()| Verdict::PauseAll(day));
    assert!(results.iter().all(Result::is_err), "the run stopped");
    assert!(
        limiter.try_acquire(Cost::ONE).is_ok(),
        "another run may have other limits, and hears of the wait itself"
    );
}

#[test]
fn a_wait_the_server_asked_for_holds_everyone() {
    let time = VirtualClock::new();
    let clock = time.clock();
    let limiter = Limiter::builder()
        .concurrency(3)
        .clock(clock.clone())
        .build()
        .unwrap();
    let start = clock.now();
    let begun = Mutex::new(Vec::new());
    let pool = Pool::from_limiter(limiter).unwrap();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            pool.try_map(
                &[0; 6],
                |_| {
                    let at = clock.now() - start;
                    begun.lock().unwrap().push(at);
                    if at.is_zero() { Err(()) } else { Ok(()) }
                },
                |()| Verdict::PauseAll(Duration::from_secs(2)),
            )
        });
        while !run.is_finished() {
            if time.parked() > 0 {
                time.advance_to_next();
            }
            std::thread::yield_now();
        }
        assert!(run.join().unwrap().iter().all(Result::is_ok));
    });
    let begun = begun.into_inner().unwrap();
    let late: Vec<_> = begun.iter().filter(|at| !at.is_zero()).collect();
    assert_eq!(late.len(), 6);
    assert!(
        late.iter().all(|at| **at >= Duration::from_secs(2)),
        "{late:?}"
    );
}

#[test]
fn a_server_that_is_down_for_a_while_costs_no_item() {
    let time = VirtualClock::new();
    let clock = time.clock();
    let limiter = Limiter::builder()
        .concurrency(20)
        .clock(clock.clone())
        .build()
        .unwrap();
    let start = clock.now();
    let refused = AtomicUsize::new(0);
    let pool = Pool::from_limiter(limiter)
        .unwrap()
        .with_retry(Retry::never());
    let items = vec![(); 200];
    let results = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            pool.try_map(
                &items,
                |()| {
                    if clock.now() - start < Duration::from_secs(20) {
                        refused.fetch_add(1, Ordering::SeqCst);
                        return Err(());
                    }
                    Ok(())
                },
                |()| Verdict::Unreachable,
            )
        });
        while !run.is_finished() {
            if time.parked() > 0 {
                time.advance_to_next();
            }
            std::thread::yield_now();
        }
        run.join().unwrap()
    });
    assert!(results.iter().all(Result::is_ok));
    // Those on their way when it was noticed, and a probe at 1, 3, 7 and 15 seconds.
    assert!(refused.load(Ordering::SeqCst) <= 20 + 4, "{refused:?}");
}

#[test]
fn threads_grow_to_what_is_in_flight_not_to_what_is_allowed() {
    let monitor = Monitor::new();
    let limiter = Limiter::builder()
        .concurrency(1_000)
        .requests(Rate::per_second(100))
        .burst(5)
        .build()
        .unwrap();
    let items = vec![(); 120];
    Pool::from_limiter(limiter)
        .unwrap()
        .with_monitor(&monitor)
        .map(&items, |()| std::thread::sleep(Duration::from_millis(5)));
    // Five at the start, one at the limiter, and on a machine that stalls a few more; without the
    // leader there would be 120.
    assert!(monitor.snapshot().threads_peak <= 60, "{monitor:?}");
}

/// The last of a long run may take minutes longer than the others.
#[test]
fn threads_that_are_not_needed_again_exit_and_a_retry_does_without_them() {
    let monitor = Monitor::new();
    let tries = AtomicUsize::new(0);
    let patience = Instant::now() + Duration::from_secs(600);
    let wait = |seen: &dyn Fn(&Progress) -> bool| {
        while !seen(&monitor.snapshot()) {
            assert!(Instant::now() < patience, "{monitor:?}");
            std::thread::yield_now();
        }
    };
    let results = pool(4)
        .with_retry(Retry::new().initial_backoff(Duration::from_millis(1)))
        .with_monitor(&monitor)
        .try_map(
            &[0, 1, 2, 3],
            |n| {
                wait(&|seen| seen.threads_peak == 4);
                if *n > 0 {
                    return Ok(());
                }
                wait(&|seen| seen.threads == 1);
                match tries.fetch_add(1, Ordering::SeqCst) {
                    0..2 => Err("not yet"),
                    _ => Ok(()),
                }
            },
            |_| Verdict::Retry,
        );
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn a_deadline_for_the_run_ends_it() {
    let time = VirtualClock::new();
    let limiter = Limiter::builder()
        .concurrency(2)
        .requests(Rate::per_second(1))
        .clock(time.clock())
        .build()
        .unwrap();
    let pool = Pool::from_limiter(limiter)
        .unwrap()
        .with_deadline(Duration::from_secs(5));
    let results = std::thread::scope(|scope| {
        let run =
            scope.spawn(|| pool.try_map(&[(); 20], |()| Ok::<(), ()>(()), |()| Verdict::Fail));
        while !run.is_finished() {
            if time.parked() > 0 {
                time.advance_to_next();
            }
            std::thread::yield_now();
        }
        run.join().unwrap()
    });
    let done = results.iter().filter(|result| result.is_ok()).count();
    assert!(
        done == 5 || done == 6,
        "one at 0 s, then one a second: {done}"
    );
    match results.last().unwrap() {
        Err(Failure::NotCompleted { reason, .. }) => assert_eq!(reason.kind(), ErrorKind::Deadline),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unusable_settings_are_refused() {
    assert_eq!(Pool::new(0).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(Pool::new(1_000_000).unwrap_err().kind(), ErrorKind::Config);
    let no_attempt = pool(1).with_retry(Retry::new().max_attempts(0));
    let results = no_attempt.try_map(&[1], |n| Ok::<i32, ()>(*n), |()| Verdict::Fail);
    let Err(Failure::NotCompleted { reason, .. }) = &results[0] else {
        panic!("{results:?}")
    };
    assert_eq!(reason.kind(), ErrorKind::Config);
    let lazily = no_attempt
        .task(|n: &i32, _| Ok::<i32, ()>(*n))
        .as_completed(0..);
    assert_eq!(lazily.unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn runs_that_share_a_limiter_share_its_places() {
    let limiter = Limiter::builder().concurrency(3).build().unwrap();
    let (now, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let pool = Pool::from_limiter(limiter.clone()).unwrap();
            let (now, peak) = (&now, &peak);
            scope.spawn(move || {
                let results = pool.map(&[(); 100], |()| {
                    peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                });
                assert_eq!(results.len(), 100);
            });
        }
    });
    assert!(peak.load(Ordering::SeqCst) <= 3);
    assert_eq!(limiter.in_flight(), 0);
}

/// A run on a clock that nobody advances: whatever waited for tokens would wait for ever.
fn paced_by_tokens(time: &VirtualClock) -> Pool {
    let limiter = Limiter::builder()
        .tokens(Rate::per_minute(6_000))
        .concurrency(1)
        .clock(time.clock());
    Pool::from_limiter(limiter.build().unwrap()).unwrap()
}

#[test]
fn an_attempt_reserves_what_its_item_costs_by_then() {
    let asked = AtomicUsize::new(0);
    let seen = Mutex::new(Vec::new());
    let results = pool(1)
        .with_retry(Retry::new().initial_backoff(Duration::from_millis(1)))
        .task(|_: &i32, attempt| {
            seen.lock().unwrap().push(attempt.cost().model_tokens());
            (attempt.number() == 3).then_some(()).ok_or(())
        })
        .cost(|_| Cost::tokens(10 + asked.fetch_add(1, Ordering::Relaxed) as u64))
        .verdict(|()| Verdict::Retry)
        .map(&[1]);
    assert!(results[0].is_ok());
    assert_eq!(*seen.lock().unwrap(), [10, 11, 12]);
}

#[test]
fn what_a_task_settles_is_given_back_to_the_token_limit() {
    let time = VirtualClock::new();
    let monitor = Monitor::new();
    let results = paced_by_tokens(&time)
        .with_monitor(&monitor)
        .task(|n: &u64, attempt| {
            assert_eq!(attempt.cost(), Cost::tokens(80));
            attempt.settle(2);
            if n.is_multiple_of(2) {
                Ok(())
            } else {
                Err("odd")
            }
        })
        .cost(|_| Cost::tokens(80))
        .map(&(0..10).collect::<Vec<_>>());
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5);
    assert_eq!(monitor.snapshot().tokens, 20);
}

#[test]
fn what_a_task_costs_is_waited_for_and_what_never_fits_is_refused() {
    let time = VirtualClock::new();
    let pool = paced_by_tokens(&time);
    let task = pool
        .task(|_: &u64, _| Ok::<_, ()>(()))
        .cost(|tokens| Cost::tokens(*tokens));
    let results = std::thread::scope(|scope| {
        let results = scope.spawn(|| task.map(&[100, 50, 6_001]));
        time.wait_parked(1);
        // 100 tokens a second.
        assert_eq!(time.advance_to_next(), Some(Duration::from_millis(500)));
        results.join().unwrap()
    });
    assert!(results[0].is_ok() && results[1].is_ok());
    match &results[2] {
        Err(Failure::NotCompleted { reason, .. }) => {
            assert_eq!(reason.kind(), ErrorKind::NeverFits);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_sees_its_attempt_and_may_stop_its_run() {
    let results = pool(1)
        .with_retry(Retry::new().initial_backoff(Duration::ZERO))
        .with_deadline(Duration::from_secs(3_600))
        .task(|n: &u32, attempt| {
            assert!(attempt.deadline().is_some());
            assert!(!attempt.cancel().is_cancelled());
            if attempt.number() < 3 {
                return Err("again");
            }
            if *n == 1 {
                attempt.cancel().cancel();
            }
            Ok(attempt.number())
        })
        .verdict(|_| Verdict::Retry)
        .map(&[0, 1, 2, 3]);
    let done: Vec<_> = results.iter().map_while(|r| r.as_ref().ok()).collect();
    assert_eq!(done, [&3, &3]);
    assert!(results[2..].iter().all(Result::is_err));
}

#[test]
fn outcomes_in_order_come_in_order_and_hold_the_input_to_the_window() {
    static PULLED: AtomicUsize = AtomicUsize::new(0);
    static AHEAD: AtomicUsize = AtomicUsize::new(0);
    let items = (0..5_000_u64).inspect(|_| {
        PULLED.fetch_add(1, Ordering::SeqCst);
    });
    let outcomes = pool(4)
        .task(|n: &u64, _| {
            if *n == 0 {
                // Until everything else that may be pulled has been, and for a while after it.
                while PULLED.load(Ordering::SeqCst) < 1_024 {
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_millis(50));
                AHEAD.store(PULLED.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            Ok::<_, ()>(*n)
        })
        .in_order(items)
        .unwrap();
    let indices: Vec<_> = outcomes
        .map(|done| {
            assert_eq!(done.result.unwrap(), done.index);
            done.index
        })
        .collect();
    assert!(indices.into_iter().eq(0..5_000));
    assert_eq!(AHEAD.load(Ordering::SeqCst), 1_024);
}

#[test]
fn a_stopped_run_in_order_still_gives_every_outcome_it_pulled() {
    let mut last = None;
    let outcomes = pool(4)
        .task(|n: &u64, _| if *n == 40 { Err(()) } else { Ok(*n) })
        .verdict(|()| Verdict::Stop)
        .in_order(0..)
        .unwrap();
    for done in outcomes {
        assert_eq!(done.index, last.map_or(0, |last| last + 1));
        assert_eq!(done.stopped_run, done.index == 40);
        last = Some(done.index);
    }
    assert!(last >= Some(40));
}

#[test]
fn an_observer_is_told_of_everything_in_its_order() {
    let events = std::sync::Arc::new(Mutex::new(Vec::new()));
    let (told, time) = (std::sync::Arc::clone(&events), VirtualClock::new());
    let limiter = Limiter::builder().concurrency(1).clock(time.clock());
    let limiter = limiter.build().unwrap();
    let asked = limiter.clone();
    let pool = Pool::from_limiter(limiter)
        .unwrap()
        .with_observer(move |event: &Event| {
            // No lock is held: whatever the limiter and the monitor have may be asked for.
            let _may_ask = asked.in_flight();
            told.lock().unwrap().push(*event);
        });
    let wait = Duration::from_secs(5);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            pool.task(|n: &u64, attempt| match (n, attempt.number()) {
                (0, 1) => Err("wait"),
                (0, _) => Ok(()),
                _ => Err("no"),
            })
            .verdict(|error| match *error {
                "wait" => Verdict::PauseAll(Duration::from_secs(5)),
                _ => Verdict::Fail,
            })
            .map(&[0, 1])
        });
        while !run.is_finished() {
            time.advance_to_next();
            std::thread::yield_now();
        }
    });
    let events = events.lock().unwrap().clone();
    let of = |index| {
        events.iter().filter(move |event| match event {
            Event::AttemptStarted { index: of, .. }
            | Event::Retry { index: of, .. }
            | Event::Done { index: of, .. } => *of == index,
            _ => false,
        })
    };
    let retried: Vec<_> = of(0).collect();
    match retried[..] {
        [
            Event::AttemptStarted { attempt: 1, .. },
            Event::Retry {
                attempt: 1,
                kind: None,
                wait: waits,
                ..
            },
            Event::AttemptStarted { attempt: 2, .. },
            Event::Done {
                attempts: 2,
                succeeded: true,
                ..
            },
        ] => assert!(*waits >= wait),
        _ => panic!("{events:?}"),
    }
    assert!(matches!(
        of(1).collect::<Vec<_>>()[..],
        [
            Event::AttemptStarted { attempt: 1, .. },
            Event::Done {
                attempts: 1,
                succeeded: false,
                ..
            },
        ]
    ));
    assert!(events.contains(&Event::Pause { wait }));
    // One place for two items, and then the pause.
    for binding in [Binding::InFlight, Binding::Pause] {
        assert!(events.contains(&Event::Binding { binding }), "{events:?}");
    }
    assert_eq!(events.len(), 9, "{events:?}");
}

#[test]
fn an_observer_is_told_of_another_concurrency() {
    let limiter = Limiter::builder().concurrency(1).build().unwrap();
    let events = std::sync::Arc::new(Mutex::new(Vec::new()));
    let (told, changed) = (std::sync::Arc::clone(&events), limiter.clone());
    let pool = Pool::from_limiter(limiter)
        .unwrap()
        .with_observer(move |event: &Event| told.lock().unwrap().push(*event));
    for at_once in [3, 3, 1] {
        pool.map(&[at_once], |at_once| {
            changed.set_concurrency(*at_once).unwrap();
        });
    }
    let events = events.lock().unwrap();
    let numbers = events.iter().filter_map(|event| match event {
        Event::Concurrency { at_once } => Some(*at_once),
        _ => None,
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [3, 1], "{events:?}");
}

#[test]
fn a_panic_in_an_observer_fails_no_item() {
    let results = pool(4)
        .with_observer(|event: &Event| panic!("{event:?}"))
        .map(&[1, 2, 3], |n| n * 2);
    assert!(results.iter().all(Result::is_ok));
}

#[test]
fn threads_grow_with_what_may_be_in_flight_though_all_are_busy() {
    let limiter = Limiter::builder().concurrency(2).build().unwrap();
    let monitor = Monitor::new();
    let pool = Pool::from_limiter(limiter.clone()).unwrap();
    let items: Vec<u32> = (0..200).collect();
    pool.with_monitor(&monitor).map(&items, |n| {
        if *n == 10 {
            limiter.set_concurrency(8).unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    });
    assert_eq!(monitor.snapshot().in_flight_peak, 8);
}
