//! What a limiter tells of the limits that it has learned.

use super::rate::Rate;

/// What a refusal says that it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RefusedFor {
    #[default]
    Unsaid,
    /// Too many requests are in flight.
    Places,
    /// Too many model tokens are used.
    Tokens,
    /// The server is overloaded.
    Load,
}

/// What a limiter has learned of the provider's limits. A limit is `Some` only if it is lower
/// than the one that is set, or if none is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Learned {
    /// The rate of requests that answers announce in their headers.
    pub requests: Option<Rate>,
    /// The rate of requests that was learned from refusals, if it is lower than the announced one.
    pub from_refusals: Option<Rate>,
    /// How many requests may be in flight at once, as was learned from refusals.
    pub at_once: Option<usize>,
    /// How many requests were let in at once when others were refused, as long as nobody knows
    /// whether that was for their rate or for their number.
    pub maybe_at_once: Option<usize>,
    /// The rate of model tokens that answers announce in their headers: of prompts and answers
    /// together.
    pub tokens: Option<Rate>,
    /// The rate of the model tokens of prompts that answers announce, where it is limited apart.
    pub input_tokens: Option<Rate>,
    /// The rate of the model tokens of answers that answers announce, where it is limited apart.
    pub output_tokens: Option<Rate>,
    /// The rate of model tokens that refusals name, if it is lower than the announced one.
    pub tokens_from_refusals: Option<Rate>,
    /// How many values in headers that should announce a limit made no sense, such as -1. They are
    /// ignored.
    pub ignored: u64,
}
