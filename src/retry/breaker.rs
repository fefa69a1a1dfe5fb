//! The breaker: when nobody answers, one probe at a time goes and the rest stay.
//!
//! Without it an outage is paid by the items: each in its turn is tried to the end of its attempts
//! against a server that is down for everybody. With it a run waits, and the items with it. The
//! probes are spaced by 1 s, doubling to 60 s; any answer that is no failure closes the breaker.
//!
//! It opens at the first failure in which nothing could be sent, and when every attempt of at least
//! ten different items has failed for a passing reason, for two seconds or for a hundred items.
//! Different items, because a single one that always fails says nothing about the server; two
//! seconds, because a server that hiccups twice for everybody is best met by the normal backoff. Not
//! two seconds alone: a server that refuses within a millisecond is asked thousands of times in them,
//! and one item in a hundred is out of attempts by then. (Opening when one item fails again and again
//! was tried: with short waits between attempts it takes a flaky server for one that is down.)

use std::time::{Duration, Instant};

const FIRST_SPACING: Duration = Duration::from_secs(1);
const LAST_SPACING: Duration = Duration::from_secs(60);
/// Different items that fail in a row before the breaker opens.
const FAILING_ITEMS: usize = 10;
/// And for how long,
const FAILING_FOR: Duration = Duration::from_secs(2);
/// or how many of them.
const MANY_ITEMS: usize = 100;
/// A run that has never had any answer gives up when the breaker has been open for so long,
const NEVER_ANSWERED: Duration = Duration::from_secs(120);
/// and one that has had nothing but failures for answers, after so long: a server that says it is
/// down for five minutes will be back.
const NEVER_WORKED: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: State,
    /// The items that have failed since the last answer, each once.
    failing: Vec<u64>,
    failing_since: Option<Instant>,
    ever_answered: bool,
    ever_worked: bool,
}

/// What a failure was to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// It was the probe's: asked for by the run, so not to be paid by the item.
    pub(crate) probe: bool,
    /// There is no more hope.
    pub(crate) hopeless: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        since: Instant,
        spacing: Duration,
        probe_at: Instant,
        probe: Option<u64>,
    },
}

/// Whether the breaker lets an attempt through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    Free,
    /// One may go, as the probe.
    Probe,
    /// None before this instant.
    NotUntil(Instant),
    /// None until the probe that is out has come back.
    WhenProbed,
}

impl Breaker {
    pub(crate) fn passage(&self, now: Instant) -> Passage {
        match self.state {
            State::Closed => Passage::Free,
            State::Open { probe: Some(_), .. } => Passage::WhenProbed,
            State::Open { probe_at, .. } if now < probe_at => Passage::NotUntil(probe_at),
            State::Open { .. } => Passage::Probe,
        }
    }

    /// `item` goes as the probe that [`passage`](Self::passage) allowed.
    pub(crate) fn probe_sent(&mut self, item: u64) {
        if let State::Open { probe, .. } = &mut self.state {
            *probe = Some(item);
        }
    }

    /// `item` was not sent after all; whoever comes next may be the probe.
    pub(crate) fn probe_withdrawn(&mut self, item: u64) {
        if let State::Open { probe, .. } = &mut self.state
            && *probe == Some(item)
        {
            *probe = None;
        }
    }

    /// The other side is there, if only to say that it fails.
    pub(crate) fn heard(&mut self) {
        self.ever_answered = true;
    }

    /// The other side works: a success, a refusal of one item, a plea to wait.
    pub(crate) fn answered(&mut self) {
        self.heard();
        self.ever_worked = true;
        self.failing.clear();
        self.failing_since = None;
        self.state = State::Closed;
    }

    /// `item` failed for a reason that may pass. `unreachable`: nothing could be sent.
    pub(crate) fn failed(&mut self, item: u64, unreachable: bool, now: Instant) -> Noted {
        match &mut self.state {
            State::Closed => {
                let since = *self.failing_since.get_or_insert(now);
                // Never more than a hundred: with the last of them it opens.
                if !self.failing.contains(&item) {
                    self.failing.push(item);
                }
                let outage = self.failing.len() >= FAILING_ITEMS
                    && (now.saturating_duration_since(since) >= FAILING_FOR
                        || self.failing.len() >= MANY_ITEMS);
                if unreachable || outage {
                    self.state = State::Open {
                        since: now,
                        spacing: FIRST_SPACING,
                        probe_at: now + FIRST_SPACING,
                        probe: None,
                    };
                }
                Noted {
                    probe: false,
                    hopeless: false,
                }
            }
            State::Open {
                since,
                spacing,
                probe_at,
                probe,
            } => {
                // Those that were on their way when it opened say nothing new.
                let is_probe = *probe == Some(item);
                if is_probe {
                    *probe = None;
                    *spacing = (*spacing * 2).min(LAST_SPACING);
                    *probe_at = now + *spacing;
                }
                let open_for = now.saturating_duration_since(*since);
                Noted {
                    probe: is_probe,
                    hopeless: (!self.ever_answered && open_for >= NEVER_ANSWERED)
                        || (!self.ever_worked && open_for >= NEVER_WORKED),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_server_gets_one_probe_at_a_time_at_growing_distances() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(0, true, now).hopeless);
        assert!(
            !breaker.failed(1, true, now).hopeless,
            "on its way when it opened"
        );
        let mut distances = Vec::new();
        for item in 2..10 {
            let Passage::NotUntil(at) = breaker.passage(now) else {
                panic!("{:?}", breaker.passage(now))
            };
            distances.push((at - now).as_secs());
            now = at;
            assert_eq!(breaker.passage(now), Passage::Probe);
            breaker.probe_sent(item);
            assert_eq!(breaker.passage(now), Passage::WhenProbed);
            let _hopeless = breaker.failed(item, true, now);
        }
        assert_eq!(distances, [1, 2, 4, 8, 16, 32, 60, 60]);
        breaker.answered();
        assert_eq!(breaker.passage(now), Passage::Free);
    }

    #[test]
    fn a_server_that_never_answered_is_given_up_after_two_minutes() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(0, true, start).hopeless);
        breaker.probe_sent(1);
        assert!(
            !breaker
                .failed(1, true, start + Duration::from_secs(119))
                .hopeless
        );
        breaker.probe_sent(2);
        assert!(
            breaker
                .failed(2, true, start + Duration::from_secs(120))
                .hopeless
        );
    }

    #[test]
    fn a_server_that_has_been_heard_of_is_waited_for_longer_and_one_that_worked_for_ever() {
        let hopeless_after = |hear: fn(&mut Breaker), seconds: u64| {
            let start = Instant::now();
            let mut breaker = Breaker::default();
            hear(&mut breaker);
            assert!(!breaker.failed(0, true, start).hopeless);
            breaker.probe_sent(1);
            breaker
                .failed(1, true, start + Duration::from_secs(seconds))
                .hopeless
        };
        assert!(!hopeless_after(Breaker::heard, 599));
        assert!(hopeless_after(Breaker::heard, 600));
        assert!(!hopeless_after(Breaker::answered, 7_200));
    }

    #[test]
    fn ten_different_items_open_it_and_one_that_fails_for_ever_does_not() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            let _ = breaker.failed(7, false, now);
        }
        assert_eq!(breaker.passage(now), Passage::Free);

        let mut breaker = Breaker::default();
        for item in 0..20 {
            let _ = breaker.failed(item, false, now);
        }
        assert_eq!(breaker.passage(now), Passage::Free, "it may be a hiccup");
        let _ = breaker.failed(20, false, now + FAILING_FOR);
        assert!(matches!(breaker.passage(now), Passage::NotUntil(_)));
    }

    #[test]
    fn a_hundred_items_need_no_two_seconds() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for item in 0..99 {
            let _ = breaker.failed(item, false, now);
        }
        assert_eq!(breaker.passage(now), Passage::Free);
        let _ = breaker.failed(99, false, now);
        assert!(matches!(breaker.passage(now), Passage::NotUntil(_)));
    }

    #[test]
    fn a_withdrawn_probe_leaves_room_for_another() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let _ = breaker.failed(0, true, now);
        breaker.probe_sent(1);
        breaker.probe_withdrawn(1);
        assert_eq!(breaker.passage(now + FIRST_SPACING), Passage::Probe);
    }
}
