//! How fast a run goes at the moment, and when it may be over.
//!
//! The average of a whole run is wrong after a pause, and that of the last second is wrong after a
//! burst. So rates are those of a window of recent seconds, which is longer where rows are rare. At
//! the start of a run with limits, its burst would promise too much, so an estimate never promises
//! more than the limits allow. Where nothing is known there is no estimate.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{FileProgress, Rate};

/// How far back the rates look at least,
const WINDOW: Duration = Duration::from_secs(30);
/// and over how many rows: one a minute is a rate, too.
const ROWS: u64 = 5;
/// How close together the samples are kept: some 60 of them, however often progress is looked at.
const STEP: Duration = Duration::from_millis(500);

/// The recent past of a run.
#[derive(Debug)]
pub(crate) struct Speed {
    /// The limits that are known beforehand.
    requests: Option<Rate>,
    tokens: Option<Rate>,
    samples: VecDeque<Sample>,
    latest: Sample,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: Duration,
    /// Rows this run has dealt with. Skipped ones cost no time.
    done: u64,
    tokens: u64,
}

impl Speed {
    pub(crate) fn new([requests, tokens]: [Option<Rate>; 2]) -> Self {
        Self {
            requests,
            tokens,
            samples: VecDeque::from([Sample::default()]),
            latest: Sample::default(),
        }
    }

    /// Takes note of where the run stands.
    pub(crate) fn note(&mut self, progress: &FileProgress) {
        self.latest = Sample {
            at: progress.elapsed,
            done: progress.finished(),
            tokens: progress.prompt_tokens + progress.completion_tokens,
        };
        let newest = self.samples.back().copied().unwrap_or_default();
        // While nothing happens there is nothing to keep, or a night's outage would fill the
        // window.
        if self.latest.at >= newest.at + STEP && self.latest.done > newest.done {
            self.samples.push_back(self.latest);
        }
        // One sample from before the window stays: it is where the window begins.
        while let Some(second) = self.samples.get(1)
            && second.at + WINDOW <= self.latest.at
            && second.done + ROWS <= self.latest.done
        {
            self.samples.pop_front();
        }
    }

    /// The limits of requests and of model tokens that are known beforehand.
    pub(crate) fn rates(&self) -> [Option<Rate>; 2] {
        [self.requests, self.tokens]
    }

    /// Rows a second.
    pub(crate) fn rows(&self) -> f64 {
        self.rate(|sample| sample.done)
    }

    /// Model tokens a second.
    pub(crate) fn tokens(&self) -> f64 {
        self.rate(|sample| sample.tokens)
    }

    /// How long `rows` more will take; `None` if nothing has been done to tell it by.
    pub(crate) fn eta(&self, rows: u64) -> Option<Duration> {
        if rows == 0 {
            return Some(Duration::ZERO);
        }
        let left = rows as f64;
        let mut seconds = left / Some(self.rows()).filter(|speed| *speed > 0.0)?;
        if let Some(limit) = self.requests {
            seconds = seconds.max(left / limit.units_per_second());
        }
        if let Some(limit) = self.tokens
            && self.latest.done > 0
        {
            let each = self.latest.tokens as f64 / self.latest.done as f64;
            seconds = seconds.max(left * each / limit.units_per_second());
        }
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn rate(&self, of: impl Fn(&Sample) -> u64) -> f64 {
        let first = self.samples.front().copied().unwrap_or_default();
        let seconds = self.latest.at.saturating_sub(first.at).as_secs_f64();
        if seconds > 0.0 {
            of(&self.latest).saturating_sub(of(&first)) as f64 / seconds
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64, succeeded: u64) -> FileProgress {
        FileProgress {
            succeeded,
            elapsed: Duration::from_secs_f64(seconds),
            completion_tokens: succeeded * 100,
            ..FileProgress::default()
        }
    }

    fn speed(
        limits: (Option<Rate>, Option<Rate>),
        notes: impl IntoIterator<Item = (f64, u64)>,
    ) -> Speed {
        let mut speed = Speed::new([limits.0, limits.1]);
        for (seconds, done) in notes {
            speed.note(&at(seconds, done));
        }
        speed
    }

    fn steady(rate: u64, seconds: u64) -> impl Iterator<Item = (f64, u64)> {
        (1..=seconds * 10).map(move |tenth| (tenth as f64 / 10.0, tenth * rate / 10))
    }

    #[test]
    fn a_steady_run_goes_at_its_rate() {
        let speed = speed((None, None), steady(10, 100));
        assert!((speed.rows() - 10.0).abs() < 0.1, "{}", speed.rows());
        assert!((speed.tokens() - 1000.0).abs() < 10.0, "{}", speed.tokens());
        let eta = speed.eta(500).unwrap().as_secs_f64();
        assert!((eta - 50.0).abs() < 0.5, "{eta}");
        assert!(speed.samples.len() < 70, "{}", speed.samples.len());
    }

    #[test]
    fn only_the_recent_past_counts() {
        let slower =
            (1..=60_u32).map(|second| (100.0 + f64::from(second), 1000 + u64::from(second)));
        let speed = speed((None, None), steady(10, 100).chain(slower));
        assert!((speed.rows() - 1.0).abs() < 0.1, "{}", speed.rows());
    }

    #[test]
    fn the_estimate_of_a_stalled_run_grows_and_its_samples_do_not() {
        let mut stalled = speed((None, None), steady(10, 100));
        let mut last = stalled.eta(500).unwrap();
        for minute in 1..=600 {
            stalled.note(&at(100.0 + 60.0 * f64::from(minute), 1000));
            let eta = stalled.eta(500).unwrap();
            assert!(eta > last, "{eta:?} after {last:?}");
            last = eta;
        }
        assert!(stalled.samples.len() < 70, "{}", stalled.samples.len());
    }

    #[test]
    fn rows_a_minute_apart_are_a_rate() {
        let speed = speed(
            (None, None),
            (1..=20_u32).map(|row| (f64::from(row) * 60.0, u64::from(row))),
        );
        assert!((speed.rows() - 1.0 / 60.0).abs() < 1e-3, "{}", speed.rows());
    }

    #[test]
    fn a_burst_does_not_promise_what_the_limit_forbids() {
        let limits = (Some(Rate::per_second(2)), None);
        let speed = speed(limits, [(0.1, 50)]);
        assert!(speed.eta(100).unwrap() >= Duration::from_secs(50));
        let limits = (None, Some(Rate::per_minute(6_000)));
        let speed = self::speed(limits, [(0.1, 50)]);
        // 100 model tokens a row, 100 a second allowed.
        assert!(speed.eta(100).unwrap() >= Duration::from_secs(100));
    }

    #[test]
    fn a_run_that_has_done_nothing_has_no_estimate() {
        let fresh = speed((None, None), []);
        assert_eq!(fresh.eta(10), None);
        assert_eq!(fresh.eta(0), Some(Duration::ZERO));
        let waiting = speed((None, None), [(0.0, 0), (12.0, 0)]);
        assert_eq!(waiting.eta(10), None);
    }

    #[test]
    fn a_process_that_was_halted_recovers() {
        let halted = steady(10, 20).chain([(110.0, 200)]).collect::<Vec<_>>();
        let resumed =
            (1..=600_u32).map(|tenth| (110.0 + f64::from(tenth) / 10.0, 200 + u64::from(tenth)));
        let speed = speed((None, None), halted.into_iter().chain(resumed));
        assert!((speed.rows() - 10.0).abs() < 0.5, "{}", speed.rows());
    }
}
