//! The thread that talks to the store of a shared allowance: it carries what
//! [`sharing`](super::sharing) says, and wakes whoever waits for the reply.
//!
//! It holds the limiter only while it looks at it, so that the last user's drop ends both. The
//! store is asked without a lock.

use std::sync::{Arc, Weak};
use std::thread;

use super::keeper_link::QueueLink;
use super::queue::Queue;
use super::set_rates::rate_of;
use super::sharing::{Changed, Next};
use crate::clock::{Clock, unpark};
use crate::error::{Error, ErrorKind, Result};
use crate::shared::{Ask, Limit, Reply, Store};

/// A message and a log line need little of it, a TLS handshake more.
const STACK: usize = 256 * 1024;

/// Starts the keeper of this queue.
pub(super) fn start(queue: &Arc<Queue>, link: QueueLink, store: Box<dyn Store>) -> Result<()> {
    let keeper = Keeper {
        queue: Arc::downgrade(queue),
        clock: queue.clock.clone(),
        link,
        store,
    };
    let thread = thread::Builder::new().name("tollgate-keeper".into());
    let thread = thread.stack_size(STACK).spawn(move || keeper.run());
    let thread = thread.map_err(|error| {
        let what = "cannot start the thread that talks to the store of the shared limit";
        Error::new(ErrorKind::Config, what).with_source(error)
    })?;
    queue.set_keeper_thread(thread.thread().id());
    Ok(())
}

struct Keeper {
    queue: Weak<Queue>,
    clock: Clock,
    link: QueueLink,
    store: Box<dyn Store>,
}

impl Keeper {
    fn run(mut self) {
        while let Some(queue) = self.queue.upgrade() {
            let next = {
                let mut locked = queue.lock();
                let now = queue.now();
                locked.next_ask(now)
            };
            let until = match next {
                Next::Ask(ask) => {
                    self.ask(queue, ask);
                    continue;
                }
                Next::At(at) => Some(queue.instant(at)),
                Next::WhenCalled => None,
            };
            drop(queue);
            self.clock.park(&self.link.parker, until);
        }
        let last = self.link.last.lock().take();
        self.say(last);
    }

    fn ask(&mut self, queue: Arc<Queue>, ask: Ask) {
        let sent = queue.now();
        drop(queue);
        let reply = self.store.exchange(&ask);
        let Some(queue) = self.queue.upgrade() else {
            // What has just been leased goes back with the rest.
            let last = self.link.last.lock().take().unwrap_or(Ask {
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
                        .heard(&ask, &reply, sent, paused_until, now);
                    if let Some(until) = changed.paused_until {
                        to_wake = locked.pause(until, &queue);
                    }
                    Ok(changed)
                }
                Err(error) => {
                    let is_first = locked.limits.set.failed(&ask, &error, paused_until, now);
                    Err((error, is_first))
                }
            };
            to_wake.extend(locked.head_if(|_| true));
            happened
        };
        to_wake.into_iter().for_each(|parker| unpark(Some(parker)));
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
            log::warn!("the store of the shared limit is back after {gone} ms: {store}");
        }
        let lower = changed.lower.into_iter().zip(["requests", "model tokens"]);
        for (lower, what) in lower.filter_map(|(lower, what)| Some((lower?, what))) {
            let Limit { burst, .. } = lower;
            let rate = rate_of(lower).units_per_second();
            log::warn!(
                "another process on this shared limit was given {rate} {what} a second, with a \
                 burst of {burst}: the lowest holds for all: {store}"
            );
        }
    }

    /// Says this to the store, as the limiter is gone.
    fn say(&mut self, last: Option<Ask>) {
        if let Some(error) = last.and_then(|last| self.store.exchange(&last).err()) {
            let store = &self.link.store;
            log::debug!("what was leased lapses, and is not given back: {store}: {error}");
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
