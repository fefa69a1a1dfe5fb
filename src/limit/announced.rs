//! What an answer says of a limit, or a refusal that names one. Nothing here knows HTTP.

use std::time::Duration;

use super::rate::Cost;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Requests,
    /// Those of prompts and answers together.
    Tokens,
    /// Those of prompts.
    InputTokens,
    /// Those of answers.
    OutputTokens,
}

impl Counted {
    pub(super) fn of(self, cost: Cost) -> u64 {
        match self {
            Self::Requests => cost.requests(),
            Self::Tokens => cost.model_tokens().saturating_add(cost.held),
            Self::InputTokens => cost.model_tokens().saturating_sub(cost.output),
            Self::OutputTokens => cost.output.saturating_add(cost.held),
        }
    }
}

/// What an answer says of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) counted: Counted,
    /// Tells limits apart that count the same. [`NAMED`] for one that a refusal names.
    pub(crate) scope: u64,
    pub(crate) limit: u64,
    pub(crate) remaining: Option<u64>,
    pub(crate) reset: Option<Reset>,
    /// The window, where the answer names it.
    pub(crate) window: Option<Duration>,
}

/// The scope of a limit that no header announces, and that a refusal names in words.
pub(crate) const NAMED: u64 = u64::MAX;

/// When a limit is full again, or its window ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) after: Duration,
    /// How coarse that is.
    pub(crate) grain: Duration,
}
