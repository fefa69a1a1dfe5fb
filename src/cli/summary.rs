//! What a run came to, for people: how it went, what held it up, where things are, how to go on.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::iter;

use super::format::{aligned, count, counted, rate, time};
use crate::Summary;
use crate::jsonl::files::{Location, RunFiles};

/// A run that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinalReport<'a> {
    pub(crate) summary: &'a Summary,
    pub(crate) places: &'a RunFiles,
    pub(crate) concurrency: u32,
    pub(crate) simulated: bool,
    /// The arguments of this run, the program's name first.
    pub(crate) arguments: &'a [OsString],
}

impl FinalReport<'_> {
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
        let repeated = progress.failed - progress.failed_for_good;
        also(progress.failed, "failed", &|failed| match repeated {
            0 => format!("{failed} for good"),
            all if all == progress.failed => format!("{failed}, which a plain rerun repeats"),
            some => format!("{failed}, of which a plain rerun repeats {}", count(some)),
        });
        also(progress.skipped, "skipped", &|skipped| {
            format!("{skipped} done before")
        });
        also(summary.not_attempted, "left", &|left| {
            format!("{left} not done yet")
        });
        also(progress.lost, "lost", &|lost| {
            format!("{lost} answered, and not in the output any more")
        });
        also(engine.possibly_billed, "beware", &|lost| {
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
        let tokens = progress
            .prompt_tokens
            .saturating_add(progress.completion_tokens);
        if tokens > 0 {
            facts.push((
                "tokens",
                format!(
                    "{} in prompts, {} in answers",
                    count(progress.prompt_tokens),
                    count(progress.completion_tokens)
                ),
            ));
        }
        // A sum that is short of some; without any it is the endpoint's way.
        if progress.uncounted > 0 && (tokens > 0 || progress.cost.is_some()) {
            let answers = counted(progress.uncounted, "answer", "answers");
            facts.push(("uncounted", format!("{answers} did not say what they took")));
        }
        facts.extend(progress.cost.map(|cost| ("cost", cost.rounded())));
        facts.extend(self.held_up_by().map(|what| ("held up by", what)));
        if progress.succeeded + progress.skipped > 0
            && let Location::File(_) = &self.places.output
        {
            let simulated = if self.simulated { " (simulated)" } else { "" };
            facts.push(("results", format!("{}{simulated}", self.places.output)));
        }
        if progress.failed > 0
            && let Location::File(_) = &self.places.errors
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
        // These two are summed over requests. Where nothing succeeded, latency is that of failures.
        let nothing_came = engine.succeeded == 0 && engine.retries > 0;
        if nothing_came || (engine.backoff >= engine.wire && !engine.backoff.is_zero()) {
            return Some("failures and waits between attempts".to_owned());
        }
        let smooth = engine.throttled == 0 && engine.retries == 0 && summary.progress.failed == 0;
        Some(match (smooth, self.all_places_taken()) {
            // More at once is no cure for a server that refuses or fails some already.
            (false, _) => "mostly the answers' latency".to_owned(),
            (true, false) => "the answers' latency alone".to_owned(),
            (true, true) => format!(
                "the answers' latency, {} at once: more --concurrency may be faster",
                count(engine.in_flight_peak)
            ),
        })
    }

    /// Whether there were as many requests on the wire as may be for most of the run, and more that
    /// waited for their places.
    fn all_places_taken(&self) -> bool {
        const MOST: f64 = 0.75;
        let engine = &self.summary.progress.engine;
        let places = f64::from(self.concurrency);
        let on_the_wire = engine.wire.as_secs_f64() / self.summary.wall.as_secs_f64();
        on_the_wire >= MOST * places && engine.attempts > engine.in_flight_peak
    }

    /// The command that goes on where this run stopped, or repeats what failed; nothing where there
    /// is nothing to go on with.
    fn carry_on(&self) -> Vec<(&'static str, String)> {
        let summary = self.summary;
        let unfinished = summary.not_attempted > 0 || summary.stopped.is_some();
        let failed = summary.progress.failed > 0;
        let begins_anew = self.simulated && self.output_is_default();
        if !(unfinished || failed) || begins_anew || self.places.output == Location::Stream {
            return Vec::new();
        }
        let progress = &summary.progress;
        let repeated = progress.failed - progress.failed_for_good;
        // What would send these again need not be said of a command that says so.
        let left_alone = if flags(self.arguments).any(|word| word == RETRY_FAILED) {
            0
        } else {
            progress.failed_for_good - progress.bad_lines
        };
        let all_of_these = !unfinished && repeated + progress.bad_lines == 0;
        let label = if unfinished { "carry on" } else { "try again" };
        let mut facts = vec![(
            label,
            command(self.arguments, left_alone > 0 && all_of_these),
        )];
        // Below the command and not behind it: the line above is for copying.
        let mut also = |fact: String| facts.push(("", fact));
        if self.places.input == Location::Stream {
            also("with the same input".to_owned());
        }
        if left_alone > 0 && !all_of_these {
            let rows = counted(left_alone, "row that has", "rows that have");
            also(format!("with {RETRY_FAILED} also {rows} failed for good"));
        }
        if progress.bad_lines > 0 {
            let lines = counted(
                progress.bad_lines,
                "line that is no request",
                "lines that are no requests",
            );
            also(format!("once mended also {lines}"));
        }
        facts
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

const RETRY_FAILED: &str = "--retry-failed";

/// The arguments that are no file names by what stands before them.
fn flags(arguments: &[OsString]) -> impl Iterator<Item = &OsString> {
    arguments.iter().take_while(|word| *word != "--")
}

fn requests(number: u64) -> String {
    counted(number, "request", "requests")
}

/// The command line to type again. `--overwrite` would begin anew what is to be gone on with.
fn command(arguments: &[OsString], retry_failed: bool) -> String {
    let names = &arguments[flags(arguments).count()..];
    let kept = flags(arguments)
        .skip(1)
        .filter(|word| *word != "--overwrite")
        .map(|word| quoted(word));
    iter::once("tollgate".to_owned())
        .chain(kept)
        .chain(retry_failed.then(|| RETRY_FAILED.to_owned()))
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
                    wire: Duration::from_secs(190),
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

    fn places() -> RunFiles {
        RunFiles {
            input: Location::File("p.jsonl".into()),
            output: Location::File("p.results.jsonl".into()),
            errors: Location::File("p.errors.jsonl".into()),
        }
    }

    fn text(summary: &Summary, places: &RunFiles, arguments: &str, simulated: bool) -> String {
        let arguments: Vec<OsString> = arguments.split(' ').map(OsString::from).collect();
        let closing = FinalReport {
            summary,
            places,
            concurrency: 20,
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
held up by  the answers' latency, 20 at once: more --concurrency may be faster
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
                    wire: long / 2,
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
            // Once they all were, and for most of the time they were not.
            (
                Progress { wire: long, ..well },
                "held up by  the answers' latency alone\n",
            ),
            // None waited for a place.
            (
                Progress {
                    attempts: 20,
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
        failed.progress.failed_for_good = 3;
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
            assert!(told.contains("failed      3 for good\n"), "{told}");
            assert!(told.contains(printed), "{told}");
            assert!(!told.contains("also"), "{told}");
        }
    }

    #[test]
    fn what_a_rerun_repeats_is_told_from_what_it_leaves_alone() {
        let told = |failed, failed_for_good, bad_lines, typed| {
            let mut summary = summary();
            summary.progress.failed = failed;
            summary.progress.failed_for_good = failed_for_good;
            summary.progress.bad_lines = bad_lines;
            text(&summary, &places(), typed, false)
        };
        let plain = "tollgate run p.jsonl";
        let again = "\ntry again   tollgate run p.jsonl\n";
        for (told, words) in [
            (
                told(5, 0, 0, plain),
                &["5, which a plain rerun repeats\n", again][..],
            ),
            (
                told(5, 3, 0, plain),
                &[
                    "5, of which a plain rerun repeats 2\n",
                    again,
                    "with --retry-failed also 3 rows that have failed for good\n",
                ],
            ),
            (
                told(5, 5, 1, plain),
                &[
                    "5 for good\n",
                    again,
                    "with --retry-failed also 4 rows",
                    "once mended also 1 line that is no request\n",
                ],
            ),
        ] {
            for word in words {
                assert!(told.contains(word), "{word}: {told}");
            }
        }
        // Nothing sends these as they stand.
        let bad = told(2, 2, 2, plain);
        assert!(bad.contains(again), "{bad}");
        assert!(!bad.contains("--retry-failed"), "{bad}");
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
        let stream = RunFiles {
            output: Location::Stream,
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
