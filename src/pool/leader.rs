//! What the threads of a run share, and how the lead passes between them.
//!
//! Leader and followers. At most one idle thread of a run, the *leader*, stands at the gate (or
//! waits for something to take there). When it is admitted it passes the lead on, to an idle
//! thread or a new one, and makes its own attempt: the thread that was admitted is the thread that
//! sends, no task is handed between threads, and no herd ever waits on the limiter. So threads grow
//! to what is in flight at once, rate × latency, and not to what is allowed.
//!
//! Once everything has begun, a thread that has finished goes home: should something come back, it
//! comes with the thread that has it. A long run's last request is not waited for by thousands.
//!
//! The lead is a guard, [`LeaderGuard`]: whatever way it is dropped, it is handed on, or lies vacant for
//! the next thread that has to wait.

use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use super::job::Job;
use super::monitor::Monitor;
use super::outcomes::Sink;
use super::schedule::Schedule;
use crate::cancel::Cancel;
use crate::clock::{Parker, unpark};
use crate::limit::Limiter;
use crate::retry::Retry;
use crate::sync::Mutex;
use crate::sync::atomic::AtomicUsize;

/// What the threads of one run share.
pub(crate) struct RunShared<'env, J: Job, S> {
    pub(super) job: J,
    pub(super) sink: S,
    pub(super) limiter: Limiter,
    pub(super) retry: Retry,
    pub(super) cancel: Cancel,
    pub(super) monitor: Monitor,
    /// Threads that try the gate while another leads.
    pub(super) trying: AtomicUsize,
    pub(super) core: Mutex<RunState<'env, J>>,
}

pub(super) struct RunState<'env, J: Job> {
    pub(super) schedule: Schedule<'env, J::Input, J::Error>,
    pub(super) leader: Leader,
    /// Threads with nothing to do, by number; the last to lie down is the first to be woken.
    pub(super) idle: Vec<(usize, Arc<Parker>)>,
    threads: usize,
    /// Threads there have ever been, by which they are numbered.
    started: usize,
    /// The system would not give another thread; those there are must do.
    no_more_threads: bool,
    pub(super) ended: bool,
}

pub(super) enum Leader {
    /// Nobody leads; the next thread that has to wait will.
    Vacant,
    /// Somebody is on the way to the gate, or about to look for something to take there.
    OnTheWay,
    /// Somebody waits at the gate, so that nobody else need try.
    AtGate,
    /// An idle thread has been told to.
    Appointed(usize),
    /// The leader has nothing to take to the gate and lies down; its parker.
    Resting(Arc<Parker>),
}

impl<'env, J: Job> RunState<'env, J> {
    pub(super) fn new(schedule: Schedule<'env, J::Input, J::Error>) -> Self {
        Self {
            schedule,
            leader: Leader::OnTheWay,
            idle: Vec::new(),
            threads: 1,
            started: 1,
            no_more_threads: false,
            ended: false,
        }
    }

    /// The parker of a leader that rests, to tell it that something has changed.
    pub(super) fn resting(&mut self) -> Option<Arc<Parker>> {
        match &self.leader {
            Leader::Resting(parker) => Some(Arc::clone(parker)),
            _ => None,
        }
    }

    /// Has an idle thread take the lead, or leaves it vacant; the parker to ring.
    fn hand_over(&mut self) -> Option<Arc<Parker>> {
        let next = self.idle.pop();
        self.leader = match next {
            Some((number, _)) => Leader::Appointed(number),
            None => Leader::Vacant,
        };
        next.map(|(_, parker)| parker)
    }

    /// Lets the thread that asks go home for good, if it will not be wanted: everything has begun,
    /// and should something come back, it comes with the thread that has it.
    pub(super) fn dismiss(&mut self) -> bool {
        let spare = self.threads > self.schedule.out() && !self.schedule.expects_more();
        self.threads -= usize::from(spare);
        spare
    }

    /// Sends everybody home; the parkers to ring.
    pub(super) fn end(&mut self) -> Vec<Arc<Parker>> {
        self.ended = true;
        let resting = self.resting();
        self.idle
            .drain(..)
            .map(|(_, parker)| parker)
            .chain(resting)
            .collect()
    }
}

/// How a run gets at itself and at more threads: borrowed within a scope, or counted without.
pub(super) trait Spawner<'env>: Clone + Send {
    type Job: Job + 'env;
    type Sink: Sink<<Self::Job as Job>::Input, <Self::Job as Job>::Output, <Self::Job as Job>::Error>
        + 'env;

    fn run(&self) -> &RunShared<'env, Self::Job, Self::Sink>;

    /// Starts a thread that works with this lead.
    fn start(&self, lead: LeaderGuard<'env, Self>, number: usize) -> io::Result<()>;
}

/// The lead of a run.
pub(super) struct LeaderGuard<'env, C: Spawner<'env>> {
    spawner: C,
    held: bool,
    _env: PhantomData<&'env ()>,
}

impl<'env, C: Spawner<'env>> LeaderGuard<'env, C> {
    /// The lead that [`RunState::new`] starts with, or that has just been taken under the lock.
    pub(super) fn taken(spawner: C) -> Self {
        Self {
            spawner,
            held: true,
            _env: PhantomData,
        }
    }

    pub(super) fn spawner(&self) -> &C {
        &self.spawner
    }

    /// Hands the lead to an idle thread, or to a new one; if there is nothing to lead to, or no
    /// thread to be had, it lies vacant.
    pub(super) fn pass_on(mut self) {
        let run = self.spawner.run();
        let number = {
            let mut core = run.core.lock();
            if core.ended || !core.schedule.expects_more() {
                core.leader = Leader::Vacant;
                self.held = false;
                return;
            }
            if !core.idle.is_empty() {
                let parker = core.hand_over();
                drop(core);
                unpark(parker);
                self.held = false;
                return;
            }
            if core.no_more_threads || core.threads >= run.limiter.concurrency() {
                core.leader = Leader::Vacant;
                self.held = false;
                return;
            }
            core.threads += 1;
            core.started += 1;
            core.started - 1
        };
        let spawner = self.spawner.clone();
        // Should it fail, the lead comes back by being dropped, and lies vacant.
        if let Err(error) = spawner.start(self, number) {
            log::warn!(
                "cannot start thread {}, going on without: {error}",
                number + 1
            );
            let mut core = spawner.run().core.lock();
            core.threads -= 1;
            core.no_more_threads = true;
        }
    }
}

impl<'env, C: Spawner<'env>> Drop for LeaderGuard<'env, C> {
    fn drop(&mut self) {
        if self.held {
            let parker = self.spawner.run().core.lock().hand_over();
            unpark(parker);
        }
    }
}
