//! What a run came to, for people: how it went, what held it up, where things are, how to go on.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::iter;

use super::words::{aligned, count, counted, rate, time};
use crate::Summary;
use crate::jsonl::names::{Place, Places};

/// A run that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing<'a> {
    pub(crate) summary: &'a Summary,
    pub(crate) places: &'a Places,
    pub(crate) concurrency: u32,
    pub(crate) max_attempts: u32,
    pub(crate) simulated: bool,
    /// The arguments of this run, the program's name first.
    pub(crate) arguments: &'a [OsString],
}

impl Closing<'_> {
    /// The closing summary: a label and a fact a line.
    pub(crate) fn text(&self) -> String {
        aligned(&self.facts())
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let summary = self.summary;
        let progress = &summary.progress;
        let engine = &progress.engine;
        let mut facts = vec![(
            "succeeded",
            format!(
                "{} of {}",
                count(progress.succeeded),
                requests(summary.requests)
            ),
        )];
        let mut also = |number: u64, label, fact: &dyn Fn(String) -> String| {
            if number > 0 {
                facts.push((label, fact(count(number))));
            }
        };
        also(progress.failed, "failed", &|failed| failed);
        also(progress.skipped, "skipped", &|skipped| {
            format!("{skipped} done before")
        });
        also(summary.not_attempted, "left", &|left| {
            format!("{left} not done yet")
        });
        also(engine.maybe_billed_twice, "beware", &|lost| {
            format!("{lost} possibly billed twice: their answers were lost on the way")
        });

        let finished = progress.finished();
        let wall = summary.wall.as_secs_f64();
        if finished > 0 && wall > 0.0 {
            let pace = rate(finished as f64 / wall);
            facts.push(("time", format!("{}, {pace} a second", time(summary.wall))));
        }
        if engine.attempts > 0 {
            facts.push(("attempts", self.attempts()));
        }
        if progress.prompt_tokens + progress.completion_tokens > 0 {
            facts.push((
                "tokens",
                format!(
                    "{} in prompts, {} in answers",
                    count(progress.prompt_tokens),
                    count(progress.completion_tokens)
                ),
            ));
        }
        facts.extend(progress.cost.map(|cost| ("cost", cost.rounded())));
        facts.extend(self.held_up_by().map(|what| ("held up by", what)));
        if progress.succeeded + progress.skipped > 0
            && let Place::File(_) = &self.places.output
        {
            let simulated = if self.simulated { " (simulated)" } else { "" };
            facts.push(("results", format!("{}{simulated}", self.places.output)));
        }
        if progress.failed > 0
            && let Place::File(_) = &self.places.errors
        {
            facts.push(("errors", self.places.errors.to_string()));
        }
        facts.extend(self.carry_on());
        facts
    }

    fn attempts(&self) -> String {
        let engine = &self.summary.progress.engine;
        let mut text = count(engine.attempts);
        if engine.retries > 0 {
            let _ = write!(text, ", {}", counted(engine.retries, "retry", "retries"));
        }
        if engine.throttled > 0 {
            let _ = write!(text, ", {} throttled", count(engine.throttled));
        }
        let _ = write!(
            text,
            "; at most {} at once, on {}",
            count(engine.in_flight_peak),
            counted(engine.threads_peak, "thread", "threads")
        );
        text
    }

    /// What took the time, and what to change where that would help. Nothing where the run says
    /// nothing about it: nothing was sent, or the run ended before anything came of it.
    fn held_up_by(&self) -> Option<String> {
        let summary = self.summary;
        let engine = &summary.progress.engine;
        let idle = engine.retries == 0 && engine.throttled == 0;
        if engine.attempts == 0 || (idle && engine.succeeded + engine.failed == 0) {
            return None;
        }
        let waits = [
            (engine.gate.requests, "the limit on requests (--rps, --rpm)"),
            (engine.gate.tokens, "the limit on tokens (--tpm)"),
            (engine.gate.pause, "pauses that the server asked for"),
        ];
        let longest = waits.into_iter().max_by_key(|(waited, _)| *waited);
        if let Some((waited, what)) = longest
            && waited >= summary.wall / 2
            && !waited.is_zero()
        {
            return Some(format!(
                "{what}: {} of {}",
                time(waited),
                time(summary.wall)
            ));
        }
        if engine.throttled > 0 && engine.throttled >= engine.attempts.div_ceil(2) {
            let answers = counted(engine.throttled, "answer", "answers");
            return Some(format!("the server: {answers} asked for a slower pace"));
        }
        // Both are summed over requests. Where nothing succeeded, latency is that of failures.
        let nothing_came = engine.succeeded == 0 && engine.retries > 0;
        if nothing_came || (engine.backoff >= engine.wire && !engine.backoff.is_zero()) {
            return Some("failures and waits between attempts".to_owned());
        }
        let smooth = engine.throttled == 0 && engine.retries == 0 && summary.progress.failed == 0;
        let all_places_taken = engine.in_flight_peak >= u64::from(self.concurrency);
        Some(match (smooth, all_places_taken) {
            // More at once is no cure for a server that refuses or fails some already.
            (false, _) => "mostly the answers' latency".to_owned(),
            (true, false) => "the answers' latency alone".to_owned(),
            (true, true) => format!(
                "the answers' latency, {} at once: more --concurrency is faster",
                count(engine.in_flight_peak)
            ),
        })
    }

    /// The command that goes on where this run stopped, or repeats what failed; nothing where there
    /// is nothing to go on with.
    fn carry_on(&self) -> Vec<(&'static str, String)> {
        let summary = self.summary;
        let unfinished = summary.not_attempted > 0 || summary.stopped.is_some();
        let failed = summary.progress.failed > 0;
        let begins_anew = self.simulated && self.output_is_default();
        if !(unfinished || failed) || begins_anew || self.places.output == Place::Stream {
            return Vec::new();
        }
        let for_good = !unfinished && self.failed_for_good();
        let label = if unfinished { "carry on" } else { "try again" };
        let mut facts = vec![(label, command(self.arguments, for_good))];
        // Below the command and not behind it: the line above is for copying.
        if self.places.input == Place::Stream {
            facts.push(("", "with the same input".to_owned()));
        }
        if failed && !for_good {
            let more = "with --retry-failed also what was refused for good";
            facts.push(("", more.to_owned()));
        }
        facts
    }

    /// Whether each failure is one that a plain rerun leaves alone. What may pass is tried again in
    /// the run itself, if it allows a second attempt: where nothing was, nothing was of that kind.
    fn failed_for_good(&self) -> bool {
        let engine = &self.summary.progress.engine;
        self.max_attempts > 1 && engine.retries == 0 && engine.throttled == 0
    }

    fn output_is_default(&self) -> bool {
        !self.arguments.iter().any(|argument| {
            let argument = argument.to_string_lossy();
            argument == "--output"
                || argument.starts_with("--output=")
                || (argument.starts_with("-o") && !argument.starts_with("--"))
        })
    }
}

fn requests(number: u64) -> String {
    counted(number, "request", "requests")
}

/// The command line to type again. `--overwrite` would begin anew what is to be gone on with.
fn command(arguments: &[OsString], retry_failed: bool) -> String {
    const AGAIN: &str = "--retry-failed";
    // Behind it everything is a file name.
    let flags_end = arguments.iter().position(|word| word == "--");
    let flags_end = flags_end.unwrap_or(arguments.len());
    let (flags, names) = arguments.split_at(flags_end);
    let adding = retry_failed && !flags.iter().any(|word| word == AGAIN);
    let kept = flags
        .iter()
        .skip(1)
        .filter(|word| *word != "--overwrite")
        .map(|word| quoted(word));
    iter::once("tollgate".to_owned())
        .chain(kept)
        .chain(adding.then(|| AGAIN.to_owned()))
        .chain(names.iter().map(|word| quoted(word)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "-_=+./,:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, ErrorKind, FileProgress, Progress, Waited};
    use std::time::Duration;

    fn summary() -> Summary {
        Summary {
            progress: FileProgress {
                succeeded: 97,
                engine: Progress {
                    succeeded: 97,
                    attempts: 97,
                    in_flight_peak: 20,
                    threads_peak: 20,
                    ..Progress::default()
                },
                prompt_tokens: 12_345,
                completion_tokens: 6_789,
                ..FileProgress::default()
            },
            requests: 100,
            not_attempted: 0,
            stopped: None,
            wall: Duration::from_secs(10),
        }
    }

    fn places() -> Places {
        Places {
            input: Place::File("p.jsonl".into()),
            output: Place::File("p.results.jsonl".into()),
            errors: Place::File("p.errors.jsonl".into()),
        }
    }

    fn text(summary: &Summary, places: &Places, arguments: &str, simulated: bool) -> String {
        let arguments: Vec<OsString> = arguments.split(' ').map(OsString::from).collect();
        let closing = Closing {
            summary,
            places,
            concurrency: 20,
            max_attempts: 6,
            simulated,
            arguments: &arguments,
        };
        closing.text()
    }

    #[test]
    fn a_good_run_is_told_in_a_few_aligned_lines() {
        let told = text(&summary(), &places(), "tollgate run p.jsonl", false);
        let expected = "\
succeeded   97 of 100 requests
time        10.0 s, 9.7 a second
attempts    97; at most 20 at once, on 20 threads
tokens      12,345 in prompts, 6,789 in answers
held up by  the answers' latency, 20 at once: more --concurrency is faster
results     \"p.results.jsonl\"
";
        assert_eq!(told, expected);
    }

    #[test]
    fn what_held_a_run_up_is_what_the_gate_was_shut_for() {
        for (gate, word) in [
            (
                Waited {
                    requests: Duration::from_secs(6),
                    ..Waited::default()
                },
                "--rps",
            ),
            (
                Waited {
                    tokens: Duration::from_secs(9),
                    requests: Duration::from_secs(1),
                    ..Waited::default()
                },
                "--tpm",
            ),
            (
                Waited {
                    pause: Duration::from_secs(8),
                    ..Waited::default()
                },
                "pauses",
            ),
            (
                Waited {
                    requests: Duration::from_secs(2),
                    ..Waited::default()
                },
                "--concurrency",
            ),
        ] {
            let mut summary = summary();
            summary.progress.engine.gate = gate;
            let told = text(&summary, &places(), "tollgate run p.jsonl", false);
            assert!(told.contains(word), "{told}");
        }
    }

    #[test]
    fn more_at_once_is_advised_only_where_all_went_well() {
        let told = |engine: Progress| {
            let mut summary = summary();
            summary.progress.engine = engine;
            text(&summary, &places(), "tollgate run p.jsonl", false)
        };
        let well = summary().progress.engine;
        let long = Duration::from_secs(90);
        for (engine, words) in [
            (
                Progress {
                    succeeded: 0,
                    throttled: 97,
                    backoff: long,
                    ..well
                },
                "held up by  the server: 97 answers asked for a slower pace\n",
            ),
            (
                Progress {
                    retries: 20,
                    backoff: long,
                    ..well
                },
                "held up by  failures and waits between attempts\n",
            ),
            (
                Progress {
                    succeeded: 0,
                    retries: 20,
                    wire: long,
                    ..well
                },
                "held up by  failures and waits between attempts\n",
            ),
            (
                Progress {
                    retries: 1,
                    wire: long,
                    ..well
                },
                "held up by  mostly the answers' latency\n",
            ),
            (
                Progress {
                    in_flight_peak: 19,
                    ..well
                },
                "held up by  the answers' latency alone\n",
            ),
        ] {
            let told = told(engine);
            assert!(told.contains(words), "{told}");
            assert!(!told.contains("--concurrency"), "{told}");
        }
        let nothing_sent = told(Progress::default());
        assert!(!nothing_sent.contains("held up"), "{nothing_sent}");
    }

    #[test]
    fn the_command_is_one_that_does_something() {
        let mut failed = summary();
        failed.progress.failed = 3;
        let told = |summary: &Summary, typed| text(summary, &places(), typed, false);
        for (typed, printed) in [
            ("tollgate run p.jsonl", "run p.jsonl --retry-failed\n"),
            (
                "tollgate run --retry-failed p.jsonl",
                "run --retry-failed p.jsonl\n",
            ),
            (
                "tollgate run --ordered -- p.jsonl",
                "run --ordered --retry-failed -- p.jsonl\n",
            ),
        ] {
            let told = told(&failed, typed);
            assert!(told.contains(printed), "{told}");
            assert!(!told.contains("refused for good"), "{told}");
        }
        failed.progress.engine.retries = 5;
        let some_may_pass = told(&failed, "tollgate run p.jsonl --ordered");
        let printed = "run p.jsonl --ordered\n";
        assert!(some_may_pass.contains(printed), "{some_may_pass}");
        let more = "with --retry-failed also";
        assert!(some_may_pass.contains(more), "{some_may_pass}");
    }

    #[test]
    fn an_unfinished_run_ends_with_the_command_to_go_on() {
        let mut unfinished = summary();
        unfinished.not_attempted = 3;
        unfinished.stopped = Some(Error::new(ErrorKind::Cancelled, "interrupted"));
        let typed = "/usr/bin/tollgate run p.jsonl --overwrite --rps 5";
        let told = text(&unfinished, &places(), typed, false);
        assert!(told.contains("left        3 not done yet\n"), "{told}");
        assert!(told.contains("tollgate run p.jsonl --rps 5\n"), "{told}");
        assert!(!told.contains("--overwrite"), "{told}");

        let trial = text(&unfinished, &places(), "tollgate run p.jsonl", true);
        assert!(!trial.contains("carry on"), "{trial}");
        let kept = text(&unfinished, &places(), "tollgate run p.jsonl -o o", true);
        assert!(kept.contains("carry on"), "{kept}");
        let stream = Places {
            output: Place::Stream,
            ..places()
        };
        let told = text(&unfinished, &stream, typed, false);
        assert!(!told.contains("carry on"), "{told}");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, shown) in [
            ("p.jsonl", "p.jsonl"),
            ("--rps=5", "--rps=5"),
            ("", "''"),
            ("my file", "'my file'"),
            ("it's", r"'it'\''s'"),
            ("$(rm)", "'$(rm)'"),
        ] {
            assert_eq!(quoted(OsStr::new(word)), shown);
        }
    }
}
