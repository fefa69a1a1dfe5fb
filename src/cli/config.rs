//! From arguments as typed to a run as resolved: what depends on the input, the environment or a
//! file is settled here, and whatever is wrong with it is said before anything is sent.
//!
//! Every refusal names the flag, the variable or the file it is about. A key is never repeated, not
//! even where it stands in the wrong place.

#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "a name may hold what a terminal obeys: messages quote and escape it"
)]

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::args::{ProgressWhen, Provider as Named, Run, Server};
use super::console::Console;
use super::format;
use super::parse::Bound;
use super::rlimit;
use super::speed::RateLimits;
use super::stdout;
use crate::api::{check_base_url, path};
use crate::jsonl::files::{GivenFiles, Location, RunFiles};
use crate::jsonl::sidecars::{self, LOCK_SUFFIX, NEW_SUFFIX, REJECTED_SUFFIX};
use crate::sim::{SimServer, SimSpec};
use crate::{ApiKey, Client, ClientBuilder, Error, ErrorKind, Provider, Result, Retry};

/// Larger than any key.
const LONGEST_KEY_FILE: u64 = 64 << 10;

/// A run, ready to begin.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) client: Client,
    pub(crate) places: RunFiles,
    /// Where the summary goes as JSON.
    pub(crate) summary: Option<PathBuf>,
    /// Whether what an earlier run left in the output goes.
    pub(crate) overwrite: bool,
    pub(crate) limits: RateLimits,
    pub(crate) concurrency: u32,
    /// Where the key is from, in the words of the command line: a flag or a variable.
    pub(crate) key_from: String,
    /// Answers in place of the provider, for as long as it lives.
    pub(crate) simulator: Option<SimServer>,
}

/// Settles everything that can be settled without sending anything.
///
/// # Errors
/// [`ErrorKind::Config`], naming the flag, variable or file, and [`ErrorKind::Io`] if the
/// simulated provider cannot start.
pub(crate) fn resolve(run: &Run, console: &Console) -> Result<Plan> {
    check_prompts(run)?;
    check_burst(run)?;
    check_display(run)?;
    path::check_path(&run.server.endpoint)
        .map_err(|what| config(format!("--endpoint {:?} {what}", run.server.endpoint)))?;
    let simulated = run.server.simulate.is_some();
    let places = RunFiles::resolve(&named_files(run))?;
    check_stdout(&places)?;
    check_secrets(run, &places)?;
    if let Some(summary) = &run.summary {
        check_summary(summary, &places)?;
    }

    let (builder, simulator) = match &run.server.simulate {
        Some(spec) => {
            let (builder, simulator) = simulated_provider(spec)?;
            (builder, Some(simulator))
        }
        None => (provider(&run.server)?, None),
    };
    // The simulated provider's ends of the connections are in this process, too.
    let sockets = if simulated { 2 } else { 1 };
    let concurrency = rlimit::make_room(run.limits.concurrency, sockets);
    if concurrency < run.limits.concurrency {
        console.warn(&format!(
            "--concurrency {}: this process may not open so many files (ulimit -n); going on with {}",
            format::count(run.limits.concurrency.into()),
            format::count(concurrency.into())
        ));
    }
    let client = with_settings(builder, run, concurrency).build()?;
    Ok(Plan {
        client,
        places,
        summary: run.summary.clone(),
        // Simulated answers cost nothing: a trial run begins anew each time, in a file of its own.
        overwrite: run.overwrite || (simulated && run.output.is_none()),
        limits: RateLimits {
            requests: run.limits.rps.or(run.limits.rpm),
            tokens: run.limits.tpm,
        },
        concurrency,
        key_from: key_from(&run.server),
        simulator,
    })
}

fn named_files(run: &Run) -> GivenFiles<'_> {
    GivenFiles {
        input: &run.input,
        output: run.output.as_deref(),
        errors: run.errors.as_deref(),
        simulate: run.server.simulate.is_some(),
    }
}

/// Where the summary goes of a run that is refused, maybe before its files were looked at: nowhere,
/// if that is one of them.
pub(crate) fn refused_summary(run: &Run) -> Option<&Path> {
    let places = RunFiles::complete(&named_files(run));
    let summary = run.summary.as_deref()?;
    check_summary(summary, &places)
        .and_then(|()| check_secrets(run, &places))
        .ok()?;
    Some(summary)
}

fn key_from(server: &Server) -> String {
    if server.no_auth || server.simulate.is_some() {
        "nowhere: none was sent".to_owned()
    } else if let Some(path) = &server.api_key_file {
        format!("--api-key-file {path:?}")
    } else if server.api_key_env.is_some() {
        "the variable that --api-key-env names".to_owned()
    } else {
        convention(server).key_variable().to_owned()
    }
}

fn convention(server: &Server) -> Provider {
    server.provider.map(Provider::from).unwrap_or_default()
}

/// Whether the input is one prompt a line.
pub(crate) fn is_prompts(input: &Path) -> bool {
    input
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("txt"))
}

fn check_prompts(run: &Run) -> Result<()> {
    let prompts = &run.prompts;
    if is_prompts(&run.input) {
        if run.server.provider == Some(Named::Anthropic) {
            return Err(config(
                "--provider anthropic: the prompts of a .txt file are sent as OpenAI chats; write \
                 Anthropic batch lines into a .jsonl file",
            ));
        }
        // A chat's body would be refused there, row by row.
        let endpoint = run.server.endpoint.split('?').next().unwrap_or_default();
        let leads_to = |path: &str| endpoint.ends_with(path);
        if !leads_to("/chat/completions")
            && [
                "/completions",
                "/responses",
                "/embeddings",
                "/moderations",
                "/messages",
            ]
            .into_iter()
            .any(leads_to)
        {
            return Err(config(format!(
                "--endpoint {:?}: the prompts of a .txt file are sent as chats; for anything else \
                 write batch lines into a .jsonl file",
                run.server.endpoint
            )));
        }
        return match prompts.model.as_deref() {
            None => Err(config(
                "--model is missing: INPUT is a .txt file of prompts, which do not say where they go",
            )),
            Some("") => Err(config("--model is empty")),
            Some(_) => Ok(()),
        };
    }
    for (flag, given) in [
        ("--model", prompts.model.is_some()),
        ("--max-tokens", prompts.max_tokens.is_some()),
        ("--system", prompts.system.is_some()),
    ] {
        if given {
            return Err(config(format!(
                "{flag} is for .txt files of prompts: a request in JSON has its own, which is sent \
                 as it stands"
            )));
        }
    }
    Ok(())
}

fn check_burst(run: &Run) -> Result<()> {
    let limits = &run.limits;
    if limits.burst.is_some() && limits.rps.is_none() && limits.rpm.is_none() {
        return Err(config("--burst limits nothing without --rps or --rpm"));
    }
    Ok(())
}

/// Quiet is what nothing and the default become; progress that was asked for is a contradiction.
fn check_display(run: &Run) -> Result<()> {
    match run.progress {
        ProgressWhen::Always | ProgressWhen::Json if run.quiet => Err(config(
            "--quiet shows no progress: leave out either it or --progress",
        )),
        _ => Ok(()),
    }
}

/// Answers that go nowhere are paid for all the same.
fn check_stdout(places: &RunFiles) -> Result<()> {
    if [&places.output, &places.errors].contains(&&Location::Stream) && stdout::is_closed() {
        return Err(config(
            "standard output is closed: results would be lost; name a file with -o, and for \
             failures with --errors (/dev/null throws them away)",
        ));
    }
    Ok(())
}

/// The summary replaces what is there, so it must not be one of the run's own files.
fn check_summary(summary: &Path, places: &RunFiles) -> Result<()> {
    let refused = |why: &str| Err(config(format!("--summary {summary:?} {why}")));
    if summary == Path::new("-") {
        return refused("is no file: a summary goes to a file of its own");
    }
    if summary.is_dir() {
        return refused("is a directory");
    }
    let Some(settled) = sidecars::settled(summary) else {
        return refused("cannot be written: there is no such folder");
    };
    for (place, role) in [
        (&places.input, "the input"),
        (&places.output, "the output"),
        (&places.errors, "the errors file"),
    ] {
        if let Location::File(path) = place
            && sidecars::settled(path).as_ref() == Some(&settled)
        {
            return refused(&format!("is {role}"));
        }
    }
    let made_beside = [&places.output, &places.errors]
        .into_iter()
        .filter_map(|place| match place {
            Location::File(path) => Some(path),
            Location::Stream => None,
        })
        .flat_map(|path| {
            [LOCK_SUFFIX, NEW_SUFFIX, REJECTED_SUFFIX]
                .map(|suffix| sidecars::companion(path, suffix))
        });
    if made_beside.into_iter().any(|path| path == settled) {
        return refused("has the name of a file that the run makes beside its own");
    }
    Ok(())
}

/// What a run reads its key or certificates from is not to be written over.
fn check_secrets(run: &Run, places: &RunFiles) -> Result<()> {
    let summary = run.summary.clone().map(Location::File);
    let written = [
        ("-o", Some(&places.output)),
        ("--errors", Some(&places.errors)),
        ("--summary", summary.as_ref()),
    ];
    for (flag, read) in [
        ("--api-key-file", &run.server.api_key_file),
        ("--ca-file", &run.server.ca_file),
    ] {
        let Some(read) = read.as_deref().and_then(sidecars::settled) else {
            continue;
        };
        for (by, place) in written {
            if let Some(Location::File(path)) = place
                && sidecars::settled(path).as_ref() == Some(&read)
            {
                return Err(config(format!(
                    "{by} {path:?} is the file of {flag}: it would be written over"
                )));
            }
        }
    }
    Ok(())
}

/// The embedded provider: whatever key and address are set in the environment, none is used.
fn simulated_provider(spec: &str) -> Result<(ClientBuilder, SimServer)> {
    let spec: SimSpec = spec.parse().map_err(|error| named("--simulate", &error))?;
    let simulator = SimServer::start(spec).map_err(|error| match error.kind() {
        ErrorKind::Config => named("--simulate", &error),
        _ => error,
    })?;
    let builder = Client::builder().base_url(simulator.base_url()).no_auth();
    Ok((builder, simulator))
}

/// The provider's conventions, its address and the key.
fn provider(server: &Server) -> Result<ClientBuilder> {
    let provider = convention(server);
    let mut builder = Client::builder();
    if let Some(base_url) = &server.base_url {
        check_base_url(base_url, server.allow_insecure_http)
            .map_err(|error| named("--base-url", &error))?;
        builder = builder.base_url(base_url);
    } else if let Some((variable, base_url)) = provider.base_url_from_env() {
        check_base_url(&base_url, server.allow_insecure_http)
            .map_err(|error| named(variable, &error))?;
    } else if provider.default_base_url().is_none() {
        return Err(config(
            "--base-url is missing: this provider has one for each customer",
        ));
    }
    builder = match given_key(server)? {
        Key::Given(text) => builder.api_key(text),
        Key::None => builder.no_auth(),
        Key::FromEnv => {
            if provider.key_from_env()?.is_none() {
                return Err(config(format!(
                    "no API key: set {}, name another variable with --api-key-env or a file with \
                     --api-key-file, or say --no-auth for a server that wants none",
                    provider.key_variable()
                )));
            }
            builder
        }
    };
    if server.allow_insecure_http {
        builder = builder.allow_insecure_http();
    }
    if let Some(path) = &server.ca_file {
        builder = builder.ca_file(path);
    }
    Ok(builder.from_env(provider))
}

enum Key {
    /// Its text, checked.
    Given(String),
    FromEnv,
    None,
}

fn given_key(server: &Server) -> Result<Key> {
    if server.no_auth {
        return Ok(Key::None);
    }
    if let Some(name) = &server.api_key_env {
        return key_in_variable(name).map(Key::Given);
    }
    if let Some(path) = &server.api_key_file {
        return key_in_file(path).map(Key::Given);
    }
    Ok(Key::FromEnv)
}

fn key_in_variable(name: &str) -> Result<String> {
    let is_name = name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    // Somebody may have put the key itself where its variable's name belongs.
    let shown = if is_name { name } else { "NAME" };
    match env::var(name) {
        Ok(text) => checked_key(text, &format!("--api-key-env {shown}")),
        Err(env::VarError::NotPresent) => Err(config(format!(
            "--api-key-env {shown}: there is no such variable"
        ))),
        Err(env::VarError::NotUnicode(_)) => Err(config(format!(
            "--api-key-env {shown}: the variable holds no text"
        ))),
    }
}

fn key_in_file(path: &Path) -> Result<String> {
    let flag = format!("--api-key-file {path:?}");
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_KEY_FILE).read_to_end(&mut text))
        .map_err(|error: io::Error| {
            config(format!("{flag} cannot be read: {error}")).with_source(error)
        })?;
    let text = String::from_utf8(text).map_err(|_| config(format!("{flag} holds no text")))?;
    checked_key(text, &flag)
}

fn checked_key(text: String, flag: &str) -> Result<String> {
    match ApiKey::new(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(named(flag, &error)),
    }
}

fn with_settings(builder: ClientBuilder, run: &Run, concurrency: u32) -> ClientBuilder {
    let (limits, timeouts) = (&run.limits, &run.timeouts);
    let max_server_delay = match timeouts.max_server_delay {
        Bound::None => None,
        Bound::At(delay) => Some(delay),
    };
    let mut builder = builder
        .concurrency(usize::try_from(concurrency).unwrap_or(usize::MAX))
        .timeout(timeouts.timeout)
        .connect_timeout(timeouts.connect_timeout)
        .retry(
            Retry::new()
                .max_attempts(timeouts.max_attempts)
                .max_server_delay(max_server_delay),
        );
    if let Some(rate) = limits.rps.or(limits.rpm) {
        builder = builder.request_rate(rate);
    }
    if let Some(burst) = limits.burst {
        builder = builder.burst(burst);
    }
    if let Some(rate) = limits.tpm {
        builder = builder.tokens_per_minute(rate.units());
    }
    builder
}

fn named(what: &str, error: &Error) -> Error {
    config(format!("{what}: {error}"))
}

fn config(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::cli::console::OutputMode;
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

        fn resolve(&self, input: &str, flags: &[&str]) -> Result<Plan> {
            let input = self.path(input);
            let words = ["tollgate", "run", &input];
            let cli = Cli::try_parse_from(words.iter().chain(flags)).unwrap();
            let Command::Run(run) = cli.command else {
                panic!("not a run")
            };
            resolve(&run, &Console::new(OutputMode::Quiet, None))
        }

        fn refused(&self, input: &str, flags: &[&str], words: &[&str]) -> String {
            let error = self.resolve(input, flags).expect_err(&flags.join(" "));
            assert_eq!(error.kind(), ErrorKind::Config, "{flags:?}: {error}");
            let message = error.to_string();
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
        assert!(is_prompts(Path::new("P.TXT")) && !is_prompts(Path::new("-")));
    }

    #[test]
    fn flags_are_named_where_they_make_no_sense() {
        let folder = Folder::new();
        for (flags, words) in [
            (&["--burst=5"][..], &["--burst", "--rps"][..]),
            (&["--endpoint=https://evil/"], &["--endpoint"]),
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
        assert_eq!(plan.unwrap().client.base_url(), "http://a.example/v1");
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
        let plan = folder.resolve("p.jsonl", &["--simulate"]).unwrap();
        let simulator = plan.simulator.unwrap();
        assert_eq!(plan.client.base_url(), simulator.base_url());
        assert!(plan.overwrite);
        let output = format!("--output={}", folder.path("o.jsonl"));
        let plan = folder.resolve("p.jsonl", &["--simulate", &output]).unwrap();
        assert!(
            !plan.overwrite,
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
            ("none/s.json", "folder"),
        ] {
            let flag = format!("--summary={}", folder.path(name));
            folder.refused("p.jsonl", &["--no-auth", &flag], &["--summary", word]);
        }
    }
}
