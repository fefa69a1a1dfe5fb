//! Ctrl-C, SIGTERM and SIGHUP: the first signal ends a run gently, the second at once.
//!
//! After the first signal nothing new is sent, requests in flight have the grace time to finish,
//! and every answer that comes is written. The second signal ends the process after a last word,
//! from a thread of its own; should that be stuck as well, the third ends it from the signal
//! handler. It costs no more than a torn last line, which the next run cuts off.

use std::io;
use std::process;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::console::Console;
use super::exit::Exit;
use super::format;
use crate::{Cancel, Error, ErrorKind, Result};

/// How long a run may still take after an abort to write what it has. Only a host name lookup and a
/// TCP connect outlast an abort, and they are not worth waiting for.
const AFTER_ABORT: Duration = Duration::from_secs(2);

/// What the second signal's end is told with, and how long that may take.
const LAST_WORD: &str =
    "stopped at once: answers to what was in flight are lost. Run the same command to carry on";
const TO_SAY_SO: Duration = Duration::from_millis(500);

/// Stops a run when a signal comes: by `cancel`, then by its abort when `grace` is over, then by
/// ending the process. `final_report` is called before the last of these. The cell holds the exit
/// of the signal, once there was one.
///
/// # Errors
/// [`ErrorKind::Io`] if signals cannot be received.
pub(crate) fn stop_gently(
    cancel: &Cancel,
    grace: Duration,
    console: &Console,
    final_report: impl FnOnce(Exit) + Send + 'static,
) -> Result<Arc<OnceLock<Exit>>> {
    let mut signals = Signals::install().map_err(cannot_receive)?;
    let caught = Arc::new(OnceLock::new());
    let (cancel, console, found) = (cancel.clone(), console.clone(), Arc::clone(&caught));
    let watch = move || {
        let exit = signals.wait();
        let _only_once = found.set(exit);
        cancel.cancel();
        let last_word = console.clone();
        signals.at_the_next(move |exit| {
            let (saying, said) = crossbeam_channel::bounded::<()>(0);
            // A reader of standard error may be as stuck as the run.
            let _said_or_not = thread::Builder::new().spawn(move || {
                last_word.say(LAST_WORD);
                last_word.close();
                drop(saying);
            });
            let _disconnected_once_said = said.recv_timeout(TO_SAY_SO);
            process::exit(exit.code().into());
        });
        let left = format::coarse_time(grace);
        console.say(&format!(
            "stopping: requests in flight have {left} to finish; another Ctrl-C stops at once"
        ));
        wait(grace);
        console.say("the time to finish is over: closing the connections");
        cancel.abort();
        wait(AFTER_ABORT);
        final_report(exit);
        console.close();
        process::exit(exit.code().into());
    };
    thread::Builder::new()
        .name("tollgate-signals".into())
        .spawn(watch)
        .map_err(cannot_receive)?;
    Ok(caught)
}

fn wait(time: Duration) {
    let _always_times_out = crossbeam_channel::never::<()>().recv_timeout(time);
}

#[cold]
pub(crate) fn cannot_receive(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot receive signals").with_source(error)
}

#[cfg(unix)]
pub(crate) use unix::{Signals, stop_at_once};

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::flag;
    use signal_hook::iterator::Signals as Incoming;

    use super::{Exit, Result, cannot_receive};

    /// The signals that end the tool.
    #[derive(Debug)]
    pub(crate) struct Signals {
        incoming: Incoming,
        /// A signal that came before `incoming` could see it.
        early: Option<i32>,
        /// Whether the next signal ends the process from its handler: after each one, until a
        /// thread is ready for the next.
        at_once: Arc<AtomicBool>,
    }

    impl Signals {
        pub(crate) fn install() -> io::Result<Self> {
            Self::install_with(|| {})
        }

        /// `between` is called when signals are caught and `incoming` does not see them yet.
        fn install_with(between: impl FnOnce()) -> io::Result<Self> {
            let early = Arc::new(AtomicUsize::new(0));
            let at_once = Arc::new(AtomicBool::new(false));
            for (signal, exit) in stop_signals() {
                // A handler's actions run in the order in which they are registered.
                let code = exit.code().into();
                let number = usize::try_from(signal).unwrap_or_default();
                flag::register_usize(signal, Arc::clone(&early), number)?;
                flag::register_conditional_shutdown(signal, code, Arc::clone(&at_once))?;
                flag::register(signal, Arc::clone(&at_once))?;
            }
            survive_file_limit()?;
            between();
            let mut incoming = Incoming::new(stop_signals().map(|(signal, _)| signal))?;
            let early = early.load(Ordering::Relaxed);
            let early = i32::try_from(early).ok().filter(|&signal| signal != 0);
            if early.is_some() {
                // `incoming` may have seen the same one.
                incoming.pending().for_each(drop);
            }
            Ok(Self {
                incoming,
                early,
                at_once,
            })
        }

        /// Waits for the first signal.
        pub(crate) fn wait(&mut self) -> Exit {
            let early = self.early.take();
            let signal = early.or_else(|| self.incoming.forever().next());
            let exit = stop_signals().find(|(number, _)| signal == Some(*number));
            exit.map_or(Exit::Terminated, |(_, exit)| exit)
        }

        /// Has `end` called at the next signal, on a thread that does nothing else. Where there is
        /// none to be had, the signal ends the process without it.
        pub(crate) fn at_the_next(mut self, end: impl FnOnce(Exit) + Send + 'static) {
            let at_once = Arc::clone(&self.at_once);
            let watch = thread::Builder::new()
                .name("tollgate-signals-2".into())
                .stack_size(256 << 10)
                .spawn(move || end(self.wait()));
            if watch.is_ok() {
                at_once.store(false, Ordering::Relaxed);
            }
        }
    }

    /// A write beyond the size limit of files (`ulimit -f`) kills the process unless its signal has
    /// a handler. With one the write fails, and is reported as that to a full disk.
    fn survive_file_limit() -> io::Result<()> {
        flag::register(SIGXFSZ, Arc::default()).map(drop)
    }

    /// Ends the process at the first signal, for a command that has nothing to lose.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if signals cannot be received.
    pub(crate) fn stop_at_once() -> Result<()> {
        for (signal, exit) in stop_signals() {
            let always = Arc::new(AtomicBool::new(true));
            let code = exit.code().into();
            flag::register_conditional_shutdown(signal, code, always).map_err(cannot_receive)?;
        }
        survive_file_limit().map_err(cannot_receive)
    }

    fn stop_signals() -> impl Iterator<Item = (i32, Exit)> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        [
            (SIGINT, Exit::Interrupted),
            (SIGTERM, Exit::Terminated),
            (SIGHUP, Exit::HungUp),
        ]
        .into_iter()
        // `nohup` has SIGHUP ignored, and it stays so.
        .filter(move |&(signal, _)| signal != SIGHUP || !ignores(&status, signal))
    }

    /// Whether a process with this `/proc/PID/status` ignores the signal: bit n - 1 of `SigIgn` is
    /// signal n (proc(5)).
    fn ignores(status: &str, signal: i32) -> bool {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigIgn:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    }

    #[cfg(test)]
    mod tests {
        use rustix::process::{Signal, getpid, kill_process};

        use super::*;

        #[test]
        fn a_signal_that_comes_while_signals_are_installed_is_not_lost() {
            let here = || kill_process(getpid(), Signal::TERM).expect("it is this process");
            let seen = Arc::new(AtomicBool::new(false));
            flag::register(SIGTERM, Arc::clone(&seen)).expect("it can be caught");
            let between = || {
                here();
                while !seen.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            };
            let mut signals = Signals::install_with(between).expect("signals can be caught");
            let (tell, told) = std::sync::mpsc::channel();
            thread::spawn(move || tell.send(signals.wait()));
            let told = told.recv_timeout(std::time::Duration::from_secs(60));
            assert_eq!(told, Ok(Exit::Terminated));
        }

        #[test]
        fn the_mask_of_ignored_signals_is_read() {
            let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
            assert!(ignores(status, SIGHUP));
            assert!(!ignores(status, SIGINT));
            assert!(!ignores("", SIGHUP));
            assert!(!ignores("SigIgn:\tno\n", SIGHUP));
        }
    }
}

/// Elsewhere signals keep their defaults: Ctrl-C ends the process, and the files are whole.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn wait(&mut self) -> Exit {
        loop {
            thread::park();
        }
    }

    pub(crate) fn at_the_next(self, _end: impl FnOnce(Exit) + Send + 'static) {}
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
pub(crate) fn stop_at_once() -> Result<()> {
    Ok(())
}
