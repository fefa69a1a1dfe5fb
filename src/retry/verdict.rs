//! What to do about a failure, in words that know nothing of HTTP.

use std::time::Duration;

use crate::binding::Binding;
use crate::limit::Heard;

/// What to do about one failed attempt.
///
/// A [`Client`](crate::Client) finds the verdict in the tables of the guide's page on
/// [retries](crate::_guide::retries). A [`Pool`](crate::Pool) asks a closure of yours.
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
    /// The failure may pass: try again after the usual backoff. Counts for
    /// [`max_attempts`](crate::Retry::max_attempts).
    Retry,
    /// The server is asked too fast and does not say how long to wait. Everyone waits, for 0.25 s
    /// at first. If the server still answers most requests, the item alone waits, twice as
    /// long as after a [`Retry`](Self::Retry). Does not count for `max_attempts`. When this is all
    /// that comes, the run sends one request at a time to find out when it is over.
    Throttled,
    /// The server asked to wait this long. The limiter is paused, so that all users of it wait, and
    /// the item is tried again before anything new. If the server still answers most requests, the
    /// item alone waits. Does not count for `max_attempts`, but for
    /// [`max_waits`](crate::Retry::max_waits).
    PauseAll(Duration),
    /// As [`PauseAll`](Verdict::PauseAll), for this item alone: nothing else waits.
    RetryAfter(Duration),
    /// Nothing could be sent. The run waits until the server is back and sends one request at a
    /// time to find out. Does not count for `max_attempts`.
    Unreachable,
    /// There was an answer, and it is of no use. It may have been billed, so the item is tried
    /// again at most twice. Counts for `max_attempts`.
    Unusable,
    /// This item cannot succeed.
    Fail,
    /// This item cannot succeed, and perhaps none can. The number says which sort of failure it is;
    /// a client gives the HTTP status. The run stops after ten failures in a row with the same
    /// number, if nothing has succeeded since it started; see
    /// [`Retry::stop_alike`](crate::Retry::stop_alike).
    FailOrStopIfRepeated(u16),
    /// No item can succeed until somebody does something. The run stops: requests in flight are
    /// finished, and nothing new is sent.
    Stop,
}

/// An item that is refused again while others are let in waits at least this, times 4 for each
/// attempt after its first.
const STRAY_BACKOFF: Duration = Duration::from_millis(25);

impl Verdict {
    /// The wait that a refusal asks for, if it asks for one; `None` if this is none.
    #[expect(clippy::option_option, reason = "a refusal, and its wait")]
    pub(crate) fn refusal(self) -> Option<Option<Duration>> {
        match self {
            Self::PauseAll(hint) => Some(Some(hint)),
            Self::Throttled => Some(None),
            _ => None,
        }
    }

    /// Whether the server refused the item, whoever waits for it.
    pub(crate) fn is_refusal(self) -> bool {
        self.refusal().is_some() || matches!(self, Self::RetryAfter(_))
    }

    /// What becomes of it by what the limiter has heard of the item's attempt with this number, and
    /// how long everyone waits with the item, if they do. A wait that no server asks for is a
    /// backoff: no longer than `longest_backoff`.
    pub(crate) fn heard(
        self,
        heard: Heard,
        attempt: u32,
        longest_backoff: Duration,
    ) -> (Self, Option<Duration>) {
        // Waits of milliseconds would use up the attempts of one item.
        let own = || {
            let times = 4_u32.saturating_pow(attempt.saturating_sub(1)).min(1_000);
            (STRAY_BACKOFF * times).min(longest_backoff)
        };
        match (self, heard) {
            (Self::PauseAll(hint), Heard::Stray) if attempt <= 1 => (Self::RetryAfter(hint), None),
            (Self::PauseAll(hint), Heard::Stray) => (Self::RetryAfter(hint.max(own())), None),
            (Self::PauseAll(hint), Heard::Held(pause)) => {
                (self, Some(hint.min(pause).max(pause.min(longest_backoff))))
            }
            // The wait that the server asks for has nothing to do with it.
            (Self::PauseAll(_) | Self::Throttled, Heard::Full) => {
                (Self::PauseAll(Duration::ZERO), Some(Duration::ZERO))
            }
            (Self::Throttled, Heard::Held(pause)) => (self, Some(pause.min(longest_backoff))),
            _ => (self, None),
        }
    }

    /// What an item waits for after this, and for how long at least: `alone`, or with everyone for
    /// `hold`.
    pub(crate) fn wait_of_item(
        self,
        hold: Option<Duration>,
        alone: Duration,
    ) -> (Binding, Duration) {
        match (hold, self) {
            (None, _) => (Binding::Backoff, alone),
            // It waits for a place at the server.
            (Some(_), Self::PauseAll(Duration::ZERO)) => (Binding::InFlight, Duration::ZERO),
            (Some(hold), Self::PauseAll(hint)) => (Binding::Pause, hold.max(hint)),
            (Some(hold), _) => (Binding::Pause, hold),
        }
    }
}

/// How far an attempt got, whatever its verdict: what it says about the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing was sent. It does not count as an attempt.
    NotSent,
    /// Something was sent, and nothing came back.
    Unanswered,
    /// Something came back.
    Answered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_refusal_holds_its_item_alone_and_another_one_everyone() {
        let s = Duration::from_secs;
        let heard = |verdict: Verdict, heard| verdict.heard(heard, 1, s(10));
        let asked = Verdict::PauseAll(s(3));
        assert_eq!(
            heard(asked, Heard::Stray),
            (Verdict::RetryAfter(s(3)), None)
        );
        assert_eq!(heard(asked, Heard::Held(s(3))), (asked, Some(s(3))));
        // It came with others, whose pause holds everyone already.
        assert_eq!(heard(asked, Heard::Held(s(0))), (asked, Some(s(0))));
        // A place is free as soon as another request is done.
        let at_once = (Verdict::PauseAll(s(0)), Some(s(0)));
        assert_eq!(heard(asked, Heard::Full), at_once);
        assert_eq!(heard(Verdict::Throttled, Heard::Full), at_once);
        // The server asks for less than what has been in vain, and for more than a backoff may be.
        assert_eq!(heard(asked, Heard::Held(s(8))), (asked, Some(s(8))));
        let longer = Verdict::PauseAll(s(60));
        assert_eq!(heard(longer, Heard::Held(s(60))), (longer, Some(s(60))));
        let without = Verdict::Throttled;
        assert_eq!(heard(without, Heard::Stray), (without, None));
        assert_eq!(heard(without, Heard::Held(s(20))), (without, Some(s(10))));
        assert_eq!(heard(Verdict::Retry, Heard::Stray), (Verdict::Retry, None));
    }
}
