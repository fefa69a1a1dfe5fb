//! The summary of a run, which is shown at its end: how it went, what limited it, where the files
//! are, how to carry on. `--summary` writes it to a file, as JSON.

use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::advice::{GivenLimits, advice};
use super::args::Run;
use super::console::{Console, OutputMode, with_flags};
use super::exit::Exit;
use super::format::{aligned, count, counted, learned, lower, rate, sharers, time};
use super::output::{is_broken_pipe, replace};
use super::report::{name_of, of_run};
use crate::jsonl::files::{Location, RunFiles};
use crate::report::{Limits, RunInfo};
use crate::{Binding, Error, ErrorKind, FileProgress, Result, Summary, Usd};

/// A label and what it is about, for each line of the summary.
type Facts = Vec<(&'static str, String)>;

const RETRY_FAILED: &str = "--retry-failed";

/// Reports a run, on whichever thread finds that it is over.
#[derive(Debug)]
pub(crate) struct FinalReport {
    pub(crate) console: Console,
    pub(crate) files: RunFiles,
    pub(crate) args: Arc<Run>,
    pub(crate) given: GivenLimits,
    /// The variable that the shared limit is from. Its value may have a password in it.
    pub(crate) variable: Option<&'static str>,
    /// The command line as it was typed, with … for what may be a secret.
    pub(crate) command: Vec<String>,
    pub(crate) hides_values: bool,
}

/// What is known of a run that has no summary of its own. It began at `started`: the last progress
/// may be old, if the run hangs.
pub(crate) fn cut_off(
    progress: &FileProgress,
    stopped: Option<Error>,
    started: Instant,
) -> Summary {
    let wall = progress.elapsed.max(started.elapsed());
    Summary::of(progress.clone(), stopped, wall)
}

/// Writes the summary of a run that sent nothing, so that the file does not hold an older run's.
pub(crate) fn write_refusal(path: Option<&Path>, error: &Error, console: &Console) {
    let nothing = cut_off(&FileProgress::default(), None, Instant::now());
    write_summary(path, &to_json(&nothing, Exit::of_error(error), None))
        .unwrap_or_else(|unwritten| console.error(&unwritten));
}

/// The summary as an object, with the tool's advice.
fn to_json(summary: &Summary, exit: Exit, advice: Option<&str>) -> Value {
    let mut object = summary.to_json(exit.code());
    object["advice"] = advice.into();
    object
}

/// Puts the summary into its file, which holds a whole one at every moment, the old or the new.
fn write_summary(path: Option<&Path>, summary: &Value) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let text = format!("{summary:#}\n");
    replace(path, text.as_bytes()).map_err(|error| error.behind("--summary"))
}

impl FinalReport {
    /// Says why a run stopped, writes the summary to its file and shows the report. Returns the
    /// exit code, which a summary that cannot be written changes.
    pub(crate) fn close(&self, summary: &Summary, mut exit: Exit, interrupted: bool) -> Exit {
        let console = &self.console;
        let reader_has_gone = summary.stopped.as_ref().is_some_and(is_broken_pipe);
        // A signal needs no explanation.
        let expected = |error: &&Error| interrupted && error.kind() == ErrorKind::Cancelled;
        if let Some(error) = summary.stopped.as_ref().filter(|error| !expected(error))
            && !reader_has_gone
        {
            console.error(error);
            if error.kind() == ErrorKind::Auth {
                console.say(&self.args.server.key_source());
            }
        }
        let advice = advice(summary, &self.given);
        let advice = advice.as_deref();
        let page = self.write_page(summary, advice);
        if let Err(error) = &page {
            console.error(error);
            exit = exit.max(Exit::LocalIo);
        }
        let page = page.ok().and(self.args.report.as_deref());
        let object = to_json(summary, exit, advice);
        if let Err(error) = write_summary(self.args.summary.as_deref(), &object) {
            console.error(&error);
            exit = exit.max(Exit::LocalIo);
        }
        if reader_has_gone {
            console.say(
                "stopped: the output's reader has gone. A run can be carried on with only if its \
                 results are in a file (-o FILE).",
            );
        } else if console.mode == OutputMode::Json {
            let object = to_json(summary, exit, advice);
            console.json(&json!({ "event": "summary", "summary": object }));
        } else if summary.requests == 0 && summary.stopped.is_none() && !interrupted {
            let input = &self.files.input;
            console.say(&format!("input {input} is empty: there is nothing to do"));
        } else if console.mode == OutputMode::Quiet && summary.progress.failed > 0 {
            let failed = counted(summary.progress.failed, "request has", "requests have");
            let errors = &self.files.errors;
            console.failed(&format!("{failed} failed: each has its record in {errors}"));
        } else {
            console.say(&self.text(summary, page, advice));
        }
        exit
    }

    /// Makes the page, of the files as they are now.
    fn write_page(&self, summary: &Summary, advice: Option<&str>) -> Result<()> {
        let Some(page) = &self.args.report else {
            return Ok(());
        };
        let [requests, tokens] = self.given.rates;
        let (learned, most) = (&summary.progress.learned, self.given.concurrency.high());
        // The budget of a day is no rate that a run goes at.
        let kept = learned.requests.filter(|it| it.period().as_secs() <= 60);
        let kept = lower(kept, learned.from_refusals);
        let stopped = summary.stopped.as_ref();
        let info = RunInfo {
            title: self.files.output.path().map(name_of).unwrap_or_default(),
            limits: Some(Limits {
                requests: lower(requests, kept),
                tokens: lower(tokens, learned.tokens.or(learned.tokens_from_refusals)),
                at_once: Some(learned.at_once.map_or(most, |it| it.min(most)) as u64),
            }),
            facts: explained(summary),
            advice: advice.map(str::to_owned),
            stopped: stopped.map(|why| with_flags(&why.to_string())),
        };
        let files = [&self.files.output, &self.files.errors];
        let files = files.into_iter().filter_map(|file| file.path());
        let files: Vec<PathBuf> = files
            .filter(|file| file.is_file())
            .map(Path::to_owned)
            .collect();
        of_run(page, &files, &info)
    }

    /// `page` is the report that was written.
    fn text(&self, summary: &Summary, page: Option<&Path>, advice: Option<&str>) -> String {
        let (files, progress) = (&self.files, &summary.progress);
        let mut facts = rows(summary);
        facts.extend(work(summary));
        let has_results = progress.succeeded + progress.skipped > 0 || files.table.is_some();
        if has_results && files.output != Location::Stream {
            let is_simulated = self.args.server.simulate.is_some();
            let simulated = if is_simulated { " (simulated)" } else { "" };
            let table = files.table.clone().map(Location::File);
            let results = table.as_ref().unwrap_or(&files.output);
            facts.push(("results", format!("{results}{simulated}")));
        }
        if progress.failed > 0 && files.errors != Location::Stream {
            facts.push(("errors", files.errors.to_string()));
        }
        if let Some(page) = page {
            facts.push(("report", format!("{page:?}")));
        }
        facts.extend(self.carry_on(summary));
        facts.extend(advice.map(|what| ("advice", what.to_owned())));
        aligned(&facts)
    }

    /// The command that carries on where this run stopped or tries again what failed, if there is
    /// anything to do.
    fn carry_on(&self, summary: &Summary) -> Facts {
        let progress = &summary.progress;
        let unfinished = summary.not_attempted > 0 || summary.stopped.is_some();
        let nothing_to_do = !unfinished && progress.failed == 0;
        if nothing_to_do || self.args.starts_anew() || self.files.output == Location::Stream {
            return Facts::new();
        }
        let transient = progress.failed - progress.failed_for_good;
        let permanent = if self.args.retry_failed {
            0
        } else {
            progress.failed_for_good - progress.bad_lines
        };
        let only_permanent = !unfinished && permanent > 0 && transient + progress.bad_lines == 0;
        let label = if unfinished { "carry on" } else { "try again" };
        let mut facts = vec![(label, self.command(only_permanent))];
        // These stand below the command, so that its line can be copied.
        let mut below = |fact: String| facts.push(("", fact));
        if self.files.input == Location::Stream {
            below("with the same input".to_owned());
        }
        if self.hides_values {
            below("with the values that you gave in place of …".to_owned());
        }
        if let Some(variable) = self.variable {
            below(format!("with {variable} set as it was"));
        }
        if permanent > 0 && !only_permanent {
            let requests = counted(permanent, "request", "requests");
            below(format!(
                "with {RETRY_FAILED} it also sends {requests} that failed for good"
            ));
        }
        if progress.bad_lines > 0 {
            let lines = counted(progress.bad_lines, "line", "lines");
            below(format!("first correct {lines} that cannot be sent"));
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
    if summary.not_attempted > 0 {
        let left = count(summary.not_attempted);
        facts.push(("left", format!("{left} not done yet")));
    }
    if progress.lost > 0 {
        let lost = count(progress.lost);
        let fact = "answered, but another program took them out of the output";
        facts.push(("lost", format!("{lost} {fact}")));
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

/// Why rows failed, the most frequent reasons first. Only their records say it of rows that failed
/// in an earlier run.
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
        facts.push(("time", format!("{}, {rate} rows a second", time(wall))));
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
    facts.extend(explained(summary));
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
    facts.extend(progress.cost.map(|cost| {
        let cost = cost.rounded();
        let Some(part) = progress.estimated_cost.filter(|part| *part > Usd::ZERO) else {
            return ("cost", cost);
        };
        let (part, attempts) = (
            part.rounded(),
            counted(progress.unanswered, "attempt", "attempts"),
        );
        let fact = format!("{cost}, of that some {part} for {attempts} without an answer");
        ("cost", format!("{fact}, which may have been billed"))
    }));
    facts
}

/// What explains its speed: a warm-up, hedging, and what was learned of limits.
fn explained(summary: &Summary) -> Facts {
    let progress = &summary.progress;
    let engine = &progress.engine;
    let mut facts = Facts::new();
    let warmup = engine.bound.of(Binding::Warmup);
    if !warmup.is_zero() {
        let fact = format!("{}, in which the others waited", time(warmup));
        facts.push(("warm-up", fact));
    }
    if engine.hedges > 0 {
        let copies = counted(engine.hedges, "copy", "copies");
        let mut fact = format!("{copies} sent, {} won", count(engine.hedges_won));
        if engine.hedges_cut > 0 {
            let attempts = counted(engine.hedges_cut, "attempt", "attempts");
            fact = format!("{fact}; {attempts} cut off, which may have been billed");
        }
        facts.push(("hedging", fact));
    }
    let shared = progress.shared.as_ref();
    let limits = [
        learned(&progress.learned),
        shared.and_then(|shared| sharers(shared.processes_peak)),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    if !limits.is_empty() {
        facts.push(("limits", limits.join(", ")));
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::{Progress, Times};
    use clap::Parser;
    use std::time::Duration;

    fn summary() -> Summary {
        let mut bound = Times::default();
        bound.add(Binding::InFlight, Duration::from_millis(9_600));
        Summary {
            progress: FileProgress {
                succeeded: 97,
                engine: Progress {
                    succeeded: 97,
                    attempts: 97,
                    in_flight_peak: 20,
                    threads_peak: 20,
                    wire: Duration::from_secs(190),
                    bound,
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
            table: None,
        }
    }

    fn report(typed: &str) -> FinalReport {
        let words = ["tollgate", "run", "p.jsonl"].into_iter();
        let retry = typed.contains(RETRY_FAILED).then_some(RETRY_FAILED);
        args_of(words.chain(retry), typed)
    }

    fn args_of<'w>(words: impl Iterator<Item = &'w str>, typed: &str) -> FinalReport {
        let Command::Run(args) = Cli::parse_from(words).command else {
            panic!("not a run")
        };
        FinalReport {
            console: Console {
                mode: OutputMode::Quiet,
                bar: None,
            },
            files: places(),
            args: args.into(),
            given: GivenLimits {
                concurrency: 20.into(),
                is_capped: false,
                rates: [None; 2],
            },
            variable: None,
            command: typed.split(' ').map(str::to_owned).collect(),
            hides_values: false,
        }
    }

    fn text(summary: &Summary, typed: &str) -> String {
        let report = report(typed);
        report.text(summary, None, advice(summary, &report.given).as_deref())
    }

    #[test]
    fn a_good_run_is_told_in_a_few_aligned_lines() {
        let told = text(&summary(), "tollgate run p.jsonl");
        let expected = "\
succeeded  97 of 100 requests
time       10.0 s, 9.7 rows a second
attempts   97; at most 20 at once, on 20 threads
tokens     12,345 in prompts, 6,789 in answers
results    \"p.results.jsonl\"
advice     the limit of 20 at once (1.96 s an answer) bound for 96 % of the time; -c 20-40 would show whether more is faster
";
        assert_eq!(told, expected);
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
    fn answers_of_earlier_runs_count_as_successes() {
        let mut rerun = summary();
        rerun.progress.succeeded = 0;
        rerun.progress.skipped = 100;
        let told = text(&rerun, "tollgate run p.jsonl");
        let words = "succeeded  100 of 100 requests, 100 of them done before\n";
        assert!(told.contains(words), "{told}");
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
            assert!(told.contains("failed     3 for good\n"), "{told}");
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
        let again = "\ntry again  tollgate run p.jsonl\n";
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
                    "first correct 1 line that cannot be sent\n",
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
        assert!(told.contains("left       3 not done yet\n"), "{told}");
        let command = "carry on   /usr/bin/tollgate run p.jsonl --rps 5\n";
        assert!(told.contains(command), "{told}");

        let words = ["tollgate", "run", "p.jsonl", "--simulate"];
        let starts_anew = args_of(words.into_iter(), typed);
        let told = starts_anew.text(&unfinished, None, None);
        assert!(!told.contains("carry on"), "{told}");
        let mut stream = report(typed);
        stream.files.output = Location::Stream;
        let told = stream.text(&unfinished, None, None);
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

    #[test]
    fn what_is_known_of_a_run_cut_off_adds_up() {
        let progress = FileProgress {
            total: Some(10),
            succeeded: 3,
            failed: 1,
            skipped: 2,
            ..FileProgress::default()
        };
        let summary = cut_off(&progress, None, Instant::now());
        assert_eq!((summary.requests, summary.not_attempted), (10, 4));
        let unknown = FileProgress {
            total: None,
            ..progress
        };
        assert_eq!(cut_off(&unknown, None, Instant::now()).not_attempted, 0);
    }
}
