//! Clients and the simulated provider on one virtual clock, and what the provider counted.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::abort;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tollgate::sim::{SimServer, SimStats};
use tollgate::{
    Client, ClientBuilder, Clock, Event, Limiter, Monitor, Progress, Rate, Retry, VirtualClock,
};

/// Who sends what to which provider.
pub(crate) struct Case<'a> {
    /// The provider, as `tollgate simulate` takes it.
    pub(crate) spec: &'a str,
    /// The rows of each client.
    pub(crate) rows: usize,
    /// Clients that know nothing of each other, as processes with the same key.
    pub(crate) clients: usize,
    /// What is set, besides 64 at once.
    pub(crate) configure: &'a dyn Fn(ClientBuilder) -> ClientBuilder,
}

/// What became of it.
pub(crate) struct Run {
    pub(crate) stats: SimStats,
    pub(crate) took: Duration,
    /// The most attempts at one row.
    pub(crate) attempts: u32,
    pub(crate) failed: usize,
    /// How many new rows went before each row that was refused and might go, and before those that
    /// were refused at least twice. In order.
    pub(crate) passed: Vec<u64>,
    pub(crate) passed_again: Vec<u64>,
    /// When the first client had nothing left to do, and how many rows each had done by then.
    pub(crate) first_end: Duration,
    pub(crate) done: Vec<u64>,
    /// The rate that the first client had learned, in requests a second, whenever it changed. Zero
    /// stands for none.
    pub(crate) learned: Vec<(Duration, f64)>,
}

impl Run {
    /// The share of requests that were refused between two times.
    pub(crate) fn refused(&self, from: Duration, to: Duration) -> f64 {
        let within = |times: &[Duration]| count(times, from, to) as f64;
        within(&self.stats.refusals) / within(&self.stats.arrivals).max(1.0)
    }

    /// Requests let in a second between two times.
    pub(crate) fn admitted(&self, from: Duration, to: Duration) -> f64 {
        let within = |times: &[Duration]| count(times, from, to) as f64;
        let admitted = within(&self.stats.arrivals) - within(&self.stats.refusals);
        admitted / to.saturating_sub(from).as_secs_f64()
    }

    /// When the last request came: from then on the client had nothing to send.
    pub(crate) fn last(&self) -> Duration {
        self.stats.arrivals.last().copied().unwrap_or_default()
    }

    /// The most requests that came in any tenth of a second after `from`.
    pub(crate) fn most_in_a_tenth(&self, from: Duration) -> usize {
        let arrivals = &self.stats.arrivals;
        let times = &arrivals[arrivals.partition_point(|at| *at < from)..];
        let tenth = Duration::from_millis(100);
        let most = times.iter().map(|at| count(times, *at, *at + tenth)).max();
        most.unwrap_or(0)
    }

    /// How many are worked on at once, on average.
    pub(crate) fn at_once(&self) -> f64 {
        self.stats.busy.as_secs_f64() / self.took.as_secs_f64()
    }
}

/// The rows of a client that were refused and wait, and how many new ones went before the others.
#[derive(Default)]
struct Refused {
    /// From when on each may go, how often it was refused, and how many have gone since then.
    waiting: HashMap<u64, (Instant, u32, u64)>,
    passed: Vec<(u32, u64)>,
}

impl Refused {
    fn note(&mut self, event: &Event, clock: &Clock) {
        match *event {
            Event::Retry {
                index,
                attempt,
                wait,
                ..
            } => {
                self.waiting.insert(index, (clock.now() + wait, attempt, 0));
            }
            Event::AttemptStarted { index, attempt } => {
                if let Some((_, refused, passed)) = self.waiting.remove(&index) {
                    self.passed.push((refused, passed));
                }
                let waiting = self.waiting.values_mut().filter(|_| attempt == 1);
                for (_, _, passed) in waiting.filter(|(from, ..)| *from <= clock.now()) {
                    *passed += 1;
                }
            }
            _ => {}
        }
    }
}

/// How many new rows went before each that was refused so often at least, in order.
fn passed(clients: &[Arc<Mutex<Refused>>], least: u32) -> Vec<u64> {
    let all = clients.iter().map(|it| it.lock().unwrap().passed.clone());
    let all = all.flatten().filter(|(times, _)| *times >= least);
    let mut passed: Vec<u64> = all.map(|(_, passed)| passed).collect();
    passed.sort_unstable();
    passed
}

/// Of values in order.
pub(crate) fn median_and_worst(values: &[u64]) -> String {
    match values.last() {
        Some(worst) => format!("{} to {worst}", values[values.len() / 2]),
        None => "none".to_owned(),
    }
}

/// How many of `times`, which are in order, are between two others.
pub(crate) fn count(times: &[Duration], from: Duration, to: Duration) -> usize {
    times.partition_point(|at| *at < to) - times.partition_point(|at| *at < from)
}

/// Sends `rows` chats to a provider that behaves as `spec` says.
pub(crate) fn run(
    spec: &str,
    rows: usize,
    configure: impl Fn(ClientBuilder) -> ClientBuilder,
) -> Run {
    Case {
        spec,
        rows,
        clients: 1,
        configure: &configure,
    }
    .run()
}

impl Case<'_> {
    pub(crate) fn run(&self) -> Run {
        let time = VirtualClock::new();
        let spec = self.spec.parse().unwrap();
        let server = SimServer::builder(spec)
            .clock(time.clock())
            .record_arrivals(true)
            .start()
            .unwrap();
        let refused: Vec<_> = (0..self.clients)
            .map(|_| Arc::<Mutex<Refused>>::default())
            .collect();
        let clients: Vec<_> = (0..self.clients)
            .map(|number| {
                let builder = Client::builder()
                    .base_url(server.base_url())
                    .no_auth()
                    .concurrency(64)
                    .clock(time.clock())
                    .retry(Retry::new().seed(number as u64 + 1));
                let monitor = Monitor::new();
                let client = (self.configure)(builder).build().unwrap();
                let (clock, refused) = (time.clock(), Arc::clone(&refused[number]));
                let note = move |event: &Event| refused.lock().unwrap().note(event, &clock);
                (client.with_monitor(&monitor).with_observer(note), monitor)
            })
            .collect();
        let rows: Vec<String> = (0..self.rows).map(|n| format!("prompt {n}")).collect();

        let mut first_end = None;
        let mut learned = vec![(Duration::ZERO, 0.0)];
        let replies = thread::scope(|scope| {
            let start = |(client, _): &(Client, Monitor)| {
                let client = client.clone();
                let rows = &rows;
                scope.spawn(move || client.chat_all("m", rows))
            };
            let runs: Vec<_> = clients.iter().map(start).collect();
            // In rounds, not by the clock of a machine that may stand still itself.
            let mut rounds_since_move = 0;
            loop {
                rounds_since_move += 1;
                // In this order: a thread that starts in between is then one too many, not one too few.
                let parked = time.parked() as u64;
                let running = runs.iter().zip(&clients);
                let running = running.filter(|(run, _)| !run.is_finished());
                let seen = running.map(|(_, (_, monitor))| monitor.snapshot());
                let seen: Vec<Progress> = seen.collect();
                let threads: Vec<u64> = seen.iter().map(|seen| seen.threads).collect();
                if threads.len() < runs.len() && first_end.is_none() {
                    let done = |(_, monitor): &(_, Monitor)| monitor.snapshot().done();
                    first_end = Some((time.elapsed(), clients.iter().map(done).collect()));
                }
                if threads.is_empty() {
                    break;
                }
                // A thread that waits for an answer is blocked, and the provider's is parked for it.
                let all_started = !threads.contains(&0);
                // One that was cut off before it was sent is never counted as ended.
                let may_notice = rounds_since_move < 1_000;
                let is_cutting_off = may_notice && seen.iter().any(is_cutting_off);
                let parked = parked.saturating_sub(abandoned(&server, &seen));
                if all_started && !is_cutting_off && parked >= threads.iter().sum() {
                    let rate = rate_of(clients[0].0.limiter());
                    if learned
                        .last()
                        .is_some_and(|(_, before)| (before - rate).abs() > 0.01)
                    {
                        learned.push((time.elapsed(), rate));
                    }
                    if time.advance_to_next().is_some() {
                        rounds_since_move = 0;
                    }
                }
                if rounds_since_move > 500_000 {
                    let _ = writeln!(std::io::stderr(), "stuck: {time:?} {clients:?}");
                    abort();
                }
                // Not a busy loop: it would take the processor from the threads that it waits for.
                thread::sleep(Duration::from_micros(20));
            }
            let replies = runs.into_iter().flat_map(|run| run.join().unwrap());
            replies.collect::<Vec<_>>()
        });
        let (first_end, done) = first_end.unwrap_or_default();
        let attempts = replies.iter().map(|reply| match reply {
            Ok(reply) => reply.attempts(),
            Err(error) => error.attempts(),
        });
        let passed = |least| passed(&refused, least);
        let run = Run {
            passed: passed(1),
            passed_again: passed(2),
            stats: server.stats(),
            took: time.elapsed(),
            attempts: attempts.max().unwrap_or(0),
            failed: replies.iter().filter(|reply| reply.is_err()).count(),
            first_end,
            done,
            learned,
        };
        run.print(self.spec);
        run
    }
}

impl Run {
    fn print(&self, spec: &str) {
        let after = |seconds| {
            let (from, last) = (Duration::from_secs(seconds), self.last());
            let refused = self.refused(from, Duration::MAX) * 100.0;
            let admitted = self.admitted(from, last.max(from + Duration::from_secs(1)));
            format!("after {seconds} s {refused:.2} % refused and {admitted:.2} a second")
        };
        eprintln!(
            "{spec}: {} answers in {:.1} s; {:.1} % refused, {}, {}; in 100 ms {}; {:.1} at once; \
             attempts {}, failed {}; new before refused {}, refused again {}",
            self.stats.answered,
            self.took.as_secs_f64(),
            self.refused(Duration::ZERO, Duration::MAX) * 100.0,
            after(10),
            after(60),
            self.most_in_a_tenth(Duration::from_secs(10)),
            self.at_once(),
            self.attempts,
            self.failed,
            median_and_worst(&self.passed),
            median_and_worst(&self.passed_again),
        );
    }
}

/// Whether an attempt that has lost its race has still to notice, so that nobody waits for its answer.
/// Nothing may have failed.
fn is_cutting_off(seen: &Progress) -> bool {
    let cut_off = seen.possibly_billed;
    cut_off > 0 && seen.done() + cut_off > seen.attempts - seen.retries
}

/// How many answers the provider still waits to send though nobody waits for them: of two attempts at a
/// row, the slower is cut off.
fn abandoned(server: &SimServer, seen: &[Progress]) -> u64 {
    if seen.iter().all(|seen| seen.hedges == 0) {
        return 0;
    }
    let waited_for: u64 = seen.iter().map(|seen| seen.in_flight).sum();
    (server.stats().in_flight as u64).saturating_sub(waited_for)
}

/// The learned rate of requests that holds, in requests a second.
fn rate_of(limiter: &Limiter) -> f64 {
    let learned = limiter.learned();
    let rates = learned.requests.into_iter().chain(learned.from_refusals);
    let lowest = rates.map(Rate::units_per_second).reduce(f64::min);
    lowest.unwrap_or(0.0)
}
