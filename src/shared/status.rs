//! What a process knows of the store of its shared limits, for those who watch it.

use std::sync::Arc;
use std::time::Duration;

/// The state of a shared limit, as this process knows it from the store.
///
/// [`Limiter::shared_status`](crate::Limiter::shared_status) gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedStatus {
    /// The URL of the store, without a password.
    pub store: Arc<str>,
    /// How many processes share the limits, this one among them, as the store last said. 0 before
    /// it has said anything.
    pub processes: u64,
    /// The most processes that have shared the limits at once so far.
    pub processes_peak: u64,
    /// How often the store has answered so far.
    pub round_trips: u64,
    /// For how long the store has not been reached; `None` while it is reached.
    pub gone: Option<Duration>,
    /// Why the last try to reach the store failed; `None` while it is reached.
    pub error: Option<Arc<str>>,
    /// Whether requests are sent without the store, at the
    /// [fallback's](crate::Shared::fallback_share) share of the limits.
    pub falls_back: bool,
}
