//! What a run does with each item, and how an item can end: the seam between the engine and what
//! it is used for.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::time::Instant;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::limit::Cost;
use crate::retry::{Reach, Verdict};

/// A blocking job, done once for each item, from many threads at once.
pub(crate) trait Job: Sync {
    type Input: Send;
    type Output: Send;
    type Error: Send;

    /// What an attempt reserves at the gate; an error keeps the item from ever getting there.
    fn cost(&self, input: &Self::Input) -> crate::error::Result<Cost>;

    /// One attempt, with a permit held.
    fn attempt(
        &self,
        input: &Self::Input,
        attempt: &Attempt<'_>,
    ) -> Result<Self::Output, Self::Error>;

    /// What to do about a failed attempt.
    fn verdict(&self, error: &Self::Error) -> Verdict;

    /// Whether a failed attempt may have been paid for all the same.
    fn possibly_billed(&self, _error: &Self::Error) -> bool {
        false
    }

    /// The failure in the crate's own terms, to be shown while it keeps the whole run waiting.
    fn shown(&self, _error: &Self::Error) -> Option<Error> {
        None
    }
}

/// The circumstances of one attempt.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    /// 1 for the first.
    pub(crate) number: u32,
    /// What was reserved at the gate.
    pub(crate) cost: Cost,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancel: &'a Cancel,
    /// The model tokens the attempt turned out to take; the estimate stands if it is left `None`.
    pub(crate) used: Cell<Option<u64>>,
    /// How far it got; [`Reach::Answered`] unless told, and [`Reach::NotSent`] whenever the verdict
    /// is [`Verdict::Unreachable`].
    pub(crate) reach: Cell<Reach>,
}

/// Why an item has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure<E> {
    /// Its last attempt failed with this, and it was given up.
    Job(E),
    /// It panicked.
    Panicked(Panicked),
    /// It was cut short: by a cancel, the end of the run or a deadline, or it could never have been
    /// attempted, as with a cost that never fits.
    NotCompleted {
        /// Which of these.
        reason: Error,
        /// How its last attempt failed, if it had any.
        last: Option<E>,
    },
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(error) => error.fmt(f),
            Self::Panicked(panicked) => panicked.fmt(f),
            Self::NotCompleted { reason, .. } => reason.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for Failure<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Job(error) => error.source(),
            Self::Panicked(_) => None,
            Self::NotCompleted { last, .. } => {
                last.as_ref().map(|last| last as &(dyn StdError + 'static))
            }
        }
    }
}

/// A job that panicked: the rest of the run went on.
///
/// Needs a program built with `panic = "unwind"`, the default; with `"abort"` the program ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    message: String,
}

impl Panicked {
    pub(super) fn new(message: String) -> Self {
        Self { message }
    }

    /// What the panic said.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the job panicked: {}", self.message)
    }
}

impl StdError for Panicked {}
