//! Retries: what a failure means, how long to wait, and when to stop.
//!
//! A job's [`Verdict`] goes in; the [`decider`] answers with a [`Decision`] from the [`policy`], the
//! item's [`History`] and the [`breaker`]. Nothing here waits.

mod breaker;
mod decide;
mod policy;
mod verdict;

pub(crate) use breaker::Passage;
pub(crate) use decide::{Decider, Decision, History};
pub use policy::{Backoff, Retry};
pub(crate) use verdict::Reach;
pub use verdict::Verdict;
