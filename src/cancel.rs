//! Cancel: a flag that wakes every thread waiting on its behalf.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::clock::Parker;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU8, Ordering};

/// Stops a run from outside, from any thread.
///
/// [`cancel`](Cancel::cancel) stops admission: nothing new is sent, every wait ends at once, and
/// what is in flight is finished. [`abort`](Cancel::abort) also shuts down the sockets of what is
/// in flight. Both are for good. Clones are the same flag.
///
/// ```
/// use tollgate::{Cancel, Cost, ErrorKind, Limiter, Rate};
///
/// let cancel = Cancel::new();
/// let limiter = Limiter::builder().requests(Rate::per_hour(1)).build()?;
/// let _the_only_one_this_hour = limiter.acquire(Cost::ONE)?;
///
/// let elsewhere = cancel.clone();
/// std::thread::spawn(move || elsewhere.cancel());
/// let refused = limiter.acquire_cancellable(Cost::ONE, &cancel).unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::Cancelled);
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Flag,
    /// Looked at besides the own state: whoever raises it takes a while to get round to all its
    /// children, and a second call that finds it raised returns before that.
    parent: Option<Arc<Shared>>,
    listeners: Mutex<Listeners>,
}

const LIVE: u8 = 0;
const CANCELLED: u8 = 1;
const ABORTED: u8 = 2;

struct Flag(AtomicU8);

impl Default for Flag {
    fn default() -> Self {
        Self(AtomicU8::new(LIVE))
    }
}

#[derive(Default)]
struct Listeners {
    next: u64,
    by_id: BTreeMap<u64, Listener>,
}

#[derive(Clone)]
enum Listener {
    /// A thread waiting somewhere.
    Parker(Arc<Parker>),
    /// What to do on an abort.
    Hook(Arc<dyn Fn() + Send + Sync>),
    /// A flag that falls when this one does.
    Child(Weak<Shared>),
}

impl Cancel {
    /// A flag nobody has raised yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops admission and wakes every wait; what is in flight is finished.
    pub fn cancel(&self) {
        self.0.raise(CANCELLED);
    }

    /// As [`cancel`](Cancel::cancel), and shuts down the sockets of what is in flight.
    ///
    /// A host-name look-up or a TCP connect already under way is not interrupted; it ends within
    /// the connect timeout.
    pub fn abort(&self) {
        self.0.raise(ABORTED);
    }

    /// Whether [`cancel`](Cancel::cancel) or [`abort`](Cancel::abort) has been called.
    pub fn is_cancelled(&self) -> bool {
        self.0.raised_to() != LIVE
    }

    /// Whether [`abort`](Cancel::abort) has been called.
    pub fn is_aborted(&self) -> bool {
        self.0.raised_to() == ABORTED
    }

    /// For work between whose steps nothing is lost by stopping.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] once the flag is raised.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
        }
        Ok(())
    }

    /// A flag of its own that is also raised whenever this one is.
    ///
    /// ```
    /// use tollgate::Cancel;
    ///
    /// let all = Cancel::new();
    /// let (one, other) = (all.child(), all.child());
    /// one.cancel();
    /// assert!(one.is_cancelled() && !other.is_cancelled());
    /// all.cancel();
    /// assert!(other.is_cancelled());
    /// ```
    pub fn child(&self) -> Self {
        let child = Self(Arc::new(Shared {
            parent: Some(Arc::clone(&self.0)),
            ..Shared::default()
        }));
        {
            let mut listeners = self.0.listeners.lock();
            // A long-lived flag outlives the children of many runs.
            listeners.by_id.retain(
                |_, listener| !matches!(listener, Listener::Child(gone) if gone.strong_count() == 0),
            );
            listeners.add(Listener::Child(Arc::downgrade(&child.0)));
        }
        // Looked at after joining: whoever raised the flag in between saw this child or is seen here.
        child.0.raise(self.0.raised_to());
        child
    }

    /// Has `parker` rung when the flag is raised, for as long as the answer lives.
    ///
    /// The caller looks at the flag after this call and before lying down.
    pub(crate) fn listen(&self, parker: &Arc<Parker>) -> Listening<'_> {
        let id = self
            .0
            .listeners
            .lock()
            .add(Listener::Parker(Arc::clone(parker)));
        Listening { cancel: self, id }
    }

    /// Has `hook` called on an abort, at once if it has happened already.
    ///
    /// For hooks that are kept beside the flag: the answer neither borrows it nor keeps it alive.
    pub(crate) fn hook_abort(&self, hook: impl Fn() + Send + Sync + 'static) -> AbortHook {
        let hook: Arc<dyn Fn() + Send + Sync> = Arc::new(hook);
        let listener = Listener::Hook(Arc::clone(&hook));
        let id = self.0.listeners.lock().add(listener);
        if self.is_aborted() {
            hook();
        }
        AbortHook {
            flag: Arc::downgrade(&self.0),
            id,
        }
    }
}

impl Shared {
    fn raised_to(&self) -> u8 {
        let own = self.state.0.load(Ordering::SeqCst);
        match &self.parent {
            Some(parent) if own < ABORTED => own.max(parent.raised_to()),
            _ => own,
        }
    }

    fn raise(&self, to: u8) {
        if self.state.0.fetch_max(to, Ordering::SeqCst) >= to {
            return;
        }
        // Copied out first: parkers, hooks and children take locks of their own.
        let listeners: Vec<Listener> = self.listeners.lock().by_id.values().cloned().collect();
        for listener in listeners {
            match listener {
                Listener::Parker(parker) => parker.unpark(),
                Listener::Hook(hook) if to == ABORTED => hook(),
                Listener::Hook(_) => {}
                Listener::Child(child) => {
                    if let Some(child) = child.upgrade() {
                        child.raise(to);
                    }
                }
            }
        }
    }
}

impl Listeners {
    fn add(&mut self, listener: Listener) -> u64 {
        let id = self.next;
        self.next += 1;
        self.by_id.insert(id, listener);
        id
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel")
            .field("cancelled", &self.is_cancelled())
            .field("aborted", &self.is_aborted())
            .finish_non_exhaustive()
    }
}

/// Held while a thread wants to hear of a cancellation; dropping it signs off.
#[must_use = "dropping it signs off"]
pub(crate) struct Listening<'a> {
    cancel: &'a Cancel,
    id: u64,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let gone = self.cancel.0.listeners.lock().by_id.remove(&self.id);
        // After the lock.
        drop(gone);
    }
}

/// Held while an abort is to be heard of; dropping it signs off.
#[must_use = "dropping it signs off"]
pub(crate) struct AbortHook {
    flag: Weak<Shared>,
    id: u64,
}

impl Drop for AbortHook {
    fn drop(&mut self) {
        if let Some(flag) = self.flag.upgrade() {
            let gone = flag.listeners.lock().by_id.remove(&self.id);
            // A hook owns what it captured: dropped here, after the lock.
            drop(gone);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn raising_wakes_a_waiting_thread() {
        let cancel = Cancel::new();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let parker = Parker::new();
                let _listening = cancel.listen(&parker);
                while !cancel.is_cancelled() {
                    Clock::system().park(&parker, None);
                }
            });
            cancel.cancel();
            waiter.join().unwrap();
        });
    }

    #[test]
    fn abort_hooks_run_once_on_abort_and_not_on_cancel() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let cancel = Cancel::new();
        let _hook = cancel.hook_abort(|| {
            CALLS.fetch_add(1, Ordering::SeqCst);
        });
        cancel.cancel();
        assert_eq!(CALLS.load(Ordering::SeqCst), 0);
        cancel.abort();
        cancel.abort();
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
        let _late = cancel.hook_abort(|| {
            CALLS.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_child_has_fallen_as_soon_as_its_parent_has() {
        let all = Cancel::new();
        let child: Arc<Mutex<Option<Cancel>>> = Arc::default();
        let seen = Arc::new(AtomicUsize::new(0));
        let (of_hook, log) = (Arc::clone(&child), Arc::clone(&seen));
        // Called in the middle of the raising, before the child's turn.
        let hook = all.hook_abort(move || {
            let fallen = of_hook.lock().as_ref().is_some_and(Cancel::is_aborted);
            log.store(1 + usize::from(fallen), Ordering::SeqCst);
        });
        *child.lock() = Some(all.child());
        all.abort();
        assert_eq!(seen.load(Ordering::SeqCst), 2);
        drop(hook);
    }

    #[test]
    fn a_child_born_after_the_fall_has_fallen() {
        let cancel = Cancel::new();
        cancel.abort();
        assert!(cancel.child().is_aborted());
    }
}
