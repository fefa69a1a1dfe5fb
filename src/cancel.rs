//! Cancel: a flag that wakes every thread waiting on its behalf.

use std::sync::{Arc, Weak};

use crate::clock::Parker;
use crate::error::{Error, ErrorKind, Result};
use crate::opaque::opaque;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU8, Ordering};

/// Stops a run from outside, from any thread.
///
/// After [`cancel`](Cancel::cancel) nothing new is sent, every wait ends, and requests in flight
/// are finished. [`abort`](Cancel::abort) also shuts down the sockets of those. Neither can be
/// undone. Clones are the same flag.
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
pub struct Cancel(Arc<Flag>);

#[derive(Default)]
struct Flag {
    /// [`LIVE`], [`CANCELLED`] or [`ABORTED`]; only ever raised.
    raised: AtomicU8,
    /// Read besides the own `raised`: the thread that raises a parent reaches its children one
    /// after the other, and none may look live meanwhile.
    parent: Option<Arc<Flag>>,
    listeners: Mutex<Listeners>,
}

const LIVE: u8 = 0;
const CANCELLED: u8 = 1;
const ABORTED: u8 = 2;

#[derive(Clone, Default)]
struct Listeners {
    parkers: Vec<Weak<Parker>>,
    on_abort: Vec<Weak<dyn OnAbort>>,
    children: Vec<Weak<Flag>>,
}

/// What does something when a run is aborted.
pub(crate) trait OnAbort: Send + Sync {
    /// `cancel` is the [`Cancel::id`] of the flag.
    fn aborted(&self, cancel: usize);
}

impl Cancel {
    /// A flag that is not raised yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops sending and ends every wait. Requests in flight are finished.
    pub fn cancel(&self) {
        self.0.raise(CANCELLED);
    }

    /// As [`cancel`](Cancel::cancel), and shuts down the sockets of the requests in flight.
    ///
    /// The look-up of a host name or a TCP connect that has begun is not interrupted. It ends
    /// within the connect timeout.
    pub fn abort(&self) {
        self.0.raise(ABORTED);
    }

    /// Whether [`cancel`](Cancel::cancel) or [`abort`](Cancel::abort) has been called.
    pub fn is_cancelled(&self) -> bool {
        self.0.raised() != LIVE
    }

    /// Whether [`abort`](Cancel::abort) has been called.
    pub fn is_aborted(&self) -> bool {
        self.0.raised() == ABORTED
    }

    /// For work in steps that can stop between any two.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] once the flag is raised.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
        }
        Ok(())
    }

    /// Another flag, which is raised whenever this one is, and can be raised alone.
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
        let child = Self(Arc::new(Flag {
            parent: Some(Arc::clone(&self.0)),
            ..Flag::default()
        }));
        let weak = Arc::downgrade(&child.0);
        list(&mut self.0.listeners.lock().children, weak);
        // After it is listed: a thread that raises this flag either finds the child, or is seen
        // here.
        child.0.raise(self.0.raised());
        child
    }

    /// Unparks `parker` when the flag is raised, for as long as somebody has the parker.
    ///
    /// The caller checks the flag after this call and before it parks.
    pub(crate) fn listen(&self, parker: &Arc<Parker>) {
        let weak = Arc::downgrade(parker);
        list(&mut self.0.listeners.lock().parkers, weak);
    }

    /// Calls `target` on an abort, once however often it is given here, and until it is dropped.
    ///
    /// The caller checks the flag after this call.
    pub(crate) fn on_abort<T: OnAbort + 'static>(&self, target: &Arc<T>) {
        let mut listeners = self.0.listeners.lock();
        let targets = &mut listeners.on_abort;
        if !targets
            .iter()
            .any(|it| it.as_ptr().addr() == Arc::as_ptr(target).addr())
        {
            let target: Weak<T> = Arc::downgrade(target);
            list(targets, target);
        }
    }

    /// Tells this flag from every other while it lives. Clones have the same. Never below 2.
    pub(crate) fn id(&self) -> usize {
        self.0.id()
    }
}

impl Flag {
    fn raised(&self) -> u8 {
        let own = self.raised.load(Ordering::SeqCst);
        match &self.parent {
            Some(parent) if own < ABORTED => own.max(parent.raised()),
            _ => own,
        }
    }

    fn raise(&self, to: u8) {
        if self.raised.fetch_max(to, Ordering::SeqCst) >= to {
            return;
        }
        // Copied, and called after the lock: all of them take locks of their own.
        let listeners = self.listeners.lock().clone();
        for parker in listeners.parkers.iter().filter_map(Weak::upgrade) {
            parker.unpark();
        }
        if to == ABORTED {
            for target in listeners.on_abort.iter().filter_map(Weak::upgrade) {
                target.aborted(self.id());
            }
        }
        for child in listeners.children.iter().filter_map(Weak::upgrade) {
            child.raise(to);
        }
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

opaque!(Cancel, "Cancel", |it| cancelled: it.is_cancelled(), aborted: it.is_aborted());

/// Adds to a list, from which what is gone is dropped before it grows: one flag may have a child or
/// a parker for each of many runs, and a run has one for each wait.
fn list<T: ?Sized>(list: &mut Vec<Weak<T>>, it: Weak<T>) {
    if list.len() == list.capacity() {
        list.retain(|it| it.strong_count() > 0);
    }
    list.push(it);
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
                cancel.listen(&parker);
                while !cancel.is_cancelled() {
                    Clock::system().park(&parker, None);
                }
            });
            cancel.cancel();
            waiter.join().unwrap();
        });
    }

    /// Counts its aborts, and those at which the child had not fallen yet.
    #[derive(Default)]
    struct Target {
        aborts: AtomicUsize,
        child: Mutex<Option<Cancel>>,
        early: AtomicUsize,
    }

    impl OnAbort for Target {
        fn aborted(&self, _: usize) {
            self.aborts.fetch_add(1, Ordering::SeqCst);
            if self
                .child
                .lock()
                .as_ref()
                .is_some_and(|it| !it.is_aborted())
            {
                self.early.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    #[test]
    fn an_abort_is_told_once_and_a_cancel_is_not() {
        let (cancel, target) = (Cancel::new(), Arc::new(Target::default()));
        cancel.on_abort(&target);
        cancel.on_abort(&target);
        cancel.cancel();
        assert_eq!(target.aborts.load(Ordering::SeqCst), 0);
        cancel.abort();
        cancel.abort();
        assert_eq!(target.aborts.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn targets_and_children_that_are_gone_are_forgotten() {
        let (cancel, kept) = (Cancel::new(), Arc::new(Target::default()));
        for _ in 0..10 {
            cancel.on_abort(&kept);
            cancel.on_abort(&Arc::new(Target::default()));
            cancel.listen(&Parker::new());
            drop(cancel.child());
        }
        let listeners = cancel.0.listeners.lock();
        assert!(listeners.on_abort.len() <= 4 && listeners.children.len() <= 4);
        assert!(listeners.parkers.len() <= 4);
    }

    #[test]
    fn a_child_has_fallen_as_soon_as_its_parent_has() {
        let (all, target) = (Cancel::new(), Arc::new(Target::default()));
        // Told in the middle of the raising, before the child is.
        all.on_abort(&target);
        *target.child.lock() = Some(all.child());
        all.abort();
        assert_eq!(target.early.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_child_born_after_the_fall_has_fallen() {
        let cancel = Cancel::new();
        cancel.abort();
        assert!(cancel.child().is_aborted());
    }
}
