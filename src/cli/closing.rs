//! What a run came to, for people: how it went, what held it up, where things are, how to go on.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use super::words::{count, counted, rate, time};
use crate::Summary;
use crate::jsonl::names::{Place, Places};

/// A run that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing<'a> {
    pub(crate) summary: &'a Summary,
    pub(crate) places: &'a Places,
    pub(crate) concurrency: u32,
    pub(crate) simulated: bool,
    /// The arguments of this run, the program's name first.
    pub(crate) arguments: &'a [OsString],
}

impl Closing<'_> {
    /// The closing summary: a label and a fact a line.
    pub(crate) fn text(&self) -> String {
        let facts = self.facts();
        let width = facts.iter().map(|(label, _)| label.len()).max();
        let width = width.unwrap_or_default() + 2;
        let mut text = String::new();
        for (label, fact) in facts {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{label:width$}{fact}");
        }
        text
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

        let finished = progress.succeeded + progress.failed;
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
        if finished > 0 {
            facts.push(("held up by", self.held_up_by()));
        }
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

    /// The one thing to change for a faster run.
    fn held_up_by(&self) -> String {
        let engine = &self.summary.progress.engine;
        let half = self.summary.wall / 2;
        let waits = [
            (engine.gate.requests, "the limit on requests (--rps, --rpm)"),
            (engine.gate.tokens, "the limit on tokens (--tpm)"),
            (engine.gate.pause, "pauses that the server asked for"),
        ];
        let longest = waits.into_iter().max_by_key(|(waited, _)| *waited);
        if let Some((waited, what)) = longest
            && waited >= half
            && !waited.is_zero()
        {
            return format!("{what}: {} of {}", time(waited), time(self.summary.wall));
        }
        if engine.in_flight_peak >= u64::from(self.concurrency) {
            return format!(
                "the answers' latency, {} at once: more --concurrency is faster",
                count(engine.in_flight_peak)
            );
        }
        "the answers' latency alone".to_owned()
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
        let label = if unfinished { "carry on" } else { "try again" };
        let mut facts = vec![(label, command(self.arguments))];
        // Below the command and not behind it: the line above is for copying.
        if self.places.input == Place::Stream {
            facts.push(("", "with the same input".to_owned()));
        }
        if failed {
            let more = "with --retry-failed also what was refused for good";
            facts.push(("", more.to_owned()));
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

fn requests(number: u64) -> String {
    counted(number, "request", "requests")
}

/// The command line to type again. `--overwrite` would begin anew what is to be gone on with.
fn command(arguments: &[OsString]) -> String {
    let words = arguments
        .iter()
        .enumerate()
        .filter(|(_, argument)| *argument != "--overwrite")
        .map(|(at, argument)| match at {
            0 => "tollgate".to_owned(),
            _ => quoted(argument),
        });
    words.collect::<Vec<_>>().join(" ")
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
                    attempts: 103,
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
attempts    103; at most 20 at once, on 20 threads
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
