//! Which limiters' permits the current thread holds on behalf of a pool's job.
//!
//! A job that runs or acquires on the limiter that admitted it would wait for a place it occupies
//! itself: with every worker doing so, for ever. The pool marks its workers here, and the limiter
//! looks. Permits that plain threads take are not marked: holding several at once is their right.

use std::cell::RefCell;

#[cfg(not(loom))]
thread_local! {
    // A handful at the most: one for each pool whose job encloses the current one.
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

// Loom's threads take turns on one of the system's.
#[cfg(loom)]
loom::thread_local! {
    static HELD: RefCell<Vec<usize>> = RefCell::new(Vec::new());
}

/// Marks the limiter with this identity as held until dropped.
#[derive(Debug)]
pub(crate) struct Held(usize);

impl Held {
    pub(super) fn mark(limiter: usize) -> Self {
        HELD.with(|held| held.borrow_mut().push(limiter));
        Self(limiter)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.with(|held| {
            let mut held = held.borrow_mut();
            if let Some(last) = held.iter().rposition(|&limiter| limiter == self.0) {
                held.remove(last);
            }
        });
    }
}

pub(super) fn is_held(limiter: usize) -> bool {
    HELD.with(|held| held.borrow().contains(&limiter))
}
