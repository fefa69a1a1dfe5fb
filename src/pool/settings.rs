//! The settings of a run, and what follows from them alone.

use std::time::Duration;

use super::events::{Event, Events};
use super::monitor::Monitor;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::limit::Limiter;
use crate::retry::Retry;

/// The settings of a run that are not its job or its input.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) limiter: Limiter,
    pub(crate) retry: Retry,
    pub(crate) cancel: Cancel,
    pub(crate) monitor: Monitor,
    pub(crate) events: Events,
    pub(crate) deadline: Option<Duration>,
    /// So many items at the start of a run go before the others.
    pub(crate) warmup: u64,
    /// Whether an item whose attempt takes too long gets a second one beside it.
    pub(crate) hedge: bool,
}

impl Settings {
    /// The most items that a lazy input may be ahead of its consumer: pulled, in flight, backing
    /// off, held back for their order, and waiting for the consumer, all together.
    pub(crate) fn window(&self) -> usize {
        self.limiter.concurrency().saturating_mul(4).max(1024)
    }

    /// Tells the observer, if there is one. No lock may be held here: it is the user's code.
    #[inline]
    pub(super) fn emit(&self, event: impl FnOnce() -> Event) {
        self.events.emit(&self.limiter, &self.monitor, event);
    }

    /// How many outcomes may wait for the consumer before threads do.
    pub(super) fn backlog(&self) -> usize {
        self.limiter.concurrency().clamp(1, 512) * 2
    }

    /// The settings of one run, whose flag is a child of the one given.
    ///
    /// # Errors
    /// A run cannot start with these, or on this thread.
    pub(super) fn for_one_run(&self) -> Result<Self> {
        self.retry.checked()?;
        self.limiter.check_nested()?;
        Ok(Self {
            cancel: self.cancel.child(),
            ..self.clone()
        })
    }
}
