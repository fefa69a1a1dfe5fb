//! Hedging. An item whose attempt takes too long gets a second attempt beside the first: its
//! *copy*. This file decides when a copy goes, and which of the two attempts *decides* about the
//! item.
//!
//! After Dean and Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013: a copy goes
//! when the first attempt has taken longer than 95 % of all, so about one item in twenty has one.
//! Attempts that are under way count as longer than any that has ended. The reason: of many
//! attempts sent at once the quick ones end first, and say nothing about the others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::outcomes::Span;
use crate::cancel::Cancel;
use crate::classes::Classes;

/// The latencies tell nothing before so many attempts have succeeded.
const LEAST_KNOWN: u64 = 20;
/// A copy goes when its first attempt has taken longer than all but one in so many.
const ONE_IN: u64 = 20;
/// Latencies are told apart to one part in so many.
const CLASSES: Classes = Classes::in_each_doubling(16);

/// How long attempts take that succeed, the latest more than older ones.
#[derive(Debug, Default)]
struct Latencies {
    /// How many, by class of microseconds.
    counts: Vec<u64>,
    known: u64,
}

impl Latencies {
    /// Counts one, beside so many attempts that are under way.
    fn observe(&mut self, latency: Duration, under_way: u64) {
        let class = CLASSES.class(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        if self.counts.len() <= class {
            self.counts.resize(class + 1, 0);
        }
        self.counts[class] += 1;
        self.known += 1;
        // What was long ago is forgotten, but never so much that the attempts under way are a large
        // part.
        if self.known > 2 * ONE_IN * (LEAST_KNOWN + under_way) {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.known = self.counts.iter().sum();
        }
    }

    /// What all but one attempt in [`ONE_IN`] take less than; `None` as long as that cannot be
    /// told.
    fn longest_usual(&self, under_way: u64) -> Option<Duration> {
        if self.known < LEAST_KNOWN {
            return None;
        }
        let all = self.known + under_way;
        let mut left = all - all / ONE_IN;
        let within = self.counts.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        within.map(|class| Duration::from_micros(CLASSES.least(class)))
    }
}

/// What an item has to know of the race between its attempt and a copy of it.
#[derive(Debug)]
pub(crate) struct Race {
    pub(super) id: RaceId,
    pub(super) is_copy: bool,
    /// Cuts off both attempts. It is raised by the one that decides, when it has ended itself.
    pub(super) cut: Cancel,
}

/// When the first attempt was sent, and its item's place in the input.
pub(super) type RaceId = (Instant, u64);

/// What an attempt that does not decide adds to its item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Withdrawn {
    /// When it was under way, if it was sent.
    pub(super) span: Option<Span>,
    pub(super) possibly_billed: bool,
}

/// The two attempts at one item, until one of them decides.
#[derive(Debug)]
pub(super) struct Pair<C> {
    /// What becomes the copy, until it has gone.
    spare: Option<C>,
    /// When the copy has gone.
    pub(super) copied: Option<Instant>,
    /// How many of the two are under way.
    pub(super) under_way: u32,
    /// Of the one that has failed while the other one was under way.
    pub(super) withdrawn: Option<Withdrawn>,
}

/// What becomes of an attempt that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It decides about its item.
    Decides,
    /// It has failed, and the other one decides.
    Withdraws,
    /// The other one has decided.
    Lost,
}

/// The items that have an attempt under way, each with the `C` that may become its copy, and how
/// long attempts take.
#[derive(Debug)]
pub(crate) struct Hedging<C> {
    latencies: Latencies,
    /// By when they were sent: the oldest is due first.
    pairs: BTreeMap<RaceId, Pair<C>>,
    /// First attempts and copies, ever.
    sent: u64,
    copies: u64,
    /// No copy goes before this: the limiter had no room for one.
    not_before: Option<Instant>,
}

impl<C> Default for Hedging<C> {
    fn default() -> Self {
        Self {
            latencies: Latencies::default(),
            pairs: BTreeMap::new(),
            sent: 0,
            copies: 0,
            not_before: None,
        }
    }
}

impl<C> Hedging<C> {
    /// A first attempt goes. `spare` becomes its copy, if it takes too long.
    pub(super) fn first_sent(&mut self, id: RaceId, spare: C) {
        self.sent += 1;
        let pair = Pair {
            spare: Some(spare),
            copied: None,
            under_way: 1,
            withdrawn: None,
        };
        let replaced = self.pairs.insert(id, pair);
        debug_assert!(
            replaced.is_none(),
            "an item has one first attempt at a time"
        );
    }

    /// Whether a copy may become due: somebody should wait for that.
    pub(super) fn expects_copies(&self) -> bool {
        let known = self.latencies.known + self.pairs.len() as u64;
        self.copies < self.sent / ONE_IN
            && known >= LEAST_KNOWN
            && self.pairs.values().any(|pair| pair.spare.is_some())
    }

    /// The copy that is due, or when one will be, as far as that is known now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Result<C, Instant>> {
        if self.copies >= self.sent / ONE_IN {
            return None;
        }
        let usual = self.latencies.longest_usual(self.pairs.len() as u64)?;
        let mut pairs = self.pairs.iter_mut();
        let (id, pair) = pairs.find(|(_, pair)| pair.spare.is_some())?;
        let due = id.0.checked_add(usual)?.max(self.not_before.unwrap_or(now));
        if due > now {
            return Some(Err(due));
        }
        pair.spare.take().map(Ok)
    }

    /// Whether a copy that has its permit may go now: not if the first attempt has ended meanwhile.
    pub(super) fn copy_sent(&mut self, id: RaceId, now: Instant) -> bool {
        let Some(pair) = self.pairs.get_mut(&id) else {
            return false;
        };
        pair.under_way += 1;
        pair.copied = Some(now);
        self.copies += 1;
        true
    }

    /// Puts off a copy that the limiter has no room for, and all others: until then, or until an
    /// item has ended. Gives back one whose first attempt has ended.
    pub(super) fn put_off(&mut self, id: RaceId, copy: C, until: Instant) -> Option<C> {
        let Some(pair) = self.pairs.get_mut(&id) else {
            return Some(copy);
        };
        self.not_before = Some(until);
        pair.spare.replace(copy)
    }

    /// As after many attempts that took no time, and `sent` for the count of copies.
    #[cfg(test)]
    pub(super) fn expect_no_latency(&mut self, sent: u64) {
        (self.latencies.counts, self.latencies.known) = (vec![100_000], 100_000);
        self.sent = sent;
    }

    /// An attempt has ended. It `decides`, however the other one ends, if it has succeeded or the
    /// run stops for it; else it is `withdrawn` if there is another one. With a decision comes what
    /// is left of the pair, to be dropped outside the lock.
    pub(super) fn ended(
        &mut self,
        race: &Race,
        took: Duration,
        decides: bool,
        withdrawn: Withdrawn,
    ) -> (End, Option<Pair<C>>) {
        self.not_before = None;
        let under_way = self.pairs.len() as u64;
        let Some(pair) = self.pairs.get_mut(&race.id) else {
            // It would have taken longer than this.
            if !race.is_copy {
                self.latencies.observe(took, under_way);
            }
            return (End::Lost, None);
        };
        pair.under_way -= 1;
        if !decides && pair.under_way > 0 {
            pair.withdrawn = Some(withdrawn);
            return (End::Withdraws, None);
        }
        if decides {
            self.latencies.observe(took, under_way);
        }
        (End::Decides, self.pairs.remove(&race.id))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_under_way_counts_as_longer_than_all_that_has_ended() {
        let mut latencies = Latencies::default();
        for n in 0..19 {
            latencies.observe(ms(n), 0);
        }
        assert_eq!(latencies.longest_usual(0), None, "too few");
        for n in 19..100 {
            latencies.observe(ms(n), 0);
        }
        let longest = latencies.longest_usual(0).unwrap();
        assert!((ms(88)..=ms(94)).contains(&longest), "{longest:?}");
        let longer = latencies.longest_usual(4).unwrap();
        assert!(longer > longest, "{longer:?}");
        assert_eq!(latencies.longest_usual(10), None, "it is one of those");
    }

    #[test]
    fn the_latest_latencies_count_most() {
        let mut latencies = Latencies::default();
        for _ in 0..5_000 {
            latencies.observe(ms(1_000), 20);
        }
        for _ in 0..20_000 {
            latencies.observe(ms(10), 20);
        }
        assert!(latencies.longest_usual(20).unwrap() <= ms(10));
    }

    /// A table that expects no latency, and its first attempts at the items 0, 1 and so on.
    fn sent(attempts: u64) -> (Instant, Hedging<u64>, Vec<Race>) {
        let start = Instant::now();
        let mut hedging = Hedging::default();
        hedging.expect_no_latency(0);
        let first = |index| {
            let id = (start + ms(index), index);
            hedging.first_sent(id, index);
            Race {
                id,
                is_copy: false,
                cut: Cancel::new(),
            }
        };
        let firsts = (0..attempts).map(first).collect();
        (start, hedging, firsts)
    }

    /// The copy of an attempt, which goes.
    fn copy(hedging: &mut Hedging<u64>, first: &Race) -> Race {
        let race = Race {
            id: first.id,
            is_copy: true,
            cut: Cancel::new(),
        };
        assert!(hedging.copy_sent(race.id, race.id.0));
        race
    }

    const FAILED: Withdrawn = Withdrawn {
        span: None,
        possibly_billed: true,
    };

    #[test]
    fn one_in_twenty_has_a_copy_the_oldest_first() {
        let (start, mut hedging, firsts) = sent(59);
        let before = start.checked_sub(ms(1)).unwrap();
        assert!(matches!(hedging.next(before), Some(Err(due)) if due == start));
        for first in &firsts[..2] {
            assert!(hedging.expects_copies());
            let index = first.id.1;
            assert!(matches!(hedging.next(start + ms(60)), Some(Ok(copy)) if copy == index));
            copy(&mut hedging, first);
        }
        assert!(!hedging.expects_copies() && hedging.next(start + ms(60)).is_none());
    }

    #[test]
    fn a_copy_without_room_is_put_off_and_one_that_comes_too_late_is_given_back() {
        let (start, mut hedging, firsts) = sent(40);
        let (first, now) = (&firsts[0], start + ms(50));
        let put_off = |hedging: &mut Hedging<u64>| {
            assert!(matches!(hedging.next(now), Some(Ok(0))));
            hedging.put_off(first.id, 0, now + ms(5))
        };
        assert_eq!(put_off(&mut hedging), None);
        assert!(matches!(hedging.next(now), Some(Err(due)) if due == now + ms(5)));
        // Something ends, and there may be room.
        hedging.ended(&firsts[1], ms(1), true, FAILED);
        assert_eq!(put_off(&mut hedging), None);
        hedging.ended(first, ms(1), true, FAILED);
        assert_eq!(hedging.put_off(first.id, 0, now), Some(0));
        assert!(!hedging.copy_sent(first.id, now));
    }

    #[test]
    fn the_first_success_decides_and_of_two_failures_the_last() {
        for by_copy in [false, true] {
            let (_, mut hedging, firsts) = sent(40);
            let pair = |hedging: &mut Hedging<u64>, first: usize| {
                let copy = copy(hedging, &firsts[first]);
                let first = &firsts[first];
                let first = Race {
                    cut: first.cut.clone(),
                    ..*first
                };
                if by_copy {
                    [copy, first]
                } else {
                    [first, copy]
                }
            };
            let [winner, loser] = pair(&mut hedging, 0);
            let (end, left) = hedging.ended(&winner, ms(1), true, FAILED);
            assert_eq!((end, left.unwrap().under_way), (End::Decides, 1));
            let (end, _) = hedging.ended(&loser, ms(1), true, FAILED);
            assert_eq!(end, End::Lost);

            let [before, after] = pair(&mut hedging, 1);
            let (end, _) = hedging.ended(&before, ms(1), false, FAILED);
            assert_eq!(end, End::Withdraws);
            let (end, left) = hedging.ended(&after, ms(1), false, FAILED);
            let left = left.unwrap();
            assert_eq!((end, left.withdrawn), (End::Decides, Some(FAILED)));
            assert_eq!(left.under_way, 0);
            assert_eq!(hedging.pairs.len(), 38);
        }
    }
}
