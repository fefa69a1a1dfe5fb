//! The keeper: the thread of a limiter that talks to the store of a shared limit. It sends what
//! [`sharing`](super::sharing) decides, and wakes the threads that wait for the reply. It holds no
//! lock while it asks the store, and ends when the last limiter and the last permit are gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::leased::AXES;
use super::queue::Queue;
use super::set_rates::rate_of;
use super::sharing::Next;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::{Ask, Reply, Store};

/// The thread's stack. A message and a log line need little of it, a TLS handshake more.
const STACK: usize = 256 * 1024;

pub(super) struct Keeper {
    pub(super) queue: Arc<Queue>,
    pub(super) store: Box<dyn Store>,
    /// The store, for messages.
    pub(super) name: Arc<str>,
    /// Dropped when the thread ends.
    pub(super) _ends: Sender<()>,
}

impl Keeper {
    pub(super) fn start(self) -> Result<()> {
        let thread = thread::Builder::new().name("tollgate-keeper".into());
        let started = thread.stack_size(STACK).spawn(move || self.run());
        let what = "cannot start the thread that talks to the store of the shared limit";
        started
            .map(|_| ())
            .map_err(|error| Error::new(ErrorKind::Config, what).with_source(error))
    }

    pub(super) fn run(mut self) {
        loop {
            let next = {
                let mut locked = self.queue.lock();
                locked.next_ask(self.queue.now())
            };
            let until = match next {
                Next::Ask(ask) => {
                    self.ask(&ask);
                    continue;
                }
                Next::At(at) => Some(self.queue.instant(at)),
                Next::WhenCalled => None,
                Next::End(last) => {
                    if let Some(error) = last.and_then(|last| self.exchange(&last).err()) {
                        log::debug!("{error}: what is leased is not given back, and lapses");
                    }
                    return;
                }
            };
            let queue = &self.queue;
            queue.clock.park(&queue.keeper_parker, until);
        }
    }

    /// One exchange with the store. A panic in it counts as a store that is gone: if this thread
    /// ended, those who wait for it would wait for ever.
    fn exchange(&mut self, ask: &Ask) -> Result<Reply> {
        let exchange = || self.store.exchange(ask);
        catch_unwind(AssertUnwindSafe(exchange)).unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Panicked,
                "this program's code for the store has panicked, which is a defect: report it",
            ))
        })
    }

    fn ask(&mut self, ask: &Ask) {
        let sent = self.queue.now();
        let reply = self.exchange(ask);
        let queue = &self.queue;
        let changed = queue.update(|locked, now| {
            let limits = &mut locked.limits;
            let paused_until = limits.paused_until;
            let changed = limits.set.exchanged(ask, reply, sent, paused_until, now);
            let paused = changed
                .paused_until
                .map(|until| locked.pause(until, now, queue));
            let mut to_wake = paused.unwrap_or_default();
            to_wake.extend(locked.head_if(|_| true));
            (changed, to_wake)
        });
        let store = &self.name;
        if let Some(error) = changed.gone {
            log::warn!("the store of the shared limit cannot be reached: {store}: {error}");
        }
        if let Some(gone) = changed.back_after {
            let gone = Duration::from_nanos(gone).as_secs_f64();
            log::warn!("the store of the shared limit is back after {gone:.1} s: {store}");
        }
        for (lower, (what, _)) in changed.lower.into_iter().zip(AXES) {
            let Some(lower) = lower else { continue };
            let (rate, burst) = (rate_of(lower).units_per_second(), lower.burst);
            log::warn!(
                "another process that shares the limit at {store} was given {rate} {what} a \
                 second, with a burst of {burst}; the lowest holds for all, so give all the same"
            );
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::{Receiver, Sender, bounded};

    use super::super::builder::holder;
    use super::super::sharing::Sharing;
    use super::super::{Cost, Limiter, Patience, Rate, Refusal};
    use super::*;
    use crate::binding::{Binding, Times};
    use crate::clock::{Clock, VirtualClock};
    use crate::shared::Ledger;
    use crate::sync::Mutex;

    const SECOND: Duration = Duration::from_secs(1);

    /// A store in memory, on a virtual clock.
    #[derive(Clone, Default)]
    struct Memory {
        account: Arc<Mutex<(Ledger, Vec<Ask>)>>,
        is_gone: Arc<Mutex<bool>>,
        panics: Arc<Mutex<bool>>,
        time: VirtualClock,
    }

    impl Store for Memory {
        fn exchange(&mut self, ask: &Ask) -> Result<Reply> {
            if *self.is_gone.lock() {
                return Err(Error::new(ErrorKind::Unreachable, "no such store"));
            }
            assert!(!*self.panics.lock(), "the store's own defect");
            let now = 5_000_000_000 + u64::try_from(self.time.elapsed().as_micros()).unwrap();
            let mut account = self.account.lock();
            account.1.push(ask.clone());
            Ok(account.0.exchange(ask, now, 7))
        }
    }

    impl Memory {
        fn limiter(&self, fallback: Option<u64>) -> Limiter {
            let builder = Limiter::builder().requests(Rate::per_second(10)).burst(5);
            let limits = builder
                .state_of(Some(Sharing::new(holder(), fallback)))
                .unwrap();
            Limiter::sharing(
                limits,
                self.time.clock(),
                Box::new(self.clone()),
                "memory".into(),
            )
            .unwrap()
        }

        /// Moves the clock from one awaited instant to the next until all of these are over. They
        /// and the keepers of so many limiters are all threads that there are.
        fn drive<T: Send>(&self, keepers: usize, acts: Vec<impl FnOnce() -> T + Send>) -> Vec<T> {
            thread::scope(|scope| {
                let threads: Vec<_> = acts.into_iter().map(|act| scope.spawn(act)).collect();
                loop {
                    let running = threads.iter().filter(|it| !it.is_finished()).count();
                    if running == 0 {
                        break;
                    }
                    if self.time.parked() < running + keepers {
                        thread::yield_now();
                    } else {
                        self.time.advance_to_next();
                    }
                }
                threads.into_iter().map(|it| it.join().unwrap()).collect()
            })
        }
    }

    fn take(limiter: &Limiter, number: u32) {
        for _ in 0..number {
            drop(limiter.acquire(Cost::ONE).unwrap());
        }
    }

    #[test]
    fn two_that_share_have_one_rate() {
        let store = Memory::default();
        let (one, other) = (store.limiter(None), store.limiter(None));
        store.drive(2, [&one, &other].map(|it| || take(it, 50)).into());
        // It began empty; what is left over of a lease at the end may be a few units.
        let took = store.time.elapsed();
        assert!(took >= SECOND * 10, "{took:?}");
        assert!(took <= SECOND * 11, "{took:?}");
        let status = one.shared_status().unwrap();
        assert_eq!((&*status.store, status.processes_peak), ("memory", 2));
    }

    #[test]
    fn what_was_leased_is_given_back_at_the_end() {
        let store = Memory::default();
        let limiter = store.limiter(None);
        store.drive(1, vec![|| take(&limiter, 20)]);
        let next = || {
            let account = store.account.lock();
            (account.0.axes[0].next, account.0.holders.len())
        };
        assert_eq!(next().1, 1);
        drop(limiter);
        // The drop waits for the keeper, though not for long on a busy machine.
        let until = std::time::Instant::now() + 20 * SECOND;
        while next().1 > 0 && std::time::Instant::now() < until {
            thread::yield_now();
        }
        assert_eq!(next().1, 0, "it has left");
        let last = store.account.lock().1.last().cloned().unwrap();
        assert!(last.leaves);
    }

    #[test]
    fn without_its_store_it_waits_and_goes_on_when_it_is_back() {
        let store = Memory::default();
        let limiter = store.limiter(None);
        store.drive(1, vec![|| take(&limiter, 10)]);
        *store.is_gone.lock() = true;
        // What was leased may be used. Then nothing goes, however long it takes.
        let sent = || {
            let mut sent = 0;
            while limiter.acquire_timeout(Cost::ONE, SECOND * 60).is_ok() {
                sent += 1;
            }
            sent
        };
        let sent = store.drive(1, vec![sent]);
        assert!(sent[0] <= 3, "{sent:?}");
        assert!(matches!(limiter.try_acquire(Cost::ONE), Err(Refusal::Busy)));
        let status = limiter.shared_status().unwrap();
        assert!(
            status.gone.is_some_and(|gone| gone >= SECOND * 50),
            "{status:?}"
        );
        assert_eq!(status.error.as_deref(), Some("no such store"));
        *store.is_gone.lock() = false;
        let waited = store.drive(1, vec![|| limiter.acquire(Cost::ONE).unwrap().waited()]);
        assert!(
            waited[0].of(Binding::SharedLimit) <= SECOND * 2,
            "{waited:?}"
        );
        assert_eq!(limiter.shared_status().unwrap().gone, None);
    }

    #[test]
    fn without_its_store_it_keeps_to_its_share_if_that_is_wanted() {
        let store = Memory::default();
        *store.is_gone.lock() = true;
        let limiter = store.limiter(Some(2));
        store.drive(1, vec![|| take(&limiter, 50)]);
        // Half the rate, and no burst at the beginning.
        assert!(store.time.elapsed() >= SECOND * 10);
        assert!(store.time.elapsed() < SECOND * 11);
        assert!(limiter.shared_status().unwrap().falls_back);
    }

    /// Whoever waits for a store that panics waits as for one that is gone.
    #[test]
    fn a_store_that_panics_is_gone() {
        for fallback in [None, Some(2)] {
            let store = Memory::default();
            let limiter = store.limiter(fallback);
            store.drive(1, vec![|| take(&limiter, 10)]);
            *store.panics.lock() = true;
            let sent = || {
                let mut sent = 0;
                while limiter.acquire_timeout(Cost::ONE, SECOND * 5).is_ok() && sent < 20 {
                    sent += 1;
                }
                sent
            };
            let sent = store.drive(1, vec![sent])[0];
            let expected = if fallback.is_some() { 20 } else { 3 };
            assert!(sent <= expected && sent >= expected - 3, "{sent}");
            let error = limiter.shared_status().unwrap().error;
            assert!(error.is_some_and(|error| error.contains("panicked")));
            *store.panics.lock() = false;
            store.drive(1, vec![|| take(&limiter, 10)]);
            assert_eq!(limiter.shared_status().unwrap().gone, None);
        }
    }

    /// A run that would stop at such a wait stops, wherever the wait was asked for.
    #[test]
    fn a_pause_of_another_process_that_is_longer_than_allowed_is_an_error() {
        let store = Memory::default();
        let (one, other) = (store.limiter(None), store.limiter(None));
        store.drive(2, vec![|| take(&other, 10)]);
        let patience = |seconds| Patience {
            longest_pause: Some(SECOND * seconds),
            ..Patience::default()
        };
        // Until it has heard of the pause there may be something left of a lease.
        let acquire = |limiter: &Limiter, longest| loop {
            let acquired = limiter.acquire_until(Cost::ONE, patience(longest), None, |_| ());
            match acquired.0.map(|permit| permit.waited()) {
                Ok(waited) if waited.total() < SECOND * 100 => {}
                other => return other,
            }
        };
        let pause = || {
            one.pause_for(SECOND * 1_000);
            acquire(&one, 600)
        };
        let mut acts: Vec<Box<dyn FnOnce() -> Result<Times> + Send>> = vec![Box::new(pause)];
        for longest in [600, 2_000] {
            let other = &other;
            acts.push(Box::new(move || acquire(other, longest)));
        }
        let [own, short, long]: [_; 3] = store.drive(2, acts).try_into().unwrap();
        let error = short.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ServerDelay, "{error}");
        assert!(error.to_string().contains("is allowed here"), "{error}");
        for waited in [own, long] {
            let waited = waited.unwrap();
            assert!(waited.of(Binding::Pause) > SECOND * 990, "{waited:?}");
            assert!(waited.of(Binding::Requests) < SECOND, "{waited:?}");
        }
    }

    #[test]
    fn a_pause_of_one_is_a_pause_for_all() {
        let store = Memory::default();
        let (one, other) = (store.limiter(None), store.limiter(None));
        store.drive(2, vec![|| take(&one, 10)]);
        one.pause_for(SECOND * 30);
        let before = store.time.elapsed();
        while store
            .account
            .lock()
            .1
            .last()
            .is_none_or(|ask| ask.pause == 0)
        {
            thread::yield_now();
        }
        store.drive(2, vec![|| take(&other, 3)]);
        let waited = store.time.elapsed().saturating_sub(before);
        assert!(waited >= SECOND * 30, "{waited:?}");
        assert!(waited < SECOND * 31, "{waited:?}");
    }

    /// A store that says that it was asked, and does not answer.
    struct Stuck(Sender<()>, Receiver<()>);

    impl Store for Stuck {
        fn exchange(&mut self, _: &Ask) -> Result<Reply> {
            self.0.send(()).unwrap();
            let _ended = self.1.recv();
            Err(Error::new(ErrorKind::Timeout, "no answer"))
        }
    }

    #[test]
    fn the_last_drop_does_not_wait_for_a_store_that_does_not_answer() {
        let ((asks, asked), (answers, answer)) = (bounded(0), bounded(0));
        let builder = Limiter::builder().requests(Rate::per_second(10));
        let limits = builder
            .state_of(Some(Sharing::new(holder(), None)))
            .unwrap();
        let clock = Clock::system();
        let store = Box::new(Stuck(asks, answer));
        let limiter = Limiter::sharing(limits, clock, store, "stuck".into()).unwrap();
        assert!(limiter.try_acquire(Cost::ONE).is_err());
        asked.recv().unwrap();
        // It would never return if it waited for the store.
        drop(limiter);
        drop(answers);
    }
}
