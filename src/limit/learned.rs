//! What a limiter tells of the limits that it has found.

use super::rate::Rate;

/// What a limiter has learned of the provider's limits, where they are lower than those that are set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Learned {
    /// Requests, as answers announce it.
    pub requests: Option<Rate>,
    /// Requests, as refusals tell it, if that is lower still.
    pub from_refusals: Option<Rate>,
    /// How many requests may be in flight at once, as refusals tell it, if that is lower than what is set.
    pub at_once: Option<usize>,
    /// Model tokens, as answers announce it.
    pub tokens: Option<Rate>,
    /// Values in answers that should announce a limit and make no sense, such as -1. They are ignored.
    pub ignored: u64,
}

impl Learned {
    /// Whether the limits are the same, but for a small change of a rate that moves all the time.
    pub(crate) fn is_close_to(&self, other: &Self) -> bool {
        let paced = match (self.from_refusals, other.from_refusals) {
            (Some(rate), Some(other)) => {
                (rate.units_per_second() / other.units_per_second() - 1.0).abs() < 0.1
            }
            (rate, other) => rate == other,
        };
        let but_for_that = Self {
            from_refusals: self.from_refusals,
            ignored: self.ignored,
            ..*other
        };
        paced && *self == but_for_that
    }
}
