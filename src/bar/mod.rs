//! The progress of a run on standard error: a bar on a terminal, a line now and then elsewhere.
//!
//! [`bar`] is for a run over a file and [`Bar`] for every other run. The tool shows the same
//! through [`Display`]. `eta` says how long a run will take, `words` makes the texts, with numbers
//! and times from `format`, and `screen` draws them.

mod eta;
pub(crate) mod format;
mod screen;
mod words;

use std::io::{self, Write};
use std::ops::Deref;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender};

pub(crate) use self::eta::Speed;
pub(crate) use self::screen::{Screen, Shown};
use self::words::Remedy;
#[cfg(feature = "cli")]
pub(crate) use self::words::{causes, with_causes};
use crate::{FileProgress, Monitor};

/// How often a bar is drawn.
const BAR_INTERVAL: Duration = Duration::from_millis(100);
/// How often a line is written where there is no bar.
pub(crate) const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// A progress bar for a run over a file, removed at the end of the run.
///
/// Give it to [`FileRun::on_progress`](crate::FileRun::on_progress). It has two lines on standard
/// error: how far the run is, how fast it goes and how long it will take, and below that what
/// limits it at the moment. Where standard error is no terminal, it is a line of text every 5 s.
/// While there is a bar, other lines on the terminal get mixed up with it.
///
/// The time that is left follows from the limit that binds; see
/// [what a run says](crate::_guide::batch_files#what-a-run-says).
///
/// ```no_run
/// # fn main() -> tollgate::Result<()> {
/// let client = tollgate::Client::from_env()?;
/// client.jsonl("in.jsonl", "out.jsonl").on_progress(tollgate::bar()).run()?;
/// # Ok(())
/// # }
/// ```
pub fn bar() -> impl FnMut(&FileProgress) {
    let mut display = Display::new(Screen::of_terminal(), |_| None, LINE_INTERVAL);
    move |progress| display.show(progress)
}

/// A progress bar for the runs that it monitors, from when it is made until it is dropped.
///
/// It looks like [`bar`], and is drawn ten times a second. A client or a pool takes it as a
/// [`Monitor`]. If it is made in the statement of the run, as below, it is shown for as long as the
/// run lasts.
///
/// ```
/// use tollgate::{Bar, Client, Pool};
///
/// # fn main() -> tollgate::Result<()> {
/// let words = ["one", "two", "three"];
/// let lengths = Pool::new(4)?.with_monitor(&Bar::new(words.len())).map(&words, |word| word.len());
/// assert_eq!(lengths.len(), 3);
///
/// # let hi = tollgate::MemoryTransport::new(|_| Ok(tollgate::HttpResponse {
/// #     body: br#"{"choices":[{"message":{"content":"Hi!"}}]}"#.to_vec(),
/// #     ..Default::default()
/// # }));
/// # let client = Client::builder().base_url("https://api.example.com/v1").no_auth().transport(hi).build()?;
/// let replies = client.with_monitor(&Bar::new(words.len())).chat_all("a-model", &words);
/// # assert!(replies.iter().all(Result::is_ok));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Bar {
    monitor: Monitor,
    screen: Option<Screen>,
    /// Dropped to end the thread that draws.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Bar {
    /// A bar for so many items; `None` if nobody knows how many there will be.
    pub fn new(items: impl Into<Option<usize>>) -> Self {
        let monitor = Monitor::new();
        let total = items.into().map(|items| items as u64);
        let (end, ended) = crossbeam_channel::bounded(0);
        let screen = Screen::of_terminal();
        let (seen, on) = (monitor.clone(), screen.clone());
        let draw = move || {
            let (mut display, began) = (Display::new(on, |_| None, LINE_INTERVAL), Instant::now());
            while ended.recv_timeout(BAR_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                display.show(&progress(&seen, total, began.elapsed()));
            }
        };
        // Without a thread there is no bar, which is no reason not to run.
        let thread = Builder::new().name("tollgate-bar".into()).spawn(draw);
        Self {
            monitor,
            screen,
            end: Some(end),
            thread: thread.ok(),
        }
    }

    /// Writes a line to standard error, above the bar if there is one. What is written in another
    /// way gets mixed up with the bar.
    pub fn println(&self, line: &str) {
        write_line(self.screen.as_ref(), line);
    }
}

/// One write, so that the lines of several threads do not mix. Standard error may be closed or
/// full, which ends no run.
pub(crate) fn write_line(screen: Option<&Screen>, line: &str) {
    let line = format!("{line}\n");
    match screen {
        Some(screen) => screen.write(&line),
        None => {
            let _nobody_reads_it = io::stderr().write_all(line.as_bytes());
        }
    }
}

impl Deref for Bar {
    type Target = Monitor;

    fn deref(&self) -> &Monitor {
        &self.monitor
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _drawing_panics_nowhere = thread.join();
        }
    }
}

/// The progress of a run over anything, as if it were one over a file.
fn progress(monitor: &Monitor, total: Option<u64>, elapsed: Duration) -> FileProgress {
    let engine = monitor.snapshot();
    let mut progress = FileProgress {
        total,
        succeeded: engine.succeeded,
        failed: engine.failed + engine.abandoned,
        completion_tokens: engine.tokens,
        elapsed,
        engine,
        ..FileProgress::default()
    };
    if let Some(limiter) = monitor.limiter() {
        progress.note_limits(monitor, limiter, None);
    }
    progress
}

/// Shows the progress of one run, and removes the bar when it is dropped.
#[derive(Debug)]
pub(crate) struct Display {
    pub(crate) speed: Speed,
    screen: Option<Screen>,
    remedy: Remedy,
    interval: Duration,
    /// When it is shown next, in the run's own time.
    next: Duration,
}

impl Display {
    /// A bar is drawn ten times a second. Where there is none, a line is written every `line`.
    pub(crate) fn new(screen: Option<Screen>, remedy: Remedy, line: Duration) -> Self {
        let (interval, next) = match screen {
            Some(_) => (BAR_INTERVAL, Duration::ZERO),
            None => (line, line),
        };
        Self {
            speed: Speed::default(),
            screen,
            remedy,
            interval,
            next,
        }
    }

    /// Takes note of where the run stands. Whether it is time to show it.
    pub(crate) fn is_due(&mut self, progress: &FileProgress) -> bool {
        self.speed.note(progress);
        let is_due = progress.elapsed >= self.next;
        if is_due {
            self.next = progress.elapsed.saturating_add(self.interval);
        }
        is_due
    }

    /// Draws the bar, or else gives the line to write.
    pub(crate) fn draw(&self, progress: &FileProgress) -> Option<String> {
        let heads = words::heads(progress, &self.speed);
        let details = words::details(progress, &self.speed, self.remedy);
        let Some(screen) = &self.screen else {
            return Some(format!("{}  {}", heads[0], details.join(", ")));
        };
        screen.draw(Shown {
            done: progress.total.map(|total| (progress.done(), total)),
            heads,
            details,
        });
        None
    }

    fn show(&mut self, progress: &FileProgress) {
        if self.is_due(progress)
            && let Some(line) = self.draw(progress)
        {
            write_line(None, &line);
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(screen) = &self.screen {
            screen.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;
    use crate::clock::Parker;
    use crate::limit::LimiterBuilder;
    use crate::{Attempt, Cost, Event, Limiter, Pool, Rate, Verdict, VirtualClock};

    const ROWS: usize = 400;

    /// What a run of 2 s a row told when it had done so many rows: the estimate, and the truth. Its
    /// middle row, the first time, ends in this way.
    fn told_at(
        rows: [u64; 3],
        limits: LimiterBuilder,
        middle: fn(&Attempt<'_>) -> Result<(), ()>,
    ) -> Vec<(Option<Duration>, Duration)> {
        let time = VirtualClock::new();
        let (clock, monitor) = (time.clock(), Monitor::new());
        let limiter = limits.clock(time.clock()).build().unwrap();
        let told = Mutex::new((Speed::default(), Vec::new()));
        let told = Arc::new(told);
        let (seen, on, log) = (time.clone(), monitor.clone(), Arc::clone(&told));
        let observer = move |_: &Event| {
            let progress = progress(&on, Some(ROWS as u64), seen.elapsed());
            let (speed, told) = &mut *log.lock().unwrap();
            speed.note(&progress);
            if rows
                .get(told.len())
                .is_some_and(|at| progress.done() >= *at)
            {
                told.push((speed.eta(&progress), seen.elapsed()));
            }
        };
        let pool = Pool::from_limiter(limiter).unwrap();
        let pool = pool.with_monitor(&monitor).with_observer(observer);
        let task = pool.task(|row: &usize, attempt| {
            let ends = clock.now() + Duration::from_secs(2);
            while clock.now() < ends {
                clock.park(&Parker::new(), Some(ends));
            }
            attempt.settle(500);
            if *row == ROWS / 2 && attempt.number == 1 {
                return middle(attempt);
            }
            Ok(())
        });
        let task = task.verdict(|()| Verdict::RetryAfter(Duration::from_secs(500)));
        let task = task.cost(|_| Cost::tokens(600));
        thread::scope(|scope| {
            let run = scope.spawn(|| task.map(&(0..ROWS).collect::<Vec<_>>()));
            while !run.is_finished() {
                let parked = time.parked() as u64;
                let threads = monitor.snapshot().threads;
                if threads > 0 && parked >= threads {
                    time.advance_to_next();
                }
                thread::yield_now();
            }
        });
        let told = told.lock().unwrap();
        let end = time.elapsed();
        told.1
            .iter()
            .map(|(eta, at)| (*eta, end.saturating_sub(*at)))
            .collect()
    }

    fn tells_the_truth(told: &[(Option<Duration>, Duration)]) {
        assert_eq!(told.len(), 3);
        for (eta, truth) in told {
            let ratio = eta.unwrap().as_secs_f64() / truth.as_secs_f64();
            assert!((ratio - 1.0).abs() < 0.1, "{told:?}");
        }
    }

    #[test]
    fn the_time_left_is_told_whatever_limit_binds() {
        let limits = || Limiter::builder().concurrency(20);
        let (requests, tokens) = (Rate::per_minute(120), Rate::per_minute(60_000));
        for (rows, limits) in [
            ([0, 100, 300], limits().requests(requests)),
            ([100, 200, 300], limits().tokens(tokens)),
            // Twenty end at once, every 2 s: an estimate may be one step off, so much must be left.
            ([60, 100, 140], limits()),
        ] {
            tells_the_truth(&told_at(rows, limits, |_| Ok(())));
        }
    }

    #[test]
    fn the_time_left_is_told_while_the_run_is_on_hold_and_after_it() {
        let pause = |attempt: &Attempt<'_>| {
            attempt.pause(Duration::from_secs(600));
            Ok(())
        };
        // Others are in flight when the row asks for a pause: they end while the run is on hold.
        let limits = Limiter::builder()
            .concurrency(20)
            .requests(Rate::per_minute(120));
        tells_the_truth(&told_at([202, 250, 300], limits, pause));
    }

    #[test]
    fn the_time_left_is_that_of_the_row_that_waits_longest() {
        let limits = Limiter::builder()
            .concurrency(20)
            .requests(Rate::per_minute(120));
        tells_the_truth(&told_at([205, 300, 399], limits, |_| Err(())));
    }
}
