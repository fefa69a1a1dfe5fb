//! What holds a run back: how long each limit did, and which one did most of late.

use std::time::{Duration, Instant};

use crate::binding::{Binding, Times};

/// What has held a run back so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BindingTrack {
    /// What holds it back now, and from when on this is not yet added up.
    now: Option<(Binding, Instant)>,
    times: Times,
    /// The times since `recent` was found.
    latest: Times,
    recent: Option<Binding>,
}

/// The binding limit is the one that held the run back most in so long. A run may change between
/// several limits many times a second.
const RECENT: Duration = Duration::from_secs(1);

impl BindingTrack {
    /// From now on it is `binding`; with `None` nothing is known to hold the run back.
    pub(crate) fn set(&mut self, binding: Option<Binding>, now: Instant) {
        self.settle(now);
        self.now = binding.map(|binding| (binding, now));
    }

    /// Adds up to now. Returns how long each has held the run back, and what did so the most of
    /// late: in the first second, of the time so far.
    pub(crate) fn settle(&mut self, now: Instant) -> (Times, Option<Binding>) {
        if let Some((binding, since)) = &mut self.now {
            let time = now.saturating_duration_since(*since);
            *since = now.max(*since);
            self.times.add(*binding, time);
            self.latest.add(*binding, time);
            if self.latest.total() >= RECENT {
                self.recent = std::mem::take(&mut self.latest).binding();
            }
        }
        let so_far = || {
            self.latest
                .binding()
                .or(self.now.map(|(binding, _)| binding))
        };
        (self.times, self.recent.or_else(so_far))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_time_and_the_recent_one_is_that_of_the_most_of_a_second() {
        let (mut track, start) = (BindingTrack::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(track.settle(at(0)), (Times::default(), None));
        // Nothing is known of the first 100 ms.
        track.set(Some(Binding::Input), at(100));
        assert_eq!(track.settle(at(100)).1, Some(Binding::Input));
        track.set(Some(Binding::InFlight), at(101));
        assert_eq!(track.settle(at(150)).1, Some(Binding::InFlight));
        // From one to the other many times a second: no change while the first has most of it.
        for turn in 1..100 {
            track.set(Some(Binding::Tokens), at(turn * 100 + 60));
            track.set(Some(Binding::InFlight), at(turn * 100 + 100));
            assert_eq!(
                track.settle(at(turn * 100 + 100)).1,
                Some(Binding::InFlight)
            );
        }
        track.set(Some(Binding::Pause), at(10_000));
        // Looked at while it lasts.
        let (times, recent) = track.settle(at(40_000));
        assert_eq!(recent, Some(Binding::Pause));
        assert_eq!(times.of(Binding::Pause), Duration::from_secs(30));
        assert_eq!(times.of(Binding::Tokens), Duration::from_millis(99 * 40));
        assert_eq!(times.total(), Duration::from_millis(40_000 - 100));
        // A look that comes late counts nothing twice.
        track.settle(at(30_000));
        track.set(None, at(41_000));
        assert_eq!(
            track.settle(at(60_000)).0.total(),
            Duration::from_millis(40_900)
        );
    }
}
