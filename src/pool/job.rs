//! What a run does with each item, and how an item can fail: the seam between the engine and what
//! it is used for.

use std::cell::{Cell, OnceCell};
use std::error::Error as StdError;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::error::{Error, ErrorKind};
use crate::limit::{Cost, RefusedFor};
use crate::retry::{Likeness, Reach, Verdict};

/// A blocking job, done once for each item, from many threads at once.
pub(crate) trait Job: Send + Sync {
    type Input: Send;
    type Output: Send;
    type Error: Send;

    /// What an attempt reserves with the limiter; an error ends the item without an attempt.
    fn cost(&self, input: &Self::Input) -> crate::error::Result<Cost>;

    /// One attempt, with a permit held.
    fn attempt(
        &self,
        input: &Self::Input,
        attempt: &Attempt<'_>,
    ) -> Result<Self::Output, Self::Error>;

    /// What to do about a failed attempt.
    fn verdict(&self, error: &Self::Error) -> Verdict;

    /// What makes a failure alike to others, if many of it in a row are to stop the run.
    fn likeness(&self, _error: &Self::Error) -> Option<Likeness> {
        None
    }

    /// The same input for a second attempt beside the first; `None` if the item must not have two
    /// at once.
    fn second(&self, _input: &Self::Input) -> Option<Self::Input> {
        None
    }

    /// The failure in the crate's own terms. It is shown while it keeps the whole run waiting, and
    /// says whether the attempt may have been paid for all the same.
    fn shown<'e>(&self, _error: &'e Self::Error) -> Option<&'e Error> {
        None
    }
}

/// The result of an attempt, with what to do about it if it failed. An `Err` outside is a panic.
pub(super) type Caught<J> =
    thread::Result<Result<<J as Job>::Output, (<J as Job>::Error, Verdict)>>;

/// Whether an item may have been paid for although it has no result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Billed {
    #[default]
    No,
    /// The answer to an attempt was lost.
    Possibly,
    /// It was sent again after that. [`Progress::possibly_billed`](super::Progress) counts it.
    PossiblyTwice,
}

/// The attempt that is being made at an item. A closure reads from it what it needs to know, and
/// tells it what it has used.
#[derive(Debug)]
pub struct Attempt<'a> {
    pub(crate) index: u64,
    pub(crate) number: u32,
    pub(crate) began: Instant,
    /// How long the item has waited so far.
    pub(crate) waited: Duration,
    pub(crate) cost: Cost,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancel: &'a Cancel,
    /// Cuts off this attempt. It is the run's own [`Cancel`], unless the item may have two attempts
    /// at once.
    pub(crate) cut: &'a Cancel,
    /// The model tokens the attempt turned out to take; the estimate stands if it is left `None`.
    pub(crate) used: Cell<Option<u64>>,
    /// What counts of these tokens against the limits: not all, or prompt and answer apart. `None`
    /// if all of them count.
    pub(crate) counted: Cell<Option<Cost>>,
    /// A wait for everyone, though the attempt may have succeeded.
    pub(crate) pause: Cell<Option<Duration>>,
    /// Why everyone waits, if the attempt succeeded.
    pub(crate) why_paused: OnceCell<Error>,
    /// What a refusal says itself that it is about.
    pub(crate) refused_for: Cell<RefusedFor>,
    /// What the log says of the answer's headers.
    pub(crate) answer: OnceCell<Box<str>>,
    /// How far it got; [`Reach::Answered`] unless told, and [`Reach::NotSent`] whenever the verdict
    /// is [`Verdict::Unreachable`].
    pub(crate) reach: Cell<Reach>,
}

impl Attempt<'_> {
    pub(super) fn was_sent(&self) -> bool {
        self.reach.get() != Reach::NotSent
    }

    /// What it counts against the limits, as far as it is known: else what was reserved. What is held
    /// until the answer is there is given back in any case, as the attempt has ended.
    pub(super) fn final_cost(&self) -> Cost {
        let used = self.used.get().map(|tokens| self.cost.with_used(tokens));
        self.counted
            .get()
            .or(used)
            .unwrap_or(self.cost.with_held(0))
    }

    /// 1 for the item's first attempt. One in which nothing was sent is not counted.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What the limiter has reserved for it.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// When it must be over, by the limiter's clock: the earlier one of the run's deadline and the
    /// item's. A closure is not interrupted at it.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The [`Cancel`] of this run. It is raised when the run is stopped, and a closure may raise it
    /// to stop the run.
    pub fn cancel(&self) -> &Cancel {
        self.cancel
    }

    /// Counts `tokens` model tokens in place of the [`cost`](Self::cost), whether the attempt
    /// succeeds or fails. Fewer are given back to the limiter when the attempt is over. More become
    /// a debt, which later attempts wait for. Default: what was reserved.
    pub fn settle(&self, tokens: u64) {
        self.used.set(Some(tokens));
    }

    /// Pauses the limiter for `wait` when this attempt is over, whether it succeeds or fails. All
    /// that use the limiter wait.
    pub fn pause(&self, wait: Duration) {
        self.pause.set(Some(wait));
    }
}

/// Why an item has no result.
///
/// ```
/// use tollgate::{Failure, Pool, Verdict};
///
/// let words = ["12", "seven"];
/// let numbers = Pool::new(2)?.try_map(&words, |word| word.parse::<u32>(), |_| Verdict::Fail);
/// for number in &numbers {
///     match number {
///         Ok(number) => println!("{number}"),
///         Err(Failure::Job(error)) => println!("the closure's own error: {error}"),
///         Err(Failure::Panicked(panicked)) => println!("the closure panicked: {panicked}"),
///         Err(other) => println!("it was not completed: {other}"),
///     }
/// }
/// assert!(matches!(numbers[1], Err(Failure::Job(_))));
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure<E> {
    /// Its last attempt failed with this, and it was given up.
    Job(E),
    /// It panicked.
    Panicked(Panicked),
    /// It was cut short by a cancel, the end of the run or a deadline, or it could never have been
    /// attempted, as with a cost that never fits.
    NotCompleted {
        /// Which of these: its [`kind`](Error::kind) tells.
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
            Self::NotCompleted { last, .. } => last.as_ref().map(|last| last as _),
        }
    }
}

#[cold]
pub(super) fn run_over() -> Error {
    let why = "the run was stopped before this was done";
    Error::new(ErrorKind::Cancelled, why)
}

#[cold]
pub(super) fn out_of_time() -> Error {
    let why = "the deadline leaves no time for another attempt";
    Error::new(ErrorKind::Deadline, why)
}

/// A job that panicked: the rest of the run went on.
///
/// Needs a program built with `panic = "unwind"`, the default; with `"abort"` the program ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked {
    pub(super) message: String,
}

impl Panicked {
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
