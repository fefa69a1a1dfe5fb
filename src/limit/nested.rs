//! Which limiters' permits the current thread holds for the job of a pool.
//!
//! A job may not run or acquire on the limiter that admitted it. With every permit held by such a
//! job, each would wait for another to finish, for ever. The pool marks its threads here, and the
//! limiter checks the mark. A permit that a plain thread acquires is not marked: a plain thread may
//! hold several.

use std::cell::RefCell;

use crate::error::{Error, ErrorKind, Result};

#[cfg(not(loom))]
thread_local! {
    // One limiter for each pool whose job encloses the current one, so rarely more than two.
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

// All threads of a loom model run on one thread of the system.
#[cfg(loom)]
loom::thread_local! {
    static HELD: RefCell<Vec<usize>> = RefCell::new(Vec::new());
}

/// Marks a limiter as held by the current thread, until dropped.
#[derive(Debug)]
pub(crate) struct HeldMark(usize);

impl HeldMark {
    pub(super) fn set(limiter: usize) -> Self {
        HELD.with(|held| held.borrow_mut().push(limiter));
        Self(limiter)
    }
}

impl Drop for HeldMark {
    fn drop(&mut self) {
        HELD.with(|held| {
            let mut held = held.borrow_mut();
            if let Some(last) = held.iter().rposition(|&limiter| limiter == self.0) {
                held.remove(last);
            }
        });
    }
}

/// Fails if the current thread has marked this limiter.
pub(super) fn check(limiter: usize) -> Result<()> {
    if HELD.with(|held| held.borrow().contains(&limiter)) {
        return Err(Error::new(
            ErrorKind::Nested,
            "this job holds a permit of the limiter that it asks for another, and could wait for \
             itself for ever: ask after the job, or give the inner work a limiter of its own",
        ));
    }
    Ok(())
}
