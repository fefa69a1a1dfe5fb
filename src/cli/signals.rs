//! Ctrl-C and its kin: the first signal ends a run gently, the second at once.
//!
//! Gently means that nothing new is sent, what is in flight has its grace to finish, and whatever
//! came is on file. The second signal is acted on in the handler itself: it works whatever the
//! process is stuck in, and costs no more than a torn last line, which the next run cuts off.

use std::process;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::console::Console;
use super::exit::Exit;
use super::format;
use crate::Cancel;
use crate::clock::{Clock, Parker};
use crate::{Error, ErrorKind, Result};

/// After an abort: how long the run may still take to write what it has. Only a host-name mode-up
/// and a TCP connect outlast an abort, and they are not worth waiting for.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// What asked the tool to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }
}

/// The signal that a run was stopped by, if any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caught(Arc<OnceLock<Signal>>);

impl Caught {
    pub(crate) fn get(&self) -> Option<Signal> {
        self.0.get().copied()
    }
}

/// Stops a run when a signal comes: at first by `cancel`, when `grace` is over by its abort, and if
/// that does not end it either, by the end of the process, before which `final_report` are called.
///
/// # Errors
/// [`ErrorKind::Io`] if signals cannot be heard.
pub(crate) fn stop_gently(
    cancel: &Cancel,
    grace: Duration,
    console: &Console,
    final_report: impl FnOnce(Exit) + Send + 'static,
) -> Result<Caught> {
    let mut signals = Signals::install()?;
    let caught = Caught::default();
    let (cancel, console, found) = (cancel.clone(), console.clone(), caught.clone());
    let watch = move || {
        let signal = signals.wait();
        let _only_once = found.0.set(signal);
        cancel.cancel();
        console.say_interrupted(&format!(
            "stopping: requests in flight have {} to finish; once more stops at once",
            format::coarse_time(grace)
        ));
        wait(grace);
        console.say("the time is over: closing the connections");
        cancel.abort();
        wait(LAST_MOMENT);
        final_report(signal.exit());
        process::exit(signal.exit().code().into());
    };
    std::thread::Builder::new()
        .name("tollgate-signals".into())
        .stack_size(256 << 10)
        .spawn(watch)
        .map_err(cannot_listen)?;
    Ok(caught)
}

/// Ends the process at the first signal, for a command that has nothing to lose.
///
/// # Errors
/// [`ErrorKind::Io`] if signals cannot be heard.
pub(crate) fn stop_at_once() -> Result<()> {
    #[cfg(unix)]
    unix::stop_at_once().map_err(cannot_listen)?;
    Ok(())
}

fn wait(time: Duration) {
    let clock = Clock::system();
    let parker = Parker::new();
    // Arguments are at most a year: far from the end of the clock.
    let end = clock.now() + time;
    while Instant::now() < end {
        clock.park(&parker, Some(end));
    }
}

#[cold]
fn cannot_listen(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot listen for signals").with_source(error)
}

#[cfg(unix)]
pub(crate) use unix::Signals;

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::io::{self, Read};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::{flag, low_level::pipe};

    use super::{Result, Signal, cannot_listen};

    /// Where signals arrive. From the first one on, the second ends the process.
    #[derive(Debug)]
    pub(crate) struct Signals {
        wake: UnixStream,
        last: Arc<AtomicUsize>,
    }

    impl Signals {
        /// # Errors
        /// [`ErrorKind::Io`](crate::ErrorKind::Io).
        pub(crate) fn install() -> Result<Self> {
            Self::try_install().map_err(cannot_listen)
        }

        fn try_install() -> io::Result<Self> {
            let (wake, handler) = UnixStream::pair()?;
            let (second, last) = (Arc::new(AtomicBool::new(false)), Arc::default());
            for (signal, meaning) in heard() {
                let code = meaning.exit().code().into();
                // A handler's actions run in this order.
                flag::register_conditional_shutdown(signal, code, Arc::clone(&second))?;
                flag::register(signal, Arc::clone(&second))?;
                flag::register_usize(signal, Arc::clone(&last), meaning as usize)?;
                pipe::register(signal, handler.try_clone()?)?;
            }
            // A file at its size limit (`ulimit -f`) kills the process unless this has a handler;
            // with one the write fails (EFBIG), and is told as a full disk is.
            flag::register(SIGXFSZ, Arc::default())?;
            Ok(Self { wake, last })
        }

        /// Waits for the first signal.
        pub(crate) fn wait(&mut self) -> Signal {
            let mut byte = [0];
            // The other end lives as long as the process; an interrupted read is done again.
            while self.wake.read(&mut byte).is_err() {}
            if self.last.load(Ordering::SeqCst) == Signal::Interrupt as usize {
                Signal::Interrupt
            } else {
                Signal::Terminate
            }
        }
    }

    pub(super) fn stop_at_once() -> io::Result<()> {
        for (signal, meaning) in heard() {
            let code = meaning.exit().code().into();
            flag::register_conditional_shutdown(signal, code, Arc::new(AtomicBool::new(true)))?;
        }
        Ok(())
    }

    /// The signals that ask for an end, and what each means.
    fn heard() -> impl Iterator<Item = (i32, Signal)> {
        [
            (SIGINT, Signal::Interrupt),
            (SIGTERM, Signal::Terminate),
            (SIGHUP, Signal::Terminate),
        ]
        .into_iter()
        // `nohup` asks for this one to stay ignored.
        .filter(|&(signal, _)| signal != SIGHUP || !is_ignored(signal))
    }

    fn is_ignored(signal: i32) -> bool {
        fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
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
        use super::*;

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

/// Elsewhere signals do as they always do: Ctrl-C ends the process, and the files are whole.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
    pub(crate) fn install() -> Result<Self> {
        Ok(Self)
    }

    pub(crate) fn wait(&mut self) -> Signal {
        loop {
            std::thread::park();
        }
    }
}
