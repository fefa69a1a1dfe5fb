//! What to do about the speed of a run: one sentence with a number in it, from where its time went.

use std::time::Duration;

use super::format::{against_pause, count, counted, per_period, rate, remedy, time};
use crate::plan::concurrency_for;
use crate::{Binding, Concurrency, ErrorKind, Learned, Rate, Summary};

/// The limits that a run was given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GivenLimits {
    pub(crate) concurrency: Concurrency,
    /// More were asked for than this process may have open.
    pub(crate) is_capped: bool,
    /// Of requests and of model tokens.
    pub(crate) rates: [Option<Rate>; 2],
}

/// A run that is shorter than this, or sends fewer requests, tells nothing.
const SHORTEST: Duration = Duration::from_secs(2);
const FEWEST: u64 = 20;
/// A limit that bound for a smaller share of the time is not worth a change.
const SMALL_SHARE: f64 = 0.2;

/// What to do about the speed of the run. One that stopped, maybe in its first pause, is at least
/// told what helps against that.
///
/// What a file of its own has ended is not judged: its speed was not what was wrong.
pub(crate) fn advice(summary: &Summary, given: &GivenLimits) -> Option<String> {
    if matches!(&summary.stopped, Some(error) if error.kind() == ErrorKind::Io) {
        return None;
    }
    speed(summary, given).or_else(|| {
        let progress = &summary.progress;
        summary.stopped.as_ref()?;
        against_pause(progress.announced_limit, given.rates, &progress.learned)
    })
}

/// What bound for how much of the time, and what would have been better. `None` if the run is too
/// short to tell, or nothing succeeded that could be faster.
fn speed(summary: &Summary, given: &GivenLimits) -> Option<String> {
    let engine = &summary.progress.engine;
    let binding = engine.bound.binding()?;
    let nothing_came = engine.succeeded == 0 && binding != Binding::Pause;
    if summary.wall < SHORTEST || engine.attempts < FEWEST || nothing_came {
        return None;
    }
    let wall = summary.wall.as_secs_f64();
    let share = engine.bound.of(binding).as_secs_f64() / wall;
    let time_share = format!("{:.0} % of the time", 100.0 * share.min(1.0));
    let run = Run {
        summary,
        given,
        in_flight: engine.wire.as_secs_f64() / wall,
        latency: engine.wire.as_secs_f64() / engine.attempts as f64,
    };
    let each = time(Duration::from_secs_f64(run.latency));
    if share < SMALL_SHARE {
        let in_flight = rate(run.in_flight);
        return Some(format!(
            "no limit bound for more than {time_share}: {in_flight} requests were in flight on average, {each} each"
        ));
    }
    let what = match binding {
        Binding::Requests => limit("requests", run.requests()),
        Binding::Tokens => limit("model tokens", run.tokens()),
        Binding::InputTokens => limit("input tokens", run.announced(|it| it.input_tokens)),
        Binding::OutputTokens => limit("output tokens", run.announced(|it| it.output_tokens)),
        Binding::InFlight => {
            let at_once = count(run.concurrency());
            let source = if run.is_learned() {
                "learned from refusals; ".to_owned()
            } else if given.concurrency.is_range() {
                format!("found in {}; ", given.concurrency)
            } else {
                String::new()
            };
            format!("the limit of {at_once} at once ({source}{each} an answer)")
        }
        Binding::SharedLimit => "the store of the shared limit".to_owned(),
        Binding::Queue => "another run on the same limiter".to_owned(),
        Binding::Pause => "the pauses of the server".to_owned(),
        Binding::Backoff => {
            let retries = counted(engine.retries, "retry", "retries");
            format!("the wait before {retries}")
        }
        Binding::Outage => "an outage of the server".to_owned(),
        Binding::Input => {
            let speed = rate(summary.progress.finished() as f64 / wall);
            format!("the input ({speed} a second)")
        }
        Binding::Warmup => {
            let lasted = time(engine.bound.of(Binding::Warmup));
            format!("the warm-up ({lasted} until the others went)")
        }
        Binding::Wire => format!("the server ({each} an answer, everything sent)"),
    };
    let better = match binding {
        Binding::Requests | Binding::Tokens | Binding::InputTokens | Binding::OutputTokens => {
            run.enough()
        }
        Binding::InFlight => run.more_at_once(),
        Binding::Pause => run.without_pauses(),
        _ => None,
    };
    let better = better.map(|better| format!("; {better}"));
    Some(format!(
        "{what} bound for {time_share}{}",
        better.unwrap_or_default()
    ))
}

/// A run of which there is something to say.
struct Run<'a> {
    summary: &'a Summary,
    given: &'a GivenLimits,
    /// How many requests were in flight, on average.
    in_flight: f64,
    /// How long an attempt took, on average, in seconds.
    latency: f64,
}

impl Run<'_> {
    /// The lowest rate of requests that is known.
    fn requests(&self) -> (Option<Rate>, &'static str) {
        let learned = &self.summary.progress.learned;
        match (learned.from_refusals, learned.requests) {
            (Some(rate), _) => (Some(rate), " learned from refusals"),
            (None, Some(rate)) => (Some(rate), " learned from headers"),
            (None, None) => (self.given.rates[0], ""),
        }
    }

    fn tokens(&self) -> (Option<Rate>, &'static str) {
        let learned = &self.summary.progress.learned;
        match (learned.tokens_from_refusals, learned.tokens) {
            (Some(rate), _) => (Some(rate), " learned from refusals"),
            (None, Some(rate)) => (Some(rate), " learned from headers"),
            (None, None) => (self.given.rates[1], ""),
        }
    }

    fn announced(&self, of: fn(&Learned) -> Option<Rate>) -> (Option<Rate>, &'static str) {
        (of(&self.summary.progress.learned), " learned from headers")
    }

    /// How many requests might be in flight: of a range the number that was found last, and fewer
    /// if refusals tell so.
    fn concurrency(&self) -> u64 {
        let (now, learned) = (self.found(), self.summary.progress.learned.at_once);
        learned.unwrap_or(now).min(now) as u64
    }

    /// Whether refusals have told how many.
    fn is_learned(&self) -> bool {
        let learned = self.summary.progress.learned.at_once;
        learned.is_some_and(|at_once| at_once <= self.found())
    }

    fn found(&self) -> usize {
        let given = self.given.concurrency;
        if given.is_range() {
            self.summary.progress.engine.concurrency
        } else {
            given.high()
        }
    }

    /// How many at once would have done as well, if they are fewer than were allowed.
    fn enough(&self) -> Option<String> {
        let peak = self.summary.progress.engine.in_flight_peak;
        let enough = concurrency_for(self.in_flight).min(peak);
        let is_fewer = enough < self.concurrency();
        is_fewer.then(|| format!("{} at once would have been enough", count(enough)))
    }

    /// How many at once might be faster. `None` if the server refused or failed some: more requests
    /// at once would not help it.
    fn more_at_once(&self) -> Option<String> {
        let progress = &self.summary.progress;
        let engine = &progress.engine;
        if engine.retries + engine.throttled + progress.failed > 0 {
            return None;
        }
        if self.given.is_capped {
            return Some("a higher limit on open files (ulimit -n) would allow more".to_owned());
        }
        let (now, range) = (self.concurrency(), self.given.concurrency);
        let high = range.high() as u64;
        if 4 * now < 3 * high {
            return Some("more were tried and were no faster".to_owned());
        }
        let Some(limit) = self.requests().0 else {
            // A range finds how many the server can take. Twice as many may be refused.
            let low = range.low();
            return Some(format!(
                "-c {low}-{} would show whether more is faster",
                2 * high
            ));
        };
        let most = concurrency_for(limit.units_per_second() * self.latency);
        let limit = per_period(limit, "");
        (most > now).then(|| format!("-c {most} would be enough for the limit of {limit}"))
    }

    /// The flag that keeps to what the server lets in.
    fn without_pauses(&self) -> Option<String> {
        let progress = &self.summary.progress;
        let named = progress.announced_limit;
        if let Some(remedy) = named.and_then(|it| remedy(it, self.given.rates, &progress.learned)) {
            return Some(remedy);
        }
        if let Some(at_once) = progress.learned.at_once {
            return Some(format!("-c {at_once} would avoid them"));
        }
        // That would, if it was the number at once that was refused.
        let at_once = progress.learned.maybe_at_once;
        let at_once = at_once.map_or(String::new(), |it| format!("-c {it} or "));
        let engine = &progress.engine;
        let let_in = engine.attempts.saturating_sub(engine.throttled) as f64;
        let a_minute = match progress.learned.from_refusals {
            Some(rate) => 60.0 * rate.units_per_second(),
            // A few refusals among many answers name no rate.
            None if 10 * engine.throttled < engine.attempts => return None,
            None => 60.0 * let_in / self.summary.wall.as_secs_f64(),
        };
        let a_minute = a_minute.floor();
        (a_minute >= 1.0).then(|| format!("{at_once}--rpm {a_minute} would avoid them"))
    }
}

fn limit(on: &str, (rate, source): (Option<Rate>, &str)) -> String {
    let rate = rate.map(|rate| format!(" ({}{source})", per_period(rate, "")));
    format!("the limit on {on}{}", rate.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnnouncedLimit, Error, ErrorKind, FileProgress, Progress, Times};

    const GIVEN: GivenLimits = GivenLimits {
        concurrency: Concurrency::fixed(100),
        is_capped: false,
        rates: [None; 2],
    };

    /// Of 100 s, 600 requests, half a second each: 3 in flight on average.
    fn summary(binding: Binding, seconds: u64) -> Summary {
        let mut bound = Times::default();
        bound.add(binding, Duration::from_secs(seconds));
        bound.add(Binding::Wire, Duration::from_secs(1));
        Summary {
            progress: FileProgress {
                succeeded: 600,
                engine: Progress {
                    succeeded: 600,
                    attempts: 600,
                    in_flight_peak: 100,
                    wire: Duration::from_secs(300),
                    bound,
                    ..Progress::default()
                },
                ..FileProgress::default()
            },
            wall: Duration::from_secs(100),
            ..Summary::default()
        }
    }

    fn changed(mut summary: Summary, change: impl FnOnce(&mut FileProgress)) -> Summary {
        change(&mut summary.progress);
        summary
    }

    fn learned(summary: Summary, learned: Learned) -> Summary {
        changed(summary, |progress| progress.learned = learned)
    }

    fn says(summary: &Summary, given: GivenLimits, told: &str) {
        assert_eq!(advice(summary, &given).as_deref(), Some(told));
    }

    fn few(at_once: usize) -> GivenLimits {
        GivenLimits {
            concurrency: at_once.into(),
            ..GIVEN
        }
    }

    fn from_headers() -> Learned {
        Learned {
            requests: Some(Rate::per_minute(500)),
            tokens: Some(Rate::per_minute(200_000)),
            ..Learned::default()
        }
    }

    fn from_refusals() -> Learned {
        Learned {
            from_refusals: Some(Rate::per_second(7)),
            ..Learned::default()
        }
    }

    #[test]
    fn a_rate_that_binds_is_named_with_its_source_and_with_how_many_at_once_would_do() {
        let with_rpm = |rpm| GivenLimits {
            rates: [Some(Rate::per_minute(rpm)), None],
            ..GIVEN
        };
        says(
            &summary(Binding::Requests, 81),
            with_rpm(360),
            "the limit on requests (360/min) bound for 81 % of the time; \
             7 at once would have been enough",
        );
        says(
            &learned(summary(Binding::Requests, 81), from_headers()),
            GIVEN,
            "the limit on requests (500/min learned from headers) bound for 81 % of the time; \
             7 at once would have been enough",
        );
        says(
            &learned(summary(Binding::Requests, 81), from_refusals()),
            few(7),
            "the limit on requests (7/s learned from refusals) bound for 81 % of the time",
        );
        says(
            &learned(summary(Binding::Tokens, 40), from_headers()),
            GIVEN,
            "the limit on model tokens (200,000/min learned from headers) bound for 40 % of the \
             time; 7 at once would have been enough",
        );
    }

    #[test]
    fn a_number_at_once_that_binds_is_told_with_one_that_may_be_faster() {
        let range = || GivenLimits {
            concurrency: (4..=200).into(),
            ..GIVEN
        };
        let found =
            |summary, concurrency| changed(summary, |it| it.engine.concurrency = concurrency);
        says(
            &summary(Binding::InFlight, 95),
            few(3),
            "the limit of 3 at once (0.50 s an answer) bound for 95 % of the time; \
             -c 3-6 would show whether more is faster",
        );
        says(
            &learned(summary(Binding::InFlight, 95), from_headers()),
            few(3),
            "the limit of 3 at once (0.50 s an answer) bound for 95 % of the time; \
             -c 9 would be enough for the limit of 500/min",
        );
        says(
            &found(summary(Binding::InFlight, 95), 40),
            range(),
            "the limit of 40 at once (found in 4-200; 0.50 s an answer) bound for 95 % of the time; \
             more were tried and were no faster",
        );
        says(
            &found(summary(Binding::InFlight, 95), 200),
            range(),
            "the limit of 200 at once (found in 4-200; 0.50 s an answer) bound for 95 % of the time; \
             -c 4-400 would show whether more is faster",
        );
        says(
            &learned(summary(Binding::InFlight, 95), from_headers()),
            few(9),
            "the limit of 9 at once (0.50 s an answer) bound for 95 % of the time",
        );
        says(
            &summary(Binding::InFlight, 95),
            GivenLimits {
                is_capped: true,
                ..few(3)
            },
            "the limit of 3 at once (0.50 s an answer) bound for 95 % of the time; \
             a higher limit on open files (ulimit -n) would allow more",
        );
        says(
            &changed(summary(Binding::InFlight, 95), |it| it.engine.throttled = 1),
            few(3),
            "the limit of 3 at once (0.50 s an answer) bound for 95 % of the time",
        );
        says(
            &changed(summary(Binding::InFlight, 95), |it| {
                it.engine.throttled = 1;
                it.learned.at_once = Some(4);
            }),
            few(20),
            "the limit of 4 at once (learned from refusals; 0.50 s an answer) bound for 95 % of the \
             time",
        );
    }

    #[test]
    fn pauses_are_told_with_the_flag_that_avoids_them() {
        let sixty = AnnouncedLimit {
            number: 60,
            is_tokens: false,
            period_s: 60,
        };
        says(
            &changed(summary(Binding::Pause, 62), |it| {
                it.announced_limit = Some(sixty);
                it.engine.succeeded = 0;
            }),
            GIVEN,
            "the pauses of the server bound for 62 % of the time; \
             the server says 60 a minute: --rpm 60",
        );
        says(
            &changed(summary(Binding::Pause, 62), |it| it.engine.throttled = 300),
            GIVEN,
            "the pauses of the server bound for 62 % of the time; --rpm 180 would avoid them",
        );
        says(
            &changed(summary(Binding::Pause, 62), |it| it.engine.throttled = 30),
            GIVEN,
            "the pauses of the server bound for 62 % of the time",
        );
        says(
            &learned(summary(Binding::Pause, 62), from_refusals()),
            GIVEN,
            "the pauses of the server bound for 62 % of the time; --rpm 420 would avoid them",
        );
        says(
            &changed(summary(Binding::Pause, 62), |it| {
                it.learned.at_once = Some(3);
            }),
            GIVEN,
            "the pauses of the server bound for 62 % of the time; -c 3 would avoid them",
        );
        says(
            &changed(summary(Binding::Pause, 62), |it| {
                it.learned = from_refusals();
                it.learned.maybe_at_once = Some(3);
            }),
            GIVEN,
            "the pauses of the server bound for 62 % of the time; \
             -c 3 or --rpm 420 would avoid them",
        );
    }

    #[test]
    fn what_else_binds_is_told_with_a_number() {
        says(
            &changed(summary(Binding::Backoff, 30), |it| it.engine.retries = 12),
            GIVEN,
            "the wait before 12 retries bound for 30 % of the time",
        );
        says(
            &summary(Binding::Outage, 90),
            GIVEN,
            "an outage of the server bound for 90 % of the time",
        );
        says(
            &summary(Binding::Input, 90),
            GIVEN,
            "the input (6.0 a second) bound for 90 % of the time",
        );
        says(
            &summary(Binding::Warmup, 52),
            GIVEN,
            "the warm-up (52.0 s until the others went) bound for 52 % of the time",
        );
        says(
            &summary(Binding::Wire, 90),
            GIVEN,
            "the server (0.50 s an answer, everything sent) bound for 91 % of the time",
        );
        says(
            &summary(Binding::Requests, 12),
            GIVEN,
            "no limit bound for more than 12 % of the time: 3.0 requests were in flight on average, \
             0.50 s each",
        );
    }

    #[test]
    fn a_run_that_ends_in_its_first_pause_is_told_the_limit_that_the_server_named() {
        let named = |it: &mut FileProgress| {
            it.announced_limit = Some(AnnouncedLimit {
                number: 60,
                is_tokens: false,
                period_s: 60,
            });
        };
        let mut ended = changed(Summary::default(), named);
        assert_eq!(advice(&ended, &GIVEN), None, "it went on");
        ended.stopped = Some(Error::new(ErrorKind::Deadline, "no time"));
        let told = "the server says 60 a minute: --rpm 60";
        assert_eq!(advice(&ended, &GIVEN).as_deref(), Some(told));
        ended.progress.announced_limit = None;
        ended.progress.learned.maybe_at_once = Some(3);
        let told = "if that was too many at once: -c 3";
        assert_eq!(advice(&ended, &GIVEN).as_deref(), Some(told));
    }

    #[test]
    fn a_run_that_its_own_files_ended_is_told_nothing_of_its_speed() {
        let mut ended = summary(Binding::InFlight, 90);
        assert!(advice(&ended, &GIVEN).is_some());
        ended.stopped = Some(Error::new(ErrorKind::Io, "no space"));
        assert_eq!(advice(&ended, &GIVEN), None);
    }

    #[test]
    fn a_run_that_tells_too_little_gets_none() {
        let mut short = summary(Binding::Requests, 81);
        short.wall = Duration::from_millis(1_999);
        let few = |it: &mut FileProgress| it.engine.attempts = 19;
        let failed = |it: &mut FileProgress| it.engine.succeeded = 0;
        for nothing in [
            short,
            changed(summary(Binding::Requests, 81), few),
            changed(summary(Binding::Backoff, 81), failed),
            Summary::default(),
        ] {
            assert_eq!(advice(&nothing, &GIVEN), None);
        }
    }
}
