//! `tollgate plan`, and the plan of `run --dry-run`: from arguments to a scenario, and what comes
//! of it on standard output.
//!
//! Nothing is sent and nothing is written, and no key is looked for.

use super::args::{Answers, Limits, Money, Plan, Run, Timeouts};
use super::check;
use super::config;
use super::console::Console;
use super::exit::Exit;
use super::forecast::{Forecast, spent};
use super::format::{counted, lower};
use super::output;
use super::prompts::{flaw_of_prompts, nobodys_client, unsent_run};
use super::run::file_run;
use super::sharing::is_shared;
use super::signals;
use crate::api::json::whole;
use crate::api::{Counting, writes};
use crate::error::{config, refuse};
use crate::jsonl::LineHash;
use crate::jsonl::check::RequestFacts;
use crate::plan::{
    Dist, Earlier, Planned, Processes, Requests, Sample, Scenario, Sizes, concurrencies_around,
    predict,
};
use crate::sim::{NATURAL, SimPlan, SimSpec};
use crate::{Error, Provider, Rate, Result};

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
    signals::stop_at_once()?;
    let earlier = args.answers.like.as_deref().map(Earlier::read).transpose();
    let earlier = earlier.map_err(|error| error.behind("--like"))?;
    let requests = match (&args.input, args.requests, &args.tokens) {
        (Some(input), ..) => {
            let (endpoint, provider) = (&args.api.endpoint, args.api.provider);
            refuse(flaw_of_prompts(input, &args.prompts, endpoint, provider))?;
            let run = unsent_run(input, &args.prompts, endpoint, provider)?;
            let mut listed = Listed::new();
            let report = run.look(None, |id, request| {
                listed.add(id, request, earlier.as_ref());
            })?;
            if report.bad_lines > 0 {
                let lines = counted(
                    report.bad_lines,
                    "line is no request",
                    "lines are no requests",
                );
                console.warn(&format!("{lines}: tollgate check {input:?} says which"));
            }
            let duplicates = report.findings.of("duplicate_id");
            if duplicates > 0 {
                let lines = counted(
                    duplicates,
                    "line has the id of an earlier one",
                    "lines have the ids of earlier ones",
                );
                console.warn(&format!(
                    "{lines}, which run refuses: tollgate check {input:?} says which"
                ));
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
    let processes = args.processes.map(|count| Processes {
        count,
        round_trip: args.store_rtt,
    });
    let flags = (&args.limits, &args.timeouts, &args.money);
    let counting = counting(args.api.provider, None);
    let expected = Expected::of(&args.answers, earlier.as_ref());
    let forecast = forecast(flags, counting, processes, requests, expected)?;
    if args.json {
        for caveat in &forecast.caveats {
            console.warn(caveat);
        }
        output::show(&format!("{}\n", forecast.to_json()))?;
    } else {
        output::show(&forecast.to_text())?;
    }
    Ok(Exit::Success)
}

/// Checks and plans a run, and does not run it.
///
/// # Errors
/// As [`plan`], and those that keep a run from starting, but for those of its key.
pub(crate) fn dry_run(args: &Run) -> Result<Exit> {
    signals::stop_at_once()?;
    let files = config::files(args)?;
    // What the run has done so far tells best what is to come.
    let output = files.output.path();
    let earlier = output
        .filter(|path| path.is_file() && !args.overwrite)
        .and_then(|path| Earlier::read(path).ok())
        .filter(|earlier| earlier.answered >= ENOUGH);
    let earlier = earlier.as_ref();
    let mut listed = Listed::new();
    let run = file_run(args, &nobodys_client()?, files)?;
    let report = run.look(None, |id, request| listed.add(id, request, earlier))?;
    let mut expected = match &args.server.simulate {
        Some(spec) => Expected::simulated(spec)?,
        None => Expected::of(&Answers::default(), earlier),
    };
    if is_shared(args)? {
        let caveat = "the limits are shared: while other processes send as well, it takes longer";
        expected.caveats.push(caveat.to_owned());
    }
    let flags = (&args.limits, &args.timeouts, &args.money);
    let server = &args.server;
    let counting = counting(server.api.provider, server.base_url.as_deref());
    let text = match listed.requests() {
        Requests { count: 0, .. } => "planned  nothing is left to send\n".to_owned(),
        requests => forecast(flags, counting, None, requests, expected)?.to_text(),
    };
    output::show(&format!("{}\n{text}", check::to_text(&report)))?;
    Ok(check::exit(&report))
}

/// How the provider counts model tokens.
fn counting(provider: Option<Provider>, base_url: Option<&str>) -> Counting {
    let provider = provider.unwrap_or_default();
    let base_url = base_url.or(provider.default_base_url());
    Counting::of(provider, base_url.unwrap_or_default())
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

    fn add(&mut self, id: Option<LineHash>, request: &RequestFacts, earlier: Option<&Earlier>) {
        let size = request.size;
        if let Some(counted) = id.and_then(|id| earlier?.prompt_tokens(id)) {
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
        let count = self.sample.seen;
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
    /// The shares of attempts that fail and are tried again, and of those that fail for good.
    failing: f64,
    failing_for_good: f64,
    /// Limits of the provider.
    rates: [Option<Rate>; 2],
    /// Those on the model tokens of prompts and of answers apart.
    apart: [Option<Rate>; 2],
    /// What it is taken from.
    from: String,
    /// What is not known.
    caveats: Vec<String>,
}

impl Expected {
    fn of(answers: &Answers, earlier: Option<&Earlier>) -> Self {
        let mut caveats = Vec::new();
        let mut assume = |what: String, flag: &str| {
            let why = earlier.map_or_else(String::new, |it| {
                format!(", as {:?} does not say it", it.path)
            });
            let like = ", or --like with the results of a run over some of the requests";
            let like = if earlier.is_none() { like } else { "" };
            caveats.push(format!(
                "answers are assumed to {what}{why}: give {flag}{like}"
            ));
        };
        let latency = answers.latency.clone();
        let latency = latency.or_else(|| earlier?.latency());
        let latency = latency.unwrap_or_else(|| {
            assume(format!("take {LATENCY}s~{SPREAD}"), "--latency");
            Dist::log_normal(LATENCY, SPREAD)
        });
        let output_tokens = answers.output_tokens.clone();
        let output_tokens = output_tokens.or_else(|| earlier?.output_tokens());
        let output_tokens = output_tokens.unwrap_or_else(|| {
            let what = "tokens, or fewer where a request sets a lower limit";
            assume(format!("have {OUTPUT_TOKENS} {what}"), "--output-tokens");
            Dist::constant(OUTPUT_TOKENS)
        });
        let from = earlier.map_or("the flags and defaults".to_owned(), |earlier| {
            let results = counted(earlier.records, "result", "results");
            format!("{results} in {:?}", earlier.path)
        });
        Self {
            latency,
            output_tokens,
            failing: earlier.map_or(0.0, Earlier::failing),
            failing_for_good: earlier.map_or(0.0, Earlier::failing_for_good),
            rates: [None; 2],
            apart: [None; 2],
            from,
            caveats,
        }
    }

    /// The answers of the simulated provider.
    fn simulated(spec: &str) -> Result<Self> {
        let spec: SimSpec = spec
            .parse()
            .map_err(|error: Error| error.behind("--simulate"))?;
        let SimPlan {
            latency,
            jitter,
            failing,
            rates,
            apart,
            left_out,
        } = spec.to_plan();
        let caveat = format!("of --simulate the plan leaves out {}", left_out.join(", "));
        Ok(Self {
            latency: Dist::log_normal(latency.as_secs_f64(), jitter),
            output_tokens: Dist::Even(f64::from(NATURAL.start) - 0.5, f64::from(NATURAL.end) - 0.5),
            failing,
            failing_for_good: 0.0,
            rates,
            apart,
            from: "--simulate".to_owned(),
            caveats: if left_out.is_empty() {
                Vec::new()
            } else {
                vec![caveat]
            },
        })
    }
}

/// Plans it.
fn forecast(
    (limits, timeouts, money): (&Limits, &Timeouts, &Money),
    counting: Counting,
    processes: Option<Processes>,
    requests: Requests,
    expected: Expected,
) -> Result<Forecast> {
    let [requests_set, tokens_set] = limits.rates();
    let [requests_known, tokens_known] = expected.rates;
    let concurrency = limits.concurrency;
    let token_rate = lower(tokens_set, tokens_known);
    let scenario = Scenario {
        requests,
        latency: expected.latency,
        output_tokens: expected.output_tokens,
        failing: expected.failing,
        failing_for_good: expected.failing_for_good,
        request_rate: lower(requests_set, requests_known),
        burst: limits.burst,
        token_rate,
        apart: expected.apart,
        concurrency,
        processes,
        warmup: limits.warmup.unwrap_or(0),
        retry: config::retry(timeouts),
        timeout: timeouts.timeout,
        deadline: timeouts.deadline,
        counting,
        price: money.price,
        seed: 7,
    };
    let prediction = predict(&scenario, &concurrencies_around(concurrency.high()))?;
    let mut caveats = expected.caveats;
    caveats.extend(spent(money, &prediction));
    if limits.hedge {
        caveats.push("--hedge is left out of the plan".to_owned());
    }
    Ok(Forecast {
        scenario,
        prediction,
        tokens_by: if token_rate == tokens_set {
            "--tpm"
        } else {
            "the simulated tpm"
        },
        from: expected.from,
        caveats,
    })
}
