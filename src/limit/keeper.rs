//! The keeper: the thread of a limiter that talks to the store of a shared limit. It sends what
//! [`sharing`](super::sharing) decides, and wakes the threads that wait for the reply.
//!
//! It holds the limiter only while it looks at it, so that the last user's drop ends both. It holds
//! no lock while it asks the store.

use std::sync::{Arc, Weak};
use std::thread;

use super::keeper_link::QueueLink;
use super::queue::Queue;
use super::set_rates::rate_of;
use super::sharing::{Changed, Next};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::{Ask, Limit, Reply, Store};

/// The thread's stack. A message and a log line need little of it, a TLS handshake more.
const STACK: usize = 256 * 1024;

/// Starts the keeper of this queue.
pub(super) fn start(queue: &Arc<Queue>, link: QueueLink, store: Box<dyn Store>) -> Result<()> {
    let keeper = Keeper::new(queue, link, store);
    let thread = thread::Builder::new().name("tollgate-keeper".into());
    let thread = thread.stack_size(STACK).spawn(move || keeper.run());
    let thread = thread.map_err(|error| {
        let what = "cannot start the thread that talks to the store of the shared limit";
        Error::new(ErrorKind::Config, what).with_source(error)
    })?;
    queue.set_keeper_thread(thread.thread().id());
    Ok(())
}

pub(super) struct Keeper {
    queue: Weak<Queue>,
    clock: Clock,
    link: QueueLink,
    store: Box<dyn Store>,
}

impl Keeper {
    pub(super) fn new(queue: &Arc<Queue>, link: QueueLink, store: Box<dyn Store>) -> Self {
        Self {
            queue: Arc::downgrade(queue),
            clock: queue.clock.clone(),
            link,
            store,
        }
    }

    pub(super) fn run(mut self) {
        while let Some(queue) = self.queue.upgrade() {
            let next = {
                let mut locked = queue.lock();
                let now = queue.now();
                locked.next_ask(now)
            };
            let until = match next {
                Next::Ask(ask) => {
                    self.ask(queue, &ask);
                    continue;
                }
                Next::At(at) => Some(queue.instant(at)),
                Next::WhenCalled => None,
            };
            drop(queue);
            self.clock.park(&self.link.parker, until);
        }
        let last = self.link.last(&self.clock);
        self.say(last);
    }

    fn ask(&mut self, queue: Arc<Queue>, ask: &Ask) {
        let sent = queue.now();
        drop(queue);
        let reply = self.store.exchange(ask);
        let Some(queue) = self.queue.upgrade() else {
            // What has just been leased goes back with the rest.
            let last = self.link.last(&self.clock).unwrap_or(Ask {
                holder: ask.holder,
                configured: ask.configured,
                announced: ask.announced,
                leaves: true,
                ..Ask::default()
            });
            self.say(reply.ok().map(|reply| with_credit(last, reply)));
            return;
        };
        let mut to_wake = Vec::new();
        let happened = {
            let mut locked = queue.lock();
            let now = queue.now();
            let paused_until = locked.limits.paused_until();
            let happened = match reply {
                Ok(reply) => {
                    let changed = locked
                        .limits
                        .set
                        .heard(ask, &reply, sent, paused_until, now);
                    if let Some(until) = changed.paused_until {
                        to_wake = locked.pause(until, &queue);
                    }
                    Ok(changed)
                }
                Err(error) => {
                    let is_first = locked.limits.set.failed(ask, &error, paused_until, now);
                    Err((error, is_first))
                }
            };
            to_wake.extend(locked.head_if(|_| true));
            happened
        };
        for parker in to_wake {
            parker.unpark();
        }
        match happened {
            Ok(changed) => self.tell(&changed),
            Err((error, true)) => log::warn!(
                "the store of the shared limit cannot be reached: {}: {error}",
                self.link.store
            ),
            Err(_) => {}
        }
    }

    fn tell(&self, changed: &Changed) {
        let store = &self.link.store;
        if let Some(gone) = changed.back_after {
            let gone = std::time::Duration::from_nanos(gone).as_secs_f64();
            log::warn!("the store of the shared limit is back after {gone:.1} s: {store}");
        }
        let lower = changed.lower.into_iter().zip(["requests", "model tokens"]);
        for (lower, what) in lower.filter_map(|(lower, what)| Some((lower?, what))) {
            let Limit { burst, .. } = lower;
            let rate = rate_of(lower).units_per_second();
            log::warn!(
                "another process that shares the limit at {store} was given {rate} {what} a \
                 second, with a burst of {burst}; the lowest holds for all, so give all the same"
            );
        }
    }

    /// Sends the last ask, as the limiter is gone.
    fn say(&mut self, last: Option<Ask>) {
        if let Some(error) = last.and_then(|last| self.store.exchange(&last).err()) {
            let store = &self.link.store;
            log::debug!(
                "the store {store} cannot be told what is given back, which lapses: {error}"
            );
        }
    }
}

fn with_credit(mut last: Ask, reply: Reply) -> Ask {
    if last.incarnation != reply.incarnation {
        last.incarnation = reply.incarnation;
        last.back = [Vec::new(), Vec::new()];
    }
    for (back, leased) in last.back.iter_mut().zip(reply.credit) {
        back.extend(leased);
    }
    last
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::{Receiver, Sender, bounded};

    use super::super::builder::holder;
    use super::super::sharing::Sharing;
    use super::super::{Cost, Limiter, Rate, Refusal};
    use super::*;
    use crate::clock::VirtualClock;
    use crate::shared::Ledger;
    use crate::sync::Mutex;

    const SECOND: Duration = Duration::from_secs(1);

    /// A store in memory, on a virtual clock.
    #[derive(Clone, Default)]
    struct Memory {
        account: Arc<Mutex<(Ledger, Vec<Ask>)>>,
        is_gone: Arc<Mutex<bool>>,
        time: VirtualClock,
    }

    impl Store for Memory {
        fn exchange(&mut self, ask: &Ask) -> Result<Reply> {
            if *self.is_gone.lock() {
                return Err(Error::new(ErrorKind::Unreachable, "no such store"));
            }
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
        assert!(waited[0].shared_limit <= SECOND * 2, "{waited:?}");
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
