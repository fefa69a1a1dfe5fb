//! The store of a shared limit cannot be reached: since when, why, and when it is tried again.

use super::bucket::Nanos;
use crate::error::Error;

/// The first wait after a failure, which doubles up to the longest.
const RETRY: Nanos = 50_000_000;
const LONGEST: Nanos = 1_000_000_000;

#[derive(Clone, Debug)]
pub(super) struct Gone {
    pub(super) since: Nanos,
    pub(super) retry_at: Nanos,
    wait: Nanos,
    /// Why the last try failed.
    pub(super) error: Error,
}

impl Gone {
    /// After a try has failed, and perhaps others before it.
    pub(super) fn after(before: Option<Self>, error: Error, now: Nanos) -> Self {
        let (since, wait) = before.map_or((now, RETRY), |gone| {
            (gone.since, gone.wait.saturating_mul(2).min(LONGEST))
        });
        Self {
            since,
            retry_at: now.saturating_add(wait),
            wait,
            error,
        }
    }
}
