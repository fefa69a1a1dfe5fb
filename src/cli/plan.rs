//! `tollgate plan`, and the plan of `run --dry-run`: from arguments to a scenario, and what comes
//! of it on standard output.
//!
//! Nothing is sent and nothing is written, and no key is looked for.

use std::path::{Path, PathBuf};

use super::args::{Answers, Limits, Money, Plan, Run, Timeouts};
use super::check;
use super::config::{self, flaw_of_prompts};
use super::console::Console;
use super::exit::Exit;
use super::forecast::{Forecast, spent};
use super::format::{count, counted};
use super::prompts::with_prompts;
use super::run::file_run;
use super::shard::with_shard;
use super::shared_limit::would_share;
use super::{signals, stdout};
use crate::api::json::whole;
use crate::api::{Counting, path, writes};
use crate::error::{config, refuse};
use crate::jsonl::LineHash;
use crate::jsonl::check::RequestFacts;
use crate::jsonl::files::RunFiles;
use crate::plan::{
    Dist, Earlier, Failing, Planned, Processes, Requests, Sample, Scenario, Sizes,
    concurrencies_around, predict,
};
use crate::sim::{NATURAL, SimSpec};
use crate::{Error, FileRun, Provider, Result, Verdict};

/// The most requests that are kept one by one. Of a file with more of them some are, spread evenly
/// over all.
const MOST_LISTED: usize = 1 << 21;

/// What is assumed if nothing is known: about what chat models take for a few paragraphs, in
/// seconds, its standard deviation ÷ mean, and model tokens. The help names them.
const LATENCY: f64 = 2.5;
const SPREAD: f64 = 0.8;
const OUTPUT_TOKENS: f64 = 500.0;
/// From so many answers on, the output of a run tells what is to come of it.
const ENOUGH: u64 = 20;

/// Plans a file, or so many requests.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) for arguments that do not go together and for
/// files that cannot be read, [`ErrorKind::Io`](crate::ErrorKind::Io) if the plan cannot be
/// written.
pub(crate) fn plan(args: &Plan, console: &Console) -> Result<Exit> {
    signals::stop_at_once().map_err(signals::cannot_receive)?;
    let earlier = like(&args.answers)?;
    let requests = match (&args.input, args.requests, &args.tokens) {
        (Some(input), ..) => {
            let mut listed = Listed::new();
            let each = |id, request: &_| listed.add(id, request, earlier.as_ref());
            let report = run_over(input, args)?.look(None, each)?;
            if report.bad_lines > 0 {
                let lines = counted(
                    report.bad_lines,
                    "line is no request",
                    "lines are no requests",
                );
                console.warn(&format!("{lines}: tollgate check {input:?} says which"));
            }
            listed.requests()
        }
        (None, Some(count), Some(tokens)) => Requests {
            count,
            sizes: Sizes::Drawn {
                prompt_tokens: tokens.clone(),
                max_output: args.prompts.max_tokens,
            },
        },
        _ => {
            return Err(config(
                "INPUT is missing, or --requests and --tokens in its place",
            ));
        }
    };
    let answers = Expected::of(&args.answers, earlier.as_ref());
    let scenario = Flags {
        limits: &args.limits,
        timeouts: &args.timeouts,
        money: &args.money,
        provider: args.api.provider.unwrap_or_default(),
        base_url: None,
        processes: args.processes.map(|count| Processes {
            count,
            round_trip: args.store_rtt,
        }),
    };
    let forecast = scenario.forecast(requests, answers)?;
    if args.json {
        for caveat in &forecast.caveats {
            console.warn(caveat);
        }
        show(&format!("{}\n", forecast.to_json()))?;
    } else {
        show(&forecast.to_text())?;
    }
    Ok(Exit::Success)
}

/// Checks and plans a run, and does not run it.
///
/// # Errors
/// As [`plan`], and those that keep a run from starting, but for those of its key.
pub(crate) fn dry_run(args: &Run) -> Result<Exit> {
    signals::stop_at_once().map_err(signals::cannot_receive)?;
    let files = config::files(args)?;
    let is_shared = would_share(args)?;
    // What the run has done so far tells best what is to come.
    let output = files
        .output
        .path()
        .filter(|path| path.is_file() && !args.overwrite);
    let earlier = output.and_then(|path| {
        Earlier::read(path)
            .ok()
            .map(|earlier| (path.to_owned(), earlier))
    });
    let earlier = earlier.filter(|(_, earlier)| earlier.answered >= ENOUGH);
    let earlier = earlier.as_ref();
    let mut listed = Listed::new();
    let run = file_run(args, &check::nobodys_client()?, files)?;
    let report = run.look(None, |id, request| listed.add(id, request, earlier))?;
    let mut answers = match &args.server.simulate {
        Some(spec) => Expected::simulated(spec)?,
        None => Expected::of(&Answers::default(), earlier),
    };
    if is_shared {
        let caveat = "the limits are shared: while other processes send as well, it takes longer";
        answers.caveats.push(caveat.to_owned());
    }
    let flags = Flags {
        limits: &args.limits,
        timeouts: &args.timeouts,
        money: &args.money,
        provider: args.server.api.provider.unwrap_or_default(),
        base_url: args.server.base_url.as_deref(),
        processes: None,
    };
    let text = match listed.requests() {
        Requests { count: 0, .. } => "planned  nothing is left to send\n".to_owned(),
        requests => flags.forecast(requests, answers)?.to_text(),
    };
    show(&format!("{}\n{text}", check::to_text(&report)))?;
    Ok(check::exit(&report))
}

/// The results of an earlier run, and the path of their file.
type EarlierFile = (PathBuf, Earlier);

/// The output that `--like` names.
fn like(answers: &Answers) -> Result<Option<EarlierFile>> {
    let read = |path: &PathBuf| {
        let earlier = Earlier::read(path).map_err(|error| error.behind("--like"))?;
        Ok((path.clone(), earlier))
    };
    answers.like.as_ref().map(read).transpose()
}

/// A run over the input alone, whatever results there are.
fn run_over(input: &Path, args: &Plan) -> Result<FileRun<'static>> {
    let endpoint = &args.api.endpoint;
    refuse(flaw_of_prompts(
        input,
        &args.prompts,
        endpoint,
        args.api.provider,
    ))?;
    path::check_path(endpoint).map_err(|what| config(format!("--endpoint {endpoint:?} {what}")))?;
    let files = RunFiles::complete(input, Some("-".as_ref()), None, false, None);
    let run = FileRun::over(&check::nobodys_client()?, files);
    let run = with_prompts(run, &args.prompts, endpoint, args.api.provider)?;
    with_shard(run, &args.sharding)
}

fn show(text: &str) -> Result<()> {
    match stdout::write(text) {
        Err(error) if !stdout::is_broken_pipe(&error) => Err(error),
        _ => Ok(()),
    }
}

/// The requests of a file.
struct Listed {
    sample: Sample<Planned>,
    /// Of the requests that an earlier output answers: what their prompts were taken for, and what
    /// the provider counted.
    taken_for: u64,
    counted: u64,
}

impl Listed {
    fn new() -> Self {
        Self {
            sample: Sample::of_at_most(MOST_LISTED),
            taken_for: 0,
            counted: 0,
        }
    }

    fn add(&mut self, id: Option<LineHash>, request: &RequestFacts, earlier: Option<&EarlierFile>) {
        let size = request.size;
        if let Some(counted) = id.and_then(|id| earlier?.1.prompt_tokens(id)) {
            self.taken_for += size.prompt;
            self.counted += counted;
        }
        self.sample.add(Planned {
            size,
            prompt_tokens: size.prompt,
            writes: writes(&request.path),
        });
    }

    /// All of them, their prompts corrected by what the provider counted.
    fn requests(self) -> Requests {
        let count = self.sample.seen();
        let mut listed = self.sample.into_kept();
        if self.counted > 0 && self.taken_for > 0 {
            let share = self.counted as f64 / self.taken_for as f64;
            for request in &mut listed {
                let counted = (request.prompt_tokens as f64 * share).round();
                request.prompt_tokens = whole(counted).unwrap_or(request.prompt_tokens);
            }
        }
        Requests {
            count,
            sizes: Sizes::Listed(listed),
        }
    }
}

/// What is expected of answers, and how sure that is.
struct Expected {
    latency: Dist,
    output_tokens: Dist,
    failures: Vec<Failing>,
    simulated: Option<SimSpec>,
    /// What it is taken from.
    from: String,
    /// What is not known.
    caveats: Vec<String>,
}

impl Expected {
    fn of(answers: &Answers, earlier: Option<&EarlierFile>) -> Self {
        let latency = answers.latency.clone();
        let latency = latency.or_else(|| earlier?.1.latency());
        let output_tokens = answers.output_tokens.clone();
        let output_tokens = output_tokens.or_else(|| earlier?.1.output_tokens());
        let mut caveats = Vec::new();
        let unknown = [
            (
                latency.is_none(),
                format!("take {LATENCY}s~{SPREAD}"),
                "--latency",
            ),
            (
                output_tokens.is_none(),
                format!("have {OUTPUT_TOKENS} tokens, or fewer where a request sets a lower limit"),
                "--output-tokens",
            ),
        ];
        let unknown = unknown.into_iter().filter(|(is_unknown, ..)| *is_unknown);
        let (assumed, flags): (Vec<_>, Vec<_>) =
            unknown.map(|(_, what, flag)| (what, flag)).unzip();
        if !assumed.is_empty() {
            let (assumed, flags) = (assumed.join(" and "), flags.join(" and "));
            caveats.push(match earlier {
                None => format!(
                    "answers are assumed to {assumed}: give {flags}, or --like with the results of a run \
                     over some of the requests"
                ),
                Some((path, _)) => format!(
                    "answers are assumed to {assumed}, as {path:?} does not say it: give {flags}"
                ),
            });
        }
        let failing = |share, verdict| Failing {
            share,
            verdict,
            at_once: false,
        };
        let (mut failures, mut from) = (Vec::new(), "the flags and defaults".to_owned());
        if let Some((path, earlier)) = earlier {
            from = format!(
                "{} in {path:?}",
                counted(earlier.records, "result", "results")
            );
            if (1..earlier.records).contains(&earlier.with_times) {
                let some = count(earlier.with_times);
                from = format!("{from}, of which {some} say how long they took");
            }
            let for_good = earlier.failed_for_good as f64 / earlier.attempts as f64;
            let usual = 1.0 - earlier.overloaded();
            failures = vec![
                failing(usual * earlier.failing(), Verdict::Retry),
                failing((1.0 - usual) * earlier.failing(), Verdict::Throttled),
                failing(for_good, Verdict::Fail),
            ];
            failures.retain(|failing| failing.share > 0.0);
        }
        Self {
            latency: latency.unwrap_or_else(|| Dist::log_normal(LATENCY, SPREAD)),
            output_tokens: output_tokens.unwrap_or_else(|| Dist::constant(OUTPUT_TOKENS)),
            failures,
            simulated: None,
            from,
            caveats,
        }
    }

    /// The answers of the simulated provider.
    fn simulated(spec: &str) -> Result<Self> {
        let spec: SimSpec = spec
            .parse()
            .map_err(|error: Error| error.behind("--simulate"))?;
        let (latency, jitter) = spec.latency_and_jitter();
        Ok(Self {
            latency: Dist::log_normal(latency.as_secs_f64(), jitter),
            output_tokens: Dist::Even(f64::from(NATURAL.start) - 0.5, f64::from(NATURAL.end) - 0.5),
            // Its model says which attempts fail.
            failures: Vec::new(),
            simulated: Some(spec),
            from: "--simulate".to_owned(),
            caveats: Vec::new(),
        })
    }
}

/// The flags of a run that a plan depends on.
struct Flags<'a> {
    limits: &'a Limits,
    timeouts: &'a Timeouts,
    money: &'a Money,
    provider: Provider,
    base_url: Option<&'a str>,
    processes: Option<Processes>,
}

impl Flags<'_> {
    /// Plans it.
    fn forecast(&self, requests: Requests, expected: Expected) -> Result<Forecast> {
        let [request_rate, token_rate] = self.limits.rates();
        let concurrency = self.limits.concurrency;
        let base_url = self.base_url.or(self.provider.default_base_url());
        let scenario = Scenario {
            requests,
            latency: expected.latency,
            output_tokens: expected.output_tokens,
            failures: expected.failures,
            simulated: expected.simulated,
            request_rate,
            burst: self.limits.burst,
            token_rate,
            concurrency,
            processes: self.processes,
            warmup: self.limits.warmup.unwrap_or(0),
            retry: config::retry(self.timeouts),
            timeout: self.timeouts.timeout,
            deadline: self.timeouts.deadline,
            counting: Counting::of(self.provider, base_url.unwrap_or_default()),
            price: self.money.price,
            seed: 7,
        };
        let prediction = predict(&scenario, &concurrencies_around(concurrency.high()))?;
        let mut caveats = expected.caveats;
        caveats.extend(spent(self.money, &prediction));
        if self.limits.hedge {
            caveats.push("--hedge is left out of the plan".to_owned());
        }
        Ok(Forecast {
            prediction,
            from: expected.from,
            caveats,
            latency: scenario.latency.mean(),
            deadline: scenario.deadline,
            concurrency,
            rates: [request_rate, token_rate],
        })
    }
}
