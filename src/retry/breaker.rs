//! The breaker: while the server is down, one request at a time is sent as a probe, and the others
//! wait.
//!
//! Without it the items would pay for an outage: each would use up its attempts against a server
//! that is down for all. The breaker is *closed* at first and lets everything through. Once *open*,
//! it lets probes through, 1 s apart, then 2 s, doubling to 60 s. An answer that shows the server
//! at work closes it.
//!
//! It opens at the first attempt in which nothing could be sent. It also opens when at least ten
//! different items in a row have failed for a transient reason, or all that are left where those
//! are fewer, and that has gone on for two seconds or for a hundred items:
//!
//! - Different items, because one item that always fails says nothing about the server. With short
//!   waits between attempts it would make a server with few failures look like one that is down.
//!   For the same reason a single item that is left opens it only if the server refused it by its
//!   load. Refusals alone for a minute are enough from however few, as those go again before
//!   others.
//! - Two seconds, because the usual backoff is enough for a server that fails for a moment.
//! - Or a hundred items, because a server that refuses within a millisecond is asked thousands of
//!   times in two seconds, and some items would be out of attempts by then.
//!
//! Six attempts may take less than two seconds. So while ten items or more fail, none makes its
//! last one before the two seconds are over, and none is charged for what fails while the breaker
//! is open.
//!
//! Of fewer than ten items nobody knows whether the server fails or they do. If the server has
//! worked before, they are held for two minutes and then go on as if there were no breaker.

use std::time::{Duration, Instant};

const FIRST_SPACING: Duration = Duration::from_secs(1);
const LAST_SPACING: Duration = Duration::from_secs(60);
/// The breaker opens when so many different items have failed in a row,
const FAILING_ITEMS: usize = 10;
/// and have done so for this long,
const FAILING_FOR: Duration = Duration::from_secs(2);
/// or when it is this many.
const MANY_ITEMS: usize = 100;
/// However few they are, it also opens when nothing but refusals has come for so long: longer than
/// most limits take to let something in again.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// A run that has never had an answer gives up when the breaker has been open for so long.
const NEVER_ANSWERED: Duration = Duration::from_secs(120);
/// Where the run's time ends before the next probe, one more goes this long before the end.
const LAST_PROBE: Duration = Duration::from_secs(1);
/// Where the server has worked, a few items that fail are held for so long.
const FEW_HELD: Duration = Duration::from_secs(120);
/// A run whose answers were all failures gives up later: the server is there, and may recover.
const NEVER_WORKED: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// `None` while the breaker is closed.
    open: Option<Open>,
    /// The items that have failed since the server last worked, each once.
    failing: Vec<u64>,
    failing_since: Option<Instant>,
    ever_answered: bool,
    ever_worked: bool,
    /// It has been open for fewer than [`FAILING_ITEMS`] in vain, and does not open for so few
    /// again until an item succeeds.
    no_more_for_few: bool,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: Instant,
    /// It opened for fewer than [`FAILING_ITEMS`].
    for_few: bool,
    spacing: Duration,
    probe_at: Instant,
    /// The item that has been sent as the probe.
    probe: Option<u64>,
}

/// What the breaker made of a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// It opened the breaker, or came while that was open: it is not the item's fault.
    pub(crate) outage: bool,
    /// The server has been down for so long that the run gives up.
    pub(crate) hopeless: bool,
}

/// Whether the breaker lets an attempt through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Any.
    Free,
    /// One, as the probe.
    Probe,
    /// None before this instant.
    NotUntil(Instant),
    /// None until the probe is back.
    WhenProbed,
}

impl Breaker {
    pub(crate) fn passage(&self, now: Instant) -> Passage {
        match self.open {
            None => Passage::Free,
            Some(Open { probe: Some(_), .. }) => Passage::WhenProbed,
            Some(Open { probe_at, .. }) if now < probe_at => Passage::NotUntil(probe_at),
            Some(_) => Passage::Probe,
        }
    }

    /// When it can be told whether the items that fail now do so for an outage. `None` while it is
    /// one, and while fewer fail than [`FAILING_ITEMS`].
    pub(crate) fn decides_at(&self) -> Option<Instant> {
        let since = self.failing_since.filter(|_| self.open.is_none())?;
        (self.failing.len() >= FAILING_ITEMS).then_some(since + FAILING_FOR)
    }

    /// `item` is sent as the probe that [`passage`](Self::passage) allowed.
    pub(crate) fn probe_sent(&mut self, item: u64) {
        if let Some(open) = &mut self.open {
            open.probe = Some(item);
        }
    }

    /// `item` was not sent after all. If it was the probe, another may be.
    pub(crate) fn probe_withdrawn(&mut self, item: u64) {
        if let Some(open) = &mut self.open
            && open.probe == Some(item)
        {
            open.probe = None;
        }
    }

    /// The server answered, if only with a failure.
    pub(crate) fn answered(&mut self) {
        self.ever_answered = true;
    }

    /// The server works: a success, a refusal of one item.
    pub(crate) fn works(&mut self) {
        self.ever_worked = true;
        self.no_more_for_few = false;
        self.asks_to_wait();
    }

    /// The server says how long to wait, and may say the same after it.
    pub(crate) fn asks_to_wait(&mut self) {
        self.ever_answered = true;
        self.failing.clear();
        self.failing_since = None;
        self.open = None;
    }

    /// `item` failed for a reason that may pass. `end` is when the run's time is over.
    pub(crate) fn failed(
        &mut self,
        item: u64,
        sign: Sign,
        end: Option<Instant>,
        now: Instant,
    ) -> Noted {
        let Some(open) = &mut self.open else {
            let since = *self.failing_since.get_or_insert(now);
            // It opens with the hundredth, so there are never more.
            if !self.failing.contains(&item) {
                self.failing.push(item);
            }
            let failing_for = now.saturating_duration_since(since);
            let needed = match sign {
                Sign::Unreachable => 0,
                Sign::Refused { .. } if failing_for >= REFUSED_FOR => 1,
                Sign::Refused { unfinished } => unfinished.clamp(1, FAILING_ITEMS),
                Sign::Failed { .. } if self.no_more_for_few => FAILING_ITEMS,
                Sign::Failed { unfinished } => unfinished.clamp(2, FAILING_ITEMS),
            };
            let opens = self.failing.len() >= needed
                && (needed == 0 || failing_for >= FAILING_FOR || self.failing.len() >= MANY_ITEMS);
            if opens {
                self.open = Some(Open {
                    since: now,
                    for_few: matches!(sign, Sign::Failed { .. }) && needed < FAILING_ITEMS,
                    spacing: FIRST_SPACING,
                    probe_at: probe_after(FIRST_SPACING, end, now),
                    probe: None,
                });
            }
            return Noted {
                outage: opens,
                ..Noted::default()
            };
        };
        // Others were sent before it opened, and say nothing new.
        if open.probe == Some(item) {
            open.probe = None;
            open.spacing = (open.spacing * 2).min(LAST_SPACING);
            open.probe_at = probe_after(open.spacing, end, now);
        }
        let open_for = now.saturating_duration_since(open.since);
        if open.for_few && self.ever_worked && open_for >= FEW_HELD {
            self.no_more_for_few = true;
            self.asks_to_wait();
            return Noted::default();
        }
        Noted {
            outage: true,
            hopeless: (!self.ever_answered && open_for >= NEVER_ANSWERED)
                || (!self.ever_worked && open_for >= NEVER_WORKED),
        }
    }
}

/// What a failure that may pass is a sign of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sign {
    /// Nothing could be sent.
    Unreachable,
    /// The server says that it is asked too fast, or overloaded.
    Refused { unfinished: usize },
    /// The server fails, or this item makes it fail.
    Failed { unfinished: usize },
}

/// When the next probe goes: after `spacing`, but once more before the run's time is over.
fn probe_after(spacing: Duration, end: Option<Instant>, now: Instant) -> Instant {
    let next = now + spacing;
    let last = end.and_then(|end| end.checked_sub(LAST_PROBE));
    last.filter(|last| now < *last && *last < next)
        .unwrap_or(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of many items fails.
    const FAILED: Sign = Sign::Failed {
        unfinished: usize::MAX,
    };

    #[test]
    fn an_unreachable_server_gets_one_probe_at_a_time_at_growing_distances() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(0, Sign::Unreachable, None, now).hopeless);
        assert!(
            !breaker.failed(1, Sign::Unreachable, None, now).hopeless,
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
            let _hopeless = breaker.failed(item, Sign::Unreachable, None, now);
        }
        assert_eq!(distances, [1, 2, 4, 8, 16, 32, 60, 60]);
        breaker.works();
        assert_eq!(breaker.passage(now), Passage::Free);
    }

    #[test]
    fn a_server_that_never_answered_is_given_up_after_two_minutes() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(0, Sign::Unreachable, None, start).hopeless);
        breaker.probe_sent(1);
        assert!(
            !breaker
                .failed(1, Sign::Unreachable, None, start + Duration::from_secs(119))
                .hopeless
        );
        breaker.probe_sent(2);
        assert!(
            breaker
                .failed(2, Sign::Unreachable, None, start + Duration::from_secs(120))
                .hopeless
        );
    }

    #[test]
    fn a_server_that_has_answered_is_waited_for_longer_and_one_that_worked_for_ever() {
        let hopeless_after = |hear: fn(&mut Breaker), seconds: u64| {
            let start = Instant::now();
            let mut breaker = Breaker::default();
            hear(&mut breaker);
            assert!(!breaker.failed(0, Sign::Unreachable, None, start).hopeless);
            breaker.probe_sent(1);
            breaker
                .failed(
                    1,
                    Sign::Unreachable,
                    None,
                    start + Duration::from_secs(seconds),
                )
                .hopeless
        };
        assert!(!hopeless_after(Breaker::answered, 599));
        assert!(hopeless_after(Breaker::answered, 600));
        assert!(!hopeless_after(Breaker::works, 7_200));
    }

    #[test]
    fn ten_different_items_open_it_and_one_that_fails_for_ever_does_not() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            let _ = breaker.failed(7, FAILED, None, now);
        }
        assert_eq!(breaker.passage(now), Passage::Free);

        let mut breaker = Breaker::default();
        for item in 0..20 {
            let _ = breaker.failed(item, FAILED, None, now);
        }
        assert_eq!(breaker.passage(now), Passage::Free, "it may be a hiccup");
        let _ = breaker.failed(20, FAILED, None, now + FAILING_FOR);
        assert!(matches!(breaker.passage(now), Passage::NotUntil(_)));
    }

    #[test]
    fn a_hundred_items_need_no_two_seconds() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for item in 0..99 {
            let _ = breaker.failed(item, FAILED, None, now);
        }
        assert_eq!(breaker.passage(now), Passage::Free);
        let _ = breaker.failed(99, FAILED, None, now);
        assert!(matches!(breaker.passage(now), Passage::NotUntil(_)));
    }

    #[test]
    fn refusals_alone_for_a_minute_open_it_however_few_items_they_are_of() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let refused = Sign::Refused {
            unfinished: usize::MAX,
        };
        for (second, is_open) in [(0, false), (59, false), (60, true)] {
            let now = start + Duration::from_secs(second);
            let noted = breaker.failed(second % 2, refused, None, now);
            assert_eq!(noted.outage, is_open, "at {second} s");
        }
    }

    #[test]
    fn a_withdrawn_probe_leaves_room_for_another() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        let _ = breaker.failed(0, Sign::Unreachable, None, now);
        breaker.probe_sent(1);
        breaker.probe_withdrawn(1);
        assert_eq!(breaker.passage(now + FIRST_SPACING), Passage::Probe);
    }
}
