//! The limiter under loom: every interleaving of a few threads. `NOTES.md` says what each model
//! covers. A lost wake-up leaves a thread parked for ever, which loom reports as a deadlock.
//!
//! Two threads are explored in full. Three are bounded to four preemptions: most faults of this
//! kind show with two, and without a bound three threads take hours. Where time plays no part the
//! clock is the machine's, which loom does not see, and not the virtual one, whose locks it would
//! explore.

use std::time::Duration;

use loom::thread::{self, JoinHandle};

use super::sharing::Sharing;
use super::{Cost, Limiter, Rate};
use crate::cancel::Cancel;
use crate::clock::{Clock, VirtualClock};
use crate::error::Result;
use crate::shared::{Ask, Limit, Reply, Span, Store};
use crate::sync::explore;

fn one_permit(clock: Clock) -> Limiter {
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

/// Three threads, one permit: each that gets it and each that drops it wakes the next.
#[test]
fn loom_a_permit_that_is_dropped_is_taken() {
    explore(Some(4), || {
        let limiter = one_permit(Clock::system());
        let others = [acquirer(&limiter), acquirer(&limiter)];
        drop(limiter.acquire(Cost::ONE).unwrap());
        for other in others {
            other.join().unwrap();
        }
        assert_empty(&limiter);
    });
}

/// A permit is dropped while the only thread that waits for it is about to park.
#[test]
fn loom_a_drop_before_the_park_is_not_missed() {
    explore(None, || {
        let limiter = one_permit(Clock::system());
        let held = limiter.acquire(Cost::ONE).unwrap();
        let waiter = acquirer(&limiter);
        drop(held);
        waiter.join().unwrap();
        assert_empty(&limiter);
    });
}

/// A head that is cancelled wakes the next, whether the permit is dropped before or after.
#[test]
fn loom_a_cancelled_head_wakes_the_next() {
    explore(Some(4), || {
        let limiter = one_permit(Clock::system());
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

/// A cancel alone wakes a thread: nothing else happens.
#[test]
fn loom_a_cancel_is_noticed() {
    explore(None, || {
        let limiter = one_permit(Clock::system());
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

/// Time passes while a thread is about to park.
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

/// A rate that is lifted wakes the head, and the one behind it follows.
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

/// A refund wakes a head that waits for tokens.
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

/// The head waits for a permit, the permit is dropped during a pause, and the pause ends. Neither
/// the drop nor the end alone lets it go on.
#[test]
fn loom_a_permit_dropped_in_a_pause_is_taken_after_it() {
    explore(None, || {
        let time = VirtualClock::new();
        let limiter = one_permit(time.clock());
        let held = limiter.acquire(Cost::ONE).unwrap();
        let waiter = acquirer(&limiter);
        limiter.pause_for(Duration::from_secs(1));
        drop(held);
        time.advance(Duration::from_secs(2));
        waiter.join().unwrap();
        assert_empty(&limiter);
    });
}

/// A pause beyond a waiter's deadline wakes it at once: no time passes here.
#[test]
fn loom_a_pause_beyond_the_deadline_is_noticed() {
    explore(None, || {
        let limiter = one_permit(VirtualClock::new().clock());
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

/// A store that leases one unit to each ask that wants one.
struct OneEach(u64);

impl Store for OneEach {
    fn exchange(&mut self, ask: &Ask) -> Result<Reply> {
        const SECOND: u64 = 1_000_000;
        let limit = Some(Limit {
            units: 1,
            period: SECOND,
            burst: 1_000,
        });
        let mut credit = [Vec::new(), Vec::new()];
        if ask.wants[0].least > 0 {
            let from = self.0;
            self.0 += SECOND;
            credit[0].push(Span { from, to: self.0 });
        }
        Ok(Reply {
            incarnation: 1,
            now: 500 * SECOND,
            configured: [limit, None],
            limits: [limit, None],
            credit,
            paused_until: 0,
            holders: 1,
        })
    }
}

/// Threads wait for the store, whose reply wakes the first of them. The last drop ends the keeper.
#[test]
fn loom_a_reply_of_the_store_is_noticed_and_the_end_too() {
    explore(Some(3), || {
        let limits = Limiter::builder()
            .requests(Rate::per_second(1))
            .burst(1_000);
        let limits = limits.state_of(Some(Sharing::new(1, None))).unwrap();
        let store = Box::new(OneEach(0));
        let (limiter, keeper) = Limiter::with_keeper(limits, Clock::system(), store, "x".into());
        let keeper = thread::spawn(move || keeper.run());
        let other = acquirer(&limiter);
        drop(limiter.acquire(Cost::ONE).unwrap());
        other.join().unwrap();
        assert_empty(&limiter);
        drop(limiter);
        keeper.join().unwrap();
    });
}
