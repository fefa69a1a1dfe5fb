//! How fast a run goes at the moment, and when it may be over.
//!
//! Pure. An estimate goes by what lies ahead, as far as that is known. Each limit allows so many
//! rows a second: that of requests its rate, that of model tokens its rate divided by what a row
//! takes (that of prompts or of answers alone by what the rows so far took of these), and the
//! concurrency its number divided by the mean time of an attempt (Little's law).
//! Rows that are sent more than once count as often as they are sent. While one of these limits
//! binds, the run goes at the lowest of them, and a limit that was just learned or has just changed
//! counts from that moment on. While something else binds, such as the input, nobody knows the rate
//! beforehand. Then the recent past counts, without the time in which everything was on hold. A
//! hold is added, and the time of the last answer. Nothing is over before the last retry that is
//! due.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Binding, FileProgress, Rate};

/// How far back the rates look at least,
const WINDOW: Duration = Duration::from_secs(30);
/// and over how many rows: one a minute is a rate, too.
const ROWS: u64 = 5;
/// How close together the samples are kept: some 60 of them, however often progress is looked at.
const STEP: Duration = Duration::from_millis(500);
/// The mean number of attempts a row is taken as if so many more rows had been sent once. Else the
/// first failures of a run would say that every row fails.
const SENT_ONCE: f64 = 20.0;

/// The limiter spreads requests over such a window. What is allowed in a longer one is a budget,
/// which goes as fast as anything else lets it.
const LONGEST_SPREAD: Duration = Duration::from_secs(60);

/// The recent past of a run.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    /// Empty before the first look.
    samples: VecDeque<Sample>,
    latest: Sample,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: Duration,
    /// How much of this time everything was on hold.
    held: Duration,
    /// Rows this run has dealt with. Skipped ones cost no time.
    done: u64,
    tokens: u64,
    /// Those that were not refused for their pace: most servers refuse at once.
    attempts: u64,
    /// Time in attempts, summed over them.
    wire: Duration,
}

impl Sample {
    fn of(progress: &FileProgress) -> Self {
        let engine = &progress.engine;
        let held = [Binding::Pause, Binding::Outage].map(|held| engine.bound.of(held));
        Self {
            at: progress.elapsed,
            held: held[0] + held[1],
            done: progress.finished(),
            tokens: progress.prompt_tokens + progress.completion_tokens,
            attempts: engine.attempts.saturating_sub(engine.throttled),
            wire: engine.wire,
        }
    }
}

impl Speed {
    /// Takes note of where the run stands.
    pub(crate) fn note(&mut self, progress: &FileProgress) {
        self.latest = Sample::of(progress);
        // While nothing happens there is nothing to keep, or a night's outage would fill the
        // window.
        if self.samples.back().is_none_or(|newest| {
            self.latest.at >= newest.at + STEP && self.latest.done > newest.done
        }) {
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

    /// Rows a second.
    pub(crate) fn rows(&self) -> f64 {
        let recent = self.recent();
        per_second(recent.done, recent.at)
    }

    /// Model tokens a second.
    pub(crate) fn tokens(&self) -> f64 {
        let recent = self.recent();
        per_second(recent.tokens, recent.at)
    }

    /// How long what is left will take; `None` if nothing tells, and if it is left undone.
    pub(crate) fn eta(&self, progress: &FileProgress) -> Option<Duration> {
        if progress.is_stopping {
            return None;
        }
        let left = progress.total?.saturating_sub(progress.done());
        if left == 0 {
            return Some(Duration::ZERO);
        }
        let to_send = left.saturating_sub(progress.engine.in_flight);
        let rate = self.expected(progress)?;
        if to_send == 0 {
            // They are all under way, however few ended so far.
            let latency = Some(self.latency()).filter(|it| !it.is_zero());
            let all = Duration::try_from_secs_f64(left as f64 / rate).ok();
            return all.into_iter().chain(latency).min();
        }
        // No end can be told of a run that ends before its next request.
        let next_try = match &progress.hold {
            Some(hold) => hold.next_try?,
            None => Duration::ZERO,
        };
        let sending = Duration::try_from_secs_f64(to_send as f64 / rate).ok()?;
        let last_sent = next_try.checked_add(sending)?.max(progress.retried_in);
        last_sent.checked_add(self.latency())
    }

    /// How many rows a second the run will do from now on.
    fn expected(&self, progress: &FileProgress) -> Option<f64> {
        let engine = &progress.engine;
        let sent = (engine.attempts + engine.in_flight) as f64;
        // A refusal costs time, which is counted as a pause.
        let attempts = engine.attempts.saturating_sub(engine.throttled) as f64;
        let per_row = (attempts + SENT_ONCE) / (self.latest.done as f64 + SENT_ONCE);
        let learned = &progress.learned;
        let lowest = |rates: &[Option<Rate>]| {
            let rates = rates.iter().flatten().map(|rate| rate.units_per_second());
            rates.reduce(f64::min)
        };
        let [requests, tokens] = progress.rates;
        let is_budget = |rate: &Rate| rate.period() > LONGEST_SPREAD;
        let announced = learned.requests.filter(|rate| !is_budget(rate));
        let requests = lowest(&[requests, announced, learned.from_refusals]);
        let tokens = lowest(&[tokens, learned.tokens, learned.tokens_from_refusals])
            .filter(|_| engine.counted_tokens > 0)
            .map(|rate| rate * sent / engine.counted_tokens as f64);
        let counted = progress.succeeded.saturating_sub(progress.uncounted) as f64;
        let apart = |rate: Option<Rate>, tokens: u64| {
            let rate = rate.filter(|_| progress.prompt_tokens > 0 && tokens > 0)?;
            Some(rate.units_per_second() * counted / tokens as f64)
        };
        let input = apart(learned.input_tokens, progress.prompt_tokens);
        let output = apart(learned.output_tokens, progress.completion_tokens);
        let at_once = engine
            .concurrency
            .min(learned.at_once.unwrap_or(usize::MAX));
        let in_flight = (at_once > 0).then(|| at_once as f64 / self.latency().as_secs_f64());
        let in_flight = in_flight.filter(|rate| rate.is_finite());
        let rates = [requests, tokens, input, output, in_flight];
        // Before the first answer the latency is a guess, which is too low.
        let is_known = engine.attempts > 0 || requests.or(tokens).is_some();
        let limit = rates.into_iter().flatten().reduce(f64::min);
        let limit = limit.filter(|_| is_known).map(|rate| rate / per_row);
        let binds = |binding| match binding {
            // Nobody tells how long a budget lasts.
            Binding::Requests => !learned.requests.as_ref().is_some_and(is_budget),
            Binding::InputTokens => input.is_some(),
            Binding::OutputTokens => output.is_some(),
            other => matches!(other, Binding::Tokens | Binding::InFlight),
        };
        if limit.is_some() && engine.binding.is_some_and(binds) {
            return limit;
        }
        let recent = self.recent();
        let past = per_second(recent.done, recent.at.saturating_sub(recent.held));
        let past = Some(past).filter(|rate| *rate > 0.0);
        limit.into_iter().chain(past).reduce(f64::min)
    }

    /// The mean time of an attempt; before anything has ended, how long the run has been under way.
    fn latency(&self) -> Duration {
        let recent = self.recent();
        match recent.attempts {
            0 if recent.done > 0 => Duration::ZERO,
            0 => recent.at,
            attempts => recent.wire.div_f64(attempts as f64),
        }
    }

    /// What the latest sample has more than the first.
    fn recent(&self) -> Sample {
        let (latest, first) = (
            self.latest,
            self.samples.front().copied().unwrap_or_default(),
        );
        Sample {
            at: latest.at.saturating_sub(first.at),
            held: latest.held.saturating_sub(first.held),
            done: latest.done.saturating_sub(first.done),
            tokens: latest.tokens.saturating_sub(first.tokens),
            attempts: latest.attempts.saturating_sub(first.attempts),
            wire: latest.wire.saturating_sub(first.wire),
        }
    }
}

fn per_second(number: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        number as f64 / seconds
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Hold, Learned, Progress};

    fn at(seconds: f64, succeeded: u64) -> FileProgress {
        FileProgress {
            succeeded,
            elapsed: Duration::from_secs_f64(seconds),
            completion_tokens: succeeded * 100,
            ..FileProgress::default()
        }
    }

    /// So many rows are left.
    fn left(speed: &Speed, rows: u64, progress: FileProgress) -> Option<f64> {
        let total = Some(progress.done() + rows);
        let eta = speed.eta(&FileProgress { total, ..progress });
        eta.map(|eta| eta.as_secs_f64())
    }

    fn speed(notes: impl IntoIterator<Item = (f64, u64)>) -> Speed {
        let mut speed = Speed::default();
        speed.note(&at(0.0, 0));
        for (seconds, done) in notes {
            speed.note(&at(seconds, done));
        }
        speed
    }

    fn steady(rate: u64, seconds: u64) -> impl Iterator<Item = (f64, u64)> {
        (1..=seconds * 10).map(move |tenth| (tenth as f64 / 10.0, tenth * rate / 10))
    }

    /// A run of a second that has had no answer yet, 20 at once.
    fn young(binding: Binding) -> FileProgress {
        FileProgress {
            engine: Progress {
                binding: Some(binding),
                in_flight: 10,
                concurrency: 20,
                counted_tokens: 10_000,
                ..Progress::default()
            },
            ..at(1.0, 0)
        }
    }

    /// The same run a minute on: 600 rows of 1,000 tokens, 1.5 s each.
    fn grown(binding: Binding) -> FileProgress {
        let young = young(binding).engine;
        FileProgress {
            engine: Progress {
                attempts: 600,
                succeeded: 600,
                counted_tokens: 610_000,
                wire: Duration::from_secs(900),
                ..young
            },
            ..at(60.0, 600)
        }
    }

    fn noted(progress: &FileProgress) -> Speed {
        let mut speed = speed([]);
        speed.note(progress);
        speed
    }

    fn eta(rows: u64, progress: FileProgress) -> Option<f64> {
        left(&noted(&progress), rows, progress)
    }

    fn is_about(told: Option<f64>, seconds: f64) {
        let told = told.unwrap_or(f64::NAN);
        assert!((told / seconds - 1.0).abs() < 0.02, "{told}, not {seconds}");
    }

    #[test]
    fn a_steady_run_goes_at_its_rate() {
        let speed = speed(steady(10, 100));
        assert!((speed.rows() - 10.0).abs() < 0.1, "{}", speed.rows());
        assert!((speed.tokens() - 1000.0).abs() < 10.0, "{}", speed.tokens());
        is_about(left(&speed, 500, at(100.0, 1000)), 50.0);
        assert!(speed.samples.len() < 70, "{}", speed.samples.len());
    }

    #[test]
    fn only_the_recent_past_counts() {
        let slower =
            (1..=60_u32).map(|second| (100.0 + f64::from(second), 1000 + u64::from(second)));
        let speed = speed(steady(10, 100).chain(slower));
        assert!((speed.rows() - 1.0).abs() < 0.1, "{}", speed.rows());
    }

    #[test]
    fn the_estimate_of_a_stalled_run_grows_and_its_samples_do_not() {
        let mut stalled = speed(steady(10, 100));
        let mut last = left(&stalled, 500, at(100.0, 1000));
        for minute in 1..=600 {
            let now = at(100.0 + 60.0 * f64::from(minute), 1000);
            stalled.note(&now);
            let eta = left(&stalled, 500, now);
            assert!(eta > last, "{eta:?} after {last:?}");
            last = eta;
        }
        assert!(stalled.samples.len() < 70, "{}", stalled.samples.len());
    }

    #[test]
    fn rows_a_minute_apart_are_a_rate() {
        let speed = speed((1..=20_u32).map(|row| (f64::from(row) * 60.0, u64::from(row))));
        assert!((speed.rows() - 1.0 / 60.0).abs() < 1e-3, "{}", speed.rows());
    }

    #[test]
    fn a_run_that_has_done_nothing_has_no_estimate() {
        let fresh = speed([]);
        assert_eq!(left(&fresh, 10, at(0.0, 0)), None);
        assert_eq!(left(&fresh, 0, at(0.0, 0)), Some(0.0));
        assert_eq!(eta(10, at(12.0, 0)), None);
        // Before the first answer nobody knows how long one takes.
        assert_eq!(eta(6_000, young(Binding::InFlight)), None);
    }

    #[test]
    fn a_process_that_was_halted_recovers() {
        let halted = steady(10, 20).chain([(110.0, 200)]).collect::<Vec<_>>();
        let resumed =
            (1..=600_u32).map(|tenth| (110.0 + f64::from(tenth) / 10.0, 200 + u64::from(tenth)));
        let speed = speed(halted.into_iter().chain(resumed));
        assert!((speed.rows() - 10.0).abs() < 0.5, "{}", speed.rows());
    }

    #[test]
    fn a_limit_tells_the_time_before_anything_is_done() {
        let rates = [Some(Rate::per_minute(600)), None];
        let requests = FileProgress {
            rates,
            ..young(Binding::Requests)
        };
        is_about(eta(6_000, requests.clone()), 600.0);
        // A thousand tokens each are reserved.
        let rates = [rates[0], Some(Rate::per_minute(300_000))];
        let tokens = FileProgress {
            rates,
            ..young(Binding::Tokens)
        };
        is_about(eta(6_000, tokens), 1_200.0);
        // The burst at the start promises nothing.
        let mut burst = FileProgress {
            succeeded: 50,
            ..requests
        };
        burst.engine.attempts = 50;
        burst.engine.wire = Duration::from_secs(25);
        is_about(eta(6_000, burst), 600.0);
    }

    #[test]
    fn what_tokens_are_reserved_gives_way_to_what_is_used() {
        let rates = [None, Some(Rate::per_minute(300_000))];
        let mut tokens = FileProgress {
            rates,
            ..grown(Binding::Tokens)
        };
        tokens.engine.concurrency = 100;
        is_about(eta(6_000, tokens.clone()), 1_200.0);
        tokens.engine.counted_tokens /= 2;
        is_about(eta(6_000, tokens), 600.0);
    }

    #[test]
    fn of_the_concurrency_it_is_the_number_at_once_by_the_latency() {
        is_about(eta(3_000, grown(Binding::InFlight)), 225.0);
        let mut found = grown(Binding::InFlight);
        found.engine.concurrency = 40;
        is_about(eta(3_000, found), 112.5);
    }

    #[test]
    fn a_limit_that_was_just_learned_counts_at_once() {
        let learned = |learned| FileProgress {
            learned,
            ..grown(Binding::InFlight)
        };
        let headers = Learned {
            requests: Some(Rate::per_minute(60)),
            ..Learned::default()
        };
        is_about(eta(3_000, learned(headers)), 3_000.0);
        let refusals = Learned {
            from_refusals: Some(Rate::per_minute(120)),
            ..headers
        };
        is_about(eta(3_000, learned(refusals)), 3_000.0);
        let at_once = Learned {
            at_once: Some(2),
            ..Learned::default()
        };
        is_about(eta(3_000, learned(at_once)), 2_250.0);
        is_about(eta(3_000, learned(Learned::default())), 225.0);
    }

    #[test]
    fn a_limit_on_the_tokens_of_prompts_or_answers_counts_these_alone() {
        let apart = |input, output, binding| {
            let mut apart = grown(binding);
            (apart.prompt_tokens, apart.completion_tokens) = (60_000, 540_000);
            apart.engine.concurrency = 100;
            apart.learned.input_tokens = Some(Rate::per_minute(input));
            apart.learned.output_tokens = Some(Rate::per_minute(output));
            apart
        };
        // A hundred tokens a prompt, and 900 an answer.
        let input = apart(30_000, 900_000, Binding::InputTokens);
        is_about(eta(6_000, input), 1_200.0);
        let output = apart(900_000, 90_000, Binding::OutputTokens);
        is_about(eta(6_000, output), 3_600.0);
    }

    #[test]
    fn what_is_refused_at_once_does_not_make_answers_quicker() {
        let mut places = grown(Binding::InFlight);
        (places.engine.attempts, places.engine.throttled) = (1_500, 900);
        places.learned.at_once = Some(3);
        is_about(eta(3_000, places), 1_500.0);
    }

    #[test]
    fn the_budget_of_a_day_is_no_rate() {
        let mut groq = grown(Binding::Requests);
        groq.engine.concurrency = 100;
        groq.learned.requests = Some(Rate::new(14_400, Duration::from_secs(86_400)));
        groq.learned.from_refusals = Some(Rate::per_minute(900));
        is_about(eta(6_000, groq.clone()), 600.0);
        groq.learned.from_refusals = Some(Rate::per_minute(60));
        is_about(eta(6_000, groq), 6_000.0);
    }

    #[test]
    fn when_all_is_sent_it_takes_as_long_as_an_answer() {
        // The first went alone.
        let mut warmed_up = at(10.0, 1);
        warmed_up.engine = Progress {
            binding: Some(Binding::Wire),
            in_flight: 29,
            concurrency: 50,
            attempts: 1,
            wire: Duration::from_secs(7),
            ..Progress::default()
        };
        is_about(eta(29, warmed_up), 7.0);
    }

    #[test]
    fn rows_that_are_sent_twice_count_twice() {
        let rates = [Some(Rate::per_minute(600)), None];
        let mut again = FileProgress {
            rates,
            ..grown(Binding::Requests)
        };
        again.engine.attempts = 1_200;
        is_about(eta(6_000, again.clone()), 1_180.0);
        again.engine.throttled = 600;
        is_about(eta(6_000, again), 600.0);
    }

    #[test]
    fn the_past_counts_where_no_limit_binds() {
        // Ten rows a second, of 13 that the concurrency would allow.
        is_about(eta(3_000, grown(Binding::Input)), 300.0);
        let rates = [Some(Rate::per_minute(60)), None];
        is_about(
            eta(
                3_000,
                FileProgress {
                    rates,
                    ..grown(Binding::Input)
                },
            ),
            3_000.0,
        );
    }

    #[test]
    fn a_hold_is_added_and_is_no_part_of_the_past() {
        let held = |is_pause, binding, next_try| {
            let mut held = grown(binding);
            held.engine.bound.add(binding, Duration::from_secs(300));
            held.elapsed += Duration::from_secs(300);
            held.hold = Some(Hold {
                is_pause,
                error: None,
                next_try,
            });
            held
        };
        let minute = Some(Duration::from_secs(60));
        is_about(eta(3_000, held(true, Binding::Pause, minute)), 360.0);
        is_about(eta(3_000, held(false, Binding::Outage, minute)), 360.0);
        let mut limited = held(true, Binding::Pause, minute);
        limited.rates = [Some(Rate::per_minute(60)), None];
        is_about(eta(3_000, limited), 3_060.0);
        assert_eq!(eta(3_000, held(false, Binding::Outage, None)), None);
    }

    #[test]
    fn the_last_answers_take_their_time() {
        let rates = [Some(Rate::per_second(10)), None];
        let mut slow = FileProgress {
            rates,
            ..grown(Binding::Requests)
        };
        slow.engine.wire = Duration::from_secs(600 * 30);
        slow.engine.concurrency = 1_000;
        is_about(eta(110, slow.clone()), 10.0 + 30.0);
        // Nothing is left to send.
        slow.engine.in_flight = 300;
        is_about(eta(300, slow), 30.0);
    }
}
