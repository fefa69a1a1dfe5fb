//! The final report of a run: how it went, what limited it, where the files are, how to carry on.

use std::iter;
use std::path::PathBuf;

use serde_json::json;

use super::console::{Console, OutputMode};
use super::exit::Exit;
use super::format::{aligned, count, counted, learned, rate, remedy, time};
use super::stdout::is_broken_pipe;
use super::summary_file::write_summary;
use crate::jsonl::files::{Location, RunFiles};
use crate::{Concurrency, Error, ErrorKind, FileProgress, Rate, Summary};

/// A label and what it is about, for each line of the report.
type Facts = Vec<(&'static str, String)>;

const RETRY_FAILED: &str = "--retry-failed";

/// Reports a run, on whichever thread finds that it is over.
#[derive(Clone, Debug)]
pub(crate) struct FinalReport {
    pub(crate) console: Console,
    pub(crate) files: RunFiles,
    /// Where the summary is written as JSON.
    pub(crate) summary: Option<PathBuf>,
    pub(crate) concurrency: Concurrency,
    /// More were asked for than this process may have open.
    pub(crate) is_capped: bool,
    pub(crate) simulated: bool,
    /// A rerun starts anew, so it cannot carry on.
    pub(crate) starts_anew: bool,
    pub(crate) retry_failed: bool,
    /// The limits that were given, of requests and of model tokens.
    pub(crate) rates: [Option<Rate>; 2],
    /// The flag or variable that the key is from.
    pub(crate) key_from: String,
    /// The command line as it was typed.
    pub(crate) command: Vec<String>,
}

impl FinalReport {
    /// Says why a run stopped, writes the summary to its file and shows the report. Returns the exit
    /// code, which a summary that cannot be written changes.
    pub(crate) fn close(&self, summary: &Summary, mut exit: Exit, interrupted: bool) -> Exit {
        let reader_has_gone = summary.stopped.as_ref().is_some_and(is_broken_pipe);
        // A signal needs no explanation.
        let expected = |error: &&Error| interrupted && error.kind() == ErrorKind::Cancelled;
        if let Some(error) = summary.stopped.as_ref().filter(|error| !expected(error))
            && !reader_has_gone
        {
            self.console.error(error);
            if error.kind() == ErrorKind::Auth {
                self.console
                    .say(&format!("the key is from {}", self.key_from));
            }
        }
        if let Err(error) = write_summary(self.summary.as_deref(), summary, exit) {
            self.console.error(&error);
            exit = exit.max(Exit::LocalIo);
        }
        if reader_has_gone {
            self.console.say(
                "stopped: the output's reader has gone. A run can be carried on with only if its \
                 results are in a file (-o FILE).",
            );
        } else if self.console.mode == OutputMode::Json {
            let event = json!({ "event": "summary", "summary": summary.to_json(exit.code()) });
            self.console.json(&event);
        } else if summary.requests == 0 && summary.stopped.is_none() {
            let input = &self.files.input;
            self.console
                .say(&format!("input {input} is empty: there is nothing to do"));
        } else {
            self.console.say(&self.text(summary));
        }
        exit
    }

    fn text(&self, summary: &Summary) -> String {
        let mut facts = rows(summary);
        facts.extend(work(summary));
        facts.extend(self.bottleneck(summary).map(|what| ("bottleneck", what)));
        let progress = &summary.progress;
        if progress.succeeded + progress.skipped > 0 && self.files.output != Location::Stream {
            let simulated = if self.simulated { " (simulated)" } else { "" };
            facts.push(("results", format!("{}{simulated}", self.files.output)));
        }
        if progress.failed > 0 && self.files.errors != Location::Stream {
            facts.push(("errors", self.files.errors.to_string()));
        }
        facts.extend(self.carry_on(summary));
        aligned(&facts)
    }

    /// What took the time, and the flag that would help. `None` where the run says nothing about it:
    /// nothing was sent, or the run ended before anything came of it.
    fn bottleneck(&self, summary: &Summary) -> Option<String> {
        let progress = &summary.progress;
        let engine = &progress.engine;
        // The wait before a retry that was never made disturbs, too.
        let undisturbed = engine.retries == 0 && engine.throttled == 0 && engine.backoff.is_zero();
        if engine.attempts == 0 || (undisturbed && engine.succeeded + engine.failed == 0) {
            return None;
        }
        let (wall, wait) = (summary.wall, &engine.limiter_wait);
        let whose =
            |learned: Option<Rate>, flags| learned.map_or(flags, |_| "that the server names");
        let requests = match progress.learned.from_refusals {
            Some(_) => "that its refusals tell",
            None => whose(progress.learned.requests, "(--rps, --rpm)"),
        };
        let tokens = whose(progress.learned.tokens, "(--tpm)");
        let (waited, what) = [
            (wait.requests, format!("the limit on requests {requests}")),
            (wait.tokens, format!("the limit on model tokens {tokens}")),
            (wait.pause, "pauses that the server asked for".to_owned()),
        ]
        .into_iter()
        .max_by_key(|(waited, _)| *waited)?;
        if waited >= wall / 2 && !waited.is_zero() {
            let named = progress.announced_limit.filter(|_| waited == wait.pause);
            let remedy = named.and_then(|limit| remedy(limit, self.rates, &progress.learned));
            let remedy = remedy.map(|remedy| format!("; {remedy}"));
            let (waited, wall) = (time(waited), time(wall));
            return Some(format!(
                "{what}: {waited} of {wall}{}",
                remedy.unwrap_or_default()
            ));
        }
        if engine.throttled > 0 && engine.throttled >= engine.attempts.div_ceil(2) {
            let answers = counted(engine.throttled, "answer", "answers");
            return Some(format!("the server: {answers} asked to slow down"));
        }
        // These two are summed over requests. Where nothing succeeded, latency is that of failures.
        let nothing_came = engine.succeeded == 0 && engine.retries > 0;
        if nothing_came || (engine.backoff >= engine.wire && !engine.backoff.is_zero()) {
            return Some("failures, and the waits before they were tried again".to_owned());
        }
        // A server that refuses or fails some requests already is not helped by more at once.
        Some(if !undisturbed || summary.progress.failed > 0 {
            "mostly the latency of the answers".to_owned()
        } else if self.was_full(summary) {
            let higher = if self.is_capped {
                "limit on open files (ulimit -n)"
            } else {
                "--concurrency"
            };
            format!(
                "the latency of the answers, {} at once: a higher {higher} may be faster",
                count(engine.in_flight_peak)
            )
        } else {
            "the latency of the answers alone".to_owned()
        })
    }

    /// Whether as many requests as allowed were in flight for most of the run, and more waited.
    fn was_full(&self, summary: &Summary) -> bool {
        const MOST: f64 = 0.75;
        let engine = &summary.progress.engine;
        let in_flight = engine.wire.as_secs_f64() / summary.wall.as_secs_f64();
        in_flight >= MOST * self.concurrency.high() as f64
            && engine.attempts > engine.in_flight_peak
    }

    /// The command that carries on where this run stopped or tries again what failed, if there is
    /// anything to do.
    fn carry_on(&self, summary: &Summary) -> Facts {
        let progress = &summary.progress;
        let unfinished = summary.not_attempted > 0 || summary.stopped.is_some();
        let nothing_to_do = !unfinished && progress.failed == 0;
        if nothing_to_do || self.starts_anew || self.files.output == Location::Stream {
            return Facts::new();
        }
        let transient = progress.failed - progress.failed_for_good;
        let permanent = if self.retry_failed {
            0
        } else {
            progress.failed_for_good - progress.bad_lines
        };
        let only_permanent = !unfinished && permanent > 0 && transient + progress.bad_lines == 0;
        let label = if unfinished { "carry on" } else { "try again" };
        let mut facts = vec![(label, self.command(only_permanent))];
        // These stand below the command, so that its line can be copied.
        if self.files.input == Location::Stream {
            facts.push(("", "with the same input".to_owned()));
        }
        if permanent > 0 && !only_permanent {
            let requests = counted(permanent, "request", "requests");
            let fact = format!("with {RETRY_FAILED} it also sends {requests} that failed for good");
            facts.push(("", fact));
        }
        if progress.bad_lines > 0 {
            let (one, many) = ("line that is no request", "lines that are no requests");
            let lines = counted(progress.bad_lines, one, many);
            facts.push(("", format!("correct {lines} first")));
        }
        facts
    }

    /// The command that was typed, for a shell to read. `--overwrite` is left out: it would delete
    /// what there is to carry on with.
    fn command(&self, retry_failed: bool) -> String {
        let (start, rest) = self.command.split_at(self.command.len().min(2));
        let mut names_only = false;
        let rest = rest.iter().map(String::as_str).filter(|word| {
            names_only |= *word == "--";
            names_only || *word != "--overwrite"
        });
        let retry_failed = retry_failed.then_some(RETRY_FAILED);
        let start = start.iter().map(String::as_str);
        shell_words::join(start.chain(retry_failed).chain(rest))
    }
}

/// What became of the rows.
fn rows(summary: &Summary) -> Facts {
    let progress = &summary.progress;
    let requests = counted(summary.requests, "request", "requests");
    let answered = count(progress.succeeded + progress.skipped);
    let mut succeeded = format!("{answered} of {requests}");
    if progress.skipped > 0 {
        let before = count(progress.skipped);
        succeeded = format!("{succeeded}, {before} of them done before");
    }
    let mut facts = vec![("succeeded", succeeded)];
    if progress.failed > 0 {
        let transient = progress.failed - progress.failed_for_good;
        let failed = count(progress.failed);
        let fact = match transient {
            0 => format!("{failed} for good"),
            _ if transient == progress.failed => format!("{failed}; a rerun tries them again"),
            _ => format!("{failed}; a rerun tries {} of them again", count(transient)),
        };
        facts.push(("failed", fact));
    }
    facts.extend(why_failed(progress));
    for (rows, label, fact) in [
        (summary.not_attempted, "left", "not done yet"),
        (
            progress.lost,
            "lost",
            "answered, but another program took them out of the output",
        ),
    ] {
        if rows > 0 {
            facts.push((label, format!("{} {fact}", count(rows))));
        }
    }
    let billed = progress.engine.possibly_billed;
    if billed > 0 {
        // Of a run that was killed, nobody knows how many it had sent.
        let killed = progress.found.filter(|found| found.possibly_billed > 0);
        let at_most = killed.map_or("", |_| "at most ");
        let fact = "possibly billed twice: each was sent, and its answer was lost";
        facts.push(("beware", format!("{at_most}{} {fact}", count(billed))));
    }
    facts
}

/// Why rows failed, the most frequent reasons first. Only their records say it of rows that failed in
/// an earlier run.
fn why_failed(progress: &FileProgress) -> Facts {
    const MOST: usize = 10;
    let groups = progress.failures();
    let mut lines: Vec<String> = groups.iter().take(MOST).map(ToString::to_string).collect();
    if let Some(others) = groups.get(MOST..).filter(|others| !others.is_empty()) {
        let rows = others.iter().map(|group| group.count).sum();
        let reasons = counted(others.len() as u64, "other reason", "other reasons");
        lines.push(format!("{} x {reasons}", count(rows)));
    }
    if progress.failed_before > 0 {
        let rows = count(progress.failed_before);
        lines.push(format!(
            "{rows} x failed in an earlier run: their records in the errors file say why"
        ));
    }
    let labels = iter::once("why").chain(iter::repeat(""));
    labels.zip(lines).collect()
}

/// What the run did for it, and what that took.
fn work(summary: &Summary) -> Facts {
    let progress = &summary.progress;
    let engine = &progress.engine;
    let mut facts = Facts::new();
    let wall = summary.wall;
    let seconds = wall.as_secs_f64();
    if progress.finished() > 0 && seconds > 0.0 {
        let rate = rate(progress.finished() as f64 / seconds);
        facts.push(("time", format!("{}, {rate} a second", time(wall))));
    } else if engine.attempts > 0 || summary.stopped.is_some() {
        facts.push(("time", time(wall)));
    }
    if engine.attempts > 0 {
        let mut text = count(engine.attempts);
        if engine.retries > 0 {
            text = format!("{text}, {}", counted(engine.retries, "retry", "retries"));
        }
        if engine.throttled > 0 {
            text = format!("{text}, {} told to slow down", count(engine.throttled));
        }
        let at_once = count(engine.in_flight_peak);
        let threads = counted(engine.threads_peak, "thread", "threads");
        let fact = format!("{text}; at most {at_once} at once, on {threads}");
        facts.push(("attempts", fact));
    }
    facts.extend(learned(&progress.learned).map(|limits| ("limits", limits)));
    let (prompt, completion) = (progress.prompt_tokens, progress.completion_tokens);
    let tokens = prompt.saturating_add(completion);
    if tokens > 0 {
        let (prompts, answers) = (count(prompt), count(completion));
        facts.push((
            "tokens",
            format!("{prompts} in prompts, {answers} in answers"),
        ));
    }
    // Without any tokens it is the endpoint's way, and no sum is short of them.
    if progress.uncounted > 0 && (tokens > 0 || progress.cost.is_some()) {
        let answers = counted(progress.uncounted, "answer", "answers");
        facts.push(("uncounted", format!("{answers} did not say what they used")));
    }
    facts.extend(progress.cost.map(|cost| ("cost", cost.rounded())));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnnouncedLimit, Progress, Waited};
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

    fn report(typed: &str) -> FinalReport {
        FinalReport {
            console: Console {
                mode: OutputMode::Quiet,
                bar: None,
            },
            files: places(),
            summary: None,
            concurrency: 20.into(),
            is_capped: false,
            simulated: false,
            starts_anew: false,
            retry_failed: typed.contains(RETRY_FAILED),
            rates: [
                typed.contains("--rpm=60").then(|| Rate::per_minute(60)),
                None,
            ],
            key_from: String::new(),
            command: typed.split(' ').map(str::to_owned).collect(),
        }
    }

    fn text(summary: &Summary, typed: &str) -> String {
        report(typed).text(summary)
    }

    #[test]
    fn a_good_run_is_told_in_a_few_aligned_lines() {
        let told = text(&summary(), "tollgate run p.jsonl");
        let expected = "\
succeeded   97 of 100 requests
time        10.0 s, 9.7 a second
attempts    97; at most 20 at once, on 20 threads
tokens      12,345 in prompts, 6,789 in answers
bottleneck  the latency of the answers, 20 at once: a higher --concurrency may be faster
results     \"p.results.jsonl\"
";
        assert_eq!(told, expected);
    }

    #[test]
    fn the_bottleneck_is_what_the_limiter_waited_for() {
        for (limiter, word) in [
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
            summary.progress.engine.limiter_wait = limiter;
            let told = text(&summary, "tollgate run p.jsonl");
            assert!(told.contains(word), "{told}");
        }
    }

    #[test]
    fn the_time_of_a_run_that_came_to_nothing_is_told_too() {
        let mut stopped = summary();
        stopped.progress.succeeded = 0;
        stopped.progress.engine = Progress::default();
        stopped.stopped = Some(Error::new(ErrorKind::Deadline, "the run's time is over"));
        let told = text(&stopped, "tollgate run p.jsonl");
        let line = told.lines().find(|line| line.starts_with("time "));
        assert!(line.is_some_and(|line| line.ends_with(" 10.0 s")), "{told}");
    }

    #[test]
    fn pauses_are_told_with_the_flag_that_avoids_them() {
        let mut paused = summary();
        paused.progress.engine.limiter_wait.pause = Duration::from_secs(8);
        paused.progress.announced_limit = Some(AnnouncedLimit {
            number: 60,
            is_tokens: false,
            period_s: 60,
        });
        let told = text(&paused, "tollgate run p.jsonl");
        let words = "asked for: 8.00 s of 10.0 s; the server says 60 a minute: --rpm 60\n";
        assert!(told.contains(words), "{told}");
        let told = text(&paused, "tollgate run --rpm=60 p.jsonl");
        assert!(told.contains("asked for: 8.00 s of 10.0 s\n"), "{told}");
    }

    #[test]
    fn answers_of_earlier_runs_count_as_successes() {
        let mut rerun = summary();
        rerun.progress.succeeded = 0;
        rerun.progress.skipped = 100;
        let told = text(&rerun, "tollgate run p.jsonl");
        let words = "succeeded   100 of 100 requests, 100 of them done before\n";
        assert!(told.contains(words), "{told}");
    }

    #[test]
    fn more_at_once_is_advised_only_where_all_went_well() {
        let told = |engine: Progress| {
            let mut summary = summary();
            summary.progress.engine = engine;
            text(&summary, "tollgate run p.jsonl")
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
                "bottleneck  the server: 97 answers asked to slow down\n",
            ),
            (
                Progress {
                    retries: 20,
                    backoff: long,
                    wire: long / 2,
                    ..well
                },
                "bottleneck  failures, and the waits before they were tried again\n",
            ),
            (
                Progress {
                    succeeded: 0,
                    retries: 20,
                    wire: long,
                    ..well
                },
                "bottleneck  failures, and the waits before they were tried again\n",
            ),
            (
                Progress {
                    retries: 1,
                    wire: long,
                    ..well
                },
                "bottleneck  mostly the latency of the answers\n",
            ),
            // Once they all were, and for most of the time they were not.
            (
                Progress { wire: long, ..well },
                "bottleneck  the latency of the answers alone\n",
            ),
            // None waited for a place.
            (
                Progress {
                    attempts: 20,
                    ..well
                },
                "bottleneck  the latency of the answers alone\n",
            ),
        ] {
            let told = told(engine);
            assert!(told.contains(words), "{told}");
            assert!(!told.contains("--concurrency"), "{told}");
        }
        let nothing_sent = told(Progress::default());
        assert!(!nothing_sent.contains("bottleneck"), "{nothing_sent}");
    }

    #[test]
    fn the_command_is_one_that_does_something() {
        let mut failed = summary();
        failed.progress.failed = 3;
        failed.progress.failed_for_good = 3;
        let told = text;
        for (typed, printed) in [
            ("tollgate run p.jsonl", "run --retry-failed p.jsonl\n"),
            (
                "tollgate run --retry-failed p.jsonl",
                "run --retry-failed p.jsonl\n",
            ),
            (
                "tollgate run --ordered -- p.jsonl",
                "run --retry-failed --ordered -- p.jsonl\n",
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
            text(&summary, typed)
        };
        let plain = "tollgate run p.jsonl";
        let again = "\ntry again   tollgate run p.jsonl\n";
        for (told, words) in [
            (
                told(5, 0, 0, plain),
                &["5; a rerun tries them again\n", again][..],
            ),
            (
                told(5, 3, 0, plain),
                &[
                    "5; a rerun tries 2 of them again\n",
                    again,
                    "with --retry-failed it also sends 3 requests that failed for good\n",
                ],
            ),
            (
                told(5, 5, 1, plain),
                &[
                    "5 for good\n",
                    again,
                    "with --retry-failed it also sends 4 requests",
                    "correct 1 line that is no request first\n",
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
        let told = text(&unfinished, typed);
        assert!(told.contains("left        3 not done yet\n"), "{told}");
        let command = "carry on    /usr/bin/tollgate run p.jsonl --rps 5\n";
        assert!(told.contains(command), "{told}");

        let starts_anew = FinalReport {
            starts_anew: true,
            ..report(typed)
        };
        let told = starts_anew.text(&unfinished);
        assert!(!told.contains("carry on"), "{told}");
        let mut stream = report(typed);
        stream.files.output = Location::Stream;
        let told = stream.text(&unfinished);
        assert!(!told.contains("carry on"), "{told}");
    }

    #[test]
    fn the_command_is_quoted_for_a_shell() {
        let words = ["tollgate", "run", "my file", "it's", "$(rm)", "", "--rps=5"];
        let typed = FinalReport {
            command: words.map(str::to_owned).to_vec(),
            ..report("")
        };
        let command = typed.command(false);
        assert!(command.starts_with("tollgate run 'my file' "), "{command}");
        assert_eq!(shell_words::split(&command).unwrap(), words);
    }
}
