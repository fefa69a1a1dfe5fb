//! One shared limit, many processes: what the server counts while they share it.
//!
//! Each trial starts real tools on one store for 30 s. The figures come from the server's own log,
//! but for the round trips to the store: these are Redis's own count of commands, and for a file
//! what the summaries say. Run with `cargo bench --features cli,redis --bench shared`. An argument
//! picks the trials whose names hold it; `TOLLGATE_BENCH_SECONDS=10` makes them shorter. Without a
//! `redis-server` there are the trials of the file home only.
//!
//! - sum ÷ limit: requests (or tokens) a second from the first arrival on, all processes together
//! - over: by how many the worst window, short or long, was above burst + rate × its length. The
//!   server sees a request some time after it was admitted, so a few can be the network's doing.
//! - least ÷ most: the processes' counts while all of them were sending, which is from the first
//!   request of the last to start to the last one of the first to end

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of a few thousand"
)]

#[path = "common/mod.rs"]
pub mod common;
#[path = "../tests/support/mod.rs"]
pub mod support;

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::measuring;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::counter::{Counter, ok, requests, within, worst_window};
use support::listener::Listener;
use support::redis_server::{Server, programs};
use tempfile::TempDir;

/// The key of the limit on a server.
const KEY: &str = "bench";

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(100);

/// What one process has to send, and how many it can have in flight.
#[derive(Clone, Copy)]
struct Load {
    rows: usize,
    at_once: usize,
}

#[derive(Clone)]
struct Trial {
    what: &'static str,
    loads: Vec<Load>,
    /// Requests a second, or tokens.
    per_second: u32,
    burst: u32,
    /// What a request uses of the limit.
    units: u32,
    /// The flags of the limit, for all but those that learn it.
    flags: Vec<String>,
    /// Whether the limit is told by the server, to the first process only.
    learned: bool,
}

impl Trial {
    /// Eight processes that always have something to send.
    fn requests(what: &'static str, per_second: u32, burst: u32) -> Self {
        let load = Load {
            rows: usize::MAX,
            at_once: (per_second as usize / 8).max(20),
        };
        let flags = [
            "--rps",
            &per_second.to_string(),
            "--burst",
            &burst.to_string(),
        ];
        Self {
            what,
            loads: vec![load; 8],
            per_second,
            burst,
            units: 1,
            flags: flags.map(str::to_owned).to_vec(),
            learned: false,
        }
    }

    /// The same, of 100 tokens each.
    fn tokens(what: &'static str) -> Self {
        let flags = ["--tpm", "1200000"];
        Self {
            flags: flags.map(str::to_owned).to_vec(),
            units: 100,
            ..Self::requests(what, 20_000, 20_000)
        }
    }

    fn loads(self, loads: &[(usize, usize)]) -> Self {
        let load = |&(rows, at_once)| Load { rows, at_once };
        let loads = loads.iter().map(load).collect();
        Self { loads, ..self }
    }
}

/// Where the limit is kept.
enum Home {
    /// Every process has the limit for itself.
    Nowhere,
    File(TempDir),
    Redis(Server),
}

impl Home {
    fn url(&self) -> Option<String> {
        match self {
            Self::Nowhere => None,
            Self::File(folder) => Some(format!("file:{}", folder.path().join("limit").display())),
            Self::Redis(server) => Some(server.url(KEY)),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Nowhere => "none",
            Self::File(_) => "file",
            Self::Redis(_) => "redis",
        }
    }
}

/// How often a script was called.
fn scripts(server: &Server) -> u64 {
    let text = server.say("INFO commandstats");
    let calls = text.lines().filter(|line| line.starts_with("cmdstat_eval"));
    let calls = calls.filter_map(|line| line.split_once("calls=")?.1.split(',').next());
    calls.filter_map(|calls| calls.parse::<u64>().ok()).sum()
}

fn address(server: &Server) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, server.port).into()
}

/// A way to the server that takes so much longer, there and back together.
fn slow(to: SocketAddr, by: Duration) -> Listener {
    Listener::start(move |_, client| {
        let Ok(server) = TcpStream::connect(to) else {
            return;
        };
        let _ = server.set_nodelay(true);
        let carry = |mut from: &TcpStream, mut to: &TcpStream| {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                thread::sleep(by / 2);
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        };
        thread::scope(|scope| {
            scope.spawn(|| carry(client, &server));
            carry(&server, client);
        });
    })
}

fn signal(process: &Child, signal: Signal) {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    let _ = kill_process(pid.expect("a process id"), signal);
}

/// What happens in the middle of a trial, and how long that lasts.
type Event<'a> = &'a mut dyn FnMut(&mut [Child], &mut Home);

struct Sitting {
    length: Duration,
    only: Option<String>,
}

impl Sitting {
    fn trial(&self, home: Home, trial: &Trial) {
        self.eventful(home, None, trial, &mut |_, _| ());
    }

    /// With an event after a third of the time, and another way to the store than the home's own.
    fn eventful(&self, mut home: Home, way: Option<String>, trial: &Trial, event: Event<'_>) {
        let name = format!("{}: {}", home.name(), trial.what);
        if self.only.as_ref().is_some_and(|only| !name.contains(only)) {
            return;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let Trial { units, learned, .. } = *trial;
        let announced = if learned {
            let (rate, reset) = (
                60 * trial.per_second,
                60.0 / f64::from(60 * trial.per_second),
            );
            format!(
                "x-ratelimit-limit-requests: {rate}\r\nx-ratelimit-remaining-requests: {}\r\nx-ratelimit-reset-requests: {reset:.3}s\r\n",
                rate - 1
            )
        } else {
            String::new()
        };
        let (plain, telling) = (ok(units.into(), ""), ok(units.into(), &announced));
        let server = Counter::start(move |arrival, _| {
            let answer = if arrival.process == 0 {
                &telling
            } else {
                &plain
            };
            answer.clone().after(LATENCY)
        });
        let trips = |home: &Home| match home {
            Home::Redis(server) => scripts(server),
            _ => 0,
        };
        let trips_before = trips(&home);
        let url = way.or_else(|| home.url());
        let mut tools: Vec<Child> = (0..trial.loads.len())
            .map(|process| {
                trial.start(process, folder.path(), &server, url.as_deref(), self.length)
            })
            .collect();
        while server.count() == 0 {
            let ended = tools[0].try_wait().expect("a child");
            assert!(ended.is_none(), "the tool has ended without a request");
            thread::sleep(Duration::from_millis(1));
        }
        let start = server.arrivals()[0].at;
        thread::sleep(self.length / 3);
        let began = server.now();
        event(&mut tools, &mut home);
        let over = server.now();
        thread::sleep((start + self.length).saturating_sub(server.now()));
        let end = server.now();
        let trips = trips(&home).saturating_sub(trips_before);
        for tool in &mut tools {
            signal(tool, Signal::TERM);
        }
        for tool in &mut tools {
            let _ = tool.wait();
        }
        let told = trial.trips_told(folder.path());
        let trips = if trips > 0 { trips } else { told };
        let event = (over > began + Duration::from_millis(1)).then_some((began, over));
        trial.show(home.name(), &server, [start, end], event, trips);
    }
}

impl Trial {
    fn start(
        &self,
        process: usize,
        folder: &Path,
        server: &Counter,
        url: Option<&str>,
        length: Duration,
    ) -> Child {
        let load = self.loads[process];
        let a_second = 2.0 * f64::from(self.per_second) / f64::from(self.units);
        let most = (a_second * (length.as_secs_f64() + 1.0)) as usize;
        let input = format!("{process}.jsonl");
        let max_tokens = u64::from(self.units)
            .saturating_sub(support::counter::PROMPT_TOKENS)
            .max(1);
        fs::write(
            folder.join(&input),
            requests(process, load.rows.min(most), max_tokens),
        )
        .expect("room");
        let mut tool = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        tool.args([
            "run",
            &input,
            "-q",
            "--no-auth",
            "--fsync",
            "none",
            "--grace",
            "0",
        ])
        .args([
            "--base-url",
            &server.base_url(),
            "-c",
            &load.at_once.to_string(),
        ])
        .args(["--summary", &format!("{process}.json")]);
        if !self.learned {
            tool.args(&self.flags);
        }
        tool.args(url.iter().flat_map(|url| ["--shared-limit", url]));
        tool.current_dir(folder).stdin(Stdio::null());
        tool.spawn().expect("the tool starts")
    }

    /// The round trips that the processes tell of in their summaries.
    fn trips_told(&self, folder: &Path) -> u64 {
        let told = |process| {
            let text = fs::read(folder.join(format!("{process}.json"))).ok()?;
            let summary: Value = serde_json::from_slice(&text).ok()?;
            summary["shared_limit"]["round_trips"].as_u64()
        };
        (0..self.loads.len()).filter_map(told).sum()
    }

    fn show(
        &self,
        home: &str,
        server: &Counter,
        [start, end]: [Duration; 2],
        event: Option<(Duration, Duration)>,
        trips: u64,
    ) {
        let second = Duration::from_secs(1);
        let arrivals = server.arrivals();
        let times: Vec<Duration> = arrivals.iter().map(|arrival| arrival.at).collect();
        // Until the first answer has told it, nobody knows of the limit.
        let from = if self.learned { start + second } else { start };
        let known: Vec<Duration> = times.iter().copied().filter(|at| *at >= from).collect();
        let (units, rate) = (f64::from(self.units), f64::from(self.per_second));
        let share = |from: Duration, to: Duration| {
            within(&times, from, to) as f64 * units / (rate * to.saturating_sub(from).as_secs_f64())
        };
        let over = worst_window(&known, units, rate, self.burst.into());
        let of = |process| arrivals.iter().filter(move |it| it.process == process);
        let each = 0..self.loads.len();
        let counts: Vec<usize> = each.clone().map(|it| of(it).count()).collect();
        // They start one after the other, and may end so or be killed.
        let firsts = each.clone().filter_map(|it| Some(of(it).next()?.at));
        let lasts = each.clone().filter_map(|it| Some(of(it).next_back()?.at));
        let all = firsts.max().unwrap_or_default()..lasts.min().unwrap_or_default();
        let together = each.map(|it| of(it).filter(|it| all.contains(&it.at)).count());
        let together: Vec<usize> = together.collect();
        let (least, most) = (together.iter().min(), together.iter().max());
        let fair = *least.unwrap_or(&0) as f64 / *most.unwrap_or(&1) as f64;
        let trips = trips as f64 / times.len().max(1) as f64;
        let after = event.map(|(from, to)| {
            let before = share(from.saturating_sub(second), from);
            let (during, after) = (share(from, to), share(to, to + second));
            let long = to.saturating_sub(from).as_secs_f64();
            format!("second before {before:.3}, the {long:.1} s {during:.3}, second after {after:.3}, then {:.3}", share(to + second, end))
        });
        println!(
            "| {home} | {} | {:.3} | {over:+.1} of {} | {fair:.3} | {trips:.3} | {counts:?} | {} |",
            self.what,
            share(from, end),
            self.burst,
            after.unwrap_or_default()
        );
    }
}

fn file() -> Home {
    Home::File(TempDir::new().expect("a temporary folder"))
}

fn main() {
    let seconds = if measuring() { "30" } else { "1" };
    let seconds = env::var("TOLLGATE_BENCH_SECONDS").unwrap_or(seconds.to_owned());
    let length = Duration::from_secs(seconds.parse().expect("a number of seconds"));
    let only = env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let sitting = Sitting { length, only };
    println!(
        "| home | what | sum ÷ limit | over, of burst | least ÷ most | trips a request | requests of each | event |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let eight = || Trial::requests("8 at 200/s", 200, 200);
    sitting.trial(Home::Nowhere, &eight());
    if !measuring() {
        return;
    }
    let program = programs().into_iter().next();
    let redis = || program.map(|program| Home::Redis(Server::start(program, &[])));
    let homes: [&dyn Fn() -> Option<Home>; 2] = [&|| Some(file()), &redis];
    for home in homes {
        let Some(_) = home() else { return };
        let plain = |trial: Trial| sitting.trial(home().expect("as before"), &trial);
        plain(eight());
        plain(Trial::requests("8 at 200/s, burst 20", 200, 20));
        plain(Trial::requests("8 at 1000/s", 1_000, 1_000));
        plain(Trial::tokens("8 at 20,000 tokens/s"));
        plain(Trial {
            learned: true,
            ..Trial::requests("8, one learns 200/s", 200, 200)
        });
        let all = (200.0 * length.as_secs_f64()) as usize;
        let rows = [(all / 2, 50), (all / 4, 50), (all / 8, 50), (all / 8, 50)];
        plain(Trial::requests("4, rows 8:4:2:2", 200, 200).loads(&rows));
        // Of 240 a second, at the most.
        let wanting = [12, 6, 3, 3].map(|at_once| (usize::MAX, at_once));
        plain(Trial::requests("4, wanting 120:60:30:30", 200, 200).loads(&wanting));
        let trial = Trial::requests("3 of 8 killed", 200, 200);
        sitting.eventful(home().expect("as before"), None, &trial, &mut |tools, _| {
            for tool in &mut tools[..3] {
                let _ = tool.kill();
            }
            thread::sleep(Duration::from_secs(1));
        });
    }
    let Some(program) = program else { return };
    let start = || Server::start(program, &[]);
    let server = start();
    let way = slow(address(&server), Duration::from_millis(50));
    let url = format!("redis://{}/0?key={KEY}", way.addr());
    let trial = Trial::requests("8, store slow by 50 ms", 200, 200);
    sitting.eventful(Home::Redis(server), Some(url), &trial, &mut |_, _| ());
    let trial = Trial::requests("8, store stopped", 200, 200);
    sitting.eventful(Home::Redis(start()), None, &trial, &mut |_, home| {
        if let Home::Redis(server) = home {
            server.freeze();
            thread::sleep(length / 3);
            server.thaw();
        }
    });
    let trial = Trial::requests("8, store restarted empty", 200, 200);
    sitting.eventful(Home::Redis(start()), None, &trial, &mut |_, home| {
        if let Home::Redis(server) = home {
            server.restart();
        }
    });
}
