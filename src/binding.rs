//! What keeps a request or a run from going faster, and for how long.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// What keeps a request, or a whole run, from going faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Binding {
    /// The limit on requests in a time: set, announced by the server, or learned from its refusals.
    Requests,
    /// The limit on model tokens in a time: on those of prompts and answers together.
    Tokens,
    /// The limit on the model tokens of prompts, where the provider limits these apart.
    InputTokens,
    /// The limit on the model tokens of answers, where the provider limits these apart.
    OutputTokens,
    /// The concurrency: as many requests are in flight as may be.
    InFlight,
    /// The store of a limit that several processes share: it has not answered yet, or is gone.
    /// While it answers, what binds is the rate.
    SharedLimit,
    /// Another run on the same limiter: it is that run's turn.
    Queue,
    /// A pause that the server asked for, or the slow start after it.
    Pause,
    /// Backoff: the wait of a request before its next attempt. It holds a run back when everything
    /// that is left waits so.
    Backoff,
    /// An outage: the server cannot be reached or fails, and is asked now and then.
    Outage,
    /// The input: it gives nothing to send.
    Input,
    /// The warm-up: the first requests have not ended, and all others wait for them.
    Warmup,
    /// The wire: requests have been sent, and their answers have not come.
    Wire,
}

impl Binding {
    /// All of them in their order, each with its name.
    const NAMES: [(Self, &'static str); 13] = [
        (Self::Requests, "requests"),
        (Self::Tokens, "tokens"),
        (Self::InputTokens, "input_tokens"),
        (Self::OutputTokens, "output_tokens"),
        (Self::InFlight, "in_flight"),
        (Self::SharedLimit, "shared_limit"),
        (Self::Queue, "queue"),
        (Self::Pause, "pause"),
        (Self::Backoff, "backoff"),
        (Self::Outage, "outage"),
        (Self::Input, "input"),
        (Self::Warmup, "warmup"),
        (Self::Wire, "wire"),
    ];

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::NAMES.into_iter().map(|(binding, _)| binding)
    }

    /// Its name in records and summaries: `requests`, `tokens`, `input_tokens`, `output_tokens`,
    /// `in_flight`, `shared_limit`, `queue`, `pause`, `backoff`, `outage`, `input`, `warmup` or
    /// `wire`.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize].1
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where time went: that of a request, or that of a whole run.
///
/// The time of a request is split into what it waited for, and the [`Wire`](Binding::Wire). The
/// time of a run is split by what held it back at each moment. Time of the program itself, such as
/// that of starting threads, is not in it.
///
/// ```
/// use tollgate::{Cost, Limiter, Rate};
///
/// let limiter = Limiter::builder().requests(Rate::per_second(100)).burst(1).build()?;
/// let first = limiter.acquire(Cost::ONE)?;
/// let second = limiter.acquire(Cost::ONE)?;
/// let waited = second.waited();
/// for (binding, time) in waited.iter() {
///     println!("{binding}: {time:?}"); // requests: 9.98ms
/// }
/// assert_eq!(waited.total(), waited.waited(), "a permit has seen no wire");
/// # drop(first);
/// # Ok::<(), tollgate::Error>(())
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Times([u64; Binding::NAMES.len()]);

impl Times {
    /// The time of this one.
    pub fn of(&self, binding: Binding) -> Duration {
        Duration::from_nanos(self.0[binding as usize])
    }

    /// The sum of all times.
    pub fn total(&self) -> Duration {
        self.iter().map(|(_, time)| time).sum()
    }

    /// Each that took time, with its time.
    pub fn iter(&self) -> impl Iterator<Item = (Binding, Duration)> {
        let all = Binding::all().map(|binding| (binding, self.of(binding)));
        all.filter(|(_, time)| !time.is_zero())
    }

    /// The sum of all times but that of the wire: the waits before attempts and between them.
    pub fn waited(&self) -> Duration {
        self.total().saturating_sub(self.of(Binding::Wire))
    }

    /// What took the most time: the binding limit. `None` if nothing took any.
    pub fn binding(&self) -> Option<Binding> {
        let longest = self.iter().max_by_key(|(_, time)| *time);
        longest.map(|(binding, _)| binding)
    }

    pub(crate) fn add(&mut self, binding: Binding, time: Duration) {
        let sum = &mut self.0[binding as usize];
        *sum = sum.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl AddAssign for Times {
    fn add_assign(&mut self, other: Self) {
        for (binding, time) in other.iter() {
            self.add(binding, time);
        }
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_binds_and_what_took_no_time_is_left_out() {
        let mut times = Times::default();
        assert_eq!((times.binding(), times.iter().count()), (None, 0));
        times.add(Binding::Wire, Duration::from_millis(500));
        times.add(Binding::Pause, Duration::from_millis(300));
        times.add(Binding::Pause, Duration::from_millis(300));
        assert_eq!(times.binding(), Some(Binding::Pause));
        assert_eq!(times.of(Binding::Pause), Duration::from_millis(600));
        assert_eq!(times.total(), Duration::from_millis(1_100));
        assert_eq!(times.waited(), Duration::from_millis(600));
        assert_eq!(format!("{times:?}"), "{Pause: 600ms, Wire: 500ms}");
        times.add(Binding::Wire, Duration::MAX);
        assert_eq!(times.binding(), Some(Binding::Wire));
    }

    #[test]
    fn each_binding_has_a_place_and_a_name_of_its_own() {
        for (place, binding) in Binding::all().enumerate() {
            assert_eq!(binding as usize, place);
            let same = |other: &Binding| other.as_str() == binding.as_str();
            assert_eq!(Binding::all().filter(same).count(), 1);
        }
    }
}
