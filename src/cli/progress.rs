//! The progress of a run: a bar, lines or JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::{ProgressMode, Run};
use super::console::{Console, OutputMode, with_causes};
use super::format;
use crate::bar::{self, Screen, Speed};
use crate::jsonl::summary::{concurrency, learned, rounded, seconds, shared_limit};
use crate::{Binding, Error, FileProgress, ResumeInfo, Usd};

/// The console that the arguments and the terminal ask for.
pub(crate) fn console(args: &Run) -> Console {
    let (mode, bar) = match args.progress {
        _ if args.quiet => (OutputMode::Quiet, None),
        ProgressMode::Json => (OutputMode::Json, None),
        ProgressMode::Always => (OutputMode::Text, Some(Screen::anywhere())),
        // It has no colour for NO_COLOR to take away.
        ProgressMode::Auto => (OutputMode::Text, Screen::of_terminal()),
        ProgressMode::Never => (OutputMode::Text, None),
    };
    Console { mode, bar }
}

/// The flag that helps against a hold.
fn remedy(progress: &FileProgress) -> Option<String> {
    let hold = progress.hold.as_ref().filter(|hold| hold.is_pause)?;
    let named = hold.error.as_ref().and_then(Error::announced_limit);
    format::against_pause(named, progress.rates, &progress.learned)
}

/// Shows one run's progress: as a bar, in lines or as JSON.
#[derive(Debug)]
pub(crate) struct Display {
    console: Console,
    shown: bar::Display,
    /// Whether it has been said what earlier runs left.
    introduced: bool,
}

impl Display {
    pub(crate) fn new(console: &Console, args: &Run) -> Self {
        let line = match console.mode {
            OutputMode::Json => Duration::from_secs(1),
            _ if args.quiet || args.progress == ProgressMode::Never => Duration::MAX,
            _ => bar::LINE_INTERVAL,
        };
        Self {
            console: console.clone(),
            shown: bar::Display::new(console.bar.clone(), remedy, line),
            introduced: false,
        }
    }

    /// Takes note of where the run stands, and shows it if it is time to.
    pub(crate) fn note(&mut self, progress: &FileProgress) {
        let is_due = self.shown.is_due(progress);
        if let (Some(found), false) = (&progress.found, self.introduced) {
            self.introduced = true;
            match self.console.mode {
                OutputMode::Json => self.console.json(&resume(found)),
                _ => self.console.say(&carrying_on(found)),
            }
        }
        if !is_due {
            return;
        }
        if self.console.mode == OutputMode::Json {
            self.console.json(&object(progress, &self.shown.speed));
        } else if let Some(line) = self.shown.draw(progress) {
            self.console.say(&line);
        }
    }

    /// Removes the bar. A program gets the last figures.
    pub(crate) fn close(mut self, progress: &FileProgress) {
        if self.console.mode == OutputMode::Json {
            self.shown.speed.note(progress);
            self.console.json(&object(progress, &self.shown.speed));
        }
    }
}

/// A run's progress for a program. A rate or an estimate that nobody can give is null.
fn object(progress: &FileProgress, speed: &Speed) -> Value {
    let engine = &progress.engine;
    json!({
        "event": "progress",
        "elapsed_s": seconds(progress.elapsed),
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
            "next_try_s": hold.next_try.map(seconds),
            "remedy": remedy(progress),
        })),
        "learned": learned(&progress.learned),
        "shared_limit": progress.shared.as_ref().map(shared_limit),
        "attempts": engine.attempts,
        "retries": engine.retries,
        "hedges": engine.hedges,
        "throttled": engine.throttled,
        "prompt_tokens": progress.prompt_tokens,
        "completion_tokens": progress.completion_tokens,
        "cost_usd": progress.cost.map(Usd::as_f64),
        "rps": rounded(speed.rows(), 3),
        "tokens_per_s": rounded(speed.tokens(), 3),
        "eta_s": speed.eta(progress).map(seconds),
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
    use crate::{AnnouncedLimit, ErrorKind, Hold, Progress, Rate, SharedStatus};

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
                attempts: 401,
                wire: Duration::from_secs(802),
                binding: Some(Binding::Tokens),
                retries: 4,
                ..Progress::default()
            },
            ..FileProgress::default()
        }
    }

    fn told(progress: &FileProgress) -> String {
        let mut shown = bar::Display::new(None, remedy, bar::LINE_INTERVAL);
        for progress in [&FileProgress::default(), progress] {
            let _is_due = shown.is_due(progress);
        }
        shown.draw(progress).unwrap()
    }

    fn object(progress: &FileProgress) -> Value {
        super::object(progress, &Speed::default())
    }

    #[test]
    fn of_a_range_the_number_that_was_found_is_told() {
        let mut progress = progress(None);
        progress.concurrency = Some((4..=200).into());
        progress.engine.concurrency = 57;
        let words = "20 in flight of 57 (found in 4-200)";
        assert!(told(&progress).contains(words), "{}", told(&progress));
        let object = object(&progress);
        assert_eq!(object["concurrency"]["now"], 57);
        assert_eq!(object["concurrency"]["high"], 200);
    }

    #[test]
    fn what_binds_is_told_in_words() {
        let mut progress = progress(None);
        for (binding, words) in [
            (Binding::InFlight, "limit: concurrency, 20 in flight"),
            (Binding::SharedLimit, "limit: shared limit, "),
            (Binding::Queue, "limit: another run, "),
            (Binding::Warmup, "limit: warm-up, "),
            (Binding::InputTokens, "limit: input tokens, "),
            (Binding::OutputTokens, "limit: output tokens, "),
            (Binding::Wire, "limit: server, "),
            (Binding::Pause, "limit: pause, "),
        ] {
            progress.engine.binding = Some(binding);
            assert!(told(&progress).contains(words), "{}", told(&progress));
        }
    }

    #[test]
    fn what_was_learned_is_told_with_its_source() {
        let mut progress = progress(None);
        progress.learned.requests = Some(Rate::per_minute(500));
        progress.learned.tokens = Some(Rate::per_minute(200_000));
        let words = "500/min and 200,000 tokens/min learned from headers";
        assert!(told(&progress).contains(words), "{}", told(&progress));
        let told_as = object(&progress);
        assert_eq!(told_as["learned"]["tokens_per_s"], 3_333.333);
        progress.learned.from_refusals = Some(Rate::new(15, Duration::from_secs(10)));
        progress.learned.at_once = Some(3);
        let words = "3 at once and 1.5/s learned from refusals, 500/min and";
        assert!(told(&progress).contains(words), "{}", told(&progress));
    }

    #[test]
    fn tokens_of_prompts_and_of_answers_are_told_apart() {
        let mut progress = progress(None);
        progress.learned.requests = Some(Rate::per_minute(50));
        progress.learned.input_tokens = Some(Rate::per_minute(30_000));
        progress.learned.output_tokens = Some(Rate::per_minute(8_000));
        let words = "50/min, 30,000 input tokens/min and 8,000 output tokens/min learned from";
        assert!(told(&progress).contains(words), "{}", told(&progress));
        let learned = &object(&progress)["learned"];
        assert_eq!(learned["tokens_per_s"], Value::Null);
        assert_eq!(learned["input_tokens_per_s"], 500.0);
        assert_eq!(learned["output_tokens_per_s"], 133.333);
    }

    #[test]
    fn as_long_as_it_may_be_too_many_at_once_that_is_told() {
        let mut progress = progress(None);
        progress.learned.maybe_at_once = Some(3);
        let words = ", maybe 3 at once learned from refusals, ";
        assert!(told(&progress).contains(words), "{}", told(&progress));
        progress.learned.from_refusals = Some(Rate::new(75, Duration::from_secs(100)));
        let words = ", 0.75/s or 3 at once learned from refusals, ";
        assert!(told(&progress).contains(words), "{}", told(&progress));
        assert_eq!(object(&progress)["learned"]["maybe_at_once"], 3);
        progress.hold = Some(Hold {
            is_pause: true,
            error: Some(Error::new(ErrorKind::RateLimited, "slow down")),
            next_try: Some(Duration::from_secs(55)),
        });
        let words = "  on hold for 55 s: if that was too many at once: -c 3 (slow down), ";
        assert!(told(&progress).contains(words), "{}", told(&progress));
    }

    #[test]
    fn the_head_says_how_far_and_how_long_and_the_detail_why() {
        assert_eq!(
            told(&progress(Some(1_415))),
            "413/1,415  10.0/s  ETA 1 min 40 s  \
             limit: tokens, 20 in flight, 2,000 tokens/s, 4 retries, 1 failed, 12 done before"
        );
    }

    #[test]
    fn copies_are_told_beside_retries() {
        let mut progress = progress(None);
        progress.engine.hedges = 2;
        let words = ", 4 retries, 2 hedging copies, 1 failed, ";
        assert!(told(&progress).contains(words), "{}", told(&progress));
        assert_eq!(object(&progress)["hedges"], 2);
    }

    #[test]
    fn a_run_that_is_stopping_has_no_estimate() {
        let mut progress = progress(Some(1_415));
        progress.is_stopping = true;
        let told = told(&progress);
        assert!(told.starts_with("413/1,415  10.0/s  stopping  "), "{told}");
        assert_eq!(object(&progress)["eta_s"], Value::Null);
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
        let outage = |seconds: Option<u64>| Hold {
            is_pause: false,
            error: Some(Error::new(ErrorKind::Unreachable, "refused\u{1b}[2J")),
            next_try: seconds.map(Duration::from_secs),
        };
        for (seconds, words) in [
            (
                Some(12),
                "  on hold, next try in 12 s (refused\\u{1b}[2J), ",
            ),
            (Some(0), "  on hold, trying now (refused\\u{1b}[2J), "),
            (
                None,
                "  on hold, no time is left for another try (refused\\u{1b}[2J), ",
            ),
        ] {
            let mut progress = progress(Some(5));
            progress.hold = Some(outage(seconds));
            assert!(told(&progress).contains(words), "{}", told(&progress));
            let held = &object(&progress)["held"];
            assert_eq!(held["next_try_s"], json!(seconds.map(|it| it as f64)));
        }
        assert_eq!(object(&progress(None))["held"], Value::Null);
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
                "  on hold for 41 s: the server says 60 a minute: --rpm 60 (slow down), ",
            ),
            (
                sixty.clone(),
                minute(600),
                "  on hold for 41 s: the server says 60 a minute: --rpm 60 (slow down), ",
            ),
            (sixty, minute(60), "  on hold for 41 s (slow down), "),
            (
                Some(limited(limit(30_000, true, 60))),
                minute(60),
                "  on hold for 41 s: the server says 30,000 tokens a minute: --tpm 30000 (slow down), ",
            ),
            (
                Some(limited(limit(5, false, 1))),
                None,
                "  on hold for 41 s: the server says 5 a second: --rps 5 (slow down), ",
            ),
            (
                Some(limited(None)),
                None,
                "  on hold for 41 s (slow down), ",
            ),
            (None, None, "  on hold for 41 s, "),
        ] {
            let mut progress = progress(Some(5));
            progress.hold = Some(Hold {
                is_pause: true,
                error,
                next_try: Some(Duration::from_secs(41)),
            });
            progress.rates = [own, None];
            assert!(told(&progress).contains(words), "{}", told(&progress));
            let held = &object(&progress)["held"];
            assert_eq!(
                (&held["is_pause"], &held["next_try_s"]),
                (&true.into(), &41.0.into())
            );
            assert_eq!(held["remedy"].is_string(), words.contains("--"), "{held}");
        }
    }

    #[test]
    fn a_shared_limit_is_told_and_first_of_all_that_its_store_is_gone() {
        let mut progress = progress(None);
        progress.shared = Some(SharedStatus {
            store: "file:limit".into(),
            processes: 8,
            ..SharedStatus::default()
        });
        let words = "20 in flight, shared with 7 other processes, ";
        assert!(told(&progress).contains(words), "{}", told(&progress));
        progress.shared.as_mut().unwrap().gone = Some(Duration::from_secs(3));
        let words = "/s  waiting for the store of the shared limit, file:limit, gone for 3 s, ";
        assert!(told(&progress).contains(words), "{}", told(&progress));
        progress.shared.as_mut().unwrap().error = Some("no such server".into());
        assert_eq!(object(&progress)["shared_limit"]["gone_s"], 3.0);
        assert_eq!(object(&progress)["shared_limit"]["error"], "no such server");
        progress.shared.as_mut().unwrap().falls_back = true;
        let words = "/s  at a share: the store of the shared limit, file:limit, is gone for 3 s, ";
        assert!(told(&progress).contains(words), "{}", told(&progress));
    }

    #[test]
    fn there_is_no_estimate_for_what_nobody_knows() {
        assert!(told(&progress(None)).starts_with("413 done  10.0/s  limit: "));
        let fresh = FileProgress {
            total: Some(5),
            ..FileProgress::default()
        };
        assert!(told(&fresh).starts_with("0/5  0.0/s  ETA unknown  "));
        assert_eq!(object(&fresh)["eta_s"], Value::Null);
    }

    /// The keys of an object, those of objects in it behind a point.
    fn keys(value: &Value, above: &str) -> Vec<String> {
        let inner = value.as_object().into_iter().flatten();
        let inner = inner.flat_map(|(name, value)| {
            let key = format!("{above}{name}");
            let below = keys(value, &format!("{key}."));
            // That an object is not always there has to be said.
            let is_always_there = !below.is_empty() && name != "held" && name != "shared_limit";
            let own = (!is_always_there).then_some(key);
            own.into_iter().chain(below).collect::<Vec<_>>()
        });
        inner.collect()
    }

    #[test]
    fn the_guide_lists_the_keys_of_each_event() {
        let guide = include_str!("../_guide/batch_files.rs");
        let (_, section) = guide.split_once("//! # Progress for a program\n").unwrap();
        let (section, _) = section.split_once("//! # ").unwrap();
        let (events, table) = section.split_once("//! | Key | Value |").unwrap();
        let listed = table
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `"));
        let listed = listed.flat_map(|line| line.split(" | ").next().unwrap().split("`, `"));
        let mut listed: Vec<&str> = listed.map(|key| key.trim_end_matches('`')).collect();
        listed.sort_unstable();

        let mut progress = progress(Some(5));
        progress.hold = Some(Hold {
            is_pause: true,
            error: None,
            next_try: None,
        });
        progress.shared = Some(SharedStatus::default());
        let mut sent = keys(&object(&progress), "");
        sent.retain(|key| key != "event");
        sent.sort_unstable();
        assert_eq!(listed, sent);

        let row = events.lines().find(|line| line.contains("| `resume` |"));
        let mut listed: Vec<&str> = row.unwrap().split('`').skip(3).step_by(2).collect();
        listed.sort_unstable();
        let mut sent = keys(&resume(&ResumeInfo::default()), "");
        sent.retain(|key| key != "event");
        assert_eq!(listed, sent);
    }
}
