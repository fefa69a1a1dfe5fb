//! All cores, for work that only computes; one core without the feature `parallel`, for little work,
//! and where the system gives no threads.
//!
//! The threads live as long as a pass over a file and not longer: a run that goes on for a night
//! must not keep a thread a core beside those that are on the wire.

#[cfg(feature = "parallel")]
use std::cell::OnceCell;

/// Below so many bytes of text the threads cost more than they save.
#[cfg(feature = "parallel")]
const WORTH_THREADS: usize = 1 << 20;

/// Items a thread takes at a time.
#[cfg(feature = "parallel")]
const TASK: usize = 64;

/// A pool of threads, one a core (or as `RAYON_NUM_THREADS` says), started when there is work that
/// is worth them.
#[derive(Debug, Default)]
pub(super) struct Cores {
    #[cfg(feature = "parallel")]
    pool: OnceCell<Option<rayon::ThreadPool>>,
}

#[cfg(feature = "parallel")]
impl Cores {
    /// Applies `part` to stretches of `items` that together are all of them; the answers are in
    /// their order. `bytes` is how much text the items stand for. This thread does `meanwhile` what
    /// is its own.
    pub(super) fn map<T: Sync, U: Send>(
        &self,
        items: &[T],
        bytes: usize,
        part: impl Fn(&[T]) -> U + Sync,
        meanwhile: impl FnOnce(),
    ) -> Vec<U> {
        use rayon::prelude::*;

        let mut answers = Vec::new();
        let worth_it = bytes >= WORTH_THREADS;
        if worth_it && let Some(pool) = self.pool.get_or_init(start) {
            pool.in_place_scope(|scope| {
                scope.spawn(|_| answers = items.par_chunks(TASK).map(&part).collect());
                meanwhile();
            });
        } else {
            answers.push(part(items));
            meanwhile();
        }
        answers
    }
}

/// `None` where the system has no threads to give (`ulimit -u`): one core will do.
#[cfg(feature = "parallel")]
fn start() -> Option<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .thread_name(|number| format!("tollgate-core-{number}"))
        .build()
        .inspect_err(|error| log::warn!("one core looks through the file: {error}"))
        .ok()
}

#[cfg(not(feature = "parallel"))]
#[expect(clippy::unused_self, reason = "called as where there are threads")]
impl Cores {
    /// Applies `part` to all of `items`, then does what was to be done meanwhile.
    pub(super) fn map<T, U>(
        &self,
        items: &[T],
        _bytes: usize,
        part: impl Fn(&[T]) -> U,
        meanwhile: impl FnOnce(),
    ) -> Vec<U> {
        let answers = vec![part(items)];
        meanwhile();
        answers
    }
}
