//! The progress of a run: a bar, lines or JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::{ProgressMode, Run};
use super::console::{Console, OutputMode, with_causes};
use super::speed::Speed;
use super::{bar, format};
use crate::escape::printable;
use crate::jsonl::summary::{concurrency, learned, rounded};
use crate::{Binding, Concurrency, FileProgress, Hold, Learned, ResumeInfo, Usd};

/// The longest reason for an outage that is shown, in characters.
const LONGEST_REASON: usize = 200;

/// The console that the arguments and the terminal ask for.
pub(crate) fn console(args: &Run) -> Console {
    let (mode, bar) = match args.progress {
        _ if args.quiet => (OutputMode::Quiet, None),
        ProgressMode::Json => (OutputMode::Json, None),
        ProgressMode::Always => (OutputMode::Text, Some(bar::anywhere())),
        // It has no colour for NO_COLOR to take away.
        ProgressMode::Auto => (OutputMode::Text, bar::on_terminal()),
        ProgressMode::Never => (OutputMode::Text, None),
    };
    Console { mode, bar }
}

/// Shows one run's progress: as a bar, in lines or as JSON.
#[derive(Debug)]
pub(crate) struct Display {
    console: Console,
    speed: Speed,
    /// How often it is shown. A time that no run reaches if it is not.
    interval: Duration,
    /// When it is shown next, in the run's own time.
    next: Duration,
    /// Whether it has been said what earlier runs left.
    introduced: bool,
}

impl Display {
    pub(crate) fn new(console: &Console, args: &Run) -> Self {
        let interval = match (console.mode, &console.bar) {
            (_, Some(_)) => Duration::from_millis(100),
            (OutputMode::Json, _) => Duration::from_secs(1),
            _ if args.quiet || args.progress == ProgressMode::Never => Duration::MAX,
            _ => Duration::from_secs(5),
        };
        Self {
            console: console.clone(),
            speed: Speed::new(args.limits.rates()),
            interval,
            next: console.bar.as_ref().map_or(interval, |_| Duration::ZERO),
            introduced: false,
        }
    }

    /// Takes note of where the run stands, and shows it if it is time to.
    pub(crate) fn note(&mut self, progress: &FileProgress) {
        self.speed.note(progress);
        if let (Some(found), false) = (&progress.found, self.introduced) {
            self.introduced = true;
            match self.console.mode {
                OutputMode::Json => self.console.json(&resume(found)),
                _ => self.console.say(&carrying_on(found)),
            }
        }
        if progress.elapsed >= self.next {
            self.next = progress.elapsed.saturating_add(self.interval);
            self.show(progress);
        }
    }

    /// Removes the bar. A program gets the last figures.
    pub(crate) fn close(&mut self, progress: &FileProgress) {
        if let Some(bar) = &self.console.bar {
            bar.finish_and_clear();
        } else if self.console.mode == OutputMode::Json {
            self.speed.note(progress);
            self.show(progress);
        }
    }

    fn show(&self, progress: &FileProgress) {
        if self.console.mode == OutputMode::Json {
            self.console.json(&object(progress, &self.speed));
            return;
        }
        let head = head(progress, &self.speed);
        let detail = detail(progress, &self.speed);
        match &self.console.bar {
            Some(bar) => bar::draw(bar, progress, head, detail),
            None => self.console.say(&format!("{head}  {detail}")),
        }
    }
}

/// How far, how fast, how long.
fn head(progress: &FileProgress, speed: &Speed) -> String {
    let rate = format::rate(speed.rows());
    let done = format::count(progress.done());
    let Some(total) = progress.total else {
        return format!("{done} done  {rate}/s");
    };
    let eta = eta(progress, speed).map_or_else(|| "unknown".to_owned(), format::coarse_time);
    format!("{done}/{}  {rate}/s  ETA {eta}", format::count(total))
}

/// How long what is left will take, as far as that is known. Nothing comes before a hold is over.
fn eta(progress: &FileProgress, speed: &Speed) -> Option<Duration> {
    let left = speed.eta(progress.total?.saturating_sub(progress.done()))?;
    let held = progress.hold.as_ref().map(|hold| hold.next_try);
    Some(left.max(held.unwrap_or_default()))
}

/// What explains it.
fn detail(progress: &FileProgress, speed: &Speed) -> String {
    let engine = &progress.engine;
    // What holds the run back comes first: it explains the rest, and a narrow bar shows the
    // beginning only.
    let limit = match (&progress.hold, engine.binding) {
        (Some(hold), _) => Some(held(hold, speed, &progress.learned)),
        (None, binding) => binding.map(|binding| format!("limit: {}", factor(binding))),
    };
    let mut detail: Vec<String> = limit.into_iter().collect();
    let range = progress.concurrency.filter(Concurrency::is_range);
    let range = range.map(|range| {
        let found = format::count(engine.concurrency as u64);
        format!(" of {found} (found in {range})")
    });
    let at_once = format::count(engine.in_flight);
    let range = range.unwrap_or_default();
    detail.push(format!("{at_once} in flight{range}"));
    detail.extend(format::learned(&progress.learned));
    detail.push(format!("{} tokens/s", format::rate(speed.tokens())));
    for (number, one, many) in [
        (engine.backing_off, "backing off", "backing off"),
        (engine.retries, "retry", "retries"),
        (progress.failed, "failed", "failed"),
        (progress.skipped, "done before", "done before"),
    ] {
        if number > 0 {
            detail.push(format::counted(number, one, many));
        }
    }
    detail.extend(progress.cost.map(Usd::rounded));
    detail.join(", ")
}

/// What holds the run back, in a word or two.
fn factor(binding: Binding) -> &'static str {
    match binding {
        Binding::Requests => "requests",
        Binding::Tokens => "tokens",
        Binding::InFlight => "concurrency",
        Binding::Queue => "another run",
        Binding::Pause => "pause",
        Binding::Backoff => "backoff",
        Binding::Outage => "outage",
        Binding::Input => "input",
        Binding::Wire => "server",
    }
}

/// What a run that sends nothing waits for. The end and the remedy come first: a bar may be narrow.
fn held(hold: &Hold, speed: &Speed, learned: &Learned) -> String {
    let left = format::coarse_time(hold.next_try);
    let when = match hold.next_try.is_zero() {
        _ if hold.is_pause => format!(" for {left}"),
        true => ", trying now".to_owned(),
        false => format!(", next try in {left}"),
    };
    let remedy = remedy(hold, speed, learned).map(|remedy| format!(": {remedy}"));
    let reason = hold.error.as_ref().map(with_causes);
    let reason = reason.map(|reason| format!(" ({})", printable(&reason, LONGEST_REASON)));
    format!(
        "on hold{when}{}{}",
        remedy.unwrap_or_default(),
        reason.unwrap_or_default()
    )
}

fn remedy(hold: &Hold, speed: &Speed, learned: &Learned) -> Option<String> {
    let limit = hold.error.as_ref()?.announced_limit()?;
    format::remedy(limit, speed.rates(), learned)
}

/// A run's progress for a program. A rate or an estimate that nobody can give is null.
fn object(progress: &FileProgress, speed: &Speed) -> Value {
    let engine = &progress.engine;
    json!({
        "event": "progress",
        "elapsed_s": rounded(progress.elapsed.as_secs_f64()),
        "done": progress.done(),
        "total": progress.total,
        "succeeded": progress.succeeded,
        "failed": progress.failed,
        "skipped": progress.skipped,
        "in_flight": engine.in_flight,
        "concurrency": concurrency(progress),
        "waiting": engine.waiting,
        "backing_off": engine.backing_off,
        "binding": engine.binding.map(Binding::as_str),
        "held": progress.hold.as_ref().map(|hold| json!({
            "is_pause": hold.is_pause,
            "error": hold.error.as_ref().map(with_causes),
            "next_try_s": rounded(hold.next_try.as_secs_f64()),
            "remedy": remedy(hold, speed, &progress.learned),
        })),
        "learned": learned(&progress.learned),
        "attempts": engine.attempts,
        "retries": engine.retries,
        "throttled": engine.throttled,
        "prompt_tokens": progress.prompt_tokens,
        "completion_tokens": progress.completion_tokens,
        "cost_usd": progress.cost.map(Usd::as_f64),
        "rps": rounded(speed.rows()),
        "tokens_per_s": rounded(speed.tokens()),
        "eta_s": eta(progress, speed).map(|eta| rounded(eta.as_secs_f64())),
    })
}

/// What a run carries on with, in words.
fn carrying_on(found: &ResumeInfo) -> String {
    let mut facts = vec![format!("{} done", format::count(found.done))];
    if let Some(to_do) = found.to_do {
        facts.push(format!("{} to do", format::count(to_do)));
    }
    if let Some(failed) = found.failed.filter(|failed| *failed > 0) {
        facts.push(format!("{} failed for good", format::count(failed)));
    }
    let mut parts = vec![format!("carrying on: {}", facts.join(", "))];
    if found.torn_bytes > 0 {
        let bytes = format::counted(found.torn_bytes, "byte", "bytes");
        parts.push(format!("removed an incomplete last record of {bytes}"));
    }
    if found.rejected > 0 {
        let lines = format::counted(found.rejected, "damaged line", "damaged lines");
        parts.push(format!("moved {lines} to the .rejected file"));
    }
    if found.possibly_billed > 0 {
        let rows = format::count(found.possibly_billed);
        parts.push(format!(
            "the last run was killed: at most {rows} possibly billed twice"
        ));
    }
    parts.join("; ")
}

/// The same for a program. What nobody can know of a stream is null.
fn resume(found: &ResumeInfo) -> Value {
    json!({
        "event": "resume",
        "done": found.done,
        "to_do": found.to_do,
        "failed": found.failed,
        "torn_bytes": found.torn_bytes,
        "rejected": found.rejected,
        "possibly_billed": found.possibly_billed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnnouncedLimit, Error, ErrorKind, Progress, Rate};

    fn progress(total: Option<u64>) -> FileProgress {
        FileProgress {
            total,
            skipped: 12,
            succeeded: 400,
            failed: 1,
            completion_tokens: 80_000,
            elapsed: Duration::from_secs(40),
            engine: Progress {
                in_flight: 20,
                waiting: 1,
                binding: Some(Binding::Tokens),
                retries: 4,
                ..Progress::default()
            },
            ..FileProgress::default()
        }
    }

    fn told(progress: &FileProgress) -> (String, String) {
        let mut speed = Speed::new([None; 2]);
        speed.note(progress);
        (head(progress, &speed), detail(progress, &speed))
    }

    #[test]
    fn of_a_range_the_number_that_was_found_is_told() {
        let mut progress = progress(None);
        progress.concurrency = Some((4..=200).into());
        progress.engine.concurrency = 57;
        let words = "20 in flight of 57 (found in 4-200)";
        assert!(told(&progress).1.contains(words), "{}", told(&progress).1);
        let object = object(&progress, &Speed::new([None; 2]));
        assert_eq!(object["concurrency"]["now"], 57);
        assert_eq!(object["concurrency"]["high"], 200);
    }

    #[test]
    fn what_was_learned_is_told_with_its_source() {
        let mut progress = progress(None);
        progress.learned.requests = Some(Rate::per_minute(500));
        progress.learned.tokens = Some(Rate::per_minute(200_000));
        let words = "500/min and 200,000 tokens/min learned from headers";
        assert!(told(&progress).1.contains(words), "{}", told(&progress).1);
        let object = object(&progress, &Speed::new([None; 2]));
        assert_eq!(object["learned"]["tokens_per_s"], 3_333.333);
        progress.learned.from_refusals = Some(Rate::new(15, Duration::from_secs(10)));
        progress.learned.at_once = Some(3);
        let words = "3 at once and 1.5/s learned from refusals, 500/min and";
        assert!(told(&progress).1.contains(words), "{}", told(&progress).1);
    }

    #[test]
    fn the_head_says_how_far_and_how_long_and_the_detail_why() {
        let (head, detail) = told(&progress(Some(1_415)));
        assert_eq!(head, "413/1,415  10.0/s  ETA 1 min 40 s");
        assert_eq!(
            detail,
            "limit: tokens, 20 in flight, 2,000 tokens/s, 4 retries, 1 failed, 12 done before"
        );
    }

    #[test]
    fn a_run_that_carries_on_says_with_what() {
        let found = ResumeInfo {
            done: 12_000,
            failed: Some(3),
            to_do: Some(500),
            torn_bytes: 1,
            rejected: 2,
            possibly_billed: 20,
        };
        let told = "carrying on: 12,000 done, 500 to do, 3 failed for good; \
                    removed an incomplete last record of 1 byte; moved 2 damaged lines to the .rejected file; \
                    the last run was killed: at most 20 possibly billed twice";
        assert_eq!(carrying_on(&found), told);
        let stream = ResumeInfo {
            done: 7,
            ..ResumeInfo::default()
        };
        assert_eq!(carrying_on(&stream), "carrying on: 7 done");
        assert_eq!(resume(&stream)["to_do"], Value::Null);
    }

    #[test]
    fn a_run_that_is_held_says_first_by_what_and_for_how_long() {
        let outage = |seconds| Hold {
            is_pause: false,
            error: Some(Error::new(ErrorKind::Unreachable, "refused\u{1b}[2J")),
            next_try: Duration::from_secs(seconds),
        };
        for (seconds, words) in [
            (12, "on hold, next try in 12 s (refused\\u{1b}[2J), "),
            (0, "on hold, trying now (refused\\u{1b}[2J), "),
        ] {
            let mut progress = progress(Some(5));
            progress.hold = Some(outage(seconds));
            let (_, detail) = told(&progress);
            assert!(detail.starts_with(words), "{detail}");
            let object = object(&progress, &Speed::new([None; 2]));
            assert_eq!(object["held"]["next_try_s"], seconds as f64);
        }
        let object = object(&progress(None), &Speed::new([None; 2]));
        assert_eq!(object["held"], Value::Null);
    }

    #[test]
    fn a_pause_is_told_with_its_end_its_remedy_and_its_reason() {
        let limited = |announced_limit| {
            Error::new(ErrorKind::RateLimited, "slow down")
                .with_facts(|facts| facts.announced_limit = announced_limit)
        };
        let limit = |number, is_tokens, period_s| {
            Some(AnnouncedLimit {
                number,
                is_tokens,
                period_s,
            })
        };
        let sixty = Some(limited(limit(60, false, 60)));
        let minute = |rpm| Some(crate::Rate::per_minute(rpm));
        for (error, own, words) in [
            (
                sixty.clone(),
                None,
                "on hold for 41 s: the server says 60 a minute: --rpm 60 (slow down), ",
            ),
            (
                sixty.clone(),
                minute(600),
                "on hold for 41 s: the server says 60 a minute: --rpm 60 (slow down), ",
            ),
            (sixty, minute(60), "on hold for 41 s (slow down), "),
            (
                Some(limited(limit(30_000, true, 60))),
                minute(60),
                "on hold for 41 s: the server says 30,000 tokens a minute: --tpm 30000 (slow down), ",
            ),
            (
                Some(limited(limit(5, false, 1))),
                None,
                "on hold for 41 s: the server says 5 a second: --rps 5 (slow down), ",
            ),
            (Some(limited(None)), None, "on hold for 41 s (slow down), "),
            (None, None, "on hold for 41 s, "),
        ] {
            let mut progress = progress(Some(5));
            progress.hold = Some(Hold {
                is_pause: true,
                error,
                next_try: Duration::from_secs(41),
            });
            let mut speed = Speed::new([own, None]);
            speed.note(&progress);
            let detail = detail(&progress, &speed);
            assert!(detail.starts_with(words), "{detail}");
            let held = &object(&progress, &speed)["held"];
            assert_eq!(
                (&held["is_pause"], &held["next_try_s"]),
                (&true.into(), &41.0.into())
            );
            assert_eq!(held["remedy"].is_string(), words.contains("--"), "{held}");
        }
    }

    #[test]
    fn there_is_no_estimate_for_what_nobody_knows() {
        assert_eq!(told(&progress(None)).0, "413 done  10.0/s");
        let fresh = FileProgress {
            total: Some(5),
            ..FileProgress::default()
        };
        assert_eq!(told(&fresh).0, "0/5  0.0/s  ETA unknown");
        let speed = Speed::new([None; 2]);
        assert_eq!(object(&fresh, &speed)["eta_s"], Value::Null);
    }
}
