//! What the threads of a run share, and how leadership passes between them.
//!
//! Leader and followers. At most one idle thread of a run, the *leader*, waits for a permit, or for
//! something to ask a permit for. When it has one it passes leadership on, to an idle thread or a
//! new one, and makes its own attempt. So the thread that was admitted is the thread that sends, no
//! item is handed between threads, and one thread of a run waits at the limiter at a time. Threads
//! grow to what is in flight at once, rate × latency, and not to what is allowed.
//!
//! When every item has begun, a thread that has finished exits: an item that is tried again stays
//! with the thread that had it. A long run's last request does not keep thousands of idle threads.
//!
//! A thread that leads and exits, however it does, hands leadership on: an idle thread becomes the
//! leader, or leadership is vacant and the next thread that must wait takes it.

use std::io;
use std::sync::Arc;

use super::input::InputQueue;
use super::item::{Item, Precedence};
use super::job::Job;
use super::outcomes::Sink;
use super::schedule::Schedule;
use super::settings::Settings;
use crate::binding::Binding;
use crate::cancel::Cancel;
use crate::clock::{Parker, unpark};
use crate::sync::Mutex;
use crate::sync::atomic::AtomicUsize;

/// What the threads of one run share.
pub(super) struct RunShared<'env, J: Job> {
    pub(super) job: J,
    pub(super) sink: &'env Sink<'env, J::Input, J::Output, J::Error>,
    pub(super) settings: Settings,
    /// Threads that ask for a permit while another leads.
    pub(super) contending: AtomicUsize,
    pub(super) state: Mutex<RunState<J>>,
}

/// An item of a job.
pub(super) type JobItem<J> = Box<Item<<J as Job>::Input, <J as Job>::Error>>;

/// What they share under the lock.
pub(super) struct RunState<J: Job> {
    pub(super) schedule: Schedule<J::Input, J::Error>,
    pub(super) leader: Leader,
    /// Parked followers, by number; the last to park is the first to be woken.
    pub(super) idle: Vec<(usize, Arc<Parker>)>,
    pub(super) threads: usize,
    /// Threads there have ever been, by which they are numbered.
    pub(super) started: usize,
    /// The system would not give another thread; the run goes on with those there are.
    pub(super) no_more_threads: bool,
    pub(super) ended: bool,
    /// What holds the run back, as the monitor was told last.
    pub(super) binding: Option<Binding>,
}

pub(super) enum Leader {
    /// Nobody; the next thread that must wait becomes the leader.
    Vacant,
    /// Somebody who has not yet found out whether it must wait.
    Busy,
    /// Somebody who waits for a permit: nobody else need ask for one. The flag ends the wait, for
    /// an item that goes before this one.
    Waiting(Cancel, Option<Precedence>),
    /// The idle thread of this number, which has been woken for it.
    Appointed(usize),
    /// Somebody who has no item and parks here.
    Parked(Arc<Parker>),
}

impl<J: Job> RunState<J> {
    /// The parker of a leader without an item, to tell it that something has changed.
    pub(super) fn parked_leader(&self) -> Option<Arc<Parker>> {
        match &self.leader {
            Leader::Parked(parker) => Some(Arc::clone(parker)),
            _ => None,
        }
    }

    /// The flag that ends a leader's wait for a permit, if its item gives way to one that was
    /// refused.
    pub(super) fn recall(&self) -> Option<Cancel> {
        match &self.leader {
            Leader::Waiting(recall, own) if self.schedule.gives_way(*own) => Some(recall.clone()),
            _ => None,
        }
    }

    /// Appoints an idle thread, or leaves leadership vacant; the parker to unpark.
    pub(super) fn appoint(&mut self) -> Option<Arc<Parker>> {
        let next = self.idle.pop();
        self.leader = match next {
            Some((number, _)) => Leader::Appointed(number),
            None => Leader::Vacant,
        };
        next.map(|(_, parker)| parker)
    }

    /// Counts the calling thread out if it is not needed any more: everything has begun, and an
    /// item that is tried again stays with the thread that has it.
    pub(super) fn try_exit(&mut self) -> bool {
        // A thread waits until a copy is due.
        let waits = usize::from(self.schedule.expects_copies());
        let spare =
            self.threads > self.schedule.handed_out() + waits && !self.schedule.expects_more();
        self.threads -= usize::from(spare);
        spare
    }
}

impl<'env, J: Job> RunShared<'env, J> {
    pub(super) fn new(
        settings: Settings,
        job: J,
        input: Arc<InputQueue<J::Input>>,
        sink: &'env Sink<'env, J::Input, J::Output, J::Error>,
    ) -> Self {
        settings.monitor.run_begins(&settings.limiter);
        let now = settings.limiter.clock().now();
        let deadline = settings.deadline.and_then(|time| now.checked_add(time));
        // One thread, which leads.
        let state = RunState {
            schedule: Schedule::new(input, settings.retry, deadline)
                .with_warmup(settings.warmup)
                .with_hedging(settings.hedge),
            leader: Leader::Busy,
            idle: Vec::new(),
            threads: 1,
            started: 1,
            no_more_threads: false,
            ended: false,
            binding: None,
        };
        Self {
            job,
            sink,
            settings,
            contending: AtomicUsize::new(0),
            state: Mutex::new(state),
        }
    }

    /// Gives back an item that had no attempt after all. One that had some before waits again for
    /// what it waited for.
    pub(super) fn give_back(&self, state: &mut RunState<J>, mut item: JobItem<J>) {
        if item.waits_for.is_some() {
            item.backing_off = Some(self.settings.limiter.clock().now());
            self.settings.monitor.update(|it| it.backing_off += 1);
        }
        state.schedule.give_back(item);
    }

    /// Notes what holds the run back from now on.
    pub(super) fn bind(&self, state: &mut RunState<J>, binding: Binding) {
        if state.binding.replace(binding) != Some(binding) {
            self.settings.monitor.set_binding(Some(binding));
        }
    }

    /// Hands leadership to an idle thread, or leaves it vacant.
    pub(super) fn appoint(&self) {
        let next = self.state.lock().appoint();
        unpark(next);
    }

    /// Ends the run, if it has not ended: every thread exits.
    pub(super) fn end(&self) {
        let (leader, followers) = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.ended, true) {
                return;
            }
            (state.parked_leader(), std::mem::take(&mut state.idle))
        };
        self.settings.monitor.set_binding(None);
        for (_, parker) in followers {
            parker.unpark();
        }
        unpark(leader);
    }
}

/// Starts threads that may borrow for `'s`.
pub(super) trait Spawner<'s>: Copy + Send + 's {
    fn start(self, name: &str, body: impl FnOnce() + Send + 's) -> io::Result<()>;
}
