//! An item of the input on its way through the run, and its place in the line of those that the
//! server refused.

use std::time::{Duration, Instant};

use super::hedge::Race;
use super::job::{Billed, Failure};
use super::outcomes::{JobOutcome, Outcome, Spans};
use crate::binding::{Binding, Times};
use crate::limit::Cost;
use crate::retry::History;

/// One item of the input on its way through the run. It is boxed: it is moved often, and every
/// frame it is moved through would otherwise hold it once more.
#[derive(Debug)]
pub(crate) struct Item<I, E> {
    /// Its place in the input, from 0.
    pub(crate) index: u64,
    pub(crate) input: I,
    pub(crate) history: History,
    /// Worked out once, outside every lock: it is the user's code.
    pub(crate) cost: Option<Cost>,
    /// How the last attempt failed.
    pub(crate) last: Option<E>,
    /// Since when it is counted among those that back off, if it is.
    pub(crate) backing_off: Option<Instant>,
    /// What it waits for between two attempts, once there was one.
    pub(crate) waits_for: Option<Binding>,
    /// Where its time went.
    pub(crate) times: Times,
    pub(crate) billed: Billed,
    /// Its place in the line of those that were refused, if its last attempt was.
    pub(crate) refused: Option<Precedence>,
    /// Its part in a race, while there may be two attempts at it.
    pub(crate) race: Option<Box<Race>>,
    /// It has had a copy, and gets no other.
    pub(crate) is_copied: bool,
    /// Its answer is the copy's.
    pub(crate) by_copy: bool,
    /// Its attempts so far that were sent.
    pub(crate) spans: Spans,
}

impl<I, E> Item<I, E> {
    /// An item to which nothing has happened yet but what its history says.
    pub(super) fn new(index: u64, input: I, history: History) -> Self {
        Self {
            index,
            input,
            history,
            cost: None,
            last: None,
            backing_off: None,
            waits_for: None,
            times: Times::default(),
            billed: Billed::default(),
            refused: None,
            race: None,
            is_copied: false,
            by_copy: false,
            spans: Spans::new(),
        }
    }

    #[expect(clippy::boxed_local, reason = "it comes in its box, and ends here")]
    /// Its outcome.
    pub(super) fn ended<T>(self: Box<Self>, result: Result<T, Failure<E>>) -> JobOutcome<I, T, E> {
        Outcome {
            attempts: self.history.attempts,
            times: self.times,
            billed: self.billed,
            by_copy: self.by_copy,
            spans: self.spans,
            ..Outcome::not_attempted(self.index, Some(self.input), result)
        }
    }
}

/// An item's place in the line of those that the server refused: the least goes first.
///
/// An item that was refused once goes before anything new, the oldest first. After that it must not
/// use up its attempts while others are let in. So others go, until [so many](SUCCESSES) in a row
/// have succeeded that were sent after the last refusal was heard. Then such items go one at a time.
/// An answer may take longer than it is from one refusal to the next: after [`LONGEST_WAIT`] an item
/// goes if anything has succeeded since the last refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Precedence {
    /// Its attempts before the one that was refused last.
    pub(super) earlier: u32,
    pub(super) index: u64,
    /// When it was refused last.
    pub(super) since: Instant,
}

/// After its first refusal, its second, its third, and each further one. With 20 after the second, 40
/// to 50 new ones mostly went before such an item at two a second, where it is 10 to 20 so. With 1,
/// and 20 after the third, an item in some hundred runs took 6 attempts.
const SUCCESSES: [u32; 4] = [0, 3, 30, 180];
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl Precedence {
    pub(super) fn is_refused_again(self) -> bool {
        self.earlier > 0
    }

    /// How many must have succeeded in a row before it goes.
    pub(super) fn successes(self) -> u32 {
        SUCCESSES[self.earlier.min(3) as usize]
    }
}
