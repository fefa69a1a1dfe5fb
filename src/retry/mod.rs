//! Retries: what a failure means, how long to wait, and when to stop.
//!
//! A job's failure has a [`Verdict`]. The [`decider`](decide) makes a [`Decision`] of it, with the
//! [`policy`], the item's [`History`], the [`breaker`] and what failed [alike](alike). Nothing here
//! waits.

mod alike;
mod breaker;
mod decide;
mod policy;
mod verdict;

pub(crate) use alike::{Class, Likeness, Load};
pub(crate) use breaker::Passage;
pub(crate) use decide::{Decider, Decision, Failed, History};
pub use policy::{Backoff, Retry};
pub(crate) use verdict::Reach;
pub use verdict::Verdict;
