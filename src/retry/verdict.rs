//! What is to be done about a failure, in words that know nothing of HTTP.

use std::time::Duration;

/// What to do about one failed attempt.
///
/// Your own classifier returns it for your own errors; the API client's table (the guide's page
/// on retries) returns it for HTTP outcomes.
///
/// ```
/// use std::time::Duration;
/// use tollgate::Verdict;
///
/// fn classify(error: &std::io::Error) -> Verdict {
///     match error.kind() {
///         std::io::ErrorKind::ConnectionRefused => Verdict::Unreachable,
///         std::io::ErrorKind::TimedOut => Verdict::Retry,
///         _ => Verdict::Fail,
///     }
/// }
/// # assert_eq!(classify(&std::io::ErrorKind::TimedOut.into()), Verdict::Retry);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// A passing failure: try again after the normal backoff. Charged to `max_attempts`.
    Retry,
    /// Too fast, and no word on how long to wait: the longer backoff. Charged.
    Throttled,
    /// The other side asked for a wait of at least this long: everyone waits that long, the gate
    /// is paused, and the attempt is not charged (at most
    /// [`max_waits`](crate::Retry::max_waits) times an item).
    PauseAll(Duration),
    /// The same for this item alone: others may have no reason to wait.
    RetryAfter(Duration),
    /// Nothing was sent. Not charged; one probe at a time is let through until something answers.
    Unreachable,
    /// There was an answer and it is unusable, so it may have cost money: tried again at most
    /// twice, whatever `max_attempts` says.
    Unusable,
    /// This item cannot succeed.
    Fail,
    /// This item cannot succeed, and ten failures in a row with the same number, with no success
    /// since the start, mean that none can: then the run stops.
    FailOrStopIfRepeated(u16),
    /// No item can succeed until somebody does something: stop the run. What is in flight is
    /// finished.
    Stop,
}

/// How far an attempt got, whatever the verdict: what it says about the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing was sent: it does not count as an attempt, and says nothing about the other side.
    NotSent,
    /// Sent, and no word came back: nobody has been heard of yet.
    Unanswered,
    /// Something answered, if only to fail.
    Answered,
}
