//! `tollgate plan`, and the plan of `run --dry-run`: from arguments to a scenario, and what comes
//! of it on standard output.
//!
//! Nothing is sent and nothing is written, and no key is looked for.

use std::path::Path;

use super::args::{Answers, Limits, Money, Plan, Run, Timeouts};
use super::check;
use super::config::{self, flaw_of_prompts};
use super::console::Console;
use super::exit::Exit;
use super::expected::{EarlierFile, Expected, like};
use super::forecast::Forecast;
use super::format::counted;
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
    Earlier, Planned, Prediction, Processes, Requests, Sample, Scenario, Sizes,
    concurrencies_around, predict,
};
use crate::{FileRun, Provider, Result};

/// The most requests that are kept one by one. Of a file with more of them some are, spread evenly
/// over all.
const MOST_LISTED: usize = 1 << 21;

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

/// What a budget leaves undone.
fn spent(money: &Money, plan: &Prediction) -> Option<String> {
    let cost = plan.cost_usd.map_or(0.0, |cost| cost.p50);
    let tokens = plan.run.prompt_tokens as f64 + plan.run.completion_tokens as f64;
    let budgets = [
        (
            "--max-cost",
            money.max_cost.map(|most| most.as_f64() / cost),
        ),
        (
            "--token-budget",
            money.token_budget.map(|most| most as f64 / tokens),
        ),
    ];
    let shares = budgets
        .into_iter()
        .filter_map(|(flag, share)| Some((share?, flag)));
    let (share, flag) = shares.min_by(|one, other| one.0.total_cmp(&other.0))?;
    let percent = 100.0 * share;
    (share < 1.0).then(|| format!("{flag} stops the run when about {percent:.0} % of it is done"))
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
