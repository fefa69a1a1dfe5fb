//! The lock protocol, interleaving by interleaving. `NOTES.md` says what each one covers. A lost
//! wake-up leaves a thread parked for ever, which loom reports as a deadlock.
//!
//! Two threads are explored in full. Three are bounded to four switches without need: most
//! faults of this kind show with two, and without a bound three threads take hours. Where time
//! plays no part the clock is the machine's, which loom does not see, and not the virtual one
//! with its locks.

use std::time::Duration;

use loom::thread::{self, JoinHandle};

use super::{Cost, Limiter, Rate};
use crate::cancel::Cancel;
use crate::clock::{Clock, VirtualClock};
use crate::sync::explore;

fn one_place(clock: Clock) -> Limiter {
    let one = Limiter::builder().concurrency(1).clock(clock);
    one.build().unwrap()
}

fn acquirer(limiter: &Limiter) -> JoinHandle<()> {
    let limiter = limiter.clone();
    thread::spawn(move || drop(limiter.acquire(Cost::ONE).unwrap()))
}

fn assert_empty(limiter: &Limiter) {
    assert_eq!((limiter.in_flight(), limiter.waiting()), (0, 0));
}

/// Three threads, one place: each grant and each release finds the next.
#[test]
fn loom_a_place_that_is_freed_is_taken() {
    explore(Some(4), || {
        let limiter = one_place(Clock::system());
        let others = [acquirer(&limiter), acquirer(&limiter)];
        drop(limiter.acquire(Cost::ONE).unwrap());
        for other in others {
            other.join().unwrap();
        }
        assert_empty(&limiter);
    });
}

/// A place is given back, without the lock, while the only thread that waits lies down for it.
#[test]
fn loom_a_place_given_back_is_not_missed() {
    explore(None, || {
        let limiter = one_place(Clock::system());
        let held = limiter.acquire(Cost::ONE).unwrap();
        let waiter = acquirer(&limiter);
        drop(held);
        waiter.join().unwrap();
        assert_empty(&limiter);
    });
}

/// The mark of a head that has gone is taken away while somebody takes the place and the next head
/// sets its own.
#[test]
fn loom_a_mark_that_is_out_of_date_misleads_nobody() {
    explore(Some(4), || {
        let limiter = one_place(Clock::system());
        let held = limiter.acquire(Cost::ONE).unwrap();
        let gone = limiter.acquire_timeout(Cost::ONE, Duration::ZERO);
        assert!(gone.is_err());
        let others = [acquirer(&limiter), acquirer(&limiter)];
        drop(held);
        for other in others {
            other.join().unwrap();
        }
        assert_empty(&limiter);
    });
}

/// A head that is cancelled hands its turn on, whether the place is freed before or after.
#[test]
fn loom_a_cancelled_head_wakes_the_next() {
    explore(Some(4), || {
        let limiter = one_place(Clock::system());
        let cancel = Cancel::new();
        let held = limiter.acquire(Cost::ONE).unwrap();
        let first = {
            let (limiter, cancel) = (limiter.clone(), cancel.clone());
            thread::spawn(move || drop(limiter.acquire_cancellable(Cost::ONE, &cancel)))
        };
        let second = acquirer(&limiter);
        cancel.cancel();
        drop(held);
        first.join().unwrap();
        second.join().unwrap();
        assert_empty(&limiter);
    });
}

/// A cancel is enough: nobody else moves.
#[test]
fn loom_a_cancel_is_heard() {
    explore(None, || {
        let limiter = one_place(Clock::system());
        let cancel = Cancel::new();
        let held = limiter.acquire(Cost::ONE).unwrap();
        let waiter = {
            let (limiter, cancel) = (limiter.clone(), cancel.clone());
            thread::spawn(move || limiter.acquire_cancellable(Cost::ONE, &cancel).is_err())
        };
        cancel.cancel();
        assert!(waiter.join().unwrap());
        drop(held);
        assert_empty(&limiter);
    });
}

/// Time passes while a thread is on its way to bed.
#[test]
fn loom_time_that_passes_is_noticed() {
    explore(None, || {
        let time = VirtualClock::new();
        let limiter = Limiter::builder()
            .requests(Rate::per_second(1))
            .clock(time.clock())
            .build()
            .unwrap();
        drop(limiter.acquire(Cost::ONE).unwrap());
        let waiter = acquirer(&limiter);
        time.advance(Duration::from_secs(1));
        waiter.join().unwrap();
    });
}

/// A rate that is lifted re-times the head, and the one behind it follows.
#[test]
fn loom_a_change_of_rate_is_noticed() {
    explore(Some(4), || {
        let limiter = Limiter::builder()
            .requests(Rate::per_day(1))
            .build()
            .unwrap();
        drop(limiter.acquire(Cost::ONE).unwrap());
        let waiters = [acquirer(&limiter), acquirer(&limiter)];
        limiter.set_requests(None).unwrap();
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_empty(&limiter);
    });
}

/// Tokens given back wake a head that waits for tokens.
#[test]
fn loom_a_refund_is_noticed() {
    explore(None, || {
        let limiter = Limiter::builder()
            .tokens(Rate::per_day(2))
            .token_burst(2)
            .build()
            .unwrap();
        let held = limiter.acquire(Cost::tokens(2)).unwrap();
        let waiter = {
            let limiter = limiter.clone();
            thread::spawn(move || limiter.acquire(Cost::tokens(1)).unwrap().settle(1))
        };
        held.settle(0);
        waiter.join().unwrap();
        assert_empty(&limiter);
    });
}

/// The head waits for a place, the place comes free during a pause, and the pause ends: each
/// of the three alone would leave it asleep.
#[test]
fn loom_a_place_freed_in_a_pause_is_taken_after_it() {
    explore(None, || {
        let time = VirtualClock::new();
        let limiter = one_place(time.clock());
        let held = limiter.acquire(Cost::ONE).unwrap();
        let waiter = acquirer(&limiter);
        limiter.pause_for(Duration::from_secs(1));
        drop(held);
        time.advance(Duration::from_secs(2));
        waiter.join().unwrap();
        assert_empty(&limiter);
    });
}

/// A pause beyond a waiter's deadline tells it at once: no time passes here.
#[test]
fn loom_a_pause_beyond_the_deadline_is_heard() {
    explore(None, || {
        let limiter = one_place(VirtualClock::new().clock());
        let held = limiter.acquire(Cost::ONE).unwrap();
        let waiter = {
            let limiter = limiter.clone();
            thread::spawn(move || {
                let second = Duration::from_secs(1);
                limiter.acquire_timeout(Cost::ONE, second).is_err()
            })
        };
        limiter.pause_for(Duration::from_secs(10));
        assert!(waiter.join().unwrap());
        drop(held);
        assert_empty(&limiter);
    });
}
