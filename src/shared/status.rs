//! What a process knows of the store of its shared limits, for those who watch it.

use std::sync::Arc;
use std::time::Duration;

/// How it goes with the store of limits that are shared with other processes.
///
/// [`Limiter::shared_status`](crate::Limiter::shared_status) gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedStatus {
    /// The store, as it was named, without a password.
    pub store: Arc<str>,
    /// How many processes share the limits, this one among them, as the store last said. 0 before
    /// it has said anything.
    pub processes: u64,
    /// The most of them at once so far.
    pub processes_peak: u64,
    /// How often the store has answered so far.
    pub round_trips: u64,
    /// How long the store has not been reached for by now, if it is gone.
    pub gone: Option<Duration>,
    /// Why it cannot be reached, as the last try said.
    pub error: Option<Arc<str>>,
    /// Whether requests are sent meanwhile, at the share to fall back on.
    pub falls_back: bool,
    /// Whether another process was given a lower limit, which holds for this one too.
    pub is_lowered: bool,
}
