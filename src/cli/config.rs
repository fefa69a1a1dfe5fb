//! From arguments as typed to a run that is ready to start.
//!
//! What depends on the input, the environment or a file is checked here, before anything is sent.
//! Every error names the flag, the variable or the file that it is about.

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::advice::GivenLimits;
use super::args::{ProgressMode, Run, Timeouts};
use super::console::Console;
use super::format::count;
use super::output::{self, flaw_of_default, flaw_of_place, is_same};
use super::prompts::{check_endpoint, flaw_of_prompts, is_prompts};
use super::server::with;
use super::sharing::{self, check_other_cuts};
use super::summary::FinalReport;
use super::{headers, report, server};
use crate::error::{config, refuse};
use crate::jsonl::files::{Location, RunFiles, first_id, is_device};
use crate::jsonl::sidecars::is_sidecar;
use crate::sim::SimServer;
use crate::{Client, ClientBuilder, Concurrency, Rate, Result, Retry, Shared};

/// A run, ready to start: its client, what answers in place of the provider for as long as it
/// lives, and what reports its end.
pub(crate) type Ready = (Client, Option<SimServer>, FinalReport);

/// Checks everything that can be checked without sending anything.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the flag, variable or file, and
/// [`ErrorKind::Io`](crate::ErrorKind::Io) if the simulated provider cannot start.
pub(crate) fn resolve(run: &Arc<Run>, console: &Console) -> Result<Ready> {
    let files = files(run)?;
    let (builder, simulator) = match &run.server.simulate {
        Some(spec) => server::simulated(spec)?,
        None => server::real(&run.server)?,
    };
    let (shared, variable) = sharing::shared(run)?;
    let concurrency = concurrency(run, console);
    let command = headers::without_secrets(env::args_os(), &run.server.headers);
    let report = FinalReport {
        console: console.clone(),
        files,
        args: Arc::clone(run),
        given: GivenLimits {
            concurrency,
            is_capped: concurrency != run.limits.concurrency,
            rates: run.limits.rates(),
        },
        variable,
        hides_values: env::args_os()
            .zip(&command)
            .any(|(typed, shown)| typed.to_string_lossy() != shown.as_str()),
        command,
    };
    let client = with_settings(builder, run, concurrency, shared).build();
    let client = client.map_err(|error| server::with_variable(&run.server, error))?;
    Ok((client, simulator, report))
}

/// The files of a run, once it is sure that the flags go together.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the flag or the file.
pub(crate) fn files(run: &Run) -> Result<RunFiles> {
    let (endpoint, provider) = (&run.server.api.endpoint, run.server.api.provider);
    refuse(flaw_of_prompts(
        &run.input,
        &run.prompts,
        endpoint,
        provider,
    ))?;
    if run.quiet && matches!(run.progress, ProgressMode::Always | ProgressMode::Json) {
        return Err(config(
            "--quiet shows no progress: leave out --quiet or --progress",
        ));
    }
    check_endpoint(endpoint)?;
    let files = run_files(run)?;
    if let (Some(flag), None) = (run.table.first_given(), &files.table) {
        return Err(config(format!(
            "{flag} is for a table: name an output that ends in .csv or .tsv with -o"
        )));
    }
    check_default_output(run, &files)?;
    files.check()?;
    if [&files.output, &files.errors].contains(&&Location::Stream) && output::is_closed() {
        return Err(config(
            "standard output is closed, so results would be lost: name a file with -o, and for \
             failures with --errors (/dev/null discards them)",
        ));
    }
    Ok(files)
}

fn run_files(run: &Run) -> Result<RunFiles> {
    Ok(RunFiles::complete(
        &run.input,
        run.output.as_deref(),
        run.errors.as_deref(),
        run.server.simulate.is_some(),
        run.sharding.resolve()?,
    ))
}

/// Refuses the output that an input has by default, where it has no name to make one of, or where
/// it holds results of another input with the same name but for its ending.
fn check_default_output(run: &Run, files: &RunFiles) -> Result<()> {
    let (Location::File(input), Location::File(output), None) =
        (&files.input, &files.output, &run.output)
    else {
        return Ok(());
    };
    refuse(flaw_of_default("INPUT", input, "its results have"))?;
    if run.overwrite || run.server.simulate.is_some() {
        return Ok(());
    }
    check_other_cuts(output, run.sharding.resolve()?)?;
    let is_of_prompt = |id: String| {
        let line = id.strip_prefix("line-");
        line.is_some_and(|line| line.parse::<u64>().is_ok())
    };
    let is_asked =
        is_prompts(&run.input, &run.prompts) || first_id(input).is_some_and(is_of_prompt);
    let is_answered = first_id(output).map(is_of_prompt);
    refuse(is_answered.filter(|is| *is != is_asked).map(|_| {
        format!(
            "output {output:?} holds results of another input, as one has prompts and the other \
             requests: name another with -o"
        )
    }))
}

/// Refuses to write a file of the run over another.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the flag and the file.
pub(crate) fn check_written(run: &Run) -> Result<()> {
    let (files, server) = (run_files(run)?, &run.server);
    let own = [
        ("-o", "the output", files.output.path()),
        ("-o", "the table", files.table.as_deref()),
        ("--errors", "the errors file", files.errors.path()),
    ];
    let mut others = vec![
        (
            "the file of --prompt-file",
            run.prompts.prompt_file.as_deref(),
        ),
        ("the file of --api-key-file", server.api_key_file.as_deref()),
        ("the file of --ca-file", server.ca_file.as_deref()),
        ("the file of --client-cert", server.client_cert.as_deref()),
        ("the file of --client-key", server.client_key.as_deref()),
    ];
    let refuse_same = |flag, path: Option<&Path>, others: &[(&str, Option<&Path>)]| {
        let path = path.filter(|path| !is_device(path));
        let is_it = |other: &&(_, Option<&Path>)| {
            path.zip(other.1)
                .is_some_and(|(path, it)| is_same(path, it))
        };
        refuse(others.iter().find(is_it).map(|(role, _)| {
            let path = path.unwrap_or(Path::new(""));
            format!("{flag} {path:?} is {role}, which would be overwritten: name another")
        }))
    };
    for (flag, _, path) in own {
        refuse_same(flag, path, &others)?;
    }
    // A stream may have been redirected to a file: on Unix these names lead to it.
    let stream = |name| Some(Path::new(name));
    let input = files.input.path().or(stream("/dev/stdin"));
    others.push(("the input", input));
    if [&files.output, &files.errors].contains(&&Location::Stream) {
        others.push(("standard output", stream("/dev/stdout")));
    }
    others.extend(own.map(|(_, role, path)| (role, path)));
    for (flag, path) in [("--summary", &run.summary), ("--report", &run.report)] {
        let Some(path) = path.as_deref() else {
            continue;
        };
        refuse_same(flag, Some(path), &others)?;
        let mut owners = own.iter().filter_map(|(_, _, path)| *path);
        let why = if path == Path::new("-") {
            Some("is no file: it needs a file of its own")
        } else if let Some(flaw) = flaw_of_place(path) {
            Some(flaw)
        } else if owners.any(|owner| is_sidecar(owner, path)) {
            Some("has the name of a file that a run makes beside the output: name another")
        } else if flag != "--report" {
            None
        } else if files.output == Location::Stream {
            Some(
                "is made of the results, which go to standard output: name a file for them with -o",
            )
        } else {
            report::check_page(path).err()
        };
        refuse(why.map(|why| format!("{flag} {path:?} {why}")))?;
        others.push(("the file of --summary", Some(path)));
    }
    Ok(())
}

/// What else than connections a run has open: standard streams, the files, the listener, a host
/// name look-up.
const OTHER_FILES: u64 = 20;

/// How many requests can be in flight. Each is an open file, and the system's limit on these is
/// raised as far as it may be. Rows that fail with "too many open files" would help nobody.
fn concurrency(run: &Run, console: &Console) -> Concurrency {
    let wanted = run.limits.concurrency;
    // The simulated provider's ends of the connections are in this process, too.
    let sockets = if run.server.simulate.is_some() { 2 } else { 1 };
    let needed = wanted.high() as u64 * sockets + OTHER_FILES;
    // What cannot be found out may be enough.
    let allowed = rlimit::increase_nofile_limit(needed).unwrap_or(u64::MAX);
    if allowed >= needed {
        return wanted;
    }
    let fitting = (allowed.saturating_sub(OTHER_FILES) / sockets).max(1);
    console.warn(&format!(
        "--concurrency is {} instead of {}, as this process may not open more files: raise the limit \
         with ulimit -n",
        count(fitting),
        count(wanted.high() as u64)
    ));
    let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
    (wanted.low().min(fitting)..=fitting).into()
}

/// When a failed request is sent again.
pub(crate) fn retry(timeouts: &Timeouts) -> Retry {
    let max_server_delay = Some(timeouts.max_server_delay).filter(|delay| *delay != Duration::MAX);
    let retry = Retry::new()
        .max_attempts(timeouts.max_attempts)
        .max_server_delay(max_server_delay);
    with(retry, timeouts.stop_alike, |retry, answers| {
        retry.stop_alike(Some(answers).filter(|answers| *answers != u32::MAX))
    })
}

fn with_settings(
    builder: ClientBuilder,
    run: &Run,
    concurrency: Concurrency,
    shared: Option<Shared>,
) -> ClientBuilder {
    let (limits, timeouts) = (&run.limits, &run.timeouts);
    let builder = builder
        .concurrency(concurrency)
        .timeout(timeouts.timeout)
        .max_body(run.server.max_body)
        .connect_timeout(timeouts.connect_timeout)
        .retry(retry(timeouts));
    let builder = with(builder, shared, ClientBuilder::shared);
    let [requests, tokens] = limits.rates();
    let builder = with(builder, requests, ClientBuilder::request_rate);
    let builder = with(builder, limits.burst, ClientBuilder::burst);
    let builder = with(builder, limits.warmup, ClientBuilder::warmup);
    let (builder, tokens) = (builder.hedge(limits.hedge), tokens.map(Rate::units));
    with(builder, tokens, ClientBuilder::tokens_per_minute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::cli::args::{Cli, Command};
    use crate::cli::console::{OutputMode, with_causes};
    use clap::Parser;
    use std::fs;
    use tempfile::TempDir;

    /// A folder with an input of each kind, and the arguments that name it.
    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = TempDir::new().unwrap();
            for name in ["p.jsonl", "p.txt"] {
                fs::write(folder.path().join(name), "").unwrap();
            }
            Self(folder)
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).to_str().unwrap().to_owned()
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
            let path = self.path(name);
            fs::write(&path, text).unwrap();
            path
        }

        fn resolve(&self, input: &str, flags: &[&str]) -> Result<Ready> {
            let input = self.path(input);
            let words = ["tollgate", "run", &input];
            let cli = Cli::try_parse_from(words.iter().chain(flags)).unwrap();
            let Command::Run(run) = cli.command else {
                panic!("not a run")
            };
            check_written(&run)?;
            resolve(
                &Arc::from(run),
                &Console {
                    mode: OutputMode::Quiet,
                    bar: None,
                },
            )
        }

        fn refused(&self, input: &str, flags: &[&str], words: &[&str]) -> String {
            let error = self.resolve(input, flags).expect_err(&flags.join(" "));
            assert_eq!(error.kind(), ErrorKind::Config, "{flags:?}: {error}");
            let message = with_causes(&error);
            for word in words {
                assert!(message.contains(word), "{flags:?}: {message}");
            }
            message
        }
    }

    #[test]
    fn prompts_need_a_model_and_requests_have_their_own() {
        let folder = Folder::new();
        folder.refused("p.txt", &["--no-auth"], &["--model", ".txt"]);
        folder.refused("p.txt", &["--no-auth", "--model="], &["--model"]);
        let anthropic = ["--no-auth", "--model=m", "--provider=anthropic"];
        folder.refused("p.txt", &anthropic, &["--provider", ".txt"]);
        for flag in ["--model=m", "--max-tokens=5", "--system=s"] {
            let name = flag.split('=').next().unwrap();
            folder.refused("p.jsonl", &["--no-auth", flag], &[name, ".txt"]);
        }
        folder
            .resolve("p.txt", &["--no-auth", "--model=m"])
            .unwrap();
        folder.write("P.TXT", "");
        folder
            .resolve("P.TXT", &["--no-auth", "--model=m"])
            .unwrap();
    }

    #[test]
    fn flags_are_named_where_they_make_no_sense() {
        let folder = Folder::new();
        for (flags, words) in [
            (&["--endpoint=https://evil/"][..], &["--endpoint"][..]),
            (
                &["--base-url=api.example.com/v1"],
                &["--base-url", "scheme"],
            ),
            (
                &["--base-url=http://api.example.com/v1"],
                &["--base-url", "--allow-insecure-http"],
            ),
            (&["--provider=azure"], &["--base-url"]),
            (&["--ca-file=/nowhere.pem"], &["/nowhere.pem"]),
            (&["-q", "--progress=always"], &["--quiet", "--progress"]),
            (&["-q", "--progress=json"], &["--quiet", "--progress"]),
            (&["--summary=-"], &["--summary", "\"-\""]),
        ] {
            let flags: Vec<&str> = flags.iter().copied().chain(["--no-auth"]).collect();
            folder.refused("p.jsonl", &flags, words);
        }
        let flags = &["--simulate=latency=soon"];
        folder.refused("p.jsonl", flags, &["--simulate", "latency"]);
        for when in ["never", "auto"] {
            let flags = ["-q", "--progress", when, "--no-auth"];
            folder.resolve("p.jsonl", &flags).expect(when);
        }
        let insecure = ["--base-url=http://a.example/v1", "--allow-insecure-http"];
        let plan = folder.resolve("p.jsonl", &[insecure[0], insecure[1], "--no-auth"]);
        assert_eq!(plan.unwrap().0.base_url(), "http://a.example/v1");
    }

    #[test]
    fn a_key_file_is_trimmed_of_one_line_end_or_refused_without_being_shown() {
        let folder = Folder::new();
        for text in ["sk-secret\n", "sk-secret\r\n", "\u{feff}sk-secret"] {
            let flag = format!("--api-key-file={}", folder.write("key", text));
            folder.resolve("p.jsonl", &[&flag]).expect(text);
        }
        for text in ["", "\n", "sk-secret\nsk-other\n", "sk-\0secret"] {
            let flag = format!("--api-key-file={}", folder.write("key", text));
            let message = folder.refused("p.jsonl", &[&flag], &["--api-key-file", "key"]);
            assert!(!message.contains("secret"), "{message}");
        }
        let flag = format!(
            "--api-key-file={}",
            folder.write("utf-16", b"\xff\xfes\0k\0")
        );
        folder.refused("p.jsonl", &[&flag], &["--api-key-file", "utf-16"]);
        let missing = format!("--api-key-file={}", folder.path("none"));
        folder.refused("p.jsonl", &[&missing], &["--api-key-file", "none"]);
    }

    #[test]
    fn a_key_in_place_of_a_variables_name_is_not_repeated() {
        let folder = Folder::new();
        let message = folder.refused("p.jsonl", &["--api-key-env=sk-secret"], &["--api-key-env"]);
        assert!(!message.contains("secret"), "{message}");
        let unset = ["--api-key-env=TOLLGATE_TEST_NOT_SET"];
        folder.refused("p.jsonl", &unset, &["TOLLGATE_TEST_NOT_SET"]);
    }

    #[test]
    fn a_trial_needs_nothing_and_begins_anew() {
        let folder = Folder::new();
        let (client, simulator, report) = folder.resolve("p.jsonl", &["--simulate"]).unwrap();
        assert_eq!(client.base_url(), simulator.unwrap().base_url());
        assert!(report.args.starts_anew());
        let output = format!("--output={}", folder.path("o.jsonl"));
        let (_, _, report) = folder.resolve("p.jsonl", &["--simulate", &output]).unwrap();
        assert!(
            !report.args.starts_anew(),
            "a file that was named is not emptied unasked"
        );
    }

    #[test]
    fn the_summary_is_none_of_the_runs_own_files() {
        let folder = Folder::new();
        for (name, word) in [
            ("p.jsonl", "the input"),
            ("p.results.jsonl", "the output"),
            ("p.errors.jsonl", "the errors file"),
            ("", "directory"),
            ("none/s.json", "directory"),
            ("p.results.jsonl.lock", "beside the output"),
        ] {
            let flag = format!("--summary={}", folder.path(name));
            folder.refused("p.jsonl", &["--no-auth", &flag], &["--summary", word]);
        }
    }
}
