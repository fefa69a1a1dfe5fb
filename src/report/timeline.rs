//! What happened when: attempts counted in bins of time, in memory that does not grow with their
//! count or with the time that they took.
//!
//! Bins are narrow at first. When more of them hold something than may be, each bin is put together
//! with its neighbours. Bins that hold nothing do not count, so a night between two runs costs no
//! detail.

use std::collections::BTreeMap;
use std::mem;

use crate::jsonl::facts::Span;

/// So many bins may hold something. Narrower ones would be restless in a plot.
const MOST_BINS: u64 = 80;

/// Attempts by time.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    /// How often bins were put together.
    widened: u32,
    /// By their start, in widths since 1970.
    bins: BTreeMap<u64, Bin>,
    /// The first start and the last end, in milliseconds since 1970.
    pub(super) range: Option<(u64, u64)>,
}

/// What happened in a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bin {
    /// Requests sent.
    pub(super) sent: u64,
    /// Model tokens of the requests that were sent then, and of their answers.
    pub(super) tokens: u64,
    /// Attempts that ended then and failed.
    pub(super) failed: u64,
    /// The time that all attempts were under way, in milliseconds: divided by the bin's width, how
    /// many were in flight.
    pub(super) busy_ms: u64,
}

/// The bins of a plot that hold something, each with its place: in widths from the left, as long
/// empty times are left out.
pub(super) type Slots = Vec<(u64, Bin)>;

impl Timeline {
    /// How wide bins are: 0.1 s, 0.2 s, 1 s, 2 s, 10 s and so on, in milliseconds. Each width is a
    /// whole number of the one before.
    pub(super) fn width_ms(&self) -> u64 {
        (1 + u64::from(self.widened % 2)) * 10_u64.pow(2 + self.widened / 2)
    }

    /// Counts an attempt that took so many model tokens.
    pub(super) fn add(&mut self, span: &Span, tokens: u64) {
        while (span.end_ms - span.start_ms) / self.width_ms() > MOST_BINS {
            self.widen();
        }
        let width = self.width_ms();
        let (first, last) = (span.start_ms / width, span.end_ms / width);
        for place in first..=last {
            let (start, end) = (place * width, (place + 1) * width);
            let busy = span.end_ms.min(end) - span.start_ms.max(start);
            self.bins.entry(place).or_default().busy_ms += busy;
        }
        let sent = self.bins.entry(first).or_default();
        sent.sent += 1;
        sent.tokens += tokens;
        if span.failure.is_some() {
            self.bins.entry(last).or_default().failed += 1;
        }
        let (from, to) = self.range.unwrap_or((span.start_ms, span.end_ms));
        self.range = Some((from.min(span.start_ms), to.max(span.end_ms)));
        while self.bins.len() as u64 > MOST_BINS {
            self.widen();
        }
    }

    fn widen(&mut self) {
        let narrow = self.width_ms();
        self.widened += 1;
        let wide = self.width_ms();
        for (place, bin) in mem::take(&mut self.bins) {
            let sum = self.bins.entry(place * narrow / wide).or_default();
            sum.sent += bin.sent;
            sum.tokens += bin.tokens;
            sum.failed += bin.failed;
            sum.busy_ms += bin.busy_ms;
        }
    }

    /// The bins that hold something, and where long empty times were left out: each is the place of
    /// a slot, and for how many milliseconds nothing was under way before it.
    pub(super) fn slots(&self) -> (Slots, Vec<(u64, u64)>) {
        let longest_gap = (self.bins.len() as u64 / 5).max(10);
        let (mut slots, mut breaks) = (Vec::new(), Vec::new());
        let mut left_out = self.bins.keys().next().copied().unwrap_or_default();
        let mut next = left_out;
        for (&at, bin) in &self.bins {
            let gap = at - next;
            if gap > longest_gap {
                // One empty slot stands for it.
                left_out += gap - 1;
                breaks.push((at - left_out, gap * self.width_ms()));
            }
            next = at + 1;
            slots.push((at - left_out, *bin));
        }
        (slots, breaks)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_764_270_000_000;

    fn of(spans: impl IntoIterator<Item = (u64, u64)>) -> Timeline {
        let mut all = Timeline::default();
        for (start, took) in spans {
            let start_ms = START + start;
            let end_ms = start_ms + took;
            all.add(
                &Span {
                    start_ms,
                    end_ms,
                    failure: None,
                },
                3,
            );
        }
        all
    }

    #[test]
    fn widths_are_whole_numbers_of_the_one_before() {
        let width = |widened| Timeline {
            widened,
            ..Timeline::default()
        };
        let widths: Vec<u64> = (0..20).map(|widened| width(widened).width_ms()).collect();
        assert_eq!(widths[..5], [100, 200, 1_000, 2_000, 10_000]);
        for pair in widths.windows(2) {
            assert_eq!((pair[1] % pair[0], pair[1] > pair[0]), (0, true));
        }
    }

    #[test]
    fn a_bin_knows_what_began_in_it_and_for_how_long_attempts_were_under_way() {
        let all = of([(0, 250), (50, 50), (150, 0)]);
        let (slots, breaks) = all.slots();
        let seen: Vec<_> = slots
            .iter()
            .map(|(place, bin)| (*place, bin.sent, bin.tokens, bin.busy_ms))
            .collect();
        assert_eq!(seen, [(0, 2, 6, 150), (1, 1, 3, 100), (2, 0, 0, 50)]);
        assert!(breaks.is_empty());
        assert_eq!(all.range, Some((START, START + 250)));
    }

    #[test]
    fn a_long_time_without_anything_costs_no_detail_and_is_left_out() {
        let night = 8 * 3_600_000;
        let runs = (0..20).map(|n| (n * 100, 90));
        let all = of(runs
            .clone()
            .chain(runs.map(|(at, took)| (at + night, took))));
        assert_eq!(all.width_ms(), 100);
        let (slots, breaks) = all.slots();
        assert_eq!(breaks, [(21, night - 2_000)]);
        assert_eq!(slots.last().unwrap().0, 40);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_bins_are_few(
            spans in prop::collection::vec((0_u64..2_000_000_000_000, 0_u64..600_000_000), 0..100),
        ) {
            let all = of(spans.clone());
            prop_assert!(all.bins.len() as u64 <= MOST_BINS);
            let sum = |of: fn(&Bin) -> u64| all.bins.values().map(of).sum::<u64>();
            prop_assert_eq!(sum(|bin| bin.sent), spans.len() as u64);
            prop_assert_eq!(sum(|bin| bin.busy_ms), spans.iter().map(|span| span.1).sum::<u64>());
            let (slots, _) = all.slots();
            let places: Vec<_> = slots.iter().map(|(place, _)| *place).collect();
            prop_assert!(places.is_sorted_by(|one, other| one < other));
            let most = MOST_BINS * (MOST_BINS / 5 + 1);
            prop_assert!(places.last().is_none_or(|last| *last <= most));
        }
    }
}
