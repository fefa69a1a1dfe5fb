//! The limiter as its users see it. Time is virtual unless a test says otherwise: a thread that waits
//! is parked until the test moves the clock, so that every instant is exact.

// A time that underflows here is a test that fails.
#![expect(clippy::unchecked_time_subtraction)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tollgate::{
    Binding, Cancel, Cost, ErrorKind, Limiter, LimiterBuilder, Permit, Pool, Rate, Refusal,
    VirtualClock,
};

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn virtual_limiter(settings: impl Fn(LimiterBuilder) -> LimiterBuilder) -> (VirtualClock, Limiter) {
    let time = VirtualClock::new();
    let limiter = settings(Limiter::builder().clock(time.clock())).build();
    (time, limiter.unwrap())
}

fn spin_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

/// Moves the clock from one awaited instant to the next until all of these threads are through.
fn drive<T>(time: &VirtualClock, threads: Vec<thread::ScopedJoinHandle<'_, T>>) -> Vec<T> {
    while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
        if time.advance_to_next().is_none() {
            thread::yield_now();
        }
    }
    let results = threads.into_iter().map(|thread| thread.join().unwrap());
    results.collect()
}

/// When the limiter opens for this cost, as an offset from now; zero if it is open.
fn opens_in(limiter: &Limiter, cost: Cost) -> Duration {
    match limiter.try_acquire(cost) {
        Ok(_) => Duration::ZERO,
        Err(Refusal::NotUntil(at)) => at.saturating_duration_since(limiter.clock().now()),
        Err(other) => panic!("{other:?}"),
    }
}

fn now(limiter: &Limiter, cost: Cost) -> Permit {
    limiter.try_acquire(cost).unwrap()
}

/// Waits so long in vain, exactly.
fn timed_out(time: &VirtualClock, limiter: &Limiter, cost: Cost, timeout: Duration) {
    thread::scope(|scope| {
        let waiter = scope.spawn(|| limiter.acquire_timeout(cost, timeout).map(drop));
        time.wait_parked(1);
        time.advance(timeout);
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline);
    });
}

mod pace {
    use super::*;

    const ACQUIRES: u64 = 10_000;

    /// The check that the flawed bucket below must not pass.
    fn is_paced(elapsed: Duration, rate: Rate, burst: u64) -> bool {
        let spread = u128::from(ACQUIRES - burst) * rate.period().as_nanos();
        elapsed.as_nanos() * u128::from(rate.units()) >= spread
    }

    fn time_of_limiter(rate: Rate, burst: u64, threads: u64) -> Duration {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(rate).burst(burst));
        thread::scope(|scope| {
            let threads = (0..threads).map(|_| {
                scope.spawn(|| {
                    for _ in 0..ACQUIRES / threads {
                        drop(limiter.acquire(Cost::ONE).unwrap());
                    }
                })
            });
            let threads = threads.collect();
            drive(&time, threads);
        });
        time.elapsed()
    }

    /// The bucket this crate was made to replace: it sleeps for what is missing and then forgets
    /// that it slept, so that the next caller is credited with the same time again.
    fn time_of_flawed_bucket(rate: Rate, burst: u64) -> Duration {
        let per_second = rate.units_per_second();
        let capacity = burst as f64;
        let (mut now, mut last, mut tokens) = (0.0, 0.0, capacity);
        for _ in 0..ACQUIRES {
            tokens = f64::min(capacity, tokens + (now - last) * per_second);
            last = now;
            if tokens < 1.0 {
                now += (1.0 - tokens) / per_second;
                tokens = 0.0;
            } else {
                tokens -= 1.0;
            }
        }
        Duration::from_secs_f64(now)
    }

    #[test]
    fn ten_thousand_take_as_long_as_their_rate_says_and_the_flawed_bucket_is_caught() {
        for (rate, burst, threads) in [
            (Rate::per_second(10), 10, 1),
            (Rate::per_second(500), 1, 4),
            (Rate::per_minute(600), 600, 2),
            (Rate::per_second(7), 7, 2),
            (Rate::per_day(1), 1, 1),
        ] {
            let elapsed = time_of_limiter(rate, burst, threads);
            assert!(is_paced(elapsed, rate, burst), "{rate:?}: {elapsed:?}");
            // And not a nanosecond longer: nothing is rounded from one grant to the next.
            assert!(!is_paced(elapsed - NANO, rate, burst), "{rate:?}: slow");

            let flawed = time_of_flawed_bucket(rate, burst);
            assert!(!is_paced(flawed, rate, burst), "{rate:?}: {flawed:?}");
        }
    }

    #[test]
    fn the_default_burst_is_one_second_worth_and_at_least_one() {
        for (rate, burst) in [
            (Rate::per_second(10), 10),
            (Rate::per_minute(600), 10),
            (Rate::per_minute(90), 1),
            (Rate::per_day(1), 1),
        ] {
            let (_, limiter) = virtual_limiter(|limiter| limiter.requests(rate));
            let at_once = (0..100).take_while(|_| limiter.try_acquire(Cost::ONE).is_ok());
            assert_eq!(at_once.count(), burst, "{rate:?}");
        }
    }

    /// Real clock: never early. How late is the machine's affair.
    #[test]
    fn the_machines_clock_is_never_ahead() {
        let started = Instant::now();
        let limiter = Limiter::builder()
            .requests(Rate::per_second(400))
            .burst(3)
            .build()
            .unwrap();
        let times = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        drop(limiter.acquire(Cost::ONE).unwrap());
                        times.lock().unwrap().push(started.elapsed());
                    }
                });
            }
        });
        let mut times = times.into_inner().unwrap();
        times.sort_unstable();
        for (earlier, at) in times.iter().enumerate().skip(3) {
            let due = SECOND * u32::try_from(earlier + 1 - 3).unwrap() / 400;
            assert!(*at >= due, "grant {earlier} at {at:?}, due at {due:?}");
        }
    }
}

mod asking {
    use super::*;

    #[test]
    fn try_answers_exactly_when() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_second(3)));
        for _ in 0..3 {
            drop(now(&limiter, Cost::ONE));
        }
        let wait = opens_in(&limiter, Cost::ONE);
        assert_eq!(wait, Duration::from_nanos(333_333_334), "rounded up");
        time.advance(wait - NANO);
        assert_eq!(opens_in(&limiter, Cost::ONE), NANO, "and never early");
        time.advance(NANO);
        drop(now(&limiter, Cost::ONE));
    }

    #[test]
    fn try_does_not_overtake_those_who_wait() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.tokens(Rate::per_second(10)));
        drop(now(&limiter, Cost::tokens(10)));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire(Cost::tokens(10)).map(drop));
            time.wait_parked(1);
            time.advance(SECOND / 2);
            let refused = limiter.try_acquire(Cost::tokens(1)).unwrap_err();
            assert!(matches!(refused, Refusal::Busy), "{refused}");
            drive(&time, vec![waiter])[0].as_ref().unwrap();
        });
        assert_eq!(time.elapsed(), SECOND);
    }

    #[test]
    fn nothing_is_reserved_by_asking_in_vain() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_second(1)));
        drop(now(&limiter, Cost::ONE));
        for asked in 0..100 {
            assert_eq!(opens_in(&limiter, Cost::ONE), SECOND - SECOND / 200 * asked);
            timed_out(&time, &limiter, Cost::ONE, SECOND / 200);
        }
        assert_eq!(opens_in(&limiter, Cost::ONE), SECOND / 2);
        assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
    }

    #[test]
    fn a_timeout_ends_a_wait_for_a_permit_and_the_next_in_line_goes_on() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.concurrency(1));
        let held = now(&limiter, Cost::ONE);
        thread::scope(|scope| {
            let impatient = scope.spawn(|| limiter.acquire_timeout(Cost::ONE, SECOND).map(drop));
            time.wait_parked(1);
            let patient = scope.spawn(|| limiter.acquire(Cost::ONE).map(drop));
            time.wait_parked(2);
            time.advance(SECOND - NANO);
            assert_eq!(time.parked(), 2);
            time.advance(NANO);
            let error = impatient.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Deadline);
            drop(held);
            patient.join().unwrap().unwrap();
        });
        assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
    }

    #[test]
    fn a_time_that_is_just_enough_is_enough() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_second(1)));
        drop(now(&limiter, Cost::ONE));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire_timeout(Cost::ONE, SECOND).map(drop));
            drive(&time, vec![waiter])[0].as_ref().unwrap();
        });
        assert_eq!(time.elapsed(), SECOND);
    }

    #[test]
    fn a_cancelled_head_gives_its_turn_to_the_next_and_takes_nothing() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.tokens(Rate::per_second(100)));
        drop(now(&limiter, Cost::tokens(100)));
        let cancel = Cancel::new();
        thread::scope(|scope| {
            let head = scope.spawn(|| limiter.acquire_cancellable(Cost::tokens(100), &cancel));
            time.wait_parked(1);
            let next = scope.spawn(|| limiter.acquire(Cost::tokens(10)).map(drop));
            time.wait_parked(2);
            cancel.cancel();
            let error = head.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            time.wait_parked(1);
            assert_eq!(time.advance_to_next(), Some(SECOND / 10), "re-timed");
            next.join().unwrap().unwrap();
        });
        let late = limiter.acquire_cancellable(Cost::ZERO, &cancel);
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn a_cancel_in_the_middle_of_the_queue_leaves_the_others_in_order() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.concurrency(1));
        let held = now(&limiter, Cost::ONE);
        let cancel = Cancel::new();
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for name in 0..9 {
                let (limiter, cancel, order) = (&limiter, &cancel, &order);
                scope.spawn(move || {
                    let permit = if name % 3 == 1 {
                        limiter.acquire_cancellable(Cost::ONE, cancel)
                    } else {
                        limiter.acquire(Cost::ONE)
                    };
                    if permit.is_ok() {
                        order.lock().unwrap().push(name);
                    }
                });
                time.wait_parked(name + 1);
            }
            cancel.cancel();
            spin_until(|| limiter.waiting() == 6);
            drop(held);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 2, 3, 5, 6, 8]);
    }

    #[test]
    fn never_fits_is_said_at_once() {
        let (_, limiter) = virtual_limiter(|limiter| {
            let limiter = limiter.requests(Rate::per_minute(60));
            limiter.tokens(Rate::per_minute(600)).concurrency(1)
        });
        // Even with the house full and nothing to be had.
        let _held = now(&limiter, Cost::tokens(10));
        for cost in [Cost::tokens(601), Cost::ONE.with_requests(61)] {
            let error = limiter.acquire(cost).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NeverFits, "{cost:?}");
            let refused = limiter.try_acquire(cost).unwrap_err();
            assert!(matches!(refused, Refusal::Never(_)), "{refused}");
        }
    }

    #[test]
    fn inside_a_job_it_has_admitted_is_an_error_and_not_a_deadlock() {
        let limiter = Limiter::builder().concurrency(1).build().unwrap();
        let other = Limiter::builder().concurrency(1).build().unwrap();
        let pool = Pool::from_limiter(limiter.clone()).unwrap();
        let kinds = pool.map(&[()], |()| {
            drop(other.acquire(Cost::ONE).unwrap());
            let waits = limiter.acquire(Cost::ONE).unwrap_err().kind();
            let tries = match limiter.try_acquire(Cost::ONE) {
                Err(Refusal::Never(error)) => error.kind(),
                other => panic!("{other:?}"),
            };
            (waits, tries)
        });
        let nested = (ErrorKind::Nested, ErrorKind::Nested);
        assert_eq!(*kinds[0].as_ref().unwrap(), nested);
        // A plain thread may hold several: it knows what it does.
        let wide = Limiter::builder().concurrency(2).build().unwrap();
        let _both = (now(&wide, Cost::ONE), wide.acquire(Cost::ONE).unwrap());
    }

    #[test]
    fn a_cost_of_nothing_counts_as_in_flight_and_nothing_else() {
        let (_, limiter) =
            virtual_limiter(|limiter| limiter.requests(Rate::per_day(1)).tokens(Rate::per_day(1)));
        drop(now(&limiter, Cost::tokens(1)));
        let permits: Vec<_> = (0..50)
            .map(|_| limiter.acquire(Cost::ZERO).unwrap())
            .collect();
        assert_eq!(limiter.in_flight(), 50);
        drop(permits);
        assert_eq!(limiter.in_flight(), 0);
    }
}

mod turns {
    use super::*;

    #[test]
    fn two_hundred_with_mixed_costs_go_in_the_order_in_which_they_came() {
        const WAITERS: usize = 200;
        // One permit, so that the order in which they report is the order of their grants.
        let (time, limiter) = virtual_limiter(|limiter| {
            let limiter = limiter.requests(Rate::per_second(5)).concurrency(1);
            limiter.tokens(Rate::per_minute(6_000)).token_burst(100)
        });
        let held = now(&limiter, Cost::tokens(100));
        let order = Mutex::new(Vec::new());
        thread::scope(|scope| {
            let mut threads = Vec::new();
            for name in 0..WAITERS {
                let (limiter, order) = (&limiter, &order);
                threads.push(scope.spawn(move || {
                    let cost = [1, 900, 40, 0, 5_000, 3][name % 6];
                    let _permit = limiter.acquire(Cost::tokens(cost)).unwrap();
                    order.lock().unwrap().push(name);
                }));
                time.wait_parked(name + 1);
            }
            assert_eq!(limiter.waiting(), WAITERS);
            drop(held);
            drive(&time, threads);
        });
        let order = order.into_inner().unwrap();
        assert!(order.into_iter().eq(0..WAITERS));
    }

    #[test]
    fn a_huge_cost_does_not_starve_behind_a_stream_of_small_ones() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.tokens(Rate::per_minute(6_000)));
        drop(now(&limiter, Cost::tokens(100)));
        let served = AtomicBool::new(false);
        let small = AtomicUsize::new(0);
        thread::scope(|scope| {
            let huge = scope.spawn(|| {
                drop(limiter.acquire(Cost::tokens(6_000)).unwrap());
                served.store(true, Ordering::SeqCst);
                limiter.clock().now()
            });
            time.wait_parked(1);
            let mut threads = vec![huge];
            for _ in 0..4 {
                threads.push(scope.spawn(|| {
                    while !served.load(Ordering::SeqCst) {
                        drop(limiter.acquire(Cost::tokens(1)).unwrap());
                        small.fetch_add(1, Ordering::SeqCst);
                    }
                    limiter.clock().now()
                }));
            }
            time.wait_parked(5);
            assert_eq!(time.advance_to_next(), Some(SECOND), "a full bucket");
            drive(&time, threads);
        });
        // Those that stood behind it paid its debt of 5,900 first.
        assert!(time.elapsed() >= SECOND * 60, "{:?}", time.elapsed());
        assert!(small.load(Ordering::SeqCst) >= 4);
    }

    #[test]
    fn how_long_was_waited_is_told_by_reason() {
        let (time, limiter) = virtual_limiter(|limiter| {
            limiter
                .requests(Rate::per_second(1))
                .tokens(Rate::per_minute(60))
        });
        drop(now(&limiter, Cost::tokens(1)));
        let waited = thread::scope(|scope| {
            let first = scope.spawn(|| limiter.acquire(Cost::tokens(3)).unwrap().waited());
            time.wait_parked(1);
            let second = scope.spawn(|| limiter.acquire(Cost::ZERO).unwrap().waited());
            time.wait_parked(2);
            drive(&time, vec![first, second])
        });
        assert_eq!(waited[0].of(Binding::Requests), SECOND);
        assert_eq!(waited[1].of(Binding::Queue), SECOND);
        assert_eq!(waited[1].total(), SECOND);
    }
}

mod tokens {
    use super::*;

    fn limiter() -> (VirtualClock, Limiter) {
        virtual_limiter(|limiter| limiter.tokens(Rate::per_minute(600)))
    }

    #[test]
    fn a_cost_above_the_burst_waits_for_a_full_bucket_and_leaves_a_debt() {
        let (time, limiter) = limiter();
        drop(now(&limiter, Cost::tokens(1)));
        let wait = opens_in(&limiter, Cost::tokens(300));
        assert_eq!(wait, SECOND / 10, "one token is missing to a full bucket");
        time.advance(wait);
        drop(now(&limiter, Cost::tokens(300)));
        assert_eq!(
            opens_in(&limiter, Cost::tokens(1)),
            SECOND * 29 + SECOND / 10,
            "290 of debt and the one asked for"
        );
    }

    #[test]
    fn settling_below_gives_back_and_above_takes_more() {
        let (_, limiter) = limiter();
        now(&limiter, Cost::tokens(10)).settle(4);
        assert_eq!(opens_in(&limiter, Cost::tokens(7)), SECOND / 10);
        now(&limiter, Cost::tokens(6)).settle(36);
        assert_eq!(
            opens_in(&limiter, Cost::tokens(1)),
            SECOND * 3 + SECOND / 10
        );
    }

    #[test]
    fn a_refund_never_fills_above_the_burst() {
        let (time, limiter) = limiter();
        let permit = now(&limiter, Cost::tokens(10));
        time.advance(SECOND);
        permit.settle(0);
        drop(now(&limiter, Cost::tokens(10)));
        assert_eq!(opens_in(&limiter, Cost::tokens(10)), SECOND);
    }

    #[test]
    fn a_refund_wakes_the_head() {
        let (time, limiter) = limiter();
        let permit = now(&limiter, Cost::tokens(10));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire(Cost::tokens(10)).map(drop));
            time.wait_parked(1);
            permit.settle(0);
            waiter.join().unwrap().unwrap();
        });
        assert_eq!(time.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_panic_drops_the_permit_and_keeps_the_estimate() {
        let (_, limiter) =
            virtual_limiter(|limiter| limiter.tokens(Rate::per_minute(600)).concurrency(1));
        let job = AssertUnwindSafe(|| {
            let _permit = limiter.acquire(Cost::tokens(10)).unwrap();
            // Not `panic!`, whose message would be printed among the results.
            std::panic::resume_unwind(Box::new("a job that fails"));
        });
        catch_unwind(job).unwrap_err();
        assert_eq!(limiter.in_flight(), 0);
        assert_eq!(opens_in(&limiter, Cost::tokens(1)), SECOND / 10);
    }

    #[test]
    fn requests_are_never_given_back() {
        let (_, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_minute(60)));
        now(&limiter, Cost::ONE).settle(0);
        assert_eq!(opens_in(&limiter, Cost::ONE), SECOND);
    }

    #[test]
    fn a_usage_beyond_all_bounds_is_a_long_wait_and_no_panic() {
        let (time, limiter) = limiter();
        now(&limiter, Cost::tokens(1)).settle(u64::MAX);
        assert!(opens_in(&limiter, Cost::tokens(1)) > SECOND * 60 * 60 * 24 * 365);
        timed_out(&time, &limiter, Cost::tokens(1), SECOND);
    }
}

mod pauses {
    use super::*;

    #[test]
    fn it_holds_everyone_and_restarts_at_the_rate_without_a_burst() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_second(10)));
        limiter.pause_for(SECOND * 5);
        limiter.pause_for(SECOND * 2);
        assert_eq!(
            opens_in(&limiter, Cost::ZERO),
            SECOND * 5,
            "never shortened, and it holds a cost of nothing too"
        );
        for grant in 1..=30_u32 {
            time.advance(opens_in(&limiter, Cost::ONE));
            drop(now(&limiter, Cost::ONE));
            assert_eq!(time.elapsed(), SECOND * 5 + SECOND / 10 * grant);
        }
    }

    #[test]
    fn a_wait_is_for_the_pause_until_its_end_and_then_for_the_rate() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_second(1)));
        limiter.pause_for(SECOND * 5);
        let waited = thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire(Cost::ONE).unwrap().waited());
            drive(&time, vec![waiter])
        });
        assert_eq!(waited[0].of(Binding::Pause), SECOND * 5);
        assert_eq!(waited[0].of(Binding::Requests), SECOND);
    }

    #[test]
    fn without_a_rate_requests_start_evenly_over_a_second() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.concurrency(50));
        limiter.pause_for(SECOND * 5);
        let mut held = Vec::new();
        for grant in 0..50_u32 {
            time.advance(opens_in(&limiter, Cost::ONE));
            held.push(now(&limiter, Cost::ONE));
            assert_eq!(time.elapsed(), SECOND * 5 + SECOND / 50 * grant);
        }
        drop(held);
        time.advance(SECOND / 50);
        let at_once: Vec<_> = (0..50).map(|_| now(&limiter, Cost::ONE)).collect();
        assert_eq!(at_once.len(), 50, "and then freely");
    }

    #[test]
    fn a_limit_lifted_or_set_meanwhile_does_not_bring_the_burst_back() {
        let (_, limiter) =
            virtual_limiter(|limiter| limiter.requests(Rate::per_second(10)).concurrency(4));
        limiter.pause_for(SECOND * 5);
        limiter.set_requests(None).unwrap();
        assert_eq!(
            opens_in(&limiter, Cost::ONE),
            SECOND * 5,
            "the first of four"
        );
        limiter.set_requests(Some(Rate::per_second(2))).unwrap();
        assert_eq!(opens_in(&limiter, Cost::ONE), SECOND * 5 + SECOND / 2);
    }

    #[test]
    fn a_refund_or_a_change_of_rate_may_still_come_before_a_deadline() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.tokens(Rate::per_second(10)));
        let held = limiter.acquire(Cost::tokens(10)).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire_timeout(Cost::tokens(10), SECOND / 2));
            time.wait_parked(1);
            held.settle(0);
            drop(waiter.join().unwrap().unwrap());
        });
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_hour(1)));
        drop(now(&limiter, Cost::ONE));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire_timeout(Cost::ONE, SECOND * 5));
            time.wait_parked(1);
            limiter.set_requests(Some(Rate::per_second(1_000))).unwrap();
            time.wait_parked(1);
            time.advance(SECOND);
            drop(waiter.join().unwrap().unwrap());
        });
    }

    #[test]
    fn one_beyond_the_deadline_is_an_error_at_once_wherever_one_stands() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.concurrency(1));
        let held = now(&limiter, Cost::ONE);
        thread::scope(|scope| {
            let waiters: Vec<_> = (0..3)
                .map(|waiting| {
                    let waiter = scope.spawn(|| limiter.acquire_timeout(Cost::ONE, SECOND * 9));
                    time.wait_parked(waiting + 1);
                    waiter
                })
                .collect();
            limiter.pause_for(SECOND * 10);
            for waiter in waiters {
                let error = waiter.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Deadline);
            }
            let late = limiter.acquire_timeout(Cost::ONE, SECOND * 9).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::Deadline);
        });
        assert_eq!(time.elapsed(), Duration::ZERO);
        drop(held);
    }

    #[test]
    fn a_head_that_lay_down_before_it_does_not_slip_through() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_second(1)));
        drop(now(&limiter, Cost::ONE));
        thread::scope(|scope| {
            let head = scope.spawn(|| limiter.acquire(Cost::ONE).map(drop));
            time.wait_parked(1);
            limiter.pause_for(SECOND * 3);
            drive(&time, vec![head])[0].as_ref().unwrap();
        });
        assert_eq!(time.elapsed(), SECOND * 4);
    }

    /// Real clock: an endless pause is neither a panic nor a busy loop, and a cancel ends it.
    #[test]
    fn for_ever_can_be_called_off() {
        let limiter = Limiter::builder().concurrency(2).build().unwrap();
        limiter.pause_for(Duration::MAX);
        limiter.pause_for(Duration::MAX);
        assert!(opens_in(&limiter, Cost::ONE) > SECOND * 60 * 60 * 24 * 365 * 50);
        let cancel = Cancel::new();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire_cancellable(Cost::ONE, &cancel));
            spin_until(|| limiter.waiting() == 1);
            cancel.cancel();
            let error = waiter.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        });
        let error = limiter.acquire_timeout(Cost::ONE, SECOND * 60);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Deadline);
        assert_eq!(limiter.waiting(), 0);
    }

    #[test]
    fn one_that_is_over_before_it_begins_is_none() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_second(2)));
        let past = limiter.clock().now();
        time.advance(SECOND);
        limiter.pause_until(past);
        limiter.pause_for(Duration::ZERO);
        drop(now(&limiter, Cost::ONE.with_requests(2)));
    }
}

mod changes {
    use super::*;

    #[test]
    fn a_hundred_who_wait_an_hour_each_are_re_timed_at_once() {
        const WAITERS: u32 = 100;
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_hour(1)));
        drop(now(&limiter, Cost::ONE));
        thread::scope(|scope| {
            let threads: Vec<_> = (0..WAITERS)
                .map(|_| scope.spawn(|| limiter.acquire(Cost::ONE).map(drop)))
                .collect();
            time.wait_parked(WAITERS as usize);
            limiter.set_requests(Some(Rate::per_second(1_000))).unwrap();
            for granted in drive(&time, threads) {
                granted.unwrap();
            }
        });
        assert_eq!(time.elapsed(), SECOND / 1_000 * WAITERS);
    }

    #[test]
    fn a_rate_that_is_lowered_keeps_what_was_earned_and_slows_those_who_wait() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_second(10)));
        for _ in 0..10 {
            drop(now(&limiter, Cost::ONE));
        }
        thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire(Cost::ONE).map(drop));
            time.wait_parked(1);
            time.advance(SECOND / 20);
            limiter.set_requests(Some(Rate::per_minute(60))).unwrap();
            drive(&time, vec![waiter])[0].as_ref().unwrap();
        });
        assert_eq!(time.elapsed(), SECOND / 20 + SECOND / 2, "half was earned");
    }

    #[test]
    fn a_higher_concurrency_is_used_at_once_and_a_lower_one_is_waited_for() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.concurrency(1));
        let first = now(&limiter, Cost::ONE);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire(Cost::ONE).unwrap());
            time.wait_parked(1);
            limiter.set_concurrency(2).unwrap();
            let second = waiter.join().unwrap();
            limiter.set_concurrency(1).unwrap();
            assert_eq!(limiter.in_flight(), 2, "nobody is thrown out");
            drop(first);
            assert!(limiter.try_acquire(Cost::ONE).is_err());
            drop(second);
            drop(now(&limiter, Cost::ONE));
        });
    }

    #[test]
    fn a_lifted_limit_lets_everyone_through() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.tokens(Rate::per_day(1)));
        drop(now(&limiter, Cost::tokens(1)));
        thread::scope(|scope| {
            let waiters: Vec<_> = (0..10)
                .map(|_| scope.spawn(|| limiter.acquire(Cost::tokens(1)).map(drop)))
                .collect();
            time.wait_parked(10);
            limiter.set_tokens(None).unwrap();
            for waiter in waiters {
                waiter.join().unwrap().unwrap();
            }
        });
        assert_eq!(time.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_storm_of_false_news_admits_nobody_early() {
        let (time, limiter) = virtual_limiter(|limiter| limiter.requests(Rate::per_second(1)));
        drop(now(&limiter, Cost::ONE));
        let storm = AtomicBool::new(true);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| limiter.acquire(Cost::ONE).map(drop));
            time.wait_parked(1);
            let news = scope.spawn(|| {
                let mut calls = 0;
                while storm.load(Ordering::SeqCst) || calls < 10_000 {
                    limiter.set_requests(Some(Rate::per_second(1))).unwrap();
                    limiter.set_concurrency(7).unwrap();
                    calls += 1;
                }
            });
            for _ in 0..999 {
                time.advance(SECOND / 1_000);
                assert!(!waiter.is_finished());
            }
            storm.store(false, Ordering::SeqCst);
            news.join().unwrap();
            time.wait_parked(1);
            assert_eq!(time.advance_to_next(), Some(SECOND / 1_000));
            waiter.join().unwrap().unwrap();
        });
    }
}

mod settings {
    use super::*;

    #[test]
    fn what_would_admit_nothing_or_limit_nothing_is_refused() {
        let ten = Rate::per_second(10);
        for unusable in [
            Limiter::builder().requests(Rate::per_second(0)),
            Limiter::builder().tokens(Rate::per_minute(0)),
            Limiter::builder().requests(Rate::per_second(u64::MAX)),
            Limiter::builder().requests(Rate::new(1, Duration::ZERO)),
            Limiter::builder().requests(Rate::new(1, Duration::MAX)),
            Limiter::builder().requests(ten).burst(0),
            Limiter::builder().tokens(ten).token_burst(0),
            Limiter::builder().burst(10),
            Limiter::builder().token_burst(10),
            Limiter::builder().concurrency(0),
        ] {
            let error = unusable.clone().build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{unusable:?}");
        }
        for units in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-12, 1e12] {
            let error = Rate::try_per_second(units).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{units}");
        }
    }

    #[test]
    fn a_change_that_is_refused_changes_nothing() {
        let (_, limiter) =
            virtual_limiter(|limiter| limiter.requests(Rate::per_second(2)).concurrency(3));
        assert!(limiter.set_requests(Some(Rate::per_second(0))).is_err());
        assert!(limiter.set_tokens(Some(Rate::per_second(0))).is_err());
        assert!(limiter.set_concurrency(0).is_err());
        assert_eq!(limiter.concurrency(), 3);
        drop(now(&limiter, Cost::tokens(1_000_000).with_requests(2)));
        assert_eq!(opens_in(&limiter, Cost::ONE), SECOND / 2);
    }

    #[test]
    fn the_largest_and_smallest_that_are_allowed_work() {
        let (time, limiter) = virtual_limiter(|limiter| {
            let fast = Rate::per_second(Rate::MAX_PER_SECOND);
            let slow = Rate::try_per_second(1e-6).unwrap();
            let limiter = limiter.requests(fast).burst(u64::MAX);
            limiter.tokens(slow).token_burst(u64::MAX)
        });
        let everything = Cost::tokens(u64::MAX).with_requests(u64::MAX);
        drop(now(&limiter, everything));
        assert!(opens_in(&limiter, everything) > SECOND * 60 * 60 * 24 * 365);
        time.advance(Duration::MAX);
        drop(limiter.try_acquire(Cost::ONE));
        let forever = limiter.acquire_timeout(Cost::ZERO, Duration::MAX);
        assert!(forever.is_ok());
    }
}

mod sharing {
    use super::*;

    fn peak_of(limiter: &Limiter, spawn_all: impl FnOnce(&(dyn Fn() + Sync))) -> usize {
        let (inside, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        spawn_all(&|| {
            let _permit = limiter.acquire(Cost::ONE).unwrap();
            peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            inside.fetch_sub(1, Ordering::SeqCst);
        });
        assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
        peak.load(Ordering::SeqCst)
    }

    #[test]
    fn plain_threads_share_its_permits() {
        let limiter = Limiter::builder().concurrency(3).build().unwrap();
        let peak = peak_of(&limiter, |visit| {
            thread::scope(|scope| {
                for _ in 0..16 {
                    scope.spawn(|| (0..50).for_each(|_| visit()));
                }
            });
        });
        assert!((1..=3).contains(&peak), "{peak}");
    }

    #[cfg(feature = "parallel")]
    #[test]
    fn rayon_tasks_share_its_permits() {
        let limiter = Limiter::builder().concurrency(2).build().unwrap();
        let peak = peak_of(&limiter, |visit| {
            rayon::scope(|scope| {
                for _ in 0..200 {
                    scope.spawn(|_| visit());
                }
            });
        });
        assert!((1..=2).contains(&peak), "{peak}");
    }

    #[test]
    fn permits_move_between_threads() {
        let limiter = Limiter::builder().concurrency(1).build().unwrap();
        let permit = limiter.acquire(Cost::ONE).unwrap();
        // As an async runtime's blocking threads would: taken here, dropped there.
        thread::spawn(move || drop(permit)).join().unwrap();
        assert_eq!(limiter.in_flight(), 0);
    }

    #[test]
    fn a_clone_is_the_same_limiter() {
        let (_, limiter) =
            virtual_limiter(|limiter| limiter.requests(Rate::per_second(2)).concurrency(9));
        let clone = limiter.clone();
        let _held = now(&limiter, Cost::ONE);
        drop(now(&clone, Cost::ONE));
        assert_eq!(opens_in(&limiter, Cost::ONE), SECOND / 2);
        assert_eq!(clone.in_flight(), 1);
        clone.set_concurrency(4).unwrap();
        assert_eq!(limiter.concurrency(), 4);
    }
}
